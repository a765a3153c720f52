"""qgbdt-worker, the command: shards of every kind of file, what it finds in its environment, and
what its exit codes mean.

Against: the estimators, trained on all rows. Tolerance: none.
"""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import trustme
from conftest import hurting_data, targets
from network import free_address

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.distributed.worker import main, parse

PARAMS = {"n_estimators": 3, "num_leaves": 7, "n_jobs": 1}
TIMEOUT = 60


def run_workers(folder, *arguments, world_size=2, address=None, **params):
    """The exit codes of workers whose shards are part-0..., started in this process."""
    (folder / "params.json").write_text(json.dumps(PARAMS | params))
    (folder / "key").write_bytes(b"secret")
    shared = [
        *("--rendezvous", address or free_address(), "--world-size", str(world_size)),
        *("--key-file", str(folder / "key"), "--params", str(folder / "params.json")),
        *("--output", str(folder / "model"), "--timeout", "10"),
    ]
    with ThreadPoolExecutor(world_size) as pool:
        codes = [
            pool.submit(main, [*shared, "--rank", str(rank), *map(str, arguments)])
            for rank in range(world_size)
        ]
        return [code.result(TIMEOUT) for code in codes]


def save_npy(path, X, y):
    np.save(path, np.column_stack([X, y]))


def save_npz(path, X, y):
    np.savez(path, X=X, target=y)


def save_csv(path, X, y):
    pd.DataFrame(X, columns=list("abcdef")).assign(target=y).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("suffix", "save", "target", "names"),
    [
        ("npy", save_npy, "6", "Column_"),
        ("npz", save_npz, "target", "Column_"),
        ("csv", save_csv, "target", "abcdef"),
    ],
)
def test_shards(tmp_path, suffix, save, target, names):
    X = hurting_data(300)
    y, _ = targets(X, "regression")
    for rank, rows in enumerate((slice(0, 100), slice(100, 300))):
        save(tmp_path / f"part-{rank}.{suffix}", X[rows], y[rows])
    data = tmp_path / f"part-{{rank}}.{suffix}"
    codes = run_workers(tmp_path, "--data", data, "--target", target, "--task", "regression")
    assert codes == [0, 0]
    trained = Booster.load_model(tmp_path / "model")
    frame = pd.DataFrame(X, columns=list(names)) if names == "abcdef" else X
    assert trained == QGBDTRegressor(**PARAMS).fit(frame, y).booster_


