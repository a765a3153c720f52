"""Arrays that lie on a GPU: what is trained on and predicted has the bits of NumPy's.

Tests of results run twice, as those of test_cuda.py: on a GPU, where Numba lays the arrays, and on
the host in its place, where an array is NumPy's memory, told of by ``__cuda_array_interface__``.

Swept: objectives, float32 and float64, missing values, memory orders and strides of all signs,
ranges of iterations, batches around a block, other types, categories, orders of execution; what fit
and refit take; the questions of boosters and estimators. Against: the same of NumPy's arrays.
Tolerance: none.
"""

import ctypes
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import OBJECTIVES, CudaModule, hurting_data, put_cuda_module, targets, unaligned
from test_cuda import message_of
from test_predictor import assert_same_bits, random_booster, rows

from qgbdt import QGBDTClassifier, QGBDTRanker, QGBDTRegressor, _core
from qgbdt.devices import DLPACK_CUDA, WHY_NO_GPU, host_array, open_device
from qgbdt.errors import DataError, DeviceError

DTYPES = (np.float64, np.float32)
IN_PLACE = {"WalkTrees": 1}
COPIED = {"GatherElements": 1}


class Told:
    """An array that lies on a GPU, of which nothing is known but what it tells."""

    def __init__(self, array, address, **others):
        strides = None if array.flags.c_contiguous else array.strides
        told = {"shape": array.shape, "typestr": array.dtype.str, "strides": strides}
        self.__cuda_array_interface__ = told | {"data": (address, True), "version": 3} | others


class OnHost:
    """qgbdt._cuda where the host is in a GPU's place; it knows the devices it has made."""

    __spec__ = "built"

    def __init__(self):
        self.made, self.memory = [], []

    def state(self):
        return "ready"

    def device(self, timed=False):
        self.made.append(self.make())
        return self.made[-1]

    def make(self):
        return _core.on_host.device(order_seed=len(self.made))

    def lay(self, array, **others):
        """The array on the GPU, with its strides."""
        array = np.asarray(array)
        self.memory.append(array)
        return Told(array, array.ctypes.data, **others)

    def launches(self):
        """How often each kernel has run since this was last asked."""
        found = {}
        for device in self.made:
            for name, (n, *_) in device.kernel_times().items():
                short = name.removeprefix("qgbdt::").split("<")[0]
                found[short] = found.get(short, 0) + n
        self.made.clear()
        return found


class OnGpu(OnHost):
    """qgbdt._cuda itself."""

    def __init__(self):
        from qgbdt import _cuda

        super().__init__()
        self.make = _cuda.device

    def lay(self, array, **others):
        from numba import cuda

        array = np.asarray(array)
        low, high = np.lib.array_utils.byte_bounds(array)
        span = np.frombuffer((ctypes.c_uint8 * (high - low)).from_address(low), np.uint8)
        self.memory.append(cuda.to_device(span))
        begin = self.memory[-1].__cuda_array_interface__["data"][0]
        return Told(array, begin + array.ctypes.data - low, **others)


@pytest.fixture(params=["on_host", "gpu"])
def gpu(request, monkeypatch):
    """Lays arrays on a GPU, and tells what ran there."""
    if request.param == "on_host":
        place = OnHost()
    elif find_spec("qgbdt._cuda") is None:
        pytest.skip("this build has no CUDA module, which is built where nvcc is")
    else:
        try:
            open_device("cuda")
        except DeviceError as error:
            pytest.skip(str(error))
        place = OnGpu()
    put_cuda_module(monkeypatch, place)
    return place


def layouts(X):
    """The same matrix in memory of other orders and strides."""
    wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)
    yield from (X, np.asfortranarray(X), wide[::2, ::3])
    yield from (np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1], np.asfortranarray(X[::-1])[::-1])
    yield np.hstack([X, X])[:, X.shape[1] :]


# --------------------------------------------------------------------------------- predicted there


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_batches(objective, dtype, gpu):
    booster = random_booster(objective)
    with np.errstate(over="ignore"):
        X = rows(600).astype(dtype)
    for n in (1, 2, 11, 255, 256, 257, 600):
        for raw_score in (False, True):
            predicted = booster.predict(gpu.lay(X[:n]), raw_score=raw_score)
            assert type(predicted) is np.ndarray
            assert_same_bits(predicted, booster.predict(X[:n], raw_score=raw_score))
            assert gpu.launches() == IN_PLACE


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_layouts(objective, dtype, gpu):
    booster = random_booster(objective)
    with np.errstate(over="ignore"):
        X = rows(300).astype(dtype)
    expected = booster.predict(X)
    for same in layouts(X):
        assert_same_bits(booster.predict(gpu.lay(same)), expected)
    one_row = np.broadcast_to(X[7], X.shape)
    assert_same_bits(booster.predict(gpu.lay(one_row)), booster.predict(one_row))
    assert gpu.launches() == {"WalkTrees": 7}


