"""Laws of any fit: parameters, data and samples of rows and features are drawn all at once.

Swept: every objective, bits, weights, missing values and zeros, categories, monotone and
interaction constraints, forced splits, linear leaves, bagging, sampling by gradient, features of
trees and nodes, drawn cuts, threads, SIMD levels, a GPU's machine on the host, workers, sparse
input, fits that go on. Against: one thread, and definitions. Tolerance: none, but one rounding each
for sums of
hessians.

QGBDT_LAW_CASES sets how many combinations are drawn (`make laws`: 20,000).
"""

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import (
    CLASSES,
    MORE_OBJECTIVES,
    OBJECTIVES,
    RANKING,
    CudaModule,
    hurting_data,
    put_cuda_module,
    targets,
)
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from workers import fit_together, shards

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.distributed import connect_threads

N_CASES = int(os.environ.get("QGBDT_LAW_CASES", "100"))
N_FEATURES = 6
QUANTILES = ("l1", "quantile", "mape")
WITHOUT_ORDER = (*CLASSES, *QUANTILES)  # refuse monotone constraints


@dataclass
class Case:
    """An estimator, and rows: the arguments of fit."""

    estimator: Any
    rows: dict[str, Any] = field(repr=False)
    sizes: np.ndarray | None = field(default=None, repr=False)  # of queries
    signs: list[int] = field(default_factory=list)
    sets: list[list[int]] = field(default_factory=list)

    def fit(self, n_jobs=1, **changes):
        params = self.estimator.get_params() | {"n_jobs": n_jobs}
        rows = {name: changes.pop(name) for name in ("X", "init_model") if name in changes}
        return type(self.estimator)(**params | changes).fit(**self.rows | rows)

    @property
    def samples_rows(self):
        of = self.estimator
        return of.data_sample_strategy == "goss" or of.subsample < 1


SAMPLES = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"subsample": st.floats(0.2, 1), "subsample_freq": st.integers(0, 3)}),
    st.fixed_dictionaries(
        {
            "data_sample_strategy": st.just("goss"),
            "top_rate": st.floats(0.05, 0.5),
            "other_rate": st.floats(0.05, 0.5),
        }
    ),
)
PARAMS = st.fixed_dictionaries(
    {
        "n_estimators": st.integers(1, 3),
        "num_leaves": st.integers(2, 31),
        "max_depth": st.sampled_from([-1, 1, 3]),
        "grow_policy": st.sampled_from(["lossguide", "depthwise"]),
        "learning_rate": st.sampled_from([0.1, 1.0]),
        "max_bin": st.integers(2, 255),
        "min_child_samples": st.integers(1, 40),
        "min_child_weight": st.sampled_from([0.0, 1e-3, 1.0]),
        "min_split_gain": st.sampled_from([0.0, 0.01]),
        "reg_alpha": st.sampled_from([0.0, 0.3]),
        "reg_lambda": st.sampled_from([0.0, 0.3, 10.0]),
        "path_smooth": st.sampled_from([0.0, 0.0, 5.0]),
        "grad_bits": st.sampled_from(["auto", 2, 3, 4, 5, 8, 16]),
        "rounding": st.sampled_from(["stochastic", "nearest"]),
        "renew_leaves": st.booleans(),
        "colsample_bytree": st.sampled_from([0.5, 1.0]),
        "colsample_bynode": st.sampled_from([0.5, 1.0]),
        "extra_trees": st.sampled_from([False, False, True]),
        "boosting_type": st.sampled_from(["gbdt", "gbdt", "gbdt", "dart", "rf"]),
        "drop_rate": st.sampled_from([0.1, 0.9]),
        "skip_drop": st.sampled_from([0.0, 0.5]),
        "min_data_per_group": st.sampled_from([1, 100]),
        "linear_tree": st.booleans(),
        "linear_lambda": st.sampled_from([0.0, 1.0]),
        "zero_as_missing": st.sampled_from([False, False, True]),
        "random_state": st.integers(0, 2**32 - 1),
    }
)


