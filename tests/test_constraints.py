"""Monotone and interaction constraints.

Swept: objective x bits x regularizers x refitted leaves or not, weights, missing values, samples of
rows, threads, SIMD levels, workers. Against: tests/reference.py, equal; the constraints themselves,
on every path and for drawn pairs of points, without tolerance; LightGBM, within 10 % of the error.
"""

import itertools

import lightgbm
import numpy as np
import pytest
from conftest import feature_names, hurting_data, native_params, targets, train_native
from hypothesis import given, settings
from hypothesis import strategies as st
from test_errors import message_of
from test_machines_agree import assert_machines_agree
from test_trainer import compare
from workers import shards_in_order, train_together

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.errors import DataError, ParameterError

SIGNS = np.array([1, -1, 1, 0, 0, -1], np.int8)
SETS = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1]], np.uint8)
CONSTRAINTS = {
    "monotone": {"monotone_constraints": SIGNS},
    "falling": {"monotone_constraints": -SIGNS},
    "sets": {"interaction_sets": SETS},
    "alone": {"most_interacting": 1},
    "pairs": {"most_interacting": 2},
    "all": {
        "monotone_constraints": SIGNS,
        "interaction_sets": SETS,
        "colsample_bynode": 0.7,
        "subsample": 0.7,
    },
}
VARIANTS = {
    "plain": {},
    "regularized": {"reg_alpha": 0.5, "reg_lambda": 1.0, "min_split_gain": 0.1, "max_depth": 4},
    "quantized_leaves": {"renew_leaves": False, "min_child_samples": 1, "min_child_weight": 0.0},
}


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("objective", "bits"), [("regression", 2), ("binary", 5), ("poisson", 16), ("lambdarank", 3)]
)
def test_equals_reference(objective, bits, variant, constraints):
    X = hurting_data(400)
    y, sizes = targets(X, objective)
    weight = np.random.default_rng(3).random(len(y)) if bits % 2 else None
    changes = VARIANTS[variant] | CONSTRAINTS[constraints]
    params = native_params(objective=objective, grad_bits=bits, **changes)
    compare(X, y, params, weight=weight, query_sizes=sizes)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("seed", range(6))
def test_narrow_bounds_equal_reference(seed, scale):
    """Deep trees against the signal: bounds cut most values, and scores may be negative."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(1500, 4)), int(rng.integers(0, 3)))
    y = scale * (np.sin(3 * X[:, 0]) - X[:, 1] ** 2 + 0.1 * rng.normal(size=len(X)))
    params = native_params(
        num_leaves=40,
        learning_rate=0.5,
        reg_alpha=float(rng.choice([0, 0.1])) * scale,
        min_child_samples=int(rng.choice([1, 5])),
        monotone_constraints=np.array([1, 1, -1, 0], np.int8),
    )
    compare(X, y, params)


@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_machines_workers_and_devices_agree(constraints, monkeypatch):
    X = hurting_data(5000)
    y, _ = targets(X, "binary")
    params = native_params(objective="binary", n_estimators=2, **CONSTRAINTS[constraints])
    assert_machines_agree(X, y, params, monkeypatch)
    alone = train_native(X, y, params).to_bytes()
    parts = shards_in_order(len(X), [1000, 1000, 3000])
    models = train_together(_core.thread_comms(4), parts, X, y, params)
    assert {model.to_bytes() for model in models} == {alone}
    fit = (_core.BinnedMatrix(X, 255, 1), y, None, None, feature_names(X), params, 1)
    on_device = _core.train(*fit, device=_core.on_host.device(order_seed=1))[0]
    assert on_device.to_bytes() == alone


# -------------------------------------------------------------------------------------- monotone


def steps(model, X, feature, rng):
    """How raw predictions of drawn rows change where one feature rises, step by step."""
    rows = X[rng.integers(0, len(X), 40)]
    values = np.sort(np.r_[-np.inf, np.inf, rng.choice(X[~np.isnan(X[:, feature]), feature], 30)])
    at = np.repeat(rows, len(values), axis=0)
    at[:, feature] = np.tile(values, len(rows))
    n_iterations = model.n_trees // model.n_outputs
    raw = model.predict(at, 0, n_iterations, True, 1).reshape(len(rows), len(values))
    return np.diff(raw, axis=1)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_monotone_prediction_never_turns(seed):
    """With refitted leaves, too: LightGBM's quantized mode had 599 to 1,149 violations."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(int(rng.integers(50, 600)), 4))
    X[rng.random(X.shape) < rng.choice([0, 0.2])] = np.nan
    signal = np.nan_to_num(X, nan=1.0)
    s = np.sin(2 * signal[:, 0]) + signal[:, 1] * signal[:, 2] + 0.5 * rng.normal(size=len(X))
    objective = str(rng.choice(["regression", "binary"]))
    y = s if objective == "regression" else (s > 0).astype(float)
    signs = np.array([1, -1, rng.integers(-1, 2), 0], np.int8)
    params = native_params(
        objective=objective,
        n_estimators=8,
        num_leaves=int(rng.choice([4, 31])),
        learning_rate=float(rng.choice([0.1, 0.5, 1.3])),
        grad_bits=[2, 3, 5, "auto"][rng.integers(4)],
        min_child_samples=int(rng.choice([1, 10])),
        reg_alpha=float(rng.choice([0, 0.3])),
        renew_leaves=bool(rng.random() < 0.8),
        subsample=float(rng.choice([0.5, 1])),
        monotone_constraints=signs,
        seed=seed,
    )
    weight = rng.random(len(X)) if rng.random() < 0.5 else None
    model = train_native(X, y, params, weight=weight)
    for feature, sign in enumerate(signs):
        assert (sign * steps(model, X, feature, rng)).min() >= 0


