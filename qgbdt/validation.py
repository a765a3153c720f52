"""Checks of targets, weights and query groups that scikit-learn does not make."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets

from qgbdt.distributed.communicator import ALONE, Communicator
from qgbdt.errors import DataError
from qgbdt.matrices import is_sparse, native_array
from qgbdt.params import TIME_OBJECTIVES, is_int

Floats = NDArray[np.float64]

MAX_MAGNITUDE = 1e30
"""Bound of weights and of weighted targets: gradients are float32 and must not overflow."""


@dataclass(frozen=True)
class Rows:
    """Checked rows of this worker; no weights are weights of 1, and only ranking has queries.

    y has shape (n_samples,), or (n_samples, n_outputs) where each output has a target of its own;
    init_score has shape (n_samples, n_outputs).
    """

    X: Any  # of arrays, sparse or not, or a BinnedDataset
    y: Floats
    sample_weight: Floats | None
    query_sizes: NDArray[np.int64] | None
    init_score: Floats | None = None

    @property
    def targets(self) -> Floats:
        """y as the trainer takes it, target after target."""
        return np.ascontiguousarray(self.y.T)

    def where(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Those that are chosen; of a query, all or none."""
        weight, sizes, init = self.sample_weight, self.query_sizes, self.init_score
        return Rows(
            self.X[chosen],
            self.y[chosen],
            None if weight is None else weight[chosen],
            None if sizes is None else sizes[chosen[np.cumsum(sizes) - sizes]],
            None if init is None else init[chosen],
        )


def check_init_score(init_score: Any, n_samples: int, n_outputs: int) -> Floats | None:
    """Where raw predictions start, of shape (n_samples, n_outputs); None stays so."""
    if init_score is None:
        return None
    try:
        scores = native_array(init_score, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"init_score must be numeric: {error}.") from error
    if scores.ndim == 1 and n_outputs == 1:
        scores = scores[:, None]
    if scores.shape != (n_samples, n_outputs):
        expected = (n_samples, n_outputs) if n_outputs > 1 else (n_samples,)
        raise DataError(f"init_score must have shape {expected}, got {scores.shape}.")
    if not (np.abs(scores) <= MAX_MAGNITUDE).all():
        raise DataError(f"init_score contains NaN or more than {MAX_MAGNITUDE}.")
    return scores


def check_sample_weight(
    sample_weight: Any,
    n_samples: int,
    name: str = "sample_weight",
    workers: Communicator = ALONE,
) -> Floats | None:
    """The weights as float64, or None if all are 1: then training is the same, and faster."""
    if sample_weight is None:
        return None
    weight = numeric_vector(name, sample_weight)
    if len(weight) != n_samples:
        raise DataError(f"{name} has {len(weight)} values, but X has {n_samples} rows.")
    if not np.isfinite(weight).all():
        raise DataError(f"{name} contains NaN or infinity.")
    if (weight < 0).any():
        raise DataError(f"{name} must not be negative, got {weight.min()}.")
    if not workers.any(weight.any()):
        raise DataError(f"{name} is zero on all rows: at least one weight must be positive.")
    if (weight > MAX_MAGNITUDE).any():
        raise DataError(f"{name} must not exceed {MAX_MAGNITUDE}, got {weight.max()}.")
    return weight if workers.any((weight != 1).any()) else None


def weighted(values: Floats, weight: Floats | None) -> Floats:
    """The values, a row each, times the weights; an overflow is an infinity."""
    with np.errstate(over="ignore"):
        return values if weight is None else (values.T * weight).T


