"""The estimators: scikit-learn's own checks, then what they promise beyond them.

Exact wherever two ways to say the same are compared: the model bytes are equal. Where a mean is
expected, to 1e-6: gradients are float32.
"""

import doctest
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import unaligned
from sklearn.base import is_classifier, is_regressor
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import qgbdt.booster
import qgbdt.estimators
from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.distributed.communicator import ALONE
from qgbdt.threads import resolve_n_jobs

FEW = {"n_estimators": 5, "num_leaves": 8, "min_child_samples": 5}

rng = np.random.default_rng(0)
N = 400
X = rng.normal(size=(N, 6))
X[::9, 1] = np.nan
X[::11, 2] = np.inf
X[::13, 2] = -np.inf
SIGNAL = X[:, 0] + np.nan_to_num(X[:, 1]) ** 2
LABELS = np.digitize(SIGNAL, [0, 1])
WEIGHT = rng.uniform(0.5, 2, N)
GROUP = [N // 4] * 4


def regressor(**params):
    return QGBDTRegressor(**FEW | params)


def classifier(**params):
    return QGBDTClassifier(**FEW | params)


def ranker(**params):
    return QGBDTRanker(**FEW | params)


# --- scikit-learn's checks

EXPECTED_FAILURES = dict.fromkeys(
    (
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ),
    "A weight is not a repetition: bins are chosen from rows, min_child_samples counts rows, "
    "and each row draws its own rounding. HistGradientBoosting expects this failure too.",
)


class OneQueryRanker(QGBDTRanker):
    """A ranker that scikit-learn's checks can call: all rows are one query."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, group=[np.shape(X)[0]], sample_weight=sample_weight)


NEEDS_LEN = {
    "check_sample_weights_not_an_array": "The wrapper of this test needs the number of rows of X."
}


@parametrize_with_checks(
    [classifier(), regressor(n_estimators=10)], expected_failed_checks=lambda _: EXPECTED_FAILURES
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [OneQueryRanker(**FEW)], expected_failed_checks=lambda _: EXPECTED_FAILURES | NEEDS_LEN
)
def test_scikit_learn_check_of_ranker(estimator, check):
    check(estimator)


def test_kinds():
    assert is_classifier(classifier())
    assert is_regressor(regressor())
    assert not is_classifier(ranker())
    assert not is_regressor(ranker())


# --- It learns


def test_accuracy_on_real_data():
    iris, diabetes = load_iris(return_X_y=True), load_diabetes(return_X_y=True)
    assert QGBDTClassifier().fit(*iris).score(*iris) > 0.97
    assert QGBDTRegressor().fit(*diabetes).score(*diabetes) > 0.8


@pytest.mark.parametrize("objective", ["poisson", "gamma", "tweedie"])
def test_positive_objectives_model_the_mean(objective):
    mean = np.exp(X[:, 0])
    y = np.random.default_rng(1).poisson(mean) if objective != "gamma" else mean
    fitted = QGBDTRegressor(objective=objective, n_estimators=50).fit(X, y)
    assert fitted.objective_ == objective
    assert fitted.predict(X).mean() == pytest.approx(y.mean(), rel=0.1)
    assert np.corrcoef(np.log(fitted.predict(X)), X[:, 0])[0, 1] > 0.8
    np.testing.assert_allclose(
        np.exp(fitted.predict(X, raw_score=True)), fitted.predict(X), rtol=1e-14
    )


def test_ranker_orders_the_documents():
    fitted = ranker(n_estimators=30).fit(X, LABELS, group=GROUP)
    scores = fitted.predict(X)
    assert scores[LABELS == 2].mean() > scores[LABELS == 1].mean() > scores[LABELS == 0].mean()


# --- The classifier's faces


def test_binary():
    names = np.array(["no", "yes"])[(SIGNAL > 0).astype(int)]
    fitted = classifier().fit(X, names)
    assert list(fitted.classes_) == ["no", "yes"]
    assert fitted.n_classes_ == 2
    assert fitted.objective_ == "binary"
    decision, proba = fitted.decision_function(X), fitted.predict_proba(X)
    assert decision.shape == (N,)
    assert proba.shape == (N, 2)
    np.testing.assert_array_equal(fitted.predict(X, raw_score=True), decision)
    np.testing.assert_array_equal(fitted.predict(X) == "yes", decision > 0)
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-14)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-14)


def test_multiclass():
    fitted = classifier().fit(X, LABELS * 10 - 5)
    assert list(fitted.classes_) == [-5, 5, 15]
    assert fitted.objective_ == "multiclass"
    decision, proba = fitted.decision_function(X), fitted.predict_proba(X)
    assert decision.shape == proba.shape == (N, 3)
    np.testing.assert_array_equal(fitted.predict(X, raw_score=True), decision)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[decision.argmax(axis=1)])
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int64, np.uint64, np.float64, object]
)
def test_classes_are_numbered_in_order(dtype):
    """Counted or sorted: as np.unique does it, at both ends of the type's range."""
    near = [np.arange(6) % 3, np.arange(100) % 2, np.arange(9), np.array([0, 1])]
    if np.issubdtype(dtype, np.integer):
        ends = np.iinfo(dtype)
        near += [ends.min + near[0].astype(dtype), ends.max - near[0].astype(dtype)]
        near += [np.array([ends.min, ends.max] * 300, dtype)]
    for labels in near:
        y = labels.astype(dtype) if dtype is not object else labels.astype(str).astype(object)
        classes, numbers = qgbdt.validation.encode_classes(y, ALONE)
        expected_classes, expected_numbers = np.unique(y, return_inverse=True)
        assert classes.dtype == y.dtype
        assert numbers.dtype == np.float64
        np.testing.assert_array_equal(classes, expected_classes)
        np.testing.assert_array_equal(numbers, expected_numbers)


def test_softmax_of_two_classes():
    fitted = classifier(objective="multiclass").fit(X, LABELS > 0)
    decision, proba = fitted.decision_function(X), fitted.predict_proba(X)
    assert decision.shape == (N,)
    assert fitted.booster_.num_trees() == 10
    np.testing.assert_allclose(proba[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-12)
    assert fitted.score(X, LABELS > 0) > 0.8


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 3.0, 2: 0.5}, {2: 5}])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_class_weight_is_a_sample_weight(class_weight, weight):
    product = compute_sample_weight(class_weight, LABELS) * (1 if weight is None else weight)
    assert (
        classifier(class_weight=class_weight).fit(X, LABELS, weight).booster_
        == classifier().fit(X, LABELS, product).booster_
    )


