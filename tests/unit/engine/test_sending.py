"""A socket that is full, and trains that the kernel will not cut: what is lost, and for whom.

Loopback UDP never fills a sender's buffer, since a packet is the receiver's at once. On a Unix datagram socket packets
stay charged to the sender until they are read: the full sockets here are those, with the kernel's EAGAIN and POLLOUT.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from structlog.testing import capture_logs

from mediaserver.engine import layout as L
from mediaserver.engine.buffers import report_buffers
from mediaserver.engine.loop import MAX_WORKERS, forward_news
from mediaserver.engine.send import PATIENCE_FLUSHES, SINGLY, STALL, flush, queue_message
from packetio.batch import bind_udp
from packetio.memory import Table
from tests.unit.engine.desk import Desk, FarEnd
from tests.unit.engine.test_cursors import Stream, Viewer, rounds
from tests.unit.engine.test_network import SO_NO_CHECK

PACKET = 700  # bytes
LONG = 60 * L.SECOND  # longer than any test waits


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


class Slow:
    """A receiver that reads when it is told to. The worker's socket towards it is soon full."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.name = b"\0weir-" + secrets.token_hex(6).encode()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.name)
        self.sock.setblocking(False)
        self.sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sender.setblocking(False)
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET)
        self.sender.connect(self.name)
        desk.w.fd = self.sender.fileno()

    def direct(self, end: FarEnd) -> None:
        """Let what is for a peer go here."""
        address = np.frombuffer(socket.AF_UNIX.to_bytes(2, "little") + self.name, np.uint8)
        end.record.remote[: address.size] = address
        end.record.remote_size = address.size

    def read(self, count: int) -> list[bytes]:
        """Read so many datagrams, however long they take to come."""
        self.sock.settimeout(30)
        return [self.sock.recv(65536) for _ in range(count)]

    def waiting(self) -> list[bytes]:
        """Read what has come."""
        self.sock.setblocking(False)
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self.sock.close()
        self.sender.close()


@pytest.fixture
def slow(desk: Desk) -> Iterator[Slow]:
    made = Slow(desk)
    yield made
    made.close()


def queue(desk: Desk, end: FarEnd, count: int, packets: int = 1) -> list[bytes]:
    """Queue messages of so many packets each; what they hold."""
    arena, made = desk.worker.queue.arena.rows, []
    for _ in range(count):
        start, size = int(desk.w.queued_bytes), packets * PACKET
        arena[start : start + size] = np.frombuffer(os.urandom(size), np.uint8)
        made.append(arena[start : start + size].tobytes())
        queue_message(desk.w, end.record, start, start + size, PACKET, desk.w.now)
    return made


def wait_for_full_socket(desk: Desk) -> None:
    """Return when the flush that another thread is in has begun to wait."""
    for _ in range(60_000):
        if desk.w.send_waits:
            return
        threading.Event().wait(0.001)
    raise AssertionError("the socket was never full")


def test_what_a_full_socket_does_not_take_leaves_in_order_when_it_has_room(desk: Desk, slow: Slow) -> None:
    end = desk.peer()
    slow.direct(end)
    desk.w.send_wait = LONG
    sent, got = queue(desk, end, 200), []

    def read_late() -> None:
        wait_for_full_socket(desk)
        got.extend(slow.read(len(sent)))

    reader = threading.Thread(target=read_late)
    reader.start()
    flush(desk.w)
    reader.join()
    assert got == sent
    assert desk.w.drop_send == 0 and desk.w.queued == desk.w.queued_bytes == 0 and desk.w.send_waited > 0


def test_what_finds_no_room_within_the_bound_is_dropped_and_counted(desk: Desk, slow: Slow) -> None:
    end = desk.peer()
    slow.direct(end)
    sent = queue(desk, end, 200)
    flush(desk.w)
    taken = slow.waiting()
    assert 0 < len(taken) < 200 and taken == sent[: len(taken)]
    assert desk.w.drop_send == 200 - len(taken) and desk.w.queued == 0 and desk.w.send_waits > 0
    assert int(desk.w.latency.sum()) == len(taken), "what was dropped has no latency"


def test_socket_that_stays_full_is_waited_for_less_and_less(desk: Desk, slow: Slow) -> None:
    """The receiver never reads: a worker that waited its bound at each flush would do nothing else."""
    end = desk.peer()
    slow.direct(end)
    desk.w.send_wait = 1 * L.MS
    for _ in range(10 * PATIENCE_FLUSHES):
        queue(desk, end, 20)
        flush(desk.w)
    waits = int(desk.w.send_waits)
    assert waits < 6 * PATIENCE_FLUSHES
    queue(desk, end, 20)
    flush(desk.w)
    assert desk.w.send_waits == waits
    desk.w.now += 10 * L.SECOND
    queue(desk, end, 20)
    flush(desk.w)
    assert desk.w.send_waits > waits


