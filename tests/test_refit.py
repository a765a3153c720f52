"""Refitting: the trees stay, their leaves follow other rows.

Swept: objectives, weights, categories, sparse X, decay. Against: training itself, the formulas in
NumPy, LightGBM. Tolerance: float sums of another order; none against training.
"""

import numpy as np
import pytest
import reference
from conftest import CLASSES, MORE_OBJECTIVES, OBJECTIVES, RANKING, hurting_data, targets
from scipy import sparse
from sklearn.exceptions import NotFittedError

import qgbdt
from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.errors import DataError, ParameterError

N = 600
X, OTHER = hurting_data(N), hurting_data(N, seed=5)


def rows(x, objective, seed=0):
    y, sizes = targets(x, objective, seed)
    return {"X": x, "y": y} | ({} if sizes is None else {"group": sizes})


def fitted(objective, **params):
    kind = {"binary": QGBDTClassifier} | dict.fromkeys(CLASSES, QGBDTClassifier)
    kind |= dict.fromkeys(RANKING, QGBDTRanker)
    estimator = kind.get(objective, QGBDTRegressor)(
        objective=objective, **{"n_estimators": 4, "num_leaves": 8} | params
    )
    return estimator.fit(**rows(X, objective))


@pytest.mark.parametrize("objective", OBJECTIVES + MORE_OBJECTIVES)
def test_the_rows_of_training_change_nothing(objective):
    """Leaves are refitted at the end of each tree anyway."""
    model = fitted(objective)
    again = model.refit(**rows(X, objective), decay_rate=0.0)
    assert again.booster_ == model.booster_
    assert model.refit(**rows(OTHER, objective), decay_rate=1.0).booster_ == model.booster_


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("objective", ["regression", "binary", "poisson", "multiclass"])
def test_equals_the_formula(objective, weighted):
    model = fitted(objective, reg_lambda=2.0)
    other = rows(OTHER, objective, seed=5)
    weight = np.linspace(0, 2, N) if weighted else None
    new = model.refit(**other, sample_weight=weight, decay_rate=0.3).booster_
    weight = np.ones(N) if weight is None else weight
    params = {**model.get_params(), "objective": objective}
    n_outputs = new._model.n_outputs
    raw = np.repeat(new._model.base_score[:, None], N, axis=1)
    leaves = model.apply(OTHER)
    for iteration in range(4):
        g, h = reference.compute_gradients(raw, other["y"], weight, params)
        for k in range(n_outputs):
            t = iteration * n_outputs + k
            old, tree = model.booster_._model.tree(t), new._model.tree(t)
            is_leaf = old["feature"] < 0
            sums = [np.bincount(leaves[:, t], v[k].astype(float), is_leaf.sum()) for v in (g, h)]
            step = -sums[0] / (sums[1] + 2.0)
            expected = 0.3 * old["value"][is_leaf] + 0.7 * 0.1 * step
            np.testing.assert_allclose(tree["value"][is_leaf], expected, rtol=1e-6, atol=1e-9)
            assert (tree[~is_leaf] == old[~is_leaf]).all()
            raw[k] += tree["value"][is_leaf][leaves[:, t]]


def test_as_good_as_lightgbm():
    lightgbm = pytest.importorskip("lightgbm")
    x = np.random.default_rng(0).normal(size=(3000, 4))
    y, other = x[:, 0] * x[:, 1], x[:, 0] * x[:, 1] + np.sin(x[:, 2])
    params = {"n_estimators": 100, "num_leaves": 31, "learning_rate": 0.1}
    ours = QGBDTRegressor(**params).fit(x, y).refit(x, other, decay_rate=0.5)
    theirs = lightgbm.LGBMRegressor(**params, verbosity=-1).fit(x, y).booster_
    theirs = theirs.refit(x, other, decay_rate=0.5)
    errors = [np.mean((model.predict(x) - other) ** 2) for model in (ours, theirs)]
    assert errors[0] < 1.1 * errors[1]


