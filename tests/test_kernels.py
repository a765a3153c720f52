"""Single kernels, equal to their plain references, on every SIMD level that this CPU runs.

Swept, of the split search: 1 to 255 value bins, empty ones, with and without missing values, cells
and lanes, counts checked or not, L1, L2, a longest step, least children, sums up to the last that
32 bits hold. Against: all cuts by the formulas of reference.py, with the best gain itself as the
least that is asked for: then a bound that is a little too low loses the best cut. Of the other
kernels: 8 and 16 bits, sizes that are no multiple of a vector. Against: reference.py or NumPy.
Tolerance: none.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
import reference as ref
from conftest import CLASSES
from reference import COUNT, G, H

from qgbdt import _core

kernels = _core.kernels
U8, U16, U32 = np.uint8, np.uint16, np.uint32


@pytest.fixture(params=_core.simd_levels(), autouse=True)
def simd(request, monkeypatch):
    monkeypatch.setenv("QGBDT_SIMD", request.param)
    assert _core.simd_level() == request.param


# ---------------------------------------------------------------------------------- split search


class Search(NamedTuple):
    """A node's histogram of one feature, and what its cuts are judged by."""

    histogram: np.ndarray  # int64 (n_value_bins + 1, 3), the missing bin last
    params: dict
    gradient_scale: float
    hessian_scale: float
    constant_hessian: bool
    check_counts: bool
    as_lanes: bool
    sign: int = 0
    bounds: ref.Bounds = ref.UNBOUNDED


def log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def whole_shares(weights, total):
    """Integers in proportion to `weights`, of the same signs, whose magnitudes sum to `total`."""
    shares = np.abs(weights) / max(np.abs(weights).sum(), 1e-300)
    whole = np.floor(shares * total).astype(np.int64)
    if weights.any():
        whole[np.argmax(shares)] += total - whole.sum()
    return np.where(weights < 0, -whole, whole)


def draw_histogram(rng, as_lanes, constant_hessian):
    """Gradients are a share of hessians, one below some cut and one above, and noise.

    Bins weigh alike or differ by orders of magnitude, in any order or sorted. One light bin, often
    at an end, may have gradients far above its share.
    """
    n_bins = 1 + int(rng.choice([1, 2, 3, 6, 7, 8, 31, 63, 64, 127, 128, 200, 254, 255]))
    most_g, most_h = (2**15 - 1, 2**16 - 1) if as_lanes else (2**31 - 1, 2**31 - 1)
    weight = np.exp(rng.choice([0, 1, 4, 8]) * rng.normal(size=n_bins))
    weight = weight[rng.choice([np.arange(n_bins), np.argsort(weight), np.argsort(-weight)])]
    weight *= rng.random(n_bins) >= rng.choice([0, 0.3, 0.95])
    weight[-1] *= rng.choice([0, 1, 1, n_bins])
    above = np.arange(n_bins) > rng.integers(n_bins)
    slope = np.where(above, *rng.choice([-1, 0, 0.1, 1], 2))
    slope += log_uniform(rng, 1e-9, 10) * rng.normal(size=n_bins)
    slope[-1] += rng.choice([0, 0, 1])
    spike = int(rng.choice([0, n_bins - 2, rng.integers(n_bins)]))
    if rng.random() < 0.5:
        weight[spike] = weight.sum() * log_uniform(rng, 1e-9, 1)
        slope[spike] *= log_uniform(rng, 1, 1e4)

    total_h = int(rng.choice([most_h, log_uniform(rng, 2, most_h)]))
    total_g = int(rng.choice([most_g, log_uniform(rng, 2, most_g)]))
    histogram = np.empty((n_bins, 3), np.int64)
    histogram[:, H] = whole_shares(weight, total_h)
    histogram[:, G] = whole_shares(weight * slope, total_g)
    rows = np.ceil(rng.random(n_bins) * log_uniform(rng, 1, 2**31 / n_bins))
    histogram[:, COUNT] = np.where(histogram[:, H] + np.abs(histogram[:, G]) > 0, rows, 0)
    if constant_hessian:
        histogram[:, COUNT] = histogram[:, H]
    return histogram


