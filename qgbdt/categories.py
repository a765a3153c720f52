"""Categorical features: which they are, what their categories are, and X as an array of numbers.

A feature's categories are strings or numbers, ascending; the place of a value among them is its
code. The native module trains on codes and predicts from them. NaN, None and NA are missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qgbdt.distributed.communicator import ALONE, Communicator
from qgbdt.errors import DataError, DisagreementError

if TYPE_CHECKING:
    from qgbdt.tables import Factorized, Table

Values = list[str] | list[float]
"""The categories of a feature."""

MAX_INTEGER = 2.0**53
"""Beyond it float64 cannot tell integers apart."""


def as_category(value: Any, feature: str) -> str | float:
    """A value as the model keeps it: strings and numbers, bools being 0 and 1."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"Feature {feature!r} has a category that is no text: {error}."
            ) from error
        return str(value)
    if isinstance(value, (Real, np.bool_)) and abs(number := float(value)) <= MAX_INTEGER:
        return number + 0.0  # -0.0 is 0.0
    raise DataError(
        f"Feature {feature!r} has the category {value!r}. Categories must be strings, or numbers "
        "of magnitudes up to 2**53: make it a string."
    )


@dataclass(frozen=True)
class Categories:
    """The categories of a model's features: of each its values, or None if it is numerical.

    Or of no features at all, if all are numerical.
    """

    values: Sequence[Values | None]
    refuses_unseen: bool

    def __bool__(self) -> bool:
        """Whether any feature is categorical."""
        return bool(self.indices)

    @property
    def numbers(self) -> list[int]:
        """How many categories each feature has; -1 if it is numerical."""
        return [-1 if values is None else len(values) for values in self.values]

    @property
    def facts(self) -> dict[str, Any]:
        """What another fit's categories would differ in."""
        return {f"the categories of feature {i}": self.values[i] for i in self.indices}

    @property
    def policy(self) -> str:
        """What an unseen category is."""
        return "error" if self.refuses_unseen else "missing"

    @property
    def indices(self) -> list[int]:
        """The categorical features."""
        return [i for i, values in enumerate(self.values) if values is not None]

    def encode(self, X: Any) -> NDArray[Any]:
        """X as floats, of shape (n_samples, n_features), with codes in place of categories.

        Raises
        ------
        DataError
            If a category has not been seen in training, and that is an error.
        """
        from qgbdt.tables import table_of  # which imports narwhals

        table = table_of(X)
        if len(table.names) != len(self.values):
            raise DataError(
                f"X has {len(table.names)} features, but Booster is expecting {len(self.values)} "
                "features as input."
            )
        encoded = np.empty((table.n_rows, len(self.values)), table.dtype, order="F")
        for index, values in enumerate(self.values):
            if values is None:
                encoded[:, index] = table.numbers(index)
            else:
                encoded[:, index] = self._codes(table.factorized(index), values, table.names[index])
        return encoded

    def _codes(self, column: "Factorized", values: Values, feature: str) -> NDArray[np.float64]:
        code_of: dict[str | float, int] = dict(zip(values, range(len(values)), strict=True))
        counts = column.counts
        codes = np.full(len(column.values) + 1, np.nan)  # the last one is that of missing values
        for place in np.flatnonzero(counts):
            value = as_category(column.values[place], feature)
            if values and isinstance(value, str) != isinstance(values[0], str):
                raise DataError(
                    f"Feature {feature!r} has the category {value!r}, but in training its "
                    f"categories were of the other type, such as {values[0]!r}."
                )
            codes[place] = code_of.get(value, np.nan)
            if self.refuses_unseen and value not in code_of:
                raise DataError(
                    f"Feature {feature!r} has the category {value!r}, which training has not "
                    "seen. With unseen_category='missing' it is a missing value."
                )
        return codes[column.numbers]


