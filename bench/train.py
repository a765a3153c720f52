"""Time whole fits of GBDT libraries side by side, each in a process of its own.

Examples
--------
python bench/train.py --shape higgs --rows 800000 --rounds 100 --leaves 255 --threads 2
python bench/train.py --shape year --peers qgbdt-3,qgbdt-5,lightgbm-row,xgboost --repeat 3
python bench/train.py --data houses.parquet --target price --json houses.jsonl
python bench/train.py --suite --sets higgs,year --threads 2 --rounds 20 --scale 0.1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import fit_once
import metrics
import peers
import results
import shapes
import sources
import study
import suite
from results import Record, is_ok, median, ratio, training, whole_fit


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    argv = sys.argv[1:] if argv is None else argv
    if "--suite" in argv:
        suite.main([word for word in argv if word != "--suite"])
        return
    args = parse(argv)
    data = load(args)
    describe(data, args)
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
    with sources.saved(data) as folder:
        del data  # the children load it; do not hold it twice

        def fit(name: str) -> Record:
            common = study.provenance(sources.open_folder(folder))
            return common | fit_once.launch(name, settings, folder, args.timeout)

        def add(record: Record) -> None:
            if args.json is not None:
                results.append(args.json, record)

        records = study.interleave(fit, peers.installed(args.peers), args.repeat, add=add)
    print(f"\n{report(records, settings.task)}")
    for note in results.notes(records):
        print(note)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--suite", action="store_true", help="many sets in one table: see --suite --help"
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
    run.add_argument(
        "--threads", type=int, default=peers.default_threads(), help="default: all CPUs"
    )
    run.add_argument("--repeat", type=int, default=1, help="fits of each library, interleaved")
    run.add_argument("--timeout", type=float, default=1800.0, help="seconds for a fit (1800)")
    run.add_argument("--json", type=Path, help="append one JSON line for each fit to this file")
    run.add_argument(
        "--peers",
        type=study.some_of(peers.PEERS),
        default=list(peers.DEFAULT),
        help="comma-separated, of: qgbdt, qgbdt-BITS[-nearest][-norenew], "
        "lightgbm[-quant[-renew]][-row|-col], xgboost[-depthwise], catboost[-lossguide], sklearn",
    )
    return parser.parse_args(argv)


def load(args: argparse.Namespace) -> sources.Data:
    """The data the arguments name."""
    if args.data is not None:
        return sources.from_file(args.data, args.target, args.task, args.seed)
    if args.shape in sources.SKLEARN_SETS:
        return sources.from_sklearn(args.shape, args.rows, args.seed)
    return shapes.make(args.shape, args.rows, args.seed)


def describe(data: sources.Data, args: argparse.Namespace) -> None:
    """Say what is being measured."""
    n, width = data.X.shape
    print(
        f"{data.name}: {data.n_train:,} training and {n - data.n_train:,} test rows x {width} "
        f"features ({data.task}); {args.rounds} rounds, {args.leaves} leaves, learning rate "
        f"{args.lr:g}, threads {args.threads}, fits of each library {args.repeat}"
    )


def report(records: Sequence[Record], task: str) -> str:
    """The table: medians over the repeats; ratios above 1 mean that the reference is faster.

    The reference is the first qgbdt that worked, or else the first library that did. A ratio is
    the median of the ratios within each repeat.
    """
    names = list(dict.fromkeys(r["peer"] for r in records))
    runs = {n: [r for r in records if r["peer"] == n and is_ok(r)] for n in names}
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


if __name__ == "__main__":
    main()