# --- The same model


def test_prefix_of_a_model_is_the_shorter_model():
    for make, y in ((regressor, SIGNAL), (classifier, LABELS)):
        long, short = make(n_estimators=7).fit(X, y), make(n_estimators=3).fit(X, y)
        np.testing.assert_array_equal(long.predict(X, num_iteration=3), short.predict(X))
    np.testing.assert_array_equal(long.predict_proba(X, 0, 3), short.predict_proba(X))
    np.testing.assert_array_equal(long.decision_function(X, 0, 3), short.decision_function(X))


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 7, -1, -2])
def test_threads_do_not_matter(n_jobs):
    for make, y, kwargs in (
        (regressor, SIGNAL, {}),
        (classifier, LABELS, {}),
        (ranker, LABELS, {"group": GROUP}),
    ):
        serial = make(n_jobs=1).fit(X, y, sample_weight=WEIGHT, **kwargs)
        assert make(n_jobs=n_jobs).fit(X, y, sample_weight=WEIGHT, **kwargs).booster_ == (
            serial.booster_
        )


def test_weights_of_one_are_no_weights():
    for make, y in ((regressor, SIGNAL), (classifier, LABELS)):
        assert make().fit(X, y, np.ones(N)).booster_ == make().fit(X, y).booster_


def test_weights_matter():
    assert regressor().fit(X, SIGNAL, WEIGHT).booster_ != regressor().fit(X, SIGNAL).booster_


def test_weightless_rows_only_count():
    silent = np.where(np.arange(N) % 2, 0.0, 1.0)
    changed = np.where(silent == 0, 1e6, SIGNAL)
    first, second = (regressor().fit(X, y, silent).booster_ for y in (SIGNAL, changed))
    assert first == second
    assert all(tree["count"][0] == N for tree in first.trees())


def test_group_and_qid_are_the_same():
    by_group = ranker().fit(X, LABELS, group=[100, 250, 50])
    for qid in (np.repeat([3, 1, 2], [100, 250, 50]), np.repeat(list("bca"), [100, 250, 50])):
        assert ranker().fit(X, LABELS, qid=qid).booster_ == by_group.booster_


