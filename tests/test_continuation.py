"""Going on from a model and from a checkpoint: the model is that of a fit that never stopped.

Swept: objectives, where the first part ends, numbers of workers before and after, where a
checkpoint is cut or damaged. Against: one fit. Tolerance: none.
"""

import numpy as np
import pytest
from campaigns import kill_resume
from conftest import OBJECTIVES, hurting_data, targets
from workers import connect_sockets, fit_together, shards

from qgbdt import Booster, QGBDTClassifier, QGBDTRanker, QGBDTRegressor
from qgbdt.checkpoint import FILE_NAME
from qgbdt.distributed import connect_threads
from qgbdt.errors import CheckpointError, DataError, ModelFormatError, ParameterError

N_ROWS = 300


def case(objective, n_rows=N_ROWS):
    """An estimator and what its fit is called with."""
    X = hurting_data(n_rows)
    y, sizes = targets(X, objective)
    if objective == "lambdarank":
        return QGBDTRanker(n_jobs=1), {"X": X, "y": y, "group": sizes}
    kind = QGBDTClassifier if objective in ("binary", "multiclass") else QGBDTRegressor
    weight = np.linspace(0.5, 2, n_rows) if objective != "regression" else None
    return kind(objective=objective, n_jobs=1), {"X": X, "y": y, "sample_weight": weight}


def fitted(estimator, n_estimators, data, **how):
    """A fitted copy."""
    params = {**estimator.get_params(), "n_estimators": n_estimators}
    return type(estimator)(**params).fit(**data, **how)


# --------------------------------------------------------------------------------------- a model


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("first", [1, 5])
def test_goes_on_from_a_model(objective, first):
    estimator, data = case(objective)
    start = fitted(estimator, first, data)
    whole = fitted(estimator, 6, data)
    assert fitted(estimator, 6 - first, data, init_model=start).booster_ == whole.booster_


def test_whatever_stands_for_a_model(tmp_path):
    estimator, data = case("binary")
    start = fitted(estimator, 2, data)
    start.booster_.save_model(tmp_path / "model")
    whole = fitted(estimator, 5, data)
    for model in (start, start.booster_, tmp_path / "model", str(tmp_path / "model")):
        assert fitted(estimator, 3, data, init_model=model).booster_ == whole.booster_
    assert start.booster_.num_trees() == 2  # as it was


def test_goes_on_with_other_rows():
    estimator, data = case("regression")
    start = fitted(estimator, 3, data)
    more = hurting_data(500, seed=9)
    y, _ = targets(more, "regression", seed=9)
    grown = fitted(estimator, 20, {"X": more, "y": y}, init_model=start).booster_
    assert grown.num_trees() == 23
    first = grown.predict(more, num_iteration=3)
    assert (first == start.predict(more)).all()
    assert np.mean((grown.predict(more) - y) ** 2) < 0.5 * np.mean((first - y) ** 2)


@pytest.mark.parametrize(
    ("of", "change", "words"),
    [
        ("poisson", {}, r"its objective is 'poisson', but 'regression' here"),
        (
            "regression",
            {"X": np.zeros((N_ROWS, 2))},
            r"its features is .*'Column_5'\], but .* here",
        ),
    ],
)
def test_another_kind_of_model(of, change, words):
    estimator, data = case(of)
    start = fitted(estimator, 1, data)
    estimator, data = case("regression")
    with pytest.raises(DataError, match=f"init_model cannot be continued: {words}"):
        fitted(estimator, 1, data | change, init_model=start)


def test_another_number_of_classes():
    estimator, data = case("multiclass")
    start = fitted(estimator, 1, data)
    with pytest.raises(DataError, match="its number of outputs is 3, but 2 here"):
        fitted(estimator, 1, data | {"y": np.minimum(data["y"], 1)}, init_model=start)