def draw_search(rng):
    as_lanes, constant_hessian = rng.random() < 0.3, rng.random() < 0.2
    histogram = draw_histogram(rng, as_lanes, constant_hessian)
    while histogram[:, COUNT].sum() == 0:
        histogram = draw_histogram(rng, as_lanes, constant_hessian)
    gradient_scale = float(rng.choice([1.0, log_uniform(rng, 1e-4, 1e4)]))
    hessian_scale = 1.0 if constant_hessian else log_uniform(rng, 1e-4, 1e4)
    sums_g = np.abs(np.cumsum(histogram[:, G])) * gradient_scale
    largest_g = max(sums_g.max(), gradient_scale)
    total_h = max(histogram[:, H].sum(), 1) * hessian_scale
    n_rows = int(histogram[:, COUNT].sum())
    params = {
        "objective": str(rng.choice(["regression", "binary"])),  # no longest step, or 5
        "reg_alpha": rng.choice([0, rng.choice(sums_g), largest_g]) * rng.uniform(0, 2),
        "reg_lambda": float(rng.choice([0, 0, total_h, 1e-9])) * log_uniform(rng, 1e-6, 1e3),
        "monotone_constraints": [],
        "path_smooth": 0.0,
        "min_split_gain": float(rng.choice([0, largest_g**2 / total_h]))
        * log_uniform(rng, 1e-9, 1),
        "min_child_weight": float(rng.choice([0, total_h])) * log_uniform(rng, 1e-6, 0.5),
        "min_child_samples": int(rng.choice([1, 1, min(20, n_rows), max(n_rows // 5, 1)])),
    }
    check_counts = bool(rng.random() < 0.5)
    return Search(
        histogram, params, gradient_scale, hessian_scale, constant_hessian, check_counts, as_lanes
    )


def draw_limited_search(rng):
    """Of a node whose value, as a leaf, is within its bounds, at one of them or beyond.

    Or drawn towards that of the node above, or both.
    """
    search = draw_search(rng)
    parent = search.histogram.sum(axis=0)
    sums = parent[G] * search.gradient_scale, parent[H] * search.hessian_scale
    value = float(ref.step_value(*sums, search.params))
    width = max(abs(value), 1e-6) * log_uniform(rng, 1e-3, 10)
    lower = value + width * rng.uniform(-1, 1)
    bounds = (
        lower if rng.random() < 0.8 else -math.inf,
        lower + width * rng.uniform(0, 1) if rng.random() < 0.8 else math.inf,
        value + width * rng.normal(),
    )
    limits = {"monotone_constraints": [1]}  # some feature's, so that there are bounds
    if parent[COUNT] > 1 and rng.random() < 0.5:
        limits["path_smooth"] = log_uniform(rng, 1e-2, 1e2) * float(parent[COUNT])
    return search._replace(
        params=search.params | limits, sign=int(rng.integers(-1, 2)), bounds=bounds
    )


def best_cut(s: Search):
    """Gain, left gradients, left hessians, bin and missing_left of the best; None if none gains."""
    quantized = ref.QuantizedGradients(None, None, s.gradient_scale, s.hessian_scale)
    left, bins, missing_left = ref.split_candidates(s.histogram, len(s.histogram) - 1, True)
    parent = s.histogram.sum(axis=0)
    params = s.params | {"min_child_weight": ref.min_child_weight(parent, quantized, s.params)}
    if not (s.check_counts or s.constant_hessian):  # any will do
        left[:, COUNT], params["min_child_samples"] = 1, 1
        parent[COUNT] = max(parent[COUNT], 2)
    gains = ref.split_gains(left, parent, quantized, params, s.bounds, s.sign)
    best = int(np.argmax(gains))  # the first of equals
    if not gains[best] > ref.gain_threshold(parent, quantized, params, s.bounds):
        return None
    return (
        float(gains[best]),
        int(left[best, G]),
        int(left[best, H]),
        int(bins[best]),
        bool(missing_left[best]),
    )


def find_splits(s: Search, at_least, bound_first=False):
    p = s.params
    return kernels.find_splits(
        np.repeat(s.histogram[None], len(at_least), axis=0),
        np.array(at_least, np.float64),
        bound_first=bound_first,
        as_lanes=s.as_lanes,
        check_counts=s.check_counts,
        gradient_scale=s.gradient_scale,
        hessian_scale=s.hessian_scale,
        reg_alpha=p["reg_alpha"],
        reg_lambda=p["reg_lambda"],
        min_split_gain=p["min_split_gain"],
        min_child_weight=p["min_child_weight"],
        max_step=ref.MAX_STEP.get(p["objective"], ref.MAX_LOG_STEP),
        min_child_samples=p["min_child_samples"],
        constant_hessian=s.constant_hessian,
        limits=(s.sign, *s.bounds, p["path_smooth"]) if ref.limits_values(p) else None,
    )


def assert_best_is_found(search, best):
    """Unless its gain is below what is asked for: then what is found has no more.

    Returns whether a bound told that nothing has twice its gain.
    """
    gain = best[0]
    below, above = math.nextafter(gain, 0), math.nextafter(gain, math.inf)
    for bound_first in (False, True):
        *found, of_above, of_twice = find_splits(
            search, [0, gain / 2, below, gain, above, 2 * gain], bound_first
        )
        assert found == [best] * 4, search
        assert max(of_above[0], of_twice[0]) <= gain, search
    return of_twice[0] == 0


@pytest.mark.parametrize("draw", [draw_search, draw_limited_search])
@pytest.mark.parametrize("seed", range(8))
def test_best_cut_is_found(seed, draw):
    rng = np.random.default_rng(seed)
    n_found = n_ruled_out = 0
    for _ in range(1000 if draw is draw_search else 500):
        search = draw(rng)
        best = best_cut(search)
        if best is None:
            assert find_splits(search, [0])[0][0] <= 0, search
        else:
            n_found += 1
            n_ruled_out += assert_best_is_found(search, best)
    assert n_found > (300 if draw is draw_search else 50)
    assert n_ruled_out > n_found / (4 if draw is draw_search else 40)  # bounds know no limits


@pytest.mark.parametrize("seed", range(8))
def test_light_bin_beside_sums_that_float32_rounds(seed):
    """Equal slopes but for one bin of few hessians, whose gradients are some ulps of the sums."""
    rng = np.random.default_rng(seed)
    params = {"objective": "regression", "reg_alpha": 0.0, "reg_lambda": 0.0}
    params |= {"min_split_gain": 0.0, "min_child_weight": 0.0, "min_child_samples": 1}
    params |= {"monotone_constraints": [], "path_smooth": 0.0}
    for _ in range(300):
        n_bins = int(rng.integers(3, 9))
        heavy = rng.integers(1, (2**31 - 1) // n_bins, n_bins)
        histogram = np.stack([heavy, heavy, np.full(n_bins, 2**28 - 1)], axis=1)
        light = int(rng.choice([0, n_bins - 2]))
        histogram[light, [G, H]] = log_uniform(rng, 300, 30_000), log_uniform(rng, 4, 100)
        search = Search(histogram, params, 1.0, 1.0, False, bool(rng.random() < 0.5), False)
        assert_best_is_found(search, best_cut(search))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"histograms": np.ones((1, 257, 3), np.int64)}, "histograms must be"),
        ({"histograms": np.ones((1, 1, 3), np.int64)}, "histograms must be"),
        ({"histograms": np.full((1, 2, 3), -1)}, "a bin is out of range"),
        ({"histograms": np.full((1, 2, 3), 2**30)}, "a sum is out of range"),
        ({"histograms": np.zeros((1, 2, 3), np.int64)}, "a node has rows"),
        ({"at_least": np.zeros(2)}, "at_least must have a value a histogram"),
        ({"min_child_samples": 0}, "min_child_samples must be at least 1"),
    ],
)
def test_find_splits_checks_its_input(change, message):
    arguments = {"histograms": np.ones((1, 2, 3), np.int64), "at_least": np.zeros(1)}
    numbers = "gradient_scale hessian_scale reg_alpha reg_lambda min_split_gain min_child_weight"
    arguments |= dict.fromkeys([*numbers.split(), "max_step"], 1.0)
    arguments |= {"min_child_samples": 1, "as_lanes": False, "check_counts": False}
    arguments |= {"constant_hessian": False, "bound_first": False}
    kernels.find_splits(**arguments)
    with pytest.raises(ValueError, match=message):
        kernels.find_splits(**arguments | change)


# ------------------------------------------------------------------------------- the other kernels

N_ROWS = 1003
PAIRS = {8: U16, 16: U32}  # gradient in the upper half, hessian in the lower
LANES = {8: U32, 16: np.int64}


def pack(gradient, hessian, dtype):
    """Pairs, lanes and cells: two integers in one word, that add up as one."""
    half = 4 * np.dtype(dtype).itemsize
    return ((np.asarray(gradient, np.int64) << half) + hessian).astype(dtype)


def draw_pairs(rng, bits, n=N_ROWS):
    levels = ref.levels_of_bits(bits) // (1 if bits == 16 else 8)  # so that lanes of n rows hold
    return rng.integers(-levels, levels + 1, n), rng.integers(0, levels + 1, n)


def draw_rows(rng):
    return np.flatnonzero(rng.random(N_ROWS) < 0.7).astype(U32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("objective", ref.GRADIENTS)
def test_gradients(objective, weighted):
    rng = np.random.default_rng(0)
    n_outputs = 3 if objective in CLASSES else 1
    raw = 2 * rng.normal(size=(n_outputs, N_ROWS))
    y = rng.integers(0, max(n_outputs, 2), N_ROWS).astype(float)
    if objective == "aft":
        y = np.exp(rng.normal(size=N_ROWS)) * (2 * y - 1)
    weight = rng.random(N_ROWS) if weighted else None
    g, h = np.empty((2, n_outputs, N_ROWS), np.float32)
    kernels.gradients(objective, y, weight, raw, g, h)
    params = {"objective": objective, "tweedie_variance_power": 1.5, "alpha": 0.9, "fair_c": 1.0}
    params |= {"aft_loss_distribution": "normal", "aft_loss_distribution_scale": 0.5}
    expected = ref.compute_gradients(raw, y, 1.0 if weight is None else weight, params)
    np.testing.assert_array_equal([g, h], expected)


@pytest.mark.parametrize("constant_hessian", [False, True])
@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
@pytest.mark.parametrize("bits", [8, 16])
def test_quantize(bits, rounding, constant_hessian):
    rng = np.random.default_rng(0)
    g = rng.normal(size=N_ROWS).astype(np.float32)
    h = np.ones_like(g) if constant_hessian else rng.random(N_ROWS).astype(np.float32)
    key, params = ref.stream_key(1, 2, 0), {"grad_bits": bits, "rounding": rounding}
    expected = ref.quantize(g, h, key, params, constant_hessian)
    most = ref.levels_of_bits(bits)
    pairs = np.empty(N_ROWS, PAIRS[bits])
    steps = expected.gradient_scale, most, expected.hessian_scale, 2 * most
    sums = kernels.quantize(
        g, h, *steps, constant_hessian, rounding == "stochastic", int(key), pairs
    )
    np.testing.assert_array_equal(pairs, pack(expected.gradient, expected.hessian, pairs.dtype))
    assert sums == (expected.gradient.sum(), expected.hessian.sum())


@pytest.mark.parametrize("stride", [4, 8, 12, 16, 20, 24, 28, 32])
@pytest.mark.parametrize("bits", [8, 16])
def test_add_rows(bits, stride):
    rng = np.random.default_rng(stride)
    tile = rng.integers(0, 256, (N_ROWS, stride), U8)
    g, h = draw_pairs(rng, bits)
    rows = draw_rows(rng)
    expected = np.zeros((2, stride, 256), np.int64)
    for f in range(stride):
        np.add.at(expected, (slice(None), f, tile[rows, f]), [g[rows], h[rows]])
    lanes = pack(np.ones((stride, 256)), 2, LANES[bits])  # it adds to what is there
    kernels.add_rows(tile, rows, pack(g, h, PAIRS[bits]), lanes)
    np.testing.assert_array_equal(lanes, pack(1 + expected[0], 2 + expected[1], lanes.dtype))


@pytest.mark.parametrize(("bits", "sums_dtype"), [(8, U32), (8, np.int64), (16, np.int64)])
def test_add_sparse_rows(bits, sums_dtype):
    rng = np.random.default_rng(bits)
    n_entries = rng.integers(0, 5, N_ROWS) * rng.integers(0, 2, N_ROWS)
    row_begin = np.concatenate([[0], np.cumsum(n_entries)]).astype(U32)
    entries = rng.integers(0, 600, row_begin[-1]).astype(U16)
    g, h = draw_pairs(rng, bits)
    rows = draw_rows(rng)
    expected = np.zeros((2, 600), np.int64)
    of_row = np.repeat(np.arange(N_ROWS), n_entries)
    listed = np.isin(of_row, rows)
    at, of_row = entries[listed], of_row[listed]
    np.add.at(expected, (slice(None), at), [g[of_row], h[of_row]])
    sums = np.zeros(600, sums_dtype)
    kernels.add_sparse_rows(row_begin, entries, rows, pack(g, h, PAIRS[bits]), sums)
    np.testing.assert_array_equal(sums, pack(*expected, sums_dtype))


@pytest.mark.parametrize("n_positions", [[2], [256], [3, 85], [16, 16], [2, 3, 4, 5], [2] * 8])
@pytest.mark.parametrize("bits", [8, 16])
def test_part_bundle(bits, n_positions):
    rng = np.random.default_rng(len(n_positions))
    sums = rng.integers(0, 100, (2, *n_positions[::-1]))  # the last feature is the leading digit
    codes = pack(*sums.reshape(2, -1), LANES[bits])
    expected = []
    for i, n in enumerate(n_positions):
        others = tuple(axis for axis in range(1, sums.ndim) if axis != sums.ndim - 1 - i)
        length = 1 << max(0, int(n - 1).bit_length() - 3)  # of eight runs side by side
        of_places = np.zeros((2, length, 8), np.int64)
        of_places[:, np.arange(n) % length, np.arange(n) // length] = sums.sum(axis=others)
        expected.append(pack(*of_places.reshape(2, -1), LANES[bits]))
    found = np.full(sum(map(len, expected)), 7, LANES[bits])  # it clears what is there
    kernels.part_bundle(np.array(n_positions, np.int32), codes, found)
    np.testing.assert_array_equal(found, np.concatenate(expected))


@pytest.mark.parametrize(("name", "sign"), [("flush", 1), ("subtract", -1)])
@pytest.mark.parametrize("bits", [8, 16])
def test_flush_and_subtract(bits, name, sign):
    rng = np.random.default_rng(0)
    most = 2 ** (15 if bits == 8 else 31) - 1
    g, h = rng.integers(-most, most + 1, 265), rng.integers(0, most + 1, 265)
    before = rng.integers(-(2**61), 2**61, 265)
    cells = before.copy()
    getattr(kernels, name)(pack(g, h, LANES[bits]), cells)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(cells, before + sign * pack(g, h, np.int64))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 72, 80, 81, 700])
@pytest.mark.parametrize("missing_left", [False, True])
@pytest.mark.parametrize("bin", [0, 3, 9, 253])
def test_partition(bin, missing_left, n):
    rng = np.random.default_rng(n)
    n_value_bins = min(bin + 4, 255)
    column = rng.integers(0, n_value_bins + 1, N_ROWS, U8)
    rows = np.sort(rng.choice(N_ROWS, n, replace=False)).astype(U32)
    thresholds, has_missing = [np.zeros(n_value_bins - 1)], np.array([True])
    matrix = ref.BinnedMatrix(column[:, None], thresholds, has_missing, ~has_missing)
    left, right = ref.partition(matrix, rows, ref.Split(0, 0, bin, missing_left, 0))
    out = np.empty_like(rows)
    missing_left_bin = n_value_bins if missing_left else -1
    assert kernels.count_left(rows, column, bin, missing_left_bin) == len(left)
    n_left = kernels.partition(rows, column, bin, missing_left_bin, out)
    np.testing.assert_array_equal(rows[:n_left], left)
    np.testing.assert_array_equal(out[: n - n_left], right)


def test_leaves():
    rng = np.random.default_rng(0)
    g, h = rng.normal(size=(2, N_ROWS)).astype(np.float32)
    leaf = rng.integers(0, 5, N_ROWS)
    leaf_of_row = np.empty(N_ROWS, U32)
    for k in range(5):
        kernels.mark_leaf(np.flatnonzero(leaf == k).astype(U32), k, leaf_of_row)
    np.testing.assert_array_equal(leaf_of_row, leaf)

    k_g, k_h = (ref.fixed_exponent(np.abs(v).max(), N_ROWS) for v in (g, h))
    sums, expected = np.ones((5, 2), np.int64), np.ones((5, 2), np.int64)
    fixed = [ref.to_fixed(v.astype(np.float64), k) for v, k in ((g, k_g), (h, k_h))]
    np.add.at(expected, leaf, np.stack(fixed, axis=1))
    kernels.leaf_sums(leaf_of_row, g, h, 2.0**k_g, 2.0**k_h, sums)
    np.testing.assert_array_equal(sums, expected)

    values, raw = rng.normal(size=5), rng.normal(size=N_ROWS)
    moved = raw.copy()
    kernels.add_leaf_values(leaf_of_row, values, moved)
    np.testing.assert_array_equal(moved, raw + values[leaf])


def test_arrays_are_never_converted():
    with pytest.raises(TypeError, match="incompatible function arguments"):
        kernels.subtract(np.zeros(8, U32), np.zeros(8))
    with pytest.raises(TypeError, match="incompatible function arguments"):
        kernels.subtract(np.zeros(8, U32), np.zeros(16, np.int64)[::2])
    with pytest.raises(ValueError, match="arrays differ in size"):
        kernels.subtract(np.zeros(9, U32), np.zeros(8, np.int64))