def test_stop_of_the_process_while_a_full_socket_is_waited_for_is_no_wait_and_no_silence_of_peers() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.engine.stopped_line"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join((".", "codecs"))},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5 * STALL / L.SECOND)  # it is the stop itself
        process.send_signal(signal.SIGCONT)
        print("go", file=process.stdin, flush=True)
        waited, patience, awake_since, dropped = map(int, process.stdout.readline().split())
    assert waited < STALL and patience > 0 and awake_since > 0 and dropped == 0


def test_full_socket_is_no_reason_to_send_no_more_trains(desk: Desk, slow: Slow) -> None:
    end = desk.peer()
    slow.direct(end)
    desk.w.gso = 1
    queue(desk, end, 60, packets=2)
    flush(desk.w)
    taken = slow.waiting()
    assert {len(data) for data in taken} == {2 * PACKET}
    assert desk.w.drop_send == 2 * (60 - len(taken)) > 0
    assert (desk.w.gso, desk.w.gso_refused, end.record.singly_until) == (1, 0, 0)


def test_member_on_a_way_that_takes_nothing_costs_no_other_its_trains(desk: Desk) -> None:
    """The kernel refuses whatever is for port 0, as it does for a way with an impossible route."""
    strange, other = desk.peer(), desk.peer()
    strange.record.remote[2:4] = 0
    desk.w.gso = 1
    for _ in range(3):
        queue(desk, strange, 1, packets=4)
        queue(desk, other, 1, packets=4)
    got = other.datagrams()
    assert [len(data) for data in got] == [PACKET] * 12 and desk.w.drop_send == 12
    assert (desk.w.gso, desk.w.gso_refused) == (1, 3)
    assert strange.record.singly_until == other.record.singly_until == 0


def test_way_on_which_trains_are_not_cut_gets_single_packets_until_it_is_tried_again(desk: Desk) -> None:
    stream = Stream(desk)
    viewer = Viewer(desk, stream)
    desk.w.gso = 1
    stream.put(key=True)
    stream.forward()
    viewer.watch(stream)
    rounds(desk, 10 * L.MS)
    viewer.packets()

    def messages() -> tuple[int, int]:
        """Messages that five packets leave in, and how many of them came."""
        before = int(desk.w.trains)
        for _ in range(5):
            stream.put()
        stream.forward()
        return int(desk.w.trains) - before, len(viewer.packets())

    assert messages() == (1, 5)
    desk.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    assert messages() == (1, 5) and desk.w.gso_refused == 1
    assert messages() == (5, 5) and desk.w.gso_refused == 1
    desk.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
    desk.w.now += SINGLY
    assert messages() == (1, 5) and desk.w.gso_refused == 1


def test_other_worker_is_woken_while_the_local_fan_out_still_waits_for_room(desk: Desk, slow: Slow) -> None:
    stream = Stream(desk)
    viewers = [Viewer(desk, stream) for _ in range(12)]
    for end in (stream.track.end, *(viewer.end for viewer in viewers)):
        slow.direct(end)
    for viewer in viewers:
        viewer.watch(stream)
    news = Table(np.dtype("i8"), 8)
    other = os.eventfd(0, os.EFD_NONBLOCK)
    desk.w.worker_count = 2
    desk.wakes.rows[1], desk.wakes.rows[MAX_WORKERS + 1] = other, news.address
    stream.log.header.readers[1] = 70
    desk.w.send_wait, desk.w.out_size = LONG, 1  # flushed before each viewer's packet
    stream.put(key=True)
    desk.worker.dirty.rows[0], desk.w.dirty_count = stream.track.feed_index, 1
    working = threading.Thread(target=forward_news, args=(desk.w,))
    working.start()
    try:
        wait_for_full_socket(desk)
        assert os.eventfd_read(other) == 1 and news.rows.tolist() == [0, 1 << 6, 0, 0, 0, 0, 0, 0]
        assert working.is_alive()
    finally:
        slow.read(1)
        while working.is_alive():
            slow.waiting()
        working.join()
        os.close(other)
    assert desk.w.drop_send == 0


def test_start_tells_the_buffers_that_the_kernel_gave() -> None:
    with bind_udp("127.0.0.1", 0, 1 << 17, 1 << 18) as sock, capture_logs() as lines:
        report_buffers(sock, 1 << 17, 1 << 18)
        report_buffers(sock, 1 << 17, 8 << 20)
    enough, less = lines
    assert enough["log_level"] == "info" and (enough["receive"], enough["send"]) == (1 << 17, 1 << 18)
    assert less["log_level"] == "warning" and (less["send"], less["send_asked"]) == (1 << 18, 8 << 20)
    assert f"net.core.wmem_max={8 << 20}" in less["to_set"]
