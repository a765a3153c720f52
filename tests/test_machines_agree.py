"""One tree, any machine: the model file is the same, byte for byte.

Swept: n_jobs 1, 2, 3, 7 x QGBDT_SIMD (every level that this CPU runs) x grad_bits auto, 2, 3, 4,
5, 8, 16, on each objective, with weights and missing values, on small data and on real sets.
Against: one thread, scalar. Tolerance: none. The sets are large enough for nodes to be cut over
threads.
"""

import hashlib

import numpy as np
import pytest
from conftest import (
    OBJECTIVES,
    few_valued_data,
    hurting_data,
    native_params,
    real_set,
    sparse_data,
    station_data,
    targets,
    train_native,
)

from qgbdt import QGBDTRegressor, _core

THREADS = (1, 2, 3, 7)
BITS = ("auto", 2, 3, 4, 5, 8, 16)
SIMD = tuple(_core.simd_levels())


def digest(X, y, params, simd, n_threads, monkeypatch, **kwargs):
    monkeypatch.setenv("QGBDT_SIMD", simd)
    model = train_native(X, y, params, n_threads=n_threads, **kwargs)
    predictions = model.predict(X, 0, model.n_trees // model.n_outputs, False, n_threads)
    return hashlib.sha256(model.to_bytes() + predictions.tobytes()).hexdigest()


def assert_machines_agree(X, y, params, monkeypatch, **kwargs):
    digests = {
        (simd, n): digest(X, y, params, simd, n, monkeypatch, **kwargs)
        for simd in SIMD
        for n in THREADS
    }
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_small_data(objective, bits, monkeypatch):
    X = hurting_data(20_000, 5)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(0).random(len(y))
    params = native_params(objective=objective, grad_bits=bits, n_estimators=2, num_leaves=31)
    assert_machines_agree(X, y, params, monkeypatch, weight=weight, query_sizes=query_sizes)


@pytest.mark.parametrize("bits", [3, 5, 16])
def test_sparse_data(bits, monkeypatch):
    X, y = sparse_data(20_000)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=2, num_leaves=63)
    assert_machines_agree(X, y, params, monkeypatch)


@pytest.mark.parametrize("bits", [3, 16])
@pytest.mark.parametrize("n_features", [48, 260])
def test_nodes_that_have_nothing_of_features(n_features, bits, monkeypatch):
    X, y = station_data(20_000, n_features)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=2, num_leaves=63)
    assert_machines_agree(X, y, params, monkeypatch)


@pytest.mark.parametrize("bits", [3, 5, 16])
@pytest.mark.parametrize("n_features", [2, 5, 40, 150])
def test_features_that_share_bytes(n_features, bits, monkeypatch):
    X, y = few_valued_data(6000, n_features)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=2, num_leaves=63)
    assert_machines_agree(X, y, params, monkeypatch)


@pytest.mark.parametrize("n_features", [1, 4, 9, 28, 33, 65])
def test_tiles_cut_into_parts(n_features, monkeypatch):
    X = hurting_data(6000, n_features)
    y = np.nan_to_num(X).clip(-3, 3).sum(axis=1)
    assert_machines_agree(X, y, native_params(n_estimators=2), monkeypatch)


def as_target(y, objective):
    """A real target bent to what the objective takes."""
    if objective == "binary":
        return (y > np.median(y)).astype(float)
    if objective == "multiclass":
        return np.digitize(y, np.quantile(y, [0.3, 0.6])).astype(float)
    if objective in ("poisson", "gamma", "tweedie"):
        return y - y.min() + 1.0
    return y


REAL_SETS = ("adult", "california", "beijing_air", "lgb_rank")


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", REAL_SETS)
def test_real_sets(name, objective, monkeypatch):
    if (objective == "lambdarank") != (name == "lgb_rank"):
        pytest.skip("queries are where they are")
    X, y, query_sizes = real_set(name, 30_000 if query_sizes_absent(name) else None)
    y = as_target(y, objective)
    if name == "california":  # it has no missing values of its own
        X = np.where(np.random.default_rng(1).random(X.shape) < 0.05, np.nan, X)
    weight = np.random.default_rng(0).random(len(y))
    for bits in BITS:
        params = native_params(
            objective=objective, grad_bits=bits, n_estimators=1, num_leaves=63, min_child_samples=20
        )
        assert_machines_agree(X, y, params, monkeypatch, weight=weight, query_sizes=query_sizes)


def query_sizes_absent(name):
    return name != "lgb_rank"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_of_one_matrix(dtype):
    X = hurting_data(3_000).astype(dtype)
    y, _ = targets(X, "regression")
    wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    read_only = X.copy()
    read_only.flags.writeable = False
    models = [
        train_native(M, y, native_params()).to_bytes()
        for M in (X, np.asfortranarray(X), wide, X[::-1][::-1], read_only)
    ]
    assert len(set(models)) == 1
    if dtype == np.float32:  # the same numbers as float64
        assert train_native(X.astype(np.float64), y, native_params()).to_bytes() == models[0]


def test_seed_changes_the_model():
    X = hurting_data(2_000)
    y, _ = targets(X, "regression")
    models = {train_native(X, y, native_params(seed=s)).to_bytes() for s in (0, 1)}
    assert len(models) == 2


@pytest.mark.parametrize("name", ["avx1024", "AVX2", "sse"])
def test_unknown_simd_level(name, monkeypatch):
    monkeypatch.setenv("QGBDT_SIMD", name)
    with pytest.raises(ValueError, match=rf"QGBDT_SIMD is '{name}', but this build on this CPU"):
        _core.simd_level()
    with pytest.raises(ValueError, match="QGBDT_SIMD"):
        train_native(np.zeros((4, 1)), np.zeros(4), native_params())


def test_unsupported_simd_level(monkeypatch):
    missing = set(_core.build_info()["simd_compiled"]) - set(SIMD)
    if not missing:
        pytest.skip("this CPU runs every level")
    monkeypatch.setenv("QGBDT_SIMD", missing.pop())
    with pytest.raises(ValueError, match="this build on this CPU runs: scalar"):
        _core.simd_level()


def test_leaves_that_were_split_in_vain():
    """Their rows lie in another order; threads mark the rows of a leaf part by part."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 6))
    y = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=len(X))
    fits = [QGBDTRegressor(n_estimators=6, num_leaves=60, n_jobs=n).fit(X, y) for n in THREADS]
    profile = fits[0].fit_profile_
    assert profile["growth_expansions"] > profile["growth_splits"]
    assert all(fit.booster_ == fits[0].booster_ for fit in fits)
