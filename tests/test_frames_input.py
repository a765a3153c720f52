"""Data frames and arrays with categories: what an estimator makes of them.

Swept: pandas, polars and pyarrow frames, object arrays and lists; strings, numbers and bools;
missing and unseen values; more categories than bins; evaluation sets, checkpoints, other models,
workers; refused input. Against: the model of codes in NumPy, the same bytes. Tolerance: none.
"""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags
from workers import connect_sockets, fit_together, in_threads

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.categories import Categories, find_categories
from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError, DisagreementError, WorkerLost
from qgbdt.matrices import native_matrix

N = 600
RNG = np.random.default_rng(0)
COLOUR = RNG.choice(["red", "green", "blue", "grey", "white", "black"], N)
COLOUR[RNG.random(N) < 0.02] = "pink"
SIZE = RNG.normal(size=N)
CODE = RNG.choice([-3, 0, 7, 8, 9, 1000], N)
Y = np.isin(COLOUR, ["red", "grey", "pink"]) + SIZE + (CODE == 7) + 0.5 * RNG.normal(size=N)
COLOUR = [None if RNG.random() < 0.1 else str(colour) for colour in COLOUR]
FEW = {"n_estimators": 5, "num_leaves": 8, "min_child_samples": 5, "min_data_per_group": 10}


def regressor(**params):
    return QGBDTRegressor(**FEW | params)


def pandas_frame(colour=COLOUR, code=CODE, size=SIZE):
    columns = {"colour": pd.Categorical(colour), "size": size, "code": pd.Categorical(code)}
    return pd.DataFrame(columns)


FRAME = pandas_frame()
MODEL = regressor().fit(FRAME, Y)
PREDICTED = MODEL.predict(FRAME)
LISTED = {"categorical_features": ["colour", "code"]}

SAME_FRAMES = {
    "pandas strings": FRAME.assign(colour=pd.Series(COLOUR, dtype="str")),
    "pandas objects": FRAME.assign(colour=pd.Series(COLOUR, dtype=object)),
    "pandas NA": FRAME.assign(colour=pd.array(COLOUR, "string"), size=pd.array(SIZE, "Float64")),
    "pandas arrow": FRAME.assign(colour=pd.Series(COLOUR, dtype=pd.ArrowDtype(pa.string()))),
    "pandas other order": FRAME.assign(
        colour=FRAME["colour"].cat.reorder_categories(sorted(set(COLOUR) - {None})[::-1]),
        code=FRAME["code"].cat.set_categories([9, 8, 555, 7, 0, 1000, -3], ordered=True),
    ),
    "pandas numbers": (FRAME.assign(code=CODE.astype(float)), LISTED),
    "pandas Int64": (FRAME.assign(code=pd.array(CODE, "Int64")), LISTED),
    "polars": (
        pl.DataFrame({"colour": COLOUR, "size": SIZE, "code": CODE}),
        {"categorical_features": [True, False, True]},
    ),
    "polars categories": (
        pl.DataFrame(
            {"colour": pl.Series(COLOUR, dtype=pl.Categorical), "size": SIZE, "code": CODE}
        ),
        {"categorical_features": [2, 0]},
    ),
    "polars enum": (
        pl.DataFrame(
            {
                "colour": pl.Series(COLOUR, dtype=pl.Enum(["z", *sorted(set(COLOUR) - {None})])),
                "size": SIZE,
                "code": CODE,
            }
        ),
        LISTED,
    ),
    "pyarrow": (pa.table({"colour": COLOUR, "size": SIZE, "code": CODE}), LISTED),
    "pyarrow dictionaries": pa.table(
        {
            "colour": pa.array(COLOUR).dictionary_encode(),
            "size": SIZE,
            "code": pa.array(CODE).dictionary_encode(),
        }
    ),
}


@pytest.mark.parametrize("kind", SAME_FRAMES)
def test_frames_of_all_kinds_are_the_same(kind):
    given = SAME_FRAMES[kind]
    frame, params = given if isinstance(given, tuple) else (given, {})
    model = regressor(**params).fit(frame, Y)
    assert model.booster_ == MODEL.booster_
    np.testing.assert_array_equal(model.feature_names_in_, ["colour", "size", "code"])
    for some in (MODEL, MODEL.booster_):
        np.testing.assert_array_equal(some.predict(frame), PREDICTED)
    np.testing.assert_array_equal(model.predict(FRAME), PREDICTED)


