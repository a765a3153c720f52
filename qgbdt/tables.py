"""Data frames and arrays by columns: as numbers, or as distinct values."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from qgbdt.categories import MAX_INTEGER
from qgbdt.errors import DataError
from qgbdt.matrices import is_sparse

ARE_CATEGORIES = (nw.Categorical, nw.Enum, nw.String)
"""Types of columns whose values are categories."""


@dataclass(frozen=True)
class Factorized:
    """A column as its distinct values, some perhaps unused, and each row's number among them.

    Missing values have the number -1.
    """

    values: list[Any]
    numbers: NDArray[np.intp]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows have each value."""
        return np.bincount(self.numbers[self.numbers >= 0], minlength=len(self.values))

    @classmethod
    def of_objects(cls, values: NDArray[Any]) -> "Factorized":
        """Of any values that can be hashed."""
        places: dict[Any, int] = {}
        numbers = [places.setdefault(value, len(places)) for value in values.tolist()]
        distinct = list(places)
        kept = np.array([not is_missing(value) for value in distinct], bool)
        place = np.where(kept, np.cumsum(kept) - 1, -1)
        present = [value for value, is_kept in zip(distinct, kept, strict=True) if is_kept]
        return cls(present, place[np.array(numbers, np.intp)] if distinct else place)

    @classmethod
    def of_numbers(cls, values: NDArray[Any]) -> "Factorized":
        """Of a numeric array; NaN is missing."""
        present = values == values
        distinct, places = numbered(values[present])
        numbers = np.full(len(values), -1, np.intp)
        numbers[present] = places
        return cls(distinct.tolist(), numbers)


def numbered(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The distinct numbers, sorted, and each one's place among them.

    Integers of a small range are counted instead of sorted: that takes a tenth of the time.
    """
    low, high = (values.min(), values.max()) if len(values) else (0, 0)
    if not -MAX_INTEGER < low <= high < min(MAX_INTEGER, float(low) + len(values)):
        return np.unique(values, return_inverse=True)
    offsets = (values - low).astype(np.intp)
    if (offsets != values - low).any():
        return np.unique(values, return_inverse=True)
    is_there = np.bincount(offsets) > 0
    return np.flatnonzero(is_there) + low, (np.cumsum(is_there) - 1)[offsets]


class Frame:
    """The columns of a data frame."""

    is_frame = True

    def __init__(self, frame: "nw.DataFrame[Any]") -> None:
        self._columns = [frame.get_column(name) for name in frame.columns]
        self.names = [str(name) for name in frame.columns]
        self.n_rows = len(frame)

    @property
    def categorical(self) -> list[int]:
        """The columns whose type says so."""
        return [i for i, c in enumerate(self._columns) if isinstance(c.dtype, ARE_CATEGORIES)]

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """That of the array: float32 if all numbers are."""
        kinds = {type(c.dtype) for c in self._columns if c.dtype.is_numeric()}
        return np.float32 if kinds == {nw.Float32} else np.float64

    def numbers(self, index: int) -> NDArray[Any]:
        """A column of numbers or bools."""
        column = self._columns[index]
        if not (column.dtype.is_numeric() or column.dtype == nw.Boolean):
            raise DataError(
                f"Feature {self.names[index]!r} is of type {column.dtype}. Make it numbers, or "
                "name it in categorical_features if its values are strings or numbers."
            )
        return column.cast(nw.Float64).to_numpy()

    def factorized(self, index: int) -> Factorized:
        """A column as distinct values."""
        column = self._columns[index]
        if column.dtype.is_numeric() or column.dtype == nw.Boolean:
            return Factorized.of_numbers(column.cast(nw.Float64).to_numpy())
        native = column.to_native()
        accessor = getattr(native, "cat", None)
        if hasattr(accessor, "codes"):  # pandas
            codes = native.cat.codes.to_numpy(np.intp)
            return Factorized(native.cat.categories.tolist(), codes)
        if hasattr(native, "factorize"):  # pandas
            numbers, distinct = native.factorize()
            return Factorized(distinct.tolist(), numbers)
        return Factorized.of_objects(np.array([*column.to_list(), None], object)[:-1])


class Array:
    """The columns of an array of two dimensions."""

    is_frame = False

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self.names = [str(i) for i in range(array.shape[1])]
        self.n_rows = len(array)
        self.categorical: list[int] = []
        self.dtype = np.float32 if array.dtype == np.float32 else np.float64

    def numbers(self, index: int) -> NDArray[Any]:
        """A column of numbers."""
        try:
            return self._array[:, index].astype(self.dtype)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Feature {index} must hold numbers, or be named in categorical_features: {error}."
            ) from error

    def factorized(self, index: int) -> Factorized:
        """A column as distinct values."""
        column = self._array[:, index]
        if column.dtype.kind in "biuf":
            return Factorized.of_numbers(column)
        return Factorized.of_objects(column)


Table = Frame | Array


def table_of(X: Any) -> Table:
    """X by columns."""
    if is_frame(X):
        return Frame(nw.from_native(X, eager_only=True))
    if is_sparse(X):
        raise DataError("Categorical features need dense data, X is sparse. Use X.toarray().")
    array = X if isinstance(X, np.ndarray) else np.asarray(X, getattr(X, "dtype", object))
    if array.ndim != 2:
        raise DataError(f"X must have 2 dimensions, got {array.ndim}.")
    return Array(array)


def is_frame(X: Any) -> bool:
    """Whether X is a data frame that narwhals knows."""
    return bool(nw.dependencies.is_into_dataframe(X))


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN or pandas.NA."""
    is_nan = isinstance(value, Real) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")
