"""Many fits: interleaved, appended to a file as they end, resumed from it.

A `Case` is one simulated set and how it is trained on. `measure` fits cases with every library and
does only what the results file lacks.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import fit_once
import peers
import results
import shapes
import sources
from results import Record, is_ok, whole_fit

TRAILING = 3.0  # a rival so many times behind the best one is fitted once
FIELDS = ("data", "rows", "features", "rounds", "leaves", "warm_fits", "threads", "busy")


@dataclass(frozen=True)
class Case:
    """One set and how it is trained on: see `peers.Settings`; `busy`: beside a busy process."""

    shape: str
    rows: int
    leaves: int = 255
    rounds: int = 100
    warm_fits: int = 0
    threads: int = 1
    busy: bool = False
    features: int | None = None  # None: the shape's own

    @property
    def data(self) -> tuple[str, int, int]:
        """Cases alike in this have the same data."""
        return (self.shape, self.rows, self.features or shapes.SHAPES[self.shape].n_features)

    @property
    def key(self) -> tuple[object, ...]:
        """The values of FIELDS."""
        training = (self.rounds, self.leaves, self.warm_fits, self.threads, self.busy)
        return (*self.data, *training)


class Store:
    """The records of a results file; fits that failed in an earlier run are tried again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records = [r for r in results.read(path) if r["status"] != "failed"]

    def of(self, case: Case, names: Iterable[str]) -> list[Record]:
        """The records of a case and these libraries, repeat by repeat."""
        here = [r for r in self.records if r["peer"] in names]
        found = [r for r in here if results.key(r, FIELDS) == case.key]
        return sorted(found, key=lambda r: r["repeat"])

    def add(self, record: Record) -> None:
        self.records.append(record)
        results.append(self.path, record)


def measure(
    cases: Iterable[Case], names: Sequence[str], store: Store, repeats: int, timeout: float
) -> None:
    """Do the fits that the store lacks. Cases in a row that are of one set share its data."""
    for _, alike in groupby(cases, key=lambda case: case.data):
        measure_set(list(alike), names, store, repeats, timeout)


def measure_set(
    cases: Sequence[Case], names: Sequence[str], store: Store, repeats: int, timeout: float
) -> None:
    """The same for cases of one set, whose data is made when the first fit needs it."""
    with ExitStack() as stack:

        @cache
        def folder() -> Path:
            return stack.enter_context(saved(cases[0]))

        for case in cases:
            fit = partial(fit_case, case, folder, timeout)
            interleave(fit, names, repeats, store.of(case, names), store.add, TRAILING)


def saved(case: Case) -> AbstractContextManager[Path]:
    """The case's data in a folder."""
    shape, rows, features = case.data
    return sources.saved(shapes.make(shape, rows, n_features=features))


def fit_case(case: Case, folder: Callable[[], Path], timeout: float, name: str) -> Record:
    """One fit of the library `name`."""
    data = sources.open_folder(folder())
    settings = peers.Settings(
        task=data.task,
        n_classes=data.n_classes,
        rounds=case.rounds,
        leaves=case.leaves,
        threads=case.threads,
        warm_fits=case.warm_fits,
    )
    with busy_process() if case.busy else nullcontext():
        record = fit_once.launch(name, settings, folder(), timeout)
    return provenance(data) | record | {"busy": case.busy}


@contextmanager
def busy_process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that keeps the first CPU busy (Linux only)."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, [{cpu}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def interleave(
    fit: Callable[[str], Record],
    names: Sequence[str],
    repeats: int,
    done: Iterable[Record] = (),
    add: Callable[[Record], None] = lambda record: None,
    trailing: float = math.inf,
) -> list[Record]:
    """Fit every library once, then all again: a busy minute then hits all of them alike.

    What is `done` is not done again. A library that failed is not tried again, nor is a rival
    whose first fit took more than `trailing` times as long as the best one's. Each new record goes
    to `add`; all are returned.
    """
    records = list(done)
    for repeat in range(repeats):
        for name in names:
            is_done = any(r["peer"] == name and r["repeat"] == repeat for r in records)
            if is_done or is_settled(name, records, trailing):
                continue
            record = fit(name) | {"repeat": repeat}
            add(record)
            records.append(record)
            print(f"  {summary(record)}", file=sys.stderr)
    return records


def summary(record: Record) -> str:
    """One line about a fit that has just ended."""
    data = f"{record['data']} {record['rows']:,} x {record['features']}"
    outcome = f"{whole_fit(record):.2f} s" if is_ok(record) else record["note"]
    return (
        f"{data}, threads {record['threads']}, {record['peer']}, repeat {record['repeat']}: "
        f"{outcome}"
    )


def is_settled(name: str, records: Sequence[Record], trailing: float) -> bool:
    """Whether another fit of this library would tell nothing new: it failed, or trails."""
    if not all(is_ok(r) for r in records if r["peer"] == name):
        return True
    rivals = {
        r["peer"]: whole_fit(r)
        for r in records
        if is_ok(r) and r["repeat"] == 0 and not peers.is_ours(r["peer"])
    }
    return rivals.get(name, 0.0) > trailing * min(rivals.values(), default=math.inf)


# What records say of themselves, and the commands ------------------------------------------------


def provenance(data: sources.Data) -> Record:
    """What a record says besides the fit: the data, the machine, the time."""
    return {
        "data": data.name,
        "rows": data.n_train,
        "features": data.X.shape[1],
        "machine": machine(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def origins(records: Iterable[Record]) -> str:
    """The machines and versions that records come from."""
    worked = [r for r in records if is_ok(r)]
    libraries = (f"{r['peer'].partition('-')[0]} {r['version']}" for r in worked)
    return ", ".join([*dict.fromkeys(r["machine"] for r in worked), *dict.fromkeys(libraries)])


def add_arguments(parser: argparse.ArgumentParser, name: str, chosen: Sequence[str]) -> None:
    """The options of every command that does a study."""
    threads = sorted({1, peers.default_threads()})
    parser.add_argument(
        "--threads", type=whole_numbers, default=threads, help="numbers of threads (1 and all)"
    )
    parser.add_argument(
        "--peers",
        type=some_of(peers.PEERS),
        default=list(chosen),
        help=f"default: {','.join(chosen)}",
    )
    parser.add_argument("--repeat", type=int, default=3, help="fits of each library (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (default 1)")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for a fit (1800)")
    parser.add_argument(
        "--results", type=Path, default=Path(f"{name}.jsonl"), help=f"resumable ({name}.jsonl)"
    )
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    parser.add_argument("--report", action="store_true", help="fit nothing, show what there is")


def some_of(known: Container[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return names

    return parse


def whole_numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def bits(word: str) -> int | str:
    return word if word == "auto" else int(word)


def publish(table: str, records: Sequence[Record], path: Path | None) -> None:
    """Print a table and where its records come from; write it to `path`, too."""
    text = "\n\n".join([table, origins(records), *results.notes(records)])
    if path:
        path.write_text(text + "\n")
    print(text)
