"""The benchmark keeps the server and the clients on cores of their own."""

from __future__ import annotations

import os

from loadtest.bench.server import split_cores


def test_cores_stay_split_after_the_clients_have_pinned_themselves() -> None:
    server, clients = split_cores()
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, clients)
        assert split_cores() == (server, clients)
        assert server.isdisjoint(clients) or len(before) == 1
    finally:
        os.sched_setaffinity(0, before)
