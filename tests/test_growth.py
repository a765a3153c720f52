"""The laws of a grown tree, and accumulators at the counts where they would overflow.

Swept: drawn data and parameters; row counts around 2^15 / levels and 2^16, all rows in one bin with
extreme gradients. Against: routing every training row through the tree; a wide NumPy oracle.
Tolerance: none.
"""

import numpy as np
import pytest
import reference
from conftest import OBJECTIVES, hurting_data, native_params, targets, train_native
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trainer import compare

from qgbdt import QGBDTRegressor


def node_of_rows(tree, X):
    """For each node the mask of the rows that pass through it."""
    masks = np.zeros((len(tree), len(X)), bool)
    masks[0] = True
    for i, node in enumerate(tree):
        if node["feature"] < 0:
            continue
        x = X[:, node["feature"]]
        left = np.where(np.isnan(x), node["missing_left"], x <= node["threshold"])
        masks[node["left"]] = masks[i] & left
        masks[node["right"]] = masks[i] & ~left
    return masks


def depths(tree):
    depth = np.zeros(len(tree), int)
    for i, node in enumerate(tree):
        if node["feature"] >= 0:
            depth[[node["left"], node["right"]]] = depth[i] + 1
    return depth


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_laws_of_a_tree(data):
    draw = data.draw
    objective = draw(st.sampled_from(OBJECTIVES))
    X = hurting_data(draw(st.integers(1, 1500)), 5, draw(st.integers(0, 999)))
    y, query_sizes = targets(X, objective)
    params = native_params(
        objective=objective,
        n_estimators=2,
        grad_bits=draw(st.sampled_from(["auto", 2, 3, 4, 5, 8, 16])),
        num_leaves=draw(st.integers(1, 64)),
        max_depth=draw(st.sampled_from([-1, 1, 3])),
        min_child_samples=draw(st.integers(1, 200)),
        min_child_weight=draw(st.sampled_from([0.0, 1e-3])),
    )
    weight = np.random.default_rng(0).random(len(y)) if draw(st.booleans()) else None
    model = train_native(X, y, params, weight=weight, query_sizes=query_sizes, max_bin=63)
    for i in range(model.n_trees):
        tree = model.tree(i)
        rows = node_of_rows(tree, X).sum(axis=1)
        split = tree["feature"] >= 0
        np.testing.assert_array_equal(tree["count"], rows)
        assert (~split).sum() <= params["num_leaves"]
        assert params["max_depth"] <= 0 or depths(tree).max() <= params["max_depth"]
        if len(tree) > 1:  # no leaf, and so no node, below min_child_samples
            assert rows.min() >= params["min_child_samples"]
        left, right = tree["left"][split], tree["right"][split]
        np.testing.assert_array_equal(tree["count"][split], rows[left] + rows[right])
        assert (tree["gain"][split] > 0).all()


def test_best_first_order():
    """Nodes are numbered as leaf-wise growth makes them: always the leaf of largest gain next."""
    X = hurting_data(5000)
    y, _ = targets(X, "regression")
    tree = train_native(X, y, native_params(num_leaves=100, n_estimators=1)).tree(0)
    frontier = {0}
    for left in range(1, len(tree), 2):
        best = max(frontier, key=lambda i: (tree["gain"][i], -i))
        assert tree["left"][best] == left
        frontier = (frontier - {best}) | {left, left + 1}


@pytest.mark.parametrize("max_depth", [-1, 3])
@pytest.mark.parametrize("num_leaves", [2, 3, 20, 64, 100])
@pytest.mark.parametrize("objective", ["regression", "multiclass", "lambdarank"])
def test_depthwise_equals_reference(objective, num_leaves, max_depth):
    X = hurting_data(1200)
    y, query_sizes = targets(X, objective)
    params = native_params(
        objective=objective, num_leaves=num_leaves, max_depth=max_depth, grow_policy="depthwise"
    )
    model = compare(X, y, params, query_sizes=query_sizes)
    for i in range(model.n_trees):
        tree = model.tree(i)
        by_number = depths(tree)
        assert (np.diff(by_number) >= 0).all()  # no node before one of less depth


def test_a_depth_is_a_round():
    X = hurting_data(5000)
    y, _ = targets(X, "regression")
    fitted = QGBDTRegressor(n_estimators=1, num_leaves=2**6, grow_policy="depthwise").fit(X, y)
    profile = fitted.fit_profile_
    assert profile["growth_rounds"] == depths(fitted.booster_.tree(0)).max()
    assert profile["growth_expansions"] == profile["growth_splits"]


