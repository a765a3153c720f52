"""Rows held back from training, to evaluate on: the same ones however rows are spread.

Each row (of ranking: each query) has a hash of its number among the rows of all workers. Of each
class, those with the smallest hashes are held back.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgbdt.distributed.communicator import Communicator
from qgbdt.errors import DataError
from qgbdt.validation import Rows

Bools = NDArray[np.bool_]
Blocks = Sequence[tuple[int, int]]


def held_back(
    rows: Rows,
    strata: NDArray[np.int64],
    fraction: float,
    seed: int,
    blocks: Blocks,
    workers: Communicator,
) -> Bools:
    """Which of this worker's rows to hold back: a fraction of each stratum, or of the queries."""
    numbers, sizes_of_queries = row_numbers(blocks, workers), rows.query_sizes
    if sizes_of_queries is not None:  # a query has the number of its first row
        firsts = np.cumsum(sizes_of_queries) - sizes_of_queries
        numbers, strata = numbers[firsts], strata[firsts]
    n_strata = 1 + max(workers.gather(int(strata.max(initial=0))))
    sizes = workers.sum(np.bincount(strata, minlength=n_strata))
    wanted = np.minimum(np.floor(fraction * sizes + 0.5), np.maximum(sizes - 1, 0))
    if not wanted.any():
        what = "rows" if sizes_of_queries is None else "queries"
        raise DataError(
            f"validation_fraction={fraction} holds none of {sizes.sum()} {what} back. Make it "
            "larger."
        )
    chosen = smallest(hashes(numbers, seed), strata, wanted.astype(np.int64), workers)
    return chosen if sizes_of_queries is None else np.repeat(chosen, sizes_of_queries)


def first_split(splitter: Any, rows: Rows, groups: Any) -> tuple[Bools, Bools]:
    """Which rows a splitter trains and which it evaluates on; queries are groups."""
    sizes = rows.query_sizes
    if sizes is not None and groups is None:
        groups = np.repeat(np.arange(len(sizes)), sizes)
    parts = next(iter(splitter.split(rows.X, rows.y, groups)))
    trained, held = (np.isin(np.arange(len(rows.y)), part) for part in parts)
    if not trained.any() or not held.any() or (trained & held).any():
        raise DataError(
            f"The first split of validation_fraction={splitter!r} must have rows to train and "
            "others to evaluate on."
        )
    for chosen in (trained, held):
        if sizes is not None and (np.repeat(chosen[np.cumsum(sizes) - 1], sizes) != chosen).any():
            raise DataError(
                f"validation_fraction={splitter!r} splits a query. Use one that keeps groups "
                "together, such as GroupShuffleSplit."
            )
    return trained, held


def blocks_of(kept: Bools, blocks: Blocks) -> list[tuple[int, int]]:
    """The blocks of the rows that are kept."""
    ends = np.cumsum([n_rows for _, n_rows in blocks])
    n_kept = np.diff(np.concatenate([[0], np.cumsum(kept)])[ends], prepend=0)
    return [(number, int(n)) for (number, _), n in zip(blocks, n_kept, strict=True)]


def row_numbers(blocks: Blocks, workers: Communicator) -> NDArray[np.uint64]:
    """Of this worker's rows, among those of all workers in the order of their blocks."""
    of_all = sorted(tuple(block) for some in workers.gather(blocks) for block in some)
    begins, begin = {}, 0
    for number, n_rows in of_all:
        begins[number] = begin
        begin += n_rows
    rows = [np.arange(begins[number], begins[number] + n_rows) for number, n_rows in blocks]
    return np.concatenate([np.arange(0), *rows]).astype(np.uint64)


def hashes(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """64 random bits for each number, no two alike: splitmix64."""
    z = numbers + np.uint64((seed + 1) * 0xD1B54A32D192ED03 % 2**64)  # wraps, like all below
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def smallest(
    values: NDArray[np.uint64],
    strata: NDArray[np.int64],
    wanted: NDArray[np.int64],
    workers: Communicator,
) -> Bools:
    """Which values are among the `wanted` smallest of all workers', of each stratum.

    The bytes of the largest one that is chosen are found one after the other, from counts.
    """
    n_strata = len(wanted)
    prefix = np.zeros(n_strata, np.uint64)
    rank = wanted - 1  # of that value among those with the prefix
    is_open = np.ones(len(values), np.bool_)
    for shift in range(56, -1, -8):
        byte = (values >> np.uint64(shift)) & np.uint64(255)
        cells = strata[is_open] * 256 + byte[is_open].astype(np.int64)
        counts = workers.sum(np.bincount(cells, minlength=256 * n_strata)).reshape(n_strata, 256)
        ends = counts.cumsum(axis=1)
        found = (ends <= rank[:, None]).sum(axis=1)
        rank = rank - np.where(found > 0, ends[np.arange(n_strata), found - 1], 0)
        prefix |= found.astype(np.uint64) << np.uint64(shift)
        is_open &= byte == found.astype(np.uint64)[strata]
    return (wanted[strata] > 0) & (values <= prefix[strata])
