"""Time whole fits of GBDT libraries side by side, each in a process of its own.

Examples
--------
python bench/train.py --shape higgs --rows 800000 --rounds 100 --leaves 255 --threads 2
python bench/train.py --shape year --peers qgbdt-3,qgbdt-5,lightgbm-row,xgboost --repeat 3
python bench/train.py --data houses.parquet --target price --json houses.jsonl
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import fit_once
import metrics
import peers
import results
import shapes
import sources
from results import Record

DEFAULT_PEERS = (
    "qgbdt",
    "lightgbm",
    "lightgbm-row",
    "lightgbm-col",
    "lightgbm-quant-row",
    "lightgbm-quant-col",
    "xgboost",
    "catboost",
    "sklearn",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    args = parse(argv)
    data = load(args)
    names, missing = installed(args.peers)
    describe(data, args)
    for name in missing:
        print(f"left out: {name} (not installed)")
    settings = peers.Settings(
        task=data.task,
        n_classes=data.n_classes,
        rounds=args.rounds,
        leaves=args.leaves,
        learning_rate=args.lr,
        threads=args.threads,
        seed=args.seed,
        max_bin=args.max_bin,
    )
    with saved(data) as folder:
        common = {
            "data": data.name,
            "rows": data.n_train,
            "features": data.X.shape[1],
            "machine": platform.processor() or platform.machine(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        task = data.task
        del data  # the children load it; do not hold it twice

        def fit(name: str) -> Record:
            return common | fit_once.launch(name, settings, folder, args.timeout)

        records = interleave(fit, names, args.repeat, args.json)
    print(f"\n{report(records, task)}")
    for note in results.notes(records):
        print(note)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    names = [*shapes.SHAPES, *sources.SKLEARN_SETS]
    data.add_argument("--shape", choices=names, default="higgs", help="simulated or bundled data")
    data.add_argument("--rows", type=int, default=200_000, help="training rows (default 200000)")
    data.add_argument("--data", type=Path, help="a .csv, .csv.gz, .parquet or .npz file instead")
    data.add_argument("--target", default="y", help="target column of --data (default y)")
    data.add_argument("--task", choices=sources.TASKS[:-1], help="task of --data, else inferred")
    model = parser.add_argument_group("model")
    model.add_argument("--rounds", type=int, default=100, help="boosting rounds (default 100)")
    model.add_argument("--leaves", type=int, default=255, help="leaves of a tree (default 255)")
    model.add_argument("--lr", type=float, default=0.1, help="learning rate (default 0.1)")
    model.add_argument("--max-bin", type=int, default=255, help="bins a feature (default 255)")
    model.add_argument("--seed", type=int, default=0, help="of the data and the libraries")
    run = parser.add_argument_group("run")
    run.add_argument("--threads", type=int, default=default_threads(), help="default: all CPUs")
    run.add_argument("--repeat", type=int, default=1, help="fits of each library, interleaved")
    run.add_argument("--timeout", type=float, default=1800.0, help="seconds for a fit (1800)")
    run.add_argument("--json", type=Path, help="append one JSON line for each fit to this file")
    run.add_argument(
        "--peers",
        type=peer_list,
        default=list(DEFAULT_PEERS),
        help="comma-separated, of: qgbdt, qgbdt-BITS[-nearest][-norenew], "
        "lightgbm[-quant[-renew]][-row|-col], xgboost, catboost[-lossguide], sklearn",
    )
    return parser.parse_args(argv)


def default_threads() -> int:
    """CPUs this process may use, container quota included."""
    import joblib

    return int(joblib.cpu_count())


def peer_list(text: str) -> list[str]:
    """Parse `--peers`."""
    names = text.split(",")
    if unknown := [name for name in names if name not in peers.PEERS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def load(args: argparse.Namespace) -> sources.Data:
    """The data the arguments name."""
    if args.data is not None:
        return sources.from_file(args.data, args.target, args.task, args.seed)
    if args.shape in sources.SKLEARN_SETS:
        return sources.from_sklearn(args.shape, args.rows, args.seed)
    return shapes.make(args.shape, args.rows, args.seed)


def installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split peers into those whose library is there and those whose is not."""
    here = [name for name in names if peers.is_installed(name)]
    return here, [name for name in names if name not in here]


def describe(data: sources.Data, args: argparse.Namespace) -> None:
    """Say what is being measured."""
    n, width = data.X.shape
    print(
        f"{data.name}: {data.n_train:,} training and {n - data.n_train:,} test rows x {width} "
        f"features ({data.task}); {args.rounds} rounds, {args.leaves} leaves, learning rate "
        f"{args.lr:g}, threads {args.threads}, fits of each library {args.repeat}"
    )


@contextmanager
def saved(data: sources.Data) -> Iterator[Path]:
    """A temporary folder with `data`, for child processes."""
    with tempfile.TemporaryDirectory(prefix="qgbdt-bench-") as folder:
        sources.save(data, Path(folder))
        yield Path(folder)


def interleave(
    fit: Callable[[str], Record], names: Sequence[str], repeats: int, json_path: Path | None = None
) -> list[Record]:
    """Fit every library once, then all again: a busy minute then hits all of them alike.

    A library that failed is not tried again.
    """
    records: list[Record] = []
    for repeat in range(repeats):
        for name in names:
            if any(r["peer"] == name and r["status"] != "ok" for r in records):
                continue
            record = fit(name) | {"repeat": repeat}
            records.append(record)
            if json_path is not None:
                results.append(json_path, record)
            print(f"  {name} {repeat + 1}/{repeats}: {record['status']}", file=sys.stderr)
    return records


def report(records: Sequence[Record], task: str) -> str:
    """The table: medians over the repeats; ratios above 1 mean that the reference is faster.

    The reference is the first qgbdt that worked, or else the first library that did. A ratio is
    the median of the ratios within each repeat.
    """
    names = list(dict.fromkeys(r["peer"] for r in records))
    runs = {n: [r for r in records if r["peer"] == n and r["status"] == "ok"] for n in names}
    worked = [n for n in names if runs[n]]
    reference = next((n for n in worked if n.startswith("qgbdt")), worked[0] if worked else "-")
    metric = metrics.SHOWN[task]
    seconds = ["binning_seconds", "training_seconds", "prediction_seconds"]
    header = ["library", "binning s", "training s", "prediction s", metric, "peak MiB"]
    header += ["training x", "whole fit x"]
    rows = []
    for name in names:
        if not runs[name]:
            status = next(r["status"] for r in records if r["peer"] == name)
            rows.append([name, status] + ["-"] * (len(header) - 2))
            continue
        cells = [f"{median(runs[name], field):.2f}" for field in seconds]
        cells += [
            results.number(median(runs[name], metric)),
            f"{median(runs[name], 'peak_mib'):.0f}",
        ]
        ratios = (ratio(runs[name], runs[reference], time) for time in (training, whole_fit))
        rows.append([name, *cells, *(f"{value:.2f}" for value in ratios)])
    return f"{results.table(header, rows)}\n\nx: time over that of {reference}"


def median(records: Sequence[Record], field: str) -> float:
    return float(statistics.median(record[field] for record in records))


def ratio(
    theirs: Sequence[Record], ours: Sequence[Record], time: Callable[[Record], float]
) -> float:
    """Median over the repeats of their time over ours."""
    return statistics.median(time(a) / time(b) for a, b in zip(theirs, ours))


def training(record: Record) -> float:
    return float(record["training_seconds"])


def whole_fit(record: Record) -> float:
    return float(record["binning_seconds"] + record["training_seconds"])


if __name__ == "__main__":
    main()
