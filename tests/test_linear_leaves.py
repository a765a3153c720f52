"""Leaves that are linear in the features above them.

Swept: objectives, bits, weights, missing and infinite values, categories, samples, constraints,
lambda; offsets and scales of columns, columns that repeat others; threads, SIMD levels, layouts,
blocks of rows; what goes with them and what does not. Against: tests/reference.py, equal; least
squares of NumPy; LightGBM, both ways and held out.
"""

import itertools
import pickle
import re

import numpy as np
import pytest
import reference
import scipy.sparse as sp
from conftest import (
    CLASSES,
    MORE_OBJECTIVES,
    OBJECTIVES,
    RANKING,
    CudaModule,
    feature_names,
    hurting_data,
    native_params,
    put_cuda_module,
    real_set,
    targets,
    train_native,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_friedman1
from test_categories import CATEGORIES, categorical_data, effects
from test_cuda_arrays import OnHost
from test_errors import message_of
from test_machines_agree import assert_machines_agree
from workers import in_threads, outcome

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.distributed import connect_threads
from qgbdt.errors import CheckpointError, DataError, ModelFormatError, ParameterError

QUANTILES = ("l1", "quantile", "mape")
FITTED = [name for name in OBJECTIVES + MORE_OBJECTIVES if name not in QUANTILES]


def piecewise(n, seed=0, noise=0.1):
    """X and y: linear, of other features where the first, which has few values, is above 0.3."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X[:, 0] = X[:, 0].round(1)
    side = np.where(X[:, 0] > 0.3, 2 + 2 * X[:, 1] - X[:, 3], X[:, 2] - X[:, 1])
    return X, side + noise * rng.normal(size=n)


def linear_params(**changes):
    return native_params(
        **{"linear_tree": True, "num_leaves": 6, "min_child_samples": 20} | changes
    )


def by_node(model, index):
    """The linear models of a tree's leaves, by node."""
    leaves = np.flatnonzero(model.tree(index)["feature"] < 0).tolist()
    return {
        leaf: (constant, terms)
        for leaf, (constant, terms) in zip(leaves, model.linear_leaves(index))
        if terms
    }


def compare(X, y, params, *, n_categories=None, max_bin=63, **rows):
    """The trainer's model, which equals the reference's; and how many leaves are linear."""
    model = train_native(X, y, params, n_categories=n_categories, max_bin=max_bin, **rows)
    rows["sample_weight"] = rows.pop("weight", None)
    params = params | {"max_bin": max_bin}
    expected = reference.train(X, y, params=params, n_categories=n_categories, **rows)
    assert model.n_trees == len(expected.trees)
    n_linear = 0
    for i, tree in enumerate(expected.trees):
        for field in tree.dtype.names:
            np.testing.assert_array_equal(model.tree(i)[field], tree[field], err_msg=field)
        found = by_node(model, i)
        assert found == expected.linear[i]
        assert (model.linear_leaves(i) == []) == (found == {})
        n_linear += len(found)
    raw = model.predict(X, 0, model.n_trees // model.n_outputs, True, 1)
    np.testing.assert_array_equal(raw, np.reshape(expected.predict_raw(X), raw.shape))
    return model, n_linear


@pytest.mark.parametrize("objective", FITTED)
def test_equals_reference(objective):
    X = hurting_data(900, 4)[:, :3]
    y, sizes = targets(X, objective)
    weight = np.random.default_rng(3).integers(0, 3, len(y)).astype(float)
    params = linear_params(objective=objective, linear_lambda=0.5, n_estimators=4)
    _, n_linear = compare(X, y, params, weight=weight, query_sizes=sizes)
    assert n_linear > 4


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_drawn_combinations_equal_reference(data):
    draw = data.draw
    objective = draw(st.sampled_from(FITTED))
    X = hurting_data(draw(st.integers(2, 400)), draw(st.integers(3, 7)), draw(st.integers(0, 99)))
    y, sizes = targets(X, objective)
    if objective in ("poisson", "tweedie"):
        y += 1
    X = X * draw(st.sampled_from([1, 1e-200, 1e160])) + draw(st.sampled_from([0, 1e6]))
    samples = [{}, {"subsample": 0.5}, {"data_sample_strategy": "goss", "top_rate": 0.4}]
    params = linear_params(
        objective=objective,
        linear_lambda=draw(st.sampled_from([0.0, 1e-3, 10.0])),
        grad_bits=draw(st.sampled_from([2, 5, 16])),
        num_leaves=draw(st.integers(2, 20)),
        min_child_samples=draw(st.integers(1, 30)),
        learning_rate=draw(st.sampled_from([0.1, 1.0])),
        reg_lambda=draw(st.sampled_from([0.0, 1.0])),
        grow_policy=draw(st.sampled_from(["lossguide", "depthwise"])),
        extra_trees=draw(st.booleans()),
        forced_splits=draw(st.sampled_from([[], [(0, 0.1, -1, -1)]])),
        colsample_bynode=draw(st.sampled_from([1.0, 0.5])),
        **draw(st.sampled_from(samples)),
    )
    compare(X, y, params, query_sizes=sizes)


def test_categories_equal_reference():
    X = categorical_data(1200)
    y = effects(X) @ np.array([1.0, 1, 1, 0.01, 0, 1])
    y = np.where(np.isnan(y), 0, y)
    params = linear_params(min_data_per_group=5.0, cat_smooth=1.0, n_estimators=4)
    model, n_linear = compare(X, y, params, n_categories=CATEGORIES, max_bin=255)
    used = {f for i in range(4) for _, terms in model.linear_leaves(i) for f, _ in terms}
    assert n_linear > 4
    assert used <= {1, 5}  # the numerical ones
    assert used


# --- What a fit is


def boosted(X, y, **params):
    """The model of one split, unless params say otherwise."""
    params = {"n_estimators": 1, "num_leaves": 2, "learning_rate": 1.0} | params
    return QGBDTRegressor(linear_tree=True, **params).fit(X, y).booster_


@pytest.mark.parametrize("offset", [0, 1e6, -1e9])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e150])
def test_offsets_and_scales_cost_no_digits(offset, scale):
    """Least squares of each side; a term c x of the fit is as exact as x itself."""
    X, _ = piecewise(400)
    y = np.where(X[:, 0] > 0, 3.0 * X[:, 0] + 1, -X[:, 0])
    X = (X[:, :1] + offset) * scale
    booster = boosted(X, y)
    left, right = booster.linear_leaves(0)
    x = X[:, 0] / scale - offset
    edge = booster.tree(0)["threshold"][0] / scale - offset
    for (constant, terms), rows in ((left, x <= edge), (right, x > edge)):
        slope, base = np.polyfit(x[rows], y[rows] - y.mean(), 1)
        assert terms[0] * scale == pytest.approx(slope, rel=1e-6)
        got = constant + terms[0] * scale * offset
        assert got == pytest.approx(base, abs=1e-6 * max(1, abs(offset) / 1e6))


