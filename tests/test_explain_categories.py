"""SHAP values, leaves, frames and plots of models that split categories; what refuses them."""

import numpy as np
import pandas as pd
import pytest

from qgbdt import QGBDTClassifier, QGBDTRegressor
from qgbdt.errors import DataError


def frame(n_samples=600, seed=0):
    """Columns of categories and of numbers, with missing values; and a target of both."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Ulm", "Rom", "Oslo", "Bonn", "Kyiv", "Nice", None], n_samples)
    size = rng.normal(size=n_samples)
    y = np.where(np.isin(town, ["Rom", "Nice", None]), 3.0, 0.0) * np.sign(size) + size
    return pd.DataFrame({"town": pd.Categorical(town), "size": size}), y


@pytest.fixture(scope="module")
def fitted():
    X, y = frame()
    return QGBDTRegressor(n_estimators=8, min_data_per_group=5, cat_smooth=1).fit(X, y), X


def test_shap_values_add_up_and_are_marginal_differences(fitted):
    model, X = fitted
    contributions = model.predict(X, pred_contrib=True)
    np.testing.assert_allclose(contributions.sum(axis=1), model.predict(X), rtol=1e-12, atol=1e-12)
    interactions = model.booster_.predict_interactions(X)
    np.testing.assert_allclose(interactions.sum(axis=2), contributions, atol=1e-12)
    assert np.ptp(contributions[:, 0]) > 1  # the towns matter
    # Of two features, a value is half of what it adds first and half of what it adds last: rows
    # alike in one feature that get the same leaves get the same value.
    assert contributions[(X["town"] == "Ulm") & (X["size"] > 0), 0].max() < (
        contributions[(X["town"] == "Rom") & (X["size"] > 0), 0].min()
    )


def test_leaves_and_stages_lead_to_the_predictions(fitted):
    model, X = fitted
    leaves = model.apply(X)
    raw = np.full(len(X), model.booster_._model.base_score[0])
    for index, tree in enumerate(model.booster_.trees()):
        raw += tree["value"][tree["feature"] < 0][leaves[:, index]]
    np.testing.assert_array_equal(raw, model.predict(X))
    *_, last = model.staged_predict(X)
    np.testing.assert_array_equal(last, model.predict(X))


def test_an_unseen_category_is_explained_as_missing(fitted):
    model, X = fitted
    unseen, missing = X[:5].copy(), X[:5].copy()
    unseen["town"], missing["town"] = "Lima", None
    np.testing.assert_array_equal(
        model.predict(unseen, pred_contrib=True), model.predict(missing, pred_contrib=True)
    )


def test_a_frame_of_trees_names_categories(fitted):
    model, _ = fitted
    nodes = model.booster_.trees_to_dataframe()
    towns, sizes = (nodes[nodes["split_feature"] == name] for name in ("town", "size"))
    assert set(towns["decision_type"]) == {"=="}
    assert set(sizes["decision_type"]) == {"<="}
    sets = [set(text.split("||")) for text in towns["threshold"]]
    assert {"Rom", "Nice"} in sets or {"Ulm", "Oslo", "Bonn", "Kyiv"} in sets


def test_a_plot_names_categories(fitted):
    pytest.importorskip("matplotlib")
    from qgbdt.plotting import plot_tree

    texts = [text.get_text() for text in plot_tree(fitted[0]).texts]
    assert any(text.startswith("town in ") and "Rom" in text for text in texts)
    assert any(text.startswith("size <= ") for text in texts)


def test_other_formats_refuse(fitted):
    booster = fitted[0].booster_
    with pytest.raises(DataError, match="shap does not know splits of categories: use predict_con"):
        booster.to_shap_dict()


def test_classifier():
    X, y = frame()
    model = QGBDTClassifier(n_estimators=4).fit(X, y > 0)
    *_, last = model.staged_predict_proba(X)
    np.testing.assert_array_equal(last, model.predict_proba(X))
    total = model.predict(X, pred_contrib=True).sum(axis=1)
    np.testing.assert_allclose(total, model.decision_function(X), atol=1e-12)
