"""Debian's Firefox on the node's page: another browser's offers, encoders and decoders."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.browser import Tabs, codec, got
from tests.e2e.firefox import Firefox
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(200, func_only=True)]
CODECS = {"vp8": "video/VP8", "vp9": "video/VP9", "av1": "video/AV1"}
BUSY = 60.0  # seconds, on a machine with other things to do


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def process(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    async with Firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def firefox(process: Firefox) -> AsyncIterator[Firefox]:
    """One process for the tests of this file, whose pages are closed after each."""
    yield process
    await process.close_tabs()


@pytest.mark.parametrize("name", CODECS)
async def test_browsers_see_and_hear_what_firefox_publishes(
    node: Node, tabs: Tabs, firefox: Firefox, room: str, name: str
) -> None:
    await firefox.publish(node, room, codec=name)
    for viewer in (await tabs.watch(node, room), await firefox.watch(node, room)):
        stats = await viewer.frames(20, seconds=BUSY)
        assert codec(stats) == CODECS[name] and got(stats, "frameWidth") == 320
        await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 50, "sound", seconds=BUSY)


@pytest.mark.parametrize("name", CODECS)
async def test_firefox_sees_and_hears_what_chromium_publishes(
    node: Node, tabs: Tabs, firefox: Firefox, room: str, name: str
) -> None:
    await tabs.publish(node, room, codec=name)
    viewer = await firefox.watch(node, room)
    stats = await viewer.frames(20, seconds=BUSY)
    assert codec(stats) == CODECS[name] and got(stats, "frameWidth") == 320
    await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 50, "sound", seconds=BUSY)


async def test_each_layer_that_firefox_publishes_can_be_watched(
    node: Node, tabs: Tabs, firefox: Firefox, room: str
) -> None:
    await firefox.publish(node, room, simulcast=1, resolution=720)
    small = await tabs.watch(node, room, layer="q")
    await small.width(lambda w: w == 320, "the smallest layer", seconds=BUSY)
    large = await tabs.watch(node, room, layer="f")
    await large.width(lambda w: w == 1280, "the largest layer", seconds=BUSY)
