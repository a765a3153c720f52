"""LightGBM's model files: what we write LightGBM predicts the same, what it writes we do.

Swept: drawn models (objectives, sizes, missing values, categories, infinite thresholds, stumps,
missing zeros, constant trees, no trees); LightGBM's own models of every objective and kind of
missing values, and with splits of categories, numbers or of pandas' frames; treelite and lleaves
where they are installed; every refusal; a share of the campaign of damaged texts. Against: raw
scores and leaves, exactly (an average of trees and three ways at zero: see there).
"""

import importlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from campaigns import fuzz_lightgbm
from conftest import OBJECTIVES, hurting_data, targets
from test_explain import trained, with_trees
from test_predictor import random_booster, rows

from qgbdt import Booster, QGBDTClassifier, QGBDTRegressor, lightgbm_text
from qgbdt.errors import DataError, ModelFormatError

lightgbm = pytest.importorskip("lightgbm")

ZERO, LARGEST_NEGATIVE = lightgbm_text.LARGEST_ZERO, lightgbm_text.LARGEST_NEGATIVE
EDGES = [0.0, -0.0, ZERO, -ZERO, -LARGEST_NEGATIVE, LARGEST_NEGATIVE, ZERO / 3, -ZERO / 3]
CASES = int(os.environ.get("QGBDT_LIGHTGBM_CASES", "24"))


def without_tiny(X):
    """LightGBM takes the tiniest numbers for zero, whatever its model says."""
    return np.where(np.abs(X) <= ZERO, 0, X)


def assert_equal_models(ours, theirs, X):
    """The same raw scores and leaves, bit by bit."""
    wanted = theirs.predict(X, raw_score=True)
    np.testing.assert_array_equal(ours.predict(X, raw_score=True), wanted)
    np.testing.assert_array_equal(ours.apply(X), theirs.predict(X, pred_leaf=True))


def assert_round_trip(booster, X):
    text = booster.to_lightgbm_string()
    theirs = lightgbm.Booster(model_str=text)
    assert_equal_models(booster, theirs, X)
    if booster.objective != "lambdarank":
        np.testing.assert_allclose(booster.predict(X), theirs.predict(X), rtol=1e-13)
    loaded = Booster.from_lightgbm_string(text)
    assert_equal_models(loaded, theirs, X)
    assert loaded.objective == booster.objective
    assert loaded.to_lightgbm_string() == text
    np.testing.assert_array_equal(loaded.predict(X), booster.predict(X))
    assert_equal_models(Booster.from_lightgbm_string(theirs.model_to_string()), theirs, X)


def drawn_model(case):
    """A model at random, and rows that are hard for it."""
    rng = np.random.default_rng(case)
    objective = OBJECTIVES[case % len(OBJECTIVES)]
    if case % 3 == 0:
        leaves = rng.choice([1, 2, 3, 17, 255, 300], size=rng.integers(1, 6)).tolist()
        drawn = "multiclass" if objective == "multiclass" else objective
        return random_booster(drawn, leaves=leaves, seed=case), without_tiny(rows(200, seed=case))
    params = {
        "n_estimators": int(rng.integers(1, 8)),
        "num_leaves": int(rng.choice([2, 3, 31, 200])),
        "max_depth": int(rng.choice([-1, 1, 3])),
        "min_child_samples": int(rng.choice([1, 20, 1000])),
        "max_bin": int(rng.choice([2, 16, 255])),
        "zero_as_missing": bool(rng.choice([False, True])),
    }
    if case % 3 == 1:
        return drawn_categories(rng, params)
    model, X = trained(objective, n=int(rng.choice([60, 400])), **params)
    return model.booster_, np.vstack([X[:100], 0.5 * X[:100]])


def test_drawn_models():
    for case in range(CASES):
        assert_round_trip(*drawn_model(case))
    print(f"{CASES} models")


def test_a_model_without_trees():
    booster = with_trees(random_booster("multiclass"), [])
    X = rows(5)
    theirs = lightgbm.Booster(model_str=booster.to_lightgbm_string())
    np.testing.assert_array_equal(
        booster.predict(X, raw_score=True), theirs.predict(X, raw_score=True)
    )


def test_files(tmp_path):
    booster = random_booster()
    booster.save_lightgbm(tmp_path / "model")
    assert (tmp_path / "model").read_text() == booster.to_lightgbm_string()
    assert_equal_models(Booster.load_lightgbm(tmp_path / "model"), booster_of(tmp_path), rows(50))
    (tmp_path / "model").write_bytes(b"tree\n\xff")
    with pytest.raises(ModelFormatError, match="it is not UTF-8"):
        Booster.load_lightgbm(tmp_path / "model")


def booster_of(folder):
    return lightgbm.Booster(model_file=folder / "model")


def test_names():
    X = np.random.default_rng(0).normal(size=(60, 3))
    pd = pytest.importorskip("pandas")
    for names, wanted in (
        (["age", "größe", "a b"], ["age", "größe", "a_b"]),
        (["a b", "a:b", "c"], ["Column_0", "Column_1", "Column_2"]),
        (["", "x=[1]", "c"], ["Column_0", "Column_1", "Column_2"]),
        (["\u2028", "x=[1]", '"\\'], ["_", "x__1_", "__"]),
    ):
        booster = (
            QGBDTRegressor(n_estimators=1).fit(pd.DataFrame(X, columns=names), X[:, 0]).booster_
        )
        text = booster.to_lightgbm_string()
        assert lightgbm.Booster(model_str=text).feature_name() == wanted
        assert Booster.from_lightgbm_string(text).feature_name() == wanted


