"""Rows that are binned once: kept in a file, shared by processes, and trained on many times."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from qgbdt import _core
from qgbdt.categories import Categories
from qgbdt.dataset_file import Facts, Stored, binning_of, csc, lists_of
from qgbdt.devices import host_array
from qgbdt.distributed.communicator import ALONE
from qgbdt.errors import DataError, ParameterError
from qgbdt.matrices import column_lists, is_sparse, native_matrix
from qgbdt.threads import resolve_n_jobs

if TYPE_CHECKING:
    from qgbdt.params import CommonParams

DECIDED = ("max_bin", "categorical_features", "unseen_category", "zero_as_missing")
"""Parameters of estimators that binning has used up."""


class BinnedDataset:
    """Rows as bin numbers, a byte a value (of sparse X, a byte for each value that is stored).

    ``fit`` takes it in place of X, and so do ``predict``, evaluation sets, cross-validation and
    grid search. Its rows are chosen as those of an array (``data[rows]``) without a copy. The
    model is that of raw rows which are binned by the same thresholds: those of all rows here.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features)
        Numbers, and categories, as ``fit`` takes them.
    max_bin : int, default=255
        As of the estimators, and so are the next three: who trains on the dataset must have the
        same.
    categorical_features : 'from_dtype', sequence or None, default='from_dtype'
        The features whose values are categories.
    unseen_category : {'missing', 'error'}, default='missing'
        Whether a category that X does not have is a missing value later on, or an error.
    zero_as_missing : bool, default=False
        Whether zeros of numerical features are missing values, and what sparse X does not list.
    n_jobs : int, default=None
        Threads, as of the estimators.

    Raises
    ------
    DataError
        If X cannot be trained on.
    ParameterError
        If a parameter is out of range.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from qgbdt import BinnedDataset, QGBDTClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> data = BinnedDataset(X)
    >>> data
    BinnedDataset(n_samples=150, n_features=4)
    >>> cross_val_score(QGBDTClassifier(n_estimators=20), data, y).shape
    (5,)
    """

    _facts: Facts
    _binning: _core.Binning
    _columns: Any  # uint8: array of shape (n_features, n_samples), or SciPy's of CSC format
    _rows: NDArray[np.int64] | None  # which of them, if not all

    def __init__(
        self,
        X: Any,
        *,
        max_bin: int = 255,
        categorical_features: Any = "from_dtype",
        unseen_category: str = "missing",
        zero_as_missing: bool = False,
        n_jobs: int | None = None,
    ) -> None:
        asked = {
            "max_bin": max_bin,
            "categorical_features": categorical_features,
            "unseen_category": unseen_category,
            "zero_as_missing": zero_as_missing,
        }
        values, categories, names = checked_values(X, asked)
        n_threads = resolve_n_jobs(n_jobs, "BinnedDataset")
        native = native_matrix(values)
        self._binning = _core.Binning(
            native, max_bin, n_threads, categories.numbers, bool(zero_as_missing)
        )
        self._columns = columns_of(values, self._binning, n_threads)
        self._rows = None
        if not isinstance(categorical_features, str) and categorical_features is not None:
            asked["categorical_features"] = np.asarray(categorical_features).tolist()
        self._facts = Facts(
            shape=(values.shape[0], values.shape[1]),
            dtype=str(values.dtype),
            names=names,
            categories=list(categories.values),
            **asked,
        )

    @classmethod
    def _of(
        cls,
        facts: Facts,
        thresholds: NDArray[np.float64],
        ends: NDArray[np.int64],
        columns: Any,
        rows: NDArray[np.int64] | None = None,
    ) -> Self:
        """Of the thresholds of all features, one after the other, and where each feature's end."""
        self = cls.__new__(cls)
        self._facts, self._columns, self._rows = facts, columns, rows
        self._binning = binning_of(facts, thresholds, ends)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self._facts, *self._thresholds, self._columns, self._rows)

    # --- As an array

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and of features."""
        n_rows = self._facts.shape[0] if self._rows is None else len(self._rows)
        return n_rows, self._facts.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the numbers that were binned."""
        return np.dtype(self._facts.dtype)

    @property
    def nbytes(self) -> int:
        """The bytes of the bins of all rows, also if these are some of them."""
        some = self._columns
        is_list = is_sparse(some)
        parts = (some.data, some.indices, some.indptr) if is_list else (some,)
        return sum(part.nbytes for part in parts)

    @property
    def feature_names(self) -> list[str] | None:
        """The names of the columns, if X had any that are strings."""
        return self._facts.names

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Self:
        if isinstance(rows, tuple):  # scikit-learn's [rows, ...]
            if len(rows) != 2 or rows[1] is not Ellipsis:
                raise DataError("A BinnedDataset is indexed by its rows alone: data[rows].")
            rows = rows[0]
        chosen = self.__class__.__new__(self.__class__)
        chosen.__dict__.update(vars(self))
        own = np.arange(len(self)) if self._rows is None else self._rows
        chosen._rows = np.atleast_1d(own[rows])
        return chosen

    def __repr__(self) -> str:
        return f"BinnedDataset(n_samples={self.shape[0]}, n_features={self.shape[1]})"

    # --- Other rows, and files

    def transform(self, X: Any, *, n_jobs: int | None = None) -> Self:
        """Bin other rows by the same thresholds and categories.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows to evaluate on, or to train on instead.
        n_jobs : int, default=None
            Threads, as of the estimators.

        Returns
        -------
        BinnedDataset
            Of these rows alone.
        """
        asked = {name: getattr(self._facts, name) for name in DECIDED}
        values, _, names = checked_values(X, asked, self.categories)
        if values.shape[1] != self.shape[1]:
            raise DataError(
                f"X has {values.shape[1]} features, but the dataset has {self.shape[1]}."
            )
        if names and self.feature_names and names != self.feature_names:
            raise DataError(
                f"X has the features {names}, but the dataset has {self.feature_names}."
            )
        n_threads = resolve_n_jobs(n_jobs, "BinnedDataset")
        columns = columns_of(values, self._binning, n_threads)
        facts = replace(self._facts, shape=values.shape, dtype=str(values.dtype))
        return self._of(facts, *self._thresholds, columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a file, atomically: NumPy's .npz, not compressed.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced.
        """
        facts = replace(self._facts, shape=self.shape)
        Stored(facts, *self._thresholds, self._chosen_columns()).write(Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Self:
        """Read rows that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.
        mmap : bool, default=True
            Whether the bins stay in the file, and are read when they are used: processes that load
            it share them. Those of sparse rows are read at once.

        Raises
        ------
        DataError
            If the file is no sound dataset. (Bins that are none are found when they are used.)
        """
        return cls._of(*Stored.read(Path(path), mmap=mmap))

    # --- For training and prediction

    @property
    def categories(self) -> Categories:
        """The categories of the features."""
        facts = self._facts
        return Categories(facts.categories, facts.unseen_category == "error")

    @cached_property
    def _thresholds(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Those of all features, one after the other, and where each feature's end."""
        of_features = self._binning.thresholds
        ends = np.cumsum([len(some) for some in of_features], dtype=np.int64)
        return np.concatenate([np.empty(0), *of_features]), ends

    def _digest(self) -> int:
        """A number that other ways to bin would change."""
        thresholds, ends = self._thresholds
        bits = zlib.crc32(ends.tobytes(), zlib.crc32(thresholds.tobytes()))
        others = (self._facts.categories, self._facts.zero_as_missing)
        return zlib.crc32(json.dumps(others).encode(), bits)

    def _chosen_columns(self) -> Any:
        """The columns of bins of the rows that are chosen."""
        if self._rows is None:
            return self._columns
        if is_sparse(self._columns):
            columns = self._columns[self._rows]
            columns.sort_indices()
            return columns
        return np.take(self._columns, self._rows, axis=1)  # in C order

    def _matrix(
        self,
        n_threads: int,
        comm: "_core.Comm | None" = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
        may_list: bool = True,
    ) -> _core.BinnedMatrix:
        """What the trainer takes."""
        if is_sparse(self._columns):
            columns = self._chosen_columns()
            rows, begins = lists_of(columns)
            return _core.BinnedMatrix.of_lists(
                columns.data,
                rows,
                begins,
                self.shape[0],
                self._binning,
                n_threads,
                comm,
                row_blocks,
                may_list,
            )
        return _core.BinnedMatrix.of_columns(
            self._columns, self._rows, self._binning, n_threads, comm, row_blocks
        )

    def _values(self) -> Any:
        """A number in each bin, NaN in those of missing values; codes of categories.

        Trees that split by these thresholds cannot tell them from the numbers that were binned.
        """
        thresholds, ends = self._thresholds
        tables = []
        for values, part in zip(
            self._facts.categories or [None] * self.shape[1],
            np.split(thresholds, ends)[:-1],
            strict=True,
        ):
            of_bins = (
                np.arange(len(part) + 1.0)
                if values is not None
                else numbers_of(part, zero_is_missing=self._facts.zero_as_missing)
            )
            tables.append(np.append(of_bins, np.nan))
        columns = self._chosen_columns()
        if is_sparse(columns):
            begins = np.cumsum([0, *map(len, tables)])[:-1]
            begin_of = np.repeat(begins, np.diff(columns.indptr))
            numbers = np.concatenate(tables)[begin_of + columns.data]
            return csc(numbers, columns.indices, columns.indptr, self.shape)
        out = np.empty(columns.shape)
        for table, bins, to in zip(tables, columns, out, strict=True):
            np.take(table, bins, out=to)
        return out.T

    def _values_for(self, model: _core.Model) -> Any:
        """The values, if the model cannot tell them from the numbers that were binned.

        Raises
        ------
        DataError
            If it may: it was not trained on bins of these thresholds and categories, or its leaves
            are linear.
        """
        if model.has_linear_leaves:
            raise DataError(
                "The model's leaves are linear in numbers, of which a BinnedDataset has bins. "
                "Predict the numbers themselves."
            )
        own = self._binning.thresholds
        trees = map(model.tree, range(model.n_trees))
        nodes = np.concatenate([np.empty(0, model.node_dtype), *trees])
        splits = nodes[(nodes["feature"] >= 0) & ~nodes["is_categorical"]]
        used = np.unique(splits[["feature", "threshold"]])
        are_known = all(
            threshold == np.inf or threshold in own[feature] for feature, threshold in used.tolist()
        )
        are_alike = (
            list(model.categories) == self._facts.categories
            and model.zero_is_missing == self._facts.zero_as_missing
        )
        if not (are_known and are_alike):
            raise DataError(
                "The model splits where the bins of the dataset do not end. Predict the values "
                "themselves, or train on this dataset."
            )
        return self._values()


def numbers_of(thresholds: NDArray[np.float64], *, zero_is_missing: bool) -> NDArray[np.float64]:
    """A number in each bin: its upper threshold, or another where that would be missing."""
    of_bins = np.append(thresholds, np.inf)
    for i in np.flatnonzero(np.abs(of_bins) <= _core.LARGEST_ZERO) if zero_is_missing else ():
        below = of_bins[i - 1] if i else -np.inf
        of_bins[i] = max(below / 2, -1.0)
    return of_bins


def checked_values(
    X: Any, asked: dict[str, Any], categories: Categories | None = None
) -> tuple[Any, Categories, list[str] | None]:
    """X as fit checks it: numbers, categories (unless they are given), and names."""
    from qgbdt.continuation import Continuation
    from qgbdt.estimators import QGBDTRegressor  # which imports scikit-learn, and this module

    if isinstance(X, BinnedDataset):
        raise DataError("X is binned already.")
    checks = QGBDTRegressor(**asked)
    checks._check_params()
    X = host_array(X)
    y = np.zeros(X.shape[0] if hasattr(X, "shape") else len(X))
    if categories is None:
        values, _, categories = checks._check_rows(X, y, ALONE, Continuation())
    else:
        values, _ = checks._checked(X, y, ALONE, categories, reset=True)
    names = getattr(checks, "feature_names_in_", None)
    return values, categories, None if names is None else [str(name) for name in names]


def check_decided(estimator: "CommonParams", data: BinnedDataset) -> None:
    """Raise ParameterError if the estimator would have binned in another way."""
    for name in DECIDED:
        asked, has = getattr(estimator, name), getattr(data._facts, name)
        if isinstance(asked, str) and asked == "from_dtype":
            continue  # which the dataset knows
        if not isinstance(asked, str) and asked is not None:
            asked = np.asarray(asked).tolist()
        if asked != has:
            raise ParameterError(
                f"The estimator has {name}={asked!r}, but X is a BinnedDataset of {name}={has!r}. "
                "Set the same."
            )


def columns_of(values: Any, binning: _core.Binning, n_threads: int) -> Any:
    """The bins of checked values, as a dataset keeps them."""
    bins = binning.columns(native_matrix(values), n_threads)
    if not is_sparse(values):
        return bins
    lists = column_lists(values)
    return csc(bins, lists.indices, lists.indptr, values.shape)
