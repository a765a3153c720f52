"""Evaluation while training: metrics are those of the predictions, and stopping keeps the best.

Swept: objectives, sets, weights, how the rows of evaluation lie over workers, where a fit is
interrupted. Against: the reference's metrics of the model's own predictions, the rule in plain
Python, LightGBM; one worker; a fit that never stopped. Tolerance: none.
"""

import re

import numpy as np
import pytest
import reference as ref
from conftest import CLASSES, OBJECTIVES, RANKING, hurting_data, native_params, targets
from sklearn.model_selection import (
    GroupShuffleSplit,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_distributed import N_CASES, connect_sockets, fit_together, in_threads, outcome, shards
from test_metrics import CASES

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.distributed import connect_threads
from qgbdt.distributed.communicator import ALONE
from qgbdt.errors import DataError, DisagreementError, ParameterError
from qgbdt.evaluation import DEFAULT_METRIC, EarlyStopping, Score
from qgbdt.holdout import hashes, held_back
from qgbdt.validation import Rows

DEFAULT_NAMES = {**DEFAULT_METRIC, "lambdarank": "ndcg@1"}


def rows(objective, n, seed, weighted=True):
    """X, y, weights and query sizes."""
    X = hurting_data(n, seed=seed)
    y, sizes = targets(X, objective, seed)
    if objective in CLASSES:
        y[:3] = range(3)
    weight = np.linspace(0, 2, n) if weighted else None
    return X, y, weight, sizes


def estimator_for(objective, **params):
    if objective in RANKING:
        return QGBDTRanker(objective=objective, **params)
    kind = QGBDTClassifier if objective in ("binary", *CLASSES) else QGBDTRegressor
    return kind(objective=objective, **params)


def training_data(objective, n=300, seed=0):
    """What fit is called with."""
    X, y, weight, sizes = rows(objective, n, seed)
    data = {"X": X, "y": y, "sample_weight": weight}
    return data | ({} if sizes is None else {"group": sizes})


def evaluation_data(objective, *given):
    """The arguments of fit for sets of rows(...)."""
    data = {
        "eval_set": [(X, y) for X, y, _, _ in given],
        "eval_sample_weight": [weight for _, _, weight, _ in given],
    }
    if objective in RANKING:
        data["eval_group"] = [sizes for *_, sizes in given]
    return data


def names_of(objective):
    """The metrics whose range the objective's targets are in."""
    families = {"regression": ("poisson", "gamma", "tweedie"), "gamma": ()}
    out = (*families.get(objective, ("gamma",)), "cross_entropy")
    names = [name for name, of in CASES if of == objective]
    return [name for name in names if name.removesuffix("_deviance") not in out]


# ------------------------------------------------------------------- the metrics of a growing model


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_metrics_are_of_the_predictions(objective):
    data, params = training_data(objective), native_params(objective=objective)
    sets = {"a": rows(objective, 257, 1), "b": rows(objective, 40, 2, weighted=False)}
    model = estimator_for(objective, n_estimators=4).fit(
        **data,
        **evaluation_data(objective, *sets.values()),
        eval_names=list(sets),
        eval_metric=names_of(objective),
    )
    assert list(model.evals_result_) == ["a", "b"]
    for name, (X, y, weight, sizes) in sets.items():
        ats = (1, 2, 3, 4, 5) if objective == "lambdarank" else (0,)
        expected = {
            f"{metric}@{at}" if at else metric: [
                ref.metric(metric, raw.reshape(len(X), -1).T, y, weight, params, sizes, at)
                for raw in raw_predictions(model, X)
            ]
            for metric in names_of(objective)
            for at in ats
        }
        assert model.evals_result_[name] == expected
        assert model.best_score_[name] == {key: values[-1] for key, values in expected.items()}


def raw_predictions(model, X):
    """After each iteration."""
    for n in range(model.booster_.n_iterations):
        yield model.booster_.predict(X, raw_score=True, num_iteration=n + 1)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_watching_changes_nothing(objective):
    data = training_data(objective)
    plain = estimator_for(objective, n_estimators=5).fit(**data)
    watched = estimator_for(objective, n_estimators=5).fit(
        **data, **evaluation_data(objective, rows(objective, 40, 1)), callbacks=[lambda state: None]
    )
    assert plain.booster_ == watched.booster_
    assert (plain.evals_result_, plain.best_score_, plain.best_iteration_) == ({}, {}, None)
    assert next(iter(watched.evals_result_["valid_0"])) == DEFAULT_NAMES[objective]
    assert watched.n_iter_ == watched.n_estimators_ == 5
    assert plain.fit_profile_["evaluation_seconds"] == 0
    assert watched.fit_profile_["evaluation_seconds"] > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_layout_of_X(dtype, order):
    data = training_data("multiclass")
    X, y, *_ = rows("multiclass", 200, 1)
    strided = np.zeros((400, 12), dtype)[::2, ::2]
    strided[:] = X
    for some in (np.asarray(X, dtype, order=order), strided):
        model = QGBDTClassifier(n_estimators=3).fit(**data, X_val=some, y_val=y)
        p = model.predict_proba(some)
        expected = -np.log(p[np.arange(len(y)), y.astype(int)]).mean()
        np.testing.assert_allclose(model.best_score_["valid_0"]["multi_logloss"], expected, 1e-12)


def test_labels_are_those_of_training():
    X, y, *_ = rows("multiclass", 300, 0)
    labels = np.array(["high", "low", "middle"])[y.astype(int)]
    model = QGBDTClassifier(n_estimators=3).fit(
        X, labels, X_val=X[:100], y_val=labels[:100], eval_metric="multi_error"
    )
    error = 1 - model.score(X[:100], labels[:100])
    np.testing.assert_allclose(model.best_score_["valid_0"]["multi_error"], error, 1e-12)


def test_both_forms_are_one():
    for objective in ("poisson", "lambdarank"):
        data = training_data(objective)
        X, y, weight, sizes = rows(objective, 100, 1)
        listed = estimator_for(objective).fit(
            **data, **evaluation_data(objective, (X, y, weight, sizes))
        )
        group = {"group_val": sizes} if objective == "lambdarank" else {}
        lone = estimator_for(objective).fit(
            **data, X_val=X, y_val=y, sample_weight_val=weight, **group
        )
        assert listed.evals_result_ == lone.evals_result_


def test_a_pair_alone_is_a_set():
    X, y, *_ = rows("regression", 100, 0)
    fitted = [QGBDTRegressor(n_estimators=2).fit(X, y, eval_set=s) for s in ((X, y), [(X, y)])]
    assert fitted[0].evals_result_ == fitted[1].evals_result_
    assert list(fitted[0].evals_result_) == ["training"]


def test_ndcg_at():
    data = training_data("lambdarank")
    given = evaluation_data("lambdarank", rows("lambdarank", 100, 1))
    model = QGBDTRanker(n_estimators=2).fit(**data, **given, eval_at=[3, 7, 3], eval_metric="map")
    assert list(model.evals_result_["valid_0"]) == ["map@3", "map@7"]


# ----------------------------------------------------------------------------------- stopping early


def scores(*values, maximize=False, name="valid_0", metric="m"):
    return [[Score(name, metric, value, maximize)] for value in values]


def stopped(rule, sequence):
    """(after how many iterations it stops, the best)."""
    for n, some in enumerate(sequence, start=1):
        if rule.stops(n, some):
            return n, rule.best_iteration
    return None, rule.best_iteration


@pytest.mark.parametrize(
    ("values", "maximize", "delta", "expected"),
    [
        ((3, 2, 1), False, 0, (None, 3)),
        ((3, 2, 2, 2), False, 0, (4, 2)),  # equal is no better
        ((1, 2, 3), False, 0, (3, 1)),
        ((1, 2, 3, 2, 1), True, 0, (5, 3)),
        ((1, 1, 1), True, 0, (3, 1)),
        ((1, 1.5, 2.5, 3.5), True, 1, (None, 3)),
        ((3, 2.5, 1.9, 1), False, 1, (None, 3)),  # 1 is not better than 1.9 by more than 1
        ((3, 2.5, 2, 1), False, 1, (3, 1)),
        ((3, 2.5, 1), False, 1, (None, 3)),
        ((np.inf, np.inf, 1), False, 0, (None, 3)),
        ((np.inf, np.inf, np.inf), False, 0, (3, 1)),
    ],
)
def test_the_rule(values, maximize, delta, expected):
    rule = EarlyStopping(2, delta, first_metric_only=False)
    assert stopped(rule, scores(*values, maximize=maximize)) == expected


@pytest.mark.parametrize(("first_only", "expected"), [(False, (3, 1)), (True, (None, 4))])
def test_any_metric_stops(first_only, expected):
    sequence = [
        [Score("valid_0", "a", 5 - n, False), Score("valid_0", "b", n, False)] for n in range(4)
    ]
    assert stopped(EarlyStopping(2, 0, first_metric_only=first_only), sequence) == expected


def test_without_stopping_the_first_metric_chooses():
    sequence = [
        [Score("valid_0", "a", abs(n - 2), False), Score("valid_0", "b", n, True)] for n in range(5)
    ]
    assert stopped(EarlyStopping(9, 0, first_metric_only=False), sequence) == (None, 3)


def test_first_metric_only_watches_every_set():
    sequence = [
        [Score("valid_0", "a", -n, False), Score("valid_1", "a", n, False)] for n in range(4)
    ]
    assert stopped(EarlyStopping(2, 0, first_metric_only=True), sequence) == (3, 1)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("delta", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(10))
def test_the_rule_is_lightgbms(seed, delta, first_only):
    lightgbm = pytest.importorskip("lightgbm")
    callback = pytest.importorskip("lightgbm.callback")
    rng = np.random.default_rng(seed)
    n = 30
    values = rng.normal(size=(n, 4)) + np.linspace(0, 2, n)[:, None]
    made = [
        [
            Score(name, metric, value, metric == "b")
            for (name, metric), value in zip(
                [("v0", "a"), ("v0", "b"), ("v1", "a"), ("v1", "b")], some
            )
        ]
        for some in values
    ]
    theirs = lightgbm.early_stopping(6, first_only, verbose=False, min_delta=delta)
    found = None
    for iteration, some in enumerate(made):
        env = callback.CallbackEnv(None, {}, iteration, 0, n, some)
        try:
            theirs(env)
        except callback.EarlyStopException as stop:
            found = (iteration + 1, stop.best_iteration + 1)
            break
    ours = EarlyStopping(6, delta, first_metric_only=first_only)
    after, best = stopped(ours, made)
    assert (after or n, best) == found


def fitted_until(objective, params=None, fit=None, n_estimators=200, **changes):
    """A fit of few rows, which soon gets worse."""
    data = training_data(objective, 120)
    given = evaluation_data(objective, rows(objective, 150, 1))
    model = estimator_for(
        objective, **{"n_estimators": n_estimators, "learning_rate": 0.4, **(params or {})}
    )
    return model.fit(**{**data, **given, **(fit or {}), **changes}), data


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_best_model_is_the_model(objective):
    model, data = fitted_until(objective, {"early_stopping_rounds": 5})
    n = model.best_iteration_
    history = model.evals_result_["valid_0"]
    if objective != "lambdarank":  # of which any of five metrics stops it
        (values,) = history.values()
        assert n == 1 + np.argmin(values) == len(values) - 5 < 195
    params = {"learning_rate": 0.4, "n_estimators": n}
    whole = estimator_for(objective, **params).fit(**data)
    assert model.booster_ == whole.booster_
    assert model.n_iter_ == model.n_estimators_ == model.booster_.n_iterations == n
    assert model.best_score_["valid_0"] == {key: some[n - 1] for key, some in history.items()}
    assert (model.predict(data["X"]) == whole.predict(data["X"])).all()


def test_a_fit_that_is_not_stopped_keeps_the_best_too():
    model, _ = fitted_until("binary", {"early_stopping_rounds": 59}, n_estimators=60)
    values = model.evals_result_["valid_0"]["binary_logloss"]
    assert len(values) == 60 or len(values) == model.best_iteration_ + 59
    assert model.best_iteration_ == 1 + np.argmin(values) == model.booster_.n_iterations


def test_the_training_rows_stop_nothing():
    X, y, weight, _ = rows("binary", 120, 0)
    other = rows("binary", 150, 1)
    given = {"sample_weight": weight, "X": X, "y": y}
    params = {"n_estimators": 60, "learning_rate": 0.4, "early_stopping_rounds": 5}
    alone = QGBDTClassifier(**params).fit(**given, X_val=other[0], y_val=other[1])
    both = QGBDTClassifier(**params).fit(
        **given, eval_set=[(X, y), other[:2]], eval_names=["mine", "others"]
    )
    assert both.booster_ == alone.booster_
    assert both.evals_result_["others"] == alone.evals_result_["valid_0"]

    def of_others(y_true, y_pred):  # gets worse on the training rows only
        times.append(len(y_true))
        return "mine", len(times) if len(y_true) == 120 else -len(times), False

    times = []
    whole = QGBDTClassifier(**params).fit(
        **given, eval_set=[(X, y), other[:2]], eval_metric=of_others
    )
    assert whole.best_iteration_ == 60
    same = QGBDTClassifier(**params).fit(**given, eval_set=[(X.copy(), y)])  # not the very rows
    assert same.best_iteration_ == 1 + np.argmin(same.evals_result_["valid_0"]["binary_logloss"])


def test_first_metric_only():
    metrics = ["binary_logloss", "binary_error"]  # the second stops improving first
    fits = {}
    for only in (False, True):
        fits[only], _ = fitted_until(
            "binary",
            {"early_stopping_rounds": 8, "first_metric_only": only},
            eval_metric=metrics,
        )
    loss = fits[True].evals_result_["valid_0"]["binary_logloss"]
    assert fits[True].best_iteration_ == 1 + np.argmin(loss)
    error = fits[False].evals_result_["valid_0"]["binary_error"]
    assert fits[False].best_iteration_ == 1 + np.argmin(error) < fits[True].best_iteration_


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")
def test_lightgbm_stops_at_about_the_same_place():
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 8))
    y = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=4000)
    given = {"eval_set": [(X[2000:], y[2000:])]}
    ours = QGBDTRegressor(n_estimators=400, early_stopping_rounds=20, grad_bits=16)
    ours.fit(X[:2000], y[:2000], **given)
    theirs = lightgbm.LGBMRegressor(n_estimators=400, verbose=-1, n_jobs=1)
    theirs.fit(X[:2000], y[:2000], **given, callbacks=[lightgbm.early_stopping(20, verbose=False)])
    assert 0.6 < ours.best_iteration_ / theirs.best_iteration_ < 1.6
    best = theirs.best_score_["valid_0"]["l2"]
    np.testing.assert_allclose(ours.best_score_["valid_0"]["l2"], best, rtol=0.02)


