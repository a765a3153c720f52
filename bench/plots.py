"""Plots of what the suite and scaling.py wrote, as PNG files in a folder. Needs matplotlib.

`metric-THREADS.png` has a panel for each set: the metric over the seconds of a whole fit, a point
for each library. `scaling.png` has a panel for each axis: seconds over rows, features, leaves and
threads, and without and beside a busy process.

Example
-------
python bench/plots.py suite.jsonl scaling.jsonl --folder plots
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import metrics
import peers
import results
import scaling
import study
from results import Record, by, is_ok, median, whole_fit

Panel = Callable[[Any], object]  # draws on matplotlib's axes
DATA_FIELDS = ("data", "rows", "rounds", "leaves")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the plots that the results files have records for."""
    args = parse(argv)
    records = [r for path in args.results for r in results.read(path) if is_ok(r)]
    args.folder.mkdir(parents=True, exist_ok=True)
    scaled = [r for r in records if r["data"] == scaling.BASE.shape and not r["warm_fits"]]
    others = [r for r in records if r not in scaled]
    for (threads,), here in by(others, "threads").items():
        draw(metric_panels(here), args.folder / f"metric-{threads}.png")
    draw(scaling_panels(scaled), args.folder / "scaling.png")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="files of the suite and scaling.py")
    parser.add_argument("--folder", type=Path, default=Path("plots"), help="default: plots")
    return parser.parse_args(argv)


def metric_panels(records: Iterable[Record]) -> dict[str, Panel]:
    """The metric over the seconds of a whole fit: a panel a set, a point a library."""
    return {
        f"{data}, {rows:,} rows, {rounds} rounds, {leaves} leaves": partial(draw_metric, here)
        for (data, rows, rounds, leaves), here in by(records, *DATA_FIELDS).items()
    }


def draw_metric(records: Sequence[Record], axes: Any) -> None:
    metric = metrics.SHOWN[records[0]["task"]]
    for (name,), runs in by(records, "peer").items():
        axes.plot(seconds(runs), median(runs, metric), "o", color=colour(name), label=name)
    axes.set(xscale="log", xlabel="seconds", ylabel=metric)


def scaling_panels(records: Sequence[Record]) -> dict[str, Panel]:
    """Seconds of a whole fit over each axis: a panel an axis, a line a library."""
    panels: dict[str, Panel] = {}
    for axis in scaling.AXES:
        others = [field for field in study.FIELDS if field != axis]
        groups = by(records, *others).values()
        longest = max(groups, key=lambda here: len(by(here, axis)), default=[])
        if len(by(longest, axis)) > 1:
            panels[axis] = partial(draw_scaling, longest, axis)
    return panels


def draw_scaling(records: Sequence[Record], axis: str, axes: Any) -> None:
    for (name,), runs in by(records, "peer").items():
        steps = {str(value): seconds(here) for (value,), here in sorted(by(runs, axis).items())}
        axes.plot(*zip(*steps.items()), "o-", color=colour(name), label=name)
    axes.set(yscale="log", xlabel=axis, ylabel="seconds")


def seconds(runs: Iterable[Record]) -> float:
    return statistics.median(map(whole_fit, runs))


def colour(name: str) -> str:
    """Each of the default libraries has its own."""
    return f"C{peers.DEFAULT.index(name)}" if name in peers.DEFAULT else "grey"


def draw(panels: dict[str, Panel], path: Path) -> None:
    """Write a figure of several panels, if there are any, and say where it is."""
    if not panels:
        return
    from matplotlib.figure import Figure

    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(5 * columns, 4 * rows), layout="constrained")
    for i, (title, panel) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1, title=title)
        panel(axes)
        axes.legend(fontsize=7)
    figure.savefig(path)
    print(path)


if __name__ == "__main__":
    main()
