"""Several workers, one model; and what happens when one of them is wrong, gone, or not one at all.

Swept: numbers of workers and threads, where rows are cut (empty shards, too), who has which
blocks of rows, objectives, bits, weights, missing and sparse data, drawn from a seed, over threads
and over sockets. Against: one worker. Tolerance: none; of times, where the contract names them
(docs/distributed.md).

QGBDT_DISTRIBUTED_CASES sets how many cases are drawn (`make distributed`: 1,000; a tenth of them
over sockets).
"""

import gc
import itertools
import multiprocessing
import os
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import network
import numpy as np
import pandas as pd
import pytest
from campaigns import hostile, kill_workers
from conftest import (
    OBJECTIVES,
    feature_names,
    hurting_data,
    native_params,
    sparse_data,
    targets,
    train_native,
)
from network import free_address

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.distributed import connect, connect_threads
from qgbdt.distributed.join import MAX_STRANGERS, Address, Channel, Deadline, Listener, Pass, dial
from qgbdt.errors import DataError, DisagreementError, DistributedError, WorkerLost

N_CASES = int(os.environ.get("QGBDT_DISTRIBUTED_CASES", "60"))
TIMEOUT = 60  # seconds, of what takes about one


def in_threads(workers, work):
    """[work(worker) of each], each in a thread of its own; the first error, if any."""
    with ThreadPoolExecutor(len(workers)) as pool:
        futures = [pool.submit(work, worker) for worker in workers]
        return [future.result(TIMEOUT) for future in futures]


def outcome(work):
    """What it returns or raises."""
    try:
        return work()
    except Exception as error:
        return error


def connect_sockets(world_size, **options):
    """Communicators over loopback sockets, by rank."""
    address = free_address()
    return in_threads(range(world_size), lambda rank: connect(address, world_size, rank, **options))


def shards(n, edges, sizes=None):
    """Slices of rows between the edges, and the query sizes in each."""
    for begin, end in itertools.pairwise([0, *edges, n]):
        if sizes is None:
            yield slice(begin, end), None
        else:
            ends = np.cumsum(sizes)
            yield slice(begin, end), sizes[(ends > begin) & (ends <= end)]


@dataclass
class Shard:
    """A worker's rows, their blocks (None: one, by rank) and query sizes."""

    rows: np.ndarray
    blocks: list[tuple[int, int]] | None
    query_sizes: np.ndarray | None


def shards_in_order(n, edges, sizes=None):
    """The rows between the edges, a shard a worker."""
    return [Shard(np.arange(n)[rows], None, some) for rows, some in shards(n, edges, sizes)]


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


# ------------------------------------------------------------------------------- the native core


def train_together(
    comms, parts, X, y, params, *, weight=None, query_sizes=None, max_bin=255, n_threads=1
):
    """Each worker's model, of its shard."""

    def work(comm):
        part = parts[comm.rank]
        matrix = _core.BinnedMatrix(X[part.rows], max_bin, n_threads, comm, part.blocks)
        return _core.train(
            matrix,
            y[part.rows],
            None if weight is None else weight[part.rows],
            part.query_sizes,
            feature_names(X),
            params,
            n_threads,
            comm,
        )[0]

    return in_threads(comms, work)


def drawn_case(seed):
    """Keyword arguments of train_native, and the edges of up to eight shards."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([40, 300, 1500]))
    if rng.random() < 0.3:
        X, _ = sparse_data(n, int(rng.choice([30, 130])), seed)
    else:
        X = hurting_data(n, int(rng.choice([3, 6, 40])), seed)
    objective = str(rng.choice(OBJECTIVES))
    y, sizes = targets(X, objective, seed)
    params = native_params(
        objective=objective,
        num_leaves=int(rng.choice([4, 31])),
        grad_bits=[2, 3, 5, 8, 16, "auto"][rng.integers(6)],
        min_child_samples=int(rng.choice([1, 5, 20])),
        min_child_weight=float(rng.choice([0, 1e-3])),
        reg_lambda=float(rng.choice([0, 1])),
        rounding=str(rng.choice(["stochastic", "nearest"])),
        seed=seed,
    )
    places = np.arange(n + 1) if sizes is None else np.concatenate([[0], np.cumsum(sizes)])
    edges = np.sort(rng.choice(places, int(rng.integers(0, 8)))).tolist()
    data = {
        "X": X.astype(rng.choice([np.float32, np.float64])),
        "y": y,
        "params": params,
        "weight": rng.random(n) + 0.1 if rng.random() < 0.4 else None,
        "query_sizes": sizes,
        "max_bin": int(rng.choice([15, 255])),
        "n_threads": int(rng.choice([1, 2])),
    }
    return data, edges


@pytest.mark.parametrize("seed", range(N_CASES))
def test_workers_make_the_model_of_one(seed):
    data, edges = drawn_case(seed)
    alone = train_native(**data)
    parts = shards_in_order(len(data["y"]), edges, data["query_sizes"])
    for model in train_together(_core.thread_comms(len(parts)), parts, **data):
        assert model.to_bytes() == alone.to_bytes()


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
        with pytest.raises(ValueError, match=r"ends early|too many bits|left over"):
            _core.kernels.add_packed_cells(broken, cells)
    for _ in range(2000):  # none crashes
        drawn = bytes(rng.integers(0, 256, rng.integers(0, 200), dtype=np.uint8))
        outcome(lambda: _core.kernels.add_packed_cells(drawn, cells))  # noqa: B023


# ----------------------------------------------------------------------------------- estimators


def fit_together(workers, estimator, parts):
    """Each worker's fitted estimator; parts are keyword arguments of fit, by rank."""

    def work(worker):
        return type(estimator)(**estimator.get_params()).fit(
            **parts[worker.rank], communicator=worker
        )

    return in_threads(workers, work)


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