def n_columns(y: Any) -> int:
    """The columns of y; of a vector, 1."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    return int(shape[1]) if len(shape) == 2 else 1


def has_columns(y: Any) -> bool:
    """Whether y has several columns, each a target."""
    return n_columns(y) > 1


def check_columns(y: Any, n_samples: int) -> Any:
    """Several columns of finite values, a row for each of X."""
    y = check_array(y, accept_sparse="csr", dtype=None, ensure_min_samples=0, input_name="y")
    if y.shape[0] != n_samples:
        raise DataError(f"y has {y.shape[0]} rows, but X has {n_samples}.")
    return y


def check_regression_target(y: Any, weight: Floats | None, objective: str) -> Floats:
    """The target as float64, in the range of the objective; or several, as columns."""
    if has_columns(y) and objective in TIME_OBJECTIVES:
        raise DataError(
            f"objective={objective!r} is of one target, but y has {n_columns(y)} columns. Use a "
            "vector: the time of an event, or minus the time until which there was none."
        )
    target = numeric_columns("y", y) if has_columns(y) else numeric_vector("y", y)
    check_range(target, objective, f"objective={objective!r}")
    if objective == "cox" and not (weighted(target, weight) > 0).any():
        raise DataError("objective='cox' needs an event, y > 0, but all rows are censored.")
    largest = max(np.abs(some).max(initial=0) for some in (target, weighted(target, weight)))
    if largest > MAX_MAGNITUDE:
        raise DataError(
            f"y (times sample_weight) must not exceed {MAX_MAGNITUDE}, got {largest}. Scale it."
        )
    return target


def check_range(target: Floats, family: str, what: str) -> None:
    """Raise DataError unless the target is in the range of the family of distributions."""
    if family in ("poisson", "tweedie") and (target < 0).any():
        raise DataError(f"{what} needs y >= 0, got {target.min()}.")
    if family == "cross_entropy" and ((target < 0) | (target > 1)).any():
        wrong = target[(target < 0) | (target > 1)][0]
        raise DataError(f"{what} needs y in the range [0, 1], got {wrong}.")
    if family == "gamma" and (target <= 0).any():
        raise DataError(f"{what} needs y > 0, got {target.min()}.")
    if family in TIME_OBJECTIVES and not (np.abs(target) > 0).all():
        wrong = target[~(np.abs(target) > 0)][0]
        raise DataError(
            f"{what} needs times as y: y > 0 of an event, y < 0 if there was none until -y. Got "
            f"{wrong}."
        )


def check_relevance(y: Any, n_labels: int) -> Floats:
    """Relevance labels as float64: 0, 1, ... n_labels - 1."""
    labels = numeric_vector("y", y)
    if (labels < 0).any() or (labels != np.floor(labels)).any():
        raise DataError("QGBDTRanker needs relevance labels 0, 1, 2, ... as y.")
    if (labels >= n_labels).any():
        raise DataError(
            f"y has the label {labels.max():.0f}, but label_gain only has gains of the labels 0 "
            f"to {n_labels - 1}."
        )
    return labels


def check_query_sizes(group: Any, qid: Any, n_samples: int) -> NDArray[np.int64]:
    """The number of rows of each query, from either of its two forms."""
    if (group is None) == (qid is None):
        raise DataError(
            "QGBDTRanker.fit needs either group (the number of rows of each query) or qid (the "
            "query of each row)."
        )
    if group is not None:
        return check_group(group, n_samples)
    return query_sizes_of(qid, n_samples)


def check_eval_group(group: Any, n_samples: int) -> NDArray[np.int64]:
    """The query sizes of an evaluation set."""
    if group is None:
        raise DataError(
            "The evaluation sets of a ranker need eval_group (or X_val needs group_val), the "
            "number of rows of each query."
        )
    return check_group(group, n_samples)


def check_group(group: Any, n_samples: int) -> NDArray[np.int64]:
    """Query sizes, all positive, that add up to n_samples."""
    sizes = numeric_vector("group", group)
    if (sizes < 1).any() or (sizes != np.floor(sizes)).any():
        raise DataError("group must hold positive integers, the number of rows of each query.")
    if sizes.sum() != n_samples:
        raise DataError(f"group sums up to {sizes.sum():.0f} rows, but X has {n_samples} rows.")
    return sizes.astype(np.int64)


def query_sizes_of(qid: Any, n_samples: int) -> NDArray[np.int64]:
    """The lengths of the runs of equal ids; no id may come back after another one."""
    ids = np.asarray(qid)
    if ids.shape != (n_samples,):
        raise DataError(f"qid must have one id per row of X, {n_samples}, got shape {ids.shape}.")
    starts = np.flatnonzero(np.concatenate(([True][:n_samples], ids[1:] != ids[:-1])))
    first_ids, n_runs = np.unique(ids[starts], return_counts=True)
    if (n_runs > 1).any():
        raise DataError(
            f"The rows of each query must follow one another, but the rows of qid "
            f"{first_ids[n_runs > 1][0]} do not. Sort the rows by qid."
        )
    return np.diff(np.append(starts, n_samples)).astype(np.int64)


def check_row_blocks(row_blocks: Any, n_samples: int) -> list[tuple[int, int]] | None:
    """The number and the rows of each block of rows, as integers; None stays so."""
    if row_blocks is None:
        return None
    blocks = [tuple(block) for block in row_blocks]
    for block in blocks:
        if len(block) != 2 or not all(is_int(value) and value >= 0 for value in block):
            raise DataError(
                "row_blocks must hold pairs of integers, the number of each block and how many "
                f"rows it has. Got {block}."
            )
    total = sum(n_rows for _, n_rows in blocks)
    if total != n_samples:
        raise DataError(f"row_blocks sums up to {total} rows, but X has {n_samples} rows.")
    return [(int(number), int(n_rows)) for number, n_rows in blocks]


def check_labels(y: Any) -> Floats:
    """Which labels each row has: a matrix of 0 and 1, a column a label."""
    labels = np.asarray(y.toarray() if is_sparse(y) else y)
    wrong = ~np.isin(labels, (0, 1))
    if wrong.any():
        raise DataError(
            "y has several columns, so each must be a label that a row has (1) or not (0). Got "
            f"{labels[wrong].tolist()[0]!r}. For columns of classes use scikit-learn's "
            "MultiOutputClassifier."
        )
    return numeric_columns("y", labels)


def numeric_vector(name: str, values: Any) -> Floats:
    """The values as a contiguous one-dimensional float64 array."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {array.shape}.")
    return numeric_columns(name, array)


