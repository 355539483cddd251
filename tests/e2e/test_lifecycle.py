"""A node's life: several workers, clients that die, and a shutdown that says goodbye."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from config.schema import Config
from tests.e2e.aiortc_peer import Client
from tests.e2e.browser import Tabs, got
from tests.e2e.conftest import MakeNode
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
GONE = 30.0  # seconds after which nothing of a dead client may be left


async def test_viewers_on_both_workers_see_a_publisher_on_one(own_node: MakeNode, tabs: Tabs, room: str) -> None:
    async with own_node(media={"workers": 2, "placement": "spread"}) as node:
        await tabs.publish(node, room)
        viewers = [await tabs.watch(node, room) for _ in range(3)]
        for viewer in viewers:
            assert got(await viewer.frames(30), "packetsLost") == 0
        sent = (await node.metrics()).each("weir_packets_sent_total", "worker")
        assert len([count for count in sent.values() if count > 50]) == 2, sent
        await tabs.close()
        tabs.tabs.clear()
        await node.stop()


async def test_default_timeout_keeps_the_promise_for_dead_clients() -> None:
    limits = Config().limits
    assert limits.ice_timeout < GONE - 5 and limits.handshake_timeout < GONE - 5


async def test_killed_client_is_cleaned_up(own_node: MakeNode, room: str) -> None:
    timeout = 2.0
    async with own_node(limits={"ice_timeout": timeout, "unlimited_loopback_joins": True}) as node:
        script = Path(__file__).with_name("aiortc_peer.py")
        process = subprocess.Popen([sys.executable, str(script), node.base, room, "alice"], stdout=subprocess.PIPE)
        try:
            await eventually(lambda: live(node, room), bool, "the publisher's layers in /api/rooms", seconds=30)
            assert (await node.metrics()).total("weir_transports") == 1
            process.kill()
            await eventually(node.rooms, lambda rooms: room not in rooms, "no room without participants", seconds=15)
            metrics = await node.metrics()
            assert metrics.total("weir_transports") == 0 and metrics.total("weir_participants") == 0
        finally:
            process.kill()
            process.communicate()
        await node.stop()


async def live(node: Node, room: str) -> bool:
    """Whether alice's video is arriving."""
    found = await node.participant(room, "alice")
    return any(layer.get("active") for track in (found or {}).get("tracks", []) for layer in track.get("layers", []))


async def test_sigterm_says_goodbye_to_all_and_ends_within_five_seconds(
    own_node: MakeNode, tabs: Tabs, room: str
) -> None:
    async with own_node() as node, Client(node.base, f"/whep/{room}/alice") as other:
        publisher, viewer = await tabs.publish(node, room), await tabs.watch(node, room)
        await viewer.frames(20)
        await other.watch()

        async def connected() -> str:
            return str(other.pc.connectionState)

        await eventually(connected, lambda state: state == "connected", "aiortc's connection")
        states = "() => [...weir.publishers, ...weir.watchers].map(x => x.state)"
        stopping = asyncio.create_task(node.stop())
        seconds = 4.0  # ICE would need 5 s and more to notice: what is faster comes from DTLS
        await eventually(connected, lambda state: state in ("closed", "failed"), "aiortc's close", seconds=seconds)
        for tab in (publisher, viewer):
            await eventually(
                lambda tab=tab: tab.page.evaluate(states),  # type: ignore[misc]
                lambda found: not set(found) & {"live", "waiting", "connecting"},
                "the page's notice of the end",
                seconds=seconds,
            )
        await stopping
        assert not node.errors()


async def test_idle_node_ends_at_once(own_node: MakeNode) -> None:
    async with own_node(shutdown_grace=60.0) as node:
        await node.stop()  # long before the grace is over
