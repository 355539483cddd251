"""Two browsers and the node: one publishes its fake camera and microphone through the page, the other watches it."""

from __future__ import annotations

import pytest

from tests.e2e.browser import Tab, Tabs, codec, got, sent
from tests.e2e.node import Node
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
MIME = {"vp8": "video/VP8", "vp9": "video/VP9", "h264": "video/H264", "av1": "video/AV1"}
FULL, QUARTER = 1280, 320  # widths of the simulcast layers f and q at 720 lines


@pytest.mark.parametrize("name", list(MIME))
async def test_picture_and_sound_of_one_browser_reach_another(node: Node, tabs: Tabs, room: str, name: str) -> None:
    await tabs.publish(node, room, codec=name)
    viewer = await tabs.watch(node, room)
    dropped = got(await viewer.frames(10), "framesDropped")  # a start from the log may drop what came in one burst
    stats = await viewer.frames(40)
    assert codec(stats) == MIME[name] and codec(stats, "audio") == "audio/opus"
    assert got(stats, "framesDropped") - dropped < 10 and got(stats, "packetsLost") == 0
    assert (got(stats, "frameWidth"), got(stats, "frameHeight")) == (320, 180)
    heard = await eventually(
        viewer.watcher, lambda s: got(s, "totalSamplesReceived", "audio") > 48_000, "a second of sound"
    )
    assert got(heard, "concealedSamples", "audio") < got(heard, "totalSamplesReceived", "audio") // 2
    assert got(heard, "packetsLost", "audio") == 0 and got(heard, "jitterBufferEmittedCount", "audio") > 0


async def test_feedback_lets_the_publisher_ramp_up_to_the_captured_size(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room, resolution=720)
    viewer = await tabs.watch(node, room)
    await viewer.width(lambda w: w == FULL, "1280 pixels", seconds=30)
    stats = await eventually(
        publisher.publisher, lambda s: s["available"] > 2_000_000, "an estimate of 2 Mbit/s", seconds=30
    )
    assert stats["video"][0]["qualityLimitationReason"] != "bandwidth"
    remote = await publisher.page.evaluate(
        "async () => [...(await weir.publishers[0].pc.getStats()).values()]"
        ".filter(s => s.type === 'remote-inbound-rtp').map(s => [s.kind, s.packetsLost, s.roundTripTime ?? null])"
    )
    assert {kind for kind, _, _ in remote} == {"video", "audio"}, "receiver reports of both tracks"


@pytest.mark.parametrize("name", ["vp8", "h264"])
async def test_viewer_climbs_to_the_highest_simulcast_layer_and_switches(
    node: Node, tabs: Tabs, room: str, name: str
) -> None:
    await tabs.publish(node, room, codec=name, simulcast=1, resolution=720)
    viewer = await tabs.watch(node, room)
    await viewer.width(lambda w: w == FULL, "the highest layer by itself", seconds=30)
    menu = viewer.page.locator("select.layer")
    await menu.wait_for()
    await menu.select_option("q")
    await viewer.width(lambda w: w == QUARTER, "layer q by the page's menu")
    await viewer.frames(10)
    await viewer.page.evaluate("weir.watchers[0].client.selectLayer('f')")
    await viewer.width(lambda w: w == FULL, "layer f by the layer resource")
    stats = await viewer.frames(10)
    assert got(stats, "packetsLost") == 0
    assert not stats["problem"]


@pytest.mark.parametrize("name", ["vp9", "av1"])
async def test_viewer_who_asks_for_a_layer_at_the_join_gets_that_one(
    node: Node, tabs: Tabs, room: str, name: str
) -> None:
    await tabs.publish(node, room, codec=name, simulcast=1, resolution=360)
    viewer = await tabs.watch(node, room, layer="h")
    assert got(await viewer.frames(30), "frameWidth") == 320
    await viewer.page.evaluate("weir.watchers[0].client.selectLayer('auto')")
    await viewer.width(lambda w: w == 640, "f, the highest of the two layers that are sent of 360 lines", seconds=30)


