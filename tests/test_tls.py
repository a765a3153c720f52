"""Workers over TLS: the same model; who has no right certificate; what is left when one dies.

Swept: drawn fits (workers.py), certificates that do not fit, signals to workers and to their
relays. Against: one worker. Tolerance: none; of times, where the contract names them.
"""

import contextlib
import dataclasses
import datetime
import os
import re
import signal
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme
from conftest import train_native
from cryptography.hazmat.primitives import serialization
from network import free_address
from workers import (
    LOSSES,
    N_CASES,
    TIMEOUT,
    check_loss,
    connect_sockets,
    connected,
    drawn_case,
    in_a_fork,
    in_threads,
    outcome,
    shards_in_order,
    strike,
    train_together,
)

from qgbdt.distributed import TLS, connect
from qgbdt.distributed.join import MAGIC, NONCE, Channel, Deadline, Pass
from qgbdt.distributed.relay import DIGEST, READY
from qgbdt.distributed.tls import Relay
from qgbdt.errors import DistributedError, ParameterError


def write(folder, name, certificate, authority):
    """The TLS of a certificate; all files have the name."""
    folder.mkdir(exist_ok=True)
    files = TLS(*(folder / f"{name}.{part}" for part in ("certificate", "key", "authority")))
    files.certificate.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(files.authority)
    return files


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """TLS files: of a worker, of another one, an expired one, and one of another authority."""
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = trustme.CA(), trustme.CA()
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=9)
    expired = ours.issue_cert(
        "worker", not_before=long_ago, not_after=long_ago + datetime.timedelta(days=1)
    )
    return SimpleNamespace(
        good=write(folder, "good", ours.issue_cert("worker"), ours),
        other=write(folder, "other", ours.issue_cert("elsewhere"), ours),
        expired=write(folder, "expired", expired, ours),
        foreign=write(folder, "foreign", theirs.issue_cert("worker"), theirs),
        chained=write(folder, "chained", ours.create_child_ca().issue_cert("worker"), ours),
    )


