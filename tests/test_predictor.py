"""Prediction: walked or sliced, every row gets the bits of a plain walk in NumPy.

Swept: forests at random (both missing sides, repeated, infinite and huge thresholds, more than one
column of thresholds a feature, trees of 1 to 256 leaves and beyond, one output and three) x batches
on both sides of every block x SIMD levels x threads x layouts x float32 and float64, on rows with
NaN, infinities and signed zeros. Against: `reference.ReferenceModel`. Tolerance: none.
"""

import threading

import numpy as np
import pytest
from conftest import OBJECTIVES
from reference import ReferenceModel
from test_model_io import sealed, to_chars

from qgbdt import Booster, _core

N_FEATURES = 5
THRESHOLDS = np.array([-np.inf, -1e300, -2.0, -0.1, 0.0, 1e-320, 0.1, 0.25, 3.0, 1e300, np.inf])
BATCHES = (0, 1, 5, 11, 12, 13, 255, 256, 257, 267, 268, 600)


def random_tree(rng, n_leaves, thresholds) -> list[str]:
    """The lines of a tree: a random leaf is split again and again."""
    lines, open_leaves = [None], [0]
    while len(open_leaves) < n_leaves:
        node = open_leaves.pop(rng.integers(len(open_leaves)))
        feature = rng.integers(N_FEATURES)
        side = rng.choice(["missing-left", "missing-right"])
        children = (len(lines), len(lines) + 1)
        threshold = to_chars(rng.choice(thresholds))
        lines[node] = f"split {feature} {threshold} {side} {children[0]} {children[1]} 0 0 0"
        lines += [None, None]
        open_leaves += children
    for node in open_leaves:
        lines[node] = f"leaf {to_chars(rng.normal())} 0 0"
    return lines


def random_booster(
    objective="regression", *, leaves=(1, 2, 3, 31, 255, 256), seed=0, thresholds=()
):
    rng = np.random.default_rng(seed)
    n_outputs = 3 if objective == "multiclass" else 1
    thresholds = np.concatenate([THRESHOLDS, np.round(rng.normal(size=20), 2), thresholds])
    trees = [random_tree(rng, n, thresholds) for n in np.repeat(leaves, n_outputs)]
    base = " ".join(to_chars(b) for b in rng.normal(size=n_outputs))
    lines = ["qgbdt-model 1", f"objective {objective}", f"outputs {n_outputs}"]
    lines += [f"base_score {base}", f"features {N_FEATURES}"]
    lines += [f'"f{i}"' for i in range(N_FEATURES)] + [f"trees {len(trees)}"]
    for i, tree in enumerate(trees):
        lines += [f"tree {i} nodes {len(tree)}", *tree]
    return Booster.from_bytes(sealed("".join(line + "\n" for line in lines).encode()))


def rows(n, seed=1, missing=0.2):
    """Rows on, near and far from the thresholds."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_FEATURES))
    special = np.concatenate([THRESHOLDS, [-0.0, 5e-324, -5e-324, 0.1, np.float32(0.1)]])
    X = np.where(rng.random(X.shape) < 0.4, rng.choice(special, X.shape), X)
    X = np.where(rng.random(X.shape) < 0.2, np.round(X, 2), X)
    X[rng.random(X.shape) < missing] = np.nan
    return X


def expected(booster, X, *, raw=False, start=0, end=None):
    K = 3 if booster.objective == "multiclass" else 1
    base = booster.predict(X[:1], raw_score=True, start_iteration=booster.n_iterations)
    trees = booster.trees()[start * K : None if end is None else end * K]
    base, no_sets = np.atleast_1d(np.squeeze(base)), [[]] * len(trees)
    model = ReferenceModel(booster.objective, base, trees, no_sets, [{} for _ in trees])
    values = model.predict_raw(X) if raw else model.predict(X)
    return values[:, 0] if K == 1 else values


def assert_same_bits(actual, wanted):
    assert actual.tobytes() == np.ascontiguousarray(wanted).tobytes()


@pytest.mark.parametrize("simd", _core.simd_levels())
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_batch_size(objective, simd, monkeypatch):
    monkeypatch.setenv("QGBDT_SIMD", simd)
    booster, X = random_booster(objective), rows(max(BATCHES))
    wanted = expected(booster, X)
    for n in BATCHES:
        assert_same_bits(booster.predict(X[:n]), wanted[:n])
        assert_same_bits(booster.predict(X[len(X) - n :]), wanted[len(X) - n :])


@pytest.mark.parametrize("n", [7, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_layouts_and_element_types(n, dtype, missing):
    with np.errstate(over="ignore"):
        X = rows(n, missing=missing).astype(dtype)
    booster = random_booster(thresholds=np.float64(np.float32([0.1, 0.7])))
    wanted = expected(booster, X)
    wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    backwards = np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    for same in (X, np.asfortranarray(X), wide, backwards):
        assert_same_bits(booster.predict(same), wanted)


def test_one_block_with_missing_values_among_others():
    booster, X = random_booster(), rows(3 * 256, missing=0.0)
    X[300, 2] = np.nan
    assert_same_bits(booster.predict(X), expected(booster, X))


@pytest.mark.parametrize("n_thresholds", [253, 254, 255, 256, 509, 1100])
def test_many_thresholds_of_a_feature(n_thresholds):
    thresholds = np.arange(n_thresholds) / 8 - 20
    booster = random_booster(leaves=[256] * 40, thresholds=np.repeat(thresholds, 50))
    X = np.random.default_rng(2).choice(np.arange(-200, 1000) / 8, (600, N_FEATURES))
    assert_same_bits(booster.predict(X), expected(booster, X))


@pytest.mark.parametrize("leaves", [(257,), (256, 257, 3), (1,) * 9, (2,) * 30, (1000,)])
def test_tree_sizes(leaves):
    booster, X = random_booster(leaves=leaves, seed=3), rows(300)
    assert_same_bits(booster.predict(X), expected(booster, X))


@pytest.mark.parametrize("objective", ["regression", "multiclass"])
@pytest.mark.parametrize("n", [3, 300])
def test_iteration_ranges(objective, n):
    booster, X = random_booster(objective, leaves=[31] * 12), rows(n)
    for start in range(0, 13, 3):
        for end in range(start + 1, 13):
            part = booster.predict(
                X, raw_score=True, start_iteration=start, num_iteration=end - start
            )
            assert_same_bits(part, expected(booster, X, raw=True, start=start, end=end))


def test_threads_share_one_model():
    """Many threads make the first predictions at once, each with two threads of its own."""
    X = rows(4000)
    wanted = expected(random_booster(leaves=[63] * 40), X)
    for _ in range(5):
        booster, results = random_booster(leaves=[63] * 40), {}

        def work(i, booster=booster, results=results):
            results[i] = booster.predict(X[: 4000 - i], n_jobs=2)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(6):
            assert_same_bits(results[i], wanted[: 4000 - i])
