"""The estimators on a Dask cluster: ``pip install 'qgbdt[dask]'``.

They are fitted on Dask Arrays or DataFrames where the partitions lie; the model is that of a local
fit on all rows in the order of partitions, byte for byte. Predictions are Dask Arrays.

Examples
--------
>>> import dask.array as da
>>> from distributed import Client
>>> from qgbdt.dask import DaskQGBDTRegressor
>>> with Client("10.0.0.1:8786"):  # doctest: +SKIP
...     X = da.random.random((100_000, 10), chunks=(10_000, 10))
...     regressor = DaskQGBDTRegressor().fit(X, X.sum(axis=1))
...     predictions = regressor.predict(X).compute()
"""

# mypy: allow-untyped-calls
# (Dask and scikit-learn have few type annotations)

from __future__ import annotations  # Dask is a mock where the documentation is made

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from qgbdt.base import QGBDTEstimator, draw_seed
from qgbdt.continuation import booster_of
from qgbdt.distributed.communicator import ALONE
from qgbdt.docstrings import documented
from qgbdt.errors import DataError, ParameterError
from qgbdt.estimators import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.evaluation import EvaluationRequest, told_of
from qgbdt.params import NONE, Where, param

try:
    import dask.array as da
    import dask.dataframe as dd
    from dask.delayed import delayed
    from distributed import Client, default_client
except ImportError as error:
    raise ImportError(f"qgbdt.dask needs Dask: pip install 'qgbdt[dask]' ({error}).") from error

from qgbdt.distributed.on_dask import EvaluatedSet, fit_on_cluster

__all__ = ["DaskQGBDTClassifier", "DaskQGBDTRanker", "DaskQGBDTRegressor"]

CLIENT = param(
    default=None,
    allowed=Where("a distributed.Client", lambda value: isinstance(value, Client)) | NONE,
    doc="The client of the cluster. None is the current one.",
    native=False,
)


