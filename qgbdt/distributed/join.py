"""How workers find each other: a rendezvous, who may come in, and a socket for each pair.

Rank 0 listens at the rendezvous. Every other worker dials it, proves that it knows the key, says
where it listens itself, and is told its rank and where the others are; then each pair is joined by
a socket. Nothing of a stranger is parsed but two messages of fixed length: a greeting and a proof.
A greeting is a random number and the digest of a certificate; the proof is an HMAC-SHA256 over both
greetings, so none can be used again. Where workers use TLS it follows the proof, and the other side
must have the certificate of its greeting: who has another, even one that the same authority has
signed, stands between the two.
"""

import contextlib
import hmac
import ipaddress
import json
import queue
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qgbdt.distributed.relay import DIGEST
from qgbdt.distributed.tls import Relay
from qgbdt.errors import DisagreementError, DistributedError, WorkerLost

MAGIC = b"qgbdt-2\n"
NONCE = 32
NO_CERTIFICATE = bytes(DIGEST)
"""The digest of who does not use TLS."""
AUTHENTICATION_SECONDS = 5.0
MAX_STRANGERS = 64
"""Connections that are being authenticated at a time; for one more, the oldest is closed."""
MAX_MESSAGE = 16 << 20
RETRY_SECONDS = 0.05
GRACE_SECONDS = 1.0
"""How much longer than rank 0 the others wait: it knows who is missing, and tells them."""
WATCH_SECONDS = 0.2
"""While waiting for one worker, how long the others are not looked at."""


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From ``host:port`` or ``[IPv6]:port``."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise DistributedError(f"A rendezvous is an address, host:port. Got {text!r}.")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def nothing() -> None:
    """Watch nothing."""


class Deadline:
    """A point in time, and how long it is until then.

    Who waits looks at it now and then; `watch` is called each time, and may raise.
    """

    def __init__(self, seconds: float, watch: Callable[[], None] = nothing) -> None:
        self.end = time.monotonic() + seconds
        self._watch = watch

    def left(self) -> float:
        """Seconds that are left; TimeoutError if none are."""
        self._watch()
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("out of time")
        return left

    def is_over(self) -> bool:
        return time.monotonic() >= self.end


class OtherKeyError(ConnectionError):
    """The other side does not know the key."""


class OtherProtocolError(ConnectionError):
    """The other side is no worker, or one of another version."""


@dataclass(frozen=True)
class Pass:
    """With what a worker gets in, and asks the same of others."""

    key: bytes
    relay: Relay | None  # if TLS is used

    @property
    def certificate(self) -> bytes:
        return self.relay.digest if self.relay else NO_CERTIFICATE


class Channel:
    """A socket over which two workers come to terms, before it is used for training."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.here, self.there = (
            Address(*name[:2]) for name in (connection.getsockname(), connection.getpeername())
        )

    def send(self, data: bytes, deadline: Deadline) -> None:
        self.socket.settimeout(deadline.left())
        self.socket.sendall(data)

    def receive(self, n: int, deadline: Deadline) -> bytes:
        data = bytearray()
        while len(data) < n:
            self.socket.settimeout(deadline.left())
            part = self.socket.recv(min(n - len(data), 1 << 16))
            if not part:
                raise ConnectionError("the connection was closed")
            data += part
        return bytes(data)

    def send_json(self, message: Any, deadline: Deadline) -> None:
        text = json.dumps(message).encode()
        self.send(struct.pack("!I", len(text)) + text, deadline)

    def receive_json(self, deadline: Deadline) -> Any:
        (length,) = struct.unpack("!I", self.receive(4, deadline))
        if length > MAX_MESSAGE:
            raise ConnectionError("a message is too long")
        return json.loads(self.receive(length, deadline))

    def has_news(self) -> bool:
        """Whether something can be read, or the other side has closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def enter(self, shown: Pass, context: bytes, *, dialled: bool) -> None:
        """Authenticate, then encrypt; DistributedError if the worker there cannot do the same."""
        deadline = Deadline(AUTHENTICATION_SECONDS)
        certificate = self.authenticate(shown, context, deadline, dialled=dialled)
        if (certificate == NO_CERTIFICATE) != (shown.relay is None):
            uses, lacks = ("uses", "does not") if shown.relay is None else ("does not use", "does")
            raise DistributedError(
                f"The worker at {self.there} {uses} TLS and this one {lacks}: give tls to all "
                "workers or to none."
            )
        if shown.relay is not None:
            self.socket = shown.relay.secure(self.socket, certificate, dialled=dialled)
            if refusal := self.receive_json(deadline):
                raise DistributedError(
                    f"No TLS with the worker at {self.there}: {refusal}. Give each worker a valid "
                    "certificate of the authority that all have."
                )

    def authenticate(
        self, shown: Pass, context: bytes, deadline: Deadline, *, dialled: bool
    ) -> bytes:
        """Prove to the other side that this one knows the key, and let it prove the same.

        Who dialled proves it first: a stranger who dials learns nothing. Returns the digest of the
        certificate that the other side is going to show.
        """
        mine = secrets.token_bytes(NONCE) + shown.certificate
        self.send(MAGIC + mine, deadline)
        if self.receive(len(MAGIC), deadline) != MAGIC:
            raise OtherProtocolError("the other side is no worker of this version of qgbdt")
        theirs = self.receive(len(mine), deadline)
        greetings = mine + theirs if dialled else theirs + mine
        proofs = [
            hmac.digest(shown.key, side + greetings + context, "sha256")
            for side in (b"dialled", b"accepted")
        ]
        own, other = proofs if dialled else proofs[::-1]
        if dialled:
            self.send(own, deadline)
        try:
            proof = self.receive(len(other), deadline)
        except ConnectionError:
            proof = b""
        if not hmac.compare_digest(proof, other):
            raise OtherKeyError("it has another key")
        if not dialled:
            self.send(own, deadline)
        return theirs[NONCE:]

    def detach(self) -> int:
        """The file descriptor; it is the caller's from now on."""
        self.socket.settimeout(None)
        return self.socket.detach()

    def close(self) -> None:
        self.socket.close()


