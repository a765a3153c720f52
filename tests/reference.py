"""The whole algorithm in plain NumPy: the executable specification of qgbdt.

Raw data -> bins -> gradients -> small integers -> histograms -> splits -> trees -> predictions,
one function per stage, in that order, so that the file can be read from top to bottom.  Every
implementation (scalar, SIMD, CUDA, threads, workers) must give these trees *bit for bit*.

What makes that possible:

- histograms are sums of integers, and sums of reals (means, leaf sums) are sums of 64-bit fixed
  point integers, so no result depends on the order of the rows;
- every other real number is an IEEE float64, computed in the order written here, without FMA;
- exp and log are our own polynomials, and randomness is a hash of (seed, tree, output, row).

Hence two rules for this file: no `np.exp`, `np.log`, and no `np.sum` over floats (NumPy adds
pairwise, in an order that depends on the shape; `ordered_sum` adds from first to last).

Shapes: X (n_samples, n_features); scores, gradients and hessians [n_outputs][n_samples].
n_outputs is 1, or the number of classes for "multiclass"; or of targets, y [n_outputs][n_samples].
"""

import math
from typing import NamedTuple

import numpy as np

U32, U64 = np.uint32, np.uint64

# ---------------------------------------------------------------------------------------- 1 hash


def mix64(z):
    """The splitmix64 finalizer: a bijection of 64-bit words; arithmetic wraps."""
    with np.errstate(over="ignore"):
        z = np.asarray(z, U64) + U64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        return z ^ (z >> U64(31))


def lowbias32(x):
    """Wellons' 32-bit mixer: a bijection of 32-bit words; arithmetic wraps."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, U32)
        x = (x ^ (x >> U32(16))) * U32(0x7FEB352D)
        x = (x ^ (x >> U32(15))) * U32(0x846CA68B)
        return x ^ (x >> U32(16))


def stream_key(seed: int, tree: int, output: int):
    """The key of one tree's random stream; `tree` is the iteration, counted from 0."""
    return mix64(mix64(mix64(seed) ^ U64(tree)) ^ U64(output))


def row_hash(key, row):
    """32 random bits for each global row number of a stream."""
    row = np.asarray(row, U64)
    k = mix64(key ^ (row >> U64(32)))
    x = lowbias32(row.astype(U32) ^ k.astype(U32))  # astype keeps the low 32 bits
    with np.errstate(over="ignore"):
        return lowbias32(x + (k >> U64(32)).astype(U32))


# ------------------------------------------------------------------------------------- 2 binning

BIN_SAMPLE_SIZE = 200_000
DBL_MAX = float(np.finfo(np.float64).max)


class BinnedMatrix(NamedTuple):
    bins: np.ndarray  # int64 (n_samples, n_features)
    bin_thresholds: list[np.ndarray]  # per feature, float64 (n_value_bins - 1,), increasing
    has_missing: np.ndarray  # bool (n_features,)
    is_categorical: np.ndarray  # bool (n_features,): value bins are categories, without an order

    @property
    def n_value_bins(self) -> np.ndarray:
        return np.array([len(t) + 1 for t in self.bin_thresholds], np.int64)

    @property
    def n_bins(self) -> np.ndarray:
        return self.n_value_bins + self.has_missing


def sample_rows(n_samples: int) -> np.ndarray:
    """The rows that choose the thresholds; independent of the seed of training."""
    rows = np.arange(n_samples)
    if n_samples <= BIN_SAMPLE_SIZE:
        return rows
    limit = (BIN_SAMPLE_SIZE << 32) // n_samples
    key = stream_key(0, 2**64 - 1, 0)  # apart from every tree's rounding
    return rows[row_hash(key, rows) < U32(limit)]


def bin_thresholds(values: np.ndarray, max_bin: int) -> np.ndarray:
    """Thresholds of one feature from its sampled values: at most max_bin - 1, increasing.

    One bin per distinct value where they fit; else bins of about equal frequency, in which a
    value frequent enough to fill a bin ("heavy") closes its bin.  The choice is all integers.
    """
    values = values[~np.isnan(values)] + 0.0  # -0.0 becomes +0.0
    distinct, counts = (a.tolist() for a in np.unique(values, return_counts=True))
    if len(distinct) <= max_bin:
        boundaries = list(range(len(distinct) - 1))
    else:
        boundaries = equal_frequency_boundaries(counts, max_bin)
    return np.array([threshold_between(distinct[i], distinct[i + 1]) for i in boundaries])


def equal_frequency_boundaries(counts: list[int], max_bin: int) -> list[int]:
    """Indices i of the distinct values after which a bin ends."""
    total = sum(counts)
    heavy = [c * max_bin >= total for c in counts]
    remaining = sum(c for c, is_heavy in zip(counts, heavy) if not is_heavy)
    bins_left = max_bin - sum(heavy)
    boundaries = []
    current = 0  # rows of light values in the open bin
    for i in range(len(counts) - 1):
        if not heavy[i]:
            current += counts[i]
        share = max(bins_left, 1)
        full = current > 0 and current * share >= remaining
        half_full = current > 0 and 2 * current * share >= remaining
        if heavy[i] or full or (heavy[i + 1] and half_full):
            boundaries.append(i)
            remaining -= current
            current = 0
            if not heavy[i]:
                bins_left -= 1
            if len(boundaries) == max_bin - 1:
                break
    return boundaries


def threshold_between(a: float, b: float) -> float:
    """A t with a <= t < b, finite wherever one exists; `x <= t` separates a from b."""
    if b == math.inf:
        return 0.0 if a == -math.inf else DBL_MAX
    t = 0.5 * a + 0.5 * b  # halved first: a + b may overflow
    return t if a <= t < b else a


