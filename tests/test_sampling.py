"""Samples of rows (bags, whole queries, by gradient) and of features (of trees, of nodes).

Swept: objective x bits x weights x strategy, threads, SIMD levels, workers and how the rows are cut
over them, resumed fits, bags of no rows. Against: tests/reference.py, equal; the laws of drawing,
within five standard deviations of a binomial; LightGBM, within what the draw of a bag changes.
"""

import lightgbm
import numpy as np
import pytest
import reference as ref
from conftest import (
    OBJECTIVES,
    feature_names,
    few_valued_data,
    hurting_data,
    native_params,
    sparse_data,
    targets,
    train_native,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from test_errors import message_of
from test_machines_agree import assert_machines_agree
from test_trainer import compare
from workers import shards_in_order, train_together

from qgbdt import QGBDTClassifier, QGBDTRegressor, _core
from qgbdt.errors import ParameterError

STRATEGIES = {
    "bag": {"subsample": 0.6},
    "bag_for_two": {"subsample": 0.3, "subsample_freq": 2},
    "goss": {"data_sample_strategy": "goss", "learning_rate": 0.7},
}
GOSS = STRATEGIES["goss"]


def root_counts(model):
    return [int(model.tree(i)["count"][0]) for i in range(model.n_trees)]


# --------------------------------------------------------------------------------- specification


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bits", ["auto", 2, 5, 16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_reference(objective, bits, strategy):
    X = hurting_data(400)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(3).random(len(y)) if bits in (2, 16) else None
    params = native_params(objective=objective, grad_bits=bits, **STRATEGIES[strategy])
    model = compare(X, y, params, weight=weight, query_sizes=query_sizes)
    assert min(root_counts(model)[-1:]) < len(X)


COLUMNS = {
    "tree": {"colsample_bytree": 0.5},
    "node": {"colsample_bynode": 0.5},
    "both": {"colsample_bytree": 0.7, "colsample_bynode": 0.4, "subsample": 0.7},
}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_samples_of_features_equal_reference(objective, columns):
    X = hurting_data(400, 8)
    y, _ = targets(X, objective)
    compare(X, y, native_params(objective=objective, **COLUMNS[columns]))


@pytest.mark.parametrize("columns", ["tree", "node"])
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_tiles_without_a_feature_of_the_tree(share, columns):
    """LightGBM's quantized mode ends here: feature_fraction with row-wise histograms."""
    X, y = sparse_data(900)
    params = native_params(objective="binary", num_leaves=24, **{f"colsample_by{columns}": share})
    model = compare(X, y, params)
    assert any(len(model.tree(i)) > 1 for i in range(model.n_trees))


DRAWN_CUTS = {
    "plain": (hurting_data(400, 8), {}),
    "histograms": (hurting_data(3000, 6), {"num_leaves": 40}),
    "large leaves": (hurting_data(700, 6), {"min_child_samples": 60, "grad_bits": 2}),
    "few values": (few_valued_data(900)[0], {}),
    "sparse": (sparse_data(900)[0], {"num_leaves": 24}),
    "listed": (sparse_data(400, 300)[0] * (np.arange(300) < 8), {"min_child_samples": 1}),
    "constraints": (hurting_data(600), {"monotone_constraints": np.array([1, -1, 0] * 2, np.int8)}),
    "nodes": (hurting_data(600, 8), {"colsample_bynode": 0.5, "subsample": 0.7}),
}


@pytest.mark.parametrize("kind", DRAWN_CUTS)
@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass", "lambdarank"])
def test_drawn_cuts_equal_reference(objective, kind):
    X, changes = DRAWN_CUTS[kind]
    if objective == "multiclass" and kind == "constraints":
        changes = {}
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(3).random(len(y)) if kind == "large leaves" else None
    params = native_params(objective=objective, extra_trees=True, **changes)
    model = compare(X, y, params, weight=weight, query_sizes=query_sizes)
    assert any(len(model.tree(i)) > 1 for i in range(model.n_trees))


def test_a_node_draws_its_own_cuts():
    """Root thresholds of many trees are spread evenly; missing values may be parted from all."""
    X = np.arange(1.0, 101)[:, None]
    y = np.where(X[:, 0] > 50, 1.0, -1.0)
    params = native_params(n_estimators=400, learning_rate=1e-9, num_leaves=2, extra_trees=True)
    model = train_native(X, y, params | {"min_child_samples": 1})
    thresholds = [model.tree(i)["threshold"][0] for i in range(400)]
    found = np.histogram(thresholds, bins=np.linspace(1, 100, 6))[0]
    assert found.sum() == 400
    assert (np.abs(found - 80) < 40).all()  # five standard deviations
    assert len(set(thresholds)) > 80
    X[::3] = np.nan
    y = np.isnan(X[:, 0]).astype(float)
    tree = train_native(X, y, params | {"n_estimators": 1}).tree(0)
    assert tree["threshold"][0] == np.inf
    assert not tree["missing_left"][0]


@pytest.mark.parametrize("change", [{"renew_leaves": False}, {"rounding": "nearest"}])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_other_parameters_as_in_reference(strategy, change):
    X = hurting_data(700)
    y, _ = targets(X, "regression")
    compare(X, y, native_params(**STRATEGIES[strategy], **change))


@pytest.mark.parametrize("rates", [(0.0, 0.1), (0.5, 0.5), (0.2, 0.8), (0.9, 0.01)])
def test_rates_as_in_reference(rates):
    X = hurting_data(600)
    y, _ = targets(X, "binary")
    params = native_params(objective="binary", top_rate=rates[0], other_rate=rates[1], **GOSS)
    compare(X, y, params)


@pytest.mark.parametrize("strategy", [{"subsample": 1e-9}, GOSS | {"other_rate": 1e-9}])
@pytest.mark.parametrize("reg_lambda", [0.0, 1.0])
def test_almost_no_row_is_in_use(strategy, reg_lambda):
    X = hurting_data(30)
    y, _ = targets(X, "regression")
    params = native_params(min_child_samples=1, reg_lambda=reg_lambda, **strategy)
    model = compare(X, y, params)
    assert root_counts(model)[-1] == (0 if "subsample" in strategy else 6)


# -------------------------------------------------------------------------------------- machines


@pytest.mark.parametrize("bits", ["auto", 2, 5, 16])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_machines_agree(strategy, bits, monkeypatch):
    X = hurting_data(20_000, 4)
    y, _ = targets(X, "multiclass")
    params = native_params(objective="multiclass", grad_bits=bits, **STRATEGIES[strategy])
    params |= {"n_estimators": 2}
    assert_machines_agree(X, y, params, monkeypatch)


@pytest.mark.parametrize("objective", ["binary", "lambdarank"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_workers_agree(strategy, objective):
    """Rows are drawn by their numbers among all, however few a worker has: here one has none."""
    X = hurting_data(900)
    y, sizes = targets(X, objective)
    params = native_params(objective=objective, **STRATEGIES[strategy])
    data = {"X": X, "y": y, "params": params, "query_sizes": sizes}
    alone = train_native(**data).to_bytes()
    places = np.arange(len(X)) if sizes is None else np.cumsum(sizes)
    edges = [int(places[len(places) // 3]), *[int(places[len(places) // 2])] * 2]
    parts = shards_in_order(len(X), edges, sizes)
    models = train_together(_core.thread_comms(4), parts, **data)
    assert {model.to_bytes() for model in models} == {alone}


@pytest.mark.parametrize("columns", COLUMNS)
def test_machines_and_workers_agree_on_samples_of_features(columns, monkeypatch):
    X = hurting_data(6000, 70)
    y, _ = targets(X, "binary")
    params = native_params(objective="binary", n_estimators=2, **COLUMNS[columns])
    assert_machines_agree(X, y, params, monkeypatch)
    models = train_together(
        _core.thread_comms(3), shards_in_order(len(X), [100, 2000]), X, y, params
    )
    assert {m.to_bytes() for m in models} == {train_native(X, y, params).to_bytes()}


@pytest.mark.parametrize("strategy", [*STRATEGIES, *COLUMNS])
def test_on_a_device(strategy):
    X = hurting_data(900)
    for objective in ("regression", "multiclass", "lambdarank"):
        y, sizes = targets(X, objective)
        params = native_params(objective=objective, **(STRATEGIES | COLUMNS)[strategy])
        fit = (_core.BinnedMatrix(X, 255, 1), y, None, sizes, feature_names(X), params, 1)
        on_device = _core.train(*fit, device=_core.on_host.device(order_seed=1))[0]
        assert on_device.to_bytes() == _core.train(*fit)[0].to_bytes()


# ------------------------------------------------------------------------------------------ laws


@given(
    subsample=st.floats(0.01, 1.0),
    n=st.integers(1, 3000),
    seed=st.integers(0, 2**32 - 1),
    freq=st.integers(0, 3),
)
@settings(max_examples=50, deadline=None)
def test_the_share_of_a_bag(subsample, n, seed, freq):
    X = np.arange(float(n)).reshape(-1, 1)
    params = native_params(subsample=subsample, seed=seed, subsample_freq=freq, n_estimators=4)
    counts = root_counts(train_native(X, X[:, 0].copy(), params))
    for i, count in enumerate(counts):
        assert abs(count - subsample * n) <= 5 * np.sqrt(n * subsample * (1 - subsample)) + 5
        assert count == counts[i - i % max(freq, 1)]


def test_bags_differ_between_iterations_and_seeds():
    X = hurting_data(2000)
    y, _ = targets(X, "regression")
    counts = [
        root_counts(train_native(X, y, native_params(subsample=0.5, n_estimators=5, seed=seed)))
        for seed in range(3)
    ]
    assert len({*counts[0], *counts[1], *counts[2]}) > 10


def test_all_outputs_share_a_bag():
    X = hurting_data(2000)
    y, _ = targets(X, "multiclass")
    counts = root_counts(train_native(X, y, native_params(objective="multiclass", subsample=0.5)))
    assert len({*counts[:3]}) == len({*counts[3:6]}) == 1
    assert counts[0] != counts[3]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_bag_of_all_rows_changes_no_byte(objective):
    X = hurting_data(300)
    y, sizes = targets(X, objective)
    plain = train_native(X, y, native_params(objective=objective), query_sizes=sizes)
    for change in ({"subsample": 1.0, "subsample_freq": 3}, {"data_sample_strategy": "goss"}):
        params = native_params(objective=objective, **change)  # goss begins after 10 iterations
        assert train_native(X, y, params, query_sizes=sizes).to_bytes() == plain.to_bytes()


def test_subsample_works_without_a_frequency():
    """LightGBM takes all rows where subsample_freq is 0, its default, and says nothing."""
    X, y = load_diabetes(return_X_y=True)
    fits = [QGBDTRegressor(n_estimators=3, subsample=0.5, subsample_freq=freq) for freq in (0, 1)]
    boosters = [fit.fit(X, y).booster_ for fit in fits]
    assert boosters[0] == boosters[1]
    assert boosters[0] != QGBDTRegressor(n_estimators=3).fit(X, y).booster_


def test_rankers_draw_whole_queries():
    X = hurting_data(3000)
    y, sizes = targets(X, "lambdarank")
    params = native_params(objective="lambdarank", subsample=0.5)
    model = train_native(X, y, params, query_sizes=sizes)
    for iteration, count in enumerate(root_counts(model)):
        drawn = ref.is_drawn(iteration, np.cumsum(sizes) - sizes, 0.5, params)
        assert count == sizes[drawn].sum()
        assert 0 < drawn.sum() < len(sizes)


@pytest.mark.parametrize("constant_hessian", [True, False])
def test_totals_are_of_the_bag(constant_hessian):
    """LightGBM's quantized mode took a root's sums from the wrong rows (its PR 7397)."""
    X = hurting_data(2000)
    y, _ = targets(X, "regression")
    weight = None if constant_hessian else np.full(len(y), 0.5)
    params = native_params(subsample=0.4, min_child_samples=30, num_leaves=31)
    model = train_native(X, y, params, weight=weight)
    for i, count in enumerate(root_counts(model)):
        tree = model.tree(i)
        leaves = tree[tree["feature"] < 0]
        assert count < 0.5 * len(X)
        assert leaves["count"].sum() == count
        assert leaves["count"].min() >= 30
        per_row = 1.0 if constant_hessian else 0.5
        np.testing.assert_allclose(tree["sum_hessian"], tree["count"] * per_row, rtol=1e-12)


@given(share=st.floats(0.01, 1.0), n_features=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_tree_has_exactly_its_share_of_the_features(share, n_features, seed):
    """All of them matter, and constant ones are not drawn."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 2, (600, n_features)).astype(float)
    y = X.sum(axis=1) + 0.01 * rng.random(len(X))
    X = np.column_stack([np.ones(len(X)), X, np.ones(len(X))])
    for by in ("tree", "node"):
        params = native_params(
            num_leaves=64,
            grad_bits=8,
            min_child_samples=1,
            seed=seed,
            **{f"colsample_by{by}": share},
        )
        model = train_native(X, y, params)
        for i in range(model.n_trees):
            used = {*model.tree(i)["feature"].tolist()} - {-1}
            assert 0 < len(used) <= n_features
            if by == "tree":
                assert len(used) == max(1, int(share * n_features + 0.5))


def test_outputs_iterations_and_nodes_draw_their_own_features():
    X = np.random.default_rng(0).integers(0, 2, (500, 9)).astype(float)
    y = X.sum(axis=1) % 3
    params = native_params(objective="multiclass", colsample_bytree=0.1, n_estimators=6)
    model = train_native(X, y, params)
    roots = [int(model.tree(i)["feature"][0]) for i in range(model.n_trees)]
    assert len({*roots}) > 4
    by_output = [roots[k::3] for k in range(3)]
    assert by_output[0] != by_output[1] != by_output[2]
    model = train_native(X, y, params | {"colsample_bytree": 1.0, "colsample_bynode": 0.1})
    assert len({*model.tree(0)["feature"].tolist()} - {-1}) > 2


def test_goss_keeps_the_large_and_stands_for_all():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 4))
    y = (X[:, 0] + rng.normal(size=len(X)) > 0).astype(float)
    weight = rng.random(len(X)) + 0.5  # no two rows have the same magnitude
    params = native_params(objective="binary", grad_bits=8, n_estimators=4, learning_rate=0.4)
    plain = train_native(X, y, params, weight=weight)
    goss = train_native(X, y, params | {"data_sample_strategy": "goss"}, weight=weight)
    counts = root_counts(goss)
    assert counts[:2] == [len(X)] * 2  # the first 1 / learning_rate iterations
    for i in (2, 3):
        assert abs(counts[i] - 0.3 * len(X)) < 5 * np.sqrt(0.1 * len(X))
        total = plain.tree(i)["sum_hessian"][0]
        assert abs(goss.tree(i)["sum_hessian"][0] / total - 1) < 0.03


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_going_on_draws_the_same_samples(strategy):
    X = hurting_data(800)
    y, _ = targets(X, "binary")
    params = native_params(objective="binary", n_estimators=7, **STRATEGIES[strategy])
    fit = (_core.BinnedMatrix(X, 255, 1), y, None, None, feature_names(X))
    whole = _core.train(*fit, params, 1)[0]
    begun = _core.train(*fit, params | {"n_estimators": 3}, 1)[0]
    raw = np.ascontiguousarray(begun.predict(X, 0, 3, True, 1).T)
    rest = _core.train(*fit, params | {"n_estimators": 4}, 1, None, begun, raw)[0]
    assert rest.to_bytes() == whole.to_bytes()


def test_a_resumed_fit_draws_the_same_samples(tmp_path):
    X = hurting_data(800)
    y, _ = targets(X, "binary")
    params = {"subsample": 0.5, "subsample_freq": 2, "validation_fraction": 0.2}
    whole = QGBDTClassifier(n_estimators=7, **params).fit(X, y)
    for n, resume in ((3, False), (7, True)):
        fitted = QGBDTClassifier(n_estimators=n, **params).fit(
            X, y, checkpoint_dir=tmp_path, resume=resume
        )
    assert fitted.booster_ == whole.booster_
    assert fitted.evals_result_ == whole.evals_result_


@pytest.mark.parametrize(
    "change",
    [
        {"subsample": 0.5, "subsample_freq": 1},
        {"data_sample_strategy": "goss", "top_rate": 0.3, "other_rate": 0.2},
        {"colsample_bytree": 0.6, "colsample_bynode": 0.6},
        {"extra_trees": True},
    ],
)
def test_as_accurate_as_lightgbm(change):
    """Friedman's function; means of five seeds, which scatter by some percent a seed."""
    rng = np.random.default_rng(0)
    X = rng.random((4000, 8))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3]
    y += 5 * X[:, 4] + rng.normal(size=len(y))
    params = {"n_estimators": 60, "num_leaves": 15, **change}
    errors = {"qgbdt": [], "lightgbm": []}
    for seed in range(5):
        ours = QGBDTRegressor(random_state=seed, **params)
        theirs = lightgbm.LGBMRegressor(random_state=seed, verbose=-1, n_jobs=1, **params)
        for name, model in (("qgbdt", ours), ("lightgbm", theirs)):
            model.fit(X[:2000], y[:2000])
            errors[name].append(np.mean((model.predict(X[2000:]) - y[2000:]) ** 2))
    assert np.mean(errors["qgbdt"]) < 1.07 * np.mean(errors["lightgbm"])


# -------------------------------------------------------------------------------------- messages


def test_goss_and_bags_exclude_each_other():
    goss = QGBDTRegressor(data_sample_strategy="goss", subsample=0.5)
    assert message_of(ParameterError, goss.fit, [[0.0]], [0.0]) == (
        "data_sample_strategy='goss' samples the rows itself: subsample must be 1.0. Got 0.5 "
        "instead."
    )


def test_rates_sum_to_no_more_than_all_rows():
    goss = QGBDTRegressor(data_sample_strategy="goss", top_rate=0.7, other_rate=0.4)
    assert message_of(ParameterError, goss.fit, [[0.0]], [0.0]) == (
        "top_rate and other_rate are shares of all rows and must not sum to more than 1. Got 0.7 "
        "and 0.4 instead."
    )
