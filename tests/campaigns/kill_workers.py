"""Workers killed, stopped or cut off at random moments of a run: the others must notice in time.

A run is what a worker does: meet, fit twice, save. One of its 2 to 5 workers gets SIGKILL or
SIGSTOP, or its cable is pulled, at a random moment. Every other must either have finished, or raise
WorkerLost that names that worker: within 2 s of a kill, within the heartbeat and 2 s of a stop or a
cut. Then it must be able to fit alone. (Who dies before it came to the rendezvous has no name:
there the others run into the time limit.) One that was cut off loses the others, too. And beside a
worker that gets a twentieth of a CPU nobody may be lost.

Cables are those of bench/network.py: Linux, as root.

    python tests/campaigns/kill_workers.py --kills 200 --stops 50 --cuts 50 --slow 600 --seed 0
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
import network

from qgbdt import QGBDTClassifier
from qgbdt.distributed import connect
from qgbdt.errors import DistributedError, WorkerLost

HEARTBEAT = {"kill": 10.0, "stop": 1.0, "cut": 1.0}
PORT = 23456
SLOW_HEARTBEAT, SLOW_SHARE, PERIOD = 2.0, 0.05, 0.5  # seconds, of a CPU, seconds
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


def work(
    rank: int,
    world_size: int,
    address: str,
    heartbeat: float,
    folder: Path,
    cables: network.Network | None,
) -> str:
    if cables is not None:
        cables.enter(rank)
    X, y = data()
    mine = slice(rank, None, world_size)
    how = {"key": b"secret", "heartbeat": heartbeat, "timeout": MEETING}
    with connect(address, world_size, rank, **how) as workers:
        for _ in range(2):
            model = QGBDTClassifier(n_estimators=ROUNDS, n_jobs=1)
            model.fit(X[mine], y[mine], communicator=workers)
        if rank == 0:
            model.booster_.save_model(folder / "model")
    return "finished"


def go_on(rank: int, address: str, seconds: float) -> str:
    """A worker's run beside a slow one: one fit after the other."""
    X, y = data()
    end = time.monotonic() + seconds
    with connect(address, 3, rank, heartbeat=SLOW_HEARTBEAT, timeout=GIVES_UP) as workers:
        n_fits = 0
        while workers.broadcast(b"again" if time.monotonic() < end else b""):
            fit = QGBDTClassifier(n_estimators=1, num_leaves=7, n_jobs=1).fit
            fit(X[rank::3], y[rank::3], communicator=workers)
            n_fits += 1
    return f"{n_fits} fits"


def survive(answers: Connection, run: Callable[..., str], *job: object) -> None:
    """A worker's life: the run, and whatever came of it, told to the parent."""
    try:
        said = ("finished", run(*job))
    except (WorkerLost, DistributedError) as error:
        said = (type(error).__name__, str(error))
    noticed = time.time()
    X, y = data()
    QGBDTClassifier(n_estimators=1, n_jobs=1).fit(X, y)
    answers.send((*said, noticed))


def start(run: Callable[..., str], *job: object) -> tuple[int, Connection]:
    """Fork a worker: its process id, and where its answer comes from."""
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            survive(theirs, run, *job)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return pid, ours


def run_once(world_size: int, victim: int, blow: str, after: float, report: Report) -> float:
    """Returns how long the run took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        cables = opened.enter_context(network.Network(world_size)) if blow == "cut" else None
        address = f"{cables.address(0)}:{PORT}" if cables else network.free_address()
        job = (world_size, address, HEARTBEAT[blow], Path(folder), cables)
        workers = [start(work, rank, *job) for rank in range(world_size)]
        try:
            time.sleep(after)
            if cables is not None:
                cables.cut(victim)
            else:
                os.kill(workers[victim][0], signal.SIGKILL if blow == "kill" else signal.SIGSTOP)
            struck = time.time()
            waiting = {ours: rank for rank, (_, ours) in enumerate(workers)}
            if cables is None:
                del waiting[workers[victim][1]]
            while waiting:
                ready = wait(list(waiting), timeout=GIVES_UP)
                if not ready:
                    report.faults += [f"worker {rank} hangs" for rank in waiting.values()]
                    break
                for ours in ready:
                    judge(waiting.pop(ours), ours, victim, struck, blow, report)
        finally:
            for pid, ours in workers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                ours.close()
    return time.monotonic() - began


def judge(
    rank: int, ours: Connection, victim: int, struck: float, blow: str, report: Report
) -> None:
    try:
        what, message, noticed = ours.recv()
    except EOFError:
        report.faults.append(f"worker {rank} died")
        return
    report.outcomes[what] += 1
    if what == "WorkerLost":
        late = noticed - struck - (0 if blow == "kill" else HEARTBEAT[blow])
        report.slowest = max(report.slowest, late)
        if late > GRACE:
            report.faults.append(f"worker {rank} took {late:.1f} s too long: {message}")
        if rank != victim and not message.startswith(f"worker {victim} "):
            report.faults.append(f"worker {rank} blames another than {victim}: {message}")


def run_beside_a_slow_one(seconds: float, report: Report) -> None:
    """Three workers, of which one gets a twentieth of a CPU, in parts: all must finish."""
    address = network.free_address()
    workers = [start(go_on, rank, address, seconds) for rank in range(3)]
    slow, answer = workers[2]
    end = time.monotonic() + seconds + GIVES_UP
    while not answer.poll(PERIOD * (1 - SLOW_SHARE)) and time.monotonic() < end:
        os.kill(slow, signal.SIGCONT)
        time.sleep(PERIOD * SLOW_SHARE)
        os.kill(slow, signal.SIGSTOP)
    for rank, (pid, ours) in enumerate(workers):
        os.kill(pid, signal.SIGCONT)
        what, message, _ = ours.recv() if ours.poll(GIVES_UP) else ("hangs", "", 0)
        report.outcomes[f"{what} beside a slow one"] += 1
        if what != "finished":
            report.faults.append(f"worker {rank} beside a slow one {what}: {message}")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()


def run(kills: int, stops: int, cuts: int, seed: int) -> Report:
    rng = random.Random(seed)
    report = Report()
    length = run_once(3, 2, "kill", 0.0, Report())  # warms the caches up
    length = max(length - MEETING, 1.0)
    for blow, times in (("kill", kills), ("stop", stops), ("cut", cuts)):
        for _ in range(times):
            world_size = rng.randint(2, 5)
            run_once(world_size, rng.randrange(world_size), blow, rng.uniform(0, length), report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--cuts", type=int, default=50 if os.geteuid() == 0 else 0)
    parser.add_argument("--slow", type=float, default=600.0, help="seconds beside a slow worker")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = run(args.kills, args.stops, args.cuts, args.seed)
    if args.slow > 0:
        run_beside_a_slow_one(args.slow, report)
    print(report)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
