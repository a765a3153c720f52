"""Objectives and metrics of the user's own: functions of all rows, and compiled ones of one row.

Swept: both kinds, weights, threads, workers, SIMD levels, ways to go on, links, model files, what
is wrong. Against: the built-in objectives with the same arithmetic. Tolerance: none, equality.
"""

import ctypes
import doctest
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import sklearn.metrics
from conftest import hurting_data, targets
from evaluating import rows, training_data
from sklearn.base import clone
from test_continuation import fitted
from workers import fit_together, in_threads, outcome, shards

import qgbdt
from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core, compiled
from qgbdt.distributed import connect_threads
from qgbdt.errors import DataError, DisagreementError, ParameterError

pytest.importorskip("numba")

from qgbdt.elementary import with_ours


def squared_error(y, score):
    return score - y, np.ones_like(y)


def weighted_squared_error(y, score, weight):
    weight = 1.0 if weight is None else weight
    return (score - y) * weight, np.ones_like(y) * weight


@qgbdt.objective
def compiled_squared_error(score, target):
    return score - target, 1.0


@qgbdt.objective
def compiled_huber(score, target, alpha=0.9):
    error = score - target
    return max(-alpha, min(error, alpha)), 1.0


@qgbdt.objective(link="logistic")
def compiled_logistic(score, target):
    p = 1.0 / (1.0 + np.exp(-score))
    return p - target, p * (1.0 - p)


@qgbdt.objective(link="exponential")
def compiled_poisson(score, target, of_step=ref.EXP_OF_0_7):
    mean = np.exp(score)
    return mean - target, mean * of_step


@qgbdt.objective(link="exponential")
def compiled_tweedie(score, target, rho=1.5):
    a = target * math.exp((1.0 - rho) * score)
    b = math.exp((2.0 - rho) * score)
    return b - a, a * (rho - 1.0) + b * (2.0 - rho)


def gamma_with(power):
    """Its exp is in a closure."""

    @qgbdt.objective(link="exponential")
    def compiled_gamma(score, target):
        ratio = target * power(-score)
        return 1.0 - ratio, ratio

    return compiled_gamma


def logistic(y, score):
    p = 1 / (1 + np.exp(-score))
    return p - y, p * (1 - p)


TWINS = [
    (squared_error, "regression"),
    (weighted_squared_error, "regression"),
    (compiled_squared_error, "regression"),
    (compiled_huber, "huber"),
    (compiled_logistic, "cross_entropy"),
    (compiled_poisson, "poisson"),
    (compiled_tweedie, "tweedie"),
    (gamma_with(math.exp), "gamma"),
]
every_twin = pytest.mark.parametrize(
    ("custom", "built_in"), TWINS, ids=lambda some: getattr(some, "__name__", None) or str(some)
)


def trees(booster):
    """The model file but for the objective and the checksum."""
    return booster.to_bytes().split(b"\n")[2:-2]


def data_of(weighted, n=400):
    X, y, weight, _ = rows("regression", n, 0)
    return {"X": X, "y": y, "sample_weight": weight if weighted else None}


@pytest.mark.parametrize("weighted", [False, True])
@every_twin
def test_equals_its_built_in_twin(custom, built_in, weighted, monkeypatch):
    data = data_of(weighted, 6000)
    if built_in not in ("regression", "huber"):
        data["y"] = 1 / (1 + np.exp(-data["y"]))  # which they all take
    twin = QGBDTRegressor(objective=built_in, n_estimators=4, n_jobs=1)
    expected = trees(twin.fit(**data, init_score=np.zeros(6000)).booster_)  # as custom ones start
    for simd in _core.simd_levels():
        monkeypatch.setenv("QGBDT_SIMD", simd)
        for n_jobs in (1, 3):
            model = QGBDTRegressor(objective=custom, n_estimators=4, n_jobs=n_jobs).fit(**data)
            assert trees(model.booster_) == expected


