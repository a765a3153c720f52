"""Quantized against float on one simulated set: 300,000 rows x 28, 100 rounds, 255 leaves.

Takes about 20 seconds on two idle cores, well under two minutes on busy ones. The float library is
LightGBM, or scikit-learn's HistGradientBoosting where LightGBM is not installed. `train.py` has
all the options.

Example
-------
python bench/demo.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import peers
import train

FIT_LIMIT = "90"  # seconds; only a very busy machine needs them


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="300000", help="training rows (default 300000)")
    parser.add_argument("--threads", default=str(peers.default_threads()), help="default: all CPUs")
    args = parser.parse_args(argv)
    rival = "lightgbm-row" if peers.is_installed("lightgbm") else "sklearn"
    choice = ["--shape", "higgs", "--rows", args.rows, "--threads", args.threads]
    train.main([*choice, "--peers", f"qgbdt,{rival}", "--timeout", FIT_LIMIT])


if __name__ == "__main__":
    main()
