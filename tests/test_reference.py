"""The reference against truths from outside it.

Swept: every stage of reference.py on small data.  Against, and at which tolerance:

- mix64: published splitmix64 outputs; lowbias32 and row_hash: Python integers; exact
- row_hash uniformity and stochastic rounding: moments and frequencies, within 5 standard errors
  of fixed seeds (deterministic, so these never flicker)
- exp, log: NumPy in extended precision, 2 units in the last place over their whole range
- the normal distribution: scipy, relative 2e-15 (ratios) and 2.5e-13 (far tails)
- thresholds and bins: their defining properties, by brute force; exact
- fixed point sums: math.fsum, relative 1e-12; reordered rows; exact
- gradients: central differences of the textbook losses, relative 1e-6; lambdarank: a plain
  double loop; exact
- best split: enumeration of all cuts of the raw values, integer sums in Python; exact
- trees: parent = left + right, min_child_samples, training score = prediction; exact
- training loss after 20 trees at grad_bits=16: LightGBM's float trainer, within 0.2 % of the
  loss removed so far (see that test for why)
"""

import itertools
import math

import numpy as np
import pytest
import reference as ref
from conftest import BASE_PARAMS, OBJECTIVES
from scipy import special, stats

pytestmark = pytest.mark.filterwarnings("error")

LABEL_GAIN = 2.0 ** np.arange(31) - 1.0


def make_params(objective="regression", **changes):
    defaults = BASE_PARAMS | dict(
        objective=objective,
        n_outputs=3 if objective == "multiclass" else 1,
        max_bin=255,
        n_estimators=5,
        num_leaves=15,
        max_depth=-1,
        learning_rate=0.1,
        min_child_samples=5,
        min_child_weight=1e-3,
        min_split_gain=0.0,
        reg_alpha=0.0,
        reg_lambda=0.0,
        grad_bits=4,
        rounding="stochastic",
        renew_leaves=True,
        seed=7,
        tweedie_variance_power=1.5,
        lambdarank_truncation_level=10,
        label_gain=LABEL_GAIN,
    )
    assert set(changes) <= set(defaults)
    return defaults | changes


def make_data(objective="regression", n_samples=600, n_features=5, seed=0, missing=0.0):
    """X on a grid of 40 values, so that max_bin=255 keeps every value in its own bin."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.uniform(-1, 1, (n_samples, n_features)) * 20) / 20
    signal = X[:, 0] + X[:, 1] * X[:, 2] + np.sin(3 * X[:, 3])
    noisy = signal + 0.3 * rng.standard_normal(n_samples)
    y = {
        "regression": lambda: noisy,
        "binary": lambda: rng.uniform(size=n_samples) < 1 / (1 + np.exp(-2 * signal)),
        "multiclass": lambda: np.digitize(noisy, [-0.5, 0.5]),
        "poisson": lambda: rng.poisson(np.exp(signal)),
        "gamma": lambda: rng.gamma(2.0, np.exp(signal)) + 1e-3,
        "tweedie": lambda: rng.poisson(np.exp(signal)) * rng.gamma(2.0, size=n_samples),
        "lambdarank": lambda: np.digitize(noisy, [-0.5, 0.5, 1]),
    }[objective]()
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X, np.asarray(y, np.float64)


def query_sizes_for(objective, n_samples):
    return np.full(n_samples // 20, 20) if objective == "lambdarank" else None


ROWWISE = [objective for objective in OBJECTIVES if objective in ref.GRADIENTS]


# ------------------------------------------------------------------------------------------ hash


def test_mix64_gives_the_published_splitmix64_outputs():
    # mix64 adds the increment itself, so mix64(seed + i * increment) is the i-th output
    assert int(ref.mix64(0)) == 0xE220A8397B1DCDAF
    first_of_1234567 = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(3)]
    assert [int(ref.mix64(z)) for z in states] == first_of_1234567


def test_row_hash_is_the_formula_in_python_integers():
    def lowbias32(x):
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    rows = [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 12345, 2**64 - 1]
    for key in (0, 1, 2**63, 2**64 - 1):
        got = ref.row_hash(np.uint64(key), np.array(rows, np.uint64))
        for row, bits in zip(rows, got):
            k = int(ref.mix64(key ^ row >> 32))
            x = lowbias32(row % 2**32 ^ k % 2**32)
            assert int(bits) == lowbias32((x + (k >> 32)) % 2**32)


@pytest.mark.parametrize(
    ("seed", "tree", "output"), [(0, 0, 0), (0, 1, 0), (0, 0, 1), (2**64 - 1, 9, 3)]
)
def test_row_hash_is_uniform(seed, tree, output):
    n = 1 << 18
    bits = ref.row_hash(ref.stream_key(seed, tree, output), np.arange(n))
    for u in ((bits >> 16) / 65536, (bits & 0xFFFF) / 65536):
        assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
        assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
        lag_correlation = np.corrcoef(u[:-1], u[1:])[0, 1]
        assert abs(lag_correlation) < 5 / math.sqrt(n)
    g_and_h = np.corrcoef(bits >> 16, bits & 0xFFFF)[0, 1]
    assert abs(g_and_h) < 5 / math.sqrt(n)


def test_streams_of_different_trees_outputs_and_seeds_are_unrelated():
    keys = [ref.stream_key(*key) for key in itertools.product((0, 1), (0, 1), (0, 1))]
    assert len({int(k) for k in keys}) == 8
    draws = np.array([ref.row_hash(k, np.arange(100_000)) for k in keys], np.float64)
    correlation = np.corrcoef(draws) - np.eye(8)
    assert np.abs(correlation).max() < 5 / math.sqrt(100_000)


# ----------------------------------------------------------------------------------- exp and log


def ulps(got, function, x):
    """Distance from NumPy's function, in its extended precision where the machine has one."""
    truth = function(x.astype(np.longdouble))
    ulp = np.spacing(np.maximum(np.abs(truth.astype(np.float64)), 1e-300))
    return np.abs(got - truth) / ulp


