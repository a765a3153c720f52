"""Categorical features: how they are split, trained on any machine, and kept in the model.

Swept: all objectives and bits, few and many categories (up to 255), missing values, parameters at
their ends, threads x SIMD x workers, refused input. Against: reference.py (==), brute force over
all subsets, itself under other names of categories. Tolerance: none.
"""

import itertools

import numpy as np
import pytest
import reference as ref
from conftest import OBJECTIVES, native_params, targets, train_native

from qgbdt import _core

CATEGORIES = [3, None, 12, 255, 1, None]
"""Of the columns of `categorical_data`; None is a number."""


def categorical_data(n_samples=900, seed=0, missing=0.1):
    """X of codes and numbers, of which the first three columns matter."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, len(CATEGORIES)))
    for column, n in enumerate(CATEGORIES):
        if n is not None:
            X[:, column] = rng.geometric(min(3 / n, 0.9), n_samples).clip(1, n) - 1
    X[rng.random(X.shape) < missing] = np.nan
    X[:, 1] = np.nan_to_num(X[:, 1])
    return X


def effects(X, seed=0):
    """X with an effect in the place of each code."""
    rng = np.random.default_rng(seed)
    values = X.copy()
    for column, n in enumerate(CATEGORIES):
        if n is not None:
            values[:, column] = np.append(rng.normal(size=n), 0.5)[
                np.nan_to_num(X[:, column], nan=-1).astype(int)
            ]
    return values


def assert_equals_reference(X, y, params, query_sizes=None, max_bin=255, categories=CATEGORIES):
    model = train_native(
        X, y, params, query_sizes=query_sizes, max_bin=max_bin, n_categories=categories
    )
    bits = params["grad_bits"]
    wanted = ref.train(
        X,
        y,
        query_sizes=query_sizes,
        n_categories=categories,
        params=params | {"max_bin": max_bin, "grad_bits": bits},
    )
    n_categorical = 0
    for i, (tree, sets) in enumerate(zip(wanted.trees, wanted.category_sets)):
        assert model.category_sets(i) == [sorted(some) for some in sets]
        for field in tree.dtype.names:
            np.testing.assert_array_equal(model.tree(i)[field], tree[field])
        n_categorical += len(sets)
    raw = model.predict(X, 0, params["n_estimators"], True, 1)
    np.testing.assert_array_equal(raw, wanted.predict_raw(X))
    again = _core.Model.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    np.testing.assert_array_equal(again.predict(X, 0, params["n_estimators"], True, 1), raw)
    return n_categorical


@pytest.mark.parametrize("bits", ["auto", 2, 3, 5, 8, 16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_the_reference(objective, bits):
    X = categorical_data()
    y, sizes = targets(effects(X), objective)
    params = native_params(objective=objective, grad_bits=bits, min_data_per_group=20.0)
    assert assert_equals_reference(X, y, params, sizes) > 5
