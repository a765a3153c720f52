"""Where the rows of a BinnedDataset are kept: NumPy's .npz, not compressed.

Its arrays: ``facts`` (JSON in UTF-8), ``thresholds`` (of all features, one after the other),
``ends`` (where each feature's end), and ``bins``, of shape (n_features, n_samples); or, of sparse
rows, ``bins``, ``indices`` and ``indptr`` as in SciPy's CSC format. What is read may come from
anywhere: nothing in it is unpickled, and what is damaged is an error.
"""

import json
import os
import struct
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from qgbdt._core import Binning
from qgbdt.categories import Values
from qgbdt.errors import DataError
from qgbdt.files import replacing
from qgbdt.matrices import is_sparse, native_array

FORMAT = "qgbdt binned dataset 1"


@dataclass(frozen=True)
class Facts:
    """What a dataset knows beside its bins; JSON can hold it."""

    shape: tuple[int, int]
    dtype: str
    max_bin: int
    categorical_features: Any
    unseen_category: str
    zero_as_missing: bool
    names: list[str] | None
    categories: list[Values | None]


class Stored(NamedTuple):
    """What is in a file."""

    facts: Facts
    thresholds: NDArray[np.float64]
    ends: NDArray[np.int64]
    columns: Any

    def write(self, path: Path) -> None:
        """Replace the file at path by one of these, atomically."""
        facts, thresholds, ends, columns = self
        told = json.dumps(asdict(facts) | {"format": FORMAT}).encode()
        arrays = {
            "facts": np.frombuffer(told, np.uint8),
            "thresholds": thresholds,
            "ends": ends,
            "bins": columns.data if is_sparse(columns) else columns,
        }
        if is_sparse(columns):
            arrays["indices"], arrays["indptr"] = lists_of(columns)
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path, *, mmap: bool) -> Self:
        """What `write` wrote.

        Raises
        ------
        DataError
            If it is none of that.
        """
        try:
            return cls._read(path, mmap=mmap)
        except (
            *(ValueError, KeyError, TypeError, EOFError),
            *(struct.error, zipfile.BadZipFile),
            NotImplementedError,  # of zipfile, where a damaged file asks for what it has not
        ) as error:
            raise DataError(f"{path} is no sound BinnedDataset: {error}.") from error

    @classmethod
    def _read(cls, path: Path, *, mmap: bool) -> Self:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no .npz file")
        with np.load(path, allow_pickle=False) as file:
            facts = read_facts(file["facts"])
            thresholds, ends = file["thresholds"], file["ends"]
            check_array("thresholds", thresholds, np.float64, 1)
            check_array("ends", ends, np.int64, 1)
            check_ends(ends, facts)
            binning_of(facts, thresholds, ends)  # which checks them
            if "indptr" in file.files:
                columns = csc(file["bins"], file["indices"], file["indptr"], facts.shape)
                columns.check_format()
                check_array("bins", columns.data, np.uint8, 1)
            else:
                shape = facts.shape[::-1]
                columns = mapped(path, "bins.npy", shape) if mmap else file["bins"]
                check_array("bins", columns, np.uint8, 2)
                if columns.shape != shape:
                    raise ValueError("its bins are of other rows")
            return cls(facts, thresholds, ends, columns)


def binning_of(facts: Facts, thresholds: NDArray[np.float64], ends: NDArray[np.int64]) -> Binning:
    """How values become bins.

    Raises
    ------
    ValueError
        If a feature's thresholds do not ascend, or are too many.
    """
    return Binning(
        [part.tolist() for part in np.split(thresholds, ends)[:-1]],
        [values is not None for values in facts.categories] or [False] * facts.shape[1],
        facts.zero_as_missing,
    )


def csc(data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> Any:
    """SciPy's sparse array of these columns."""
    from scipy.sparse import csc_array

    return csc_array((data, indices, indptr), shape)  # type: ignore[no-untyped-call]


def lists_of(columns: Any) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Which rows the columns list, and where each column's begin, as the trainer takes them."""
    return native_array(columns.indices, np.int32), native_array(columns.indptr, np.int64)


def read_facts(told: NDArray[np.uint8]) -> Facts:
    """The facts, of the types that they should have."""
    fields = json.loads(told.tobytes())
    if fields.pop("format") != FORMAT:
        raise ValueError("it is of another version")
    facts = Facts(**fields | {"shape": tuple(fields["shape"])})
    n_samples, n_features = facts.shape
    are_sound = (
        type(n_samples) is type(n_features) is type(facts.max_bin) is int
        and min(n_samples, n_features) >= 1
        and facts.dtype in ("float32", "float64")
        and facts.unseen_category in ("missing", "error")
        and type(facts.zero_as_missing) is bool
        and len(facts.categories) in (0, n_features)
        and all(values is None or type(values) is list for values in facts.categories)
        and (facts.names is None or list(map(type, facts.names)) == [str] * n_features)
    )
    if not are_sound:
        raise ValueError("its facts are damaged")
    return facts


def check_ends(ends: NDArray[np.int64], facts: Facts) -> None:
    """Raise ValueError unless each feature has thresholds, and as many as it has categories."""
    sizes = np.diff(ends, prepend=0).tolist()
    if len(sizes) != facts.shape[1]:
        raise ValueError("its thresholds are of other features")
    for values, size in zip(facts.categories or [None] * len(sizes), sizes, strict=True):
        if values is not None and size != max(len(values) - 1, 0):
            raise ValueError("its thresholds are of other categories")


def check_array(name: str, array: NDArray[Any], dtype: Any, ndim: int) -> None:
    """Raise ValueError unless it is contiguous, of this type, and of so many dimensions."""
    if array.dtype != dtype or array.ndim != ndim or not array.flags.c_contiguous:
        raise ValueError(f"its {name} are damaged")


def mapped(path: Path, member: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of bytes in an .npz file that is not compressed, in place."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed, and cannot be mapped: use mmap=False")
        file.seek(info.header_offset)
        *_, length_of_name, length_of_extra = struct.unpack("<4s22xHH", file.read(30))
        file.seek(length_of_name + length_of_extra, os.SEEK_CUR)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if read[npy.read_magic(file)](file) != (shape, False, np.dtype(np.uint8)):
            raise ValueError("its bins are of other rows")
        bins: NDArray[np.uint8] = np.memmap(path, np.uint8, "r", file.tell(), shape)
        return bins
