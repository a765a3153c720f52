"""DART: trees grow as if some earlier ones were not there; what is dropped is scaled, and put back.

Equality with the reference is in test_trainer.py. Here: what it means, what it cannot be used with.
"""

import numpy as np
import pytest
from conftest import hurting_data, targets
from sklearn.callback import ScoringMonitor

from qgbdt import Booster, QGBDTClassifier, QGBDTRegressor
from qgbdt.errors import ParameterError

X = hurting_data(800)
Y, _ = targets(X, "regression")
ALWAYS = {"boosting_type": "dart", "skip_drop": 0.0, "drop_rate": 1.0, "max_drop": 0}


def fit(y=Y, **params):
    return QGBDTRegressor(**{"n_estimators": 8, "num_leaves": 8} | params).fit(X, y)


def sizes_of_leaves(model):
    return np.array([np.abs(tree["value"]).max() for tree in model.booster_.trees()])


def test_where_none_is_dropped_it_is_boosting():
    assert fit(boosting_type="dart", skip_drop=1.0).booster_ == fit().booster_
    assert fit(boosting_type="dart", drop_rate=0.0).booster_ == fit().booster_
    assert fit(boosting_type="dart", skip_drop=0.0, drop_rate=0.5).booster_ != fit().booster_


@pytest.mark.parametrize("as_xgboost", [False, True])
def test_where_all_are_dropped_each_tree_is_the_first(as_xgboost):
    """But for rounding: each fits y alone. They count for what the formulas say, .4 to 1 of it."""
    model = fit(xgboost_dart_mode=as_xgboost, grad_bits=16, learning_rate=0.5, **ALWAYS)
    first = fit(n_estimators=1, grad_bits=16, learning_rate=0.5)
    weights, unit = [], 0.5 if as_xgboost else 1.0
    for k in range(8):
        weights = [weight * k / (k + unit) for weight in weights]
        weights.append(0.5 / (k + (unit if k else 1.0)))
    expected = sizes_of_leaves(first) * np.array(weights) / 0.5
    np.testing.assert_allclose(sizes_of_leaves(model), expected, rtol=0.15)


def test_at_most_so_many_are_dropped():
    two = fit(**ALWAYS | {"max_drop": 2})
    all_of_them = fit(**ALWAYS)
    assert sizes_of_leaves(two)[-1] > 1.5 * sizes_of_leaves(all_of_them)[-1]  # 1 / 3, not 1 / 8


def test_what_is_told_is_what_predict_says():
    model = QGBDTClassifier(n_estimators=9, boosting_type="dart", skip_drop=0.2, drop_rate=0.5)
    y = (Y > 0).astype(int)
    seen = []

    def told(state):
        seen.append(state.evaluation_result_list[0].metric_value)

    model.fit(X, y, eval_set=[(X, y)], callbacks=[told])
    p = model.predict_proba(X)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    assert seen[-1] == pytest.approx(loss, rel=1e-12)
    assert len(seen) == 9


def test_it_learns():
    x = np.random.default_rng(0).normal(size=(3000, 5))
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2])
    params = {"boosting_type": "dart", "n_estimators": 200}
    error = y[2000:] - QGBDTRegressor(**params).fit(x[:2000], y[:2000]).predict(x[2000:])
    assert np.mean(error**2) < 0.2 * np.var(y)


def test_its_model_is_one_of_trees():
    model = fit(**ALWAYS).booster_
    lightgbm = pytest.importorskip("lightgbm")
    other = lightgbm.Booster(model_str=model.to_lightgbm_string())
    np.testing.assert_allclose(other.predict(X), model.predict(X), rtol=1e-12, atol=1e-12)
    assert Booster.from_bytes(model.to_bytes()) == model


@pytest.mark.parametrize("boosting_type", ["dart", "rf"])
@pytest.mark.parametrize(
    ("params", "given"),
    [
        ({}, {"init_model": fit()}),
        ({}, {"checkpoint_dir": "kept"}),
        ({"warm_start": True}, {}),
        ({"early_stopping_rounds": 3}, {"eval_set": [(X, Y + 1)]}),
    ],
)
def test_what_would_keep_trees(params, given, boosting_type):
    asked = [*params, *given][0]
    fit = QGBDTRegressor(boosting_type=boosting_type, subsample=0.9, **params).fit
    told = f"boosting_type='{boosting_type}' changes earlier trees, which {asked} would keep"
    with pytest.raises(ParameterError, match=told):
        fit(X, Y, **given)


def test_scikit_learns_callbacks_would_see_trees_that_change():
    model = QGBDTRegressor(boosting_type="dart").set_callbacks(ScoringMonitor(scoring="r2"))
    with pytest.raises(ParameterError, match="which set_callbacks would keep"):
        model.fit(X, Y)
