"""What a finished model says beside its predictions: SHAP values, leaves, stages.

Swept: forests at random (both missing sides, infinite thresholds, features that come again on a
path, leaves without training rows, one leaf, chains of 70 features) and trained ones of every
objective; threads, layouts, float32. Against: Shapley's definition over all subsets of features at
1e-12; LightGBM's pred_contrib and shap's TreeExplainer at 1e-9 where they are installed. Threads,
leaves and stages: bytes.
"""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import OBJECTIVES, hurting_data, targets
from scipy.sparse import csc_array, csr_array
from test_predictor import N_FEATURES, random_booster, rows

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core, matrices
from qgbdt.errors import DataError, ParameterError


def counted(booster, seed=0, empty=0.0):
    """The model with training rows in its leaves, in a share of them none."""
    rng = np.random.default_rng(seed)
    trees = booster.trees()
    for nodes in trees:
        leaves = nodes["feature"] < 0
        nodes["count"][leaves] = rng.integers(1, 100, leaves.sum()) * (
            rng.random(leaves.sum()) >= empty
        )
        for i in np.flatnonzero(~leaves)[::-1]:
            nodes["count"][i] = nodes["count"][[nodes["left"][i], nodes["right"][i]]].sum()
    return with_trees(booster, trees)


def with_trees(booster, trees):
    base = booster._model.base_score
    names = booster.feature_name()
    return Booster(_core.Model.of_trees(booster.objective, len(base), base, names, trees))


def chain(n_features, seed=0):
    """A tree that splits on one feature after the other, twice."""
    rng = np.random.default_rng(seed)
    n_splits = 2 * n_features
    nodes = np.zeros(2 * n_splits + 1, _core.Model.node_dtype)
    nodes["feature"] = -1
    for i, at in enumerate(range(0, 2 * n_splits, 2)):
        nodes[at]["feature"], nodes[at]["threshold"] = i % n_features, rng.normal()
        nodes[at]["left"], nodes[at]["right"] = (at + 2, at + 1) if i % 3 else (at + 1, at + 2)
    nodes["value"] = rng.normal(size=len(nodes)) * (nodes["feature"] < 0)
    names = [f"f{i}" for i in range(n_features)]
    return counted(Booster(_core.Model.of_trees("regression", 1, [0.5], names, [nodes])))


def value_goes_left(node, x):
    return node["missing_left"] if np.isnan(x) else x <= node["threshold"]


def value_of(nodes, row, known, at=0):
    """What a tree is expected to give if only some features are known."""
    node = nodes[at]
    if node["feature"] < 0:
        return node["value"]
    left, right = int(node["left"]), int(node["right"])
    if node["feature"] in known:
        goes_left = value_goes_left(node, row[node["feature"]])
        return value_of(nodes, row, known, left if goes_left else right)
    counts = nodes["count"][[left, right]]
    share = counts[0] / counts.sum() if counts.any() else 0.5
    return share * value_of(nodes, row, known, left) + (1 - share) * value_of(
        nodes, row, known, right
    )


def by_definition(booster, row, places):
    """Shapley values, or interactions: place -> number; `places` are tuples of features."""
    found = dict.fromkeys(places, 0.0)
    for nodes in booster.trees():
        of_subset = {
            known: value_of(nodes, row, known)
            for size in range(N_FEATURES + 1)
            for known in map(frozenset, itertools.combinations(range(N_FEATURES), size))
        }
        for place in places:
            n_others = N_FEATURES - len(place)
            for known in of_subset:
                if known & set(place):
                    continue
                weight = (
                    math.factorial(len(known))
                    * math.factorial(n_others - len(known))
                    / math.factorial(n_others + 1)
                )
                for size in range(len(place) + 1):
                    for added in map(frozenset, itertools.combinations(place, size)):
                        sign = (-1) ** (len(place) - size)
                        found[place] += weight * sign * of_subset[known | added]
    return np.array([found[place] for place in places])


