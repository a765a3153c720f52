"""What a change did to speed: two builds of qgbdt on sets of the suite, fitted in turns.

The build before the change is installed into a folder of its own, at its commit:

    pip install --no-deps --target /tmp/before .

Examples
--------
python bench/builds.py --before /tmp/before
python bench/builds.py --before /tmp/before --sets bosch,small-1k --threads 1,2 --rounds 20
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import metrics
import results
import study
import suite
from results import Record, is_ok, ratio, training, whole_fit

LEGEND = """\
Medians of training in ms a round, the least and the most; x: whole fits, before over after, above 1
where the change made them faster. The same: whether the test metric is, to the last bit."""


def main(argv: Sequence[str] | None = None) -> None:
    """Fit each set with both builds and print the table."""
    args = parse(argv)
    builds = {"before": str(args.before), "after": str(args.after or "")}
    lines = []
    for name in args.sets:
        for threads in args.threads:
            case = suite.adapted(suite.SETS[name], threads, args)
            records: dict[str, list[Record]] = {build: [] for build in builds}
            with study.saved(case) as folder:
                for _ in range(args.repeat):
                    for build, path in builds.items():
                        with first_on_path(path):
                            record = study.fit_case(case, lambda: folder, args.timeout, "qgbdt")
                        if not is_ok(record):
                            sys.exit(f"{build}, {name}: {record['note']}")
                        records[build].append(record)
            lines.append([name, str(threads), *cells(records, case.rounds)])
            print(f"  {' '.join(lines[-1])}", file=sys.stderr)
    print(f"{results.table(['set', 'threads', *builds, 'x', 'the same'], lines)}\n\n{LEGEND}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="where that build is")
    parser.add_argument("--after", type=Path, help="the other's; default: the installed one")
    parser.add_argument("--sets", type=study.some_of(suite.SETS), default=list(suite.SETS))
    parser.add_argument("--threads", type=study.whole_numbers, default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3, help="fits of each build (default 3)")
    parser.add_argument("--rounds", type=int, default=20, help="boosting rounds (default 20)")
    parser.add_argument("--leaves", type=int, help="leaves of a tree (default: the suite's)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (default 1)")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for a fit (1800)")
    return parser.parse_args(argv)


@contextmanager
def first_on_path(folder: str) -> Iterator[None]:
    """Child processes import from this folder first."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, before]))
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def cells(records: dict[str, list[Record]], rounds: int) -> list[str]:
    """What the builds took, how they compare, whether they agree."""
    metric = metrics.SHOWN[records["before"][0]["task"]]
    agree = len({r[metric] for of_build in records.values() for r in of_build}) == 1
    took = [spread([1e3 * training(r) / rounds for r in of_build]) for of_build in records.values()]
    x = ratio(records["before"], records["after"], whole_fit)
    return [*took, f"{x:.2f}", "yes" if agree else "NO"]


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
