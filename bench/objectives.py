"""Each objective beside the library that has it: held-out losses, on a real and a simulated set.

    python bench/objectives.py --data-dir SETS [--seeds 8] [--markdown FILE]

For each seed both train on the same random three quarters of the rows, at most 20,000, with 100
trees of 15 leaves, and are tested on the others. Shown is the difference of the test loss to the
other library's, in % of its mean, with the standard error of the paired differences; negative is
better. The loss is the
objective's own (of rankings 1 - NDCG@10). Survival on real rows takes the set flchain of the
package scikit-survival, and is left out without it.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import metrics
import numpy as np
import results
import sources
import xgboost
from compare import Difference
from sources import Data, Part

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor

SETTINGS: dict[str, Any] = {"n_estimators": 100, "num_leaves": 15, "n_jobs": 1}
ALPHA, FAIR_C, VARIANCE_POWER = 0.7, 0.5, 1.5
SHARE, MAX_ROWS = 0.75, 20_000

Loss = Callable[[Part, np.ndarray], float]
Fit = Callable[[str, Part, np.ndarray, int], np.ndarray]  # objective, rows, X of test, seed


# ------------------------------------------------------------------------- losses, from their docs


def residual_loss(loss: Callable[[np.ndarray], np.ndarray]) -> Loss:
    return lambda test, p: float(loss(p - test.y).mean())


def huber(r: np.ndarray) -> np.ndarray:
    outside = ALPHA * (np.abs(r) - ALPHA / 2)
    return np.where(np.abs(r) <= ALPHA, r * r / 2, outside)


def fair(r: np.ndarray) -> np.ndarray:
    x = np.abs(r) / FAIR_C
    return FAIR_C * FAIR_C * (x - np.log1p(x))


def mape(test: Part, p: np.ndarray) -> float:
    return float((np.abs(p - test.y) / np.maximum(np.abs(test.y), 1)).mean())


def cross_entropy(test: Part, p: np.ndarray) -> float:
    p = p.clip(1e-15, 1 - 1e-15)
    return float(-(test.y * np.log(p) + (1 - test.y) * np.log(1 - p)).mean())


def of_task(task: str) -> Loss:
    return lambda test, p: metrics.evaluate(task, test, p)["loss"]


def c_index_loss(test: Part, p: np.ndarray) -> float:
    """1 - Harrell's c of 2,000 rows: p rises with the time of an event."""
    time, p = np.abs(test.y[:2000]), p[:2000]
    earlier = (time[:, None] < time) & (test.y[:2000] > 0)[:, None]
    right = (p[:, None] < p) + 0.5 * (p[:, None] == p)
    return float(1 - right[earlier].mean())


# --------------------------------------------------------------------------------------- libraries


def ours(objective: str, train: Part, X: np.ndarray, seed: int, bits: int | str) -> np.ndarray:
    kind: Any = QGBDTRegressor
    asked: dict[str, Any] = {}
    rest: dict[str, Any] = {"sample_weight": train.weight}
    if objective in ("binary", "multiclass", "multiclassova"):
        kind = QGBDTClassifier
        asked = {} if objective == "multiclass" else {"objective": objective}
    elif objective in ("lambdarank", "rank_xendcg"):
        kind, rest["group"] = QGBDTRanker, train.group
    if not asked and objective != "multiclass":
        asked = {"objective": objective}
    if kind is QGBDTRegressor:
        asked |= {"alpha": ALPHA, "fair_c": FAIR_C, "tweedie_variance_power": VARIANCE_POWER}
    asked |= {"grad_bits": bits, "random_state": seed}
    model = kind(**SETTINGS | asked).fit(train.X, train.y, **rest)
    if objective == "cox":
        return -model.predict(X)
    return probabilities(model, X) if kind is QGBDTClassifier else model.predict(X)


def probabilities(model: Any, X: np.ndarray) -> np.ndarray:
    p = model.predict_proba(X)
    return p[:, 1] if p.shape[1] == 2 else p