# ----------------------------------------------------------------- functions as metrics, callbacks


@pytest.mark.parametrize("objective", ["poisson", "binary", "multiclass", "lambdarank"])
def test_functions_see_predictions(objective):
    X, y, weight, sizes = rows(objective, 100, 1)
    seen = []

    def two(y_true, y_pred):
        seen.append((y_true, y_pred.copy()))
        return "two", 1.0, False

    def four(y_true, y_pred, sample_weight, group):
        assert (sample_weight == weight).all()
        assert group is None if sizes is None else (group == sizes).all()
        return [("sum", float(y_pred.sum()), True), ("n", len(y_true), False)]

    model = estimator_for(objective, n_estimators=3).fit(
        **training_data(objective),
        **evaluation_data(objective, (X, y, weight, sizes)),
        eval_metric=[two, four],
    )
    history = model.evals_result_["valid_0"]
    assert list(history) == ["two", "sum", "n"]
    for n, (y_true, y_pred) in enumerate(seen, start=1):
        assert (y_true == y).all()
        assert (y_pred == model.booster_.predict(X, num_iteration=n)).all()
        assert history["sum"][n - 1] == y_pred.sum()


def test_a_function_stops():
    values = iter([3.0, 5.0, 4.0, 4.0, 9.0])
    model, _ = fitted_until(
        "regression",
        {"early_stopping_rounds": 2},
        eval_metric=lambda y, p: ("mine", next(values), True),
    )
    assert (model.best_iteration_, model.booster_.n_iterations) == (2, 2)
    assert model.evals_result_["valid_0"] == {"mine": [3.0, 5.0, 4.0, 4.0]}


