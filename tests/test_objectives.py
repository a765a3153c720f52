"""The objectives beyond those of conftest's table: gradients, leaves that are quantiles, links.

Swept: objectives, weights, bits, SIMD levels, threads, workers, machines, ways to go on. Against:
tests/reference.py (tolerance: none), derivatives of textbook losses, brute force, LightGBM.
"""

import math

import numpy as np
import pytest
import reference as ref
from conftest import (
    MORE_OBJECTIVES,
    feature_names,
    hurting_data,
    native_params,
    real_set,
    targets,
    train_native,
)
from test_continuation import fitted
from test_evaluation import estimator_for, evaluation_data, rows, training_data
from test_machines_agree import assert_machines_agree
from test_trainer import compare
from workers import fit_together, shards, shards_in_order, train_together

from qgbdt import Booster, QGBDTRegressor, _core
from qgbdt.distributed import connect_threads
from qgbdt.errors import DataError, ParameterError
from qgbdt.params import METRIC_ALIASES, OBJECTIVE_ALIASES

QUANTILES = ref.QUANTILE_OBJECTIVES

# ------------------------------------------------------------------------------- what is minimized

ALPHA, FAIR_C = 0.7, 1.5
LOSSES = {  # of a raw score s and a target y
    "l1": lambda s, y: np.abs(s - y),
    "huber": lambda s, y: np.where(
        np.abs(s - y) <= ALPHA, (s - y) ** 2 / 2, ALPHA * (np.abs(s - y) - ALPHA / 2)
    ),
    "fair": lambda s, y: FAIR_C**2 * (np.abs(s - y) / FAIR_C - np.log1p(np.abs(s - y) / FAIR_C)),
    "quantile": lambda s, y: np.maximum(ALPHA * (y - s), (ALPHA - 1) * (y - s)),
    "mape": lambda s, y: np.abs(s - y) / np.maximum(np.abs(y), 1),
    "cross_entropy": lambda s, y: np.log1p(np.exp(s)) - y * s,
}


def gradients(objective, s, y):
    params = native_params(objective=objective, alpha=ALPHA, fair_c=FAIR_C)
    return (x[0] for x in ref.GRADIENTS[objective](s[None], y, params))


@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_gradients_are_derivatives_of_the_loss(objective):
    rng = np.random.default_rng(0)
    s, y, step = 3 * rng.normal(size=400), rng.random(400) * 3, 1e-5
    s = s[np.abs(np.abs(s - y) - ALPHA) > step]  # not where huber's loss changes its kind
    y = y[: len(s)] / (3 if objective == "cross_entropy" else 1)
    loss = LOSSES[objective]
    g, h = gradients(objective, s, y)
    np.testing.assert_allclose(g, (loss(s + step, y) - loss(s - step, y)) / (2 * step), atol=1e-5)
    if objective in ("fair", "cross_entropy"):
        up, down = (next(gradients(objective, s + d, y)) for d in (step, -step))
        np.testing.assert_allclose(h, (up - down) / (2 * step), atol=1e-4)
    else:  # as LightGBM's: the second derivative is 0 where the loss is linear
        assert (h == 1).all()


@pytest.mark.parametrize("objective", QUANTILES)
@pytest.mark.parametrize("weights", ["none", "integers", "reals", "zeros"])
def test_the_best_constant_is_in_the_middle_of_the_best(objective, weights):
    rng = np.random.default_rng(len(weights))
    for n in (1, 2, 3, 10, 11, 100):
        y = np.round(4 * rng.normal(size=n), 1).astype(np.float32).astype(np.float64)
        weight = {
            "none": np.ones(n),
            "integers": rng.integers(0, 4, n) + (np.arange(n) == 0.0),
            "reals": rng.random(n),
            "zeros": np.zeros(n),
        }[weights]
        params = native_params(objective=objective, alpha=0.3)
        k = ref.fixed_exponent(max(weight.max(), 1.0), n)
        best = ref.best_constant(y, y, weight, k, params)
        if weights == "zeros":
            assert best == 0
            continue
        level = 0.3 if objective == "quantile" else 0.5
        effective = weight / np.maximum(np.abs(y), 1) if objective == "mape" else weight
        d = y - y[:, None]  # the loss of each residual as the constant
        losses = (effective * np.maximum(level * d, (level - 1) * d)).sum(axis=1)
        ends = y[losses <= losses.min() * (1 + 1e-12)]
        np.testing.assert_allclose(best, (ends.min() + ends.max()) / 2, rtol=1e-15)
        if objective == "l1" and weights == "none":
            np.testing.assert_allclose(best, np.median(y), rtol=1e-15)


# ----------------------------------------------------------------------- the same on every machine


