"""Random forests: trees that do not see each other, averaged.

Equality with the reference is in test_trainer.py, with threads, workers and devices in
test_laws.py; what forests cannot be used with is in test_dart.py. Here: what it means.
"""

import numpy as np
import pytest
from conftest import hurting_data, targets

from qgbdt import Booster, QGBDTClassifier, QGBDTRegressor
from qgbdt.errors import ParameterError

X = hurting_data(800)
Y, _ = targets(X, "regression")
FOREST = {"boosting_type": "rf", "subsample": 0.6, "n_estimators": 8}


def fit(**params):
    return QGBDTRegressor(**FOREST | {"num_leaves": 8} | params).fit(X, Y)


def test_each_tree_is_a_first_one_and_counts_alike():
    one, forest = fit(n_estimators=1, grad_bits=16), fit(grad_bits=16)
    first = forest.booster_.tree(0)
    np.testing.assert_array_equal(one.booster_.tree(0)["threshold"], first["threshold"])
    np.testing.assert_array_equal(one.booster_.tree(0)["value"] / 8, first["value"])
    base = forest.booster_._model.base_score
    each = [forest.predict(X, start_iteration=i, num_iteration=1) - base for i in range(8)]
    spread = [np.abs(some).max() for some in each]
    assert max(spread) < 1.5 * min(spread)  # not smaller and smaller, as residuals are
    assert not np.allclose(each[0], each[1])
    np.testing.assert_allclose(forest.predict(X), base + sum(each), rtol=1e-12)


def test_the_learning_rate_does_not_enter():
    assert fit(learning_rate=0.01).booster_ == fit(learning_rate=1.0).booster_


def test_what_is_told_is_what_predict_says():
    y = (Y > 0).astype(int)
    model = QGBDTClassifier(**FOREST)
    model.fit(X, y, eval_set=[(X, y)])
    ((told,),) = (by_metric.values() for by_metric in model.evals_result_.values())
    for n in (1, 3, 8):
        shorter = QGBDTClassifier(**FOREST | {"n_estimators": n}).fit(X, y)
        p = shorter.predict_proba(X)[np.arange(len(y)), y]
        assert told[n - 1] == pytest.approx(-np.log(p).mean(), rel=1e-12)


def test_it_learns():
    x = np.random.default_rng(0).normal(size=(3000, 5))
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2])
    params = FOREST | {"n_estimators": 100, "num_leaves": 255, "min_child_samples": 2}
    forest, tree = (
        QGBDTRegressor(**params | {"n_estimators": n}).fit(x[:2000], y[:2000]) for n in (100, 1)
    )
    errors = [np.mean((y[2000:] - some.predict(x[2000:])) ** 2) for some in (forest, tree)]
    assert errors[0] < 0.6 * errors[1]


def test_predicts_as_well_as_lightgbms():
    lightgbm = pytest.importorskip("lightgbm")
    x = np.random.default_rng(1).normal(size=(4000, 5))
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2])
    params = FOREST | {"n_estimators": 60, "num_leaves": 63, "subsample_freq": 1}
    theirs = lightgbm.LGBMRegressor(**params, verbose=-1).fit(x[:3000], y[:3000]).predict(x[3000:])
    ours = QGBDTRegressor(**params).fit(x[:3000], y[:3000]).predict(x[3000:])
    errors = [np.mean((y[3000:] - some) ** 2) for some in (ours, theirs)]
    assert errors[0] < 1.03 * errors[1]  # bags differ: a few percent of noise


def test_its_model_is_one_of_trees():
    model = fit().booster_
    lightgbm = pytest.importorskip("lightgbm")
    other = lightgbm.Booster(model_str=model.to_lightgbm_string())
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-12, atol=1e-12)
    assert Booster.from_bytes(model.to_bytes()) == model
    np.testing.assert_allclose(model.predict_contrib(X).sum(axis=1), model.predict(X), atol=1e-9)


def test_refit_to_the_same_rows_changes_nothing():
    forest = fit(subsample=1.0, colsample_bytree=0.5, grad_bits=16)
    refitted = forest.refit(X, Y, decay_rate=0.0)
    for old, new in zip(forest.booster_.trees(), refitted.booster_.trees()):
        np.testing.assert_allclose(old["value"], new["value"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "drawn",
    [
        {"subsample": 0.9},
        {"data_sample_strategy": "goss"},
        {"colsample_bytree": 0.5},
        {"colsample_bynode": 0.5},
        {"extra_trees": True},
    ],
)
def test_trees_must_differ(drawn):
    forest = QGBDTRegressor(boosting_type="rf", n_estimators=2)
    with pytest.raises(ParameterError) as raised:
        forest.fit(X, Y)
    assert str(raised.value) == (
        "boosting_type='rf' averages trees, which must differ. Set subsample, colsample_bytree or "
        "colsample_bynode below 1."
    )
    trees = forest.set_params(**drawn).fit(X, Y).booster_.trees()
    assert not np.array_equal(trees[0], trees[1])
