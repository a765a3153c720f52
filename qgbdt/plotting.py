"""Plots of fitted estimators and models, with matplotlib (the extra ``qgbdt[plot]``)."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from qgbdt.booster import Booster
from qgbdt.continuation import booster_of
from qgbdt.errors import DataError
from qgbdt.params import NONE, IntRange, check_value
from qgbdt.trees import numbered

__all__ = [
    "create_tree_digraph",
    "plot_importance",
    "plot_metric",
    "plot_quantization",
    "plot_tree",
]


def new_axes() -> Any:
    """The axes of a new figure."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install qgbdt[plot]") from error
    return pyplot.subplots()[1]


def plot_quantization(estimator: Any, ax: Any = None) -> Any:
    """Draw how the gradients of each iteration were rounded, and what it cost.

    Parameters
    ----------
    estimator : fitted QGBDTClassifier, QGBDTRegressor or QGBDTRanker
        Its ``quantization_report_`` is drawn.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
        On its left scale the rounding noise as a share of the gradients' mean square, on the right
        one the bits: means over the trees of an iteration.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    check_is_fitted(estimator)
    ax = new_axes() if ax is None else ax
    report = estimator.quantization_report_
    noise, bits = (report[name].mean(axis=1) for name in ("gradient_noise", "bits"))
    iterations = np.arange(1, len(bits) + 1)
    ax.plot(iterations, noise, color="C0", label="noise")
    ax.set(xlabel="iteration", ylabel="rounding noise / gradients' mean square", ylim=(0, None))
    right = ax.twinx()
    right.step(iterations, bits, where="mid", color="C1", label="bits")
    right.set(ylabel="bits", ylim=(0, None))
    ax.legend(handles=[*ax.lines, *right.lines])
    return ax


def plot_importance(
    model: Any,
    importance_type: Literal["split", "gain"] = "split",
    max_num_features: int | None = None,
    ax: Any = None,
) -> Any:
    """Draw how much each feature is used, the most important on top.

    Parameters
    ----------
    model : Booster, fitted estimator or path-like
        Its `Booster.feature_importance` is drawn, of the features that it uses.
    importance_type : {'split', 'gain'}, default='split'
        Whether splits are counted or their gains added up.
    max_num_features : int, default=None
        How many features are drawn at most; None means all.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
    """
    booster = booster_of(model, "model")
    check_value("max_num_features", "plot_importance", max_num_features, IntRange(1) | NONE)
    importance = booster.feature_importance(importance_type)
    order = np.argsort(-importance, kind="stable")[: np.count_nonzero(importance)]
    order = order[:max_num_features][::-1]
    names = booster.feature_name()
    ax = new_axes() if ax is None else ax
    ax.barh(np.arange(len(order)), importance[order])
    ax.set_yticks(np.arange(len(order)), [names[i] for i in order])
    ax.set(xlabel="splits" if importance_type == "split" else "gain", ylabel="feature")
    return ax


def plot_metric(estimator: Any, metric: str | None = None, ax: Any = None) -> Any:
    """Draw a metric of the evaluation sets after each iteration.

    Parameters
    ----------
    estimator : fitted QGBDTClassifier, QGBDTRegressor or QGBDTRanker
        Its ``evals_result_`` is drawn.
    metric : str, default=None
        Which one; None means the first.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes

    Raises
    ------
    DataError
        If the estimator was fitted without evaluation sets, or without that metric.
    """
    check_is_fitted(estimator)
    history = estimator.evals_result_
    if not history:
        raise DataError("There are no metrics to draw. Call fit with eval_set.")
    metrics = list(dict.fromkeys(name for of_set in history.values() for name in of_set))
    metric = metrics[0] if metric is None else metric
    if metric not in metrics:
        raise DataError(f"The metric {metric!r} was not computed, but {', '.join(metrics)}.")
    ax = new_axes() if ax is None else ax
    for name, of_set in history.items():
        ax.plot(np.arange(1, len(of_set[metric]) + 1), of_set[metric], label=name)
    ax.set(xlabel="iteration", ylabel=metric)
    ax.legend()
    return ax


def plot_tree(model: Any, tree_index: int = 0, ax: Any = None) -> Any:
    """Draw a tree: splits, which way missing values go, and the values and rows of the leaves.

    Parameters
    ----------
    model : Booster, fitted estimator or path-like
        Whose tree it is.
    tree_index : int, default=0
        Which tree.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure.

    Returns
    -------
    ax : matplotlib.axes.Axes
    """
    booster = booster_of(model, "model")
    tree, words = numbered(booster.tree(tree_index)), words_of(booster, tree_index)
    at = np.zeros(len(words))
    order = tree.depth_first()
    leaves = [i for i in order if tree.is_leaf[i]]
    at[leaves] = np.arange(len(leaves))
    for i in reversed(order):
        if not tree.is_leaf[i]:
            at[i] = (at[tree.nodes["left"][i]] + at[tree.nodes["right"][i]]) / 2
    ax = new_axes() if ax is None else ax
    ax.set_axis_off()
    for i in order[1:]:
        parent = tree.parent[i]
        ax.plot([at[parent], at[i]], [-tree.depth[parent], -tree.depth[i]], color="0.6", zorder=0)
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": "0.6"}
    for i in order:
        ax.text(at[i], -tree.depth[i], words[i], ha="center", va="center", size="small", bbox=box)
    return ax


def create_tree_digraph(model: Any, tree_index: int = 0) -> Any:
    """Give a tree to graphviz, which draws large ones well.

    Parameters
    ----------
    model : Booster, fitted estimator or path-like
        Whose tree it is.
    tree_index : int, default=0
        Which tree.

    Returns
    -------
    graphviz.Digraph

    Raises
    ------
    ImportError
        If the package graphviz is not installed.
    """
    booster = booster_of(model, "model")
    tree, words = numbered(booster.tree(tree_index)), words_of(booster, tree_index)
    try:
        import graphviz
    except ImportError as error:
        raise ImportError("create_tree_digraph needs graphviz: pip install graphviz.") from error
    graph = graphviz.Digraph()
    for i in tree.depth_first():
        graph.node(str(i), graphviz.escape(words[i]), shape="ellipse" if tree.is_leaf[i] else "box")
        if i > 0:
            is_left = tree.nodes["left"][tree.parent[i]] == i
            graph.edge(str(tree.parent[i]), str(i), label="yes" if is_left else "no")
    return graph


def words_of(booster: Booster, index: int) -> list[str]:
    """What is drawn of each node of a tree."""
    names, sets = booster.feature_name(), iter(booster.category_sets(index))
    words = []
    for node in booster.tree(index):
        if node["feature"] < 0:
            words.append(f"{node['value']:.6g}\n{node['count']} rows")
            continue
        test = f"<= {node['threshold']:.6g}"
        if node["is_categorical"]:
            test = f"in {', '.join(map(str, next(sets)))}"
        missing = "yes" if node["missing_left"] else "no"
        words.append(f"{names[node['feature']]} {test}\nmissing: {missing}")
    return words
