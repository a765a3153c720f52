"""Is a quantized model worse than a float one? Paired differences of test losses on many data sets.

For every set and seed, a random 90 % of the training rows (at most 100,000) is drawn, and every
library trains on exactly these rows with the seed as its random state. The statistic is the paired
difference to LightGBM in float: its mean over the seeds, and the standard error of that mean.

The loss is log loss, squared error, Poisson or gamma deviance, or 1 - NDCG@10. Categories are given
as their codes, missing values as NaN. A sparse set is made dense; one of more than 2,000 columns
keeps the 300 with most nonzero training values.

Sets come from a folder with a `sets.py` (see `sources.load_catalogue`), and from `shapes.py`: the
set `sim_msltr` is the shape msltr with 30,000 training rows, `sim_msltr@200000` with more. Every
fit is appended to the results file when it ends, and a run that is started again only does what is
missing there.

Examples
--------
python bench/compare.py --data-dir ~/sets --markdown accuracy.md
python bench/compare.py --data-dir ~/sets --sets adult,bike --seeds 0,1 --bits 2,3
python bench/compare.py --data-dir ~/sets --ablation --markdown ablation.md
python bench/compare.py --sets sim_higgs,sim_year,sim_msltr      # without a folder
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import fit_once
import peers
import results
import shapes
import sources
import study
from results import Record

REFERENCE = "lightgbm-row"
QUANTIZED_LIGHTGBM = "lightgbm-quant-renew-row"
RIVALS = (QUANTIZED_LIGHTGBM, "xgboost", "catboost")
BITS = ("auto", 2, 3, 4, 5, 8, 16)
ABLATION_BITS = (2, 3, 4)
ABLATION_SETS = (
    "adult",
    "credit_default",
    "higgs_small",
    "california",
    "diamonds",
    "protein_casp",
    "lgb_rank",
    "sim_higgs",
    "sim_year",
    "sim_msltr",
)
SIMULATED = {f"sim_{shape}": shape for shape in shapes.SHAPES}
OF_THE_PAPER = ("higgs", "year", "msltr", "kitsune", "criteo", "yahoo", "bosch", "epsilon")
DEFAULT_SIMULATED = tuple(f"sim_{shape}" for shape in OF_THE_PAPER)  # those that take long last
SIMULATED_ROWS = 30_000
SHARE = 0.9  # of the training rows, drawn for each seed
HUGE = 100  # times the reference's loss: from here on a difference's exponent says it all
NEGLIGIBLE = 0.002  # a relative difference below this is no loss, however significant
SETTINGS = ("rounds", "leaves", "learning_rate", "max_rows", "min_child_samples")
FIELDS = ("data", "seed", "peer", *SETTINGS)


@dataclass(frozen=True)
class Difference:
    """The paired difference of a peer's losses to the reference's, relative to the latter's mean.

    `error` is the standard error of `mean`, NaN for a single seed.
    """

    mean: float
    error: float

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "within noise": under two standard errors or under 0.2 %."""
        if abs(self.mean) < NEGLIGIBLE or not abs(self.mean) >= 2.0 * self.error:
            return "within noise"
        return "better" if self.mean < 0 else "worse"

    def __str__(self) -> str:
        form = ".2f" if abs(self.mean) < HUGE else ".1e"
        text = f"{100 * self.mean:+{form}}"
        text += "" if math.isnan(self.error) else f" ± {100 * self.error:{form}}"
        return {"better": f"{text} (better)", "worse": f"**{text}**"}.get(self.verdict, text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and print the tables."""
    args = parse(argv)
    records, sets, columns = run(args)
    tables = ablation_report if args.ablation else accuracy_report
    found = [heading(args), tables(records, sets, columns), *results.notes(records)]
    text = "\n\n".join(found) + "\n"
    if args.markdown:
        args.markdown.write_text(text)
    print(text)


def run(args: argparse.Namespace) -> tuple[list[Record], list[str], list[str]]:
    """Do the fits that are missing; return the records of all, the sets and the libraries."""
    catalogue = sources.load_catalogue(args.data_dir) if args.data_dir else None
    sets = args.sets or default_sets(catalogue, args.ablation)
    bits = args.bits or (ABLATION_BITS if args.ablation else BITS)
    columns = ablation_columns(bits) if args.ablation else accuracy_columns(bits, args.rivals)
    columns = peers.installed(columns)
    Study(args, catalogue).run(sets, columns)
    return select(results.read(args.results), args), sets, columns


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=os.environ.get("QGBDT_DATA"),
        help="folder with a sets.py (default: the environment's QGBDT_DATA)",
    )
    parser.add_argument("--sets", type=words, help="default: all of the folder and the simulated")
    parser.add_argument(
        "--seeds", type=study.whole_numbers, default=[0, 1, 2, 3, 4], help="0,1,2,3,4"
    )
    parser.add_argument("--bits", type=numbers_of_bits, help="default auto,2,3,4,5,8,16")
    parser.add_argument("--rivals", type=words, default=RIVALS, help=f"default {','.join(RIVALS)}")
    parser.add_argument(
        "--ablation",
        action="store_true",
        help="instead: rounding x renewed leaves x bits (2,3,4) on ten sets",
    )
    parser.add_argument("--rounds", type=int, default=200, help="boosting rounds (default 200)")
    parser.add_argument("--leaves", type=int, default=31, help="leaves of a tree (default 31)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate (default 0.1)")
    parser.add_argument("--max-rows", type=int, default=100_000, help="training rows, at most")
    parser.add_argument("--min-child-samples", type=int, default=20, help="of a leaf (20)")
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time, one thread each (2)")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for a fit (3600)")
    parser.add_argument(
        "--results", type=Path, default=Path("compare.jsonl"), help="resumable (compare.jsonl)"
    )
    parser.add_argument("--markdown", type=Path, help="write the tables to this file, too")
    return parser.parse_args(argv)


def words(text: str) -> list[str]:
    return text.split(",")


def numbers_of_bits(text: str) -> list[int | str]:
    return [study.bits(word) for word in text.split(",")]


def default_sets(catalogue: ModuleType | None, ablation: bool) -> list[str]:
    """What to run when `--sets` is not given; without a folder, simulated sets only."""
    known = list(catalogue.NAMES) if catalogue else []
    if ablation:
        return [name for name in ABLATION_SETS if name in known or name in SIMULATED]
    return [*known, *DEFAULT_SIMULATED]


def accuracy_columns(bits: Sequence[int | str], rivals: Sequence[str]) -> list[str]:
    return [REFERENCE, *rivals, *map(peers.qgbdt_name, bits)]


def ablation_columns(bits: Sequence[int | str]) -> list[str]:
    variants = [
        peers.qgbdt_name(b, rounding, renew)
        for b in bits
        for rounding in ("stochastic", "nearest")
        for renew in (True, False)
    ]
    return [REFERENCE, *variants]


# Running ----------------------------------------------------------------------------------------


class Study:
    """Does the fits that the results file lacks, `jobs` at a time."""

    def __init__(self, args: argparse.Namespace, catalogue: ModuleType | None) -> None:
        self.args = args
        self.catalogue = catalogue
        self.loading, self.writing = threading.Lock(), threading.Lock()
        self.stopped = threading.Event()
        self.load = lru_cache(maxsize=1)(self._load)

    def run(self, sets: Sequence[str], columns: Sequence[str]) -> None:
        """Every set x seed is one task; its libraries run one after another in children."""
        done = {results.key(r, FIELDS) for r in results.read(self.args.results) if is_final(r)}
        with ThreadPoolExecutor(self.args.jobs) as pool:
            tasks = []
            for name in sets:
                for seed in self.args.seeds:
                    todo = [c for c in columns if self._key(name, seed, c) not in done]
                    if todo:
                        tasks.append(pool.submit(self._fit_all, name, seed, todo))
            try:
                for task in tasks:
                    task.result()
            finally:  # Ctrl-C, or a set that cannot be loaded: leave the rest to the next run
                self.stopped.set()
                pool.shutdown(cancel_futures=True)

    def _key(self, name: str, seed: int, column: str) -> tuple[object, ...]:
        return (name, seed, column, *settings_of(self.args))

    def _fit_all(self, name: str, seed: int, columns: Iterable[str]) -> None:
        with self.loading:
            whole = self.load(name)
        data = sources.resample(whole, seed, SHARE, self.args.max_rows)
        settings = peers.Settings(
            task=data.task,
            n_classes=data.n_classes,
            rounds=self.args.rounds,
            leaves=self.args.leaves,
            learning_rate=self.args.lr,
            threads=1,
            seed=seed,
            min_child_samples=self.args.min_child_samples,
        )
        common = {
            "data": name,
            "rows": data.n_train,
            "features": data.X.shape[1],
            "max_rows": self.args.max_rows,
        }
        with tempfile.TemporaryDirectory(prefix="qgbdt-bench-") as scratch:
            folder = Path(scratch)
            sources.save(data, folder)
            del data, whole
            for column in columns:
                if self.stopped.is_set():
                    return
                fit = fit_once.launch(column, settings, folder, self.args.timeout)
                self._note(common | fit)

    def _note(self, record: Record) -> None:
        with self.writing:
            results.append(self.args.results, record)
        outcome = record["note"] if "note" in record else results.number(record["loss"], 6)
        print(f"  {record['data']} {record['seed']} {record['peer']}: {outcome}", file=sys.stderr)

    def _load(self, name: str) -> sources.Data:
        simulated, _, rows = name.partition("@")
        if simulated in SIMULATED:
            n = int(rows) if rows else SIMULATED_ROWS
            return shapes.make(SIMULATED[simulated], round(n / SHARE), seed=0)
        if self.catalogue is None:
            raise SystemExit(
                f"the set {name!r} needs --data-dir; simulated: {', '.join(SIMULATED)}"
            )
        return sources.from_catalogue(self.catalogue, name)


def is_final(record: Record) -> bool:
    """Whether the fit need not be tried again."""
    return record["status"] in ("ok", "unsupported")


def settings_of(args: argparse.Namespace) -> tuple[object, ...]:
    """The values of SETTINGS."""
    return (args.rounds, args.leaves, args.lr, args.max_rows, args.min_child_samples)


def select(records: Iterable[Record], args: argparse.Namespace) -> list[Record]:
    """The records of this run's settings, the latest of each kind."""
    wanted = settings_of(args)
    latest = {
        results.key(r, FIELDS): r
        for r in records
        if results.key(r, SETTINGS) == wanted and r["seed"] in args.seeds
    }
    return list(latest.values())


# Reporting --------------------------------------------------------------------------------------


LAST, STOPPED = "loss", "stopped_loss"  # of the last iteration, and of early stopping


def losses(records: Iterable[Record], name: str, column: str, kind: str = LAST) -> dict[int, float]:
    """Test loss by seed of one library on one set."""
    return {
        r["seed"]: r[kind]
        for r in records
        if r["data"] == name and r["peer"] == column and r["status"] == "ok" and kind in r
    }


def difference(ours: dict[int, float], reference: dict[int, float]) -> Difference | None:
    """The paired difference over the seeds both have; None if there is none."""
    seeds = sorted(ours.keys() & reference.keys())
    if not seeds:
        return None
    scale = statistics.mean(reference[s] for s in seeds) or 1.0
    paired = [(ours[s] - reference[s]) / scale for s in seeds]
    error = statistics.stdev(paired) / math.sqrt(len(seeds)) if len(seeds) > 1 else math.nan
    return Difference(statistics.mean(paired), error)


def heading(args: argparse.Namespace) -> str:
    """What was run and how to read the cells."""
    return (
        f"{args.rounds} rounds, {args.leaves} leaves of at least {args.min_child_samples} rows, "
        f"learning rate {args.lr:g}; for each of "
        f"{len(args.seeds)} seeds a random {SHARE:.0%} of the training rows, at most "
        f"{args.max_rows:,}, the same for every library.\n\n"
        f"Difference of the test loss to LightGBM in float (`{REFERENCE}`), in % of its mean loss, "
        "± the standard error of the paired differences; negative is better. **Bold**: worse by "
        "two standard errors and 0.2 %; (better): better by as much; all else is within noise."
    )


def accuracy_report(records: Sequence[Record], sets: Sequence[str], columns: Sequence[str]) -> str:
    """Differences and mean losses by set and library; of all rounds, then stopped early."""
    return (
        f"{accuracy_tables(records, sets, columns, LAST)}\n\nStopped early: at the number of "
        "rounds, of ten, that was best on training rows that were held back.\n\n"
        f"{accuracy_tables(records, sets, columns, STOPPED)}"
    )


def accuracy_tables(
    records: Sequence[Record], sets: Sequence[str], columns: Sequence[str], kind: str
) -> str:
    """Differences by set and library, their verdicts counted; mean losses and ranks below."""
    others = [c for c in columns if c != REFERENCE]
    found = {(n, c): against_reference(records, n, c, kind) for n in sets for c in others}
    rows = [[n, task_of(records, n), *(cell(found[n, c]) for c in others)] for n in sets]
    rows += [
        [verdict, "sets", *(count(found, sets, c, verdict) for c in others)]
        for verdict in ("better", "within noise", "worse")
    ]
    loss_rows = [
        [n, task_of(records, n), *(mean_loss(losses(records, n, c, kind)) for c in columns)]
        for n in sets
    ]
    mean_ranks = [results.number(rank, 3) for rank in ranks(records, sets, columns, kind)]
    loss_rows.append(["mean rank", "sets", *mean_ranks])
    return (
        f"{results.table(['set', 'task', *others], rows)}\n\nMean test loss.\n\n"
        f"{results.table(['set', 'task', *columns], loss_rows)}"
    )


def ablation_report(records: Sequence[Record], sets: Sequence[str], columns: Sequence[str]) -> str:
    """Differences by variant and set, and the mean loss of the reference below."""
    header = ["bits", "rounding", "renewed leaves", *sets]
    rows = []
    for column in columns:
        if column == REFERENCE:
            continue
        options = peers.PEERS[column][1]
        renewed = "yes" if options["renew_leaves"] else "no"
        cells = [cell(against_reference(records, n, column)) for n in sets]
        rows.append([str(options["grad_bits"]), options["rounding"], renewed, *cells])
    base = [mean_loss(losses(records, n, REFERENCE)) for n in sets]
    rows.append(["float", "mean loss", "", *base])
    return results.table(header, rows)


def against_reference(
    records: Sequence[Record], name: str, column: str, kind: str = LAST
) -> Difference | None:
    return difference(losses(records, name, column, kind), losses(records, name, REFERENCE, kind))


def ranks(
    records: Sequence[Record], sets: Sequence[str], columns: Sequence[str], kind: str = LAST
) -> list[float]:
    """Each library's mean rank by mean loss, over the sets on which all of them were fitted."""
    found = [[losses(records, name, column, kind).values() for column in columns] for name in sets]
    mean_losses = [[statistics.mean(values) for values in row] for row in found if all(row)]
    placed = [[sum(other < loss for other in row) + 1 for loss in row] for row in mean_losses]
    return [statistics.mean(places) for places in zip(*placed)] or [math.nan] * len(columns)


def task_of(records: Sequence[Record], name: str) -> str:
    return next((r["task"] for r in records if r["data"] == name), "-")


def cell(found: Difference | None) -> str:
    return "-" if found is None else str(found)


def count(
    found: dict[tuple[str, str], Difference | None], sets: Sequence[str], column: str, verdict: str
) -> str:
    here = [found[name, column] for name in sets]
    return str(sum(d is not None and d.verdict == verdict for d in here))


def mean_loss(by_seed: dict[int, float]) -> str:
    return results.number(statistics.mean(by_seed.values()), 5) if by_seed else "-"


if __name__ == "__main__":
    main()
