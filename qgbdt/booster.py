"""Booster: a trained model, without the estimator that trained it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from qgbdt import lightgbm_text
from qgbdt._core import DeviceMatrix, Model, predictions
from qgbdt.binned_dataset import BinnedDataset
from qgbdt.categories import Categories, Values
from qgbdt.devices import device_matrix, host_array
from qgbdt.errors import DataError
from qgbdt.files import write_atomically
from qgbdt.matrices import NATIVE_DTYPES, is_sparse, native_matrix, of_dense_blocks
from qgbdt.params import NONE, CommonParams, IntRange, check_value
from qgbdt.threads import check_n_jobs, resolve_n_jobs
from qgbdt.trees import frame_of, numbered

STAGES_TOGETHER = 16
"""Iterations whose leaves are found at once."""


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
        self._categories = Categories(model.categories, model.refuses_unseen)

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

    # --- LightGBM's files

    def save_lightgbm(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a LightGBM model file, atomically, see `to_lightgbm_string`."""
        write_atomically(Path(path), self.to_lightgbm_string().encode())

    @classmethod
    def load_lightgbm(cls, path: str | os.PathLike[str]) -> Self:
        """Read a LightGBM model file, see `from_lightgbm_string`."""
        return cls(lightgbm_text.read_bytes(Path(path).read_bytes()))

    def to_lightgbm_string(self) -> str:
        """The model as LightGBM's text, version 4.

        LightGBM predicts the same raw scores and the same leaves. Base scores are added to the
        leaves of the first iteration. Blanks and ``",:=[]{}\\`` in names become ``_``. Where
        categories are strings, or no whole numbers, LightGBM takes columns of pandas' categories.
        """
        return lightgbm_text.written(self._model)

    @classmethod
    def from_lightgbm_string(cls, text: str) -> Self:
        """The model of a LightGBM text, version 3 or 4.

        Raises
        ------
        ModelFormatError
            If the text is not a sound model, or has what qgbdt's models have not: an objective of
            another link, or lists of categories that are not known to be a feature's.
        """
        return cls(lightgbm_text.read(text))

    def __getstate__(self) -> dict[str, bytes]:
        return {"model": self.to_bytes()}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self.__init__(Model.from_bytes(state["model"]))  # type: ignore[misc]

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

    def categories(self) -> list[Values | None]:
        """The categories of each feature, ascending; None of one that is numerical.

        What is none of them is missing, or an error if the model was trained with
        ``unseen_category="error"``.
        """
        return list(self._categories.values or [None] * self.num_feature())

    def tree(self, index: int) -> NDArray[np.void]:
        """One tree, as a structured array of its nodes.

        Returns
        -------
        ndarray of shape (n_nodes,)
            Node 0 is the root. Fields: feature (-1 in a leaf), left and right (node ids, -1 in a
            leaf), missing_left, is_categorical, threshold (``x <= threshold`` goes left; of a
            categorical split, which of `category_sets` goes left), value (of a leaf, in link
            space), gain (of a split), count (training rows), sum_hessian.
        """
        check_value("index", "tree", index, IntRange(0, self.num_trees() - 1))
        return self._model.tree(index)

    def category_sets(self, index: int) -> list[Values]:
        """The categories that go left in each categorical split of a tree, node after node."""
        tree, categories = self.tree(index), self.categories()
        splits = tree[tree["is_categorical"]]
        sets = []
        for feature, codes in zip(
            splits["feature"].tolist(), self._model.category_sets(index), strict=True
        ):
            values = categories[feature] or []
            sets.append([values[code] for code in codes])
        return sets

    def linear_leaves(self, index: int) -> list[tuple[float, dict[int, float]]]:
        """The linear models of a tree's leaves, see ``linear_tree``.

        Returns
        -------
        list of (float, dict)
            Of each leaf, in the order of the nodes: the constant, and the coefficients by the
            numbers of features; without any of these the leaf's value is the one of `tree`, as it
            is for rows in which one of the features is missing. Empty if all leaves are constant.
        """
        check_value("index", "linear_leaves", index, IntRange(0, self.num_trees() - 1))
        return [(constant, dict(terms)) for constant, terms in self._model.linear_leaves(index)]

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

    def trees_to_dataframe(self) -> Any:
        """All nodes as a pandas DataFrame, a line a node, with LightGBM's columns.

        Returns
        -------
        pandas.DataFrame
            Splits are called "0-S0" (tree 0, split 0), leaves "0-L0". The value of a split is what
            its training rows get of the tree on average.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        sets = map(self.category_sets, range(self.num_trees()))
        missing = "Zero" if self._model.zero_is_missing else "NaN"
        return frame_of(map(numbered, self.trees()), sets, self.feature_name(), missing)

    def to_shap_dict(self) -> dict[str, Any]:
        """The model as a dict that ``shap.TreeExplainer`` takes, for its raw scores.

        Returns
        -------
        dict
            With the trees as arrays, an output a column of their values.
        """
        if self._categories:
            raise DataError("shap does not know splits of categories: use predict_contrib.")
        self._check_leaves("to_shap_dict")
        if self._model.zero_is_missing:
            raise DataError("shap does not know missing zeros: use predict_contrib.")
        n_outputs = len(self._model.base_score)
        trees = []
        for index, nodes in enumerate(self.trees()):
            values = np.zeros((len(nodes), n_outputs))
            values[:, index % n_outputs] = nodes["value"]
            trees.append(
                {
                    "children_left": nodes["left"],
                    "children_right": nodes["right"],
                    "children_default": np.where(
                        nodes["missing_left"], nodes["left"], nodes["right"]
                    ),
                    "features": nodes["feature"],
                    "thresholds": nodes["threshold"],
                    "values": values,
                    "node_sample_weight": nodes["count"].astype(np.float64),
                }
            )
        base = self._model.base_score
        return {
            "trees": trees,
            "base_offset": base if n_outputs > 1 else base[0],
            "internal_dtype": np.float64,
            "input_dtype": np.float64,
            "objective": self.objective,
            "tree_output": "raw_value",
        }

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
            NaN is a missing value. Categories are values, as in training. Rows of float32 or
            float64 that lie on a GPU are predicted there, unless features are categorical, leaves
            linear or zeros missing.
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
        DeviceError
            If X lies on a GPU that this build or machine cannot use.
        """
        first, end = self._iteration_range(start_iteration, num_iteration)
        check_n_jobs(n_jobs, "predict")
        array = self._check_X(X, may_stay=not self._model.has_linear_leaves)
        n_threads = self._model.useful_threads(array.shape[0], first, end)
        if n_threads > 1:  # asking the system for its CPUs takes longer than a small prediction
            n_threads = min(n_threads, resolve_n_jobs(n_jobs, "predict"))
        native = array if isinstance(array, DeviceMatrix) else native_matrix(array)
        values = self._model.predict(native, first, end, raw_score, n_threads)
        return values[:, 0] if values.shape[1] == 1 else values

    def staged_predict(
        self, X: Any, *, raw_score: bool = False, n_jobs: int | None = None
    ) -> Iterator[NDArray[np.float64]]:
        """Predict the rows of X with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        raw_score : bool, default=False
            Whether to stay in link space.
        n_jobs : int, default=None
            Threads, as in the estimators.

        Returns
        -------
        iterator of ndarray
            The results of `predict` with ``num_iteration`` of 1, 2, ...
        """
        return self._stages(self._check_X(X), raw_score, resolve_n_jobs(n_jobs, "predict"))

    def _stages(self, X: Any, raw_score: bool, n_threads: int) -> Iterator[NDArray[np.float64]]:
        n_outputs = self._model.n_outputs
        raw = np.tile(self._model.base_score, (X.shape[0], 1))
        for first in range(0, self.n_iterations, STAGES_TOGETHER):
            end = min(first + STAGES_TOGETHER, self.n_iterations)
            values = of_dense_blocks(self._model.leaf_values, X, first, end, n_threads)
            for t in range(values.shape[1]):
                raw[:, t % n_outputs] += values[:, t]
                if (t + 1) % n_outputs == 0:
                    stage = raw.copy()
                    if not raw_score:
                        stage = predictions(self.objective, raw, self._model.custom)
                    yield stage[:, 0] if n_outputs == 1 else stage

    def apply(
        self,
        X: Any,
        *,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        n_jobs: int | None = None,
    ) -> NDArray[np.int32]:
        """Find the leaf of each row in each tree.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        start_iteration, num_iteration, n_jobs
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_trees)
            The leaves of a tree are numbered from 0, in the order of its nodes.
        """
        array, *options = self._use(X, start_iteration, num_iteration, n_jobs)
        return of_dense_blocks(self._model.leaf_numbers, array, *options)

    def predict_contrib(
        self,
        X: Any,
        *,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        n_jobs: int | None = None,
    ) -> NDArray[np.float64]:
        """Find what each feature adds to the raw score of each row: SHAP values.

        They are exact, for the game in which an unknown feature sends a row left and right in the
        proportion of the training rows (as LightGBM's ``pred_contrib``).

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        start_iteration, num_iteration, n_jobs
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_features + 1) or (n_samples, n_classes * (n_features + 1))
            The last value of each class is what is expected without any feature; all of them add
            up to its raw score.
        """
        self._check_leaves("predict_contrib")
        array, *options = self._use(X, start_iteration, num_iteration, n_jobs)
        values = of_dense_blocks(self._model.explain, array, *options, False)
        return values.reshape(len(values), values.shape[1] * values.shape[2])

    def predict_interactions(
        self,
        X: Any,
        *,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        n_jobs: int | None = None,
    ) -> NDArray[np.float64]:
        """Find what each two features add to the raw score of each row: SHAP interaction values.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            NaN is a missing value.
        start_iteration, num_iteration, n_jobs
            As in `predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_features + 1, n_features + 1)
            Symmetric; with a dimension for the classes after the first, if there are any. A line
            adds up to the feature's value of `predict_contrib`; the last value of the last line is
            what is expected without any feature.
        """
        self._check_leaves("predict_interactions")
        array, *options = self._use(X, start_iteration, num_iteration, n_jobs)
        values = of_dense_blocks(self._model.explain, array, *options, True)
        return values[:, 0] if values.shape[1] == 1 else values

    def _check_leaves(self, question: str) -> None:
        """Raise DataError if leaves are linear."""
        if self._model.has_linear_leaves:
            raise DataError(
                f"{question} is for constant leaves, this model's are linear. Train with "
                "linear_tree=False, or explain its predictions from outside."
            )

    def _use(
        self, X: Any, start_iteration: int, num_iteration: int | None, n_jobs: int | None
    ) -> tuple[Any, int, int, int]:
        """What the native model is called with: checked data, iterations, threads."""
        first, end = self._iteration_range(start_iteration, num_iteration)
        n_threads = resolve_n_jobs(n_jobs, "predict")
        return self._check_X(X), first, end, n_threads

    def _iteration_range(self, start: int, number: int | None) -> tuple[int, int]:
        n_iterations = self.n_iterations
        if type(start) is not int or not 0 <= start <= n_iterations:
            check_value("start_iteration", "predict", start, IntRange(0, n_iterations))
        if number is not None:
            check_value("num_iteration", "predict", number, IntRange(1) | NONE)
        return start, n_iterations if number is None else min(start + number, n_iterations)

    def _check_X(self, X: Any, *, may_stay: bool = False) -> Any:
        """X of native floats, on the host unless it may stay on a GPU."""
        is_binned = isinstance(X, BinnedDataset)
        if self._categories and not is_binned:
            return self._categories.encode(host_array(X))
        array: Any = X
        if type(X) is not np.ndarray and not is_binned:  # which are there, in the least time
            array = device_matrix(X) if may_stay and not self._model.zero_is_missing else None
            if array is None:
                X = host_array(X)
                array = X if is_sparse(X) else np.asarray(X)
        if array.dtype.kind == "c":
            raise DataError("Booster needs real data, X is complex.")
        if len(array.shape) != 2:
            raise DataError(f"Booster needs X of 2 dimensions, got {len(array.shape)}.")
        if array.shape[1] != self.num_feature():
            raise DataError(
                f"X has {array.shape[1]} features, but Booster is expecting "
                f"{self.num_feature()} features as input."
            )
        if is_binned:
            return array._values_for(self._model)
        return array if array.dtype in NATIVE_DTYPES else array.astype(np.float64)

    def __repr__(self) -> str:
        return (
            f"Booster(objective={self.objective!r}, n_features={self.num_feature()}, "
            f"n_trees={self.num_trees()})"
        )
