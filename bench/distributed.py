"""What several workers send each other: bytes and exchanges a tree, over loopback sockets.

Each worker is a process with one thread and its part of a simulated shape's rows. The bytes are
what a worker sends for a tree, frames and all, beside the histograms that a float library would
reduce: for each split the smaller child's, 16 bytes a bin, less the part that stays where it is. On
one machine the workers share its CPUs and memory, so seconds say nothing of a network.

Examples
--------
python bench/distributed.py
python bench/distributed.py --shapes higgs --workers 2 --rounds 5 --scale 0.1
python bench/distributed.py --network 100mbit,1gbit    # beside other libraries: see cluster.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # of a checkout

import cluster
import loopback
import numpy as np
import results
import shapes
import study
from cluster import ROWS

BYTES_OF_FLOAT_BIN = 16  # gradient and hessian as float64


def main(argv: Sequence[str] | None = None) -> None:
    """Run each shape alone and together, and print the table."""
    argv = sys.argv[1:] if argv is None else argv
    if "--network" in argv:
        cluster.main(argv)
        return
    args = parse(argv)
    lines = []
    for name in args.shapes:
        data = shapes.make(name, max(round(args.scale * ROWS[name]), 1000))
        options = {"n_estimators": args.rounds, "num_leaves": args.leaves}
        alone = loopback.run(data, 1, options)[0]
        together = loopback.run(data, args.workers, options)
        assert {one["model"] for one in together} == {alone["model"]}, "the models differ"
        lines.append(line(name, data, alone, together, args.rounds))
    header = ["shape", "rows", "MB sent", "of float64", "exchanges", "batches", "s", "waiting s"]
    print(results.table(header, lines))
    print(
        f"\n{args.workers} workers, {args.rounds} rounds, {args.leaves} leaves; a worker and tree, "
        "on average. s: of a whole fit (of one worker alone). The models are equal."
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=study.some_of(ROWS), default=list(ROWS))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--leaves", type=int, default=255)
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (default 1)")
    return parser.parse_args(argv)


def line(
    name: str,
    data: shapes.Data,
    alone: dict[str, Any],
    together: list[dict[str, Any]],
    n_trees: int,
) -> list[str]:
    """A row of the table."""
    n, n_features = data.train.X.shape
    sent = np.mean([one["bytes_sent"] for one in together]) / n_trees
    splits = together[0]["growth_splits"] / n_trees
    n_bins = 256
    as_float = splits * n_features * n_bins * BYTES_OF_FLOAT_BIN * (1 - 1 / len(together))
    return [
        name,
        f"{n:,}",
        f"{sent / 1e6:.2f}",
        f"1/{as_float / sent:.1f}",
        f"{together[0]['exchanges'] / n_trees:.0f}",
        f"{together[0]['growth_rounds'] / n_trees:.0f}",
        f"{max(one['seconds'] for one in together):.1f} ({alone['seconds']:.1f})",
        f"{np.mean([one['wait_seconds'] for one in together]):.1f}",
    ]


if __name__ == "__main__":
    main()