# ------------------------------------------------------------------------------- finding another


def test_ranks_are_given_and_taken():
    address = free_address()
    ranks = [0, None, 3, None]
    workers = in_threads(ranks, lambda rank: connect(address, 4, rank))
    assert sorted(worker.rank for worker in workers) == [0, 1, 2, 3]
    assert workers[2].rank == 3
    gathered = in_threads(workers, lambda worker: worker.gather(worker.rank))
    assert gathered == [[0, 1, 2, 3]] * 4


def test_to_close_is_to_hang_up():
    """Even if no one answered at first: no error that was caught keeps the connection."""
    address = free_address()
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(connect, address, 2, 1)
        time.sleep(0.3)
        worker = connect(address, 2, 0)
        gc.disable()
        try:
            early.result(TIMEOUT).close()
            with pytest.raises(WorkerLost, match=r"worker 1 .* its connection was closed"):
                worker.gather(1)
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([(2, 0, b""), (2, 1, b"secret")], "has another key"),
        ([(3, 0, b""), (3, 1, b""), (3, 1, b"")], "Two workers have the rank 1"),
        ([(2, 0, b""), (3, 1, b"")], "world_size is 2 on worker 0 and 3 on worker 1"),
        ([(3, 0, b""), (3, 2, b"")], "Only 2 of 3 workers came"),
        ([(2, 1, b"")], "No worker answers at"),
    ],
)
def test_workers_that_do_not_meet(calls, words):
    address = free_address()

    def work(call):
        world_size, rank, key = call
        return outcome(lambda: connect(address, world_size, rank, key=key, timeout=2))

    errors = in_threads(calls, work)
    assert all(isinstance(error, DistributedError) for error in errors), errors
    assert any(words in str(error) for error in errors), errors


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_rank_0_says_where_it_listens(host):
    announced = queue.SimpleQueue()

    def work(rank):
        address = announced.get(timeout=TIMEOUT) if rank else f"{host}:0"
        return connect(address, 2, rank, announce=announced.put)

    workers = in_threads(range(2), work)
    assert in_threads(workers, lambda worker: worker.gather(1)) == [[1, 1]] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_waiting_can_be_ended(rank):
    end = time.monotonic() + 0.5

    def watch():
        if time.monotonic() > end:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        connect(free_address(), 2, rank, watch=watch)
    assert time.monotonic() < end + 2


def test_who_has_left_trains_no_more():
    (worker,) = connect_sockets(1)  # alone, so that it waits for nobody
    X = hurting_data(100)
    matrix = _core.BinnedMatrix(X, 255, 1, worker.native)
    worker.leave(LookupError("enough"))
    with pytest.raises(WorkerLost, match=r"worker 0 \(127.0.0.1\) stopped: LookupError: enough"):
        _core.train(
            matrix, X[:, 0], None, None, feature_names(X), native_params(), 1, worker.native
        )


@pytest.mark.parametrize("world_size", [1, 2])
def test_another_thread_may_end_a_fit(world_size):
    workers = connect_sockets(world_size)
    X = hurting_data(500)

    def work(worker):
        fit = QGBDTRegressor(n_estimators=10**6).fit
        return outcome(lambda: fit(X, X[:, 0], communicator=worker))

    with ThreadPoolExecutor(world_size) as pool:
        fits = [pool.submit(work, worker) for worker in workers]
        workers[0].leave(LookupError("enough"))
        for fit in fits:
            error = fit.result(TIMEOUT)
            assert isinstance(error, WorkerLost)
            assert str(error) == "worker 0 (127.0.0.1) stopped: LookupError: enough"