def channel_over(
    connection: socket.socket, shown: Pass, context: bytes, *, dialled: bool
) -> Channel:
    """A channel that may be used; if there is none, the connection is closed."""
    with contextlib.ExitStack() as failed:
        failed.callback(connection.close)
        channel = Channel(connection)
        failed.callback(channel.close)
        channel.enter(shown, context, dialled=dialled)
        failed.pop_all()
        return channel


class Listener:
    """Accepts connections in the background and hands out those that prove to know the key."""

    def __init__(self, address: Address, shown: Pass, context: bytes) -> None:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        try:
            self.socket = socket.create_server(
                (address.host, address.port), family=family, backlog=128
            )
        except OSError as error:
            raise DistributedError(f"Cannot listen at {address}: {error.strerror}.") from error
        self.address = Address(address.host, self.socket.getsockname()[1])
        self._shown, self._context = shown, context
        self._welcome: queue.SimpleQueue[Channel | DistributedError] = queue.SimpleQueue()
        self._strangers: dict[socket.socket, None] = {}  # the oldest first
        self._counting = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, name="qgbdt-listener", daemon=True).start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self.socket.accept()
            except OSError:  # closed, or this process has too many files open
                time.sleep(RETRY_SECONDS)
                continue
            self._make_room(connection)
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _make_room(self, connection: socket.socket) -> None:
        """Count one more; who keeps silent gives way, so that no one can hold the door."""
        with self._counting:
            if len(self._strangers) >= MAX_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread wakes up, and closes it
            self._strangers[connection] = None

    def _admit(self, connection: socket.socket) -> None:
        try:
            self._welcome.put(channel_over(connection, self._shown, self._context, dialled=False))
        except DistributedError as error:  # it knows the key: it is no stranger
            self._welcome.put(error)
        except OSError:
            pass
        finally:
            with self._counting:
                self._strangers.pop(connection, None)
        if self._closed:
            self._close_welcome()

    def accept(self, deadline: Deadline) -> Channel:
        """The next connection of someone who knows the key; TimeoutError if none comes in time.

        DistributedError if its TLS does not fit.
        """
        try:
            arrived = self._welcome.get(timeout=deadline.left())
        except queue.Empty:
            raise TimeoutError("out of time") from None
        if isinstance(arrived, DistributedError):
            raise arrived
        return arrived

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self.socket.close()
        self._close_welcome()

    def _close_welcome(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                arrived = self._welcome.get_nowait()
                if isinstance(arrived, Channel):
                    arrived.close()


def dial(
    address: Address,
    shown: Pass,
    context: bytes,
    deadline: Deadline,
    watch: Callable[[], None] = nothing,
) -> Channel:
    """Connect and authenticate, again and again until it works or time is over.

    Between attempts `watch` may raise.
    """
    reason = "out of time"  # not the error, whose frames would live on, and all that is in them
    while True:
        watch()
        try:
            left = deadline.left()
            connection = socket.create_connection((address.host, address.port), timeout=left)
        except TimeoutError:
            raise DistributedError(f"No worker answers at {address}: {reason}.") from None
        except OSError as error:
            reason = str(error)
        else:
            try:
                return channel_over(connection, shown, context, dialled=True)
            except OtherKeyError as error:
                raise DistributedError(f"The worker at {address} has another key.") from error
            except OtherProtocolError as error:
                raise DistributedError(
                    f"What answers at {address} is no worker of this version of qgbdt."
                ) from error
            except OSError as error:
                reason = str(error)
        time.sleep(RETRY_SECONDS)


@dataclass(frozen=True)
class Meeting:
    """Where the workers meet, how many they are, and what they must know."""

    rendezvous: Address
    world_size: int
    shown: Pass
    seconds: float  # until all are there
    bound: str | None  # the host where this worker listens
    advertised: str | None  # and as others see it
    announce: Callable[[str], None] | None  # told where rank 0 listens
    watch: Callable[[], None]  # may end the waiting


@dataclass
class Joined:
    """This worker's rank, and a socket to each other worker."""

    rank: int
    sockets: list[int]  # -1 at this worker's rank
    names: list[str]


def is_loopback(host: str) -> bool:
    """Whether connections to the host cannot come from another machine."""
    addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    return all(ipaddress.ip_address(str(a).partition("%")[0]).is_loopback for a in addresses)


def join(meeting: Meeting, rank: int | None) -> Joined:
    """Meet the other workers. Rank 0 is the host; None takes the first rank that is free."""
    if not meeting.shown.key:
        refuse_strangers(meeting)
    deadline = Deadline(meeting.seconds, meeting.watch)
    try:
        return host(meeting, deadline) if rank == 0 else attend(meeting, rank, deadline)
    except WorkerLost:
        raise
    except OSError as error:
        raise DistributedError(
            f"The {meeting.world_size} workers of {meeting.rendezvous} did not all find each other "
            f"within {meeting.seconds:g} s: {error}."
        ) from error


def refuse_strangers(meeting: Meeting) -> None:
    """Without a key, workers meet where no other machine can come."""
    for host in (meeting.rendezvous.host, meeting.bound):
        try:
            open_to_others = host is not None and not is_loopback(host)
        except OSError as error:
            raise DistributedError(f"{host} cannot be found: {error.strerror}.") from error
        if open_to_others:
            raise DistributedError(
                f"{host} can be reached from other machines: give all workers the same secret key."
            )


def host(meeting: Meeting, deadline: Deadline) -> Joined:
    """Rank 0: wait for the others, and tell them of each other."""
    names = [meeting.advertised or meeting.rendezvous.host]
    at = Address(meeting.bound or meeting.rendezvous.host, meeting.rendezvous.port)
    listener = Listener(at, meeting.shown, b"rendezvous")
    requests: dict[Channel, Request] = {}
    try:
        if meeting.announce:
            meeting.announce(str(Address(names[0], listener.address.port)))
        gather(listener, requests, meeting, deadline)
        ranks = assign(requests, meeting.world_size)
        addresses = [None, *(requests[channel].address for channel in ranks.values())]
        names += [address[0] for address in addresses if address]
        told = {"addresses": addresses, "names": names, "session": secrets.token_hex(NONCE)}
        for rank, channel in ranks.items():
            channel.send_json({"rank": rank, **told}, deadline)
        wait_until_ready(ranks, names, deadline)
        for channel in ranks.values():
            channel.send_json("go", deadline)
    except BaseException as error:
        kind = "lost" if isinstance(error, WorkerLost) else "error"
        for channel in requests:
            with contextlib.suppress(OSError):
                channel.send_json({kind: str(error)}, Deadline(1))
            channel.close()
        raise
    finally:
        listener.close()
    return Joined(0, [-1, *(channel.detach() for channel in ranks.values())], names)


@dataclass(frozen=True)
class Request:
    """What a worker says to rank 0 when it comes."""

    rank: int | None
    world_size: int
    address: tuple[str, int]


def gather(
    listener: Listener, requests: dict[Channel, Request], meeting: Meeting, deadline: Deadline
) -> None:
    """Wait until all workers are there; one that goes away again may come back."""
    while len(requests) < meeting.world_size - 1:
        try:
            channel = listener.accept(Deadline(min(deadline.left(), WATCH_SECONDS)))
        except TimeoutError:
            for channel in [channel for channel in requests if channel.has_news()]:
                del requests[channel]
            if deadline.is_over():
                raise DistributedError(
                    f"Only {len(requests) + 1} of {meeting.world_size} workers came to "
                    f"{meeting.rendezvous} within {meeting.seconds:g} s."
                ) from None
            continue
        with contextlib.suppress(OSError, ValueError):  # it is gone again
            said = channel.receive_json(Deadline(AUTHENTICATION_SECONDS))
            host, port = said["address"]
            requests[channel] = Request(said["rank"], said["world_size"], (host, port))


def wait_until_ready(ranks: dict[int, Channel], names: list[str], deadline: Deadline) -> None:
    """Wait until every worker has its sockets; WorkerLost if one goes away."""
    waiting = dict(ranks)
    while waiting:
        for rank in [rank for rank, channel in waiting.items() if channel.has_news()]:
            try:
                waiting.pop(rank).receive_json(deadline)
            except (OSError, ValueError) as error:
                raise WorkerLost(
                    f"worker {rank} ({names[rank]}) is lost: {error} (while the workers meet)"
                ) from error
        if deadline.is_over():
            titles = ", ".join(f"worker {rank} ({names[rank]})" for rank in waiting)
            raise DistributedError(f"Not all workers reach each other; not ready: {titles}.")
        deadline.left()
        time.sleep(RETRY_SECONDS)


def assign(requests: Mapping[Channel, Request], world_size: int) -> dict[int, Channel]:
    """Ranks as asked for, the rest in the order in which workers came; sorted."""
    ranks: dict[int, Channel] = {}
    for channel, request in requests.items():
        who = "a worker" if request.rank is None else f"worker {request.rank}"
        if request.world_size != world_size:
            raise DisagreementError(
                f"Workers do not agree: world_size is {world_size} on worker 0 and "
                f"{request.world_size} on {who}."
            )
        if request.rank in ranks or request.rank == 0:
            raise DisagreementError(f"Two workers have the rank {request.rank}.")
        if request.rank is not None:
            ranks[request.rank] = channel
    free = (rank for rank in range(1, world_size) if rank not in ranks)
    for channel, request in requests.items():
        if request.rank is None:
            ranks[next(free)] = channel
    return dict(sorted(ranks.items()))


def attend(meeting: Meeting, rank: int | None, deadline: Deadline) -> Joined:
    """Any other worker: dial rank 0, then those of lower rank; those of higher rank dial here."""
    with contextlib.ExitStack() as opened:
        lead = dial(meeting.rendezvous, meeting.shown, b"rendezvous", deadline)
        opened.callback(lead.close)
        deadline = Deadline(deadline.left() + GRACE_SECONDS, meeting.watch)
        here = lead.here.host
        listener = Listener(Address(meeting.bound or here, 0), meeting.shown, b"worker")
        opened.callback(listener.close)
        address = [meeting.advertised or here, listener.address.port]
        lead.send_json(
            {"rank": rank, "world_size": meeting.world_size, "address": address}, deadline
        )
        answer = told(lead, deadline)
        given, session = answer["rank"], answer["session"]

        def watch() -> None:
            if lead.has_news():  # it gave up: otherwise it waits for this worker
                told(lead, deadline)

        channels = {0: lead}
        for other in range(1, given):
            address_there = Address(*answer["addresses"][other])
            channel = dial(address_there, meeting.shown, b"worker", deadline, watch)
            opened.callback(channel.close)
            channel.send_json({"from": given, "to": other, "session": session}, deadline)
            channels[other] = channel
        while len(channels) < meeting.world_size - 1:
            watch()
            try:
                channel = listener.accept(Deadline(min(deadline.left(), WATCH_SECONDS)))
            except TimeoutError:
                deadline.left()
                continue
            opened.callback(channel.close)
            caller = channel.receive_json(deadline)
            # Not of another meeting with the same key, nor led astray on the way to another worker.
            if (caller["to"], caller["session"]) == (given, session):
                channels[caller["from"]] = channel
        lead.send_json("ready", deadline)
        told(lead, deadline)
        sockets = [-1] * meeting.world_size
        for other, channel in channels.items():
            sockets[other] = channel.detach()
        return Joined(given, sockets, answer["names"])


def told(lead: Channel, deadline: Deadline) -> Any:
    """What rank 0 says; an error if that is why it gave up."""
    try:
        answer = lead.receive_json(deadline)
    except TimeoutError:
        raise
    except (OSError, ValueError) as error:
        raise WorkerLost(f"worker 0 is lost: {error} (while the workers meet)") from error
    if isinstance(answer, dict) and "lost" in answer:
        raise WorkerLost(answer["lost"])
    if isinstance(answer, dict) and "error" in answer:
        raise DistributedError(answer["error"])
    return answer
