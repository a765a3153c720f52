"""Builds the native core. Every SIMD level is compiled, the build machine's CPU is never asked.

Environment: QGBDT_SANITIZE=address builds with AddressSanitizer and UndefinedBehaviorSanitizer,
QGBDT_SANITIZE=thread with ThreadSanitizer.
"""

import os
import platform
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


def sources():
    found = sorted(glob("csrc/**/*.cpp", recursive=True))
    return [s for s in found if X86_64 or Path(s).stem not in SIMD_FLAGS]


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
    """Adds each SIMD level's flags to its one file."""

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


sanitize = SANITIZERS[os.environ.get("QGBDT_SANITIZE", "")]
core = Pybind11Extension(
    "qgbdt._core",
    sources(),
    depends=sorted(glob("csrc/**/*.h", recursive=True) + glob("csrc/**/*.inc", recursive=True)),
    cxx_std=20,
    extra_compile_args=FLAGS + sanitize,
    extra_link_args=sanitize,
)

ParallelCompile("QGBDT_BUILD_JOBS", default=os.cpu_count() or 1).install()
setup(ext_modules=[core], cmdclass={"build_ext": BuildCore})
