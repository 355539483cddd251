"""Clients that are no browsers: aiortc both ways and ffmpeg's WHIP muxer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.aiortc_peer import Client
from tests.e2e.browser import Tabs, codec, got
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
HERE = Path(__file__).parent


@contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of this folder; it is killed at the end."""
    process = subprocess.Popen([sys.executable, str(HERE / name), *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mime", ["video/VP8", "video/H264"])
async def test_aiortc_watches_what_aiortc_publishes(node: Node, room: str, mime: str) -> None:
    path = f"{room}/alice"
    async with Client(node.base, f"/whip/{path}") as publisher, Client(node.base, f"/whep/{path}") as viewer:
        await publisher.publish(mime)
        await viewer.watch()

        async def frames() -> dict[str, int]:
            return viewer.frames

        await eventually(frames, lambda f: f["video"] > 20 and f["audio"] > 50, "decoded frames")
        assert viewer.sizes == {(320, 240)}
        assert await viewer.leave() == 200 and await publisher.leave() == 200


async def test_browser_watches_what_aiortc_publishes(node: Node, tabs: Tabs, room: str) -> None:
    async with Client(node.base, f"/whip/{room}/alice") as publisher:
        await publisher.publish()
        viewer = await tabs.watch(node, room)
        stats = await viewer.frames(30)
        assert got(stats, "frameWidth") == 320 and codec(stats) == "video/VP8"
        await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 50, "sound")


async def test_aiortc_watches_what_a_browser_publishes(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room)
    async with Client(node.base, f"/whep/{room}/alice") as viewer:
        await viewer.watch()

        async def frames() -> dict[str, int]:
            return viewer.frames

        await eventually(frames, lambda f: f["video"] > 20 and f["audio"] > 50, "decoded frames")
        assert viewer.sizes == {(320, 180)}


async def test_browser_watches_what_ffmpeg_publishes(node: Node, tabs: Tabs, room: str, tmp_path: Path) -> None:
    viewer = await tabs.watch(node, room)
    with program("ffmpeg_publisher.py", f"{node.base}/whip/{room}/alice", "40", str(tmp_path)):
        stats = await viewer.frames(40, seconds=30)
        assert codec(stats) == "video/H264" and (got(stats, "frameWidth"), got(stats, "frameHeight")) == (640, 360)
        await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 50, "sound")
        late = await tabs.watch(node, room)
        await late.frames(20)


async def test_viewer_without_the_codec_hears_the_sound_and_is_counted_as_paused(
    node: Node, tabs: Tabs, room: str
) -> None:
    await tabs.publish(node, room, codec="vp9")
    paused = (await node.metrics()).total("weir_subscriptions_paused")
    async with Client(node.base, f"/whep/{room}/alice") as viewer:  # aiortc has VP8 and H.264
        await viewer.watch()

        async def frames() -> dict[str, int]:
            return viewer.frames

        heard = await eventually(frames, lambda f: f["audio"] > 50, "decoded sound")
        assert heard["video"] == 0
        assert (await node.metrics()).total("weir_subscriptions_paused") == paused + 1


async def test_browser_sees_the_high_profile_of_ffmpeg(node: Node, tabs: Tabs, room: str, tmp_path: Path) -> None:
    """Which x264 makes unless told otherwise, and which no browser offers to take as it is."""
    with program("ffmpeg_publisher.py", f"{node.base}/whip/{room}/alice", "40", str(tmp_path), "high"):
        viewer = await tabs.watch(node, room)
        stats = await viewer.frames(40, seconds=40)
        assert codec(stats) == "video/H264" and (got(stats, "frameWidth"), got(stats, "frameHeight")) == (640, 360)
