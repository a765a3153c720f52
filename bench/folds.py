"""Cross-validation on a BinnedDataset beside cross-validation on the rows themselves.

    python bench/folds.py [--rows 200000] [--repeat 3]

Five folds, fits and scores included; the dataset's time includes making it. In turns, in one
process: medians of the ratios.
"""

import argparse
from statistics import median
from time import perf_counter

import numpy as np
import pandas as pd
from results import table
from sklearn.model_selection import cross_validate

from qgbdt import BinnedDataset, QGBDTClassifier


def numbers(n, rng):
    """28 columns of float64."""
    X = rng.normal(size=(n, 28))
    return X, (X[:, :8].sum(axis=1) + rng.normal(size=n) > 0).astype(int)


def strings(n, rng):
    """A frame of 20 columns of strings, of 10 to 200 distinct ones, and 8 of numbers."""
    frame = {f"number_{i}": rng.normal(size=n) for i in range(8)}
    for i, size in enumerate(np.linspace(10, 200, 20).astype(int)):
        frame[f"text_{i}"] = np.char.add("category ", rng.integers(0, size, n).astype(str))
    X = pd.DataFrame(frame)
    is_low = X["text_0"] < "category 5"
    return X, (X["number_0"] + is_low + rng.normal(size=n) > 0.5).astype(int)


def seconds(X, y, n_trees, *, once):
    """Of a cross-validation, on a dataset that is made once or on the rows."""
    begin = perf_counter()
    data = BinnedDataset(X) if once else X
    cross_validate(QGBDTClassifier(n_estimators=n_trees), data, y, cv=5)
    return perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    lines = []
    for make in (numbers, strings):
        X, y = make(args.rows, np.random.default_rng(0))
        for n_trees in (1, 10, 100):
            ratios = [
                seconds(X, y, n_trees, once=False) / seconds(X, y, n_trees, once=True)
                for _ in range(args.repeat)
            ]
            lines.append([make.__name__, str(n_trees), f"{median(ratios):.2f}"])
    print(table(["rows of", "trees", "time on rows / on a dataset"], lines))


if __name__ == "__main__":
    main()
