"""Objectives of your own: compiled by numba, beside the same as a NumPy function and built in.

    python bench/own_objectives.py [--rows 1000000] [--threads 1,2]

Milliseconds an iteration, of trees that cannot split (X is constant), so that gradients are most of
it; medians of --repeat fits in turns. x is the function's time over that of the compiled one.
"""

import argparse
from statistics import median

import numpy as np
import results

import qgbdt
from qgbdt import QGBDTRegressor

ITERATIONS = 20


@qgbdt.objective
def compiled_huber(score, target, alpha=0.9):
    error = score - target
    if error > alpha:
        return alpha, 1.0
    if error < -alpha:
        return -alpha, 1.0
    return error, 1.0


def huber(y, score):
    return np.clip(score - y, -0.9, 0.9), np.ones_like(y)


@qgbdt.objective(link="logistic")
def compiled_cross_entropy(score, target):
    p = 1 / (1 + np.exp(-score))
    return p - target, p * (1 - p)


def cross_entropy(y, score):
    p = 1 / (1 + np.exp(-score))
    return p - y, p * (1 - p)


@qgbdt.objective(link="exponential")
def compiled_poisson(score, target):
    mean = np.exp(score)
    return mean - target, mean


def poisson(y, score):
    mean = np.exp(score)
    return mean - y, mean


@qgbdt.objective(link="exponential")
def compiled_negative_binomial(score, target, dispersion=0.5):
    mean = np.exp(score)
    spread = 1 + dispersion * mean
    return (mean - target) / spread, mean * (1 + dispersion * target) / (spread * spread)


def negative_binomial(y, score):
    mean = np.exp(score)
    spread = 1 + 0.5 * mean
    return (mean - y) / spread, mean * (1 + 0.5 * y) / (spread * spread)


OBJECTIVES = {
    "huber": (compiled_huber, huber, "huber"),
    "cross_entropy": (compiled_cross_entropy, cross_entropy, "cross_entropy"),
    "poisson": (compiled_poisson, poisson, "poisson"),
    "negative_binomial": (compiled_negative_binomial, negative_binomial, None),
}


def milliseconds(objective, X, y, n_threads):
    model = QGBDTRegressor(objective=objective, n_estimators=ITERATIONS, n_jobs=n_threads)
    return 1000 * model.fit(X, y).fit_profile_["training_seconds"] / ITERATIONS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    X = np.zeros((args.rows, 1), np.float32)
    y = np.random.default_rng(0).random(args.rows)  # which all of them take
    lines = []
    for name, versions in OBJECTIVES.items():
        for n_threads in map(int, args.threads.split(",")):
            runs = [
                [milliseconds(some, X, y, n_threads) if some else np.nan for some in versions]
                for _ in range(args.repeat + 1)
            ][1:]  # the first one compiles
            compiled, function, built_in = (median(times) for times in zip(*runs, strict=True))
            ratio = median(run[1] / run[0] for run in runs)
            times = (f"{ms:.1f}" if ms == ms else "-" for ms in (compiled, function, built_in))
            lines.append([name, str(n_threads), *times, f"{ratio:.1f}"])
    print(results.table(["objective", "threads", "compiled", "function", "built in", "x"], lines))


if __name__ == "__main__":
    main()