def by_lightgbm(objective: str, train: Part, X: np.ndarray, seed: int) -> np.ndarray:
    kind: Any = lightgbm.LGBMRegressor
    rest: dict[str, Any] = {"sample_weight": train.weight}
    if objective in ("binary", "multiclass", "multiclassova"):
        kind = lightgbm.LGBMClassifier
    elif objective in ("lambdarank", "rank_xendcg"):
        kind, rest["group"] = lightgbm.LGBMRanker, train.group
    asked = {"objective": objective, "alpha": ALPHA, "fair_c": FAIR_C, "verbose": -1}
    asked |= {"tweedie_variance_power": VARIANCE_POWER, "force_row_wise": True}
    model = kind(**SETTINGS | asked, random_state=seed).fit(train.X, train.y, **rest)
    return probabilities(model, X) if kind is lightgbm.LGBMClassifier else model.predict(X)


def by_xgboost(objective: str, train: Part, X: np.ndarray, seed: int) -> np.ndarray:
    data = xgboost.DMatrix(train.X)
    if objective == "aft":
        data.set_float_info("label_lower_bound", np.abs(train.y))
        data.set_float_info("label_upper_bound", np.where(train.y > 0, train.y, np.inf))
    else:
        data.set_label(train.y)
    like = {"max_leaves": 15, "grow_policy": "lossguide", "tree_method": "hist", "eta": 0.1}
    like |= {"max_depth": 0, "lambda": 0, "min_child_weight": 5, "nthread": 1, "seed": seed}
    model = xgboost.train({"objective": f"survival:{objective}"} | like, data, 100)
    p = model.predict(xgboost.DMatrix(X))
    return -p if objective == "cox" else p


# ---------------------------------------------------------------------------------------- the rows


