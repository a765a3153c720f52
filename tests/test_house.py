"""The import law of csrc/ (docs/architecture.md) and the other rules that a reader can check.

Swept: every file below csrc/ and qgbdt/. Against: the layers below. Tolerance: none.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cpp", ".inc"))

# A module may include its own layer and the layers above it in this list.
LAYERS = [
    {
        "support/buffer",
        "support/bytes",
        "support/check",
        "support/crc32",
        "support/inline",
        "support/parallel",
        "support/rng",
    },
    {"types", "params", "comm", "frames", "global_rows", "socket_comm", "thread_comm"},
    {
        "elementary",
        "fixed_point",
        "quantize",
        "residual",
        "row_sample",
        "split",
        "walk_node",
        "objective",
        "metric",
        "bin_search",
        "bin_order",
        "bundle",
        "bit_slices",
    },
    {"binning", "binned_matrix", "column_bins", "histogram_codec", "histogram_pool", "tree"},
    {"feature_choice", "leaf_values", "linear_leaf"},
    {
        "walked_forest",
        "sliced_forest",
        "training_data",
        "cox",
        "histogram_exchange",
        "best_splits",
        "category_split",
        "dense_blocks",
        "missing_zeros",
    },
    {"backend"},
    {"split_finder", "leaf_quantiles", "row_sampling", "leaf_rows", "dropout"},
    {"grower"},
    {"booster"},
    {"predictor", "shap", "model_io", "evaluation"},
]
PURE = LAYERS[2] | {"types", "support/inline", "support/rng"}
MACHINES = ("cpu", "cuda")


def module_of(path):
    return str(path.relative_to(CSRC).with_suffix(""))


def includes(path):
    """(modules of this project, system headers) that a file includes."""
    own, system = set(), set()
    for line in path.read_text().splitlines():
        if found := re.match(r'\s*#include "(.+)"', line):
            own.add(module_of((path.parent / found[1]).resolve()))
        elif found := re.match(r"\s*#include <(.+)>", line):
            system.add(found[1])
    return own, system


def layer(module):
    return next((i for i, modules in enumerate(LAYERS) if module in modules), None)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_import_law(path):
    module, (own, _) = module_of(path), includes(path)
    folder = module.split("/")[0]
    if folder == "python":
        return  # may include anything
    assert not any(m.startswith("python/") for m in own)
    if folder in MACHINES:
        others = [m for m in own if m.split("/")[0] != folder]
        assert all(layer(m) is not None and layer(m) <= layer("backend") for m in others), others
    else:
        assert layer(module) is not None, f"{module} has no layer: give it one"
        assert all(layer(m) is not None and layer(m) <= layer(module) for m in own), own


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_headers_include_no_library(module):
    own, system = includes(CSRC / f"{module}.h")
    assert system <= {"stdint.h"}
    assert own <= PURE


def closure(path, seen):
    own, system = includes(path)
    for module in own - seen:
        seen.add(module)
        for suffix in (".h", ".inc"):
            if (CSRC / (module + suffix)).exists():
                system |= closure(CSRC / (module + suffix), seen)
    return system


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_kernel_files_include_no_library(level):
    """An inline library function compiled for AVX-512 could be linked for every machine."""
    assert closure(CSRC / "cpu" / f"kernels_{level}.cpp", set()) <= {"stdint.h"}


def test_kernel_objects_export_one_symbol():
    objects = sorted(ROOT.glob("build/temp*/csrc/cpu/kernels_*.o"))
    if not objects:
        pytest.skip("built elsewhere: no object files here")
    for path in objects:
        command = ["nm", "--extern-only", "--defined-only", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert len(lines.strip().splitlines()) == 1, lines


def code_of(path):
    """The text without comments."""
    return re.sub(r"//.*", "", path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_core_neither_prints_nor_exits(path):
    banned = r"\b(printf|fprintf|puts|abort|exit|_exit|assert)\s*\(|std::(cout|cerr|terminate)"
    assert not re.findall(banned, code_of(path))


def test_one_home_for_openmp_and_one_for_backends():
    assert [module_of(p) for p in SOURCES if "#pragma omp" in p.read_text()] == ["support/parallel"]
    naming = [
        module_of(p)
        for p in SOURCES
        if re.search(r"\b(CpuBackend|CudaBackend|CudaDevice)\b", code_of(p))
        and not module_of(p).startswith(MACHINES)
    ]
    assert naming == ["python/cuda_module", "python/device_on_host", "python/training"]


def test_every_feature_that_is_ticked_has_a_test_and_the_others_a_reason():
    rows = [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in (ROOT / "docs/features.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    rows = [row for row in rows if row[0]]
    assert len(rows) > 50
    for row in rows:
        assert len(row) == 7, row
        assert row[5] in ("", "✓"), row
        tests = re.findall(r"`(\w+\.py)(?:::(\w+))?`", row[6])
        assert bool(tests) == (row[5] == "✓"), row
        assert row[6], row
        for file, name in tests:
            text = (ROOT / "tests" / file).read_text()
            assert f"def {name}(" in text or not name, row


def test_import_is_light_and_silent():
    code = (
        "import sys, qgbdt; print([m for m in ('sklearn', 'dask', 'narwhals') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_scikit_learn_is_imported_only_by_the_estimators():
    for path in sorted((ROOT / "qgbdt").glob("*.py")):
        names = set()
        for node in ast.parse(path.read_text()).body:  # module level: imported with the module
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
        if any(n.split(".")[0] == "sklearn" for n in names):
            owners = ("base", "estimators", "validation", "plotting", "dask", "sklearn_callbacks")
            assert path.stem in owners