# --- LightGBM's own models

LIGHTGBMS = [
    *({"objective": name} for name in ("regression", "regression_l1", "huber", "fair", "quantile")),
    *({"objective": name} for name in ("mape", "poisson", "gamma", "tweedie", "cross_entropy")),
    {"objective": "binary"},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "lambdarank"},
    {"objective": "rank_xendcg"},
    {"objective": "regression", "num_leaves": 2},
    {"objective": "regression", "min_data_in_leaf": 10_000},
    {"objective": "regression", "use_missing": False},
    {"objective": "binary", "boosting": "dart"},
    {"objective": "binary", "monotone_constraints": [1, 0, -1, 0, 0, 0]},
    {"objective": "regression", "extra_trees": True, "max_bin": 15},
]


def lightgbm_model(params, *, fill=None, rounds=6):
    X = hurting_data(600)
    if fill is not None:
        X = np.where(np.isnan(X), fill, X)
    family = {"multiclass": "multiclass", "binary": "binary", "cross_entropy": "binary"}
    family |= {"lambdarank": "lambdarank", "rank_xendcg": "lambdarank", "mape": "gamma"}
    objective = params["objective"]
    y, sizes = targets(
        X, family.get(objective, objective if objective in OBJECTIVES else "regression")
    )
    data = lightgbm.Dataset(X, y, group=sizes)
    quiet = {"verbose": -1, "num_leaves": 12, "min_data_in_leaf": 5, "num_threads": 1}
    return lightgbm.train({**quiet, **params}, data, rounds)


def queries():
    X = np.vstack([hurting_data(200, seed=3), rows(200, seed=4)[:, [0, 1, 2, 3, 4, 4]]])
    return without_tiny(X)


@pytest.mark.parametrize("fill", [None, 0.5], ids=["NaN", "no NaN"])
@pytest.mark.parametrize("params", LIGHTGBMS, ids=str)
def test_models_of_lightgbm(params, fill):
    theirs = lightgbm_model(params, fill=fill)
    ours = Booster.from_lightgbm_string(theirs.model_to_string())
    X = queries()
    assert_equal_models(ours, theirs, X)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-13)
    contributions = theirs.predict(X[:50], pred_contrib=True)
    np.testing.assert_allclose(ours.predict_contrib(X[:50]), contributions, atol=1e-9)
    assert_round_trip(ours, X)


def test_the_kinds_of_missing_values_are_met():
    for fill, kind in ((None, 2), (0.5, 0)):
        text = lightgbm_model({"objective": "regression"}, fill=fill).model_to_string()
        decisions = {
            int(d) >> 2 for line in re.findall("decision_type=(.+)", text) for d in line.split()
        }
        assert kind in decisions


def rows_with_zeros(rng, n=800):
    """Of the last two features LightGBM has two bins, so that nothing is missing."""
    X = np.where(rng.random((n, 6)) < 0.4, 0.0, rng.normal(size=(n, 6)))
    X[:, 4:] = rng.integers(0, 2, (n, 2)) * [1, -1]
    return X, np.where(X == 0, 2.0, np.abs(X)) @ rng.normal(size=6) + rng.normal(size=n)


def lightgbm_of_zeros(X, y, rounds=8, zero_as_missing=True, **more):
    params = {"num_leaves": 10, "min_data_in_leaf": 5, "verbose": -1, "num_threads": 1}
    params["zero_as_missing"] = zero_as_missing
    return lightgbm.train(params, lightgbm.Dataset(X, y), rounds, **more)


def queries_with_zeros(rng):
    X = np.round(3 * rng.normal(size=(4000, 6)), 1)
    X = np.where(rng.random(X.shape) < 0.2, np.nan, X)
    return np.where(rng.random(X.shape) < 0.4, rng.choice(EDGES, X.shape), X)


def kinds_of_missing(text):
    """LightGBM's, of all splits."""
    lines = re.findall("decision_type=(.+)", text)
    return {int(decision) >> 2 for line in lines for decision in line.split()}


@pytest.mark.parametrize("seed", range(3))
def test_zero_is_missing(seed):
    rng = np.random.default_rng(seed)
    theirs = lightgbm_of_zeros(*rows_with_zeros(rng))
    text = theirs.model_to_string()
    assert kinds_of_missing(text) == {lightgbm_text.MISSING_NONE, lightgbm_text.MISSING_ZERO}
    ours = Booster.from_lightgbm_string(text)
    X = queries_with_zeros(rng)
    assert_equal_models(ours, theirs, X)
    contributions = theirs.predict(X[:50], pred_contrib=True)
    np.testing.assert_allclose(ours.predict_contrib(X[:50]), contributions, atol=1e-9)
    assert_round_trip(ours, X)


