"""Several targets, several labels: each output is what a model of its own would be.

Swept: objectives, weights, threads, workers, sparse y, evaluation, checkpoints. Against: models of
single targets whose trees round alike (the first output's). Tolerance: none, but for sums of means.
"""

import numpy as np
import pytest
from conftest import hurting_data, targets
from scipy import sparse
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.multioutput import MultiOutputRegressor
from workers import fit_together, shards

from qgbdt import Booster, QGBDTClassifier, QGBDTRegressor
from qgbdt.distributed import connect_threads
from qgbdt.errors import CheckpointError, DataError, ParameterError

N = 600
X = hurting_data(N)
Y = np.column_stack([targets(X, "regression", seed)[0] for seed in range(3)])
LABELS = (Y > 0).astype(int)
WEIGHT = np.linspace(0, 2, N)


def regressor(**params):
    return QGBDTRegressor(n_estimators=5, **params)


def classifier(**params):
    return QGBDTClassifier(n_estimators=5, **params)


@pytest.mark.parametrize("objective", ["regression", "l1", "mape", "poisson", "tweedie"])
def test_the_first_target_is_a_model_of_its_own(objective):
    y = np.abs(Y) if objective in ("poisson", "tweedie") else Y
    model = regressor(objective=objective).fit(X, y, WEIGHT)
    alone = regressor(objective=objective).fit(X, y[:, 0], WEIGHT)
    prediction = model.predict(X)
    assert prediction.shape == (N, 3)
    np.testing.assert_array_equal(prediction[:, 0], alone.predict(X))


def test_each_target_is_as_good_as_a_model_of_its_own():
    x = np.random.default_rng(0).normal(size=(2000, 5))
    y = np.column_stack([x[:, 0] * x[:, 1], x[:, 2] ** 2, np.sin(2 * x[:, 3])])
    train, test = slice(0, 1500), slice(1500, 2000)
    one = QGBDTRegressor().fit(x[train], y[train]).predict(x[test])
    several = MultiOutputRegressor(QGBDTRegressor()).fit(x[train], y[train]).predict(x[test])
    errors = [np.mean((p - y[test]) ** 2, axis=0) for p in (one, several)]
    np.testing.assert_allclose(*errors, rtol=0.25)  # they round differently
    assert (errors[0] < 0.1 * y[test].var(axis=0)).all()


def test_labels():
    model = classifier().fit(X, LABELS, WEIGHT)
    alone = classifier().fit(X, LABELS[:, 0], WEIGHT)
    assert model.classes_.tolist() == [0, 1, 2]
    probability, decision = model.predict_proba(X), model.decision_function(X)
    assert probability.shape == decision.shape == (N, 3)
    np.testing.assert_array_equal(probability[:, 0], alone.predict_proba(X)[:, 1])
    np.testing.assert_array_equal(model.predict(X), decision > 0)
    assert model.predict(X).dtype == np.int64
    assert model.score(X, LABELS) > 0.5
    *_, last = model.staged_predict(X)
    np.testing.assert_array_equal(last, model.predict(X))


def test_two_labels_are_no_two_classes():
    model = classifier().fit(X, LABELS[:, :2])
    assert model.decision_function(X).shape == model.predict(X).shape == (N, 2)
    np.testing.assert_array_equal(
        model.predict_proba(X)[:, 1] > 0.5, model.decision_function(X)[:, 1] > 0
    )


def test_labels_of_any_kind():
    model = classifier().fit(X, LABELS).booster_
    for y in (sparse.csr_matrix(LABELS), LABELS.astype(bool), LABELS.tolist(), LABELS.astype("f4")):
        assert classifier().fit(X, y).booster_ == model


def test_a_single_column_is_a_vector():
    with pytest.warns(UserWarning, match="A column-vector y was passed when a 1d array"):
        model = regressor().fit(X, Y[:, :1])
    assert model.booster_ == regressor().fit(X, Y[:, 0]).booster_


@pytest.mark.parametrize("make", [regressor, classifier])
def test_workers_and_threads_make_the_model_of_one(make):
    y = Y if make is regressor else LABELS
    model = make(n_jobs=1).fit(X, y, WEIGHT).booster_
    assert make(n_jobs=3).fit(X, y, WEIGHT).booster_ == model
    parts = [
        {"X": X[rows], "y": y[rows], "sample_weight": WEIGHT[rows]}
        for rows, _ in shards(N, [200, 200, 350])
    ]
    for fit in fit_together(connect_threads(4), make(n_jobs=1), parts):
        assert fit.booster_ == model


