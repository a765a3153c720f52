"""Stopping early keeps the best model, whichever rows, metrics and interruptions there were.

Swept: objectives, sequences of scores, where a fit is interrupted. Against: the rule in plain
Python, LightGBM; a fit that never stopped. Tolerance: none.
"""

import numpy as np
import pytest
import reference as ref
from conftest import OBJECTIVES, native_params
from evaluating import estimator_for, fitted_until, rows

from qgbdt import QGBDTClassifier, QGBDTRegressor
from qgbdt.evaluation import EarlyStopping, Score


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
