"""Several workers, one model; and what happens when one of them has something else.

Swept: numbers of workers and threads, where rows are cut (empty shards, too), who has which
blocks of rows, objectives, bits, weights, missing and sparse data, drawn from a seed, over threads
and over sockets. Against: one worker. Tolerance: none; of times, where the contract names them
(docs/distributed.md).

QGBDT_DISTRIBUTED_CASES sets how many cases are drawn (`make distributed`: 1,000; a tenth of them
over sockets).
"""

import itertools
import re
import threading
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
from conftest import feature_names, hurting_data, native_params, targets, train_native
from workers import (
    N_CASES,
    Shard,
    connect_sockets,
    drawn_case,
    fit_together,
    in_threads,
    outcome,
    shards,
    shards_in_order,
    train_together,
)

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.distributed import connect_threads
from qgbdt.errors import DataError, DisagreementError, DistributedError, WorkerLost

# ------------------------------------------------------------------------------- the native core


def shuffled_shards(n, edges, sizes, rng):
    """The blocks between the edges, each with whoever draws it, in any order."""
    blocks = list(enumerate(shards(n, edges, sizes)))
    rng.shuffle(blocks)
    cuts = np.sort(rng.integers(0, len(blocks) + 1, int(rng.integers(0, 5))))
    found = []
    for begin, end in itertools.pairwise([0, *cuts, len(blocks)]):
        mine = blocks[begin:end]
        rows = [np.arange(n)[some] for _, (some, _) in mine]
        found.append(
            Shard(
                np.concatenate([np.arange(0), *rows]),
                [(3 * number, len(some)) for (number, _), some in zip(mine, rows)],
                None if sizes is None else np.concatenate([sizes[:0], *(q for _, (_, q) in mine)]),
            )
        )
    return found


@pytest.mark.parametrize("seed", range(N_CASES))
def test_workers_make_the_model_of_one(seed):
    data, edges = drawn_case(seed)
    alone = train_native(**data)
    parts = shards_in_order(len(data["y"]), edges, data["query_sizes"])
    for model in train_together(_core.thread_comms(len(parts)), parts, **data):
        assert model.to_bytes() == alone.to_bytes()


@pytest.mark.parametrize("seed", range(N_CASES))
def test_a_byte_changed_on_its_way_is_noticed(seed):
    """Any of what one of the workers receives, from binning to the end."""
    rng = np.random.default_rng(seed)
    world_size = int(rng.integers(2, 5))
    data = faulty_data(rng, world_size)
    expected = train_native(data["X"], data["y"], data["params"]).to_bytes()
    n_exchanges, models = train_with_faulty(world_size, (-1, 0, 0, 0, True), **data)
    assert models == [expected] * world_size
    for _ in range(5):
        exchange, byte = int(rng.integers(n_exchanges)), int(rng.integers(2**40))
        sender, flip = int(rng.integers(1, world_size)), 1 << int(rng.integers(8))
        fault = (exchange, sender, byte, flip, True)
        _, (hit, *others) = train_with_faulty(world_size, fault, **data)
        assert isinstance(hit, DistributedError)
        assert str(hit) == (
            f"A message of worker {sender} was changed on its way: memory or a network has failed. "
            "Train again."
        )
        assert all(other == expected or isinstance(other, WorkerLost) for other in others)


def faulty_data(rng, world_size):
    objective = str(rng.choice(["regression", "binary", "multiclass", "quantile"]))
    X = rng.normal(size=(1200, 5))
    params = native_params(
        objective=objective,
        n_estimators=3,
        num_leaves=5,
        min_child_samples=int(rng.choice([1, 90])),
    )
    parts = shards_in_order(len(X), np.sort(rng.integers(0, len(X) + 1, world_size - 1)))
    return {"X": X, "y": targets(X, objective)[0], "params": params, "parts": parts}