@pytest.mark.parametrize("seed", range(3))
def test_zero_is_missing_in_some_trees(seed):
    """Those that went on from a model in which it was not."""
    rng = np.random.default_rng(seed)
    X, y = rows_with_zeros(rng)
    first = lightgbm_of_zeros(np.where(X > 2, np.nan, X), y, zero_as_missing=False)
    theirs = lightgbm_of_zeros(X, y, init_model=first)
    text = theirs.model_to_string()
    assert kinds_of_missing(text) >= {lightgbm_text.MISSING_ZERO, lightgbm_text.MISSING_NAN}
    ours = Booster.from_lightgbm_string(text)
    n_nodes = sum(map(len, ours.trees()))
    assert n_nodes > 2 * 16 * 10  # some splits took several
    tests = without_tiny(queries_with_zeros(rng))
    np.testing.assert_array_equal(
        ours.predict(tests, raw_score=True), theirs.predict(tests, raw_score=True)
    )


@pytest.mark.parametrize("kinds", [["4", "6"], ["0", "4", "6"], ["4", "6", "8", "10"]], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_zero_is_missing_at_random(seed, kinds):
    """Trees whose thresholds lie around zero, and whose features come again on a path."""
    rng = np.random.default_rng(seed)
    thresholds = np.array([*EDGES, -1.5, -0.5, 0.5, 1.5])
    booster = random_booster(leaves=[2] * 20 + [9] * 10, seed=seed, thresholds=thresholds)
    trees = booster.trees()
    for nodes in trees:
        nodes["threshold"] = rng.choice(thresholds, len(nodes))
    text = re.sub(
        "(?<=decision_type=).+",
        lambda found: " ".join(rng.choice(kinds, len(found[0].split()))),
        with_trees(booster, trees).to_lightgbm_string(),
    )
    text = re.sub("tree_sizes=.*\n", "", text)  # which are others now
    X = rng.choice([*EDGES, -2, -1, 1, 2, np.nan], (3000, 5))
    theirs, ours = lightgbm.Booster(model_str=text), Booster.from_lightgbm_string(text)
    if "8" not in kinds:
        return assert_equal_models(ours, theirs, X)
    X = without_tiny(X)
    np.testing.assert_array_equal(
        ours.predict(X, raw_score=True), theirs.predict(X, raw_score=True)
    )


def zero_chain(features):
    """The text of a chain of splits, each with three ways; in the last one NaN is missing."""
    n = len(features)
    fields = {
        "num_leaves": n + 1,
        "num_cat": 0,
        "split_feature": " ".join(map(str, features)),
        "split_gain": " ".join(["1"] * n),
        "threshold": " ".join(str(1.5 + i) for i in range(n)),
        "decision_type": " ".join([*["4"] * (n - 1), "8"]),
        "left_child": " ".join(map(str, [*range(1, n), -1])),
        "right_child": " ".join(str(-2 - i) for i in range(n)),
        "leaf_value": " ".join(map(str, range(n + 1))),
    }
    names = " ".join(f"f{i}" for i in range(max(features) + 1))
    head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\n"
    head += f"max_feature_idx={max(features)}\nobjective=regression\nfeature_names={names}\n\n"
    tree = "Tree=0\n" + "".join(f"{name}={value}\n" for name, value in fields.items())
    return head + tree + "\nend of trees\n"


def test_zero_is_missing_too_often():
    with pytest.raises(
        ModelFormatError,
        match=r"zero is missing in some splits of the model, but not in all\. That takes more than "
        r"32768 splits of qgbdt\. Train all trees with the same zero_as_missing\.$",
    ):
        Booster.from_lightgbm_string(zero_chain(list(range(40))))
    of_one_feature = Booster.from_lightgbm_string(zero_chain([0] * 40))
    assert len(of_one_feature.tree(0)) < 5 * 40
    in_all = zero_chain(list(range(40))).replace("4 8\n", "4 4\n")
    assert len(Booster.from_lightgbm_string(in_all).tree(0)) == 2 * 40 + 1


def test_averages():
    params = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}
    theirs = lightgbm_model({"objective": "regression", **params})
    ours = Booster.from_lightgbm_string(theirs.model_to_string())
    X = queries()
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-13)
    np.testing.assert_array_equal(ours.apply(X), theirs.predict(X, pred_leaf=True))


# --- Categories

CATEGORICAL = [1, 3]


def rows_of_categories(n, seed=0):
    """Two categorical features, one of few and one of many categories, which are no neighbours."""
    rng = np.random.default_rng(seed)
    X = hurting_data(n, 4, seed)
    X[:, 1] = rng.integers(0, 4, n)
    X[:, 3] = rng.choice([0, 1, 2, 31, 32, 33, 64, 95, 96, 1000, 5, 6, 7, 8, 9, 10], n)
    X[rng.random(X.shape) < 0.1] = np.nan
    return X


def queries_of_categories():
    X = np.vstack([rows_of_categories(400, 1), rows_of_categories(100, 2)])
    X[400:, CATEGORICAL] = np.random.default_rng(0).choice([-1, 4, 63, 97, 10**6, np.nan], (100, 2))
    return without_tiny(X)


