"""What do bits, rounding and renewed leaves do to accuracy, time and bytes? The study of the docs.

Three parts, each by the command that does it alone: every number of bits and every rival on all
sets (`compare.py`), rounding and renewed leaves on ten sets (`compare.py --ablation`), and what
four workers send each other for a tree (as `distributed.py` counts). Fits are appended to the
results file when they end; what is there is not done again.

Writes `quantization.md`, `loss-over-bits.png` and `bits-over-trees.png`. Needs matplotlib.

Examples
--------
python bench/quantization.py --data-dir ~/sets --folder study      # hours
python bench/quantization.py --data-dir ~/sets --folder study --sets adult,bike --seeds 0,1
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import compare
import loopback
import numpy as np
import peers
import plots
import results
import shapes
import study
from cluster import ROWS
from compare import BITS, LAST, REFERENCE, RIVALS, STOPPED, against_reference
from results import Record, is_ok, training

FIXED = tuple(bits for bits in BITS if bits != "auto")
ABLATION_BITS = (2, 3, 4, 5)
N_WORKERS, N_TREES = 4, 5
KINDS = {LAST: "last iteration", STOPPED: "stopped early"}


def main(argv: Sequence[str] | None = None) -> None:
    """Do what is missing and write tables and figures."""
    args = parse(argv)
    levels = of_compare(args, BITS, args.sets)
    records, sets, columns = compare.run(levels)
    variants = of_compare(args, ABLATION_BITS, args.ablation_sets, "--ablation")
    ablation = compare.run(variants)
    text = [
        "# What bits, rounding and renewed leaves do",
        compare.heading(levels),
        "## Every number of bits, and the rivals",
        compare.accuracy_report(records, sets, columns),
        "## In all",
        summary(records, sets, columns, args.jobs),
        chosen(records),
        "## Rounding and renewed leaves",
        compare.ablation_report(*ablation),
        "## What workers send",
        sent(args),
        study.origins([r | {"machine": study.machine()} for r in records]),
        *results.notes(records),
    ]
    args.folder.mkdir(parents=True, exist_ok=True)
    (args.folder / "quantization.md").write_text("\n\n".join(text) + "\n")
    plots.draw(loss_panels(records, sets), args.folder / "loss-over-bits.png")
    plots.draw(bits_panels(records), args.folder / "bits-over-trees.png")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", default=os.environ.get("QGBDT_DATA"), help="see compare.py")
    parser.add_argument("--sets", help="of the first part; default: all and the eight shapes")
    parser.add_argument("--ablation-sets", help="of the second part; default: ten")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="0,1,2,3,4")
    parser.add_argument("--rounds", default="200", help="boosting rounds (default 200)")
    parser.add_argument("--max-rows", default="100000", help="training rows, at most (100,000)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the workers' rows (default 1)")
    parser.add_argument("--jobs", default="2", help="fits at a time, one thread each (2)")
    parser.add_argument("--results", default="quantization.jsonl", help="resumable (this)")
    parser.add_argument("--folder", type=Path, default=Path("quantization"), help="of what is made")
    return parser.parse_args(argv)


def of_compare(
    args: argparse.Namespace, bits: Iterable[int | str], sets: str | None, *more: str
) -> argparse.Namespace:
    """The same for compare.py."""
    given = {
        "--data-dir": args.data_dir,
        "--sets": sets,
        "--seeds": args.seeds,
        "--bits": ",".join(map(str, bits)),
        "--rivals": ",".join(RIVALS),
        "--rounds": args.rounds,
        "--max-rows": args.max_rows,
        "--jobs": args.jobs,
        "--results": args.results,
    }
    words = [word for option, value in given.items() if value for word in (option, value)]
    return compare.parse([*words, *more])


def summary(
    records: Sequence[Record], sets: Sequence[str], columns: Sequence[str], jobs: str
) -> str:
    """A row a library: differences over the sets, ranks, bits, noise, time."""
    rows = []
    for column, *ranks in zip(columns, *(compare.ranks(records, sets, columns, k) for k in KINDS)):
        fits = [r for r in records if r["peer"] == column and is_ok(r)]
        bits = [statistics.mean(r["bits"]) for r in fits if "bits" in r]
        noise = [r["noise"] for r in fits if "noise" in r]
        rows.append(
            [
                column,
                *(median_difference(records, sets, column, kind) for kind in KINDS),
                *(results.number(rank, 3) for rank in ranks),
                mean_of(bits),
                mean_of(noise),
                results.number(times_as_long(records, column), 3),
            ]
        )
    header = ["library", *(f"% {kind}" for kind in KINDS.values())]
    header += [*(f"rank, {kind}" for kind in KINDS.values()), "bits", "noise", "training time"]
    return (
        f"{results.table(header, rows)}\n\n%: the median over the sets of the differences above. "
        "Ranks: by mean loss, over the sets that all have. Bits: the mean over trees, noise that "
        "of rounding as a share of the gradients' mean square. Training time: over that of "
        f"`{REFERENCE}`, geometric mean over fits, {jobs} at a time."
    )


def chosen(records: Iterable[Record]) -> str:
    """The bits that choose themselves, by task."""
    fits = [r for r in records if r["peer"] == peers.qgbdt_name("auto") and is_ok(r)]
    lines = []
    for (task,), here in sorted(results.by(fits, "task").items()):
        means = [statistics.mean(r["bits"]) for r in here]
        names = {r["data"] for r in here}
        lines.append([task, str(len(names)), *(f"{f(means):.2f}" for f in (min, mean, max))])
    table = results.table(["task", "sets", "least", "mean", "most"], lines)
    return (
        f"{table}\n\nBits of `auto`: the least, mean and most of the fits' means over their trees."
    )


def median_difference(
    records: Sequence[Record], sets: Iterable[str], column: str, kind: str
) -> str:
    found = [against_reference(records, name, column, kind) for name in sets]
    means = [100 * d.mean for d in found if d is not None]
    return f"{statistics.median(means):+.2f}" if means else "-"


def mean_of(values: Sequence[float]) -> str:
    return results.number(statistics.mean(values), 3) if values else "-"


def times_as_long(records: Iterable[Record], column: str) -> float:
    """The geometric mean over fits of the training time, over that of LightGBM in float."""
    seconds = {(r["data"], r["seed"], r["peer"]): training(r) for r in records if is_ok(r)}
    ratios = [
        time / seconds[data, seed, REFERENCE]
        for (data, seed, peer), time in seconds.items()
        if peer == column and (data, seed, REFERENCE) in seconds
    ]
    return statistics.geometric_mean(ratios) if ratios else float("nan")


def sent(args: argparse.Namespace) -> str:
    """What workers send each other for a tree, by bits."""
    lines = []
    for name in ("higgs", "msltr"):
        data = shapes.make(name, max(round(args.scale * ROWS[name]), 1000))
        by_bits = []
        for bits in FIXED:
            options = {"n_estimators": N_TREES, "num_leaves": 255, "grad_bits": bits}
            workers = loopback.run(data, N_WORKERS, options)
            by_bits.append(np.mean([one["bytes_sent"] for one in workers]) / N_TREES / 1e6)
        lines.append([name, f"{len(data.train.y):,}", *(f"{mb:.2f}" for mb in by_bits)])
    table = results.table(["shape", "rows", *(f"{bits} bits" for bits in FIXED)], lines)
    return f"{table}\n\nMB that each of {N_WORKERS} workers sends for a tree of 255 leaves."


# Figures ----------------------------------------------------------------------------------------


def by_task(records: Iterable[Record]) -> dict[str, list[str]]:
    """The sets of each task."""
    pairs = sorted({(r["task"], r["data"]) for r in records})
    return {task: [name for _, name in here] for task, here in groupby(pairs, lambda pair: pair[0])}


def loss_panels(records: Sequence[Record], sets: Sequence[str]) -> dict[str, plots.Panel]:
    """The difference to LightGBM in float over bits: a panel a task, a line a set."""
    return {
        task: partial(draw_losses, records, [name for name in names if name in sets])
        for task, names in by_task(records).items()
    }


def draw_losses(records: Sequence[Record], names: Iterable[str], axes: Any) -> None:
    for name in names:
        found = {
            str(bits): against_reference(records, name, peers.qgbdt_name(bits)) for bits in BITS
        }
        known = {bits: d for bits, d in found.items() if d is not None}
        axes.errorbar(
            list(known),
            [100 * d.mean for d in known.values()],
            [0.0 if d.error != d.error else 100 * d.error for d in known.values()],
            marker="o",
            label=name,
        )
    axes.axhline(0.0, color="grey", linewidth=0.8)
    axes.set(xlabel="bits", ylabel="% of loss, against LightGBM in float")
    axes.set_yscale("symlog", linthresh=1.0)


def bits_panels(records: Iterable[Record]) -> dict[str, plots.Panel]:
    """The bits that choose themselves, tree by tree: a panel a task, a line a set."""
    of_auto = [r for r in records if r["peer"] == peers.qgbdt_name("auto") and is_ok(r)]
    return {task: partial(draw_bits, of_auto, names) for task, names in by_task(of_auto).items()}


def draw_bits(records: Iterable[Record], names: Iterable[str], axes: Any) -> None:
    for name in names:
        runs = [r["bits"] for r in records if r["data"] == name]
        axes.plot(np.mean(runs, axis=0), label=name)
    axes.set(xlabel="iteration", ylabel="bits, mean of seeds", ylim=(1.5, 8.5))


if __name__ == "__main__":
    main()