def test_what_is_no_model(tmp_path):
    estimator, data = case("regression")
    for wrong in (QGBDTRegressor(), 3, {}):
        with pytest.raises(DataError, match="init_model must be a Booster, a fitted estimator or"):
            fitted(estimator, 1, data, init_model=wrong)
    (tmp_path / "model").write_text("nonsense")
    with pytest.raises(ModelFormatError):
        fitted(estimator, 1, data, init_model=tmp_path / "model")
    with pytest.raises(FileNotFoundError):
        fitted(estimator, 1, data, init_model=tmp_path / "none")


# ----------------------------------------------------------------------------------- a checkpoint


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_goes_on_from_a_checkpoint(objective, tmp_path):
    estimator, data = case(objective)
    whole = fitted(estimator, 6, data)
    for n in (4, 6, 6, 2, 6):  # more, none, and fewer than there are
        part = fitted(estimator, n, data, checkpoint_dir=tmp_path / "new" / "here", resume=True)
        assert part.booster_ == (whole if n == 6 else fitted(estimator, n, data)).booster_


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An estimator, its data, its model, and the checkpoint that its fit left."""
    estimator, data = case("binary", 200)
    folder = tmp_path_factory.mktemp("checkpoint")
    booster = fitted(estimator, 4, data, checkpoint_dir=folder).booster_
    return estimator, data, booster, (folder / FILE_NAME).read_bytes()


def resumed(checkpoint, contents, folder):
    """The model of a fit that finds these contents, and what it leaves of them."""
    estimator, data, *_ = checkpoint
    (folder / FILE_NAME).write_bytes(contents)
    booster = fitted(estimator, 4, data, checkpoint_dir=folder, resume=True).booster_
    return booster, (folder / FILE_NAME).read_bytes()


@pytest.mark.parametrize("cut", np.linspace(0, 1, 41))
def test_a_checkpoint_cut_anywhere(checkpoint, cut, tmp_path):
    *_, booster, whole = checkpoint
    head = whole.index(b"qgbdt-model") - 16
    part = whole[: int(head + cut * (len(whole) - head))]
    assert resumed(checkpoint, part, tmp_path) == (booster, whole)


@pytest.mark.parametrize("seed", range(40))
def test_a_checkpoint_damaged_anywhere(checkpoint, seed, tmp_path):
    rng = np.random.default_rng(seed)
    *_, booster, whole = checkpoint
    head = whole.index(b"qgbdt-model") - 16
    damaged = bytearray(whole)
    place = int(rng.integers(head, len(whole)))
    damaged[place] ^= 1 << int(rng.integers(8))
    assert resumed(checkpoint, bytes(damaged), tmp_path) == (booster, whole)


def test_trees_that_another_fit_wrote_again(checkpoint, tmp_path):
    *_, booster, whole = checkpoint
    second = [i for i in range(len(whole)) if whole[i:].startswith(b"qgbdt-model")][1] - 16
    twice = whole[:second] + whole[second:] + whole[second:]
    assert resumed(checkpoint, twice, tmp_path) == (booster, whole)


@pytest.mark.parametrize("contents", [b"", b"nonsense, of some length", bytes(100)], ids=len)
def test_a_file_that_is_no_checkpoint(checkpoint, contents, tmp_path):
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        resumed(checkpoint, contents, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == contents


def test_a_checkpoint_is_not_overwritten(checkpoint, tmp_path):
    estimator, data, _, whole = checkpoint
    (tmp_path / FILE_NAME).write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"of a fit, of 4 iterations\. Pass resume=True to"):
        fitted(estimator, 4, data, checkpoint_dir=tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == whole


def swapped(y):
    """With two unlike values in each other's place."""
    y = y.copy()
    i, k = np.flatnonzero(y == 0)[0], np.flatnonzero(y == 1)[0]
    y[i], y[k] = y[k], y[i]
    return y