@pytest.mark.parametrize("params", [{"max_cat_to_onehot": 8}, {"zero_as_missing": True}], ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_models_of_lightgbm_that_split_categories(objective, params):
    X = rows_of_categories(800)
    signal = np.nan_to_num(X, nan=1.5, posinf=2, neginf=-2) % 7
    y, sizes = targets(signal[:, [1, 3, 0, 2]] - 3, objective)
    params = params | {"objective": objective, "min_data_per_group": 5, "cat_smooth": 1}
    params |= {"num_class": 3} if objective == "multiclass" else {}
    data = lightgbm.Dataset(X, y, group=sizes, categorical_feature=CATEGORICAL)
    theirs = lightgbm.train({"verbose": -1, "num_threads": 1, **params}, data, 6)
    text = theirs.model_to_string()
    assert re.search("num_cat=[1-9]", text)
    ours = Booster.from_lightgbm_string(text)
    assert any(values is not None for values in ours.categories())
    X = queries_of_categories()
    assert_equal_models(ours, theirs, X)
    contributions = theirs.predict(X[:50], pred_contrib=True)
    np.testing.assert_allclose(ours.predict_contrib(X[:50]), contributions, atol=1e-9)
    assert_round_trip(ours, X)


def drawn_categories(rng, params):
    """A model that splits categories, and rows that are hard for it."""
    X = rows_of_categories(800, int(rng.integers(2**32)))
    X = X[rng.random(800) < np.where(X[:, 3] == 1000, 0.1, 1)]
    y = rng.normal(size=50)[np.nan_to_num(X[:, 3] % 50, nan=49).astype(int)]
    y += np.nan_to_num(X[:, 0], nan=2, posinf=2, neginf=-2) * np.isnan(X[:, 1])
    model = QGBDTRegressor(
        categorical_features=CATEGORICAL,
        max_cat_to_onehot=int(rng.choice([1, 4, 50])),
        min_data_per_group=1,
        cat_smooth=1,
        **params,
    )
    return model.fit(X, y).booster_, queries_of_categories()


def test_what_is_missing_goes_right():
    """In LightGBM's splits of categories; in some of ours it goes left."""
    booster, X = drawn_categories(np.random.default_rng(0), {"n_estimators": 8, "num_leaves": 16})
    trees = np.concatenate(booster.trees())
    assert {True, False} <= set(trees["missing_left"][trees["is_categorical"]].tolist())
    assert_round_trip(booster, X)


def categorical_text():
    X = np.repeat([0.0, 3, 40], 40)[:, None]
    model = QGBDTRegressor(
        n_estimators=1, num_leaves=2, categorical_features=[0], min_data_per_group=1, cat_smooth=1
    )
    return model.fit(X, (X[:, 0] == 3).astype(float)).booster_.to_lightgbm_string()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threshold=0.0", "threshold=1.0", "a threshold that is none of its sets"),
        ("threshold=0.0", "threshold=0.5", "a threshold that is none of its sets"),
        ("num_cat=1", "num_cat=0", "a threshold that is none of its sets"),
        ("num_cat=1", "num_cat=2", "cat_boundaries has 2 values instead of 3"),
        ("cat_boundaries=0 1", "cat_boundaries=1 0", "cat_boundaries does not ascend from 0"),
        ("cat_boundaries=0 1", "cat_boundaries=0 2", "cat_threshold has 1 values instead of 2"),
        ("cat_threshold=8", "cat_threshold=4294967296", "cat_threshold has a value out of the ran"),
        ("decision_type=9", "decision_type=8", None),  # a number then
        ("feature_infos=0:3:40\n", "feature_infos=-7:0:3:40\n", None),
        (
            "feature_infos=0:3:40\n",
            "feature_infos=" + ":".join(map(str, range(300))) + "\n",
            None,  # too many were seen: those that are split by will do
        ),
    ],
)
def test_damaged_sets(old, new, message):
    sound = categorical_text()
    assert sound.count(old) == 1, sound
    if message is None:
        assert Booster.from_lightgbm_string(sound.replace(old, new)).num_trees() == 1
        return
    with pytest.raises(ModelFormatError, match=re.escape(message)):
        Booster.from_lightgbm_string(sound.replace(old, new))


def test_more_categories_than_a_feature_has():
    sound = categorical_text()
    many = sound.replace("cat_boundaries=0 1", "cat_boundaries=0 8")
    many = many.replace("cat_threshold=8", f"cat_threshold={' '.join(['4294967295'] * 8)}")
    with pytest.raises(ModelFormatError, match="256 categories, of which qgbdt has 255 at most"):
        Booster.from_lightgbm_string(many)


# --- Categories of pandas' frames, which LightGBM lists behind the trees

QUIET = {"verbose": -1, "num_threads": 1, "num_leaves": 12, "min_data_in_leaf": 5}
SMALL_GROUPS = {"min_data_per_group": 5, "cat_smooth": 1}


