"""What a process costs and what sockets drop, read from outside."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version

from loadtest.measure import cpu_seconds, machine, memory_of, socket_drops, threads_of
from loadtest.transport.peer import open_socket


def test_a_process_is_measured_from_outside() -> None:
    before = cpu_seconds(os.getpid())
    sum(range(1_000_000))
    assert cpu_seconds(os.getpid()) > before
    assert memory_of(os.getpid()).resident > 10_000_000
    assert threads_of(os.getpid()) >= 1


def test_the_machine_names_what_was_measured() -> None:
    assert machine()["weir"] == version("weir") and machine()["kernel"]


def test_a_full_socket_tells_what_it_dropped() -> None:
    sock = open_socket("127.0.0.1", receive_buffer=8192)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(sock.getsockname())
        for _ in range(200):
            sender.send(bytes(400))
    assert 100 < socket_drops([sock.getsockname()[1]]) < 200
    sock.close()
