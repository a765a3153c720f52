"""Rounding gradients: the theory of docs/quantization.md, and bits that choose themselves.

Statements about random rounding are simulated, with tolerances of four to five standard errors of
the simulation. The trainer's choice of bits and its report: against tests/reference.py, equal.
"""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
import reference as ref
from conftest import (
    N_CLASSES,
    OBJECTIVES,
    feature_names,
    hurting_data,
    native_params,
    targets,
)
from sklearn.exceptions import NotFittedError

from qgbdt import QGBDTClassifier, QGBDTRegressor, _core
from qgbdt.plotting import plot_quantization

TAILS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "cubed": lambda rng, n: rng.normal(size=n) ** 3,
    "rare": lambda rng, n: (rng.random(n) < 0.01) - 0.01,
    "outlier": lambda rng, n: np.r_[100.0, rng.normal(size=n - 1)],
}


def gradients(tail, n=1 << 15, seed=0):
    return TAILS[tail](np.random.default_rng(seed), n).astype(np.float32)


def rounded(g, inverse_step, seed):
    """Stochastically rounded gradients, in units of the gradient."""
    x = g.astype(np.float64) * inverse_step
    return (np.floor(x) + (np.random.default_rng(seed).random(x.shape) < x - np.floor(x))) / (
        inverse_step
    )


def scale(g, bits):
    levels = ref.levels_of_bits(bits)
    return ref.choose_scale(g, levels, ref.max_levels(len(g), bits))


# ----------------------------------------------------------------------------- what rounding costs


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("bits", [2, 3, 5])
def test_a_leaf_sum_is_unbiased_and_its_variance_is_that_of_the_fractions(tail, bits):
    g = gradients(tail, 2000)
    step, inverse, _ = scale(g, bits)
    fraction = np.abs(g) * inverse % 1.0
    variance = step**2 * (fraction * (1 - fraction)).sum()
    assert variance <= len(g) * step**2 / 4
    repeats = 2000
    errors = np.array(
        [rounded(g, inverse, seed).sum() - g.sum(dtype=float) for seed in range(repeats)]
    )
    assert abs(errors.mean()) < 5 * math.sqrt(variance / repeats)
    assert errors.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / repeats))


@pytest.mark.parametrize("tail", sorted(TAILS.keys() - {"rare"}))  # it has two values in all
@pytest.mark.parametrize("bits", range(2, 9))
def test_the_noise_is_known_from_counts_of_magnitudes(tail, bits):
    g = gradients(tail)
    _, inverse, _ = scale(g, bits)
    fraction = np.abs(g.astype(np.float64)) * inverse % 1.0
    exact = (fraction * (1 - fraction)).sum() / np.square(g * inverse, dtype=np.float64).sum()
    # within a power of two, values are taken as even
    assert ref.rounding_noise(g, inverse) == pytest.approx(exact, rel=0.35, abs=1e-3)


@pytest.mark.parametrize(("bits", "noise"), [(3, 0.30), (4, 0.054), (5, 0.012)])
def test_normal_gradients_lose_what_the_steps_say(bits, noise):
    """A step of 4 rms / levels: step^2 / 6 of the mean square."""
    g = gradients("normal")
    assert 16 / 6 / ref.levels_of_bits(bits) ** 2 == pytest.approx(noise, rel=0.02)
    assert ref.rounding_noise(g, scale(g, bits)[1]) == pytest.approx(noise, rel=0.1)


