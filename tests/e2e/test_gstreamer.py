"""GStreamer's webrtcbin, publishing and watching.

Its ICE is libnice, which in Debian 12 sends no consent checks (RFC 7675): what shows that it is there is its media and
its reports. The node here counts a silent peer as gone after seconds, so that the tests outlast that in a short time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.browser import Tabs, codec, got
from tests.e2e.foreign import Foreign
from tests.e2e.node import HOST, PATIENT, Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
PROGRAM = str(Path(__file__).with_name("gstreamer_peer.py"))
PYTHON = "/usr/bin/python3"  # Debian's, which has GStreamer's bindings
TIMEOUT = 3.0  # seconds without a sign of life: far below the 20 of a node that nobody configured
OUTLASTING = 25 * 8  # pictures of the test source in 8 s
BUSY = 60.0  # seconds, on a machine with other things to do
B_FRAMES = ("--profile", "main", "--bframes", "2")
CODECS = {"vp8": "video/VP8", "vp9": "video/VP9", "h264": "video/H264"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """One that counts a peer as gone after `TIMEOUT`."""
    async with Node(tmp_path_factory.mktemp("hasty-node"), limits={"ice_timeout": TIMEOUT}) as running:
        yield running
        await running.stop(PATIENT)
        assert not running.errors(), running.errors()


@asynccontextmanager
async def gstreamer(node: Node, what: str, room: str, name: str) -> AsyncIterator[Foreign]:
    """A connected publisher or viewer of alice."""
    url = f"{node.base}/{'whip' if what == 'publish' else 'whep'}/{room}/alice"
    async with Foreign(PYTHON, PROGRAM, what, url, name, "--address", HOST) as peer:
        await peer.connected()
        yield peer


async def test_gstreamer_without_consent_checks_outlasts_the_timeout_both_ways(hasty_node: Node, room: str) -> None:
    async with gstreamer(hasty_node, "publish", room, "vp8") as publisher:
        async with gstreamer(hasty_node, "watch", room, "vp8") as viewer:
            await viewer.received(frames=OUTLASTING, seconds=BUSY)
            assert (viewer.figure("video", "width"), viewer.figure("video", "height")) == (320, 180)
            assert not {"disconnected", "failed"} & {*publisher.states, *viewer.states}
        assert viewer.process.returncode == 0, viewer.tail()
    assert publisher.process.returncode == 0, publisher.tail()
    assert {line["reason"] for line in hasty_node.log() if line["message"] == "left"} == {"the client left"}


@pytest.mark.parametrize("name", CODECS)
async def test_chromium_sees_and_hears_what_gstreamer_publishes(node: Node, tabs: Tabs, room: str, name: str) -> None:
    async with gstreamer(node, "publish", room, name):
        viewer = await tabs.watch(node, room)
        stats = await viewer.frames(20, seconds=BUSY)
        assert codec(stats) == CODECS[name] and got(stats, "frameWidth") == 320
        await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 50, "sound", seconds=BUSY)


@pytest.mark.parametrize("name", CODECS)
async def test_gstreamer_sees_and_hears_what_chromium_publishes(node: Node, tabs: Tabs, room: str, name: str) -> None:
    await tabs.publish(node, room, codec=name)
    async with gstreamer(node, "watch", room, name) as viewer:
        await viewer.received(frames=20, sounds=50, seconds=BUSY)
        assert (viewer.figure("video", "width"), viewer.figure("video", "height")) == (320, 180)


async def test_b_frames_are_told_once_in_the_log_in_the_api_and_on_the_page(node: Node, tabs: Tabs, room: str) -> None:
    url = f"{node.base}/whip/{room}/alice"
    async with Foreign(PYTHON, PROGRAM, "publish", url, "h264", "--address", HOST, *B_FRAMES) as peer:
        await peer.connected()

        async def backwards() -> bool:
            participant = await node.participant(room, "alice") or {"tracks": []}
            return any(layer["time_runs_backwards"] for track in participant["tracks"] for layer in track["layers"])

        await eventually(backwards, bool, "pictures out of order", seconds=BUSY)
        viewer = await tabs.watch(node, room)
        await expect(viewer.page.locator(".hint")).to_contain_text("out of order", timeout=BUSY * 1000)
    lines = [line for line in node.log() if line["room"] == room and "runs backwards" in line["message"]]
    assert len(lines) == 1 and lines[0]["level"] == "warning"
