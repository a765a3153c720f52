"""Evaluation while training: which rows and metrics, when to stop, and who is told."""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from qgbdt import _core
from qgbdt.compiled import CompiledMetric
from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError, ParameterError
from qgbdt.matrices import native_matrix
from qgbdt.params import METRIC_ALIASES, CommonParams, is_int, is_real
from qgbdt.validation import Floats, Rows, check_range

LOGGER = logging.getLogger("qgbdt")
METRICS = _core.metrics()
OF_ONE_TARGET = ("r2", "auc", "average_precision")  # metrics that are no means of losses
DEFAULT_METRIC = {
    "regression": "l2",
    "l1": "l1",
    "huber": "huber",
    "fair": "fair",
    "quantile": "quantile",
    "mape": "mape",
    "cross_entropy": "cross_entropy",
    "poisson": "poisson",
    "gamma": "gamma",
    "tweedie": "tweedie",
    "aft": "aft_nloglik",
    "cox": "cox_nloglik",
    "binary": "binary_logloss",
    "multiclass": "multi_logloss",
    "multiclassova": "multi_logloss",
    "lambdarank": "ndcg",
    "rank_xendcg": "ndcg",
}


class Score(NamedTuple):
    """A metric of an evaluation set after an iteration; the names are LightGBM's."""

    dataset_name: str
    metric_name: str
    metric_value: float
    maximize: bool


@dataclass(frozen=True)
class Iteration:
    """What a callback is called with; the names are LightGBM's.

    Attributes
    ----------
    model : estimator
        The one that is being fitted, not yet fitted.
    params : dict
        Its parameters.
    iteration : int
        The iteration that has ended, from 0; those of init_model count.
    begin_iteration, end_iteration : int
        The first iteration of this fit, and one past the last.
    evaluation_result_list : list of Score
        Tuples (dataset_name, metric_name, metric_value, maximize): each metric of each set.
    """

    model: Any
    params: dict[str, Any]
    iteration: int
    begin_iteration: int
    end_iteration: int
    evaluation_result_list: list[Score]


@dataclass(frozen=True)
class GivenSet:
    """An evaluation set as it was given to fit."""

    name: str
    X: Any
    y: Any
    sample_weight: Any = None
    group: Any = None
    init_score: Any = None
    is_training: bool = False


