"""The GPU's machine: the model file is the CPU's, byte for byte.

Every test runs twice: on a GPU, where there is one, and on the host in its place, which runs the
same kernels, block by block and thread by thread, in an order drawn from a seed. So without a GPU
all of it is tested but what nvcc makes of the code; of that, that it compiles without a warning and
has no fused multiply-add.

Swept: objectives, bits, weights, missing values, sparse and dense tiles of each width, both ways of
summing, nodes of one block and of many, orders of execution, numbers of workers and mixed machines,
drawn cases. Against: the CPU. Tolerance: none. The geometry of kernels: by brute force.
"""

import ast
import functools
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import gpu
import numpy as np
import pytest
import results
import shapes
from conftest import (
    MORE_OBJECTIVES,
    OBJECTIVES,
    CudaModule,
    feature_names,
    few_valued_data,
    hurting_data,
    native_params,
    put_cuda_module,
    real_set,
    sparse_data,
    targets,
)
from scipy import sparse
from sklearn.base import clone
from test_categories import CATEGORIES, categorical_data, effects
from test_custom_objectives import compiled_huber, compiled_logistic, squared_error
from test_distributed import drawn_case, in_threads, shards_in_order
from test_machines_agree import REAL_SETS, as_target, query_sizes_absent

from qgbdt import QGBDTClassifier, QGBDTRegressor, _core
from qgbdt.devices import WHY_NO_GPU, open_device
from qgbdt.errors import DeviceError

on_host = _core.on_host
ROOT = Path(__file__).resolve().parent.parent
BITS = (2, 3, 5, 8, 16)


@pytest.fixture(params=["on_host", "gpu"])
def make_device(request):
    """device(seed) makes a device."""
    if request.param == "on_host":
        return lambda seed=0: on_host.device(order_seed=seed)
    if find_spec("qgbdt._cuda") is None:
        pytest.skip("this build has no CUDA module, which is built where nvcc is")
    try:
        open_device("cuda")
    except DeviceError as error:
        pytest.skip(str(error))
    return lambda seed=0: open_device("cuda")


@pytest.fixture
def cuda(make_device, request, monkeypatch):
    """Makes device='cuda' train on a GPU, or on the host in its place."""
    if request.node.callspec.params["make_device"] == "on_host":
        put_cuda_module(monkeypatch, CudaModule(order_seed=5))


def train(matrix, X, y, params, *, device=None, weight=None, query_sizes=None, **others):
    names = feature_names(X)
    return _core.train(matrix, y, weight, query_sizes, names, params, 1, device=device, **others)[
        0
    ].to_bytes()


def assert_devices_agree(X, y, params, *devices, max_bin=255, **kwargs):
    matrix = _core.BinnedMatrix(X, max_bin, 2)
    expected = train(matrix, X, y, params, **kwargs)
    for device in devices:
        assert train(matrix, X, y, params, device=device, **kwargs) == expected
    return expected


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("objective", OBJECTIVES + MORE_OBJECTIVES)
def test_objectives(objective, bits, make_device):
    X = hurting_data(4000, 5, bits)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(0).random(len(y)) if bits % 2 else None
    params = native_params(objective=objective, grad_bits=bits, n_estimators=2, num_leaves=31)
    device = make_device(bits)
    assert_devices_agree(X, y, params, device, weight=weight, query_sizes=query_sizes)


@pytest.mark.parametrize(
    ("name", "objective"),
    [(n, o) for n in REAL_SETS for o in OBJECTIVES if (o == "lambdarank") != query_sizes_absent(n)],
)
def test_real_sets(name, objective, make_device):
    X, y, query_sizes = real_set(name, 2000 if query_sizes_absent(name) else None)
    params = native_params(objective=objective, grad_bits="auto", num_leaves=31, n_estimators=2)
    y = as_target(y, objective)
    assert_devices_agree(X, y, params, make_device(4), query_sizes=query_sizes)


@pytest.mark.parametrize("name", shapes.EIGHT)
def test_shapes(name, make_device):
    part = shapes.make(name, 1500).train
    objective = {"rank": "lambdarank"}.get(shapes.SHAPES[name].task, shapes.SHAPES[name].task)
    params = native_params(objective=objective, grad_bits="auto", num_leaves=31)
    X, y = part.X.astype(np.float64), part.y.astype(np.float64)
    assert_devices_agree(X, y, params, make_device(5), query_sizes=part.group)


