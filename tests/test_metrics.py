"""Metrics equal tests/reference.py, and scikit-learn's where it has them.

Swept: metrics, weights (zeros, too), ties, numbers of rows, threads, workers, where rows are cut,
scores and targets that hurt. Against: the reference (tolerance: none), scikit-learn, hand counts.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import sklearn.metrics
from conftest import native_params
from test_distributed import in_threads, shards

from qgbdt import _core

OBJECTIVES = {
    "regression": ("regression", "cross_entropy", "poisson", "gamma", "tweedie"),
    "aft": ("aft",),
    "cox": ("cox",),
    "binary": ("binary",),
    "multiclass": ("multiclass",),
    "ranking": ("lambdarank",),
}
METRICS = _core.metrics()
CASES = [
    (name, objective)
    for name, (problems, _) in METRICS.items()
    for problem in problems
    for objective in OBJECTIVES[problem]
]
SIZES = [1, 2, 3, 255, 256, 257, 5000]


def drawn(objective, n, seed=0, weighted=True, coarse=True):
    """Raw predictions with many ties, targets, weights of which some are 0, sizes of queries."""
    rng = np.random.default_rng(seed)
    n_outputs = 3 if objective == "multiclass" else 1
    s = rng.normal(size=(n, n_outputs))
    s = np.round(2 * s) / 2 if coarse else s
    y = {
        "regression": rng.normal(size=n),
        "poisson": rng.poisson(1.0, n),
        "cross_entropy": rng.integers(0, 5, n) / 4,
        "gamma": rng.exponential(size=n) + 1e-3,
        "tweedie": np.maximum(rng.normal(size=n), 0),
        **dict.fromkeys(("aft", "cox"), rng.choice([-1, 1, 1], n) * rng.integers(1, n + 2, n)),
        "binary": rng.integers(0, 2, n),
        "multiclass": rng.integers(0, 3, n),
        "lambdarank": rng.integers(0, 5, n) * rng.integers(0, 2, n),
    }[objective].astype(float)
    if objective == "binary":
        y[:2] = [0, 1][: len(y)]
    weight = rng.random(n) * rng.integers(0, 2, n) + (np.arange(n) < 2) if weighted else None
    sizes = []
    while sum(sizes) < n:
        sizes.append(min(int(rng.integers(1, 20)), n - sum(sizes)))
    return s, y, weight, np.array(sizes) if objective == "lambdarank" else None


def evaluated(names, objective, s, y, weight, sizes, n_threads=1, comm=None, ats=(3,), **changes):
    """The values of the native module."""
    params = native_params(objective=objective, **changes)
    data = (np.zeros((len(s), 1)), y, weight, sizes, np.ascontiguousarray(s))
    metrics = [(name, at) for name in names for at in ats]
    return _core.evaluate(data, metrics, params, n_threads, comm)


def names_of(objective):
    return [name for name, of in CASES if of == objective]


def is_defined(name, y, weight):
    weighed = y if weight is None else y[weight > 0]
    if name in ref.TIME_METRICS:
        return (weighed > 0).any()
    return name not in ref.ORDER_METRICS or {0, 1} <= set(weighed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("name", "objective"), CASES)
def test_metrics_are_the_reference(name, objective, n, weighted):
    s, y, weight, sizes = drawn(objective, n, n, weighted)
    if not is_defined(name, y, weight):
        pytest.skip("one class, or no event")
    params = native_params(objective=objective)
    for at in (1, 3, 5, 1000):
        expected = ref.metric(name, s.T, y, weight, params, sizes, at)
        for n_threads in (1, 3):
            got = evaluated([name], objective, s, y, weight, sizes, n_threads, ats=(at,))
            assert got.tolist() == [expected]
        assert math.isfinite(expected)
        if name not in ref.QUERY_METRICS:
            break


def test_the_reference_and_the_documentation_have_every_metric():
    tables = (ref.ROW_METRICS, ref.ORDER_METRICS, ref.TIME_METRICS, ref.QUERY_METRICS)
    assert set(METRICS) == {name for table in tables for name in table}
    documentation = Path(__file__).parents[1].joinpath("docs/evaluation.md").read_text()
    assert all(f"`{name}`" in documentation for name in METRICS)


@pytest.mark.parametrize("objective", [o for some in OBJECTIVES.values() for o in some])
@pytest.mark.parametrize("seed", range(4))
def test_workers_find_the_values_of_one(objective, seed):
    rng = np.random.default_rng(seed)
    n, names = 400, names_of(objective)
    s, y, weight, sizes = drawn(objective, n, seed, weighted=seed % 2 == 0)
    alone = evaluated(names, objective, s, y, weight, sizes, ats=(1, 5))
    places = np.arange(n + 1) if sizes is None else np.concatenate([[0], np.cumsum(sizes)])
    edges = [*np.sort(rng.choice(places, int(rng.integers(1, 8)))), n]  # the last has none
    parts = list(shards(n, edges, sizes))

    def work(comm):
        rows, some = parts[comm.rank]
        mine = None if weight is None else weight[rows]
        return evaluated(names, objective, s[rows], y[rows], mine, some, 2, comm, (1, 5))

    for values in in_threads(_core.thread_comms(len(parts)), work):
        assert (values == alone).all()


def test_threads_sort_together():
    s, y, weight, _ = drawn("binary", 100_000, coarse=False)
    s = s.round(4)
    names = ["auc", "average_precision"]
    alone = evaluated(names, "binary", s, y, weight, None, 1)
    for n_threads in (2, 3, 5):
        assert (evaluated(names, "binary", s, y, weight, None, n_threads) == alone).all()
    np.testing.assert_allclose(
        alone[0], sklearn.metrics.roc_auc_score(y, s[:, 0], sample_weight=weight), rtol=1e-12
    )


def test_order_does_not_matter():
    for objective in ("tweedie", "aft", "cox", "binary", "multiclass"):
        s, y, weight, _ = drawn(objective, 3000)
        order = np.random.default_rng(1).permutation(len(y))
        args = [(s, y, weight), (s[order], y[order], weight[order])]
        first, second = (evaluated(names_of(objective), objective, *a, None, 2) for a in args)
        assert (first == second).all()


# --------------------------------------------------------------------------------- what they are


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("coarse", [False, True])
def test_scikit_learn_agrees(weighted, coarse):
    m = sklearn.metrics

    def check(objective, of_prediction):
        s, y, weight, _ = drawn(objective, 3000, 5, weighted, coarse)
        p = ref.link(s.T, objective).T
        names = list(of_prediction)
        expected = [of_prediction[name](y, p, sample_weight=weight) for name in names]
        got = evaluated(names, objective, s, y, weight, None)
        np.testing.assert_allclose(got, expected, rtol=1e-12)

    check(
        "regression",
        {
            "l2": m.mean_squared_error,
            "rmse": m.root_mean_squared_error,
            "l1": m.mean_absolute_error,
            "quantile": lambda *a, **k: m.mean_pinball_loss(*a, alpha=0.9, **k),
            "r2": m.r2_score,
        },
    )
    check("poisson", {"poisson_deviance": m.mean_poisson_deviance, "l2": m.mean_squared_error})
    check("gamma", {"gamma_deviance": m.mean_gamma_deviance})
    check(
        "tweedie",
        {"tweedie_deviance": lambda *a, **k: m.mean_tweedie_deviance(*a, power=1.5, **k)},
    )

    def error(y, p, sample_weight):
        predicted = p.argmax(axis=1) if p.shape[1] > 1 else p[:, 0] > 0.5
        return 1 - m.accuracy_score(y, predicted, sample_weight=sample_weight)

    check(
        "binary",
        {
            "binary_logloss": m.log_loss,
            "binary_error": error,
            "auc": m.roc_auc_score,
            "average_precision": m.average_precision_score,
        },
    )
    check("multiclass", {"multi_logloss": m.log_loss, "multi_error": error})


def test_likelihoods_are_deviances_without_what_depends_on_the_target():
    for objective in ("poisson", "gamma", "tweedie"):
        s, y, _, _ = drawn(objective, 500)
        names = [objective, f"{objective}_deviance"]
        first = evaluated(names, objective, s, y, None, None)
        second = evaluated(names, objective, s[::-1], y, None, None)
        np.testing.assert_allclose(2 * (first - second)[0], (first - second)[1], rtol=1e-9)


@pytest.mark.parametrize("power", [1.01, 1.99])
def test_targets_of_zero_at_any_variance_power(power):
    s, y, weight, _ = drawn("tweedie", 300)
    changes = {"tweedie_variance_power": power}
    (got,) = evaluated(["tweedie_deviance"], "tweedie", s, y, weight, None, **changes)
    params = native_params(objective="tweedie", **changes)
    assert got == ref.metric("tweedie_deviance", s.T, y, weight, params)
    p = np.exp(s[:, 0])
    expected = sklearn.metrics.mean_tweedie_deviance(y, p, sample_weight=weight, power=power)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_ndcg_is_scikit_learns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, (40, 12)).astype(float)
    y[3] = 0  # nothing relevant: counts as 1
    s = rng.normal(size=y.shape)
    for k in (1, 5, 12, 99):
        of_queries = [sklearn.metrics.ndcg_score([2**a - 1], [b], k=k) for a, b in zip(y, s)]
        of_queries[3] = 1.0
        data = (s.reshape(-1, 1), y.ravel(), None, np.full(40, 12))
        got = evaluated(["ndcg"], "lambdarank", *data, ats=[k])
        np.testing.assert_allclose(got, np.mean(of_queries), rtol=1e-12)


def test_map_by_hand():
    y = np.array([0, 2, 1, 0, 0, 0, 0, 1], float)
    s = -np.arange(8.0).reshape(-1, 1)
    weight = np.array([1, 1, 1, 1, 0, 0, 3, 3], float)
    got = evaluated(["map"], "lambdarank", s, y, weight, [4, 2, 2], ats=(1, 2, 3))
    # of the queries [0, 2, 1, 0], [0, 0] (of weight 0) and [0, 1] (of weight 3)
    expected = [(0 + 3 * 0) / 4, (1 / 4 + 3 / 2) / 4, ((1 / 2 + 2 / 3) / 2 + 3 / 2) / 4]
    np.testing.assert_allclose(got, expected, rtol=1e-15)


def test_ties_in_a_query_keep_their_places():
    y = np.array([0.0, 1.0, 0.0])
    got = evaluated(["map"], "lambdarank", np.zeros((3, 1)), y, None, [3], ats=(3,))
    assert got == [0.5]


def test_ties_in_auc_count_half():
    y, s = np.array([0.0, 1.0, 0.0, 1.0]), np.array([[0.0], [0.0], [-1.0], [1.0]])
    assert evaluated(["auc"], "binary", s, y, None, None) == [(0.5 + 1 + 1 + 1) / 4]
    assert evaluated(["auc"], "binary", np.zeros((4, 1)), y, None, None) == [0.5]


def test_ties_of_classes_are_what_predict_makes_of_them():
    y = np.array([0.0, 1.0, 2.0])
    assert evaluated(["multi_error"], "multiclass", np.zeros((3, 3)), y, None, None) == [2 / 3]
    y = np.array([0.0, 1.0])
    assert evaluated(["binary_error"], "binary", np.zeros((2, 1)), y, None, None) == [1 / 2]


@pytest.mark.parametrize("weight", [None, np.array([1.0, 0.0])])
def test_losses_out_of_range(weight):
    s, y = np.array([[1.0], [1e200]]), np.zeros(2)
    infinite = evaluated(["l2", "rmse", "r2", "l1"], "regression", s, y, weight, None).tolist()
    if weight is None:
        assert infinite == [math.inf, math.inf, 0.0, 5e199]
    else:
        assert infinite == [1.0, 1.0, 0.0, 1.0]  # what has no weight counts for nothing


def test_certain_and_wrong_is_finite():
    y = np.array([0.0, 1.0])
    s = np.array([[800.0], [-800.0]])
    (value,) = evaluated(["binary_logloss"], "binary", s, y, None, None)
    assert 34 < value < 35
    (value,) = evaluated(["multi_logloss"], "multiclass", np.eye(3)[:2, ::-1] * 900, y, None, None)
    assert 17 < value < 35


def test_r2_of_a_constant_target():
    y = np.full(3, 2.0)
    for s, expected in ((2.0, 1.0), (1.0, 0.0)):
        scores = np.full((3, 1), s)
        assert evaluated(["r2"], "regression", scores, y, None, None) == [expected]


def test_unknown_metrics_are_refused():
    s, y, weight, _ = drawn("binary", 10)
    for wrong in ("l2", "none"):
        with pytest.raises(ValueError, match="no metric of the objective"):
            evaluated([wrong], "binary", s, y, weight, None)
