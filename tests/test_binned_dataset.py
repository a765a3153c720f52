"""Rows that are binned once give the models of raw rows that are binned by the same thresholds.

Swept: dense, sparse and few-valued rows, categories, slices, files, processes, workers. Against:
fits and predictions of X itself, and of its rows binned anew. Tolerance: none.
"""

import copy
import gc
import os
import pickle
import weakref
import zipfile
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from conftest import CudaModule, few_valued_data, hurting_data, put_cuda_module, sparse_data
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_validate,
    train_test_split,
)
from workers import fit_together, outcome

from qgbdt import BinnedDataset, Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError, DisagreementError, ParameterError

SMALL = {"n_estimators": 5, "num_leaves": 15, "min_child_samples": 5}


def sparse_rows(n=1500, seed=0):
    X = scipy.sparse.random(n, 60, 0.03, format="csr", random_state=seed)
    X.data = np.round(X.data - 0.3, 2)  # negative ones, and stored zeros
    X.data[::17] = np.nan
    return X


def frame(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    colours = rng.choice(["red", "green", "blue", "grey"], n)
    return pd.DataFrame(
        {
            "colour": pd.Categorical(np.where(rng.random(n) < 0.1, None, colours)),
            "size": rng.normal(size=n),
            "town": rng.integers(0, 40, n).astype(str),
        }
    )


def target(X):
    """Something that trees of any of them find."""
    if isinstance(X, pd.DataFrame):
        return (X["size"] + (X["colour"] == "red") + (X["town"] < "3")).to_numpy()
    values = np.nan_to_num(X.toarray() if scipy.sparse.issparse(X) else X, posinf=9, neginf=-9)
    return values @ np.random.default_rng(7).normal(size=X.shape[1])


DATA = {
    "hurting": lambda: hurting_data(1500),
    "float32": lambda: hurting_data(1500, seed=1).astype(np.float32),
    "columns": lambda: np.asfortranarray(hurting_data(1500, seed=2)),
    "shared bytes": lambda: few_valued_data(1500)[0],
    "sparse tiles": lambda: sparse_data(1500)[0],
    "sparse": sparse_rows,
    "frame": frame,
}


@pytest.fixture(params=DATA)
def X(request):
    return DATA[request.param]()


def some(X, rows):
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def two_workers():
    return [Communicator(comm, ["a", "b"]) for comm in _core.thread_comms(2)]


def model_of(X, y, **params):
    return QGBDTRegressor(**SMALL | params).fit(X, y).booster_.to_bytes()


# --------------------------------------------------------------------------------- one tree, again


def test_a_fit_is_that_of_the_rows(X, monkeypatch):
    data, y = BinnedDataset(X), target(X)
    expected = model_of(X, y, n_jobs=1)
    for simd in _core.simd_levels():
        monkeypatch.setenv("QGBDT_SIMD", simd)
        assert {model_of(data, y, n_jobs=n) for n in (1, 3)} == {expected}
    assert data.shape == X.shape
    assert len(data) == X.shape[0]


def test_a_slice_is_its_rows_binned_alike(X):
    data, y = BinnedDataset(X), target(X)
    rng = np.random.default_rng(0)
    n = len(data)
    for rows in (
        np.arange(0, n, 3),
        slice(100, -200, 2),
        rng.random(n) < 0.4,
        rng.integers(-n, n, 700),
    ):
        chosen = np.arange(n)[rows]
        part = data[rows]
        anew = data.transform(some(X, chosen))
        assert part.shape == anew.shape == (len(chosen), X.shape[1])
        assert model_of(part, y[rows]) == model_of(anew, y[rows])
        again = part[::-1][5:]
        assert model_of(again, y[rows][::-1][5:]) == model_of(
            data.transform(some(X, chosen[::-1][5:])), y[rows][::-1][5:]
        )


def test_a_slice_whose_values_are_all_there_is_a_fit_of_its_own():
    """Where rows have all values of few, their own thresholds are those of all rows."""
    X, y = few_valued_data(4000)
    X = np.delete(X, np.flatnonzero([len(np.unique(column)) > 100 for column in X.T]), axis=1)
    data = BinnedDataset(X)
    for rows, _ in KFold(5).split(X):
        assert model_of(data[rows], y[rows]) == model_of(X[rows], y[rows])


def test_a_slice_without_missing_values_has_none():
    X = hurting_data(1000)[:, [0, 1, 5]]
    complete = ~np.isnan(X).any(axis=1)
    data = BinnedDataset(X)
    for part in (data[complete], BinnedDataset(X[complete])):
        assert not part._matrix(1).has_missing().any()
    assert data._matrix(1).has_missing().any()


def test_missing_values_are_found_wherever_they_are():
    X = np.arange(10_000.0).reshape(-1, 2)
    X[-1, 1] = np.nan
    for rows in (slice(None), slice(10, None)):
        np.testing.assert_array_equal(
            BinnedDataset(X)[rows]._matrix(1).has_missing(), [False, True]
        )
    some = np.eye(50)
    some[:, 3] = 1
    lists = scipy.sparse.csc_array(some)
    for zero_as_missing in (False, True):
        has_missing = BinnedDataset(lists, zero_as_missing=zero_as_missing)._matrix(1).has_missing()
        expected = zero_as_missing & (some == 0).any(axis=0)
        np.testing.assert_array_equal(has_missing, expected)


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (QGBDTClassifier, {}),
        (QGBDTRegressor, {"objective": "l1", "subsample": 0.6, "colsample_bynode": 0.5}),
        (QGBDTRegressor, {"boosting_type": "dart", "monotone_constraints": [1, 0, 0, 0, 0, -1]}),
        (QGBDTRanker, {}),
    ],
)
def test_estimators(estimator, params):
    X = hurting_data(1200)
    y = np.digitize(target(X), [-2, 0, 2]) if estimator is not QGBDTRegressor else target(X)
    rest = {"group": [100] * 12} if estimator is QGBDTRanker else {}
    rest["sample_weight"] = np.random.default_rng(0).random(1200)
    data = BinnedDataset(X)
    of_rows = estimator(**SMALL | params).fit(X, y, **rest)
    of_data = estimator(**SMALL | params).fit(data, y, **rest)
    assert of_data.booster_ == of_rows.booster_
    assert of_data.n_features_in_ == 6
    for method in ("predict", "apply", "predict_proba", "decision_function"):
        if hasattr(of_rows, method):
            np.testing.assert_array_equal(
                getattr(of_data, method)(data[::2]), getattr(of_rows, method)(X[::2])
            )


