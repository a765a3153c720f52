"""Simulated data: shapes after the eight sets of the paper (arXiv 2207.09682, table 2), and more.

| shape   | features | what they look like                               | target              |
|:--------|---------:|:--------------------------------------------------|:--------------------|
| higgs   |       28 | 9 momenta, 8 angles, 4 tags, 7 masses from them   | binary, 53 % are 1  |
| epsilon |    2,000 | dense and weak, every row of length 1             | binary, 50 %        |
| kitsune |      115 | 23 statistics of traffic in 5 time windows        | binary, 20 %        |
| criteo  |       65 | 13 counts, 40 % missing; 26 rates, 26 frequencies | binary, 25 %        |
| bosch   |      968 | 94 % missing: a part passes 3 of 52 stations      | binary, 0.58 %      |
| year    |       90 | 12 averages, their 78 products: heavy tails       | year, long tail     |
| yahoo   |      519 | in [0, 1], half of them 0                         | 0-4, 24 in a query  |
| msltr   |      136 | 25 counts and scores of 5 texts                   | 0-4, 120 in a query |
| plain   |       20 | normal (any number of them: see `make`)           | binary, 50 %        |
| lowcard |       60 | 2 to 16 values each                               | binary, 50 %        |
| classes |       30 | normal                                            | 20 classes          |

All are made alike. Normal latent factors give the features (each mixes a few factors with noise,
then looks as above) and the target (a sum of many products, waves and steps of factors with slowly
falling weights, and noise). So no feature holds the target, features are correlated, and a GBDT
keeps learning for hundreds of trees.

`make(shape, rows, seed)` returns `rows` training rows and 20 % of the whole as test rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from sources import Data, n_test_rows

BLOCK = 65_536  # rows made at a time: scratch stays small and in the last-level cache

# Gives mixed factors, standard normal (n, F), their look, in place. The first generator is seeded
# alike for every block and decides what belongs to a feature, the second what belongs to a row.
Observe = Callable[[np.ndarray, Generator, Generator], None]


def _observe_higgs(base: np.ndarray, plan: Generator, _: Generator) -> None:
    momenta, angles, tags, masses = base[:, :9], base[:, 9:17], base[:, 17:21], base[:, 21:]
    np.exp(0.5 * momenta, out=momenta)
    angles[:] = np.pi * (2.0 * _uniform(angles) - 1.0)
    tags[:] = np.float32(1.09) * ((tags > 0.0).astype(np.float32) + (tags > 1.0))
    for i in range(masses.shape[1]):
        p, q = plan.choice(9, 2, replace=False)
        opening = 1.1 - np.cos(angles[:, p % 8] - angles[:, q % 8])
        masses[:, i] = np.sqrt(momenta[:, p] * momenta[:, q] * opening) + 0.2 * np.abs(masses[:, i])


def _observe_epsilon(base: np.ndarray, _: Generator, __: Generator) -> None:
    base /= np.linalg.norm(base, axis=1, keepdims=True)


def _observe_kitsune(base: np.ndarray, plan: Generator, _: Generator) -> None:
    n_kinds = 23
    for window in range(1, 5):  # each window is mostly the one before it
        here = base[:, window * n_kinds : (window + 1) * n_kinds]
        here *= 0.45
        here += 0.893 * base[:, (window - 1) * n_kinds : window * n_kinds]
    tail = plan.uniform(0.5, 2.0, base.shape[1]).astype(np.float32)
    np.exp(base * tail, out=base)
    often_zero = plan.random(base.shape[1]) < 0.3
    base[:, often_zero] = np.maximum(base[:, often_zero] - 1.0, 0.0)


def _observe_criteo(base: np.ndarray, plan: Generator, noise: Generator) -> None:
    counts, rates, sizes = base[:, :13], base[:, 13:39], base[:, 39:]
    counts[:] = np.floor(np.exp(1.5 * counts + 1.0))
    missing = plan.uniform(0.1, 0.7, counts.shape[1]).astype(np.float32)
    counts[noise.random(counts.shape, dtype=np.float32) < missing] = np.nan
    n_categories = np.exp(plan.uniform(np.log(10.0), np.log(1e5), 26)).astype(np.float32)
    category = np.floor(n_categories * _uniform(rates) ** 2)
    rates[:] = 0.05 + 0.4 * category / n_categories
    sizes[:] = np.floor(1e6 / (1.0 + category * np.exp(0.3 * np.round(sizes))))


def _observe_bosch(base: np.ndarray, plan: Generator, _: Generator) -> None:
    n_stations, n_routes = 52, 200
    station = np.sort(plan.integers(n_stations, size=base.shape[1]))
    visits = plan.random((n_routes, n_stations)).argsort(axis=1) < 3
    route = np.minimum((_uniform(base[:, 0]) * n_routes).astype(np.int64), n_routes - 1)
    np.round(0.1 * base, 3, out=base)
    base[~visits[route][:, station]] = np.nan


def _observe_year(base: np.ndarray, plan: Generator, _: Generator) -> None:
    averages, products = base[:, :12], base[:, 12:]
    i, j = np.triu_indices(12)
    scale = plan.lognormal(3.0, 1.0, 78).astype(np.float32)
    products[:] = scale * (averages[:, i] * averages[:, j] + 0.5 * np.sinh(products))
    averages *= np.linspace(50.0, 5.0, 12, dtype=np.float32)


def _observe_yahoo(base: np.ndarray, plan: Generator, _: Generator) -> None:
    zero_below = plan.uniform(0.1, 0.9, base.shape[1]).astype(np.float32)
    base[:] = _uniform(base)
    base[base < zero_below] = 0.0


def _observe_msltr(base: np.ndarray, plan: Generator, _: Generator) -> None:
    stream = np.repeat(np.arange(5), 25)  # of the first 125 features: five looks at 25 kinds
    for kind in range(25):
        columns = np.flatnonzero(np.arange(125) % 25 == kind)
        base[:, columns] = 0.7 * base[:, columns] + 0.7 * base[:, columns[:1]]
    length = plan.uniform(0.5, 3.0, 5)[stream].astype(np.float32)
    counted = np.arange(125) % 25 < 12
    base[:, :125] = np.exp(0.8 * base[:, :125] + length)
    base[:, :125][:, counted] = np.floor(base[:, :125][:, counted])
    base[:, 125:] = np.floor(20.0 * np.exp(base[:, 125:]))


def _observe_plain(_: np.ndarray, __: Generator, ___: Generator) -> None:
    """Leave them as they are."""


def _observe_lowcard(base: np.ndarray, plan: Generator, _: Generator) -> None:
    n_values = plan.integers(2, 17, base.shape[1]).astype(np.float32)
    base[:] = np.floor(n_values * _uniform(base))


@dataclass(frozen=True)
class Shape:
    """How one simulated set looks; see the table at the top of the module.

    `shares` are those of the classes or relevance labels, lowest first; `signal` is the standard
    deviation of the learnable part, that of the noise being 1. With `n_classes` each class has a
    margin of its own, and the largest one wins.
    """

    n_features: int
    task: str
    observe: Observe
    signal: float
    shares: tuple[float, ...] = ()
    query_size: int = 0
    n_classes: int = 0
    n_latent: int = 16
    n_terms: int = 60


_YAHOO_LABELS = (0.26, 0.36, 0.28, 0.08, 0.02)
_MSLTR_LABELS = (0.52, 0.32, 0.13, 0.02, 0.01)

EIGHT = {
    "higgs": Shape(28, "binary", _observe_higgs, 4.0, (0.47, 0.53), n_latent=12, n_terms=40),
    "epsilon": Shape(2_000, "binary", _observe_epsilon, 3.0, (0.5, 0.5), n_latent=64),
    "kitsune": Shape(115, "binary", _observe_kitsune, 3.0, (0.8, 0.2)),
    "criteo": Shape(65, "binary", _observe_criteo, 3.0, (0.75, 0.25)),
    "bosch": Shape(968, "binary", _observe_bosch, 2.0, (0.9942, 0.0058)),
    "year": Shape(90, "regression", _observe_year, 1.5, n_latent=12),
    "yahoo": Shape(519, "rank", _observe_yahoo, 2.0, _YAHOO_LABELS, query_size=24, n_latent=32),
    "msltr": Shape(136, "rank", _observe_msltr, 2.5, _MSLTR_LABELS, query_size=120, n_latent=24),
}
SHAPES = EIGHT | {
    "plain": Shape(20, "binary", _observe_plain, 3.0, (0.5, 0.5)),
    "lowcard": Shape(60, "binary", _observe_lowcard, 3.0, (0.5, 0.5)),
    "classes": Shape(30, "multiclass", _observe_plain, 3.0, n_classes=20),
}


def make(name: str, rows: int, seed: int = 0, n_features: int | None = None) -> Data:
    """Simulate `rows` training rows of a shape, and the test rows that go with them.

    `n_features` is for shapes whose features are all of one kind, such as plain.

    >>> data = make("higgs", rows=1000, seed=0)
    >>> data.train.X.shape, data.test.X.shape
    ((1000, 28), (250, 28))
    """
    shape = SHAPES[name]
    if n_features is not None:
        shape = replace(shape, n_features=n_features)
    n = rows + n_test_rows(rows)
    group = _query_sizes(shape, rows, n, seed)
    query_factors = _query_factors(shape, group, n, seed)
    X = np.empty((n, shape.n_features), dtype=np.float32)
    margins = np.empty((max(shape.n_classes, 1), n), dtype=np.float32)
    for block, start in enumerate(range(0, n, BLOCK)):
        here = slice(start, min(start + BLOCK, n))
        noise = np.random.default_rng([seed, 2, block])
        latent = noise.standard_normal((shape.n_latent, here.stop - start), dtype=np.float32)
        latent[: len(query_factors)] = query_factors[:, here]
        X[here] = _features(shape, latent, seed, noise)
        for k, margin in enumerate(margins):
            plan = np.random.default_rng([seed, 3, k])
            margin[here] = shape.signal * _signal(shape, latent, plan)
            margin[here] += _unit_logistic(noise, here.stop - start)
    return Data(name, shape.task, X, _target(shape, margins), rows, group)


def _target(shape: Shape, margins: np.ndarray) -> np.ndarray:
    if shape.n_classes:
        return margins.argmax(axis=0)
    return _labels(margins[0], shape.shares) if shape.shares else _release_year(margins[0])


def _query_sizes(shape: Shape, n_train: int, n: int, seed: int) -> np.ndarray | None:
    """Query sizes around `query_size`, widely spread; the last of each part is cut to fit."""
    if not shape.query_size:
        return None
    rng = np.random.default_rng([seed, 0])

    def fill(n_rows: int) -> np.ndarray:
        spread = 0.5
        typical = shape.query_size * np.exp(-0.5 * spread**2)
        sizes = 1 + rng.lognormal(np.log(typical), spread, n_rows).astype(np.int64)
        ends = np.minimum(np.cumsum(sizes), n_rows)
        return np.diff(ends[: np.searchsorted(ends, n_rows) + 1], prepend=0)

    return np.concatenate([fill(n_train), fill(n - n_train)])


def _query_factors(shape: Shape, group: np.ndarray | None, n: int, seed: int) -> np.ndarray:
    """The factors that all documents of a query share: (a quarter of the latent ones, n)."""
    if group is None:
        return np.empty((0, n), dtype=np.float32)
    rng = np.random.default_rng([seed, 1])
    factors = rng.standard_normal((shape.n_latent // 4, len(group)), dtype=np.float32)
    return np.repeat(factors, group, axis=1)


def _features(shape: Shape, latent: np.ndarray, seed: int, noise: Generator) -> np.ndarray:
    """Mix about three factors and some noise into each feature, then give it its look."""
    plan = np.random.default_rng([seed, 4])
    mix = plan.standard_normal((shape.n_latent, shape.n_features), dtype=np.float32)
    mix *= plan.random(mix.shape) < 3.0 / shape.n_latent
    mix[plan.integers(shape.n_latent, size=shape.n_features), np.arange(shape.n_features)] += 1.0
    mix *= 0.9 / np.maximum(np.linalg.norm(mix, axis=0), 1e-3)
    base = latent.T @ mix
    base += 0.436 * noise.standard_normal(base.shape, dtype=np.float32)
    shape.observe(base, plan, noise)
    return base


def _signal(shape: Shape, latent: np.ndarray, plan: Generator) -> np.ndarray:
    """The learnable part of the target, of about unit variance."""
    terms: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (
        lambda a, b: np.tanh(1.5 * a * b),
        lambda a, b: np.sin(2.0 * a + b),
        lambda a, b: np.where(a > 0.5, b, -0.5 * b),
        lambda a, b: np.abs(a) - np.abs(b),
    )
    total = np.zeros(latent.shape[1], dtype=np.float32)
    weights = np.arange(1, shape.n_terms + 1, dtype=np.float32) ** -0.5
    for i, weight in enumerate(weights):
        a, b = plan.choice(shape.n_latent, 2, replace=False)
        total += weight * terms[i % len(terms)](latent[a], latent[b])
    return total / np.sqrt(0.5 * np.sum(weights**2), dtype=np.float32)


def _labels(margin: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Cut the margin at the quantiles that give each label its share."""
    cuts = np.quantile(margin, np.cumsum(shares)[:-1])
    return np.searchsorted(cuts, margin).astype(np.int64)


def _release_year(margin: np.ndarray) -> np.ndarray:
    """A year up to 2011 with most rows late and a long tail back to 1922."""
    year = 2011.0 - 8.0 * np.exp(0.45 * margin.astype(np.float64))
    return np.clip(np.rint(year), 1922.0, 2010.0)


def _unit_logistic(rng: Generator, n: int) -> np.ndarray:
    """Logistic noise of standard deviation 1."""
    u = rng.uniform(1e-6, 1.0 - 1e-6, n)
    return (np.log(u / (1.0 - u)) * (np.sqrt(3.0) / np.pi)).astype(np.float32)


def _uniform(normal: np.ndarray) -> np.ndarray:
    """Map standard normal values to [0, 1] by their distribution function."""
    from scipy.special import ndtr

    return np.asarray(ndtr(normal))