@pytest.mark.parametrize("result", [1.0, ("a", 1.0), ("a", "b", True), (1, 1.0, True), None])
def test_what_a_function_must_return(result):
    def mine(y, p):
        return result

    with pytest.raises(DataError, match=r"The eval_metric mine must return \(name, value, is_hi"):
        fitted_until("regression", eval_metric=mine)


def test_a_function_must_stay_with_its_metrics():
    names = iter("aab")
    with pytest.raises(DataError, match="must give the same metrics each time"):
        fitted_until("regression", eval_metric=lambda y, p: (next(names), 1.0, True))


@pytest.mark.parametrize("names", [["a", "a"], ["l2"], []])
def test_a_function_must_give_metrics_once(names):
    def mine(y, p):
        return [(name, 1.0, True) for name in names]

    metric = ["l2", mine] if names else mine
    with pytest.raises(DataError, match="the same metrics each time, each once"):
        fitted_until("regression", {"early_stopping_rounds": 2}, eval_metric=metric)


def test_callbacks_see_each_iteration():
    seen = []
    start, _ = fitted_until("regression", n_estimators=3)
    model, _ = fitted_until(
        "regression", n_estimators=4, init_model=start, callbacks=[seen.append, lambda s: False]
    )
    assert [state.iteration for state in seen] == [3, 4, 5, 6]
    for state, value in zip(seen, model.evals_result_["valid_0"]["l2"], strict=True):
        assert (state.begin_iteration, state.end_iteration) == (3, 7)
        assert state.evaluation_result_list == [("valid_0", "l2", value, False)]
        assert state.params == model.get_params()
        assert isinstance(state.model, QGBDTRegressor)