@pytest.mark.parametrize("objective", ["regression", "multiclass"])
def test_ranges_of_iterations(objective, gpu):
    booster, X = random_booster(objective), rows(100)
    on_gpu = gpu.lay(X)
    for start in range(booster.n_iterations + 1):
        for number in (None, 1, 2, 100):
            asked = {"start_iteration": start, "num_iteration": number, "n_jobs": 1}
            assert_same_bits(booster.predict(on_gpu, **asked), booster.predict(X, **asked))


@pytest.mark.parametrize("objective", ["binary", "multiclass"])
def test_start_from_init_score(objective, gpu):
    model, X = random_booster(objective)._model, rows(100)
    init = np.random.default_rng(0).normal(size=(len(X), model.n_outputs))
    on_gpu = _core.DeviceMatrix(
        gpu.device(), gpu.lay(X).__cuda_array_interface__["data"][0], X.dtype, X.shape, X.strides
    )
    for raw in (True, False):
        assert_same_bits(
            model.predict(on_gpu, 0, 3, raw, 2, init), model.predict(X, 0, 3, raw, 2, init)
        )


def test_orders_of_execution():
    model, X = random_booster("multiclass")._model, rows(1000)
    expected = model.predict(X, 0, 6, False, 1)
    for seed in range(8):
        device = _core.on_host.device(order_seed=seed)
        on_gpu = _core.DeviceMatrix(device, X.ctypes.data, X.dtype, X.shape, X.strides)
        assert_same_bits(model.predict(on_gpu, 0, 6, False, 1), expected)
        assert_same_bits(on_gpu.to_host(), X)


def test_races():
    """Small, for `make tsan`: there all threads of a block run at once."""
    model, X = random_booster("multiclass", leaves=(3, 5))._model, rows(300)
    on_gpu = _core.DeviceMatrix(_core.on_host.device(), X.ctypes.data, X.dtype, X.shape, X.strides)
    assert_same_bits(model.predict(on_gpu, 0, 2, False, 1), model.predict(X, 0, 2, False, 1))
    assert_same_bits(on_gpu.to_host(), X)


@pytest.mark.parametrize("dtype", DTYPES)
def test_estimators_predict_there(dtype, gpu):
    X = hurting_data(500).astype(dtype)
    (y, sizes), (labels, _), (classes, _) = (
        targets(X, objective) for objective in ("lambdarank", "binary", "multiclass")
    )
    on_gpu = gpu.lay(np.asfortranarray(X))
    regressor = QGBDTRegressor(n_estimators=3).fit(X, X[:, 0])
    ranker = QGBDTRanker(n_estimators=3).fit(X, y, group=sizes)
    questions = [regressor.predict, ranker.predict]
    several = np.stack([labels, classes > 0], axis=1)
    for target in (labels, classes, several):
        classifier = QGBDTClassifier(n_estimators=3).fit(X, target)
        questions += [classifier.predict, classifier.predict_proba, classifier.decision_function]
    for question in questions:
        expected = question(X, start_iteration=1)
        assert_same_bits(question(on_gpu, start_iteration=1), expected)
        assert gpu.launches() == IN_PLACE


# ----------------------------------------------------------------------------- copied to the host


@pytest.mark.parametrize(
    "dtype", ["i4", "u1", "i8", "?", "f2", ">f8", ">f4", np.dtype("f8").newbyteorder("<")]
)
def test_types_that_are_predicted_on_the_host(dtype, gpu):
    X = (rows(50, missing=0) > 0).astype(dtype)
    model = QGBDTRegressor(n_estimators=3, min_child_samples=2).fit(X, X.sum(axis=1))
    for ask in (model.predict, model.booster_.predict):
        expected = ask(X)
        assert_same_bits(ask(gpu.lay(X)), expected)
        assert gpu.launches() == (IN_PLACE if X.dtype == np.float64 else COPIED)


def test_floats_that_are_not_aligned(gpu):
    booster, X = random_booster(), rows(50)
    records = np.zeros(len(X), [("a", "u1"), ("X", "f8", 5)])
    records["X"] = X
    for same in (unaligned(X), records["X"]):
        assert_same_bits(booster.predict(gpu.lay(same)), booster.predict(X))
        assert gpu.launches() == COPIED


