"""A fit on a Dask cluster: which task runs where, and what happens when a worker is lost.

Each Dask worker that holds partitions runs one task, which trains on them as a worker of a
distributed fit. Dask carries what is small (parameters, the session, the fitted model); gradients
and histograms go over the workers' own connections.
"""

# mypy: allow-untyped-calls
# (Dask has few type annotations)

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from dask._task_spec import Alias
from dask.core import flatten
from distributed import (
    Client,
    Future,
    Queue,
    Worker,
    get_client,
    get_worker,
    secede,
    wait,
)
from distributed.comm.addressing import get_address_host

from qgbdt.distributed import Communicator, connect
from qgbdt.distributed.join import Address, Deadline
from qgbdt.errors import DataError, DistributedError, QGBDTError, WorkerLost
from qgbdt.evaluation import told_of
from qgbdt.validation import check_query_sizes

PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before a fit that lost a worker is started again: the scheduler notices in the first."""
POLL_SECONDS = 1.0
"""How often the client looks whether the Dask workers of a fit are all there."""
MEETING_SECONDS = 60.0
"""For the workers to find each other, once all tasks run."""
WATCH_SECONDS = 0.2
"""How often a task looks whether it is still wanted."""
CANCEL_SECONDS = 10.0
"""For the scheduler to hear that a fit has ended."""
GRACE_SECONDS = 5.0
"""For the other tasks to end, when one has lost another worker: that one may say why."""

E = TypeVar("E")

# --- On the client: partitions, and tasks where they lie


def futures_of_partitions(
    client: Client, collections: Mapping[str, Any]
) -> dict[str, list[Future[Any]]]:
    """The partitions of each collection in order, computed or being computed on the cluster.

    Those that are there already stay as and where they are.
    """
    found = {}
    for name, collection in collections.items():
        futures = persisted(collection)
        if futures is None:
            (kept,) = client.persist([collection])
            futures = persisted(kept)
            assert futures is not None
        found[name] = futures
    return found


def persisted(collection: Any) -> list[Future[Any]] | None:
    """The future of each partition, in order; None if one is still to be computed."""
    graph = collection.__dask_graph__()
    futures = []
    for key in flatten(collection.__dask_keys__()):
        while isinstance(value := graph[key], Alias):
            key = value.target
        if not isinstance(value, Future):
            return None
        futures.append(value)
    return futures


@dataclass(frozen=True)
class Partition:
    """A partition of the rows: its number, and its part of X, y and what else fit takes."""

    number: int
    parts: dict[str, Any]  # futures on the client, the data themselves in a task


def partitions_of(futures: Futures) -> list[Partition]:
    """The partitions in order, as soon as all are there."""
    wait([future for column in futures.values() for future in column])
    for column in futures.values():
        for future in column:
            if future.status == "error":
                raise future.exception()
    rows = zip(*futures.values())
    return [Partition(number, dict(zip(futures, row))) for number, row in enumerate(rows)]


def place(client: Client, futures: Futures) -> Placement:
    """Which Dask worker trains on which partitions: one that holds the part of X."""
    partitions = partitions_of(futures)
    holders = client.who_has(futures["X"])
    placement: Placement = {}
    for partition in partitions:
        addresses = holders[partition.parts["X"].key]
        if not addresses:
            raise WorkerLost(f"the worker that held partition {partition.number} is gone")
        fewest = min(addresses, key=lambda address: len(placement.get(address, ())))
        placement.setdefault(fewest, []).append(partition)
    return placement


def place_set(
    client: Client, futures: Futures, training: Placement, *, is_training: bool
) -> Placement:
    """Which of those that train evaluates which partitions of a set: one that holds it, if any.

    The rows of training are evaluated where they are trained on.
    """
    partitions = partitions_of(futures)
    if is_training:
        return {at: [partitions[part.number] for part in parts] for at, parts in training.items()}
    holders = client.who_has(futures["X"])
    placement: Placement = {address: [] for address in training}
    for partition in partitions:
        holding = holders[partition.parts["X"].key]
        near = [address for address in placement if address in holding]
        fewest = min(near or placement, key=lambda address: len(placement[address]))
        placement[fewest].append(partition)
    return placement


Futures = Mapping[str, list[Future[Any]]]
"""Of the partitions of each column."""

Placement = dict[str, list[Partition]]
"""By the address of the Dask worker."""


@dataclass(frozen=True)
class EvaluatedSet:
    """A set to evaluate, as collections: X, y, and what else is given."""

    columns: Mapping[str, Any]
    is_training: bool  # its X and y are those of training


@dataclass(frozen=True)
class Session:
    """What the tasks of a fit have in common."""

    name: str
    world_size: int
    key: bytes = field(repr=False)  # of their connections; Dask may show what tasks are given

    @contextlib.contextmanager
    def queues(self) -> Iterator[tuple[Queue, Queue]]:
        """On the scheduler: which tasks run, and copies of the address at which rank 0 listens."""
        client = get_client()
        with (
            contextlib.closing(Queue(f"{self.name}-started", client=client)) as started,
            contextlib.closing(Queue(f"{self.name}-rendezvous", client=client)) as rendezvous,
        ):
            yield started, rendezvous


def fit_on_cluster(
    client: Client,
    estimator: E,
    collections: Mapping[str, Any],
    sets: Sequence[EvaluatedSet],
    options: Mapping[str, Any],
) -> E:
    """Train the estimator where the partitions lie; again, or on, if a worker is lost.

    Dask computes again what was lost. The same rows have the same numbers, so the model does not
    depend on who is left. The options are what else fit is told.
    """
    futures = futures_of_partitions(client, collections)
    futures_of_sets = [futures_of_partitions(client, some.columns) for some in sets]

    def start() -> E:
        training = place(client, futures)
        placed = [
            place_set(client, of_set, training, is_training=some.is_training)
            for some, of_set in zip(sets, futures_of_sets)
        ]
        shares = {
            address: (
                pairs(partitions),
                [(list(s.columns), pairs(p[address]), s.is_training) for s, p in zip(sets, placed)],
            )
            for address, partitions in training.items()
        }
        return start_fit(client, estimator, shares, options)

    for pause in PAUSES:
        try:
            return start()
        except WorkerLost:
            time.sleep(pause)
            options = {**options, "resume": True}
    return start()


Pairs = list[tuple[int, dict[str, Any]]]
"""Partitions, as Dask looks for futures in what a task is given."""


SetPart = tuple[list[str], Pairs, bool]
"""Of an evaluation set: the names of its columns, the partitions, and whether it is of training."""


def pairs(partitions: Sequence[Partition]) -> Pairs:
    """What Partition(*pair) is made of."""
    return [(partition.number, partition.parts) for partition in partitions]


def start_fit(
    client: Client,
    estimator: E,
    shares: Mapping[str, tuple[Pairs, list[SetPart]]],
    options: Mapping[str, Any],
) -> E:
    """Run one task on each worker and wait for the fitted estimator.

    Whatever ends the waiting ends the tasks.
    """
    session = Session(f"qgbdt-{secrets.token_hex(8)}", len(shares), secrets.token_bytes(32))
    tasks: dict[str, Future[Any]] = {}
    try:
        for rank, (address, (training, sets)) in enumerate(shares.items()):
            tasks[address] = client.submit(
                train_here,
                estimator,
                training,
                sets,
                options,
                session,
                rank,
                key=f"{session.name}-{rank}",
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
        fitted: E = outcome(client, tasks)
        return fitted
    finally:
        end_tasks(client, list(tasks.values()))


def end_tasks(client: Client, tasks: Sequence[Future[Any]]) -> None:
    """Cancel the tasks, unless the client has gone away: then the scheduler does."""

    def cancel() -> Any:
        return client.cancel(tasks, asynchronous=True, force=True)

    with contextlib.suppress(TimeoutError):  # a client that is closing may never answer
        client.sync(cancel, callback_timeout=CANCEL_SECONDS)


def outcome(client: Client, tasks: Mapping[str, Future[Any]]) -> Any:
    """The fitted estimator; or an error, where several ended with one that which is no echo."""
    waiting = dict(tasks)
    fitted, failed, until = None, None, None
    while waiting and not (until and until.is_over()):
        with contextlib.suppress(TimeoutError):
            wait(list(waiting.values()), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        for address in [address for address, task in waiting.items() if task.done()]:
            result = waiting.pop(address).result()
            if isinstance(result, WorkerLost | DistributedError):
                failed = failed or result
            elif isinstance(result, Exception):
                raise result
            elif result is not None:
                fitted = result
        gone = waiting.keys() - client.nthreads().keys()
        if gone:
            raise WorkerLost(f"the Dask worker {min(gone)} is lost")
        if failed and not until:
            until = Deadline(GRACE_SECONDS)
    if failed:
        raise failed
    return fitted


# --- On a Dask worker: one task


def train_here(
    estimator: Any,
    training: Pairs,
    sets: Sequence[SetPart],
    options: Mapping[str, Any],
    session: Session,
    rank: int,
) -> Any:
    """Train with the others. Rank 0 returns the fitted estimator.

    Errors that explain themselves are returned: Dask logs those that are raised.
    """
    secede()  # a fit that waits for its other tasks must not keep another's from starting
    worker = get_worker()
    check_wanted = wanted_check(worker, worker.get_current_task())
    try:
        with (
            meet(session, rank, worker, check_wanted) as communicator,
            leaving_when(check_wanted, communicator),
        ):
            if estimator.n_jobs is None:
                estimator.set_params(n_jobs=worker.state.nthreads)
            fitted = fit_partitions(estimator, training, sets, options, communicator)
    except (QGBDTError, WorkerLost, ValueError, TypeError) as error:
        return error
    return fitted if rank == 0 else None


def wanted_check(worker: Worker, key: Any) -> Callable[[], None]:
    """A function that raises when the task is cancelled: Dask cannot stop what runs."""

    def check_wanted() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise DistributedError("The fit was cancelled.")

    return check_wanted


def meet(
    session: Session, rank: int, worker: Worker, check_wanted: Callable[[], None]
) -> Communicator:
    """Wait until all tasks run, then join their workers; rank 0 listens at a port that is free."""

    def wait_until_filled(queue: Queue, size: int) -> None:
        while queue.qsize() < size:
            check_wanted()
            time.sleep(POLL_SECONDS / 10)

    def announce(address: str) -> None:
        for _ in range(session.world_size - 1):
            rendezvous.put(address)

    with session.queues() as (started, rendezvous):
        if rank == 0:
            wait_until_filled(started, session.world_size - 1)
            address = str(Address(get_address_host(worker.address), 0))
        else:
            started.put(rank)
            wait_until_filled(rendezvous, 1)
            address = rendezvous.get(timeout=MEETING_SECONDS)
        return connect(
            address,
            session.world_size,
            rank,
            key=session.key,
            timeout=MEETING_SECONDS,
            announce=announce,
            watch=check_wanted,
        )


@contextlib.contextmanager
def leaving_when(check_wanted: Callable[[], None], communicator: Communicator) -> Iterator[None]:
    """Leave the fit, from another thread, as soon as the task is not wanted any more."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_SECONDS):
            try:
                check_wanted()
            except DistributedError as error:
                return communicator.leave(error)

    watcher = threading.Thread(target=watch, name="qgbdt-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def fit_partitions(
    estimator: Any,
    training: Pairs,
    sets: Sequence[SetPart],
    options: Mapping[str, Any],
    communicator: Communicator,
) -> Any:
    """Fit on this worker's partitions, which are numbered among those of all."""
    partitions = [Partition(*pair) for pair in training]
    if partitions[0].parts.keys() & {"qid", "group"}:
        check_queries_are_whole(partitions, communicator)
    columns = columns_of(partitions)
    evaluated = []
    for of_set, name in zip(sets, options["eval_names"] or []):
        with told_of(name):
            evaluated.append(evaluated_columns(of_set, columns))
    if evaluated:
        columns["eval_set"] = [(some["X"], some["y"]) for some in evaluated]
    for name in ("sample_weight", "group"):
        if any(name in some for some in evaluated):
            columns[f"eval_{name}"] = [some.get(name) for some in evaluated]
    blocks = [(partition.number, len(partition.parts["X"])) for partition in partitions]
    return estimator.fit(**columns, **options, communicator=communicator, row_blocks=blocks)


