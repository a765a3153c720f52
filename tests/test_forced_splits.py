"""Splits that trees begin with.

Swept: objectives, bits, missing values, weights, drawn cuts and features, directions, growth by
depth, workers and machines. Against: tests/reference.py, equal; LightGBM's first splits.
"""

import json

import numpy as np
import pytest
from conftest import feature_names, native_params, targets, train_native
from test_errors import message_of
from test_machines_agree import assert_machines_agree
from test_trainer import compare
from workers import shards_in_order, train_together

from qgbdt import QGBDTRegressor, _core
from qgbdt.errors import DataError, ParameterError

X = np.random.default_rng(0).normal(size=(3000, 6))
Y = X @ np.array([3.0, 1, 1, 0.5, 1, 2])
LOW, HIGH = -0.3, 0.8
SPLITS = [(3, 0.1, 1, 2), (0, LOW, -1, 3), (5, HIGH, -1, -1), (0, 1.2, -1, -1)]
NESTED = {
    "feature": 3,
    "threshold": 0.1,
    "left": {"feature": 0, "threshold": LOW, "right": {"feature": 0, "threshold": 1.2}},
    "right": {"feature": "Column_5", "threshold": HIGH},
}
VARIANTS = {
    "plain": {},
    "large leaves": {"min_child_samples": 150},
    "small hessians": {"min_child_samples": 1, "min_child_weight": 0.0, "reg_lambda": 1.0},
    "drawn": {"extra_trees": True, "colsample_bytree": 0.4, "colsample_bynode": 0.6},
    "by depth": {"grow_policy": "depthwise", "path_smooth": 3.0},
    "directions": {"monotone_constraints": np.array([1, 0, 0, -1, 0, 0], np.int8)},
    "few leaves": {"num_leaves": 3},
    "impossible": {"forced_splits": [(3, 99.0, 1, 1), (0, -99.0, -1, -1)]},
}


def rows_with_gaps(n):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, 6))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("objective", "bits"), [("regression", 2), ("binary", 5), ("multiclass", 16), ("lambdarank", 3)]
)
def test_equals_reference(objective, bits, variant):
    if (variant, objective) == ("directions", "multiclass"):
        pytest.skip("probabilities of classes have no directions")
    X = rows_with_gaps(900)
    y, sizes = targets(X, objective)
    weight = np.random.default_rng(3).random(len(y)) if bits % 2 else None
    params = {"objective": objective, "grad_bits": bits, "forced_splits": SPLITS}
    params = native_params(**params | VARIANTS[variant])
    model = compare(X, y, params, weight=weight, query_sizes=sizes)
    first = model.tree(0)["feature"][0]
    assert variant == "impossible" or first == 3


@pytest.mark.parametrize("variant", ["plain", "drawn", "large leaves"])
def test_workers_and_machines(variant, monkeypatch):
    large = rows_with_gaps(30_000)
    y, _ = targets(large, "binary")
    changes = {"objective": "binary", "forced_splits": SPLITS, "n_estimators": 2, "grad_bits": 3}
    params = native_params(**changes | VARIANTS[variant])
    assert_machines_agree(large, y, params, monkeypatch)
    expected = train_native(large, y, params).to_bytes()
    device = _core.on_host.device(order_seed=3)
    matrix = _core.BinnedMatrix(large, 255, 1)
    args = (matrix, y, None, None, feature_names(large), params, 1)
    on_device = _core.train(*args, device=device)[0]
    parts = shards_in_order(len(large), [9_000])
    for model in [on_device, *train_together(_core.thread_comms(2), parts, large, y, params)]:
        assert model.to_bytes() == expected


def test_features_that_no_tree_draws():
    """In bytes of their own, which are added up for them; workers add up all."""
    wide = np.random.default_rng(0).normal(size=(20_000, 70))
    y = wide[:, 69] + wide[:, 3]
    forced = [(69, 0.0, -1, -1)]
    params = native_params(forced_splits=forced, colsample_bytree=0.02, n_estimators=2)
    alone = train_native(wide, y, params)
    assert [alone.tree(i)["feature"][0] for i in range(2)] == [69, 69]
    parts = shards_in_order(len(wide), [9_000])
    for model in train_together(_core.thread_comms(2), parts, wide, y, params):
        assert model.to_bytes() == alone.to_bytes()


