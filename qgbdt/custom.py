"""Objectives of the user's own: functions of all rows, called once an iteration."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from qgbdt.booster import CustomFields
from qgbdt.errors import DataError
from qgbdt.matrices import native_array
from qgbdt.validation import Floats, Rows

GradientFunction = Callable[[Floats], tuple[Floats, Floats]]
"""From raw predictions of shape (n_outputs, n_samples) to gradients and hessians of that shape."""


class CustomObjective(Protocol):
    """What the estimators need of an objective of the user's."""

    @property
    def fields(self) -> CustomFields:
        """What a model file keeps of it."""

    def of_all_rows(self, rows: Rows, n_outputs: int) -> GradientFunction | None:
        """The function of all rows, or None."""

    def of_single_rows(self, n_outputs: int) -> int:
        """The address of the compiled function of rows, or 0."""


class PythonObjective:
    """A function ``f(y, score[, weight[, group]])`` that returns gradients and hessians."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = str(getattr(function, "__name__", type(function).__name__))

    @property
    def fields(self) -> CustomFields:
        """See `CustomObjective`."""
        return CustomFields(self.name, "identity", source_hash(self.function), "")

    def of_single_rows(self, n_outputs: int) -> int:
        """See `CustomObjective`."""
        return 0

    def of_all_rows(self, rows: Rows, n_outputs: int) -> GradientFunction:
        """See `CustomObjective`. A function that takes no weights has its results weighted."""
        n_arguments = len(inspect.signature(self.function).parameters)
        factor = rows.sample_weight if n_arguments < 3 else None

        def gradients(raw_prediction: Floats) -> tuple[Floats, Floats]:
            score = raw_prediction[0] if n_outputs == 1 else raw_prediction.T
            given = [rows.y, score, rows.sample_weight, rows.query_sizes]
            returned = self.function(*given[:n_arguments])
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise DataError(f"The objective {self.name} must return (gradient, hessian).")
            g, h = (self._checked(some, score.shape) for some in returned)
            if (h < 0).any():
                raise DataError(
                    f"The objective {self.name} returned a negative hessian, {h.min()}."
                )
            if factor is not None:
                g, h = g * factor, h * factor
            return g, h

        return gradients

    def _checked(self, values: Any, shape: tuple[int, ...]) -> Floats:
        array = np.asarray(values, dtype=np.float64)
        if array.shape != shape:
            raise DataError(
                f"The objective {self.name} must return gradients and hessians of shape {shape}, "
                f"got {array.shape}."
            )
        if not np.isfinite(array).all():
            raise DataError(f"The objective {self.name} returned NaN or infinity.")
        return native_array(array.T, np.float64)


def source_hash(function: Callable[..., Any]) -> str:
    """The SHA-256 of the function's source, or nothing where there is none."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(source.encode()).hexdigest()
