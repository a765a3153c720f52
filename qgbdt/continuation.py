"""Going on: from a model, or from the checkpoint of a fit that was interrupted."""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt._core import BinnedMatrix, Model
from qgbdt.binned_dataset import BinnedDataset
from qgbdt.booster import Booster
from qgbdt.categories import Categories
from qgbdt.checkpoint import Checkpoint
from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError
from qgbdt.matrices import native_matrix
from qgbdt.validation import Floats, Rows

ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


@dataclass(frozen=True)
class Continuation:
    """What a fit goes on from, and where it keeps its trees: arguments of ``fit``."""

    init_model: Any = None
    checkpoint_dir: str | os.PathLike[str] | None = None
    resume: bool = False
    is_warm: bool = False  # the model is the estimator's own, whose trees n_estimators counts

    @property
    def categories(self) -> Categories | None:
        """Those of the model that was given."""
        return None if self.init_model is None else booster_of(self.init_model)._categories

    def initial(
        self,
        objective: str,
        n_outputs: int,
        names: list[str],
        categories: Categories,
        custom: tuple[str, str, str, str] | None,
        zero_is_missing: bool,
    ) -> Model | None:
        """The model that was given, which must be of the same kind."""
        if self.init_model is None:
            return None
        booster = booster_of(self.init_model)
        model, its_own = booster._model, booster._categories
        for what, its, here in (
            ("objective", model.objective, objective),
            ("objective's name, link, source and parameters", model.custom, custom),
            ("number of outputs", model.n_outputs, n_outputs),
            ("features", model.feature_names, names),
            ("categorical features", its_own.indices, categories.indices),
            ("unseen_category", its_own.policy, categories.policy),
            ("zero_as_missing", model.zero_is_missing, zero_is_missing),
        ):
            if its != here:
                name = "The estimator's own model" if self.is_warm else "init_model"
                raise DataError(
                    f"{name} cannot be continued: its {what} is {its!r}, but {here!r} here."
                )
        return model


def booster_of(model: Any, name: str = "init_model") -> Booster:
    """The model that an argument of this name stands for."""
    if isinstance(model, Booster):
        return model
    if isinstance(model, (str, os.PathLike)):
        return Booster.load_model(model)
    booster = getattr(model, "booster_", None)
    if not isinstance(booster, Booster):
        raise DataError(
            f"{name} must be a Booster, a fitted estimator or the path of a model file, "
            f"got {type(model).__name__}."
        )
    return booster


def facts_of_data(
    matrix: BinnedMatrix, training: Rows, workers: Communicator, *, are_values_used: bool
) -> dict[str, int]:
    """What other data would differ in, the same on all workers however rows are spread.

    Bins are all that is used of X, but where leaves are linear.
    """
    y = training.y
    weight = np.ones(0) if training.sample_weight is None else training.sample_weight
    sizes = np.ones(0) if training.query_sizes is None else training.query_sizes
    rows = matrix.row_numbers()
    sums = workers.sum(
        np.array([len(y), digest(y, rows), digest(weight, rows[: len(weight)]), digest(sizes)])
    )
    thresholds = [matrix.bin_thresholds(feature) for feature in range(matrix.n_features)]
    facts = {
        "the number of rows": int(sums[0]),
        "the digest of y": int(sums[1]),
        "the digest of sample_weight": int(sums[2]),
        "the digest of the queries": int(sums[3]),
        "the digest of the thresholds of X": zlib.crc32(np.concatenate(thresholds).tobytes()),
    }
    if are_values_used:
        columns = np.array([digest(column, rows) for column in training.X.T])
        facts["the digest of X"] = zlib.crc32(columns.tobytes())
    if training.init_score is not None:
        own = digest(training.init_score, rows)
        facts["the digest of init_score"] = int(workers.sum(np.array([own]))[0])
    return facts


def digest(values: NDArray[Any], rows: NDArray[np.int64] | None = None) -> int:
    """A number that changes with any value and, given the rows' numbers, with their order.

    Those of two shards sum, modulo 2^64, to that of all rows.
    """
    bits = values.astype(np.float64).ravel().view(np.uint64)
    if rows is not None:
        places = rows[:, None] * (bits.size // max(len(rows), 1)) + np.arange(values[:1].size)
        bits = bits + places.ravel().astype(np.uint64) * ODD
    mixed = (bits ^ (bits >> np.uint64(29))) * ODD
    return int((mixed ^ (mixed >> np.uint64(32))).sum(dtype=np.uint64).astype(np.int64))


@dataclass(frozen=True)
class Start:
    """Where a fit starts: the model so far, and what is told of each iteration's trees."""

    model: Model | None
    n_iterations_done: int
    on_iteration: Callable[[bytes], None] | None

    def raw_prediction(self, rows: Rows, n_threads: int) -> Floats | None:
        """The model's raw predictions, from init_score on; shape (n_outputs, n_samples)."""
        scores = rows.init_score
        if self.model is not None:
            n_iterations, X = self.model.n_trees // self.model.n_outputs, rows.X
            values = X._values_for(self.model) if isinstance(X, BinnedDataset) else X
            scores = self.model.predict(
                native_matrix(values), 0, n_iterations, True, n_threads, scores
            )
        return None if scores is None else np.ascontiguousarray(scores.T)


@contextmanager
def started(
    continuation: Continuation,
    initial: Model | None,
    facts: Mapping[str, Any],
    workers: Communicator,
) -> Iterator[Start]:
    """Open the checkpoint on worker 0, if there is to be one, and give all workers its trees."""
    on_iteration, resumed = None, b""
    with ExitStack() as opened:
        if workers.rank == 0 and continuation.checkpoint_dir is not None:
            same = {key: value for key, value in facts.items() if key != "n_estimators"}
            checkpoint = Checkpoint(continuation.checkpoint_dir, same, resume=continuation.resume)
            opened.enter_context(checkpoint)
            on_iteration = checkpoint.append
            if checkpoint.models:
                resumed = Model.joined(checkpoint.models[: facts["n_estimators"]]).to_bytes()
        resumed = workers.broadcast(resumed)
        done = Model.from_bytes(resumed) if resumed else None
        models = [model for model in (initial, done) if model is not None]
        yield Start(
            Model.joined(models) if models else None,
            done.n_trees // done.n_outputs if done else 0,
            on_iteration,
        )