@pytest.mark.parametrize("address", ["0.0.0.0:5000", "192.0.2.1:5000", "[::]:5000"])
@pytest.mark.parametrize("rank", [0, 1])
def test_no_meeting_without_a_key_outside_loopback(address, rank):
    with pytest.raises(DistributedError, match="give all workers the same secret key"):
        connect(address, 2, rank)
    with pytest.raises(DistributedError, match="give all workers the same secret key"):
        connect("127.0.0.1:5000", 2, rank, bind="0.0.0.0")


def test_where_a_worker_listens_and_is_reached():
    address = free_address()
    hosts = {"bind": "0.0.0.0", "advertise": "localhost", "key": b"secret"}
    workers = in_threads(range(3), lambda rank: connect(address, 3, rank, **hosts))
    assert in_threads(workers, lambda worker: worker.gather(1)) == [[1, 1, 1]] * 3
    assert workers[0].title(2) == "worker 2 (localhost)"


@pytest.mark.parametrize("address", ["", "host", ":5000", "host:port", "host:70000"])
def test_a_rendezvous_is_an_address(address):
    with pytest.raises(DistributedError, match="host:port"):
        connect(address, 2, 0)


class Tampered(Channel):
    """What it sends has one bit of one byte changed on the way."""

    def __init__(self, connection, position):
        super().__init__(connection)
        self.until = position

    def send(self, data, deadline):
        if 0 <= self.until < len(data):
            data = bytearray(data)
            data[self.until] ^= 1 << self.until % 8
        self.until -= len(data)
        super().send(bytes(data), deadline)


def shake_hands(dialler, accepter, keys=(b"key", b"key")):
    """What each side's authentication returns or raises; who raises hangs up."""

    def work(side):
        channel, key, dialled = side
        try:
            return channel.enter(Pass(key, None), b"context", dialled=dialled)
        except OSError as error:
            channel.close()
            return error

    sides = [(dialler, keys[0], True), (accepter, keys[1], False)]
    try:
        return in_threads(sides, work)
    finally:
        dialler.close()
        accepter.close()


def connected():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


HANDSHAKE = 8 + 64 + 32  # bytes that each side sends


@pytest.mark.parametrize("who", ["dialler", "accepter"])
def test_every_changed_byte_of_a_handshake_is_noticed(who):
    for position in range(HANDSHAKE):
        dials, accepts = connected()
        if who == "dialler":
            _, error = shake_hands(Tampered(dials, position), Channel(accepts))
        else:
            error, _ = shake_hands(Channel(dials), Tampered(accepts, position))
        assert isinstance(error, ConnectionError), position


def test_a_handshake():
    dials, accepts = connected()
    assert shake_hands(Tampered(dials, HANDSHAKE), Channel(accepts)) == [None, None]
    dials, accepts = connected()
    refused = shake_hands(Channel(dials), Channel(accepts), (b"key", b"other"))
    assert all(isinstance(error, ConnectionError) for error in refused)


def test_a_recorded_handshake_cannot_be_played_again():
    sent = []

    class Recorded(Channel):
        def send(self, data, deadline):
            sent.append(data)
            super().send(data, deadline)

    dials, accepts = connected()
    assert shake_hands(Recorded(dials), Channel(accepts)) == [None, None]
    dials, accepts = connected()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            outcome, lambda: Channel(accepts).enter(Pass(b"key", None), b"context", dialled=False)
        )
        dials.sendall(b"".join(sent))
        assert isinstance(answer.result(TIMEOUT), ConnectionError)
    dials.close()
    accepts.close()


def test_strangers_change_nothing():
    address = free_address()
    host, port = address.split(":")
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(connect, address, 3, 0, key=b"k")
        strangers = []
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4), os.urandom(1 << 16)):
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    strangers.append(socket.create_connection((host, int(port))))
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
            try:
                strangers[-1].sendall(sent)
            except OSError:
                assert len(sent) > 4  # it was hung up on
        others = [pool.submit(connect, address, 3, rank, key=b"k") for rank in (1, 2)]
        workers = [future.result(TIMEOUT) for future in (first, *others)]
    for stranger in strangers:
        stranger.close()
    assert in_threads(workers, lambda worker: worker.gather("here")) == [["here"] * 3] * 3