def drawn_weight(n, weighted):
    return np.random.default_rng(3).integers(0, 3, n) / 2 if weighted else None


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bits", [2, "auto", 16])
@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_equals_reference(objective, bits, weighted):
    X = hurting_data(400)
    y, query_sizes = targets(X, objective)
    changes = {"reg_alpha": 0.5, "reg_lambda": 1.0, "renew_leaves": False} if bits == 2 else {}
    params = native_params(objective=objective, grad_bits=bits, alpha=0.6, fair_c=0.5, **changes)
    model = compare(X, y, params, weight=drawn_weight(400, weighted), query_sizes=query_sizes)
    assert any(len(model.tree(i)) > 1 for i in range(model.n_trees))


@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_machines_agree(objective, monkeypatch):
    X = hurting_data(20_000, 5)
    y, query_sizes = targets(X, objective)
    params = native_params(objective=objective, n_estimators=2, grad_bits="auto")
    weight = drawn_weight(len(y), True)
    assert_machines_agree(X, y, params, monkeypatch, weight=weight, query_sizes=query_sizes)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_workers_train_the_model_of_one(objective, weighted):
    X = hurting_data(600)
    y, sizes = targets(X, objective)
    weight = drawn_weight(len(y), weighted)
    params = native_params(objective=objective, grad_bits="auto")
    alone = train_native(X, y, params, weight=weight, query_sizes=sizes).to_bytes()
    for edges in ([300], [0, 100, 450]):
        if sizes is not None:
            ends = np.cumsum(sizes)
            edges = [int(ends[ends <= edge].max(initial=0)) for edge in edges]
        parts = shards_in_order(600, edges, sizes)
        comms = _core.thread_comms(len(parts))
        models = train_together(comms, parts, X, y, params, weight=weight, n_threads=2)
        assert {model.to_bytes() for model in models} == {alone}


@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_the_gpus_machine_agrees(objective):
    X = hurting_data(3000, 5)
    y, sizes = targets(X, objective)
    params = native_params(objective=objective, grad_bits="auto", num_leaves=31)
    matrix = _core.BinnedMatrix(X, 255, 1)
    weight = drawn_weight(len(y), True)
    data = (matrix, y, weight, sizes, feature_names(X), params, 1)
    devices = [None, *(_core.on_host.device(order_seed=seed) for seed in (0, 1))]
    assert len({_core.train(*data, device=device)[0].to_bytes() for device in devices}) == 1


def test_more_leaves_than_are_searched_at_once():
    X = np.column_stack(np.divmod(np.arange(6000.0), 40))
    y = 1 + np.random.default_rng(0).integers(-3, 4, 6000) * 2.0**-22  # alike in the first digits
    params = native_params(objective="l1", num_leaves=1500, min_child_samples=1, n_estimators=1)
    tree = compare(X, y, params | {"grad_bits": 16}).tree(0)
    assert (tree["feature"] < 0).sum() > 1024


# ---------------------------------------------------------------------------------- the estimators


def case(objective, n=300):
    return estimator_for(objective, alpha=0.6, n_jobs=1), training_data(objective, n)


@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_saved_and_gone_on_from(objective, tmp_path):
    estimator, data = case(objective)
    whole = fitted(estimator, 6, data).booster_
    assert whole.objective == objective
    assert Booster.from_bytes(whole.to_bytes()) == whole
    start = fitted(estimator, 2, data)
    assert fitted(estimator, 4, data, init_model=start).booster_ == whole
    for n in (4, 6):
        part = fitted(estimator, n, data, checkpoint_dir=tmp_path, resume=True)
    assert part.booster_ == whole


@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_workers_stop_early_as_one(objective):
    given = rows(objective, 150, 1)
    data = training_data(objective)
    estimator = estimator_for(
        objective, n_estimators=30, learning_rate=0.5, early_stopping_rounds=3, n_jobs=1
    )
    alone = type(estimator)(**estimator.get_params())
    alone.fit(**data, **evaluation_data(objective, given))
    assert alone.best_iteration_ == alone.n_iter_
    sizes = data.pop("group", None)
    X, y, weight, eval_sizes = given
    edge, eval_edge = 150, 70
    if sizes is not None:
        edge, eval_edge = int(sizes[:4].sum()), int(eval_sizes[:2].sum())
    parts = [{"eval_set": [], "eval_sample_weight": []} for _ in range(2)]
    for part, (some, own) in zip(parts, shards(len(data["y"]), [edge], sizes), strict=True):
        part |= {name: values[some] for name, values in data.items()}
        part |= {} if own is None else {"group": own}
    for part, (some, own) in zip(parts, shards(150, [eval_edge], eval_sizes), strict=True):
        part["eval_set"] = [(X[some], y[some])]
        part["eval_sample_weight"] = [weight[some]]
        part |= {} if own is None else {"eval_group": [own]}
    for one in fit_together(connect_threads(2), estimator, parts):
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_


