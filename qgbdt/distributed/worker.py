"""qgbdt-worker: one worker of a distributed fit, from the command line.

Each worker is started with its own shard of the rows. Together they train one model, the same that
one worker with all rows would train; rank 0 writes it. All shards have the same columns; rows are
numbered in the order of ranks, so the model does not change if shards are cut elsewhere.

    qgbdt-worker --rendezvous 10.0.0.1:5000 --world-size 2 --rank 0 --key-file secret \\
        --data part-0.csv --target y --task regression --output model.txt
    qgbdt-worker --rendezvous 10.0.0.1:5000 --world-size 2 --rank 1 --key-file secret \\
        --data part-1.csv --target y --task regression --output model.txt

Started by torchrun, Slurm, Open MPI or as an indexed job of Kubernetes, a worker finds its rank and
the number of workers in its environment.

Exit codes: 0 trained; 2 the command line is wrong; 3 the parameters or the data are; 4 the workers
did not find each other or do not agree; 5 another worker stopped or is gone; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qgbdt.distributed import TLS, Communicator, connect
from qgbdt.errors import DistributedError, QGBDTError, WorkerLost
from qgbdt.table_files import (
    KINDS_OF_TABLES,
    add_columns,
    add_estimator,
    arguments,
    check_classes,
    estimator_of,
    evaluation,
    load,
)

RANKS = ["RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX"]
WORLD_SIZES = ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one worker; returns the exit code."""
    args = parse(argv, os.environ)
    try:
        run(args)
    except DistributedError as error:
        return failed(error, 4)
    except WorkerLost as error:
        return failed(error, 5)
    except (QGBDTError, ValueError, OSError, ImportError) as error:
        return failed(error, 3)
    except KeyboardInterrupt:
        return 130
    return 0


def failed(error: BaseException, code: int) -> int:
    print(f"qgbdt-worker: {error}", file=sys.stderr)
    return code


def parse(argv: Sequence[str] | None, environment: Mapping[str, str]) -> argparse.Namespace:
    """The command line; what it leaves out is looked up in the environment."""
    parser = argparse.ArgumentParser(
        "qgbdt-worker", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    meeting = parser.add_argument_group("the workers")
    meeting.add_argument(
        "--rendezvous",
        metavar="HOST:PORT",
        help="where rank 0 listens (else MASTER_ADDR and MASTER_PORT)",
    )
    meeting.add_argument(
        "--world-size", type=int, metavar="N", help=f"how many there are (else {WORLD_SIZES})"
    )
    meeting.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help=f"which this is, from 0 (else {RANKS}; without any, one that is left)",
    )
    meeting.add_argument(
        "--key-file", type=Path, metavar="F", help="a secret that all workers know"
    )
    for file, what in (
        ("cert", "this worker's certificate, to encrypt what is sent (PEM)"),
        ("key", "its private key"),
        ("ca", "the certificate of the authority that signed all workers' certificates"),
    ):
        meeting.add_argument(f"--tls-{file}", type=Path, metavar="F", help=what)
    meeting.add_argument("--bind", metavar="HOST", help="where this worker listens")
    meeting.add_argument("--advertise", metavar="HOST", help="where the others reach this worker")
    meeting.add_argument(
        "--heartbeat",
        type=float,
        default=10.0,
        metavar="S",
        help="seconds of silence after which a worker is lost (10)",
    )
    meeting.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="S",
        help="seconds until all workers must have come (300)",
    )
    data = parser.add_argument_group("this worker's rows")
    data.add_argument(
        "--data",
        required=True,
        metavar="SHARD",
        help=f"{KINDS_OF_TABLES}; {{rank}} in the name is replaced",
    )
    data.add_argument(
        "--eval-data",
        action="append",
        default=[],
        metavar="SHARD",
        help="rows like those of --data whose metrics are found while training; more than once",
    )
    add_columns(data)
    fit = parser.add_argument_group("the model")
    add_estimator(fit)
    fit.add_argument("--output", required=True, type=Path, metavar="MODEL", help="rank 0 writes it")
    fit.add_argument(
        "--checkpoint-dir", type=Path, metavar="D", help="where rank 0 keeps the trees so far"
    )
    fit.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint, if there is one"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="report progress, then bytes and waiting"
    )
    args = parser.parse_args(argv)
    if args.rank is None:
        args.rank = number_in(environment, RANKS, parser)
    if args.world_size is None:
        args.world_size = number_in(environment, WORLD_SIZES, parser)
    if args.world_size is None:
        parser.error("--world-size is needed: the environment does not tell it")
    files = [args.tls_cert, args.tls_key, args.tls_ca]
    if None in files and any(files):
        parser.error("--tls-cert, --tls-key and --tls-ca are needed together")
    args.tls = TLS(*files) if any(files) else None
    if args.rendezvous is None and "MASTER_ADDR" in environment:
        args.rendezvous = f"{environment['MASTER_ADDR']}:{environment.get('MASTER_PORT', '29500')}"
    if args.rendezvous is None:
        parser.error("--rendezvous is needed: the environment does not tell it")
    return args


def number_in(
    environment: Mapping[str, str], names: Sequence[str], parser: argparse.ArgumentParser
) -> int | None:
    """The first of the variables that is set."""
    for name in names:
        if name in environment:
            if not environment[name].isdecimal():
                parser.error(f"{name} must be a number, got {environment[name]!r}")
            return int(environment[name])
    return None


def run(args: argparse.Namespace) -> None:
    """Load, meet, train, save."""
    estimator = estimator_of(args)
    key = args.key_file.read_bytes() if args.key_file else b""
    with connect(
        args.rendezvous,
        args.world_size,
        args.rank,
        key=key,
        tls=args.tls,
        heartbeat=args.heartbeat,
        timeout=args.timeout,
        bind=args.bind,
        advertise=args.advertise,
    ) as communicator:
        data = rows(args.data, communicator.rank, args)
        evaluated = [rows(path, communicator.rank, args) for path in args.eval_data]
        if args.task == "classification":
            check_classes(communicator.union(np.unique(data["y"])))
        estimator.fit(
            **data,
            **evaluation(evaluated, args),
            checkpoint_dir=args.checkpoint_dir,
            resume=args.resume,
            communicator=communicator,
        )
        if communicator.rank == 0:
            estimator.booster_.save_model(args.output)
        if args.verbose:
            print(summary(communicator, estimator), file=sys.stderr)


def rows(path: str, rank: int, args: argparse.Namespace) -> dict[str, Any]:
    """What fit is called with for a worker's shard."""
    return arguments(load(Path(path.format(rank=rank))), args)


def summary(communicator: Communicator, estimator: Any) -> str:
    """What the fit took of this worker; of worker 0, what each iteration took of each."""
    numbers = {**communicator.report(), **estimator.fit_profile_}
    if estimator.best_iteration_ is not None:
        numbers["best_iteration"] = estimator.best_iteration_
    lines = [f"worker {communicator.rank}:"]
    lines += [f"  {name}: {value:.6g}" for name, value in numbers.items()]
    if communicator.rank == 0:
        columns = list(estimator.worker_profiles_[0])
        lines.append(" ".join(["iteration", "worker", *columns]))
        for iteration in range(len(estimator.worker_profiles_[0]["seconds"])):
            for rank, profile in enumerate(estimator.worker_profiles_):
                values = (f"{profile[name][iteration]:.6g}" for name in columns)
                lines.append(" ".join([str(iteration), str(rank), *values]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