def objects():
    return np.array([COLOUR, SIZE, CODE], object).T


def codes():
    """The codes that the model is trained on, in NumPy."""
    colours = np.unique([colour for colour in COLOUR if colour])
    colour = [np.nan if c is None else np.searchsorted(colours, c) for c in COLOUR]
    return np.column_stack([colour, SIZE, np.searchsorted(np.unique(CODE), CODE)])


@pytest.mark.parametrize(
    "X", [objects(), objects().tolist(), codes()], ids=["object", "list", "codes"]
)
@pytest.mark.parametrize("listed", [[0, 2], [True, False, True], np.array([2, 0]), (-0, 2)])
def test_arrays_are_the_same(X, listed):
    model = regressor(categorical_features=listed).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), PREDICTED)
    assert not hasattr(model, "feature_names_in_")


def test_codes_of_float32_keep_their_numbers():
    X = codes().astype(np.float32)
    listed = regressor(categorical_features=[0, 2])
    frame = FRAME.assign(size=X[:, 1])
    bits = listed.fit(X, Y).predict(X)
    np.testing.assert_array_equal(regressor().fit(frame, Y).predict(frame), bits)


def test_frames_of_numbers_are_arrays():
    X = np.column_stack([SIZE, CODE, SIZE > 0]).astype(float)
    frame = pd.DataFrame({"a": SIZE, "b": CODE, "c": SIZE > 0})
    names = dict(zip(["Column_0", "Column_1", "Column_2"], frame.columns))
    of_array = regressor().fit(X, Y).booster_.model_to_string()
    for some in (frame, pl.from_pandas(frame), pa.Table.from_pandas(frame)):
        text = regressor().fit(some, Y).booster_.model_to_string()
        assert text.startswith("qgbdt-model 1\n")
        body = of_array[: of_array.index("checksum")]
        for old, new in names.items():
            body = body.replace(old, new)
        assert text.startswith(body)


def test_strings_and_bools_and_missing_values():
    flag = np.array([True, False, None], object)[RNG.integers(0, 3, N)]
    frame = pd.DataFrame({"flag": pd.Categorical(flag), "size": SIZE})
    model = regressor().fit(frame, Y)
    assert model.booster_.categories() == [[0.0, 1.0], None]
    nullable = frame.assign(flag=pd.array(flag, "boolean"))
    same = regressor(categorical_features=["flag"]).fit(nullable, Y)
    assert same.booster_ == model.booster_
    missing = model.predict(frame.assign(flag=pd.Categorical([None] * N)))
    for gone in (np.nan, pd.NA, pd.NaT):
        some = frame.assign(flag=pd.Series([gone] * N, dtype=object).astype("category"))
        np.testing.assert_array_equal(model.predict(some), missing)


