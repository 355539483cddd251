"""Bad networks: a shim that loses datagrams both ways, and one whose address changes in the middle."""

from __future__ import annotations

import pytest

from tests.e2e.browser import Tab, Tabs, got, sent
from tests.e2e.node import Node
from tests.e2e.shim import Shim
from tests.e2e.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60, func_only=True)]
LOSS = 0.05


async def repairs(tab: Tab) -> dict[str, int]:
    """NACKs sent and retransmissions received by a viewer, keyframes and freezes."""
    stats = await tab.watcher()
    return {
        key: got(stats, key)
        for key in ("nackCount", "retransmittedPacketsReceived", "framesDecoded", "freezeCount", "pliCount")
    }


async def test_picture_moves_on_through_loss_to_the_viewer(node: Node, tabs: Tabs, room: str) -> None:
    with Shim(node.udp_port, loss=LOSS, seed=11) as shim:
        await tabs.publish(node, room)
        before = await node.metrics()
        viewer = await tabs.watch(node, room, via=shim.port)
        await viewer.frames(150, seconds=30)
        stats = await viewer.watcher()
        found = await repairs(viewer)
        assert shim.lost["down"] > 10 and found["nackCount"] > 0 and found["retransmittedPacketsReceived"] > 0, found
        assert stats["video"][0].get("totalFreezesDuration", 0) < 10, found
        after = await node.metrics()
        await tabs.close()
        tabs.tabs.clear()
    assert after.total("weir_nacks_received_total") > before.total("weir_nacks_received_total")
    assert after.total("weir_retransmissions_sent_total") > before.total("weir_retransmissions_sent_total")


async def test_node_asks_a_lossy_publisher_again_so_that_a_clean_viewer_loses_nothing(
    node: Node, tabs: Tabs, room: str
) -> None:
    with Shim(node.udp_port, loss=LOSS, seed=12) as shim:
        before = await node.metrics()
        publisher = await tabs.publish(node, room, via=shim.port)
        viewer = await tabs.watch(node, room)
        await viewer.frames(150, seconds=30)
        stats = await publisher.publisher()
        assert shim.lost["up"] > 10 and sent(stats, "nackCount") > 0
        assert sent(stats, "retransmittedPacketsSent") > 0
        found = await viewer.watcher()
        assert found["video"][0].get("totalFreezesDuration", 0) < 10
        after = await node.metrics()
        await tabs.close()
        tabs.tabs.clear()
    assert after.total("weir_nacks_sent_total") > before.total("weir_nacks_sent_total")
    assert after.total("weir_retransmissions_received_total") > before.total("weir_retransmissions_received_total")


async def test_session_lives_on_when_the_viewers_address_changes(node: Node, tabs: Tabs, room: str) -> None:
    with Shim(node.udp_port) as shim:
        await tabs.publish(node, room)
        viewer = await tabs.watch(node, room, via=shim.port)
        await viewer.frames(20)
        await viewer.page.evaluate("window.before = weir.watchers[0].pc")
        shim.move()
        await viewer.frames(60)
        assert await viewer.page.evaluate("before === weir.watchers[0].pc")
        await tabs.close()
        tabs.tabs.clear()


async def test_session_lives_on_when_the_publishers_address_changes(node: Node, tabs: Tabs, room: str) -> None:
    with Shim(node.udp_port) as shim:
        publisher = await tabs.publish(node, room, via=shim.port)
        viewer = await tabs.watch(node, room)
        await viewer.frames(20)
        shim.move()
        await viewer.frames(60)
        stats = await eventually(publisher.publisher, lambda s: s["connection"] == "connected", "a connected publisher")
        assert stats["state"] == "live"
        await tabs.close()
        tabs.tabs.clear()


async def test_viewer_with_a_lag_gets_a_lossy_publishers_stream_repaired(node: Node, tabs: Tabs, room: str) -> None:
    with Shim(node.udp_port, loss=LOSS, seed=13) as shim:
        publisher = await tabs.publish(node, room, via=shim.port)
        viewer = await tabs.watch(node, room, lag=1000)
        stats = await viewer.frames(120, seconds=30)
        assert shim.lost["up"] > 10 and sent(await publisher.publisher(), "retransmittedPacketsSent") > 0
        assert got(stats, "packetsLost") == 0 and got(stats, "nackCount") == 0 and got(stats, "pliCount") == 0, stats
        await tabs.close()
        tabs.tabs.clear()


async def test_picture_moves_on_through_ice_restarts_of_both_sides(node: Node, tabs: Tabs, room: str) -> None:
    publisher = await tabs.publish(node, room)
    viewer = await tabs.watch(node, room)
    await viewer.frames(20)
    ufrag = "pc => pc.currentRemoteDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]"
    for tab, name in ((viewer, "watchers"), (publisher, "publishers")):
        before = await tab.page.evaluate(f"({ufrag})(weir.{name}[0].pc)")
        await tab.page.evaluate(f"weir.{name}[0].client.restartIce()")
        assert await tab.page.evaluate(f"({ufrag})(weir.{name}[0].pc)") != before
        await viewer.frames(40)
    stats = await viewer.watcher()
    assert stats["connection"] == "connected" and got(stats, "packetsLost") == 0
