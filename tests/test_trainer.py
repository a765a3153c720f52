"""The C++ trainer equals the specification: every field of every tree, base scores, predictions.

Swept: objective x bits x (regularizers, depth, rounding, renewal, counts) x weights on small data
with missing, infinite, constant and all-missing columns; sizes at which blocks and lanes end.
Against: tests/reference.py. Tolerance: none, equality.
"""

import numpy as np
import pytest
import reference
from conftest import (
    OBJECTIVES,
    feature_names,
    few_valued_data,
    hurting_data,
    native_params,
    sparse_data,
    station_data,
    targets,
    train_native,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from qgbdt import _core

VARIANTS = {
    "plain": {},
    "regularized": {
        "reg_alpha": 0.5,
        "reg_lambda": 1.0,
        "min_split_gain": 0.1,
        "max_depth": 3,
        "renew_leaves": False,
    },
    "few_rows_allowed": {"min_child_samples": 1, "min_child_weight": 0.0},
    "nearest": {"rounding": "nearest", "min_child_samples": 40},
}


def assert_equal(model, expected, X):
    np.testing.assert_array_equal(model.base_score, expected.base_score)
    assert model.n_trees == len(expected.trees)
    for i, tree in enumerate(expected.trees):
        ours = model.tree(i)
        assert len(ours) == len(tree)
        for field in ours.dtype.names:
            np.testing.assert_array_equal(ours[field], tree[field], err_msg=f"tree {i} {field}")
    n_iterations = model.n_trees // model.n_outputs
    for raw in (True, False):
        ours = model.predict(X, 0, n_iterations, raw, 1)
        theirs = expected.predict_raw(X) if raw else expected.predict(X)
        np.testing.assert_array_equal(ours, np.reshape(theirs, ours.shape))


def compare(X, y, params, *, weight=None, query_sizes=None, max_bin=63):
    model = train_native(X, y, params, weight=weight, query_sizes=query_sizes, max_bin=max_bin)
    expected = reference.train(
        X, y, sample_weight=weight, query_sizes=query_sizes, params=params | {"max_bin": max_bin}
    )
    assert_equal(model, expected, X)
    return model


@pytest.mark.parametrize("bits", [2, 5, 8, 16])
@pytest.mark.parametrize("shape", [(1500, 40), (9000, 40), (300, 480)])
@pytest.mark.parametrize("objective", ["regression", "binary"])
def test_equals_reference_on_sparse_data(shape, bits, objective):
    X, y = sparse_data(*shape)
    params = native_params(objective=objective, grad_bits=bits, n_estimators=3, num_leaves=24)
    compare(X, y, params)


# A weight that a child must have rules out features without any; without it one row may do.
@pytest.mark.parametrize("min_child_weight", [0.0, 1e-3])
@pytest.mark.parametrize("bits", [2, 5, 16])
@pytest.mark.parametrize(("rows", "n_features", "num_leaves"), [(400, 24, 200), (6000, 48, 50)])
def test_equals_reference_where_nodes_have_nothing_of_features(
    rows, n_features, num_leaves, bits, min_child_weight
):
    X, y = station_data(rows, n_features)
    params = native_params(
        objective="binary",
        grad_bits=bits,
        learning_rate=1.0,
        n_estimators=3,
        num_leaves=num_leaves,
        min_child_samples=1,
        min_child_weight=min_child_weight,
        reg_lambda=0.1,
    )
    model = compare(X, y, params)
    assert {int(f) % 2 for f in model.tree(0)["feature"] if f >= 0} == {0, 1}


@pytest.mark.parametrize("bits", [2, 5, 8, 16])
@pytest.mark.parametrize("shape", [(1500, 40), (9000, 40), (300, 200)])
def test_equals_reference_on_features_that_share_bytes(shape, bits):
    X, y = few_valued_data(*shape)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=3, num_leaves=24)
    compare(X, y, params)


