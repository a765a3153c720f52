"""Rows held back from training: by a share of them or by a splitter of scikit-learn's.

Swept: objectives, shares, seeds, splitters. Against: fits that are given the same rows for
evaluation. Tolerance: none.
"""

import numpy as np
import pytest
from conftest import OBJECTIVES
from evaluating import estimator_for, evaluation_data, rows, training_data
from sklearn.model_selection import (
    GroupShuffleSplit,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.distributed.communicator import ALONE
from qgbdt.errors import DataError
from qgbdt.holdout import hashes, held_back
from qgbdt.validation import Rows


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_held_back(objective):
    data = training_data(objective, 400)
    model = estimator_for(objective, n_estimators=4, validation_fraction=0.25).fit(**data)
    X, y, weight = data["X"], data["y"], data["sample_weight"]
    rows_of_all = Rows(X, y, weight, data.get("group"))
    strata = y.astype(int) if objective in ("binary", "multiclass") else np.zeros(len(y), int)
    held = held_back(rows_of_all, strata, 0.25, 0, [(0, len(X))], ALONE)
    assert 0.1 < held.mean() < 0.4
    given = {"X": X[~held], "y": y[~held], "sample_weight": weight[~held]}
    sets = [X[held], y[held], weight[held], None]
    if objective == "lambdarank":
        sizes = data["group"]
        whole = np.add.reduceat(held, np.cumsum(sizes) - sizes)
        assert ((whole == 0) | (whole == sizes)).all()  # whole queries
        given["group"], sets[3] = sizes[whole == 0], sizes[whole > 0]
    by_hand = estimator_for(objective, n_estimators=4)
    by_hand.fit(**given, **evaluation_data(objective, sets))
    assert model.booster_ == by_hand.booster_
    assert model.evals_result_ == by_hand.evals_result_
    if objective in ("binary", "multiclass"):
        for label in np.unique(y):
            n = (y == label).sum()
            assert (held & (y == label)).sum() == np.floor(0.25 * n + 0.5)


def test_a_splitter_holds_rows_back():
    X, y, weight, _ = rows("regression", 200, 0)
    for splitter, groups in (
        (GroupShuffleSplit(1, test_size=0.3, random_state=5), np.arange(200) // 7),
        (TimeSeriesSplit(4), None),  # some rows are in neither part
        (PredefinedSplit(np.where(np.arange(200) % 5 == 0, 0, -1)), None),
    ):
        train, held = next(iter(splitter.split(X, y, groups)))
        model = QGBDTRegressor(n_estimators=4, validation_fraction=splitter)
        model.fit(X, y, weight, groups=groups)
        by_hand = QGBDTRegressor(n_estimators=4).fit(
            *(some[train] for some in (X, y, weight)),
            X_val=X[held],
            y_val=y[held],
            sample_weight_val=weight[held],
        )
        assert model.booster_ == by_hand.booster_
        assert model.evals_result_ == by_hand.evals_result_


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored by ShuffleSplit")
def test_the_queries_are_the_groups_of_a_splitter():
    data = training_data("lambdarank", 200)
    splitter = GroupShuffleSplit(1, test_size=0.3, random_state=5)
    model = QGBDTRanker(n_estimators=4, validation_fraction=splitter).fit(**data)
    assert model.booster_.tree(0)["count"][0] < 200
    with pytest.raises(DataError, match=r"ShuffleSplit.* splits a query\. Use one that keeps"):
        QGBDTRanker(validation_fraction=ShuffleSplit(1, random_state=0)).fit(**data)


def test_a_splitter_in_a_pipeline():
    X, y, *_ = rows("binary", 200, 0)
    splitter = StratifiedGroupKFold(4)
    model = QGBDTClassifier(validation_fraction=splitter, early_stopping_rounds=3)
    pipeline = make_pipeline(FunctionTransformer(np.negative), model)
    pipeline.fit(X, y, qgbdtclassifier__groups=np.arange(200) // 4)
    assert len(model.evals_result_["valid_0"]["binary_logloss"]) == model.best_iteration_ + 3


def test_other_seeds_hold_other_rows_back():
    X, y, *_ = rows("binary", 200, 0)
    drawn = [
        held_back(Rows(X, y, None, None), y.astype(int), 0.3, seed, [(0, 200)], ALONE)
        for seed in (0, 1)
    ]
    assert drawn[0].sum() == drawn[1].sum()
    assert (drawn[0] != drawn[1]).sum() > 40


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("n", [2, 3, 100, 3000])
def test_the_smallest_hashes_of_each_class(n, fraction):
    strata = np.random.default_rng(n).integers(0, 3, n) * 2  # some classes have no rows
    wanted = [min(int(fraction * m + 0.5), max(m - 1, 0)) for m in np.bincount(strata)]
    some = Rows(np.zeros((n, 1)), strata.astype(float), None, None)
    if not any(wanted):
        with pytest.raises(DataError, match=f"={fraction} holds none of {n} rows back. Make it la"):
            held_back(some, strata, fraction, 7, [(0, n)], ALONE)
        return
    held = held_back(some, strata, fraction, 7, [(0, n)], ALONE)
    hashed = hashes(np.arange(n, dtype=np.uint64), 7)
    assert len(np.unique(hashed)) == n
    for stratum, m in enumerate(wanted):
        mine = strata == stratum
        assert set(hashed[mine & held]) == set(np.sort(hashed[mine])[:m])
