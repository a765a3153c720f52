"""Time training on a GPU: kernel by kernel, and whole fits beside other libraries on it.

One command, at most ten minutes: it makes simulated sets, trains once on each with every kernel
waited for, and then fits set after set with every library, as often as there is time. Records are
appended to bench/results/gpu.jsonl, each with the date, the card and its driver.

Examples
--------
python bench/gpu.py
python bench/gpu.py --scale 0.1 --seconds 120
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import peers
import shapes
import sources
import study
from results import Record
from study import Case

PEERS = ("qgbdt-cuda", "xgboost-cuda", "catboost-cuda", "lightgbm-cuda", "qgbdt")
CASES = (
    Case("higgs", rows=2_000_000),
    Case("year", rows=400_000),
    Case("epsilon", rows=20_000),
    Case("bosch", rows=100_000),
)
RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"


def main(argv: Sequence[str] | None = None) -> None:
    """Time kernels, then whole fits until the time is up."""
    args = parse(argv)
    end = time.monotonic() + args.seconds
    card = graphics_card()
    print(card)
    store = study.Store(args.results)
    names = peers.installed(args.peers)
    threads = peers.default_threads()
    for case in CASES:
        rows = round(args.scale * case.rows)
        for record in kernel_records(case.shape, rows, args.rounds):
            store.add(record | card)
    for repeat in range(args.repeat):
        for case in CASES:
            if time.monotonic() > end:
                print(f"stopped before repeat {repeat} of {case.shape}: the time is up")
                return
            data = shapes.make(case.shape, round(args.scale * case.rows))
            with sources.saved(data) as folder:
                for name in names:
                    timed = Case(case.shape, data.n_train, rounds=args.rounds, threads=threads)
                    left = max(end - time.monotonic(), 1.0)
                    record = study.fit_case(timed, lambda folder=folder: folder, left, name)
                    store.add(record | card | {"repeat": repeat})
                    print(study.summary(record | {"repeat": repeat}))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=study.some_of(peers.PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=100, help="boosting rounds (default 100)")
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


def kernel_records(shape: str, rows: int, rounds: int) -> list[Record]:
    """Seconds and launches of each kernel in one fit that waits for each."""
    from qgbdt import QGBDTRegressor, _core, _cuda
    from qgbdt.constraints import constraint_params
    from qgbdt.params import trainer_params
    from qgbdt.validation import label_gains

    data = shapes.make(shape, rows)
    X, y = data.train.X, data.train.y.astype(np.float64)
    names = [f"f{i}" for i in range(X.shape[1])]
    params = trainer_params(QGBDTRegressor(n_estimators=rounds, num_leaves=255)) | {
        "objective": data.task,
        "custom": None,
        "n_outputs": 1,
        "seed": 0,
        "label_gain": label_gains(None),
        **constraint_params(None, None, names, data.task),
    }
    device = _cuda.device(timed=True)
    matrix = _core.BinnedMatrix(X, 255, peers.default_threads())
    _core.train(matrix, y, None, None, names, params, 1, device=device)
    told = study.provenance(data) | {"status": "kernel", "rounds": rounds}
    found = []
    for name, (launches, seconds) in sorted(device.kernel_times().items(), key=lambda k: -k[1][1]):
        print(f"{shape}: {1e3 * seconds / rounds:9.3f} ms a tree, {launches:6d} launches, {name}")
        found.append(told | {"kernel": name, "launches": launches, "seconds": seconds})
    return found


if __name__ == "__main__":
    main()