def test_categories_become_codes_on_the_host(gpu):
    rng = np.random.default_rng(0)
    X = np.stack([rng.choice([10.0, 20.0, 50.0, np.nan], 400), rng.normal(size=400)], axis=1)
    y = (X[:, 0] == 20) + 0.1 * X[:, 1]
    params = {"n_estimators": 3, "categorical_features": [0]}
    model = QGBDTRegressor(**params).fit(X, y)
    assert model.booster_.categories()[0] == [10, 20, 50]
    assert QGBDTRegressor(**params).fit(gpu.lay(X), gpu.lay(y)).booster_ == model.booster_
    gpu.launches()
    for ask in (model.predict, model.booster_.predict):
        assert_same_bits(ask(gpu.lay(X)), ask(X))
        assert gpu.launches() == COPIED
    on_gpu = _core.DeviceMatrix(gpu.device(), X.ctypes.data, X.dtype, X.shape, X.strides)
    with pytest.raises(ValueError, match="categories become codes on the host"):
        model.booster_._model.predict(on_gpu, 0, 3, False, 1)


def test_other_questions(gpu):
    X = hurting_data(300)
    model = QGBDTClassifier(n_estimators=4, num_leaves=7).fit(X, targets(X, "multiclass")[0])
    booster, on_gpu = model.booster_, gpu.lay(X[:, ::-1])
    X = X[:, ::-1]
    questions = [
        *(booster.apply, booster.predict_contrib, booster.predict_interactions),
        lambda X: np.stack(list(booster.staged_predict(X))),
        *(model.apply, lambda X: model.predict(X, pred_contrib=True)),
        lambda X: np.stack(list(model.staged_predict_proba(X))),
    ]
    for question in questions:
        expected = question(X)
        assert_same_bits(question(on_gpu), expected)
        assert gpu.launches() == COPIED


def test_no_rows(gpu):
    """Without any there may be no address."""
    booster = random_booster()
    none = Told(np.zeros((0, 5)), 0)
    assert booster.predict(none).shape == (0,)
    assert host_array(none).shape == (0, 5)
    assert gpu.launches() == {}


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "u2", "u1", "?", "c16", ">i4"])
def test_copies(dtype, gpu):
    rng = np.random.default_rng(0)
    for n_rows, n_columns in ((1, 1), (1, 7), (7, 1), (40, 13), (300, 3)):
        X = (100 * rng.random((n_rows, n_columns))).astype(dtype)
        vectors = (X[:, 0], X[::-2, -1], np.broadcast_to(X[0, 0], 9), X[0, 0, None][0])
        for array in (*layouts(X), *vectors):
            copy = host_array(gpu.lay(array))
            assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
            assert_same_bits(copy, array)


def test_a_copy_by_parts(gpu):
    X = np.arange(3e6).reshape(-1, 3)[::-1, ::2]
    assert_same_bits(host_array(gpu.lay(X)), X)
    assert gpu.launches() == {"GatherElements": 1}
    X = np.arange(9e6).reshape(-1, 3)[::-1, ::-1]
    assert_same_bits(host_array(gpu.lay(X)), X)
    assert gpu.launches() == {"GatherElements": 5}


# ------------------------------------------------------------------------------------- trained on


def with_arrays_on(gpu, asked):
    """Arguments with each array laid on the GPU once, and how many there are."""
    laid = {}

    def lay(values):
        if isinstance(values, (list, tuple)):
            return type(values)(map(lay, values))
        if not isinstance(values, np.ndarray):
            return values
        return laid.setdefault(id(values), gpu.lay(values))

    return {name: lay(values) for name, values in asked.items()}, laid


def assert_fits_agree(gpu, estimator, **asked):
    expected = type(estimator)(**estimator.get_params()).fit(**asked)
    on_gpu, laid = with_arrays_on(gpu, asked)
    estimator.fit(**on_gpu)
    assert estimator.booster_ == expected.booster_
    assert estimator.evals_result_ == expected.evals_result_
    assert gpu.launches() == {"GatherElements": len(laid)}
    return expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_regressor(dtype, gpu):
    X, other = hurting_data(500).astype(dtype), hurting_data(200, seed=1).astype(dtype)
    rng = np.random.default_rng(0)
    table = rng.random((500, 4))
    y, weight, init = table[:, 0], table[:, 2].astype(np.float32), table[::-1, 3]
    fitted = assert_fits_agree(
        gpu,
        QGBDTRegressor(n_estimators=3),
        X=X,
        y=y,
        sample_weight=weight,
        init_score=init,
        eval_set=[(X, y), (other, other[:, 0])],
        eval_sample_weight=[None, np.ones(200)],
        eval_init_score=(init, np.zeros(200)),
    )
    assert list(fitted.evals_result_) == ["training", "valid_1"]
    lone = {"X_val": other, "y_val": other[:, 0], "sample_weight_val": np.ones(200)}
    assert_fits_agree(gpu, QGBDTRegressor(n_estimators=3), X=X, y=y, **lone)
    assert_fits_agree(gpu, QGBDTRegressor(n_estimators=3), X=X, y=table)
    pair = {"eval_set": (other, other[:, 0])}
    assert_fits_agree(gpu, QGBDTRegressor(n_estimators=3), X=X, y=y, **pair)