def test_callbacks_need_no_evaluation():
    X, y, *_ = rows("regression", 100, 0)
    seen = []
    model = QGBDTRegressor(n_estimators=9).fit(
        X, y, callbacks=[seen.append, lambda state: state.iteration == 3]
    )
    assert len(seen) == model.n_iter_ == 4
    assert seen[0].evaluation_result_list == []
    assert model.booster_ == QGBDTRegressor(n_estimators=4).fit(X, y).booster_


def test_an_error_of_a_callback_ends_the_fit():
    X, y, *_ = rows("regression", 100, 0)
    model = QGBDTRegressor()

    def fails(state):
        raise ZeroDivisionError("of mine")

    with pytest.raises(ZeroDivisionError, match="of mine"):
        model.fit(X, y, callbacks=[fails])
    assert not hasattr(model, "booster_")


@pytest.mark.parametrize(("verbose", "iterations"), [(-1, []), (0, []), (1, [1, 2, 3]), (2, [2])])
def test_progress_is_logged(verbose, iterations, caplog, capfd):
    with caplog.at_level("INFO"):
        model, data = fitted_until("regression", {"verbose": verbose}, n_estimators=3)
        QGBDTRegressor(n_estimators=3, verbose=verbose).fit(data["X"], data["y"])
    values = model.evals_result_["valid_0"]["l2"]
    lines = [record.getMessage() for record in caplog.records if record.name == "qgbdt"]
    with_values = [f"[{i}]\tvalid_0's l2: {values[i - 1]:g}" for i in iterations]
    assert lines == with_values + [f"[{i}]" for i in iterations]
    assert capfd.readouterr() == ("", "")


