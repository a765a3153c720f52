"""The benchmarks work: shapes, metrics, tables, resuming, plots, and whole runs of train.py.

Only sizes that take a blink; nothing here measures speed. What needs an optional library skips.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import builds
import demo
import fit_once
import kernels
import metrics
import network
import numpy as np
import peers
import plots
import predict
import pytest
import results
import scaling
import shapes
import sources
import sparse_text
import study
import suite
import train

BENCH = Path(__file__).parents[1] / "bench"

distributed_file = importlib.util.spec_from_file_location(
    "bench_distributed", BENCH / "distributed.py"
)
distributed = importlib.util.module_from_spec(distributed_file)
sys.modules[distributed_file.name] = distributed  # where its processes look for its functions
distributed_file.loader.exec_module(distributed)


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_shape_has_its_width_labels_and_queries(name: str) -> None:
    shape = shapes.SHAPES[name]
    data = shapes.make(name, rows=400, seed=1)
    assert data.X.shape == (500, shape.n_features)
    assert data.X.dtype == np.float32
    assert data.X.flags.c_contiguous
    assert not np.isinf(data.X).any()
    assert np.isfinite(data.y).all()
    assert len(data.train.y) == 400
    for part in (data.train, data.test):
        assert shape.query_size == 0 or part.group.sum() == len(part.y)
    if shape.shares:
        share = np.bincount(data.y, minlength=len(shape.shares)) / len(data.y)
        np.testing.assert_allclose(share, shape.shares, atol=0.01)


def test_shape_of_another_width_and_of_classes() -> None:
    assert shapes.make("plain", 100, n_features=7).X.shape == (125, 7)
    data = shapes.make("classes", 1000)
    assert (data.n_classes, len(np.unique(data.y))) == (20, 20)
    values = [len(np.unique(x)) for x in shapes.make("lowcard", 2000).X.T]
    assert 2 <= min(values) < 5 < 12 < max(values) <= 16


def test_shape_repeats_with_its_seed_and_not_with_another() -> None:
    first, again, other = (shapes.make("criteo", 100, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.X, again.X)
    np.testing.assert_array_equal(first.y, again.y)
    assert not np.array_equal(first.y, other.y)


def test_blocks_continue_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "BLOCK", 64)
    data = shapes.make("bosch", 400, seed=0)
    cardinality = [len(np.unique(x[~np.isnan(x)])) for x in data.X.T]
    assert max(cardinality) > 10
    assert 0.9 < np.isnan(data.X).mean() < 0.97


def test_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    data = shapes.make("yahoo", 200, seed=0)
    sources.save(data, tmp_path)
    loaded = sources.open_folder(tmp_path)
    assert (loaded.name, loaded.task, loaded.n_train) == ("yahoo", "rank", 200)
    np.testing.assert_array_equal(sources.resident(loaded.test).X, data.test.X)
    np.testing.assert_array_equal(loaded.train.group, data.train.group)
    assert loaded.weight is None


@pytest.mark.parametrize("name", sources.SKLEARN_SETS)
def test_sklearn_set(name: str) -> None:
    data = sources.from_sklearn(name, rows=80, seed=0)
    assert data.X.dtype == np.float32
    assert 0 < data.n_train < len(data.y)
    assert data.task not in sources.CLASS_TASKS or data.y.min() == 0


def test_file_with_categories_and_missing_values(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    path = tmp_path / "a.csv"
    path.write_text("size,colour,price\n" + "1,red,1.5\n2,,2.5\n,blue,3.25\n" * 10)
    data = sources.from_file(path, "price")
    assert (data.task, data.X.shape, data.n_train) == ("regression", (30, 2), 24)
    assert np.isnan(data.X).mean(axis=0) == pytest.approx([1 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no column 'cost'; the columns are size, colour, price"):
        sources.from_file(path, "cost")
    with pytest.raises(ValueError, match=r"expected one of \.csv"):
        sources.from_file(tmp_path / "a.txt", "price")


def test_npz_file_and_inferred_tasks(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.ones((10, 2)), label=np.arange(10) % 2 + 5)
    data = sources.from_file(tmp_path / "a.npz", "label")
    assert (data.task, sorted(set(data.y))) == ("binary", [0, 1])
    assert sources.infer_task(np.array(["a", "b", "c"])) == "multiclass"
    assert sources.infer_task(np.array([0, 1, 2])) == "multiclass"
    assert sources.infer_task(np.array([0.5, 1, 2])) == "regression"
    assert sources.infer_task(np.arange(100)) == "regression"


def test_ndcg_against_scikit_learn() -> None:
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(0)
    relevance, score = rng.integers(0, 5, 40), rng.random(40)
    expected = [
        ndcg_score([np.exp2(relevance[q]) - 1], [score[q]], k=10)
        for q in (slice(0, 15), slice(15, 40))
    ]
    found = metrics.mean_ndcg(relevance, score, np.array([15, 25]))
    assert found == pytest.approx(np.mean(expected))
    assert metrics.mean_ndcg(np.zeros(3), np.ones(3), np.array([3])) == 1.0


@pytest.mark.parametrize("task", sources.TASKS)
def test_perfect_prediction_has_the_least_loss(task: str) -> None:
    y = np.array([1, 2, 1, 2]) if task == "gamma" else np.array([0, 1, 1, 0])
    prediction = np.eye(2)[y] if task == "multiclass" else np.maximum(y.astype(float), 1e-9)
    test = sources.Part(np.zeros((4, 1), np.float32), y)
    found = metrics.evaluate(task, test, prediction)
    assert found["loss"] == pytest.approx(0.0, abs=1e-4)
    assert metrics.SHOWN[task] in found


def test_table() -> None:
    found = results.table(["library", "s"], [["ours", "1.25"], ["theirs", "12.50"]])
    assert found.splitlines() == [
        "| library |     s |",
        "|:--------|------:|",
        "| ours    |  1.25 |",
        "| theirs  | 12.50 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0.0, "0.00000"),
        (0.84569, "0.84569"),
        (8.9563, "8.956"),
        (1234.5, "1234"),
        (1e-6, "1.000e-06"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert results.number(value) == text


def test_records_survive_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    assert results.read(path) == []
    results.append(path, {"a": 1})
    path.write_text(path.read_text() + '{"a": 2, "b')
    assert results.read(path) == [{"a": 1}]


def test_report_has_medians_and_ratios_to_qgbdt() -> None:
    def record(peer: str, seconds: float) -> results.Record:
        times = {"binning_seconds": 1.0, "training_seconds": seconds, "prediction_seconds": 0.5}
        return {"peer": peer, "status": "ok", "auc": 0.75, "peak_mib": 12.0, "data": "x", **times}

    records = [record("lightgbm", 6.0), record("qgbdt", 2.0)]
    records += [{"peer": "sklearn", "data": "x", "status": "timeout", "note": "stopped after 1 s"}]
    lines = train.report(records, "binary").splitlines()
    rows = [line.replace("|", " ").split() for line in lines if line]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["lightgbm"] == ["1.00", "6.00", "0.50", "0.75000", "12", "3.00", "2.33"]
    assert cells["qgbdt"][-2:] == ["1.00", "1.00"]
    assert cells["sklearn"] == ["timeout", "-", "-", "-", "-", "-", "-"]
    assert lines[-1] == "x: time over that of qgbdt"
    assert results.notes(records) == ["sklearn on x: stopped after 1 s"]


def test_peers_of_unknown_name() -> None:
    with pytest.raises(SystemExit):
        train.main(["--peers", "qgbdt,lightgmb"])


def test_train_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.jsonl"
    small = ["--shape", "friedman1", "--rows", "500", "--rounds", "5", "--leaves", "8"]
    train.main([*small, "--threads", "1", "--peers", "sklearn", "--json", str(path)])
    (record,) = results.read(path)
    assert record["status"] == "ok", record
    assert record["training_seconds"] > 0
    assert record["binning_seconds"] > 0
    assert 0 < record["rmse"] < 5
    assert "| sklearn |" in capsys.readouterr().out


def test_predict_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--rows", "500", "--rounds", "3", "--leaves", "4", "--repeat", "1"]
    predict.main([*small, "--threads", "1", "--peers", "qgbdt"])
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "| qgbdt" in line)
    _, nanoseconds, ratio, microseconds, single_ratio = row.strip("| ").split(" | ")
    assert float(nanoseconds) > 0
    assert float(microseconds) > 0
    assert float(ratio) == float(single_ratio) == 1


def test_kernels_prints_a_row_a_kernel(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "EVICTING_BYTES", 1 << 12)
    kernels.main(["--rows", "500", "--features", "8", "--repeat", "1"])
    lines = [
        line.split("|") for line in capsys.readouterr().out.splitlines() if line.count("|") > 5
    ]
    kernel_rows = [(name.strip(), rows.strip()) for _, name, rows, *_ in lines[2:]]
    assert len(set(kernel_rows)) == len(kernel_rows)
    assert {("add_rows8", rows) for rows in ("cached", "all", "scattered")} <= set(kernel_rows)
    named = {name.split(",")[0].rstrip("0123456789") for name, _ in kernel_rows}
    offered = {name for name in dir(kernels.kernels) if not name.startswith("_")}
    assert named - {"find_split", "bound_splits"} == offered - {"find_splits", "store_rows"}
    kernels.main(["--rows", "500", "--features", "8", "--repeat", "1", "--only", "flush"])
    assert capsys.readouterr().out.count("| flush") == 2


def test_child_reports_what_the_library_cannot_do(tmp_path: Path) -> None:
    sources.save(shapes.make("msltr", 100), tmp_path)
    settings = peers.Settings("rank")
    answer = tmp_path / "record.json"
    job = {"peer": "sklearn", "settings": vars(settings)}
    fit_once.main(json.dumps(job), str(tmp_path), str(answer))
    expected = {"status": "unsupported", "note": "the library has no rank objective"}
    assert json.loads(answer.read_text()) == expected


@pytest.mark.parametrize("shape", ["plain", "year", "classes"])
@pytest.mark.parametrize("name", peers.DEFAULT)
def test_estimator_trains_the_model_of_the_native_interface(name: str, shape: str) -> None:
    if not peers.is_installed(name):
        pytest.skip("not installed")
    data = shapes.make(shape, 300)
    told = {"rounds": 3, "leaves": 7, "learning_rate": 0.3, "max_bin": 31, "min_child_samples": 9}
    native, estimator = (
        peers.make(name, peers.Settings(data.task, data.n_classes, warm_fits=warm, **told))
        for warm in (0, 1)
    )
    assert isinstance(estimator, peers.ThroughEstimator)
    native.fit(data.train)
    estimator.fit(data.train)
    X = data.test.X
    np.testing.assert_array_equal(native.predict(X), estimator.predict(X))


def test_first_fit_does_not_count_before_warm_ones(tmp_path: Path) -> None:
    class Slower(peers.Sklearn):
        fits = 0

        def fit(self, train: sources.Part) -> tuple[float, float]:
            self.fits += 1
            self.model = self.estimator().fit(train.X, train.y)
            return 1.0, 100.0 if self.fits == 1 else self.fits

    sources.save(shapes.make("plain", 100), tmp_path)
    for warm_fits, seconds in [(0, 100.0), (1, 2.0), (3, 3.0)]:
        peer = Slower(peers.Settings("binary", rounds=1, warm_fits=warm_fits))
        record = fit_once.measure(peer, tmp_path)
        assert (record["binning_seconds"], record["training_seconds"]) == (1.0, seconds)


def test_child_that_fails_is_a_record(tmp_path: Path) -> None:
    record = fit_once.launch("nobody", peers.Settings("binary"), tmp_path, timeout=60)
    assert (record["status"], record["note"]) == ("failed", "KeyError: 'nobody'")
    record = fit_once.launch("nobody", peers.Settings("binary"), tmp_path, timeout=0.001)
    assert (record["status"], record["note"]) == ("timeout", "stopped after 0.001 s")


def test_every_peer_has_a_name_for_its_settings() -> None:
    assert peers.qgbdt_name("auto") == peers.DEFAULT[0]
    assert peers.qgbdt_name(3) == "qgbdt-3"
    name = peers.qgbdt_name(2, "nearest", renew_leaves=False)
    assert name == "qgbdt-2-nearest-norenew"
    options = {"grad_bits": 2, "rounding": "nearest", "renew_leaves": False}
    assert peers.PEERS[name] == (peers.QGBDT, options)


SECONDS = {  # whole fits of the stand-in below
    "qgbdt": 1.0,
    "lightgbm": 4.0,
    "lightgbm-row": 3.0,
    "lightgbm-quant-row": 2.0,
    "xgboost": 6.0,
    "catboost": 6.1,
}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace the children by a stand-in; return the list of (peer, threads) it is asked for.

    LightGBM's default fails at the first go, scikit-learn never has the objective.
    """
    asked: list[tuple[str, int]] = []

    def launch(peer: str, settings: peers.Settings, folder: Path, timeout: float) -> dict:
        asked.append((peer, settings.threads))
        record = {"peer": peer, **vars(settings)}
        if peer == "sklearn":
            return {**record, "status": "unsupported", "note": "no objective"}
        if peer == "lightgbm" and asked.count(asked[-1]) == 1:
            return {**record, "status": "failed", "note": "killed by signal 9"}
        return {
            **record,
            "status": "ok",
            "version": "1.0",
            "binning_seconds": SECONDS[peer] / 4,
            "training_seconds": SECONDS[peer] * 3 / 4,
            "peak_mib": 10.0 * SECONDS[peer],
            **dict.fromkeys(metrics.SHOWN.values(), 0.5 if "quant" in peer else 0.75),
        }

    monkeypatch.setattr(fit_once, "launch", launch)
    monkeypatch.setattr(peers, "is_installed", lambda name: True)
    return asked


