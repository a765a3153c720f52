"""Workers of one machine on a network of their own: a namespace and a cable each, all on a switch.

Linux only, as root, with the commands ip and tc.
"""

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
from pathlib import Path
from typing import Self

CLONE_NEWNET = 0x40000000
NUMBERS = itertools.count()
BURST = "64kb"
NEEDS = "needs Linux, root, and the commands ip and tc"
QUEUE = "50ms"


class Network:
    """Namespaces that reach each other, and nothing else, over cables of some bandwidth.

    Parameters
    ----------
    size : int
        The number of namespaces.
    rate : str, default=None
        The bandwidth of each cable in either direction, as tc spells it: ``100mbit``.
    """

    def __init__(self, size: int, rate: str | None = None) -> None:
        self.size = size
        self._rate = rate
        # Of the switch; with a worker's number it has at most 15 characters.
        self._name = f"q{os.getpid() % 100_000}x{next(NUMBERS) % 10_000}"

    def address(self, worker: int) -> str:
        """A worker's IP address."""
        return f"10.78.{worker // 200}.{worker % 200 + 1}"

    def enter(self, worker: int) -> None:
        """Move this thread, and those that it starts, into a worker's namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/var/run/netns/{self._name}n{worker}") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the namespace")

    def sent_bytes(self, worker: int) -> int:
        """What went out over a worker's cable."""
        name = f"/sys/class/net/{self._name}v{worker}/statistics/rx_bytes"
        return int(Path(name).read_text())

    def cut(self, worker: int) -> None:
        """Pull a worker's cable."""
        run(f"ip link set {self._name}v{worker} down")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as made:  # taken back if the rest cannot be made
            run(f"ip link add {self._name} type bridge")
            made.callback(run, f"ip link del {self._name}")
            run(f"ip link set {self._name} up")
            for worker in range(self.size):
                space, cable = f"{self._name}n{worker}", f"{self._name}v{worker}"
                run(f"ip netns add {space}")
                made.callback(run, f"ip netns del {space}")
                run(f"ip link add {cable} type veth peer name eth0 netns {space}")
                made.callback(run, f"ip link del {cable}")
                run(f"ip link set {cable} master {self._name} up")
                run(f"ip -n {space} addr add {self.address(worker)}/16 dev eth0")
                run(f"ip -n {space} link set lo up")
                run(f"ip -n {space} link set eth0 up")
                if self._rate is not None:
                    limit = f"root tbf rate {self._rate} burst {BURST} latency {QUEUE}"
                    run(f"tc qdisc add dev {cable} {limit}")
                    run(f"ip netns exec {space} tc qdisc add dev eth0 {limit}")
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()


def free_address() -> str:
    """An address of this machine where nobody listens yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def is_possible() -> bool:
    """Whether this process may make networks."""
    try:
        with Network(1):
            return True
    except OSError:
        return False


def run(command: str) -> None:
    """Run a command; an error has what it said."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command}: {done.stderr.strip()}")