def categories_of_a_frame(n, seed=0, unseen=False):
    """A frame of strings, numbers and bools as categories, and rows that miss some of each."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)

    def drawn(values, more, missing=0.1):
        column = rng.choice(np.array([*values, *(more if unseen else [])], object), n)
        return pd.Series(np.where(rng.random(n) < missing, None, column)).astype("category")

    frame = pd.DataFrame({"size": np.where(rng.random(n) < 0.2, 0.0, rng.normal(size=n))})
    frame["colour"] = drawn(["red", "green", "blue", "", 'a "b"\\\n', "größe"], ["pink", "Red"])
    frame["same"] = pd.Categorical(["one"] * n)
    frame["year"] = drawn(range(1990, 2000), [1889, 2001, 0]).cat.rename_categories(int)
    frame["count"] = rng.integers(0, 5, n)
    frame["share"] = drawn([0.5, -1.0, 7.0], [2.5], 0).cat.rename_categories(float)
    frame["sold"] = pd.Categorical(rng.random(n) < 0.5)
    if unseen:  # the same values, numbered otherwise
        colours = frame["colour"].cat
        frame["colour"] = colours.reorder_categories(colours.categories[::-1])
    return frame


def target_of_categories(frame):
    y = frame["size"] + 2 * frame["colour"].isin(["red", "größe", ""]) + frame["count"] % 2
    y += 2 * frame["year"].isin([1991, 1993, 1998]) + frame["year"].isna()
    return y + 3 * (frame["share"].astype(float) == 0.5) + frame["sold"].astype(float)


def frames_to_predict():
    return [
        categories_of_a_frame(400, 1),
        categories_of_a_frame(400, 2, unseen=True),
        categories_of_a_frame(3, 3),  # which lacks most categories
    ]


def assert_equal_on_frames(ours, theirs):
    for frame in frames_to_predict():
        assert_equal_models(ours, theirs, frame)
        contributions = theirs.predict(frame[:30], pred_contrib=True)
        np.testing.assert_allclose(ours.predict_contrib(frame[:30]), contributions, atol=1e-9)


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "regression"},
        {"objective": "regression", "zero_as_missing": True, "max_cat_to_onehot": 20},
        {"objective": "multiclass", "num_class": 3},
    ],
    ids=str,
)
def test_models_of_lightgbm_of_frames(params):
    frame = categories_of_a_frame(900)
    y = target_of_categories(frame)
    y = np.digitize(y, np.quantile(y, [0.3, 0.6])) if "num_class" in params else y
    theirs = lightgbm.train({**QUIET, **SMALL_GROUPS, **params}, lightgbm.Dataset(frame, y), 8)
    text = theirs.model_to_string()
    ours = Booster.from_lightgbm_string(text)
    colours = sorted(["red", "green", "blue", "", 'a "b"\\\n', "größe"])
    years = [float(year) for year in range(1990, 2000)]
    wanted = [None, colours, ["one"], years, None, [-1.0, 0.5, 7.0], [0.0, 1.0]]
    assert ours.categories() == wanted
    splits = np.concatenate(ours.trees())
    assert set(splits["feature"][splits["is_categorical"]]) >= {1, 3, 5}
    assert_equal_on_frames(ours, theirs)
    again = ours.to_lightgbm_string()
    assert_equal_on_frames(ours, lightgbm.Booster(model_str=again))
    loaded = Booster.from_lightgbm_string(again)
    assert loaded == ours
    assert loaded.to_lightgbm_string() == again
    # As LightGBM writes it without its parameters, a constant column's list is nobody's.
    nameless = re.sub(r"\[categorical_feature: .*\]\n", "", text)
    with pytest.raises(ModelFormatError, match="it has 5 lists, but 4 features have categories"):
        Booster.from_lightgbm_string(nameless)
    nameless = nameless.replace('["one"], ', "")
    assert Booster.from_lightgbm_string(nameless).category_sets(0) == ours.category_sets(0)


def test_pandas_numbers_in_another_order():
    """The lists are as the frame had them, and seldom ascend."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    values = ["z", "a", "m", "c", "y", "b"]
    frame = pd.DataFrame({"x": pd.Categorical(rng.choice(values, 600), categories=values)})
    y = frame["x"].isin(["z", "c"]).astype(float) + 0.1 * rng.normal(size=600)
    theirs = lightgbm.train({**QUIET, **SMALL_GROUPS}, lightgbm.Dataset(frame, y), 4)
    ours = Booster.from_lightgbm_string(theirs.model_to_string())
    assert ours.categories() == [sorted(values)]
    assert set(ours.category_sets(0)[0]) in ({"c", "z"}, {"a", "b", "m", "y"})
    tested = pd.DataFrame({"x": pd.Categorical([*values, "q", None])})
    assert_equal_models(ours, theirs, tested)
    assert_equal_models(ours, theirs, tested[::-1].reset_index(drop=True))


def test_ordered_categories_are_numbers_of_nobody():
    """LightGBM splits their codes as numbers; its text does not say which feature they are."""
    pd = pytest.importorskip("pandas")
    frame = categories_of_a_frame(600)
    frame["grade"] = pd.Categorical(np.arange(600) % 3, ordered=True)
    theirs = lightgbm.train(QUIET, lightgbm.Dataset(frame, target_of_categories(frame)), 4)
    text = theirs.model_to_string()
    with pytest.raises(ModelFormatError) as caught:
        Booster.from_lightgbm_string(text)
    assert str(caught.value) == (
        "LightGBM model, pandas_categorical: it has 6 lists, but 5 features have categories, so "
        "that nothing says whose each is. Without that line, categories are the numbers that "
        "pandas gives them."
    )
    ours = Booster.from_lightgbm_string(text[: text.index("pandas_categorical")])
    codes = frame.apply(lambda x: x.cat.codes if x.dtype == "category" else x)
    codes = codes.astype(float).replace(-1, np.nan).to_numpy()
    np.testing.assert_array_equal(ours.predict(codes), theirs.predict(frame))


