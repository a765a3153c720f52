"""How many threads a call may use."""

import os

import joblib

from qgbdt.params import CommonParams, check_value


def resolve_n_jobs(n_jobs: int | None, owner: str) -> int:
    """The number of threads that n_jobs asks for.

    Positive is that many; -1 is all CPUs that the process may use (affinity and container quota
    respected), -2 all but one, and so on. None is all CPUs, or OMP_NUM_THREADS if that is less:
    joblib sets it in its worker processes to the share of each.
    """
    check_n_jobs(n_jobs, owner)
    if n_jobs is not None and n_jobs > 0:
        return int(n_jobs)
    n_cpus: int = joblib.cpu_count()  # type: ignore[no-untyped-call]
    if n_jobs is None:
        return min(n_cpus, openmp_limit() or n_cpus)
    return max(1, n_cpus + 1 + int(n_jobs))


def check_n_jobs(n_jobs: int | None, owner: str) -> None:
    """Raise ParameterError unless n_jobs is a number of threads, or None."""
    if n_jobs is not None:
        check_value("n_jobs", owner, n_jobs, CommonParams._params["n_jobs"].allowed)


def openmp_limit() -> int | None:
    """OMP_NUM_THREADS (of the outermost level, if it is a list), or None without a valid one."""
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(outermost) or None if outermost.isdecimal() else None
