"""What is installed, for bug reports."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from qgbdt import _core

PACKAGES = ("qgbdt", "numpy", "scikit-learn", "scipy", "joblib")


def show_versions() -> None:
    """Print the versions of what qgbdt runs on, and how its native module was built.

    Examples
    --------
    >>> import qgbdt
    >>> qgbdt.show_versions()  # doctest: +SKIP
    """
    build = _core.build_info()
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: package_version(package) for package in PACKAGES},
        "compiler": build["compiler"],
        "OpenMP": "yes" if build["openmp"] else "no: single-threaded",
        "SIMD compiled": ", ".join(build["simd_compiled"]),
        "SIMD runnable": ", ".join(_core.simd_levels()),
        "SIMD in use": _core.simd_level(),
    }
    for name, fact in facts.items():
        print(f"{name:>14}: {fact}")


@cache
def package_version(package: str) -> str:
    """The installed version of a distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