def test_elementary_functions():
    """Compiled ones are those of the reference, whose every bit is known; over all magnitudes."""
    from qgbdt.elementary import exp, log

    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=2000) * 10.0**k for k in range(-300, 300, 20)])
    x = np.concatenate([x, rng.normal(size=20_000) * 100, [0.0, -0.0, 708, -708, 709, -709]])
    np.testing.assert_array_equal([exp(value) for value in x], ref.exp(x))
    positive = np.abs(x[np.abs(x) > 2.0**-1022])
    np.testing.assert_array_equal([log(value) for value in positive], ref.log(positive))
    with np.errstate(divide="ignore", invalid="ignore"):
        for value in (0.0, -0.0, -1.0, np.inf, -np.inf, np.nan):
            np.testing.assert_array_equal(log(value), np.log(value))
    assert math.isnan(exp(np.nan))
    assert log(5e-324) == -np.inf
    assert (exp(np.inf), exp(-np.inf)) == (exp(708.0), exp(-708.0))
    assert exp(1) == exp(1.0) == pytest.approx(math.e)
    assert log(2) == log(2.0) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("custom", "gradients", "exponent"),
    [
        (compiled_poisson, ref.poisson_gradients, 1.0),
        (compiled_tweedie, ref.tweedie_gradients, 0.5),
        (gamma_with(math.exp), ref.gamma_gradients, -1.0),
    ],
)
def test_compiled_gradients_to_the_last_bit(custom, gradients, exponent):
    """Trees hardly show it: gradients are rounded to float32 on the way."""
    n, pointer = 2000, ctypes.POINTER(ctypes.c_double)
    rng = np.random.default_rng(0)
    score, target, g, h = rng.normal(size=n), rng.random(n), np.empty(n), np.empty(n)
    compiled_loop = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[pointer] * 4)(custom.of_single_rows(1))
    compiled_loop(n, *(some.ctypes.data_as(pointer) for some in (score, target, g, h)))
    expected = gradients(score, target, {"tweedie_variance_power": 1.5})
    np.testing.assert_array_equal((g, h), expected)
    assert (np.exp(exponent * score) != ref.exp(exponent * score)).any()  # so it can fail


def test_elementary_functions_go_where_theirs_are_named():
    @qgbdt.metric
    def named(prediction, target):
        return np.log(prediction) + math.log(prediction) + np.exp(target) + math.exp(target)

    ours = with_ours(named.function)
    one, e = 0.37, 0.81
    expected = 2 * float(ref.log(one)) + 2 * float(ref.exp(e))
    assert ours(one, e) == pytest.approx(expected, rel=1e-15)
    assert ours.__globals__["np"].log is not np.log
    assert ours.__globals__["np"].sqrt is np.sqrt
    assert named.function(one, e) == np.log(one) + math.log(one) + np.exp(e) + math.exp(e)


@every_twin
def test_workers_train_the_model_of_one(custom, built_in, tmp_path):
    data = data_of(True)
    estimator = QGBDTRegressor(objective=custom, n_estimators=4, n_jobs=1)
    alone = fitted(estimator, 4, data).booster_
    parts = [{k: v[some] for k, v in data.items()} for some, _ in shards(400, [0, 130])]
    for one in fit_together(connect_threads(3), estimator, parts):
        assert one.booster_ == alone
    for n in (2, 4):
        part = fitted(estimator, n, data, checkpoint_dir=tmp_path, resume=True)
    assert part.booster_ == alone
    start = fitted(estimator, 1, data)
    assert fitted(estimator, 3, data, init_model=start).booster_ == alone


