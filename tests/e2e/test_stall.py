"""A node that stands still for longer than it waits for its peers: it was stopped, and blames nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.e2e.browser import Tab, Tabs
from tests.e2e.conftest import MakeNode
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
TIMEOUT = 6.0  # seconds of silence that end a peer: more than a browser's RTCP and checks ever leave between them
STOPPED = 1.5 * TIMEOUT


async def stop_for(node: Node, seconds: float) -> None:
    """Stop the process, threads and all, and let it go on."""
    assert node.process is not None
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


async def here(node: Node, room: str) -> bool:
    """Whether nobody has left."""
    return (await node.metrics()).total("weir_participants") == 2 and not left(node)


def left(node: Node) -> list[str]:
    """Why sessions have ended."""
    return [line["reason"] for line in node.log() if line["message"] == "left"]


async def decoded(viewer: Tab) -> int:
    """Frames that a viewer has seen."""
    return int((await viewer.watcher())["video"][0].get("framesDecoded", 0))


async def test_stopped_node_ends_no_session_and_media_goes_on(own_node: MakeNode, tabs: Tabs, room: str) -> None:
    async with own_node(limits={"ice_timeout": TIMEOUT, "unlimited_loopback_joins": True}) as node:
        await tabs.publish(node, room)
        viewer = await tabs.watch(node, room)
        await viewer.frames(20)
        pages = "() => [...weir.publishers, ...weir.watchers].map(x => x.pc)"
        await viewer.page.evaluate(f"window.before = ({pages})()[0]")
        for _ in range(2):
            await stop_for(node, STOPPED)
            seen = await decoded(viewer)
            await eventually(lambda: decoded(viewer), lambda n, seen=seen: n > seen + 60, "media after the stop")
            assert await here(node, room), left(node)
        assert await viewer.page.evaluate(f"before === ({pages})()[0]")  # the page has not joined anew
        assert [line for line in node.log() if line["message"] == "stood still"]
        await tabs.close()
        tabs.tabs.clear()
        await eventually(lambda: here(node, room), lambda all_here: not all_here, "the end of those who left")
        await node.stop()
        assert not node.errors()
