"""How workers find each other, and who may come in: ranks, addresses, handshakes, strangers.

Swept: calls that do not fit together, every byte of a handshake, connections of strangers. Against:
workers that meet. Tolerance: none; of times, where the contract names them (docs/distributed.md).
"""

import gc
import os
import queue
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from campaigns import hostile
from network import free_address
from workers import TIMEOUT, connected, frame, in_threads, outcome, sealed

from qgbdt.distributed import connect
from qgbdt.distributed.join import MAX_STRANGERS, Address, Channel, Deadline, Listener, Pass, dial
from qgbdt.errors import DistributedError, WorkerLost


def test_ranks_are_given_and_taken():
    address = free_address()
    ranks = [0, None, 3, None]
    workers = in_threads(ranks, lambda rank: connect(address, 4, rank))
    assert sorted(worker.rank for worker in workers) == [0, 1, 2, 3]
    assert workers[2].rank == 3
    gathered = in_threads(workers, lambda worker: worker.gather(worker.rank))
    assert gathered == [[0, 1, 2, 3]] * 4


def test_to_close_is_to_hang_up():
    """Even if no one answered at first: no error that was caught keeps the connection."""
    address = free_address()
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(connect, address, 2, 1)
        time.sleep(0.3)
        worker = connect(address, 2, 0)
        gc.disable()
        try:
            early.result(TIMEOUT).close()
            with pytest.raises(WorkerLost, match=r"worker 1 .* its connection was closed"):
                worker.gather(1)
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([(2, 0, b""), (2, 1, b"secret")], "has another key"),
        ([(3, 0, b""), (3, 1, b""), (3, 1, b"")], "Two workers have the rank 1"),
        ([(2, 0, b""), (3, 1, b"")], "world_size is 2 on worker 0 and 3 on worker 1"),
        ([(3, 0, b""), (3, 2, b"")], "Only 2 of 3 workers came"),
        ([(2, 1, b"")], "No worker answers at"),
    ],
)
def test_workers_that_do_not_meet(calls, words):
    address = free_address()

    def work(call):
        world_size, rank, key = call
        return outcome(lambda: connect(address, world_size, rank, key=key, timeout=2))

    errors = in_threads(calls, work)
    assert all(isinstance(error, DistributedError) for error in errors), errors
    assert any(words in str(error) for error in errors), errors


@pytest.mark.parametrize("says", [b"qgbdt-1\n" + bytes(32), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_rendezvous_of_something_else(says):
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        joined = pool.submit(connect, address, 2, 1, key=b"k", timeout=20)
        with server.accept()[0] as stranger:
            stranger.sendall(says)
            with pytest.raises(DistributedError, match=f"at {address} is no worker of this versi"):
                joined.result(TIMEOUT)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_rank_0_says_where_it_listens(host):
    announced = queue.SimpleQueue()

    def work(rank):
        address = announced.get(timeout=TIMEOUT) if rank else f"{host}:0"
        return connect(address, 2, rank, announce=announced.put)

    workers = in_threads(range(2), work)
    assert in_threads(workers, lambda worker: worker.gather(1)) == [[1, 1]] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_waiting_can_be_ended(rank):
    end = time.monotonic() + 0.5

    def watch():
        if time.monotonic() > end:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        connect(free_address(), 2, rank, watch=watch)
    assert time.monotonic() < end + 2


@pytest.mark.parametrize("address", ["0.0.0.0:5000", "192.0.2.1:5000", "[::]:5000"])
@pytest.mark.parametrize("rank", [0, 1])
def test_no_meeting_without_a_key_outside_loopback(address, rank):
    with pytest.raises(DistributedError, match="give all workers the same secret key"):
        connect(address, 2, rank)
    with pytest.raises(DistributedError, match="give all workers the same secret key"):
        connect("127.0.0.1:5000", 2, rank, bind="0.0.0.0")


def test_where_a_worker_listens_and_is_reached():
    address = free_address()
    hosts = {"bind": "0.0.0.0", "advertise": "localhost", "key": b"secret"}
    workers = in_threads(range(3), lambda rank: connect(address, 3, rank, **hosts))
    assert in_threads(workers, lambda worker: worker.gather(1)) == [[1, 1, 1]] * 3
    assert workers[0].title(2) == "worker 2 (localhost)"


@pytest.mark.parametrize("address", ["", "host", ":5000", "host:port", "host:70000"])
def test_a_rendezvous_is_an_address(address):
    with pytest.raises(DistributedError, match="host:port"):
        connect(address, 2, 0)


class Tampered(Channel):
    """What it sends has one bit of one byte changed on the way."""

    def __init__(self, connection, position):
        super().__init__(connection)
        self.until = position

    def send(self, data, deadline):
        if 0 <= self.until < len(data):
            data = bytearray(data)
            data[self.until] ^= 1 << self.until % 8
        self.until -= len(data)
        super().send(bytes(data), deadline)


def shake_hands(dialler, accepter, keys=(b"key", b"key")):
    """What each side's authentication returns or raises; who raises hangs up."""

    def work(side):
        channel, key, dialled = side
        try:
            return channel.enter(Pass(key, None), b"context", dialled=dialled)
        except OSError as error:
            channel.close()
            return error

    sides = [(dialler, keys[0], True), (accepter, keys[1], False)]
    try:
        return in_threads(sides, work)
    finally:
        dialler.close()
        accepter.close()


HANDSHAKE = 8 + 64 + 32  # bytes that each side sends


@pytest.mark.parametrize("who", ["dialler", "accepter"])
def test_every_changed_byte_of_a_handshake_is_noticed(who):
    for position in range(HANDSHAKE):
        dials, accepts = connected()
        if who == "dialler":
            _, error = shake_hands(Tampered(dials, position), Channel(accepts))
        else:
            error, _ = shake_hands(Channel(dials), Tampered(accepts, position))
        assert isinstance(error, ConnectionError), position


def test_a_handshake():
    dials, accepts = connected()
    assert shake_hands(Tampered(dials, HANDSHAKE), Channel(accepts)) == [None, None]
    dials, accepts = connected()
    refused = shake_hands(Channel(dials), Channel(accepts), (b"key", b"other"))
    assert all(isinstance(error, ConnectionError) for error in refused)


def test_a_recorded_handshake_cannot_be_played_again():
    sent = []

    class Recorded(Channel):
        def send(self, data, deadline):
            sent.append(data)
            super().send(data, deadline)

    dials, accepts = connected()
    assert shake_hands(Recorded(dials), Channel(accepts)) == [None, None]
    dials, accepts = connected()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            outcome, lambda: Channel(accepts).enter(Pass(b"key", None), b"context", dialled=False)
        )
        dials.sendall(b"".join(sent))
        assert isinstance(answer.result(TIMEOUT), ConnectionError)
    dials.close()
    accepts.close()


def test_strangers_change_nothing():
    address = free_address()
    host, port = address.split(":")
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(connect, address, 3, 0, key=b"k")
        strangers = []
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4), os.urandom(1 << 16)):
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    strangers.append(socket.create_connection((host, int(port))))
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
            try:
                strangers[-1].sendall(sent)
            except OSError:
                assert len(sent) > 4  # it was hung up on
        others = [pool.submit(connect, address, 3, rank, key=b"k") for rank in (1, 2)]
        workers = [future.result(TIMEOUT) for future in (first, *others)]
    for stranger in strangers:
        stranger.close()
    assert in_threads(workers, lambda worker: worker.gather("here")) == [["here"] * 3] * 3


