"""What the tests of evaluation fit, and on what rows."""

import numpy as np
from conftest import CLASSES, RANKING, hurting_data, targets
from test_metrics import CASES

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.evaluation import DEFAULT_METRIC

DEFAULT_NAMES = {**DEFAULT_METRIC, "lambdarank": "ndcg@1"}


def rows(objective, n, seed, weighted=True):
    """X, y, weights and query sizes."""
    X = hurting_data(n, seed=seed)
    y, sizes = targets(X, objective, seed)
    if objective in CLASSES:
        y[:3] = range(3)
    weight = np.linspace(0, 2, n) if weighted else None
    return X, y, weight, sizes


def estimator_for(objective, **params):
    if objective in RANKING:
        return QGBDTRanker(objective=objective, **params)
    kind = QGBDTClassifier if objective in ("binary", *CLASSES) else QGBDTRegressor
    return kind(objective=objective, **params)


def training_data(objective, n=300, seed=0):
    """What fit is called with."""
    X, y, weight, sizes = rows(objective, n, seed)
    data = {"X": X, "y": y, "sample_weight": weight}
    return data | ({} if sizes is None else {"group": sizes})


def evaluation_data(objective, *given):
    """The arguments of fit for sets of rows(...)."""
    data = {
        "eval_set": [(X, y) for X, y, _, _ in given],
        "eval_sample_weight": [weight for _, _, weight, _ in given],
    }
    if objective in RANKING:
        data["eval_group"] = [sizes for *_, sizes in given]
    return data


def names_of(objective):
    """The metrics whose range the objective's targets are in."""
    families = {"regression": ("poisson", "gamma", "tweedie"), "gamma": ()}
    out = (*families.get(objective, ("gamma",)), "cross_entropy")
    names = [name for name, of in CASES if of == objective]
    return [name for name in names if name.removesuffix("_deviance") not in out]


def fitted_until(objective, params=None, fit=None, n_estimators=200, **changes):
    """A fit of few rows, which soon gets worse."""
    data = training_data(objective, 120)
    given = evaluation_data(objective, rows(objective, 150, 1))
    model = estimator_for(
        objective, **{"n_estimators": n_estimators, "learning_rate": 0.4, **(params or {})}
    )
    return model.fit(**{**data, **given, **(fit or {}), **changes}), data


class Nothing:
    def split(self, X, y, groups):
        yield np.arange(len(X)), np.arange(0)