def test_each_tree_begins_with_them():
    model = QGBDTRegressor(n_estimators=3, num_leaves=8, forced_splits=NESTED).fit(X, Y)
    for tree in model.booster_.trees():
        left, right = tree["left"][0], tree["right"][0]
        middle = tree["right"][left]
        assert tree["feature"][[0, left, middle, right]].tolist() == [3, 0, 0, 5]
        bounds = [0.1, LOW, 1.2, HIGH]
        np.testing.assert_allclose(tree["threshold"][[0, left, middle, right]], bounds, atol=0.05)
        assert (tree["feature"] < 0).sum() == 8


def test_one_that_is_not_allowed_is_left_out():
    """With what is below it: too few rows would be on one side."""
    free = QGBDTRegressor(n_estimators=2, num_leaves=8).fit(X, Y)
    for threshold in (-1e9, 1e9):
        forced = {"feature": 3, "threshold": threshold, "left": NESTED, "right": NESTED}
        model = QGBDTRegressor(n_estimators=2, num_leaves=8, forced_splits=forced).fit(X, Y)
        assert model.booster_ == free.booster_


def test_lightgbm_begins_alike(tmp_path):
    """Its bins end elsewhere, so a few rows are on other sides."""
    lightgbm = pytest.importorskip("lightgbm")
    splits = NESTED | {"right": {"feature": 5, "threshold": HIGH}}
    path = tmp_path / "forced.json"
    path.write_text(json.dumps(splits))
    params = {"n_estimators": 1, "num_leaves": 5, "min_child_samples": 20}
    theirs = lightgbm.LGBMRegressor(**params, forcedsplits_filename=str(path), verbose=-1)
    told = theirs.fit(X, Y).booster_.trees_to_dataframe()
    tree = QGBDTRegressor(**params, forced_splits=splits).fit(X, Y).booster_.tree(0)
    is_split = tree["feature"] >= 0
    features = told.split_feature.dropna().str.removeprefix("Column_").astype(int)
    assert sorted(features) == sorted(tree["feature"][is_split])
    for theirs, ours in (
        (told.threshold.dropna(), tree["threshold"][is_split]),
        (told["count"][told.split_feature.isna()] / len(X), tree["count"][~is_split] / len(X)),
    ):
        np.testing.assert_allclose(sorted(theirs), sorted(ours), atol=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 1.0},
        {"feature": 0},
        {"feature": 0, "threshold": 1.0, "middle": {}},
        {"feature": 0, "threshold": np.nan},
        {"feature": 0, "threshold": "low"},
        {"feature": 1.5, "threshold": 1.0},
    ],
)
def test_what_is_no_split(wrong):
    for forced in (wrong, {"feature": 0, "threshold": 0.0, "left": wrong}):
        fit = QGBDTRegressor(forced_splits=forced).fit
        assert message_of(ParameterError, fit, X, Y) == (
            "forced_splits must be dicts of a feature (by index or name), a finite threshold and, "
            f"for sides that are split on, left and right. Got {wrong!r} instead."
        )


def test_features_that_are_none():
    fit = QGBDTRegressor(forced_splits={"feature": 6, "threshold": 0.0}).fit
    assert message_of(DataError, fit, X, Y) == (
        "forced_splits has the feature 6, but those of X are 0 to 5."
    )
    codes = np.abs(np.nan_to_num(X)).round()
    forced = {"feature": 1, "threshold": 2.0}
    fit = QGBDTRegressor(categorical_features=[1], forced_splits=forced).fit
    assert message_of(DataError, fit, codes, Y) == (
        "forced_splits has the threshold 2.0 for 'Column_1', whose categories have no order."
    )


@pytest.mark.parametrize(
    "splits", [[(6, 0.0, -1, -1)], [(-1, 0.0, -1, -1)], [(0, 0.0, 0, -1)], [(0, 0.0, -1, 1)]]
)
def test_the_core_reads_nothing_beyond_them(splits):
    with pytest.raises(ValueError, match="forced split"):
        train_native(X, Y, native_params(forced_splits=splits))
