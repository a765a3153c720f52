"""Encryption between workers: whose certificates they accept, and the process that does the work.

The core moves bytes over file descriptors, from threads that wait for no interpreter; Python's
`ssl` works on Python's sockets. So a process of its own, the relay, stands between the two
(docs/decisions/0011-tls-in-a-relay.md).
"""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from dataclasses import astuple, dataclass

from qgbdt.distributed import relay
from qgbdt.errors import DistributedError

CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class TLS:
    """Encryption of what workers send each other, by TLS 1.3: files in PEM format.

    Each worker shows the others its certificate and accepts what the authority has signed; names
    in certificates do not matter. All workers may have the same certificate.

    Parameters
    ----------
    certificate : str or path
        This worker's certificate, followed by those between it and the authority's, if any.
    key : str or path
        Its private key, not encrypted.
    authority : str or path
        The certificate of the authority.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    authority: str | os.PathLike[str]

    def files(self) -> list[str]:
        return [os.path.abspath(file) for file in astuple(self)]

    def digest(self) -> bytes:
        """What the others know the certificate by.

        Raises
        ------
        DistributedError
            If a file cannot be used.
        """
        for file in self.files():
            try:
                with open(file, "rb"):
                    pass
            except OSError as error:
                raise DistributedError(f"{file} cannot be read: {error.strerror}.") from error
        certificate = self._first_certificate(self.certificate)
        self._first_certificate(self.authority)
        try:
            relay.context(self.files(), dialled=True)
        except ssl.SSLError as error:
            raise DistributedError(
                f"{self.key} is not the key of {self.certificate}, or is encrypted "
                f"({error.reason or error})."
            ) from error
        return relay.digest(certificate)

    @staticmethod
    def _first_certificate(file: str | os.PathLike[str]) -> bytes:
        with open(file, "rb") as opened:
            found = CERTIFICATE.search(opened.read())
        with contextlib.suppress(ValueError, ssl.SSLError):  # no base64, no certificate
            if found:
                der = ssl.PEM_cert_to_DER_cert(found[0].decode())
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
                return der
        raise DistributedError(f"{file} holds no certificate in PEM format.")


class Relay:
    """The process that encrypts this worker's connections. It ends when the worker does.

    Parameters
    ----------
    tls : TLS
        The files.
    """

    def __init__(self, tls: TLS) -> None:
        self.digest = tls.digest()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", relay.__file__, *tls.files()],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C and the like are for the worker
            )
        self._sending = threading.Lock()
        self.close = weakref.finalize(self, _end, self._process, self._control, os.getpid())
        self.close.atexit = False

    def lifeline(self) -> int:
        """A file descriptor, of the caller, on which the other side hangs up when it ends."""
        return os.dup(self._control.fileno())

    def secure(self, connection: socket.socket, pinned: bytes, *, dialled: bool) -> socket.socket:
        """Hand a connection over, and get the one in its place.

        What comes first is a message in JSON: "", or why the two do not accept each other.
        """
        ours, theirs = socket.socketpair()
        try:
            with connection, theirs, self._sending:
                request = bytes([dialled]) + pinned
                socket.send_fds(self._control, [request], [connection.fileno(), theirs.fileno()])
        except OSError as error:
            ours.close()
            raise DistributedError(
                f"This worker's TLS relay (process {self._process.pid}) has ended."
            ) from error
        return ours


def _end(process: subprocess.Popen[bytes], control: socket.socket, owner: int) -> None:
    if os.getpid() != owner:  # a fork, which has no relay
        return
    with contextlib.suppress(OSError):
        control.shutdown(socket.SHUT_RDWR)
    control.close()
    try:
        process.wait(relay.LINGER_SECONDS + 1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