def cells_of(table: str) -> dict[tuple[str, ...], list[str]]:
    """The cells of a Markdown table by its first two columns."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {tuple(row[:2]): row[2:] for row in rows}


def test_suite_resumes_and_fits_trailing_rivals_once(
    launched: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    make = shapes.make

    def note(name: str, rows: int, **options: int) -> sources.Data:
        made.append((name, rows))
        return make(name, rows, **options)

    monkeypatch.setattr(shapes, "make", note)
    names = [*SECONDS, "sklearn"]
    command = ["--suite", "--sets", "year,small-1k", "--threads", "1,2", "--scale", "0.001"]
    command += ["--peers", ",".join(names), "--repeat", "2", "--markdown", str(tmp_path / "t.md")]
    command += ["--results", str(tmp_path / "r.jsonl")]
    train.main(command)
    year = [*names, "qgbdt", "lightgbm-row", "lightgbm-quant-row", "xgboost"]
    small = [*names, "qgbdt", "lightgbm", "lightgbm-row", "lightgbm-quant-row", "xgboost"]
    assert launched == [(n, t) for fits in (year, small) for t in (1, 2) for n in fits]
    assert made == [("year", 515), ("plain", 500)]
    assert "lightgbm on year: killed by signal 9" in (tmp_path / "t.md").read_text()

    launched_before = len(launched)
    train.main([*command, "--report"])
    assert len(launched) == launched_before
    train.main(command)
    assert launched[launched_before:] == [("lightgbm", t) for t in (1, 1, 2, 2)]
    train.main(command)
    assert len(launched) == launched_before + 4
    assert len(made) == 3
    text = (tmp_path / "t.md").read_text()
    assert "killed" not in text
    assert "sklearn on year: no objective" in text


def test_suite_table(launched: list[tuple[str, int]], tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    command = ["--sets", "year,yahoo,small-1k", "--threads", "1", "--scale", "0.001"]
    command += ["--peers", ",".join([*SECONDS, "sklearn"]), "--repeat", "1", "--rounds", "7"]
    for _ in range(2):  # LightGBM's default comes at the second go
        suite.main([*command, "--results", str(tmp_path / "r.jsonl"), "--markdown", str(path)])
    table = cells_of(path.read_text())
    header = table["set", "threads"]
    year = dict(zip(header, table["year", "1"]))
    assert year == {
        "qgbdt s": "1",
        "fastest rival": "lightgbm-quant-row",
        "whole fit x": "2.00",
        "as good x": "2.00",
        "training x": "2.00",
        "binning x": "2.00",
        "LightGBM default x": "4.00",
        "LightGBM x": "2.00",
        "XGBoost x": "6.00",
        "CatBoost x": "6.10",
        "scikit-learn x": "-",
        "memory": "0.50",
        "metric": "rmse",
        "of qgbdt": "0.75000",
        "of LightGBM": "0.75000",
    }
    small = dict(zip(header, table["small-1k", "1"]))
    assert [small[c] for c in ("whole fit x", "training x", "binning x")] == ["2.00", "-", "-"]
    means = dict(zip(header, table["mean of 2 shapes", "1"]))
    assert [means[c] for c in ("whole fit x", "CatBoost x", "memory")] == ["2.00", "6.10", "0.50"]


@pytest.mark.parametrize(
    ("metric", "theirs", "is_as_good"),
    [
        ("auc", 0.9, True),
        ("auc", 0.793, True),
        ("auc", 0.79, False),
        ("rmse", 0.5, True),
        ("rmse", 0.807, True),
        ("rmse", 0.81, False),
    ],
)
def test_rivals_that_are_as_good(metric: str, theirs: float, is_as_good: bool) -> None:
    assert suite.is_as_good([{metric: theirs}], metric, 0.8) == is_as_good


def test_mean_ratio_is_geometric_and_needs_every_set() -> None:
    rows = [{"whole fit x": 2.0, "memory": 1.0}, {"whole fit x": 8.0, "fastest rival": "xgboost"}]
    assert suite.geometric_means(rows) == pytest.approx({"whole fit x": 4.0})


def test_scaling_has_each_case_once(launched: list[tuple[str, int]], tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    command = ["--threads", "1,2", "--scale", "0.001", "--peers", "qgbdt,xgboost", "--repeat", "1"]
    scaling.main([*command, "--results", str(tmp_path / "r.jsonl"), "--markdown", str(path)])
    assert [threads for _, threads in launched[::2]].count(1) == 1
    assert len(launched) == 2 * (1 + 3 * 2 + 1 + 1)  # the base, three axes doubled twice, two more
    rows = list(cells_of(path.read_text()))[1:]
    assert rows == [
        *(("rows", n) for n in ("200", "400", "800")),
        *(("features", n) for n in ("32", "64", "128")),
        *(("leaves", n) for n in ("255", "510", "1020")),
        *(("threads", n) for n in ("1", "2")),
        *(("busy", n) for n in ("False", "True")),
    ]
    assert scaling.cell(3.0, 1.5) == "3.00 (2.00x)"

    records = results.read(tmp_path / "r.jsonl")
    assert list(plots.scaling_panels(records)) == list(scaling.AXES)
    assert [r["busy"] for r in records].count(True) == 2


def test_distributed_counts_what_workers_send(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--shapes", "higgs,msltr", "--workers", "2", "--rounds", "2", "--scale", "0.004"]
    distributed.main([*command, "--leaves", "15"])
    table = cells_of(capsys.readouterr().out)
    for row in (table["higgs", "4,000"], table["msltr", "1,200"]):
        assert float(row[0]) > 0
        assert float(row[1].removeprefix("1/")) > 3
        assert int(row[2]) > int(row[3]) > 0


@pytest.mark.skipif(not network.is_possible(), reason=network.NEEDS)
@pytest.mark.parametrize(("rate", "words"), [("1gbit", None), ("nonsense", "nonsense")])
def test_nothing_is_left_of_a_network(rate: str, words: str | None) -> None:
    made = network.Network(2, rate)
    context = pytest.raises(OSError, match=words) if words else contextlib.nullcontext()
    with context, made:
        assert names_of(made)
    assert not names_of(made)


def names_of(made: network.Network) -> list[Path]:
    """Namespaces and devices that it has on this machine."""
    folders = (Path("/run/netns"), Path("/sys/class/net"))
    return [path for folder in folders for path in folder.glob(f"{made._name}*")]


@pytest.mark.skipif(not network.is_possible(), reason=network.NEEDS)
def test_distributed_on_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--network", "none", "--shapes", "msltr", "--workers", "2", "--rounds", "2"]
    distributed.main([*command, "--scale", "0.01", "--leaves", "15", "--peers", "qgbdt,lightgbm"])
    table = dict(
        (row[0], [row[1], *cells]) for row, cells in cells_of(capsys.readouterr().out).items()
    )
    assert float(table["qgbdt"][1]) == 1
    assert all(float(cells[2]) > 0 for name, cells in table.items() if name in peers.PEERS)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_busy_process_ends_with_its_block() -> None:
    with study.busy_process() as process:
        assert process.poll() is None
    assert process.returncode is not None


def test_plots(launched: list[tuple[str, int]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = str(tmp_path / "r.jsonl")
    common = ["--peers", "qgbdt,xgboost", "--scale", "0.001", "--repeat", "1", "--results", path]
    suite.main([*common, "--sets", "year,yahoo", "--threads", "1"])
    scaling.main([*common, "--axes", "rows", "--threads", "1"])
    plots.main([path, "--folder", str(tmp_path / "plots")])
    found = sorted(file.name for file in (tmp_path / "plots").iterdir())
    assert found == ["metric-1.png", "scaling.png"]


def test_builds_are_fitted_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths: list[str] = []
    metric = iter([0.5, 0.5, 0.5, 0.25])

    def launch(name: str, settings: peers.Settings, folder: Path, timeout: float) -> dict:
        paths.append(os.environ["PYTHONPATH"].split(os.pathsep)[0])
        seconds = 3.0 if paths[-1] == str(tmp_path) else 1.5
        times = {"binning_seconds": 0.0, "training_seconds": seconds}
        return {"status": "ok", "task": "regression", **times, "rmse": next(metric)}

    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(fit_once, "launch", launch)
    command = ["--before", str(tmp_path), "--sets", "year", "--scale", "0.001", "--repeat", "1"]
    builds.main([*command, "--rounds", "10"])
    rows = cells_of(capsys.readouterr().out)
    assert rows["year", "1"] == ["300 (300 to 300)", "150 (150 to 150)", "2.00", "yes"]
    assert rows["year", "2"][-1] == "NO"
    assert paths == [str(tmp_path), "elsewhere"] * 2
    assert os.environ["PYTHONPATH"] == "elsewhere"


def test_sparse_text(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--rows", "400", "--features", "300", "--density", "0.05", "--rounds", "2"]
    sparse_text.main([*size, "--threads", "1", "--peers", "qgbdt,nobody"])
    *_, ours, nobody = capsys.readouterr().out.splitlines()
    name, *values = ours.strip("| ").split(" | ")
    assert name == "qgbdt"
    assert len([float(value) for value in values]) == 4
    assert nobody == "| nobody | failed: ValueError: no library called nobody | | | |"


def test_demo_runs_train(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(train, "main", seen.append)
    demo.main(["--rows", "1000", "--threads", "1"])
    args = train.parse(seen[0])
    assert (args.shape, args.rows, args.threads) == ("higgs", 1000, 1)
    assert args.peers[0].startswith("qgbdt")


def test_catalogue(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "sets.py").write_text(
        "from types import SimpleNamespace\n"
        "import numpy as np, pandas as pd, scipy.sparse as sp\n"
        "NAMES = ('frame', 'sparse', 'rank')\n"
        "def load(name):\n"
        "    frame = pd.DataFrame({'a': [1.0, 2.0, 3.0, 4.0], 'b': ['x', None, 'y', 'x']})\n"
        "    X = sp.eye(4, 3000, format='csr') if name == 'sparse' else frame\n"
        "    return SimpleNamespace(X=X, y=np.array([0, 1, 1, 0]), train=np.array([0, 1, 2]),\n"
        "        test=np.array([3]), task='rank' if name == 'rank' else 'binary', weight=None,\n"
        "        group=np.array([7, 7, 8, 9]) if name == 'rank' else None)\n"
    )
    catalogue = sources.load_catalogue(tmp_path)
    frame = sources.from_catalogue(catalogue, "frame")
    np.testing.assert_array_equal(frame.X[:, 1], [0, np.nan, 1, 0])
    assert (frame.n_train, frame.train.group) == (3, None)
    assert sources.from_catalogue(catalogue, "sparse").X.shape == (4, sources.KEPT_COLUMNS)
    assert sources.from_catalogue(catalogue, "rank").group.tolist() == [2, 1, 1]
    with pytest.raises(FileNotFoundError, match=r"has a sets\.py with NAMES"):
        sources.load_catalogue(tmp_path / "nowhere")
