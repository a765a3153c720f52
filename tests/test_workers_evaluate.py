"""Workers find the metrics that one finds, stop where it stops and hold back the same rows.

Swept: objectives, numbers of workers, how rows lie over them, sockets and threads. Against: one
worker. Tolerance: none.
"""

import re

import numpy as np
import pytest
from conftest import OBJECTIVES
from evaluating import estimator_for, evaluation_data, names_of, rows, training_data
from test_distributed import N_CASES, connect_sockets, fit_together, in_threads, outcome, shards

from qgbdt import QGBDTClassifier, QGBDTRegressor
from qgbdt.distributed import connect_threads
from qgbdt.errors import DisagreementError


def cut(data, objective, n, edges):
    """The keyword arguments of each worker for rows between the edges."""
    sizes = data.get("group")
    for some, group in shards(n, edges, sizes):
        part = {k: v if v is None else v[some] for k, v in data.items() if k != "group"}
        yield part | ({} if sizes is None else {"group": group})


def drawn_edges(rng, n, sizes, world_size):
    places = np.arange(n + 1) if sizes is None else np.concatenate([[0], np.cumsum(sizes)])
    return np.sort(rng.choice(places, world_size - 1)).tolist()  # some shards are empty


def parts_of(objective, data, sets, world_size, seed):
    """What each worker's fit is called with: its shard of everything, cut anywhere."""
    rng = np.random.default_rng(seed)
    n = len(data["X"])
    edges = drawn_edges(rng, n, data.get("group"), world_size)
    parts = list(cut(data, objective, n, edges))
    for part in parts:
        part |= {"eval_set": [], "eval_sample_weight": []}
        part |= {"eval_group": []} if objective == "lambdarank" else {}
    for X, y, weight, sizes in sets:
        given = {"X": X, "y": y, "weight": weight}
        given |= {} if sizes is None else {"group": sizes}
        shares = cut(given, objective, len(X), drawn_edges(rng, len(X), sizes, world_size))
        for part, share in zip(parts, shares, strict=True):
            part["eval_set"].append((share["X"], share["y"]))
            part["eval_sample_weight"].append(share["weight"])
            if objective == "lambdarank":
                part["eval_group"].append(share["group"])
    return parts


@pytest.mark.parametrize(
    ("world_size", "connected"),
    [*((n, connect_threads) for n in (1, 2, 3, 5, 8)), (3, connect_sockets)],
)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_workers_evaluate_as_one(objective, world_size, connected):
    data = training_data(objective, 150)
    sets = [rows(objective, 120, 1), rows(objective, 30, 2, weighted=False)]
    estimator = estimator_for(
        objective, n_estimators=15, learning_rate=0.4, early_stopping_rounds=4, n_jobs=1
    )
    how = {"eval_metric": names_of(objective)}
    alone = type(estimator)(**estimator.get_params())
    alone.fit(**data, **evaluation_data(objective, *sets), **how)
    parts = parts_of(objective, data, sets, world_size, world_size)
    for one in fit_together(connected(world_size), estimator, [part | how for part in parts]):
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_
        assert one.best_iteration_ == alone.best_iteration_
        assert one.best_score_ == alone.best_score_


def drawn_fit(seed):
    """An objective, an estimator, data, evaluation sets, what else, and how many workers."""
    rng = np.random.default_rng(seed)
    objective = str(rng.choice(OBJECTIVES))
    data = training_data(objective, int(rng.choice([60, 150, 400])), seed)
    if rng.random() < 0.5:
        del data["sample_weight"]
    names = names_of(objective)
    how = {"eval_metric": rng.permutation(names)[: rng.integers(1, 4)].tolist()}
    if objective == "lambdarank":
        how["eval_at"] = rng.choice([1, 2, 5, 100], 2, replace=False).tolist()
    sets = [
        rows(objective, int(rng.choice([30, 120, 300])), seed + i, bool(rng.random() < 0.5))
        for i in range(1, int(rng.integers(1, 4)) + 1)
    ]
    params = {
        "n_estimators": 12,
        "num_leaves": int(rng.choice([4, 31])),
        "early_stopping_rounds": int(rng.integers(1, 5)) if rng.random() < 0.7 else None,
        "early_stopping_min_delta": float(rng.choice([0, 0.01])),
        "first_metric_only": bool(rng.random() < 0.5),
        "random_state": seed,
        "n_jobs": int(rng.choice([1, 2])),
    }
    return objective, estimator_for(objective, **params), data, sets, how, int(rng.integers(2, 9))