def test_default_label_gain():
    gains = [2**i - 1 for i in range(31)]
    given = ranker(label_gain=gains).fit(X, LABELS, group=GROUP)
    assert given.booster_ == ranker().fit(X, LABELS, group=GROUP).booster_


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(X),
        X.tolist(),
        X.astype(object),
        X.astype(">f8"),
        np.repeat(X, 2, axis=0)[::2],
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1, ::-1].copy()[::-1, ::-1],
        unaligned(X),
    ],
    ids=["F", "list", "object", "big-endian", "rows", "columns", "negative", "unaligned"],
)
def test_layout_does_not_matter(same):
    fitted = regressor().fit(X, SIGNAL)
    assert regressor().fit(same, SIGNAL).booster_ == fitted.booster_
    np.testing.assert_array_equal(fitted.predict(same), fitted.predict(X))


def test_the_core_gets_aligned_arrays(monkeypatch):
    seen = []
    train = qgbdt._core.train

    def spy(*args, **options):
        seen.extend(x for x in (*args, *options.values()) if isinstance(x, np.ndarray))
        return train(*args, **options)

    monkeypatch.setattr(qgbdt._core, "train", spy)
    weight, init = np.arange(1.0, N + 1), np.linspace(-1, 1, N)
    given = {"sample_weight": weight, "init_score": init}
    fitted = regressor().fit(X, SIGNAL, **given)
    others = {name: unaligned(array) for name, array in given.items()}
    assert regressor().fit(unaligned(X), unaligned(SIGNAL), **others).booster_ == fitted.booster_
    assert len(seen) >= 6
    assert all(array.flags.aligned for array in seen)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.int64, np.float16, np.float32])
def test_dtype_does_not_matter(dtype):
    values = np.random.default_rng(1).integers(0, 2 if dtype is bool else 100, (N, 3)).astype(dtype)
    same = values.astype(np.float64)
    assert regressor().fit(values, SIGNAL).booster_ == regressor().fit(same, SIGNAL).booster_
    assert regressor().fit(X.astype(np.float32), SIGNAL).booster_ == (
        regressor().fit(X.astype(np.float32).astype(np.float64), SIGNAL).booster_
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda x: x[:, ::2]])
def test_floats_are_not_copied(dtype, layout, monkeypatch):
    given = layout(X.astype(dtype))
    given.flags.writeable = False
    seen = []
    binned_matrix = qgbdt._core.BinnedMatrix

    def spy(X, *args):
        seen.append(X)
        return binned_matrix(X, *args)

    monkeypatch.setattr(qgbdt._core, "BinnedMatrix", spy)
    regressor().fit(given, SIGNAL)
    assert np.shares_memory(seen[0], given)


# --- Seeds


def test_random_state():
    def bytes_for(random_state):
        return regressor(grad_bits=2, random_state=random_state).fit(X, SIGNAL).booster_

    assert bytes_for(None) == bytes_for(0) == bytes_for(np.int64(0))
    assert bytes_for(0) != bytes_for(1)
    for make in (np.random.RandomState, np.random.default_rng):
        shared = make(5)
        assert bytes_for(make(5)) == bytes_for(shared)
        assert bytes_for(make(5)) != bytes_for(shared)  # a second draw


# --- Threads


