"""Time the kernels one by one, each beside what bounds it on this machine.

One thread. Each kernel is timed with its rows in cache, and with all rows or every 50th of them,
scattered, after the caches were overwritten. Bounds are measured in the same run: the bytes that a
kernel reads and writes, at the rate of the plainest pass in cache and of a copy in memory; and for
the adds, their stores alone.

Examples
--------
python bench/kernels.py
python bench/kernels.py --rows 4000000 --features 32 --repeat 5 --only add_rows,partition
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import peers
import results

from qgbdt import _core

kernels = _core.kernels
CACHED_ROWS = 8192  # as many as a chunk of partition's; all their arrays fit an L2 cache
EVICTING_BYTES = 1 << 26  # twice: more than a core's share of the last cache
SPARSE_ENTRIES = 3  # of a row
N_BINS = 256
N_LEAVES = 255
BUNDLE_FEATURES, BUNDLE_POSITIONS = 5, 3  # two values and missing
PASSES = 1000  # over what takes less than a microsecond
NEVER = 1e300  # a gain that no split has
LINE = 64  # bytes that come from memory together


class Rows(NamedTuple):
    """Which rows a kernel goes through, and how they lie."""

    name: str
    listed: np.ndarray
    n_samples: int

    @property
    def scattered(self) -> bool:
        return len(self.listed) < self.n_samples

    def gathered(self, item: int) -> int:
        """Bytes that reach the core for one item a row."""
        return LINE if self.scattered else item


class Work(NamedTuple):
    """Calls of one kernel. `call(True)` does `n` units of work, `call(False)` none."""

    name: str
    rows: str
    unit: str
    n: int
    call: Callable[[bool], Any]
    n_bytes: float  # a unit, read and written
    stores: float = 0  # a unit, of those whose floor is measured
    before: Callable[[], Any] = lambda: None


def main(argv: Sequence[str] | None = None) -> None:
    """Time the kernels and print the table."""
    args = parse(argv)
    print(
        f"{args.rows:,} rows x {args.features} features, {_core.simd_level()}, one thread; medians "
        f"of {args.repeat} calls, in cache of {20 * args.repeat}\n"
    )
    print(report(args))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="default 1000000")
    parser.add_argument(
        "--features", type=int, choices=range(4, 33, 4), default=28, help="of a tile (default 28)"
    )
    parser.add_argument("--repeat", type=int, default=11, help="timed calls (default 11)")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        default=("",),
        help="beginnings of names",
    )
    return parser.parse_args(argv)


# ------------------------------------------------------------------------------------- what is run


def all_work(n_samples: int, n_features: int) -> Iterator[Work]:
    """Every kernel, in cache, on all rows, and on scattered rows where it has a list of them."""
    rng = np.random.default_rng(0)
    for name, n in (("cached", min(CACHED_ROWS, n_samples)), ("all", n_samples)):
        listed = np.arange(n, dtype=np.uint32)
        yield from passes(rng, name, n)
        yield from listed_rows(rng, Rows(name, listed, n), n_features)
    scattered = rng.choice(n_samples, max(n_samples // 50, 1), replace=False)
    rows = Rows("scattered", np.sort(scattered).astype(np.uint32), n_samples)
    yield from listed_rows(rng, rows, n_features)
    yield from histograms(rng, n_features)


def chosen_work(args: argparse.Namespace) -> list[Work]:
    """Those of `--only`, the same kernel's next to each other."""
    chosen = [w for w in all_work(args.rows, args.features) if w.name.startswith(args.only)]
    names = list(dict.fromkeys(w.name for w in chosen))
    return sorted(chosen, key=lambda w: names.index(w.name))


def passes(rng: np.random.Generator, name: str, n: int) -> Iterator[Work]:
    """The kernels that go through all rows in their order."""
    y, raw, weight = rng.integers(0, 2, n) * 1.0, rng.normal(size=(1, n)), rng.random(n)
    g, h = rng.normal(size=n).astype(np.float32), rng.random(n).astype(np.float32)
    g_out, h_out = np.empty((2, n), np.float32)
    leaf_of_row = rng.integers(0, N_LEAVES, n, np.uint32)
    sums, values = np.zeros((N_LEAVES, 2), np.int64), rng.normal(size=N_LEAVES)

    def work(kernel: str, call: Callable[[slice], Any], n_bytes: int) -> Work:
        return Work(kernel, name, "row", n, lambda full: call(slice(n if full else 0)), n_bytes)

    for objective in ("regression", "binary"):
        yield work(
            f"gradients, {objective}",
            lambda s, objective=objective: kernels.gradients(
                objective, y[s], weight[s], raw[:, s], g_out[s], h_out[s]
            ),
            n_bytes=3 * 8 + 2 * 4,
        )
    for bits, dtype in ((8, np.uint16), (16, np.uint32)):
        pairs = np.empty(n, dtype)
        yield work(
            f"quantize{bits}",
            lambda s, pairs=pairs: kernels.quantize(
                g[s], h[s], 0.25, 15, 0.05, 31, False, True, 1, pairs[s]
            ),
            n_bytes=2 * 4 + pairs.itemsize,
        )
    yield work(
        "leaf_sums",
        lambda s: kernels.leaf_sums(leaf_of_row[s], g[s], h[s], 2.0**20, 2.0**20, sums),
        n_bytes=3 * 4,
    )
    yield work(
        "add_leaf_values",
        lambda s: kernels.add_leaf_values(leaf_of_row[s], values, raw[0, s]),
        n_bytes=4 + 2 * 8,
    )