@pytest.mark.parametrize("bits", [3, 5, 16])
def test_sparse_data(bits, make_device):
    X, y = sparse_data(6000)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=2, num_leaves=31)
    assert_devices_agree(X, y, params, make_device(bits))


@pytest.mark.parametrize("bits", [3, 5, 16])
@pytest.mark.parametrize("n_features", [2, 5, 40, 150])
def test_features_that_share_bytes(n_features, bits, make_device):
    X, y = few_valued_data(3000, n_features)
    params = native_params(objective="binary", grad_bits=bits, n_estimators=1, num_leaves=15)
    assert_devices_agree(X, y, params, make_device(bits))


@pytest.mark.parametrize("n_features", [1, 4, 5, 9, 17, 32, 33, 65])
def test_tiles_of_each_width(n_features, make_device):
    X = hurting_data(1500, n_features)
    y = np.nan_to_num(X).clip(-3, 3).sum(axis=1)
    params = native_params(n_estimators=1, grad_bits=8)
    assert_devices_agree(X, y, params, make_device(n_features))


@pytest.mark.parametrize("max_bin", [2, 7, 8, 63, 64, 255])
def test_bins(max_bin, make_device):
    X = hurting_data(1500, 4)
    y, _ = targets(X, "regression")
    assert_devices_agree(X, y, native_params(), make_device(max_bin), max_bin=max_bin)


@pytest.mark.parametrize(("tail", "sums"), [(1.0, "LaneSums"), (50.0, "HalfSums")])
def test_nodes_of_many_blocks(tail, sums, make_device):
    """Gradients of a normal bulk go through lanes, with outliers through halves of cells."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 3))
    y = X[:, 0] + np.where(rng.random(len(X)) < 1e-3, tail, 1) * rng.normal(size=len(X))
    params = native_params(n_estimators=2, grad_bits=5, num_leaves=15, min_child_samples=50)
    device = make_device(1)
    assert_devices_agree(X, y, params, device, weight=rng.random(len(X)))
    assert any(sums in name for name in device.kernel_times())


@pytest.mark.parametrize(
    "change", [{"rounding": "nearest"}, {"renew_leaves": False}, {"min_split_gain": 50.0}]
)
def test_other_parameters(change, make_device):
    X = hurting_data(2000)
    y, _ = targets(X, "poisson")
    params = native_params(objective="poisson", reg_alpha=1.0, reg_lambda=2.0, max_depth=4)
    assert_devices_agree(X, y, params | change, make_device(3))


@pytest.mark.parametrize("bits", [3, 16])
@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass"])
def test_categories(objective, bits, cuda):
    """Few and many categories; weights of rows make counts of rows decide."""
    X = categorical_data(4000)
    y, _ = targets(effects(X), objective)
    kind = QGBDTRegressor if objective == "regression" else QGBDTClassifier
    for weight in (None, np.random.default_rng(1).choice([0.01, 1, 100], len(X))):
        models = [
            kind(
                objective=objective,
                grad_bits=bits,
                n_estimators=2,
                min_data_per_group=20,
                min_child_weight=0,
                categorical_features=[i for i, n in enumerate(CATEGORIES) if n],
                device=device,
            )
            .fit(X, y, sample_weight=weight)
            .booster_
            for device in ("cpu", "cuda")
        ]
        assert models[0] == models[1]
        assert any(tree["is_categorical"].any() for tree in models[0].trees())


ROWS = np.random.default_rng(0).normal(size=(600, 3))
TIMES, _ = targets(ROWS, "aft")


@pytest.mark.parametrize(
    ("estimator", "X", "y"),
    [
        (QGBDTRegressor(extra_trees=True), hurting_data(3000), hurting_data(3000)[:, 3] > 0),
        (QGBDTRegressor(), ROWS, ROWS[:, :2]),
        (QGBDTRegressor(objective="l1"), ROWS, ROWS[:, :2]),
        (QGBDTClassifier(), ROWS, ROWS[:, :2] > 0),
        (QGBDTRegressor(), sparse.csr_array(sparse_data()[0]), sparse_data()[1]),
        (QGBDTRegressor(), sparse.random_array((300, 500), density=0.01, rng=0), ROWS[:300, 0]),
        (QGBDTRegressor(objective="aft"), ROWS, TIMES),
        (QGBDTRegressor(objective="aft", aft_loss_distribution="logistic"), ROWS, TIMES),
        (QGBDTRegressor(objective="aft", aft_loss_distribution="extreme"), ROWS, TIMES),
        (QGBDTRegressor(objective="cox"), ROWS, TIMES),
        (QGBDTRegressor(objective=squared_error), ROWS, ROWS[:, 0]),
        (QGBDTRegressor(objective=compiled_huber), ROWS, ROWS[:, 0]),
        (QGBDTClassifier(objective=compiled_logistic), ROWS, ROWS[:, 0] > 0),
    ],
    ids=[
        "drawn cuts",
        "targets",
        "quantiles of targets",
        "labels",
        "sparse",
        "nearly empty",
        "times",
        "times with logistic noise",
        "times with extreme noise",
        "hazards",
        "function of all rows",
        "compiled",
        "compiled, of classes",
    ],
)
def test_what_estimators_can(estimator, X, y, cuda):
    estimator.set_params(n_estimators=3, num_leaves=7)
    weight = np.random.default_rng(2).random(X.shape[0])
    fitted = [
        clone(estimator).set_params(device=device).fit(X, y, sample_weight=weight).booster_
        for device in ("cpu", "cuda")
    ]
    assert fitted[0] == fitted[1]


def test_order_of_execution():
    X = hurting_data(5000, 40)
    y, _ = targets(X, "binary")
    devices = [on_host.device(order_seed=seed) for seed in range(8)]
    assert_devices_agree(X, y, native_params(objective="binary", n_estimators=2), *devices)


def test_children_too_small(make_device):
    """Rows of no weight: hessians prove too little, and rows have to be counted."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3000, 4))
    X[rng.random(X.shape) < 0.2] = np.nan
    y = (np.nan_to_num(X[:, 0]) > 0).astype(float)
    weight = rng.choice([0.01, 1, 100], len(X))
    params = native_params(objective="binary", min_child_samples=100, min_child_weight=0.0)
    assert_devices_agree(X, y, params, make_device(1), weight=weight)


