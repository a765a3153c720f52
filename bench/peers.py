"""One small class per library: how an expert would run it, on equal terms.

Equal for all: rounds, leaves, learning rate, threads, bins, seed; no row or column sampling; no
regularization beyond what a library needs to work. Where a library lacks a setting:

* at least 20 rows in a leaf: CatBoost's symmetric trees have no such limit, XGBoost only one on
  the hessian, which for squared error is the same thing and elsewhere stays at its default;
* XGBoost's default growth, "xgboost-depthwise", has a depth of log2(leaves) for a limit;
* CatBoost's default trees are symmetric, of depth log2(leaves), with its default regularization,
  one Newton step a leaf, and no randomness in the scores.

`fit` returns the seconds of binning (building the library's own data set) and of training.
A library is imported when its class is instantiated, never with this module.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, TypeVar

import numpy as np
from sources import CLASS_TASKS, Part

T = TypeVar("T")


class UnsupportedTaskError(Exception):
    """The library has no objective for the task."""


@dataclass(frozen=True)
class Settings:
    """What every library is told."""

    task: str
    n_classes: int = 1
    rounds: int = 100
    leaves: int = 255
    learning_rate: float = 0.1
    threads: int = 1
    seed: int = 0
    max_bin: int = 255
    min_child_samples: int = 20
    warm_fits: int = 0  # > 0: through the scikit-learn estimators, so often again in one process


class Peer(ABC):
    """One library under one configuration."""

    module: str
    objectives: ClassVar[dict[str, str]]

    def __init__(self, settings: Settings) -> None:
        if settings.task not in self.objectives:
            raise UnsupportedTaskError(f"the library has no {settings.task} objective")
        self.settings = settings
        self.objective = self.objectives[settings.task]
        self.library: Any = importlib.import_module(self.module)

    @abstractmethod
    def estimator(self) -> Any:
        """The same fit as an untrained scikit-learn estimator, for all but ranking."""

    @abstractmethod
    def fit(self, train: Part) -> tuple[float, float]:
        """Train; return the seconds of binning and of the rest."""

    @abstractmethod
    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        """Probability of class 1 (n,), of all classes (n, K), expected value or score (n,).

        rounds: of the first so many; None: of all.
        """

    def facts(self) -> dict[str, Any]:
        """What else a record says of the fit."""
        return {}


class QGBDT(Peer):
    """This library; options are keyword arguments of its estimators."""

    module = "qgbdt"
    objectives: ClassVar = {
        "binary": "binary",
        "multiclass": "multiclass",
        "regression": "regression",
        "poisson": "poisson",
        "gamma": "gamma",
        "tweedie": "tweedie",
        "rank": "lambdarank",
    }

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings)
        self.options = options
        self.estimator()  # imports scikit-learn, which no phase should pay for

    def estimator(self) -> Any:
        settings = self.settings
        kind = "Ranker" if settings.task == "rank" else _kind(settings.task)
        return getattr(self.library, f"QGBDT{kind}")(
            objective=self.objective,
            n_estimators=settings.rounds,
            num_leaves=settings.leaves,
            learning_rate=settings.learning_rate,
            max_bin=settings.max_bin,
            min_child_samples=settings.min_child_samples,
            random_state=settings.seed,
            n_jobs=settings.threads,
            **self.options,
        )

    def fit(self, train: Part) -> tuple[float, float]:
        self.model = self.estimator()
        query_sizes = {} if train.group is None else {"group": train.group}
        fit = self.model.fit
        _, whole = timed(fit, train.X, train.y, sample_weight=train.weight, **query_sizes)
        binning = self.model.fit_profile_["binning_seconds"]
        return binning, whole - binning

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        return _predict_estimator(self.model, self.settings.task, X, num_iteration=rounds)

    def facts(self) -> dict[str, Any]:
        """Of rounding, over outputs: the noise, and the bits, iteration by iteration."""
        report = self.model.quantization_report_
        bits = report["bits"].mean(axis=1)
        return {"noise": float(report["gradient_noise"].mean()), "bits": bits.round(2).tolist()}


class LightGBM(Peer):
    """LightGBM; options are its training parameters."""

    module = "lightgbm"
    objectives = QGBDT.objectives

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings)
        self.params = {
            "objective": self.objective,
            "num_class": settings.n_classes if settings.task == "multiclass" else 1,
            "num_leaves": settings.leaves,
            "learning_rate": settings.learning_rate,
            "max_bin": settings.max_bin,
            "min_data_in_leaf": settings.min_child_samples,
            "num_threads": settings.threads,
            "seed": settings.seed,
            "verbosity": -1,
            **options,
        }

    def estimator(self) -> Any:
        kind = getattr(self.library, f"LGBM{_kind(self.settings.task)}")
        # These two would otherwise count as given by the estimator's own names, too.
        params = {k: v for k, v in self.params.items() if k not in ("num_class", "num_threads")}
        rounds, threads = self.settings.rounds, self.settings.threads
        return kind(n_estimators=rounds, n_jobs=threads, **params)

    def fit(self, train: Part) -> tuple[float, float]:
        data = self.library.Dataset(
            train.X, train.y, weight=train.weight, group=train.group, params=self.params
        )
        _, binning = timed(data.construct)
        rounds = self.settings.rounds
        self.model, training = timed(self.library.train, self.params, data, num_boost_round=rounds)
        return binning, training

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        threads = self.settings.threads
        return np.asarray(self.model.predict(X, num_iteration=rounds, num_threads=threads))


class XGBoost(Peer):
    """XGBoost on histograms, leaf-wise or by depth (`grow_policy="depthwise"`, its default)."""

    module = "xgboost"
    objectives: ClassVar = {
        "binary": "binary:logistic",
        "multiclass": "multi:softprob",
        "regression": "reg:squarederror",
        "poisson": "count:poisson",
        "gamma": "reg:gamma",
        "tweedie": "reg:tweedie",
        "rank": "rank:ndcg",
    }

    def __init__(
        self, settings: Settings, grow_policy: str = "lossguide", device: str = "cpu"
    ) -> None:
        super().__init__(settings)
        leafwise = grow_policy == "lossguide"
        self.params = {
            "objective": self.objective,
            "tree_method": "hist",
            "device": device,
            "grow_policy": grow_policy,
            "max_leaves": settings.leaves if leafwise else 0,
            "max_depth": 0 if leafwise else _depth(settings.leaves),
            "max_bin": settings.max_bin,
            "learning_rate": settings.learning_rate,
            "reg_lambda": 0.0,
            "nthread": settings.threads,
            "seed": settings.seed,
        }
        if settings.task == "multiclass":
            self.params["num_class"] = settings.n_classes
        if settings.task == "regression":
            self.params["min_child_weight"] = settings.min_child_samples

    def estimator(self) -> Any:
        kind = getattr(self.library, f"XGB{_kind(self.settings.task)}")
        return kind(n_estimators=self.settings.rounds, **self.params)

    def fit(self, train: Part) -> tuple[float, float]:
        data, binning = timed(
            self.library.QuantileDMatrix,
            train.X,
            train.y,
            weight=train.weight,
            qid=_query_ids(train),
            max_bin=self.settings.max_bin,
            nthread=self.settings.threads,
        )
        rounds = self.settings.rounds
        self.model, training = timed(self.library.train, self.params, data, num_boost_round=rounds)
        return binning, training

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        return np.asarray(self.model.inplace_predict(X, iteration_range=(0, rounds or 0)))


class CatBoost(Peer):
    """CatBoost with symmetric trees, or leaf-wise ones (`grow_policy="Lossguide"`)."""

    module = "catboost"
    objectives: ClassVar = {
        "binary": "Logloss",
        "multiclass": "MultiClass",
        "regression": "RMSE",
        "poisson": "Poisson",
        "tweedie": "Tweedie:variance_power=1.5",
        "rank": "LambdaMart:metric=NDCG",
    }

    def __init__(
        self, settings: Settings, grow_policy: str = "SymmetricTree", task_type: str = "CPU"
    ) -> None:
        super().__init__(settings)
        if grow_policy == "Lossguide":
            tree = {
                "max_leaves": settings.leaves,
                "min_data_in_leaf": settings.min_child_samples,
                "depth": 16,  # the most CatBoost allows
            }
        else:
            tree = {"depth": min(_depth(settings.leaves), 16)}
        self.params = {
            "loss_function": self.objective,
            "task_type": task_type,
            "iterations": settings.rounds,
            "learning_rate": settings.learning_rate,
            "boosting_type": "Plain",
            "grow_policy": grow_policy,
            "bootstrap_type": "No",
            "random_strength": 0.0,
            "leaf_estimation_iterations": 1,
            "thread_count": settings.threads,
            "random_seed": settings.seed,
            "allow_writing_files": False,
            "verbose": False,
            **tree,
        }

    def estimator(self) -> Any:
        kind = getattr(self.library, f"CatBoost{_kind(self.settings.task)}")
        return kind(border_count=self.settings.max_bin - 1, **self.params)

    def fit(self, train: Part) -> tuple[float, float]:
        pool, binning = timed(self._binned, train)
        self.model = self.library.CatBoost(self.params)
        _, training = timed(self.model.fit, pool)
        return binning, training

    def _binned(self, train: Part) -> Any:
        pool = self.library.Pool(
            train.X,
            train.y,
            weight=train.weight,
            group_id=_query_ids(train),
            thread_count=self.settings.threads,
        )
        pool.quantize(border_count=self.settings.max_bin - 1)
        return pool

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        task, threads = self.settings.task, self.settings.threads
        kinds = {"binary": "Probability", "multiclass": "Probability"}
        kinds |= {"poisson": "Exponent", "tweedie": "Exponent"}
        kind = kinds.get(task, "RawFormulaVal")
        of_first = {"ntree_end": rounds or 0, "thread_count": threads}
        values = np.asarray(self.model.predict(X, kind, **of_first))
        return values[:, 1] if task == "binary" else values


class Sklearn(Peer):
    """scikit-learn's HistGradientBoosting."""

    module = "sklearn.ensemble"
    objectives: ClassVar = {
        "binary": "log_loss",
        "multiclass": "log_loss",
        "regression": "squared_error",
        "poisson": "poisson",
        "gamma": "gamma",
    }

    def estimator(self) -> Any:
        settings = self.settings
        return getattr(self.library, f"HistGradientBoosting{_kind(settings.task)}")(
            loss=self.objective,
            max_iter=settings.rounds,
            max_leaf_nodes=settings.leaves,
            learning_rate=settings.learning_rate,
            max_bins=settings.max_bin,
            min_samples_leaf=settings.min_child_samples,
            early_stopping=False,
            random_state=settings.seed,
        )

    def fit(self, train: Part) -> tuple[float, float]:
        self.model = self.estimator()
        binning = _time_binning(self.model)
        _, whole = self._in_threads(self.model.fit, train.X, train.y, sample_weight=train.weight)
        return sum(binning), whole - sum(binning)

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        if rounds is not None:
            return self._in_threads(self._stage, X, rounds)[0]
        return self._in_threads(_predict_estimator, self.model, self.settings.task, X)[0]

    def _stage(self, X: np.ndarray, rounds: int) -> np.ndarray:
        has_classes = self.settings.task in CLASS_TASKS
        stages = self.model.staged_predict_proba if has_classes else self.model.staged_predict
        values = np.asarray(next(islice(stages(X), rounds - 1, None)))
        return values[:, 1] if self.settings.task == "binary" else values

    def _in_threads(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> tuple[T, float]:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(self.settings.threads):
            return timed(function, *args, **kwargs)


class ThroughEstimator(Peer):
    """Any of them by way of its scikit-learn estimator: all of its time counts as training."""

    def __init__(self, native: Peer) -> None:
        self.native, self.module, self.settings = native, native.module, native.settings

    def estimator(self) -> Any:
        return self.native.estimator()

    def fit(self, train: Part) -> tuple[float, float]:
        self.model = self.estimator()
        return 0.0, timed(self.model.fit, train.X, train.y, sample_weight=train.weight)[1]

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        if rounds is not None:
            raise NotImplementedError("each library's estimator names it differently")
        return _predict_estimator(self.model, self.settings.task, X)


def timed(function: Callable[..., T], *args: Any, **kwargs: Any) -> tuple[T, float]:
    """What the call returns, and the seconds it took."""
    start = time.perf_counter()
    value = function(*args, **kwargs)
    return value, time.perf_counter() - start


def _predict_estimator(model: Any, task: str, X: np.ndarray, **options: Any) -> np.ndarray:
    if task not in ("binary", "multiclass"):
        return np.asarray(model.predict(X, **options))
    probability = np.asarray(model.predict_proba(X, **options))
    return probability[:, 1] if task == "binary" else probability


def _kind(task: str) -> str:
    return "Classifier" if task in CLASS_TASKS else "Regressor"


def _depth(leaves: int) -> int:
    """The depth at which a full tree has about so many leaves."""
    return max(round(math.log2(leaves)), 1)


def _query_ids(part: Part) -> np.ndarray | None:
    return None if part.group is None else np.repeat(np.arange(len(part.group)), part.group)


def _time_binning(estimator: Any) -> list[float]:
    """Collect the seconds scikit-learn spends in its private `_bin_data`, if it still has one."""
    seconds: list[float] = []
    if (original := getattr(estimator, "_bin_data", None)) is None:
        return seconds

    def bin_data(*args: Any, **kwargs: Any) -> Any:
        binned, elapsed = timed(original, *args, **kwargs)
        seconds.append(elapsed)
        return binned

    estimator._bin_data = bin_data
    return seconds


# The peers by name ------------------------------------------------------------------------------

GRAD_BITS = ("auto", 2, 3, 4, 5, 6, 7, 8, 16)


def qgbdt_name(bits: int | str, rounding: str = "stochastic", renew_leaves: bool = True) -> str:
    """The peer with these settings, as in "qgbdt" (defaults) or "qgbdt-3-nearest-norenew"."""
    chosen = "" if bits == "auto" else f"-{bits}"
    nearest = "" if rounding == "stochastic" else f"-{rounding}"
    return f"qgbdt{chosen}{nearest}{'' if renew_leaves else '-norenew'}"


def _all_peers() -> dict[str, tuple[type[Peer], dict[str, Any]]]:
    peers: dict[str, tuple[type[Peer], dict[str, Any]]] = {}
    for bits in GRAD_BITS:
        for rounding in ("stochastic", "nearest"):
            for renew in (True, False):
                options = {"grad_bits": bits, "rounding": rounding, "renew_leaves": renew}
                peers[qgbdt_name(bits, rounding, renew)] = (QGBDT, options)
    layouts = {"": {}, "-row": {"force_row_wise": True}, "-col": {"force_col_wise": True}}
    modes = {
        "": {},
        "-quant": {"use_quantized_grad": True},
        "-quant-renew": {"use_quantized_grad": True, "quant_train_renew_leaf": True},
    }
    for mode, quantized in modes.items():
        for layout, forced in layouts.items():
            peers[f"lightgbm{mode}{layout}"] = (LightGBM, {**quantized, **forced})
    peers["xgboost"] = (XGBoost, {})
    peers["xgboost-depthwise"] = (XGBoost, {"grow_policy": "depthwise"})
    peers["catboost"] = (CatBoost, {})
    peers["catboost-lossguide"] = (CatBoost, {"grow_policy": "Lossguide"})
    peers["sklearn"] = (Sklearn, {})
    peers["qgbdt-cuda"] = (QGBDT, {"device": "cuda"})
    peers["lightgbm-cuda"] = (LightGBM, {"device_type": "cuda"})
    peers["xgboost-cuda"] = (XGBoost, {"device": "cuda"})
    peers["catboost-cuda"] = (CatBoost, {"task_type": "GPU"})
    return peers


PEERS = _all_peers()

DEFAULT = (  # what speed is measured against: every library at its defaults and at its best
    "qgbdt",
    "lightgbm",
    "lightgbm-row",
    "lightgbm-col",
    "lightgbm-quant-row",
    "lightgbm-quant-col",
    "xgboost",
    "xgboost-depthwise",
    "catboost",
    "sklearn",
)


def make(name: str, settings: Settings) -> Peer:
    """The peer `name`, its library imported, ready to fit."""
    kind, options = PEERS[name]
    peer = kind(settings, **options)
    return ThroughEstimator(peer) if settings.warm_fits else peer


def is_ours(name: str) -> bool:
    return PEERS[name][0] is QGBDT


def installed(names: Sequence[str]) -> list[str]:
    """Those whose library is there; the others are named on stderr."""
    here = [name for name in names if is_installed(name)]
    for name in names:
        if name not in here:
            print(f"left out: {name} (not installed)", file=sys.stderr)
    return here


def is_installed(name: str) -> bool:
    """Whether the library of peer `name` can be imported."""
    return importlib.util.find_spec(PEERS[name][0].module.partition(".")[0]) is not None


def default_threads() -> int:
    """CPUs this process may use, container quota included."""
    import joblib

    return int(joblib.cpu_count())


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a child process: OpenMP and BLAS as wide as the libraries are told."""
    widths = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(widths, str(threads))}