@pytest.mark.parametrize("seed", range(N_CASES // 4))
def test_drawn_fits_evaluate_alike(seed):
    objective, estimator, data, sets, how, world_size = drawn_fit(seed)
    alone = type(estimator)(**estimator.get_params())
    alone.fit(**data, **evaluation_data(objective, *sets), **how)
    parts = parts_of(objective, data, sets, world_size, seed)
    workers = connect_threads(world_size) if seed % 10 else connect_sockets(world_size)
    for one in fit_together(workers, estimator, [part | how for part in parts]):
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_
        assert one.best_iteration_ == alone.best_iteration_


@pytest.mark.parametrize("objective", ["tweedie", "multiclass", "lambdarank"])
@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_workers_hold_the_same_rows_back(objective, world_size):
    data = training_data(objective, 200)
    estimator = estimator_for(
        objective, n_estimators=10, validation_fraction=0.3, early_stopping_rounds=3, n_jobs=1
    )
    alone = type(estimator)(**estimator.get_params()).fit(**data)
    rng = np.random.default_rng(world_size)
    edges = drawn_edges(rng, 200, data.get("group"), world_size)
    parts = list(cut(data, objective, 200, edges))
    for number, part in enumerate(parts):
        part["row_blocks"] = [(10 * number, len(part["X"]))]
    rng.shuffle(parts)
    for one in fit_together(connect_threads(world_size), estimator, parts):
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_


def test_workers_without_some_classes_hold_the_same_rows_back():
    data = training_data("multiclass", 200)
    order = np.argsort(data["y"], kind="stable")
    data = {name: values[order] for name, values in data.items()}
    estimator = QGBDTClassifier(n_estimators=3, validation_fraction=0.3, n_jobs=1)
    alone = estimator.fit(**data)
    edges = [0, int((data["y"] == 0).sum())]  # the first has no rows, the second one class
    parts = list(cut(data, "multiclass", 200, edges))
    for one in fit_together(connect_threads(3), estimator, parts):
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_


def test_a_callback_of_one_worker_stops_all():
    data = training_data("regression", 100)
    parts = list(cut(data, "regression", 100, [20, 60]))
    parts[1]["callbacks"] = [lambda state: state.iteration == 4]
    estimator = QGBDTRegressor(n_estimators=9, n_jobs=1)
    for one in fit_together(connect_threads(3), estimator, parts):
        assert one.n_iter_ == 5


def test_workers_log_once(caplog):
    parts = list(cut(training_data("regression", 100), "regression", 100, [20]))
    with caplog.at_level("INFO"):
        fit_together(connect_threads(2), QGBDTRegressor(n_estimators=2, verbose=1), parts)
    assert [record.getMessage() for record in caplog.records] == ["[1]", "[2]"]


def test_workers_that_resume_stop_where_one_would(tmp_path):
    data, sets = training_data("binary", 150), [rows("binary", 120, 1)]
    params = {"learning_rate": 0.4, "early_stopping_rounds": 4, "n_jobs": 1}
    alone = QGBDTClassifier(**params).fit(**data, **evaluation_data("binary", *sets))
    estimator = QGBDTClassifier(**params, n_estimators=3)
    for world_size, n in ((3, 3), (2, 100)):
        parts = parts_of("binary", data, sets, world_size, world_size)
        parts[0] |= {"checkpoint_dir": tmp_path, "resume": True}
        estimator.set_params(n_estimators=n)
        together = fit_together(connect_threads(world_size), estimator, parts)
    for one in together:
        assert one.booster_ == alone.booster_
        assert one.evals_result_ == alone.evals_result_


def differing(change, **params):
    """The outcome of two workers of which the second is told something else."""
    data = training_data("binary", 100)
    parts = parts_of("binary", data, [rows("binary", 50, 1)], 2, 1)
    parts[1] |= change

    def work(worker):
        estimator = QGBDTClassifier(n_estimators=2, **(params if worker.rank else {}))
        return outcome(lambda: estimator.fit(**parts[worker.rank], communicator=worker))

    return in_threads(connect_threads(2), work)


@pytest.mark.parametrize(
    ("change", "params", "words"),
    [
        ({"eval_set": [], "eval_sample_weight": []}, {}, "the number of evaluation sets is 1 on"),
        ({"eval_names": ["other"]}, {}, "the evaluation set 0 is {'name': 'valid_0'.* 'other'"),
        ({"eval_sample_weight": None}, {}, "the evaluation set 0 is {.*'weights': True"),
        ({"eval_metric": "auc"}, {}, "eval_metric is .* on worker 0"),
        ({}, {"early_stopping_rounds": 3}, "early_stopping_rounds is None on worker 0"),
    ],
)
def test_workers_must_evaluate_alike(change, params, words):
    for error in differing(change, **params):
        assert isinstance(error, DisagreementError)
        assert re.search(words, str(error))