@pytest.mark.parametrize("bits", [5, 16])
@pytest.mark.parametrize("n_blocks", [2, 9, 300])
def test_blocks_of_rows_in_any_order_equal_reference(n_blocks, bits):
    X = hurting_data(9000)
    y, _ = targets(X, "regression")
    rng = np.random.default_rng(n_blocks)
    blocks = np.split(np.arange(len(X)), np.sort(rng.integers(0, len(X) + 1, n_blocks - 1)))
    order = rng.permutation(n_blocks)
    rows = np.concatenate([blocks[number] for number in order])
    row_blocks = [(number, len(blocks[number])) for number in order]
    params = native_params(grad_bits=bits)
    matrix = _core.BinnedMatrix(X[rows], 63, 2, None, row_blocks)
    model = _core.train(matrix, y[rows], None, None, feature_names(X), params, 2)[0]
    assert_equal(model, reference.train(X, y, params=params | {"max_bin": 63}), X)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bits", [2, 3, 5, 8, 16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_reference(objective, bits, variant, weighted):
    X = hurting_data(400)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(3).random(len(y)) if weighted else None
    params = native_params(objective=objective, grad_bits=bits, **VARIANTS[variant])
    model = compare(X, y, params, weight=weight, query_sizes=query_sizes)
    assert any(len(model.tree(i)) > 1 for i in range(model.n_trees))


@pytest.mark.parametrize("max_bin", [7, 255])
@pytest.mark.parametrize("reg_lambda", [0.0, 20.0])
@pytest.mark.parametrize("reg_alpha", [1.0, 10.0, 50.0])
def test_regularized_as_in_reference(reg_alpha, reg_lambda, max_bin):
    X = hurting_data(2000, 20)
    y, _ = targets(X, "poisson")
    params = native_params(
        num_leaves=24, reg_alpha=reg_alpha, reg_lambda=reg_lambda, learning_rate=0.5
    )
    compare(X, y, params, max_bin=max_bin)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 63, 64, 65, 255, 256, 257, 4097])
def test_sizes_of_rows(n_samples):
    X = hurting_data(n_samples)
    y, _ = targets(X, "binary")
    compare(X, y, native_params(objective="binary", min_child_samples=1), max_bin=255)


@pytest.mark.parametrize("truncation_level", [1, 30, 1000])
def test_sizes_of_queries(truncation_level):
    """Each size twice: one document against all others, then labels at random, many of them equal.

    Scores begin equal, so the one that differs is ranked first and has size - 1 rivals.
    """
    sizes = np.repeat([1, 2, 8, 9, 10, 128, 129, 130, 257, 258], 2)
    X = hurting_data(sizes.sum())
    labels = np.random.default_rng(4).choice([0.0, 1.0, 3.0], p=[0.7, 0.2, 0.1], size=len(X))
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts[::2], sizes[::2], strict=True):
        labels[start : start + size] = np.arange(size) == 0
    params = native_params(
        objective="lambdarank", lambdarank_truncation_level=truncation_level, n_estimators=4
    )
    model = compare(X, labels, params, query_sizes=sizes)
    assert all(len(model.tree(i)) > 1 for i in range(4))


@pytest.mark.parametrize("n_features", [1, 2, 4, 5, 9, 16, 17, 28, 31, 32, 33, 65])
def test_sizes_of_tiles(n_features):
    X = hurting_data(300, n_features)
    y = np.nan_to_num(X).clip(-3, 3).sum(axis=1)
    compare(X, y, native_params(n_estimators=2))


@pytest.mark.parametrize("max_bin", [2, 3, 7, 8, 64, 254, 255])
def test_numbers_of_bins(max_bin):
    X = hurting_data(1500)
    y, _ = targets(X, "regression")
    compare(X, y, native_params(n_estimators=2), max_bin=max_bin)


