"""How time grows with rows, features, leaves and threads, and beside a busy process.

A plain set (200,000 rows x 32 features, 255 leaves, all threads) is made twice and four times as
long, as wide and as deep, and trained with fewer threads; and as it is, while another process keeps
the first CPU busy: two threads on two CPUs should take at most twice their quiet time then. Fits go
to a results file; the same command again does only what is missing there and prints the table.

Examples
--------
python bench/scaling.py
python bench/scaling.py --axes rows,busy --peers qgbdt,lightgbm --rounds 20 --scale 0.1
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import peers
import results
import study
from results import Record, is_ok, whole_fit
from study import Case

PEERS = ("qgbdt", "lightgbm", "lightgbm-row", "lightgbm-quant-row", "xgboost", "catboost")
BASE = Case("plain", rows=200_000, features=32, rounds=50)
AXES = ("rows", "features", "leaves", "threads", "busy")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and print the table."""
    args = parse(argv)
    store = study.Store(args.results)
    names = peers.installed(args.peers)
    rows = round(args.scale * BASE.rows)
    base = replace(BASE, rows=rows, rounds=args.rounds, threads=max(args.threads))
    cases = {axis: along(axis, base, args.threads) for axis in args.axes}
    every = dict.fromkeys(case for steps in cases.values() for case in steps)
    if not args.report:
        study.measure(every, names, store, args.repeat, args.timeout)
    found = {case: store.of(case, names) for case in every}
    study.publish(report(cases, found, names), list(chain(*found.values())), args.markdown)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--axes", type=study.some_of(AXES), default=list(AXES), help=f"default: {','.join(AXES)}"
    )
    study.add_arguments(parser, "scaling", PEERS)
    parser.add_argument(
        "--rounds", type=int, default=BASE.rounds, help=f"boosting rounds (default {BASE.rounds})"
    )
    return parser.parse_args(argv)


def along(axis: str, base: Case, threads: Sequence[int]) -> list[Case]:
    """The cases on an axis, the first being what the others are compared to."""
    values = {"threads": sorted(threads), "busy": [False, True]}
    doubled = [n * getattr(base, axis) for n in (1, 2, 4)]
    return [replace(base, **{axis: value}) for value in values.get(axis, doubled)]


def report(
    cases: dict[str, list[Case]], found: dict[Case, list[Record]], names: Sequence[str]
) -> str:
    """Seconds of whole fits by axis and library, and how many times those of the axis' first."""
    lines = []
    for axis, steps in cases.items():
        first = seconds(found[steps[0]])
        for case in steps:
            here = seconds(found[case])
            cells = [cell(here.get(name), first.get(name)) for name in names]
            lines.append([axis, str(getattr(case, axis)), *cells])
    return (
        f"{results.table(['', 'value', *names], lines)}\n\nSeconds (times the first of its kind)."
    )


def seconds(records: Sequence[Record]) -> dict[str, float]:
    """Medians of whole fits by library."""
    runs = results.by(filter(is_ok, records), "peer")
    return {name: statistics.median(map(whole_fit, here)) for (name,), here in runs.items()}


def cell(here: float | None, first: float | None) -> str:
    if here is None:
        return "-"
    return f"{here:.2f}" if first is None else f"{here:.2f} ({here / first:.2f}x)"


if __name__ == "__main__":
    main()
