"""Gradient boosted decision trees on quantized gradients.

The same data, parameters and seed give the same model, byte for byte, on any machine and with any
number of threads.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qgbdt.binned_dataset import BinnedDataset
from qgbdt.booster import Booster
from qgbdt.versions import package_version, show_versions

if TYPE_CHECKING:
    from qgbdt.compiled import metric, objective
    from qgbdt.estimators import QGBDTClassifier, QGBDTRanker, QGBDTRegressor

__all__ = [
    "BinnedDataset",
    "Booster",
    "QGBDTClassifier",
    "QGBDTRanker",
    "QGBDTRegressor",
    "metric",
    "objective",
    "show_versions",
]

__version__ = package_version("qgbdt")


def __getattr__(name: str) -> Any:
    """Import the estimators, and scikit-learn with them, when they are first asked for."""
    if name in __all__:
        module = "qgbdt.compiled" if name in ("metric", "objective") else "qgbdt.estimators"
        return getattr(import_module(module), name)
    raise AttributeError(f"module 'qgbdt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
