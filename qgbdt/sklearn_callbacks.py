"""scikit-learn's own callbacks, such as ProgressBar and ScoringMonitor: experimental, since 1.9.

They are set on the estimator: ``QGBDTRegressor().set_callbacks(ProgressBar()).fit(X, y)``.
"""

# mypy: allow-untyped-calls, disable-error-code="no-redef, misc"
# (scikit-learn has no type annotations)

from typing import Any

from qgbdt._core import Model
from qgbdt.booster import Booster
from qgbdt.continuation import Start
from qgbdt.evaluation import Iteration

__all__ = ["CallbackSupportMixin", "FitCallbacks", "with_callbacks"]

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Of a scikit-learn that has no callbacks."""

    def with_callbacks(fit: Any) -> Any:
        """Nothing is there to tear down after fit."""
        return fit


class FitCallbacks:
    """The callbacks that are set on an estimator, while it is fitted.

    Parameters
    ----------
    estimator : estimator
        The one that is being fitted.
    training : (X, y)
        As they were given to fit, as is sample_weight.
    begin : Start
        Where the fit starts.
    n_iterations : int
        How many there will be, at most.
    """

    def __init__(
        self,
        estimator: Any,
        training: tuple[Any, Any],
        sample_weight: Any,
        begin: Start,
        n_iterations: int,
    ) -> None:
        self._estimator, self._begin = estimator, begin
        self._trees = [] if begin.model is None else [begin.model]
        X, y = training
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit = estimator._init_callback_context(max_subtasks=n_iterations)
        self._fit.call_on_fit_task_begin(**self._given)

    def on_iteration(self, trees: bytes) -> None:
        """Take the trees of an iteration, and hand them on."""
        self._trees.append(Model.from_bytes(trees))
        if self._begin.on_iteration:
            self._begin.on_iteration(trees)

    def after_iteration(self, state: Iteration) -> bool:
        """Whether a callback wants to stop."""

        def attributes() -> dict[str, Any]:  # asked for by those that predict
            model = Model.joined(self._trees).iterations(0, state.iteration + 1)
            return {"booster_": Booster(model)}

        iteration = self._fit.subcontext(task_name="iteration")
        iteration.call_on_fit_task_begin(**self._given)
        return bool(
            iteration.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)
        )

    def end(self) -> None:
        """Tell that the estimator is fitted."""
        attributes = {"booster_": self._estimator.booster_}
        self._fit.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)
