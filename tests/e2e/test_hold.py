"""The node is stopped in the midst of things, and goes on as if nothing had been: nothing stays taken."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Any

import pytest

from loadtest.transport.offers import Features, Local, PublishSpec, publish_offer, watch_offer
from tests.e2e.conftest import MakeNode
from tests.e2e.node import HOST, Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
NOWHERE = Local("abcd", "p" * 24, ":".join(["AB"] * 32), HOST, 9)
LITTLE = Features(codecs=("vp8",))
STOP = 2.5  # seconds: longer than any limit that a removal once had


async def tables(node: Node) -> dict[str, float]:
    """Records in use, by table, and what else joins hold."""
    metrics = await node.metrics()
    found = metrics.each("weir_table_used", "table")
    return found | {name: metrics.total(name) for name in ("weir_rooms", "weir_handshakes_pending")}


def descriptors(node: Node) -> int:
    assert node.process is not None
    return len(os.listdir(f"/proc/{node.process.pid}/fd"))


async def joined(node: Node, count: int) -> list[str]:
    """So many joins that never connect, half of them publishers; their resources."""
    locations = []
    for k in range(count):
        path, sdp = f"/whep/r/i{k}", watch_offer(NOWHERE, features=LITTLE)
        if k % 2:
            path, sdp = f"/whip/r/i{k}", publish_offer(NOWHERE, PublishSpec(), LITTLE)
        async with node.http.post(path, data=sdp, headers={"Content-Type": "application/sdp"}) as response:
            assert response.status == 201, await response.text()
            locations.append(response.headers["Location"])
    return locations


def delete_all(node: Node, locations: list[str]) -> socket.socket:
    """All DELETEs at once, on one connection."""
    sock = socket.create_connection((HOST, node.http_port))
    sock.sendall("".join(f"DELETE {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n" for path in locations).encode())
    return sock


async def test_stop_in_the_midst_of_leaving_leaves_nothing_behind(own_node: MakeNode) -> None:
    async with own_node() as node:
        assert node.process is not None
        before: dict[str, Any] = await tables(node)
        files = descriptors(node)
        for after in (0.0, 0.004):
            locations = await joined(node, 40)
            assert (await tables(node))["transports"] == 40
            with delete_all(node, locations):
                end = time.monotonic() + after
                while time.monotonic() < end:
                    pass
                os.kill(node.process.pid, signal.SIGSTOP)
                time.sleep(STOP)  # it is the stop itself
                os.kill(node.process.pid, signal.SIGCONT)
                await eventually(lambda: tables(node), lambda now: now == before, "tables as before")
        await node.http.get("/healthz")
        assert descriptors(node) <= files + 1  # this very request's connection
        assert not node.errors()
        await node.stop()