@pytest.mark.parametrize("astray", [{"to": 2}, {"session": "of another meeting"}])
def test_a_connection_that_is_led_astray(astray):
    """Worker 2, by hand: what it says it wants of another worker is not taken for this one's."""
    address, shown, deadline = free_address(), Pass(b"", None), Deadline(TIMEOUT)
    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(connect, address, 3, rank) for rank in (0, 1)]
        lead = dial(Address.parse(address), shown, b"rendezvous", deadline)
        lead.send_json({"rank": 2, "world_size": 3, "address": ["127.0.0.1", 1]}, deadline)
        told = lead.receive_json(deadline)
        hello = {"from": 2, "to": 1, "session": told["session"]}
        dialled = []
        for said in (hello | astray, hello):
            dialled.append(dial(Address(*told["addresses"][1]), shown, b"worker", deadline))
            dialled[-1].send_json(said, deadline)
        lead.send_json("ready", deadline)
        assert lead.receive_json(deadline) == "go"
        gathered = [
            pool.submit(worker.result(TIMEOUT).gather, rank) for rank, worker in enumerate(workers)
        ]
        for channel in (lead, dialled[1]):
            channel.send(frame(1, b"2"), deadline)
        assert [future.result(TIMEOUT) for future in gathered] == [[0, 1, 2]] * 2
    for channel in (lead, *dialled):
        channel.close()


def test_silent_strangers_give_way():
    """A worker that comes after more of them than are let in at a time is not kept waiting."""
    address = Address.parse(free_address())
    listener = Listener(address, Pass(b"key", None), b"context")
    silent = []
    try:
        for _ in range(MAX_STRANGERS):
            silent.append(socket.create_connection((address.host, address.port), timeout=TIMEOUT))
            assert len(silent[-1].recv(100)) == HANDSHAKE - 32  # it is being authenticated
        start = time.monotonic()
        worker = dial(address, Pass(b"key", None), b"context", Deadline(TIMEOUT))
        listener.accept(Deadline(TIMEOUT)).close()
        worker.close()
        assert time.monotonic() - start < 1
        assert silent[0].recv(1) == b""  # the oldest
        silent[1].settimeout(0.05)
        with pytest.raises(TimeoutError):
            silent[1].recv(1)
    finally:
        listener.close()
        for stranger in silent:
            stranger.close()


def test_a_share_of_the_hostile_connections():
    report = hostile.run(400)
    assert not report.faults, str(report)
    assert sum(report.sent.values()) == 400 + report.more
    assert len(report.sent) == 7