@pytest.mark.parametrize("n_samples", [65_535, 65_536, 65_537])
def test_rows_at_which_sixteen_bits_end(n_samples):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, size=(n_samples, 2)).astype(np.float32)
    y = X[:, 0] + rng.normal(size=n_samples)
    for bits in (2, 8, 16):
        compare(X, y, native_params(n_estimators=1, num_leaves=4, grad_bits=bits))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_drawn_combinations(data):
    draw = data.draw
    objective = draw(st.sampled_from(OBJECTIVES))
    X = hurting_data(draw(st.integers(1, 300)), draw(st.integers(1, 7)), draw(st.integers(0, 99)))
    if X.shape[1] < 3:
        X = np.column_stack([X, X, X])
    y, query_sizes = targets(X, objective, draw(st.integers(0, 99)))
    if objective == "gamma":
        y = y + 1e-3
    weight = None
    if draw(st.booleans()):
        weight = np.random.default_rng(1).integers(0, 3, len(y)) + 0.5
    params = native_params(
        objective=objective,
        grad_bits=draw(st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16])),
        num_leaves=draw(st.integers(1, 20)),
        max_depth=draw(st.sampled_from([-1, 1, 2, 5])),
        min_child_samples=draw(st.integers(1, 30)),
        min_child_weight=draw(st.sampled_from([0.0, 1e-3, 1.0])),
        min_split_gain=draw(st.sampled_from([0.0, 0.01, 1.0])),
        reg_alpha=draw(st.sampled_from([0.0, 0.3])),
        reg_lambda=draw(st.sampled_from([0.0, 0.3, 10.0])),
        rounding=draw(st.sampled_from(["stochastic", "nearest"])),
        renew_leaves=draw(st.booleans()),
        seed=draw(st.integers(0, 2**64 - 1)),
        n_estimators=draw(st.integers(0, 3)),
    )
    compare(X, y, params, weight=weight, query_sizes=query_sizes, max_bin=draw(st.integers(2, 255)))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"renew_leaves": False},
        {"monotone_constraints": np.array([1, -1, 0, 0, 0, 1], np.int8)},
        {"reg_lambda": 1.0, "reg_alpha": 0.3, "max_depth": 4, "grow_policy": "depthwise"},
    ],
)
@pytest.mark.parametrize("objective", ["regression", "poisson", "binary", "multiclass", "l1"])
def test_smoothed_paths_equal_reference(objective, change):
    X = hurting_data(900)
    y, _ = targets(X, objective)
    if "monotone_constraints" in change and objective in ("multiclass", "l1"):
        pytest.skip("which has no order")
    weight = np.linspace(0.2, 2, len(X))
    params = native_params(objective=objective, path_smooth=30.0, grad_bits="auto", n_estimators=4)
    smooth = compare(X, y, params | change, weight=weight)
    plain = train_native(X, y, params | change | {"path_smooth": 0.0}, weight=weight, max_bin=63)
    assert smooth.to_bytes() != plain.to_bytes()


OF_ONE_TARGET = ("multiclass", "multiclassova", "lambdarank", "rank_xendcg")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bits", ["auto", 3, 16])
@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o not in OF_ONE_TARGET])
def test_several_targets_equal_reference(objective, bits, weighted):
    X = hurting_data(700)
    y = np.array([targets(X, objective, seed)[0] for seed in range(3)])
    y[2] = y[2, ::-1]
    weight = np.linspace(0, 2, len(X)) if weighted else None
    params = native_params(objective=objective, grad_bits=bits, n_estimators=3, n_outputs=3)
    model = compare(X, y, params, weight=weight)
    assert (model.n_outputs, model.n_trees) == (3, 9)
    # Each target's trees are its own, but for the draw of the rounding.
    alone = train_native(X, y[0], params | {"n_outputs": 1}, weight=weight, max_bin=63)
    np.testing.assert_array_equal(model.tree(0), alone.tree(0))


DARTS = {
    "plain": {},
    "always": {"skip_drop": 0.0, "drop_rate": 0.5},
    "limited": {"skip_drop": 0.0, "drop_rate": 1.0, "max_drop": 2},
    "unlimited": {"skip_drop": 0.0, "drop_rate": 1.0, "max_drop": -1},
    "uniform": {"skip_drop": 0.0, "drop_rate": 0.4, "uniform_drop": True},
    "as_xgboost": {"skip_drop": 0.2, "drop_rate": 0.5, "xgboost_dart_mode": True},
}


@pytest.mark.parametrize("variant", DARTS)
@pytest.mark.parametrize("objective", ["regression", "l1", "binary", "multiclass", "lambdarank"])
def test_dart_equals_reference(objective, variant):
    X = hurting_data(900)
    y, sizes = targets(X, objective)
    params = native_params(
        objective=objective,
        boosting_type="dart",
        n_estimators=9,
        grad_bits="auto",
        **DARTS[variant],
    )
    sampled = {"subsample": 0.7} if variant == "always" else {}
    compare(X, y, params | sampled, query_sizes=sizes)


@pytest.mark.parametrize(
    "drawn", [{"subsample": 0.6, "subsample_freq": 2}, {"colsample_bytree": 0.5}]
)
@pytest.mark.parametrize("objective", ["regression", "l1", "binary", "multiclass", "lambdarank"])
def test_forests_equal_reference(objective, drawn):
    X = hurting_data(900)
    y, sizes = targets(X, objective)
    forest = {"objective": objective, "boosting_type": "rf", "n_estimators": 5}
    compare(X, y, native_params(**forest, **drawn), query_sizes=sizes)