# --------------------------------------------------------------------------------------- going on


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_fit_that_was_interrupted_stops_where_it_would_have(objective, tmp_path):
    params = {"early_stopping_rounds": 5}
    whole, _ = fitted_until(objective, params)
    n_trained = len(next(iter(whole.evals_result_["valid_0"].values())))

    for at in (0, whole.best_iteration_, n_trained - 2):

        def interrupt(state, at=at):
            if state.iteration == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fitted_until(
                objective, params, callbacks=[interrupt], checkpoint_dir=tmp_path, resume=True
            )
    for _ in range(2):  # the second finds all trees there
        resumed, _ = fitted_until(objective, params, checkpoint_dir=tmp_path, resume=True)
        assert resumed.booster_ == whole.booster_
        assert resumed.evals_result_ == whole.evals_result_
        assert resumed.best_score_ == whole.best_score_


def test_trees_behind_the_end_are_not_evaluated(tmp_path):
    params = {"early_stopping_rounds": 5}
    whole, _ = fitted_until("binary", params)
    fitted_until("binary", checkpoint_dir=tmp_path)  # which nothing stops
    resumed, _ = fitted_until("binary", params, checkpoint_dir=tmp_path, resume=True)
    assert resumed.booster_ == whole.booster_
    assert resumed.evals_result_ == whole.evals_result_