def test_hundreds_of_pandas_categories():
    """Of a long list the model has those that training saw, or those in its splits, or none."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    values = [f"v{i:03}" for i in range(400)]
    frame = pd.DataFrame(
        {"x": rng.normal(size=4000), "c": pd.Categorical(rng.choice(values, 4000))}
    )
    y = 3 * frame["c"].isin(values[:9]) + frame["x"]
    params = {**QUIET, **SMALL_GROUPS, "max_cat_threshold": 9}
    theirs = lightgbm.train(params, lightgbm.Dataset(frame, y), 2)
    ours = Booster.from_lightgbm_string(theirs.model_to_string())
    assert 9 <= len(ours.categories()[1]) < 100
    assert_equal_models(ours, theirs, frame)
    theirs = lightgbm.train(params, lightgbm.Dataset(frame, frame["x"]), 1)
    text = theirs.model_to_string()
    assert not re.search("num_cat=[1-9]", text)
    ours = Booster.from_lightgbm_string(text)
    assert ours.categories() == [None, []]
    assert_equal_models(ours, theirs, frame)
    noise = rng.normal(size=4000) + rng.normal(size=400)[frame["c"].cat.codes]
    theirs = lightgbm.train(params, lightgbm.Dataset(frame, noise), 60)
    with pytest.raises(
        ModelFormatError, match=r"by \d+ categories, of which qgbdt has 255 at most"
    ):
        Booster.from_lightgbm_string(theirs.model_to_string())


@pytest.mark.parametrize("zero_as_missing", [False, True])
@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_frames_for_lightgbm(kind, zero_as_missing, tmp_path):
    """Our models of a frame, on LightGBM's side of it."""
    frame = categories_of_a_frame(900)
    frame["none"] = frame["colour"].where(frame["size"] > 99)  # a column without any value
    y = target_of_categories(frame)
    few = {"n_estimators": 6, "num_leaves": 14, "min_child_samples": 3, **SMALL_GROUPS}
    few |= {"zero_as_missing": zero_as_missing, "max_cat_to_onehot": 3}
    if kind == "multiclass":
        model = QGBDTClassifier(**few).fit(frame, np.digitize(y, np.quantile(y, [0.3, 0.6])))
    else:
        model = QGBDTRegressor(**few).fit(frame, y)
    booster = model.booster_
    trees = np.concatenate(booster.trees())
    sides = trees["missing_left"][trees["is_categorical"]]
    assert set(trees["feature"][trees["is_categorical"]]) >= {1, 3, 5}
    assert kind == "multiclass" or {True, False} == set(sides.tolist())
    booster.save_lightgbm(tmp_path / "model")
    text = (tmp_path / "model").read_text()
    decisions = set(" ".join(re.findall("decision_type=(.+)", text)).split())
    assert decisions == ({"4", "6", "9"} if zero_as_missing else {"8", "10", "9"})
    assert "\n[categorical_feature: 1,2,3,5,6,7]\n" in text
    assert text.endswith(
        '], ["one"], [' + ", ".join(map(str, range(1990, 2000))) + "], [-1, 0.5, 7], [0, 1], []]\n"
    )
    theirs = lightgbm.Booster(model_file=tmp_path / "model")
    for tested in frames_to_predict():
        tested["none"] = tested["colour"]
        assert_equal_models(booster, theirs, tested)
        for loaded in (
            Booster.load_lightgbm(tmp_path / "model"),
            Booster.from_lightgbm_string(theirs.model_to_string()),
        ):
            assert_equal_models(loaded, theirs, tested)
    assert Booster.load_lightgbm(tmp_path / "model").to_lightgbm_string() == text


@pytest.mark.parametrize(
    "values", [["a", "b"], [-1, 2], [0.5, 2], [1, 2**20], [True, False]], ids=str
)
def test_categories_that_are_no_whole_numbers(values):
    """Of an array, too; LightGBM then takes a frame."""
    pd = pytest.importorskip("pandas")
    X = np.array(values * 60, object)[:, None]
    model = QGBDTRegressor(n_estimators=2, categorical_features=[0], min_data_per_group=1)
    booster = model.fit(X, np.arange(120) % 2).booster_
    text = booster.to_lightgbm_string()
    is_plain = values == [True, False]  # which are 1 and 0
    assert text.endswith("null\n") == is_plain
    theirs = lightgbm.Booster(model_str=text)
    frame = pd.DataFrame({"Column_0": pd.Categorical(values)})
    asked = np.array(values, float)[:, None] if is_plain else frame
    np.testing.assert_array_equal(theirs.predict(asked), booster.predict(frame))
    assert len(set(booster.predict(frame))) == 2
    assert Booster.from_lightgbm_string(text).to_lightgbm_string() == text


