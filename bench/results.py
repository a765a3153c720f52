"""Results on disk (JSON lines, appended as they come), in figures, on paper (Markdown tables)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def append(path: Path, record: Record) -> None:
    """Add one line and flush it, so that a stopped run loses at most the fit in progress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Record]:
    """All whole lines; one cut short by a kill is dropped, a missing file counts as empty."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def key(record: Record, fields: Iterable[str]) -> tuple[Any, ...]:
    """What makes a record one of a kind."""
    return tuple(record.get(field) for field in fields)


def by(records: Iterable[Record], *fields: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records grouped by the values of some fields."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(key(record, fields), []).append(record)
    return groups


def is_ok(record: Record) -> bool:
    """Whether the fit came to an end, with times and metrics."""
    return bool(record["status"] == "ok")


def binning(record: Record) -> float:
    return float(record["binning_seconds"])


def training(record: Record) -> float:
    return float(record["training_seconds"])


def whole_fit(record: Record) -> float:
    return binning(record) + training(record)


def median(records: Iterable[Record], field: str) -> float:
    return float(statistics.median(record[field] for record in records))


def ratio(
    theirs: Iterable[Record], ours: Iterable[Record], time: Callable[[Record], float]
) -> float:
    """Median over the repeats of their time over ours."""
    return statistics.median(time(a) / time(b) for a, b in zip(theirs, ours))


def notes(records: Iterable[Record]) -> list[str]:
    """Why fits came to nothing, each reason once."""
    told = (f"{r['peer']} on {r['data']}: {r['note']}" for r in records if "note" in r)
    return list(dict.fromkeys(told))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads as well in a terminal.

    >>> print(table(["library", "s"], [["ours", "1.25"], ["theirs", "12.50"]]))
    | library |     s |
    |:--------|------:|
    | ours    |  1.25 |
    | theirs  | 12.50 |
    """
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *rows]) for i in range(len(header))]
    align = [str.ljust, *[str.rjust] * (len(header) - 1)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(a(c, w) for a, c, w in zip(align, cells, widths)) + " |"

    rule = "|:" + "-" * (widths[0] + 1)
    rule += "".join("|" + "-" * (w + 1) + ":" for w in widths[1:]) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def number(value: float | None, digits: int = 4) -> str:
    """A figure with about `digits` significant ones and no exponent where that is readable."""
    if value is None or value != value:
        return "-"
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        return f"{value:.{digits - 1}e}"
    whole = len(str(int(size)))
    return f"{value:.{max(digits - whole, 0) + (2 if size < 1 else 0)}f}"
