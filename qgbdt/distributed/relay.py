"""The process that encrypts a worker's connections; `tls.Relay` starts it, by this file's path.

It imports nothing but the standard library. Standard input is a socket: over it come pairs of file
descriptors, the outside of a connection (TCP, to another worker's relay) and the inside (to the own
worker), which it joins. Each side of the outside says READY when it accepts the other's
certificate; the inside gets that, or why there will be no connection. When standard input ends, so
does the worker: what it wrote is still delivered, then the process exits.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import sys

DIGEST = 32
REQUEST = 1 + DIGEST
"""Whether the worker dialled, and the SHA-256 of the certificate that the other must have."""
CHUNK = 1 << 18
LINGER_SECONDS = 5.0
"""How long the other side may take for the last bytes."""


def status(refusal: str) -> bytes:
    """What the inside gets first, as JSON: nothing, or why there is no connection."""
    text = json.dumps(refusal).encode()
    return struct.pack("!I", len(text)) + text


READY = status("")


def digest(certificate: bytes) -> bytes:
    """What a certificate (DER) is known by."""
    return hashlib.sha256(certificate).digest()


def context(files: list[str], *, dialled: bool) -> ssl.SSLContext:
    """How TLS is spoken: version 1.3, and both sides need a certificate of the authority.

    The files are PEM: a certificate, its key, and the authority's certificate.
    """
    certificate, key, authority = files
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if dialled else ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(authority)
    made.load_cert_chain(certificate, key, password="")  # never ask for one
    return made


def reason(error: ssl.SSLError) -> str:
    """What went wrong, from this worker's point of view."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    _, alert, after = (error.reason or "no reason given").rpartition("ALERT_")
    words = after.lower().replace("_", " ")
    return f"it does not accept this worker's certificate: {words}" if alert else words


class Inside(asyncio.Protocol):
    """The worker's end, plain bytes: one of two, to be read from and to be written to.

    With a single one, what cannot be written any more would end the reading of what is left.
    """

    transport: asyncio.Transport
    outside: "Outside"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()  # for ever, or until there is an outside

    def data_received(self, data: bytes) -> None:
        self.outside.encrypt(data)

    def pause_writing(self) -> None:
        self.outside.transport.pause_reading()

    def resume_writing(self) -> None:
        self.outside.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if self is self.outside.source:
            self.outside.finish()


class Outside(asyncio.Protocol):
    """The other worker's end: TLS, between two buffers of bytes that came and bytes to send."""

    transport: asyncio.Transport

    def __init__(self, tls: ssl.SSLContext, pinned: bytes, *, dialled: bool):
        self.source, self.sink = Inside(), Inside()
        self.source.outside = self.sink.outside = self
        self._pinned = pinned
        self._came, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._came, self._to_send, server_side=not dialled)
        self._is_open = self._has_read = self._is_finished = False
        self.is_lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.source.transport.resume_reading()
        self._advance()

    def data_received(self, data: bytes) -> None:
        if not self._is_finished:
            self._came.write(data)
            self._advance()

    def _advance(self) -> None:
        """Handshake, then decrypt, as far as the bytes that came allow."""
        try:
            if not self._is_open:
                self._tls.do_handshake()
                if digest(self._tls.getpeercert(binary_form=True) or b"") != self._pinned:
                    self._fail("its certificate is not that with which it proved to know the key")
                    return
                self._is_open = True
                self._tls.write(READY)
            while data := self._tls.read(CHUNK):
                self._has_read = True
                self.sink.transport.write(data)
            self.end()
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._fail(reason(error))

    def _send(self) -> None:
        if self._to_send.pending:
            self.transport.write(self._to_send.read())

    def encrypt(self, data: bytes) -> None:
        """Send what the worker wrote."""
        rest = memoryview(data)
        while rest and not self._is_finished:
            rest = rest[self._tls.write(rest) :]
            self._send()

    def _fail(self, why: str) -> None:
        if not self._has_read:
            self.sink.transport.write(status(why))
        self._send()  # an alert
        self.end()

    def end(self) -> None:
        """The other side is done: the worker gets what came, and nothing is sent any more."""
        self._close_inside()
        self.finish()

    def finish(self) -> None:
        """Nothing comes from the worker any more: send what is left, and wait for the other side.

        If it were not waited for, what it still sends would make the system throw away what has
        not arrived there.
        """
        if self._is_finished or self.transport.is_closing():
            return
        self._is_finished = True
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._send()
        self.transport.resume_reading()
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        self.source.transport.pause_reading()

    def resume_writing(self) -> None:
        self.source.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_finished = True
        self._close_inside()
        self.is_lost.set_result(None)

    def _close_inside(self) -> None:
        self.source.transport.close()
        self.sink.transport.close()


async def serve(control: socket.socket, files: list[str]) -> None:
    """Join pairs of sockets until the worker ends."""
    loop = asyncio.get_running_loop()
    contexts = [context(files, dialled=dialled) for dialled in (False, True)]
    links: set[asyncio.Task[None]] = set()
    worker_ended = loop.create_future()

    async def link(request: bytes, fds: list[int]) -> None:
        tcp, pair = (socket.socket(fileno=fd) for fd in fds)
        dialled = bool(request[0])
        outside = Outside(contexts[dialled], request[1:], dialled=dialled)
        await loop.connect_accepted_socket(lambda: outside.sink, pair.dup())
        await loop.connect_accepted_socket(lambda: outside.source, pair)
        await loop.connect_accepted_socket(lambda: outside, tcp)
        await outside.is_lost

    def take() -> None:
        try:
            request, fds, _, _ = socket.recv_fds(control, REQUEST, 2)
        except OSError:
            request = b""
        if request:
            task = loop.create_task(link(request, fds))
            links.add(task)
            task.add_done_callback(links.discard)
        elif not worker_ended.done():
            worker_ended.set_result(None)

    loop.add_reader(control, take)
    await worker_ended
    loop.remove_reader(control)
    if links:
        await asyncio.wait(links, timeout=LINGER_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=0), sys.argv[1:]))
