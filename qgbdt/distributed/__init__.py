"""Training by several workers, each with a part of the rows: the model is that of one worker.

Examples
--------
In each process, with its own rows and its own rank::

    from qgbdt import QGBDTClassifier
    from qgbdt.distributed import connect

    with connect("10.0.0.1:5000", world_size=4, rank=2, key=secret) as communicator:
        classifier = QGBDTClassifier().fit(X, y, communicator=communicator)
"""

from collections.abc import Callable

from qgbdt import _core
from qgbdt.distributed.communicator import Communicator
from qgbdt.distributed.join import Address, Meeting, Pass, join, nothing
from qgbdt.distributed.tls import TLS, Relay
from qgbdt.params import NONE, FloatRange, IntRange, Where, check_value

__all__ = ["TLS", "Communicator", "connect", "connect_threads"]


def connect(
    rendezvous: str,
    world_size: int,
    rank: int | None = None,
    *,
    key: bytes = b"",
    tls: TLS | None = None,
    heartbeat: float = 10.0,
    timeout: float = 60.0,
    bind: str | None = None,
    advertise: str | None = None,
    announce: Callable[[str], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> Communicator:
    """Meet the other workers of a fit.

    Parameters
    ----------
    rendezvous : str
        Where the worker of rank 0 can be reached: ``host:port`` or ``[IPv6]:port``. It listens
        there; all others dial it, and may come first.
    world_size : int
        The number of workers.
    rank : int, default=None
        This worker's number, from 0. None takes a number that is left; one worker must have 0.
        Rows are numbered in the order of ranks.
    key : bytes, default=b""
        A secret that all workers know. Without it only workers of this machine are met.
    tls : TLS, default=None
        Certificates, to encrypt what is sent. All workers give theirs, or none does.
    heartbeat : float, default=10.0
        Seconds of silence after which a worker is taken for lost.
    timeout : float, default=60.0
        Seconds until all workers must have come.
    bind : str, default=None
        The host at which this worker listens; None is that of the rendezvous for rank 0, and for
        others the address from which they reach it.
    advertise : str, default=None
        The host at which the others reach this worker, if that is another.
    announce : callable, default=None
        Called by rank 0 with the address at which it listens: where the port of the rendezvous is
        0, one that is free.
    watch : callable, default=None
        Called again and again while this worker waits for others; what it raises ends the waiting.

    Returns
    -------
    Communicator

    Raises
    ------
    DistributedError
        If they do not find each other in time, have different keys, ranks or numbers of workers, or
        do not accept each other's certificates.
    """
    check_value("world_size", "connect", world_size, IntRange(1))
    check_value("rank", "connect", rank, IntRange(0, world_size - 1) | NONE)
    check_value("tls", "connect", tls, Where("a TLS", lambda given: isinstance(given, TLS)) | NONE)
    check_value("heartbeat", "connect", heartbeat, FloatRange(0.1, 3600))
    check_value("timeout", "connect", timeout, FloatRange(0.1, 86400))
    relay = None if tls is None else Relay(tls)
    shown = Pass(key, relay)
    try:
        address = Address.parse(rendezvous)
        meeting = Meeting(
            address, world_size, shown, timeout, bind, advertise, announce, watch or nothing
        )
        joined = join(meeting, rank)
    except BaseException:
        if relay is not None:
            relay.close()
        raise
    lifeline = -1 if relay is None else relay.lifeline()
    comm = _core.SocketComm(joined.rank, joined.sockets, joined.names, heartbeat, lifeline)
    return Communicator(comm, joined.names, relay)


def connect_threads(world_size: int) -> list[Communicator]:
    """Communicators of workers that are threads of this process, for tests and trials.

    Parameters
    ----------
    world_size : int
        The number of workers.

    Returns
    -------
    list of Communicator
        One for each rank.
    """
    check_value("world_size", "connect_threads", world_size, IntRange(1))
    names = ["this process"] * world_size
    return [Communicator(comm, names) for comm in _core.thread_comms(world_size)]