def test_other_names_of_lightgbms():
    data = training_data("l1", 100)
    for alias, name in OBJECTIVE_ALIASES.items():
        if name in QGBDTRegressor._params["objective"].allowed and name != "cross_entropy":
            model = QGBDTRegressor(objective=alias, n_estimators=1).fit(**data)
            assert model.booster_.objective == name
    given = {"X_val": data["X"], "y_val": data["y"], "eval_metric": ["mae", "l1", "mse"]}
    model = QGBDTRegressor(n_estimators=1).fit(**data, **given)
    assert list(model.evals_result_["valid_0"]) == ["l1", "l2"]
    assert set(METRIC_ALIASES.values()) <= set(_core.metrics())


def test_signs_need_two_bits():
    model = QGBDTRegressor(objective="l1", n_estimators=3).fit(*rows("l1", 500, 0)[:2])
    assert (model.quantization_report_["bits"] == 2).all()
    assert (model.quantization_report_["gradient_step"] == 1).all()


@pytest.mark.parametrize("wrong", [-0.25, 1.5])
def test_probabilities_must_be_such(wrong):
    X, y = np.zeros((3, 1)), np.array([0.0, 0.5, 1.0])
    with pytest.raises(
        DataError, match=rf"'cross_entropy' needs y in the range \[0, 1\], got {wrong}"
    ):
        QGBDTRegressor(objective="cross_entropy").fit(X, [0.0, wrong, 1.0])
    with pytest.raises(DataError, match="eval_metric='cross_entropy' needs y in the range"):
        QGBDTRegressor().fit(X, y, X_val=X, y_val=[wrong] * 3, eval_metric="cross_entropy")


def test_a_quantile_is_below_1():
    X = np.zeros((3, 1))
    assert QGBDTRegressor(objective="huber", alpha=2.0, n_estimators=1).fit(X, X[:, 0]).n_iter_ == 1
    with pytest.raises(
        ParameterError, match=r"'quantile' needs an alpha below 1, the quantile\. Got"
    ):
        QGBDTRegressor(objective="quantile", alpha=1.0).fit(X, X[:, 0])


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_quantiles_cover_their_share(alpha):
    rng = np.random.default_rng(0)
    X = rng.random((20_000, 1))
    y = 3 * X[:, 0] + rng.exponential(1 + X[:, 0])
    train, test = slice(10_000), slice(10_000, None)
    model = QGBDTRegressor(objective="quantile", alpha=alpha).fit(X[train], y[train])
    share = (y[test] <= model.predict(X[test])).mean()
    assert abs(share - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / 10_000) + 0.005


# ----------------------------------------------------------------------------------------- LightGBM


def held_out(objective, name):
    """X and y to train on, and to test on."""
    if name == "simulated":
        X = hurting_data(6000, 6)
        X = np.clip(X, -9, 9)
        y, _ = targets(X, objective)
    else:
        X, y, _ = real_set(name, 12_000)
        y = y / np.abs(y).mean()
        y = np.clip(y / 3, 0, 1) if objective == "cross_entropy" else y
    held = np.random.default_rng(0).random(len(X)) < 0.5
    return X[~held], y[~held], X[held], y[held]


@pytest.mark.parametrize("name", ["simulated", "california"])
@pytest.mark.parametrize("objective", MORE_OBJECTIVES)
def test_as_good_as_lightgbm(objective, name):
    """The held-out loss within three times its spread over halves of the rows that both train on.

    Both see the same rows and parameters; what differs is rounding to a few bits and how ties and
    small leaves are handled, which moves the loss by less than another sample of rows would.
    """
    lightgbm = pytest.importorskip("lightgbm")
    X, y, X_test, y_test = held_out(objective, name)
    alpha, fair_c = 0.7, 0.5
    params = {"n_estimators": 60, "num_leaves": 15, "random_state": 0, "n_jobs": 1}
    params |= {"objective": objective, "alpha": alpha, "fair_c": fair_c}
    native = native_params(objective=objective, alpha=alpha, fair_c=fair_c)

    def loss(p):
        return ref.ROW_METRICS[objective](None, p[None], y_test, native).mean()

    def ours(rows):
        return loss(QGBDTRegressor(**params).fit(X[rows], y[rows]).predict(X_test))

    theirs = lightgbm.LGBMRegressor(**params, verbose=-1).fit(X, y)
    halves = np.random.default_rng(1).permutation(len(X)).reshape(-1)[: len(X) // 2 * 2]
    spread = np.abs(np.subtract(*(ours(half) for half in np.split(halves, 2))))
    got, expected = ours(slice(None)), loss(theirs.predict(X_test))
    constant = loss(np.full(len(y_test), np.median(y)))
    assert got < 0.9 * constant
    assert got - expected < max(3 * spread, 0.02 * expected), (got, expected, spread)
