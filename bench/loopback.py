"""Several workers on this machine, over loopback sockets: each a process with one thread."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import network
from cluster import shard
from sources import Data

TIMEOUT = 3600  # seconds


def run(data: Data, world_size: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """What each worker reports, by rank."""
    address = network.free_address()
    fork = multiprocessing.get_context("fork")  # the rows are not copied
    with fork.Pool(world_size) as pool:
        jobs = [
            pool.apply_async(work, (rank, world_size, address, data, options))
            for rank in range(world_size)
        ]
        return [job.get(TIMEOUT) for job in jobs]


def work(
    rank: int, world_size: int, address: str, data: Data, options: dict[str, Any]
) -> dict[str, Any]:
    """A worker's fit of its part of the rows."""
    import qgbdt
    from qgbdt.distributed import connect

    part = shard(data.train, rank, world_size)
    estimators = {"rank": qgbdt.QGBDTRanker, "regression": qgbdt.QGBDTRegressor}
    estimator = estimators.get(data.task, qgbdt.QGBDTClassifier)(**options, n_jobs=1)
    group = {} if part.group is None else {"group": part.group}
    with connect(address, world_size, rank) as communicator:
        start = time.perf_counter()
        estimator.fit(part.X, part.y, communicator=communicator, **group)
        seconds = time.perf_counter() - start
        report = communicator.report()
    model = estimator.booster_.model_to_string()
    return {"model": model, "seconds": seconds, **report, **estimator.fit_profile_}
