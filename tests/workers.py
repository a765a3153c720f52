"""Several workers, for tests: drawn fits, shards, workers in threads and over sockets, and losses.

QGBDT_DISTRIBUTED_CASES sets how many fits are drawn.
"""

import itertools
import multiprocessing
import os
import signal
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from conftest import (
    OBJECTIVES,
    feature_names,
    few_valued_data,
    hurting_data,
    native_categories,
    native_params,
    sparse_data,
    targets,
)
from network import free_address

from qgbdt import QGBDTClassifier, _core
from qgbdt.distributed import connect
from qgbdt.errors import WorkerLost
from qgbdt.matrices import native_matrix

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


def in_a_fork(work):
    """The exit status of a fork of this process, which works: 0 but for an error."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # ends it if it hangs
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def connect_sockets(world_size, **options):
    """Communicators over loopback sockets, by rank."""
    address = free_address()
    return in_threads(range(world_size), lambda rank: connect(address, world_size, rank, **options))


def connected():
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


def frame(number, payload, kind=1):
    """A frame as csrc/frames.h draws it."""
    head = struct.pack("<IQQ", kind, number, len(payload))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def sealed(message):
    """As csrc/comm.cpp seals it."""
    return message + struct.pack("<I", zlib.crc32(message))


# ------------------------------------------------------------------------------------------ fits


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


def train_together(
    comms,
    parts,
    X,
    y,
    params,
    *,
    weight=None,
    query_sizes=None,
    max_bin=255,
    n_threads=1,
    n_categories=None,
):
    """Each worker's model, of its shard."""

    numbers, values = native_categories(n_categories)

    def work(comm):
        part = parts[comm.rank]
        matrix = _core.BinnedMatrix(
            native_matrix(X[part.rows]), max_bin, n_threads, comm, part.blocks, numbers
        )
        return _core.train(
            matrix,
            y[part.rows],
            None if weight is None else weight[part.rows],
            part.query_sizes,
            feature_names(X),
            params,
            n_threads,
            comm,
            categories=values,
        )[0]

    return in_threads(comms, work)


def drawn_case(seed):
    """Keyword arguments of train_native, and the edges of up to eight shards."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([40, 300, 1500]))
    kind = rng.random()
    if kind < 0.3:
        X, _ = sparse_data(n, int(rng.choice([30, 130])), seed)
    elif kind < 0.5:
        X, _ = few_valued_data(n, int(rng.choice([6, 40])), seed)
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
        path_smooth=float(seed % 4 == 3) * 10,
        rounding=str(rng.choice(["stochastic", "nearest"])),
        seed=seed,
    )
    sampling = [{}, {"subsample": 0.6}, {"data_sample_strategy": "goss", "learning_rate": 0.7}]
    signs = rng.integers(-1, 2, X.shape[1]).astype(np.int8)
    features = [
        {"colsample_bytree": 0.4},
        {"colsample_bynode": 0.5, "most_interacting": 2},
        {"interaction_sets": rng.integers(0, 2, (3, X.shape[1])).astype(np.uint8)},
    ]
    params |= sampling[rng.integers(3)] | features[rng.integers(3)]
    if rng.random() < 0.3:
        params["monotone_constraints"] = signs
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
    if rng.random() < 0.2:
        params |= {"boosting_type": "dart", "skip_drop": 0.2, "drop_rate": 0.6}
    return data, edges


def fit_together(workers, estimator, parts):
    """Each worker's fitted estimator; parts are keyword arguments of fit, by rank."""

    def work(worker):
        return type(estimator)(**estimator.get_params()).fit(
            **parts[worker.rank], communicator=worker
        )

    return in_threads(workers, work)


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
        for _ in workers:  # a sanitizer makes their start long
            assert answers.get(timeout=3 * TIMEOUT)[1] == "ready"
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
