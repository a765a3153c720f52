"""Sparse text-like data: whole fits through the scikit-learn estimators, and the memory they take.

Words appear in documents as often as by Zipf's law, with weights like those of TF-IDF; some of them
decide the class. Each library fits in a process of its own; one that does not end within the
timeout is stopped, and the table says so.

Examples
--------
python bench/sparse_text.py
python bench/sparse_text.py --rows 20000 --features 10000 --rounds 10 --peers qgbdt,xgboost
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.metrics import roc_auc_score

PEERS = ("qgbdt", "lightgbm", "lightgbm-quant", "xgboost")
TEST_SHARE = 0.2


def main(argv: Sequence[str] | None = None) -> None:
    """Fit each library and print a line for it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parse(arguments)
    if args.one:
        print(json.dumps(fit_once(args)))
        return
    print(
        "| library | fit s | prediction s | AUC | peak above the data, MiB |\n|:--|--:|--:|--:|--:|"
    )
    for peer in args.peers.split(","):
        command = [sys.executable, __file__, *arguments, "--one", peer]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
        except subprocess.TimeoutExpired:
            print(f"| {peer} | stopped after {args.timeout} | | | |", flush=True)
            continue
        if done.returncode != 0:
            print(
                f"| {peer} | failed: {done.stderr.strip().splitlines()[-1][:80]} | | | |",
                flush=True,
            )
            continue
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {peer} | {r['fit']:.2f} | {r['predict']:.2f} | {r['auc']:.4f} | {r['peak']:.0f} |",
            flush=True,
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=50_000)
    parser.add_argument("--density", type=float, default=0.001)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--leaves", type=int, default=31)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--timeout", type=float, default=600, help="seconds a library may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def make(rows: int, features: int, density: float) -> tuple[Any, np.ndarray]:
    """X (CSR, float32) and two classes."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, features + 1) ** 0.7
    share = np.minimum(share * (density * features / share.sum()), 0.5)
    listed = [np.sort(rng.choice(rows, rng.binomial(rows, q), replace=False)) for q in share]
    begin = np.concatenate([[0], np.cumsum([len(some) for some in listed])])
    weights = rng.gamma(2, 0.5, begin[-1]).astype(np.float32)
    X = scipy.sparse.csc_matrix((weights, np.concatenate(listed), begin), shape=(rows, features))
    effect = 2 * rng.normal(size=features) * (rng.random(features) < 0.05)
    return X.tocsr(), (X @ effect + rng.logistic(size=rows) > 0).astype(int)


def fit_once(args: argparse.Namespace) -> dict[str, float]:
    """Seconds, AUC and memory of one library."""
    X, y = make(args.rows, args.features, args.density)
    n_train = round((1 - TEST_SHARE) * args.rows)
    train, test = X[:n_train], X[n_train:]
    model = estimator(args)
    before = peak_memory()
    start = perf_counter()
    model.fit(train, y[:n_train])
    fitted = perf_counter()
    peak = peak_memory() - before
    p = model.predict_proba(test)[:, 1]
    seconds = perf_counter() - fitted
    auc = roc_auc_score(y[n_train:], p)
    return {"fit": fitted - start, "predict": seconds, "auc": auc, "peak": peak}


def estimator(args: argparse.Namespace) -> Any:
    """The library's classifier, its trees grown leaf-wise."""
    common = {"n_estimators": args.rounds, "n_jobs": args.threads}
    if args.one == "qgbdt":
        from qgbdt import QGBDTClassifier

        return QGBDTClassifier(num_leaves=args.leaves, **common)
    if args.one == "xgboost":
        from xgboost import XGBClassifier

        leafwise = {"grow_policy": "lossguide", "max_leaves": args.leaves, "max_depth": 0}
        return XGBClassifier(
            tree_method="hist", learning_rate=0.1, max_bin=255, **leafwise, **common
        )
    if not args.one.startswith("lightgbm"):
        raise ValueError(f"no library called {args.one}")
    from lightgbm import LGBMClassifier

    quantized = {"use_quantized_grad": True} if args.one == "lightgbm-quant" else {}
    return LGBMClassifier(num_leaves=args.leaves, verbose=-1, **quantized, **common)


def peak_memory() -> float:
    """Of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