@dataclass(frozen=True)
class EvaluationSet:
    """A checked evaluation set, of this worker's rows. Training fills raw_prediction."""

    name: str
    rows: Rows
    raw_prediction: Floats  # of shape (n_samples, n_outputs)
    is_training: bool

    @classmethod
    def of(cls, name: str, rows: Rows, n_outputs: int, is_training: bool = False) -> Self:
        """A set that has not been predicted."""
        return cls(name, rows, np.empty((len(rows.y), n_outputs)), is_training)

    @property
    def native(self) -> "_core.EvaluationSet":
        """What the trainer takes."""
        rows, X = self.rows, native_matrix(self.rows.X)
        return X, rows.targets, rows.sample_weight, rows.query_sizes, self.raw_prediction


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated: arguments of ``fit``, those of the training rows as given."""

    training: tuple[Any, Any]
    sample_weight: Any = None
    init_score: Any = None
    eval_set: Any = None
    eval_names: Sequence[str] | None = None
    eval_sample_weight: Sequence[Any] | None = None
    eval_group: Sequence[Any] | None = None
    eval_init_score: Sequence[Any] | None = None
    eval_metric: Any = None
    eval_at: Sequence[int] = (1, 2, 3, 4, 5)
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    group_val: Any = None
    groups: Any = None
    callbacks: Sequence[Callable[[Iteration], Any]] | None = None

    def sets(self) -> list[GivenSet]:
        """The evaluation sets, from either of their two forms."""
        lone = [self.X_val, self.y_val, self.sample_weight_val, self.group_val]
        listed = [self.eval_set, self.eval_names, self.eval_sample_weight, self.eval_group]
        listed.append(self.eval_init_score)
        if all(some is None for some in lone):
            return self._listed_sets()
        if any(some is not None for some in listed):
            raise DataError("Give either eval_set or X_val and y_val, not both.")
        if self.X_val is None or self.y_val is None:
            raise DataError("X_val and y_val are needed together.")
        return [GivenSet("valid_0", *lone)]

    def _listed_sets(self) -> list[GivenSet]:
        pairs = [self.eval_set] if isinstance(self.eval_set, tuple) else list(self.eval_set or [])
        for i, pair in enumerate(pairs):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise DataError(f"eval_set must hold pairs (X, y), but eval_set[{i}] is none.")
        columns = []
        for name, given in (
            ("eval_names", self.eval_names),
            ("eval_sample_weight", self.eval_sample_weight),
            ("eval_group", self.eval_group),
            ("eval_init_score", self.eval_init_score),
        ):
            if given is not None and len(given) != len(pairs):
                raise DataError(
                    f"{name} must have an entry for each set of eval_set, {len(pairs)}, got "
                    f"{len(given)}."
                )
            columns.append([None] * len(pairs) if given is None else list(given))
        sets = []
        for i, ((X, y), name, *others) in enumerate(zip(pairs, *columns, strict=True)):
            is_training = X is self.training[0] and y is self.training[1]
            default = "training" if is_training else f"valid_{i}"
            weight, group, init_score = others
            name = default if name is None else name
            sets.append(GivenSet(name, X, y, weight, group, init_score, is_training))
        names = [given.name for given in sets]
        if len(set(names)) < len(names):
            raise DataError(f"eval_names must differ from each other, got {names}.")
        return sets

    @property
    def compiled(self) -> list[CompiledMetric]:
        """The user's compiled metrics."""
        return [some for some in self._asked if isinstance(some, CompiledMetric)]

    @property
    def _asked(self) -> list[Any]:
        """The metrics, as they were given."""
        asked = self.eval_metric
        if asked is None:
            return []
        return list(asked) if isinstance(asked, (list, tuple)) else [asked]

    def names_and_functions(self) -> tuple[list[str], list[Callable[..., Any]]]:
        """The metrics' names and the user's functions, without the compiled ones."""
        asked = self.eval_metric
        listed = [some for some in self._asked if not isinstance(some, CompiledMetric)]
        names = [METRIC_ALIASES.get(some, some) for some in listed if isinstance(some, str)]
        functions = [some for some in listed if callable(some)]
        if len(names) + len(functions) < len(listed):
            raise ParameterError(
                f"eval_metric must be a name, a function or a list of these. Got {asked!r}."
            )
        return list(dict.fromkeys(names)), functions

    def check(self, estimator: CommonParams, workers: Communicator) -> None:
        """Check what needs no data."""
        sets = self.sets()
        _, functions = self.names_and_functions()
        if estimator.validation_fraction is not None and sets:
            raise ParameterError(
                "validation_fraction holds rows of X back for evaluation. With eval_set or X_val "
                "it must be None."
            )
        if estimator.validation_fraction is None:
            if estimator.early_stopping_rounds is not None and all(s.is_training for s in sets):
                raise ParameterError(
                    "early_stopping_rounds needs rows apart from those of training: pass eval_set "
                    "or X_val to fit, or set validation_fraction."
                )
            if self.eval_metric is not None and not sets:
                raise ParameterError(
                    "eval_metric needs rows to evaluate: pass eval_set or X_val to fit, or set "
                    "validation_fraction."
                )
        if hasattr(estimator.validation_fraction, "split") and not workers.is_alone:
            raise ParameterError(
                "A splitter as validation_fraction sees the rows of one worker only. Of several "
                "workers, use a fraction."
            )
        if self.groups is not None and not hasattr(estimator.validation_fraction, "split"):
            raise ParameterError("groups are for a splitter: set validation_fraction to one.")
        if functions and not workers.is_alone:
            raise ParameterError(
                "A function as eval_metric sees the rows of one worker only. Of several workers, "
                "use metrics by name."
            )
        if not all(callable(callback) for callback in self.callbacks or []):
            raise ParameterError(f"callbacks must be functions. Got {self.callbacks!r}.")
        for at in self.eval_at:
            if not is_int(at) or at < 1:
                raise ParameterError(f"eval_at must hold positive integers. Got {self.eval_at!r}.")

    def facts(self) -> dict[str, Any]:
        """What all workers must be told alike."""
        facts: dict[str, Any] = {"the number of evaluation sets": len(self.sets())}
        for i, given in enumerate(self.sets()):
            facts[f"the evaluation set {i}"] = {
                "name": given.name,
                "weights": given.sample_weight is not None,
                "queries": given.group is not None,
                "init_score": given.init_score is not None,
                "training": given.is_training,
            }
        facts["eval_metric"] = self.names_and_functions()[0]
        facts["the compiled metrics"] = [list(some.fields) for some in self.compiled]
        facts["eval_at"] = [int(at) for at in self.eval_at]
        return facts

    def metrics(self, objective: str, n_targets: int) -> list[tuple[str, int]]:
        """The native metrics, each with the k of those of queries, 0 for others."""
        names, functions = self.names_and_functions()
        if not names and not functions and not self.compiled:
            names = [DEFAULT_METRIC[objective]]
        (problem,) = METRICS[DEFAULT_METRIC[objective]][0]
        known = [name for name, (problems, _) in METRICS.items() if problem in problems]
        for name in names:
            if name not in known:
                raise ParameterError(
                    f"eval_metric has no metric {name!r} for objective={objective!r}. It has "
                    f"{', '.join(known)}."
                )
            if n_targets > 1 and name in OF_ONE_TARGET:
                raise ParameterError(
                    f"eval_metric={name!r} is of one target, but y has {n_targets} columns. Use a "
                    "mean of losses, or a function."
                )
        ats = [int(at) for at in dict.fromkeys(self.eval_at)] if problem == "ranking" else [0]
        return [(name, at) for name in names for at in ats]


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Add the evaluation set's name to errors."""
    try:
        yield
    except ValueError as error:
        error.add_note(f"That is of the evaluation set {name!r}.")
        raise


