"""The scikit-learn estimators: they check and encode the data, the native module does the rest."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from qgbdt.base import CLASS_WEIGHT_PARAMS, QGBDTEstimator, all_or_nothing
from qgbdt.compiled import CompiledObjective
from qgbdt.custom import CustomObjective, PythonObjective
from qgbdt.devices import arrays_on_host
from qgbdt.distributed.communicator import ALONE, Communicator
from qgbdt.docstrings import documented
from qgbdt.errors import DataError, ParameterError
from qgbdt.evaluation import EvaluationRequest, Iteration
from qgbdt.params import (
    OBJECTIVE_ALIASES,
    ClassifierParams,
    RankerParams,
    RegressorParams,
)
from qgbdt.refit import refitted
from qgbdt.validation import (
    Floats,
    check_labels,
    check_query_sizes,
    check_regression_target,
    check_relevance,
    check_sample_weight,
    encode_classes,
    has_columns,
    label_gains,
    numbers_of_classes,
    weighted,
)

__all__ = ["QGBDTClassifier", "QGBDTRanker", "QGBDTRegressor"]


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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_label = True
        return tags

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
        X : array-like, sparse matrix or BinnedDataset of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value, infinities are legal.
        y : array-like of shape (n_samples,) or array-like or sparse matrix (n_samples, n_labels)
            Class labels, of at least two classes. Or several columns of 0 and 1, each a label that
            rows have or not: one model predicts them all, each by trees of its own.
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
        continuation = self._continuation(init_model, checkpoint_dir, resume)
        if has_columns(y):
            X, y, categories = self._check_rows(X, y, workers, continuation)
            y_encoded = check_labels(y)
            self.classes_ = np.arange(y.shape[1])
            self.n_classes_ = n_outputs = y.shape[1]
            objective = self._objective_of_labels()
            weight = check_sample_weight(sample_weight, X.shape[0], workers=workers)
        else:
            X, y, categories = self._check_rows(X, y, workers, continuation)
            known = vars(self)["classes_"] if continuation.is_warm else None
            self.classes_, y_encoded = encode_classes(y, workers, known)
            self.n_classes_ = len(self.classes_)
            objective = self._resolve_objective()
            n_outputs = 1 if objective == "binary" else self.n_classes_
            weight = self._class_sample_weight(sample_weight, y_encoded, workers)
        self._train(
            X,
            y_encoded,
            weight,
            objective=objective,
            workers=workers,
            custom=custom_objective(self.objective),
            row_blocks=row_blocks,
            categories=categories,
            continuation=continuation,
            request=request,
            check_target=self._check_target,
            n_outputs=n_outputs,
        )

    def _check_target(self, y: NDArray[Any], _: Floats | None) -> Floats:
        """The target of an evaluation set."""
        return check_labels(y) if has_columns(y) else numbers_of_classes(y, self.classes_)

    @documented
    @arrays_on_host
    def refit(self, X: Any, y: Any, sample_weight: Any = None, *, decay_rate: float = 0.9) -> Self:
        """Fit the leaves of the same trees to other rows.

        Iteration by iteration, with the parameters of fit, but without samples of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            As fit had it.
        y : array-like of shape (n_samples,) or array-like or sparse matrix (n_samples, n_labels)
            Labels, all of them of ``classes_``.
        {refit_options}

        Returns
        -------
        QGBDTClassifier
            A copy; this one stays as it is.
        """
        check_is_fitted(self)
        target = self._check_target(y if has_columns(y) else np.asarray(y), None)
        weight = (
            check_sample_weight(sample_weight, len(target))
            if self._has_labels
            else self._class_sample_weight(sample_weight, target, ALONE)
        )
        like = "binary" if self._has_labels else self._resolve_objective()
        custom = custom_objective(self.objective)
        return refitted(self, X, target, weight, decay_rate, objective=like, custom=custom)

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
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels, of ``classes_``. Of a model of several labels, 1 where a row has one, else 0.
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
        if self._has_labels:
            return (decision > 0).astype(np.int64)
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
            For two classes the log-odds of the second one, otherwise a score per class. Of
            several labels the log-odds of each.
        """
        return self._decision(self._predict(X, start_iteration, num_iteration, raw_score=True))

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
        return map(self._decision, self._stages(X, raw_score=True))

    @property
    def _has_labels(self) -> bool:
        """Whether each column of y is a label."""
        return self.booster_.objective == "binary" and self.booster_._model.n_outputs > 1

    def _decision(self, raw: Floats) -> Floats:
        """The raw scores; of two classes, the difference."""
        are_two = raw.ndim == 2 and raw.shape[1] == 2 and not self._has_labels
        return raw[:, 1] - raw[:, 0] if are_two else raw

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
            Probabilities, the columns in the order of ``classes_``. Those of several labels need
            not add up to 1.
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

    def _objective_of_labels(self) -> str:
        """The same where each column of y is a label."""
        objective = named_objective(self.objective)
        if objective not in (None, "binary") or custom_objective(self.objective):
            raise ParameterError(
                "y has several columns, each a label: objective must be 'binary' or None. Got "
                f"{self.objective!r} instead."
            )
        for name in CLASS_WEIGHT_PARAMS:
            if getattr(self, name) != ClassifierParams._params[name].default:
                raise ParameterError(
                    f"{name} is for classes, but y has several columns, each a label. Use "
                    "sample_weight."
                )
        return "binary"

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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

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
        X : array-like, sparse matrix or BinnedDataset of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value, infinities are legal.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values, in the range of the objective. Of 'aft' and 'cox' times, those of
            censored rows with a minus.
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
        if objective == "cox" and not workers.is_alone:
            raise ParameterError(
                "objective='cox' compares all rows with each other, which several workers do not "
                "have. Train on one worker, or use objective='aft'."
            )
        continuation = self._continuation(init_model, checkpoint_dir, resume)
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
            n_outputs=1 if y.ndim == 1 else y.shape[1],
        )

    @documented
    @arrays_on_host
    def refit(self, X: Any, y: Any, sample_weight: Any = None, *, decay_rate: float = 0.9) -> Self:
        """Fit the leaves of the same trees to other rows.

        Iteration by iteration, with the parameters of fit, but without samples of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            As fit had it.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Target values.
        {refit_options}

        Returns
        -------
        QGBDTRegressor
            A copy; this one stays as it is.
        """
        check_is_fitted(self)
        objective, custom = self._resolve_objective(), custom_objective(self.objective)
        weight = check_sample_weight(sample_weight, len(y))
        target = check_regression_target(y, weight, objective)
        return refitted(self, X, target, weight, decay_rate, objective=objective, custom=custom)

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
        ndarray of shape (n_samples,) or (n_samples, n_targets)
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
        X : array-like, sparse matrix or BinnedDataset of shape (n_samples, n_features)
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
        continuation = self._continuation(init_model, checkpoint_dir, resume)
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
    @arrays_on_host
    def refit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        group: Any = None,
        qid: Any = None,
        decay_rate: float = 0.9,
    ) -> Self:
        """Fit the leaves of the same trees to other rows.

        Iteration by iteration, with the parameters of fit, but without samples of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            As fit had it.
        y : array-like of shape (n_samples,)
            Relevance labels.
        group, qid
            The queries, as fit takes them.
        {refit_options}

        Returns
        -------
        QGBDTRanker
            A copy; this one stays as it is.
        """
        check_is_fitted(self)
        target = check_relevance(y, len(label_gains(self.label_gain)))
        return refitted(
            self,
            X,
            target,
            check_sample_weight(sample_weight, len(target)),
            decay_rate,
            objective=named_objective(self.objective) or "lambdarank",
            custom=custom_objective(self.objective),
            query_sizes=check_query_sizes(group, qid, len(target)),
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


def of_each_class(p: Floats) -> Floats:
    """The probabilities of all classes, of two those of the second may be given."""
    return np.column_stack([1 - p, p]) if p.ndim == 1 else p


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