@pytest.mark.parametrize("objective", [compiled_logistic, logistic])
def test_classes(objective):
    X, y, weight, _ = rows("binary", 500, 0)
    labels = np.where(y > 0, "yes", "no")
    model = QGBDTClassifier(objective=objective, n_estimators=10).fit(
        X, labels, weight, X_val=X, y_val=labels, eval_metric=["binary_error", "auc"]
    )
    twin = QGBDTClassifier(n_estimators=10).fit(X, labels, weight, init_score=np.zeros(500))
    # numba's and NumPy's exp differ from ours in the last bit
    np.testing.assert_allclose(model.decision_function(X), twin.decision_function(X), atol=0.2)
    assert (model.predict(X) == twin.predict(X)).mean() > 0.98
    assert model.evals_result_["valid_0"]["binary_error"][-1] < 0.2
    if objective is logistic:
        with pytest.raises(
            ParameterError, match="logistic gives no probabilities: its link is 'id"
        ):
            model.predict_proba(X)
    else:
        p = model.predict_proba(X)[:, 1]
        np.testing.assert_allclose(p, 1 / (1 + np.exp(-model.decision_function(X))), rtol=1e-12)


def softmax_error(y, score):
    p = np.exp(score - score.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p - (y[:, None] == np.arange(3)), 1.5 * p * (1 - p)


def test_more_classes():
    X, y, _, _ = rows("multiclass", 500, 0)
    model = QGBDTClassifier(objective=softmax_error, n_estimators=10).fit(X, y)
    assert model.booster_.predict(X).shape == (500, 3)
    assert (model.predict(X) == y).mean() > 0.8
    twin = QGBDTClassifier(n_estimators=10).fit(X, y, init_score=np.zeros((500, 3)))
    assert (model.predict(X) == twin.predict(X)).mean() > 0.98
    with pytest.raises(ParameterError, match="is of one score a row, but there are 3 classes"):
        QGBDTClassifier(objective=compiled_squared_error).fit(X, y)


def test_rankers_see_their_queries():
    data = training_data("lambdarank", 200)
    seen = []

    def pointwise(y, score, weight, group):
        seen.append((weight, group))
        return (score - y) * weight, weight

    model = QGBDTRanker(objective=pointwise, n_estimators=3, n_jobs=1)
    X, y, _, sizes = rows("lambdarank", 100, 1)
    model.fit(**data, eval_set=[(X, y)], eval_group=[sizes])
    assert all(np.array_equal(group, data["group"]) for _, group in seen)
    assert all(np.array_equal(weight, data["sample_weight"]) for weight, _ in seen)
    assert list(model.best_score_["valid_0"]) == [f"ndcg@{k}" for k in (1, 2, 3, 4, 5)]
    regressor = QGBDTRegressor(n_estimators=3, n_jobs=1)
    expected = fitted(
        regressor, 3, {k: data[k] for k in ("X", "y", "sample_weight")}, init_score=np.zeros(200)
    )
    assert trees(model.booster_) == trees(expected.booster_)


# ------------------------------------------------------------------------------------- model files


def test_a_model_keeps_the_name_and_not_the_code(tmp_path):
    data = data_of(False)
    objective = compiled_huber.with_parameters(alpha=2.5)
    model = QGBDTRegressor(objective=objective, n_estimators=2).fit(**data)
    model.booster_.save_model(tmp_path / "model")
    loaded = Booster.load_model(tmp_path / "model")
    assert loaded == model.booster_
    assert (loaded.objective, model.objective_) == ("custom", "custom")
    name, link, source, parameters = loaded.custom
    assert (name, link, parameters) == ("compiled_huber", "identity", "alpha=2.5")
    assert re.fullmatch("[0-9a-f]{64}", source)
    assert b"error" not in loaded.to_bytes()
    assert QGBDTRegressor(n_estimators=1).fit(**data).booster_.custom is None
    twin = QGBDTRegressor(objective="huber", alpha=2.5, n_estimators=2)
    assert trees(twin.fit(**data, init_score=np.zeros(400)).booster_) == trees(loaded)


def test_the_link_is_kept(tmp_path):
    @qgbdt.objective(link="exponential")
    def poisson(score, target):
        return np.exp(score) - target, np.exp(score)

    X, y, _, _ = rows("poisson", 300, 0)
    booster = QGBDTRegressor(objective=poisson, n_estimators=5).fit(X, y).booster_
    loaded = Booster.from_bytes(booster.to_bytes())
    np.testing.assert_allclose(loaded.predict(X), np.exp(loaded.predict(X, raw_score=True)))


def test_other_parameters_do_not_go_on():
    data = data_of(False)
    start = QGBDTRegressor(objective=compiled_huber, n_estimators=1).fit(**data)
    for other in (compiled_huber.with_parameters(alpha=1.0), squared_error, "huber"):
        with pytest.raises(DataError, match="init_model cannot be continued: its objective"):
            QGBDTRegressor(objective=other, n_estimators=1).fit(**data, init_model=start)


def test_cloned_and_pickled():
    estimator = QGBDTRegressor(objective=compiled_huber, n_estimators=2)
    expected = estimator.fit(**data_of(False)).booster_
    for copy in (clone(estimator), pickle.loads(pickle.dumps(squared_error_estimator()))):
        copy.fit(**data_of(False))
    assert clone(estimator).fit(**data_of(False)).booster_ == expected
    assert compiled_huber(3.0, 1.0) == (0.9, 1.0)
    assert repr(compiled_huber) == "qgbdt.objective(compiled_huber, alpha=0.9)"


def squared_error_estimator():
    return QGBDTRegressor(objective=squared_error, n_estimators=2)


# ----------------------------------------------------------------------------------------- metrics


@qgbdt.metric
def pinball(prediction, target, level=0.5):
    error = target - prediction
    return level * error if error > 0 else (level - 1) * error


@qgbdt.metric(is_higher_better=True)
def within_one(prediction, target):
    return 1.0 if abs(prediction - target) <= 1.0 else 0.0


def test_compiled_metrics():
    data = data_of(True)
    X, y, weight, _ = rows("regression", 300, 1)
    metrics = ["l2", within_one, pinball.with_parameters(level=0.9), "quantile"]
    estimator = QGBDTRegressor(n_estimators=20, early_stopping_rounds=2, n_jobs=1)
    how = {"eval_set": [(X, y)], "eval_sample_weight": [weight], "eval_metric": metrics}
    model = fitted(estimator, 20, data, **how)
    found = model.evals_result_["valid_0"]
    assert list(found) == ["l2", "quantile", "within_one", "pinball"]
    assert found["pinball"] == found["quantile"]  # of alpha=0.9
    p = [model.booster_.predict(X, num_iteration=n + 1) for n in range(model.n_iter_)]
    hits = [np.average(np.abs(some - y) <= 1, weights=weight) for some in p]
    np.testing.assert_allclose(found["within_one"][: len(hits)], hits, rtol=1e-12)
    losses = [
        sklearn.metrics.mean_pinball_loss(y, some, alpha=0.9, sample_weight=weight) for some in p
    ]
    np.testing.assert_allclose(found["pinball"][: len(losses)], losses, rtol=1e-12)
    assert found["within_one"][-1] > found["within_one"][0]  # and training went on
    parts = [{k: v[some] for k, v in data.items()} for some, _ in shards(400, [130])]
    for part, (some, _) in zip(parts, shards(300, [100]), strict=True):
        part |= {"eval_set": [(X[some], y[some])], "eval_sample_weight": [weight[some]]}
        part["eval_metric"] = metrics
    for one in fit_together(connect_threads(2), estimator, parts):
        assert one.evals_result_ == model.evals_result_


def test_metrics_of_one_prediction_only():
    X, y, _, _ = rows("multiclass", 60, 0)
    with pytest.raises(ParameterError, match="The metric pinball is of one prediction a row"):
        QGBDTClassifier().fit(X, y, X_val=X, y_val=y, eval_metric=pinball)
    data = training_data("lambdarank", 60)
    with pytest.raises(ParameterError, match="The metric pinball is of one prediction a row"):
        QGBDTRanker(validation_fraction=0.5).fit(**data, eval_metric=pinball)


def test_the_documentation_runs():
    document = str(Path(__file__).parents[1] / "docs/objectives.md")
    results = doctest.testfile(document, module_relative=False)
    assert results.attempted > 15
    assert results.failed == 0
    assert doctest.testmod(compiled) == (0, 6)


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y, s: s - y, r"must return \(gradient, hessian\)"),
        (lambda y, s: (s - y, 1.0), r"of shape \(40,\), got \(\)"),
        (lambda y, s: (s - y, np.ones(3)), r"of shape \(40,\), got \(3,\)"),
        (lambda y, s: (s - y, -np.ones(40)), "returned a negative hessian, -1.0"),
        (lambda y, s: (s * np.nan, np.ones(40)), "returned NaN or infinity"),
    ],
)
def test_functions_that_return_something_else(function, words):
    X = np.zeros((40, 1))
    with pytest.raises(DataError, match=words):
        QGBDTRegressor(objective=function).fit(X, X[:, 0])