def test_exp_is_within_2_ulp_of_numpy():
    rng = np.random.default_rng(0)
    tiny = np.concatenate([10.0 ** -np.arange(1, 300), -(10.0 ** -np.arange(1, 300))])
    x = np.concatenate([np.linspace(-708, 708, 200_001), rng.uniform(-1, 1, 100_000), tiny])
    assert ulps(ref.exp(x), np.exp, x).max() <= 2
    assert ref.exp(0.0) == 1.0
    assert ref.exp(1e9) == ref.exp(708.0)
    assert ref.exp(-np.inf) == ref.exp(-708.0)


def test_log_is_within_2_ulp_of_numpy():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.exp(rng.uniform(-708, 709, 200_000)),
            rng.uniform(0.5, 2, 200_000),
            1 + np.linspace(-1e-6, 1e-6, 10_001),
            2.0 ** np.arange(-1022, 1024),
        ]
    )
    assert ulps(ref.log(x), np.log, x).max() <= 2
    assert ref.log(1.0) == 0
    np.testing.assert_allclose(ref.log2(2.0 ** np.arange(1, 60)), np.arange(1, 60), rtol=1e-15)


def test_the_normal_distribution_is_scipys():
    """The ratio within what scipy's erfcx is exact to; a tail times exp's error at -z^2 / 2."""
    x = np.concatenate([np.linspace(0, 50, 100_001), 10.0 ** np.linspace(-300, 300, 6001)])
    ratio = math.sqrt(math.pi / 2) * special.erfcx(x / math.sqrt(2))
    np.testing.assert_allclose(ref.mills_ratio(x), ratio, rtol=2e-15)
    z = np.concatenate([np.linspace(-37, 37, 50_001), [0.0, -1e-300, 1e-300]])
    np.testing.assert_allclose(ref.normal_density(z), stats.norm.pdf(z), rtol=2.5e-13)
    np.testing.assert_allclose(ref.normal_survival(z), stats.norm.sf(z), rtol=2.5e-13)
    np.testing.assert_allclose(np.log(ref.normal_hazard(z)), log_hazard(z), rtol=1e-13, atol=1e-13)


def log_hazard(z):
    return stats.norm.logpdf(z) - stats.norm.logsf(z)


# --------------------------------------------------------------------------------------- binning


def awkward_columns():
    rng = np.random.default_rng(3)
    inf, nan, big, small = np.inf, np.nan, ref.DBL_MAX, 5e-324
    zero_inflated = np.where(rng.uniform(size=900) < 0.7, 0.0, rng.standard_normal(900))
    return {
        "normal": rng.standard_normal(1000),
        "zero inflated": zero_inflated,
        "two heavy": np.concatenate([np.full(400, -1.0), np.full(300, 2.0), rng.normal(size=300)]),
        "geometric": rng.geometric(0.05, 1000).astype(float),
        "missing": np.where(rng.uniform(size=500) < 0.2, nan, rng.standard_normal(500)),
        "all missing": np.full(5, nan),
        "constant": np.full(5, 3.0),
        "one row": np.array([1.0]),
        "infinite": np.array([-inf, -inf, 1.0, inf, nan]),
        "only infinite": np.array([-inf, inf]),
        "largest": np.array([-big, big, inf]),
        "neighbours": np.array([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)]),
        "subnormal": np.array([-small, -0.0, 0.0, small, 2 * small]),
    }


@pytest.mark.parametrize("name", awkward_columns())
@pytest.mark.parametrize("max_bin", [2, 3, 16, 255])
def test_bins_are_what_the_thresholds_say(name, max_bin):
    column = awkward_columns()[name]
    thresholds = ref.bin_thresholds(column, max_bin)
    values = column[~np.isnan(column)]
    n_distinct = len(set(values.tolist()))
    if n_distinct <= max_bin:
        assert len(thresholds) == max(n_distinct - 1, 0)
    else:
        assert 1 <= len(thresholds) < max_bin
    assert np.all(np.diff(thresholds) > 0)

    bins = ref.bin_column(column, thresholds)
    for x, b in zip(column, bins):
        assert b == (len(thresholds) + 1 if math.isnan(x) else sum(x > t for t in thresholds))
    # Every value bin holds a training value, so no split of the root is empty by construction.
    assert set(bins[~np.isnan(column)]) == set(range(len(thresholds) + 1)) or not len(values)


