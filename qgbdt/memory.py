"""What a fit will take of memory, from its parameters and a sample of the rows; and has taken."""

# mypy: allow-untyped-calls
# (scikit-learn has no type annotations)

import sys
from typing import TypedDict

from qgbdt import _core
from qgbdt.params import CommonParams

SAMPLE_ROWS = 20_000
"""Rows that are binned: how sparse they are decides how all are stored."""

CELL = 8
"""Bytes of the sums of a bin."""
ROWS_OF_HISTOGRAM = 2048
"""About the rows of a node that has one, where nodes are small."""
SCRATCH = 1 << 20
"""Bytes of a thread's own sums, about."""


class MemoryEstimate(TypedDict):
    """Bytes: of the bins, of what each row has, of histograms, of threads; and in all."""

    bins: int
    rows: int
    histograms: int
    threads: int
    total: int


def estimated(
    estimator: CommonParams,
    sample: _core.BinnedMatrix,
    n_samples: int,
    n_outputs: int,
    n_threads: int,
    bytes_of_target: int,
) -> MemoryEstimate:
    """Of a fit on n_samples rows like those of the sample."""
    bins = sample.n_bytes * n_samples // max(sample.n_samples, 1)
    pair = 4 if estimator.grad_bits == 16 else 2
    of_row = bytes_of_target + 16 * n_outputs + pair + 8  # predictions and gradients; two orders
    if estimator.data_sample_strategy == "goss":
        of_row += 5
    elif estimator.subsample < 1:
        of_row += 1
    if getattr(estimator, "objective", None) == "cox":
        of_row += 28  # the order of times, hazards and sums of them
    if estimator.linear_tree:
        of_row += 8  # its number
    slots = min(estimator.num_leaves, n_samples / ROWS_OF_HISTOGRAM + 1)
    histograms = int(slots * sample.n_cells * CELL)
    rows, threads = of_row * n_samples, n_threads * SCRATCH
    return MemoryEstimate(
        bins=bins,
        rows=rows,
        histograms=histograms,
        threads=threads,
        total=bins + rows + histograms + threads,
    )


def peak_memory() -> int:
    """The most bytes of memory that the process has had so far; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