@pytest.mark.parametrize("seed", range(2 * N_CASES, 2 * N_CASES + N_CASES // 20))
def test_workers_over_tls_make_the_model_of_one(seed, tls):
    data, edges = drawn_case(seed)
    alone = train_native(**data)
    parts = shards_in_order(len(data["y"]), edges, data["query_sizes"])
    workers = connect_sockets(len(parts), tls=tls.good)
    for model in train_together([worker.native for worker in workers], parts, **data):
        assert model.to_bytes() == alone.to_bytes()
    for worker in workers:
        worker.close()


def test_each_worker_may_have_a_certificate_of_its_own(tls):
    address = free_address()
    files = [tls.good, tls.other, tls.chained]
    workers = in_threads(range(3), lambda rank: connect(address, 3, rank, tls=files[rank]))
    relays = [worker._relay._process for worker in workers]
    assert in_threads(workers, lambda worker: worker.gather(1)) == [[1, 1, 1]] * 3
    assert all(relay.poll() is None for relay in relays)
    start = time.monotonic()
    for worker in workers:
        worker.close()
    assert time.monotonic() - start < 2
    assert all(relay.poll() == 0 for relay in relays)


def test_what_is_sent_is_encrypted(tls):
    """What a relay puts on the wire is TLS, and has nothing in it of what the worker says."""
    dials, accepts = connected()
    relay = Relay(tls.good)
    inside = relay.secure(dials, relay.digest, dialled=True)
    hello = accepts.recv(1 << 16)
    assert hello.startswith(b"\x16\x03")  # a handshake record
    accepts.close()
    assert inside.recv(1) == b""
    relay.close()


# ------------------------------------------------------------------------------ who is not let in


NOT_OURS = "its certificate is not accepted: |does not accept this .* certificate: unknown ca"


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize(
    ("which", "says", "hears"),
    [
        ("expired", "accept this worker's certificate: certificate expired", "has expired"),
        ("foreign", NOT_OURS, NOT_OURS),
        (None, "uses TLS and this one does not: give tls to all", "does not use TLS and this one"),
    ],
)
def test_certificates_that_do_not_fit(tls, odd, which, says, hears):
    address = free_address()
    files = [tls.good, tls.good]
    files[odd] = getattr(tls, which) if which else None

    def work(rank):
        return outcome(lambda: connect(address, 2, rank, tls=files[rank]))

    start = time.monotonic()
    errors = in_threads(range(2), work)
    assert time.monotonic() - start < 2
    assert all(type(error) is DistributedError for error in errors), errors
    assert re.search(says, str(errors[odd])), errors
    assert re.search(hears, str(errors[1 - odd])), errors
    assert f"with the worker at {address}" in str(errors[1]) or f"at {address} " in str(errors[1])
    assert "the worker at 127.0.0.1:" in str(errors[0]).lower()


def pass_on(source, sink, n):
    sink.sendall(Channel(source).receive(n, Deadline(TIMEOUT)))


def test_one_in_the_middle_with_a_certificate_but_no_key(tls):
    """It passes on greetings and proofs, then speaks TLS itself: both have proved what they use."""
    dials, near = connected()
    far, accepts = connected()
    relays = [Relay(files) for files in (tls.good, tls.good, tls.other)]

    def enter(connection, relay, dialled):
        channel = Channel(connection)
        with contextlib.closing(channel):
            channel.enter(Pass(b"key", relay), b"", dialled=dialled)

    with ThreadPoolExecutor(2) as pool:
        dialler = pool.submit(outcome, lambda: enter(dials, relays[0], True))
        accepter = pool.submit(outcome, lambda: enter(accepts, relays[1], False))
        for n in (len(MAGIC) + NONCE + DIGEST, DIGEST):
            pass_on(near, far, n)
            pass_on(far, near, n)
        ends = [
            relays[2].secure(near, relays[0].digest, dialled=False),
            relays[2].secure(far, relays[1].digest, dialled=True),
        ]
        for error in (dialler.result(TIMEOUT), accepter.result(TIMEOUT)):
            assert isinstance(error, DistributedError)
            assert "its certificate is not that with which it proved" in str(error)
    for end in ends:
        end.close()
    for relay in relays:
        relay.close()


def test_no_certificate(tls):
    """A worker that knows the key and greets with a certificate, and has none."""
    dials, accepts = connected()
    relay = Relay(tls.good)

    def accept():
        channel = Channel(accepts)
        with contextlib.closing(channel):
            channel.enter(Pass(b"key", relay), b"", dialled=False)

    with ThreadPoolExecutor(1) as pool:
        accepter = pool.submit(outcome, accept)
        liar = Pass(b"key", SimpleNamespace(digest=relay.digest))
        Channel(dials).authenticate(liar, b"", Deadline(TIMEOUT), dialled=True)
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname = False
        bare.load_verify_locations(tls.good.authority)
        dials.settimeout(TIMEOUT)
        with bare.wrap_socket(dials) as client, pytest.raises(ssl.SSLError, match="required"):
            client.recv(1)
        assert "peer did not return a certificate" in str(accepter.result(TIMEOUT))
    relay.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"certificate": "missing"}, "missing cannot be read: No such file or directory"),
        ({"key": "missing"}, "missing cannot be read: No such file or directory"),
        ({"authority": "missing"}, "missing cannot be read: No such file or directory"),
        ({"certificate": "empty"}, "empty holds no certificate in PEM format"),
        ({"authority": "empty"}, "empty holds no certificate in PEM format"),
        ({"authority": "no_base64"}, "no_base64 holds no certificate in PEM format"),
        ({"certificate": "no_certificate"}, "no_certificate holds no certificate in PEM format"),
        ({"key": "empty"}, "empty is not the key of .*good.certificate, or is encrypted"),
        ({"key": "other.key"}, "other.key is not the key of .*, or is encrypted .KEY_VALUES_MISM"),
        ({"key": "encrypted"}, "encrypted is not the key of .*, or is encrypted"),
    ],
)
def test_files_are_checked_first(tls, tmp_path, changes, words):
    frame = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
    (tmp_path / "empty").touch()
    (tmp_path / "no_base64").write_text(frame.format("?"))
    (tmp_path / "no_certificate").write_text(frame.format("AAAA"))
    (tmp_path / "other.key").write_bytes(tls.other.key.read_bytes())
    key = serialization.load_pem_private_key(tls.good.key.read_bytes(), None)
    (tmp_path / "encrypted").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    ((name, file),) = changes.items()
    files = dataclasses.replace(tls.good, **{name: tmp_path / file})
    with pytest.raises(DistributedError, match=words):
        connect("127.0.0.1:1", 2, 1, tls=files, timeout=0.1)


