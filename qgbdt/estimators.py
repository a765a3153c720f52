"""The scikit-learn estimators: they check and encode the data, the native module does the rest."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

import functools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_classifier
from sklearn.utils import check_array, check_X_y
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from qgbdt import _core
from qgbdt.booster import Booster
from qgbdt.categories import Categories, find_categories
from qgbdt.compiled import CompiledObjective
from qgbdt.constraints import constraint_params
from qgbdt.continuation import Continuation, facts_of_data, started
from qgbdt.custom import CustomObjective, PythonObjective
from qgbdt.devices import OR_CPU, open_device
from qgbdt.distributed.communicator import ALONE, Communicator
from qgbdt.docstrings import documented
from qgbdt.errors import DataError, DeviceError, ParameterError
from qgbdt.evaluation import EvaluationRequest, EvaluationSet, Iteration, Watch, check_set, told_of
from qgbdt.holdout import blocks_of, first_split, held_back
from qgbdt.matrices import is_sparse, native_matrix
from qgbdt.params import (
    OBJECTIVE_ALIASES,
    RANKER_OBJECTIVES,
    ClassifierParams,
    CommonParams,
    RankerParams,
    RegressorParams,
    check_names,
    trainer_params,
)
from qgbdt.sklearn_callbacks import CallbackSupportMixin, FitCallbacks, with_callbacks
from qgbdt.tables import is_frame
from qgbdt.threads import resolve_n_jobs
from qgbdt.validation import (
    Floats,
    Rows,
    check_eval_group,
    check_init_score,
    check_query_sizes,
    check_regression_target,
    check_relevance,
    check_row_blocks,
    check_sample_weight,
    encode_classes,
    label_gains,
    numbers_of_classes,
    weighted,
)
from qgbdt.versions import package_version

__all__ = ["QGBDTClassifier", "QGBDTRanker", "QGBDTRegressor"]

# NaN is a missing value and infinities are ordered like all numbers. Any memory order will do.
CHECK_X = {
    "accept_sparse": "csc",
    "dtype": [np.float64, np.float32],
    "ensure_all_finite": False,
}


EVALUATION_PARAMS = (
    "early_stopping_rounds",
    "early_stopping_min_delta",
    "first_metric_only",
    "validation_fraction",
)
CLASS_WEIGHT_PARAMS = ("class_weight", "is_unbalance", "scale_pos_weight")
"""Parameters of which the trainer does not know, but on which workers must agree."""


def check_X(workers: Communicator) -> dict[str, Any]:
    """How scikit-learn checks X in fit: a worker may have no rows."""
    return CHECK_X | {"ensure_min_samples": 1 if workers.is_alone else 0}


P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound="QGBDTEstimator")


def all_or_nothing(
    fit: Callable[Concatenate[E, P], None],
) -> Callable[Concatenate[E, P], E]:
    """Make `fit` work on a shallow copy, whose state the estimator takes over at the end.

    So a fit that fails or is interrupted leaves the estimator as it was. Other workers are told.
    """

    @functools.wraps(fit)
    def fit_all_or_nothing(self: E, /, *args: P.args, **kwargs: P.kwargs) -> E:
        scratch = object.__new__(type(self))
        scratch.__dict__ = dict(vars(self))
        try:
            with_callbacks(fit)(scratch, *args, **kwargs)
        except BaseException as error:
            if isinstance(workers := kwargs.get("communicator"), Communicator):
                workers.leave(error)
            raise
        self.__dict__ = scratch.__dict__
        return self

    return fit_all_or_nothing


class QGBDTEstimator(CommonParams, CallbackSupportMixin, BaseEstimator):
    """What the estimators share."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters; an unknown one is an error that names the nearest known one."""
        check_names(type(self).__name__, params, self.get_params(deep=False))
        super().set_params(**params)
        return self

    @property
    def feature_importances_(self) -> NDArray[np.int64] | NDArray[np.float64]:
        """Splits per feature, or their gains if ``importance_type='gain'``; shape (n_features,)."""
        check_is_fitted(self)
        return self.booster_.feature_importance(self.importance_type)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        asked = self.categorical_features
        tags.input_tags.categorical = asked is not None
        tags.input_tags.string = asked is not None and not isinstance(asked, str)
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Arrays and plain Python values only: the booster as the bytes of its model file."""
        state = dict(super().__getstate__())
        if "booster_" in state:
            state["booster_"] = state["booster_"].to_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "booster_" in state:
            state = {**state, "booster_": Booster.from_bytes(state["booster_"])}
        super().__setstate__(state)

    def _start(
        self, communicator: Communicator | None, sample_weight: Any, request: EvaluationRequest
    ) -> Communicator:
        """Check what needs no data, and that workers mean the same fit."""
        self._check_params()
        workers = communicator or ALONE
        request.check(self, workers)
        workers.agree(
            {
                "the version of qgbdt": package_version("qgbdt"),
                "the estimator": type(self).__name__,
                "sample_weight": "None" if sample_weight is None else "given",
                **{name: str(getattr(self, name, None)) for name in CLASS_WEIGHT_PARAMS},
                "init_score": "None" if request.init_score is None else "given",
                "unseen_category": self.unseen_category,
                **{name: getattr(self, name) for name in EVALUATION_PARAMS},
                **request.facts(),
            }
        )
        return workers

    def _check_rows(
        self,
        X: Any,
        y: Any,
        workers: Communicator,
        continuation: Continuation,
        **checks: Any,
    ) -> tuple[NDArray[Any], NDArray[Any], Categories]:
        """X as numbers, y, and the categories that numbers in X stand for."""
        if not (self.categorical_features is None or isinstance(self.categorical_features, str)):
            X = array_of_values(self, X, workers)
        categories = find_categories(
            X,
            self.categorical_features,
            max_bin=self.max_bin,
            refuses_unseen=self.unseen_category == "error",
            known=continuation.categories,
            workers=workers,
        )
        return *self._checked(X, y, workers, categories, reset=True, **checks), categories

    def _checked(
        self,
        X: Any,
        y: Any,
        workers: Communicator,
        categories: Categories,
        *,
        reset: bool,
        **checks: Any,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """X as numbers, and y, as scikit-learn checks them."""
        checks |= check_X(workers)
        if not categories:
            checked = validate_data(self, X, y, reset=reset, **checks)
        else:
            X = array_of_values(self, X, workers)
            validate_data(self, X, reset=reset, skip_check_array=True)  # names, number of features
            checked = check_X_y(categories.encode(X), y, estimator=self, **checks)
        return checked[0], checked[1]

    def _train(
        self,
        X: NDArray[Any],
        y: Floats,
        sample_weight: Floats | None,
        *,
        objective: str,
        workers: Communicator,
        row_blocks: Sequence[tuple[int, int]] | None,
        categories: Categories,
        continuation: Continuation,
        request: EvaluationRequest,
        check_target: Callable[[NDArray[Any], Floats | None], Floats],
        n_outputs: int = 1,
        query_sizes: NDArray[np.int64] | None = None,
        label_gain: Floats | None = None,
        custom: CustomObjective | None = None,
    ) -> None:
        """Bin and train on checked data, and set the fitted attributes that all estimators have.

        With an objective of the user's, `objective` is the built-in one of the same targets.
        """
        like = objective
        fields = None if custom is None else custom.fields
        objective = "custom" if custom else like
        device = open_device(self.device)
        if device is not None and custom:
            raise DeviceError(
                f"device={self.device!r} does not run objectives that are functions. Use a "
                f"built-in one, {OR_CPU}"
            )
        if device is not None and is_sparse(X):
            raise DeviceError(f"device={self.device!r} needs dense X. Use X.toarray(), {OR_CPU}")
        if device is not None and categories:
            raise DeviceError(
                f"device={self.device!r} does not train on categorical features. Use numbers and "
                f"categorical_features=None, {OR_CPU}"
            )
        of_single_rows = custom.of_single_rows(n_outputs) if custom else 0
        losses = [some.of_single_rows(n_outputs, query_sizes) for some in request.compiled]
        n_threads = resolve_n_jobs(self.n_jobs, type(self).__name__)
        params = trainer_params(self) | {
            "objective": objective,
            "custom": fields,
            "n_outputs": n_outputs,
            "seed": draw_seed(self.random_state),
            "label_gain": label_gains(label_gain),
        }
        blocks = check_row_blocks(row_blocks, X.shape[0]) or [(workers.rank, X.shape[0])]
        names = self._feature_names(X)
        params |= constraint_params(
            self.monotone_constraints, self.interaction_constraints, names, like
        )
        check_not_monotone(categories, params["monotone_constraints"], names)
        initial = continuation.initial(objective, n_outputs, names, categories, fields)
        init_score = check_init_score(request.init_score, X.shape[0], n_outputs)
        rows = Rows(X, y, sample_weight, query_sizes, init_score)
        sets = self._evaluation_sets(request, like, n_outputs, check_target, workers, categories)
        if self.validation_fraction is not None:
            if hasattr(self.validation_fraction, "split"):
                kept, held = first_split(self.validation_fraction, rows, request.groups)
            else:
                strata = y.astype(np.int64) if is_classifier(self) else np.zeros(len(y), np.int64)
                seed, fraction = params["seed"], self.validation_fraction
                held = held_back(rows, strata, fraction, seed, blocks, workers)
                kept = ~held
            sets = [EvaluationSet.of("valid_0", rows.where(held), n_outputs)]
            blocks, rows = blocks_of(kept, blocks), rows.where(kept)
        for some in sets:
            check_set(some, request.metrics(like), workers)
        facts = {
            **{name: np.asarray(value).tolist() for name, value in params.items()},
            "max_bin": self.max_bin,
            "the dtype of X": str(X.dtype),
            "n_features": len(names),
            **{f"the name of feature {i}": name for i, name in enumerate(names)},
            **categories.facts,
            "init_model": None if initial is None else zlib.crc32(initial.to_bytes()),
        }
        workers.agree(facts)
        start = perf_counter()
        matrix = _core.BinnedMatrix(
            native_matrix(rows.X),
            self.max_bin,
            n_threads,
            workers.native,
            blocks,
            categories.numbers,
        )
        binned = perf_counter()
        if workers.any(continuation.checkpoint_dir is not None):
            facts |= facts_of_data(matrix, rows, workers)
            facts |= {"the version of qgbdt": package_version("qgbdt")}
        with started(continuation, initial, facts, workers) as begin:
            n_initial = initial.n_trees // n_outputs if initial else 0
            callbacks, told, on_iteration = list(request.callbacks or []), None, begin.on_iteration
            if hasattr(self, "_skl_callbacks"):
                told = FitCallbacks(self, request.training, request.sample_weight, begin)
                callbacks.append(told.after_iteration)
                on_iteration = told.on_iteration
            link = functools.partial(_core.predictions, objective, custom=fields)
            watch = Watch(self, like, sets, request, callbacks, workers, n_initial, link)
            model, cost, quantization, profile = _core.train(
                matrix,
                rows.y,
                rows.sample_weight,
                rows.query_sizes,
                names,
                params | {"n_estimators": self.n_estimators - begin.n_iterations_done},
                n_threads,
                workers.native,
                begin.model,
                begin.raw_prediction(rows, n_threads),
                on_iteration,
                begin.n_iterations_done,
                [some.native for some in sets],
                watch.metrics,
                watch.goes_on if watch.is_needed else None,
                device,
                categories.values,
                categories.refuses_unseen,
                custom.of_all_rows(rows, n_outputs) if custom else None,
                of_single_rows,
                [some.rows.init_score for some in sets],
                losses if sets else [],
            )
        if watch.best_iteration is not None:
            model = model.iterations(0, watch.best_iteration)
        self.fit_profile_ = {
            "binning_seconds": binned - start,
            "training_seconds": perf_counter() - binned,
            **cost,
        }
        self.quantization_report_ = {
            name: values.reshape(-1, n_outputs) for name, values in quantization.items()
        }
        self.worker_profiles_ = workers.gather_arrays(profile)
        self.objective_ = objective
        self.booster_ = Booster(model)
        self.n_iter_ = self.n_estimators_ = self.booster_.n_iterations
        self.best_iteration_ = watch.best_iteration
        self.best_score_, self.evals_result_ = watch.best_score, watch.history
        if told:
            told.end()

    def _evaluation_sets(
        self,
        request: EvaluationRequest,
        objective: str,
        n_outputs: int,
        check_target: Callable[[NDArray[Any], Floats | None], Floats],
        workers: Communicator,
        categories: Categories,
    ) -> list[EvaluationSet]:
        """The evaluation sets that were given to fit, checked as the rows of training are."""
        sets = []
        for given in request.sets():
            with told_of(given.name):
                X, y = self._checked(given.X, given.y, workers, categories, reset=False)
                n = X.shape[0]
                weight = check_sample_weight(given.sample_weight, n, workers=workers)
                is_ranking = objective in RANKER_OBJECTIVES
                sizes = check_eval_group(given.group, n) if is_ranking else None
                init_score = check_init_score(given.init_score, n, n_outputs)
                rows = Rows(X, check_target(y, weight), weight, sizes, init_score)
            sets.append(EvaluationSet.of(given.name, rows, n_outputs, given.is_training))
        return sets

    def _feature_names(self, X: NDArray[Any]) -> list[str]:
        """The names of the columns; if they have none, those that LightGBM invents."""
        if hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        return [f"Column_{i}" for i in range(X.shape[1])]

    @documented
    def apply(
        self, X: Any, start_iteration: int = 0, num_iteration: int | None = None
    ) -> NDArray[np.int32]:
        """Find the leaf of each row in each tree.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.
        {iterations}

        Returns
        -------
        ndarray of shape (n_samples, n_trees)
            The leaves of a tree are numbered from 0.
        """
        return self._ask(Booster.apply, X, start_iteration, num_iteration)

    def _predict(
        self, X: Any, start_iteration: int, num_iteration: int | None, *, raw_score: bool
    ) -> Floats:
        """The booster's predictions of checked data."""
        return self._ask(Booster.predict, X, start_iteration, num_iteration, raw_score=raw_score)

    def _explanation(
        self,
        X: Any,
        start_iteration: int,
        num_iteration: int | None,
        pred_leaf: bool,
        pred_contrib: bool,
    ) -> NDArray[Any] | None:
        """What predict gives instead of predictions, if anything."""
        if pred_leaf and pred_contrib:
            raise ParameterError("predict gives pred_leaf or pred_contrib, not both.")
        if pred_leaf:
            return self.apply(X, start_iteration, num_iteration)
        if pred_contrib:
            return self._ask(Booster.predict_contrib, X, start_iteration, num_iteration)
        return None

    def _ask(
        self,
        question: Callable[..., T],
        X: Any,
        start_iteration: int,
        num_iteration: int | None,
        **options: Any,
    ) -> T:
        """What the booster says of checked data."""
        rows = self._to_predict(X)
        return question(
            self.booster_,
            rows,
            start_iteration=start_iteration,
            num_iteration=num_iteration,
            n_jobs=self.n_jobs,
            **options,
        )

    def _stages(self, X: Any, *, raw_score: bool) -> Iterator[Floats]:
        """The booster's predictions of checked data, after each iteration."""
        rows = self._to_predict(X)
        return self.booster_.staged_predict(rows, raw_score=raw_score, n_jobs=self.n_jobs)

    def _to_predict(self, X: Any) -> Any:
        """What the booster is asked about, as scikit-learn checks it."""
        check_is_fitted(self)
        if not self.booster_._categories:
            return validate_data(self, X, reset=False, **CHECK_X)
        values = array_of_values(self, X, ALONE)
        return validate_data(self, values, reset=False, skip_check_array=True)


