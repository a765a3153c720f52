"""New leaf values for the trees of a model, from other rows."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

import copy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qgbdt import _core
from qgbdt.base import QGBDTEstimator, draw_seed
from qgbdt.booster import Booster
from qgbdt.constraints import constraint_params
from qgbdt.custom import CustomObjective
from qgbdt.errors import DataError, ParameterError
from qgbdt.matrices import of_dense_blocks
from qgbdt.params import FloatRange, trainer_params
from qgbdt.threads import resolve_n_jobs
from qgbdt.validation import Floats, Rows, label_gains

E = TypeVar("E", bound=QGBDTEstimator)

ALL_ROWS = {"subsample": 1.0, "data_sample_strategy": "bagging"}


def refitted(
    estimator: E,
    X: Any,
    y: Floats,
    sample_weight: Floats | None,
    decay_rate: float,
    *,
    objective: str,
    custom: CustomObjective | None,
    query_sizes: NDArray[np.int64] | None = None,
) -> E:
    """A copy of the estimator whose leaves are `decay_rate` theirs, the rest fitted to the rows.

    `objective` is the built-in one of the same targets.
    """
    allowed = FloatRange(0.0, 1.0, "[]")
    if decay_rate not in allowed:
        raise ParameterError(f"decay_rate must be {allowed}. Got {decay_rate!r} instead.")
    booster = estimator.booster_
    if booster._model.has_linear_leaves or estimator.linear_tree:
        raise ParameterError(
            "refit gives leaves new constants, which linear leaves (linear_tree=True) are not. Fit "
            "another model."
        )
    model, array = booster._model, booster._check_X(estimator._to_predict(X))
    n_samples, n_outputs = array.shape[0], model.n_outputs
    if len(y) != n_samples:
        raise DataError(f"y has {len(y)} rows, but X has {n_samples}.")
    n_threads = resolve_n_jobs(estimator.n_jobs, type(estimator).__name__)
    names = model.feature_names
    params = (
        trainer_params(estimator)
        | ALL_ROWS
        | constraint_params(estimator, names, objective)
        | {
            "objective": model.objective,
            "custom": None if custom is None else custom.fields,
            "n_outputs": n_outputs,
            "seed": draw_seed(estimator.random_state),
            "label_gain": label_gains(getattr(estimator, "label_gain", None)),
        }
    )
    rows = Rows(array, y, sample_weight, query_sizes)

    def leaves_of(iteration: int) -> NDArray[np.int32]:
        leaves = of_dense_blocks(model.leaf_numbers, array, iteration, iteration + 1, n_threads)
        return np.ascontiguousarray(leaves.T)

    new = _core.refit(
        _core.BinnedMatrix(np.zeros((n_samples, 1), np.float32), 2, 1),  # its rows are what counts
        rows.targets,
        sample_weight,
        query_sizes,
        params,
        model,
        float(decay_rate),
        leaves_of,
        np.repeat(model.base_score[:, None], n_samples, axis=1),
        n_threads,
        custom.of_all_rows(rows, n_outputs) if custom else None,
        custom.of_single_rows(n_outputs) if custom else 0,
    )
    changed = copy.copy(estimator)
    changed.booster_ = Booster(new)
    return changed