def test_evaluated_as_means_over_the_targets():
    metrics = ["l2", "rmse", "l1"]

    def worst(y, prediction):
        return "worst", float(np.abs(y - prediction).max()), False

    model = regressor().fit(
        X,
        Y,
        eval_set=[(X[:99], Y[:99])],
        eval_sample_weight=[WEIGHT[:99]],
        eval_metric=[*metrics, worst],
    )
    found = {name: values[-1] for name, values in model.evals_result_["valid_0"].items()}
    error = model.predict(X[:99]) - Y[:99]
    l2 = np.average((error**2).mean(axis=1), weights=WEIGHT[:99])
    l1 = np.average(np.abs(error).mean(axis=1), weights=WEIGHT[:99])
    expected = {"l2": l2, "rmse": np.sqrt(l2), "l1": l1, "worst": np.abs(error).max()}
    assert found == pytest.approx(expected, rel=1e-12)
    labels = classifier(early_stopping_rounds=2).fit(X, LABELS, X_val=X, y_val=LABELS)
    p = labels.predict_proba(X)
    loss = -np.where(LABELS == 1, np.log(p), np.log(1 - p)).mean()
    assert labels.best_score_["valid_0"]["binary_logloss"] == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("make", [regressor, classifier])
def test_rows_held_back(make):
    y = Y if make is regressor else LABELS
    model = make(validation_fraction=0.25, early_stopping_rounds=3).fit(X, y)
    assert model.best_iteration_ is not None
    splitter = GroupKFold(3)
    groups = np.arange(N) % 7
    by_groups = make(validation_fraction=splitter).fit(X, y, groups=groups)
    assert by_groups.booster_ != model.booster_
    assert len(by_groups.evals_result_["valid_0"]) == 1


@pytest.mark.parametrize("make", [regressor, classifier])
def test_goes_on(make, tmp_path):
    y = Y if make is regressor else LABELS
    whole = make().fit(X, y, checkpoint_dir=tmp_path).booster_
    assert make(n_jobs=1).fit(X, y, checkpoint_dir=tmp_path, resume=True).booster_ == whole
    warm = make(warm_start=True).set_params(n_estimators=2).fit(X, y)
    assert warm.set_params(n_estimators=5).fit(X, y).booster_ == whole
    start = make().set_params(n_estimators=2).fit(X, y)
    init = start.booster_.predict(X, raw_score=True)
    assert make().fit(X, y, init_score=init).booster_.n_iterations == 5
    loaded = Booster.from_bytes(whole.to_bytes())
    np.testing.assert_array_equal(loaded.predict(X), whole.predict(X))


def test_another_order_of_targets_is_another_fit(tmp_path):
    regressor().fit(X, Y, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="the digest of y"):
        regressor().fit(X, Y[:, ::-1], checkpoint_dir=tmp_path, resume=True)


def test_explained():
    model = regressor().fit(X, Y)
    shap = model.predict(X[:9], pred_contrib=True)
    sums = np.asarray(shap).reshape(9, 3, X.shape[1] + 1).sum(axis=2)
    np.testing.assert_allclose(sums, model.predict(X[:9]), rtol=1e-9, atol=1e-9)
    assert model.apply(X).shape == (N, 15)


def test_searched_and_cross_validated():
    search = GridSearchCV(regressor(), {"num_leaves": [4, 8]}, cv=2).fit(X, Y)
    assert search.predict(X).shape == (N, 3)
    assert cross_val_predict(classifier(), X, LABELS, cv=2).shape == (N, 3)


@pytest.mark.parametrize(
    ("make", "params", "y", "error", "words"),
    [
        (regressor, {"objective": "poisson"}, Y, DataError, "needs y >= 0"),
        (regressor, {"objective": lambda y, s: (s - y, s)}, Y, DataError, "is of one target, but"),
        (classifier, {}, Y, DataError, r"a label that a row has \(1\) or not \(0\)\. Got"),
        (
            classifier,
            {},
            np.full((N, 2), "red"),
            DataError,
            r"or not \(0\)\. Got 'red'\. For columns",
        ),
        (classifier, {"objective": "multiclass"}, LABELS, ParameterError, "'binary' or None"),
        (classifier, {"is_unbalance": True}, LABELS, ParameterError, "is_unbalance is for classes"),
        (classifier, {"class_weight": "balanced"}, LABELS, ParameterError, "Use sample_weight"),
    ],
)
def test_what_cannot_be(make, params, y, error, words):
    with pytest.raises(error, match=words):
        make(**params).fit(X, y)


def test_metrics_of_one_target():
    with pytest.raises(ParameterError, match="'r2' is of one target, but y has 3 columns"):
        regressor().fit(X, Y, eval_set=[(X, Y)], eval_metric="r2")
    with pytest.raises(ParameterError, match="'auc' is of one target"):
        classifier().fit(X, LABELS, eval_set=[(X, LABELS)], eval_metric="auc")


def test_sets_of_other_targets():
    with pytest.raises(DataError, match=r"y has 2 columns, but 3 in training") as raised:
        regressor().fit(X, Y, eval_set=[(X, Y[:, :2])])
    assert raised.value.__notes__ == ["That is of the evaluation set 'valid_0'."]
    with pytest.raises(DataError, match=r"y has 1 column, but 3 in training"):
        classifier().fit(X, LABELS, eval_set=[(X, LABELS[:, 0])])
    with pytest.raises(DataError, match=r"y has 3 columns, but 1 in training"):
        regressor().fit(X, Y[:, 0], eval_set=[(X, Y)])


def test_not_in_lightgbms_files():
    with pytest.raises(DataError, match="LightGBM's files have one target, this model has 3"):
        regressor().fit(X, Y).booster_.to_lightgbm_string()