def test_a_share_of_the_damaged_messages():
    """make fuzz-frames; a compiler is needed."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or shutil.which("make") is None:
        pytest.skip("there is no compiler here")
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = ["make", "fuzz-frames", "ARGS=20000", f"CXX={compiler}"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10000 streams of frames and 10000 packed histograms, no fault" in done.stdout


def frame(number, payload, kind=1):
    """A frame as csrc/frames.h draws it."""
    head = struct.pack("<IIQQ", kind, zlib.crc32(payload), number, len(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def one_worker_and_two_sockets():
    """Worker 1 of three, and the ends that workers 0 and 2 would have."""
    (zero, end_of_zero), (two, end_of_two) = socket.socketpair(), socket.socketpair()
    sockets = [zero.detach(), -1, two.detach()]
    return _core.SocketComm(1, sockets, ["a", "b", "c"], 10.0), (end_of_zero, end_of_two)


def test_a_worker_that_is_done_may_leave():
    comm, (zero, two) = one_worker_and_two_sockets()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(comm.exchange, [b"", b"mine", b""])
        zero.sendall(frame(1, b"first"))
        assert zero.recv(100) == frame(1, b"")
        zero.close()
        with pytest.raises(TimeoutError):
            answer.result(0.3)  # worker 2 is late, worker 0 is not missed
        two.sendall(frame(1, b"third" * 10_000))
        assert answer.result(TIMEOUT) == [b"first", b"mine", b"third" * 10_000]
    with pytest.raises(WorkerLost, match=r"worker 0 \(a\) is lost: its connection was closed"):
        comm.exchange([b"", b"", b""])


def test_a_message_out_of_turn_is_noticed():
    comm, (zero, two) = one_worker_and_two_sockets()
    zero.sendall(frame(1, b"") + frame(0, b"", kind=2))
    two.sendall(frame(1, b"") + frame(3, b""))
    assert comm.exchange([b"", b"", b""]) == [b"", b"", b""]
    with pytest.raises(WorkerLost, match=r"worker 2 \(c\) is lost: it sent a message out of turn"):
        comm.exchange([b"", b"", b""])


@pytest.mark.parametrize("flipped", range(0, 8 * 34, 7))
def test_every_damaged_bit_is_noticed(flipped):
    comm, (zero, two) = one_worker_and_two_sockets()
    sent = bytearray(frame(1, b"third!"))
    sent[flipped // 8] ^= 1 << flipped % 8
    zero.sendall(frame(1, b""))
    two.sendall(sent)
    with pytest.raises(WorkerLost, match=r"worker 2 \(c\) is lost: it sent "):
        comm.exchange([b"", b"", b""])


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n" * 2, os.urandom(100), b"\0" * 28])
def test_nonsense_on_a_connection_is_noticed(sent):
    ours, theirs = socket.socketpair()
    comm = _core.SocketComm(0, [-1, ours.detach()], ["a", "b"], 10.0)
    theirs.sendall(sent)
    with pytest.raises(WorkerLost, match=r"worker 1 \(b\) is lost: it sent no message of qgbdt"):
        comm.exchange([b"", b""])
    theirs.close()


def test_waiting_costs_nothing():
    early, late = connect_sockets(2)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(early.gather, 1)
        busy, start = time.process_time(), time.monotonic()
        time.sleep(1)
        assert not answer.done()
        assert time.process_time() - busy < 0.1 * (time.monotonic() - start)
        assert late.gather(2) == answer.result(TIMEOUT) == [1, 2]


# ----------------------------------------------------------------------------------- lost workers


def work_until_lost(rank, world_size, address, answers, options):
    """Fit again and again until a worker is lost; then fit alone."""
    X = hurting_data(3000, 10)
    y, _ = targets(X, "binary")
    mine = slice(rank, None, world_size)
    with connect(address, world_size, rank, **options) as worker:
        answers.put((rank, "ready", 0.0))
        try:
            while True:
                QGBDTClassifier(n_estimators=50, n_jobs=1).fit(
                    X[mine], y[mine], communicator=worker
                )
        except WorkerLost as error:
            noticed = time.time()
            alone = QGBDTClassifier(n_estimators=2, n_jobs=1).fit(X, y)
            assert alone.booster_.num_trees() == 2
            answers.put((rank, str(error), noticed))


def strike(find_victim, sign, n_answers, **options):
    """Three workers that fit, a signal, and {rank: (what it raises, after how many seconds)}.

    find_victim gets the process id of worker 1 and returns that of the process to be struck.
    """
    spawn = multiprocessing.get_context("spawn")
    address, answers = free_address(), spawn.Queue()
    workers = [
        spawn.Process(target=work_until_lost, args=(rank, 3, address, answers, options))
        for rank in range(3)
    ]
    try:
        for worker in workers:
            worker.start()
        for _ in workers:
            assert answers.get(timeout=TIMEOUT)[1] == "ready"
        time.sleep(0.3)  # somewhere in a fit
        victim = find_victim(workers[1].pid)
        start = time.time()
        os.kill(victim, sign)
        heard = [answers.get(timeout=TIMEOUT) for _ in range(n_answers)]
        return {rank: (message, noticed - start) for rank, message, noticed in heard}
    finally:
        for worker in workers:
            worker.kill()
            worker.join(TIMEOUT)


LOSSES = pytest.mark.parametrize(
    ("sign", "heartbeat", "words"),
    [
        (signal.SIGKILL, 10.0, "its connection was closed"),
        (signal.SIGSTOP, 2.0, "it has been silent for 2 seconds"),
    ],
    ids=["kill", "stop"],
)


def check_loss(sign, heartbeat, words, find_victim=lambda pid: pid, **options):
    errors = strike(find_victim, sign, 2, heartbeat=heartbeat, **options)
    assert sorted(errors) == [0, 2]
    for message, seconds in errors.values():
        assert message.startswith(f"worker 1 (127.0.0.1) is lost: {words}")
        assert seconds < (2 if sign == signal.SIGKILL else heartbeat + 2)


@LOSSES
def test_a_lost_worker_is_noticed_by_all(sign, heartbeat, words):
    check_loss(sign, heartbeat, words)


def test_a_share_of_the_kills():
    report = kill_workers.run(kills=4, stops=1, cuts=0, seed=1)
    assert not report.faults, str(report)
    assert sum(report.outcomes.values()) >= 5


@pytest.mark.skipif(not network.is_possible(), reason=network.NEEDS)
def test_a_share_of_the_cuts():
    report = kill_workers.run(kills=0, stops=0, cuts=3, seed=0)
    assert not report.faults, str(report)
    assert sum(report.outcomes.values()) >= 6


def test_a_slow_worker_is_not_lost():
    report = kill_workers.Report()
    kill_workers.run_beside_a_slow_one(4, report)
    assert not report.faults, str(report)
    assert report.outcomes == {"finished beside a slow one": 3}
