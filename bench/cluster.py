"""Distributed fits side by side, each worker with a network namespace and a cable of its own.

Every library trains on the same rows with as many workers of one thread each, all on this machine,
over a network of the given bandwidths. The clock runs from a common start until the last worker has
the model: binning and the meeting of the workers included. Needs root, Linux, ip and tc.

Examples
--------
python bench/distributed.py --network 100mbit,1gbit --shapes higgs --rounds 5
python bench/distributed.py --network none --peers qgbdt,lightgbm
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import metrics
import numpy as np
import peers
import results
import shapes
import study
from network import Network
from sources import Data, Part

ROWS = {"higgs": 1_000_000, "msltr": 300_000, "epsilon": 40_000}
DEFAULT_PEERS = ["qgbdt", "lightgbm", "lightgbm-quant-row", "xgboost", "xgboost-depthwise"]
PORT = 23456
TIMEOUT = 3600  # seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Run all fits, and print a table for each shape and bandwidth."""
    args = parse(argv)
    for shape in args.shapes:
        data = shapes.make(shape, max(round(args.scale * ROWS[shape]), 1000))
        for rate in args.network:
            fits = {
                name: train_together(name, data, rate, args) for name in peers.installed(args.peers)
            }
            print(
                f"{shape}, {data.n_train:,} x {data.X.shape[1]}, {args.workers} workers on {rate}, "
                f"{args.rounds} rounds, {args.leaves} leaves\n\n{table(fits, data.task)}\n"
            )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", type=lambda text: text.split(","), required=True)
    parser.add_argument("--shapes", type=study.some_of(ROWS), default=["higgs", "epsilon"])
    parser.add_argument("--peers", type=study.some_of(peers.PEERS), default=DEFAULT_PEERS)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--leaves", type=int, default=255)
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (default 1)")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Worker:
    """One of the workers, and where all are."""

    rank: int
    network: Network

    @property
    def size(self) -> int:
        return self.network.size

    @property
    def hosts(self) -> list[str]:
        return [self.network.address(rank) for rank in range(self.size)]


def shard(train: Part, rank: int, world_size: int) -> Part:
    """A worker's rows, about as many as another's, in whole queries."""
    n = len(train.y)
    sizes = np.ones(n, np.int64) if train.group is None else train.group
    edges = np.concatenate([[0], np.cumsum(sizes)])
    queries = np.searchsorted(edges, n * np.arange(world_size + 1) // world_size)
    begin, end = edges[queries[rank : rank + 2]]
    group = None if train.group is None else train.group[queries[rank] : queries[rank + 1]]
    return Part(train.X[begin:end], train.y[begin:end], group, None)


def train_qgbdt(peer: peers.QGBDT, worker: Worker, part: Part) -> None:
    from qgbdt.distributed import connect

    address = f"{worker.hosts[0]}:{PORT}"
    with connect(address, worker.size, worker.rank, key=b"benchmark") as communicator:
        group = {} if part.group is None else {"group": part.group}
        peer.model = peer.estimator().fit(part.X, part.y, communicator=communicator, **group)


def train_lightgbm(peer: peers.LightGBM, worker: Worker, part: Part) -> None:
    params = {
        **peer.params,
        "tree_learner": "data",
        "machines": ",".join(f"{host}:{PORT}" for host in worker.hosts),
        "num_machines": worker.size,
        "local_listen_port": PORT,
        "pre_partition": True,
    }
    data = peer.library.Dataset(part.X, part.y, group=part.group, params=params)
    peer.model = peer.library.train(params, data, num_boost_round=peer.settings.rounds)


def train_xgboost(peer: peers.XGBoost, worker: Worker, part: Part) -> None:
    from xgboost.collective import CommunicatorContext

    with CommunicatorContext(dmlc_tracker_uri=worker.hosts[0], dmlc_tracker_port=PORT):
        peer.fit(part)


def tracker_of(worker: Worker) -> Any:
    """What workers of XGBoost meet at; it must be there before they come."""
    from xgboost.tracker import RabitTracker

    if worker.rank != 0:
        return None
    tracker = RabitTracker(worker.size, worker.hosts[0], PORT)
    tracker.start()
    return tracker


TRAIN: dict[str, Callable[[Any, Worker, Part], None]] = {
    "qgbdt": train_qgbdt,
    "lightgbm": train_lightgbm,
    "xgboost": train_xgboost,
}


def launch(
    worker: Worker, name: str, data: Data, args: argparse.Namespace, start: Barrier, answers: Any
) -> None:
    """A worker's life: its seconds and, of the first, the test metric."""
    worker.network.enter(worker.rank)
    peer = peers.make(name, settings(data, args))
    part = shard(data.train, worker.rank, worker.size)
    tracker = tracker_of(worker) if isinstance(peer, peers.XGBoost) else None
    start.wait(TIMEOUT)
    began = time.perf_counter()
    TRAIN[name.split("-")[0]](peer, worker, part)
    seconds = time.perf_counter() - began
    metric = float("nan")
    if worker.rank == 0:
        scores = metrics.evaluate(data.task, data.test, peer.predict(data.test.X))
        metric = scores[metrics.SHOWN[data.task]]
    answers.put((worker.rank, seconds, metric))
    if tracker is not None:
        tracker.wait_for()


def settings(data: Data, args: argparse.Namespace) -> peers.Settings:
    return peers.Settings(
        task=data.task,
        n_classes=data.n_classes,
        rounds=args.rounds,
        leaves=args.leaves,
        learning_rate=0.1,
        threads=1,
        seed=0,
        max_bin=255,
    )


def train_together(name: str, data: Data, rate: str, args: argparse.Namespace) -> dict[str, float]:
    """The seconds and the metric of a fit by all workers, and the bytes one sends a round."""
    fork = multiprocessing.get_context("fork")  # the rows are not copied
    start, answers = fork.Barrier(args.workers), fork.Queue()
    with Network(args.workers, None if rate == "none" else rate) as network:
        workers = [
            fork.Process(
                target=launch, args=(Worker(rank, network), name, data, args, start, answers)
            )
            for rank in range(args.workers)
        ]
        for worker in workers:
            worker.start()
        try:
            done = [answer_of(workers, answers) for _ in workers]
            sent = [network.sent_bytes(rank) for rank in range(args.workers)]
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
    return {
        "seconds": max(seconds for _, seconds, _ in done),
        "metric": next(metric for rank, _, metric in done if rank == 0),
        "bytes": float(np.mean(sent)) / args.rounds,
    }


def answer_of(workers: Sequence[Any], answers: Any) -> tuple[int, float, float]:
    """The next answer; an error if a worker died before it gave one."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        with suppress(queue.Empty):
            answer: tuple[int, float, float] = answers.get(timeout=1)
            return answer
        if any(worker.exitcode not in (None, 0) for worker in workers):
            break
    raise RuntimeError("a worker died or hangs")


def table(fits: dict[str, dict[str, float]], task: str) -> str:
    """Seconds, their ratio to the first library's, bytes and metric of each library."""
    header = ["library", "s", "x", "MB a worker and round", metrics.SHOWN[task]]
    first = next(iter(fits.values()))["seconds"]
    rows = [
        [
            name,
            f"{fit['seconds']:.2f}",
            f"{fit['seconds'] / first:.2f}",
            f"{fit['bytes'] / 1e6:.2f}",
            results.number(fit["metric"]),
        ]
        for name, fit in fits.items()
    ]
    return results.table(header, rows)
