"""Path smoothing: leaves are drawn towards the nodes above them.

Equality with the reference is in test_trainer.py. Here: what it means, and LightGBM's.
"""

import numpy as np
import pytest
from conftest import hurting_data, targets

from qgbdt import QGBDTRegressor

X = hurting_data(800)
Y, _ = targets(X, "regression")


def fit(x=X, y=Y, **params):
    return QGBDTRegressor(**{"n_estimators": 5, "num_leaves": 8} | params).fit(x, y)


def test_no_smoothing_is_none():
    assert fit(path_smooth=0.0).booster_ == fit().booster_
    assert fit(path_smooth=1e-9).booster_ != fit().booster_


def test_endless_smoothing_leaves_the_root():
    np.testing.assert_allclose(fit(path_smooth=1e15).predict(X), Y.mean(), atol=1e-6)


def test_each_leaf_is_between_its_step_and_the_node_above():
    """One tree of squared errors: a leaf of n rows counts n times, the node above 50 times."""
    model = fit(n_estimators=1, learning_rate=1.0, path_smooth=50.0, grad_bits=16)
    (tree,), residual = model.booster_.trees(), Y - Y.mean()
    leaves = model.apply(X)[:, 0]
    rows = {node: leaves == i for i, node in enumerate(np.flatnonzero(tree["feature"] < 0))}

    def rows_of(node):
        if node in rows:
            return rows[node]
        return rows_of(tree["left"][node]) | rows_of(tree["right"][node])

    def check(node, above):
        own = rows_of(node)
        n = own.sum()
        value = (residual[own].mean() * n + above * 50) / (n + 50)
        if node in rows:
            assert tree["value"][node] == pytest.approx(value, abs=1e-5)
            return
        check(tree["left"][node], value)
        check(tree["right"][node], value)

    check(0, residual.mean())


@pytest.mark.parametrize("smooth", [1.0, 20.0, 50.0])
def test_as_lightgbm(smooth):
    lightgbm = pytest.importorskip("lightgbm")
    x = np.repeat(np.arange(8.0), [40, 60, 80, 30, 90, 50, 70, 80])[:, None]
    y = np.array([3.0, 1.0, 4.0, -1.0, -5.0, 9.0, -2.0, 6.0])[x[:, 0].astype(int)]
    params = {"n_estimators": 1, "num_leaves": 8, "learning_rate": 1.0, "path_smooth": smooth}
    ours = QGBDTRegressor(**params, grad_bits=16).fit(x, y).predict(x)
    theirs = lightgbm.LGBMRegressor(**params, min_data_in_bin=1, verbosity=-1).fit(x, y).predict(x)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_refitted_to_the_rows_of_training_it_stays():
    model = fit(path_smooth=20.0)
    assert model.refit(X, Y, decay_rate=0.0).booster_ == model.booster_