def evaluated_columns(of_set: SetPart, training: Mapping[str, Any]) -> dict[str, Any]:
    """X, y and what else is given of an evaluation set; without rows, if none are here."""
    names, its_pairs, is_training = of_set
    like = {name: training[name] for name in ("X", "y")}
    if its_pairs:
        columns = columns_of([Partition(*pair) for pair in its_pairs])
        return columns | like if is_training else columns
    nothing = {name: np.empty(0, np.int64) for name in names}
    return nothing | {name: some[:0] for name, some in like.items()}


def columns_of(partitions: Sequence[Partition]) -> dict[str, Any]:
    """X, y and what else is given of all partitions; of a ranker the sizes of queries."""
    for partition in partitions:
        check_part(partition)
    columns = {
        name: concatenate([partition.parts[name] for partition in partitions])
        for name in partitions[0].parts
    }
    if columns.keys() & {"qid", "group"}:
        columns.pop("qid", None)
        columns["group"] = np.concatenate([query_sizes(partition) for partition in partitions])
    return columns


def check_part(partition: Partition) -> None:
    """Raise DataError unless all columns have the rows of X."""
    n_rows = len(partition.parts["X"])
    for name, part in partition.parts.items():
        if name != "group" and len(part) != n_rows:
            raise DataError(
                f"Partition {partition.number} of X has {n_rows} rows, but that of {name} "
                f"{len(part)}."
            )


