"""The benchmark suite: qgbdt and its rivals on many sets and numbers of threads, in one table.

The sets are the eight shapes at sizes for a machine of 24 GiB, small data through the scikit-learn
estimators, many classes, and features of few values. Every fit is appended to the results file
when it ends; the same command again does only what is missing there and prints the table.

Examples
--------
python bench/train.py --suite
python bench/train.py --suite --sets higgs,year --threads 2 --rounds 20 --scale 0.1
python bench/train.py --suite --report --markdown suite.md          # what there is so far
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain

import metrics
import peers
import results
import shapes
import study
from results import Record, binning, is_ok, median, ratio, training, whole_fit
from study import Case

SETS = {
    "higgs": Case("higgs", 1_000_000),
    "epsilon": Case("epsilon", 40_000),
    "kitsune": Case("kitsune", 500_000),
    "criteo": Case("criteo", 1_000_000),
    "bosch": Case("bosch", 200_000),
    "year": Case("year", 515_000),
    "yahoo": Case("yahoo", 60_000),
    "msltr": Case("msltr", 300_000),
    "small-1k": Case("plain", 1_000, leaves=31, warm_fits=5),
    "small-10k": Case("plain", 10_000, leaves=31, warm_fits=5),
    "classes": Case("classes", 100_000, leaves=31),
    "lowcard": Case("lowcard", 500_000),
}
MIN_ROWS = 500  # of a set made smaller
LIBRARIES: dict[str, type[peers.Peer]] = {
    "LightGBM": peers.LightGBM,
    "XGBoost": peers.XGBoost,
    "CatBoost": peers.CatBoost,
    "scikit-learn": peers.Sklearn,
}
LEGEND = """\
x: time over that of qgbdt, above 1 where qgbdt is faster; medians of the ratios within each repeat.
Whole fit and training are against the fastest rival in each, binning against LightGBM. As good: the
whole fit of the fastest rival whose metric is at most 1 % worse than that of LightGBM in float, or
of qgbdt where that was not fitted. A library's name is the whole fit of its fastest variant,
LightGBM default the one that chooses its layout itself. Memory: peak of qgbdt over LightGBM's
lowest, below 1 where qgbdt takes less. The metric of LightGBM is the float one's. Small sets go
through the scikit-learn estimators: binning is not told apart there."""

AS_GOOD = 0.01  # a rival's metric may be worse by this share

Cell = float | str
COLUMNS: dict[str, Callable[[Cell], str]] = {
    "qgbdt s": "{:.3g}".format,
    "fastest rival": str,
    **dict.fromkeys(
        ["whole fit x", "as good x", "training x", "binning x", "LightGBM default x"],
        "{:.2f}".format,
    ),
    **dict.fromkeys([f"{library} x" for library in LIBRARIES], "{:.2f}".format),
    "memory": "{:.2f}".format,
    "metric": str,
    "of qgbdt": results.number,
    "of LightGBM": results.number,
}
AVERAGED = [column for column in COLUMNS if column.endswith(" x") or column == "memory"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table."""
    args = parse(argv)
    store = study.Store(args.results)
    names = peers.installed(args.peers)
    cases = {(n, t): adapted(SETS[n], t, args) for n in args.sets for t in args.threads}
    if not args.report:
        study.measure(cases.values(), names, store, args.repeat, args.timeout)
    found = {key: store.of(case, names) for key, case in cases.items()}
    study.publish(f"{report(found)}\n\n{LEGEND}", list(chain(*found.values())), args.markdown)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train.py --suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sets", type=study.some_of(SETS), default=list(SETS), help=f"default: {','.join(SETS)}"
    )
    study.add_arguments(parser, "suite", peers.DEFAULT)
    parser.add_argument("--rounds", type=int, help="boosting rounds (default 100)")
    parser.add_argument("--leaves", type=int, help="leaves of a tree (default 255, small data 31)")
    return parser.parse_args(argv)


def adapted(case: Case, threads: int, args: argparse.Namespace) -> Case:
    """The case as the command line wants it."""
    return replace(
        case,
        rows=max(round(args.scale * case.rows), MIN_ROWS),
        rounds=args.rounds or case.rounds,
        leaves=args.leaves or case.leaves,
        threads=threads,
    )