def find_categories(
    X: Any,
    categorical_features: Any,
    *,
    max_bin: int,
    refuses_unseen: bool,
    known: Categories | None = None,
    workers: Communicator = ALONE,
) -> Categories:
    """The categories in the rows of all workers, or those of a model that is known.

    Of more than max_bin the most frequent are kept, and of equally frequent ones the first; the
    others are unseen.
    """
    from qgbdt.tables import is_frame, table_of  # which imports narwhals

    by_dtype = isinstance(categorical_features, str)
    table = None
    if is_frame(X) if by_dtype else categorical_features is not None:
        table = table_of(X)
    indices: list[int] = []
    if table is not None:
        indices = table.categorical if by_dtype else listed_features(table, categorical_features)
    if not workers.is_alone:
        indices = agreed(indices, [*np.shape(X), 0][0] > 0, workers)
    if not indices:
        return Categories([], refuses_unseen=False)
    if known is not None and known.indices == indices:
        return Categories(known.values, refuses_unseen)
    table = table or table_of(X)
    found = []
    for index in indices:
        column, feature = table.factorized(index), table.names[index]
        counts = column.counts
        places = np.flatnonzero(counts)
        values = [as_category(column.values[place], feature) for place in places]
        found.append((values, counts[places].tolist()))
    of_all = workers.gather(found)
    chosen: list[Values | None] = [None] * len(table.names)
    for k, index in enumerate(indices):
        chosen[index] = most_frequent(
            [of_worker[k] for of_worker in of_all], max_bin, refuses_unseen, table.names[index]
        )
    return Categories(chosen, refuses_unseen)


def most_frequent(
    found: Sequence[tuple[Values, list[int]]], max_bin: int, refuses_unseen: bool, feature: str
) -> Values:
    """Of the values that workers have found, with their counts, at most max_bin, ascending."""
    counts: dict[Any, int] = {}
    for values, numbers in found:
        for value, number in zip(values, numbers, strict=True):
            counts[value] = counts.get(value, 0) + number
    if len({isinstance(value, str) for value in counts}) > 1:
        raise DataError(
            f"Feature {feature!r} has strings and numbers as categories. Make them all strings."
        )
    if len(counts) > max_bin and refuses_unseen:
        raise DataError(
            f"Feature {feature!r} has {len(counts)} categories, of which max_bin={max_bin} are "
            "kept: others cannot be told from unseen ones, so unseen_category must be 'missing'."
        )
    return sorted(sorted(counts, key=lambda value: (-counts[value], value))[:max_bin])


def listed_features(table: "Table", asked: Sequence[Any]) -> list[int]:
    """The numbers of the features that are listed, ascending."""
    listed, n = list(asked), len(table.names)
    if listed and all(isinstance(some, (bool, np.bool_)) for some in listed):
        if len(listed) != n:
            raise DataError(
                f"categorical_features has {len(listed)} bools, but X has {n} features."
            )
        return [i for i, is_chosen in enumerate(listed) if is_chosen]
    if listed and isinstance(listed[0], str):
        if not table.is_frame:
            raise DataError("categorical_features has names, but X is no data frame. Use numbers.")
        for name in listed:
            if name not in table.names:
                raise DataError(f"categorical_features has {name!r}, which is no column of X.")
        return sorted({table.names.index(name) for name in listed})
    for index in listed:
        if not 0 <= index < n:
            raise DataError(f"categorical_features has {index}, but X has {n} features.")
    return sorted({int(index) for index in listed})


def agreed(indices: list[int], has_rows: bool, workers: Communicator) -> list[int]:
    """The categorical features of the workers that have rows, which must be the same."""
    of_all = [some for some in workers.gather([has_rows, indices]) if some[0]] or [[True, indices]]
    for _, others in of_all:
        if others != of_all[0][1]:
            raise DisagreementError(
                f"Workers do not agree: the categorical features are {of_all[0][1]} and {others}."
            )
    return list(of_all[0][1])
