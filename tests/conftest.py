"""Shared fixtures: native training parameters, data that hurts, real data sets where they lie."""

import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

# Not before Dask's package distributed, whose name one of the benchmarks has.
sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))

BASE_PARAMS = {
    "objective": "regression",
    "custom": None,
    "n_outputs": 1,
    "n_estimators": 3,
    "num_leaves": 15,
    "max_depth": -1,
    "grow_policy": "lossguide",
    "learning_rate": 0.1,
    "min_child_samples": 5,
    "min_child_weight": 1e-3,
    "min_split_gain": 0.0,
    "reg_alpha": 0.0,
    "reg_lambda": 0.0,
    "path_smooth": 0.0,
    "grad_bits": 5,
    "rounding": "stochastic",
    "renew_leaves": True,
    "seed": 7,
    "subsample": 1.0,
    "subsample_freq": 0,
    "data_sample_strategy": "bagging",
    "top_rate": 0.2,
    "other_rate": 0.1,
    "colsample_bytree": 1.0,
    "colsample_bynode": 1.0,
    "extra_trees": False,
    "monotone_constraints": np.zeros(0, np.int8),
    "interaction_sets": np.zeros((0, 0), np.uint8),
    "most_interacting": 0,
    "forced_splits": [],
    "tweedie_variance_power": 1.5,
    "alpha": 0.9,
    "fair_c": 1.0,
    "aft_loss_distribution": "normal",
    "aft_loss_distribution_scale": 1.0,
    "lambdarank_truncation_level": 30,
    "label_gain": np.array([2.0**label - 1 for label in range(31)]),
    "cat_smooth": 10.0,
    "cat_l2": 10.0,
    "max_cat_threshold": 32,
    "max_cat_to_onehot": 4,
    "min_data_per_group": 100.0,
    "boosting_type": "gbdt",
    "drop_rate": 0.1,
    "max_drop": 50,
    "skip_drop": 0.5,
    "uniform_drop": False,
    "xgboost_dart_mode": False,
    "linear_tree": False,
    "linear_lambda": 0.0,
}
OBJECTIVES = ("regression", "poisson", "gamma", "tweedie", "binary", "multiclass", "lambdarank")
MORE_OBJECTIVES = (
    *("l1", "huber", "fair", "quantile", "mape", "cross_entropy"),
    *("multiclassova", "rank_xendcg", "aft", "cox"),
)
CLASSES = ("multiclass", "multiclassova")
RANKING = ("lambdarank", "rank_xendcg")
N_CLASSES = 3


def native_params(**changes):
    """Parameters of `_core.train`: small defaults, changed by keyword."""
    unknown = set(changes) - set(BASE_PARAMS)
    assert not unknown, unknown
    params = BASE_PARAMS | changes
    if params["objective"] in CLASSES and "n_outputs" not in changes:
        params["n_outputs"] = N_CLASSES
    return params


def hurting_data(n_samples=700, n_features=6, seed=0):
    """X with missing values, few-valued, constant, all-NaN and infinite columns."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features))
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 0] = np.nan_to_num(X[:, 0], nan=1.0)
    if n_features > 1:
        X[:, 1] = np.round(2 * X[:, 1])
    if n_features > 3:
        X[:, 3] = 4.0
    if n_features > 4:
        X[:, 4] = np.nan
    if n_features > 2:
        X[: n_samples // 50, 2] = np.inf
        X[-n_samples // 50 :, 2] = -np.inf
    return X


def unaligned(array):
    """The same in memory that does not begin at a multiple of its items' size."""
    in_bytes = np.frombuffer(b"\0" + array.tobytes(), np.uint8)
    return in_bytes[1:].view(array.dtype).reshape(array.shape)


def few_valued_data(n_samples=2000, n_features=40, seed=0):
    """X and y: neighbours share bytes of a tile, two to five of them, or none; missing values."""
    rng = np.random.default_rng(seed)
    n_values = np.resize([2, 2, 2, 2, 2, 2, 3, 5, 1000, 8, 20, 7, 15, 15, 2, 4], n_features)
    X = np.floor(rng.random((n_samples, n_features)) * n_values)
    missing = rng.random((n_samples, n_features)) < 0.2 * (rng.random(n_features) < 0.5)
    X[missing] = np.nan
    signal = np.nan_to_num(X).clip(0, 3) @ rng.normal(size=n_features)
    return X, (signal > np.median(signal)).astype(float)


def sparse_data(n=2000, n_features=130, seed=0):
    """X and y: columns mostly missing, dense, mostly zero, so tiles of either kind and mixed ones.

    Only the first and the last columns matter, with their missing values and zeros.
    """
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(n, n_features)), 1)
    third = n_features // 3
    for columns, fill in ((slice(0, third), np.nan), (slice(2 * third, None), 0.0)):
        part = X[:, columns]
        part[rng.random(part.shape) < 0.85] = fill
    signal = np.nan_to_num(X[:, :8], nan=0.5).sum(axis=1) + np.abs(X[:, -8:] - 0.3).sum(axis=1)
    return X, (signal > np.median(signal)).astype(float)


