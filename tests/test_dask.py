"""The estimators on a Dask cluster: the model of a local fit, wherever partitions lie.

Swept: the three estimators, Arrays and DataFrames, where partitions lie (spread, on one worker,
empty ones, fewer than workers), fits side by side, killed workers, cancelled fits, wrong data.
Against: the local estimator on the rows in the order of partitions. Tolerance: none. One cluster of
three processes with a thread each serves all tests; those that hurt workers have one each.
"""

import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from conftest import hurting_data, targets
from sklearn.base import clone

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'qgbdt[dask]'")

import dask.array as da
import dask.dataframe as dd
from distributed import Client, Event, Future, LocalCluster, wait

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.checkpoint import FILE_NAME
from qgbdt.dask import DaskQGBDTClassifier, DaskQGBDTRanker, DaskQGBDTRegressor
from qgbdt.distributed import connect, on_dask
from qgbdt.errors import CheckpointError, DataError, ParameterError

pytestmark = pytest.mark.timeout(120)

N_WORKERS = 3
N = 600
X = hurting_data(N)
WEIGHT = np.linspace(0.5, 2, N)
REAL, _ = targets(X, "regression")
CLASSES = np.array(["few", "more", "most"])[targets(X, "multiclass")[0].astype(int)]
RELEVANCE, SIZES = targets(X, "lambdarank")
QID = np.repeat(np.arange(len(SIZES)), SIZES)
ENDS = [0, 100, 150, 150, 400, 401, N]  # an empty partition among them
QUERY_ENDS = [0, *np.cumsum(SIZES)[[2, 3, 3, 9, 10]].tolist(), N]
ENDLESS = 10**6  # trees, of a fit that is not waited for


