"""The native module: bins, trains, predicts, reads and writes models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import NDArray

EvaluationSet = tuple[
    NDArray[Any] | SparseMatrix,  # X
    NDArray[np.float64],  # y
    NDArray[np.float64] | None,  # sample_weight
    NDArray[np.int64] | None,  # query_sizes
    NDArray[np.float64],  # raw predictions, to be filled
]

Categories = list[float] | list[str] | None  # of a feature
LinearLeaf = tuple[float, list[tuple[int, float]]]  # constant, coefficients of features

class ModelFormatError(ValueError): ...
class WorkerLost(ConnectionError): ...

class Comm:
    @property
    def rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    def exchange(self, messages: list[bytes]) -> list[bytes]: ...
    def leave(self, why: str) -> None: ...

class SocketComm(Comm):
    def __init__(
        self,
        rank: int,
        sockets: list[int],
        names: list[str],
        heartbeat: float,
        relay: int = -1,
    ) -> None: ...
    def report(self) -> dict[str, float]: ...

def thread_comms(world_size: int) -> list[Comm]: ...

class FaultyComm(Comm):
    n_exchanges: int
    def __init__(
        self, sound: Comm, exchange: int, sender: int, byte: int, flip: int, on_its_way: bool
    ) -> None: ...

LARGEST_ZERO: float  # in magnitude: where zero is missing, so are smaller numbers

class SparseMatrix:
    def __init__(
        self,
        values: NDArray[Any],
        rows: NDArray[np.int32],
        column_begin: NDArray[np.int64],
        shape: tuple[int, int],
    ) -> None: ...

class Binning:
    @overload
    def __init__(
        self,
        thresholds: Sequence[Sequence[float]],
        is_categorical: Sequence[bool],
        zero_is_missing: bool,
    ) -> None: ...
    @overload
    def __init__(
        self,
        X: NDArray[Any] | SparseMatrix,
        max_bin: int,
        n_threads: int,
        n_categories: Sequence[int],
        zero_is_missing: bool,
    ) -> None: ...
    @property
    def thresholds(self) -> list[list[float]]: ...
    @property
    def is_categorical(self) -> list[int]: ...
    def columns(self, X: NDArray[Any] | SparseMatrix, n_threads: int) -> NDArray[np.uint8]: ...

class BinnedMatrix:
    def __init__(
        self,
        X: NDArray[Any] | SparseMatrix,
        max_bin: int,
        n_threads: int,
        comm: Comm | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
        n_categories: Sequence[int] = (),
        may_list: bool = True,
        zero_is_missing: bool = False,
    ) -> None: ...
    @staticmethod
    def of_columns(
        bins: NDArray[np.uint8],
        rows: NDArray[np.int64] | None,
        binning: Binning,
        n_threads: int,
        comm: Comm | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
    ) -> BinnedMatrix: ...
    @staticmethod
    def of_lists(
        bins: NDArray[np.uint8],
        rows: NDArray[np.int32],
        column_begin: NDArray[np.int64],
        n_samples: int,
        binning: Binning,
        n_threads: int,
        comm: Comm | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
        may_list: bool = True,
    ) -> BinnedMatrix: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_bytes(self) -> int: ...
    @property
    def n_cells(self) -> int: ...
    def row_numbers(self) -> NDArray[np.int64]: ...
    def bins(self) -> NDArray[np.uint8]: ...
    def bin_thresholds(self, feature: int) -> NDArray[np.float64]: ...
    def has_missing(self) -> NDArray[np.bool_]: ...

class Model:
    @property
    def objective(self) -> str: ...
    @property
    def custom(self) -> tuple[str, str, str, str] | None: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_outputs(self) -> int: ...
    @property
    def n_trees(self) -> int: ...
    @property
    def feature_names(self) -> list[str]: ...
    @property
    def categories(self) -> list[Categories]: ...
    @property
    def refuses_unseen(self) -> bool: ...
    @property
    def has_linear_leaves(self) -> bool: ...
    @property
    def zero_is_missing(self) -> bool: ...
    def category_sets(self, tree: int) -> list[list[int]]: ...
    def linear_leaves(self, tree: int) -> list[LinearLeaf]: ...
    @property
    def base_score(self) -> NDArray[np.float64]: ...
    def tree(self, index: int) -> NDArray[np.void]: ...
    def predict(
        self,
        X: NDArray[Any] | SparseMatrix | DeviceMatrix,
        start_iteration: int,
        end_iteration: int,
        raw: bool,
        n_threads: int,
        init_score: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]: ...
    def explain(
        self,
        X: NDArray[Any],
        start_iteration: int,
        end_iteration: int,
        n_threads: int,
        pairs: bool,
    ) -> NDArray[np.float64]: ...
    def leaf_numbers(
        self, X: NDArray[Any], start_iteration: int, end_iteration: int, n_threads: int
    ) -> NDArray[np.int32]: ...
    def leaf_values(
        self, X: NDArray[Any], start_iteration: int, end_iteration: int, n_threads: int
    ) -> NDArray[np.float64]: ...
    def useful_threads(self, n_samples: int, start_iteration: int, end_iteration: int) -> int: ...
    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(data: bytes) -> Model: ...
    def iterations(self, begin: int, end: int) -> Model: ...
    @staticmethod
    def joined(models: list[Model]) -> Model: ...
    @staticmethod
    def of_trees(
        objective: str,
        n_outputs: int,
        base_score: Sequence[float],
        feature_names: Sequence[str],
        trees: Sequence[NDArray[np.void]],
        categories: Sequence[Categories] = (),
        category_sets: Sequence[Sequence[Sequence[int]]] = (),
        linear_leaves: Sequence[Sequence[LinearLeaf]] = (),
        zero_is_missing: bool = False,
    ) -> Model: ...
    node_dtype: ClassVar[np.dtype[np.void]]

class Device:
    def kernel_times(self) -> dict[str, tuple[int, float, int]]: ...
    def run_bounds(self, n_blocks: int) -> bool: ...

class DeviceMatrix:
    def __init__(
        self,
        device: Device,
        address: int,
        dtype: np.dtype[Any],
        shape: tuple[int, int],
        strides: tuple[int, int],
    ) -> None: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    def to_host(self) -> NDArray[Any]: ...

def train(
    matrix: BinnedMatrix,
    y: NDArray[np.float64],
    sample_weight: NDArray[np.float64] | None,
    query_sizes: NDArray[np.int64] | None,
    feature_names: list[str],
    params: Mapping[str, Any],
    n_threads: int,
    comm: Comm | None = None,
    initial: Model | None = None,
    raw_prediction: NDArray[np.float64] | None = None,
    on_iteration: Callable[[bytes], None] | None = None,
    n_resumed: int = 0,
    eval_sets: Sequence[EvaluationSet] = (),
    metrics: Sequence[tuple[str, int]] = (),
    on_evaluation: Callable[[NDArray[np.float64]], bool] | None = None,
    device: Device | None = None,
    categories: Sequence[Categories] = (),
    refuses_unseen: bool = False,
    gradients_of_all: Callable[
        [NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]
    ]
    | None = None,
    gradients_of_rows: int = 0,
    eval_init_scores: Sequence[NDArray[np.float64] | None] = (),
    losses: Sequence[int] = (),
    X: NDArray[Any] | None = None,
    zero_is_missing: bool = False,
) -> tuple[Model, dict[str, float], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]: ...
def refit(
    matrix: BinnedMatrix,
    y: NDArray[np.float64],
    sample_weight: NDArray[np.float64] | None,
    query_sizes: NDArray[np.int64] | None,
    params: Mapping[str, Any],
    model: Model,
    decay_rate: float,
    leaves_of: Callable[[int], NDArray[np.int32]],
    raw_prediction: NDArray[np.float64],
    n_threads: int,
    gradients_of_all: Callable[
        [NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]
    ]
    | None = None,
    gradients_of_rows: int = 0,
) -> Model: ...
def evaluate(
    eval_set: EvaluationSet,
    metrics: Sequence[tuple[str, int]],
    params: Mapping[str, Any],
    n_threads: int = 1,
    comm: Comm | None = None,
) -> NDArray[np.float64]: ...
def metrics() -> dict[str, tuple[list[str], bool]]: ...
def predictions(
    objective: str,
    raw_prediction: NDArray[np.float64],
    custom: tuple[str, str, str, str] | None = None,
) -> NDArray[np.float64]: ...
def build_info() -> dict[str, Any]: ...
def simd_levels() -> list[str]: ...
def simd_level() -> str: ...