def check_n_targets(evaluated: EvaluationSet, n_targets: int) -> None:
    """Raise DataError unless y has as many columns as that of training."""
    y = evaluated.rows.y
    its = 1 if y.ndim == 1 else y.shape[1]
    if its != n_targets:
        with told_of(evaluated.name):
            columns = "1 column" if its == 1 else f"{its} columns"
            raise DataError(f"y has {columns}, but {n_targets} in training.")


def check_set(
    evaluated: EvaluationSet, metrics: Sequence[tuple[str, int]], workers: Communicator
) -> None:
    """Raise DataError unless all workers' rows together have these metrics."""
    name, y, weight = evaluated.name, evaluated.rows.y, evaluated.rows.sample_weight
    weighed = y if weight is None else y[weight > 0]
    counts = workers.sum(np.array([len(y), (weighed > 0).sum(), (weighed == 0).sum()]))
    if counts[0] == 0:
        raise DataError(f"The evaluation set {name!r} has no rows.")
    for metric, _ in metrics:
        check_range(y, metric.removesuffix("_deviance"), f"eval_metric={metric!r}")
        if metric in ("cox_nloglik", "c_index") and not counts[1]:
            raise DataError(
                f"eval_metric={metric!r} needs an event, y > 0, but all rows of the evaluation set "
                f"{name!r} are censored."
            )
        if metric in ("auc", "average_precision") and not counts[1:].all():
            raise DataError(
                f"eval_metric={metric!r} needs rows of both classes, but the evaluation set "
                f"{name!r} has one only."
            )


class EarlyStopping:
    """LightGBM's rule: stop when a metric of a set has not improved for so many iterations.

    The best iteration is then that metric's; of a fit that ends otherwise, the first one's.
    """

    def __init__(self, rounds: int, min_delta: float, *, first_metric_only: bool) -> None:
        self.rounds, self.min_delta = rounds, min_delta
        self.first_metric_only = first_metric_only
        self.best_iteration = 0
        self._best: dict[tuple[str, str], tuple[float, int]] = {}

    def stops(self, n_iterations: int, scores: Sequence[Score]) -> bool:
        """Take the scores of an iteration; those of the training rows are not among them."""
        for name, metric, value, maximize in scores:
            if self.first_metric_only and metric != scores[0].metric_name:
                continue
            best, _ = self._best.get((name, metric), (-np.inf if maximize else np.inf, 0))
            improves = value > best + self.min_delta if maximize else value < best - self.min_delta
            if (name, metric) not in self._best or improves:
                self._best[name, metric] = (value, n_iterations)
        found = [iteration for _, iteration in self._best.values()]
        exhausted = [i for i in found if n_iterations - i >= self.rounds]
        self.best_iteration = (exhausted or found)[0]
        return bool(exhausted)


