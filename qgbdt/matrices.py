"""What the native module reads as X: an array, or a sparse matrix column by column."""

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from qgbdt._core import SparseMatrix


def is_sparse(X: Any) -> TypeGuard[Any]:
    """Whether X is one of SciPy's sparse matrices or arrays."""
    return hasattr(X, "tocsc")


def native_matrix(X: Any) -> NDArray[Any] | SparseMatrix:
    """X of float32 or float64 as the native module borrows it; nothing dense is made of sparse."""
    if isinstance(X, np.ndarray):
        return X if X.flags.aligned else np.require(X, requirements="A")
    columns = X.tocsc()
    if not columns.has_canonical_format:
        columns = columns.copy()  # the caller's is left as it is
        columns.sum_duplicates()
    values, rows = np.ascontiguousarray(columns.data), columns.indices.astype(np.int32, copy=False)
    return SparseMatrix(values, rows, columns.indptr.astype(np.int64, copy=False), columns.shape)