def test_a_penalty_on_coefficients():
    """Ridge regression of the side's rows, without a penalty on the constant."""
    X, y = piecewise(500)
    X = X[:, :1] + 3
    strength = 40.0
    booster = boosted(X, y, linear_lambda=strength)
    rows = X[:, 0] <= booster.tree(0)["threshold"][0]
    x, t = X[rows, 0], y[rows] - y.mean()
    slope = ((x - x.mean()) @ t) / ((x - x.mean()) @ (x - x.mean()) + strength)
    constant, terms = booster.linear_leaves(0)[0]
    assert terms[0] == pytest.approx(slope, rel=1e-5)
    assert constant == pytest.approx(t.mean() - slope * x.mean(), rel=1e-4)


def test_a_column_that_says_what_others_say_is_left_out():
    X, y = piecewise(600)
    twice = np.column_stack([X[:, 0], 1e3 * X[:, 0] + 5, X[:, 1], X[:, 1], 0 * X[:, 2] + 7])
    forced = {"feature": 0, "threshold": 0.0}
    for column in (1, 2, 3):
        side = {"feature": column, "threshold": 0.1}
        forced = {"feature": 0, "threshold": 0.0, "left": {**side, "left": forced}}
    booster = boosted(twice, y, num_leaves=8, forced_splits=forced, n_estimators=5)
    leaves = [terms for i in range(5) for _, terms in booster.linear_leaves(i)]
    found = [set(terms) for terms in leaves]
    assert {0, 2} in found
    assert all(not {0, 1} <= some and not {2, 3} <= some and 4 not in some for some in found)
    assert max(abs(c) for terms in leaves for c in terms.values()) < 10


def test_a_column_that_is_next_to_a_sum_of_others_is_left_out():
    """Next to: what is left of it is rounding noise."""
    X, y = piecewise(2000)
    rows = np.column_stack([X[:, 1:4], X[:, 1:4] @ [0.1, 0.7, 0.3]])
    params = native_params(linear_tree=True, n_estimators=6, num_leaves=12)
    model, n_leaves = compare(rows, y, params)
    found = [terms for i in range(6) for _, terms in model.linear_leaves(i)]
    assert n_leaves > 50
    assert any(len(terms) == 3 for terms in found)
    assert all(len(terms) < 4 for terms in found)