def listed_rows(rng: np.random.Generator, rows: Rows, n_features: int) -> Iterator[Work]:
    """The kernels that gather by row number."""
    n, listed = rows.n_samples, rows.listed
    tile = rng.integers(0, N_BINS, (n, n_features), np.uint8)
    row_begin = SPARSE_ENTRIES * np.arange(n + 1, dtype=np.uint32)
    entries = rng.integers(0, 128 * N_BINS, SPARSE_ENTRIES * n, np.uint16)
    leaf_of_row, right = np.zeros(n, np.uint32), np.empty_like(listed)
    column, kept = np.ascontiguousarray(tile[:, 0]), listed.copy()

    def work(
        kernel: str, call: Callable[[np.ndarray], Any], units: int, n_bytes: float, **more: Any
    ) -> Work:
        unit, none = "update" if units > 1 else "row", listed[:0]
        return Work(
            kernel,
            rows.name,
            unit,
            units * len(listed),
            lambda full: call(listed if full else none),
            n_bytes / units,
            **more,
        )

    for bits, pair, lane in ((8, np.uint16, np.uint32), (16, np.uint32, np.int64)):
        pairs, lanes = np.ones(n, pair), np.zeros((n_features, N_BINS), lane)
        sums = np.zeros(128 * N_BINS, lane)
        gathered = 4 + rows.gathered(pairs.itemsize)
        yield work(
            f"add_rows{bits}",
            lambda r, pairs=pairs, lanes=lanes: kernels.add_rows(tile, r, pairs, lanes),
            n_features,
            gathered + rows.gathered(n_features),
            stores=1,
        )
        yield work(
            f"add_sparse_rows{bits}",
            lambda r, pairs=pairs, sums=sums: kernels.add_sparse_rows(
                row_begin, entries, r, pairs, sums
            ),
            SPARSE_ENTRIES,
            gathered + rows.gathered(4) + rows.gathered(2 * SPARSE_ENTRIES),
            stores=1,
        )
    yield work(
        "count_left",
        lambda r: kernels.count_left(r, column, N_BINS // 2, -1),
        1,
        4 + rows.gathered(1),
    )
    yield work(
        "partition",
        lambda r: kernels.partition(r, column, N_BINS // 2, -1, right[: len(r)]),
        1,
        2 * 4 + rows.gathered(1),
        before=lambda: np.copyto(listed, kept),
    )
    yield work(
        "mark_leaf",
        lambda r: kernels.mark_leaf(r, 1, leaf_of_row),
        1,
        4 + rows.gathered(4) * (2 if rows.scattered else 1),  # a line is read before it is written
    )


def histograms(rng: np.random.Generator, n_features: int) -> Iterator[Work]:
    """The kernels that go through bins, of a tile."""
    n = n_features * N_BINS
    cells = np.zeros(n, np.int64)
    for bits, lane in ((8, np.uint32), (16, np.int64)):
        lanes = np.zeros(n, lane)
        for name in ("flush", "subtract"):
            kernel = getattr(kernels, name)
            yield Work(
                f"{name}{bits}",
                "cached",
                "bin",
                n,
                lambda full, lanes=lanes, kernel=kernel: kernel(
                    lanes[: n * full], cells[: n * full]
                ),
                lanes.itemsize + 2 * 8,
            )
        positions = np.full(BUNDLE_FEATURES, BUNDLE_POSITIONS, np.int32)
        codes, places = np.ones(np.prod(positions), lane), np.zeros(8 * len(positions), lane)
        yield Work(
            f"part_bundle{bits}",
            "cached",
            "code",
            len(codes) * PASSES,
            lambda full, of=(positions, codes, places): kernels.part_bundle(*of, full * PASSES),
            lane().itemsize,
        )
    sums = (rng.integers(-100, 100, n) << 32) + rng.integers(0, 100, n)
    packed = {full: kernels.pack_cells(sums[: n * full]) for full in (False, True)}
    bytes_a_bin = len(packed[True]) / n
    yield Work(
        "pack_cells",
        "cached",
        "bin",
        n,
        lambda full: kernels.pack_cells(sums[: n * full]),
        8 + bytes_a_bin,
    )
    yield Work(
        "add_packed_cells",
        "cached",
        "bin",
        n,
        lambda full: kernels.add_packed_cells(packed[full], cells[: n * full]),
        bytes_a_bin + 2 * 8,
    )
    drawn = rng.normal(size=(n_features, N_BINS)), rng.integers(20, 100, (n_features, N_BINS))
    histogram = np.stack([np.int64(60 * drawn[0]), drawn[1], drawn[1]], axis=2)
    settings = dict.fromkeys(["reg_alpha", "reg_lambda", "min_split_gain", "min_child_weight"], 0.0)
    for as_lanes in (False, True):
        for name, least in (("find_split", 0.0), ("bound_splits", NEVER)):
            at_least = np.full(n_features, least)
            yield Work(
                f"{name}, {'lanes' if as_lanes else 'cells'}",
                "cached",
                "bin",
                n,
                lambda full, at_least=at_least, as_lanes=as_lanes: kernels.find_splits(
                    histogram,
                    at_least,
                    bound_first=True,
                    as_lanes=as_lanes,
                    check_counts=False,
                    gradient_scale=1.0,
                    hessian_scale=1.0,
                    max_step=np.inf,
                    min_child_samples=20,
                    constant_hessian=False,
                    passes=int(full),
                    **settings,
                ),
                4 if as_lanes else 8,
            )


# --------------------------------------------------------------------------------- how it is timed


class Copy:
    """Of many bytes: the rate of memory, and a way to empty the caches."""

    def __init__(self) -> None:
        self.source, self.target = np.ones((2, EVICTING_BYTES), np.uint8)

    def run(self) -> None:
        np.copyto(self.target, self.source)


def ns_a_unit(work: Work, evict: Callable[[], Any] | None, repeat: int) -> float:
    """Median of a call's time less that of a call with nothing to do."""
    work.call(True)

    def seconds(full: bool) -> float:
        work.before()
        if evict and full:
            evict()
        return peers.timed(lambda: work.call(full))[1]

    n_calls = repeat if evict else 20 * repeat
    return statistics.median(seconds(True) - seconds(False) for _ in range(n_calls)) * 1e9 / work.n


def ns_a_store(repeat: int) -> float:
    """Of the stores of add_rows alone, in cache."""
    rng, n_features = np.random.default_rng(0), 32
    tile = rng.integers(0, N_BINS, (CACHED_ROWS, n_features), np.uint8)
    rows = np.arange(CACHED_ROWS, dtype=np.uint32)
    lanes = np.zeros((n_features, N_BINS), np.uint32)

    def call(full: bool) -> None:
        kernels.store_rows(tile, rows[: CACHED_ROWS * full], lanes)

    return ns_a_unit(Work("", "", "", tile.size, call, 0), None, repeat)


def ns_a_cached_byte(repeat: int) -> float:
    """Read and written by the plainest pass: one array of words subtracted from another."""
    lanes, cells = np.ones((2, CACHED_ROWS), np.int64)

    def call(full: bool) -> None:
        kernels.subtract(lanes[: CACHED_ROWS * full], cells[: CACHED_ROWS * full])

    return ns_a_unit(Work("", "", "", 3 * cells.nbytes, call, 0), None, repeat)


def ns_a_copied_byte(copy: Copy, repeat: int) -> float:
    """Read and written, in memory."""
    seconds = statistics.median(peers.timed(copy.run)[1] for _ in range(repeat))
    return seconds * 1e9 / (2 * EVICTING_BYTES)


def report(args: argparse.Namespace) -> str:
    """The table of all kernels, and the rates behind the bounds.

    A shared machine changes its clock: each kernel's bounds are measured just before it.
    """
    memory = Copy()
    lines: list[list[str]] = []
    rates: dict[str, list[float]] = {"cached": [], "memory": [], "store": []}
    for work in chosen_work(args):
        in_cache = work.rows == "cached"
        byte = ns_a_cached_byte(args.repeat) if in_cache else ns_a_copied_byte(memory, args.repeat)
        store = ns_a_store(args.repeat)
        rates["cached" if in_cache else "memory"].append(1 / byte)
        rates["store"].append(store)
        ns = ns_a_unit(work, None if in_cache else memory.run, args.repeat)
        of_bytes, of_stores = work.n_bytes * byte, work.stores * store
        bound = max(of_bytes, of_stores)
        reason = "stores" if of_stores > of_bytes else f"{results.number(work.n_bytes, 3)} bytes"
        figures = [results.number(x, 3) for x in (ns, bound, ns / bound)]
        lines.append([work.name, work.rows, work.unit, *figures, reason])
    header = ["kernel", "rows", "unit", "ns a unit", "bound", "x", "of"]
    cached, copied, store = (
        results.number(statistics.median(found) if found else None, 3) for found in rates.values()
    )
    legend = (
        f"Bounds, medians: {cached} GB/s read and written in cache by subtract16, "
        f"{copied} in memory by a copy; {store} ns a store."
    )
    return f"{results.table(header, lines)}\n\n{legend}"


if __name__ == "__main__":
    main()
