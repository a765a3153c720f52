"""scikit-learn's own callbacks: what they are told of a fit.

Against: the estimator's own predictions after each iteration. Tolerance: none.
"""

import numpy as np
import pytest
from conftest import hurting_data, targets
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from qgbdt import QGBDTClassifier, QGBDTRegressor
from qgbdt.errors import ParameterError

callback = pytest.importorskip("sklearn.callback")
X = hurting_data(200)
Y, _ = targets(X, "binary")
LABELS = np.array(["no", "yes"])[Y.astype(int)]


class Recorder:
    """Notes what it is called with; stops at an iteration, if told to."""

    def __init__(self, stop_at=None):
        self.calls, self.stop_at = [], stop_at

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.calls.append(("end", context.task_name, context.task_id))
        self.last = fitted_estimator
        return (context.task_name, context.task_id) == ("iteration", self.stop_at)


def test_scores_are_those_of_each_iteration():
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    model = QGBDTClassifier(n_estimators=6).set_callbacks(monitor).fit(X, LABELS)
    plain = QGBDTClassifier(n_estimators=6).fit(X, LABELS)
    assert model.booster_ == plain.booster_
    log = [row for row in monitor.get_logs().data if row["task_name"] == "iteration"]
    assert [row["task_id"] for row in log] == list(range(6))
    for row in log:
        predicted = plain.predict(X, num_iteration=row["task_id"] + 1)
        assert row["accuracy"] == (predicted == LABELS).mean()


def test_the_weights_are_handed_on():
    monitor = callback.ScoringMonitor(scoring="r2")
    weight = np.linspace(0, 3, 200)
    model = QGBDTRegressor(n_estimators=3).set_callbacks(monitor).fit(X, Y, weight)
    assert monitor.get_logs().data[-1]["r2"] == model.score(X, Y, weight)


def test_what_is_called_and_when():
    recorder = Recorder()
    QGBDTRegressor(n_estimators=2).set_callbacks(recorder).fit(X, Y)
    iterations = [(when, "iteration", i) for i in (0, 1) for when in ("begin", "end")]
    fit = ("fit", 0)
    assert recorder.calls == ["setup", ("begin", *fit), *iterations, ("end", *fit), "teardown"]


def test_they_can_stop():
    recorder = Recorder(stop_at=2)
    model = QGBDTRegressor(n_estimators=9).set_callbacks(recorder).fit(X, Y)
    assert model.n_iter_ == 3
    assert recorder.last.booster_ == model.booster_


def test_a_fit_that_fails_is_torn_down():
    def fails(state):
        raise ZeroDivisionError

    recorder = Recorder()
    model = QGBDTRegressor(n_estimators=9).set_callbacks(recorder)
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y, callbacks=[fails])
    assert recorder.calls[-1] == "teardown"
    assert not hasattr(model, "booster_")


def test_going_on(tmp_path):
    start = QGBDTRegressor(n_estimators=2).fit(X, Y)
    recorders = [Recorder(), Recorder()]
    for n, recorder in zip((2, 5), recorders):
        model = QGBDTRegressor(n_estimators=n).set_callbacks(recorder)
        model.fit(X, Y, init_model=start, checkpoint_dir=tmp_path, resume=True)
        ends = [call[2] for call in recorder.calls if call[:2] == ("end", "iteration")]
        assert ends == list(range(n))  # those of the checkpoint, too
        assert recorder.last.booster_ == model.booster_
    assert model.booster_ == QGBDTRegressor(n_estimators=7).fit(X, Y).booster_


def test_dask_has_none():
    dask = pytest.importorskip("qgbdt.dask")
    with pytest.raises(ParameterError, match=r"DaskQGBDTRegressor calls no callbacks"):
        dask.DaskQGBDTRegressor().set_callbacks(Recorder()).fit(X, Y)


def test_cross_validation_and_clones():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = QGBDTClassifier(n_estimators=2).set_callbacks(monitor)
    GridSearchCV(model, {"num_leaves": [3, 5]}, cv=2, refit=False).fit(X, LABELS)
    rows = [row for run in monitor.get_logs(select="all") for row in run.data]
    assert sum(row["task_name"] == "iteration" for row in rows) == 2 * 2 * 2
    assert clone(model).fit(X, LABELS).booster_ == model.fit(X, LABELS).booster_
