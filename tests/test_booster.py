"""Booster: the model file, written atomically and read back the same; trees; predictions.

Exact everywhere: a model that was saved and loaded has the same bytes and the same predictions.
"""

import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from conftest import unaligned

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.files import write_atomically

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
X[::7, 1] = np.nan
SIGNAL = X[:, 0] + np.abs(X[:, 2])
LABELS = np.digitize(SIGNAL, [0, 1])


def boosters():
    few = {"n_estimators": 5, "num_leaves": 6}
    yield QGBDTRegressor(**few).fit(X, SIGNAL).booster_
    yield QGBDTRegressor(objective="poisson", **few).fit(X, np.exp(SIGNAL)).booster_
    yield QGBDTClassifier(**few).fit(X, LABELS > 0).booster_
    yield QGBDTClassifier(**few).fit(X, LABELS).booster_
    yield QGBDTRanker(**few).fit(X, LABELS, group=[100, 200]).booster_


BOOSTERS = list(boosters())
every_booster = pytest.mark.parametrize("booster", BOOSTERS, ids=lambda b: b.objective)


# --- Saving and loading


@every_booster
@pytest.mark.parametrize("kind", [str, Path])
def test_save_and_load(booster, kind, tmp_path):
    path = kind(tmp_path / "model.txt")
    booster.save_model(path)
    loaded = Booster.load_model(path)
    assert loaded == booster
    assert hash(loaded) == hash(booster)
    assert loaded.feature_name() == booster.feature_name()
    np.testing.assert_array_equal(loaded.predict(X), booster.predict(X))
    assert Path(path).read_text() == booster.model_to_string()
    assert os.listdir(tmp_path) == ["model.txt"]


@every_booster
def test_copies_are_equal(booster):
    assert Booster.model_from_string(booster.model_to_string()) == booster
    assert Booster.from_bytes(booster.to_bytes()) == booster
    assert deepcopy(booster) == booster
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(booster, protocol)) == booster


def test_state_is_bytes():
    assert BOOSTERS[0].__getstate__() == {"model": BOOSTERS[0].to_bytes()}


def test_different_models_differ():
    assert len(set(BOOSTERS)) == len(BOOSTERS)
    assert BOOSTERS[0] != "a string"


def test_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    BOOSTERS[0].save_model(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "model"
    path.write_text("old")
    path.chmod(0o640)
    BOOSTERS[0].save_model(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_symbolic_link_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    BOOSTERS[0].save_model(link)
    assert link.is_symlink()
    assert Booster.load_model(target) == BOOSTERS[0]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_keeps_the_old_file_and_leaves_no_other(step, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    path = tmp_path / "model"
    path.write_text("old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="the disk is full"):
        BOOSTERS[0].save_model(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        BOOSTERS[0].save_model(tmp_path / "absent" / "model")


@pytest.mark.parametrize("target", ["/dev/null", "."])
def test_only_regular_files_are_replaced(target):
    with pytest.raises(OSError, match="is not a regular file"):
        write_atomically(Path(target), b"")


SAVE_FOREVER = """
import sys
from qgbdt import Booster
models = [Booster.load_model(path) for path in sys.argv[2:]]
print("saving", flush=True)
while True:
    for model in models:
        model.save_model(sys.argv[1])
"""


@pytest.mark.timeout(120)
def test_killed_while_saving_leaves_the_old_file_or_the_new(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path, booster in zip(paths, BOOSTERS):
        booster.save_model(path)
    target = tmp_path / "target"
    BOOSTERS[0].save_model(target)
    for attempt in range(5):
        command = [sys.executable, "-c", SAVE_FOREVER, target, *paths]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"saving\n"
            time.sleep(0.011 * (attempt + 1))
            process.send_signal(signal.SIGKILL)
        assert Booster.load_model(target) in BOOSTERS[:2]


# --- What the model is


@every_booster
def test_trees(booster):
    assert len(booster.trees()) == booster.num_trees()
    assert booster.num_trees() == (15 if booster.objective == "multiclass" else 5)
    assert booster.n_iterations == 5
    assert booster.num_feature() == 5
    for tree in booster.trees():
        splits, leaves = tree[tree["feature"] >= 0], tree[tree["feature"] < 0]
        assert len(leaves) == len(splits) + 1 <= 6
        assert (leaves["left"] == -1).all()
        assert tree["count"][0] == leaves["count"].sum() == 300
        assert (leaves["count"] >= 20).all()
        children = np.concatenate([splits["left"], splits["right"]])
        assert sorted(children) == list(range(1, len(tree)))


@every_booster
def test_feature_importance(booster):
    nodes = np.concatenate(booster.trees())
    splits, gains = booster.feature_importance(), booster.feature_importance("gain")
    assert splits.dtype == np.int64
    assert gains.dtype == np.float64
    for feature in range(5):
        at = nodes[nodes["feature"] == feature]
        assert splits[feature] == len(at)
        assert gains[feature] == pytest.approx(at["gain"].sum())


def test_repr():
    assert repr(BOOSTERS[0]) == "Booster(objective='regression', n_features=5, n_trees=5)"


# --- Prediction


@every_booster
def test_iteration_ranges_add_up(booster):
    def raw(**kwargs):
        return booster.predict(X, raw_score=True, **kwargs)

    start = raw(start_iteration=5)
    np.testing.assert_array_equal(start, np.broadcast_to(start[0], start.shape))
    parts = raw(num_iteration=2) + raw(start_iteration=2) - start
    np.testing.assert_allclose(parts, raw(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(raw(num_iteration=99), raw())


@every_booster
def test_links(booster):
    raw, linked = booster.predict(X, raw_score=True), booster.predict(X)
    expected = {
        "poisson": lambda: np.exp(raw),
        "binary": lambda: 1 / (1 + np.exp(-raw)),
        "multiclass": lambda: np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True),
    }.get(booster.objective, lambda: raw)()
    np.testing.assert_allclose(linked, expected, rtol=1e-14)


@pytest.mark.parametrize(
    "same",
    [
        X.tolist(),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X.astype(">f8"),
        X.astype(object),
        X.astype(np.longdouble),
        unaligned(X),
    ],
    ids=["list", "F", "strided", "big-endian", "object", "longdouble", "unaligned"],
)
def test_any_layout_of_X(same):
    np.testing.assert_array_equal(BOOSTERS[0].predict(same), BOOSTERS[0].predict(X))


@every_booster
def test_no_rows(booster):
    assert booster.predict(X[:0]).shape == (0, *booster.predict(X).shape[1:])


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 3, 7, -1])
def test_threads_do_not_matter(n_jobs):
    for booster in BOOSTERS:
        np.testing.assert_array_equal(booster.predict(X, n_jobs=n_jobs), booster.predict(X))
