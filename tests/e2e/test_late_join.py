"""What a viewer who comes late gets: the newest keyframe of the log when it is fresh, else one request; or a lag."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.browser import CLOCK_AGE, CLOCK_CAMERA, Tab, Tabs, got, sent
from tests.e2e.conftest import MakeNode
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
AGE = 6  # seconds
STALE = 75  # frames at 30/s: 2.5 s, and a keyframe is fresh for 2 s


async def start_watching(tab: Tab) -> None:
    """Press the button of a page that is already open, so that a join takes no page load."""
    await tab.page.fill("#watch [name=name]", "alice")
    await tab.page.click("#watch > button")


async def requests(publisher: Tab) -> int:
    """Keyframe requests that the publishing browser has seen."""
    stats = await publisher.publisher()
    return sent(stats, "pliCount") + sent(stats, "firCount")


async def test_fresh_keyframe_starts_a_viewer_without_asking_the_publisher(
    own_node: MakeNode, tabs: Tabs, room: str
) -> None:
    async with own_node(late_join={"keyframe_age": AGE * 1000}) as node:  # on a busy machine two seconds go by
        await check_fresh_keyframe(node, tabs, room)


async def check_fresh_keyframe(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room)
    second, third = [await tabs.open(node, room=room, identity=name) for name in ("bob", "carol")]
    first = await tabs.watch(node, room)
    await first.frames(AGE * 30 + 30)
    before = await requests(publisher)
    started = (await node.metrics()).total("weir_keyframe_starts_total")
    await start_watching(second)
    await eventually(lambda: requests(publisher), lambda n: n == before + 1, "a fresh keyframe", every=0.02)
    await start_watching(third)
    stats = await third.frames(10)
    assert await requests(publisher) == before + 1 and got(stats, "pliCount") == 0
    assert (await node.metrics()).total("weir_keyframe_starts_total") == started + 1
    assert got(stats, "keyFramesDecoded") == 1 and got(stats, "nackCount") == 0


async def test_stale_keyframe_costs_exactly_one_request(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room)
    first = await tabs.watch(node, room)
    await first.frames(STALE)
    before = await requests(publisher)
    keyframes = sent(await publisher.publisher(), "keyFramesEncoded")
    second = await tabs.watch(node, room)
    await second.frames(20)
    assert await requests(publisher) == before + 1
    assert sent(await publisher.publisher(), "keyFramesEncoded") == keyframes + 1


async def test_requests_of_viewers_who_come_at_once_are_joined(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room)
    waiting = [await tabs.open(node, room=room, identity=f"guest-{k}") for k in range(3)]
    first = await tabs.watch(node, room)
    await first.frames(STALE)
    before = await requests(publisher)
    await asyncio.gather(*map(start_watching, waiting))
    for tab in waiting:
        await tab.frames(5)
    assert await requests(publisher) == before + 1


async def test_viewer_with_a_lag_sees_each_picture_that_much_later(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, script=CLOCK_CAMERA, sound=0)
    ages = {}
    for lag in (0, 1000):
        viewer = await tabs.watch(node, room, lag=lag or None)
        await viewer.frames(40)

        async def read(viewer: Tab = viewer) -> list[int]:
            return sorted([await viewer.page.evaluate(CLOCK_AGE) for _ in range(9)])

        middle = await eventually(read, lambda ages: ages[0] is not None and ages[-1] - ages[0] < 250, "steady ages")
        ages[lag] = middle[4]
    assert ages[0] < 400, ages
    assert 850 < ages[1000] - ages[0] < 1250, ages
