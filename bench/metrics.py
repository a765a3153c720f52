"""Test metrics: what a prediction is worth. Everything but NDCG comes from scikit-learn."""

from __future__ import annotations

import numpy as np
from sources import Part

NDCG_AT = 10

SHOWN = {  # the metric a speed table shows for each task
    "binary": "auc",
    "multiclass": "logloss",
    "regression": "rmse",
    "poisson": "deviance",
    "gamma": "deviance",
    "tweedie": "deviance",
    "rank": f"ndcg@{NDCG_AT}",
}
RISING = ("auc", SHOWN["rank"])  # more is better; of the others less is


def evaluate(task: str, test: Part, prediction: np.ndarray) -> dict[str, float]:
    """All metrics of a task; `loss` is the one to minimize in an accuracy study.

    Parameters
    ----------
    task : str
    test : Part
    prediction : ndarray of shape (n,) or (n, n_classes)
        Probability of class 1, probabilities of all classes, expected value, or ranking score.

    Returns
    -------
    dict of str to float
        `loss` and the metric named by `SHOWN[task]`.
    """
    from sklearn import metrics

    y, weight = test.y, test.weight
    if task == "binary":
        both = np.column_stack([1.0 - prediction, prediction])
        auc = metrics.roc_auc_score(y, prediction, sample_weight=weight)
        loss = metrics.log_loss(y, both, sample_weight=weight, labels=[0, 1])
        return {"loss": float(loss), "auc": float(auc)}
    if task == "multiclass":
        labels = np.arange(prediction.shape[1])
        probability = prediction / prediction.sum(axis=1, keepdims=True)
        loss = metrics.log_loss(y, probability, sample_weight=weight, labels=labels)
        return {"loss": float(loss), "logloss": float(loss)}
    if task == "regression":
        loss = metrics.mean_squared_error(y, prediction, sample_weight=weight)
        return {"loss": float(loss), "rmse": float(np.sqrt(loss))}
    if task == "rank":
        score = mean_ndcg(y, prediction, test.group)
        return {"loss": 1.0 - score, SHOWN["rank"]: score}
    power = {"poisson": 1.0, "tweedie": 1.5, "gamma": 2.0}[task]
    loss = metrics.mean_tweedie_deviance(y, prediction, sample_weight=weight, power=power)
    return {"loss": float(loss), "deviance": float(loss)}


def mean_ndcg(
    relevance: np.ndarray, score: np.ndarray, group: np.ndarray | None, at: int = NDCG_AT
) -> float:
    """Mean over the queries of NDCG at `at`, gains 2^relevance - 1, queries without any count 1.

    Written here because scikit-learn's has linear gains and wants all queries of one length.
    """
    sizes = np.array([len(relevance)]) if group is None else np.asarray(group)
    gain = np.exp2(np.asarray(relevance, dtype=np.float64)) - 1.0
    best = _dcg(gain, gain, sizes, at)
    got = _dcg(gain, np.asarray(score, dtype=np.float64), sizes, at)
    return float(np.mean(np.divide(got, best, out=np.ones(len(sizes)), where=best > 0)))


def _dcg(gain: np.ndarray, score: np.ndarray, sizes: np.ndarray, at: int) -> np.ndarray:
    """DCG of each query; documents of equal score keep their order."""
    query = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((-score, query))
    rank = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    discounted = np.where(rank < at, gain[order] / np.log2(rank + 2.0), 0.0)
    return np.bincount(query, weights=discounted, minlength=len(sizes))