@contextmanager
def cluster_of_workers():
    """A client of three processes with a thread each."""
    with (
        LocalCluster(
            n_workers=N_WORKERS,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    with cluster_of_workers() as client:
        yield client


@pytest.fixture
def hurt_client():
    """A client whose workers may be killed: the nannies bring most of them back, at some time."""
    with cluster_of_workers() as client:
        yield client


def eventually(holds, seconds=30):
    """Wait until it holds; an error if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def workers_of(client):
    return sorted(client.nthreads())


def lay_out(client, values, ends, where):
    """A Dask Array whose partition i lies with worker where[i], as long as that lives."""
    addresses = workers_of(client)
    name = f"part-{os.urandom(8).hex()}"
    graph = {}
    for i, (begin, end, worker) in enumerate(zip(ends, ends[1:], where)):
        key = (name, i) + (0,) * (values.ndim - 1)
        graph[key] = client.submit(
            np.array,
            values[begin:end],
            key=key,
            workers=[addresses[worker]],
            allow_other_workers=True,
        )
    wait(list(graph.values()))
    return da.Array(
        graph, name, (tuple(np.diff(ends)), *((n,) for n in values.shape[1:])), values.dtype
    )


def fit_tasks(client):
    """The fits' tasks that some worker runs, cancelled ones included."""

    def keys(dask_worker):
        tasks = dask_worker.state.tasks.values()
        mine = [task for task in tasks if str(task.key).startswith("qgbdt-")]
        return [t.key for t in mine if t.state in ("executing", "long-running", "cancelled")]

    return sorted(key for some in client.run(keys).values() for key in some)


@contextmanager
def busy(client, address):
    """Meanwhile that worker's only thread, if one is named, has something else to do."""
    gate = Event(f"gate-{os.urandom(8).hex()}", client=client)
    task = address and client.submit(gate.wait, workers=[address], pure=False)
    try:
        yield
    finally:
        gate.set()
        del task


def n_training(client):
    """How many workers have met the others, and train."""

    def names():
        return [thread.name for thread in threading.enumerate()]

    return sum(names.count("qgbdt-watch") for names in client.run(names).values())


# ------------------------------------------------------------------------------------- one model

CONFORMING = {
    "classifier": (
        DaskQGBDTClassifier(n_estimators=5, class_weight="balanced"),
        {"y": CLASSES, "sample_weight": WEIGHT},
        ENDS,
    ),
    "regressor": (DaskQGBDTRegressor(n_estimators=5), {"y": REAL}, ENDS),
    "ranker": (DaskQGBDTRanker(n_estimators=5), {"y": RELEVANCE, "qid": QID}, QUERY_ENDS),
}
METHODS = {"classifier": ["predict", "predict_proba", "decision_function"]}


@pytest.mark.parametrize("kind", CONFORMING)
def test_the_model_is_that_of_a_local_fit(kind, client):
    estimator, columns, ends = CONFORMING[kind]
    local = estimator.to_local().fit(X, **columns)
    where = [2, 0, 1, 0, 2, 1]
    dask_X = lay_out(client, X, ends, where)
    dask_columns = {name: lay_out(client, some, ends, where) for name, some in columns.items()}
    fitted = estimator.fit(dask_X, **dask_columns)
    assert fitted is estimator
    assert fitted.booster_ == fitted.to_local().booster_ == local.booster_
    assert set(vars(fitted.to_local())) == set(vars(local))
    for method in METHODS.get(kind, ["predict"]):
        predicted = getattr(fitted, method)(dask_X)
        expected = getattr(local, method)(X)
        assert isinstance(predicted, da.Array)
        assert (predicted.shape, predicted.dtype) == (expected.shape, expected.dtype)
        assert predicted.numblocks[0] == len(where)
        np.testing.assert_array_equal(predicted.compute(), expected)
    np.testing.assert_array_equal(
        fitted.predict(dask_X, raw_score=True, num_iteration=2).compute(),
        local.predict(X, raw_score=True, num_iteration=2),
    )


def test_zero_is_missing_on_a_cluster(client):
    zeros = np.where(np.arange(X.size).reshape(X.shape) % 3, X, 0.0)
    params = {"n_estimators": 3, "zero_as_missing": True}
    local = QGBDTRegressor(**params).fit(zeros, REAL)
    dask_X, dask_y = (lay_out(client, some, ENDS, [2, 0, 1, 0, 2, 1]) for some in (zeros, REAL))
    fitted = DaskQGBDTRegressor(**params).fit(dask_X, dask_y)
    assert fitted.booster_ == local.booster_
    np.testing.assert_array_equal(fitted.predict(dask_X).compute(), local.predict(zeros))


@pytest.mark.parametrize(
    "where",
    [[0] * 6, [2, 2, 2, 2, 2, 0], [1, 1, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0]],
)
def test_it_does_not_matter_where_partitions_lie(where, client):
    expected = QGBDTRegressor(n_estimators=3, random_state=1).fit(X, REAL).booster_
    dask_X, y = (lay_out(client, values, ENDS, where) for values in (X, REAL))
    fitted = DaskQGBDTRegressor(n_estimators=3, random_state=1, client=client).fit(dask_X, y)
    assert fitted.booster_ == expected


def test_one_partition_and_a_random_state(client):
    draws = [np.random.RandomState(5), np.random.RandomState(5)]
    local = QGBDTRegressor(n_estimators=3, random_state=draws[0]).fit(X, REAL)
    parts = [lay_out(client, values, [0, N], [1]) for values in (X, REAL)]
    fitted = DaskQGBDTRegressor(n_estimators=3, random_state=draws[1]).fit(*parts)
    assert fitted.booster_ == local.booster_
    assert draws[0].randint(1000) == draws[1].randint(1000)
    assert fitted.random_state is draws[1]


@pytest.mark.parametrize("kind", CONFORMING)
def test_rows_held_back_stop_it_as_they_do_locally(kind, client):
    estimator, columns, ends = CONFORMING[kind]
    params = {"validation_fraction": 0.3, "early_stopping_rounds": 3, "n_estimators": 50}
    estimator = type(estimator)(**params, learning_rate=0.5)
    local = estimator.to_local().fit(X, **columns)
    where = [2, 0, 1, 0, 2, 1]
    dask_X = lay_out(client, X, ends, where)
    estimator.fit(dask_X, **{name: lay_out(client, c, ends, where) for name, c in columns.items()})
    assert local.best_iteration_ < 50
    assert estimator.booster_ == local.booster_
    assert estimator.evals_result_ == local.evals_result_


EVALUATED = {
    "classifier": {"eval_metric": ["multi_error", "multi_logloss"]},
    "regressor": {"eval_metric": "l1", "eval_names": ["others", "ours"]},
    "ranker": {"eval_at": [3]},
}


@pytest.mark.parametrize("kind", CONFORMING)
@pytest.mark.parametrize("weighted", [False, True])
def test_evaluation_sets_stop_it_as_they_do_locally(kind, weighted, client):
    """One set has fewer partitions than there are workers, one is that of training."""
    estimator, columns, ends = CONFORMING[kind]
    params = {"early_stopping_rounds": 3, "n_estimators": 50, "learning_rate": 0.5}
    estimator = type(estimator)(**params)
    y, half = columns["y"], QUERY_ENDS[4]
    where, ends_of_others, others_lie = [2, 0, 1, 0, 2, 1], [0, 0, half], [1, 2]
    shuffled = (X[:half] + 0.1, y[:half])
    lone = {"eval_set": [shuffled, (X, y)], **EVALUATED[kind]}
    dask_X, dask_y = (lay_out(client, some, ends, where) for some in (X, y))
    dask_others = [lay_out(client, some, ends_of_others, others_lie) for some in shuffled]
    spread = {"eval_set": [tuple(dask_others), (dask_X, dask_y)], **EVALUATED[kind]}
    if weighted:
        lone["eval_sample_weight"] = [WEIGHT[:half], WEIGHT]
        spread["eval_sample_weight"] = [
            lay_out(client, WEIGHT[:half], ends_of_others, others_lie),
            lay_out(client, WEIGHT, ends, where[::-1]),
        ]
    if kind == "ranker":
        n = np.searchsorted(np.cumsum(SIZES), [*ends_of_others, *ends], "right")
        lone["eval_group"] = [SIZES[: n[2]], SIZES]
        spread["eval_group"] = [
            lay_out(client, SIZES[: n[2]], n[:3], others_lie),
            lay_out(client, SIZES, n[3:], where),
        ]
    local = estimator.to_local().fit(X, **columns, **lone)
    given = {name: lay_out(client, c, ends, where) for name, c in columns.items() if name != "y"}
    estimator.fit(dask_X, dask_y, **given, **spread)
    assert 0 < local.best_iteration_ < 50
    assert estimator.booster_ == local.booster_
    assert estimator.evals_result_ == local.evals_result_
    assert estimator.best_score_ == local.best_score_


def test_an_evaluation_set_elsewhere_goes_to_those_that_train(client):
    dask_X, y = (lay_out(client, values, [0, N], [0]) for values in (X, REAL))
    others = [lay_out(client, values, ENDS, [1, 2] * 3) for values in (X[::-1], REAL)]
    fitted = DaskQGBDTRegressor(n_estimators=3).fit(dask_X, y, eval_set=[tuple(others)])
    local = QGBDTRegressor(n_estimators=3).fit(X, REAL, eval_set=[(X[::-1], REAL)])
    assert fitted.evals_result_ == local.evals_result_


def test_frames_are_evaluated(client):
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(label=CLASSES)
    names, half = list("abcdef"), frame[: N // 2]
    how = {"n_estimators": 20, "early_stopping_rounds": 2, "learning_rate": 0.5}
    local = QGBDTClassifier(**how)
    local.fit(frame[names], frame["label"], eval_set=(half[names] * 1.5, half["label"]))
    cut, others = dd.from_pandas(frame, npartitions=3), dd.from_pandas(half, npartitions=1)
    fitted = DaskQGBDTClassifier(**how)
    fitted.fit(cut[names], cut["label"], eval_set=(others[names] * 1.5, others["label"]))
    assert fitted.booster_ == local.booster_
    assert fitted.evals_result_ == local.evals_result_


def test_a_wrong_evaluation_set(client):
    dask_X, y = (lay_out(client, values, ENDS, [0, 1, 2] * 2) for values in (X, REAL))
    fit = DaskQGBDTRegressor(n_estimators=2).fit
    with pytest.raises(DataError, match=r"y must be a Dask Array, .*, got ndarray") as raised:
        fit(dask_X, y, eval_set=[(dask_X, REAL)], eval_names=["mine"])
    assert raised.value.__notes__ == ["That is of the evaluation set 'mine'."]
    short = lay_out(client, REAL[:-1], [*ENDS[:-1], N - 1], [0] * 6)
    with pytest.raises(DataError, match="5 of X has 199 rows, but that of y 198") as raised:
        fit(dask_X, y, eval_set=[(dask_X, short)])
    assert raised.value.__notes__ == ["That is of the evaluation set 'valid_0'."]
    with pytest.raises(ParameterError, match="early_stopping_rounds needs rows apart from"):
        DaskQGBDTRegressor(early_stopping_rounds=2).fit(dask_X, y, eval_set=[(dask_X, y)])
    with pytest.raises(DataError, match=r"y must be a Dask Array, .*, got NoneType"):
        fit(dask_X, None)


def test_groups_of_each_partition(client):
    expected = QGBDTRanker(n_estimators=3).fit(X, RELEVANCE, group=SIZES).booster_
    where = [2, 0, 1, 0, 2, 1]
    dask_X, y = (lay_out(client, values, QUERY_ENDS, where) for values in (X, RELEVANCE))
    group = lay_out(client, SIZES, np.searchsorted(np.cumsum(SIZES), QUERY_ENDS, "right"), where)
    assert DaskQGBDTRanker(n_estimators=3).fit(dask_X, y, group=group).booster_ == expected


def test_explanations(client):
    dask_X = da.from_array(X, chunks=(200, -1))
    y = da.from_array(REAL, chunks=200)
    fitted = DaskQGBDTRegressor(n_estimators=2, num_leaves=4).fit(dask_X, y)
    local = fitted.to_local()
    for found, wanted in (
        (fitted.predict(dask_X, pred_contrib=True), local.predict(X, pred_contrib=True)),
        (fitted.predict(dask_X, pred_leaf=True), local.apply(X)),
        (fitted.apply(dask_X, num_iteration=1), local.apply(X, num_iteration=1)),
    ):
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found.compute(), wanted)
    with pytest.raises(DataError, match=r"no predictions after each iteration.* Use to_local\(\)"):
        fitted.staged_predict(dask_X)
    with pytest.raises(
        DataError, match=r"does not refit: use to_local\(\), with data without Dask"
    ):
        fitted.refit(dask_X, None)
    with pytest.raises(DataError, match="does not estimate memory: use to_local"):
        fitted.estimate_memory(dask_X)


@pytest.mark.parametrize("persisted", [False, True])
def test_frames(persisted, client, monkeypatch):
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(label=CLASSES)
    frame["a"] = frame["a"].astype(np.float32)
    local = QGBDTClassifier(n_estimators=3).fit(frame[list("abcdef")], frame["label"])
    cut = dd.from_pandas(frame, npartitions=5)
    dask_X, y = cut[list("abcdef")], cut["label"]
    if persisted:
        dask_X, y = client.persist(dask_X), client.persist(y)
        monkeypatch.delattr(Client, "persist")  # they are used as they are
    fitted = DaskQGBDTClassifier(n_estimators=3).fit(dask_X, y)
    assert fitted.booster_ == local.booster_
    assert fitted.feature_names_in_.tolist() == list("abcdef")
    predicted = fitted.predict_proba(dask_X)
    assert isinstance(predicted, da.Array)
    expected = local.predict_proba(frame[list("abcdef")])
    np.testing.assert_array_equal(predicted.compute(), expected)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(dask_X.rename(columns={"a": "z"}))


def test_nothing_of_an_earlier_fit_stays(client):
    estimator = DaskQGBDTClassifier(n_estimators=1)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcdef")).assign(label=CLASSES), 2)
    estimator.fit(frame[list("abcdef")], frame["label"])
    estimator.fit(*(lay_out(client, values, [0, N], [0]) for values in (X, CLASSES)))
    assert not hasattr(estimator, "feature_names_in_")


def test_partitions_are_not_moved(client):
    where = [2, 0, 1, 0, 2, 1]
    dask_X = lay_out(client, X, ENDS, where)
    y = lay_out(client, REAL, ENDS, where[::-1])  # elsewhere: it goes to X

    def received(dask_worker):
        return [key for entry in dask_worker.transfer_incoming_log for key in entry["keys"]]

    before = client.who_has(dask_X)
    DaskQGBDTRegressor(n_estimators=2).fit(dask_X, y)
    assert client.who_has(dask_X) == before
    moved = {key[0] for keys in client.run(received).values() for key in keys}
    assert y.name in moved
    assert dask_X.name not in moved


# ---------------------------------------------------------------------------- fits side by side


def test_fits_side_by_side(client):
    dask_X, y = (lay_out(client, values, ENDS, [0, 1, 2] * 2) for values in (X, REAL))

    def fit(seed):
        return DaskQGBDTRegressor(n_estimators=10, random_state=seed, client=client).fit(dask_X, y)

    with ThreadPoolExecutor(3) as pool:
        fitted = list(pool.map(fit, range(3), timeout=60))
    for seed in range(3):
        local = QGBDTRegressor(n_estimators=10, random_state=seed).fit(X, REAL)
        assert fitted[seed].booster_ == local.booster_


def test_a_fit_that_waits_for_a_worker_keeps_no_other_from_training(client):
    """Two fits, each waiting for a thread that the other has, would wait for ever."""
    expected = QGBDTRegressor(n_estimators=3).fit(X, REAL).booster_
    both = [lay_out(client, values, ENDS, [0, 1] * 3) for values in (X, REAL)]
    alone = [lay_out(client, values, ENDS, [0] * 6) for values in (X, REAL)]
    fits = DaskQGBDTRegressor(n_estimators=3, client=client)
    with ThreadPoolExecutor(2) as pool:
        with busy(client, workers_of(client)[1]):
            waits = pool.submit(lambda: clone(fits).fit(*both).booster_)
            eventually(lambda: len(fit_tasks(client)) == 1)
            assert pool.submit(lambda: clone(fits).fit(*alone).booster_).result(30) == expected
            assert not waits.done()
        assert waits.result(60) == expected


def test_nothing_is_left_on_the_scheduler(client):
    def left(dask_scheduler):
        names = [*dask_scheduler.extensions["queues"].queues, *map(str, dask_scheduler.tasks)]
        return [name for name in names if name.startswith("qgbdt-")]

    parts = [lay_out(client, values, ENDS, [0, 1, 2] * 2) for values in (X, REAL)]
    before = client.run_on_scheduler(left)
    DaskQGBDTRegressor(n_estimators=2).fit(*parts)
    eventually(lambda: client.run_on_scheduler(left) == before)


# ------------------------------------------------------------------------------- cancelled fits


@pytest.fixture
def interruptible():
    """Python leaves SIGINT ignored where it was when it began, as in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("where", [[0, 1, 2] * 2, [1] * 6], ids=["three workers", "one worker"])
def test_an_interrupt_ends_the_tasks(where, client):
    dask_X, y = (lay_out(client, values, ENDS, where) for values in (X, REAL))

    def interrupt():
        eventually(lambda: n_training(client) == len(set(where)))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        DaskQGBDTRegressor(n_estimators=ENDLESS).fit(dask_X, y)
    thread.join(30)
    eventually(lambda: not fit_tasks(client), 10)
    del caught  # until here, what the call held is held


def test_a_client_that_goes_away_ends_the_tasks(client):
    dask_X, y = (lay_out(client, values, ENDS, [0, 1, 2] * 2) for values in (X, REAL))
    with ThreadPoolExecutor(1) as pool:
        with Client(client.scheduler.address, set_as_default=False) as other:
            estimator = DaskQGBDTRegressor(n_estimators=ENDLESS, client=other)
            fit = pool.submit(estimator.fit, dask_X, y)
            eventually(lambda: n_training(client) == N_WORKERS)
        assert fit.exception(30)
        eventually(lambda: not fit_tasks(client), 10)


def test_a_client_that_no_longer_answers_is_not_waited_for():
    class Gone:
        def submit(self, *args, **kwargs):
            raise RuntimeError("gone")

        def sync(self, call, callback_timeout):
            assert 0 < callback_timeout <= 10
            raise TimeoutError

    with pytest.raises(RuntimeError, match="gone"):
        on_dask.start_fit(Gone(), None, {"tcp://127.0.0.1:1": ([], [])}, {})


@pytest.mark.parametrize("waiting", [False, True], ids=["training", "waiting for a worker"])
def test_cancelled_futures_end_the_tasks(waiting, client):
    dask_X, y = (lay_out(client, values, ENDS, [0, 1] * 3) for values in (X, REAL))
    estimator = DaskQGBDTRegressor(n_estimators=ENDLESS, client=client)
    late = workers_of(client)[1] if waiting else None
    with ThreadPoolExecutor(1) as pool, busy(client, late):
        fit = pool.submit(estimator.fit, dask_X, y)
        eventually(lambda: len(fit_tasks(client)) == 1 if waiting else n_training(client) == 2)
        keys = [key for key in client.futures if str(key).startswith("qgbdt-")]
        client.cancel([Future(key, client=client) for key in keys], force=True)
        with pytest.raises(CancelledError):
            fit.result(30)
        eventually(lambda: not fit_tasks(client), 10)


# ---------------------------------------------------------------------------------------- errors


def test_categories_of_all_partitions(client):
    """Each has other ones, and declares no more."""
    order = np.argsort(X[:, 0])
    frame = pd.DataFrame({"code": np.round(2 * X[order, 0]), "x": X[order, 1], "y": REAL[order]})
    frame["code"] = ("c" + frame["code"].astype(str)).astype("category")
    parts = [frame[:200], frame[200:590], frame[590:]]
    parts = [part.assign(code=part["code"].cat.remove_unused_categories()) for part in parts]
    lazy = dd.from_map(lambda part: part, parts, meta=parts[0][:0], enforce_metadata=False)
    columns = ["code", "x"]
    local = QGBDTRegressor(n_estimators=5).fit(frame[columns], frame["y"])
    assert len(local.booster_.categories()[0]) > 5
    model = DaskQGBDTRegressor(n_estimators=5).fit(lazy[columns], lazy["y"])
    assert model.booster_ == local.booster_
    np.testing.assert_array_equal(model.predict(lazy[columns]), local.predict(frame[columns]))


@pytest.fixture
def starts(monkeypatch):
    """The workers of each fit that was started."""
    seen = []
    start_fit = on_dask.start_fit

    def counted(client, estimator, shares, options):
        seen.append(sorted(shares))
        return start_fit(client, estimator, shares, options)

    monkeypatch.setattr(on_dask, "start_fit", counted)
    return seen


ARRAY = da.from_array(X, chunks=(100, 6))
TARGET = da.from_array(REAL, chunks=100)
HALF = np.where(np.arange(N) < 300, 1.0, -1.0)


@pytest.mark.parametrize(
    ("estimator", "columns", "error", "words"),
    [
        (
            DaskQGBDTRegressor(),
            {"y": np.where(HALF > 0, REAL, np.nan)},
            ValueError,
            "y contains NaN",
        ),
        (DaskQGBDTClassifier(), {"y": np.zeros(N)}, DataError, "got one class: 0.0"),
        (
            DaskQGBDTRegressor(),
            {"y": REAL, "sample_weight": HALF},
            DataError,
            "sample_weight must not be negative",
        ),
        (
            DaskQGBDTRanker(),
            {"y": RELEVANCE, "qid": np.arange(N) // 40},
            DataError,
            "The rows of query 2 lie in several partitions",
        ),
        (
            DaskQGBDTRanker(),
            {"y": RELEVANCE, "group": np.full(N, 2)},
            DataError,
            "In partition .: group sums up to 200 rows, but X has 100 rows. A query lies in one",
        ),
        (DaskQGBDTRanker(), {"y": RELEVANCE}, DataError, "needs either group"),
        (
            DaskQGBDTRegressor(objective="cox"),
            {"y": HALF},
            ParameterError,
            "objective='cox' compares all rows with each other",
        ),
    ],
)
def test_errors_of_workers_reach_the_client(estimator, columns, error, words, client, starts):
    cut = {name: da.from_array(values, chunks=100) for name, values in columns.items()}
    with pytest.raises(error, match=words) as caught:
        estimator.fit(ARRAY, **cut)
    assert type(caught.value) is error
    assert len(starts) == 1
    eventually(lambda: not fit_tasks(client), 10)


def test_partitions_that_do_not_fit_together(client):
    with pytest.raises(DataError, match="of X has 100 rows, but that of y 1"):
        DaskQGBDTRegressor().fit(
            ARRAY, da.from_array(REAL[:502], chunks=(100, 100, 100, 100, 101, 1))
        )


def test_all_partitions_are_empty(client):
    empty = [da.from_array(values[:0], chunks=-1) for values in (X, REAL)]
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        DaskQGBDTRegressor().fit(*empty)
    parts = [lay_out(client, values, [0, 0, 0], [0, 1]) for values in (X, CLASSES)]
    with pytest.raises(DataError, match="at least two classes, got no rows"):
        DaskQGBDTClassifier().fit(*parts)


@pytest.mark.parametrize(
    ("params", "data", "error", "words"),
    [
        ({"num_leaves": 1}, (ARRAY, TARGET), ParameterError, "'num_leaves' parameter of DaskQGBDT"),
        ({"client": "me"}, (ARRAY, TARGET), ParameterError, "must be a distributed.Client or None"),
        ({}, (X, TARGET), DataError, "X must be a Dask Array, .* got ndarray. The estimators of"),
        ({}, (ARRAY, REAL), DataError, "y must be a Dask Array, DataFrame or Series, got ndarray"),
        ({}, (ARRAY.rechunk((100, 3)), TARGET), DataError, r"columns. Use X.rechunk\(\{1: -1\}\)."),
        ({}, (ARRAY, TARGET.rechunk(50)), DataError, "y has 12 partitions, but X has 6."),
    ],
)
def test_errors_before_any_work(params, data, error, words):
    with pytest.raises(error, match=words):
        DaskQGBDTRegressor(**params).fit(*data)


def test_without_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "qgbdt.dask")
    with pytest.raises(ImportError, match=r"qgbdt.dask needs Dask: pip install 'qgbdt\[dask\]'"):
        import_module("qgbdt.dask")


# ------------------------------------------------------------------------------- as an estimator


def test_clones_and_pickles(client):
    estimator = DaskQGBDTRegressor(num_leaves=7, client=client)
    assert clone(estimator).get_params() == estimator.get_params()
    estimator.fit(*(lay_out(client, values, [0, 300, N], [0, 1]) for values in (X, REAL)))
    assert not hasattr(clone(estimator), "booster_")
    restored = pickle.loads(pickle.dumps(estimator))
    assert restored.booster_ == estimator.booster_
    assert restored.client is None
    assert restored.client_ is client


def test_the_key_of_a_fit_is_not_shown():
    assert "secret" not in repr(on_dask.Session("name", 2, b"secret"))


# ----------------------------------------------------------------------------------- lost workers


@pytest.mark.parametrize("waiting", [False, True], ids=["training", "before its task runs"])
def test_a_killed_worker(waiting, hurt_client, starts):
    estimator = DaskQGBDTRegressor(n_estimators=400, client=hurt_client)
    dask_X, y = (lay_out(hurt_client, values, ENDS, [0, 1] * 3) for values in (X, REAL))
    killed = workers_of(hurt_client)[1]
    process = hurt_client.run(os.getpid)[killed]
    with ThreadPoolExecutor(1) as pool, busy(hurt_client, killed if waiting else None):
        fitted = pool.submit(estimator.fit, dask_X, y)
        if waiting:
            eventually(lambda: len(fit_tasks(hurt_client)) == 1)
        else:
            eventually(lambda: n_training(hurt_client) == 2)
        os.kill(process, signal.SIGKILL)
        assert fitted.result(60).booster_ == estimator.to_local().fit(X, REAL).booster_
    assert len(starts) >= 2
    assert killed in starts[0]
    assert killed not in starts[-1]


@contextmanager
def heartbeats(client, seconds):
    """Meanwhile the fits' workers notice a frozen one after that long."""

    def set_heartbeat(connect_as):
        on_dask.connect = connect_as

    client.run(set_heartbeat, partial(connect, heartbeat=seconds))
    try:
        yield
    finally:
        client.run(set_heartbeat, connect)


def test_a_frozen_worker(hurt_client, starts, monkeypatch):
    """The others notice, and their next fit waits until Dask, too, takes it for lost."""
    monkeypatch.setattr(on_dask, "GRACE_SECONDS", 0.1)
    estimator = DaskQGBDTRegressor(n_estimators=400, client=hurt_client)
    dask_X, y = (lay_out(hurt_client, values, ENDS, [0, 1] * 3) for values in (X, REAL))
    frozen = workers_of(hurt_client)[1]
    process = hurt_client.run(os.getpid)[frozen]
    with ThreadPoolExecutor(1) as pool, heartbeats(hurt_client, 1.0):
        fitted = pool.submit(estimator.fit, dask_X, y)
        eventually(lambda: n_training(hurt_client) == 2)
        os.kill(process, signal.SIGSTOP)
        eventually(lambda: len(starts) == 2)
        # What the scheduler does after its worker-ttl.
        hurt_client.restart_workers([frozen], timeout=1, raise_for_error=False)
        assert fitted.result(60).booster_ == estimator.to_local().fit(X, REAL).booster_
    assert frozen in starts[1]
    assert frozen not in starts[-1]


def test_a_fit_goes_on_where_a_killed_worker_left_it(hurt_client, starts, tmp_path):
    estimator = DaskQGBDTRegressor(n_estimators=400, client=hurt_client)
    local = estimator.to_local().fit(X, REAL, checkpoint_dir=tmp_path / "local").booster_
    kept = tmp_path / "dask" / FILE_NAME
    dask_X, y = (lay_out(hurt_client, values, ENDS, [0, 1] * 3) for values in (X, REAL))
    process = hurt_client.run(os.getpid)[workers_of(hurt_client)[1]]
    with ThreadPoolExecutor(1) as pool:
        fitted = pool.submit(estimator.fit, dask_X, y, checkpoint_dir=kept.parent)
        eventually(lambda: kept.exists() and kept.stat().st_size > 20_000)
        os.kill(process, signal.SIGKILL)
        assert fitted.result(60).booster_ == local
    assert len(starts) >= 2
    assert kept.read_bytes() == (tmp_path / "local" / FILE_NAME).read_bytes()
    assert len(fitted.result().worker_profiles_[0]["seconds"]) < 400  # the rest was there


def test_a_fit_goes_on_from_a_model(client):
    estimator = DaskQGBDTRegressor(n_estimators=3, client=client)
    dask_X, y = (lay_out(client, values, ENDS, [0, 1] * 3) for values in (X, REAL))
    start = estimator.to_local().fit(X, REAL)
    grown = estimator.fit(dask_X, y, init_model=start).booster_
    assert grown == QGBDTRegressor(n_estimators=6).fit(X, REAL).booster_
    warm = estimator.set_params(warm_start=True, n_estimators=8)
    assert warm.fit(dask_X, y).booster_ == QGBDTRegressor(n_estimators=8).fit(X, REAL).booster_


@pytest.mark.parametrize("kind", ["regressor", "ranker"])
def test_a_fit_goes_on_from_a_checkpoint(kind, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the folder is the client's, not one of the workers'
    estimator, columns, ends = CONFORMING[kind]
    estimator = clone(estimator)
    given = [lay_out(client, values, ends, [0, 1] * 3) for values in (X, *columns.values())]
    given = dict(zip(("X", *columns), given))
    estimator.set_params(n_estimators=2).fit(**given, checkpoint_dir="kept")
    estimator.set_params(n_estimators=5)
    with pytest.raises(CheckpointError, match="resume=True"):
        estimator.fit(**given, checkpoint_dir="kept")
    estimator.fit(**given, checkpoint_dir="kept", resume=True)
    assert estimator.booster_ == estimator.to_local().fit(X, **columns).booster_
    assert [len(profile["seconds"]) for profile in estimator.worker_profiles_] == [3, 3]