@pytest.mark.parametrize("dtype", ["i8", "?", "f4"])
def test_classifier(dtype, gpu):
    X = hurting_data(500)
    labels = (X[:, 1] > 0).astype(dtype)
    balanced = QGBDTClassifier(n_estimators=3, class_weight="balanced", validation_fraction=0.2)
    assert_fits_agree(gpu, balanced, X=X, y=labels)
    assert balanced.classes_.dtype == labels.dtype
    several = np.stack([labels, labels[::-1]], axis=1)
    assert_fits_agree(gpu, QGBDTClassifier(n_estimators=3), X=X, y=several)


def test_ranker(gpu):
    X = hurting_data(500)
    y, sizes = targets(X, "lambdarank")
    qid = np.repeat(np.arange(len(sizes)), sizes)
    assert_fits_agree(
        gpu,
        QGBDTRanker(n_estimators=3),
        X=X,
        y=y,
        group=sizes,
        eval_set=[(X, y)],
        eval_group=[sizes],
    )
    assert_fits_agree(gpu, QGBDTRanker(n_estimators=3), X=X, y=y, qid=qid)


def test_refit_and_estimate_memory(gpu):
    X = hurting_data(500)
    y, weight = X[:, 0].copy(), np.random.default_rng(0).random(500)
    labels = (y > 0).astype(int)
    regressor = QGBDTRegressor(n_estimators=3).fit(X, y)
    ranked, sizes = targets(X, "lambdarank")
    ranker = QGBDTRanker(n_estimators=3).fit(X, ranked, group=sizes)
    classifier = QGBDTClassifier(n_estimators=3).fit(X, labels)
    for model, asked in (
        (regressor, {"X": X, "y": y[::-1], "sample_weight": weight}),
        (classifier, {"X": X, "y": labels[::-1], "sample_weight": weight}),
        (ranker, {"X": X, "y": ranked[::-1], "group": sizes}),
    ):
        expected = model.refit(**asked)
        on_gpu, laid = with_arrays_on(gpu, asked)
        assert model.refit(**on_gpu).booster_ == expected.booster_ != model.booster_
        assert gpu.launches() == {"GatherElements": len(laid)}
    expected = classifier.estimate_memory(X, labels)
    assert classifier.estimate_memory(gpu.lay(X), gpu.lay(labels)) == expected


def test_lists_are_left_alone(gpu):
    X, y = [[0.0, 1.0], [1.0, 0.0]] * 20, [0, 1] * 20
    on_lists = QGBDTClassifier(n_estimators=2).fit(X, y, eval_set=[(X, y)])
    assert list(on_lists.evals_result_) == ["training"]
    assert on_lists.booster_ == QGBDTClassifier(n_estimators=2).fit(np.array(X), y).booster_
    assert gpu.launches() == {}


# ---------------------------------------------------------------------------------------- messages

X = np.arange(60.0).reshape(-1, 4)
OR_COPY = " or copy it to the host, with X.get() or X.cpu().numpy()."


@pytest.fixture
def place(monkeypatch):
    """The host in a GPU's place."""
    put_cuda_module(monkeypatch, module := OnHost())
    return module


def error_of(ask, *args):
    with pytest.raises(ValueError, match=r"X|y|Booster|Complex") as raised:
        ask(*args)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [X[:, :3], X[:, [0, 0, 1, 2, 3]], X[0], X + 1j, (X + 1j)[:, :3]],
    ids=["few", "many", "vector", "complex", "complex and few"],
)
def test_wrong_X_has_the_errors_of_numpy(wrong, place):
    model = QGBDTRegressor(n_estimators=2).fit(X, X[:, 0])
    for ask in (model.predict, model.apply, model.booster_.predict, model.booster_.apply):
        assert error_of(ask, place.lay(wrong)) == error_of(ask, wrong)