def test_equal_frequency_bins_are_even_and_heavy_values_alone():
    rng = np.random.default_rng(1)
    light = rng.standard_normal(10_000)
    counts = np.bincount(ref.bin_column(light, ref.bin_thresholds(light, 100)))
    assert len(counts) == 100
    assert counts.min() == counts.max() == 100

    column = np.concatenate([light, np.full(5_000, 0.25)])
    thresholds = ref.bin_thresholds(column, 100)
    bins = ref.bin_column(column, thresholds)
    heavy_bin = bins[-1]
    in_heavy_bin = column[bins == heavy_bin]
    # At most half a bin of light values joins the heavy one (3 more make no difference here).
    assert (in_heavy_bin != 0.25).sum() <= 10_000 / 99 / 2 + 3
    assert 90 <= len(thresholds) <= 99


@pytest.mark.parametrize(
    ("counts", "max_bin", "boundaries"),
    [
        # 4 of 12 rows, then half of the remaining 8.
        ([2, 2, 2, 2, 2, 2], 3, [1, 3]),
        # 6 rows are in the first bin, so the two others share 6.
        ([3, 3, 3, 1, 1, 1], 3, [1, 2]),
        # 40 of 100 is heavy; the 60 light rows share 3 bins.  10 are half a bin: closed before it,
        ([10, 40, 10, 10, 10, 10, 10], 4, [0, 1, 4]),
        # but 9 are less and join the heavy value; their bin is left for the others.
        ([9, 40, 10, 10, 10, 10, 11], 4, [1, 3, 5]),
        # Two heavy neighbours, each alone.
        ([1, 10, 10, 1, 1, 1], 4, [0, 1, 2]),
    ],
)
def test_equal_frequency_boundaries_by_hand(counts, max_bin, boundaries):
    assert ref.equal_frequency_boundaries(counts, max_bin) == boundaries


def test_thresholds_between_special_values():
    inf, big = math.inf, ref.DBL_MAX
    assert ref.threshold_between(1.0, 2.0) == 1.5
    assert ref.threshold_between(-big, big) == 0.0
    assert ref.threshold_between(-inf, inf) == 0.0
    assert ref.threshold_between(1.0, inf) == ref.threshold_between(big, inf) == big
    assert ref.threshold_between(-inf, 1.0) == -inf
    assert ref.threshold_between(1.0, np.nextafter(1.0, 2.0)) == 1.0


