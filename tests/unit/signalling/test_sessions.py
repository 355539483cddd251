"""Sessions from the offer to the end, with peers that really connect: who gets what, who replaces whom, who is gone."""

from __future__ import annotations

import re
import struct

import pytest

from loadtest.transport.peer import JoinError
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import OFFER, Running, running


async def test_media_of_a_publisher_reaches_a_viewer(node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice")
    viewer = await node.join("/whep/lobby/alice")
    publisher.send_video()
    await until(lambda: viewer.packets)
    publisher.send_video(20, key=False)
    await until(lambda: len(viewer.packets) == 21)
    numbers = [packet.sequence for packet in viewer.packets]
    assert numbers == list(range(numbers[0], numbers[0] + 21))


async def test_peer_that_insists_on_being_the_dtls_server_is_called(node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice", change=lambda sdp: sdp.replace("setup:actpass", "setup:passive"))
    viewer = await node.join("/whep/lobby/alice")
    assert "a=setup:active" in publisher.answer and "a=setup:passive" in viewer.answer
    publisher.send_video()
    await until(lambda: viewer.packets)


async def test_viewer_who_came_first_gets_the_picture_and_stays_through_a_return(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice")
    first = await node.join("/whip/lobby/alice")
    first.send_video()
    await until(lambda: len(viewer.packets) == 1)
    assert (await node.ask("DELETE", first.location))[0] == 200
    second = await node.join("/whip/lobby/alice")
    second.send_video()
    await until(lambda: len(viewer.packets) == 2)
    one, two = viewer.packets
    assert two.ssrc == one.ssrc and two.sequence == one.sequence + 1 and two.timestamp > one.timestamp


async def test_publisher_is_replaced_once_its_successor_is_connected_and_not_before(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice")
    first = await node.join("/whip/lobby/alice")
    first.send_video()
    await until(lambda: len(viewer.packets) == 1)
    second = await node.join("/whip/lobby/alice", connect=False)
    first.send_video(key=False)
    await until(lambda: len(viewer.packets) == 2)
    await second.connect()
    await until(lambda: first.dtls == "closed")
    second.send_video()
    await until(lambda: len(viewer.packets) == 3)
    await node.refused(404, "DELETE", first.location)
    _, _, body = await node.ask("GET", "/api/rooms")
    (room,) = body["rooms"]
    assert [(one["identity"], one["viewers"]) for one in room["participants"]] == [("alice", 1)]


async def test_peer_without_checks_is_gone_after_the_timeout() -> None:
    async with running(limits={"ice_timeout": 1.0}) as node:
        publisher = await node.join("/whip/lobby/alice")
        assert await node.metric("weir_transports") == 1
        await until(lambda: not node.node.sessions.sessions, seconds=5)
        await until(lambda: publisher.dtls == "closed")
        assert await node.metric("weir_transports") == 0 and await node.metric("weir_rooms") == 0


async def test_peer_with_checks_stays(node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice")
    (session,) = node.node.sessions.sessions.values()
    before = session.peer.transport.last_check
    publisher.check()
    await until(lambda: session.peer.transport.last_check > before)
    node.node.sessions.check()
    assert node.node.sessions.sessions


async def test_node_asks_a_peer_by_the_password_of_its_offer(node: Running) -> None:
    for path in ("/whip/lobby/alice", "/whep/lobby/alice"):
        joined = await node.join(path)
        transport = list(node.node.sessions.sessions.values())[-1].peer.transport
        await until(lambda t=transport: t.record.secured)  # type: ignore[misc]
        assert transport.record.limited == 0  # the handshake proved the address
        joined.check()
        await until(lambda t=transport: t.record.answers)  # type: ignore[misc]


async def test_handshake_that_is_never_finished_is_ended_and_counted() -> None:
    async with running(limits={"join_timeout": 0.2, "handshakes": 1}) as node:
        half = await node.join("/whep/lobby/alice", connect=False)
        headers, problem = await node.refused(
            503, "POST", "/whep/lobby/alice", data=OFFER, headers={"Content-Type": "application/sdp"}
        )
        assert int(headers["Retry-After"]) > 0 and "handshakes" in problem["detail"]
        await until(lambda: not node.node.sessions.sessions)
        await node.refused(404, "DELETE", half.location)
        assert await node.metric("weir_handshakes_total", result="failed") == 1
        assert await node.metric("weir_handshakes_pending") == 0
        await node.join("/whep/lobby/alice")
        assert await node.metric("weir_handshake_seconds_count") == 1


async def test_bye_of_all_streams_does_not_end_a_peer_that_goes_on_checking(node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice")
    publisher.send_video()
    (session,) = node.node.sessions.sessions.values()
    await until(lambda: any(layer.active for layer in session.peer.transport.layers))
    assert publisher.sources
    publisher.send_rtcp(
        empty_report(publisher.sources.video[0]) + struct.pack("!BBHI", 0x81, 203, 1, publisher.sources.video[0])
    )
    await until(lambda: session.peer.transport.record.last_goodbye)
    publisher.check()
    node.node.sessions.check()
    publisher.send_video()
    await until(lambda: any(layer.active for layer in session.peer.transport.layers))
    assert node.node.sessions.sessions


def empty_report(ssrc: int) -> bytes:
    """A receiver report without blocks, which a compound begins with (RFC 3550 6.1)."""
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)


async def test_dtls_alert_of_a_peer_ends_its_session_at_once(node: Running) -> None:
    viewer = await node.join("/whep/lobby/alice")
    assert viewer.peer._endpoint
    viewer.peer._endpoint.close()
    for datagram in viewer.peer._endpoint.datagrams():
        viewer.peer.send(datagram)
    await until(lambda: not node.node.sessions.sessions)


async def test_full_tables_refuse_the_join_and_nothing_else() -> None:
    limits = {"transports": 3, "publishers": 1, "layers": 2}
    async with running(limits=limits) as node:
        publisher = await node.join("/whip/lobby/alice")
        viewer = await node.join("/whep/lobby/alice")
        sdp = {"data": OFFER.replace("recvonly", "sendonly"), "headers": {"Content-Type": "application/sdp"}}
        headers, problem = await node.refused(503, "POST", "/whip/lobby/bob", **sdp)
        assert int(headers["Retry-After"]) > 0 and "full" in problem["detail"]
        assert await node.metric("weir_joins_total", kind="whip", result="full") == 1
        publisher.send_video()
        await until(lambda: viewer.packets)
        await until(lambda: node.node.engine.workers[0].transport_used == 2)
        await node.join("/whep/lobby/alice")


async def test_full_room_refuses_a_join() -> None:
    async with running(limits={"participants_per_room": 1, "rooms": 1}) as node:
        await node.join("/whip/lobby/alice")
        sdp = {"data": OFFER, "headers": {"Content-Type": "application/sdp"}}
        await node.refused(503, "POST", "/whep/lobby/alice", **sdp)
        await node.refused(503, "POST", "/whep/another/alice", **sdp)


async def test_end_of_the_node_says_goodbye_by_bye_and_then_by_dtls() -> None:
    async with running() as node:
        publisher, viewer = await node.join("/whip/lobby/alice"), await node.join("/whep/lobby/alice")
        publisher.send_video()
        await until(lambda: viewer.packets)
        await node.node.sessions.close(3)
        await until(lambda: viewer.dtls == "closed" and publisher.dtls == "closed")
        kinds = [compound[at + 1] for compound in viewer.rtcp for at in packets_in(compound)]
        assert 203 in kinds, "BYE"
        status, headers, _ = await node.ask("GET", "/readyz")
        assert status == 503
        sdp = {"data": OFFER, "headers": {"Content-Type": "application/sdp"}}
        headers, _ = await node.refused(503, "POST", "/whep/lobby/alice", **sdp)
        assert int(headers["Retry-After"]) > 0
        assert not node.node.sessions.rooms and await node.metric("weir_transports") == 0


def packets_in(compound: bytes) -> list[int]:
    """Where the packets of a compound begin."""
    starts, at = [], 0
    while at + 4 <= len(compound):
        starts.append(at)
        at += 4 + 4 * int.from_bytes(compound[at + 2 : at + 4], "big")
    return starts


async def test_peer_that_shows_another_certificate_than_its_offer_said_gets_no_keys(node: Running) -> None:
    viewer = await node.join(
        "/whep/lobby/alice", connect=False, change=lambda sdp: re.sub(r"(sha-256 )..:..", r"\g<1>00:00", sdp)
    )
    with pytest.raises(JoinError):
        await viewer.connect()
    await until(lambda: not node.node.sessions.sessions)
    assert await node.metric("weir_handshakes_total", result="failed") == 1
    assert await node.metric("weir_handshakes_total", result="ok") == 0
