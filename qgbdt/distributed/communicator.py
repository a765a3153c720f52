"""Communicator: this worker's way to the others, and what they settle through it."""

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qgbdt import _core
from qgbdt.distributed.tls import Relay
from qgbdt.errors import DisagreementError


class Communicator:
    """This worker's connection to the other workers of a distributed fit.

    `connect` makes one. It is handed to ``fit``, and can be used for one fit after the other.

    Parameters
    ----------
    comm : _core.Comm
        The native connection; None for a worker that is alone.
    names : sequence of str
        What the workers are called in messages, by rank.
    relay : Relay
        The process that encrypts the connection, if any.
    """

    def __init__(
        self,
        comm: _core.Comm | None = None,
        names: Sequence[str] = ("here",),
        relay: Relay | None = None,
    ) -> None:
        self.native = comm
        self._relay = relay
        self._names = list(names)
        self.rank = comm.rank if comm else 0
        self.world_size = comm.world_size if comm else 1

    @property
    def is_alone(self) -> bool:
        """Whether there are no other workers."""
        return self.world_size == 1

    def title(self, rank: int) -> str:
        """What a worker is called in messages."""
        return f"worker {rank} ({self._names[rank]})"

    def gather(self, value: Any) -> list[Any]:
        """Every worker's value, by rank; values are what JSON can hold.

        Raises
        ------
        WorkerLost
            If another worker stopped or is gone.
        """
        if self.native is None:
            return [value]
        message = json.dumps(value).encode()
        return [json.loads(text) for text in self.native.exchange([message] * self.world_size)]

    def gather_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Every worker's arrays, by rank."""
        lists = self.gather({name: array.tolist() for name, array in arrays.items()})
        return [{name: np.array(of[name], arrays[name].dtype) for name in arrays} for of in lists]

    def broadcast(self, message: bytes) -> bytes:
        """Worker 0's message."""
        if self.native is None:
            return message
        own = message if self.rank == 0 else b""
        return self.native.exchange([own] * self.world_size)[0]

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Check that all workers have the same facts.

        Raises
        ------
        DisagreementError
            On all workers alike, if one has other facts than worker 0.
        """
        first, *others = self.gather(dict(facts))
        for rank, other in enumerate(others, start=1):
            if difference := first_difference(first, other):
                key, its, theirs = difference
                raise DisagreementError(
                    f"Workers do not agree: {key} is {its!r} on {self.title(0)} and {theirs!r} on "
                    f"{self.title(rank)}."
                )

    def any(self, holds: bool | np.bool_) -> bool:
        """Whether it holds on any worker."""
        return any(self.gather(bool(holds)))

    def union(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The distinct labels of all workers, sorted; those given must be so."""
        if self.is_alone:
            return labels
        lists = self.gather(labels.tolist())
        dtype = None if labels.dtype.kind in "US" else labels.dtype
        filled = [np.array(some, dtype) for some in lists if some]
        return np.unique(np.concatenate([labels[:0], *filled]))

    def sum(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sums over all workers."""
        total: NDArray[np.int64] = np.array(self.gather(counts.tolist())).sum(axis=0)
        return total

    def report(self) -> dict[str, float]:
        """What went over the wire since `connect`.

        Returns
        -------
        dict
            ``exchanges``, ``bytes_sent``, ``bytes_received``, and ``wait_seconds`` (in exchanges).
            Empty for workers that share a process.
        """
        return self.native.report() if isinstance(self.native, _core.SocketComm) else {}

    def leave(self, error: BaseException) -> None:
        """Tell the others that this worker stops; they raise WorkerLost."""
        if self.native is not None:
            self.native.leave(f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """End the connection; this worker is then alone."""
        self.native = None
        self.rank, self.world_size = 0, 1
        if self._relay is not None:
            self._relay.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.leave(error)
        self.close()


def first_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first key whose values differ, and both values."""
    for key in {**a, **b}:
        if a.get(key) != b.get(key):
            return key, a.get(key), b.get(key)
    return None


ALONE = Communicator()
"""The worker of a fit that is not distributed."""