def forced_splits(features):
    split = st.fixed_dictionaries(
        {"feature": st.sampled_from(sorted(features)), "threshold": st.floats(-3, 3)}
    )
    two = st.fixed_dictionaries({}, optional={"left": split, "right": split})
    return st.builds(lambda root, sides: root | sides, split, two)


@st.composite
def cases(draw):
    objective = draw(st.sampled_from(OBJECTIVES + MORE_OBJECTIVES))
    seed = draw(st.integers(0, 9999))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(20, 500)) * draw(st.sampled_from([1] * 9 + [10]))  # with histograms, too
    X = hurting_data(n, N_FEATURES, seed)
    categorical = draw(st.lists(st.integers(1, N_FEATURES - 1), unique=True, max_size=2))
    for feature in categorical:
        X[:, feature] = rng.integers(0, draw(st.integers(1, 40)), len(X))
        X[rng.random(len(X)) < 0.1, feature] = np.nan
    y, sizes = targets(X, objective, seed)
    assume(objective not in ("binary", *CLASSES) or len(np.unique(y)) > 1)
    assume(objective != "poisson" or y.any())
    params = draw(PARAMS) | draw(SAMPLES)
    if params["boosting_type"] == "rf":
        params["colsample_bytree"] = 0.5  # trees must differ
    case = Case(None, {"X": X, "y": y}, sizes)
    if draw(st.booleans()):
        case.rows["sample_weight"] = rng.integers(0, 3, len(y)) + draw(st.sampled_from([0, 0.5]))
        assume(case.rows["sample_weight"].any())
    if sizes is not None:
        case.rows["group"] = sizes
    if categorical:
        params["categorical_features"] = categorical
    if objective not in WITHOUT_ORDER and draw(st.booleans()):
        signs = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=6, max_size=6))
        case.signs = [0 if i in categorical else sign for i, sign in enumerate(signs)]
        params["monotone_constraints"] = case.signs
    if draw(st.booleans()):
        sets = [[0, 1, 2], draw(st.lists(st.integers(1, 5), unique=True, min_size=1))]
        params["interaction_constraints"] = sets
        case.sets = [*sets, [i for i in range(N_FEATURES) if i > 2 and i not in sets[1]]]
    elif draw(st.booleans()):
        params["forced_splits"] = draw(forced_splits(set(range(N_FEATURES)) - set(categorical)))
    kinds = {"binary": QGBDTClassifier, **dict.fromkeys(CLASSES, QGBDTClassifier)}
    kinds |= dict.fromkeys(RANKING, QGBDTRanker)
    params["linear_tree"] &= (
        params["boosting_type"] == "gbdt"
        and params["path_smooth"] == 0
        and params["renew_leaves"]
        and not params["zero_as_missing"]
        and not case.signs
        and objective not in QUANTILES
    )
    case.estimator = kinds.get(objective, QGBDTRegressor)(objective=objective, **params)
    return case


n_checked = 0


@pytest.fixture(scope="module", autouse=True)
def count():
    yield
    print(f"\n{n_checked:,} combinations")