def train_with_faulty(world_size, fault, **data):
    """How many exchanges the worker with this fault saw, and what became of each worker."""
    comms = _core.thread_comms(world_size)
    comms[0] = _core.FaultyComm(comms[0], *fault)
    found = in_threads(comms, partial(train_or_leave, **data))
    return comms[0].n_exchanges, found


def train_or_leave(comm, *, parts, X, y, params):
    """The model's bytes, or the error that ends the fit."""
    part = parts[comm.rank]
    try:
        matrix = _core.BinnedMatrix(X[part.rows], 255, 1, comm, part.blocks)
        names = feature_names(X)
        return _core.train(matrix, y[part.rows], None, None, names, params, 1, comm)[0].to_bytes()
    except Exception as error:
        comm.leave(str(error))
        return error


def test_sums_that_do_not_fit_are_noticed():
    """A byte is changed before the checksum is made; in some messages it is of a cell."""
    data = faulty_data(np.random.default_rng(0), 2)
    n_exchanges, _ = train_with_faulty(2, (-1, 0, 0, 0, False), **data)
    found = [
        str(train_with_faulty(2, (exchange, 1, 60, 1, False), **data)[1][0])
        for exchange in range(n_exchanges)
    ]
    assert any("The histograms of the workers do not fit together" in words for words in found)


def test_workers_with_other_trees_are_noticed():
    X = hurting_data(400)
    y, _ = targets(X, "regression")
    parts = shards_in_order(len(X), [150])

    def train(comm):
        params = native_params(n_estimators=3, learning_rate=0.1 + 1e-9 * comm.rank)
        return train_or_leave(comm, parts=parts, X=X, y=y, params=params)

    for error in in_threads(_core.thread_comms(2), train):
        assert "The workers have grown different trees" in str(error)


@pytest.mark.parametrize("seed", range(N_CASES))
def test_it_does_not_matter_where_blocks_of_rows_lie(seed):
    data, edges = drawn_case(seed)
    alone = train_native(**data)
    rng = np.random.default_rng(seed)
    parts = shuffled_shards(len(data["y"]), edges, data["query_sizes"], rng)
    for model in train_together(_core.thread_comms(len(parts)), parts, **data):
        assert model.to_bytes() == alone.to_bytes()


@pytest.mark.parametrize("seed", range(N_CASES, N_CASES + N_CASES // 10))
def test_workers_over_sockets_make_the_model_of_one(seed):
    data, edges = drawn_case(seed)
    alone = train_native(**data)
    parts = shards_in_order(len(data["y"]), edges, data["query_sizes"])
    workers = connect_sockets(len(parts))
    comms = [worker.native for worker in workers]
    for model in train_together(comms, parts, **data):
        assert model.to_bytes() == alone.to_bytes()
    reports = [worker.report() for worker in workers]
    assert sum(r["bytes_sent"] for r in reports) >= sum(r["bytes_received"] for r in reports)


def test_the_sample_of_binning_is_one_sample():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(250_000, 1))  # more than the sample has
    alone = _core.BinnedMatrix(X, 255, 1)
    parts = [X[:1], X[1:100_000], X[100_000:]]
    matrices = in_threads(
        _core.thread_comms(3), lambda comm: _core.BinnedMatrix(parts[comm.rank], 255, 1, comm)
    )
    for matrix in matrices:
        assert (matrix.bin_thresholds(0) == alone.bin_thresholds(0)).all()
    swapped = np.concatenate([X[100_000:], X[:1], X[1:100_000]])  # its blocks lie apart
    matrix = _core.BinnedMatrix(swapped, 255, 1, None, [(7, 150_000), (1, 1), (2, 99_999)])
    assert (matrix.bin_thresholds(0) == alone.bin_thresholds(0)).all()


def test_no_two_blocks_of_rows_have_one_number():
    def work(worker):
        fit = QGBDTRegressor(n_estimators=1).fit
        blocks = [(5, 10), (worker.rank, 10)]
        return outcome(lambda: fit(X, X[:, 0], communicator=worker, row_blocks=blocks))

    X = hurting_data(20)
    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, ValueError)
        assert "two blocks of rows have the same number" in str(error)


