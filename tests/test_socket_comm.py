"""Messages of workers that are processes: damaged, out of turn, late; who leaves, and who is lost.

Swept: bits of a message, signals, cut cables. Against: a message of its own making, one worker.
Tolerance: none; of times, where the contract names them (docs/distributed.md).
"""

import itertools
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import network
import pytest
from campaigns import kill_workers
from conftest import feature_names, hurting_data, native_params
from network import free_address
from workers import (
    LOSSES,
    TIMEOUT,
    check_loss,
    connect_sockets,
    frame,
    in_a_fork,
    in_threads,
    outcome,
    sealed,
)

from qgbdt import QGBDTRegressor, _core
from qgbdt.distributed import connect
from qgbdt.errors import DistributedError, WorkerLost

# -------------------------------------------------------------------------------------- messages


def test_a_share_of_the_damaged_messages():
    """make fuzz-frames; a compiler is needed."""
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None or shutil.which("make") is None:
        pytest.skip("there is no compiler here")
    clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = ["make", "fuzz-frames", "ARGS=30000", f"CXX={compiler}"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        "10000 streams of frames, 10000 packed histograms and 10000 nodes of rows, no fault"
        in done.stdout
    )


def one_worker_and_two_sockets():
    """Worker 1 of three, and the ends that workers 0 and 2 would have."""
    (zero, end_of_zero), (two, end_of_two) = socket.socketpair(), socket.socketpair()
    sockets = [zero.detach(), -1, two.detach()]
    return _core.SocketComm(1, sockets, ["a", "b", "c"], 10.0), (end_of_zero, end_of_two)


def test_a_worker_that_is_done_may_leave():
    comm, (zero, two) = one_worker_and_two_sockets()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(comm.exchange, [b"", b"mine", b""])
        zero.sendall(frame(1, sealed(b"first")))
        assert zero.recv(100) == frame(1, sealed(b""))
        zero.close()
        with pytest.raises(TimeoutError):
            answer.result(0.3)  # worker 2 is late, worker 0 is not missed
        two.sendall(frame(1, sealed(b"third" * 10_000)))
        assert answer.result(TIMEOUT) == [b"first", b"mine", b"third" * 10_000]
    with pytest.raises(WorkerLost, match=r"worker 0 \(a\) is lost: its connection was closed"):
        comm.exchange([b"", b"", b""])


def test_a_message_out_of_turn_is_noticed():
    comm, (zero, two) = one_worker_and_two_sockets()
    zero.sendall(frame(1, sealed(b"")) + frame(0, b"", kind=2))
    two.sendall(frame(1, sealed(b"")) + frame(3, b""))
    assert comm.exchange([b"", b"", b""]) == [b"", b"", b""]
    with pytest.raises(WorkerLost, match=r"worker 2 \(c\) is lost: it sent a message out of turn"):
        comm.exchange([b"", b"", b""])


HEAD = 24  # bytes of a frame


