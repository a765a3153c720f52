"""Strangers at the rendezvous, by the thousand: the workers meet and train as if they were alone.

Two of three workers are there and wait. Then come connections that are closed at once, HTTP, TLS,
random bytes, a recorded worker, ones that say nothing and stay; while they keep coming, the last
worker comes, too, and the three train. Their model must be the one of a single worker, rank 0 must
not keep memory of its visitors, and the last worker must not wait long.

    python tests/campaigns/hostile.py --connections 10000
"""

import argparse
import contextlib
import os
import random
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from network import free_address

from qgbdt import QGBDTClassifier
from qgbdt.distributed import connect
from qgbdt.distributed.join import Address, Channel, Deadline, Listener, Pass

KEY = b"a secret"
WORLD_SIZE = 3
GIVES_UP = 120  # seconds
PATIENCE = 2.0  # seconds that strangers may cost a worker
STAYING = ("silent holders", "recorded workers")
HELD = 200  # connections that stay at a time; three times as many as are let in
GROWTH = 8.0  # MB; what a burst leaves behind in the allocator, not what visitors add up to
WAVES = 4


@dataclass
class Report:
    sent: Counter[str] = field(default_factory=Counter)
    more: int = 0  # of them, while the last worker came
    faults: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)  # MB of rank 0, after each wave
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.sent.items()))
        memory = " ".join(f"{megabytes:.1f}" for megabytes in self.memory)
        seconds = ", ".join(f"{what} {spent:.2f} s" for what, spent in self.seconds.items())
        return (
            f"{sum(self.sent.values())} strangers, {self.more} of them while the last worker came: "
            f"{counts}\n"
            f"memory of rank 0 in MB: {memory}\n{seconds}; {len(self.faults)} faults"
            + "".join(f"\n  {fault}" for fault in self.faults)
        )


def recorded_worker() -> bytes:
    """All that the last worker sends until it is told its rank."""
    sent = []

    class Recorded(Channel):
        def send(self, data: bytes, deadline: Deadline) -> None:
            sent.append(data)
            super().send(data, deadline)

    listener = Listener(Address("127.0.0.1", 0), Pass(KEY, None), b"rendezvous")
    connection = socket.create_connection(("127.0.0.1", listener.address.port))
    with contextlib.closing(Recorded(connection)) as channel:
        channel.enter(Pass(KEY, None), b"rendezvous", dialled=True)
        request = {"rank": None, "world_size": WORLD_SIZE, "address": ["127.0.0.1", 1]}
        channel.send_json(request, Deadline(GIVES_UP))
    listener.close()
    return b"".join(sent)


def client_hello() -> bytes:
    """What a TLS client says first."""
    came, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(came, to_send, server_hostname="worker")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return to_send.read()


def visits(seed: int) -> Iterator[tuple[str, bytes]]:
    """Kinds of strangers and what they send, in turn."""
    rng = random.Random(seed)
    recorded, hello = recorded_worker(), client_hello()
    while True:
        flipped = bytearray(recorded)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        yield "port scans", b""
        yield "HTTP requests", b"GET / HTTP/1.1\r\nHost: worker\r\n\r\n"
        yield "TLS hellos", hello
        yield "random bytes", rng.randbytes(rng.choice([1, 71, 72, 73, 104, 4096]))
        yield "recorded workers", recorded
        yield "changed handshakes", bytes(flipped)
        yield "silent holders", b""


class Siege:
    """Connections to the rendezvous; some stay until many others have come."""

    def __init__(self, address: str, report: Report) -> None:
        host, port = address.split(":")
        self._address = (host, int(port))
        self._report = report
        self._visits = visits(0)
        self._held: list[socket.socket] = []

    def send(self, n: float) -> int:
        """How many of n came through before the port was closed."""
        sent = 0
        while sent < n:
            kind, data = next(self._visits)
            try:
                visitor = socket.create_connection(self._address, GIVES_UP)
            except ConnectionRefusedError:
                break
            sent += 1
            self._report.sent[kind] += 1
            with contextlib.suppress(OSError):
                visitor.sendall(data)
            if kind not in STAYING:
                visitor.close()
                continue
            self._held.append(visitor)
            if len(self._held) > HELD:
                self._held.pop(0).close()
        return sent

    def close(self) -> None:
        for visitor in self._held:
            visitor.close()


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 10))
    return X, (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


def model() -> QGBDTClassifier:
    return QGBDTClassifier(n_estimators=20, n_jobs=1)


def work(rank: int, address: str, answers: "Queue[tuple[int, str, float, float]]") -> None:
    """Meet and train; the answer is the model, and how many seconds both took."""
    try:
        X, y = data()
        mine = np.array_split(np.arange(len(X)), WORLD_SIZE)[rank]
        came = time.monotonic()
        with connect(address, WORLD_SIZE, rank, key=KEY, timeout=GIVES_UP) as workers:
            met = time.monotonic()
            fitted = model().fit(X[mine], y[mine], communicator=workers)
        done = time.monotonic()
        answers.put((rank, fitted.booster_.model_to_string(), met - came, done - met))
    except Exception as error:
        answers.put((rank, f"{type(error).__name__}: {error}", 0.0, 0.0))


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def meet_and_train(connections: int, report: Report) -> dict[int, tuple[str, float, float]]:
    """The workers' answers, by rank."""
    fork = get_context("fork")
    address, answers = free_address(), fork.Queue()
    workers = [
        fork.Process(target=work, args=(rank, address, answers)) for rank in range(WORLD_SIZE)
    ]
    siege = Siege(address, report)
    try:
        for worker in workers[:-1]:
            worker.start()
        while not siege.send(1):  # rank 0 is still coming
            time.sleep(0.01)
        for left in range(WAVES, 0, -1) if connections else ():
            siege.send((connections - sum(report.sent.values())) // left)
            report.memory.append(megabytes(workers[0].pid or 0))
        workers[-1].start()
        if connections:
            report.more = siege.send(float("inf"))
        found = [answers.get(timeout=GIVES_UP) for _ in workers]
        return {rank: answer for rank, *answer in found}
    finally:
        siege.close()
        for worker in workers:
            worker.kill()
            worker.join()


def run(connections: int) -> Report:
    report = Report()
    expected = model().fit(*data()).booster_.model_to_string()
    for what, n in (("alone", 0), ("besieged", connections)):
        found = meet_and_train(n, report if n else Report())
        for rank, (said, _, _) in found.items():
            if said != expected:
                report.faults.append(f"{what}, worker {rank} has no such model: {said[:200]}")
        _, meeting, training = found[WORLD_SIZE - 1]
        report.seconds |= {f"to meet {what}": meeting, f"to train {what}": training}
    for what in ("meet", "train"):
        late = report.seconds[f"to {what} besieged"] - report.seconds[f"to {what} alone"]
        if late > PATIENCE:
            report.faults.append(f"to {what} took {late:.1f} s longer")
    grown = report.memory[-1] - report.memory[0]
    if grown > GROWTH:
        report.faults.append(f"rank 0 has grown by {grown:.1f} MB")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000)
    report = run(parser.parse_args().connections)
    print(report)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