@pytest.mark.parametrize(
    ("n_jobs", "openmp", "threads"),
    [
        (None, None, 8),
        (None, "3", 3),
        (None, "16", 8),
        (None, "2,1", 2),
        (None, "many", 8),
        (None, "0", 8),
        (5, "3", 5),
        (12, None, 12),
        (-1, "3", 8),
        (-3, None, 6),
        (-99, None, 1),
    ],
)
def test_resolve_n_jobs(n_jobs, openmp, threads, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if openmp:
        monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    assert resolve_n_jobs(n_jobs, "fit") == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_only_the_cpus_that_the_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from qgbdt.threads import resolve_n_jobs as resolve;"
        "assert (resolve(None, ''), resolve(-1, ''), resolve(3, '')) == (1, 1, 3)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- What a fit leaves


def test_fitted_attributes():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    fitted = regressor().fit(frame, SIGNAL)
    assert fitted.n_features_in_ == 6
    assert list(fitted.feature_names_in_) == list("abcdef")
    assert fitted.booster_.feature_name() == list("abcdef")
    profile = fitted.fit_profile_
    assert profile["binning_seconds"] > 0
    assert profile["training_seconds"] > 0
    assert fitted.set_params(n_jobs=3).fit(frame, SIGNAL).fit_profile_["n_threads"] == 3
    assert profile["growth_splits"] == sum(
        (fitted.booster_.tree(i)["feature"] >= 0).sum() for i in range(fitted.booster_.num_trees())
    )
    assert profile["growth_splits"] <= profile["growth_expansions"]
    assert fitted.objective_ == fitted.booster_.objective == "regression"
    nameless = fitted.fit(X, SIGNAL)
    assert not hasattr(nameless, "feature_names_in_")
    assert nameless.booster_.feature_name() == [f"Column_{i}" for i in range(6)]


def test_strange_feature_names():
    pandas = pytest.importorskip("pandas")
    names = ["", " a b ", "new\nline", "=", "ü\u2028", '"quoted"', "\\", "a" * 1000]
    values = np.tile(X[:, :2], (1, len(names) // 2))
    fitted = regressor().fit(pandas.DataFrame(values, columns=names), SIGNAL)
    assert fitted.booster_.feature_name() == names
    text = fitted.booster_.model_to_string()
    assert qgbdt.Booster.model_from_string(text).feature_name() == names


@pytest.mark.parametrize("importance_type", ["split", "gain"])
def test_feature_importances(importance_type):
    data, y = make_classification(
        500, 5, n_informative=2, n_redundant=0, shuffle=False, random_state=0
    )
    fitted = classifier(importance_type=importance_type).fit(data, y)
    np.testing.assert_array_equal(
        fitted.feature_importances_, fitted.booster_.feature_importance(importance_type)
    )
    assert fitted.feature_importances_.argmax() < 2


def test_features_without_information():
    data = np.column_stack([np.full(N, 3.0), np.full(N, np.nan), np.full(N, np.inf), X[:, 0]])
    fitted = regressor().fit(data, SIGNAL)
    splits = fitted.feature_importances_
    assert (splits[:3] == 0).all()
    assert splits[3] > 0
    useless = regressor().fit(data[:, :3], SIGNAL)
    np.testing.assert_allclose(useless.predict(data[:, :3]), SIGNAL.mean(), rtol=1e-6)


def test_missing_values_are_information():
    missing = np.arange(N) % 3 == 0
    data = np.where(missing, np.nan, 0.0)[:, None]
    fitted = QGBDTRegressor(n_estimators=100).fit(data, missing.astype(float))
    np.testing.assert_allclose(fitted.predict([[np.nan], [0.0]]), [1, 0], atol=1e-3)


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_tiny_data(n_samples):
    fitted = QGBDTRegressor().fit(X[:n_samples], SIGNAL[:n_samples])
    np.testing.assert_allclose(fitted.predict(X), SIGNAL[:n_samples].mean(), atol=1e-6)


# --- Documentation and imports


@pytest.mark.parametrize("module", [qgbdt.booster, qgbdt.estimators])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("cls", [QGBDTClassifier, QGBDTRegressor, QGBDTRanker, qgbdt.Booster])
def test_every_public_method_is_documented(cls):
    for name, member in inspect.getmembers(cls):
        if member.__class__.__module__ == "builtins" and not name.startswith("_"):
            assert inspect.getdoc(member), name


def test_representations():
    assert (
        repr(QGBDTClassifier(num_leaves=7, n_jobs=2)) == "QGBDTClassifier(n_jobs=2, num_leaves=7)"
    )
    assert "QGBDTRegressor" in regressor().fit(X, SIGNAL)._repr_html_()


def test_light_import():
    code = (
        "import sys, qgbdt; assert 'sklearn' not in sys.modules; qgbdt.QGBDTRegressor; dir(qgbdt)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_show_versions(capsys):
    qgbdt.show_versions()
    printed = capsys.readouterr().out
    for name in ("python", "qgbdt", "numpy", "scikit-learn", "OpenMP", "SIMD in use"):
        assert f"{name}: " in printed
    assert set(qgbdt.__all__) <= set(dir(qgbdt))
