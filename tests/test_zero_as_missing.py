"""zero_as_missing=True: zeros, and what a sparse matrix does not list, are missing.

Swept: objectives, float32 and float64, memory orders, dense and sparse X, zeros of all kinds (of
either sign, denormal, the largest, listed ones), categories of the value 0; every question to a
booster and to estimators, arrays on a GPU; evaluation sets, rows held back, fits that go on, refit,
files, workers, a GPU's machine, Dask and the command. Against: zero_as_missing=False on X with NaN
in place of zeros. Tolerance: none.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from conftest import CudaModule, hurting_data, put_cuda_module, targets
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda_arrays import OnHost, layouts
from test_sparse_input import sparse_matrix
from workers import fit_together, in_threads, outcome, shards_in_order

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.command import main
from qgbdt.distributed import connect_threads
from qgbdt.errors import CheckpointError, DataError, DisagreementError
from qgbdt.matrices import native_matrix

LARGEST = np.float32(1e-35)
ZEROS = np.array([0.0, 0.0, 0.0, -0.0, LARGEST, -LARGEST, 1e-36, -5e-324])
NO_ZEROS = [np.nextafter(dtype(LARGEST), dtype(1)) for dtype in (np.float32, np.float64)]
KINDS = {"binary": QGBDTClassifier, "multiclass": QGBDTClassifier, "lambdarank": QGBDTRanker}


def data_with_zeros(n=500, n_features=6, seed=0, dtype=np.float64):
    """Zeros of all kinds beside missing and infinite values, and numbers that are almost zeros."""
    rng = np.random.default_rng(seed)
    X = hurting_data(n, n_features, seed)
    X[:, 3 % n_features] = rng.normal(size=n)
    X = np.where(rng.random(X.shape) < 0.3, rng.choice(ZEROS, X.shape), X)
    X = np.where(rng.random(X.shape) < 0.1, rng.choice(NO_ZEROS, X.shape), X)
    return X.astype(dtype)


def nan_for_zeros(X):
    return np.where(np.abs(X) <= LARGEST, np.nan, X).astype(X.dtype)


def as_array(X):
    return X.toarray() if sp.issparse(X) else X


def but_for_the_flag(booster):
    """The lines of the model file but for what says that zero is missing, and the checksum."""
    lines = booster.model_to_string().splitlines()
    return [line for line in lines[1:-1] if line != "zero missing"]


def fitted(X, y, zero_as_missing=True, *, kind=QGBDTRegressor, params=None, **data):
    few = {"n_estimators": 4, "num_leaves": 12, "min_child_samples": 5, "n_jobs": 2}
    return kind(**few | (params or {}), zero_as_missing=zero_as_missing).fit(X, y, **data)


def signal_of(X):
    """A target for which it matters what is missing, and what is not."""
    y = np.nan_to_num(nan_for_zeros(X), nan=1.5, posinf=2, neginf=-2)
    return y @ np.linspace(1, 2, X.shape[1])


@pytest.fixture(scope="module")
def pair():
    """Rows with zeros, the model that takes them for missing, and the plain one."""
    X = data_with_zeros()
    y = signal_of(X)
    return X, fitted(X, y), fitted(nan_for_zeros(X), y, zero_as_missing=False)


# --- Training


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("objective", ["regression", "l1", "binary", "multiclass", "lambdarank"])
def test_zeros_are_as_nan(objective, dtype):
    X = data_with_zeros(dtype=dtype)
    y, sizes = targets(nan_for_zeros(X).astype(float), objective)
    kind = KINDS.get(objective, QGBDTRegressor)
    rows = {"params": {"objective": objective}, "kind": kind}
    rows |= {} if sizes is None else {"group": sizes}
    expected = fitted(nan_for_zeros(X), y, zero_as_missing=False, **rows).booster_
    assert expected.num_trees() > 0
    for some in [*layouts(X), sp.csr_array(X), sp.csc_array(X)]:
        before = some.copy()
        booster = fitted(some, y, **rows).booster_
        assert but_for_the_flag(booster) == but_for_the_flag(expected)
        assert booster != expected
        np.testing.assert_array_equal(*(as_array(x) for x in (some, before)))
    plain = fitted(X, y, zero_as_missing=False, **rows).booster_
    assert but_for_the_flag(plain) != but_for_the_flag(expected)


def test_integers_and_frames(pair):
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, (400, 3))
    y = signal_of(X.astype(float))
    expected = fitted(nan_for_zeros(X.astype(float)), y, zero_as_missing=False)
    model = fitted(X, y)
    assert but_for_the_flag(model.booster_) == but_for_the_flag(expected.booster_)
    frame = pd.DataFrame(X, columns=["Column_0", "Column_1", "Column_2"])
    assert fitted(frame, y).booster_ == model.booster_
    for some in (X, X.tolist(), frame, sp.csr_array(X)):
        predicted = model.booster_.predict(some)
        np.testing.assert_array_equal(predicted, expected.predict(nan_for_zeros(X.astype(float))))


def test_categories_of_the_value_zero_are_none_of_it():
    """Neither the value 0 nor the code 0 of a categorical feature is missing."""
    X = data_with_zeros(n_features=4)
    rng = np.random.default_rng(1)
    X[:, 1] = rng.integers(0, 4, len(X))
    X[:, 2] = np.where(rng.random(len(X)) < 0.1, np.nan, rng.integers(-1, 2, len(X)))
    y = signal_of(X[:, [0, 3]]) + 3 * (X[:, 1] == 0) - 5 * (X[:, 2] == 0)
    params = {"categorical_features": [1, 2], "min_data_per_group": 1, "cat_smooth": 1}
    filled = X.copy()
    filled[:, [0, 3]] = nan_for_zeros(X[:, [0, 3]])
    expected = fitted(filled, y, zero_as_missing=False, params=params)
    model = fitted(X, y, params=params)
    assert but_for_the_flag(model.booster_) == but_for_the_flag(expected.booster_)
    splits = np.concatenate(model.booster_.trees())
    assert set(splits["feature"][splits["is_categorical"]]) == {1, 2}
    frame = model.booster_.trees_to_dataframe().dropna(subset=["missing_type"])
    assert ((frame["decision_type"] == "==") == (frame["missing_type"] == "NaN")).all()
    assert set(frame["missing_type"]) == {"NaN", "Zero"}
    np.testing.assert_array_equal(model.predict(X), expected.predict(filled))
    np.testing.assert_array_equal(model.apply(X), expected.apply(filled))
    for question in (Booster.predict_contrib, Booster.predict_interactions):
        np.testing.assert_array_equal(
            question(model.booster_, X), question(expected.booster_, filled)
        )


def test_the_whole_of_a_column_is_missing():
    X = np.zeros((60, 2))
    X[:, 1] = np.arange(60)
    y = X[:, 1].copy()
    for some in (X, sp.csr_array(X)):
        model = fitted(some, y)
        assert not model.feature_importances_[0]
        assert model.feature_importances_[1]


# --- Sparse X


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sparse_is_dense(form, dtype):
    """Listed features, sparse tiles and dense ones, whose default is missing; listed zeros."""
    X, signal = sparse_matrix(dtype=dtype)
    X.data[::17], X.data[1::17], X.data[2::17] = 1e-36, -0.0, LARGEST
    dense = X.toarray()
    y = signal + 3 * (dense[:, 40:60] != 0).sum(axis=1)
    params = {"num_leaves": 31, "min_child_samples": 3}
    expected = fitted(nan_for_zeros(dense), y, zero_as_missing=False, params=params)
    model = fitted(X.asformat(form), y, params=params)
    assert fitted(dense, y, params=params).booster_ == model.booster_
    assert but_for_the_flag(model.booster_) == but_for_the_flag(expected.booster_)
    used = set(np.flatnonzero(model.feature_importances_) // 32)
    assert used > {1, 2}
    assert used & {0, 3}  # trees split by features of each density
    for rows in (X.asformat(form), X.tocsr()[:1]):
        np.testing.assert_array_equal(
            model.predict(rows), expected.predict(nan_for_zeros(rows.toarray()))
        )


@given(
    st.integers(1, 400),
    st.floats(0, 1),
    st.sampled_from([0, 0.1, 0.6]),
    st.sampled_from([3, 30, 10**6]),
    st.integers(2, 255),
    st.integers(0, 99),
)
@settings(max_examples=200, deadline=None)
def test_bins_of_any_column(n, density, listed_zeros, n_values, max_bin, seed):
    rng = np.random.default_rng(seed)
    X = np.where(rng.random((n, 2)) < density, rng.integers(-n_values, n_values, (n, 2)), 0.0)
    sparse = sp.csc_array(X)
    sparse.data[rng.random(sparse.nnz) < listed_zeros] = 0
    dense = sparse.toarray()
    expected = _core.BinnedMatrix(nan_for_zeros(dense), max_bin, 1)
    for some in (native_matrix(sparse), dense):
        bins = _core.BinnedMatrix(some, max_bin, 1, zero_is_missing=True)
        np.testing.assert_array_equal(bins.bins(), expected.bins())
        np.testing.assert_array_equal(bins.has_missing(), expected.has_missing())
        for feature in range(2):
            np.testing.assert_array_equal(
                bins.bin_thresholds(feature), expected.bin_thresholds(feature)
            )


def test_thresholds_from_a_sample():
    """With more than 200,000 rows some of them decide; what is not listed does not."""
    X = sp.random_array((230_000, 2), density=0.02, rng=np.random.default_rng(0), format="csc")
    bins = _core.BinnedMatrix(native_matrix(X), 255, 2, zero_is_missing=True)
    expected = _core.BinnedMatrix(nan_for_zeros(X.toarray()), 255, 2)
    for feature in range(2):
        np.testing.assert_array_equal(
            bins.bin_thresholds(feature), expected.bin_thresholds(feature)
        )
    np.testing.assert_array_equal(bins.bins(), expected.bins())


# --- What a model says


def questions():
    for n_jobs in (1, 3):
        yield lambda b, X, n=n_jobs: b.predict(X, n_jobs=n)
        yield lambda b, X, n=n_jobs: b.predict(X, raw_score=True, num_iteration=2, n_jobs=n)
        yield lambda b, X, n=n_jobs: b.apply(X, n_jobs=n)
        yield lambda b, X, n=n_jobs: b.predict_contrib(X[:30], n_jobs=n)
        yield lambda b, X, n=n_jobs: b.predict_interactions(X[:30], n_jobs=n)
        yield lambda b, X, n=n_jobs: np.stack(list(b.staged_predict(X, n_jobs=n)))


@pytest.mark.parametrize("question", list(questions()))
def test_every_question(pair, question):
    X, model, plain = pair
    booster = model.booster_
    expected = question(plain.booster_, nan_for_zeros(X))
    for some in [*layouts(X), sp.csr_array(X), sp.csc_array(X)]:
        some = some.tocsr() if sp.issparse(some) else some
        for asked in (booster, pickle.loads(pickle.dumps(booster))):
            np.testing.assert_array_equal(question(asked, some), expected)
    assert (question(plain.booster_, X) != expected).any()


def test_batches(pair):
    """Walked or by slices."""
    X, model, plain = pair
    for n in (0, 1, 2, 11, 12, 255, 256, 257):
        np.testing.assert_array_equal(
            model.booster_.predict(X[:n]), plain.booster_.predict(nan_for_zeros(X[:n]))
        )


def test_questions_to_an_estimator(pair):
    X, model, plain = pair
    filled = nan_for_zeros(X)
    for some in (X, sp.csr_array(X), pd.DataFrame(X).to_numpy()):
        np.testing.assert_array_equal(model.predict(some), plain.predict(filled))
        np.testing.assert_array_equal(model.apply(some), plain.apply(filled))
        np.testing.assert_array_equal(
            model.predict(some, pred_contrib=True), plain.predict(filled, pred_contrib=True)
        )


def test_arrays_on_a_gpu(pair, monkeypatch):
    """They are copied to the host, where zeros become missing."""
    X, model, plain = pair
    gpu = OnHost()
    put_cuda_module(monkeypatch, gpu)
    expected = plain.predict(nan_for_zeros(X))
    for asked in (model, model.booster_):
        np.testing.assert_array_equal(asked.predict(gpu.lay(X)), expected)
        assert gpu.launches() == {"GatherElements": 1}
    np.testing.assert_array_equal(model.apply(gpu.lay(X)), plain.apply(nan_for_zeros(X)))
    device = _core.on_host.device()
    told = gpu.lay(X).__cuda_array_interface__
    matrix = _core.DeviceMatrix(device, told["data"][0], X.dtype, X.shape, X.strides)
    with pytest.raises(ValueError, match="zeros become missing on the host"):
        model.booster_._model.predict(matrix, 0, 1, True, 1)


def test_trained_on_a_gpu(pair, monkeypatch):
    X, model, _ = pair
    put_cuda_module(monkeypatch, CudaModule())
    params = {"device": "cuda"}
    assert fitted(X, signal_of(X), params=params).booster_ == model.booster_
    assert fitted(sp.csr_array(X), signal_of(X), params=params).booster_ == model.booster_


def test_other_formats(pair):
    booster = pair[1].booster_
    with pytest.raises(DataError, match="shap does not know missing zeros: use predict_contrib"):
        booster.to_shap_dict()
    assert set(booster.trees_to_dataframe()["missing_type"].dropna()) == {"Zero"}
    assert set(pair[2].booster_.trees_to_dataframe()["missing_type"].dropna()) == {"NaN"}


# --- Beside training


def test_evaluation_sets_and_early_stopping():
    X = data_with_zeros(800)
    y = (signal_of(X) > np.median(signal_of(X))).astype(int)
    fits = []
    for as_read in (np.asarray, nan_for_zeros, sp.csr_array):
        a, b = as_read(X[:500]), as_read(X[500:])
        params = {"early_stopping_rounds": 3, "n_estimators": 40, "learning_rate": 0.5}
        evaluated = {"eval_set": [(b, y[500:]), (a, y[:500])], "eval_metric": ["auc"]}
        is_missing = as_read is not nan_for_zeros
        fits.append(
            fitted(a, y[:500], is_missing, kind=QGBDTClassifier, params=params, **evaluated)
        )
    first, *others = fits
    for other in others:
        assert other.evals_result_ == first.evals_result_
        assert other.best_iteration_ == first.best_iteration_ < 40
        assert but_for_the_flag(other.booster_) == but_for_the_flag(first.booster_)


def test_dart_scores_its_sets_again():
    X = data_with_zeros()
    params = {"boosting_type": "dart", "skip_drop": 0.0, "drop_rate": 0.9}
    fits = [
        fitted(some, signal_of(X), zero, params=params, eval_set=[(some, signal_of(X))])
        for some, zero in ((X, True), (sp.csc_array(X), True), (nan_for_zeros(X), False))
    ]
    assert all(some.evals_result_ == fits[2].evals_result_ for some in fits)


def test_rows_held_back():
    X = data_with_zeros()
    params = {"validation_fraction": 0.3, "early_stopping_rounds": 2}
    expected = fitted(nan_for_zeros(X), signal_of(X), zero_as_missing=False, params=params)
    for some in (X, sp.csr_array(X)):
        model = fitted(some, signal_of(X), params=params)
        assert model.evals_result_ == expected.evals_result_
        assert but_for_the_flag(model.booster_) == but_for_the_flag(expected.booster_)


@pytest.mark.parametrize("as_read", [np.asarray, sp.csr_array])
def test_fits_that_go_on(as_read, tmp_path):
    X = data_with_zeros()
    rows, y = as_read(X), signal_of(X)
    whole = fitted(rows, y, params={"n_estimators": 6}).booster_
    half = fitted(rows, y, params={"n_estimators": 3}, checkpoint_dir=tmp_path)
    assert fitted(rows, y, params={"n_estimators": 3}, init_model=half).booster_ == whole
    resumed = {"checkpoint_dir": tmp_path, "resume": True}
    with pytest.raises(CheckpointError, match="zero_as_missing is True there and False here"):
        fitted(rows, y, False, params={"n_estimators": 6}, **resumed)
    assert fitted(rows, y, params={"n_estimators": 6}, **resumed).booster_ == whole
    warm = half.set_params(warm_start=True, n_estimators=6)
    assert warm.fit(rows, y).booster_ == whole


def test_another_meaning_of_zero_cannot_go_on(pair):
    X, model, plain = pair
    with pytest.raises(DataError, match="its zero_as_missing is True, but False here"):
        fitted(X, signal_of(X), False, init_model=model)
    with pytest.raises(
        DataError, match="init_model cannot be continued: its zero_as_missing is False, but True"
    ):
        fitted(X, signal_of(X), init_model=plain.booster_)
    with pytest.raises(ValueError, match="the models are of different kinds"):
        _core.Model.joined([model.booster_._model, plain.booster_._model])


def test_refit(pair):
    X, model, plain = pair
    y = np.roll(signal_of(X), 1)
    expected = plain.refit(nan_for_zeros(X), y, decay_rate=0.2)
    for some in (X, sp.csr_array(X)):
        refitted = model.refit(some, y, decay_rate=0.2)
        assert but_for_the_flag(refitted.booster_) == but_for_the_flag(expected.booster_)
        np.testing.assert_array_equal(refitted.predict(X), expected.predict(nan_for_zeros(X)))


def test_memory_is_estimated_of_what_is_trained():
    X, _ = sparse_matrix(groups=(0.004, 0.2))
    X = X.toarray()
    expected = QGBDTRegressor().estimate_memory(nan_for_zeros(X))
    assert QGBDTRegressor(zero_as_missing=True).estimate_memory(X) == expected
    assert QGBDTRegressor().estimate_memory(X) != expected


# --- Workers, Dask, the command


@pytest.mark.parametrize("as_read", [np.asarray, sp.csr_array])
def test_workers(as_read):
    X = data_with_zeros()
    y = signal_of(X)
    expected = fitted(X, y).booster_
    parts = [
        {"X": as_read(X[shard.rows]), "y": y[shard.rows]}
        for shard in shards_in_order(len(X), [200, 200])  # the second one has no rows
    ]
    few = {"n_estimators": 4, "num_leaves": 12, "min_child_samples": 5}
    estimator = QGBDTRegressor(**few, n_jobs=1, zero_as_missing=True)
    for one in fit_together(connect_threads(3), estimator, parts):
        assert one.booster_ == expected


def test_workers_disagree():
    X = data_with_zeros(90)

    def work(worker):
        model = QGBDTRegressor(zero_as_missing=worker.rank > 0, n_jobs=1)
        return outcome(lambda: model.fit(X, signal_of(X), communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, DisagreementError)
        assert "zero_as_missing" in str(error)


def test_the_command(tmp_path):
    X = data_with_zeros(200)
    names = [f"Column_{i}" for i in range(X.shape[1])]
    table = pd.DataFrame(nan_for_zeros(X), columns=names).fillna(0.0)  # csv has no tiny zeros
    table["y"] = signal_of(X)
    table.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "params.toml").write_text("n_estimators = 3\nzero_as_missing = true\n")
    given = ["--data", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "model")]
    how = ["--target", "y", "--task", "regression", "--params", str(tmp_path / "params.toml")]
    assert main(["train", *given, *how]) == 0
    table = pd.read_csv(tmp_path / "rows.csv")
    model = QGBDTRegressor(n_estimators=3, zero_as_missing=True).fit(table[names], table["y"])
    assert Booster.load_model(tmp_path / "model") == model.booster_
    given[-1] = str(tmp_path / "predicted.npy")
    assert main(["predict", "--model", str(tmp_path / "model"), *given]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "predicted.npy"), model.predict(table[names]))