@pytest.mark.parametrize("positive", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_calibrated_logistic_gradients_lose_at_most_two_steps(positive, bits):
    """E|g| is 2 p (1 - p), twice the mean square, and f (1 - f) step^2 is at most |g| step."""
    rng = np.random.default_rng(0)
    p = np.clip(rng.beta(2 * positive, 2 * (1 - positive), 1 << 16), 1e-4, 1 - 1e-4)
    g = (p - (rng.random(p.shape) < p)).astype(np.float32)
    step, inverse, _ = scale(g, bits)
    assert ref.rounding_noise(g, inverse) < 2 * step


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01])
def test_noise_adds_its_variance_of_a_row_to_every_gain(share):
    """Whatever the sizes of the sides: to a cut that means nothing, as to one that means much."""
    n, variance, repeats = 4000, 1 / 4, 4000
    left = np.arange(n) < share * n
    for signal in (0.0, 0.3):
        g = np.full(n, 0.5) + signal * left  # halfway between levels: variance 1/4
        g -= g.mean()
        fraction = g - np.floor(g)
        variance = fraction * (1 - fraction)
        gain = g[left].sum() ** 2 / left.sum() + g[~left].sum() ** 2 / (~left).sum()
        expected = variance[left].mean() * (~left).mean() + variance[~left].mean() * left.mean()
        rng = np.random.default_rng(1)
        # sums of independent roundings of equal values are binomial
        sums = [
            sum(
                np.floor(value) * count + rng.binomial(count, value - np.floor(value), repeats)
                for value, count in zip(*np.unique(g[side], return_counts=True))
            )
            for side in (left, ~left)
        ]
        noisy = (
            sums[0] ** 2 / left.sum() + sums[1] ** 2 / (~left).sum() - (sums[0] + sums[1]) ** 2 / n
        )
        assert noisy.mean() - gain == pytest.approx(expected, abs=5 * noisy.std() / repeats**0.5)
        # its standard deviation is that of the square of a normal: 2 sqrt(gain variance)
        assert noisy.std() == pytest.approx(
            math.sqrt(4 * gain * expected + 2 * expected**2), rel=0.1
        )