@documented
class QGBDTClassifier(ClassifierMixin, ClassifierParams, QGBDTEstimator):
    """Gradient boosted decision trees on quantized gradients, for classification.

    The model depends on the data, the parameters and the seed alone: not on the number of
    threads, nor on the machine.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.
    n_classes_ : int
        The number of classes.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from qgbdt import QGBDTClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = QGBDTClassifier(n_estimators=20).fit(X, y)
    >>> classifier.predict(X[::60])
    array([0, 1, 2])
    """

    @documented
    @all_or_nothing
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        init_score: Any = None,
        eval_set: Any = None,
        eval_names: Sequence[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_init_score: Sequence[Any] | None = None,
        eval_metric: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        callbacks: Sequence[Callable[[Iteration], Any]] | None = None,
        init_model: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        communicator: Communicator | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Train on labelled rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value, infinities are legal.
        y : array-like of shape (n_samples,)
            Class labels, of at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A row of weight zero still counts in min_child_samples.
        {init_score}
        {evaluation}
        {continuation}
        {workers}

        Returns
        -------
        self : QGBDTClassifier
        """
        request = EvaluationRequest(
            training=(X, y),
            sample_weight=sample_weight,
            init_score=init_score,
            eval_set=eval_set,
            eval_names=eval_names,
            eval_sample_weight=eval_sample_weight,
            eval_init_score=eval_init_score,
            eval_metric=eval_metric,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            groups=groups,
            callbacks=callbacks,
        )
        workers = self._start(communicator, sample_weight, request)
        continuation = Continuation(init_model, checkpoint_dir, resume)
        X, y, categories = self._check_rows(X, y, workers, continuation)
        self.classes_, y_encoded = encode_classes(y, workers)
        self.n_classes_ = len(self.classes_)
        objective = self._resolve_objective()
        self._train(
            X,
            y_encoded,
            self._class_sample_weight(sample_weight, y_encoded, workers),
            objective=objective,
            workers=workers,
            custom=custom_objective(self.objective),
            row_blocks=row_blocks,
            categories=categories,
            continuation=continuation,
            request=request,
            check_target=lambda y, _: numbers_of_classes(y, self.classes_),
            n_outputs=1 if objective == "binary" else self.n_classes_,
        )

    @documented
    def predict(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
    ) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        raw_score : bool, default=False
            Whether to return `decision_function` instead.
        {iterations}
        {explanations}

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels, of `classes_`.
        """
        given = self._explanation(X, start_iteration, num_iteration, pred_leaf, pred_contrib)
        if given is not None:
            return given
        decision = self.decision_function(X, start_iteration, num_iteration)
        return decision if raw_score else self._labels(decision)

    def staged_predict(self, X: Any) -> Iterator[NDArray[Any]]:
        """Predict the class of each row with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.

        Returns
        -------
        iterator of ndarray of shape (n_samples,)
            The results of `predict` with ``num_iteration`` of 1, 2, ...
        """
        return map(self._labels, self.staged_decision_function(X))

    def _labels(self, decision: Floats) -> NDArray[Any]:
        index = decision > 0 if decision.ndim == 1 else decision.argmax(axis=1)
        return self.classes_[index.astype(np.intp)]

    @documented
    def decision_function(
        self, X: Any, start_iteration: int = 0, num_iteration: int | None = None
    ) -> Floats:
        """The raw scores of each row, in link space.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        {iterations}

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the log-odds of the second one, otherwise a score per class.
        """
        return decision_of(self._predict(X, start_iteration, num_iteration, raw_score=True))

    def staged_decision_function(self, X: Any) -> Iterator[Floats]:
        """Find the raw scores with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.

        Returns
        -------
        iterator of ndarray of shape (n_samples,) or (n_samples, n_classes)
            The results of `decision_function` with ``num_iteration`` of 1, 2, ...
        """
        return map(decision_of, self._stages(X, raw_score=True))

    @documented
    def predict_proba(
        self, X: Any, start_iteration: int = 0, num_iteration: int | None = None
    ) -> Floats:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        {iterations}

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, the columns in the order of `classes_`.
        """
        self._check_probabilities()
        return of_each_class(self._predict(X, start_iteration, num_iteration, raw_score=False))

    def staged_predict_proba(self, X: Any) -> Iterator[Floats]:
        """Predict probabilities with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.

        Returns
        -------
        iterator of ndarray of shape (n_samples, n_classes)
            The results of `predict_proba` with ``num_iteration`` of 1, 2, ...
        """
        self._check_probabilities()
        return map(of_each_class, self._stages(X, raw_score=False))

    def _check_probabilities(self) -> None:
        check_is_fitted(self)
        custom = self.booster_.custom
        if custom is not None and custom.link not in ("logistic", "softmax"):
            raise ParameterError(
                f"The objective {custom.name} gives no probabilities: its link is {custom.link!r}. "
                "Use decision_function, or qgbdt.objective with link='logistic'."
            )

    def _resolve_objective(self) -> str:
        if self.n_classes_ < 2:
            got = f"one class: {self.classes_[0]}" if self.n_classes_ else "no rows"
            raise DataError(f"QGBDTClassifier needs at least two classes, got {got}.")
        objective = named_objective(self.objective)
        if objective == "binary" and self.n_classes_ > 2:
            raise DataError(
                f"objective='binary' needs y of two classes, got {self.n_classes_}. Use "
                "objective='multiclass' or None."
            )
        return objective or ("binary" if self.n_classes_ == 2 else "multiclass")

    def _class_sample_weight(
        self, sample_weight: Any, y_encoded: Floats, workers: Communicator
    ) -> Floats | None:
        """The weight of each row times that of its class."""
        weight = check_sample_weight(sample_weight, len(y_encoded), workers=workers)
        self._check_class_weight_params()
        numbers = y_encoded.astype(np.intp)
        if self.is_unbalance:
            counts = workers.sum(np.bincount(numbers, minlength=2))
            class_weight = counts.max() / counts
        elif self.scale_pos_weight != 1:
            class_weight = np.array([1.0, self.scale_pos_weight])
        elif self.class_weight is None:
            return weight
        else:
            class_weight = self._given_class_weight(numbers, workers)
        product = weighted(class_weight[numbers], weight)
        name = "sample_weight times class_weight"
        return check_sample_weight(product, len(numbers), name, workers)

    def _check_class_weight_params(self) -> None:
        asked = [self.class_weight is not None, self.is_unbalance, self.scale_pos_weight != 1]
        if sum(asked) > 1:
            raise ParameterError(
                "class_weight, is_unbalance and scale_pos_weight exclude each other. Use one."
            )
        if any(asked[1:]) and self.n_classes_ != 2:
            name = "is_unbalance" if self.is_unbalance else "scale_pos_weight"
            raise ParameterError(
                f"{name} is for two classes, got {self.n_classes_}. Use class_weight."
            )

    def _given_class_weight(self, numbers: NDArray[np.intp], workers: Communicator) -> Floats:
        if self.class_weight == "balanced":  # in inverse proportion to the rows of all workers
            counts = workers.sum(np.bincount(numbers, minlength=self.n_classes_))
            return np.asarray(counts.sum() / (self.n_classes_ * counts))
        return np.asarray(
            compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        )


@documented
class QGBDTRegressor(RegressorMixin, RegressorParams, QGBDTEstimator):
    """Gradient boosted decision trees on quantized gradients, for regression.

    The model depends on the data, the parameters and the seed alone: not on the number of
    threads, nor on the machine.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from qgbdt import QGBDTRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> QGBDTRegressor(n_estimators=20).fit(X, y).score(X, y) > 0.6
    True
    """

    @documented
    @all_or_nothing
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        init_score: Any = None,
        eval_set: Any = None,
        eval_names: Sequence[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_init_score: Sequence[Any] | None = None,
        eval_metric: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        callbacks: Sequence[Callable[[Iteration], Any]] | None = None,
        init_model: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        communicator: Communicator | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Train on rows with target values.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value, infinities are legal.
        y : array-like of shape (n_samples,)
            Target values, in the range of the objective.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A row of weight zero still counts in min_child_samples.
        {init_score}
        {evaluation}
        {continuation}
        {workers}

        Returns
        -------
        self : QGBDTRegressor
        """
        request = EvaluationRequest(
            training=(X, y),
            sample_weight=sample_weight,
            init_score=init_score,
            eval_set=eval_set,
            eval_names=eval_names,
            eval_sample_weight=eval_sample_weight,
            eval_init_score=eval_init_score,
            eval_metric=eval_metric,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            groups=groups,
            callbacks=callbacks,
        )
        workers = self._start(communicator, sample_weight, request)
        objective = self._resolve_objective()
        continuation = Continuation(init_model, checkpoint_dir, resume)
        X, y, categories = self._check_rows(X, y, workers, continuation, y_numeric=True)
        weight = check_sample_weight(sample_weight, X.shape[0], workers=workers)
        y = check_regression_target(y, weight, objective)
        self._train(
            X,
            y,
            weight,
            objective=objective,
            workers=workers,
            custom=custom_objective(self.objective),
            row_blocks=row_blocks,
            categories=categories,
            continuation=continuation,
            request=request,
            check_target=lambda y, weight: check_regression_target(y, weight, objective),
        )

    def _resolve_objective(self) -> str:
        objective = named_objective(self.objective) or "regression"
        if objective == "quantile" and self.alpha >= 1:
            raise ParameterError(
                f"objective='quantile' needs an alpha below 1, the quantile. Got {self.alpha}."
            )
        return objective

    @documented
    def predict(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
    ) -> Floats:
        """Predict the target of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        raw_score : bool, default=False
            Whether to stay in link space: the logarithm of the prediction, for the objectives
            that model it.
        {iterations}
        {explanations}

        Returns
        -------
        ndarray of shape (n_samples,)
            Target values.
        """
        given = self._explanation(X, start_iteration, num_iteration, pred_leaf, pred_contrib)
        if given is not None:
            return given
        return self._predict(X, start_iteration, num_iteration, raw_score=raw_score)

    def staged_predict(self, X: Any) -> Iterator[Floats]:
        """Predict with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.

        Returns
        -------
        iterator of ndarray of shape (n_samples,)
            The results of `predict` with ``num_iteration`` of 1, 2, ...
        """
        return self._stages(X, raw_score=False)


@documented
class QGBDTRanker(RankerParams, QGBDTEstimator):
    """Gradient boosted decision trees on quantized gradients, for ranking.

    The model depends on the data, the parameters and the seed alone: not on the number of
    threads, nor on the machine.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from qgbdt import QGBDTRanker
    >>> X = np.tile(np.arange(8.0), 10).reshape(-1, 1)  # 10 queries of 8 documents
    >>> relevance = X[:, 0] // 3
    >>> ranker = QGBDTRanker(n_estimators=20).fit(X, relevance, group=[8] * 10)
    >>> scores = ranker.predict([[0.0], [4.0], [7.0]])
    >>> bool(scores[0] < scores[1] < scores[2])
    True
    """

    @documented
    @all_or_nothing
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        group: Any = None,
        qid: Any = None,
        sample_weight: Any = None,
        init_score: Any = None,
        eval_set: Any = None,
        eval_names: Sequence[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_group: Sequence[Any] | None = None,
        eval_init_score: Sequence[Any] | None = None,
        eval_metric: Any = None,
        eval_at: Sequence[int] = (1, 2, 3, 4, 5),
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        group_val: Any = None,
        groups: Any = None,
        callbacks: Sequence[Callable[[Iteration], Any]] | None = None,
        init_model: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        communicator: Communicator | None = None,
        row_blocks: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """Train on the rows of queries: the rows of each query follow one another.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value, infinities are legal.
        y : array-like of shape (n_samples,)
            Relevance labels 0, 1, 2, ..., each with a gain in label_gain.
        group : array-like of shape (n_queries,), default=None
            The number of rows of each query. Give either group or qid.
        qid : array-like of shape (n_samples,), default=None
            The query of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, not negative. A row of weight zero still counts in min_child_samples.
        {init_score}
        {evaluation}
        eval_group : list of array-like, default=None
            The sizes of the queries of each set of eval_set.
        eval_at : sequence of int, default=(1, 2, 3, 4, 5)
            How many of the first documents of a query NDCG and MAP look at.
        group_val : array-like, default=None
            The sizes of the queries of X_val.
        {continuation}
        {workers}

        Returns
        -------
        self : QGBDTRanker
        """
        request = EvaluationRequest(
            training=(X, y),
            sample_weight=sample_weight,
            init_score=init_score,
            eval_set=eval_set,
            eval_names=eval_names,
            eval_sample_weight=eval_sample_weight,
            eval_group=eval_group,
            eval_init_score=eval_init_score,
            eval_metric=eval_metric,
            eval_at=eval_at,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            group_val=group_val,
            groups=groups,
            callbacks=callbacks,
        )
        workers = self._start(communicator, sample_weight, request)
        continuation = Continuation(init_model, checkpoint_dir, resume)
        X, y, categories = self._check_rows(X, y, workers, continuation, y_numeric=True)
        gains = label_gains(self.label_gain)
        self._train(
            X,
            check_relevance(y, len(gains)),
            check_sample_weight(sample_weight, X.shape[0], workers=workers),
            objective=named_objective(self.objective) or "lambdarank",
            workers=workers,
            custom=custom_objective(self.objective),
            row_blocks=row_blocks,
            categories=categories,
            continuation=continuation,
            request=request,
            check_target=lambda y, _: check_relevance(y, len(gains)),
            query_sizes=check_query_sizes(group, qid, X.shape[0]),
            label_gain=gains,
        )

    @documented
    def predict(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
    ) -> Floats:
        """Predict the score of each row; in a query, larger is more relevant.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        raw_score : bool, default=False
            Changes nothing: scores are raw.
        {iterations}
        {explanations}

        Returns
        -------
        ndarray of shape (n_samples,)
            Scores.
        """
        given = self._explanation(X, start_iteration, num_iteration, pred_leaf, pred_contrib)
        if given is not None:
            return given
        return self._predict(X, start_iteration, num_iteration, raw_score=raw_score)

    def staged_predict(self, X: Any) -> Iterator[Floats]:
        """Predict with the first iteration, with the first two, and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers. NaN is a missing value.

        Returns
        -------
        iterator of ndarray of shape (n_samples,)
            The results of `predict` with ``num_iteration`` of 1, 2, ...
        """
        return self._stages(X, raw_score=False)


def decision_of(raw: Floats) -> Floats:
    """The raw scores of a classifier; of two, the difference."""
    return raw[:, 1] - raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 2 else raw


def of_each_class(p: Floats) -> Floats:
    """The probabilities of all classes, of two those of the second may be given."""
    return np.column_stack([1 - p, p]) if p.ndim == 1 else p


def array_of_values(estimator: QGBDTEstimator, X: Any, workers: Communicator) -> Any:
    """X as it is, if it is a data frame; else an array of any type, as scikit-learn checks it."""
    if is_frame(X):
        return X
    if is_sparse(X):
        raise DataError("Categorical features need dense data, X is sparse. Use X.toarray().")
    checks = check_X(workers) | {"dtype": None if hasattr(X, "dtype") else object}
    return check_array(X, estimator=estimator, input_name="X", **checks)


def check_not_monotone(categories: Categories, signs: Any, names: Sequence[str]) -> None:
    """Raise DataError if a categorical feature has a direction."""
    for index in categories.indices:
        if len(signs) and signs[index]:
            raise DataError(
                f"monotone_constraints has {signs[index]} for {names[index]!r}, whose categories "
                "have no order."
            )


def named_objective(objective: Any) -> str | None:
    """The name of a built-in objective, or None."""
    if not isinstance(objective, str):
        return None
    return OBJECTIVE_ALIASES.get(objective, objective)


def custom_objective(objective: Any) -> CustomObjective | None:
    """An objective of the user's, or None."""
    if isinstance(objective, CompiledObjective):
        return objective
    return PythonObjective(objective) if callable(objective) else None


def draw_seed(random_state: int | np.random.RandomState | np.random.Generator | None) -> int:
    """The seed that random_state stands for; None is 0."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    return int(random_state or 0)