@pytest.mark.parametrize("seed", range(1000, 1030))
def test_drawn_cases(seed, make_device):
    data, _ = drawn_case(seed)
    X, y, params, _ = (data.pop(name) for name in ("X", "y", "params", "n_threads"))
    assert_devices_agree(X, y, params, make_device(seed), **data)


def test_going_on_from_a_model(make_device):
    X = hurting_data(1000)
    y, _ = targets(X, "binary")
    matrix = _core.BinnedMatrix(X, 255, 1)
    params = native_params(objective="binary")
    begun = _core.train(matrix, y, None, None, feature_names(X), params, 1)[0]
    raw = begun.predict(X, 0, 3, True, 1)
    others = {"initial": begun, "raw_prediction": np.ascontiguousarray(raw.T)}
    assert_devices_agree(X, y, params, make_device(2), **others)


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_workers(seed, make_device):
    """All on devices, or every other one on the CPU."""
    data, edges = drawn_case(seed)
    X, y, weight, max_bin = (data[name] for name in ("X", "y", "weight", "max_bin"))
    del data["n_threads"]
    expected = assert_devices_agree(**data)
    parts = shards_in_order(len(y), edges, data["query_sizes"])

    def work(comm):
        part = parts[comm.rank]
        matrix = _core.BinnedMatrix(X[part.rows], max_bin, 1, comm, part.blocks)
        some = None if weight is None else weight[part.rows]
        device = None if seed % 2 and comm.rank % 2 else make_device(seed + comm.rank)
        others = {"weight": some, "query_sizes": part.query_sizes, "comm": comm}
        return train(matrix, X, y[part.rows], data["params"], device=device, **others)

    assert set(in_threads(_core.thread_comms(len(parts)), work)) == {expected}


@pytest.mark.parametrize("objective", ["binary", "multiclass", "lambdarank"])
@pytest.mark.parametrize("bits", [2, 16])
def test_races(objective, bits):
    """Small, for `make tsan`: there all threads of a block run at once."""
    X = np.concatenate([hurting_data(90, 3), sparse_data(90, 32)[0]], axis=1)
    y, query_sizes = targets(X, objective)
    weight = np.random.default_rng(1).choice([0.01, 1, 100], len(X))
    params = native_params(
        objective=objective, grad_bits=bits, n_estimators=1, num_leaves=4, min_child_samples=20
    )
    device = on_host.device()
    assert_devices_agree(X, y, params, device, weight=weight, query_sizes=query_sizes)