def simulated(task: str, seed: int = 0) -> Data:
    """Eight features, of which six matter, and noise of the objective's kind."""
    rng = np.random.default_rng(seed)
    n = 2 * MAX_ROWS
    X = rng.normal(size=(n, 8)).astype(np.float32)
    score = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] / 2 + np.abs(X[:, 3]) - (X[:, 4] > 0.5)
    score += 0.3 * X[:, 5]
    y: np.ndarray
    group = None
    if task == "shares":
        y = 1 / (1 + np.exp(-score - rng.normal(size=n)))
    elif task == "counts":
        y = rng.poisson(np.exp(score - 1)).astype(float)
    elif task == "amounts":
        y = np.exp(score) * rng.gamma(2.0, 0.5, n)
    elif task == "claims":
        y = np.array([rng.gamma(2.0, 0.5, k).sum() for k in rng.poisson(np.exp(score - 1))])
    elif task == "binary":
        y = (score + rng.logistic(size=n) > 1).astype(float)
    elif task == "classes":
        y = np.digitize(score + rng.normal(size=n), [0, 1, 2]).astype(float)
    elif task == "rank":
        y = np.digitize(score + rng.normal(size=n), [0, 1, 2, 3]).astype(float)
        group = np.full(n // 20, 20)
    elif task == "times":
        time, until = np.exp(score / 2 + rng.normal(size=n) / 2), rng.exponential(4.0, n)
        y = np.where(time < until, time, -until)
    else:
        y = score + (0.5 + np.abs(X[:, 6])) * rng.standard_t(4, n)
    return Data("simulated", task, X, y, MAX_ROWS, group)


REAL = {
    "numbers": ("california",),
    "shares": ("california",),
    "counts": ("fremtpl_frequency",),
    "amounts": ("fremtpl_severity",),
    "claims": ("fremtpl_frequency",),
    "binary": ("credit_default",),
    "classes": ("covtype", "letter"),
    "rank": ("lgb_rank",),
    "times": ("flchain",),
}


def real(name: str, task: str, catalogue: Any) -> Data | None:
    if name == "flchain":
        return flchain()
    data = sources.from_catalogue(catalogue, name)
    if task == "shares":
        return replace(data, y=data.y.argsort().argsort() / (len(data.y) - 1))
    return replace(data, y=data.y / 1e5) if name == "california" else data


def flchain() -> Data | None:
    """People of Olmsted County, their serum free light chains, and the days they lived."""
    found = importlib.util.find_spec("sksurv")
    if found is None or not found.submodule_search_locations:
        return None
    from scipy.io import arff

    path = Path(found.submodule_search_locations[0]) / "datasets" / "data" / "flchain.arff"
    rows, _ = arff.loadarff(path)
    columns = [
        name for name in rows.dtype.names or () if name not in ("death", "futime", "chapter")
    ]
    X = np.column_stack(
        [
            rows[name]
            if rows[name].dtype.kind == "f"
            else np.unique(rows[name], return_inverse=True)[1]
            for name in columns
        ]
    ).astype(np.float32)
    time = np.maximum(rows["futime"], 0.5)
    y = np.where(rows["death"] == b"dead", time, -time)
    order = np.random.default_rng(0).permutation(len(y))
    return Data("flchain", "times", X[order], y[order], len(y))


OBJECTIVES: dict[str, tuple[str, Loss, Fit]] = {
    "regression": ("numbers", residual_loss(np.square), by_lightgbm),
    "l1": ("numbers", residual_loss(np.abs), by_lightgbm),
    "huber": ("numbers", residual_loss(huber), by_lightgbm),
    "fair": ("numbers", residual_loss(fair), by_lightgbm),
    "quantile": (
        "numbers",
        residual_loss(lambda r: np.maximum(-ALPHA * r, (1 - ALPHA) * r)),
        by_lightgbm,
    ),
    "mape": ("numbers", mape, by_lightgbm),
    "cross_entropy": ("shares", cross_entropy, by_lightgbm),
    "poisson": ("counts", of_task("poisson"), by_lightgbm),
    "gamma": ("amounts", of_task("gamma"), by_lightgbm),
    "tweedie": ("claims", of_task("tweedie"), by_lightgbm),
    "binary": ("binary", of_task("binary"), by_lightgbm),
    "multiclass": ("classes", of_task("multiclass"), by_lightgbm),
    "multiclassova": ("classes", of_task("multiclass"), by_lightgbm),
    "lambdarank": ("rank", of_task("rank"), by_lightgbm),
    "rank_xendcg": ("rank", of_task("rank"), by_lightgbm),
    "aft": ("times", c_index_loss, by_xgboost),
    "cox": ("times", c_index_loss, by_xgboost),
}


def difference(objective: str, data: Data, n_seeds: int, bits: int | str) -> str:
    _, loss, theirs = OBJECTIVES[objective]
    losses = np.empty((n_seeds, 2))
    data = replace(data, n_train=len(data.y))
    for seed in range(n_seeds):
        part = sources.resample(data, seed, SHARE, MAX_ROWS)
        test = part.held_back
        rows = (objective, part.train, test.X, seed)
        for library, p in enumerate((ours(*rows, bits), theirs(*rows))):
            losses[seed, library] = loss(test, np.asarray(p, np.float64))
    paired = (losses[:, 0] - losses[:, 1]) / losses[:, 1].mean()
    found = Difference(float(paired.mean()), float(paired.std(ddof=1) / np.sqrt(n_seeds)))
    print(f"{objective}, {data.name}: {losses.mean(axis=0)}, {found}", flush=True)
    return str(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with a sets.py")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES), help="default: all")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--bits", default="auto", help="ours: auto, or a number")
    parser.add_argument("--markdown", type=Path, help="also write the table here")
    args = parser.parse_args()
    catalogue = sources.load_catalogue(args.data_dir)
    bits = int(args.bits) if args.bits.isdecimal() else args.bits
    lines = []
    for objective in args.objectives.split(","):
        task, _, rival = OBJECTIVES[objective]
        beside = "LightGBM" if rival is by_lightgbm else "XGBoost"
        for name in (*REAL[task], "simulated"):
            data = simulated(task) if name == "simulated" else real(name, task, catalogue)
            found = "-" if data is None else difference(objective, data, args.seeds, bits)
            lines.append([f"`{objective}`", beside, name, found])
    text = results.table(["objective", "beside", "rows", "difference"], lines) + "\n"
    if args.markdown:
        args.markdown.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