def test_an_error_in_a_function_comes_through():
    def breaks(y, score):
        raise KeyError("mine")

    X = np.zeros((40, 1))
    with pytest.raises(KeyError, match="mine"):
        QGBDTRegressor(objective=breaks).fit(X, X[:, 0])


@pytest.mark.parametrize(
    "function", [lambda score, target: score, lambda score, target: ("a", score)]
)
def test_what_cannot_be_compiled(function):
    X = np.zeros((40, 1))
    with pytest.raises(ParameterError, match=r"cannot be compiled. It must return \(gradient, hes"):
        QGBDTRegressor(objective=qgbdt.objective(function)).fit(X, X[:, 0])


def test_wrong_definitions():
    with pytest.raises(ParameterError, match="must take two numbers and its parameters"):
        qgbdt.objective(lambda score: score)
    with pytest.raises(ParameterError, match=r"The parameter c of .* needs a number"):
        qgbdt.metric(lambda prediction, target, c: c)
    with pytest.raises(ParameterError, match="link must be one of identity, logistic, exponential"):
        qgbdt.objective(link="softmax")
    for wrong in ({"beta": 1.0}, {"alpha": "a"}):
        with pytest.raises(ParameterError, match=r"takes numbers as its parameters \['alpha'\]"):
            compiled_huber.with_parameters(**wrong)