def test_few_launches():
    """They depend on rounds, not on rows, nodes or splits."""
    X = hurting_data(3000)
    y, _ = targets(X, "regression")
    matrix = _core.BinnedMatrix(X, 255, 1)
    params = native_params(num_leaves=63, n_estimators=1, grad_bits=8)
    device = on_host.device()
    cost = _core.train(matrix, y, None, None, feature_names(X), params, 1, device=device)[1]
    launches = {name: n for name, (n, *_) in device.kernel_times().items()}
    assert 2 < launches["qgbdt::FindSplit"] <= cost["growth_rounds"] + 1 < cost["growth_splits"]
    assert sum(launches.values()) <= 9 + 7 * cost["growth_rounds"]


# ------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("chunk_rows", [1, 2, 7, 100])
def test_chunks_hold_each_row_once(chunk_rows):
    rng = np.random.default_rng(chunk_rows)
    for _ in range(50):
        ends = np.sort(rng.integers(0, 60, 8)).reshape(-1, 2)
        ranges = [(int(a), int(b)) for a, b in ends] + [(70, 70), (70, 71)]
        expected = [(i, row) for i, (begin, end) in enumerate(ranges) for row in range(begin, end)]
        chunks = on_host.cut_ranges(ranges, chunk_rows)
        assert all(0 < end - begin <= chunk_rows for _, begin, end in chunks)
        assert [(i, row) for i, begin, end in chunks for row in range(begin, end)] == expected


@pytest.mark.parametrize("gradient_levels", [1, 2, 15, 16, 31, 32, 127])
@pytest.mark.parametrize("hessian_levels", [1, 30, 63, 64, 254])
def test_no_lane_overflows(gradient_levels, hessian_levels):
    """A block's rows, all in one bin with the largest sums, stay within 16 bits a half."""
    for n_rows in (0, 1, 511, 512, 10**4, 10**6, 2**31 - 1):
        for n_tiles in (1, 3, 70_000):
            lanes, rows = on_host.histogram_chunk_rows(
                n_rows, n_tiles, gradient_levels, hessian_levels
            )
            assert rows >= 1
            if lanes:
                assert rows * gradient_levels < 2**15
                assert rows * hessian_levels < 2**16
    assert lanes == (1024 * gradient_levels < 2**15 and 1024 * hessian_levels < 2**16)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 256, 1000])
def test_host_runs_every_block_once(n):
    orders = {tuple(on_host.shuffled_numbers(n, seed)) for seed in range(20)}
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(n))}
    assert on_host.shuffled_numbers(n, 0) == list(range(n))
    assert len(orders) > min(n - 1, 10)


# ------------------------------------------------------------------------- what nvcc makes of it


def test_nvcc_compiles_it(tmp_path):
    """Without warnings; and no multiplication and addition are fused, which would change bits."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not on PATH")
    command = [nvcc, *setup_constant("NVCC_FLAGS"), "-c", "-o", str(tmp_path / "backend.o")]
    command = [flag for flag in command if not flag.startswith("-gencode")]
    command += ["-gencode=arch=compute_90,code=[sm_90,compute_90]", "--keep", "--keep-dir"]
    command += [str(tmp_path), str(ROOT / "csrc/cuda/cuda_backend.cpp")]
    alone = os.environ | {"LD_PRELOAD": ""}  # a sanitizer is not for compilers
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=alone)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ptx = next(tmp_path.glob("*.ptx")).read_text()
    assert ptx.count(".entry") > 20
    assert "fma." not in ptx
    assert "atom.shared.add.f" not in ptx
    assert "red.global.add.f" not in ptx


def setup_constant(name):
    """A constant of setup.py, without running it."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return eval(compile(ast.Expression(node.value), "setup.py", "eval"))
    raise KeyError(name)


# ---------------------------------------------------------------------------------------- messages

X = np.arange(60.0).reshape(-1, 2)
OR_CPU = " or use device='cpu', which trains the same model."


def message_of(fit, *args, **kwargs):
    with pytest.raises(DeviceError) as raised:
        fit(*args, **kwargs)
    return str(raised.value)


