"""What the scikit-learn estimators share: from checked data to a trained model and its answers."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

import copy
import functools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import check_array, check_X_y, resample
from sklearn.utils.validation import check_is_fitted, validate_data

from qgbdt import _core
from qgbdt.binned_dataset import BinnedDataset, check_decided
from qgbdt.booster import Booster
from qgbdt.categories import Categories, find_categories
from qgbdt.constraints import check_linear_tree, constraint_params
from qgbdt.continuation import Continuation, facts_of_data, started
from qgbdt.custom import CustomObjective
from qgbdt.devices import arrays_on_host, device_matrix, host_array, open_device
from qgbdt.distributed.communicator import ALONE, Communicator
from qgbdt.docstrings import documented
from qgbdt.errors import DataError, ParameterError
from qgbdt.evaluation import (
    EvaluationRequest,
    EvaluationSet,
    Watch,
    check_n_targets,
    check_set,
    told_of,
)
from qgbdt.holdout import blocks_of, first_split, held_back
from qgbdt.matrices import is_sparse, native_matrix
from qgbdt.memory import SAMPLE_ROWS, MemoryEstimate, estimated, peak_memory
from qgbdt.params import (
    RANKER_OBJECTIVES,
    CommonParams,
    check_names,
    trainer_params,
)
from qgbdt.sklearn_callbacks import CallbackSupportMixin, FitCallbacks, with_callbacks
from qgbdt.tables import is_frame
from qgbdt.threads import resolve_n_jobs
from qgbdt.validation import (
    Floats,
    Rows,
    check_columns,
    check_eval_group,
    check_init_score,
    check_row_blocks,
    check_sample_weight,
    has_columns,
    label_gains,
    n_columns,
)
from qgbdt.versions import package_version

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
            with_callbacks(arrays_on_host(fit))(scratch, *args, **kwargs)
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

    @arrays_on_host
    def estimate_memory(self, X: Any, y: Any = None) -> MemoryEstimate:
        """Estimate the memory that fit will take, beside X and y, on one machine.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The rows to train on. Some 20,000 of them are binned.
        y : array-like of shape (n_samples,), default=None
            The target, for its number of classes or columns. None is one tree an iteration.

        Returns
        -------
        dict
            Bytes: of the ``bins``, of what each row has (``rows``), of ``histograms``, of
            ``threads``, and in ``total``: within a third of the peak on ten simulated sets.
            Evaluation sets come on top, X as float64 where its values are neither float32 nor
            float64, and a copy of a dense X with zero_as_missing=True.
        """
        self._check_params()
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        n_some = min(n_samples, SAMPLE_ROWS)
        some = resample(X, replace=False, n_samples=n_some, random_state=0)
        scratch = copy.copy(self)  # what is checked sets attributes
        some, _, categories = scratch._check_rows(some, np.zeros(n_some), ALONE, Continuation())
        n_threads = resolve_n_jobs(self.n_jobs, type(self).__name__)
        return estimated(
            self,
            self._binned(some, n_threads, ALONE, None, categories),
            n_samples,
            self._n_outputs_of(y),
            n_threads,
            bytes_of_target=8 * n_columns(y),
        )

    def _n_outputs_of(self, y: Any) -> int:
        """The trees of an iteration."""
        if y is None or has_columns(y):
            return n_columns(y)
        n_classes = len(np.unique(np.asarray(y))) if is_classifier(self) else 1
        return n_classes if n_classes > 2 else 1

    def _start(
        self, communicator: Communicator | None, sample_weight: Any, request: EvaluationRequest
    ) -> Communicator:
        """Check what needs no data, and that workers mean the same fit."""
        self._check_params()
        self._check_forest()
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

    def _continuation(
        self, init_model: Any, checkpoint_dir: str | os.PathLike[str] | None, resume: bool
    ) -> Continuation:
        """What fit goes on from; arguments of fit."""
        if self.boosting_type != "gbdt":
            self._check_kept(init_model, checkpoint_dir)
        if not (self.warm_start and hasattr(self, "booster_")):
            return Continuation(init_model, checkpoint_dir, resume)
        if init_model is not None:
            raise ParameterError(
                "warm_start=True goes on from the estimator's own trees. Leave out init_model, or "
                "set warm_start=False."
            )
        if self.n_estimators < self.booster_.n_iterations:
            raise ParameterError(
                "n_estimators counts the trees of earlier fits, where warm_start=True: it must be "
                f"at least {self.booster_.n_iterations}. Got {self.n_estimators} instead."
            )
        return Continuation(self.booster_, checkpoint_dir, resume, is_warm=True)

    def _check_kept(self, init_model: Any, checkpoint_dir: str | os.PathLike[str] | None) -> None:
        """Raise ParameterError if anything would keep trees that change."""
        asked = {
            "init_model": init_model is not None,
            "checkpoint_dir": checkpoint_dir is not None,
            "warm_start": self.warm_start,
            "early_stopping_rounds": self.early_stopping_rounds is not None,
            "set_callbacks": hasattr(self, "_skl_callbacks"),
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise ParameterError(
                    f"boosting_type={self.boosting_type!r} changes earlier trees, which {name} "
                    f"would keep. Use 'gbdt', or leave out {name}."
                )

    def _check_forest(self) -> None:
        """Raise ParameterError if all trees of a forest would be the same, but for rounding."""
        share = min(self.subsample, self.colsample_bytree, self.colsample_bynode)
        differ = share < 1 or self.data_sample_strategy == "goss" or self.extra_trees
        if self.boosting_type == "rf" and not differ:
            raise ParameterError(
                "boosting_type='rf' averages trees, which must differ. Set subsample, "
                "colsample_bytree or colsample_bynode below 1."
            )

    def _check_rows(
        self,
        X: Any,
        y: Any,
        workers: Communicator,
        continuation: Continuation,
        **checks: Any,
    ) -> tuple[NDArray[Any], NDArray[Any], Categories]:
        """X as numbers, y, and the categories that numbers in X stand for."""
        if isinstance(X, BinnedDataset):
            check_decided(self, X)
            categories = X.categories
            return *self._checked(X, y, workers, categories, reset=True, **checks), categories
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
        several = has_columns(y) and self.__sklearn_tags__().target_tags.multi_output
        if several:  # scikit-learn refuses those of a worker without rows
            checks.pop("y_numeric", None)
        target: dict[str, Any] = {} if several else {"y": y}
        if isinstance(X, BinnedDataset):
            self._check_features(X, reset=reset)
            stand_in = np.broadcast_to(X.dtype.type(0), X.shape)  # no value is looked at
            check = check_array if several else check_X_y
            checked = check(stand_in, estimator=self, **target, **checks)
            checked = X if several else (X, checked[1])
        elif not categories:
            checked = validate_data(self, X, reset=reset, **target, **checks)
        else:
            X = array_of_values(self, X, workers)
            validate_data(self, X, reset=reset, skip_check_array=True)  # names, number of features
            check = check_array if several else check_X_y
            checked = check(categories.encode(X), estimator=self, **target, **checks)
        if several:
            return checked, check_columns(y, checked.shape[0])
        return checked[0], checked[1]

    def _check_features(self, data: BinnedDataset, *, reset: bool) -> None:
        """What scikit-learn checks of X: the number of features, and their names if there are."""
        names = data.feature_names
        if reset:
            self.n_features_in_ = data.shape[1]
            vars(self).pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = np.asarray(names, object)
            return
        if data.shape[1] != self.n_features_in_:
            raise DataError(
                f"X has {data.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if names is not None and names != self._feature_names(data):
            raise DataError(
                f"The BinnedDataset has the features {names}, but fit had "
                f"{self._feature_names(data)}."
            )

    def _binned(
        self,
        X: Any,
        n_threads: int,
        workers: Communicator,
        blocks: Sequence[tuple[int, int]] | None,
        categories: Categories,
        may_list: bool = True,
    ) -> _core.BinnedMatrix:
        """Checked rows as the trainer takes them."""
        if isinstance(X, BinnedDataset):
            return X._matrix(n_threads, workers.native, blocks, may_list)
        values, numbers = native_matrix(X), categories.numbers
        return _core.BinnedMatrix(
            values,
            self.max_bin,
            n_threads,
            workers.native,
            blocks,
            numbers,
            may_list,
            bool(self.zero_as_missing),
        )

    def _train(
        self,
        X: NDArray[Any] | BinnedDataset,
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
        check_linear_tree(self, like, X, workers)
        device = open_device(self.device)
        if custom and y.ndim == 2:
            raise DataError(
                f"An objective that is a function is of one target, but y has {n_outputs} columns. "
                "Use a built-in one, or a model for each."
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
        params |= constraint_params(self, names, like)
        check_are_numbers(params, categories, names)
        zero_is_missing = bool(self.zero_as_missing)
        initial = continuation.initial(
            objective, n_outputs, names, categories, fields, zero_is_missing
        )
        n_initial = initial.n_trees // n_outputs if initial else 0
        if continuation.is_warm:
            params["n_estimators"] -= n_initial
        init_score = check_init_score(request.init_score, X.shape[0], n_outputs)
        rows = Rows(X, y, sample_weight, query_sizes, init_score)
        n_targets = 1 if y.ndim == 1 else n_outputs
        sets = self._evaluation_sets(request, like, n_outputs, check_target, workers, categories, X)
        for some in sets:
            check_n_targets(some, n_targets)
        if self.validation_fraction is not None:
            if hasattr(self.validation_fraction, "split"):
                kept, held = first_split(self.validation_fraction, rows, request.groups)
            else:
                has_classes = is_classifier(self) and y.ndim == 1
                strata = y.astype(np.int64) if has_classes else np.zeros(len(y), np.int64)
                seed, fraction = params["seed"], self.validation_fraction
                held = held_back(rows, strata, fraction, seed, blocks, workers)
                kept = ~held
            sets = [EvaluationSet.of("valid_0", with_values(rows.where(held)), n_outputs)]
            blocks, rows = blocks_of(kept, blocks), rows.where(kept)
        metrics = request.metrics(like, n_targets)
        for some in sets:
            check_set(some, metrics, workers)
        facts = {
            **{name: np.asarray(value).tolist() for name, value in params.items()},
            "max_bin": self.max_bin,
            "zero_as_missing": zero_is_missing,
            "the dtype of X": str(X.dtype),
            "n_features": len(names),
            **{f"the name of feature {i}": name for i, name in enumerate(names)},
            **categories.facts,
            "init_model": None if initial is None else zlib.crc32(initial.to_bytes()),
            "the digest of a BinnedDataset": X._digest() if isinstance(X, BinnedDataset) else None,
        }
        workers.agree(facts)
        start = perf_counter()
        matrix = self._binned(rows.X, n_threads, workers, blocks, categories, device is None)
        binned = perf_counter()
        if workers.any(continuation.checkpoint_dir is not None):
            facts |= facts_of_data(matrix, rows, workers, are_values_used=self.linear_tree)
            facts |= {"the version of qgbdt": package_version("qgbdt")}
        with started(continuation, initial, facts, workers) as begin:
            iterations = range(n_initial, n_initial + params["n_estimators"])
            callbacks, told, on_iteration = list(request.callbacks or []), None, begin.on_iteration
            if hasattr(self, "_skl_callbacks"):
                given = (request.training, request.sample_weight)
                told = FitCallbacks(self, *given, begin, len(iterations))
                callbacks.append(told.after_iteration)
                on_iteration = told.on_iteration
            link = functools.partial(_core.predictions, objective, custom=fields)
            watch = Watch(self, metrics, sets, request, callbacks, workers, iterations, link)
            model, cost, quantization, profile = _core.train(
                matrix,
                rows.targets,
                rows.sample_weight,
                rows.query_sizes,
                names,
                params | {"n_estimators": params["n_estimators"] - begin.n_iterations_done},
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
                np.require(rows.X, requirements="A") if self.linear_tree else None,
                zero_is_missing,
            )
        if watch.best_iteration is not None:
            model = model.iterations(0, watch.best_iteration)
        self.fit_profile_ = {
            "binning_seconds": binned - start,
            "training_seconds": perf_counter() - binned,
            "n_threads": n_threads,
            "peak_memory": peak_memory(),
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
        training: NDArray[Any] | BinnedDataset,
    ) -> list[EvaluationSet]:
        """The evaluation sets that were given to fit, checked as the rows of training are."""
        digest = training._digest() if isinstance(training, BinnedDataset) else None
        sets = []
        for given in request.sets():
            with told_of(given.name):
                X, y = self._checked(given.X, given.y, workers, categories, reset=False)
                n = X.shape[0]
                weight = check_sample_weight(given.sample_weight, n, workers=workers)
                is_ranking = objective in RANKER_OBJECTIVES
                sizes = check_eval_group(given.group, n) if is_ranking else None
                init_score = check_init_score(given.init_score, n, n_outputs)
                if isinstance(X, BinnedDataset) and X._digest() != digest:
                    raise DataError(
                        "A BinnedDataset is evaluated on only while training on one of the same "
                        "bins: its own transform(X) makes it."
                    )
                rows = with_values(Rows(X, check_target(y, weight), weight, sizes, init_score))
            sets.append(EvaluationSet.of(given.name, rows, n_outputs, given.is_training))
        return sets

    def _feature_names(self, X: NDArray[Any] | BinnedDataset) -> list[str]:
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
        if isinstance(X, BinnedDataset):
            self._check_features(X, reset=False)
            return X
        if not self.booster_._categories:
            rows = device_matrix(X)
            if rows is None:
                return validate_data(self, host_array(X), reset=False, **CHECK_X)
            stand_in = np.broadcast_to(rows.dtype.type(0), rows.shape)  # no value is looked at
            validate_data(self, stand_in, reset=False, **CHECK_X)
            return X
        values = array_of_values(self, host_array(X), ALONE)
        return validate_data(self, values, reset=False, skip_check_array=True)


def with_values(rows: Rows) -> Rows:
    """The rows with values, where they have bins."""
    if not isinstance(rows.X, BinnedDataset):
        return rows
    return replace(rows, X=rows.X._values())


def array_of_values(estimator: QGBDTEstimator, X: Any, workers: Communicator) -> Any:
    """X as it is, if it is a data frame; else an array of any type, as scikit-learn checks it."""
    if is_frame(X):
        return X
    if is_sparse(X):
        raise DataError("Categorical features need dense data, X is sparse. Use X.toarray().")
    checks = check_X(workers) | {"dtype": None if hasattr(X, "dtype") else object}
    return check_array(X, estimator=estimator, input_name="X", **checks)


def check_are_numbers(params: dict[str, Any], categories: Categories, names: Sequence[str]) -> None:
    """Raise DataError if a categorical feature has a direction, or a threshold."""
    signs = params["monotone_constraints"]
    for feature, threshold, *_ in params["forced_splits"]:
        if feature in categories.indices:
            raise DataError(
                f"forced_splits has the threshold {threshold} for {names[feature]!r}, whose "
                "categories have no order."
            )
    for index in categories.indices:
        if len(signs) and signs[index]:
            raise DataError(
                f"monotone_constraints has {signs[index]} for {names[index]!r}, whose categories "
                "have no order."
            )


def draw_seed(random_state: int | np.random.RandomState | np.random.Generator | None) -> int:
    """The seed that random_state stands for; None is 0."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    return int(random_state or 0)
