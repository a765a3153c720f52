"""Workers killed or stopped at random moments of a distributed run: the others must notice in time.

A run is what a worker does: meet, fit twice, save. One of its 2 to 5 workers gets SIGKILL or
SIGSTOP at a random moment. Every other must either have finished, or raise WorkerLost that names
that worker: within 2 s of a kill, within the heartbeat and 2 s of a stop. Then it must be able to
fit alone. (Who dies before it came to the rendezvous has no name: there the others run into the
time limit.)

    python tests/campaigns/kill_workers.py --kills 200 --stops 50 --seed 0
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from qgbdt import QGBDTClassifier
from qgbdt.distributed import connect
from qgbdt.errors import DistributedError, WorkerLost

HEARTBEAT = {signal.SIGKILL: 10.0, signal.SIGSTOP: 1.0}
GRACE = 2.0  # seconds
MEETING = 3.0  # seconds that workers wait for one that never comes
GIVES_UP = 60  # seconds after which a survivor counts as hung
ROWS, ROUNDS = 20_000, 20


@dataclass
class Report:
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds that a survivor took to notice, beyond the heartbeat of a stop

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.outcomes.items()))
        return (
            f"survivors: {counts}; slowest {self.slowest:.2f} s; {len(self.faults)} faults"
            + "".join(f"\n  {fault}" for fault in self.faults)
        )


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 10))
    return X, (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


def work(rank: int, world_size: int, address: str, heartbeat: float, folder: Path) -> str:
    X, y = data()
    mine = slice(rank, None, world_size)
    with connect(address, world_size, rank, heartbeat=heartbeat, timeout=MEETING) as workers:
        for _ in range(2):
            model = QGBDTClassifier(n_estimators=ROUNDS, n_jobs=1)
            model.fit(X[mine], y[mine], communicator=workers)
        if rank == 0:
            model.booster_.save_model(folder / "model")
    return "finished"


def survive(answers: Connection, *job: object) -> None:
    """A worker's life: the run, and whatever came of it, told to the parent."""
    try:
        said = ("finished", work(*job))
    except (WorkerLost, DistributedError) as error:
        said = (type(error).__name__, str(error))
    noticed = time.time()
    X, y = data()
    QGBDTClassifier(n_estimators=1, n_jobs=1).fit(X, y)
    answers.send((*said, noticed))


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def start(*job: object) -> tuple[int, Connection]:
    """Fork a worker: its process id, and where its answer comes from."""
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            survive(theirs, *job)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return pid, ours


def run_once(
    world_size: int, victim: int, sign: signal.Signals, after: float, report: Report
) -> float:
    """Returns how long the run took."""
    began = time.monotonic()
    heartbeat = HEARTBEAT[sign]
    with tempfile.TemporaryDirectory() as folder:
        job = (world_size, free_address(), heartbeat, Path(folder))
        workers = [start(rank, *job) for rank in range(world_size)]
        try:
            time.sleep(after)
            os.kill(workers[victim][0], sign)
            struck = time.time()
            waiting = {ours: rank for rank, (_, ours) in enumerate(workers) if rank != victim}
            while waiting:
                ready = wait(list(waiting), timeout=GIVES_UP)
                if not ready:
                    report.faults += [f"worker {rank} hangs" for rank in waiting.values()]
                    break
                for ours in ready:
                    judge(waiting.pop(ours), ours, victim, struck, sign, report)
        finally:
            for pid, ours in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                ours.close()
    return time.monotonic() - began


def judge(
    rank: int, ours: Connection, victim: int, struck: float, sign: signal.Signals, report: Report
) -> None:
    try:
        what, message, noticed = ours.recv()
    except EOFError:
        report.faults.append(f"worker {rank} died")
        return
    report.outcomes[what] += 1
    if what == "WorkerLost":
        late = noticed - struck - (HEARTBEAT[sign] if sign == signal.SIGSTOP else 0)
        report.slowest = max(report.slowest, late)
        if late > GRACE:
            report.faults.append(f"worker {rank} took {late:.1f} s too long: {message}")
        if not message.startswith(f"worker {victim} "):
            report.faults.append(f"worker {rank} blames another than {victim}: {message}")


def run(kills: int, stops: int, seed: int) -> Report:
    rng = random.Random(seed)
    report = Report()
    length = run_once(3, 2, signal.SIGKILL, 0.0, Report())  # warms the caches up
    length = max(length - MEETING, 1.0)
    for sign, times in ((signal.SIGKILL, kills), (signal.SIGSTOP, stops)):
        for _ in range(times):
            world_size = rng.randint(2, 5)
            run_once(world_size, rng.randrange(world_size), sign, rng.uniform(0, length), report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = run(args.kills, args.stops, args.seed)
    print(report)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
