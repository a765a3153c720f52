"""Categorical features: how they are split, trained on any machine, and kept in the model.

Swept: all objectives and bits, few and many categories (up to 255), missing values, parameters at
their ends, threads x SIMD x workers, refused input. Against: reference.py (==), brute force over
all subsets, itself under other names of categories. Tolerance: none.
"""

import itertools

import numpy as np
import pytest
import reference as ref
from conftest import (
    OBJECTIVES,
    feature_names,
    native_categories,
    native_params,
    targets,
    train_native,
)
from workers import shards_in_order, train_together

from qgbdt import QGBDTRegressor, _core

CATEGORIES = [3, None, 12, 255, 1, None]
"""Of the columns of `categorical_data`; None is a number."""


def categorical_data(n_samples=900, seed=0, missing=0.1):
    """X of codes and numbers, of which the first three columns matter."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, len(CATEGORIES)))
    for column, n in enumerate(CATEGORIES):
        if n is not None:
            X[:, column] = rng.geometric(min(3 / n, 0.9), n_samples).clip(1, n) - 1
    X[rng.random(X.shape) < missing] = np.nan
    X[:, 1] = np.nan_to_num(X[:, 1])
    return X


def effects(X, seed=0):
    """X with an effect in the place of each code."""
    rng = np.random.default_rng(seed)
    values = X.copy()
    for column, n in enumerate(CATEGORIES):
        if n is not None:
            values[:, column] = np.append(rng.normal(size=n), 0.5)[
                np.nan_to_num(X[:, column], nan=-1).astype(int)
            ]
    return values


def assert_equals_reference(X, y, params, query_sizes=None, max_bin=255, categories=CATEGORIES):
    model = train_native(
        X, y, params, query_sizes=query_sizes, max_bin=max_bin, n_categories=categories
    )
    bits = params["grad_bits"]
    wanted = ref.train(
        X,
        y,
        query_sizes=query_sizes,
        n_categories=categories,
        params=params | {"max_bin": max_bin, "grad_bits": bits},
    )
    n_categorical = 0
    for i, (tree, sets) in enumerate(zip(wanted.trees, wanted.category_sets)):
        assert model.category_sets(i) == [sorted(some) for some in sets]
        for field in tree.dtype.names:
            np.testing.assert_array_equal(model.tree(i)[field], tree[field])
        n_categorical += len(sets)
    raw = model.predict(X, 0, params["n_estimators"], True, 1)
    np.testing.assert_array_equal(raw, wanted.predict_raw(X))
    again = _core.Model.from_bytes(model.to_bytes())
    assert again.to_bytes() == model.to_bytes()
    np.testing.assert_array_equal(again.predict(X, 0, params["n_estimators"], True, 1), raw)
    return n_categorical


@pytest.mark.parametrize("bits", ["auto", 3, 16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equals_the_reference(objective, bits):
    X = categorical_data()
    y, sizes = targets(effects(X), objective)
    params = native_params(objective=objective, grad_bits=bits, min_data_per_group=20.0)
    assert assert_equals_reference(X, y, params, sizes) > 5


def drawn_params(seed, **changes):
    """Parameters of categories, and what limits a child, at their ends."""
    rng = np.random.default_rng(seed)
    return native_params(
        grad_bits=[2, 5, 16][rng.integers(3)],
        num_leaves=int(rng.choice([4, 31])),
        min_child_samples=int(rng.choice([1, 7, 40])),
        min_child_weight=float(rng.choice([0, 1e-3, 5])),
        reg_lambda=float(rng.choice([0, 1])),
        reg_alpha=float(rng.choice([0, 0.5])),
        cat_smooth=float(rng.choice([0, 0.3, 10])),
        cat_l2=float(rng.choice([0, 10])),
        max_cat_threshold=int(rng.choice([1, 3, 255])),
        max_cat_to_onehot=int(rng.choice([0, 4, 300])),
        min_data_per_group=float(rng.choice([0, 1, 30])),
        seed=seed,
        **changes,
    )


@pytest.mark.parametrize("seed", range(30))
def test_equals_the_reference_at_the_ends_of_parameters(seed):
    rng = np.random.default_rng(seed)
    X = categorical_data(int(rng.choice([60, 400])), seed, missing=rng.choice([0, 0.3]))
    objective = str(rng.choice(["regression", "binary", "poisson"]))
    y, _ = targets(effects(X), objective)
    assert_equals_reference(X, y, drawn_params(seed, objective=objective))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_reference_with_samples_and_constraints(seed):
    """LightGBM's quantized mode breaks with several of these alone."""
    X = categorical_data(600, seed)
    y, _ = targets(effects(X), "binary")
    params = drawn_params(
        seed,
        objective="binary",
        subsample=[1.0, 0.6][seed % 2],
        colsample_bytree=[1.0, 0.7][seed // 2 % 2],
        colsample_bynode=[0.7, 1.0][seed // 3 % 2],
        monotone_constraints=np.array([0, 1, 0, 0, 0, -1] if seed % 3 else [], np.int8),
    )
    assert_equals_reference(X, y, params)


# --- Which split is the best


def searched_node(n_categories, n_samples, seed, missing=0.0):
    """A node of one categorical feature: its matrix, histogram, sums and quantized gradients."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, n_categories, (n_samples, 1)).astype(float)
    X[rng.random(X.shape) < missing] = np.nan
    g = (rng.normal(size=n_samples) + np.nan_to_num(np.sin(9 * X[:, 0]))).astype(np.float32)
    matrix = ref.bin_matrix(X, 255, [n_categories])
    params = native_params(min_child_samples=1, cat_smooth=0.0, cat_l2=0.0, min_data_per_group=0.0)
    quantized = ref.quantize(g, np.ones_like(g), np.uint64(seed), params, True)
    rows = np.arange(n_samples)
    histogram = ref.build_histogram(matrix, quantized, rows)
    return matrix, histogram, ref.node_sums(quantized, rows), quantized, params


def best_of_all_subsets(matrix, histogram, parent, quantized, params):
    bins = histogram[0][: matrix.n_bins[0]]
    subsets = [
        list(some)
        for size in range(1, len(bins))
        for some in itertools.combinations(range(len(bins)), size)
    ]
    left = np.array([bins[some].sum(axis=0) for some in subsets])
    return ref.split_gains(left, parent, quantized, params).max()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("n_categories", "onehot"), [(2, 4), (3, 4), (2, 0), (8, 0)])
def test_the_best_split_is_the_best_of_all_subsets(n_categories, onehot, seed):
    """With nothing to smooth; of sorted categories that is a theorem (Fisher 1958)."""
    missing = 0.2 * (n_categories < 3)
    node = searched_node(n_categories, 150, seed, missing)
    node[-1].update(max_cat_to_onehot=onehot, max_cat_threshold=255)
    split, wanted = ref.best_split(*node), best_of_all_subsets(*node)
    assert split is not None
    assert split.gain == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("sign", "wanted"), [(1, 1), (-1, 4)])
def test_of_equal_categories_the_first_is_the_first(sign, wanted):
    """Of codes 1 and 4, which are alike; from the other end it is the last."""
    X = np.tile(np.arange(6.0), 20)[:, None]
    y = sign * np.isin(X[:, 0], [1, 4]).astype(float)
    params = native_params(
        n_estimators=1,
        num_leaves=2,
        max_cat_threshold=1,
        min_data_per_group=0.0,
        rounding="nearest",
    )
    model = train_native(X, y, params, n_categories=[6])
    [[left]] = model.category_sets(0)
    assert left == wanted
    assert_equals_reference(X, y, params, categories=[6])


@pytest.mark.parametrize("threshold", [1, 2, 3, 4])
def test_no_more_categories_than_asked(threshold):
    _, histogram, parent, quantized, params = searched_node(9, 500, 0)
    params.update(max_cat_threshold=threshold, max_cat_to_onehot=0)
    _, sets, _ = ref.category_candidates(histogram[0], 9, False, parent, quantized, params)
    assert sorted(map(len, sets)) == sorted(2 * list(range(1, threshold + 1)))


def test_groups_and_small_categories():
    """Categories of fewer rows than cat_smooth are not sorted; splits differ by whole groups."""
    X = np.repeat(np.arange(8.0), [4, 30, 30, 30, 30, 30, 30, 30])[:, None]
    g = np.float32(X[:, 0])
    matrix = ref.bin_matrix(X, 255, [8])
    params = native_params(grad_bits=16, cat_smooth=5.0, min_data_per_group=60.0)
    quantized = ref.quantize(g, np.ones_like(g), np.uint64(0), params, True)
    rows = np.arange(len(X))
    histogram = ref.build_histogram(matrix, quantized, rows)
    parent = ref.node_sums(quantized, rows)
    _, sets, l2 = ref.category_candidates(histogram[0], 8, False, parent, quantized, params)
    assert (sets, l2) == ([[1, 2], [1, 2, 3, 4], [7, 6], [7, 6, 5, 4]], 10.0)


# --- Laws of a model


def leaves_of(model, X, i):
    """The rows in each node of tree i."""
    tree, sets = model.tree(i), model.category_sets(i)
    rows = {0: np.arange(len(X))}
    for node, at in enumerate(tree):
        if at["feature"] < 0:
            continue
        x = X[rows[node], at["feature"]]
        left = x <= at["threshold"]
        if at["is_categorical"]:
            left = np.isin(x, sets[int(at["threshold"])])
        left = np.where(np.isnan(x), at["missing_left"], left)
        rows[at["left"]], rows[at["right"]] = rows[node][left], rows[node][~left]
    return rows


@pytest.mark.parametrize("bits", [2, 5, 16])
@pytest.mark.parametrize("min_child_samples", [1, 30, 100])
def test_no_leaf_is_smaller_than_min_child_samples(min_child_samples, bits):
    """LightGBM's quantized mode makes leaves of 26 rows with min_data_in_leaf=100."""
    X = categorical_data(3000)
    y, _ = targets(effects(X), "binary")
    params = native_params(
        objective="binary",
        grad_bits=bits,
        min_child_samples=min_child_samples,
        min_data_per_group=0.0,
        cat_smooth=0.0,
        min_child_weight=0.0,
        num_leaves=63,
    )
    model = train_native(X, y, params, n_categories=CATEGORIES)
    for i in range(model.n_trees):
        tree, rows = model.tree(i), leaves_of(model, X, i)
        assert tree["is_categorical"].any()
        np.testing.assert_array_equal(tree["count"], [len(rows[node]) for node in range(len(tree))])
        assert tree["count"].min() >= min_child_samples
        splits = tree[tree["feature"] >= 0]
        below = tree["count"][splits["left"]] + tree["count"][splits["right"]]
        np.testing.assert_array_equal(splits["count"], below)


def test_a_code_that_training_missed_follows_the_larger_child():
    X = np.repeat([0.0, 1.0, 2.0], [50, 20, 30])[:, None]
    params = native_params(n_estimators=1, num_leaves=2)
    model = train_native(X, np.float64(X[:, 0] == 1), params, n_categories=[3])
    [[left]] = model.category_sets(0)
    assert left == 1
    predicted = model.predict(np.array([[0.0], [np.nan], [1.0], [2.0]]), 0, 1, True, 1)[:, 0]
    assert predicted[0] == predicted[1] == predicted[3] != predicted[2]


@pytest.mark.parametrize("seed", range(5))
def test_codes_have_no_order(seed):
    """Other codes, the same splits: gradients of 16 bits leave no ties."""
    X = categorical_data(2000, seed)
    y = effects(X)[:, [0, 2, 3]].sum(axis=1) + np.random.default_rng(seed).normal(size=len(X))
    rng = np.random.default_rng(seed)
    other = X.copy()
    for column, n in enumerate(CATEGORIES):
        if n is not None:
            renamed = np.append(rng.permutation(n), np.nan)
            other[:, column] = renamed[np.nan_to_num(X[:, column], nan=n).astype(int)]
    params = native_params(grad_bits=16, num_leaves=31, min_data_per_group=10.0)
    models = [train_native(some, y, params, n_categories=CATEGORIES) for some in (X, other)]
    raws = [model.predict(some, 0, 3, True, 1) for model, some in zip(models, (X, other))]
    np.testing.assert_array_equal(*raws)


# --- Machines


@pytest.mark.parametrize("bits", [2, "auto", 16])
def test_threads_and_simd_agree(bits, monkeypatch):
    """LightGBM's quantized mode trains other models on two threads."""
    X = categorical_data(20_000)
    y, _ = targets(effects(X), "binary")
    params = native_params(objective="binary", grad_bits=bits, num_leaves=63, min_child_samples=3)
    texts = set()
    for simd in _core.simd_levels():
        monkeypatch.setenv("QGBDT_SIMD", simd)
        for n_threads in (1, 2, 5):
            model = train_native(X, y, params, n_threads=n_threads, n_categories=CATEGORIES)
            texts.add(model.to_bytes() + model.predict(X, 0, 3, True, n_threads).tobytes())
    assert len(texts) == 1


@pytest.mark.parametrize("seed", range(12))
def test_workers_agree(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice([60, 1500]))
    X = categorical_data(n, seed)
    if seed % 2:  # features for each of several workers
        X = np.hstack([X] * 3)
    y, _ = targets(effects(X[:, : len(CATEGORIES)]), "binary")
    params = drawn_params(seed, objective="binary")
    edges = np.sort(rng.integers(0, n + 1, 1 + seed % 4)).tolist()
    categories = CATEGORIES * (X.shape[1] // len(CATEGORIES))
    alone = train_native(X, y, params, n_categories=categories).to_bytes()
    comms = _core.thread_comms(len(edges) + 1)
    together = train_together(
        comms, shards_in_order(n, edges), X, y, params, n_categories=categories
    )
    assert {model.to_bytes() for model in together} == {alone}


def test_workers_agree_on_a_leaf_of_many_rows():
    """LightGBM's quantized mode fails or makes NaN of a leaf above 16,384 rows."""
    X = categorical_data(40_000)
    y, _ = targets(effects(X), "binary")
    params = native_params(objective="binary", grad_bits=3, num_leaves=6)
    alone = train_native(X, y, params, n_categories=CATEGORIES)
    assert alone.tree(0)["count"][alone.tree(0)["feature"] < 0].max() > 16_384
    parts = shards_in_order(len(X), [15_000])
    together = train_together(_core.thread_comms(2), parts, X, y, params, n_categories=CATEGORIES)
    assert {model.to_bytes() for model in together} == {alone.to_bytes()}


# --- What the core refuses


@pytest.mark.parametrize("numbers", [[3], [3, -1, 12, 255, 1, -2], [3, -1, 12, 255, 1, 256]])
def test_matrix_refuses(numbers):
    with pytest.raises(ValueError, match="n_categories must"):
        _core.BinnedMatrix(categorical_data(50), 255, 1, n_categories=numbers)


@pytest.mark.parametrize(
    "values", [[], [None] * 6, [[0.0]] * 6, [[0.0] * 4, None, [0.0] * 12, [0.0] * 255, [0.0], None]]
)
def test_train_refuses_other_categories(values):
    X = categorical_data(50)
    matrix = _core.BinnedMatrix(X, 255, 1, n_categories=native_categories(CATEGORIES)[0])
    with pytest.raises(ValueError, match="categories"):
        _core.train(
            matrix, X[:, 1], None, None, feature_names(X), native_params(), 1, categories=values
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_batches_are_predicted_as_single_rows_are(missing, dtype):
    """By bit slices, of more sets than a column has conditions, as by walks."""
    X = categorical_data(3000, missing=missing).astype(dtype)
    y, _ = targets(effects(X), "regression")
    params = native_params(n_estimators=60, num_leaves=31, min_data_per_group=1.0, cat_smooth=1.0)
    model = train_native(X, y, params, n_categories=CATEGORIES)
    sets = [s for i in range(60) for s in model.category_sets(i)]
    assert len({tuple(some) for some in sets if max(some, default=0) > 12}) > 254
    X = X[:1000]
    walked = [model.predict(X[i : i + 1], 0, 60, True, 1)[0, 0] for i in range(len(X))]
    np.testing.assert_array_equal(model.predict(X, 0, 60, True, 1)[:, 0], walked)


def test_any_number_is_a_code_for_prediction():
    X = categorical_data(500)
    y, _ = targets(effects(X), "regression")
    model = train_native(X, y, native_params(), n_categories=CATEGORIES)
    X[:, :4] = np.random.default_rng(0).choice(
        [-1, -200, 255, 256, 1e300, np.inf, -np.inf], (500, 4)
    )
    wanted = np.full(len(X), model.base_score[0])
    for i in range(model.n_trees):
        for node, rows in leaves_of(model, X, i).items():
            wanted[rows] += model.tree(i)["value"][node]
    found = [model.predict(X[i : i + 5], 0, 3, True, 1)[:, 0] for i in range(0, len(X), 5)]
    np.testing.assert_array_equal(np.concatenate(found), wanted)
    assert np.isfinite(model.predict(X, 0, 3, True, 1)).all()


# --- Accuracy


def test_categories_train_like_lightgbm_in_float():
    """Held-out loss within 2 % of LightGBM's, and far below that of codes as numbers."""
    lightgbm = pytest.importorskip("lightgbm")
    X = categorical_data(12_000, missing=0.0)
    y = effects(X)[:, [0, 2, 3]].sum(axis=1) + np.random.default_rng(1).normal(size=len(X))
    train, test = slice(8000), slice(8000, None)
    shared = {"n_estimators": 60, "num_leaves": 15}
    which = [i for i, n in enumerate(CATEGORIES) if n is not None]

    def loss(model):
        return np.square(model.predict(X[test]) - y[test]).mean()

    ours = loss(QGBDTRegressor(categorical_features=which, **shared).fit(X[train], y[train]))
    numbers = loss(QGBDTRegressor(**shared).fit(X[train], y[train]))
    theirs = lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **shared)
    assert ours < 1.02 * loss(theirs.fit(X[train], y[train], categorical_feature=which))
    assert ours < numbers
