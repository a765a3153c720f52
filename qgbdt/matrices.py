"""What the native module reads as X: an array, or a sparse matrix column by column."""

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from qgbdt._core import SparseMatrix

N = TypeVar("N", bound=np.generic)

NATIVE_DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


def is_sparse(X: Any) -> TypeGuard[Any]:
    """Whether X is one of SciPy's sparse matrices or arrays."""
    return hasattr(X, "tocsc")


def native_array(values: Any, dtype: DTypeLike) -> NDArray[Any]:
    """The values as the native module borrows an array: contiguous, and aligned."""
    return np.require(values, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def native_matrix(X: Any) -> NDArray[Any] | SparseMatrix:
    """X of float32 or float64 as the native module borrows it; nothing dense is made of sparse."""
    if isinstance(X, np.ndarray):
        return X if X.flags.aligned else np.require(X, requirements="A")
    columns = column_lists(X)
    values = native_array(columns.data, columns.dtype)
    rows, begins = native_array(columns.indices, np.int32), native_array(columns.indptr, np.int64)
    return SparseMatrix(values, rows, begins, columns.shape)


def column_lists(X: Any) -> Any:
    """A sparse X column by column, rows ascending, none of them twice."""
    columns = X.tocsc()
    if not columns.has_canonical_format:
        columns = columns.copy()  # the caller's is left as it is
        columns.sum_duplicates()
    return columns


DENSE_VALUES = 1 << 22
"""Of a sparse matrix that are dense at a time."""


def of_dense_blocks(question: Callable[..., NDArray[N]], X: Any, *options: Any) -> NDArray[N]:
    """What a question that takes arrays answers of the rows of X, dense or sparse."""
    if not is_sparse(X):
        return question(np.require(X, requirements="A"), *options)
    n_rows = max(1, DENSE_VALUES // X.shape[1])
    rows = X.tocsr()
    begins = range(0, max(X.shape[0], 1), n_rows)
    return np.concatenate([question(rows[i : i + n_rows].toarray(), *options) for i in begins])
