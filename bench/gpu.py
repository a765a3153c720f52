"""Time training on a GPU: kernel by kernel, and whole fits beside other libraries on it.

One command, at most ten minutes. It measures what bounds kernels: copies in memory, additions in
shared memory. Set after set it trains once with every kernel waited for, fits with every library as
often as there is time, and prints a table. Records are appended to bench/results/gpu.jsonl, each
with the date, the card and its driver.

Examples
--------
python bench/gpu.py
python bench/gpu.py --scale 0.1 --seconds 120
"""

from __future__ import annotations

import argparse
import math
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers
import shapes
import sources
import study
import train
from results import Record
from study import Case

KernelTimes = dict[str, tuple[int, float, int]]
PEERS = ("qgbdt-cuda", "xgboost-cuda", "catboost-cuda", "lightgbm-cuda")
CASES = (
    Case("higgs", rows=10_500_000, rounds=500),
    Case("criteo", rows=2_000_000),
    Case("epsilon", rows=100_000),
    Case("year", rows=400_000),
)
RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
KERNEL_ROUNDS = 50  # of the fit whose kernels are waited for
BOUND_BLOCKS = 8192


def main(argv: Sequence[str] | None = None) -> None:
    """Time kernels, then whole fits, set after set until the time is up."""
    args = parse(argv)
    end = time.monotonic() + args.seconds
    card = graphics_card()
    print(card)
    store = study.Store(args.results)
    names = peers.installed(args.peers)
    bounds = measured_bounds(args.scale)
    for i, case in enumerate(CASES):
        left = end - time.monotonic()
        if left <= 0:
            print(f"stopped before {case.shape}: the time is up")
            return
        share_ends = time.monotonic() + left / (len(CASES) - i)
        rounds = args.rounds or case.rounds
        data = shapes.make(case.shape, round(args.scale * case.rows))
        for record in kernel_records(data, bounds, min(rounds, KERNEL_ROUNDS)):
            store.add(record | card)
        timed = replace(case, rows=data.n_train, rounds=rounds, threads=peers.default_threads())
        fits = []
        with sources.saved(data) as folder:
            for record in whole_fits(timed, folder, names, args.repeat, share_ends):
                store.add(record | card)
                fits.append(record)
        print(train.report(fits, data.task))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=study.some_of(peers.PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, help="boosting rounds (default 100, of higgs 500)")
    parser.add_argument("--repeat", type=int, default=3, help="fits of each library (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (default 1)")
    parser.add_argument("--seconds", type=float, default=540.0, help="no fit begins later (540)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def graphics_card() -> Record:
    """The name, memory and driver of the first card."""
    fields = ("name", "memory.total", "driver_version")
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name, memory, driver = lines.splitlines()[0].split(", ")
    return {"card": name, "card_memory": memory, "driver": driver}


def whole_fits(
    case: Case, folder: Path, names: Sequence[str], repeats: int, end: float
) -> Iterator[Record]:
    """Fits of the case by every library in turns; what would begin after the end is left out."""
    for repeat in range(repeats):
        for name in names:
            left = end - time.monotonic()
            if left <= 0:
                print(f"stopped before repeat {repeat} of {case.shape} by {name}: the time is up")
                return
            record = study.fit_case(case, lambda: folder, left, name) | {"repeat": repeat}
            print(study.summary(record))
            yield record


def measured_bounds(scale: float) -> dict[str, float]:
    """The card's bytes a second from memory to memory, and additions a second in shared memory."""
    from qgbdt import _cuda

    for _ in range(2):  # the first time kernels are loaded, too
        device = _cuda.device(timed=True)
        if not device.run_bounds(max(1, round(scale * BOUND_BLOCKS))):
            raise RuntimeError("The card copies or adds wrongly.")
    times = device.kernel_times()
    rates = {}
    for name, kernel in (("bytes", "qgbdt::CopyWords"), ("additions", "qgbdt::AddOnes")):
        _, seconds, work = times[kernel]
        rates[name] = work / seconds if seconds else math.nan
        print(f"bound: {rates[name]:.3g} {name} a second")
    return rates


def kernel_records(data: sources.Data, bounds: dict[str, float], rounds: int) -> list[Record]:
    """Seconds and launches of each kernel in one fit that waits for each."""
    from qgbdt import QGBDTRegressor, _core, _cuda
    from qgbdt.constraints import constraint_params
    from qgbdt.params import trainer_params
    from qgbdt.validation import label_gains

    X, y = data.train.X, data.train.y.astype(np.float64)
    names = [f"f{i}" for i in range(X.shape[1])]
    estimator = QGBDTRegressor(n_estimators=rounds, num_leaves=255)
    params = trainer_params(estimator) | {
        "objective": data.task,
        "custom": None,
        "n_outputs": 1,
        "seed": 0,
        "label_gain": label_gains(None),
        **constraint_params(estimator, names, data.task),
    }
    device = _cuda.device(timed=True)
    matrix = _core.BinnedMatrix(X, 255, peers.default_threads())
    _core.train(matrix, y, None, None, names, params, 1, device=device)
    told = study.provenance(data) | {"status": "kernel", "rounds": rounds}
    found = []
    for name, (launches, seconds, work) in by_time(device.kernel_times()):
        line = (
            f"{data.name}: {1e3 * seconds / rounds:9.3f} ms a tree, {launches:6d} launches, {name}"
        )
        record = told | {"kernel": name, "launches": launches, "seconds": seconds}
        if work and seconds:  # additions in shared memory
            record |= {"additions": work, "bound": bounds["additions"]}
            line += f", {work / seconds:.3g} additions a second of {bounds['additions']:.3g}"
        print(line)
        found.append(record)
    return found


def by_time(times: KernelTimes) -> list[tuple[str, tuple[int, float, int]]]:
    return sorted(times.items(), key=lambda kernel: -kernel[1][1])


if __name__ == "__main__":
    main()
