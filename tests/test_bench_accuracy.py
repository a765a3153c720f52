"""What is asked of accuracy: rows drawn and held back, differences, verdicts, the whole study."""

from __future__ import annotations

from pathlib import Path

import compare
import fit_once
import numpy as np
import peers
import pytest
import quantization
import shapes
import sources


def test_resample_keeps_queries_whole() -> None:
    data = shapes.make("yahoo", 400, seed=0)
    small = sources.resample(data, seed=1, share=0.5, max_rows=150)
    assert small.train.group.sum() == small.n_train <= 150
    assert set(small.train.group) <= set(data.train.group)
    np.testing.assert_array_equal(small.test.X, data.test.X)
    held_back = small.held_back
    assert held_back.group.sum() == len(held_back.y)
    assert len(held_back.group) == len(small.train.group)  # the share that 0.5 leaves out
    rows = {row.tobytes() for row in small.train.X}
    assert not rows & {row.tobytes() for row in held_back.X}


def test_resample_drops_classes_without_training_rows() -> None:
    y = np.array([0, 2, 2, 0, 0, 1, 2, 0])
    data = sources.Data("x", "multiclass", np.zeros((8, 1), np.float32), y, n_train=4)
    small = sources.resample(data, seed=0, share=1.0, max_rows=4)
    assert small.train.y.tolist() == [0, 1, 1, 0]
    assert small.test.y.tolist() == [0, 1, 0]
    assert small.n_held_back == 0


def test_rows_held_back_are_others_and_travel(tmp_path: Path) -> None:
    data = shapes.make("year", 200, seed=0)
    small = sources.resample(data, seed=1, share=0.8, max_rows=100)
    sources.save(small, tmp_path)
    loaded = sources.open_folder(tmp_path)
    assert (loaded.n_train, loaded.n_held_back, len(loaded.test.y)) == (100, 25, len(data.test.y))
    numbers = [np.flatnonzero((row == data.X).all(axis=1))[0] for row in loaded.X]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers[:125]) < data.n_train <= min(numbers[125:])
    np.testing.assert_array_equal(loaded.y, data.y[numbers])


@pytest.mark.parametrize(
    ("mean", "error", "verdict", "text"),
    [
        (0.05, 0.01, "worse", "**+5.00 ± 1.00**"),
        (-0.05, 0.01, "better", "-5.00 ± 1.00 (better)"),
        (0.05, 0.03, "within noise", "+5.00 ± 3.00"),
        (0.001, 0.0001, "within noise", "+0.10 ± 0.01"),
        (0.05, float("nan"), "within noise", "+5.00"),
        (968.97, 9.338, "worse", "**+9.7e+04 ± 9.3e+02**"),
    ],
)
def test_verdict(mean: float, error: float, verdict: str, text: str) -> None:
    found = compare.Difference(mean, error)
    assert (found.verdict, str(found)) == (verdict, text)


