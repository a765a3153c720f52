"""The recipe of docs/ray.md, as it stands there.

Swept: one and three workers, an error of one. Against: a local fit. Tolerance: none. Skipped where
Ray is not installed.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import hurting_data, targets

from qgbdt import QGBDTRegressor
from qgbdt.errors import WorkerLost

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray")

pytestmark = pytest.mark.timeout(120)

RECIPE = (Path(__file__).parents[1] / "docs" / "ray.md").read_text()
X = hurting_data(600)
Y, _ = targets(X, "regression")
ROWS = np.split(np.arange(600), [100, 350, 351, 500])


@pytest.fixture(scope="module")
def fit():
    names = {}
    (code,) = re.findall(r"```python\n(.*?)```", RECIPE, re.DOTALL)
    exec(code, names)
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield names["fit"]
    ray.shutdown()


def loader(y):
    """Reads a block; it carries the data, and nothing of this module."""
    blocks = [(X[rows], y[rows]) for rows in ROWS]
    return lambda number: blocks[number]


@pytest.mark.parametrize("world_size", [1, 3])
def test_the_model_is_that_of_a_local_fit(world_size, fit):
    estimator = QGBDTRegressor(n_estimators=3, n_jobs=1)
    fitted = fit(estimator, loader(Y), len(ROWS), world_size)
    assert fitted.booster_ == QGBDTRegressor(n_estimators=3).fit(X, Y).booster_


def test_an_error_of_a_worker(fit):
    with pytest.raises((ValueError, WorkerLost), match="contains NaN"):
        fit(QGBDTRegressor(n_jobs=1), loader(np.where(X[:, 0] > 0, Y, np.nan)), len(ROWS), 3)