def test_rows_are_sampled_only_when_many():
    assert np.array_equal(ref.sample_rows(200_000), np.arange(200_000))
    rows = ref.sample_rows(1_000_000)
    assert abs(len(rows) - 200_000) < 5 * math.sqrt(200_000 * 0.8)
    assert np.all(np.diff(rows) > 0)
    tenths = np.bincount(rows // 100_000, minlength=10)
    assert np.abs(tenths - 20_000).max() < 5 * math.sqrt(20_000 * 0.8)


# ----------------------------------------------------------------------------------- fixed point


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_fixed_point_sums_are_accurate_and_have_no_order(scale):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(10_001) * scale
    k = ref.fixed_exponent(np.abs(values).max(), len(values))
    total = ref.fixed_sum(values, k)
    # 62 bits less log2(n) = 14 bits: one value's rounding is 2^-49 of the largest.
    assert abs(total - math.fsum(values)) <= 1e-12 * np.abs(values).sum() + 10_001 * 2.0**-1000
    assert total == ref.fixed_sum(values[::-1], k)


def test_fixed_point_cannot_overflow():
    for n in (1, 2, 3, 1023, 1024, 1025):
        for value in (1.0, np.nextafter(2.0, 0.0), 2.0, 1e300, 3e38):
            k = ref.fixed_exponent(value, n)
            one = int(ref.to_fixed(np.array([value]), k)[0])
            assert 2**59 <= n * one <= 2**62  # in range, and no bits given away


# ------------------------------------------------------------------------------------ objectives


def loss(objective, s, y, rho=1.5):
    """Textbook losses [n_outputs][n_samples] -> [n_samples], in NumPy's own functions."""
    if objective == "regression":
        return 0.5 * (s[0] - y) ** 2
    if objective == "binary":
        return np.log1p(np.exp(s[0])) - y * s[0]
    if objective == "multiclass":
        return np.log(np.exp(s).sum(axis=0)) - s[y.astype(int), np.arange(len(y))]
    if objective == "poisson":
        return np.exp(s[0]) - y * s[0]
    if objective == "gamma":
        return s[0] + y * np.exp(-s[0])
    assert objective == "tweedie"
    return -y * np.exp((1 - rho) * s[0]) / (1 - rho) + np.exp((2 - rho) * s[0]) / (2 - rho)


@pytest.mark.parametrize("objective", ROWWISE)
def test_gradients_are_derivatives_of_the_loss(objective):
    _, y = make_data(objective, 200)
    params = make_params(objective)
    n_outputs, step = params["n_outputs"], 1e-4
    s = np.random.default_rng(0).normal(size=(n_outputs, 200))
    g, h = ref.GRADIENTS[objective](s, y, params)
    # Two objectives inflate their hessian, as LightGBM does: by e^0.7, and by K / (K - 1), K = 3.
    factor = {"poisson": math.exp(0.7), "multiclass": 1.5}.get(objective, 1.0)
    for k in range(n_outputs):
        up, down = s.copy(), s.copy()
        up[k] += step
        down[k] -= step
        slope = (loss(objective, up, y) - loss(objective, down, y)) / (2 * step)
        gradient_of = ref.GRADIENTS[objective]
        bend = (gradient_of(up, y, params)[0][k] - gradient_of(down, y, params)[0][k]) / (2 * step)
        np.testing.assert_allclose(g[k], slope, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(h[k], factor * bend, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("truncation_level", [1, 3, 30])
@pytest.mark.parametrize("scores", ["distinct", "tied", "equal"])
def test_lambdarank_is_the_plain_double_loop(truncation_level, scores):
    rng = np.random.default_rng(5)
    c = 12
    y = rng.integers(0, 4, c).astype(float)
    s = {"distinct": rng.normal(size=c), "tied": np.round(rng.normal(size=c)), "equal": np.ones(c)}
    s = s[scores]
    params = make_params("lambdarank", lambdarank_truncation_level=truncation_level)

    order = sorted(range(c), key=lambda doc: (-s[doc], doc))
    discount = [float(1.0 / ref.log2(2.0 + r)) for r in range(c)]
    max_dcg = 0.0
    for r, label in enumerate(sorted(y, reverse=True)[:truncation_level]):
        max_dcg += LABEL_GAIN[int(label)] * discount[r]
    inverse = 1.0 / max_dcg
    g, h, sum_lambda = [0.0] * c, [0.0] * c, 0.0
    for i in range(min(c - 1, truncation_level)):
        for j in range(i + 1, c):
            a, b = order[i], order[j]
            if y[a] == y[b]:
                continue
            (hi, rank_hi), (lo, rank_lo) = ((a, i), (b, j)) if y[a] > y[b] else ((b, j), (a, i))
            delta = s[hi] - s[lo]
            d = LABEL_GAIN[int(y[hi])] - LABEL_GAIN[int(y[lo])]
            d = d * abs(discount[rank_hi] - discount[rank_lo]) * inverse
            if s[order[0]] != s[order[-1]]:
                d = d / (0.01 + abs(delta))
            rho = 1.0 / (1.0 + ref.exp(delta))
            lam, hes = rho * d, (rho * (1.0 - rho)) * d
            g[hi] -= lam
            g[lo] += lam
            h[hi] += hes
            h[lo] += hes
            sum_lambda += 2.0 * lam
    norm = ref.log2(1.0 + sum_lambda) / sum_lambda

    got_g, got_h = ref.lambdarank_query(s, y, params)
    assert got_g.tolist() == [v * norm for v in g]
    assert got_h.tolist() == [v * norm for v in h]
    assert abs(got_g.sum()) < 1e-12
    assert np.abs(got_g).max() > 0.01


def test_gradients_of_extreme_scores_are_finite():
    s, y = np.array([[-1e4, 1e4, 0.0]]), np.array([100.0, 1.0, 5.0])
    for objective in ("regression", "poisson", "gamma", "tweedie"):
        for v in ref.compute_gradients(s, y, np.full(3, 2.0), make_params(objective)):
            assert v.dtype == np.float32
            assert np.isfinite(v).all()


def test_lambdarank_keeps_queries_apart():
    params = make_params("lambdarank")
    _, y = make_data("lambdarank", 45)
    s = np.random.default_rng(0).normal(size=(1, 45))
    g, _ = ref.lambdarank_gradients(s, y, params, [1, 20, 24])
    assert g[0, 0] == 0
    assert np.array_equal(g[0, 1:21], ref.lambdarank_query(s[0, 1:21], y[1:21], params)[0])
    assert np.array_equal(g[0, 21:], ref.lambdarank_query(s[0, 21:], y[21:], params)[0])


@pytest.mark.parametrize("objective", ROWWISE)
@pytest.mark.parametrize("weighted", [False, True])
def test_start_scores_zero_the_gradient_sum(objective, weighted):
    _, y = make_data(objective)
    params = make_params(objective)
    weight = np.random.default_rng(0).uniform(size=len(y)) if weighted else np.ones(len(y))
    base = ref.start_scores(y, weight, params)
    g, _ = ref.GRADIENTS[objective](np.tile(base[:, None], len(y)), y, params)
    assert np.all(np.abs((g * weight).sum(axis=1)) < 1e-10 * np.abs(g * weight).sum(axis=1))


# ---------------------------------------------------------------------------------- quantization


@pytest.mark.parametrize("grad_bits", [2, 3, 5, 8, 16])
def test_stochastic_rounding_is_unbiased(grad_bits):
    n = 1 << 16
    params = make_params(grad_bits=grad_bits)
    levels = min(ref.levels_of_bits(grad_bits), ref.max_levels(n, grad_bits))
    for fraction in (0.0, 0.1, 0.25, 0.5, 0.9):
        # One row holds the maximum, so that the others sit at `fraction` above a level.
        g = np.full(n, (levels - 1 + fraction) / levels, np.float32)
        g[1::2] *= -1
        g[0] = 1.0
        h = np.abs(g)
        q = ref.quantize(g, h, ref.stream_key(1, 2, 0), params, False)
        assert levels <= np.abs(q.gradient).max() <= math.ceil(1 / q.gradient_scale - 1e-6)
        assert 2 * levels <= q.hessian.max() <= math.ceil(1 / q.hessian_scale - 1e-6)
        for integers, scale, real in (
            (q.gradient[2::2], q.gradient_scale, g[2]),
            (q.gradient[1::2], q.gradient_scale, g[1]),
            (q.hessian[1:], q.hessian_scale, h[1]),
        ):
            # 16-bit uniforms: a probability is off by at most 2^-17, next to the sampling error
            tolerance = (5 * 0.5 / math.sqrt(len(integers)) + 2**-17) * scale
            assert abs(integers.mean() * scale - float(real)) < tolerance
            assert len(np.unique(integers)) <= 2


def test_stochastic_rounding_goes_up_below_its_uniform_exactly():
    """A fraction a quarter step beside (k + 1/2) / 65536, k the row's 16 bits of g and of h."""
    n = 1000
    params = make_params(grad_bits=2)  # levels 1 and 2
    key = ref.stream_key(3, 4, 5)
    bits = ref.row_hash(key, np.arange(n)).astype(np.int64)
    for quarter, rounded in ((0.25, 0), (0.75, 1)):
        g = ((bits // 65536 + quarter) / 65536).astype(np.float32)
        h = ((bits % 65536 + quarter) / 65536 / 2).astype(np.float32)
        g[0] = h[0] = 1.0
        q = ref.quantize(g, h, key, params, False)
        assert np.all(q.gradient[1:] == rounded)
        assert np.all(q.hessian[1:] == rounded)


def test_every_tree_has_its_own_stream(monkeypatch):
    X, y = make_data("multiclass", 50)
    streams, stream_key = [], ref.stream_key
    monkeypatch.setattr(ref, "stream_key", lambda *key: streams.append(key) or stream_key(*key))
    ref.train(X, y, params=make_params("multiclass", n_estimators=2))
    of_rounding = [key for key in streams if key[2] < ref.ROW_SAMPLE]
    assert of_rounding == [(7, 0, 0), (7, 0, 1), (7, 0, 2), (7, 1, 0), (7, 1, 1), (7, 1, 2)]
    assert len(set(streams)) == len(streams)


def test_nearest_rounding_and_levels():
    g = np.array([-7, -3.5, -3.4, 0, 0.49, 0.5, 3.6, 7], np.float32)
    params = make_params(grad_bits=4, rounding="nearest")
    q = ref.quantize(g, np.abs(g), ref.stream_key(0, 0, 0), params, False)
    assert q.gradient.tolist() == [-7, -3, -3, 0, 0, 1, 4, 7]
    assert q.hessian.tolist() == [14, 7, 7, 0, 1, 1, 7, 14]
    constant = ref.quantize(g, np.ones_like(g), ref.stream_key(0, 0, 0), params, True)
    assert constant.hessian.tolist() == [1] * 8
    assert constant.hessian_scale == 1.0
    zero = ref.quantize(0 * g, 0 * g, ref.stream_key(0, 0, 0), params, False)
    assert not zero.gradient.any()
    assert not zero.hessian.any()


def test_root_mean_square_is_close():
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=9999), rng.exponential(size=9999) ** 3, rng.random(9999)):
        values = values.astype(np.float32)
        exact = math.sqrt(np.square(values, dtype=np.float64).mean())
        assert ref.root_mean_square(values) == pytest.approx(exact, rel=0.25)  # within a power of 2


@pytest.mark.parametrize("grad_bits", [2, 3, 5])
def test_an_outlier_does_not_coarsen_the_bulk(grad_bits):
    n = 1 << 14
    g = np.random.default_rng(0).normal(size=n).astype(np.float32)
    levels = ref.levels_of_bits(grad_bits)
    for outlier in (10, 100, 1000):
        g[0] = outlier
        params = make_params(grad_bits=grad_bits)
        q = ref.quantize(g, np.abs(g), ref.stream_key(1, 0, 0), params, False)
        rms = math.sqrt(np.square(g, dtype=np.float64).mean())
        expected = min(max(4 * rms / levels, outlier / 127), outlier / levels)
        assert q.gradient_scale == pytest.approx(expected, rel=0.25)
        assert abs(q.gradient[0] * q.gradient_scale - outlier) < q.gradient_scale  # not cut off
        assert np.abs(q.gradient).max() <= 127


def test_levels_never_overflow_32_bits():
    for n in (1, 100, 32_768, 32_769, 10**6, 10**9):
        levels = ref.max_levels(n, 16)
        assert 2 * n * levels <= 2**31 - 1
        assert levels == 2**15 - 1 or 2 * n * (levels + 1) > 2**31 - 1


# ------------------------------------------------------------------------- histograms and splits


def quantized_for(X, y, params, weight=None, iteration=0):
    weight = np.ones(len(y)) if weight is None else weight
    score = np.tile(ref.start_scores(y, weight, params)[:, None], len(y))
    g, h = ref.compute_gradients(score, y, weight, params)
    return ref.quantize(g[0], h[0], ref.stream_key(params["seed"], iteration, 0), params, False)


def test_histograms_hold_every_row_and_parent_is_left_plus_right():
    X, y = make_data("binary", missing=0.1)
    matrix = ref.bin_matrix(X, 255)
    quantized = quantized_for(X, y, make_params("binary"))
    rows = np.random.default_rng(0).permutation(len(y))
    parent = ref.build_histogram(matrix, quantized, rows)
    left = ref.build_histogram(matrix, quantized, rows[:217])
    right = ref.build_histogram(matrix, quantized, rows[217:])
    assert np.array_equal(parent, left + right)
    assert np.all(parent.sum(axis=1) == ref.node_sums(quantized, rows))
    feature, b = 2, 11
    mine = rows[matrix.bins[rows, feature] == b]
    assert len(mine) > 0
    assert np.array_equal(parent[feature, b], ref.node_sums(quantized, mine))


def brute_force_split(X, in_node, quantized, params):
    """The best allowed split of the rows in_node, from raw values and Python numbers alone."""
    lam, alpha = params["reg_lambda"], params["reg_alpha"]

    def sums(mask):
        return sum(quantized.gradient[mask].tolist()), sum(quantized.hessian[mask].tolist())

    def score(g, h):
        m = max(abs(g * quantized.gradient_scale) - alpha, 0.0)
        denominator = h * quantized.hessian_scale + lam
        if not denominator > 0:
            return 0.0
        step = min(m / denominator, longest)
        return step * (2.0 * m - step * denominator)

    longest = {"regression": math.inf, "lambdarank": math.inf}.get(params["objective"], 5.0)
    parent_score = score(*sums(in_node))
    mean_hessian = sums(in_node)[1] * quantized.hessian_scale / in_node.sum()
    least = max(params["min_child_weight"], (params["min_child_samples"] - 0.5) * mean_hessian)
    best, best_gain = None, max(params["min_split_gain"], 1e-12 * parent_score)
    for feature, column in enumerate(X.T):
        missing = np.isnan(column)
        values = sorted(set(column[~missing].tolist()))
        for i, value in enumerate(values):
            is_last = i == len(values) - 1
            sides = [False, True] if missing.any() and not is_last else [False]
            for missing_left in sides:
                goes_left = (column <= value) | (missing & missing_left)
                left, right = children = [in_node & goes_left, in_node & ~goes_left]
                if any(c.sum() < max(params["min_child_samples"], 1) for c in children):
                    continue
                hessians = [sums(c)[1] * quantized.hessian_scale for c in children]
                if any(h < least or h + lam <= 0 for h in hessians):
                    continue
                gain = score(*sums(left)) + score(*sums(right)) - parent_score
                if gain > best_gain:
                    threshold = math.inf if is_last else 0.5 * value + 0.5 * values[i + 1]
                    side = missing_left if missing.any() else left.sum() >= right.sum()
                    best, best_gain = (gain, feature, i, bool(side), threshold), gain
    return best


@pytest.mark.parametrize("seed", range(60))
def test_best_split_is_the_best_of_all_cuts(seed):
    """On a random node: some bins, and some features' missing bin, hold none of its rows."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    X = rng.integers(0, rng.integers(2, 9), (n, 3)).astype(float)
    X[rng.uniform(size=X.shape) < rng.choice([0.0, 0.05, 0.3])] = np.nan
    X[:, 2] = X[:, rng.integers(0, 3)]  # often a duplicate: ties go to the smaller feature
    y = (rng.uniform(size=n) < 0.5).astype(float)
    params = make_params(
        "binary",
        grad_bits=int(rng.choice([2, 3, 8])),
        min_child_samples=int(rng.choice([0, 1, 5])),
        min_child_weight=float(rng.choice([0.0, 0.5])),
        reg_lambda=float(rng.choice([0.0, 1.0])),
        reg_alpha=float(rng.choice([0.0, 0.2])),
        min_split_gain=float(rng.choice([0.0, 1.0])),
    )
    matrix = ref.bin_matrix(X, 255)
    quantized = quantized_for(X, y, params)
    in_node = rng.uniform(size=n) < rng.choice([0.3, 1.0])
    rows = np.flatnonzero(in_node)
    histogram = ref.build_histogram(matrix, quantized, rows)
    got = ref.best_split(matrix, histogram, ref.node_sums(quantized, rows), quantized, params)
    expected = brute_force_split(X, in_node, quantized, params)
    assert (None if got is None else tuple(got)) == (expected and (*expected, None))


def test_rounding_noise_is_no_gain():
    """All rows have the same gradient: every cut gains exactly nothing, but for rounding."""
    X = np.arange(50.0)[:, None]
    ones = np.ones(50, np.int64)
    quantized = ref.QuantizedGradients(7 * ones, 3 * ones, 0.1, 0.7)
    params = make_params()
    matrix, rows = ref.bin_matrix(X, 255), np.arange(50)
    histogram, parent = ref.build_histogram(matrix, quantized, rows), np.array([350, 150, 50])
    assert ref.best_split(matrix, histogram, parent, quantized, params) is None

    left, _, _ = ref.split_candidates(histogram[0], 50, False)
    scores = [ref.split_score(sums, quantized, params) for sums in (left, parent - left, parent)]
    assert (scores[0] + scores[1] - scores[2]).max() > 0  # there was noise to refuse


def test_missing_values_alone_can_be_split_off():
    X = np.array([[np.nan], [1.0]] * 20)
    y = np.array([1.0, 0.0] * 20)
    model = ref.train(X, y, params=make_params(n_estimators=1, num_leaves=2, grad_bits=2))
    root = model.trees[0][0]
    assert root["threshold"] == np.inf
    assert not root["missing_left"]
    assert root["count"] == 40
    unseen = np.array([[np.nan], [1e300], [np.inf], [-np.inf]])
    prediction = model.predict(unseen)[:, 0]
    assert prediction[0] > 0.5 > prediction[1] == prediction[2] == prediction[3]


# ----------------------------------------------------------------------------------------- trees


def leaf_wise_order(tree):
    """Does replaying the splits in id order always take the largest gain of the frontier?"""
    frontier = {0}
    for left in range(1, len(tree), 2):
        node = int(np.flatnonzero(tree["left"] == left)[0])
        if min(frontier, key=lambda i: (-tree["gain"][i], i)) != node:
            return False
        frontier = frontier - {node} | {left, left + 1}
    return not any(tree["feature"][i] >= 0 for i in frontier)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_trees_are_consistent(objective):
    X, y = make_data(objective, missing=0.1)
    X[3, 0], X[4, 0], X[5, 0] = np.inf, -np.inf, -0.0
    queries = query_sizes_for(objective, len(y))
    params = make_params(objective, min_child_samples=23, max_bin=20)
    model = ref.train(X, y, query_sizes=queries, params=params)
    assert len(model.trees) == 5 * params["n_outputs"]
    for tree in model.trees:
        is_split = tree["feature"] >= 0
        assert 1 < (~is_split).sum() <= 15
        assert tree["count"][0] == len(y)
        left, right = tree["left"][is_split], tree["right"][is_split]
        assert np.array_equal(left + 1, right)
        assert np.array_equal(tree["count"][is_split], tree["count"][left] + tree["count"][right])
        assert tree["count"].min() >= 23
        assert np.all(tree["gain"][is_split] > 0)
        assert np.all(tree["gain"][~is_split] == 0)
        assert np.all(tree["value"][is_split] == 0)
        assert leaf_wise_order(tree)
        # Raw values through thresholds reach the leaves that bins filled.
        leaves = np.bincount(ref.find_leaves(tree, X), minlength=len(tree))
        assert np.array_equal(leaves[~is_split], tree["count"][~is_split])


@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_training_scores_are_predictions(objective, monkeypatch):
    X, y = make_data(objective, missing=0.1)
    seen, compute_gradients = [], ref.compute_gradients
    monkeypatch.setattr(
        ref,
        "compute_gradients",
        lambda s, *rest: seen.append(s.copy()) or compute_gradients(s, *rest),
    )
    model = ref.train(X, y, params=make_params(objective, n_estimators=3))
    for iteration, scores in enumerate(seen):
        so_far = model._replace(trees=model.trees[: iteration * len(model.base_score)])
        assert np.array_equal(so_far.predict_raw(X).T, scores)
    assert len(seen) == 3
    assert not np.array_equal(seen[1], seen[2])


@pytest.mark.parametrize("min_child_samples", [0, 1, 20, 300, 301])
def test_min_child_samples_holds_exactly(min_child_samples):
    X, y = make_data("binary")
    params = make_params("binary", min_child_samples=min_child_samples, num_leaves=600)
    smallest = min(t["count"].min() for t in ref.train(X, y, params=params).trees)
    assert smallest >= max(min_child_samples, 1)
    if min_child_samples <= 20:
        assert smallest <= min_child_samples + 1  # the bound was reached, hence tested
    if min_child_samples == 301:  # more than half of the 600 rows
        assert smallest == 600


def test_a_node_of_twice_min_child_samples_can_be_split():
    X = np.repeat([0.0, 1.0], 10)[:, None]
    for min_child_samples, n_nodes in ((10, 3), (11, 1)):
        params = make_params(min_child_samples=min_child_samples, n_estimators=1)
        assert len(ref.train(X, X[:, 0], params=params).trees[0]) == n_nodes


def test_equal_gains_split_the_smaller_node_id():
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 5, float)
    y = np.array([-3, -1, 1, 3] * 5, float)
    changes = dict(rounding="nearest", grad_bits=3, n_estimators=1, min_child_samples=1)
    full, part = (
        ref.train(X, y, params=make_params(num_leaves=num_leaves, **changes)).trees[0]
        for num_leaves in (4, 3)
    )
    assert full["gain"][1] == full["gain"][2] > 0
    assert part["feature"].tolist() == [0, 1, -1, -1, -1]


@pytest.mark.parametrize("max_depth", [1, 2, 3])
def test_max_depth_and_num_leaves_hold(max_depth):
    X, y = make_data()
    for num_leaves in (2, 3, 100):
        params = make_params(max_depth=max_depth, num_leaves=num_leaves, n_estimators=1)
        tree = ref.train(X, y, params=params).trees[0]
        # 600 rows of clear signal fill a shallow tree
        assert (tree["feature"] < 0).sum() == min(num_leaves, 2**max_depth)


def test_leaf_values_are_newton_steps():
    X, y = make_data()
    weight = np.random.default_rng(2).uniform(0.5, 2, len(y))
    for sample_weight in (None, weight):
        params = make_params(n_estimators=1, reg_lambda=2.0, reg_alpha=0.5, learning_rate=0.3)
        model = ref.train(X, y, sample_weight=sample_weight, params=params)
        w = np.ones(len(y)) if sample_weight is None else sample_weight
        np.testing.assert_allclose(model.base_score[0], np.average(y, weights=w), rtol=1e-14)
        leaf = ref.find_leaves(model.trees[0], X)
        for node in np.unique(leaf):
            at = leaf == node
            gradient_sum = ((model.base_score[0] - y[at]) * w[at]).sum()
            shrunk = np.sign(gradient_sum) * max(abs(gradient_sum) - 0.5, 0)
            expected = -0.3 * shrunk / (w[at].sum() + 2.0)
            # float32 gradients of size about 1, over at least 5 rows
            np.testing.assert_allclose(
                model.trees[0]["value"][node], expected, rtol=1e-5, atol=1e-7
            )


def test_renewed_leaves_come_from_unquantized_gradients():
    X, y = make_data("binary")
    trees = {
        renew: ref.train(
            X, y, params=make_params("binary", grad_bits=2, renew_leaves=renew, n_estimators=1)
        ).trees[0]
        for renew in (True, False)
    }
    for name in ref.NODE_DTYPE.names:
        same = np.array_equal(trees[True][name], trees[False][name])
        assert same == (name != "value"), name
    is_leaf = trees[False]["feature"] < 0
    np.testing.assert_allclose(
        trees[True]["value"][is_leaf], trees[False]["value"][is_leaf], atol=0.1
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("grad_bits", [3, 16])
def test_training_lowers_the_loss(objective, grad_bits):
    X, y = make_data(objective)
    queries = query_sizes_for(objective, len(y))
    params = make_params(objective, grad_bits=grad_bits)
    model = ref.train(X, y, query_sizes=queries, params=params)
    raw = model.predict_raw(X)
    assert raw.shape == (600, params["n_outputs"])
    if objective == "lambdarank":
        better = [np.corrcoef(raw[q : q + 20, 0], y[q : q + 20])[0, 1] for q in range(0, 600, 20)]
        assert np.mean(better) > 0.6
    else:
        start = loss(objective, np.tile(model.base_score[:, None], len(y)), y).mean()
        assert loss(objective, raw.T, y).mean() < start - 0.03


def test_links():
    X, y = make_data("multiclass")
    model = ref.train(X, y, params=make_params("multiclass"))
    p = model.predict(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    assert (p.argmax(axis=1) == y).mean() > 0.7
    X, y = make_data("binary")
    model = ref.train(X, y, params=make_params("binary"))
    np.testing.assert_allclose(
        model.predict(X), 1 / (1 + np.exp(-model.predict_raw(X))), rtol=1e-14
    )
    X, y = make_data("poisson")
    model = ref.train(X, y, params=make_params("poisson"))
    np.testing.assert_allclose(model.predict(X), np.exp(model.predict_raw(X)), rtol=1e-14)


@pytest.mark.parametrize("objective", ["regression", "binary"])
def test_integer_weights_are_repeated_rows(objective):
    """At 16 bits the rounding noise is far below any gain gap here, so the splits agree."""
    X, y = make_data(objective, 300)
    times = np.random.default_rng(0).integers(1, 4, 300)
    params = make_params(objective, grad_bits=16, n_estimators=3, min_child_samples=0, num_leaves=4)
    weighted = ref.train(X, y, sample_weight=times.astype(float), params=params)
    repeated = ref.train(np.repeat(X, times, axis=0), np.repeat(y, times), params=params)
    np.testing.assert_allclose(
        weighted.predict_raw(X), repeated.predict_raw(X), rtol=1e-5, atol=1e-6
    )


def test_same_seed_same_trees_and_other_seed_other_trees():
    X, y = make_data("multiclass")
    first, again, other = (
        ref.train(X, y, params=make_params("multiclass", seed=seed, grad_bits=2)).trees
        for seed in (7, 7, 8)
    )
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again))
    assert all(a.tobytes() != b.tobytes() for a, b in zip(first, other))


# -------------------------------------------------------------------------------------- LightGBM


@pytest.mark.parametrize("objective", ["regression", "binary", "poisson", "multiclass"])
def test_16_bits_train_like_lightgbm_in_float(objective):
    """Twenty trees remove the same loss from the training data as LightGBM's, within 0.2 %.

    Both see the same bins (a grid of values, one per bin), so most trees are the same.  What is
    left is 16-bit rounding, by which a near-tie may fall to the other split.  That one is as good
    for its node, but the later trees differ: by 0.14 % of the loss removed in the worst of 12
    simulated data sets (4 objectives, 3 seeds), and by less than 1e-9 in 9 of them.
    """
    lightgbm = pytest.importorskip("lightgbm")
    X, y = make_data(objective, 2000)
    params = make_params(
        objective,
        grad_bits=16,
        n_estimators=20,
        min_child_samples=1,
        min_child_weight=1.0,
        reg_lambda=0.5,
    )
    model = ref.train(X, y, params=params)

    n_outputs = params["n_outputs"]
    names = ("num_leaves", "learning_rate", "min_child_samples", "min_child_weight", "reg_lambda")
    theirs = {name: params[name] for name in names} | dict(
        objective=objective, verbose=-1, n_jobs=1, max_bin=255, min_data_in_bin=1
    )
    if n_outputs > 1:
        theirs["num_class"] = n_outputs
    booster = lightgbm.train(theirs, lightgbm.Dataset(X, y), num_boost_round=20)
    their_raw = booster.predict(X, raw_score=True).reshape(len(y), n_outputs)

    start = loss(objective, np.tile(model.base_score[:, None], len(y)), y).mean()
    our_drop = start - loss(objective, model.predict_raw(X).T, y).mean()
    their_drop = start - loss(objective, their_raw.T, y).mean()
    assert their_drop > 0.1
    assert abs(our_drop / their_drop - 1) < 0.002