FORESTS = [
    counted(random_booster(leaves=(1, 2, 3, 8, 12), seed=seed), seed, empty=empty)
    for seed, empty in ((0, 0.0), (1, 0.0), (2, 0.4), (3, 1.0))
]


@pytest.mark.parametrize("booster", FORESTS, ids=range(len(FORESTS)))
def test_shap_values_by_definition(booster):
    X = rows(6)
    found = booster.predict_contrib(X)
    empty = sum(value_of(nodes, X[0], frozenset()) for nodes in booster.trees())
    for row, values in zip(X, found):
        wanted = by_definition(booster, row, [(f,) for f in range(N_FEATURES)])
        np.testing.assert_allclose(values[:-1], wanted, rtol=0, atol=1e-12)
        assert values[-1] == pytest.approx(empty + booster._model.base_score[0], abs=1e-12)


@pytest.mark.parametrize("booster", FORESTS, ids=range(len(FORESTS)))
def test_interactions_by_definition(booster):
    X = rows(3)
    found = booster.predict_interactions(X)
    contributions = booster.predict_contrib(X)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1))
    np.testing.assert_allclose(found.sum(axis=2), contributions, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found[:, -1, :-1], 0)
    pairs = list(itertools.combinations(range(N_FEATURES), 2))
    for row, values in zip(X, found):
        wanted = by_definition(booster, row, pairs) / 2
        np.testing.assert_allclose([values[p] for p in pairs], wanted, rtol=0, atol=1e-12)


def by_integral(nodes, row):
    """Shapley values of a tree, leaf by leaf: the mean over t of what a feature adds when each
    other one is known with probability t."""
    at, weights = np.polynomial.legendre.leggauss(100)
    t, weights = (at + 1) / 2, weights / 2
    found = np.zeros(len(row))
    todo = [(0, {})]
    while todo:
        at, path = todo.pop()
        node = nodes[at]
        if node["feature"] >= 0:
            f = int(node["feature"])
            sides = [int(node["left"]), int(node["right"])]
            hot = sides[0 if value_goes_left(node, row[f]) else 1]
            for child in sides:
                share, stays = path.get(f, (1.0, True))
                part = nodes["count"][child] / nodes["count"][sides].sum()
                todo.append((child, {**path, f: (share * part, stays and child == hot)}))
            continue
        factors = {f: (1 - t) * z + t * stays for f, (z, stays) in path.items()}
        whole = node["value"] * np.prod(list(factors.values()), axis=0) * weights
        for f, (z, stays) in path.items():
            found[f] += (stays - z) * (whole / factors[f]).sum()
    return found


