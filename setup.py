"""Builds the native core. Every SIMD level is compiled, the build machine's CPU is never asked.

Environment: QGBDT_SANITIZE=address builds with AddressSanitizer and UndefinedBehaviorSanitizer,
QGBDT_SANITIZE=thread with ThreadSanitizer. QGBDT_CUDA=1 builds the module for NVIDIA GPUs, too; it
needs nvcc, of CUDA 12.4 or newer, on PATH or in CUDA_HOME/bin.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup

X86_64 = platform.machine().lower() in ("x86_64", "amd64")
SIMD_FLAGS = {
    "kernels_avx2": ["-mavx2", "-mpopcnt"],
    "kernels_avx512": ["-mpopcnt", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
}
# No contraction to FMA: NumPy and plain x86-64 have none, and all must agree to the last bit. The
# other flags let loops vectorize and change no result.
FLAGS = [
    *["-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    *["-Wall", "-Wextra", "-Wno-psabi"],  # vectors are passed to inlined functions only: no ABI
]
SANITIZERS = {
    "": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"],
    "thread": ["-fsanitize=thread", "-g", "-O2"],
}


# For GPUs: machine code of two generations, and what the driver compiles for later ones.
NVCC_FLAGS = [
    *["-x", "cu", "-std=c++20", "-O3", "--fmad=false", "-Werror=all-warnings"],
    *["-gencode=arch=compute_80,code=sm_80", "-gencode=arch=compute_90,code=[sm_90,compute_90]"],
    "-Xcompiler=-Wall,-Wextra,-ffp-contract=off,-fvisibility=hidden,-fPIC",
]
CUDA_MODULE = "csrc/python/cuda_module.cpp"
# What of the algorithm a machine calls.
FOR_MACHINES = "best_splits comm histogram_codec histogram_exchange support/parallel training_data"


def sources():
    found = sorted(glob("csrc/**/*.cpp", recursive=True))
    unused = {CUDA_MODULE, *([] if X86_64 else map("csrc/cpu/{}.cpp".format, SIMD_FLAGS))}
    return [s for s in found if s not in unused]


def find_nvcc():
    """The paths of nvcc and of its libraries."""
    path = os.pathsep.join(
        [os.path.join(os.environ.get("CUDA_HOME", ""), "bin"), os.environ["PATH"]]
    )
    nvcc = shutil.which("nvcc", path=path)
    if nvcc is None:
        sys.exit("QGBDT_CUDA=1 needs nvcc, which is neither on PATH nor in CUDA_HOME/bin.")
    command = [nvcc, "--dryrun", "-x", "cu", os.devnull]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    found = re.search(r"^#\$ TOP=(.+)$", told, re.MULTILINE)
    if found is None:
        sys.exit(f"QGBDT_CUDA=1: {nvcc} does not say where its libraries are.")
    return nvcc, os.path.join(found[1].strip(), "lib64")


def openmp_flags(compiler):
    """The flags with which this compiler links an OpenMP program; none if it has no OpenMP."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
        command = [*compiler, "-fopenmp", str(source), "-o", str(Path(folder, "probe"))]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return ["-fopenmp"]
    print("qgbdt: this compiler has no OpenMP; building single-threaded.", file=sys.stderr)
    return []


class BuildCore(build_ext):
    """Adds each SIMD level's flags to its one file, and hands kernels for GPUs to nvcc."""

    def build_extensions(self):
        openmp = openmp_flags(self.compiler.compiler_cxx)
        for extension in self.extensions:
            extension.extra_compile_args += openmp
            extension.extra_link_args += openmp
        compile_one = self.compiler._compile

        def compile_for_level(obj, src, ext, cc_args, extra_postargs, pp_opts):
            flags = [*extra_postargs, *SIMD_FLAGS.get(Path(src).stem, [])]
            compile_one(obj, src, ext, cc_args, flags, pp_opts)

        self.compiler._compile = compile_for_level
        super().build_extensions()

    def build_extension(self, ext):
        if ext.name != "qgbdt._cuda":
            return super().build_extension(ext)
        nvcc, libraries = find_nvcc()
        ext.library_dirs.append(libraries)
        compile_one, folder = self.compiler._compile, self.build_temp

        def compile_for_gpus(obj, src, *others):
            if "csrc/cuda/" in src:
                subprocess.run([nvcc, *NVCC_FLAGS, "-c", src, "-o", obj], check=True)
            else:
                compile_one(obj, src, *others)

        self.compiler._compile = compile_for_gpus
        self.build_temp = os.path.join(folder, "cuda")  # the core has objects of these names
        super().build_extension(ext)
        self.compiler._compile, self.build_temp = compile_one, folder


sanitize = SANITIZERS[os.environ.get("QGBDT_SANITIZE", "")]
headers = sorted(glob("csrc/**/*.h", recursive=True) + glob("csrc/**/*.inc", recursive=True))


def extension(name, sources, **options):
    return Pybind11Extension(
        name,
        sources,
        depends=headers,
        cxx_std=20,
        extra_compile_args=FLAGS + sanitize,
        extra_link_args=[*sanitize],
        **options,
    )


extensions = [extension("qgbdt._core", sources())]
if os.environ.get("QGBDT_CUDA") == "1":
    for_machines = map("csrc/{}.cpp".format, FOR_MACHINES.split())
    for_gpus = [CUDA_MODULE, *for_machines, *sorted(glob("csrc/cuda/*.cpp"))]
    libraries = ["cudart_static", "dl", "rt", "pthread"]
    extensions.append(extension("qgbdt._cuda", for_gpus, libraries=libraries))

ParallelCompile("QGBDT_BUILD_JOBS", default=os.cpu_count() or 1).install()
setup(ext_modules=extensions, cmdclass={"build_ext": BuildCore})