def bin_column(column: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The number of thresholds below x; a NaN goes one past the last value bin."""
    bins = np.searchsorted(thresholds, column, side="left")
    return np.where(np.isnan(column), len(thresholds) + 1, bins)


def category_thresholds(n_categories: int) -> np.ndarray:
    """A bin for each of the codes 0, 1, ... n_categories - 1."""
    return np.arange(n_categories - 1) + 0.5


def bin_matrix(X: np.ndarray, max_bin: int, n_categories=None) -> BinnedMatrix:
    """n_categories: of each feature, None where it is not categorical; codes are in X."""
    X = np.asarray(X, np.float64)
    rows = sample_rows(len(X))
    n_categories = [None] * X.shape[1] if n_categories is None else n_categories
    thresholds = [
        bin_thresholds(column[rows], max_bin) if n is None else category_thresholds(n)
        for column, n in zip(X.T, n_categories)
    ]
    bins = np.empty(X.shape, np.int64)
    for feature, column in enumerate(X.T):
        bins[:, feature] = bin_column(column, thresholds[feature])
    is_categorical = np.array([n is not None for n in n_categories])
    return BinnedMatrix(bins, thresholds, np.isnan(X).any(axis=0), is_categorical)


# --------------------------------------------------------------------------------- 3 exp and log

LOG2E = 1.4426950408889634
LN2_HI = 6.93147180369123816490e-01  # its last 32 bits are zero: n * LN2_HI is exact
LN2_LO = 1.90821492927057770002e-10
ROUND_TO_INT = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the integer in the low bits
SQRT_HALF = 0.70710678118654752440


def horner(coefficients, x):
    """Highest power first."""
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * x + c
    return p


EXP_COEFFICIENTS = [1.0 / math.factorial(k) for k in range(13, -1, -1)]
LOG_COEFFICIENTS = [1.0 / k for k in range(21, 1, -2)]


def exp(x):
    """e^x = 2^n * e^r with |r| <= ln(2)/2; x is clamped to [-708, 708]."""
    x = np.minimum(np.maximum(np.asarray(x, np.float64), -708.0), 708.0)
    t = x * LOG2E + ROUND_TO_INT
    n = t - ROUND_TO_INT
    r = x - n * LN2_HI
    r = r - n * LN2_LO
    power_of_two = ((t.view(U64) + U64(1023)) << U64(52)).view(np.float64)
    return horner(EXP_COEFFICIENTS, r) * power_of_two


def log(x):
    """log(m * 2^e) = e * ln 2 + 2 * atanh((m - 1) / (m + 1)); x finite, normal and > 0."""
    m, e = np.frexp(np.asarray(x, np.float64))
    small = m < SQRT_HALF
    m = np.where(small, m * 2.0, m)
    e = np.where(small, e - 1, e).astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    q = s + s * (z * horner(LOG_COEFFICIENTS, z))
    return e * LN2_HI + (2.0 * q + e * LN2_LO)


def log2(x):
    return log(x) * LOG2E


def finite_log(x):
    return log(np.maximum(x, 1e-300))


MILLS_COEFFICIENTS = [  # of the Chebyshev series that has as many terms, from 50 digits
    *[-9.5648329347125513e-10, -7.0738985755615885e-10, 1.1032071151574336e-08],
    *[9.0924761340191469e-09, -7.7585202367863426e-08, -6.5889744911089537e-08],
    *[4.9199623314783404e-07, 3.2054316652589574e-07, -3.2772876332088651e-06],
    *[-1.7633239265736746e-07, 2.2709612709237681e-05, -2.480583845192319e-05],
    *[-0.0001343742785571135, 0.00045704392357953655, 1.9530638370790786e-05],
    *[-0.0042012903291873066, 0.016348231281029382, -0.038026592185841389],
    *[0.061505045840186498, -0.066177600779096304, 0.025072179301638801],
    *[0.077781598868737686, -0.22948753825211315, 1.1568486282918946],
]
NORMAL_DENSITY_OF_0 = 0.39894228040143268


def mills_ratio(x):
    """The standard normal tail beyond x >= 0 over the density at x.

    As Shepherd and Laframboise (Math. Comp. 36, 1981): a polynomial in (x - 5) / (x + 5), which is
    (1 + x) times it.
    """
    return horner(MILLS_COEFFICIENTS, 1.0 - 10.0 / (x + 5.0)) / (1.0 + x)


def normal_density(z):
    return NORMAL_DENSITY_OF_0 * exp(-0.5 * (z * z))


def normal_survival(z):
    """The standard normal tail beyond z."""
    tail = normal_density(z) * mills_ratio(np.abs(z))
    return np.where(z < 0, 1.0 - tail, tail)


def normal_hazard(z):
    """The density at z over the tail beyond."""
    ratio = mills_ratio(np.abs(z))
    density = normal_density(z)
    return np.where(z < 0, density / (1.0 - density * ratio), 1.0 / ratio)


# --------------------------------------------------------------- 4 sums that do not care of order


def fixed_exponent(max_abs: float, n_samples: int) -> int:
    """The k for which n_samples numbers of at most max_abs, times 2^k, sum to under 2^62."""
    if max_abs == 0:
        return 0
    return min(62 - math.frexp(max_abs)[1] - math.frexp(n_samples)[1], 1000)


def to_fixed(values: np.ndarray, k: int) -> np.ndarray:
    """Round half to even to multiples of 2^-k."""
    return np.rint(values * math.ldexp(1.0, k)).astype(np.int64)


def fixed_sum(values: np.ndarray, k: int) -> float:
    return float(to_fixed(values, k).sum()) * math.ldexp(1.0, -k)


def ordered_sum(values):
    """The float sum from first to last, for the few sums whose order is part of the formula."""
    return np.add.accumulate(values)[-1] if len(values) else 0.0


# ----------------------------------------------------------------------------------- 5 objectives
# score s [n_outputs][n_samples] and target y [n_samples] -> g, h [n_outputs][n_samples], unweighted

EXP_OF_0_7 = 2.0137527074704766  # Poisson: an inflated hessian keeps the exponential from running


def regression_gradients(s, y, params):
    return s - y, np.ones_like(s)


def l1_gradients(s, y, params):
    return np.sign(s - y), np.ones_like(s)


def huber_gradients(s, y, params):
    return np.clip(s - y, -params["alpha"], params["alpha"]), np.ones_like(s)


def fair_gradients(s, y, params):
    c, d = params["fair_c"], s - y
    a = np.abs(d) + c
    return c * d / a, c * c / (a * a)


def quantile_gradients(s, y, params):
    return np.where(s >= y, 1.0 - params["alpha"], -params["alpha"]), np.ones_like(s)


def mape_gradients(s, y, params):
    return np.sign(s - y) / at_least_1(y), np.ones_like(s)


def at_least_1(y):
    return np.maximum(np.abs(y), 1.0)


def binary_gradients(s, y, params):  # of cross_entropy, too: y is a probability
    p = sigmoid(s)
    return p - y, p * (1.0 - p)


def multiclass_gradients(s, y, params):
    n_classes = len(s)
    factor = n_classes / (n_classes - 1)
    p = softmax(s)
    is_class = y == np.arange(n_classes)[:, None]
    return p - is_class, factor * (p * (1.0 - p))


def poisson_gradients(s, y, params):
    e = exp(s)
    return e - y, e * EXP_OF_0_7


def gamma_gradients(s, y, params):
    r = y * exp(-s)
    return 1.0 - r, r


def tweedie_gradients(s, y, params):
    rho = params["tweedie_variance_power"]
    a = y * exp((1.0 - rho) * s)
    b = exp((2.0 - rho) * s)
    return b - a, a * (rho - 1.0) + b * (2.0 - rho)


# Times: y > 0 is that of an event, y < 0 says that there was none until |y| (right censoring).

MAX_TIME_GRADIENT, LEAST_TIME_HESSIAN = 15.0, 1e-16  # XGBoost's, as is the largest hessian, 15


def aft_gradients(s, y, params):
    """Accelerated failure time (Barnwal, Cho, Hocking 2022): log time = s + scale * noise."""
    scale = params["aft_loss_distribution_scale"]
    slope, bend = NOISE[params["aft_loss_distribution"]].slope_and_bend(noise(s, y, params), y > 0)
    g = between(-slope / scale, -MAX_TIME_GRADIENT, MAX_TIME_GRADIENT)
    return g, between(bend / (scale * scale), LEAST_TIME_HESSIAN, MAX_TIME_GRADIENT)


def noise(s, y, params):
    return (finite_log(np.abs(y)) - s) / params["aft_loss_distribution_scale"]


def between(x, low, high):
    x = np.where(x > low, x, low)  # NaN, too
    return np.where(x < high, x, high)


class NormalNoise:
    """slope_and_bend: derivatives of -log of the likelihood of z, or of more, of the censored."""

    @staticmethod
    def slope_and_bend(z, is_event):
        hazard = normal_hazard(z)
        return np.where(is_event, z, hazard), np.where(is_event, 1.0, hazard * (hazard - z))

    @staticmethod
    def likelihood(z, is_event):
        return np.where(is_event, normal_density(z), normal_survival(z))


class LogisticNoise:
    @staticmethod
    def slope_and_bend(z, is_event):
        p = sigmoid(z)
        bend = p * (1.0 - p)
        return np.where(is_event, 2.0 * p - 1.0, p), np.where(is_event, 2.0 * bend, bend)

    @staticmethod
    def likelihood(z, is_event):
        survival = sigmoid(-z)
        return np.where(is_event, sigmoid(z) * survival, survival)


class ExtremeNoise:  # the logarithm of an exponential time
    @staticmethod
    def slope_and_bend(z, is_event):
        w = exp(z)
        return np.where(is_event, w - 1.0, w), w

    @staticmethod
    def likelihood(z, is_event):
        w = exp(z)
        survival = exp(-w)
        return np.where(is_event, w * survival, survival)


NOISE = {"normal": NormalNoise, "logistic": LogisticNoise, "extreme": ExtremeNoise}


def cox_gradients(s, y, weight):
    """Cox's partial likelihood: at the time of an event, that it is this row's of all at risk.

    Those are the rows whose time is not earlier; events of one time are taken as Breslow does.
    g and h are of the weighted loss; h is the diagonal.
    """
    order = np.argsort(np.abs(y), kind="stable")
    hazard, w, is_event = exp(s[0] - s.max())[order], weight[order], y[order] > 0
    _, first, time = np.unique(np.abs(y)[order], return_index=True, return_inverse=True)
    at_risk = np.add.accumulate((w * hazard)[::-1])[::-1][first]  # the last row first
    events = np.zeros(len(first))
    np.add.at(events, time[is_event], w[is_event])
    share = np.where(events > 0, events / at_risk, 0.0)
    rate = np.add.accumulate(share)[time]
    of_squares = np.add.accumulate(np.where(events > 0, share / at_risk, 0.0))[time]
    g, h = np.empty_like(s), np.empty_like(s)
    g[0, order] = w * (hazard * rate - is_event)
    part = w * hazard
    h[0, order] = part * (rate - part * of_squares)
    return g, np.where(h > 0, h, 0.0)


def multiclassova_gradients(s, y, params):
    return binary_gradients(s, (y == np.arange(len(s))[:, None]).astype(np.float64), params)


def rank_xendcg_gradients(s, y, params, query_sizes, key):
    """Bruch: the cross entropy of softmax(s) and shares of labels with a random part; per query."""
    gain = np.asarray(params["label_gain"], np.float64)[y.astype(np.int64)]
    relevance = gain + (1.0 - row_hash(key, np.arange(len(y))) * 2.0**-32)
    g, h = np.zeros_like(s), np.zeros_like(s)
    start = 0
    for size in query_sizes:
        query = slice(start, start + int(size))
        g[0, query], h[0, query] = rank_xendcg_query(s[0, query], relevance[query])
        start = query.stop
    return g, h


def rank_xendcg_query(s, relevance):
    """The first three terms of g's expansion, each of the sums of the one before."""
    e = exp(s - s.max())
    p = e / ordered_sum(e)
    rest = np.maximum(1.0 - p, 1e-15)
    g = p - relevance / max(ordered_sum(relevance), 1e-15) if len(s) > 1 else np.zeros(1)
    ratio = g / rest
    second = p * (ordered_sum(ratio) - ratio)
    ratio = second / rest
    return g + second + p * (ordered_sum(ratio) - ratio), p * (1.0 - p)


def lambdarank_gradients(s, y, params, query_sizes):
    """Burges et al.: pairwise logistic loss weighted by the NDCG a swap would change."""
    g, h = np.zeros_like(s), np.zeros_like(s)
    start = 0
    for size in query_sizes:
        query = slice(start, start + int(size))
        g[0, query], h[0, query] = lambdarank_query(s[0, query], y[query], params)
        start = query.stop
    return g, h


def lambdarank_query(s, y, params):
    """g and h of one query's documents; float sums run over the pairs in the order of `i, j`."""
    n_documents, truncation = len(s), params["lambdarank_truncation_level"]
    gain = np.asarray(params["label_gain"], np.float64)[y.astype(np.int64)]
    discount = 1.0 / log2(2.0 + np.arange(n_documents))

    depth = min(truncation, n_documents)
    ideal_gain = gain[np.argsort(-y, kind="stable")]
    max_dcg = ordered_sum(ideal_gain[:depth] * discount[:depth])
    inverse_max_dcg = 1.0 / max_dcg if max_dcg > 0 else 0.0

    document = np.argsort(-s, kind="stable")  # document[rank]; ties keep their position
    i, j = np.triu_indices(n_documents, 1)  # i < j: pairs of ranks, by i, then by j
    keep = (i < truncation) & (y[document[i]] != y[document[j]])
    i, j = i[keep], j[keep]

    i_is_better = y[document[i]] > y[document[j]]
    rank_hi, rank_lo = np.where(i_is_better, i, j), np.where(i_is_better, j, i)
    hi, lo = document[rank_hi], document[rank_lo]
    delta = s[hi] - s[lo]
    d = (gain[hi] - gain[lo]) * np.abs(discount[rank_hi] - discount[rank_lo]) * inverse_max_dcg
    if n_documents and s[document[0]] != s[document[-1]]:
        d = d / (0.01 + np.abs(delta))
    rho = 1.0 / (1.0 + exp(delta))
    lam, hes = rho * d, (rho * (1.0 - rho)) * d

    # np.add.at adds one element after the other; each pair touches hi, then lo.
    g, h = np.zeros(n_documents), np.zeros(n_documents)
    pairs = np.stack([hi, lo], axis=1)
    np.add.at(g, pairs.ravel(), np.stack([-lam, lam], axis=1).ravel())
    np.add.at(h, pairs.ravel(), np.stack([hes, hes], axis=1).ravel())
    sum_lambda = ordered_sum(2.0 * lam)
    if sum_lambda > 0:
        norm = log2(1.0 + sum_lambda) / sum_lambda
        g, h = g * norm, h * norm
    return g, h


CONSTANT_HESSIAN = ("regression", "l1", "huber", "quantile", "mape")  # without weights

GRADIENTS = {
    "regression": regression_gradients,
    "l1": l1_gradients,
    "huber": huber_gradients,
    "fair": fair_gradients,
    "quantile": quantile_gradients,
    "mape": mape_gradients,
    "cross_entropy": binary_gradients,
    "binary": binary_gradients,
    "multiclass": multiclass_gradients,
    "multiclassova": multiclassova_gradients,
    "poisson": poisson_gradients,
    "gamma": gamma_gradients,
    "tweedie": tweedie_gradients,
    "aft": aft_gradients,
}


def compute_gradients(score, y, weight, params, query_sizes=None, iteration=0):
    """float32 gradients and hessians of all outputs; they are stored, so they are rounded."""
    with np.errstate(
        over="ignore", invalid="ignore", divide="ignore"
    ):  # what is not finite is clamped
        if params["objective"] == "lambdarank":
            g, h = lambdarank_gradients(score, y, params, query_sizes)
        elif params["objective"] == "rank_xendcg":
            # a stream of its own: that of an output which no tree has
            key = stream_key(params["seed"], iteration, len(score))
            g, h = rank_xendcg_gradients(score, y, params, query_sizes, key)
        elif params["objective"] == "cox":
            return tuple(map(to_gradient, cox_gradients(score, y, weight)))
        else:
            g, h = GRADIENTS[params["objective"]](score, y, params)
        return to_gradient(g * weight), to_gradient(h * weight)


def to_gradient(x, limit=3e38):
    """float32, always finite: infinities, and NaN from infinity times a weight of zero, too."""
    x = np.where(x > -limit, x, -limit)
    return np.where(x < limit, x, limit).astype(np.float32)


def sigmoid(s):
    return 1.0 / (1.0 + exp(-s))


def softmax(s):
    """Over the outputs of s [n_outputs][n_samples], summed from first to last."""
    e = exp(s - s.max(axis=0))
    return e / ordered_sum(e)


def link(score, objective: str):
    if objective in ("binary", "cross_entropy", "multiclassova"):
        return sigmoid(score)
    if objective == "multiclass":
        return softmax(score)
    if objective in ("poisson", "gamma", "tweedie", "aft", "cox"):
        return exp(score)
    return score


def weighted_mean(values, weight) -> float:
    return float(weighted_means(values[None], weight)[0])


def weighted_means(values, weight) -> np.ndarray:
    """Of each row of values: sums of multiples of one unit."""
    n_samples, weighted = len(weight), values * weight
    k = fixed_exponent(np.abs(weighted).max(), n_samples)
    total = fixed_sum(weight, fixed_exponent(weight.max(), n_samples))
    return np.array([fixed_sum(one, k) / total for one in weighted])


def start_scores(y, weight, params) -> np.ndarray:
    """The best constant score of each output, in link space (0 for ranking).

    Of cox any constant is as good, of aft it is the best of normal noise where none is censored.
    """
    objective, n_outputs = params["objective"], params["n_outputs"]
    if objective in ("lambdarank", "rank_xendcg", "cox"):
        return np.zeros(n_outputs)
    if objective in ("multiclass", "multiclassova"):
        share = [weighted_mean((y == k).astype(np.float64), weight) for k in range(n_outputs)]
        if objective == "multiclass":
            return log(np.maximum(share, 1e-15))
        return np.array([log_odds(p) for p in share])
    if objective in QUANTILE_OBJECTIVES:
        k = fixed_exponent(weight.max(), len(weight))
        return np.array([best_constant(t, t, weight, k, params) for t in np.atleast_2d(y)])
    y = finite_log(np.abs(y)) if objective == "aft" else y
    means = weighted_means(np.atleast_2d(y), weight)
    if objective in ("regression", "huber", "fair", "aft"):
        return means
    if objective in ("binary", "cross_entropy"):
        return np.array([log_odds(mean) for mean in means])
    return np.array([log(max(mean, 1e-300)) for mean in means])


def log_odds(mean):
    p = min(max(mean, 1e-15), 1.0 - 1e-15)
    return log(p / (1.0 - p))


# ----------------------------------------------------------------------------- 6 sampling of rows

# The streams of samples: "outputs" that no model has; for the last two, plus the output.
ROW_SAMPLE, TREE_SAMPLE, NODE_SAMPLE = 2**32, 2 * 2**32, 3 * 2**32


def rows_in_use(gradients, hessians, iteration: int, params, query_sizes=None):
    """The rows that this iteration's trees are grown on, all gradients, and if some are amplified.

    Gradients, float32 [n_outputs][n_samples], of rows that are left out are 0.
    """
    n_samples = gradients.shape[1]
    numbers, amplification = np.arange(n_samples), 1.0
    is_early = iteration < int(1 / params["learning_rate"])
    if params["data_sample_strategy"] == "goss" and not is_early:
        in_use, amplification = goss(gradients, hessians, iteration, params)
    elif params["data_sample_strategy"] == "bagging" and params["subsample"] < 1:
        bag = iteration // max(params["subsample_freq"], 1)
        if query_sizes is not None:  # whole queries, by the number of the first row
            numbers = np.repeat(np.cumsum(query_sizes) - query_sizes, query_sizes)
        in_use = is_drawn(bag, numbers, params["subsample"], params)
    else:
        return numbers, gradients, hessians, False
    factor = np.where(in_use, amplification, 0.0)
    g, h = to_gradient(gradients * factor), to_gradient(hessians * factor)
    return np.flatnonzero(in_use), g, h, bool(np.any(amplification != 1))


def is_drawn(draw: int, numbers, share: float, params):
    key = stream_key(params["seed"], draw, ROW_SAMPLE)
    return row_hash(key, numbers) < int(share * 2.0**32)


def goss(gradients, hessians, iteration: int, params):
    """Gradient-based one-side sampling (Ke et al., LightGBM, 2017): who is in, and amplifications.

    Rows of the largest |g h| stay; of the others a share is drawn, which stands for all of them.
    """
    n_samples = gradients.shape[1]
    product = np.abs(gradients.astype(np.float64)) * np.abs(hessians.astype(np.float64))
    magnitude = np.sqrt(ordered_sum(product)).astype(np.float32)
    n_top = max(1, int(params["top_rate"] * n_samples))
    is_large = magnitude >= np.sort(magnitude)[-n_top]
    n_others = n_samples - int(is_large.sum())
    if n_others == 0:
        return is_large, np.ones(n_samples)
    share = min(1.0, params["other_rate"] * n_samples / n_others)
    drawn = is_drawn(iteration, np.arange(n_samples), share, params)
    return is_large | drawn, np.where(is_large, 1.0, 1.0 / share)


# -------------------------------------------------------------------------------- 7 quantization


class QuantizedGradients(NamedTuple):
    """One tree's small integers: g is about gradient * gradient_scale, likewise h."""

    gradient: np.ndarray  # int64 (n_samples,), negative or positive
    hessian: np.ndarray  # int64 (n_samples,), never negative
    gradient_scale: float
    hessian_scale: float


BULK = 4.0  # root mean squares that the bits span; outliers run beyond
NOISE_SHARE = 0.2  # of the gradients' mean square: the rounding noise that "auto" allows


def levels_of_bits(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def max_levels(n_samples: int, grad_bits: int) -> int:
    """What a byte (or 16 bits) holds, unless a sum over all rows could then overflow 32 bits."""
    return min(levels_of_bits(max(grad_bits, 8)), (2**31 - 1) // (2 * max(n_samples, 1)))


def root_mean_square(values) -> float:
    """About, from the number of float32 values in each power of two: exact to merge."""
    exponents = (np.abs(values).view(U32) >> U32(23)).astype(np.int64)
    counts = np.bincount(exponents, minlength=256)
    total = 0.0
    for e in range(1, 255):
        total += float(counts[e]) * 2.0 ** (2 * (e - 127))
    return math.sqrt(total * (7.0 / 3.0) / len(values))


def choose_scale(values, levels: int, most: int) -> tuple[float, float, int]:
    """(step, 1 / step, largest integer): `levels` steps for the bulk, at most `most` in all."""
    largest = float(np.abs(values).max(initial=0))
    if largest == 0:
        return 0.0, 0.0, 1
    step = BULK * root_mean_square(values) / levels
    step = min(max(step, largest / most), largest / levels)
    inverse = 1.0 / step
    return step, inverse, min(math.ceil(largest * inverse - 1e-6), most)


def rounding_integral(x):
    """The integral of f (1 - f) from 0 to x, f the fraction: the variance of rounding it."""
    whole = np.floor(x)
    f = x - whole
    return whole * (1.0 / 6.0) + f * f * (0.5 - f * (1.0 / 3.0))


def rounding_noise(values, inverse_step: float) -> float:
    """About the variance of stochastic rounding, as a share of the values' mean square.

    As if values lay evenly in each power of two.
    """
    exponents = (np.abs(values).view(U32) >> U32(23)).astype(np.int64)
    counts = np.bincount(exponents, minlength=256)
    noise = square = 0.0
    for e in np.flatnonzero(counts[1:255]) + 1:
        low = 2.0 ** float(e - 127) * inverse_step
        noise += counts[e] * ((rounding_integral(2.0 * low) - rounding_integral(low)) / low)
        square += counts[e] * (low * low)
    return noise / (square * (7.0 / 3.0)) if square > 0 else 0.0


def choose_bits(values) -> int:
    """The fewest bits whose rounding noise is at most NOISE_SHARE."""
    for bits in range(2, 8):
        most = max_levels(len(values), bits)
        _, inverse, _ = choose_scale(values, min(levels_of_bits(bits), most), most)
        if rounding_noise(values, inverse) <= NOISE_SHARE:
            return bits
    return 8


def round_stochastically_or_not(x, uniform, rounding: str):
    floor = np.floor(x)
    up = uniform < x - floor if rounding == "stochastic" else x - floor >= 0.5
    return floor.astype(np.int64) + up


def quantize(g, h, key, params, constant_hessian, rows=slice(None)) -> QuantizedGradients:
    """Round one output's float32 gradients; one hash gives a row its two 16-bit uniforms.

    Bits and steps are those of the rows in use; the gradients of others are 0.
    """
    bits = choose_bits(g[rows]) if params["grad_bits"] == "auto" else params["grad_bits"]
    most = max_levels(len(g[rows]), bits)
    levels = min(levels_of_bits(bits), most)
    random_bits = row_hash(key, np.arange(len(g)))
    u_g = ((random_bits >> U32(16)) + 0.5) / 65536.0
    u_h = ((random_bits & U32(0xFFFF)) + 0.5) / 65536.0

    g_step, inverse, limit = choose_scale(g[rows], levels, most)
    q_g = round_stochastically_or_not(g.astype(np.float64) * inverse, u_g, params["rounding"])
    q_g = np.clip(q_g, -limit, limit)
    if constant_hessian:
        return QuantizedGradients(q_g, np.ones(len(h), np.int64), g_step, 1.0)

    h_step, inverse, limit = choose_scale(h[rows], 2 * levels, 2 * most)
    q_h = round_stochastically_or_not(h.astype(np.float64) * inverse, u_h, params["rounding"])
    return QuantizedGradients(q_g, np.clip(q_h, 0, limit), g_step, h_step)


# ----------------------------------------------------------------------------------- 8 histogram

G, H, COUNT = 0, 1, 2  # the channels of a histogram cell


def node_sums(quantized: QuantizedGradients, rows) -> np.ndarray:
    """int64 (3,): gradient sum, hessian sum and number of a node's rows."""
    return np.array([quantized.gradient[rows].sum(), quantized.hessian[rows].sum(), len(rows)])


def build_histogram(matrix: BinnedMatrix, quantized: QuantizedGradients, rows) -> np.ndarray:
    """int64 (n_features, largest n_bins, 3): exact integer sums and row counts of a node."""
    n_features, n_cells = matrix.bins.shape[1], int(matrix.n_bins.max())
    cell = matrix.bins[rows] + n_cells * np.arange(n_features)
    histogram = np.empty((n_features * n_cells, 3), np.int64)
    for channel, values in (
        (G, quantized.gradient[rows]),
        (H, quantized.hessian[rows]),
        (COUNT, np.ones(len(rows), np.int64)),
    ):
        # bincount adds in float64: exact, since every sum is an integer below 2^31
        weights = np.repeat(values, n_features)
        histogram[:, channel] = np.bincount(cell.ravel(), weights, n_features * n_cells)
    return histogram.reshape(n_features, n_cells, 3)


# --------------------------------------------------------------------------------------- 9 split


class Split(NamedTuple):
    gain: float
    feature: int
    bin: int  # value bins <= bin go left
    missing_left: bool
    threshold: float  # the same in units of the feature: x <= threshold goes left
    categories: frozenset | None = None  # or the value bins that go left


MAX_LOG_STEP = 5.0  # the objectives on a logarithmic scale; the others have no limit
LINEAR = ("regression", "l1", "huber", "fair", "quantile", "mape")
LINEAR += ("lambdarank", "rank_xendcg")
MAX_STEP = dict.fromkeys(LINEAR, math.inf)


def step_size(gradient, hessian, params):
    """How far a leaf moves before shrinkage: the Newton step of G after soft threshold, bounded."""
    return np.minimum(gradient / hessian, MAX_STEP.get(params["objective"], MAX_LOG_STEP))


def split_score(sums, quantized: QuantizedGradients, params):
    """Twice the loss that a leaf's step removes, of integer sums [..., 3]; 0 where undefined.

    (|G| - reg_alpha)+^2 / (H + reg_lambda), unless the step is cut short.
    """
    gradient = sums[..., G] * quantized.gradient_scale
    denominator = sums[..., H] * quantized.hessian_scale + params["reg_lambda"]
    m = np.maximum(np.abs(gradient) - params["reg_alpha"], 0.0)
    defined = denominator > 0
    h = np.where(defined, denominator, 1.0)
    step = step_size(m, h, params)
    return np.where(defined, step * (2.0 * m - step * h), 0.0)


def is_feasible(sums, quantized: QuantizedGradients, params):
    """May these be the sums of a child?"""
    hessian = sums[..., H] * quantized.hessian_scale
    return (
        (sums[..., COUNT] >= max(params["min_child_samples"], 1))
        & (hessian >= params["min_child_weight"])
        & (hessian + params["reg_lambda"] > 0)
    )


def split_candidates(feature_histogram, n_value_bins: int, has_missing: bool):
    """Left sums int64 (n_candidates, 3), bins and missing sides of a feature, in scan order.

    Bin after bin: missing right, then missing left; last, all values against the missing.
    """
    prefix = np.cumsum(feature_histogram[:n_value_bins], axis=0)
    if not has_missing:
        bins = np.arange(n_value_bins - 1)
        return prefix[:-1], bins, np.zeros(len(bins), bool)
    missing = feature_histogram[n_value_bins]
    left = np.stack([prefix, prefix + missing], axis=1).reshape(-1, 3)[:-1]
    bins, missing_left = np.divmod(np.arange(len(left)), 2)
    return left, bins, missing_left.astype(bool)


# What a node's value lies between, and the value of the node above, before shrinkage. With
# path_smooth a value is drawn towards that, as if so many rows had it.
Bounds = tuple[float, float, float]


def bounds_of_root(value) -> Bounds:
    return (-math.inf, math.inf, float(value))


UNBOUNDED = bounds_of_root(0.0)


def is_monotone(params) -> bool:
    return any(params["monotone_constraints"])


def limits_values(params) -> bool:
    return is_monotone(params) or params["path_smooth"] > 0


def step_value(gradient, hessian, params):
    """A leaf's value before shrinkage, of sums of gradients and hessians; 0 where undefined."""
    denominator = hessian + params["reg_lambda"]
    m = np.maximum(np.abs(gradient) - params["reg_alpha"], 0.0)
    step = step_size(m, np.where(denominator > 0, denominator, 1.0), params)
    return np.where(denominator > 0, np.where(gradient < 0, step, -step), 0.0)


def bounded_value(gradient, hessian, n_rows, bounds: Bounds, params):
    value, smooth = step_value(gradient, hessian, params), params["path_smooth"]
    if smooth > 0:
        value = (value * n_rows + bounds[2] * smooth) / (n_rows + smooth)
    return np.minimum(np.maximum(value, bounds[0]), bounds[1])


def score_of_value(gradient, hessian, value, params):
    """Twice the loss that a leaf of this value removes."""
    loss = gradient * value + params["reg_alpha"] * np.abs(value)
    return -(2.0 * loss + (hessian + params["reg_lambda"]) * value * value)


def bounded_score(sums, n_rows, bounds: Bounds, quantized, params):
    """The score of a leaf whose value stays within its bounds, and that value."""
    gradient, hessian = (
        sums[..., G] * quantized.gradient_scale,
        sums[..., H] * quantized.hessian_scale,
    )
    value = bounded_value(gradient, hessian, n_rows, bounds, params)
    return score_of_value(gradient, hessian, value, params), value


def child_bounds(bounds: Bounds, sign: int, left_value, right_value) -> tuple[Bounds, Bounds]:
    """Of the children of a split by a feature that the prediction rises (or falls) with.

    `bounds` have the value of the node that is split as that above.
    """
    middle = (float(left_value) + float(right_value)) * 0.5
    below, above = (bounds[0], middle, bounds[2]), (middle, bounds[1], bounds[2])
    return {0: (bounds, bounds), 1: (below, above), -1: (above, below)}[sign]


def min_child_weight(parent, quantized, params) -> float:
    """The least hessian of a child: min_child_samples average rows of its node, rounded."""
    mean = parent[H] * quantized.hessian_scale / float(parent[COUNT])
    return max(params["min_child_weight"], (params["min_child_samples"] - 0.5) * mean)


def category_candidates(feature_histogram, n_value_bins, has_missing, parent, quantized, params):
    """Left sums int64 (n_candidates, 3) and bins of a categorical feature, and their extra L2.

    Each bin against the rest, if there are few; else, in the order of G / (H + cat_smooth), the
    first ones against the rest and the last ones against the rest. A missing value is a category.
    """
    bins = range(n_value_bins + has_missing)
    if n_value_bins <= params["max_cat_to_onehot"]:
        return feature_histogram[: len(bins)], [[b] for b in bins], 0.0
    mean = parent[H] * quantized.hessian_scale / float(parent[COUNT])  # what a row has
    gradient = feature_histogram[:, G] * quantized.gradient_scale
    hessian = feature_histogram[:, H] * quantized.hessian_scale
    least = (params["cat_smooth"] - 0.5) * mean  # fewer rows say too little
    used = [b for b in bins if feature_histogram[b, H] > 0 and hessian[b] >= least]
    order = sorted(used, key=lambda b: (gradient[b] / (hessian[b] + params["cat_smooth"]), b))
    most = min(params["max_cat_threshold"], (len(order) + 1) // 2)
    least_of_group = (params["min_data_per_group"] - 0.5) * mean
    sums, sets = [], []
    for direction in (order, order[::-1]):
        left, group = np.zeros(3, np.int64), 0
        for i, b in enumerate(direction[:most]):
            left, group = left + feature_histogram[b], group + feature_histogram[b, H]
            if (parent[H] - left[H]) * quantized.hessian_scale < least_of_group:
                break
            if group * quantized.hessian_scale >= least_of_group:
                sums.append(left)
                sets.append(direction[: i + 1])
                group = 0
    return np.array(sums, np.int64).reshape(-1, 3), sets, params["cat_l2"]


def node_score(parent, bounds: Bounds, quantized, params) -> float:
    if limits_values(params):
        return float(bounded_score(parent, float(parent[COUNT]), bounds, quantized, params)[0])
    return float(split_score(parent, quantized, params))


def bounds_of_sides(parent, bounds: Bounds, quantized, params) -> Bounds:
    """Those of a node's children: its own, below its value."""
    value = bounded_score(parent, float(parent[COUNT]), bounds, quantized, params)[1]
    return (*bounds[:2], float(value))


def rows_of_side(side, parent, quantized):
    """As many average rows of the node as its hessian is."""
    mean = parent[H] * quantized.hessian_scale / float(parent[COUNT])
    with np.errstate(divide="ignore", invalid="ignore"):
        return side[..., H] * quantized.hessian_scale / mean


def split_gains(left, parent, quantized, params, bounds=UNBOUNDED, sign=0, l2=0.0):
    """The gain of each candidate, by its left sums; minus infinity where a child is not allowed.

    l2 is added to the children's reg_lambda.
    """
    right = parent - left
    of_children = params | {"reg_lambda": params["reg_lambda"] + l2}
    feasible = is_feasible(left, quantized, params) & is_feasible(right, quantized, params)
    if limits_values(params):
        below = bounds_of_sides(parent, bounds, quantized, params)
        sides = [
            bounded_score(
                side, rows_of_side(side, parent, quantized), below, quantized, of_children
            )
            for side in (left, right)
        ]
        (left_score, left_value), (right_score, right_value) = sides
        feasible &= sign * (right_value - left_value) >= 0 if sign else True
        score = left_score + right_score
    else:
        left_score = split_score(left, quantized, of_children)
        score = left_score + split_score(right, quantized, of_children)
    gain = score - node_score(parent, bounds, quantized, params)
    return np.where(feasible, gain, -np.inf)


def gain_threshold(parent, quantized, params, bounds=UNBOUNDED) -> float:
    """A split is allowed if its gain is above this, and so above the rounding of equal slopes."""
    return max(params["min_split_gain"], 1e-12 * abs(node_score(parent, bounds, quantized, params)))


def best_split(
    matrix,
    histogram,
    parent,
    quantized,
    params,
    allowed=None,
    bounds=UNBOUNDED,
    cuts=None,
    only_cuts=False,
) -> Split | None:
    """The allowed split of largest gain; of equal ones, the first in scan order.

    cuts: of each feature the only bin after which values are parted, or (unless only_cuts) all.
    """
    params = params | {"min_child_weight": min_child_weight(parent, quantized, params)}
    best, best_gain = None, gain_threshold(parent, quantized, params, bounds)
    for feature, thresholds in enumerate(matrix.bin_thresholds):
        if allowed is not None and not allowed[feature]:
            continue
        n_value_bins, has_missing = len(thresholds) + 1, bool(matrix.has_missing[feature])
        if matrix.is_categorical[feature]:
            left, sets, l2 = category_candidates(
                histogram[feature], n_value_bins, has_missing, parent, quantized, params
            )
            bins = np.zeros(len(left), np.int64)
            missing_left = np.array([n_value_bins in some for some in sets], bool)
        else:
            left, bins, missing_left = split_candidates(
                histogram[feature], n_value_bins, has_missing
            )
            if cuts is not None:
                kept = np.isin(bins, [cuts[feature], -1 if only_cuts else n_value_bins - 1])
                left, bins, missing_left = left[kept], bins[kept], missing_left[kept]
            sets, l2 = [None] * len(left), 0.0
        if len(left) == 0:
            continue
        sign = int(params["monotone_constraints"][feature]) if is_monotone(params) else 0
        gain = split_gains(left, parent, quantized, params, bounds, sign, l2)
        c = int(np.argmax(gain))  # the first of equals
        if gain[c] > best_gain:
            # No NaN was seen in this feature: one at prediction follows the larger child.
            side = missing_left[c] if has_missing else 2 * left[c, COUNT] >= parent[COUNT]
            threshold = np.inf if bins[c] == n_value_bins - 1 else thresholds[bins[c]]
            categories = None if sets[c] is None else frozenset(sets[c]) - {n_value_bins}
            best_gain = float(gain[c])
            best = Split(best_gain, feature, int(bins[c]), bool(side), float(threshold), categories)
    return best


# ----------------------------------------------------------- 10 features that trees are split by


def keep_share(allowed, share: float, key):
    """Of the allowed features a share, rounded, but one at least: those of the smallest hashes."""
    features = np.flatnonzero(allowed)
    n_kept = max(1, int(share * len(features) + 0.5))
    kept = np.zeros(len(allowed), bool)
    kept[features[np.argsort(row_hash(key, features), kind="stable")[:n_kept]]] = True
    return kept


def features_of_tree(matrix: BinnedMatrix, params, iteration: int, output: int):
    """bool (n_features,): those that have anything to split, or a share of them."""
    key = stream_key(params["seed"], iteration, TREE_SAMPLE + output)
    share = params["colsample_bytree"]
    allowed = matrix.n_bins > 1
    return keep_share(allowed, share, key) if share < 1 else allowed


def features_of_node(allowed, used: frozenset, key, params):
    """Of a tree's features, those that may join the features `used` above the node."""
    if len(params["interaction_sets"]):
        sets = params["interaction_sets"].astype(bool)
        allowed = allowed & sets[sets[:, sorted(used)].all(axis=1)].any(axis=0)
    if 0 < params["most_interacting"] <= len(used):
        allowed = allowed & np.isin(np.arange(len(allowed)), sorted(used))
    share = params["colsample_bynode"]
    return keep_share(allowed, share, key) if share < 1 else allowed


def cuts_of_node(matrix: BinnedMatrix, key, params):
    """With extra_trees one for each feature, drawn; else None."""
    if not params["extra_trees"]:
        return None
    hashes = row_hash(mix64(key ^ U64(3)), np.arange(len(matrix.n_value_bins)))
    n_cuts = np.maximum(matrix.n_value_bins - 1, 1)
    return (hashes.astype(U64) * n_cuts.astype(U64) >> U64(32)).astype(np.int64)


def child_keys(key):
    return mix64(key ^ U64(1)), mix64(key ^ U64(2))


# ------------------------------------------------------------------------------------- 11 growth

NODE_DTYPE = np.dtype(
    [
        ("feature", "i4"),  # -1 for a leaf
        ("left", "i4"),  # -1 for a leaf
        ("right", "i4"),  # -1 for a leaf
        ("missing_left", "?"),
        ("is_categorical", "?"),  # then threshold is the number of a set of categories
        ("threshold", "f8"),
        ("value", "f8"),  # 0 for a split node
        ("gain", "f8"),  # 0 for a leaf
        ("count", "i8"),
        ("sum_hessian", "f8"),
    ]
)


def partition(matrix: BinnedMatrix, rows, split: Split):
    """A node's rows, left and right, each in their order."""
    bins = matrix.bins[rows, split.feature]
    is_missing = bins == matrix.n_value_bins[split.feature]
    is_left = bins <= split.bin
    if split.categories is not None:
        is_left = np.isin(bins, list(split.categories))
    goes_left = np.where(is_missing, split.missing_left, is_left)
    return rows[goes_left], rows[~goes_left]


class Place(NamedTuple):
    """What a node has of the splits above it."""

    depth: int
    key: int  # of the sample of its features
    used: frozenset  # features
    bounds: Bounds  # of its value, before shrinkage
    forced: int = -1  # one of params["forced_splits"] that it is to be split by


def child_places(place: Place, split: Split, children, quantized, params) -> tuple[Place, Place]:
    """`children`: rows, left and right."""
    sums = np.array([node_sums(quantized, rows) for rows in children])
    parent = sums.sum(axis=0)
    below = bounds_of_sides(parent, place.bounds, quantized, params)
    n_rows = rows_of_side(sums, parent, quantized)
    _, values = bounded_score(sums, n_rows, below, quantized, params)
    sign = int(params["monotone_constraints"][split.feature]) if is_monotone(params) else 0
    both = zip(child_keys(place.key), child_bounds(below, sign, *values))
    used = place.used | {split.feature}
    forced = params["forced_splits"][place.forced][2:] if place.forced >= 0 else (-1, -1)
    return tuple(
        Place(place.depth + 1, key, used, bounds, of_side)
        for (key, bounds), of_side in zip(both, forced)
    )


def forced_cut(matrix: BinnedMatrix, forced: int, params):
    """The feature that a node is to be split by, as a mask, and the bin of its threshold."""
    feature, threshold, *_ = params["forced_splits"][forced]
    cuts = np.zeros(len(matrix.bin_thresholds), np.int64)
    cuts[feature] = np.sum(matrix.bin_thresholds[feature] < threshold)
    return np.arange(len(cuts)) == feature, cuts


def grow_tree(
    matrix: BinnedMatrix, quantized, rows, params, iteration: int, output: int, category_sets=None
):
    """Split the leaf of largest gain (depthwise: of least depth), until num_leaves or none is left.

    Returns the nodes (their values still 0) in the order of their ids, and the rows of each leaf.
    The sets of categories that go left are appended to category_sets.
    """
    tree = np.zeros(2 * params["num_leaves"] - 1, NODE_DTYPE)
    leaf_rows: dict[int, np.ndarray] = {}
    frontier: dict[int, Split] = {}  # the leaves that can be split
    sets: dict[int, frozenset] = {}  # of the nodes that split categories
    places: dict[int, Place] = {}
    tree_features = features_of_tree(matrix, params, iteration, output)

    def add_leaf(node: int, rows, place: Place) -> None:
        sums = node_sums(quantized, rows)
        tree[node]["feature"] = tree[node]["left"] = tree[node]["right"] = -1
        tree[node]["count"] = len(rows)
        tree[node]["sum_hessian"] = sums[H] * quantized.hessian_scale
        leaf_rows[node], places[node] = rows, place
        is_shallow = params["max_depth"] <= 0 or place.depth < params["max_depth"]
        if is_shallow and len(rows) >= 2 * max(params["min_child_samples"], 1):
            histogram = build_histogram(matrix, quantized, rows)
            split = None
            if place.forced >= 0:
                allowed, cuts = forced_cut(matrix, place.forced, params)
                rules = (allowed, place.bounds, cuts, True)
                split = best_split(matrix, histogram, sums, quantized, params, *rules)
            if split is None:
                places[node] = place._replace(forced=-1)
                allowed = features_of_node(tree_features, place.used, place.key, params)
                rules = (allowed, place.bounds, cuts_of_node(matrix, place.key, params))
                split = best_split(matrix, histogram, sums, quantized, params, *rules)
            if split is not None:
                frontier[node] = split

    def turn(leaf: int):
        depth = places[leaf].depth if params["grow_policy"] == "depthwise" else 0
        return places[leaf].forced < 0, depth, -frontier[leaf].gain, leaf

    key = stream_key(params["seed"], iteration, NODE_SAMPLE + output)
    gradient, hessian, _ = node_sums(quantized, rows)
    of_root = step_value(
        gradient * quantized.gradient_scale, hessian * quantized.hessian_scale, params
    )
    forced = 0 if params["forced_splits"] else -1
    add_leaf(0, rows, Place(0, key, frozenset(), bounds_of_root(of_root), forced))
    n_nodes = 1
    while frontier and len(leaf_rows) < params["num_leaves"]:
        node = min(frontier, key=turn)
        split = frontier.pop(node)
        for name in ("feature", "missing_left", "threshold", "gain"):
            tree[node][name] = getattr(split, name)
        if split.categories is not None:
            tree[node]["is_categorical"], sets[node] = True, split.categories
        tree[node]["left"], tree[node]["right"] = n_nodes, n_nodes + 1
        children = partition(matrix, leaf_rows.pop(node), split)
        for child in zip(children, child_places(places[node], split, children, quantized, params)):
            add_leaf(n_nodes, *child)
            n_nodes += 1
    for node in sorted(sets):
        tree[node]["threshold"] = len(category_sets)
        category_sets.append(sets[node])
    return tree[:n_nodes].copy(), leaf_rows


# ------------------------------------------------------------------------------- 12 leaf values


def set_leaf_values(tree, leaf_rows, g, h, quantized, params, rate) -> None:
    """With renew_leaves from the float32 gradients, else from the small integers; times the rate.

    Bounds follow from the values that nodes would have as leaves, from the root down.
    """
    g, h = g.astype(np.float64), h.astype(np.float64)
    n_rows = sum(map(len, leaf_rows.values()))
    k_g, k_h = (fixed_exponent(np.abs(v).max(), n_rows) for v in (g, h))

    def rows_of(node):
        if node in leaf_rows:
            return leaf_rows[node]
        return np.concatenate([rows_of(tree[node]["left"]), rows_of(tree[node]["right"])])

    def sums_of(rows):
        if params["renew_leaves"]:
            return fixed_sum(g[rows], k_g), fixed_sum(h[rows], k_h)
        integers = node_sums(quantized, rows)
        return integers[G] * quantized.gradient_scale, integers[H] * quantized.hessian_scale

    def value_of(node, bounds) -> float:
        rows = rows_of(node)
        return float(bounded_value(*sums_of(rows), float(len(rows)), bounds, params))

    def set_values(node, bounds) -> None:
        if node in leaf_rows:
            tree[node]["value"] = value_of(node, bounds) * rate
            return
        children = tree[node]["left"], tree[node]["right"]
        feature = tree[node]["feature"]
        sign = int(params["monotone_constraints"][feature]) if is_monotone(params) else 0
        below = (*bounds[:2], value_of(node, bounds))
        values = (value_of(child, below) for child in children) if sign else (0.0, 0.0)
        for child, of_child in zip(children, child_bounds(below, sign, *values)):
            set_values(child, of_child)

    set_values(0, bounds_of_root(step_value(*sums_of(rows_of(0)), params)))


# Where the loss is of absolute residuals, sums of gradients tell their sign, not their size: leaves
# are quantiles of residuals, without regularization.

QUANTILE_OBJECTIVES = ("l1", "quantile", "mape")


def best_constant(residuals, y, weight, k, params) -> float:
    """What minimizes the sum of the losses of residuals minus a constant: the middle of all such.

    A quantile of the residuals, in float32; sums of weights are of multiples of 2^-k.
    """
    level = params["alpha"] if params["objective"] == "quantile" else 0.5
    values = to_gradient(residuals)
    order = np.argsort(values, kind="stable")
    if params["objective"] == "mape":
        weight = weight / at_least_1(y)
    below = np.cumsum(to_fixed(weight, k)[order])  # the weight of a value and those before it
    total = int(below[-1])
    if total == 0:
        return 0.0
    wanted = max(round(level * float(total)), 1)
    low, high = np.searchsorted(below, [wanted, min(wanted + 1, total)])
    return 0.5 * float(values[order[low]]) + 0.5 * float(values[order[high]])


def set_quantile_leaves(tree, leaf_rows, score, y, weight, params, rate) -> None:
    k = fixed_exponent(weight.max(), len(y))
    for leaf, rows in leaf_rows.items():
        best = best_constant(y[rows] - score[rows], y[rows], weight[rows], k, params)
        tree[leaf]["value"] = best * rate


# With linear_tree a leaf has a linear model, too: of the numerical features on its path, with the
# least sum of g v + h v^2 / 2 over its rows, plus linear_lambda / 2 times the squares of the
# coefficients. The columns are centred at their means and divided by their ranges, and the normal
# equations solved by L D L^T, in which a column that is next to a sum of those before it is left
# out. A leaf stays constant if fewer rows than coefficients have all of its features, or if a value
# is not finite or further than a leaf may go.

LEAST_PIVOT = 1e-8


def fit_linear_leaf(X, g, h, features: list[int], params):
    """(constant, [(feature, coefficient)]) of a leaf, or None; its rows as they ascend."""
    g, h = g.astype(np.float64), h.astype(np.float64)
    is_complete = np.isfinite(X[:, features]).all(axis=1)
    X, g, h = X[is_complete], g[is_complete], h[is_complete]
    if len(X) <= len(features):
        return None
    columns, Z = [], [np.ones(len(X))]
    for feature in features:
        x = X[:, feature]
        with np.errstate(all="ignore"):
            mean, extent = ordered_sum(h * x) / ordered_sum(h), x.max() - x.min()
        if extent > 0 and math.isfinite(extent) and math.isfinite(mean):
            columns.append((feature, mean, extent))
            Z.append((x - mean) / extent)
    if not columns:
        return None
    left = [[ordered_sum(h * a * b) for b in Z[: j + 1]] for j, a in enumerate(Z)]
    with np.errstate(all="ignore"):
        for j, (_, _, extent) in enumerate(columns):
            left[j + 1][j + 1] += params["linear_lambda"] / extent / extent
        constant, *solution = solved(left, [-ordered_sum(g * z) for z in Z])
        terms = []
        for (feature, mean, extent), coefficient in zip(columns, solution):
            if coefficient / extent != 0:
                constant -= coefficient / extent * mean
                terms.append((feature, coefficient / extent))
        values = linear_values(constant, terms, X)
    limit = min(MAX_STEP.get(params["objective"], MAX_LOG_STEP), DBL_MAX)
    return (constant, terms) if terms and (np.abs(values) <= limit).all() else None


def solved(left, right) -> list[float]:
    """x of left x = right: symmetric, the lower triangle as lists; 0 for what is left out."""
    n, L, d, x = len(right), left, [], [0.0] * len(right)
    for j in range(n):
        pivot, diagonal = L[j][j], L[j][j]
        for k in range(j):
            for i in range(k):
                L[j][k] -= L[j][i] * d[i] * L[k][i]
            L[j][k] = L[j][k] / d[k] if d[k] > 0 else 0.0
            pivot -= L[j][k] * d[k] * L[j][k]
        d.append(pivot if pivot > LEAST_PIVOT * diagonal else 0.0)
    for j in range(n):
        for k in range(j):
            right[j] -= L[j][k] * right[k]
    for j in reversed(range(n)):
        if d[j] > 0:
            x[j] = right[j] / d[j]
            for i in range(j + 1, n):
                x[j] -= L[i][j] * x[i]
    return x


def linear_values(constant, terms, X):
    """Not finite where one of the features is missing or infinite."""
    values = np.full(len(X), constant)
    with np.errstate(all="ignore"):
        for feature, coefficient in terms:
            values = values + coefficient * X[:, feature]
    return values


def features_of_leaf(tree, leaf: int) -> list[int]:
    """The numerical ones that split the nodes above it, ascending."""
    features = set()
    while leaf > 0:
        leaf = int(np.flatnonzero((tree["left"] == leaf) | (tree["right"] == leaf))[0])
        if not tree["is_categorical"][leaf]:
            features.add(int(tree["feature"][leaf]))
    return sorted(features)


def fit_linear_leaves(tree, leaf_rows, X, g, h, params):
    """The models of the leaves that are linear, by node; shrunk as their values are."""
    rate, found = params["learning_rate"], {}
    for leaf, rows in leaf_rows.items():
        rows = np.sort(rows)
        features = features_of_leaf(tree, leaf)
        if fitted := fit_linear_leaf(X[rows], g[rows], h[rows], features, params):
            constant, terms = fitted
            found[leaf] = constant * rate, [(feature, c * rate) for feature, c in terms]
    return found


# ------------------------------------------------------------------------------------- 13 model


def find_leaves(tree, X: np.ndarray, category_sets=()) -> np.ndarray:
    """The leaf (node id) of each row of raw data."""
    node = np.zeros(len(X), np.int64)
    while True:
        active = np.flatnonzero(tree["feature"][node] >= 0)
        if len(active) == 0:
            return node
        at = tree[node[active]]
        x = X[active, at["feature"]]
        is_left = x <= at["threshold"]
        for i in np.flatnonzero(at["is_categorical"]):
            is_left[i] = x[i] in category_sets[int(at["threshold"][i])]
        goes_left = np.where(np.isnan(x), at["missing_left"], is_left)
        node[active] = np.where(goes_left, at["left"], at["right"])


def tree_values(tree, linear, X: np.ndarray, category_sets=()) -> np.ndarray:
    """What a tree, some of whose leaves are linear, adds to each row of raw data."""
    leaves = find_leaves(tree, X, category_sets)
    values = tree["value"][leaves]
    for leaf, (constant, terms) in linear.items():
        rows = np.flatnonzero(leaves == leaf)
        of_rows = linear_values(constant, terms, X[rows])
        values[rows] = np.where(np.isfinite(of_rows), of_rows, values[rows])
    return values


class ReferenceModel(NamedTuple):
    objective: str
    base_score: np.ndarray  # float64 (n_outputs,)
    trees: list[np.ndarray]  # NODE_DTYPE; tree i belongs to output i % n_outputs
    category_sets: list[list[frozenset]]  # of each tree: the codes that go left
    linear: list[dict]  # of each tree: (constant, [(feature, coefficient)]) of linear leaves

    def predict_raw(self, X) -> np.ndarray:
        """Scores in link space, float64 (n_samples, n_outputs)."""
        X = np.asarray(X, np.float64)
        n_outputs = len(self.base_score)
        raw_prediction = np.tile(self.base_score[:, None], len(X))
        for i, (tree, sets, linear) in enumerate(zip(self.trees, self.category_sets, self.linear)):
            raw_prediction[i % n_outputs] += tree_values(tree, linear, X, sets)
        return raw_prediction.T

    def predict(self, X) -> np.ndarray:
        """Means, probabilities or ranking scores, float64 (n_samples, n_outputs)."""
        return link(self.predict_raw(X).T, self.objective).T


def train(
    X,
    y,
    *,
    sample_weight=None,
    query_sizes=None,
    n_categories=None,
    init_score=None,
    params: dict,
) -> ReferenceModel:
    """Train on raw X (n_samples, n_features) and y (n_samples,) or (n_outputs, n_samples).

    n_categories: for bin_matrix.
    init_score (n_outputs, n_samples): where raw predictions start, instead of the best constant.

    params: objective, n_outputs, max_bin, n_estimators, num_leaves, max_depth, learning_rate,
    min_child_samples, min_child_weight, min_split_gain, reg_alpha, reg_lambda, grad_bits,
    rounding, renew_leaves, seed; subsample, subsample_freq, data_sample_strategy, top_rate,
    other_rate, colsample_bytree, colsample_bynode, monotone_constraints (of each feature, or
    none), interaction_sets (bool (n_sets, n_features)), most_interacting (0: any number);
    forced_splits ((feature, threshold, left, right), places among them or -1, the root's first);
    alpha, fair_c, tweedie_variance_power, aft_loss_distribution, aft_loss_distribution_scale,
    lambdarank_truncation_level and label_gain where the objective reads them; boosting_type and,
    for "dart", drop_rate, max_drop, skip_drop, uniform_drop and xgboost_dart_mode; cat_smooth,
    cat_l2, max_cat_threshold, max_cat_to_onehot and min_data_per_group where a feature is
    categorical; linear_tree and linear_lambda.
    """
    X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
    unweighted = sample_weight is None
    weight = np.ones(len(X)) if unweighted else np.asarray(sample_weight, np.float64)
    are_ones = params["objective"] in CONSTANT_HESSIAN and unweighted  # the hessians

    matrix = bin_matrix(X, params["max_bin"], n_categories)
    if init_score is None:
        base_score = start_scores(y, weight, params)
        raw_prediction = np.tile(base_score[:, None], len(X))
    else:
        base_score, raw_prediction = np.zeros(params["n_outputs"]), np.array(init_score)
    trees, category_sets, linear = [], [], []
    is_dart, weights = params["boosting_type"] == "dart", []
    is_forest = params["boosting_type"] == "rf"

    def add_trees(iteration: int, sign: float) -> None:
        for output in range(len(raw_prediction)):
            tree = trees[iteration * len(raw_prediction) + output]
            leaves = find_leaves(tree, X, category_sets[iteration * len(raw_prediction) + output])
            raw_prediction[output] += sign * tree["value"][leaves]

    for iteration in range(params["n_estimators"]):
        dropped = dropped_iterations(weights, iteration, params) if is_dart else []
        for i in dropped:
            add_trees(i, -1.0)
        rate = 1.0 if is_forest else params["learning_rate"]
        if is_dart:
            rate = dart_rate(len(dropped), params)
        gradients, hessians = compute_gradients(
            raw_prediction, y, weight, params, query_sizes, iteration
        )
        rows, gradients, hessians, is_amplified = rows_in_use(
            gradients, hessians, iteration, params, query_sizes
        )
        constant_hessian = are_ones and not is_amplified
        for output, (g, h) in enumerate(zip(gradients, hessians)):
            key = stream_key(params["seed"], iteration, output)
            quantized = quantize(g, h, key, params, constant_hessian, rows)
            category_sets.append([])
            tree, leaf_rows = grow_tree(
                matrix, quantized, rows, params, iteration, output, category_sets[-1]
            )
            if params["objective"] in QUANTILE_OBJECTIVES:
                target = y if y.ndim == 1 else y[output]
                score = raw_prediction[output]
                set_quantile_leaves(tree, leaf_rows, score, target, weight, params, rate)
            else:
                set_leaf_values(tree, leaf_rows, g, h, quantized, params, rate)
            linear.append({})
            if params["linear_tree"]:
                linear[-1] = fit_linear_leaves(tree, leaf_rows, X, g, h, params)
            if not is_forest:
                raw_prediction[output] += tree_values(tree, linear[-1], X, category_sets[-1])
            trees.append(tree)
        weights.append(rate)
        factor = len(dropped) / (len(dropped) + dart_unit(params))
        for i in dropped:
            weights[i] *= factor
            for tree in trees[i * len(raw_prediction) : (i + 1) * len(raw_prediction)]:
                tree["value"] *= factor
            add_trees(i, 1.0)
    if is_forest:
        for tree in trees:
            tree["value"] /= params["n_estimators"]
    return ReferenceModel(params["objective"], base_score, trees, category_sets, linear)


# DART (Rashmi and Gilad-Bachrach, 2015): trees grow as if some of the earlier ones, the dropped,
# were not there; then those count for less. weights: of each iteration's trees so far.

DROP = 4 * 2**32  # the stream of its draws, beside those of samples


def dropped_iterations(weights, iteration: int, params) -> list[int]:
    n = len(weights)
    key = stream_key(params["seed"], iteration, DROP)
    uniform = row_hash(key, np.arange(n + 1)) * 2.0**-32
    if n == 0 or uniform[0] < params["skip_drop"]:
        return []
    limit = params["max_drop"] if params["max_drop"] > 0 else n
    rate = min(params["drop_rate"], params["max_drop"] / n if params["max_drop"] > 0 else 1.0)
    share = np.ones(n)
    if not params["uniform_drop"]:
        share = np.array(weights) / (ordered_sum(weights) / n)
    return np.flatnonzero(uniform[1:] < rate * share)[:limit].tolist()


def dart_unit(params) -> float:
    return params["learning_rate"] if params["xgboost_dart_mode"] else 1.0


def dart_rate(n_dropped: int, params) -> float:
    return params["learning_rate"] / ((dart_unit(params) if n_dropped else 1.0) + n_dropped)


# ----------------------------------------------------------------------------------- 14 metrics
# LightGBM's names and formulas; deviances are scikit-learn's. Of raw scores s and predictions p,
# [n_outputs][n_samples], and a target y. What has a weight of zero counts for nothing.

LEAST_MEAN = 1e-10  # a positive mean that is predicted counts as no less than this


def l2(s, p, y, params):
    return (p[0] - y) * (p[0] - y)


def l1(s, p, y, params):
    return np.abs(p[0] - y)


def mape(s, p, y, params):
    return np.abs(p[0] - y) / at_least_1(y)


def huber(s, p, y, params):
    d, alpha = np.abs(p[0] - y), params["alpha"]
    return np.where(d <= alpha, 0.5 * d * d, alpha * (d - 0.5 * alpha))


def fair(s, p, y, params):
    c = params["fair_c"]
    x = np.minimum(np.abs(p[0] - y) / c, 1e300)
    return c * c * (x - log(1.0 + x))


def quantile(s, p, y, params):
    d, alpha = y - p[0], params["alpha"]
    return np.where(d < 0, (alpha - 1.0) * d, alpha * d)


def cross_entropy(s, p, y, params):
    p = np.minimum(np.maximum(p[0], 1e-15), 1.0 - 1e-15)
    return -(y * log(p) + (1.0 - y) * log(1.0 - p))


def poisson(s, p, y, params):
    mean = np.maximum(p[0], LEAST_MEAN)
    return mean - y * finite_log(mean)


def gamma(s, p, y, params):
    mean = np.maximum(p[0], LEAST_MEAN)
    return y / mean + finite_log(mean)


def tweedie(s, p, y, params):
    a, b = 1.0 - params["tweedie_variance_power"], 2.0 - params["tweedie_variance_power"]
    log_mean = finite_log(np.maximum(p[0], LEAST_MEAN))
    return exp(b * log_mean) / b - y * exp(a * log_mean) / a


def poisson_deviance(s, p, y, params):
    mean = np.maximum(p[0], LEAST_MEAN)
    return 2.0 * (y * finite_log(y / mean) - y + mean)


def gamma_deviance(s, p, y, params):
    ratio = y / np.maximum(p[0], LEAST_MEAN)
    return 2.0 * (ratio - finite_log(ratio) - 1.0)


def tweedie_deviance(s, p, y, params):
    a, b = 1.0 - params["tweedie_variance_power"], 2.0 - params["tweedie_variance_power"]
    best = np.where(y > 0, exp(b * finite_log(y)) / (a * b), 0.0)
    return 2.0 * (best + tweedie(s, p, y, params))


def aft_nloglik(s, p, y, params):
    z = noise(s[0], y, params)
    likelihood = NOISE[params["aft_loss_distribution"]].likelihood(z, y > 0)
    of_time = likelihood / (params["aft_loss_distribution_scale"] * np.abs(y))
    likelihood = np.where(y > 0, of_time, likelihood)
    return -log(np.where(likelihood > 1e-12, likelihood, 1e-12))


def binary_logloss(s, p, y, params):
    p = np.minimum(np.maximum(p[0], 1e-15), 1.0 - 1e-15)
    return -log(np.where(y > 0, p, 1.0 - p))


def binary_error(s, p, y, params):
    return ((s[0] > 0) != (y > 0)).astype(np.float64)


def multi_logloss(s, p, y, params):
    return -log(np.maximum(p[y.astype(np.int64), np.arange(len(y))], 1e-15))


def multi_error(s, p, y, params):
    return (s.argmax(axis=0) != y).astype(np.float64)


def ndcg(y, gain, k):
    """Of a query's labels y in the order of their scores."""
    discount = 1.0 / log2(2.0 + np.arange(min(k, len(y))))
    best = ordered_sum(gain[-np.sort(-y)[:k]] * discount)
    return ordered_sum(gain[y[:k]] * discount) / best if best > 0 else 1.0


def average_precision_at(y, gain, k):
    """Of a query's labels y in the order of their scores; what is not 0 is relevant."""
    relevant = y > 0
    precision = np.cumsum(relevant) / np.arange(1.0, len(y) + 1)
    n_found = min(k, len(y), relevant.sum())
    return ordered_sum((relevant * precision)[:k]) / n_found if n_found else 1.0


def auc(positive, negative):
    """Of the weights of rows in groups of equal scores, the best first; fixed point."""
    before = (np.cumsum(positive) - positive).astype(np.float64)
    area = ordered_sum(negative * (0.5 * positive + before))
    return area / (float(positive.sum()) * float(negative.sum()))


def average_precision(positive, negative):
    found, seen = np.cumsum(positive), np.cumsum(positive + negative)
    return ordered_sum(positive * (found / np.maximum(seen, 1))) / float(positive.sum())


def cox_nloglik(s, y, weight, params):
    """The mean over events of -log of the partial likelihood."""
    order = np.lexsort((weight, s, np.abs(y)))[::-1]  # the last first, in an order of its own
    s, y, weight = s[order], y[order], weight[order]
    largest = s.max()
    at_risk = np.add.accumulate(weight * exp(s - largest))
    time = np.abs(y)
    last = np.searchsorted(-time, -time, side="right") - 1  # of the rows of that time
    losses = weight * (finite_log(at_risk[last]) + largest - s)
    is_event = y > 0
    return ordered_sum(losses[is_event]) / ordered_sum(weight[is_event])


def c_index(s, y, weight, params):
    """Harrell's: of the pairs of which it is known who had the event first, the share in order.

    Pairs of one score count half, a pair as the product of its weights.
    """
    sign = -1.0 if params["objective"] == "cox" else 1.0
    fixed = to_fixed(weight, fixed_exponent(weight.max(), len(y)))
    in_order, pairs = 0.0, 0.0
    events = np.unique(np.stack([-y, s])[:, y > 0], axis=1).T  # the last first, then by score
    for time, score in zip(-events[:, 0], events[:, 1]):
        own = fixed[(y == time) & (s == score)].sum()
        later = (np.abs(y) > time) | (y == -time)
        tied = later & (s == score)
        right = later & (sign * s > sign * score)
        in_order += float(own) * (float(fixed[right].sum()) + 0.5 * float(fixed[tied].sum()))
        pairs += float(own) * float(fixed[later].sum())
    return in_order / pairs if pairs > 0 else 0.5


ROW_METRICS = {
    **{"l2": l2, "rmse": l2, "r2": l2, "l1": l1, "mape": mape},
    **{"huber": huber, "fair": fair, "quantile": quantile, "cross_entropy": cross_entropy},
    **{"poisson": poisson, "gamma": gamma, "tweedie": tweedie},
    **{"poisson_deviance": poisson_deviance, "gamma_deviance": gamma_deviance},
    **{"tweedie_deviance": tweedie_deviance},
    **{"binary_logloss": binary_logloss, "binary_error": binary_error},
    **{"aft_nloglik": aft_nloglik},
    **{"multi_logloss": multi_logloss, "multi_error": multi_error},
}
ORDER_METRICS = {"auc": auc, "average_precision": average_precision}
TIME_METRICS = {"cox_nloglik": cox_nloglik, "c_index": c_index}
QUERY_METRICS = {"ndcg": ndcg, "map": average_precision_at}


def mean_loss(losses, weight) -> float:
    losses = np.where(weight > 0, losses, 0.0)
    if not np.isfinite(losses * weight).all():
        return math.inf
    return weighted_mean(losses, weight)


def metric(name, s, y, weight, params, query_sizes=None, at=0) -> float:
    """A metric of all rows; `name` is in one of the tables, `at` is the k of a query's metric."""
    weight = np.ones(len(y)) if weight is None else weight
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if name in ORDER_METRICS:
            return ORDER_METRICS[name](*weights_by_score(s[0], y, weight))
        if name in TIME_METRICS:
            return float(TIME_METRICS[name](s[0], y, weight, params))
        if name in QUERY_METRICS:
            return query_metric(name, s[0], y, weight, params, query_sizes, at)
        p = link(s, params["objective"])
        mean = mean_loss(ROW_METRICS[name](s, p, y, params), weight)
        if name == "rmse":
            return math.sqrt(mean)
        if name == "r2":  # of the mean squared error of the best constant
            constant = np.full_like(s, mean_loss(y, weight))
            of_constant = mean_loss(l2(s, constant, y, params), weight)
            return 1.0 - mean / of_constant if of_constant > 0 else float(mean == 0)
        return mean


def weights_by_score(s, y, weight):
    """The weights of positive and negative rows in groups of equal scores, the best first."""
    fixed = to_fixed(weight, fixed_exponent(weight.max(), len(y)))
    _, group = np.unique(-s, return_inverse=True)
    positive, negative = np.zeros((2, group.max() + 1), np.int64)
    np.add.at(positive, group[y > 0], fixed[y > 0])
    np.add.at(negative, group[y == 0], fixed[y == 0])
    return positive, negative


def query_metric(name, s, y, weight, params, query_sizes, at) -> float:
    """The mean over queries; a query's weight is the mean of its rows'."""
    gain = np.asarray(params["label_gain"], np.float64)
    values, weights, start = [], [], 0
    for size in query_sizes:
        rows = slice(start, start + int(size))
        labels = y[rows][np.argsort(-s[rows], kind="stable")].astype(np.int64)  # as in training
        values.append(QUERY_METRICS[name](labels, gain, at))
        weights.append(ordered_sum(weight[rows]) / size)
        start = rows.stop
    return mean_loss(np.array(values), np.array(weights))