def test_training_rows_predict_alike_through_bins_and_values():
    """One more tree starts where predict says the first ones ended."""
    X = hurting_data(3000)
    y, _ = targets(X, "regression")
    params = native_params(n_estimators=5, learning_rate=1.0, renew_leaves=True)
    model = train_native(X, y, params)
    raw = model.predict(X, 0, 5, True, 1)[:, 0]
    tree = train_native(X, y, params | {"n_estimators": 6}).tree(5)
    leaf = (tree["feature"] < 0) & (tree["count"] > 0)
    for mask, value in zip(node_of_rows(tree, X)[leaf], tree["value"][leaf]):
        expected = (y[mask] - raw[mask]).mean()
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)  # gradients are float32


def lane_rows(bits):
    levels = 2 ** (bits - 1) - 1
    return 32767 // levels


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_packed_lanes_at_their_limit(bits, offset):
    """Every row in one bin of one feature, every gradient and hessian at its largest level."""
    n = 2 * (lane_rows(bits) + offset)
    half = n // 2
    X = np.zeros((n, 2))
    X[half:, 0] = 1  # separates -1 from +1; the other feature holds all rows in one bin
    y = np.where(np.arange(n) < half, -1.0, 1.0)
    weight = np.ones(n)  # makes the hessian a quantized one, all at the largest level
    params = native_params(n_estimators=1, num_leaves=2, grad_bits=bits, min_child_samples=1)
    model = train_native(X, y, params, weight=weight)
    expected = reference.train(
        X, y, sample_weight=weight, query_sizes=None, params=params | {"max_bin": 255}
    )
    np.testing.assert_array_equal(model.tree(0), expected.trees[0])
    np.testing.assert_allclose(model.tree(0)["sum_hessian"], [n, half, half], rtol=1e-12)
    assert model.tree(0)["gain"][0] == pytest.approx(n, rel=1e-12)


@pytest.mark.parametrize("bits", [2, 3, 5])
@pytest.mark.parametrize("n_outliers", [257, 258, 259, 516, 1000])
def test_outliers_fill_a_lane(bits, n_outliers):
    """Outliers beyond the bits' levels, as many in one bin as a lane holds between two flushes."""
    n = 40_000
    outlier = np.arange(n) < n_outliers
    X = np.column_stack([outlier, np.zeros(n)]).astype(np.float64)
    y = np.where(outlier, 1000.0, 0.01 * np.sin(np.arange(n)))
    weight = np.where(outlier, 1.0, 1e-3)
    params = native_params(n_estimators=1, num_leaves=2, grad_bits=bits)
    model = train_native(X, y, params, weight=weight)
    expected = reference.train(
        X, y, sample_weight=weight, query_sizes=None, params=params | {"max_bin": 255}
    )
    np.testing.assert_array_equal(model.tree(0), expected.trees[0])
    hessian_of_outliers = model.tree(0)["sum_hessian"][2]
    assert hessian_of_outliers == pytest.approx(n_outliers, rel=0.02)  # rounded, not wrapped


@pytest.mark.parametrize("bits", [2, 5, 8, 16])
def test_large_node_with_equal_gradients(bits):
    """More rows than 2^16 of the largest level on one side: sums a 16-bit lane could not hold."""
    n = 300_000
    X = np.zeros((n, 1), np.float32)
    X[: n // 3] = 1
    y = np.where(X[:, 0] > 0, 2.0, -1.0)
    weight = np.ones(n)
    params = native_params(n_estimators=1, num_leaves=2, grad_bits=bits)
    for n_threads in (1, 3):
        tree = train_native(X, y, params, weight=weight, n_threads=n_threads).tree(0)
        np.testing.assert_array_equal(tree["count"], [n, 2 * n // 3, n // 3])
        np.testing.assert_allclose(tree["sum_hessian"], tree["count"], rtol=1e-12)


def test_levels_shrink_before_sums_overflow():
    for bits in (2, 8, 16):
        for n in (1, 1000, 65_536, 1_000_000, 2**28):
            levels = reference.max_levels(n, bits)
            assert 1 <= levels <= 2 ** (max(bits, 8) - 1) - 1
            assert n * 2 * levels <= 2**31 - 1