@pytest.mark.parametrize(
    ("params", "change", "words"),
    [
        ({"learning_rate": 0.2}, None, "learning_rate is 0.1 there and 0.2 here"),
        ({"random_state": 1}, None, "seed is 0 there and 1 here"),
        ({"max_bin": 9}, None, "max_bin is 255 there and 9 here"),
        ({}, lambda X, y, w: (X[1:], y[1:], w[1:]), "the number of rows is 200 there and 199"),
        ({}, lambda X, y, w: (X, swapped(y), w), "the digest of y is"),
        ({}, lambda X, y, w: (X, y, w[::-1]), "the digest of sample_weight is"),
        ({}, lambda X, y, w: (X + 1, y, w), "the digest of the thresholds of X is"),
        ({}, lambda X, y, w: (X.astype(np.float32), y, w), "the dtype of X is"),
    ],
)
def test_a_checkpoint_of_another_fit(checkpoint, params, change, words, tmp_path):
    estimator, data, _, whole = checkpoint
    (tmp_path / FILE_NAME).write_bytes(whole)
    if change:
        data = dict(zip(data, change(*data.values()), strict=True))
    other = type(estimator)(**{**estimator.get_params(), **params})
    with pytest.raises(CheckpointError, match=words):
        fitted(other, 4, data, checkpoint_dir=tmp_path, resume=True)
    assert (tmp_path / FILE_NAME).read_bytes() == whole


def test_a_checkpoint_of_a_fit_that_went_on_from_a_model(checkpoint, tmp_path):
    estimator, data, booster, _ = checkpoint
    whole = fitted(estimator, 9, data).booster_
    for n in (2, 5):
        part = fitted(
            estimator, n, data, init_model=booster, checkpoint_dir=tmp_path, resume=True
        ).booster_
        assert part.num_trees() == 4 + n
    assert part == whole
    with pytest.raises(CheckpointError, match="init_model is "):
        fitted(estimator, 5, data, checkpoint_dir=tmp_path, resume=True)


# ---------------------------------------------------------------------------------------- workers


@pytest.mark.parametrize("connected", [connect_threads, connect_sockets])
@pytest.mark.parametrize("objective", ["poisson", "lambdarank"])
def test_other_numbers_of_workers_go_on(connected, objective, tmp_path):
    estimator, data = case(objective)
    sizes = data.get("group")
    places = np.arange(N_ROWS + 1) if sizes is None else np.concatenate([[0], np.cumsum(sizes)])
    whole = fitted(estimator, 8, data)
    for world_size, n in ((3, 2), (2, 4), (4, 6), (1, 8)):
        edges = places[np.linspace(0, len(places) - 1, world_size + 1).astype(int)[1:-1]].tolist()
        parts = [
            {
                key: group if key == "group" else None if value is None else value[rows]
                for key, value in data.items()
            }
            for rows, group in shards(N_ROWS, edges, sizes)
        ]
        parts[0] |= {"checkpoint_dir": tmp_path, "resume": True}
        estimator.set_params(n_estimators=n)
        together = fit_together(connected(world_size), estimator, parts)
        assert {model.booster_ for model in together} == {fitted(estimator, n, data).booster_}
    assert together[0].booster_ == whole.booster_


def test_workers_whose_rows_lie_elsewhere_go_on(tmp_path):
    estimator, data = case("binary")
    fitted(estimator, 2, data, checkpoint_dir=tmp_path)
    blocks = [np.arange(90), np.arange(90, 100), np.arange(100, N_ROWS)]
    parts = []
    for numbers in ([2, 0], [1]):
        rows = np.concatenate([blocks[number] for number in numbers])
        part = {name: values[rows] for name, values in data.items()}
        part["row_blocks"] = [(number, len(blocks[number])) for number in numbers]
        parts.append(part | {"checkpoint_dir": tmp_path, "resume": True})
    for one in fit_together(connect_threads(2), estimator.set_params(n_estimators=5), parts):
        assert one.booster_ == fitted(estimator, 5, data).booster_