def test_of_two_cuts_the_worse_wins_as_often_as_their_noise_says():
    """Gains g > k of cuts on unrelated features: about Phi(-(g - k) / (2 sqrt(v (g + k))))."""
    n, repeats = 400, 3000
    rng = np.random.default_rng(0)
    first, second = rng.random((2, n)) < 0.5
    g = 0.4 * first + 0.3 * second + rng.random(n)  # fractions of all kinds on all sides
    g -= g.mean()
    low = np.floor(g)
    up = g - low

    def gains(values):
        total = values.sum(axis=-1)
        found = []
        for side in (first, second):
            left = values[..., side].sum(axis=-1)
            found.append(left**2 / side.sum() + (total - left) ** 2 / (~side).sum() - total**2 / n)
        return np.array(found)

    better, worse = gains(g)
    variance = (up * (1 - up)).mean()
    z = (better - worse) / (2 * math.sqrt(variance * (better + worse)))
    expected = 0.5 * math.erfc(z / math.sqrt(2))
    flips = sum(
        (np.subtract(*gains(low + (rng.random((100, n)) < up))) < 0).sum()
        for _ in range(repeats // 100)
    )
    assert 0.05 < expected < 0.4
    assert flips / repeats == pytest.approx(expected, abs=0.04)


def test_sixteen_random_bits_are_enough():
    """A probability is off by at most 2^-17, a sum of n rows by n 2^-17 steps.

    That is below the sqrt(n) / 4 of its noise up to n = 2^30: half of log2(n) bits would do.
    """
    uniforms = (np.arange(1 << 16) + 0.5) / 65536.0
    fractions = np.random.default_rng(0).random(2000)
    probability = np.searchsorted(uniforms, fractions) / 65536.0  # of u < fraction
    assert np.abs(probability - fractions).max() <= 2**-17
    assert math.sqrt(2**30) / 4 >= 2**30 * 2**-17


# ------------------------------------------------------------------- bits that choose themselves


@pytest.mark.parametrize("tail", TAILS)
def test_auto_takes_the_fewest_bits_that_are_quiet_enough(tail):
    g = gradients(tail)
    noises = {bits: ref.rounding_noise(g, scale(g, bits)[1]) for bits in range(2, 9)}
    assert all(less >= more for less, more in pairwise(noises.values()))
    assert ref.choose_bits(g) == min(b for b, noise in noises.items() if noise <= ref.NOISE_SHARE)


def test_auto_takes_what_there_is_where_rows_leave_few_levels(monkeypatch):
    monkeypatch.setattr(ref, "max_levels", lambda n_samples, bits: 1)
    assert ref.choose_bits(gradients("normal")) == 8


def test_the_trainer_chooses_for_all_kinds_of_gradients():
    """Those of a first tree of least squares: the mean less the target."""
    rng = np.random.default_rng(0)
    X = np.arange(300.0)[:, None]
    params = native_params(num_leaves=2, n_estimators=1, grad_bits="auto")
    chosen = []
    for _ in range(400):
        y = rng.normal(size=len(X)) ** rng.integers(1, 6) + (rng.random(len(X)) < rng.random())
        y = np.sign(y) if rng.random() < 0.2 else y
        g = (ref.start_scores(y, np.ones(len(y)), params)[0] - y).astype(np.float32)
        matrix = _core.BinnedMatrix(X, 255, 1)
        report = _core.train(matrix, y, None, None, feature_names(X), params, 1)[2]
        noise = ref.rounding_noise(g, scale(g, 3)[1])
        chosen.append((int(report["bits"][0]), abs(noise - ref.NOISE_SHARE) < 0.005))
        assert report["bits"] == ref.choose_bits(g)
    assert {bits for bits, _ in chosen} >= {2, 3, 4}
    assert sum(is_close for _, is_close in chosen) > 5  # to where 3 bits become 4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_trainer_chooses_and_reports_as_the_reference(objective, monkeypatch):
    X = hurting_data(600)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    params = native_params(objective=objective, grad_bits="auto", n_estimators=4)
    chosen, quantize = [], ref.quantize

    def observed(g, *others):
        quantized = quantize(g, *others)
        noise = ref.rounding_noise(g, 1 / quantized.gradient_scale)
        chosen.append(
            (ref.choose_bits(g), quantized.gradient_scale, quantized.hessian_scale, noise)
        )
        return quantized

    monkeypatch.setattr(ref, "quantize", observed)
    expected = ref.train(
        X, y, sample_weight=weight, query_sizes=query_sizes, params=params | {"max_bin": 255}
    )
    matrix = _core.BinnedMatrix(X, 255, 2)
    model, _, report, _ = _core.train(matrix, y, weight, query_sizes, feature_names(X), params, 2)
    names = ("bits", "gradient_step", "hessian_step", "gradient_noise")
    assert list(zip(*(report[name].tolist() for name in names))) == chosen
    assert len(chosen) == 4 * (N_CLASSES if objective == "multiclass" else 1)
    np.testing.assert_array_equal(model.predict(X, 0, 4, True, 1), expected.predict_raw(X))


def test_a_fixed_number_of_bits_is_that_of_auto_where_it_chooses_the_same():
    X = hurting_data(2000)
    y, _ = targets(X, "binary")
    auto = QGBDTClassifier(n_estimators=1).fit(X, y)
    bits = int(auto.quantization_report_["bits"][0, 0])
    fixed = QGBDTClassifier(n_estimators=1, grad_bits=bits).fit(X, y)
    other = QGBDTClassifier(n_estimators=1, grad_bits=bits + 1).fit(X, y)
    assert auto.booster_.to_bytes() == fixed.booster_.to_bytes() != other.booster_.to_bytes()


def test_report_of_a_fit():
    X = hurting_data(2000)
    y, _ = targets(X, "multiclass")
    model = QGBDTClassifier(n_estimators=5).fit(X, y)
    report = model.quantization_report_
    assert {name: values.shape for name, values in report.items()} == dict.fromkeys(
        [
            "bits",
            "gradient_step",
            "hessian_step",
            "gradient_levels",
            "hessian_levels",
            "gradient_noise",
            "hessian_noise",
        ],
        (5, N_CLASSES),
    )
    assert report["gradient_noise"].max() <= ref.NOISE_SHARE
    assert (report["gradient_levels"] >= 2 ** (report["bits"] - 1) - 1).all()
    assert (report["gradient_levels"] <= 127).all()


def test_report_of_equal_hessians():
    X = hurting_data(500)
    y, _ = targets(X, "regression")
    report = QGBDTRegressor(n_estimators=2, grad_bits=6).fit(X, y).quantization_report_
    assert report["bits"].tolist() == [[6], [6]]
    assert report["hessian_step"].tolist() == [[1], [1]]
    assert report["hessian_levels"].tolist() == [[1], [1]]
    assert report["hessian_noise"].tolist() == [[0], [0]]


def test_plot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    X = hurting_data(500)
    y, _ = targets(X, "multiclass")
    model = QGBDTClassifier(n_estimators=3)
    with pytest.raises(NotFittedError):
        plot_quantization(model)
    report = model.fit(X, y).quantization_report_
    ax = plot_quantization(model)
    (right,) = (other for other in ax.figure.axes if other is not ax)
    for line, name in ((ax.lines[0], "gradient_noise"), (right.lines[0], "bits")):
        assert line.get_xdata().tolist() == [1, 2, 3]
        assert line.get_ydata().tolist() == report[name].mean(axis=1).tolist()
    given = pyplot.subplots()[1]
    assert plot_quantization(model, ax=given) is given
    pyplot.close("all")


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    model = QGBDTRegressor(n_estimators=1).fit(np.arange(50.0)[:, None], np.arange(50.0))
    with pytest.raises(ImportError, match=r"pip install qgbdt\[plot\]"):
        plot_quantization(model)