def test_too_few_rows_stay_constant():
    """Of a leaf with one feature, two rows without missing values are enough."""
    x = np.array([-3.0, -2, np.nan, np.inf, 5, 6, 7, 8])
    y = np.array([1.0, 3, 9, 9, -1, -1, -2, -2])
    for complete, is_linear in ((2, True), (1, False)):
        X = x.copy()
        X[: 2 - complete] = np.nan
        tree = _core.train(
            _core.BinnedMatrix(X[:, None], 255, 1),
            y,
            None,
            None,
            ["x"],
            linear_params(
                n_estimators=1, num_leaves=2, min_child_samples=1, forced_splits=[(0, 0.0, -1, -1)]
            ),
            1,
            X=X[:, None],
        )[0]
        nodes = tree.tree(0)
        assert nodes["threshold"][0] < 5
        assert bool(tree.linear_leaves(0)[0][1]) == is_linear


def test_rows_with_missing_or_infinite_values_get_the_constant():
    X, y = piecewise(800)
    booster = QGBDTRegressor(n_estimators=3, num_leaves=4, linear_tree=True).fit(X, y).booster_
    for value in (np.nan, np.inf, -np.inf, 1e308):
        for feature in range(5):
            Z = X[:50].copy()
            Z[:, feature] = value
            raw, leaves = np.full(50, booster._model.base_score[0]), booster.apply(Z)
            for i in range(3):
                nodes = booster.tree(i)
                values = nodes["value"][nodes["feature"] < 0]
                for row, leaf in enumerate(leaves[:, i]):
                    constant, terms = booster.linear_leaves(i)[leaf]
                    with np.errstate(all="ignore"):
                        for f, c in terms.items():
                            constant += c * Z[row, f]
                    is_missing = any(not np.isfinite(Z[row, f]) for f in terms)
                    assert np.isfinite(constant) or is_missing or value == 1e308
                    raw[row] += constant if np.isfinite(constant) else values[leaf]
            np.testing.assert_array_equal(booster.predict(Z), raw)
    assert any(booster.linear_leaves(2)[0][1])


def test_values_are_finite_and_steps_bounded():
    """Huge values, and a class that hardly has any gradients left: no leaf runs away."""
    X, y = piecewise(600)
    for scale in (1e300, 1e-300, 5e-324):
        booster = QGBDTRegressor(n_estimators=3, linear_tree=True).fit(X * scale, y).booster_
        assert np.isfinite(booster.predict(X * scale)).all()
    huge = X.copy()
    huge[:, 0] = 1.7e308 + 1e300 * X[:, 0]  # whose sum overflows: it is left out
    sides = {side: {"feature": 1, "threshold": 0.0} for side in ("left", "right")}
    forced = {"feature": 0, "threshold": 1.7e308} | sides
    booster = boosted(huge, y, num_leaves=4, forced_splits=forced)
    assert [set(terms) for _, terms in booster.linear_leaves(0)] == [{1}] * 4
    label = X[:, 0] + 1e-3 * X[:, 1] > 0
    params = {"n_estimators": 30, "learning_rate": 1.0, "min_child_samples": 2}
    booster = QGBDTClassifier(linear_tree=True, **params).fit(X, label).booster_
    values = booster._model.leaf_values(X, 0, 30, 1)
    assert np.abs(values).max() <= 5.0
    assert sum(bool(terms) for i in range(30) for _, terms in booster.linear_leaves(i)) > 10


# --- The same bytes everywhere


@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass"])
def test_machines_agree(objective, monkeypatch):
    X = hurting_data(20_000, 6)
    y, _ = targets(X, objective)
    weight = np.random.default_rng(0).random(len(y))
    params = linear_params(objective=objective, n_estimators=2, num_leaves=31)
    assert_machines_agree(X, y, params, monkeypatch, weight=weight)


