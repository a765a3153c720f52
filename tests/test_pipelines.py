"""The estimators inside other tools: scikit-learn, pandas, joblib, threads, processes, signals.

Exact: whatever surrounds a fit, the model bytes are those of a plain one. Everything that waits has
a time limit.
"""

import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.errors import QGBDTError

FEW = {"n_estimators": 5, "num_leaves": 8}

rng = np.random.default_rng(0)
N = 500
X = rng.normal(size=(N, 5))
X[::7, 1] = np.nan
SIGNAL = X[:, 0] + X[:, 2] ** 2
LABELS = np.digitize(SIGNAL, [0, 1])


def fitted_estimators():
    return [
        QGBDTRegressor(**FEW).fit(X, SIGNAL),
        QGBDTClassifier(**FEW, class_weight="balanced").fit(X, LABELS > 0),
        QGBDTClassifier(**FEW).fit(X, np.array(["a", "b", "c"])[LABELS]),
        QGBDTRanker(**FEW, label_gain=[0, 1, 5]).fit(X, LABELS, group=[200, 300]),
    ]


FITTED = fitted_estimators()
every_estimator = pytest.mark.parametrize("estimator", FITTED, ids=lambda e: e.objective_)


def assert_same_fit(one, other):
    assert one.booster_ == other.booster_
    assert one.get_params() == other.get_params()
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


# --- scikit-learn


def test_pipeline():
    pipeline = make_pipeline(StandardScaler(), QGBDTClassifier(**FEW))
    assert pipeline.fit(X, LABELS).score(X, LABELS) > 0.8
    pipeline.set_params(qgbdtclassifier__num_leaves=4)
    with pytest.raises(QGBDTError, match="Did you mean 'num_leaves'"):
        pipeline.set_params(qgbdtclassifier__num_leafs=4)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(n_jobs):
    search = GridSearchCV(
        QGBDTClassifier(**FEW), {"num_leaves": [2, 8], "grad_bits": [3, 16]}, cv=2, n_jobs=n_jobs
    ).fit(X, LABELS)
    assert search.best_params_["num_leaves"] == 8
    best = QGBDTClassifier(**FEW | search.best_params_).fit(X, LABELS)
    assert search.best_estimator_.booster_ == best.booster_


def test_cross_validation():
    scores = [cross_val_score(QGBDTRegressor(), X, SIGNAL, cv=3, n_jobs=n) for n in (1, 2)]
    np.testing.assert_array_equal(*scores)
    assert scores[0].min() > 0.8


def test_calibration():
    calibrated = CalibratedClassifierCV(QGBDTClassifier(**FEW), cv=3).fit(X, LABELS)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_transformed_target_and_permutation_importance():
    wrapped = TransformedTargetRegressor(
        QGBDTRegressor(), func=np.cbrt, inverse_func=lambda v: v**3
    )
    wrapped.fit(X, SIGNAL)
    importances = permutation_importance(wrapped, X, SIGNAL, n_repeats=2).importances_mean
    assert set(np.argsort(importances)[-2:]) == {0, 2}


def test_column_transformer():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    columns = ColumnTransformer([("scaled", StandardScaler(), ["a", "c"])], remainder="passthrough")
    model = make_pipeline(columns.set_output(transform="pandas"), QGBDTRegressor(**FEW))
    model.fit(frame, SIGNAL)
    names = ["scaled__a", "scaled__c", "remainder__b", "remainder__d", "remainder__e"]
    assert model[-1].feature_names_in_.tolist() == names
    plain = QGBDTRegressor(**FEW).fit(X, SIGNAL)
    np.testing.assert_allclose(model.predict(frame), plain.predict(X), rtol=0.5)


def test_cross_val_predict_and_one_model_a_target():
    assert cross_val_predict(QGBDTClassifier(**FEW), X, LABELS, cv=3).shape == (N,)
    y = np.column_stack([LABELS, LABELS > 0])
    each = MultiOutputClassifier(QGBDTClassifier(**FEW)).fit(X, y)
    first = QGBDTClassifier(**FEW).fit(X, LABELS)
    np.testing.assert_array_equal(each.predict(X)[:, 0], first.predict(X))