@pytest.mark.skipif(find_spec("qgbdt._cuda") is None, reason="built where nvcc is")
def test_the_module_knows_its_machine():
    """It loads, and the core trains on its device, or says that there is no GPU."""
    from qgbdt import _cuda

    matrix = _core.BinnedMatrix(X, 255, 1)
    fit = functools.partial(train, matrix, X, X[:, 0].copy(), native_params())
    if _cuda.state() == "ready":
        assert fit(device=_cuda.device()) == fit()
    else:
        assert _cuda.state() in WHY_NO_GPU
        assert message_of(fit, device=_cuda.device()).startswith("The GPU failed: ")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("no driver", "device='cuda' finds no NVIDIA driver. Install one,"),
        (
            "old driver",
            "device='cuda' needs a newer NVIDIA driver than is installed. Update it,",
        ),
        (
            "no gpu",
            "device='cuda' finds no NVIDIA GPU. Look at nvidia-smi and CUDA_VISIBLE_DEVICES,",
        ),
        (
            "old gpu",
            "device='cuda' needs a GPU of compute capability 8.0 or newer. Use another one,",
        ),
    ],
)
def test_machine_without_a_usable_gpu(state, message, monkeypatch):
    put_cuda_module(monkeypatch, CudaModule(state))
    assert message_of(QGBDTRegressor(device="cuda").fit, X, X[:, 0]) == message + OR_CPU


def test_each_state_has_a_message():
    named = re.findall(r'"((?:no|old) \w+)"', (ROOT / "csrc/cuda/gpu.cpp").read_text())
    assert set(named) == set(WHY_NO_GPU)


def test_an_estimator_trains_on_a_device(monkeypatch):
    put_cuda_module(monkeypatch, CudaModule())
    on_device = QGBDTRegressor(device="cuda").fit(X, X[:, 0]).booster_
    assert on_device == QGBDTRegressor().fit(X, X[:, 0]).booster_


def test_benchmark(monkeypatch, tmp_path, capsys):
    """All of bench/gpu.py but the card."""
    put_cuda_module(monkeypatch, CudaModule())
    card = {"card": "none", "card_memory": "0", "driver": "none"}
    monkeypatch.setattr(gpu, "graphics_card", lambda: card)
    monkeypatch.setattr(gpu, "CASES", gpu.CASES[:1])
    path = tmp_path / "gpu.jsonl"
    told = "--scale 0.001 --rounds 2 --repeat 1 --seconds 100 --peers qgbdt --results"
    gpu.main([*told.split(), str(path)])
    records = results.read(path)
    assert all(record.items() >= card.items() and "time" in record for record in records)
    assert {r["kernel"] for r in records if r["status"] == "kernel"} > {"qgbdt::FindSplit"}
    assert [r["peer"] for r in records if r["status"] == "ok"] == ["qgbdt"]
    printed = capsys.readouterr().out
    assert "launches, qgbdt::FindSplit" in printed
    assert "| qgbdt " in printed
    gpu.main([*told.split(), str(path), "--seconds", "0"])
    assert "the time is up" in capsys.readouterr().out


def test_bounds(make_device):
    device = make_device()
    assert device.run_bounds(2)
    times = device.kernel_times()
    assert times["qgbdt::CopyWords"][2] == 2 * 2 * 8 * 2**14
    assert times["qgbdt::AddOnes"][2] == 2 * 256 * 2**12


def test_additions_are_counted(make_device):
    """As many as rows of the smaller children, and of the root, have bytes."""
    X = np.random.default_rng(0).normal(size=(900, 5))
    device = make_device()
    matrix = _core.BinnedMatrix(X, 255, 1)
    params = native_params(n_estimators=1, num_leaves=2, grad_bits=2)
    train(matrix, X, X[:, 1].copy(), params, device=device)
    additions = sum(work for name, (*_, work) in device.kernel_times().items() if "AddRows" in name)
    assert additions == 5 * len(X)


@pytest.mark.parametrize("most_bytes", [0, 100, 3000])
def test_too_little_memory(most_bytes):
    matrix = _core.BinnedMatrix(X, 255, 1)
    device = on_host.device(most_bytes=most_bytes)
    message = message_of(train, matrix, X, X[:, 0].copy(), native_params(), device=device)
    used = 1 if most_bytes > 100 else 0
    assert message == (
        f"The GPU has no room for 1 MB beside the {used} MB that qgbdt has there. Use fewer "
        "rows, features or num_leaves, or the CPU (device='cpu', arrays on the host), which gives "
        "the same."
    )