def test_other_rows_may_be_evaluated_when_a_fit_goes_on(tmp_path):
    first, _ = fitted_until("binary", n_estimators=6, checkpoint_dir=tmp_path)
    X, y, *_ = rows("binary", 80, 5)
    given = {"eval_set": [(X, y)], "eval_sample_weight": None}
    whole, _ = fitted_until("binary", n_estimators=9, **given)
    resumed, _ = fitted_until(
        "binary", n_estimators=9, **given, checkpoint_dir=tmp_path, resume=True
    )
    assert resumed.evals_result_ == whole.evals_result_ != first.evals_result_


def test_it_goes_on_from_a_model_that_was_stopped():
    start, _ = fitted_until("poisson", {"early_stopping_rounds": 5})
    grown, _ = fitted_until("poisson", {"early_stopping_rounds": 5}, init_model=start)
    n = start.best_iteration_
    assert grown.booster_.n_iterations == grown.best_iteration_ > n
    values = grown.evals_result_["valid_0"]["poisson"]
    X, y, weight, _ = rows("poisson", 150, 1)
    raw = grown.booster_.predict(X, raw_score=True)
    params = native_params(objective="poisson")
    best = ref.metric("poisson", raw[None], y, weight, params)
    assert values[grown.best_iteration_ - n - 1] == best == min(values)
    assert grown.best_score_ == {"valid_0": {"poisson": best}}


# ------------------------------------------------------------------------------- rows held back


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


class Nothing:
    def split(self, X, y, groups):
        yield np.arange(len(X)), np.arange(0)


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


# ---------------------------------------------------------------------------------------- workers


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


# ------------------------------------------------------------------------------------ what is wrong

X, Y, *_ = rows("binary", 60, 0)