def numeric_columns(name: str, values: Any) -> Floats:
    """The values as a contiguous float64 array."""
    array = np.asarray(values)
    if array.dtype.kind not in "biufO":
        raise DataError(f"{name} must be numeric, got dtype {array.dtype}.")
    try:
        return native_array(array, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numeric: {error}.") from error


def label_gains(label_gain: Sequence[float] | Floats | None) -> Floats:
    """The gain of each relevance label: 2**label - 1 unless given."""
    if label_gain is None:
        return np.exp2(np.arange(31)) - 1
    return np.asarray(label_gain, dtype=np.float64)


def encode_classes(
    y: NDArray[Any], workers: Communicator, known: NDArray[Any] | None = None
) -> tuple[NDArray[Any], Floats]:
    """The class labels of all workers, sorted, or those known; each row's number among them."""
    if known is not None:
        return known, numbers_of_classes(y, known)
    here, numbers = encode_labels(y)
    classes = workers.union(here)
    return classes, np.searchsorted(classes, here)[numbers].astype(np.float64)


def encode_labels(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The distinct labels, sorted, and each row's number among them.

    Integers of a small range, which need no check, are counted instead of sorted: that takes a
    tenth of the time.
    """
    low, high = (int(y.min()), int(y.max())) if len(y) and y.dtype.kind in "biu" else (0, len(y))
    if high - low >= len(y) // 2 or high > np.iinfo(np.int64).max:
        check_classification_targets(y)
        classes, numbers = np.unique(y, return_inverse=True)
    else:
        offsets = y.astype(np.int64) - low
        present = np.bincount(offsets) > 0
        classes = (np.flatnonzero(present) + low).astype(y.dtype)
        numbers = (np.cumsum(present) - 1)[offsets]
    return classes, numbers


def numbers_of_classes(y: NDArray[Any], classes: NDArray[Any]) -> Floats:
    """Each row's number among classes that are known."""
    unknown = ~np.isin(y, classes)
    if unknown.any():
        label = y[unknown].tolist()[0]
        raise DataError(
            f"y has the label {label!r}, which y of training has not. Its labels are "
            f"{classes.tolist()}."
        )
    return np.searchsorted(classes, y.astype(classes.dtype)).astype(np.float64)