@pytest.mark.parametrize("kind", ["hurting", "shared bytes", "sparse tiles", "sparse", "frame"])
def test_missing_zeros(kind, tmp_path):
    X = DATA[kind]()
    if kind == "hurting":
        X = np.column_stack([X, np.tile([-1.0, 0, 1], 500), np.tile([0, -1e-36, 2e-36], 500)])
    y, asked = target(X), {"zero_as_missing": True}
    model = QGBDTRegressor(**SMALL | asked).fit(X, y)
    data = BinnedDataset(X, **asked)
    data.save(tmp_path / "rows")
    loaded = BinnedDataset.load(tmp_path / "rows")
    assert model_of(loaded, y, **asked) == model.booster_.to_bytes()
    np.testing.assert_array_equal(model.predict(loaded), model.predict(X))
    rows = np.arange(3, 1500, 2)
    part = data.transform(some(X, rows))
    assert model_of(loaded[rows], y[rows], **asked) == model_of(part, y[rows], **asked)
    with pytest.raises(ParameterError, match="has zero_as_missing=False, but X is a BinnedDataset"):
        QGBDTRegressor().fit(data, y)
    with pytest.raises(DataError, match="splits where the bins of the dataset do not end"):
        model.predict(BinnedDataset(X))


def test_predictions(X):
    data, y = BinnedDataset(X), target(X)
    model = QGBDTRegressor(**SMALL).fit(data, y)
    part, rows = data[7::2], some(X, slice(7, None, 2))
    for answer in (
        model.predict,
        model.apply,
        lambda X: model.predict(X, pred_contrib=True),
        lambda X: model.booster_.predict(X, num_iteration=2),
        model.booster_.predict_interactions,
    ):
        np.testing.assert_array_equal(answer(part), answer(rows))
    for ours, theirs in zip(model.staged_predict(part), model.staged_predict(rows), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    later = model.refit(part, y[7::2])
    assert later.booster_ == model.refit(rows, y[7::2]).booster_


def test_evaluation_sets():
    X = hurting_data(2000)
    y = target(X)
    data = BinnedDataset(X[:1500])
    params = {"n_estimators": 40, "early_stopping_rounds": 3}
    of_rows = QGBDTRegressor(**params).fit(
        X[:1500], y[:1500], eval_set=[(X[:1500], y[:1500]), (X[1500:], y[1500:])]
    )
    held = data.transform(X[1500:])
    of_data = QGBDTRegressor(**params).fit(
        data, y[:1500], eval_set=[(data, y[:1500]), (held, y[1500:])]
    )
    assert of_data.evals_result_ == of_rows.evals_result_
    assert of_data.booster_ == of_rows.booster_


def test_rows_held_back():
    X = hurting_data(2000)
    y = target(X)
    data = BinnedDataset(X)
    params = {"n_estimators": 40, "early_stopping_rounds": 3, "random_state": 1}
    for fraction in (0.25, KFold(4)):
        model = QGBDTRegressor(validation_fraction=fraction, **params).fit(data, y)
        anew = QGBDTRegressor(validation_fraction=fraction, **params).fit(data.transform(X), y)
        assert anew.evals_result_ == model.evals_result_
    rows, held = next(KFold(4).split(X))  # the last split
    given = QGBDTRegressor(**params).fit(data[rows], y[rows], eval_set=[(data[held], y[held])])
    assert given.booster_ == model.booster_
    assert given.evals_result_ == model.evals_result_


def test_going_on(tmp_path):
    X = hurting_data(1000)
    y = target(X)
    data = BinnedDataset(X)
    whole = model_of(data, y, n_estimators=8)
    first = QGBDTRegressor(**SMALL | {"n_estimators": 5}).fit(data, y)
    rest = QGBDTRegressor(**SMALL | {"n_estimators": 3}).fit(data, y, init_model=first)
    assert (
        rest.booster_
        == QGBDTRegressor(**SMALL | {"n_estimators": 3}).fit(X, y, init_model=first).booster_
    )
    kept = QGBDTRegressor(**SMALL | {"n_estimators": 5}).fit(data, y, checkpoint_dir=tmp_path)
    kept.set_params(n_estimators=8).fit(data, y, checkpoint_dir=tmp_path, resume=True)
    assert kept.booster_.to_bytes() == whole


def test_on_a_device(monkeypatch, X):
    put_cuda_module(monkeypatch, CudaModule())
    y = target(X)
    data = BinnedDataset(X)
    assert model_of(data[::2], y[::2], device="cuda") == model_of(data[::2], y[::2])


def test_workers_share_a_dataset(X):
    y = target(X)
    data = BinnedDataset(X)
    cut = 500
    parts = [{"X": data[:cut], "y": y[:cut]}, {"X": data[cut:], "y": y[cut:]}]
    models = fit_together(two_workers(), QGBDTRegressor(**SMALL), parts)
    assert {model.booster_.to_bytes() for model in models} == {model_of(data, y)}


def test_workers_with_other_datasets_do_not_agree():
    X = hurting_data(1000)
    y = target(X)
    parts = [{"X": BinnedDataset(rows), "y": y[:500]} for rows in (X[:500], X[500:])]
    error = outcome(lambda: fit_together(two_workers(), QGBDTRegressor(**SMALL), parts))
    assert isinstance(error, DisagreementError)
    assert "digest of a BinnedDataset" in str(error)


# ------------------------------------------------------------------- scikit-learn, files, processes


def test_cross_validation_and_grid_search(X):
    data, y = BinnedDataset(X), target(X)
    model = QGBDTRegressor(**SMALL)
    found = cross_validate(model, data, y, cv=3, return_estimator=True, return_indices=True)
    for fitted, rows, held, score in zip(
        found["estimator"],
        found["indices"]["train"],
        found["indices"]["test"],
        found["test_score"],
        strict=True,
    ):
        anew = QGBDTRegressor(**SMALL).fit(data.transform(some(X, rows)), y[rows])
        assert fitted.booster_ == anew.booster_
        assert score == anew.score(some(X, held), y[held])
    search = GridSearchCV(model, {"num_leaves": [3, 15]}, cv=3).fit(data, y)
    assert search.best_params_ == {"num_leaves": 15}
    assert search.best_estimator_.booster_ == clone(search.best_estimator_).fit(X, y).booster_
    folds = cross_val_predict(model, data, y, cv=3)
    assert folds.shape == (len(data),)
    train, test = train_test_split(data, test_size=0.3, random_state=0)
    assert len(train) + len(test) == len(data)


def where_bins_are(data):
    return type(data._columns).__name__, os.getpid()


def test_processes_share_a_file(tmp_path):
    X = hurting_data(3000)
    y = target(X)
    BinnedDataset(X).save(tmp_path / "rows")
    data = BinnedDataset.load(tmp_path / "rows")
    there = Parallel(n_jobs=2)(delayed(where_bins_are)(data[i:]) for i in range(4))
    assert {name for name, _ in there} == {"memmap"}
    assert os.getpid() not in {process for _, process in there}
    model = QGBDTRegressor(**SMALL)
    together = cross_validate(model, data, y, cv=4, n_jobs=2)["test_score"]
    np.testing.assert_array_equal(together, cross_validate(model, data, y, cv=4)["test_score"])


@pytest.mark.parametrize("mmap", [True, False])
def test_files(X, mmap, tmp_path):
    data, y = BinnedDataset(X), target(X)
    for rows in (slice(None), slice(3, None, 2)):
        data[rows].save(tmp_path / "rows")
        loaded = BinnedDataset.load(tmp_path / "rows", mmap=mmap)
        assert loaded.shape == data[rows].shape
        assert loaded.feature_names == data.feature_names
        assert loaded.dtype == data.dtype
        assert model_of(loaded[5:], y[rows][5:]) == model_of(data[rows][5:], y[rows][5:])
    with np.load(tmp_path / "rows", allow_pickle=False) as arrays:  # as documented
        assert {"facts", "thresholds", "ends", "bins"} <= set(arrays.files)


def test_copies(X):
    data, y = BinnedDataset(X)[::2], target(X)[::2]
    expected = model_of(data, y)
    for same in (pickle.loads(pickle.dumps(data)), copy.copy(data), copy.deepcopy(data)):
        assert model_of(same, y) == expected


def test_a_slice_copies_no_bins():
    data = BinnedDataset(hurting_data(1000))
    assert data[::2]._columns is data._columns
    assert data.nbytes == data[::2].nbytes == 6000


def test_a_save_that_fails_leaves_the_file(tmp_path, monkeypatch):
    X = hurting_data(500)
    path = tmp_path / "rows"
    BinnedDataset(X).save(path)
    before = path.read_bytes()

    def full(file, **_):
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        BinnedDataset(X[:100]).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["rows"]


@settings(max_examples=150, deadline=None)
@given(draw=st.data())
def test_damaged_files(draw, tmp_path_factory):
    """Each is the same rows, other rows of theirs, or an error that says so: never a crash."""
    X = sparse_rows(80) if draw.draw(st.booleans()) else frame(80)
    path = tmp_path_factory.mktemp("damaged") / "rows"
    data, y = BinnedDataset(X), target(X)
    data.save(path)
    content = bytearray(path.read_bytes())
    if draw.draw(st.integers(0, 4)) == 0:
        del content[draw.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(draw.draw(st.integers(1, 3))):
            content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(DataError, ValueError):
        loaded = BinnedDataset.load(path, mmap=draw.draw(st.booleans()))
        model = QGBDTRegressor(**SMALL).fit(loaded[: len(y)], y[: len(loaded)])
        model.predict(loaded)


def stored(path, **changes):
    """Write the file again, with other arrays, and what checks it would pass still right."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files} | changes
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def test_files_that_lie(tmp_path):
    path = tmp_path / "rows"
    X = hurting_data(500)
    data, y = BinnedDataset(X), target(X)
    data.save(path)
    bins = data._columns.copy()
    bins[3, 17] = 200  # of a feature of one value
    stored(path, bins=bins)
    loaded = BinnedDataset.load(path)
    for rows in (loaded, loaded[10:30]):
        with pytest.raises(ValueError, match="the bins are damaged: one is beyond those of its"):
            QGBDTRegressor().fit(rows, y[: len(rows)])
    for changes, words in (
        ({"bins": bins[:, :-1]}, "its bins are of other rows"),
        ({"bins": bins.astype(np.int16)}, "its bins are"),
        ({"ends": np.arange(3)}, "its thresholds are of other features"),
        ({"thresholds": np.zeros(5, np.float32)}, "its thresholds are damaged"),
        ({"thresholds": data._thresholds[0][::-1].copy()}, "thresholds must be finite and ascend"),
        ({"facts": np.frombuffer(b"{}", np.uint8)}, "is no sound BinnedDataset"),
    ):
        for mmap in (True, False):
            data.save(path)
            stored(path, **changes)
            with pytest.raises(DataError, match=words):
                BinnedDataset.load(path, mmap=mmap)
    of_frame = BinnedDataset(frame(100))
    of_frame.save(path)
    thresholds, ends = of_frame._thresholds
    stored(path, thresholds=np.concatenate([[-1.0], thresholds]), ends=ends + 1)
    with pytest.raises(DataError, match="its thresholds are of other categories"):
        BinnedDataset.load(path)
    lists = BinnedDataset(sparse_rows(100))
    for name, value in (("indices", 100), ("indices", -1), ("indptr", 10_000)):
        lists.save(path)
        with np.load(path) as file:
            array = file[name].copy()
        array[len(array) // 2] = value
        stored(path, **{name: array})
        with pytest.raises(DataError, match="is no sound BinnedDataset"):
            BinnedDataset.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bins.npy", b"")
    with pytest.raises(DataError, match="is no sound BinnedDataset"):
        BinnedDataset.load(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=r"it is no \.npz file"):
        BinnedDataset.load(path)


# -------------------------------------------------------------------------------------- what cannot


def test_parameters_that_binning_has_used_up():
    X = hurting_data(300)
    y = target(X)
    with pytest.raises(
        ParameterError, match="has max_bin=255, but X is a BinnedDataset of max_bin=15"
    ):
        QGBDTRegressor().fit(BinnedDataset(X, max_bin=15), y)
    codes = np.nan_to_num(np.round(X), posinf=0, neginf=0)
    data = BinnedDataset(codes, categorical_features=[0, 1], unseen_category="error")
    with pytest.raises(ParameterError, match=r"categorical_features=\[2\]"):
        QGBDTRegressor(categorical_features=[2]).fit(data, y)
    with pytest.raises(ParameterError, match="unseen_category='missing'"):
        QGBDTRegressor(categorical_features=[0, 1]).fit(data, y)
    asked = {"categorical_features": np.array([0, 1]), "unseen_category": "error"}
    model = QGBDTRegressor(**asked).fit(data, y)
    assert model.booster_ == QGBDTRegressor(**asked).fit(codes, y).booster_
    with pytest.raises(ParameterError, match="max_bin"):
        BinnedDataset(X, max_bin=300)
    with pytest.raises(ParameterError, match="n_jobs"):
        BinnedDataset(X, n_jobs=0)


def test_a_model_of_other_bins():
    X = hurting_data(600)
    y = target(X)
    data = BinnedDataset(X[:400])
    model = QGBDTRegressor(**SMALL).fit(X[200:], y[200:])
    for ask in (
        lambda: model.predict(data),
        lambda: QGBDTRegressor().fit(data, y[:400], init_model=model),
    ):
        with pytest.raises(DataError, match="splits where the bins of the dataset do not end"):
            ask()
    for training in (X[:400], BinnedDataset(X)[:400]):
        with pytest.raises(DataError, match="evaluated on only while training on one of the same"):
            QGBDTRegressor().fit(training, y[:400], eval_set=[(data, y[:400])])
    rows = frame(300)
    others = rows.assign(town=rows["town"].replace("7", "70"))  # as many
    with pytest.raises(DataError, match="evaluated on only while training on one of the same"):
        QGBDTRegressor().fit(
            BinnedDataset(rows), target(rows), eval_set=[(BinnedDataset(others), target(others))]
        )
    of_frame = QGBDTRegressor(**SMALL).fit(rows, target(rows))
    with pytest.raises(DataError, match="splits where the bins of the dataset do not end"):
        of_frame.predict(BinnedDataset(rows[:10]))  # which has fewer towns


def test_linear_leaves_want_numbers():
    X = hurting_data(600)
    y = target(X)
    data = BinnedDataset(X)
    with pytest.raises(DataError, match="linear_tree=True needs numbers, a BinnedDataset has bins"):
        QGBDTRegressor(linear_tree=True).fit(data, y)
    model = QGBDTRegressor(linear_tree=True, **SMALL).fit(X, y)
    with pytest.raises(DataError, match="linear in numbers, of which a BinnedDataset has bins"):
        model.predict(data)


def test_features_that_do_not_fit():
    X, rows = hurting_data(300), frame(300)
    data = BinnedDataset(rows)
    model = QGBDTRegressor(**SMALL).fit(rows, target(rows))
    with pytest.raises(ValueError, match="X has 6 features, but QGBDTRegressor is expecting 3"):
        model.predict(BinnedDataset(X))
    with pytest.raises(DataError, match="X has 6 features, but Booster is expecting 3"):
        model.booster_.predict(BinnedDataset(X))
    other = rows.rename(columns={"size": "weight"})
    with pytest.raises(DataError, match="The BinnedDataset has the features"):
        model.predict(BinnedDataset(other))
    with pytest.raises(DataError, match="X has the features"):
        data.transform(other)
    assert list(model.fit(data, target(rows)).feature_names_in_) == list(rows.columns)
    assert not hasattr(model.fit(BinnedDataset(X), target(X)), "feature_names_in_")
    with pytest.raises(DataError, match="X has 2 features, but the dataset has 6"):
        BinnedDataset(X).transform(X[:, :2])


def test_words():
    X = hurting_data(100)
    data = BinnedDataset(X)
    assert repr(data[::2]) == "BinnedDataset(n_samples=50, n_features=6)"
    with pytest.raises(DataError, match="X is binned already"):
        BinnedDataset(data)
    with pytest.raises(DataError, match="indexed by its rows alone"):
        data[:, 2]
    with pytest.raises(IndexError):
        data[[100]]
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[50, 100\]"):
        QGBDTRegressor().fit(data[::2], target(X))
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        QGBDTRegressor().fit(data[:0], [])
    rows = frame(100)
    strict = BinnedDataset(rows, unseen_category="error")
    rows.loc[0, "town"] = "nowhere"
    with pytest.raises(DataError, match="which training has not seen"):
        strict.transform(rows)


def test_columns_live_as_long_as_their_matrix():
    data = BinnedDataset(hurting_data(50))
    columns, matrix = weakref.ref(data._columns), data._matrix(1)
    del data
    gc.collect()
    assert columns() is not None
    del matrix
    gc.collect()
    assert columns() is None


def test_what_the_core_refuses():
    X = hurting_data(50)
    binning = _core.Binning(X, 255, 1, [], False)
    bins = binning.columns(X, 1)
    for rows in ([50], [-1]):
        with pytest.raises(ValueError, match="a row is beyond those of the bins"):
            _core.BinnedMatrix.of_columns(bins, np.array(rows), binning, 1)
    with pytest.raises(ValueError, match="bins of other features"):
        _core.BinnedMatrix.of_columns(bins[:3].copy(), None, binning, 1)
    with pytest.raises(TypeError):  # a copy would not live as long as the matrix
        _core.BinnedMatrix.of_columns(np.asfortranarray(bins), None, binning, 1)
    with pytest.raises(ValueError, match="X has other features"):
        binning.columns(X[:, :2], 1)
    for thresholds in ([[1.0, 1.0]], [[np.nan]], [[np.inf]], [list(range(255))]):
        with pytest.raises(ValueError, match=r"thresholds must|at most 255 bins"):
            _core.Binning(thresholds, [0], False)
    with pytest.raises(ValueError, match="one kind a feature"):
        _core.Binning([[0.0]], [0, 0], False)


def test_memory_is_foretold():
    X = hurting_data(30_000)
    y = target(X)
    assert QGBDTRegressor().estimate_memory(BinnedDataset(X), y) == (
        QGBDTRegressor().estimate_memory(X, y)
    )


def test_a_booster_alone():
    """A model that was loaded predicts a dataset, too."""
    X = hurting_data(400)
    data = BinnedDataset(X)
    booster = Booster.from_bytes(model_of(data, target(X)))
    np.testing.assert_array_equal(booster.predict(data), booster.predict(X))