@settings(max_examples=N_CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_laws(case, data):
    global n_checked
    fitted = case.fit()
    check_trees(case, fitted)
    check_constraints(case, fitted, np.random.default_rng(0))
    check_equals(case, fitted.booster_, data.draw)
    n_checked += 1


def check_trees(case, fitted):
    X, of = case.rows["X"], case.estimator
    leaf_of_rows = fitted.apply(X)
    for i, tree in enumerate(fitted.booster_.trees()):
        is_split = tree["feature"] >= 0
        left, right = tree["left"][is_split], tree["right"][is_split]
        for total in ("count", "sum_hessian"):
            np.testing.assert_allclose(
                tree[total][left] + tree[total][right],
                tree[total][is_split],
                rtol=0 if total == "count" else 1e-15,
            )
        rows = np.bincount(leaf_of_rows[:, i], minlength=(~is_split).sum())
        if case.samples_rows:
            assert (rows >= tree["count"][~is_split]).all()
        else:
            np.testing.assert_array_equal(rows, tree["count"][~is_split])
        if is_split.any():
            assert tree["count"].min() >= of.min_child_samples
            assert (tree["gain"][is_split] > of.min_split_gain).all()
        assert (~is_split).sum() <= of.num_leaves
        assert np.isfinite(tree["value"]).all()
        check_paths(case, tree)


def check_paths(case, tree, node=0, used=frozenset(), depth=0):
    feature = int(tree["feature"][node])
    if feature < 0:
        assert case.estimator.max_depth <= 0 or depth <= case.estimator.max_depth
        assert not case.sets or not used or any(used <= set(some) for some in case.sets)
        return
    for child in (tree["left"][node], tree["right"][node]):
        check_paths(case, tree, child, used | {feature}, depth + 1)


def check_constraints(case, fitted, rng):
    """No raw prediction turns along a feature with a direction."""
    X = case.rows["X"]
    for feature, sign in enumerate(case.signs):
        seen = X[~np.isnan(X[:, feature]), feature]
        seen = seen[seen != 0] if case.estimator.zero_as_missing else seen
        if not sign or not len(seen):
            continue
        values = np.sort(np.r_[-np.inf, np.inf, rng.choice(seen, 10)])
        at = np.repeat(X[rng.integers(0, len(X), 10)], len(values), axis=0)
        at[:, feature] = np.tile(values, 10)
        raw = fitted.booster_.predict(at, raw_score=True).reshape(10, len(values))
        assert (sign * np.diff(raw, axis=1)).min() >= 0


def check_linear(case, booster):
    """Files keep linear leaves, and stages lead to the prediction, which is finite."""
    assert Booster.from_bytes(booster.to_bytes()) == booster
    X = booster._check_X(case.rows["X"])
    *_, last = booster.staged_predict(case.rows["X"])
    predicted = booster.predict(case.rows["X"])
    np.testing.assert_array_equal(last, predicted)
    assert np.isfinite(booster._model.leaf_values(X, 0, booster.n_iterations, 1)).all()


def check_equals(case, booster, draw):
    """However the fit is run, the bytes are the same."""
    X, n_trees = case.rows["X"], case.estimator.n_estimators
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QGBDT_SIMD", draw(st.sampled_from(_core.simd_levels())))
        assert case.fit(n_jobs=draw(st.integers(2, 5))).booster_ == booster
    if n_trees > 1 and case.estimator.boosting_type == "gbdt":
        first = case.fit(n_estimators=1)
        assert case.fit(n_estimators=n_trees - 1, init_model=first).booster_ == booster
    if case.estimator.linear_tree:
        check_linear(case, booster)
        return  # other machines, sparse X and workers are refused
    if case.estimator.zero_as_missing:
        numbers = np.setdiff1d(range(N_FEATURES), case.estimator.categorical_features or [])
        filled = X.copy()
        filled[:, numbers] = np.where(X[:, numbers] == 0, np.nan, X[:, numbers])
        of_filled = case.fit(X=filled, zero_as_missing=False).booster_
        text = booster.model_to_string().replace("zero missing\n", "")
        assert text.split("\n")[1:-2] == of_filled.model_to_string().split("\n")[1:-2]
    if not isinstance(case.estimator.categorical_features, list):
        sparse = draw(st.sampled_from([sp.csr_array, sp.csc_array]))
        assert case.fit(X=sparse(X)).booster_ == booster
    with pytest.MonkeyPatch.context() as patch:
        put_cuda_module(patch, CudaModule(order_seed=draw(st.integers(0, 99))))
        assert case.fit(device="cuda").booster_ == booster
    if case.estimator.objective == "cox":  # needs all rows: workers are refused
        return
    n_workers = draw(st.integers(2, 4))
    places = np.arange(len(X) + 1) if case.sizes is None else np.r_[0, np.cumsum(case.sizes)]
    edges = sorted(draw(st.sampled_from(places.tolist())) for _ in range(n_workers - 1))
    parts = []
    for some, sizes in shards(len(X), edges, case.sizes):
        part = {name: rows[some] for name, rows in case.rows.items() if name != "group"}
        parts.append(part | ({} if sizes is None else {"group": sizes}))
    together = type(case.estimator)(**case.estimator.get_params() | {"n_jobs": 1})
    for one in fit_together(connect_threads(n_workers), together, parts):
        assert one.booster_ == booster