async def test_sound_and_picture_stay_together(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room)
    viewer = await tabs.watch(node, room)

    async def apart() -> float | None:
        stats = await viewer.frames(1)
        times = [stats[kind][0].get("estimatedPlayoutTimestamp") for kind in ("video", "audio") if stats[kind]]
        return abs(times[0] - times[1]) if len(times) == 2 and all(times) else None

    await eventually(apart, lambda ms: ms is not None and ms < 200, "less than 200 ms between sound and picture")


async def figures(tab: Tab) -> dict[str, str]:
    """What the first tile says of the last second."""
    found: dict[str, str] = await tab.page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('.tile .figures div')]"
        ".map(d => [d.querySelector('dt').textContent, d.querySelector('dd').textContent]))"
    )
    return found


async def test_phone_shows_live_figures_without_scrolling_sideways(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room)
    viewer = await tabs.watch(node, room, width=390)
    await viewer.frames(20)
    shown = await eventually(
        lambda: figures(viewer),
        lambda f: f.get("Frames/s", "0") not in ("0", "–") and f["Bitrate"] != "–",
        "live figures",
    )
    assert shown["Resolution"] == "320×180" and "bit/s" in shown["Bitrate"]
    assert shown["Delay"].endswith("ms") and shown["Loss"] == "0.0 %"
    assert await viewer.page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_two_publishers_are_watched_on_one_page(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, "alice")
    await tabs.publish(node, room, "bob", codec="h264")
    viewer = await tabs.watch(node, room, "alice,bob")
    first, second = await viewer.frames(20, index=0), await viewer.frames(20, index=1)
    assert {codec(first), codec(second)} == {"video/VP8", "video/H264"}


async def test_microphone_alone_is_heard(node: Node, tabs: Tabs, room: str) -> None:
    speaker = await tabs.open(node, room=room, identity="alice", publish="microphone")
    await speaker.press()
    await speaker.on_air()
    listener = await tabs.watch(node, room)
    stats = await eventually(listener.watcher, lambda s: got(s, "packetsReceived", "audio") > 60, "sound")
    assert got(stats, "framesDecoded") == 0 and sent(await speaker.publisher(), "packetsSent", "audio") > 60


@pytest.mark.parametrize(("name", "mode"), [("vp9", "L2T3_KEY"), ("av1", "L1T3"), ("vp8", "L1T3")])
async def test_layers_within_one_stream_arrive_whole(node: Node, tabs: Tabs, room: str, name: str, mode: str) -> None:
    publisher = await tabs.publish(node, room, codec=name, scalability=mode, resolution=360)
    viewer = await tabs.watch(node, room)
    await viewer.width(lambda w: w == 640, "the highest spatial layer", seconds=30)
    dropped = got(await viewer.watcher(), "framesDropped")
    stats = await viewer.frames(40)
    assert (await publisher.publisher())["video"][0]["scalabilityMode"] == mode
    assert got(stats, "packetsLost") == 0 and got(stats, "framesDropped") - dropped < 10


async def test_viewer_may_limit_the_layers_within_one_stream(node: Node, tabs: Tabs, room: str) -> None:
    await tabs.publish(node, room, codec="vp9", scalability="L2T3_KEY", resolution=360)
    viewer = await tabs.watch(node, room)
    await viewer.width(lambda w: w == 640, "the highest spatial layer", seconds=30)
    await viewer.page.evaluate("weir.watchers[0].client.selectLayer('auto', {maxSpatialLayerId: 0})")
    await viewer.width(lambda w: w == 320, "the lowest spatial layer")
    stats = await viewer.frames(20)
    await viewer.page.evaluate("weir.watchers[0].client.selectLayer('auto')")
    await viewer.width(lambda w: w == 640, "the highest spatial layer again")
    assert got(stats, "packetsLost") == 0