def test_tls(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    authority.issue_cert("worker").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both")
    X = hurting_data(300)
    y, _ = targets(X, "regression")
    np.savez(tmp_path / "part-0.npz", X=X, y=y)
    np.savez(tmp_path / "part-1.npz", X=X[:0], y=y[:0])
    options = ["--data", tmp_path / "part-{rank}.npz", "--target", "y", "--task", "regression"]
    files = ["--tls-cert", tmp_path / "both", "--tls-key", tmp_path / "both"]
    assert run_workers(tmp_path, *options, *files, "--tls-ca", tmp_path / "ca") == [0, 0]
    alone = QGBDTRegressor(**PARAMS).fit(X, y)
    assert Booster.load_model(tmp_path / "model") == alone.booster_
    assert run_workers(tmp_path, *options, *files, "--tls-ca", tmp_path / "none") == [4, 4]


def test_weights_and_queries(tmp_path, capsys):
    X = hurting_data(300)
    y, sizes = targets(X, "lambdarank")
    qid, weight = np.repeat(np.arange(len(sizes)), sizes), np.linspace(0.5, 2, 300)
    edge = sizes[:4].sum()
    for rank, rows in enumerate((slice(0, edge), slice(edge, 300))):
        np.savez(tmp_path / f"part-{rank}.npz", X=X[rows], y=y[rows], w=weight[rows], q=qid[rows])
    named = ["--target", "y", "--weight", "w", "--query", "q", "--task", "ranking", "--verbose"]
    assert run_workers(tmp_path, "--data", tmp_path / "part-{rank}.npz", *named) == [0, 0]
    alone = QGBDTRanker(**PARAMS).fit(X, y, qid=qid, sample_weight=weight)
    assert Booster.load_model(tmp_path / "model") == alone.booster_
    said = capsys.readouterr()
    assert not said.out
    for rank in (0, 1):
        assert f"worker {rank}:\n  exchanges: " in said.err
    for iteration in range(PARAMS["n_estimators"]):
        for rank in (0, 1):
            assert said.err.count(f"\n{iteration} {rank} ") == 1


@pytest.mark.parametrize("task", ["regression", "ranking"])
def test_evaluation(tmp_path, capsys, caplog, task):
    X = hurting_data(300)
    y, sizes = targets(X, "lambdarank")
    qid, weight = np.repeat(np.arange(len(sizes)), sizes), np.linspace(0.5, 2, 300)
    edges = np.cumsum(sizes)[[3, 6, 6, -1]]  # the second worker has none of the evaluation set
    for name, rows in zip(
        ("part-0", "part-1", "eval-1", "eval-0"), np.split(np.arange(300), edges)
    ):
        queries = {"q": qid[rows]} if task == "ranking" else {}
        np.savez(tmp_path / f"{name}.npz", X=X[rows], y=y[rows], w=weight[rows], **queries)
    named = ["--target", "y", "--weight", "w", "--task", task, "--verbose"]
    named += ["--query", "q"] if task == "ranking" else []
    params = {"n_estimators": 30, "early_stopping_rounds": 3, "learning_rate": 0.5}
    evaluated = ["--eval-data", tmp_path / "eval-{rank}.npz"]
    parts = ["--data", tmp_path / "part-{rank}.npz"]
    assert run_workers(tmp_path, *parts, *evaluated, *named, **params) == [0, 0]

    train, held = np.arange(edges[1]), np.arange(edges[1], 300)
    kind = QGBDTRanker if task == "ranking" else QGBDTRegressor
    groups = {"group": sizes[:7], "eval_group": [sizes[7:]]} if task == "ranking" else {}
    alone = kind(**PARAMS | params).fit(
        X[train],
        y[train],
        sample_weight=weight[train],
        eval_set=[(X[held], y[held])],
        eval_sample_weight=[weight[held]],
        **groups,
    )
    assert alone.best_iteration_ < 30
    assert Booster.load_model(tmp_path / "model") == alone.booster_
    assert f"  best_iteration: {alone.best_iteration_}\n" in capsys.readouterr().err
    history = next(iter(alone.evals_result_["valid_0"].items()))
    lines = [record.getMessage() for record in caplog.records if record.name == "qgbdt"]
    assert len(lines) == len(history[1])
    for i, (line, value) in enumerate(zip(lines, history[1]), start=1):
        assert line.split("\t")[:2] == [f"[{i}]", f"valid_0's {history[0]}: {value:g}"]


def test_classes(tmp_path, capsys):
    X = hurting_data(300)
    y, _ = targets(X, "multiclass")
    named = ["--data", tmp_path / "part-{rank}.npz", "--target", "y", "--task", "classification"]
    for rank, rows in enumerate((y < 1, y >= 1)):
        np.savez(tmp_path / f"part-{rank}.npz", X=X[rows], y=y[rows].astype(int))
    assert run_workers(tmp_path, *named) == [0, 0]
    order = np.argsort(y >= 1, kind="stable")
    alone = QGBDTClassifier(**PARAMS).fit(X[order], y[order].astype(int))
    assert Booster.load_model(tmp_path / "model") == alone.booster_

    (tmp_path / "model").unlink()
    for rank in (0, 1):
        np.savez(tmp_path / f"part-{rank}.npz", X=X, y=np.where(y < 1, 1, 4))
    assert run_workers(tmp_path, *named) == [3, 3]
    assert "must be 0, 1, 2, ..., got [1, 4]" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("changes", "codes", "words"),
    [
        ({"--target": "z"}, [3, 3], "The data has no column 'z', but X, y."),
        ({"--data": "missing.npz"}, [3, 3], "No such file"),
        ({"--data": "part.txt"}, [3, 3], "must end with .csv, .parquet, .npz or .npy"),
        ({"--data": "part-{rank}.npz"}, [5, 3], "worker 1 (127.0.0.1) stopped: "),
        ({"--rendezvous": "nowhere"}, [4, 4], "host:port"),
        ({"--heartbeat": "-1"}, [3, 3], "The 'heartbeat' parameter"),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, capsys, changes, codes, words):
    monkeypatch.chdir(tmp_path)
    np.savez("part.npz", X=np.zeros((9, 2)), y=np.arange(9.0))
    np.savez("part-0.npz", X=np.zeros((9, 2)), y=np.arange(9.0))
    options = {"--data": "part.npz", "--target": "y", "--task": "regression"} | changes
    given = [word for pair in options.items() for word in pair]
    assert run_workers(tmp_path, *given) == codes
    assert words in capsys.readouterr().err


NEEDED = ["--data", "d", "--target", "t", "--task", "regression", "--output", "o"]


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
        {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"},
        {"JOB_COMPLETION_INDEX": "3", "WORLD_SIZE": "8"},
    ],
)
def test_the_environment(environment):
    environment = {"MASTER_ADDR": "h", "MASTER_PORT": "1"} | environment
    args = parse(NEEDED, environment)
    assert (args.rank, args.world_size, args.rendezvous) == (3, 8, "h:1")
    args = parse([*NEEDED, "--rank", "1", "--world-size", "2", "--rendezvous", "g:2"], environment)
    assert (args.rank, args.world_size, args.rendezvous) == (1, 2, "g:2")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "--world-size is needed"),
        ({"WORLD_SIZE": "2"}, "--rendezvous is needed"),
        ({"RANK": "x"}, "RANK must be a number, got 'x'"),
        ({"WORLD_SIZE": "2", "more": ["--tls-key", "k"]}, "--tls-ca are needed together"),
    ],
)
def test_what_is_missing(environment, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse([*NEEDED, *environment.get("more", ())], environment)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    for words in ("--rendezvous 10.0.0.1:5000", "Exit codes:", "torchrun, Slurm", "{rank}"):
        assert words in said