@pytest.mark.parametrize("flipped", range(0, 8 * (HEAD + 10), 7))
def test_every_damaged_bit_is_noticed(flipped):
    comm, (zero, two) = one_worker_and_two_sockets()
    sent = bytearray(frame(1, sealed(b"third!")))
    sent[flipped // 8] ^= 1 << flipped % 8
    zero.sendall(frame(1, sealed(b"")))
    two.sendall(sent)
    if flipped < 8 * HEAD:
        error, words = WorkerLost, r"worker 2 \(c\) is lost: it sent "
    else:
        error, words = DistributedError, "A message of worker 2 was changed on its way"
    with pytest.raises(error, match=words):
        comm.exchange([b"", b"", b""])


def test_a_message_without_a_checksum_is_noticed():
    comm, (zero, two) = one_worker_and_two_sockets()
    zero.sendall(frame(1, sealed(b"")))
    two.sendall(frame(1, b"abc"))
    with pytest.raises(DistributedError, match="A message of worker 2 was changed on its way"):
        comm.exchange([b"", b"", b""])


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n" * 2, os.urandom(100), b"\0" * 24])
def test_nonsense_on_a_connection_is_noticed(sent):
    ours, theirs = socket.socketpair()
    comm = _core.SocketComm(0, [-1, ours.detach()], ["a", "b"], 10.0)
    theirs.sendall(sent)
    with pytest.raises(WorkerLost, match=r"worker 1 \(b\) is lost: it sent no message of qgbdt"):
        comm.exchange([b"", b""])
    theirs.close()


def test_a_fork_leaves_the_connection_alone():
    workers = connect_sockets(2)

    def touch_and_drop():
        for use in (workers[0].report, lambda: workers[0].gather(1)):
            assert "worker 0 (127.0.0.1) is another process" in str(outcome(use))
        workers[0].leave(LookupError("enough"))
        while workers:
            workers.pop().close()

    assert in_a_fork(touch_and_drop) == 0
    assert in_threads(workers, lambda worker: worker.gather(worker.rank)) == [[0, 1]] * 2


def test_waiting_costs_nothing():
    early, late = connect_sockets(2)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(early.gather, 1)
        busy, start = time.process_time(), time.monotonic()
        time.sleep(1)
        assert not answer.done()
        assert time.process_time() - busy < 0.1 * (time.monotonic() - start)
        assert late.gather(2) == answer.result(TIMEOUT) == [1, 2]


# ------------------------------------------------------------------- workers that leave or are lost


def test_who_has_left_trains_no_more():
    (worker,) = connect_sockets(1)  # alone, so that it waits for nobody
    X = hurting_data(100)
    matrix = _core.BinnedMatrix(X, 255, 1, worker.native)
    worker.leave(LookupError("enough"))
    with pytest.raises(WorkerLost, match=r"worker 0 \(127.0.0.1\) stopped: LookupError: enough"):
        _core.train(
            matrix, X[:, 0], None, None, feature_names(X), native_params(), 1, worker.native
        )


def test_what_a_worker_was_at_when_another_was_lost():
    X, address, told = hurting_data(300), free_address(), itertools.count(1)

    def work(rank):
        def vanish(trees):
            if rank == 1 and next(told) == 2:
                os._exit(0)

        with connect(address, 2, rank) as worker:
            matrix = _core.BinnedMatrix(X, 255, 1, worker.native)
            y, names = X[:, 0], feature_names(X)
            settings = native_params(n_estimators=3), 1, worker.native
            return _core.train(matrix, y, None, None, names, *settings, on_iteration=vanish)

    other = multiprocessing.get_context("fork").Process(target=work, args=(1,))
    other.start()
    error = outcome(lambda: work(0))
    other.join(TIMEOUT)
    assert other.exitcode == 0
    assert re.search(r"lost: its connection was closed \(while growing tree [12]\)$", str(error))


@pytest.mark.parametrize("world_size", [1, 2])
def test_another_thread_may_end_a_fit(world_size):
    workers = connect_sockets(world_size)
    X = hurting_data(500)

    def work(worker):
        fit = QGBDTRegressor(n_estimators=10**6).fit
        return outcome(lambda: fit(X, X[:, 0], communicator=worker))

    with ThreadPoolExecutor(world_size) as pool:
        fits = [pool.submit(work, worker) for worker in workers]
        workers[0].leave(LookupError("enough"))
        for fit in fits:
            error = fit.result(TIMEOUT)
            assert isinstance(error, WorkerLost)
            assert str(error) == "worker 0 (127.0.0.1) stopped: LookupError: enough"


@LOSSES
def test_a_lost_worker_is_noticed_by_all(sign, heartbeat, words):
    check_loss(sign, heartbeat, words)


def test_a_share_of_the_kills():
    report = kill_workers.run(kills=4, stops=1, cuts=0, seed=1)
    assert not report.faults, str(report)
    assert sum(report.outcomes.values()) >= 5


@pytest.mark.skipif(not network.is_possible(), reason=network.NEEDS)
def test_a_share_of_the_cuts():
    report = kill_workers.run(kills=0, stops=0, cuts=3, seed=0)
    assert not report.faults, str(report)
    assert sum(report.outcomes.values()) >= 6


def test_a_slow_worker_is_not_lost():
    report = kill_workers.Report()
    kill_workers.run_beside_a_slow_one(4, report)
    assert not report.faults, str(report)
    assert report.outcomes == {"finished beside a slow one": 3}