def pandas_text():
    X = np.repeat(np.array(["a", "b", "c"], object), 40)[:, None]
    model = QGBDTRegressor(
        n_estimators=1, num_leaves=2, categorical_features=[0], min_data_per_group=1, cat_smooth=1
    )
    return model.fit(X, (X[:, 0] == "b").astype(float)).booster_.to_lightgbm_string()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("[[", "pandas_categorical: it is not JSON."),
        ("[" * 100_000, "pandas_categorical: it is not JSON."),
        ("7", "pandas_categorical: it is not a list of lists."),
        ('["a", "b", "c"]', "pandas_categorical: it is not a list of lists."),
        ('{"a": ["b"]}', "pandas_categorical: it is not a list of lists."),
        ('[["a"], ["b"]]', "it has 2 lists, but 1 features have categories"),
        ('[["a", "b"]]', "feature 0 has the category 2, but its list in pandas_categorical has 2"),
        *(
            (
                listed,
                "the list of feature 0 must hold strings, or numbers of magnitudes up to 2**53",
            )
            for listed in (
                '[["a", "b", "a"]]',
                '[["a", "b", 1]]',
                '[["a", "b", null]]',
                "[[0, 1, true]]",
                "[[0, 1, NaN]]",
                "[[0, 1, Infinity]]",
                "[[0, 1, 1" + "0" * 400 + "]]",
                '[["a", "b", ["c"]]]',
                r'[["a", "b", "\ud800"]]',
            )
        ),
    ],
    ids=lambda text: text[:20],
)
def test_damaged_lists(listed, message):
    sound = pandas_text()
    line = 'pandas_categorical:[["a", "b", "c"]]\n'
    assert sound.endswith(line)
    with pytest.raises(ModelFormatError, match=re.escape(message)):
        Booster.from_lightgbm_string(sound.replace(line, f"pandas_categorical:{listed}\n"))


def test_whose_the_lists_are():
    sound = pandas_text()
    named = "[categorical_feature: 0]\n"
    assert sound.count(named) == 1
    with pytest.raises(ModelFormatError, match="it has 1 lists, but 0 features have categories"):
        Booster.from_lightgbm_string(sound.replace(named, "[categorical_feature: 1]\n"))
    for other in ("", "[categorical_feature: name:x]\n"):
        text = sound.replace(named, other)  # those that training saw are left
        assert Booster.from_lightgbm_string(text).categories() == [["a", "b", "c"]]
    unseen = sound.replace("feature_infos=0:1:2", "feature_infos=none")
    assert Booster.from_lightgbm_string(unseen).categories() == [["a", "b", "c"]]
    with pytest.raises(ModelFormatError, match="it has 1 lists, but 0 features have categories"):
        Booster.from_lightgbm_string(unseen.replace(named, ""))
    for nobody in ("null", "[]"):
        codes = Booster.from_lightgbm_string(re.sub("(categorical:).*", rf"\1{nobody}", sound))
        assert codes.categories() == [[0.0, 1.0, 2.0]]


# --- Other readers of such files


def test_treelite(tmp_path):
    treelite = pytest.importorskip("treelite")
    models = [trained(name) for name in ("regression", "binary", "poisson", "multiclass")]
    models = [(model.booster_, X) for model, X in models]
    few = {"n_estimators": 8, "num_leaves": 16}
    models.append(drawn_categories(np.random.default_rng(0), few))
    for booster, X in models:
        X = X[np.isfinite(X[:, 2])]
        booster.save_lightgbm(tmp_path / "model.txt")
        theirs = treelite.frontend.load_lightgbm_model(tmp_path / "model.txt")
        found = np.squeeze(treelite.gtil.predict(theirs, X))
        np.testing.assert_allclose(booster.predict(X), found, rtol=1e-6)


def test_lleaves(tmp_path):
    lleaves = pytest.importorskip("lleaves")
    model, X = trained("binary")
    X = X[np.isfinite(X[:, 2])]
    model.booster_.save_lightgbm(tmp_path / "model.txt")
    theirs = lleaves.Model(model_file=str(tmp_path / "model.txt"))
    if not hasattr(importlib.import_module("llvmlite.binding"), "PassManagerBuilder"):
        pytest.skip("this lleaves does not run on this llvmlite")
    theirs.compile()
    np.testing.assert_allclose(model.booster_.predict(X), theirs.predict(X), rtol=1e-12)


# --- What is refused