def concatenate(parts: Sequence[Any]) -> Any:
    """Arrays, DataFrames or Series as one; those without rows say nothing of the type."""
    filled = [part for part in parts if len(part)] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    if hasattr(filled[0], "iloc"):
        import pandas as pd

        return pd.concat(filled)
    return np.concatenate(filled)


def query_sizes(partition: Partition) -> Any:
    """The rows of each query of a partition."""
    n_rows = len(partition.parts["X"])
    if n_rows == 0:
        return np.empty(0, np.int64)
    group, qid = (partition.parts.get(name) for name in ("group", "qid"))
    try:
        return check_query_sizes(group, qid, n_rows)
    except DataError as error:
        raise DataError(
            f"In partition {partition.number}: {error} A query lies in one partition."
        ) from error


def check_queries_are_whole(partitions: Sequence[Partition], communicator: Communicator) -> None:
    """Raise DataError, on all workers, if the rows of a query lie in several partitions."""
    here = [
        np.unique(np.asarray(partition.parts["qid"]))
        for partition in partitions
        if "qid" in partition.parts
    ]
    ids = [one for theirs in communicator.gather([i.tolist() for i in here]) for one in theirs]
    queries, counts = np.unique(np.array([q for some in ids for q in some]), return_counts=True)
    if (counts > 1).any():
        raise DataError(
            f"The rows of query {queries[counts > 1][0]} lie in several partitions. Repartition "
            "the data so that each query lies in one."
        )