def test_it_follows_what_has_changed():
    x = np.random.default_rng(0).normal(size=(3000, 4))
    y = x[:, 0] * x[:, 1]
    model = QGBDTRegressor().fit(x, y)
    before = model.predict(x)
    changed = model.refit(x, -y, decay_rate=0.0)
    assert np.mean((changed.predict(x) + y) ** 2) < 0.2 * np.var(y)
    np.testing.assert_array_equal(model.predict(x), before)


def test_threads_and_sparse_rows_are_the_same():
    model = fitted("binary")
    other = rows(OTHER, "binary")
    new = model.set_params(n_jobs=1).refit(**other).booster_
    assert model.set_params(n_jobs=3).refit(**other).booster_ == new
    x = np.where(np.random.default_rng(0).random((N, 40)) < 0.1, 1.5, 0.0)
    y = (x[:, 0] + x[:, 1] > 1).astype(int)
    model = QGBDTClassifier(n_estimators=3).fit(x, y)
    assert model.refit(sparse.csr_array(x), 1 - y).booster_ == model.refit(x, 1 - y).booster_


def test_categories_labels_targets_and_functions():
    frame = pytest.importorskip("pandas").DataFrame
    rng = np.random.default_rng(0)
    x = frame({"colour": rng.choice(["red", "blue", "grey"], N), "size": rng.normal(size=N)})
    y = (x["colour"] == "red") * 2.0 + x["size"]
    model = QGBDTRegressor(n_estimators=5).fit(x, y)
    assert model.refit(x, y, decay_rate=0.0).booster_ == model.booster_
    several = np.column_stack([y, -y])
    model = QGBDTRegressor(n_estimators=5).fit(x, several)
    assert model.refit(x, several, decay_rate=0.0).booster_ == model.booster_
    labels = QGBDTClassifier(n_estimators=5).fit(x, several > 0)
    assert labels.refit(x, several > 0, decay_rate=0.0).booster_ == labels.booster_
    names = QGBDTClassifier(n_estimators=5, class_weight="balanced").fit(
        x["size"].to_frame(), x["colour"]
    )
    again = names.refit(x["size"].to_frame(), x["colour"], decay_rate=0.0)
    assert again.booster_ == names.booster_
    function = QGBDTRegressor(objective=lambda t, s: (s - t, np.ones_like(s)), n_estimators=5)
    function.fit(x, y)
    assert function.refit(x, y, decay_rate=0.0).booster_ == function.booster_


def test_compiled_objectives():
    pytest.importorskip("numba")

    @qgbdt.objective
    def squared(score, target):
        return score - target, 1.0

    y = rows(X, "regression")["y"]
    model = QGBDTRegressor(objective=squared, n_estimators=3).fit(X, y)
    assert model.refit(X, y, decay_rate=0.0).booster_ == model.booster_


def test_monotone_leaves_stay_so():
    params = {"monotone_constraints": [1, 0, 0, 0, 0, 0]}
    model = fitted("regression", **params).refit(**rows(OTHER, "regression", 5), decay_rate=0.2)
    at = np.tile(X[:50], (20, 1))
    at[:, 0] = np.repeat(np.linspace(-3, 3, 20), 50)
    assert (np.diff(model.predict(at).reshape(20, 50), axis=0) >= 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"decay_rate": 1.5},
            ParameterError,
            r"decay_rate must be a float in the range \[0.0, 1.0\]",
        ),
        ({"y": np.zeros(3)}, DataError, f"y has 3 rows, but X has {N}"),
        ({"y": np.full(N, 7)}, DataError, "y has the label 7, which y of training has not"),
        ({"X": X[:, :2]}, ValueError, "X has 2 features, but QGBDTClassifier is expecting 6"),
        ({"sample_weight": -np.ones(N)}, DataError, "sample_weight must not be negative"),
    ],
)
def test_what_cannot_be(changes, error, words):
    model = fitted("binary")
    with pytest.raises(error, match=words):
        model.refit(**rows(X, "binary") | changes)


def test_needs_a_model():
    with pytest.raises(NotFittedError):
        QGBDTRegressor().refit(X, np.zeros(N))
    with pytest.raises(DataError, match=r"QGBDTRanker\.fit needs either group"):
        fitted("lambdarank").refit(X, np.zeros(N))