class Watch:
    """Sees each iteration of a fit: keeps the scores, tells others, says whether to go on."""

    def __init__(
        self,
        estimator: CommonParams,
        metrics: list[tuple[str, int]],
        sets: Sequence[EvaluationSet],
        request: EvaluationRequest,
        callbacks: Sequence[Callable[[Iteration], Any]],
        workers: Communicator,
        iterations: range,
        link: Callable[[Floats], Floats],
    ) -> None:
        self.sets = sets
        self.metrics = metrics if sets else []
        self.compiled = request.compiled if sets else []
        self._link = link
        self.history: dict[str, dict[str, list[float]]] = {some.name: {} for some in sets}
        self.n_iterations = iterations.start
        self._estimator, self._workers = estimator, workers
        self._iterations = iterations
        self._functions = request.names_and_functions()[1]
        self._callbacks = callbacks
        self._any_may_stop = workers.any(len(callbacks) > 0)
        self._names: list[tuple[str, str]] = []
        self._stopping: EarlyStopping | None = None
        if estimator.early_stopping_rounds is not None:
            self._stopping = EarlyStopping(
                estimator.early_stopping_rounds,
                estimator.early_stopping_min_delta,
                first_metric_only=estimator.first_metric_only,
            )

    @property
    def is_needed(self) -> bool:
        """Whether anyone wants to know of iterations."""
        return bool(self.sets) or self._any_may_stop or self._estimator.verbose > 0

    @property
    def best_iteration(self) -> int | None:
        """Iterations of the best model; None without early stopping."""
        return self._stopping.best_iteration if self._stopping else None

    @property
    def best_score(self) -> dict[str, dict[str, float]]:
        """The scores of the best model, or of the last one."""
        at = (self.best_iteration or self.n_iterations) - self._iterations.start - 1
        return {
            name: {metric: values[at] for metric, values in metrics.items()}
            for name, metrics in self.history.items()
        }

    def goes_on(self, values: Floats) -> bool:
        """Take an iteration's native metrics, [set][metric]; whether training goes on."""
        self.n_iterations += 1
        scores = self._scores(values)
        names = [(score.dataset_name, score.metric_name) for score in scores]
        are_distinct = len(set(names)) == len(names)
        has_enough = bool(names) or self._stopping is None
        if names != (self._names or names) or not are_distinct or not has_enough:
            raise DataError(
                f"eval_metric must give the same metrics each time, each once. Got {names}."
            )
        self._names = names
        for name, metric, value, _ in scores:
            self.history[name].setdefault(metric, []).append(value)
        self._log(scores)
        stop = self._any_may_stop and self._workers.any(self._tell(scores))
        if self._stopping:
            training = {some.name for some in self.sets if some.is_training}
            watched = [score for score in scores if score.dataset_name not in training]
            stop |= self._stopping.stops(self.n_iterations, watched)
        return not stop

    def _scores(self, values: Floats) -> list[Score]:
        scores = []
        shown = [
            (f"{metric}@{at}" if at else metric, METRICS[metric][1]) for metric, at in self.metrics
        ]
        shown += [(metric.name, metric.is_higher_better) for metric in self.compiled]
        of_sets = values.reshape(len(self.sets), len(shown)).tolist()
        for evaluated, own in zip(self.sets, of_sets, strict=True):
            for (name, maximize), value in zip(shown, own, strict=True):
                scores.append(Score(evaluated.name, name, value, maximize))
            scores += self._of_functions(evaluated)
        return scores

    def _of_functions(self, evaluated: EvaluationSet) -> list[Score]:
        if not self._functions:
            return []
        prediction = self._link(evaluated.raw_prediction)
        prediction = prediction[:, 0] if prediction.shape[1] == 1 else prediction
        rows = evaluated.rows
        given = [rows.y, prediction, rows.sample_weight, rows.query_sizes]
        scores = []
        for function in self._functions:
            returned = function(*given[: len(inspect.signature(function).parameters)])
            for one in returned if isinstance(returned, list) else [returned]:
                scores.append(Score(evaluated.name, *checked_result(function, one)))
        return scores

    def _tell(self, scores: list[Score]) -> bool:
        """Call the callbacks, all of them; whether one wants to stop."""
        state = Iteration(
            self._estimator,
            {name: getattr(self._estimator, name) for name in self._estimator._params},
            self.n_iterations - 1,
            self._iterations.start,
            self._iterations.stop,
            scores,
        )
        return any([bool(callback(state)) for callback in self._callbacks])

    def _log(self, scores: Sequence[Score]) -> None:
        every = self._estimator.verbose
        if every < 1 or self._workers.rank > 0 or self.n_iterations % every:
            return
        values = (f"{s.dataset_name}'s {s.metric_name}: {s.metric_value:g}" for s in scores)
        LOGGER.info("\t".join([f"[{self.n_iterations}]", *values]))


def checked_result(function: Callable[..., Any], result: Any) -> tuple[str, float, bool]:
    """What a metric of the user's returned."""
    if isinstance(result, tuple) and len(result) == 3:
        name, value, maximize = result
        if isinstance(name, str) and is_real(value):
            return name, float(value), bool(maximize)
    raise DataError(
        f"The eval_metric {getattr(function, '__name__', function)} must return (name, value, "
        f"is_higher_better) or a list of such tuples. Got {result!r}."
    )