def test_hessians_below_0_count_as_0_and_no_gradient_is_infinite():
    @qgbdt.objective
    def wild(score, target, least=-1.0):
        g = (score - target) / 0.0 if target > 2.5 else score - target
        return g, least if target < 0 else 1.0

    X = hurting_data(400)
    y, _ = targets(X, "regression")
    boosters = [
        QGBDTRegressor(objective=wild.with_parameters(least=least), n_estimators=2).fit(X, y)
        for least in (-1.0, 0.0, np.nan)
    ]
    expected, *others = [trees(model.booster_) for model in boosters]
    assert others == [expected] * 2
    assert np.isfinite(boosters[0].predict(X)).all()


@pytest.mark.parametrize("objective", [squared_error, compiled_squared_error])
def test_hessians_of_1_are_counted(objective):
    estimator = QGBDTRegressor(objective=objective, n_estimators=2)
    assert (estimator.fit(**data_of(False)).quantization_report_["hessian_levels"] == 1).all()
    assert (estimator.fit(**data_of(True)).quantization_report_["hessian_levels"] > 1).all()


def test_workers_must_have_the_same():
    data = data_of(False, 100)
    parts = [
        {k: v if v is None else v[some] for k, v in data.items()} for some, _ in shards(100, [50])
    ]

    def work(worker):
        objective = compiled_huber.with_parameters(alpha=1.0 + worker.rank)
        fit = QGBDTRegressor(objective=objective).fit
        return outcome(lambda: fit(**parts[worker.rank], communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, DisagreementError)
        assert "alpha=1.0" in str(error)
