"""Binning equals the specification, on every dtype and layout, and keeps its promises.

Swept: value distributions, sizes around the sample limit, special values. Against:
tests/reference.py and direct properties. Tolerance: none.
"""

import numpy as np
import pytest
import reference
from conftest import hurting_data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qgbdt import _core


def assert_equals_reference(X, max_bin):
    ours = _core.BinnedMatrix(X, max_bin, 2)
    expected = reference.bin_matrix(X, max_bin)
    for f in range(X.shape[1]):
        np.testing.assert_array_equal(ours.bin_thresholds(f), expected.bin_thresholds[f])
    np.testing.assert_array_equal(ours.bins(), expected.bins)
    np.testing.assert_array_equal(ours.has_missing(), expected.has_missing)


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0]


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.one_of(
            st.sampled_from(SPECIAL),
            st.floats(-1e3, 1e3, width=32),
            st.integers(-3, 3).map(float),
        ),
    ),
    st.integers(2, 255),
)
def test_drawn_matrices(X, max_bin):
    with np.errstate(invalid="ignore"):
        assert_equals_reference(X, max_bin)


@pytest.mark.parametrize("max_bin", [2, 16, 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distributions(dtype, max_bin):
    rng = np.random.default_rng(0)
    n = 5000
    X = np.column_stack(
        [
            rng.normal(size=n),
            rng.exponential(size=n) ** 3,
            np.where(rng.random(n) < 0.7, 0, rng.normal(size=n)),  # one heavy value
            rng.integers(0, 1000, n),
            rng.poisson(2, n),
            rng.geometric(0.01, n),
            np.repeat(rng.normal(size=n // 5), 5),
            np.full(n, np.nan),
        ]
    ).astype(dtype)
    assert_equals_reference(X, max_bin)


@pytest.mark.parametrize("n_samples", [199_999, 200_000, 200_001, 300_000])
def test_sample_limit(n_samples):
    X = np.random.default_rng(0).normal(size=(n_samples, 1)).astype(np.float32)
    X[-1] = np.nan  # seen wherever it is, sampled or not
    assert_equals_reference(X, 255)


@pytest.mark.parametrize("simd", _core.simd_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_depth_of_the_search(dtype, simd, monkeypatch):
    """Numbers of thresholds around 4^k and 8^k, evenly spaced (found by table) and not (by tree);
    numbers of rows around a block of 64 or 128.
    """
    monkeypatch.setenv("QGBDT_SIMD", simd)
    n_values = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 66, 254, 255, 256, 300]
    for n_samples in (64, 65, 127, 128, 129, 2047, 2049):
        rows = np.arange(n_samples)
        even = [rows % n - 3.0 for n in n_values]
        uneven = [2.0 ** (rows % n * (120 / n)) for n in n_values]
        X = np.column_stack(even + uneven).astype(dtype)
        X[::7, 1] = X[-1, 2] = np.nan
        X[::5, 3] = np.inf
        X[::5, 4] = -np.inf
        assert_equals_reference(X, 255)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_orders(dtype):
    X = hurting_data(3000, n_features=37).astype(dtype)
    wide = np.zeros((6000, 111), dtype)
    wide[::2, ::3] = X
    for same in (np.asfortranarray(X), wide[::2, ::3], X[::-1, ::-1].copy()[::-1, ::-1]):
        assert_equals_reference(same, 255)


@pytest.mark.parametrize("n_samples", [127, 128, 16_383, 16_384, 40_000])
def test_sorting_hard_columns(n_samples):
    """Columns whose highest differing bits tell few values apart."""
    rng = np.random.default_rng(0)
    fraction = rng.random(n_samples)
    distant = 1.7e9 + fraction
    distant[0] = 0
    X = np.column_stack(
        [
            distant,
            1.7e9 + 1e5 * fraction,
            np.where(fraction < 0.5, -1e300, 1e300) * (1 + 1e-12 * fraction),
            np.nextafter(1.0, 2.0) + np.finfo(float).eps * rng.integers(0, 3000, n_samples),
            2.0 ** rng.integers(-1000, 1000, n_samples),
            np.where(fraction < 0.99, 0, fraction),
        ]
    )
    assert_equals_reference(X, 255)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 60)), min_size=1, max_size=60),
    st.integers(2, 40),
)
def test_drawn_counts(steps_and_counts, max_bin):
    """Heavy values anywhere among light ones."""
    values, counts = np.array(steps_and_counts).T
    assert_equals_reference(np.repeat(np.cumsum(values), counts)[:, None].astype(float), max_bin)


def test_extreme_numbers():
    tiny, huge = 5e-324, 1.7976931348623157e308
    X = np.array([0.0, -0.0, tiny, -tiny, huge, -huge, np.inf, -np.inf, np.nan, 1.0])[:, None]
    for max_bin in (2, 5, 255):
        assert_equals_reference(X, max_bin)


def test_one_bin_per_value_where_they_fit():
    X = np.repeat(np.arange(255.0), 3)[:, None]
    bins = _core.BinnedMatrix(X, 255, 1).bins()
    np.testing.assert_array_equal(bins[:, 0], np.repeat(np.arange(255), 3))


def test_thresholds_separate_neighbouring_floats():
    a = np.float64(1.0)
    X = np.array([a, np.nextafter(a, 2), np.nextafter(np.nextafter(a, 2), 2)])[:, None]
    np.testing.assert_array_equal(_core.BinnedMatrix(X, 255, 1).bins()[:, 0], [0, 1, 2])
    X32 = np.array([1, np.nextafter(np.float32(1), np.float32(2))], np.float32)[:, None]
    np.testing.assert_array_equal(_core.BinnedMatrix(X32, 255, 1).bins()[:, 0], [0, 1])


def test_bins_agree_with_thresholds_on_unseen_values():
    """Predicting through bins equals predicting through raw values."""
    X = hurting_data(2000)
    matrix = _core.BinnedMatrix(X, 31, 1)
    bins = matrix.bins()
    for f in range(X.shape[1]):
        thresholds = matrix.bin_thresholds(f)
        expected = (X[:, f, None] > thresholds).sum(axis=1)
        expected[np.isnan(X[:, f])] = len(thresholds) + 1
        np.testing.assert_array_equal(bins[:, f], expected)


def test_equal_frequency():
    X = np.random.default_rng(0).normal(size=(100_000, 1))
    counts = np.bincount(_core.BinnedMatrix(X, 255, 1).bins()[:, 0])
    assert len(counts) == 255
    assert counts.min() > 0.9 * counts.mean()
    assert counts.max() < 1.1 * counts.mean()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "X must be 2-D"),
        (np.zeros((3, 1), np.int64), "X must be float32 or float64"),
        (np.zeros((0, 1)), "n_samples"),
        (np.zeros((1, 0)), "features"),
    ],
)
def test_border_refuses(X, message):
    with pytest.raises(ValueError, match=message):
        _core.BinnedMatrix(X, 255, 1)