class DaskEstimator(QGBDTEstimator):
    """What the estimators on Dask share."""

    _local: ClassVar[type[QGBDTEstimator]]
    client: Client | None

    @property
    def client_(self) -> Client:
        """The client that is used: the one given, or the current one."""
        return default_client() if self.client is None else self.client

    def to_local(self) -> Any:
        """The same estimator without Dask, fitted if this one is.

        Returns
        -------
        estimator : QGBDTClassifier, QGBDTRegressor or QGBDTRanker
        """
        local = self._unfitted()
        vars(local).update(fitted_attributes(self))
        return local

    def _unfitted(self) -> QGBDTEstimator:
        params = self.get_params(deep=False)
        del params["client"]
        return self._local(**params)

    @documented
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        eval_set: Any = None,
        eval_names: Sequence[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_metric: Any = None,
        init_model: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Train on the rows of all partitions, in their order.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers, cut between rows only. Its partitions stay where they are; what is given beside
            it is cut alike, and goes to them.
        y : Dask Array or Series of shape (n_samples,)
            Class labels or target values.
        sample_weight : Dask Array or Series of shape (n_samples,), default=None
            Weights, not negative.
        {dask_evaluation}
        {continuation}

        Returns
        -------
        self
        """
        request = EvaluationRequest(
            training=(X, y),
            eval_set=eval_set,
            eval_names=eval_names,
            eval_sample_weight=eval_sample_weight,
            eval_metric=eval_metric,
        )
        options = continued(init_model, checkpoint_dir, resume)
        return self._fit(request, options, X=X, y=y, sample_weight=sample_weight)

    def _fit(
        self, request: EvaluationRequest, options: Mapping[str, Any], **collections: Any
    ) -> Self:
        self._check_params()
        request.check(self, ALONE)
        if hasattr(self, "_skl_callbacks"):
            raise ParameterError(
                f"{type(self).__name__} calls no callbacks: tasks elsewhere train. Use "
                "set_callbacks() without any."
            )
        given = collections_of(**collections)
        sets = []
        for one in request.sets():
            with told_of(one.name):
                columns = collections_of(
                    X=one.X, y=one.y, sample_weight=one.sample_weight, group=one.group
                )
            sets.append(EvaluatedSet(columns, one.is_training))
        names = [one.name for one in request.sets()]
        options = {**options, "eval_names": names or None, "eval_metric": request.eval_metric}
        local = self.to_local() if self.warm_start else self._unfitted()
        local.set_params(random_state=draw_seed(self.random_state))
        fitted = fit_on_cluster(self.client_, local, given, sets, options)
        for name in fitted_attributes(self):
            delattr(self, name)
        vars(self).update(fitted_attributes(fitted))
        return self

    @documented
    def predict(
        self,
        X: Any,
        raw_score: bool = False,
        start_iteration: int = 0,
        num_iteration: int | None = None,
        pred_leaf: bool = False,
        pred_contrib: bool = False,
    ) -> Any:
        """The local estimator's `predict` of each partition, when it is computed.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        raw_score : bool, default=False
            Whether to stay in link space.
        {iterations}
        {explanations}

        Returns
        -------
        Dask Array of shape (n_samples,), or of two dimensions for pred_leaf and pred_contrib
        """
        iterations = start_iteration, num_iteration
        return self._of_partitions("predict", X, raw_score, *iterations, pred_leaf, pred_contrib)

    @documented
    def apply(self, X: Any, start_iteration: int = 0, num_iteration: int | None = None) -> Any:
        """The local estimator's `apply` of each partition, when it is computed.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers. NaN is a missing value.
        {iterations}

        Returns
        -------
        Dask Array of shape (n_samples, n_trees)
        """
        return self._of_partitions("apply", X, start_iteration, num_iteration)

    def refit(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise DataError: `to_local` has what refits."""
        raise DataError(
            f"{type(self).__name__} does not refit: use to_local(), with data without Dask."
        )

    def estimate_memory(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise DataError: `to_local` has what estimates, for a worker's rows."""
        raise DataError(
            f"{type(self).__name__} does not estimate memory: use to_local(), with the rows of a "
            "worker."
        )

    def _stages(self, X: Any, *, raw_score: bool) -> NoReturn:
        raise DataError(
            f"{type(self).__name__} has no predictions after each iteration: they would be as many "
            "collections. Use to_local() and data without Dask, or num_iteration."
        )

    def _of_partitions(self, method: str, X: Any, *options: Any) -> Any:
        """A Dask Array of what the local method returns for each partition."""
        check_is_fitted(self)
        check_collections({"X": X})
        local = self.to_local()
        is_array = isinstance(X, da.Array)
        row = np.zeros((1, *X.shape[1:]), X.dtype) if is_array else X._meta_nonempty[:1]
        nothing = getattr(local, method)(row, *options)[:0]  # raises if X is wrong
        shape = nothing.shape[1:]
        given = {"model": delayed(local), "method": method, "options": options, "nothing": nothing}
        if is_array:
            return X.map_blocks(
                predict_part,
                **given,
                chunks=(X.chunks[0], *((n,) for n in shape)),
                drop_axis=[] if shape else [1],
                meta=nothing,
            )
        part_of = delayed(predict_part, pure=True)
        parts = [
            da.from_delayed(part_of(part, **given), (np.nan, *shape), meta=nothing)
            for part in X.to_delayed()
        ]
        return da.concatenate(parts, allow_unknown_chunksizes=True)

    def __sklearn_clone__(self) -> Self:
        """With the same client, which cannot be copied."""
        params = clone(self._unfitted()).get_params(deep=False)
        return type(self)(**params, client=self.client)

    def __getstate__(self) -> dict[str, Any]:
        """Without the client, which belongs to this process."""
        return {**super().__getstate__(), "client": None}


def continued(
    init_model: Any, checkpoint_dir: str | os.PathLike[str] | None, resume: bool
) -> dict[str, Any]:
    """What the tasks' fits go on from, without files and folders of the client's."""
    return {
        "init_model": None if init_model is None else booster_of(init_model),
        "checkpoint_dir": None if checkpoint_dir is None else os.path.abspath(checkpoint_dir),
        "resume": resume,
    }


def fitted_attributes(estimator: QGBDTEstimator) -> dict[str, Any]:
    """What fit has set."""
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def collections_of(**collections: Any) -> dict[str, Any]:
    """Those that are given, checked: X and y, and what else there is."""
    given = {k: v for k, v in collections.items() if v is not None or k in ("X", "y")}
    check_collections(given)
    return given


def check_collections(collections: Mapping[str, Any]) -> None:
    """Raise DataError unless these are collections of Dask with as many partitions as X."""
    X = collections["X"]
    for name, collection in collections.items():
        if not isinstance(collection, (da.Array, dd.DataFrame, dd.Series)):
            raise DataError(
                f"{name} must be a Dask Array, DataFrame or Series, got "
                f"{type(collection).__name__}. The estimators of qgbdt take data without Dask."
            )
        if isinstance(collection, da.Array) and any(n > 1 for n in collection.numblocks[1:]):
            raise DataError(f"{name} is cut between columns. Use {name}.rechunk({{1: -1}}).")
        if collection.npartitions != X.npartitions:
            raise DataError(
                f"{name} has {collection.npartitions} partitions, but X has {X.npartitions}. "
                "Rechunk or repartition them alike."
            )


def predict_part(
    part: Any, model: QGBDTEstimator, method: str, options: Any, nothing: NDArray[Any]
) -> Any:
    """What the model's method returns for a partition, which may have no rows."""
    return getattr(model, method)(part, *options) if len(part) else nothing


@documented
class DaskQGBDTClassifier(DaskEstimator, QGBDTClassifier):  # type: ignore[misc]
    """QGBDTClassifier on a Dask cluster, of the same model.

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
    """

    _local = QGBDTClassifier
    client: Client | None = CLIENT

    @documented
    def decision_function(
        self, X: Any, start_iteration: int = 0, num_iteration: int | None = None
    ) -> Any:
        """The raw scores of each row, in link space.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        {iterations}

        Returns
        -------
        Dask Array of shape (n_samples,) or (n_samples, n_classes)
            For two classes the log-odds of the second one, otherwise a score per class.
        """
        return self._of_partitions("decision_function", X, start_iteration, num_iteration)

    @documented
    def predict_proba(
        self, X: Any, start_iteration: int = 0, num_iteration: int | None = None
    ) -> Any:
        """Predict the probability of each class.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers, and categories. NaN is a missing value.
        {iterations}

        Returns
        -------
        Dask Array of shape (n_samples, n_classes)
            Probabilities, the columns in the order of ``classes_``.
        """
        return self._of_partitions("predict_proba", X, start_iteration, num_iteration)


@documented
class DaskQGBDTRegressor(DaskEstimator, QGBDTRegressor):  # type: ignore[misc]
    """QGBDTRegressor on a Dask cluster, of the same model.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}
    """

    _local = QGBDTRegressor
    client: Client | None = CLIENT


@documented
class DaskQGBDTRanker(DaskEstimator, QGBDTRanker):
    """QGBDTRanker on a Dask cluster, of the same model.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}
    """

    _local = QGBDTRanker
    client: Client | None = CLIENT

    @documented
    def fit(  # type: ignore[override]
        self,
        X: Any,
        y: Any,
        *,
        group: Any = None,
        qid: Any = None,
        sample_weight: Any = None,
        eval_set: Any = None,
        eval_names: Sequence[str] | None = None,
        eval_sample_weight: Sequence[Any] | None = None,
        eval_group: Sequence[Any] | None = None,
        eval_metric: Any = None,
        eval_at: Sequence[int] = (1, 2, 3, 4, 5),
        init_model: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
    ) -> Self:
        """Train on the queries of all partitions; each query lies in one.

        Parameters
        ----------
        X : Dask Array or DataFrame of shape (n_samples, n_features)
            Numbers, cut between rows only. Its partitions stay where they are; what is given beside
            it is cut alike, and goes to them.
        y : Dask Array or Series of shape (n_samples,)
            Relevance labels 0, 1, 2, ..., each with a gain in label_gain.
        group : Dask Array or Series of shape (n_queries,), default=None
            The number of rows of each query: in each partition, of the queries of that partition
            of X. Give either group or qid.
        qid : Dask Array or Series of shape (n_samples,), default=None
            The query of each row.
        sample_weight : Dask Array or Series of shape (n_samples,), default=None
            Weights, not negative.
        {dask_evaluation}
        eval_group : list of Dask Array or Series, default=None
            The sizes of the queries of each set of eval_set: in each partition, of the queries of
            that partition.
        eval_at : sequence of int, default=(1, 2, 3, 4, 5)
            How many of the first documents of a query NDCG and MAP look at.
        {continuation}

        Returns
        -------
        self : DaskQGBDTRanker
        """
        request = EvaluationRequest(
            training=(X, y),
            eval_set=eval_set,
            eval_names=eval_names,
            eval_sample_weight=eval_sample_weight,
            eval_group=eval_group,
            eval_metric=eval_metric,
            eval_at=eval_at,
        )
        options = {**continued(init_model, checkpoint_dir, resume), "eval_at": eval_at}
        rows = {"X": X, "y": y, "group": group, "qid": qid, "sample_weight": sample_weight}
        return self._fit(request, options, **rows)