def test_a_wrong_checkpoint_stops_all_workers(checkpoint, tmp_path):
    estimator, data, _, whole = checkpoint
    (tmp_path / FILE_NAME).write_bytes(whole)
    parts = [{key: value[rows] for key, value in data.items()} for rows, _ in shards(200, [90])]
    parts[0]["checkpoint_dir"] = tmp_path
    with pytest.raises(CheckpointError, match="Pass resume=True"):
        fit_together(connect_threads(2), estimator, parts)


def test_a_share_of_the_killed_and_resumed(tmp_path):
    report = kill_resume.run(schedules=2, seed=1)
    assert not report.faults
    assert report.n_same == 2


def test_a_model_file_is_no_checkpoint(checkpoint, tmp_path):
    estimator, data, booster, _ = checkpoint
    booster.save_model(tmp_path / FILE_NAME)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        fitted(estimator, 4, data, checkpoint_dir=tmp_path, resume=True)
    assert Booster.load_model(tmp_path / FILE_NAME) == booster


# -------------------------------------------------------------------------------- a warm start


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_warm_start_is_one_fit(objective):
    estimator, data = case(objective)
    warm = estimator.set_params(warm_start=True, n_estimators=2).fit(**data)
    first = warm.booster_
    whole = fitted(estimator, 6, data)
    assert warm.set_params(n_estimators=6).fit(**data).booster_ == whole.booster_
    assert (warm.n_iter_, first.num_trees()) == (6, 2 * warm.booster_._model.n_outputs)
    assert warm.fit(**data).booster_ == whole.booster_  # nothing is missing
    assert warm.set_params(warm_start=False, n_estimators=2).fit(**data).booster_ == first


def test_a_warm_start_resumes_from_its_checkpoint(tmp_path):
    estimator, data = case("binary")
    whole = fitted(estimator, 7, data)
    warm = fitted(estimator.set_params(warm_start=True), 3, data)
    fitted(estimator, 2, data, init_model=warm.booster_, checkpoint_dir=tmp_path)  # up to 5
    warm.set_params(n_estimators=7).fit(**data, checkpoint_dir=tmp_path, resume=True)
    assert warm.booster_ == whole.booster_


def test_a_warm_start_counts_its_iterations():
    estimator, data = case("binary")
    seen = []
    warm = fitted(estimator.set_params(warm_start=True), 2, data)
    warm.set_params(n_estimators=5, early_stopping_rounds=100)
    rows = [(data["X"][::2], data["y"][::2])]
    warm.fit(**data, eval_set=rows, callbacks=[seen.append])
    assert [(s.iteration, s.begin_iteration, s.end_iteration) for s in seen] == [
        (i, 2, 5) for i in (2, 3, 4)
    ]
    assert len(warm.evals_result_["valid_0"]["binary_logloss"]) == 3


def test_a_warm_start_keeps_its_classes():
    X = hurting_data(N_ROWS)
    y = np.arange(N_ROWS) % 3
    warm = QGBDTClassifier(n_estimators=2, warm_start=True).fit(X, y)
    warm.set_params(n_estimators=3).fit(X[y > 0], y[y > 0])
    assert warm.classes_.tolist() == [0, 1, 2]
    assert warm.predict_proba(X).shape == (N_ROWS, 3)
    before = warm.booster_
    with pytest.raises(DataError, match="y has the label 5, which y of training has not"):
        warm.set_params(n_estimators=4).fit(X, y + 5)
    assert warm.booster_ is before


def test_a_warm_start_that_cannot_be():
    estimator, data = case("regression")
    warm = fitted(estimator.set_params(warm_start=True), 3, data)
    with pytest.raises(ParameterError, match=r"must be at least 3\. Got 2 instead"):
        warm.set_params(n_estimators=2).fit(**data)
    with pytest.raises(ParameterError, match="Leave out init_model, or set warm_start=False"):
        warm.set_params(n_estimators=4).fit(**data, init_model=warm)
    words = "The estimator's own model cannot be continued: its features is"
    with pytest.raises(DataError, match=words):
        warm.fit(**data | {"X": data["X"][:, :2]})
    assert warm.n_features_in_ == data["X"].shape[1]