@pytest.mark.parametrize(
    ("params", "fit", "error", "words"),
    [
        (
            {"early_stopping_rounds": 3},
            {},
            ParameterError,
            "early_stopping_rounds needs rows apart",
        ),
        (
            {"early_stopping_rounds": 3},
            {"eval_set": [(X, Y)]},  # the very rows of training
            ParameterError,
            "early_stopping_rounds needs rows apart from those of training: pass eval_set or X_val",
        ),
        ({}, {"eval_metric": "auc"}, ParameterError, "eval_metric needs rows to evaluate: pass"),
        (
            {"validation_fraction": 0.1},
            {"X_val": X, "y_val": Y},
            ParameterError,
            "With eval_set or X_val it must be None",
        ),
        (
            {},
            {"X_val": X, "y_val": Y, "eval_set": [(X, Y)]},
            DataError,
            "Give either eval_set or X_val and y_val, not both",
        ),
        ({}, {"X_val": X}, DataError, "X_val and y_val are needed together"),
        ({}, {"eval_set": [X]}, DataError, r"must hold pairs \(X, y\), but eval_set\[0\] is none"),
        (
            {},
            {"eval_set": [(X, Y)], "eval_names": ["a", "b"]},
            DataError,
            "eval_names must have an entry for each set of eval_set, 1, got 2",
        ),
        (
            {},
            {"eval_sample_weight": [None]},
            DataError,
            "eval_sample_weight must have an entry for each set of eval_set, 0, got 1",
        ),
        (
            {},
            {"eval_set": [(X, Y)] * 2},
            DataError,
            "eval_names must differ from each other, got .'training', 'training'",
        ),
        (
            {},
            {"X_val": X, "y_val": Y, "eval_metric": "rmse"},
            ParameterError,
            "no metric 'rmse' for objective='binary'. It has binary_logloss, binary_error, auc, ",
        ),
        (
            {},
            {"X_val": X, "y_val": Y, "eval_metric": 3},
            ParameterError,
            "eval_metric must be a name, a function or a list of these. Got 3",
        ),
        (
            {},
            {"X_val": X, "y_val": np.ones(60), "eval_metric": "auc"},
            DataError,
            "eval_metric='auc' needs rows of both classes, but the evaluation set 'valid_0' has",
        ),
        ({}, {"X_val": X, "y_val": Y + 1}, DataError, r"y has the label .*2.0.*, which y of train"),
        ({}, {"X_val": X[:, :2], "y_val": Y}, ValueError, "X has 2 features, but QGBDTClassifier"),
        (
            {},
            {"X_val": X, "y_val": Y, "sample_weight_val": np.zeros(60)},
            DataError,
            "sample_weight is zero on all rows",
        ),
        ({}, {"callbacks": [3]}, ParameterError, r"callbacks must be functions. Got \[3\]"),
        ({"validation_fraction": 0.001}, {}, DataError, "holds none of 60 rows back"),
        ({}, {"groups": Y}, ParameterError, "groups are for a splitter: set validation_fraction"),
        ({"validation_fraction": Nothing()}, {}, DataError, "must have rows to train and others"),
    ],
)
def test_what_is_wrong(params, fit, error, words):
    with pytest.raises(error, match=words):
        QGBDTClassifier(n_estimators=2, **params).fit(X, Y, **fit)


def test_errors_say_of_which_set():
    with pytest.raises(ValueError, match="inconsistent numbers") as caught:
        QGBDTClassifier().fit(X, Y, eval_set=[(X, Y), (X, Y[1:])], eval_names=["a", "b"])
    assert caught.value.__notes__ == ["That is of the evaluation set 'b'."]


@pytest.mark.parametrize(
    ("metric", "words"),
    [("poisson_deviance", "needs y >= 0, got -1.0"), ("gamma", "needs y > 0, got -1.0")],
)
def test_targets_out_of_the_range_of_the_metric(metric, words):
    with pytest.raises(DataError, match=f"eval_metric='{metric}' {words}"):
        QGBDTRegressor().fit(X, Y + 1, X_val=X, y_val=2 * Y - 1, eval_metric=metric)


def test_a_ranker_needs_groups():
    data = training_data("lambdarank", 60)
    with pytest.raises(DataError, match=r"need eval_group \(or X_val needs group_val\)"):
        QGBDTRanker().fit(**data, eval_set=[(data["X"], data["y"])])
    with pytest.raises(ParameterError, match=r"eval_at must hold positive integers. Got \[0\]"):
        QGBDTRanker().fit(**data, eval_at=[0])


def test_several_workers_refuse_functions():
    def work(worker):
        fit = QGBDTClassifier().fit
        given = {"X_val": X, "y_val": Y, "eval_metric": lambda y, p: ("a", 1.0, True)}
        return outcome(lambda: fit(X, Y, **given, communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, ParameterError)
        assert "A function as eval_metric sees the rows of one worker only" in str(error)


def test_several_workers_refuse_splitters():
    def work(worker):
        fit = QGBDTClassifier(validation_fraction=ShuffleSplit(1)).fit
        return outcome(lambda: fit(X, Y, communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, ParameterError)
        assert "A splitter as validation_fraction sees the rows of one worker" in str(error)


def test_an_evaluation_set_without_rows():
    def work(worker):
        fit = QGBDTClassifier().fit
        return outcome(lambda: fit(X, Y, X_val=X[:0], y_val=Y[:0], communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert "The evaluation set 'valid_0' has no rows" in str(error)