@pytest.mark.parametrize("astray", [{"to": 2}, {"session": "of another meeting"}])
def test_a_connection_that_is_led_astray(astray):
    """Worker 2, by hand: what it says it wants of another worker is not taken for this one's."""
    address, shown, deadline = free_address(), Pass(b"", None), Deadline(TIMEOUT)
    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(connect, address, 3, rank) for rank in (0, 1)]
        lead = dial(Address.parse(address), shown, b"rendezvous", deadline)
        lead.send_json({"rank": 2, "world_size": 3, "address": ["127.0.0.1", 1]}, deadline)
        told = lead.receive_json(deadline)
        hello = {"from": 2, "to": 1, "session": told["session"]}
        dialled = []
        for said in (hello | astray, hello):
            dialled.append(dial(Address(*told["addresses"][1]), shown, b"worker", deadline))
            dialled[-1].send_json(said, deadline)
        lead.send_json("ready", deadline)
        assert lead.receive_json(deadline) == "go"
        gathered = [
            pool.submit(worker.result(TIMEOUT).gather, rank) for rank, worker in enumerate(workers)
        ]
        for channel in (lead, dialled[1]):
            channel.send(frame(1, sealed(b"2")), deadline)
        assert [future.result(TIMEOUT) for future in gathered] == [[0, 1, 2]] * 2
    for channel in (lead, *dialled):
        channel.close()


def test_silent_strangers_give_way():
    """A worker that comes after more of them than are let in at a time is not kept waiting."""
    address = Address.parse(free_address())
    listener = Listener(address, Pass(b"key", None), b"context")
    silent = []
    try:
        for _ in range(MAX_STRANGERS):
            silent.append(socket.create_connection((address.host, address.port), timeout=TIMEOUT))
            assert len(silent[-1].recv(100)) == HANDSHAKE - 32  # it is being authenticated
        start = time.monotonic()
        worker = dial(address, Pass(b"key", None), b"context", Deadline(TIMEOUT))
        listener.accept(Deadline(TIMEOUT)).close()
        worker.close()
        assert time.monotonic() - start < 1
        assert silent[0].recv(1) == b""  # the oldest
        silent[1].settimeout(0.05)
        with pytest.raises(TimeoutError):
            silent[1].recv(1)
    finally:
        listener.close()
        for stranger in silent:
            stranger.close()


def test_a_share_of_the_hostile_connections():
    report = hostile.run(400)
    assert not report.faults, str(report)
    assert sum(report.sent.values()) == 400 + report.more
    assert len(report.sent) == 7