def cell(g, h):
    return (np.asarray(g, np.int64) << 32) + h


LARGEST = 2**31 - 1


@pytest.mark.parametrize("filled", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("largest", [0, 1, 2, 1000, LARGEST])
@pytest.mark.parametrize("n_places", [8, 256])
def test_packed_cells_are_added(n_places, largest, filled):
    rng = np.random.default_rng(largest)
    g = rng.integers(-largest, largest, n_places, endpoint=True)
    h = rng.integers(0, largest, n_places, endpoint=True)
    cells = np.where(rng.random(n_places) < filled, cell(g, h), 0)
    packed = _core.kernels.pack_cells(cells)
    n_filled = np.count_nonzero(cells)
    bits = 2 * largest.bit_length() + 1
    assert len(packed) <= 2 + -(-n_places // 8) + -(-n_filled * bits // 8)
    total = np.full(n_places, cell(-5, 7))
    _core.kernels.add_packed_cells(packed, total)
    assert (total == cells + cell(-5, 7)).all()


@pytest.mark.parametrize(
    "values", [[-1], [1], [0], [-LARGEST], [LARGEST], [-LARGEST, LARGEST], [-2, 1], [-128, 127]]
)
def test_gradients_of_either_sign_are_packed(values):
    cells = np.zeros(16, np.int64)
    cells[: len(values)] = cell(values, 0)
    total = np.zeros(16, np.int64)
    _core.kernels.add_packed_cells(_core.kernels.pack_cells(cells), total)
    assert (total == cells).all()


def test_what_is_no_packed_histogram_is_refused():
    rng = np.random.default_rng(0)
    packed = _core.kernels.pack_cells(cell(rng.integers(-9, 9, 64), 3))
    cells = np.zeros(64, np.int64)
    for broken in (b"", packed[:1], packed[:-1], packed + b"0", b"\x21\0", b"\0\x20", b"\x80\1"):
        with pytest.raises(ValueError, match=r"too short|too many bits|left over"):
            _core.kernels.add_packed_cells(broken, cells)
    for _ in range(2000):  # none crashes
        drawn = bytes(rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8))
        outcome(lambda: _core.kernels.add_packed_cells(drawn, cells))  # noqa: B023


# ----------------------------------------------------------------------------------- estimators


def classification():
    X = hurting_data(400)
    y, _ = targets(X, "multiclass")
    return X, np.array(["few", "more", "most"])[y.astype(int)]


@pytest.mark.parametrize("class_weight", [None, "balanced", {"few": 3}])
@pytest.mark.parametrize("weighted", [False, True])
def test_classifier_together(class_weight, weighted):
    X, y = classification()
    weight = np.linspace(0.5, 2, len(X)) if weighted else None
    order = np.argsort(y == "few", kind="stable")  # no worker but the last has few
    X, y = X[order], y[order]
    estimator = QGBDTClassifier(n_estimators=5, class_weight=class_weight)
    alone = estimator.fit(X, y, weight)
    slices = [rows for rows, _ in shards(len(X), [0, 120, 200])]
    parts = [
        {
            "X": X[rows],
            "y": y[rows],
            "sample_weight": weight[rows] if weighted else None,
            "row_blocks": [(number, len(X[rows]))],
        }
        for number, rows in enumerate(slices)
    ][::-1]
    for fitted in fit_together(connect_threads(4), estimator, parts):
        assert (fitted.classes_ == alone.classes_).all()
        assert fitted.booster_ == alone.booster_


def test_regressor_together():
    X = hurting_data(300)
    X[100:200] = np.nan  # all that one worker has
    y, _ = targets(X, "tweedie")
    weight = np.where(np.arange(300) < 100, 0.0, 1.0)  # a worker without any weight
    estimator = QGBDTRegressor(n_estimators=5, objective="tweedie")
    alone = estimator.fit(X, y, weight)
    parts = [
        {"X": X[rows], "y": y[rows], "sample_weight": weight[rows]}
        for rows, _ in shards(300, [100, 200])
    ]
    for fitted in fit_together(connect_threads(3), estimator, parts):
        assert fitted.booster_ == alone.booster_


def test_ranker_together():
    X = hurting_data(300)
    y, sizes = targets(X, "lambdarank")
    estimator = QGBDTRanker(n_estimators=5)
    alone = estimator.fit(X, y, group=sizes)
    edges = np.cumsum(sizes)[[0, 3, 3]].tolist()
    parts = [
        {"X": X[rows], "y": y[rows], "group": group} for rows, group in shards(300, edges, sizes)
    ]
    for fitted in fit_together(connect_threads(4), estimator, parts):
        assert fitted.booster_ == alone.booster_


def test_what_an_iteration_took_of_each_worker():
    X, y = classification()
    parts = [{"X": X[:100], "y": y[:100]}, {"X": X[100:], "y": y[100:]}]
    workers = connect_sockets(2)
    first, second = fit_together(workers, QGBDTClassifier(n_estimators=3), parts)
    for mine, others in zip(first.worker_profiles_, second.worker_profiles_, strict=True):
        for name, values in mine.items():
            assert values.shape == (3,)
            assert (values > 0).all(), name
            assert (values == others[name]).all()
    for worker, profile in zip(workers, first.worker_profiles_, strict=True):
        assert (profile["wait_seconds"] <= profile["seconds"]).all()
        assert profile["bytes_sent"].sum() < worker.report()["bytes_sent"]
    assert (profile["exchanges"] == first.worker_profiles_[0]["exchanges"]).all()
    received = first.worker_profiles_[0]["bytes_received"].sum()
    assert abs(profile["bytes_sent"].sum() - received) <= 10 * 28  # but for some beats
    (alone,) = QGBDTClassifier(n_estimators=4).fit(X, y).worker_profiles_
    assert (alone["seconds"] > 0).all()
    assert (alone["bytes_sent"] == np.zeros(4)).all()


def test_a_communicator_serves_many_fits():
    X, y = classification()
    workers = connect_sockets(2)
    parts = [{"X": X[:100], "y": y[:100]}, {"X": X[100:], "y": y[100:]}]
    first, second = (fit_together(workers, QGBDTClassifier(n_estimators=3), parts) for _ in "ab")
    assert first[0].booster_ == first[1].booster_ == second[0].booster_


# ---------------------------------------------------------------------------------- disagreement

BASE = {"X": np.zeros((30, 2)), "y": np.arange(30) % 3}
MISMATCHES = [  # what one worker has instead, and the words for it
    ({"learning_rate": 0.2}, {}, r"learning_rate is 0.1 on worker 0 .* and 0.2 on worker 2 "),
    ({"max_depth": 3}, {}, "max_depth is -1 on worker 0 .* and 3 on worker 2 "),
    ({"num_leaves": 7}, {}, "num_leaves is 31 .* and 7 "),
    ({"n_estimators": 7}, {}, "n_estimators is 2 .* and 7 "),
    ({"min_child_samples": 7}, {}, "min_child_samples is 20 .* and 7 "),
    ({"min_child_weight": 0.5}, {}, "min_child_weight is 0.001 .* and 0.5 "),
    ({"min_split_gain": 0.5}, {}, "min_split_gain is 0.0 .* and 0.5 "),
    ({"reg_alpha": 0.5}, {}, "reg_alpha is 0.0 .* and 0.5 "),
    ({"reg_lambda": 0.5}, {}, "reg_lambda is 0.0 .* and 0.5 "),
    ({"grad_bits": 3}, {}, "grad_bits is 'auto' .* and 3 "),
    ({"rounding": "nearest"}, {}, "rounding is 'stochastic' .* and 'nearest' "),
    ({"renew_leaves": False}, {}, "renew_leaves is True .* and False "),
    ({"random_state": 5}, {}, "seed is 0 .* and 5 "),
    ({"max_bin": 63}, {}, "max_bin is 255 .* and 63 "),
    ({"class_weight": "balanced"}, {}, "class_weight is 'None' .* and 'balanced' "),
    ({"objective": "binary"}, {"y": np.arange(30) % 2}, "objective='binary' needs y of two"),
    ({}, {"X": np.zeros((30, 3))}, "n_features is 2 on worker 0 .* and 3 on worker 2 "),
    (
        {},
        {"X": pd.DataFrame(np.zeros((30, 2)), columns=["a", "b"])},
        "the name of feature 0 is .*'a'",
    ),
    ({}, {"X": np.zeros((30, 2), np.float32)}, "the dtype of X is 'float64' .* and 'float32' "),
    ({}, {"sample_weight": np.ones(30)}, "sample_weight is 'None' .* and 'given' "),
]


@pytest.mark.parametrize(("params", "data", "words"), MISMATCHES)
def test_disagreement_is_the_same_error_on_all(params, data, words):
    workers = connect_threads(3)

    def work(worker):
        odd = worker.rank == 2
        estimator = QGBDTClassifier(n_estimators=2).set_params(**params if odd else {})
        return outcome(lambda: estimator.fit(**BASE | (data if odd else {}), communicator=worker))

    start = time.monotonic()
    errors = in_threads(workers, work)
    assert time.monotonic() - start < 2
    expected = DataError if "objective" in params else DisagreementError
    assert isinstance(errors[2], expected)
    if expected is DisagreementError:
        assert {type(e) for e in errors} == {expected}
        assert len({str(e) for e in errors}) == 1
    for error in errors:
        assert re.search(words, str(error))


START = QGBDTRegressor(n_estimators=1).fit(BASE["X"], BASE["y"])


@pytest.mark.parametrize(
    ("odd", "how", "words"),
    [
        (QGBDTClassifier(), {}, "the estimator is 'QGBDTRegressor' .* and 'QGBDTClassifier' "),
        (QGBDTRegressor(objective="poisson"), {}, "objective is 'regression' .* and 'poisson' "),
        (QGBDTRegressor(), {"init_model": START}, "init_model is None .* and [0-9]+ "),
    ],
)
def test_another_fit_is_the_same_error_on_all(odd, how, words):
    def work(worker):
        fit, other = (odd.fit, how) if worker.rank == 1 else (QGBDTRegressor().fit, {})
        return outcome(lambda: fit(**BASE, **other, communicator=worker))

    for error in in_threads(connect_threads(3), work):
        assert isinstance(error, DisagreementError)
        assert re.search(words, str(error))


def test_another_version_is_the_same_error_on_all(monkeypatch):
    own = threading.local()
    monkeypatch.setattr("qgbdt.base.package_version", lambda name: own.version)

    def work(worker):
        own.version = "2.0" if worker.rank == 1 else "1.0"
        return outcome(lambda: QGBDTClassifier().fit(**BASE, communicator=worker))

    for error in in_threads(connect_threads(3), work):
        assert isinstance(error, DisagreementError)
        assert re.search(r"the version of qgbdt is '1.0' on .* 0 .* '2.0' on .* 1 ", str(error))


def test_an_error_of_one_worker_reaches_all():
    X, y = classification()
    workers = connect_sockets(3)

    def work(worker):
        bad = {"sample_weight": np.full(len(X), -1.0 if worker.rank == 1 else 1.0)}
        return outcome(lambda: QGBDTClassifier().fit(X, y, communicator=worker, **bad))

    errors = in_threads(workers, work)
    assert isinstance(errors[1], DataError)
    for error in (errors[0], errors[2]):
        assert isinstance(error, WorkerLost)
        assert "worker 1 (127.0.0.1) stopped: DataError: sample_weight must not be" in str(error)
    with pytest.raises(WorkerLost, match="worker 1"):  # it stays so
        workers[0].gather(1)