def test_partial_dependence():
    pytest.importorskip("matplotlib").use("agg")
    model = QGBDTRegressor(**FEW | {"n_estimators": 50}).fit(X, SIGNAL)
    shown = PartialDependenceDisplay.from_estimator(model, X, [0, (0, 2)], grid_resolution=8)
    line = shown.pd_results[0]["average"][0]
    assert line[-1] - line[0] > 1.5  # it rises with feature 0


def test_metadata_routing():
    weight = np.linspace(0.1, 2, N)
    with config_context(enable_metadata_routing=True):
        model = QGBDTRegressor(**FEW).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        search = GridSearchCV(pipeline, {"qgbdtregressor__num_leaves": [8]}, cv=2)
        search.fit(X, SIGNAL, sample_weight=weight)
    inside = search.best_estimator_[-1]
    scaled = search.best_estimator_[0].transform(X)
    assert inside.booster_ == QGBDTRegressor(**FEW).fit(scaled, SIGNAL, weight).booster_
    assert inside.booster_ != QGBDTRegressor(**FEW).fit(scaled, SIGNAL).booster_


# --- Copies


@every_estimator
def test_skops(estimator):
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(estimator)
    unknown = skops.get_untrusted_types(data=data)
    assert all(name.startswith("qgbdt.estimators.QGBDT") for name in unknown)
    assert_same_fit(skops.loads(data, trusted=unknown), estimator)


@every_estimator
def test_clone(estimator):
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert not hasattr(copied, "booster_")


