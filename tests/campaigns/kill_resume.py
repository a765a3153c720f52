"""Workers killed at random moments and started again, until the model is written.

A schedule: some workers train with a checkpoint; at a random moment one of them or all get SIGKILL;
as many, one fewer or one more go on from the checkpoint; and so on, one to four times, until the
last are left alone. The model file must be that of a run that nobody interrupted.

    python tests/campaigns/kill_resume.py --schedules 100 --seed 0
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
import network

from qgbdt.distributed import worker

MOST_WORKERS = 5
ROWS, ROUNDS = 20_000, 30
MEETING = "3"  # seconds that workers wait for one that never comes
FINISHES = 120  # seconds after which a run that nobody kills counts as hung
PARAMS = {"n_estimators": ROUNDS, "n_jobs": 1}


@dataclass
class Report:
    n_same: int = 0
    n_kills: int = 0
    trees_kept: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kept = ", ".join(f"{n} {what}" for what, n in sorted(self.trees_kept.items()))
        return (
            f"{self.n_same} files equal the uninterrupted one after {self.n_kills} kills; "
            f"checkpoints found by those that went on: {kept}; {len(self.faults)} faults"
            + "".join(f"\n  {fault}" for fault in self.faults)
        )


def write_shards(folder: Path) -> None:
    """The same rows, cut for every number of workers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 10))
    y = X[:, 0] + X[:, 1] * X[:, 2] + 0.1 * rng.normal(size=ROWS)
    for world_size in range(1, MOST_WORKERS + 1):
        for rank, rows in enumerate(np.array_split(np.column_stack([X, y]), world_size)):
            np.save(folder / f"{world_size}-{rank}.npy", rows)
    (folder / "params").write_text(json.dumps(PARAMS))


def start(folder: Path, run: Path, world_size: int) -> list[int]:
    """Fork workers: their process ids."""
    address = network.free_address()
    return [
        fork(
            [
                *("--rendezvous", address, "--world-size", str(world_size), "--rank", str(rank)),
                *("--timeout", MEETING, "--task", "regression", "--target", "10"),
                *("--data", f"{folder}/{world_size}-{rank}.npy", "--params", f"{folder}/params"),
                *("--output", f"{run}/model", "--checkpoint-dir", str(run), "--resume"),
            ]
        )
        for rank in range(world_size)
    ]


def fork(arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            code = worker.main(arguments)
        finally:
            os._exit(code)
    return pid


def exit_codes(pids: list[int]) -> Iterator[int]:
    """What each worker ended with; one that takes too long is killed."""
    end = time.monotonic() + FINISHES
    for pid in pids:
        while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        yield os.waitstatus_to_exitcode(ended[1])


def interrupt(pids: list[int], rng: random.Random, length: float) -> int:
    """Kill one worker or all at a random moment; the number killed."""
    time.sleep(rng.uniform(0, length))
    victims = pids if rng.random() < 0.5 else [rng.choice(pids)]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    return len(victims)


def run_schedule(folder: Path, expected: bytes, length: float, seed: str, report: Report) -> None:
    rng = random.Random(seed)
    world_size = rng.randint(2, MOST_WORKERS - 1)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        for _ in range(rng.randint(1, 4)):
            pids = start(folder, run, world_size)
            report.n_kills += interrupt(pids, rng, length)
            list(exit_codes(pids))
            is_there = (run / "checkpoint.qgbdt").exists()
            report.trees_kept["with trees" if is_there else "none yet"] += 1
            world_size = min(max(world_size + rng.randint(-1, 1), 1), MOST_WORKERS)
        codes = list(exit_codes(start(folder, run, world_size)))
        if codes != [0] * world_size:
            report.faults.append(f"schedule {seed}: exit codes {codes}")
        elif (run / "model").read_bytes() != expected:
            report.faults.append(f"schedule {seed}: another model")
        else:
            report.n_same += 1


def run(schedules: int, seed: int) -> Report:
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder)
        began = time.monotonic()
        assert list(exit_codes(start(folder, folder, 3))) == [0, 0, 0]
        length = time.monotonic() - began
        expected = (folder / "model").read_bytes()
        for schedule in range(schedules):
            run_schedule(folder, expected, length, f"{seed}-{schedule}", report)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = run(args.schedules, args.seed)
    print(report)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