def test_nullable_numbers_beside_categories():
    size = pd.array(np.round(10 * SIZE), "Int64")
    size[::7] = pd.NA
    frame = FRAME.assign(size=size, flag=pd.array([None, True, False] * (N // 3), "boolean"))
    plain = FRAME.assign(size=size.to_numpy(float, na_value=np.nan))
    plain["flag"] = np.tile([np.nan, 1.0, 0.0], N // 3)
    assert regressor().fit(frame, Y).booster_ == regressor().fit(plain, Y).booster_
    arrow = pa.Table.from_pandas(frame)
    assert regressor().fit(arrow, Y).booster_ == regressor().fit(plain, Y).booster_


# --- Which categories there are


def test_the_model_has_the_values_that_occur():
    frame = FRAME.assign(colour=FRAME["colour"].cat.add_categories("unused"))
    assert regressor().fit(frame, Y).booster_ == MODEL.booster_
    assert MODEL.booster_.categories() == [
        ["black", "blue", "green", "grey", "pink", "red", "white"],
        None,
        [-3.0, 0.0, 7.0, 8.0, 9.0, 1000.0],
    ]


def test_names_of_categories_do_not_matter_but_for_their_order():
    renamed = pandas_frame([colour and f"<{colour}>" for colour in COLOUR], CODE * 2)
    model = regressor().fit(renamed, Y)
    np.testing.assert_array_equal(model.predict(renamed), PREDICTED)
    assert model.booster_ != MODEL.booster_


def test_category_sets_are_values():
    booster = MODEL.booster_
    frame = np.column_stack([objects(), np.arange(N)])
    rows = {0: frame}
    tree, sets = booster.tree(0), booster.category_sets(0)
    assert tree["is_categorical"].any()
    for i, node in enumerate(tree):
        if node["feature"] < 0:
            continue
        x = rows[i][:, node["feature"]]
        missing = np.array([value is None for value in x])
        if node["is_categorical"]:
            left = np.isin(x, np.array([*sets[int(node["threshold"])], None], object)[:-1])
        else:
            left = x.astype(float) <= node["threshold"]
        left = np.where(missing, node["missing_left"], left)
        rows[node["left"]], rows[node["right"]] = rows[i][left], rows[i][~left]
    assert [len(rows[i]) for i in range(len(tree))] == tree["count"].tolist()


def test_the_most_frequent_categories_are_kept():
    """Of equally frequent ones the first; the others are missing."""
    names = np.repeat([f"{i:03}" for i in range(300)], np.where(np.arange(300) % 2, 3, 2))
    names = np.random.default_rng(1).permutation(names)
    frame = pd.DataFrame({"name": names})
    y = RNG.normal(size=len(names))
    model = regressor(min_child_samples=1, min_data_per_group=0, cat_smooth=0).fit(frame, y)
    [kept] = model.booster_.categories()
    wanted = sorted([f"{i:03}" for i in range(1, 300, 2)] + [f"{i:03}" for i in range(0, 210, 2)])
    assert kept == wanted
    assert len(kept) == 255
    rare = model.predict(pd.DataFrame({"name": ["210", "298", None, "unseen"]}))
    assert len(set(rare)) == 1
    fewer = regressor(max_bin=7).fit(frame, y).booster_.categories()[0]
    assert fewer == wanted[1:2] + [f"{i:03}" for i in range(3, 15, 2)]


def test_workers_count_together():
    """The most frequent category of all rows is that of neither worker."""
    shards = [["a"] * 5 + ["m"] * 4, ["z"] * 5 + ["m"] * 4]
    workers = [Communicator(comm, ["a", "b"]) for comm in _core.thread_comms(2)]

    def work(worker):
        X = np.array(shards[worker.rank], object)[:, None]
        return find_categories(X, [0], max_bin=1, refuses_unseen=False, workers=worker).values

    assert in_threads(workers, work) == [[["m"]], [["m"]]]


def test_missing_objects_of_all_kinds():
    X = np.array([["a"], [None], [np.nan], [pd.NA], [pd.NaT], [float("nan")], ["b"]], object)
    codes = Categories([["a", "b"]], refuses_unseen=True).encode(X)[:, 0]
    np.testing.assert_array_equal(codes, [0.0, *[np.nan] * 5, 1.0])


def test_float32_stays_float32():
    categories = Categories([["red"], None], refuses_unseen=False)
    size = SIZE.astype(np.float32)
    frame = pd.DataFrame({"colour": COLOUR, "size": size})
    assert categories.encode(frame).dtype == np.float32
    assert categories.encode(frame.assign(size=SIZE)).dtype == np.float64
    numbers = Categories([[1.0], None], refuses_unseen=False)
    assert numbers.encode(np.column_stack([size, size])).dtype == np.float32


def test_minus_zero_is_zero():
    sign = np.where(np.arange(N) % 3 > 0, 1.0, -0.0)
    models = [
        regressor(categorical_features=[0]).fit(some[:, None], Y) for some in (sign, np.abs(sign))
    ]
    assert models[0].booster_ == models[1].booster_
    X = np.array([[-0.0], [1]], object)
    found = find_categories(X, [0], max_bin=9, refuses_unseen=False)
    assert str(found.values) == "[[0.0, 1.0]]"


def test_unseen_categories_are_missing_or_an_error():
    unseen = FRAME.assign(colour=["mauve"] * N)
    missing = FRAME.assign(colour=pd.Categorical([None] * N))
    np.testing.assert_array_equal(MODEL.predict(unseen), MODEL.predict(missing))
    strict = regressor(unseen_category="error").fit(FRAME, Y)
    np.testing.assert_array_equal(strict.predict(missing), MODEL.predict(missing))
    declared = FRAME.assign(colour=FRAME["colour"].cat.add_categories("mauve"))
    np.testing.assert_array_equal(strict.predict(declared), PREDICTED)
    for model in (strict, Booster.from_bytes(strict.booster_.to_bytes())):
        with pytest.raises(
            DataError, match="'colour' has the category 'mauve', which training has"
        ):
            model.predict(unseen)
    many = pd.DataFrame({"n": pd.Categorical(np.arange(N))})
    with pytest.raises(DataError, match="has 600 categories, of which max_bin=255 are kept"):
        regressor(unseen_category="error").fit(many, Y)


VALUES = st.one_of(
    st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1),
    st.lists(st.none() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9), min_size=1),
)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_codes_stand_for_their_values(values):
    X = np.array([[value] for value in values], object)
    found = find_categories(X, [0], max_bin=255, refuses_unseen=True)
    [kept] = found.values
    assert kept == sorted(set(values) - {None})
    decoded = [None if code != code else kept[int(code)] for code in found.encode(X)[:, 0]]
    assert decoded == values
    for frame in (
        pl.DataFrame({"x": pl.Series(values, strict=False)}),
        pd.DataFrame({"x": values}),
    ):
        if frame["x"].dtype != object or isinstance(values[0], str):
            np.testing.assert_array_equal(found.encode(frame), found.encode(X))


# --- Files, pickles, pipelines


def test_files_and_pickles(tmp_path):
    MODEL.booster_.save_model(tmp_path / "model")
    for booster in (
        Booster.load_model(tmp_path / "model"),
        pickle.loads(pickle.dumps(MODEL.booster_)),
        pickle.loads(pickle.dumps(MODEL)).booster_,
    ):
        assert booster == MODEL.booster_
        assert booster.categories() == MODEL.booster_.categories()
        np.testing.assert_array_equal(booster.predict(SAME_FRAMES["pyarrow"][0]), PREDICTED)
        np.testing.assert_array_equal(booster.predict(objects()), PREDICTED)
    assert clone(MODEL).fit(FRAME, Y).booster_ == MODEL.booster_


def test_in_a_pipeline():
    scale = make_column_transformer(
        (StandardScaler(), ["size"]), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    pipeline = make_pipeline(scale, regressor()).fit(FRAME, Y)
    assert pipeline[-1].booster_.categories()[1:] == MODEL.booster_.categories()[::2]
    assert pipeline.predict(FRAME[::-1]).tolist() == pipeline.predict(FRAME)[::-1].tolist()
    through = make_pipeline(FunctionTransformer(), regressor()).fit(FRAME, Y)
    np.testing.assert_array_equal(through.predict(FRAME), PREDICTED)


def test_the_example_of_the_document():
    text = (Path(__file__).parents[1] / "docs/categories.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})


def test_all_estimators():
    labels = np.array(["no", "yes", "maybe"])[np.digitize(Y, [0, 1])]
    classifier = QGBDTClassifier(**FEW).fit(FRAME, labels)
    assert classifier.score(FRAME, labels) > 0.6
    np.testing.assert_array_equal(
        classifier.booster_.predict(FRAME), classifier.predict_proba(FRAME)
    )
    relevance = np.digitize(Y, [0, 1])
    ranker = QGBDTRanker(**FEW).fit(FRAME, relevance, group=[20] * (N // 20))
    assert np.corrcoef(ranker.predict(FRAME), relevance)[0, 1] > 0.5


def test_tags():
    assert get_tags(regressor()).input_tags.categorical
    assert not get_tags(regressor()).input_tags.string
    assert get_tags(regressor(categorical_features=[0])).input_tags.string
    assert not get_tags(regressor(categorical_features=None)).input_tags.categorical


# --- Evaluation and continuation


def test_evaluation_sets_are_encoded():
    train, valid = FRAME[:400], FRAME[400:].assign(colour=["mauve"] * 200)
    model = regressor().fit(train, Y[:400], eval_set=[(valid, Y[400:])])
    loss = np.square(model.predict(valid) - Y[400:]).mean()
    assert model.evals_result_["valid_0"]["l2"][-1] == pytest.approx(loss, rel=1e-12)
    held = regressor(validation_fraction=0.25, early_stopping_rounds=2).fit(FRAME, Y)
    assert held.booster_.categories() == MODEL.booster_.categories()


def test_going_on_keeps_the_categories(tmp_path):
    half = regressor(n_estimators=2).fit(FRAME, Y)
    for init in (half, half.booster_):
        on = regressor(n_estimators=3).fit(FRAME, Y, init_model=init)
        assert on.booster_ == MODEL.booster_
    other = FRAME.assign(colour=["red", "mauve"] * (N // 2))
    on = regressor().fit(other, Y, init_model=half)
    assert on.booster_.categories() == half.booster_.categories()
    for different in (FRAME.assign(code=CODE), FRAME.assign(colour=SIZE)):
        with pytest.raises(DataError, match="its categorical features is"):
            regressor().fit(different, Y, init_model=half)
    regressor(n_estimators=2).fit(FRAME, Y, checkpoint_dir=tmp_path)
    resumed = regressor().fit(FRAME, Y, checkpoint_dir=tmp_path, resume=True)
    assert resumed.booster_ == MODEL.booster_
    with pytest.raises(ValueError, match="the categories of feature 0 is"):
        regressor().fit(other, Y, checkpoint_dir=tmp_path, resume=True)


def test_init_model_with_another_policy():
    strict = regressor(unseen_category="error").fit(FRAME, Y)
    with pytest.raises(DataError, match="its unseen_category is 'error', but 'missing' here"):
        regressor().fit(FRAME, Y, init_model=strict)


# --- Workers


def parts_of(frame, edges):
    return [
        {"X": some, "y": y}
        for some, y in zip(
            (frame[a:b] for a, b in zip([0, *edges], [*edges, N])), np.split(Y, edges)
        )
    ]


@pytest.mark.parametrize("edges", [[300], [0, 250], [5, 590]])
@pytest.mark.parametrize("kind", ["categories", "strings", "objects"])
def test_workers_agree_on_categories(edges, kind):
    """Sorted rows: each worker has other categories, one may have none."""
    order = np.argsort(np.array(COLOUR, dtype="U5"), kind="stable")
    frame = FRAME.iloc[order].reset_index(drop=True)
    if kind != "categories":
        text = frame["colour"].astype(object).where(frame["colour"].notna(), None)
        frame["colour"] = text.astype("str" if kind == "strings" else object)
    alone = regressor().fit(frame, Y)
    parts = parts_of(frame, edges)
    for part in parts:
        if kind == "categories":
            part["X"] = part["X"].assign(colour=part["X"]["colour"].cat.remove_unused_categories())
    workers = [Communicator(c, ["x"] * (len(edges) + 1)) for c in _core.thread_comms(len(parts))]
    together = fit_together(workers, regressor(), parts)
    assert {model.booster_ for model in together} == {alone.booster_}


def test_a_worker_without_rows_says_nothing_of_types():
    alone = regressor().fit(FRAME, Y)
    workers = [Communicator(c, ["x"] * 3) for c in _core.thread_comms(3)]
    parts = parts_of(FRAME, [0, 250])
    parts[0]["X"] = FRAME[:0].astype({"colour": float, "code": float})
    together = fit_together(workers, regressor(), parts)
    assert {model.booster_ for model in together} == {alone.booster_}


def test_workers_over_sockets():
    workers = connect_sockets(3)
    together = fit_together(workers, regressor(), parts_of(FRAME, [100, 350]))
    assert {model.booster_ for model in together} == {MODEL.booster_}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (FRAME[300:].assign(code=CODE[300:]), r"the categorical features are \[0, 2\] and \[0\]"),
        (
            FRAME[300:].assign(colour=pd.Categorical(CODE[300:])),
            "strings and numbers as categories",
        ),
    ],
)
def test_workers_that_disagree(changed, message):
    workers = [Communicator(comm, ["a", "b"]) for comm in _core.thread_comms(2)]
    parts = [{"X": FRAME[:300], "y": Y[:300]}, {"X": changed, "y": Y[300:]}]

    def work(worker):
        with pytest.raises((DisagreementError, DataError, WorkerLost)) as caught:
            regressor().fit(**parts[worker.rank], communicator=worker)
        return str(caught.value)

    assert any(message.replace("\\", "") in said for said in in_threads(workers, work))


# --- Refusals

REFUSED = [
    ({}, FRAME.assign(size=pd.Timestamp(0)), "Feature 'size' is of type Datetime"),
    ({}, FRAME.assign(size=[object()] * N), "Feature 'size' is of type Object"),
    (LISTED | {"categorical_features": ["colour"]}, FRAME.assign(code=["x"] * N), "name it in"),
    ({}, pandas_frame(code=[pd.Timestamp(0)] * N), "must be strings, or numbers"),
    (
        {},
        pandas_frame(code=[2**53 + 2] * N),
        "must be strings, or numbers of magnitudes up to 2**53",
    ),
    ({}, pandas_frame(code=[np.inf] * N), "the category inf"),
    ({}, pandas_frame(colour=[1, "a"] * (N // 2)), "strings and numbers as categories"),
    ({"categorical_features": [0]}, [["\ud800"]] * N, "has a category that is no text"),
    ({"categorical_features": ["x"]}, FRAME, "has 'x', which is no column of X"),
    ({"categorical_features": [3]}, FRAME, "has 3, but X has 3 features"),
    ({"categorical_features": [-1]}, FRAME, "has -1, but X has 3 features"),
    ({"categorical_features": [True]}, FRAME, "has 1 bools, but X has 3 features"),
    ({"categorical_features": ["size"]}, objects(), "has names, but X is no data frame"),
    ({"categorical_features": [0]}, [["a", "b"]] * N, "Feature 1 must hold numbers, or be named"),
]


@pytest.mark.parametrize(
    ("params", "X", "message"), REFUSED, ids=lambda v: v if type(v) is str else ""
)
def test_refused_in_fit(params, X, message):
    with pytest.raises(DataError) as caught:
        regressor(**params).fit(X, Y)
    assert message in str(caught.value)


def test_sparse_data_is_refused():
    sparse = pytest.importorskip("scipy.sparse")
    X = sparse.csr_matrix(codes())
    listed = regressor(categorical_features=[0])
    for refused in (lambda: listed.fit(X, Y), lambda: MODEL.booster_.predict(X)):
        with pytest.raises(DataError, match=r"need dense data, X is sparse. Use X.toarray\(\)"):
            refused()
    with pytest.raises(ValueError, match="categories need dense data"):
        _core.BinnedMatrix(native_matrix(X), 255, 1, n_categories=[7, -1, 6])


def test_refused_in_scikit_learns_words():
    model = regressor(categorical_features=[0])
    for X, message in (
        (SIZE, "Reshape your data"),
        (codes() + 1j, "Complex data not supported"),
        (np.empty((N, 0)), r"Found array with 0 feature\(s\)"),
        (np.empty((0, 3)), r"Found array with 0 sample\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y[: len(X)])
    with pytest.raises(DataError, match="X must have 2 dimensions, got 1"):
        MODEL.booster_.predict(SIZE)


def test_refused_in_predict():
    with pytest.raises(DataError, match="of the other type, such as 'black'"):
        MODEL.predict(FRAME.assign(colour=CODE))
    with pytest.raises(DataError, match="of the other type, such as -3"):
        MODEL.predict(FRAME.assign(code=COLOUR))
    with pytest.raises(ValueError, match="feature names should match"):
        MODEL.predict(FRAME.rename(columns={"size": "length"}))
    with pytest.raises(ValueError, match="X has 2 features, but QGBDTRegressor is expecting 3"):
        regressor(categorical_features=[0, 2]).fit(objects(), Y).predict(objects()[:, :2])
    with pytest.raises(DataError, match="X has 2 features, but Booster is expecting 3 features"):
        MODEL.booster_.predict(FRAME[["colour", "size"]])


def test_a_direction_of_categories_is_refused():
    with pytest.raises(DataError, match="has -1 for 'code', whose categories have no order"):
        regressor(monotone_constraints={"code": -1}).fit(FRAME, Y)
    rising = regressor(monotone_constraints={"size": 1}).fit(FRAME, Y)
    larger = FRAME.assign(size=SIZE + 1)
    assert (rising.predict(larger) >= rising.predict(FRAME)).all()


def test_categories_without_any():
    assert not Categories([None, None], False)
    assert not find_categories(FRAME, None, max_bin=255, refuses_unseen=False)
    empty = pd.DataFrame({"size": SIZE, "none": pd.Categorical([None] * N)})
    model = regressor().fit(empty, Y)
    assert model.booster_.categories() == [None, []]
    np.testing.assert_array_equal(
        Booster.from_bytes(model.booster_.to_bytes()).predict(empty), model.predict(empty)
    )