@every_estimator
@pytest.mark.parametrize(
    "duplicate", [copy, deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=str
)
def test_copies(estimator, duplicate):
    copied = duplicate(estimator)
    assert_same_fit(copied, estimator)
    assert set(vars(copied)) == set(vars(estimator))


@every_estimator
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_joblib_dump(estimator, mmap_mode, tmp_path):
    joblib.dump(estimator, tmp_path / "estimator")
    assert_same_fit(joblib.load(tmp_path / "estimator", mmap_mode=mmap_mode), estimator)


@every_estimator
def test_state_is_arrays_and_primitives(estimator):
    def is_plain(value):
        if isinstance(value, dict):
            return all(is_plain(key) and is_plain(item) for key, item in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(is_plain, value))
        return value is None or type(value) in (int, float, bool, str, bytes, np.ndarray)

    assert is_plain(estimator.__getstate__())


# --- Data


@every_estimator
def test_data_frames(estimator):
    pandas = pytest.importorskip("pandas")
    kwargs = {"group": [200, 300]} if isinstance(estimator, QGBDTRanker) else {}
    y = SIGNAL if isinstance(estimator, QGBDTRegressor) else LABELS
    weight = np.random.default_rng(1).uniform(1, 2, N)
    index = np.random.default_rng(2).permutation(N)
    frame = pandas.DataFrame(X, columns=list("abcde"), index=index)
    from_frame = clone(estimator).fit(
        frame,
        pandas.Series(y, index=index),
        sample_weight=pandas.Series(weight, index=index),
        **{name: pandas.Series(value) for name, value in kwargs.items()},
    )
    from_arrays = clone(estimator).fit(X, y, sample_weight=weight, **kwargs)
    np.testing.assert_array_equal(from_frame.predict(frame), from_arrays.predict(X))


def test_nullable_columns():
    pandas = pytest.importorskip("pandas")
    values = [None if i % 5 == 0 else i for i in range(N)]
    frame = pandas.DataFrame(
        {
            "nullable": pandas.array(values, dtype="Int64"),
            "boolean": pandas.array([v is None or v % 2 == 0 for v in values]),
            "float32": X[:, 0].astype(np.float32),
        }
    )
    plain = np.column_stack([np.array(values, float), frame["boolean"], frame["float32"]])
    y = np.arange(N) % 5 == 0
    from_frame = QGBDTRegressor().fit(frame, y)
    np.testing.assert_array_equal(
        from_frame.predict(frame), QGBDTRegressor().fit(plain, y).predict(plain.astype(float))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_maps(dtype, order, tmp_path):
    data = X.astype(dtype)
    stored = np.memmap(tmp_path / "X", dtype, "w+", shape=X.shape, order=order)
    stored[:] = data
    stored.flush()
    mapped = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape, order=order)
    y, weight = SIGNAL.copy(), np.abs(SIGNAL)
    y.flags.writeable = weight.flags.writeable = False
    fitted = QGBDTRegressor(**FEW).fit(mapped, y, weight)
    assert fitted.booster_ == QGBDTRegressor(**FEW).fit(data, y, weight).booster_
    np.testing.assert_array_equal(fitted.predict(mapped), fitted.predict(data))
    assert not hasattr(mapped, "flags") or not mapped.flags.writeable


def test_inputs_are_left_alone():
    y, weight = SIGNAL.copy(), np.linspace(0, 1, N)
    before = [values.copy() for values in (X, y, weight)]
    QGBDTRegressor(**FEW).fit(X, y, weight).predict(X)
    for now, then in zip((X, y, weight), before):
        np.testing.assert_array_equal(now, then)


# --- A refit that fails


@every_estimator
@pytest.mark.parametrize("where", ["data", "parameter", "native error", "interrupt"])
def test_failed_refit_keeps_the_old_model(estimator, where, monkeypatch):
    pandas = pytest.importorskip("pandas")
    estimator = deepcopy(estimator)
    before = dict(vars(estimator))
    kwargs = {"group": [N]} if isinstance(estimator, QGBDTRanker) else {}
    data, y, error = X[:, :3], np.arange(N) % 2, ValueError
    if where == "data":
        y = np.where(np.arange(N) == 7, np.nan, y)
    elif where == "parameter":
        before["num_leaves"] = 1
        estimator.set_params(num_leaves=1)
    else:
        error = KeyboardInterrupt if where == "interrupt" else MemoryError

        def fail(*_):
            raise error

        monkeypatch.setattr(_core, "train", fail)
    with pytest.raises(error):
        estimator.fit(pandas.DataFrame(data, columns=list("xyz")), y, **kwargs)
    assert vars(estimator) == before
    estimator.predict(X)


# --- Threads, processes, signals


@pytest.mark.timeout(120)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fits_in_python_threads(n_jobs):
    def fit(seed):
        return QGBDTRegressor(grad_bits=2, random_state=seed, n_jobs=n_jobs).fit(X, SIGNAL)

    serial = [fit(seed).booster_ for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert [fitted.booster_ for fitted in pool.map(fit, range(6))] == serial
    assert len(set(serial)) == 6


@pytest.mark.timeout(120)
def test_predict_and_pickle_while_refitting():
    regressor = QGBDTRegressor(n_estimators=20).fit(X, SIGNAL)
    expected = regressor.predict(X)
    stop = threading.Event()

    def refit():
        while not stop.is_set():
            regressor.fit(X, SIGNAL)

    thread = threading.Thread(target=refit)
    thread.start()
    try:
        for _ in range(50):
            np.testing.assert_array_equal(regressor.predict(X), expected)
            assert pickle.loads(pickle.dumps(regressor)).booster_ == regressor.booster_
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def fit_in_child(queue, n_jobs):
    queue.put(QGBDTRegressor(n_jobs=n_jobs).fit(X, SIGNAL).booster_.to_bytes())


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs fork")
@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_fork_after_a_fit(n_jobs):
    big = np.tile(X, (100, 1))  # large enough for a team of threads
    QGBDTRegressor(n_estimators=2, n_jobs=2).fit(big, np.tile(SIGNAL, 100))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=fit_in_child, args=(queue, n_jobs))
    child.start()
    try:
        assert queue.get(timeout=60) == QGBDTRegressor().fit(X, SIGNAL).booster_.to_bytes()
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


LONG_FIT = """
import signal
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
from qgbdt import {name}
X = np.random.default_rng(0).normal(size=({rows}, 10))
y = (X[:, 0] > 0).astype(float)
estimator = {name}(n_estimators=3, n_jobs={n_jobs}).fit(X, y)
before = estimator.booster_
estimator.set_params(n_estimators=1_000_000)
print("training", flush=True)
try:
    estimator.fit(X, y)
except KeyboardInterrupt:
    assert estimator.booster_ is before
    print("interrupted", flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "rows", "n_jobs"),
    [("QGBDTRegressor", 1000, 1), ("QGBDTRegressor", 50000, 2), ("QGBDTClassifier", 50000, 1)],
)
def test_ctrl_c(name, rows, n_jobs):
    code = LONG_FIT.format(name=name, rows=rows, n_jobs=n_jobs)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"training\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert output == b"interrupted\n"
    assert process.returncode == 0