def test_leaves_that_were_split_in_vain():
    """Their rows lie in another order, and are added up in that of their numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60_000, 6))
    y = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=len(X))
    kwargs = {"n_estimators": 3, "num_leaves": 60, "linear_tree": True}
    fits = [QGBDTRegressor(n_jobs=n, **kwargs).fit(X, y) for n in (1, 2, 5)]
    assert fits[0].fit_profile_["growth_expansions"] > fits[0].fit_profile_["growth_splits"]
    assert all(fit.booster_ == fits[0].booster_ for fit in fits)


def test_blocks_of_rows_in_any_order():
    X, y = piecewise(5000)
    whole = train_native(X, y, linear_params()).to_bytes()
    edges = [0, 1200, 1201, 4000, 5000]
    blocks = [np.arange(a, b) for a, b in itertools.pairwise(edges)]
    order = [2, 0, 3, 1]
    rows = np.concatenate([blocks[i] for i in order])
    numbers = [(i, len(blocks[i])) for i in order]
    matrix = _core.BinnedMatrix(X[rows], 255, 2, None, numbers)
    args = (matrix, y[rows], None, None, feature_names(X), linear_params(), 2)
    assert _core.train(*args, X=X[rows])[0].to_bytes() == whole


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layouts_of_one_matrix(dtype):
    X, y = piecewise(2000)
    X = X.astype(dtype)
    wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    models = {
        train_native(M, y, linear_params()).to_bytes()
        for M in (X, np.asfortranarray(X), wide, X.astype(np.float64))
    }
    assert len(models) == 1


# --- What goes with them

X, Y = piecewise(1500)
X_TEST, Y_TEST = piecewise(1500, seed=1)
GAPS = np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.nan, X)
LINEAR = {"linear_tree": True, "n_estimators": 8, "num_leaves": 8}


def n_linear(booster):
    return sum(
        bool(terms) for i in range(booster.num_trees()) for _, terms in booster.linear_leaves(i)
    )


VARIANTS = {
    "plain": {},
    "bag": {"subsample": 0.5, "subsample_freq": 2},
    "goss": {"data_sample_strategy": "goss", "learning_rate": 0.5},
    "columns": {"colsample_bytree": 0.5, "colsample_bynode": 0.7},
    "drawn cuts": {"extra_trees": True},
    "forced": {"forced_splits": {"feature": 1, "threshold": 0.3}},
    "interactions": {"interaction_constraints": [[0, 1], [2, 3]]},
    "by depth": {"grow_policy": "depthwise", "max_depth": 3},
    "penalty": {"linear_lambda": 2.0, "reg_lambda": 1.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fit_that_goes_on_is_one_fit(variant, tmp_path):
    """From a model, warm, and from a checkpoint; and predictions are the same on every way."""
    params = LINEAR | VARIANTS[variant]
    whole = QGBDTRegressor(**params).fit(GAPS, Y)
    booster = whole.booster_
    assert n_linear(booster) > 8
    first = QGBDTRegressor(**params | {"n_estimators": 3}).fit(GAPS, Y)
    rest = QGBDTRegressor(**params | {"n_estimators": 5}).fit(GAPS, Y, init_model=first)
    assert rest.booster_ == booster
    first.set_params(warm_start=True, n_estimators=8)
    assert first.fit(GAPS, Y).booster_ == booster
    QGBDTRegressor(**params | {"n_estimators": 4}).fit(GAPS, Y, checkpoint_dir=tmp_path)
    resumed = QGBDTRegressor(**params).fit(GAPS, Y, checkpoint_dir=tmp_path, resume=True)
    assert resumed.booster_ == booster
    loaded = pickle.loads(pickle.dumps(whole))
    assert loaded.booster_ == booster == Booster.from_bytes(booster.to_bytes())
    holes = np.where(np.abs(X_TEST) < 0.7, 0, X_TEST)
    expected = whole.predict(holes)
    *_, last = whole.staged_predict(holes)
    ways = [last, loaded.predict(holes), whole.predict(holes, start_iteration=0, num_iteration=99)]
    ways += [whole.predict(make(holes)) for make in (sp.csr_array, sp.csc_array)]
    ways.append(np.concatenate([whole.predict(holes[i : i + 5]) for i in range(0, 1500, 5)]))
    for way in ways:
        np.testing.assert_array_equal(way, expected)
    part = whole.predict(holes, raw_score=True, start_iteration=2, num_iteration=3)
    values = booster._model.leaf_values(holes, 2, 5, 1)
    wanted = booster._model.base_score[0] + values[:, 0] + values[:, 1] + values[:, 2]
    np.testing.assert_array_equal(part, wanted)


def test_a_checkpoint_of_other_values(tmp_path):
    """Of the same bins: leaves are of the values themselves."""
    params = LINEAR | {"n_estimators": 2}
    QGBDTRegressor(**params).fit(X, Y, checkpoint_dir=tmp_path)
    other = X.copy()
    other[X[:, 1].argmax(), 1] += 1
    fit = QGBDTRegressor(**params | {"n_estimators": 3}).fit
    with pytest.raises(CheckpointError, match="the digest of X is"):
        fit(other, Y, checkpoint_dir=tmp_path, resume=True)
    assert fit(X, Y, checkpoint_dir=tmp_path, resume=True).n_iter_ == 3


@pytest.mark.parametrize("objective", [*FITTED, "several", "function"])
def test_objectives_train_and_stop_early(objective):
    """The recorded metric is that of predictions, on dense and sparse rows."""
    rows, sizes = hurting_data(1200, 4)[:, :3], None
    if objective == "several":
        y = np.column_stack([targets(rows, "regression", i)[0] for i in (0, 1)])
        model = QGBDTRegressor(**LINEAR)
    elif objective == "function":
        y, _ = targets(rows, "regression")
        model = QGBDTRegressor(objective=lambda y, s: (s - y, np.ones_like(y)), **LINEAR)
    else:
        y, sizes = targets(rows, objective)
        kinds = {"binary": QGBDTClassifier, **dict.fromkeys(CLASSES, QGBDTClassifier)}
        kinds |= dict.fromkeys(RANKING, QGBDTRanker)
        model = kinds.get(objective, QGBDTRegressor)(objective=objective, **LINEAR)
    more = {} if sizes is None else {"group": sizes, "eval_group": [sizes] * 2}
    zeros = np.nan_to_num(rows)
    model.set_params(early_stopping_rounds=3, n_estimators=30)
    model.fit(rows, y, eval_set=[(rows + 0.5, y), (sp.csr_array(zeros), y)], **more)
    assert n_linear(model.booster_) > 3
    recorded = model.best_score_["valid_0"]
    again = type(model)(**model.get_params()).set_params(early_stopping_rounds=None)
    again.set_params(n_estimators=model.n_iter_)
    again.fit(rows, y, eval_set=[(rows + 0.5, y), (zeros, y)], **more)
    assert again.booster_ == model.booster_
    for name, values in again.evals_result_["valid_0"].items():
        assert values[-1] == recorded[name]
        if name == "l2":
            error = np.mean((model.predict(rows + 0.5) - y) ** 2)
            assert recorded[name] == pytest.approx(error, rel=1e-12)
    assert again.evals_result_["valid_1"] == {
        name: values[: model.n_iter_] for name, values in model.evals_result_["valid_1"].items()
    }


def test_models_of_both_kinds_of_leaves():
    constant = {"n_estimators": 4, "num_leaves": 8}
    for first, then in ((LINEAR, constant), (constant, LINEAR)):
        start = QGBDTRegressor(**first).fit(X, Y)
        grown = QGBDTRegressor(**then).fit(X, Y, init_model=start).booster_
        assert grown.n_iterations == 12
        np.testing.assert_array_equal(
            grown.predict(X, num_iteration=start.n_iter_), start.predict(X)
        )
        assert Booster.from_bytes(grown.to_bytes()) == grown
        linear = [bool(grown.linear_leaves(i)) for i in range(12)]
        assert linear == [first is LINEAR] * start.n_iter_ + [then is LINEAR] * (12 - start.n_iter_)


def test_sparse_rows_of_which_few_columns_are_used():
    wide = np.zeros((len(X), 12))
    wide[:, [1, 4, 5, 8, 10]] = np.where(np.abs(X) < 0.3, 0, X)
    model = QGBDTRegressor(**LINEAR).fit(wide, Y)
    used = {f for i in range(8) for _, terms in model.booster_.linear_leaves(i) for f in terms}
    assert {1, 4, 5} <= used <= {1, 4, 5, 8, 10}
    np.testing.assert_array_equal(model.predict(sp.csc_array(wide)), model.predict(wide))
    *_, last = model.staged_predict(sp.csr_array(wide))
    np.testing.assert_array_equal(last, model.predict(wide))


def test_rows_held_back_and_categories():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, len(X))
    rows = np.column_stack([GAPS, kind])
    y = Y + 3 * (kind == 1)
    model = QGBDTRegressor(
        **LINEAR, categorical_features=[5], validation_fraction=0.3, min_data_per_group=5
    ).fit(rows, y)
    used = {f for i in range(8) for _, terms in model.booster_.linear_leaves(i) for f in terms}
    assert used
    assert 5 not in used
    losses = model.evals_result_["valid_0"]["l2"]
    assert losses[-1] < 0.6 * losses[0]


def test_rows_on_a_gpu_are_predicted_on_the_host(monkeypatch):
    place = OnHost()
    put_cuda_module(monkeypatch, place)
    model = QGBDTRegressor(**LINEAR).fit(X, Y)
    np.testing.assert_array_equal(model.predict(place.lay(X_TEST)), model.predict(X_TEST))
    assert "WalkTrees" not in place.launches()
    again = QGBDTRegressor(**LINEAR).fit(place.lay(X), Y)
    assert again.booster_ == model.booster_


def test_what_shows_trees_shows_constants():
    pytest.importorskip("pandas")
    booster = QGBDTRegressor(**LINEAR).fit(X, Y).booster_
    frame = booster.trees_to_dataframe()
    leaves = frame[frame.split_feature.isna() & (frame.tree_index == 0)]
    nodes = booster.tree(0)
    assert sorted(leaves.value) == sorted(nodes["value"][nodes["feature"] < 0])


def test_nothing_changes_without():
    """A model of constant leaves has the file that it had."""
    plain = QGBDTRegressor(n_estimators=3).fit(X, Y)
    assert plain.booster_.to_bytes().startswith(b"qgbdt-model 1\n")
    assert plain.booster_.linear_leaves(0) == []
    more = QGBDTRegressor(n_estimators=3, linear_lambda=3.0).fit(X, Y)
    assert more.booster_ == plain.booster_
    assert QGBDTRegressor(**LINEAR).fit(X, Y).booster_.to_bytes().startswith(b"qgbdt-model 3\n")


def test_memory_is_foretold():
    plain, linear = (QGBDTRegressor(linear_tree=of).estimate_memory(X, Y) for of in (False, True))
    assert linear["rows"] - plain["rows"] == 8 * len(X)


# --- How good they are


def held_out_loss(model, name, n_sets=5):
    """The mean over some draws of rows."""
    losses = []
    for seed in range(n_sets):
        if name == "simulated":
            train, test = (piecewise(3000, 2 * seed + i, noise=0.3) for i in (0, 1))
        elif name == "friedman":
            train, test = (
                make_friedman1(3000, noise=0.5, random_state=2 * seed + i) for i in (0, 1)
            )
        else:
            rows, y, _ = real_set(name, 12_000)
            held = np.random.default_rng(seed).random(len(rows)) < 0.5
            train, test = (rows[~held], y[~held]), (rows[held], y[held])
        losses.append(np.mean((model.fit(*train).predict(test[0]) - test[1]) ** 2))
    return np.mean(losses)


def test_better_than_constants_where_things_are_linear():
    losses = [
        held_out_loss(QGBDTRegressor(n_estimators=50, linear_tree=of), "simulated")
        for of in (True, False)
    ]
    noise = 0.3**2
    assert losses[0] - noise < 0.4 * (losses[1] - noise)


@pytest.mark.parametrize("name", ["simulated", "friedman", "california"])
def test_as_good_as_lightgbm(name):
    """Within 5 %, the mean of five draws of the rows; one draw moves either by 10 % and more."""
    lightgbm = pytest.importorskip("lightgbm")
    params = {"n_estimators": 60, "num_leaves": 15, "linear_tree": True, "n_jobs": 1}
    ours = held_out_loss(QGBDTRegressor(**params), name)
    theirs = held_out_loss(lightgbm.LGBMRegressor(**params, verbose=-1), name)
    assert ours < 1.05 * theirs


# --- LightGBM's text


def lightgbm_pairs():
    yield "gaps", QGBDTRegressor(**LINEAR).fit(GAPS, Y), GAPS
    labels = np.digitize(Y, [-1, 1])
    yield "classes", QGBDTClassifier(**LINEAR).fit(X, labels), X
    yield "few rows", QGBDTRegressor(**LINEAR, min_child_samples=2).fit(GAPS[:30], Y[:30]), GAPS


def test_lightgbm_reads_ours():
    lightgbm = pytest.importorskip("lightgbm")
    for name, model, rows in lightgbm_pairs():
        booster = model.booster_
        text = booster.to_lightgbm_string()
        theirs = lightgbm.Booster(model_str=text)
        raw = booster.predict(rows, raw_score=True)
        np.testing.assert_allclose(theirs.predict(rows, raw_score=True), raw, atol=1e-12)
        np.testing.assert_array_equal(theirs.predict(rows, pred_leaf=True), booster.apply(rows))
        again = Booster.from_lightgbm_string(text)
        np.testing.assert_allclose(again.predict(rows, raw_score=True), raw, atol=1e-12)
        assert again.to_lightgbm_string() == text
        assert n_linear(again) == n_linear(booster) > 0, name


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"objective": "multiclass", "num_class": 3},
        {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
        {"use_missing": False},
        {"min_data_in_leaf": 10_000},
    ],
    ids=str,
)
@pytest.mark.parametrize("categorical", [[], [4]])
def test_we_read_lightgbms(params, categorical):
    lightgbm = pytest.importorskip("lightgbm")
    rows, y = GAPS.copy(), Y
    rows[:, 1] = np.where(np.abs(rows[:, 1]) < 0.5, 0, rows[:, 1])  # zeros, for their own kind
    rows[:, 4] = np.abs(np.nan_to_num(rows[:, 4]).round())
    if "num_class" in params:
        y = np.digitize(Y, [-1, 1])
    data = lightgbm.Dataset(
        rows,
        y,
        categorical_feature=categorical,
        params={"linear_tree": True, "verbose": -1} | params,
    )
    settings_ = {"linear_tree": True, "verbose": -1, "num_leaves": 8, "objective": "regression"}
    theirs = lightgbm.train(settings_ | params, data, 8)
    ours = Booster.from_lightgbm_string(theirs.model_to_string())
    expected = theirs.predict(rows)
    np.testing.assert_allclose(ours.predict(rows), expected, atol=1e-12)
    np.testing.assert_array_equal(ours.apply(rows), theirs.predict(rows, pred_leaf=True))
    assert (n_linear(ours) > 0) == ("min_data_in_leaf" not in params)
    back = lightgbm.Booster(model_str=ours.to_lightgbm_string())
    np.testing.assert_allclose(back.predict(rows), expected, atol=1e-12)


def test_leaves_of_linear_trees_that_have_no_features():
    """LightGBM predicts their leaf_const, whatever leaf_value is."""
    lightgbm = pytest.importorskip("lightgbm")
    params = {"n_estimators": 2, "num_leaves": 8, "linear_tree": True, "verbose": -1}
    text = lightgbm.LGBMRegressor(**params).fit(X, Y).booster_.model_to_string()
    assert "num_features=0 0 0 0 0 0 0 0\n" in text  # in the first tree
    edited = re.sub(
        r"leaf_const=\S+", "leaf_const=7.5", re.sub(r"tree_sizes=.*\n", "", text), count=1
    )
    theirs, ours = lightgbm.Booster(model_str=edited), Booster.from_lightgbm_string(edited)
    assert theirs.predict(X).max() > 7
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.linear_leaves(0) == []


def test_linear_trees_in_which_zero_is_missing():
    """LightGBM trains none, but reads and predicts them. A split may take three, with copies."""
    lightgbm = pytest.importorskip("lightgbm")
    rows = np.where(np.abs(GAPS) < 0.5, 0, GAPS)
    text = QGBDTRegressor(**LINEAR).fit(rows, Y).booster_.to_lightgbm_string()
    text = re.sub(r"tree_sizes=.*\n", "", text)  # which are others then
    types = re.findall(r"decision_type=.*", text)
    for kind in ("4", "6"):  # zeros go right with the missing values, or left
        edited = text
        for old in types:
            edited = edited.replace(old, re.sub("8|10", kind, old))
        theirs, ours = lightgbm.Booster(model_str=edited), Booster.from_lightgbm_string(edited)
        np.testing.assert_allclose(ours.predict(rows), theirs.predict(rows), atol=1e-12)
        assert n_linear(ours) > 30
        assert max(map(len, ours.trees())) > 15  # nodes, of 8 leaves


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"is_linear=1", "is_linear=2", "is_linear has a value out of the range [0, 1]"),
        (r"leaf_const=.*\n", "", "leaf_const is missing"),
        (r"leaf_const=", "leaf_const=1 ", "leaf_const has 9 values instead of 8"),
        (r"leaf_const=\S+", "leaf_const=inf", "leaf_const has a value that is not a finite"),
        (r"num_features=.*\n", "", "num_features is missing"),
        (r"num_features=.", "num_features=9", "num_features has a value out of the range [0, 5]"),
        (r"num_features=.", "num_features=0", "leaf_features has "),
        (r"leaf_features=.*\n", "", "leaf_features is missing"),
        (r"leaf_features=\d", "leaf_features=5", "leaf_features has a value out of the range"),
        (r"leaf_features=\d \d", "leaf_features=3 2", "features of a leaf that do not ascend"),
        (r"leaf_coeff=.*\n", "", "leaf_coeff is missing"),
        (r"leaf_coeff=", "leaf_coeff=x ", "leaf_coeff has "),
        (r"leaf_coeff=\S+", "leaf_coeff=1e999", "leaf_coeff has a value that is not a finite"),
    ],
)
def test_refused_texts(old, new, message):
    text = QGBDTRegressor(**LINEAR).fit(X, Y).booster_.to_lightgbm_string()
    edited = re.sub(old, new, text, count=1)
    assert edited != text
    assert message in message_of(ModelFormatError, Booster.from_lightgbm_string, edited)


# --- What does not go with them


@pytest.mark.parametrize(
    ("params", "name", "why"),
    [
        ({"device": "cuda"}, "device='cuda'", "trains on the CPU"),
        ({"boosting_type": "dart"}, "boosting_type='dart'", "keeps its trees as they are"),
        (
            {"boosting_type": "rf", "subsample": 0.5},
            "boosting_type='rf'",
            "keeps its trees as they are",
        ),
        ({"monotone_constraints": [1, 0, 0, 0, 0]}, "monotone_constraints", "keeps no direction"),
        ({"zero_as_missing": True}, "zero_as_missing", "is linear in numbers, zero among them"),
        ({"path_smooth": 1.0}, "path_smooth", "smooths no coefficients"),
        ({"renew_leaves": False}, "renew_leaves=False", "fits leaves to unquantized gradients"),
        *(
            (
                {"objective": objective},
                f"objective={objective!r}",
                "fits leaves to gradients, but this objective's are quantiles",
            )
            for objective in QUANTILES
        ),
    ],
)
def test_refused(params, name, why, monkeypatch):
    put_cuda_module(monkeypatch, CudaModule())
    fit = QGBDTRegressor(**LINEAR | params).fit
    assert message_of(ParameterError, fit, X, Y) == (
        f"linear_tree=True is not for {name}: it {why}. Leave out one of the two."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"boosting_type": "dart"},
        {"boosting_type": "rf"},
        {"monotone_constraints": np.array([1, 0, 0, 0, 0], np.int8)},
        {"path_smooth": 1.0},
        {"renew_leaves": False},
        {"objective": "l1"},
    ],
)
def test_the_core_refuses_it_too(changes):
    with pytest.raises(ValueError, match="linear leaves"):
        train_native(X, Y, linear_params(**changes))


def test_the_core_needs_the_matrix():
    matrix = _core.BinnedMatrix(X, 255, 1)
    args = (matrix, Y, None, None, feature_names(X))
    for rows, params in ((None, linear_params()), (X, native_params())):
        with pytest.raises(ValueError, match="linear leaves need X, others do not"):
            _core.train(*args, params, 1, X=rows)
    for rows in (X[:-1], X[:, :-1]):
        with pytest.raises(ValueError, match="X and the bins differ"):
            _core.train(*args, linear_params(), 1, X=rows)
    device = _core.on_host.device()
    with pytest.raises(ValueError, match="linear leaves are of numbers, zero among them"):
        _core.train(*args, linear_params(), 1, X=X, zero_is_missing=True)
    with pytest.raises(ValueError, match="a device has no linear leaves"):
        _core.train(*args, linear_params(), 1, X=X, device=device)

    def work(comm):
        def train():
            own = _core.BinnedMatrix(X, 255, 1, comm)
            return _core.train(own, *args[1:], linear_params(), 1, comm, X=X)

        return outcome(train)

    for error in in_threads(_core.thread_comms(2), work):
        assert "a linear leaf is of all rows" in str(error)


def test_several_workers():
    def work(worker):
        some = slice(worker.rank, None, 2)
        fit = QGBDTRegressor(**LINEAR).fit
        return outcome(lambda: fit(X[some], Y[some], communicator=worker))

    for error in in_threads(connect_threads(2), work):
        assert isinstance(error, ParameterError)
        assert str(error) == (
            "linear_tree=True fits a leaf to all of its rows, which several workers do not have. "
            "Train on one, or with linear_tree=False."
        )
    (alone,) = connect_threads(1)
    model = QGBDTRegressor(**LINEAR)
    of_one = model.fit(X, Y, communicator=alone).booster_
    assert model.fit(X, Y).booster_ == of_one


def test_sparse_rows():
    assert message_of(DataError, QGBDTRegressor(**LINEAR).fit, sp.csr_array(X), Y) == (
        "linear_tree=True needs dense data, X is sparse. Use X.toarray()."
    )


def test_what_is_asked_of_constant_leaves():
    model = QGBDTRegressor(**LINEAR).fit(X, Y)
    booster = model.booster_
    for name, ask in (
        ("predict_contrib", lambda: model.predict(X, pred_contrib=True)),
        ("predict_interactions", lambda: booster.predict_interactions(X)),
        ("to_shap_dict", booster.to_shap_dict),
    ):
        assert message_of(DataError, ask) == (
            f"{name} is for constant leaves, this model's are linear. Train with "
            "linear_tree=False, or explain its predictions from outside."
        )
    with pytest.raises(ValueError, match="only constant leaves are explained"):
        booster._model.explain(X, 0, 1, 1, False)
    constant = QGBDTRegressor(n_estimators=2).fit(X, Y)
    for some in (model, constant.set_params(linear_tree=True)):
        assert message_of(ParameterError, some.refit, X, Y) == (
            "refit gives leaves new constants, which linear leaves (linear_tree=True) are not. Fit "
            "another model."
        )
