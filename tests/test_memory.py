"""Memory foretold: near the peak that a fit has, and as parameters and rows would have it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import hurting_data, sparse_data
from scipy import sparse

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.errors import ParameterError

MEASURED = """
import numpy as np
from pathlib import Path
from qgbdt import QGBDTRegressor

X = np.random.default_rng(0).normal(size=({rows}, {columns})).astype(np.float32)
y = X[:, 0] + X[:, 1] * X[:, 2]
model = QGBDTRegressor(n_estimators=3, num_leaves=255, n_jobs=2)
model.fit(X[:3000], y[:3000])
print(model.estimate_memory(X, y)["total"])

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])

Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
model.fit(X, y)
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="which takes its own memory")
@pytest.mark.parametrize(("rows", "columns"), [(400_000, 10), (20_000, 400)])
def test_near_the_peak(rows, columns):
    """Within 60 %: huge pages and the allocator's habits are not foretold."""
    command = [sys.executable, "-c", MEASURED.format(rows=rows, columns=columns)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    foretold, peak = map(int, output.split())
    assert peak / 1.6 < foretold < 1.6 * peak


def total(model, *data):
    return model.estimate_memory(*data)["total"]


def test_more_of_everything_takes_more():
    X = hurting_data(5000)
    model = QGBDTRegressor(n_jobs=1)
    plain = model.estimate_memory(X)
    assert plain["total"] == sum(plain[part] for part in ("bins", "rows", "histograms", "threads"))
    assert plain["bins"] > 5000 * X.shape[1]
    assert plain["rows"] == 5000 * (8 + 16 + 2 + 8)
    twice = model.estimate_memory(np.concatenate([X, X]))
    assert twice["rows"] == 2 * plain["rows"]
    assert twice["bins"] == pytest.approx(2 * plain["bins"], rel=0.1)
    for more in ({"n_jobs": 2}, {"grad_bits": 16}, {"data_sample_strategy": "goss"}):
        assert total(QGBDTRegressor(**{"n_jobs": 1} | more), X) > plain["total"]
    assert total(QGBDTRegressor(n_jobs=1, num_leaves=2), X) < plain["total"]
    cox = QGBDTRegressor(n_jobs=1, objective="cox").estimate_memory(X)
    assert cox["rows"] == plain["rows"] + 5000 * 28


def test_classes_and_columns_of_y():
    X, n = hurting_data(3000), 3000
    labels = np.arange(n) % 5
    rows = {
        "one": QGBDTClassifier().estimate_memory(X)["rows"],
        "two": QGBDTClassifier().estimate_memory(X, labels > 2)["rows"],
        "five": QGBDTClassifier().estimate_memory(X, labels)["rows"],
        "columns": QGBDTRegressor().estimate_memory(X, np.zeros((n, 3)))["rows"],
        "lists": QGBDTRegressor().estimate_memory(X.tolist(), [[0.0, 1.0, 2.0]] * n)["rows"],
        "numbers": QGBDTRegressor().estimate_memory(X, labels)["rows"],
    }
    assert rows["one"] == rows["two"] == rows["numbers"]
    assert rows["five"] == rows["one"] + n * 4 * 16
    assert rows["columns"] == rows["lists"] == rows["one"] + n * 2 * (16 + 8)


def test_what_is_mostly_the_same_takes_less():
    X, _ = sparse_data(8000, 300)
    dense = np.random.default_rng(0).normal(size=X.shape)
    assert total(QGBDTRegressor(), X) < 0.8 * total(QGBDTRegressor(), dense)
    assert total(QGBDTRegressor(), sparse.csr_array(np.nan_to_num(X))) < total(
        QGBDTRegressor(), dense
    )


def test_frames_lists_and_a_ranker():
    frame = pytest.importorskip("pandas").DataFrame({"a": ["x", "y"] * 50, "b": range(100)})
    assert total(QGBDTRegressor(), frame) > 0
    assert total(QGBDTRanker(), frame[["b"]].to_numpy().tolist()) > 0
    model = QGBDTRegressor()
    model.estimate_memory(frame)
    assert set(vars(model)) == set(vars(QGBDTRegressor()))  # nothing was set
    with pytest.raises(ParameterError, match="num_leaves"):
        QGBDTRegressor(num_leaves=0).estimate_memory(frame)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say")
def test_the_peak_of_a_fit():
    ballast = np.ones(30_000_000)
    model = QGBDTRegressor(n_estimators=1).fit(np.eye(50), np.arange(50))
    assert ballast.nbytes < model.fit_profile_["peak_memory"] < 2**40