def test_without_constraints_it_turns():
    """The test above can fail; and with them the other features still are learned."""
    X = hurting_data(2000, 3)
    y, _ = targets(X, "regression")
    rng = np.random.default_rng(0)
    free = train_native(X, y, native_params(n_estimators=20))
    bound = train_native(
        X, y, native_params(n_estimators=20, monotone_constraints=np.array([-1, 0, 0], np.int8))
    )
    assert steps(free, X, 0, rng).max() > 0
    assert steps(bound, X, 0, rng).max() == 0
    used = {feature for i in range(20) for feature in bound.tree(i)["feature"].tolist()}
    assert used >= {1, 2}


def test_constraints_of_zero_change_no_byte():
    X = hurting_data(500)
    y, _ = targets(X, "binary")
    plain = QGBDTClassifier(n_estimators=3).fit(X, y).booster_
    for none in ([0] * 6, np.zeros(6), {"Column_2": 0}, {}):
        assert (
            QGBDTClassifier(n_estimators=3, monotone_constraints=none).fit(X, y).booster_ == plain
        )
    for all_together in ([], [[0, 1, 2, 3, 4, 5]], [range(6), {0, 1}]):
        fitted = QGBDTClassifier(n_estimators=3, interaction_constraints=all_together).fit(X, y)
        assert fitted.booster_ == plain


def test_as_accurate_as_lightgbm():
    """A curve that rises with one feature and falls with another; means of five seeds."""
    rng = np.random.default_rng(0)
    errors = {"qgbdt": [], "lightgbm": []}
    for seed in range(5):
        X = rng.random((3000, 3))
        truth = 3 * X[:, 0] ** 2 - 2 * np.sqrt(X[:, 1]) + np.sin(6 * X[:, 2])
        y = truth + rng.normal(size=len(X))
        shared = {"n_estimators": 60, "random_state": seed, "monotone_constraints": [1, -1, 0]}
        for name, model in (
            ("qgbdt", QGBDTRegressor(**shared)),
            ("lightgbm", lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **shared)),
        ):
            error = model.fit(X[:1500], y[:1500]).predict(X[1500:]) - truth[1500:]
            errors[name].append(np.mean(error**2))
    assert np.mean(errors["qgbdt"]) < 1.1 * np.mean(errors["lightgbm"])


# ---------------------------------------------------------------------------------- interactions


def paths(tree, node=0, used=frozenset()):
    """The features on the way to each leaf."""
    if tree["feature"][node] < 0:
        yield used
        return
    for child in (tree["left"][node], tree["right"][node]):
        yield from paths(tree, child, used | {int(tree["feature"][node])})


