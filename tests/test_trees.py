"""Trees as data frames and as plots, and a fitted estimator's state in skops.

Swept: trained models with missing values, constant trees. Against: LightGBM's frame of the same
model, exactly; what matplotlib and graphviz were told. Each part where its package is installed.
"""

import re
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from test_explain import trained
from test_predictor import random_booster

from qgbdt import QGBDTRegressor
from qgbdt.errors import DataError, ParameterError
from qgbdt.plotting import create_tree_digraph, plot_importance, plot_metric, plot_tree


@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_frame_as_lightgbm(objective):
    pd = pytest.importorskip("pandas")
    lightgbm = pytest.importorskip("lightgbm")
    booster = trained(objective)[0].booster_
    theirs = lightgbm.Booster(model_str=booster.to_lightgbm_string()).trees_to_dataframe()
    ours = booster.trees_to_dataframe()
    first = theirs["tree_index"] < len(booster._model.base_score)  # they hold the base score
    pd.testing.assert_series_equal(ours["value"][~first], theirs["value"][~first], rtol=1e-6)
    ours["threshold"] = ours["threshold"].clip(-1e300, 1e300)  # which is their infinity here
    rest = theirs.columns.drop("value")
    pd.testing.assert_frame_equal(ours[rest], theirs[rest], rtol=1e-6, check_dtype=False)
    leaf = ours[ours["left_child"].isna()].iloc[0]
    assert leaf["node_index"] == "0-L" + re.search(r"\d+$", leaf["node_index"])[0]


def test_frame_of_leaves():
    pytest.importorskip("pandas")
    frame = random_booster(leaves=[1, 1]).trees_to_dataframe()
    assert frame["node_index"].tolist() == ["0-L0", "1-L0"]
    assert frame["parent_index"].isna().all()
    assert list(random_booster(leaves=[]).trees_to_dataframe().columns) == list(frame.columns)


def test_frame_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="trees_to_dataframe needs pandas: pip install pandas"):
        random_booster().trees_to_dataframe()


@pytest.fixture
def pyplot():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("kind", ["split", "gain"])
def test_plot_importance(kind, pyplot):
    model, _ = trained("regression")
    importance = model.booster_.feature_importance(kind)
    ax = plot_importance(model, kind)
    names = [label.get_text() for label in ax.get_yticklabels()]
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == sorted(importance[importance > 0])
    assert [importance[model.booster_.feature_name().index(name)] for name in names] == widths
    given = pyplot.subplots()[1]
    assert plot_importance(model.booster_, kind, max_num_features=2, ax=given) is given
    assert [bar.get_width() for bar in given.patches] == widths[-2:]
    with pytest.raises(ParameterError, match="max_num_features"):
        plot_importance(model, max_num_features=0)


def test_plot_metric(pyplot):
    X = np.random.default_rng(0).normal(size=(80, 2))
    model = QGBDTRegressor(n_estimators=4)
    with pytest.raises(NotFittedError):
        plot_metric(model)
    with pytest.raises(DataError, match=r"no metrics to draw\. Call fit with eval_set"):
        plot_metric(model.fit(X, X[:, 0]))
    model.fit(X, X[:, 0], eval_set=[(X[:40], X[:40, 0])], eval_metric=["l1", "l2"])
    for metric in (None, "l2"):
        ax = plot_metric(model, metric)
        wanted = model.evals_result_["valid_0"][metric or "l1"]
        assert ax.lines[0].get_ydata().tolist() == wanted
        assert ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4]
        assert ax.get_ylabel() == (metric or "l1")
    with pytest.raises(DataError, match="The metric 'auc' was not computed, but l1, l2"):
        plot_metric(model, "auc")


def test_plot_tree(pyplot):
    model, X = trained("regression")
    nodes = model.booster_.tree(2)
    ax = plot_tree(model, 2)
    words = [text.get_text() for text in ax.texts]
    at = {text.get_text(): text.get_position() for text in ax.texts}
    assert len(words) == len(nodes)
    assert len(ax.lines) == len(nodes) - 1
    root = f"Column_{nodes[0]['feature']} <= {nodes[0]['threshold']:.6g}\nmissing: "
    assert words[0].startswith(root)
    assert at[words[0]][1] == 0
    assert at[words[1]] < at[words[0]]  # the left child: to the left, and below
    leaf = nodes[nodes["feature"] < 0][0]
    assert f"{leaf['value']:.6g}\n{leaf['count']} rows" in words
    with pytest.raises(ParameterError, match="index"):
        plot_tree(model, 5)
    with pytest.raises(DataError, match="model must be a Booster, a fitted estimator or the path"):
        plot_tree(X)


def test_digraph(monkeypatch):
    pytest.importorskip("graphviz")
    model, _ = trained("regression")
    nodes = model.booster_.tree(0)
    source = create_tree_digraph(model).source
    for i in np.flatnonzero(nodes["feature"] >= 0):
        assert f"{i} -> {nodes['left'][i]} [label=yes]" in source
        assert f"{i} -> {nodes['right'][i]} [label=no]" in source
    assert source.count("->") == len(nodes) - 1
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(ImportError, match="needs graphviz: pip install graphviz"):
        create_tree_digraph(model)


@pytest.mark.parametrize("objective", ["regression", "multiclass", "lambdarank"])
def test_skops(objective):
    """skops loads only the types that it is told to trust: of ours, the estimators alone."""
    io = pytest.importorskip("skops.io")
    model, X = trained(objective)
    data = io.dumps(model)
    types = io.get_untrusted_types(data=data)
    assert types == [f"qgbdt.estimators.{type(model).__name__}"]
    loaded = io.loads(data, trusted=types)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.booster_ == model.booster_
    assert loaded.get_params() == model.get_params()