SOUND = random_booster("multiclass", leaves=[3, 1]).to_lightgbm_string()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tree\n", "", "not a LightGBM model: it must begin with the line 'tree'."),
        ("end of trees", "end", "the LightGBM model has no line 'end of trees': it ends early."),
        ("max_feature_idx=4", "max_feature_idx=5", "feature_names has 5 values instead of 6"),
        ("max_feature_idx=4", "max_feature_idx=-1", "max_feature_idx has a value out of the range"),
        ("num_class=3\n", "", "num_class is missing"),
        ("num_class=3\n", "num_class=1000000000\n", "num_tree_per_iteration is not num_class"),
        ("version=v4", "version=v2", "version=v2 is not v3 or v4"),
        ("version=v4", "version v4", "the line 'version v4' is out of place"),
        ("version=v4", "version=v4\nversion=v4", "the line 'version=v4' is out of place"),
        (
            "multiclass num",
            "cross_entropy_lambda num",
            "qgbdt has no link for the objective 'cross_entropy_lambda",
        ),
        (
            "multiclass num_class:3",
            "binary sigmoid:1",
            "no link for the objective 'binary sigmoid:1'",
        ),
        ("multiclass num_class:3", "multiclass num_class:4", "no link for the objective 'multi"),
        ("Tree=1\n", "Tree=7\n", "tree 1: it is called Tree=7"),
        ("Tree=5\n", "Tree 5\n", "tree 4: the line 'Tree 5' is out of place"),
        ("num_leaves=3", "num_leaves=2000000000", "leaf_value has 3 values instead of 2000000000"),
        ("num_leaves=3", "num_leaves=0", "num_leaves has a value out of the range"),
        ("num_cat=0", "num_cat=1", "tree 0: cat_boundaries is missing"),
        ("is_linear=0", "is_linear=1", "tree 0: leaf_const is missing"),
        ("decision_type=8", "decision_type=9", "a threshold that is none of its sets"),
        ("decision_type=8", "decision_type=12", "decision_type has an unknown kind of missing"),
        (
            "decision_type=8",
            "decision_type=16",
            "decision_type has a value out of the range [0, 15]",
        ),
        ("left_child=1", "left_child=0", "left_child and right_child make no tree"),
        ("left_child=1", "left_child=2", "left_child has a value out of the range [-3, 1]"),
        ("left_child=1", "left_child=-3", "left_child and right_child make no tree"),
        ("split_feature=", "split_feature=9", "split_feature has a value out of the range [0, 4]"),
        ("threshold=", "threshold=x", "threshold has the value 'x"),
        ("threshold=", "threshold=1_", "threshold has the value '1_"),
        ("leaf_value=", "leaf_value=nan ", "leaf_value has 4 values instead of 3"),
        ("leaf_weight=0.0", "leaf_weight=1e999", "leaf_weight has a value that is not a finite"),
        ("leaf_count=0", "leaf_count=" + "9" * 18, "leaf_count has a value out of the range"),
    ],
)
def test_refusals(old, new, message):
    assert old in SOUND
    with pytest.raises(ModelFormatError) as caught:
        Booster.from_lightgbm_string(SOUND.replace(old, new, 1))
    assert message in str(caught.value)
    assert str(caught.value).endswith(".")


def test_more_refusals():
    first = SOUND.partition("Tree=5\n")[0]
    with pytest.raises(ModelFormatError, match="5 trees are no whole iterations of 3"):
        Booster.from_lightgbm_string(first + "end of trees\n")
    with pytest.raises(
        ModelFormatError, match="leaf_value has a value that is not a finite number"
    ):
        Booster.from_lightgbm_string(re.sub(r"(leaf_value=)[^ \n]+", r"\1nan", SOUND))
    with pytest.raises(ModelFormatError, match="not a LightGBM model: it is no text"):
        Booster.from_lightgbm_string(SOUND.replace("=f0", "=\udc80"))
    for objective in ("regression sqrt", "binary sigmoid:2", "cross_entropy_lambda", "x" * 100, ""):
        text = random_booster().to_lightgbm_string()
        with pytest.raises(ModelFormatError, match="qgbdt has no link for the objective"):
            Booster.from_lightgbm_string(text.replace("=regression", f"={objective}", 1))


def test_an_objective_that_lightgbm_has_not(monkeypatch):
    monkeypatch.delitem(lightgbm_text.WRITTEN, "gamma")
    with pytest.raises(DataError, match="LightGBM's files have no objective like 'gamma'"):
        random_booster("gamma").to_lightgbm_string()


def test_a_split_below_itself():
    text = random_booster(leaves=[3]).to_lightgbm_string()
    text = re.sub("left_child=.*", "left_child=-1 1", text)
    with pytest.raises(ModelFormatError, match="left_child and right_child make no tree"):
        Booster.from_lightgbm_string(re.sub("right_child=.*", "right_child=-2 -3", text))


def test_lines_of_another_system():
    assert Booster.from_lightgbm_string(SOUND.replace("\n", "\r\n")).to_lightgbm_string() == SOUND


def test_what_the_text_says_of_itself():
    sizes = list(map(int, re.search("tree_sizes=(.*)", SOUND)[1].split()))
    begins = np.cumsum([SOUND.index("Tree=0"), *sizes])
    for index, begin in enumerate(begins[:-1]):
        assert SOUND[begin:].startswith(f"Tree={index}\n")
    assert SOUND[begins[-1] :].startswith("end of trees\n")
    trees = random_booster(leaves=[2]).trees()
    trees[0]["count"] = 2**40
    text = with_trees(random_booster(), trees).to_lightgbm_string()
    assert "leaf_count=2147483647 2147483647\n" in text
    assert "internal_count=2147483647\n" in text


def test_an_objective_of_ones_own():
    """LightGBM writes no objective then, and scores are raw."""
    text = random_booster().to_lightgbm_string()
    loaded = Booster.from_lightgbm_string(text.replace("objective=regression\n", "", 1))
    assert loaded.objective == "regression"


def test_damaged_texts():
    command = [sys.executable, fuzz_lightgbm.__file__, "--count", "2000", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"2000 texts: (\d+) loaded, 0 failures", done.stdout)
    assert int(found[1]) > 100
    assert done.stdout.count("\n") > 20