def report(found: dict[tuple[str, int], list[Record]]) -> str:
    """The table: a row for each set and number of threads, and the means over the eight shapes."""
    rows = {key: figures(records) for key, records in found.items()}
    lines = [[name, str(threads), *cells(row)] for (name, threads), row in rows.items()]
    for threads in dict.fromkeys(t for _, t in rows):
        eight = [row for (name, t), row in rows.items() if name in shapes.EIGHT and t == threads]
        if len(eight) > 1:
            means = geometric_means(eight)
            lines.append([f"mean of {len(eight)} shapes", str(threads), *cells(means)])
    return results.table(["set", "threads", *COLUMNS], lines)


def cells(row: dict[str, Cell]) -> list[str]:
    return [show(row[column]) if column in row else "-" for column, show in COLUMNS.items()]


def figures(records: Iterable[Record]) -> dict[str, Cell]:
    """One row of the table, without the columns that cannot be told."""
    runs = {name: those for (name,), those in results.by(filter(is_ok, records), "peer").items()}
    ours = next((those for name, those in runs.items() if peers.is_ours(name)), None)
    if ours is None:
        return {}
    rivals = {name: those for name, those in runs.items() if not peers.is_ours(name)}
    lightgbm = {n: those for n, those in rivals.items() if library_of(n) is peers.LightGBM}
    metric = metrics.SHOWN[ours[0]["task"]]
    row: dict[str, Cell] = {
        "qgbdt s": statistics.median(map(whole_fit, ours)),
        "metric": metric,
        "of qgbdt": median(ours, metric),
    }
    row |= whole_fits(rivals, ours)
    in_float = [those for name, those in lightgbm.items() if "quant" not in name]
    if in_float:
        row["of LightGBM"] = median(in_float[0], metric)
    wanted = float(row.get("of LightGBM", row["of qgbdt"]))
    as_good = {n: those for n, those in rivals.items() if is_as_good(those, metric, wanted)}
    row |= least("as good x", ratios(as_good, ours, whole_fit))
    if not ours[0]["warm_fits"]:
        row |= least("training x", ratios(rivals, ours, training))
        row |= least("binning x", ratios(lightgbm, ours, binning))
    if lightgbm:
        lowest = min(median(those, "peak_mib") for those in lightgbm.values())
        row["memory"] = max(median(ours, "peak_mib"), 1.0) / max(lowest, 1.0)
    return row


def whole_fits(rivals: dict[str, list[Record]], ours: list[Record]) -> dict[str, Cell]:
    """The columns about whole fits."""
    whole = ratios(rivals, ours, whole_fit)
    row = least("whole fit x", whole)
    if whole:
        row["fastest rival"] = min(whole, key=lambda name: whole[name])
    if "lightgbm" in whole:
        row["LightGBM default x"] = whole["lightgbm"]
    for title, library in LIBRARIES.items():
        row |= least(f"{title} x", {n: x for n, x in whole.items() if library_of(n) is library})
    return row


def is_as_good(rival: list[Record], metric: str, wanted: float) -> bool:
    """Whether its metric is hardly worse than the one wanted."""
    above = median(rival, metric) - wanted
    return (-above if metric in metrics.RISING else above) <= AS_GOOD * wanted


def library_of(name: str) -> type[peers.Peer]:
    return peers.PEERS[name][0]


def ratios(
    rivals: dict[str, list[Record]], ours: list[Record], time: Callable[[Record], float]
) -> dict[str, float]:
    return {name: ratio(those, ours, time) for name, those in rivals.items()}


def least(column: str, found: dict[str, float]) -> dict[str, Cell]:
    """A column for the least value, or none."""
    return {column: min(found.values())} if found else {}


def geometric_means(rows: Sequence[dict[str, Cell]]) -> dict[str, Cell]:
    """Of the columns that all rows have."""
    return {
        column: math.exp(statistics.mean(math.log(float(row[column])) for row in rows))
        for column in AVERAGED
        if all(column in row for row in rows)
    }