def test_trees_explain_themselves():
    """What several trees say is what they say one by one."""
    booster, X = counted(random_booster(leaves=[3, 4, 5, 6] * 10)), rows(5)
    alone = [with_trees(booster, [nodes]) for nodes in booster.trees()]
    base = booster._model.base_score[0]
    for question in (Booster.predict_contrib, Booster.predict_interactions):
        wanted = sum(question(one, X) for one in alone)
        wanted[..., -1][wanted[..., -1] != 0] -= base * (len(alone) - 1)
        np.testing.assert_allclose(question(booster, X), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_features", [1, 8, 9, 16, 17, 70])
def test_long_paths(n_features):
    booster, X = chain(n_features), np.random.default_rng(1).normal(size=(40, n_features))
    X[::5] = np.where(X[::5] > 1, np.nan, X[::5])
    found = booster.predict_contrib(X)
    raw = booster.predict(X, raw_score=True)
    np.testing.assert_allclose(found.sum(axis=1), raw, rtol=0, atol=1e-11)
    for row, values in zip(X[:6], found):
        wanted = by_integral(booster.tree(0), row)
        np.testing.assert_allclose(values[:-1], wanted, rtol=0, atol=1e-12)
    lines = booster.predict_interactions(X[:5]).sum(axis=2)
    np.testing.assert_allclose(lines, found[:5], rtol=0, atol=1e-11)


def trained(objective, n=300, **params):
    X = hurting_data(n)
    y, sizes = targets(X, objective)
    few = {"n_estimators": 5, "num_leaves": 9, "min_child_samples": 4, "n_jobs": 1, **params}
    if objective == "lambdarank":
        return QGBDTRanker(**few).fit(X, y, group=sizes), X
    if objective in ("binary", "multiclass"):
        return QGBDTClassifier(**few).fit(X, np.array(["a", "b", "c"])[y.astype(int)]), X
    return QGBDTRegressor(objective=objective, **few).fit(X, y), X


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_as_lightgbm(objective):
    lightgbm = pytest.importorskip("lightgbm")
    model, X = trained(objective)
    theirs = lightgbm.Booster(model_str=model.booster_.to_lightgbm_string())
    for part in ({}, {"num_iteration": 2}, {"start_iteration": 1, "num_iteration": 3}):
        found = model.predict(X, pred_contrib=True, **part)
        wanted = theirs.predict(X, pred_contrib=True, **part)
        if "start_iteration" in part:  # of a part, they have the base score in its first trees
            line, base = N_COLUMNS + 1, model.booster_._model.base_score
            wanted[:, line - 1 :: line] += base
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
        leaves = model.predict(X, pred_leaf=True, **part)
        np.testing.assert_array_equal(leaves, theirs.predict(X, pred_leaf=True, **part))


N_COLUMNS = hurting_data(10).shape[1]


@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_as_shap(objective):
    shap = pytest.importorskip("shap")
    model, X = trained(objective)
    X = X[::7]
    explainer = shap.TreeExplainer(model.booster_.to_shap_dict())
    found = model.predict(X, pred_contrib=True).reshape(len(X), -1, N_COLUMNS + 1)
    wanted = explainer.shap_values(X)
    if objective == "multiclass":
        wanted = wanted.transpose(0, 2, 1)
        np.testing.assert_allclose(found[0, :, -1], explainer.expected_value, atol=1e-9)
    else:
        found = found[:, 0]
        np.testing.assert_allclose(found[:, -1], explainer.expected_value[0], atol=1e-9)
        pairs = model.booster_.predict_interactions(X)[:, :-1, :-1]
        np.testing.assert_allclose(pairs, explainer.shap_interaction_values(X), atol=1e-9)
    np.testing.assert_allclose(found[..., :-1], wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("question", [Booster.predict_contrib, Booster.predict_interactions])
def test_threads_layouts_and_element_types(question):
    booster = counted(random_booster("multiclass", leaves=[31] * 7))
    with np.errstate(over="ignore"):
        X = rows(400).astype(np.float32)
    wanted = question(booster, X, n_jobs=1)
    for n_jobs in (2, 5):
        assert question(booster, X, n_jobs=n_jobs).tobytes() == wanted.tobytes()
    wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    for same in (X.astype(np.float64), np.asfortranarray(X), wide):
        assert question(booster, same, n_jobs=2).tobytes() == wanted.tobytes()
    assert question(booster, X[37:39]).tobytes() == wanted[37:39].tobytes()
    assert question(booster, X[:0]).shape == (0, *wanted.shape[1:])


def test_sparse_rows(monkeypatch):
    """Of a sparse matrix some rows are dense at a time."""
    monkeypatch.setattr(matrices, "DENSE_VALUES", 7 * N_FEATURES)
    booster = counted(random_booster())
    X = np.where(np.random.default_rng(0).random((40, N_FEATURES)) < 0.5, 0, rows(40))
    for question in (Booster.predict_contrib, Booster.predict_interactions, Booster.apply):
        for n in (0, 1, 7, 40):
            for kind in (csc_array, csr_array):
                found = question(booster, kind(X[:n]))
                assert found.tobytes() == question(booster, X[:n]).tobytes()
                assert found.shape == question(booster, X[:n]).shape
    pairs = zip(booster.staged_predict(csc_array(X)), booster.staged_predict(X), strict=True)
    for found, wanted in pairs:
        assert found.tobytes() == wanted.tobytes()


def test_shapes():
    X, K = rows(4), 3
    alone, of_classes = random_booster(), random_booster("multiclass")
    line = N_FEATURES + 1
    assert alone.predict_contrib(X).shape == (4, line)
    assert of_classes.predict_contrib(X).shape == (4, K * line)
    assert alone.predict_interactions(X).shape == (4, line, line)
    assert of_classes.predict_interactions(X).shape == (4, K, line, line)
    assert alone.apply(X).shape == (4, alone.num_trees())
    assert of_classes.apply(X, num_iteration=1).shape == (4, K)


def test_a_model_without_trees():
    booster = with_trees(random_booster(), [])
    base = booster._model.base_score[0]
    np.testing.assert_array_equal(booster.predict_contrib(rows(2))[:, :-1], 0)
    assert booster.predict_contrib(rows(2))[1, -1] == base
    assert booster.apply(rows(2)).shape == (2, 0)
    assert list(booster.staged_predict(rows(2))) == []


# --- Leaves and stages


def test_apply():
    booster, X = random_booster(), rows(300)
    leaves = booster.apply(X)
    raw = np.full(len(X), booster._model.base_score[0])
    for nodes, numbers in zip(booster.trees(), leaves.T):
        raw += nodes["value"][nodes["feature"] < 0][numbers]
    assert raw.tobytes() == booster.predict(X, raw_score=True).tobytes()
    with np.errstate(over="ignore"):
        X32 = X.astype(np.float32)
    np.testing.assert_array_equal(booster.apply(X32), booster.apply(X32.astype(np.float64)))
    np.testing.assert_array_equal(booster.apply(X, n_jobs=2), leaves)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_stages(objective):
    model, X = trained(objective)
    pairs = [(model.staged_predict(X), model.predict)]
    if objective in ("binary", "multiclass"):
        pairs.append((model.staged_predict_proba(X), model.predict_proba))
        pairs.append((model.staged_decision_function(X), model.decision_function))
    for stages, method in pairs:
        found = list(stages)
        assert len(found) == 5
        for k, values in enumerate(found, start=1):
            wanted = method(X, num_iteration=k)
            assert values.dtype == wanted.dtype
            assert values.tobytes() == wanted.tobytes()
    raw = list(model.booster_.staged_predict(X, raw_score=True))
    wanted = model.booster_.predict(X, raw_score=True, num_iteration=2)
    assert raw[1].tobytes() == wanted.tobytes()


# --- Errors


def test_errors():
    model, X = trained("regression")
    with pytest.raises(ParameterError, match=r"pred_leaf or pred_contrib, not both\.$"):
        model.predict(X, pred_leaf=True, pred_contrib=True)
    booster = model.booster_
    for method in (booster.predict_contrib, booster.predict_interactions, booster.apply):
        with pytest.raises(DataError, match="X has 2 features, but Booster is expecting"):
            method(X[:, :2])
        with pytest.raises(ParameterError, match="start_iteration"):
            method(X, start_iteration=-1)
        with pytest.raises(ParameterError, match="n_jobs"):
            method(X, n_jobs=0)
    with pytest.raises(DataError, match="X has 2 features"):
        booster.staged_predict(X[:, :2])  # before anything is asked of it


def test_the_longest_chain_of_a_hostile_file():
    """No recursion, whose stack might end; in a process of its own."""
    code = """
import numpy as np
from test_explain import chain, with_trees
booster = chain(2, seed=1)
nodes = np.tile(booster.tree(0)[:2], 50_000)
nodes = np.append(nodes, booster.tree(0)[-1:])
at = np.arange(0, len(nodes) - 1, 2)
nodes["left"][at], nodes["right"][at] = at + 1, at + 2
booster = with_trees(booster, [nodes])
X = np.zeros((3, 2))
found = booster.predict_contrib(X)
np.testing.assert_allclose(found.sum(axis=1), booster.predict(X), atol=1e-9)
booster.apply(X)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
