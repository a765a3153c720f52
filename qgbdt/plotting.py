"""Plots of a fitted estimator, with matplotlib (the extra ``qgbdt[plot]``)."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

__all__ = ["plot_quantization"]


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
