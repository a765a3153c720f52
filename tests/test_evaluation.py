"""Evaluation while training: metrics are those of the predictions.

Swept: objectives, sets, weights, functions and callbacks. Against: the reference's metrics of the
model's own predictions. Tolerance: none.
"""

import numpy as np
import pytest
import reference as ref
from conftest import OBJECTIVES, native_params
from evaluating import (
    DEFAULT_NAMES,
    Nothing,
    estimator_for,
    evaluation_data,
    fitted_until,
    names_of,
    rows,
    training_data,
)
from sklearn.model_selection import (
    ShuffleSplit,
)
from test_distributed import in_threads, outcome

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.distributed import connect_threads
from qgbdt.errors import DataError, ParameterError

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