def test_tls_is_a_tls():
    with pytest.raises(ParameterError, match="The 'tls' parameter of connect must be a TLS or No"):
        connect("127.0.0.1:1", 2, 1, tls="certificate.pem")


# ------------------------------------------------------------------------------------- the relay


@pytest.fixture
def relayed(tls):
    """Two ends, joined by a relay each."""
    relays = [Relay(tls.good), Relay(tls.good)]
    connections = connected()
    ends = [
        relay.secure(connection, relay.digest, dialled=dialled)
        for relay, connection, dialled in zip(relays, connections, (True, False))
    ]
    for end in ends:
        end.settimeout(TIMEOUT)
        assert end.recv(len(READY), socket.MSG_WAITALL) == READY
    yield ends
    for closed in (*ends, *relays):
        closed.close()


def test_a_relay_delivers_what_was_written_before_the_end(relayed):
    sent = os.urandom(300_000)
    relayed[1].sendall(b"never read")
    relayed[0].sendall(sent)
    relayed[0].close()
    with relayed[1].makefile("rb") as rest:
        assert rest.read() == sent


@pytest.mark.parametrize("end", [0, 1])
def test_a_relay_takes_no_more_than_the_other_side(relayed, end):
    """Back pressure: it keeps little, and moves it all in the end."""
    slow, fast = relayed[end], relayed[1 - end]
    piece = os.urandom(1 << 20)
    fast.settimeout(1)
    with pytest.raises(TimeoutError):
        fast.sendall(piece * 64)
    slow.settimeout(1)
    received = 0
    with contextlib.suppress(TimeoutError):
        while part := slow.recv(1 << 20):
            assert part == (piece * 2)[received % len(piece) :][: len(part)]
            received += len(part)
    assert 0 < received < 24 << 20


def test_an_idle_relay_costs_nothing(relayed, tls):
    relay = Relay(tls.good)

    def used():
        fields = Path(f"/proc/{relay._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13]))

    ends = [relay.secure(c, relay.digest, dialled=d) for c, d in zip(connected(), (True, False))]
    for end in ends:
        assert end.recv(len(READY), socket.MSG_WAITALL) == READY
    before = used()
    time.sleep(0.5)
    assert used() - before <= 2  # hundredths of a second
    for end in ends:
        end.close()
    relay.close()


def test_a_fork_leaves_the_relay_alone(tls):
    relay = Relay(tls.good)
    assert in_a_fork(relay.close) == 0
    for connection, dialled in zip(connected(), (True, False)):
        relay.secure(connection, relay.digest, dialled=dialled).close()
    relay.close()


def test_a_relay_that_cannot_start(tls, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DistributedError, match=r"TLS relay .* has ended"):
        connect_sockets(2, tls=tls.good, timeout=5)


# --------------------------------------------------------------------------------- lost workers


def relay_of(pid):
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    (relay,) = " ".join(thread.read_text() for thread in threads).split()
    return int(relay)


def wait_until_gone(pid):
    deadline = time.monotonic() + TIMEOUT
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"process {pid} is left over"
        time.sleep(0.05)


@LOSSES
def test_a_lost_worker_is_noticed_over_tls(tls, sign, heartbeat, words):
    relays = []

    def find(pid):
        relays.append(relay_of(pid))
        return pid

    check_loss(sign, heartbeat, words, find, tls=tls.good)
    wait_until_gone(relays[0])


def test_a_lost_relay_is_noticed_by_all(tls):
    errors = strike(relay_of, signal.SIGKILL, 3, tls=tls.good)
    for rank, (message, seconds) in errors.items():
        words = "its TLS relay has ended" if rank == 1 else "its connection was closed"
        assert message.startswith(f"worker 1 (127.0.0.1) is lost: {words}")
        assert seconds < 2