def station_data(n=2000, n_features=48, seed=0):
    """X and y: a row has values at one or two of eight stations, so nodes lack most features.

    Of half of the features what is not there is missing, of the others it is 0.
    """
    rng = np.random.default_rng(seed)
    station = np.sort(np.arange(n_features) % 8)
    visits = np.eye(8, dtype=bool)[rng.integers(0, 8, (n, 2))].any(axis=1)
    X = np.round(rng.normal(size=(n, n_features)), 1)
    absent = np.where(np.arange(n_features) % 2, np.nan, 0.0)
    X = np.where(visits[:, station], X, absent)
    signal = np.nan_to_num(X) @ rng.normal(size=n_features) + visits @ rng.normal(size=8)
    return X, (signal > np.median(signal)).astype(float)


def drawn_times(s, seed):
    """Times whose logarithms are about s, many of them equal; about a third is censored."""
    until = s.mean() + 1 + 1.5 * np.random.default_rng(seed + 2).normal(size=len(s))
    times = np.exp(np.round(4 * np.minimum(s, until)) / 4)
    return np.where(s < until, times, -times)


def targets(X, objective, seed=0):
    """A learnable target that is legal for the objective, and query sizes for the ranker."""
    rng = np.random.default_rng(seed + 1)
    signal = np.nan_to_num(X, nan=0.5, posinf=2.0, neginf=-2.0)
    s = signal[:, 0] + signal[:, 1] * signal[:, 2] + 0.3 * rng.normal(size=len(X))
    s = np.clip(s, -3, 3)
    y = {
        **dict.fromkeys(("regression", "l1", "huber", "fair", "quantile"), 3 * s),
        "mape": 3 * s,
        "cross_entropy": 1 / (1 + np.exp(-s)),
        "binary": (s > 0).astype(float),
        "poisson": rng.poisson(np.exp(s)).astype(float),
        "gamma": np.exp(s),
        "tweedie": np.maximum(s, 0),
        **dict.fromkeys(("aft", "cox"), drawn_times(s, seed)),
        **dict.fromkeys(CLASSES, np.digitize(s, [-0.5, 0.5]).astype(float)),
        **dict.fromkeys(RANKING, np.clip(np.round(s + 1), 0, 4)),
    }[objective]
    if objective not in RANKING:
        return y, None
    sizes = []
    while sum(sizes) < len(X):
        sizes.append(min(int(rng.integers(1, 60)), len(X) - sum(sizes)))
    return y, np.array(sizes)


def feature_names(X):
    return [f"f{i}" for i in range(X.shape[1])]


def native_categories(n_categories):
    """What `_core.BinnedMatrix` and `_core.train` take: of each feature so many codes, or None."""
    if n_categories is None:
        return [], []
    numbers = [-1 if n is None else n for n in n_categories]
    return numbers, [None if n is None else [float(i) for i in range(n)] for n in n_categories]


def train_native(
    X,
    y,
    params,
    *,
    weight=None,
    query_sizes=None,
    max_bin=255,
    n_threads=1,
    names=None,
    n_categories=None,
):
    """A `_core.Model`, straight from arrays."""
    from qgbdt import _core

    numbers, values = native_categories(n_categories)
    matrix = _core.BinnedMatrix(X, max_bin, n_threads, n_categories=numbers)
    names = names or feature_names(X)
    args = (matrix, y, weight, query_sizes, names, params, n_threads)
    return _core.train(*args, categories=values, X=X if params["linear_tree"] else None)[0]


class CudaModule:
    """qgbdt._cuda of a machine in some state; where it has a GPU, that is the host in its place."""

    __spec__ = "built"

    def __init__(self, state="ready", order_seed=0):
        from qgbdt import _core

        self.state = lambda: state
        self.device = lambda timed=False: _core.on_host.device(order_seed=order_seed)


def put_cuda_module(monkeypatch, module):
    """Put a module into the place of qgbdt._cuda."""
    import qgbdt

    monkeypatch.setitem(sys.modules, "qgbdt._cuda", module)
    monkeypatch.setattr(qgbdt, "_cuda", module, raising=False)


@lru_cache(maxsize=1)
def real_data():
    """The `sets` module of the real-data folder (QGBDT_DATA, or ../shared/data); None without."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    script = Path(os.environ.get("QGBDT_DATA", beside)) / "sets.py"
    if not script.exists():
        return None
    spec = importlib.util.spec_from_file_location("real_sets", script)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["real_sets"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=8)
def real_set(name, max_rows=None):
    """(X float64, y, query sizes or None) of a real set's training part; categories as codes."""
    sets = real_data()
    if sets is None:
        pytest.skip("real data sets are not here (set QGBDT_DATA)")
    data = sets.load(name)
    rows = np.asarray(data.train)[:max_rows]
    frame = data.X.iloc[rows].copy()
    for column in frame.columns[frame.dtypes == "category"]:
        frame[column] = frame[column].cat.codes.replace(-1, np.nan)
    sizes = None
    if data.group is not None:
        _, sizes = np.unique(data.group[rows], return_counts=True)
    return frame.to_numpy(np.float64), np.asarray(data.y, np.float64)[rows], sizes
