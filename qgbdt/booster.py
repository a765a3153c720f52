"""Booster: a trained model, without the estimator that trained it."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from qgbdt._core import Model
from qgbdt.errors import DataError
from qgbdt.matrices import is_sparse, native_matrix
from qgbdt.params import NONE, CommonParams, IntRange, check_value
from qgbdt.threads import check_n_jobs, resolve_n_jobs

NATIVE_DTYPES = (np.dtype(np.float64), np.dtype(np.float32))


class CustomFields(NamedTuple):
    """What a model file keeps of an objective of the user's; of its code, a hash only."""

    name: str
    link: str
    source_hash: str
    parameters: str


class Booster:
    """A trained model: it predicts, explains its trees, and is saved and loaded.

    Estimators hold theirs as ``booster_``; a saved one comes back through `load_model`.

    Examples
    --------
    >>> import numpy as np
    >>> from qgbdt import Booster, QGBDTRegressor
    >>> X = np.arange(100.0).reshape(-1, 1)
    >>> booster = QGBDTRegressor().fit(X, X[:, 0]).booster_
    >>> booster
    Booster(objective='regression', n_features=1, n_trees=100)
    >>> Booster.model_from_string(booster.model_to_string()) == booster
    True
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    # --- Saving and loading

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file, atomically: a crash leaves the old file or the new one.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced and keeps its permissions.
        """
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def load_model(cls, path: str | os.PathLike[str]) -> Self:
        """Read a model from a file.

        Raises
        ------
        ModelFormatError
            If the file is not a sound model. No file, however damaged, does worse.
        """
        return cls.from_bytes(Path(path).read_bytes())

    def model_to_string(self) -> str:
        """The model as text: the contents of the file that `save_model` writes."""
        return self.to_bytes().decode()

    @classmethod
    def model_from_string(cls, text: str) -> Self:
        """The model that `model_to_string` gave as text.

        Raises
        ------
        ModelFormatError
            If the text is not a sound model.
        """
        return cls.from_bytes(text.encode(errors="surrogatepass"))  # which no model has

    def to_bytes(self) -> bytes:
        """The model file. Equal models have equal bytes."""
        return self._model.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The model of a model file's bytes; raises ModelFormatError as `load_model` does."""
        return cls(Model.from_bytes(data))

    def __getstate__(self) -> dict[str, bytes]:
        return {"model": self.to_bytes()}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self._model = Model.from_bytes(state["model"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Booster) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    # --- What the model is

    @property
    def objective(self) -> str:
        """The loss that the model was trained for."""
        return self._model.objective

    @property
    def custom(self) -> CustomFields | None:
        """What the model knows of an objective of the user's; None of a built-in one."""
        return None if self._model.custom is None else CustomFields(*self._model.custom)

    @property
    def n_iterations(self) -> int:
        """The number of boosting iterations, each of one tree per output."""
        return self._model.n_trees // self._model.n_outputs

    def num_trees(self) -> int:
        """The number of trees; tree i belongs to output ``i % n_outputs``."""
        return self._model.n_trees

    def num_feature(self) -> int:
        """The number of columns of X."""
        return self._model.n_features

    def feature_name(self) -> list[str]:
        """The names of the columns of X."""
        return self._model.feature_names

    def tree(self, index: int) -> NDArray[np.void]:
        """One tree, as a structured array of its nodes.

        Returns
        -------
        ndarray of shape (n_nodes,)
            Node 0 is the root. Fields: feature (-1 in a leaf), left and right (node ids, -1 in a
            leaf), missing_left, threshold (``x <= threshold`` goes left), value (of a leaf, in
            link space), gain (of a split), count (training rows), sum_hessian.
        """
        check_value("index", "tree", index, IntRange(0, self.num_trees() - 1))
        return self._model.tree(index)

    def trees(self) -> list[NDArray[np.void]]:
        """All trees, see `tree`."""
        return [self.tree(index) for index in range(self.num_trees())]

    def feature_importance(
        self, importance_type: Literal["split", "gain"] = "split"
    ) -> NDArray[np.int64] | NDArray[np.float64]:
        """How much each feature is used.

        Parameters
        ----------
        importance_type : {'split', 'gain'}, default='split'
            Whether to count a feature's splits or to add up their gains.

        Returns
        -------
        ndarray of shape (n_features,)
            Counts (int64) or gains (float64).
        """
        allowed = CommonParams._params["importance_type"].allowed
        check_value("importance_type", "feature_importance", importance_type, allowed)
        by_gain = importance_type == "gain"
        total: NDArray[np.int64] | NDArray[np.float64] = np.zeros(self.num_feature(), np.int64)
        if by_gain:
            total = total.astype(np.float64)
        for tree in self.trees():
            splits = tree[tree["feature"] >= 0]
            np.add.at(total, splits["feature"], splits["gain"] if by_gain else 1)
        return total

    # --- Prediction

    def predict(
        self,
        X: Any,
        *,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        n_jobs: int | None = None,
    ) -> NDArray[np.float64]:
        """Predict the rows of X.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        raw_score : bool, default=False
            Whether to stay in link space.
        start_iteration : int, default=0
            The first iteration whose trees are used.
        num_iteration : int, default=None
            How many iterations are used; None means all that follow.
        n_jobs : int, default=None
            Threads, as in the estimators.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Target values, scores ('lambdarank'), or probabilities: of the second class
            ('binary'), or of each class ('multiclass').

        Raises
        ------
        DataError
            If X has the wrong shape or is not real.
        """
        first, end = self._iteration_range(start_iteration, num_iteration)
        check_n_jobs(n_jobs, "predict")
        array = self._check_X(X)
        n_threads = self._model.useful_threads(array.shape[0], first, end)
        if n_threads > 1:  # asking the system for its CPUs takes longer than a small prediction
            n_threads = min(n_threads, resolve_n_jobs(n_jobs, "predict"))
        values = self._model.predict(native_matrix(array), first, end, raw_score, n_threads)
        return values[:, 0] if values.shape[1] == 1 else values

    def _iteration_range(self, start: int, number: int | None) -> tuple[int, int]:
        n_iterations = self.n_iterations
        if type(start) is not int or not 0 <= start <= n_iterations:
            check_value("start_iteration", "predict", start, IntRange(0, n_iterations))
        if number is not None:
            check_value("num_iteration", "predict", number, IntRange(1) | NONE)
        return start, n_iterations if number is None else min(start + number, n_iterations)

    def _check_X(self, X: Any) -> Any:
        array = X if is_sparse(X) else np.asarray(X)
        if array.dtype.kind == "c":
            raise DataError("Booster needs real data, X is complex.")
        if array.ndim != 2:
            raise DataError(f"Booster needs X of 2 dimensions, got {array.ndim}.")
        if array.shape[1] != self.num_feature():
            raise DataError(
                f"X has {array.shape[1]} features, but Booster is expecting "
                f"{self.num_feature()} features as input."
            )
        return array if array.dtype in NATIVE_DTYPES else array.astype(np.float64)

    def __repr__(self) -> str:
        return (
            f"Booster(objective={self.objective!r}, n_features={self.num_feature()}, "
            f"n_trees={self.num_trees()})"
        )


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at path (not a link to it) by one with these contents, or do nothing."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file.")
    temporary = path.with_name(f".qgbdt-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            with suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename = str(path)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the directory's entries durable, where the system has a way."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
