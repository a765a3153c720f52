"""The `Data` every benchmark works on, and its sources: scikit-learn, a file, a folder of sets.

The simulated shapes are in `shapes.py`; this module turns everything else into the same `Data`,
and writes and reads it as a folder of `.npy` files, so that a child process loads what its parent
prepared.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

MAX_TEST_ROWS = 100_000
MAX_DENSE_COLUMNS = 2_000  # a sparse set with more columns than this keeps the fullest KEPT_COLUMNS
KEPT_COLUMNS = 300
MAX_CLASSES = 50  # an integer target of a file with more values than this is a regression

TASKS = ("binary", "multiclass", "regression", "poisson", "gamma", "tweedie", "rank")
CLASS_TASKS = ("binary", "multiclass")


@dataclass(frozen=True)
class Part:
    """One side of the split: `X` (n, F) float32 in C order, `y` (n,), query sizes, weights."""

    X: np.ndarray
    y: np.ndarray
    group: np.ndarray | None = None
    weight: np.ndarray | None = None


@dataclass(frozen=True)
class Data:
    """A whole set: `n_train` training rows, `n_held_back` to stop early by, the rest to test.

    `group` holds the sizes of the queries, in row order; a query never straddles a split.
    """

    name: str
    task: str
    X: np.ndarray
    y: np.ndarray
    n_train: int
    group: np.ndarray | None = None
    weight: np.ndarray | None = None
    n_held_back: int = 0

    @property
    def train(self) -> Part:
        return self._part(slice(0, self.n_train))

    @property
    def held_back(self) -> Part:
        return self._part(slice(self.n_train, self.n_train + self.n_held_back))

    @property
    def test(self) -> Part:
        return self._part(slice(self.n_train + self.n_held_back, len(self.y)))

    @property
    def n_classes(self) -> int:
        """Number of classes; 1 where the task has none."""
        return int(self.y.max()) + 1 if self.task in CLASS_TASKS else 1

    def _part(self, rows: slice) -> Part:
        group = self.group
        if group is not None:
            first_row = np.cumsum(group) - group
            group = group[(first_row >= rows.start) & (first_row < rows.stop)]
        weight = None if self.weight is None else self.weight[rows]
        return Part(self.X[rows], self.y[rows], group, weight)


def n_test_rows(n_train: int) -> int:
    """Test rows that go with `n_train` training rows: 20 % of the whole, at most 100,000."""
    return min(max(n_train // 4, 1), MAX_TEST_ROWS)


def from_parts(
    name: str, task: str, train: Part, test: Part, held_back: Part | None = None
) -> Data:
    """Put two parts, or three, together."""
    parts = [part for part in (train, held_back, test) if part is not None]

    def joined(arrays: list[np.ndarray | None]) -> np.ndarray | None:
        given = [array for array in arrays if array is not None]
        return np.concatenate(given) if len(given) == len(parts) else None

    X = np.concatenate([part.X for part in parts]).astype(np.float32, copy=False)
    y = np.concatenate([part.y for part in parts])
    group, weight = joined([p.group for p in parts]), joined([p.weight for p in parts])
    n_held_back = len(y) - len(train.y) - len(test.y)
    return Data(name, task, X, y, len(train.y), group, weight, n_held_back)


def random_split(name: str, task: str, X: np.ndarray, y: np.ndarray, seed: int) -> Data:
    """Shuffle the rows; the last fifth (at most 100,000) is the test part."""
    order = np.random.default_rng(seed).permutation(len(y))
    n_test = min(max(len(y) // 5, 1), MAX_TEST_ROWS)
    X = np.ascontiguousarray(X[order], dtype=np.float32)
    return Data(name, task, X, y[order], len(y) - n_test)


# Arrays in a folder: what travels from the parent to its children -------------------------------

_ARRAYS = ("X", "y", "group", "weight")


def save(data: Data, folder: Path) -> None:
    """Write `data` as `.npy` files and one `data.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    for array in _ARRAYS:
        if (values := getattr(data, array)) is not None:
            np.save(folder / f"{array}.npy", values)
    meta = {"name": data.name, "task": data.task, "n_train": data.n_train}
    meta["n_held_back"] = data.n_held_back
    (folder / "data.json").write_text(json.dumps(meta))


@contextmanager
def saved(data: Data) -> Iterator[Path]:
    """A temporary folder with `data`, for child processes."""
    with tempfile.TemporaryDirectory(prefix="qgbdt-bench-") as folder:
        save(data, Path(folder))
        yield Path(folder)


def open_folder(folder: Path) -> Data:
    """Memory-map what `save` wrote; `resident` brings a part of it into memory."""
    paths = {array: folder / f"{array}.npy" for array in _ARRAYS}
    arrays = {a: np.load(p, mmap_mode="r") for a, p in paths.items() if p.exists()}
    return Data(**json.loads((folder / "data.json").read_text()), **arrays)


def resident(part: Part) -> Part:
    """A copy of `part` in memory, pages touched, so that no timing pays for the disk."""

    def copy(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.array(array)

    return Part(np.array(part.X), np.array(part.y), copy(part.group), copy(part.weight))


# scikit-learn's own sets, those that need no download -------------------------------------------

_GENERATED = {  # name -> (function of sklearn.datasets, task)
    "hastie": ("make_hastie_10_2", "binary"),
    "friedman1": ("make_friedman1", "regression"),
    "friedman2": ("make_friedman2", "regression"),
    "friedman3": ("make_friedman3", "regression"),
}
_STORED = {
    "breast_cancer": ("load_breast_cancer", "binary"),
    "digits": ("load_digits", "multiclass"),
    "wine": ("load_wine", "multiclass"),
    "diabetes": ("load_diabetes", "regression"),
}
SKLEARN_SETS = (*_GENERATED, *_STORED)


def from_sklearn(name: str, rows: int, seed: int) -> Data:
    """A set of scikit-learn's: `rows` training rows of a generated one, all of a stored one."""
    from sklearn import datasets

    if name in _STORED:
        function, task = _STORED[name]
        X, y = getattr(datasets, function)(return_X_y=True)
    else:
        function, task = _GENERATED[name]
        make = getattr(datasets, function)
        X, y = make(n_samples=rows + n_test_rows(rows), random_state=seed)
    if task in CLASS_TASKS:
        y = np.unique(y, return_inverse=True)[1]
    return random_split(name, task, X, y, seed)


# Any file ---------------------------------------------------------------------------------------


def from_file(path: Path, target: str, task: str | None = None, seed: int = 0) -> Data:
    """Read a CSV, Parquet or npz file; `target` is a column (npz: the name of the y array, by X).

    Columns of strings become category codes, missing ones NaN; rows without a target are dropped.
    """
    readers: dict[str, Callable[[Path, str], tuple[np.ndarray, np.ndarray]]] = {
        ".csv": _read_csv,
        ".gz": _read_csv,
        ".parquet": _read_parquet,
        ".npz": _read_npz,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path}: expected one of {', '.join(readers)}")
    X, y = readers[path.suffix](path, target)
    task = task or infer_task(y)
    y = np.unique(y, return_inverse=True)[1] if task in CLASS_TASKS else y.astype(np.float64)
    return random_split(path.stem, task, X, y, seed)


def infer_task(y: np.ndarray) -> str:
    """Two values: binary; few whole numbers or any strings: multiclass; else regression."""
    n_values = len(np.unique(y))
    if n_values == 2:
        return "binary"
    is_label = y.dtype.kind in "OUS" or (n_values <= MAX_CLASSES and np.all(y == np.rint(y)))
    return "multiclass" if is_label else "regression"


def frame_to_array(frame: Any) -> np.ndarray:
    """A pandas frame as float32 in C order: categories and strings as codes, missing as NaN."""
    X = np.empty(frame.shape, dtype=np.float32)
    for i, column in enumerate(frame.columns):
        X[:, i] = _column_to_array(frame[column])
    return X


def _column_to_array(column: Any) -> np.ndarray:
    from pandas.api.types import is_numeric_dtype

    if is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float32, na_value=np.nan))
    codes = column.astype("category").cat.codes.to_numpy()
    return np.where(codes < 0, np.nan, codes).astype(np.float32)


def _read_csv(path: Path, target: str) -> tuple[np.ndarray, np.ndarray]:
    import pandas

    return _split_target(pandas.read_csv(path, low_memory=False), target)


def _read_parquet(path: Path, target: str) -> tuple[np.ndarray, np.ndarray]:
    import pandas

    return _split_target(pandas.read_parquet(path), target)


def _read_npz(path: Path, target: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as arrays:
        return arrays["X"], arrays[target]


def _split_target(frame: Any, target: str) -> tuple[np.ndarray, np.ndarray]:
    if target not in frame.columns:
        raise ValueError(f"no column {target!r}; the columns are {', '.join(map(str, frame))}")
    frame = frame.dropna(subset=[target])
    return frame_to_array(frame.drop(columns=[target])), frame[target].to_numpy()


# A folder of real sets --------------------------------------------------------------------------


def load_catalogue(folder: Path) -> ModuleType:
    """Import the folder's `sets.py`: it has `NAMES` and `load(name)`.

    `load` returns an object with X (pandas frame or SciPy CSR), y, task, train and test (row
    positions), group (the query id of each row) and weight.
    """
    path = folder / "sets.py"
    spec = importlib.util.spec_from_file_location("benchmark_sets", path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"{path}: a folder of sets has a sets.py with NAMES and load(name)")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_catalogue(catalogue: ModuleType, name: str) -> Data:
    """Load one set of a folder as `Data`, its training rows first."""
    raw = catalogue.load(name)
    matrix = _dense(raw.X, raw.train) if hasattr(raw.X, "toarray") else frame_to_array(raw.X)

    def part(rows: np.ndarray) -> Part:
        group = None if raw.group is None else _run_lengths(np.asarray(raw.group)[rows])
        weight = None if raw.weight is None else np.asarray(raw.weight, dtype=np.float64)[rows]
        return Part(matrix[rows], np.asarray(raw.y)[rows], group, weight)

    return from_parts(name, raw.task, part(raw.train), part(raw.test))


def _dense(X: Any, train: np.ndarray) -> np.ndarray:
    """A sparse matrix as an array; a very wide one keeps its columns with most training entries."""
    if X.shape[1] > MAX_DENSE_COLUMNS:
        n_entries = np.bincount(X[train].indices, minlength=X.shape[1])
        X = X[:, np.sort(np.argsort(-n_entries, kind="stable")[:KEPT_COLUMNS])]
    return np.asarray(X.toarray(), dtype=np.float32)


def _run_lengths(ids: np.ndarray) -> np.ndarray:
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    return np.diff(np.r_[starts, len(ids)])


# Resampling -------------------------------------------------------------------------------------


def resample(data: Data, seed: int, share: float, max_rows: int) -> Data:
    """The same set with fewer training rows: `share` of them, at most `max_rows`, without repeats.

    Of those left out some are held back: as many as `share` leaves out of a whole, if there are.
    Ranking keeps or drops whole queries. Classes left without a training row leave the other parts
    too, so that no library is judged on a class that it never saw.
    """
    rng = np.random.default_rng(seed)
    whole = data.train
    if whole.group is None:
        n_units = len(whole.y)
        chosen = np.sort(rng.choice(n_units, min(int(share * n_units), max_rows), replace=False))
    else:
        n_units = len(whole.group)
        chosen = np.sort(rng.permutation(n_units)[: max(int(share * n_units), 1)])
        chosen = chosen[np.cumsum(whole.group[chosen]) <= max_rows]
    others = rng.permutation(np.setdiff1d(np.arange(n_units), chosen))
    held_back = np.sort(others[: round(len(chosen) * (1.0 / share - 1.0))])
    parts = [_take(whole, chosen), data.test, _take(whole, held_back)]
    if data.task == "multiclass":
        parts = _common_classes(*parts)
    return from_parts(data.name, data.task, *parts)


def _take(part: Part, units: np.ndarray) -> Part:
    """Some rows; of a ranking some queries."""
    sizes, rows = None, units
    if part.group is not None:
        first_row, sizes = np.cumsum(part.group) - part.group, part.group[units]
        queries = [np.arange(first_row[q], first_row[q] + part.group[q]) for q in units]
        rows = np.concatenate([np.arange(0), *queries])
    weight = None if part.weight is None else part.weight[rows]
    return Part(part.X[rows], part.y[rows], sizes, weight)


def _common_classes(train: Part, *others: Part) -> list[Part]:
    """The parts, of each the rows whose class the first has; its classes numbered from 0."""
    classes, codes = np.unique(train.y, return_inverse=True)
    parts = [replace(train, y=codes)]
    for other in others:
        seen = np.isin(other.y, classes)
        weight = None if other.weight is None else other.weight[seen]
        other_codes = np.searchsorted(classes, other.y[seen])
        parts.append(Part(other.X[seen], other_codes, None, weight))
    return parts
