"""Checkpoint: the trees of a fit on disk, so that one that was interrupted can go on.

The trees of each iteration are appended to one file: so writing them costs the same for the first
iteration and for the last, and a crash loses none that was written. What a crash left half-written,
or what follows a damaged place, is noticed and trained again.
"""

import json
import os
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from qgbdt._core import Model
from qgbdt.distributed.communicator import first_difference
from qgbdt.errors import CheckpointError
from qgbdt.files import write_atomically

FILE_NAME = "checkpoint.qgbdt"
NUMBER = struct.Struct("<QI")  # a record's number and size, and after them the CRC-32 of both
CHECKSUM = struct.Struct("<I")  # and of what follows
HEAD = NUMBER.size + CHECKSUM.size
SYNC_SECONDS = 5.0
"""How often the file is synced: what the machine itself may lose when it fails."""


class Checkpoint:
    """The trees of a fit on disk, and the facts that make it this fit.

    Parameters
    ----------
    directory : path-like
        Made if it does not exist.
    facts : mapping
        What another fit would differ in; values are what JSON can hold.
    resume : bool
        Whether to go on from the checkpoint that is there, if any; else there must be none.

    Raises
    ------
    CheckpointError
        If there is one that may not be, is of another fit, or is none.
    """

    def __init__(
        self, directory: str | os.PathLike[str], facts: Mapping[str, Any], *, resume: bool
    ) -> None:
        self.path = Path(directory) / FILE_NAME
        self.models: list[Model] = []
        if self.path.exists():
            length = self._read(facts, resume)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            head = record(0, json.dumps(facts).encode())
            write_atomically(self.path, head)
            length = len(head)
        self._file = open(self.path, "r+b", buffering=0)  # noqa: SIM115 (closed by close)
        self._file.truncate(length)
        self._file.seek(length)
        self._n_records = 1 + len(self.models)
        self._synced = time.monotonic()

    def _read(self, facts: Mapping[str, Any], resume: bool) -> int:
        """Read the trees; returns how long the sound part of the file is."""
        payloads, length = read_records(self.path.read_bytes())
        if not payloads:
            raise CheckpointError(f"{self.path} is not a checkpoint.")
        if not resume:
            raise CheckpointError(
                f"{self.path} is the checkpoint of a fit, of {len(payloads) - 1} iterations. Pass "
                "resume=True to go on from it, or name another checkpoint_dir."
            )
        if difference := first_difference(json.loads(payloads[0]), facts):
            key, there, here = difference
            raise CheckpointError(
                f"{self.path} is of another fit: {key} is {there!r} there and {here!r} here."
            )
        self.models = [Model.from_bytes(payload) for payload in payloads[1:]]
        return length

    def append(self, trees: bytes) -> None:
        """Write the trees of an iteration, as the bytes of a model."""
        self._file.write(record(self._n_records, trees))
        self._n_records += 1
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def record(number: int, payload: bytes) -> bytes:
    """A record of a checkpoint."""
    numbers = NUMBER.pack(number, len(payload))
    return numbers + CHECKSUM.pack(zlib.crc32(numbers + payload)) + payload


def read_records(data: bytes) -> tuple[list[bytes], int]:
    """The sound records from the beginning on, and their length.

    Numbers must follow one another: so what two fits wrote into one file is not mixed.
    """
    payloads: list[bytes] = []
    end = 0
    while len(data) - end >= HEAD:
        number, size = NUMBER.unpack_from(data, end)
        payload = data[end + HEAD : end + HEAD + size]
        if number != len(payloads) or data[end : end + HEAD + size] != record(number, payload):
            break
        payloads.append(payload)
        end += HEAD + size
    return payloads, end
