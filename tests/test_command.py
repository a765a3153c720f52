"""qgbdt, the command: training, prediction and conversion of every kind of file, exit codes.

Against: the estimators on the same rows. Tolerance: none.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import hurting_data, targets

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.command import main

pd = pytest.importorskip("pandas")

PARAMS = {"n_estimators": 3, "num_leaves": 7, "n_jobs": 1}
NAMES = list("abcdef")


def run(command, **options):
    """The exit code; an option that is None is left out, one that is True has no value."""
    words = [command]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [] if one is None else ["--" + name.replace("_", "-")]
            words += [] if one is None or one is True else [str(one)]
    return main(words)


@pytest.fixture
def folder(tmp_path):
    X = hurting_data(200)
    y, _ = targets(X, "regression")
    pd.DataFrame(X, columns=NAMES).assign(y=y).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "params.json").write_text(json.dumps(PARAMS))
    (tmp_path / "params.toml").write_text("".join(f"{k} = {v}\n" for k, v in PARAMS.items()))
    return tmp_path


def train(folder, **options):
    given = {"data": folder / "train.csv", "target": "y", "task": "regression"}
    given |= {"params": folder / "params.toml", "output": folder / "model"}
    return run("train", **given | options)


@pytest.mark.parametrize("params", ["params.toml", "params.json"])
def test_train(folder, params, capsys):
    assert train(folder, params=folder / params) == 0
    table = pd.read_csv(folder / "train.csv")
    wanted = QGBDTRegressor(**PARAMS).fit(table[NAMES], table["y"]).booster_
    assert Booster.load_model(folder / "model") == wanted
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz", "npy"])
def test_kinds_of_tables(folder, kind):
    table = pd.read_csv(folder / "train.csv")
    X, path, names = table[NAMES].to_numpy(), folder / f"data.{kind}", NAMES
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    if kind in ("csv", "parquet"):
        getattr(table, f"to_{kind}")(path, index=False)
        wanted = QGBDTRegressor(**PARAMS).fit(table[NAMES], table["y"])
    else:
        names = None
        wanted = QGBDTRegressor(**PARAMS).fit(X, table["y"])
        if kind == "npz":
            np.savez(path, X=X, y=table["y"])
        else:
            np.save(path, table.to_numpy())
    target = "6" if kind == "npy" else "y"
    assert train(folder, data=path, target=target) == 0
    assert Booster.load_model(folder / "model") == wanted.booster_
    if kind == "npz":
        np.savez(path, X=X)
    if kind == "npy":
        np.save(path, X)
    out = folder / "out.npy"
    assert run("predict", model=folder / "model", data=path, output=out) == 0
    found = wanted.predict(X if names is None else table[names])
    np.testing.assert_array_equal(np.load(out), found)


def test_what_predict_writes(folder):
    assert train(folder) == 0
    booster = Booster.load_model(folder / "model")
    X = pd.read_csv(folder / "train.csv")[NAMES].to_numpy()
    for option, wanted in (
        (None, booster.predict(X)),
        ("raw_score", booster.predict(X, raw_score=True)),
        ("leaf", booster.apply(X)),
        ("contrib", booster.predict_contrib(X)),
    ):
        given = {"model": folder / "model", "data": folder / "train.csv"}
        given |= {option: True} if option else {}
        for out in (folder / "out.npy", folder / "out.csv"):
            assert run("predict", **given, output=out) == 0
        np.testing.assert_array_equal(np.load(folder / "out.npy"), wanted)
        table = np.loadtxt(folder / "out.csv", delimiter=",", skiprows=1)
        np.testing.assert_array_equal(table, wanted)


def test_tasks(folder):
    table = pd.read_csv(folder / "train.csv")
    X = table[NAMES]
    labels, _ = targets(X.to_numpy(), "multiclass")
    X.assign(y=labels.astype(int)).to_csv(folder / "c.csv", index=False)
    assert train(folder, data=folder / "c.csv", task="classification") == 0
    wanted = QGBDTClassifier(**PARAMS).fit(X, labels)
    assert Booster.load_model(folder / "model") == wanted.booster_
    relevance, sizes = targets(X.to_numpy(), "lambdarank")
    query = np.repeat(np.arange(len(sizes)), sizes)
    weight = np.linspace(1, 2, len(X))
    ranking = X.assign(y=relevance, q=query, w=weight)
    ranking.to_csv(folder / "r.csv", index=False, float_format="%.17g")
    given = {"data": folder / "r.csv", "eval_data": [folder / "r.csv"] * 2}
    given |= {"task": "ranking", "query": "q", "weight": "w"}
    assert train(folder, **given) == 0
    ranking = pd.read_csv(folder / "r.csv")
    wanted = QGBDTRanker(**PARAMS).fit(
        ranking[NAMES], relevance, group=sizes, sample_weight=ranking["w"]
    )
    assert Booster.load_model(folder / "model") == wanted.booster_


def test_checkpoints(folder):
    assert train(folder, checkpoint_dir=folder / "kept") == 0
    first = Booster.load_model(folder / "model")
    (folder / "params.toml").write_text("n_estimators = 5\nnum_leaves = 7\nn_jobs = 1\n")
    assert train(folder, checkpoint_dir=folder / "kept", resume=True) == 0
    np.testing.assert_array_equal(Booster.load_model(folder / "model").tree(2), first.tree(2))
    assert Booster.load_model(folder / "model").num_trees() == 5
    assert train(folder, checkpoint_dir=folder / "kept") == 3  # it is in the way


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_when_asked(folder, verbose):
    command = [sys.executable, "-m", "qgbdt.command", "train", "--task", "regression"]
    command += ["--data", folder / "train.csv", "--eval-data", folder / "train.csv"]
    command += ["--target", "y", "--params", folder / "params.toml", "--output", folder / "model"]
    command += ["--verbose"] if verbose else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ""
    assert ("[3]\tvalid_0's l2: " in done.stderr) == bool(done.stderr) == verbose


def test_info_and_convert(folder, capsys):
    assert train(folder) == 0
    booster = Booster.load_model(folder / "model")
    assert run("convert", model=folder / "model", to="lightgbm", output=folder / "theirs") == 0
    assert (folder / "theirs").read_text() == booster.to_lightgbm_string()
    assert run("convert", model=folder / "theirs", to="qgbdt", output=folder / "back") == 0
    assert Booster.load_model(folder / "back") == Booster.load_lightgbm(folder / "theirs")
    for name in ("model", "theirs"):
        assert run("info", model=folder / name) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "objective: regression" in lines[0]
        assert lines[3].split() == ["trees:", "3"]
        most = booster.feature_importance("gain").argmax()
        assert lines[7].split()[1:] == [str(booster.feature_importance()[most]), NAMES[most]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "absent.csv"}, "absent.csv"),
        ({"data": "params.json"}, "must end with .csv, .parquet, .npz or .npy"),
        ({"target": "z"}, "The data has no column 'z', but a, b"),
        ({"params": "bad.toml"}, "num_leaf"),
        ({"params": "list.json"}, "must hold a JSON object"),
        ({"task": "classification"}, "must be 0, 1, 2"),
    ],
)
def test_bad_input(folder, options, message, capsys):
    (folder / "bad.toml").write_text("num_leaf = 3\n")
    (folder / "list.json").write_text("[]")
    options = {k: folder / v if k in ("data", "params") else v for k, v in options.items()}
    assert train(folder, **options) == 3
    error = capsys.readouterr().err
    assert error.startswith("qgbdt: ")
    assert message in error
    assert not (folder / "model").exists()


def test_bad_predictions(folder, capsys):
    assert train(folder) == 0
    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_csv(folder / "few.csv", index=False)
    for given, message in (
        ({"data": folder / "few.csv"}, "The data has no column 'c', which is a feature"),
        ({"output": folder / "out.txt"}, "must end with .csv or .npy"),
        ({"model": folder / "few.csv"}, "not a qgbdt model"),
    ):
        good = {"model": folder / "model", "data": folder / "train.csv"}
        assert run("predict", **good | {"output": folder / "out.csv"} | given) == 3
        assert message in capsys.readouterr().err


def test_the_command_line():
    for words, code, text in (
        (["--help"], 0, "params.toml"),
        (["train", "--help"], 0, "--eval-data"),
        ([], 2, "COMMAND"),
        (["predict", "--model", "m"], 2, "--data"),
    ):
        command = [sys.executable, "-m", "qgbdt.command", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code
        assert text in done.stdout + done.stderr
