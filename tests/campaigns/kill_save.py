"""Processes killed (SIGKILL) while they save models: the file is the old model or the new one.

Each process replaces one file by one model after another and is killed at a random moment. After
each kill the file must hold the bytes of one of the models. What a kill may leave is a temporary
file, and how many it left shows how often a save was cut short.

    python tests/campaigns/kill_save.py --kills 1000 --seed 0
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qgbdt import Booster, QGBDTRegressor

LONGEST_LIFE = 0.05  # seconds from a process's first save to the kill
GIVES_UP = 60  # seconds after which a process that nobody kills ends by itself


@dataclass
class Report:
    kills: int = 0
    torn: int = 0
    cut_short: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.torn} torn files, "
            f"{self.cut_short} saves cut short (a temporary file was left)"
        )


def models() -> list[Booster]:
    """A small model and one of about a megabyte."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 3)), rng.normal(size=2000)
    sizes = ({"n_estimators": 1}, {"n_estimators": 40, "num_leaves": 255, "min_child_samples": 1})
    return [QGBDTRegressor(n_jobs=1, **size).fit(X, y).booster_ for size in sizes]


def save_in_turn(path: Path, boosters: list[Booster], started: int) -> None:
    end = time.monotonic() + GIVES_UP
    while time.monotonic() < end:
        for booster in boosters:
            booster.save_model(path)
        os.write(started, b".")


def kill_once(path: Path, boosters: list[Booster], life: float) -> None:
    """Start a process that saves, and kill it `life` seconds after its first saves."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            save_in_turn(path, boosters, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    try:
        assert os.read(read_end, 1) == b".", "the process could not save"
        time.sleep(life)
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(read_end)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the process ended before the kill"


def run(kills: int, seed: int) -> Report:
    rng = random.Random(seed)
    boosters = models()
    whole = {booster.to_bytes() for booster in boosters}
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.txt")
        for _ in range(kills):
            kill_once(path, boosters, rng.uniform(0, LONGEST_LIFE))
            report.kills += 1
            report.torn += path.read_bytes() not in whole
            for temporary in set(path.parent.iterdir()) - {path}:
                temporary.unlink()
                report.cut_short += 1
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = run(args.kills, args.seed)
    print(report)
    sys.exit(report.torn > 0)


if __name__ == "__main__":
    main()