@given(
    sets=st.lists(st.sets(st.integers(0, 5), max_size=4), max_size=4),
    bits=st.sampled_from([2, 5, "auto"]),
)
@settings(max_examples=40, deadline=None)
def test_features_of_a_path_are_in_one_set(sets, bits):
    X = hurting_data(400)
    y, _ = targets(X, "regression")
    fitted = QGBDTRegressor(
        n_estimators=4, min_child_samples=2, grad_bits=bits, interaction_constraints=sets
    ).fit(X, y)
    rest = set(range(6)) - set().union(*sets)
    for i in range(4):
        for path in paths(fitted.booster_._model.tree(i)):
            assert any(path <= some for some in [*sets, rest])


def test_without_sets_they_are_not():
    X = hurting_data(400)
    y, _ = targets(X, "regression")
    model = train_native(X, y, native_params())
    assert max(len(path) for i in range(3) for path in paths(model.tree(i))) > 2


@pytest.mark.parametrize(("word", "size"), [("no_interactions", 1), ("pairwise", 2)])
def test_words_are_all_sets_of_a_size(word, size):
    X = hurting_data(400)
    y, _ = targets(X, "regression")
    sets = list(itertools.combinations(range(6), size))
    by_word, by_sets = (
        QGBDTRegressor(n_estimators=4, interaction_constraints=some).fit(X, y).booster_
        for some in (word, sets)
    )
    assert by_word == by_sets
    lengths = [len(path) for i in range(4) for path in paths(by_word._model.tree(i))]
    assert max(lengths) == size


# ----------------------------------------------------------------------------- names and messages


@pytest.fixture(scope="module")
def frame():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(hurting_data(300), columns=["age", "size", "c", "d", "e", "f"])


def test_by_name_and_by_number(frame):
    y = targets(frame.to_numpy(), "regression")[0]
    by_name, by_number = (
        QGBDTRegressor(n_estimators=3, monotone_constraints=signs, interaction_constraints=sets)
        .fit(frame, y)
        .booster_
        for signs, sets in (
            ({"size": -1, "age": 1}, [["age", "size"], ["c", 3, "age"]]),
            ([1, -1, 0, 0, 0, 0], [[0, 1], [2, 3, 0]]),
        )
    )
    assert by_name == by_number
    assert by_name != QGBDTRegressor(n_estimators=3).fit(frame, y).booster_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"monotone_constraints": [1, 0]},
            "monotone_constraints must have one value per feature of X, 6. Got 2 instead.",
        ),
        (
            {"monotone_constraints": {"aeg": 1}},
            "monotone_constraints names 'aeg', which is no feature of X. Did you mean 'age'?",
        ),
        (
            {"interaction_constraints": [["zzz"]]},
            "interaction_constraints names 'zzz', which is no feature of X.",
        ),
        (
            {"interaction_constraints": [[0, 6]]},
            "interaction_constraints has the feature 6, but those of X are 0 to 5.",
        ),
        (
            {"interaction_constraints": [[-1]]},
            "interaction_constraints has the feature -1, but those of X are 0 to 5.",
        ),
    ],
)
def test_features_that_are_not_there(change, message, frame):
    y = np.arange(300.0)
    assert message_of(DataError, QGBDTRegressor(**change).fit, frame, y) == message


def test_classes_have_no_order():
    X = hurting_data(60)
    classifier = QGBDTClassifier(monotone_constraints=[1] * 6)
    assert message_of(ParameterError, classifier.fit, X, np.arange(60) % 3) == (
        "monotone_constraints are not for objective='multiclass': the score of a class can be "
        "monotone, its probability cannot. Use None, or a classifier for each class."
    )
    assert classifier.fit(X, np.arange(60) % 2).objective_ == "binary"


def test_rankers_take_them():
    X = hurting_data(300)
    y, sizes = targets(X, "lambdarank")
    fit = {"group": sizes}
    ranker = QGBDTRanker(n_estimators=5, monotone_constraints=[-1, 0, 0, 0, 0, 0]).fit(X, y, **fit)
    rng = np.random.default_rng(0)
    assert steps(ranker.booster_._model, X, 0, rng).max() <= 0
    free = QGBDTRanker(n_estimators=5).fit(X, y, **fit)
    assert steps(free.booster_._model, X, 0, rng).max() > 0