def test_difference_is_paired_by_seed() -> None:
    found = compare.difference({0: 1.1, 1: 2.1, 2: 9.0}, {0: 1.0, 1: 2.0})
    assert found.mean == pytest.approx(0.1 / 1.5)
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert compare.difference({0: 1.0}, {1: 1.0}) is None


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replace the children by a stand-in; return the list of (peer, seed) it is asked for."""
    asked: list[tuple[str, int]] = []

    def launch(peer: str, settings: peers.Settings, folder: Path, timeout: float) -> dict:
        asked.append((peer, settings.seed))
        assert sources.open_folder(folder).n_train == 180
        record = {"peer": peer, **vars(settings)}
        if peer == "qgbdt-3" and len(asked) < 4:
            return {**record, "status": "failed", "note": "killed by signal 9"}
        return {**record, "status": "ok", "loss": 1.0 + settings.seed}

    monkeypatch.delenv("QGBDT_DATA", raising=False)
    monkeypatch.setattr(compare, "SIMULATED_ROWS", 180)
    monkeypatch.setattr(fit_once, "launch", launch)
    monkeypatch.setattr(peers, "is_installed", lambda name: True)
    return asked


def test_compare_resumes(fits: list[tuple[str, int]], tmp_path: Path) -> None:
    output = tmp_path / "out.md"
    options = ["--sets", "sim_year", "--bits", "3", "--jobs", "1"]
    options += ["--rivals", "lightgbm-quant-renew-row"]
    options += ["--results", str(tmp_path / "r.jsonl"), "--markdown", str(output)]
    compare.main([*options, "--seeds", "0"])
    names = ["lightgbm-row", "lightgbm-quant-renew-row", "qgbdt-3"]
    assert fits == [(name, 0) for name in names]
    assert "qgbdt-3 on sim_year: killed by signal 9" in output.read_text()
    compare.main([*options, "--seeds", "0,1"])
    assert fits[3:] == [("qgbdt-3", 0), *((name, 1) for name in names)]
    compare.main([*options, "--seeds", "0,1"])
    assert len(fits) == 7
    text = output.read_text()
    assert "| sim_year     | regression |             +0.00 ± 0.00 | +0.00 ± 0.00 |" in text
    assert "killed" not in text
    compare.main([*options, "--seeds", "0,1", "--min-child-samples", "5"])
    assert len(fits) == 13
    text = output.read_text()
    assert "31 leaves of at least 5 rows" in text
    assert "| sim_year     | regression |             +0.00 ± 0.00 | +0.00 ± 0.00 |" in text


def test_mean_ranks() -> None:
    by_set = {"a": (1.0, 2.0, 3.0), "b": (2.0, 1.0, 2.0), "c": (1.0, None, 2.0)}
    records = [
        {"data": name, "peer": peer, "status": "ok", "seed": 0, "loss": loss}
        for name, row in by_set.items()
        for peer, loss in zip("xyz", row)
        if loss is not None
    ]
    assert compare.ranks(records, "abc", "xyz") == [1.5, 1.5, 2.5]  # c lacks y
    assert np.isnan(compare.ranks(records, "c", "xyz")).all()


def test_ablation_table(fits: list[tuple[str, int]], tmp_path: Path) -> None:
    output = tmp_path / "out.md"
    options = ["--ablation", "--sets", "sim_year", "--bits", "2", "--seeds", "0,1"]
    paths = ["--results", str(tmp_path / "r.jsonl"), "--markdown", str(output)]
    compare.main([*options, *paths])
    lines = [line.replace("|", " ").split() for line in output.read_text().splitlines()]
    rows = [line[:3] for line in lines if line[:1] == ["2"]]
    assert rows == [["2", r, n] for r in ("stochastic", "nearest") for n in ("yes", "no")]


class Rounds(peers.Peer):
    """A stand-in whose prediction after some rounds is as many, or nothing for all of them."""

    def __init__(self) -> None:
        self.settings = peers.Settings("regression", rounds=50)

    def estimator(self) -> None:
        raise NotImplementedError

    def fit(self, train: sources.Part) -> tuple[float, float]:
        raise NotImplementedError

    def predict(self, X: np.ndarray, rounds: int | None = None) -> np.ndarray:
        return np.full(len(X), float(rounds))


def test_stops_where_rows_held_back_are_best() -> None:
    y = np.array([0.0, 0.0, 21.0, 24.0])
    data = sources.Data("x", "regression", np.zeros((4, 1)), y, n_train=2, n_held_back=1)
    stopped = fit_once.stop_early(Rounds(), data)
    assert stopped == {"stopped_rounds": 20, "stopped_loss": 16.0}


@pytest.mark.parametrize("name", ["qgbdt", "lightgbm-row", "xgboost", "catboost", "sklearn"])
def test_the_first_rounds_are_a_shorter_fit(name: str) -> None:
    if not peers.is_installed(name):
        pytest.skip(f"{name} is not installed")
    data = shapes.make("plain", 300, seed=0)
    short, long = (peers.make(name, peers.Settings("binary", rounds=r, leaves=4)) for r in (3, 9))
    for peer in (short, long):
        peer.fit(data.train)
    first = long.predict(data.test.X, rounds=3)
    np.testing.assert_allclose(first, short.predict(data.test.X), atol=1e-6)
    assert np.abs(first - long.predict(data.test.X)).max() > 1e-3


def test_study_writes_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(compare, "SIMULATED_ROWS", 180)
    monkeypatch.setattr(quantization, "BITS", ("auto", 2))
    monkeypatch.setattr(quantization, "FIXED", (2,))
    monkeypatch.setattr(quantization, "ABLATION_BITS", (2,))
    monkeypatch.setattr(quantization, "RIVALS", ("qgbdt-3",))
    monkeypatch.setattr(compare, "REFERENCE", "qgbdt-16")
    monkeypatch.setattr(quantization, "REFERENCE", "qgbdt-16")
    options = ["--sets", "sim_year", "--ablation-sets", "sim_year", "--seeds", "0,1"]
    options += ["--rounds", "10", "--scale", "0.001", "--folder", str(tmp_path)]
    quantization.main([*options, "--results", str(tmp_path / "r.jsonl")])
    text = (tmp_path / "quantization.md").read_text()
    rows = [line.replace("|", " ").split() for line in text.splitlines() if "|" in line]
    assert [row[0] for row in rows].count("qgbdt-2") == 1
    (summed,) = [row for row in rows if row[0] == "qgbdt-2"]
    assert float(summed[5]) == 2.0  # bits
    assert next(row[:3] for row in rows if row[0] == "2") == ["2", "stochastic", "yes"]
    (sent,) = [row for row in rows if row[0] == "higgs"]
    assert float(sent[2]) > 0
    for name in ("loss-over-bits.png", "bits-over-trees.png"):
        assert (tmp_path / name).stat().st_size > 1000
