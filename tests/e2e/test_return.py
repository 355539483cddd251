"""Publishers that come later than their viewers, go and come back: the viewer's session is one and the same."""

from __future__ import annotations

import pytest

from tests.e2e.browser import Tab, Tabs, got
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]


async def remember(viewer: Tab) -> None:
    """Keep the present connection to compare with."""
    await viewer.page.evaluate("window.firstConnection = weir.watchers[0].pc")


async def same_connection(viewer: Tab) -> bool:
    return bool(
        await viewer.page.evaluate(
            "firstConnection === weir.watchers[0].pc && firstConnection.connectionState === 'connected'"
        )
    )


async def leave(node: Node, publisher: Tab, room: str) -> None:
    """Stop publishing and wait until the node knows."""
    await publisher.page.evaluate("weir.publishers[0].stop()")

    async def gone() -> bool:
        found = await node.participant(room, "alice")
        return not (found and found.get("tracks"))

    await eventually(gone, bool, "the publisher's leaving in /api/rooms")


@pytest.mark.parametrize("name", ["vp8", "h264"])
async def test_same_viewer_goes_on_when_the_publisher_comes_back_with_new_ssrcs(
    node: Node, tabs: Tabs, room: str, name: str
) -> None:
    publisher = await tabs.publish(node, room, codec=name)
    viewer = await tabs.watch(node, room)
    await viewer.frames(20)
    await remember(viewer)
    first = {s["ssrc"] for s in (await publisher.publisher())["video"]}
    await leave(node, publisher, room)
    await publisher.page.click("#publish button.primary")
    second = {s["ssrc"] for s in (await publisher.on_air())["video"]}
    assert not first & second
    stats = await viewer.frames(40)
    assert await same_connection(viewer)
    assert len(stats["video"]) == 1 and got(stats, "packetsLost") == 0


async def test_same_viewer_goes_on_when_the_publisher_is_replaced_without_goodbye(
    node: Node, tabs: Tabs, room: str
) -> None:
    await tabs.publish(node, room)
    viewer = await tabs.watch(node, room)
    await viewer.frames(20)
    await remember(viewer)
    await tabs.publish(node, room)  # the same identity from another page: the newer one counts
    await viewer.frames(60)
    assert await same_connection(viewer)


async def test_viewer_before_its_publisher_gets_the_picture_when_it_comes(node: Node, tabs: Tabs, room: str) -> None:
    viewer = await tabs.watch(node, room)
    await eventually(viewer.watcher, lambda s: s["connection"] == "connected", "a connection without a publisher")
    await remember(viewer)
    await tabs.publish(node, room)
    stats = await viewer.frames(20)
    assert await same_connection(viewer)
    heard = await eventually(viewer.watcher, lambda s: got(s, "packetsReceived", "audio") > 20, "sound")
    assert got(stats, "frameWidth") == 320 and got(heard, "packetsLost", "audio") == 0


async def test_publisher_may_return_with_another_codec(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room, codec="vp8")
    viewer = await tabs.watch(node, room)
    await viewer.frames(20)
    await remember(viewer)
    await leave(node, publisher, room)
    await tabs.publish(node, room, codec="h264")
    await viewer.frames(40)
    assert await same_connection(viewer)