def test_infinity_is_legal_in_X_alone(place):
    wrong = X.copy()
    wrong[3, 0] = np.inf
    model = QGBDTRegressor(n_estimators=2).fit(place.lay(wrong), X[:, 0])
    assert_same_bits(model.predict(place.lay(wrong)), model.predict(wrong))
    fit = QGBDTRegressor().fit
    assert error_of(fit, place.lay(X), place.lay(wrong[:, 0])) == error_of(fit, X, wrong[:, 0])


def test_names_of_features_are_missed(place):
    pandas = pytest.importorskip("pandas")
    model = QGBDTRegressor(n_estimators=2).fit(pandas.DataFrame(X, columns=[*"abcd"]), X[:, 0])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(place.lay(X))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mask": object()}, "An array on a GPU has a mask. Use NaN for missing values."),
        ({"typestr": "|V2"}, "An array on a GPU must be numeric, got dtype |V2."),
        ({"shape": (3, 5, 4)}, "An array on a GPU must have 1 or 2 dimensions, got 3."),
    ],
)
def test_what_no_array_may_tell(told, message, place):
    model = QGBDTRegressor(n_estimators=2).fit(X, X[:, 0])
    wrong = place.lay(X, **told)
    for ask in (model.predict, model.booster_.predict, lambda X: model.fit(X, X)):
        assert error_of(ask, wrong) == (DataError, message)


def test_interfaces_without_strides_or_mask(place):
    """Both may be left out; `mask` may be None."""
    told = place.lay(X, mask=None)
    del told.__cuda_array_interface__["strides"]
    assert_same_bits(host_array(told), X)


@pytest.mark.parametrize("state", WHY_NO_GPU)
def test_without_a_usable_gpu(state, monkeypatch):
    put_cuda_module(monkeypatch, CudaModule(state))
    model, told = QGBDTRegressor(n_estimators=2).fit(X, X[:, 0]), Told(X, X.ctypes.data)
    message = f"An array on a GPU {WHY_NO_GPU[state]}{OR_COPY}"
    for ask in (model.predict, model.booster_.predict, model.apply, model.fit):
        args = (told, X[:, 0]) if ask == model.fit else (told,)
        assert message_of(ask, *args) == message


def test_without_the_module(monkeypatch):
    monkeypatch.setattr("qgbdt.devices.find_spec", lambda name: None)
    model, told = QGBDTRegressor(n_estimators=2).fit(X, X[:, 0]), Told(X, X.ctypes.data)
    message = (
        "An array on a GPU needs qgbdt's CUDA module, which this build does not have. Build it "
        "from source where nvcc is (QGBDT_CUDA=1 pip install .)," + OR_COPY
    )
    assert message_of(model.predict, told) == message_of(model.fit, told, X[:, 0]) == message


class CopiesItself(Told):
    """As JAX's and Numba's arrays do."""

    def __array__(self, dtype=None, copy=None):
        return X


class Refuses(Told):
    """As CuPy's and PyTorch's do."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")


def test_without_the_module_some_arrays_copy_themselves(monkeypatch):
    monkeypatch.setattr("qgbdt.devices.find_spec", lambda name: None)
    model = QGBDTRegressor(n_estimators=2).fit(X, X[:, 0])
    told = CopiesItself(X, X.ctypes.data)
    assert model.fit(told, X[:, 0]).booster_ == model.booster_
    for ask in (model.predict, model.booster_.predict):
        assert_same_bits(ask(told), ask(X))
    assert OR_COPY in message_of(model.predict, Refuses(X, X.ctypes.data))


@pytest.mark.parametrize("kind", [1, 3, *DLPACK_CUDA])
def test_dlpack_alone(kind):
    class Exported:
        def __dlpack_device__(self):
            return kind, 0

    exported = Exported()
    if kind not in DLPACK_CUDA:
        assert host_array(exported) is exported
        return
    assert message_of(host_array, exported) == (
        "An array on a GPU has no __cuda_array_interface__, by which qgbdt reads it. Copy it to "
        "the host, with X.get() or X.cpu().numpy()."
    )
    Exported.__array__ = lambda self, dtype=None, copy=None: X
    assert host_array(exported) is exported  # NumPy copies it


def test_too_little_memory(place):
    X, y = rows(300), np.arange(300.0)
    model = QGBDTRegressor(n_estimators=2).fit(X, y)
    place.make = lambda: _core.on_host.device(most_bytes=1000)
    assert message_of(model.predict, place.lay(X)) == (
        "The GPU has no room for 1 MB beside the 1 MB that qgbdt has there. Use fewer rows, "
        "features or num_leaves, or the CPU (device='cpu', arrays on the host), which gives the "
        "same."
    )
    assert message_of(model.fit, place.lay(X), y).startswith("The GPU has no room for 1 MB")
