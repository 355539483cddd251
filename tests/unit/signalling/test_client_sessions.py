"""Offers in the forms of other people's clients, joined by peers that then really send and receive."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable

import pytest

from tests.unit.engine.peers import build, until
from tests.unit.signalling.nodes import MID_ID, OFFER, SDP, VP8_TYPE, Joined, Running, vp8

SR, RR, SDES, PSFB = 200, 201, 202, 206  # RTCP packet types
CNAME = 1
TRANSPORT = ("a=ice-", "a=fingerprint", "a=setup", "a=candidate", "a=end-of", "a=rtcp-mux", "a=rtcp-rsize")


def lines_changed(sdp: str, change: dict[str, str]) -> str:
    """The offer with parts of it replaced; each must be there."""
    for old, new in change.items():
        assert old in sdp, old
        sdp = sdp.replace(old, new)
    return sdp


def like_libdatachannel(sdp: str) -> str:
    """Options parted by a comma, another group, transport at session level and no reduced-size RTCP."""
    lines = sdp.split("\r\n")
    shared = [line for line in dict.fromkeys(lines) if line.startswith(("a=ice-", "a=fingerprint", "a=setup"))]
    media = [line for line in lines if line not in shared and line != "a=rtcp-rsize"]
    at = next(k for k, line in enumerate(media) if line.startswith("m="))
    return "\r\n".join([*media[:at], "a=group:LS 0 1", "a=ice-options:ice2,trickle", *shared, *media[at:]])


def waiting_for_the_bundle(sdp: str) -> str:
    """The second section has port 0 and nothing that the first one says (RFC 9143, section 7.1.3)."""
    first, kind, second = sdp.partition("m=video")
    lines = [line for line in second.split("\r\n") if not line.startswith(TRANSPORT)]
    lines[0] = re.sub(r"^ \d+ ", " 0 ", lines[0])
    return first + kind + "\r\n".join([*lines[:1], "a=bundle-only", *lines[1:]])


def with_long_mids(sdp: str) -> str:
    """Mids that no header extension of one byte's length can carry."""
    return lines_changed(
        sdp,
        {"BUNDLE 0 1": "BUNDLE sound-of-the-room picture-of-the-room", "a=mid:0": "a=mid:sound-of-the-room"}
        | {"a=mid:1": "a=mid:picture-of-the-room"},
    )


def over_tcp_in_name(sdp: str) -> str:
    """A profile that means DTLS-SRTP over ICE like all others."""
    return lines_changed(sdp, {"UDP/TLS/RTP/SAVPF": "TCP/DTLS/RTP/SAVP"})


def with_odd_lines(sdp: str) -> str:
    """Lines that can't be read and that nobody needs, ends of lines by a text mode, a zero at the end."""
    odd = "a=rtcp-mux\r\na=extmap:x urn:y\r\na=ssrc:-1 mslabel:z\r\na=fmtp:9\r\na=candidate:1 1 udp"
    return sdp.replace("a=rtcp-mux", odd).replace("\r\n", "\r\r\n") + "\0"


FORMS = [like_libdatachannel, waiting_for_the_bundle, with_long_mids, over_tcp_in_name, with_odd_lines]


@pytest.mark.parametrize("form", FORMS)
async def test_client_publishes_and_watches(node: Running, form: object) -> None:
    assert callable(form)
    viewer = await node.join("/whep/lobby/alice", change=form)
    publisher = await node.join("/whip/lobby/alice", change=form)

    def arrived() -> bool:
        publisher.send_video()
        return len(viewer.packets) >= 3

    await until(arrived)
    assert {packet.payload_type for packet in viewer.packets} == {VP8_TYPE}


async def test_publisher_with_a_section_that_nobody_could_watch_is_refused_and_leaves_nothing(node: Running) -> None:
    hevc = lines_changed(OFFER, {"recvonly": "sendonly", f"{VP8_TYPE} VP8/": f"{VP8_TYPE} H265/"})
    _, problem = await node.refused(422, "POST", "/whip/lobby/alice", data=hevc, headers=SDP)
    assert "(video, mid 1)" in problem["detail"] and "H265" in problem["detail"]
    assert not node.node.sessions.rooms and await node.metric("weir_joins_total", kind="whip", result="offer") == 1


async def test_what_was_not_understood_is_told_with_the_refusal(node: Running) -> None:
    broken = OFFER.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 x")
    _, problem = await node.refused(400, "POST", "/whep/lobby/alice", data=broken, headers=SDP)
    assert "no certificate fingerprint" in problem["detail"] and "Not understood: Line " in problem["detail"]


def send_frame(publisher: Joined, ssrc: int, sequence: int) -> None:
    """A keyframe whose packet names neither section nor layer."""
    assert publisher.peer.contexts
    packet = build(vp8(sequence, key=True), ssrc=ssrc, pt=VP8_TYPE, seq=sequence, ts=3000 * sequence, marker=1)
    publisher.peer.send(publisher.peer.contexts._outbound.protect(packet))


async def test_layers_with_rids_are_told_apart_by_ssrc_where_packets_bear_no_rid(node: Running) -> None:
    def simulcast(sdp: str) -> str:
        sdp = re.sub(r"a=ssrc(-group)?:[^\r]*\r\n", "", sdp)
        streams = "a=ssrc-group:FID 501 601\r\na=ssrc-group:FID 502 602\r\na=ssrc:501 cname:x\r\na=ssrc:502 cname:x\r\n"
        rids = "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rid:q send\r\na=rid:h send\r\n"
        return sdp + rids + "a=simulcast:send q;h\r\n" + streams

    publisher = await node.join("/whip/lobby/alice", change=simulcast)
    assert "a=simulcast:recv q;h" in publisher.answer
    (track,) = (one for one in node.node.sessions.rooms["lobby"].publishers["alice"].tracks if one.kind == "video")
    assert [(layer.rid, layer.record.declared_ssrc, layer.record.declared_rtx) for layer in track.layers] == [
        ("q", 501, 601),
        ("h", 502, 602),
    ]
    send_frame(publisher, 502, 100)
    await until(lambda: track.layers[1].active)
    assert not track.layers[0].active


def packets_of(compound: bytes) -> list[bytes]:
    """The RTCP packets in one datagram."""
    found = []
    while compound:
        size = 4 + 4 * int.from_bytes(compound[2:4])
        found.append(compound[:size])
        compound = compound[size:]
    return found


def asking_for_no_reduced_size(sdp: str) -> str:
    return lines_changed(sdp, {"a=rtcp-rsize\r\n": ""})


@pytest.mark.parametrize(("form", "reduced"), [(str, True), (asking_for_no_reduced_size, False)])
async def test_feedback_comes_alone_only_to_who_asked_for_reduced_size(
    node: Running, form: Callable[[str], str], reduced: bool
) -> None:
    await node.join("/whep/lobby/alice")
    publisher = await node.join("/whip/lobby/alice", change=form)
    assert ("a=rtcp-rsize" in publisher.answer) is reduced

    def asked_for_a_keyframe() -> bool:
        publisher.send_video(key=False)
        return any(packet[1] == PSFB for data in publisher.rtcp for packet in packets_of(data))

    await until(asked_for_a_keyframe)
    compounds = [packets_of(data) for data in publisher.rtcp]
    if reduced:
        assert [packet[1] for packet in next(one for one in compounds if one[-1][1] == PSFB)] == [PSFB]
        return
    for report, name, *_ in compounds:
        assert report[1] in (SR, RR) and name[1] == SDES and name[8] == CNAME and name[9] > 0


def send_pictures(publisher: Joined, order: list[int]) -> None:
    """Pictures in this order, each by when it is shown."""
    assert publisher.sources and publisher.peer.contexts
    for shown in order:
        publisher.sequence += 1
        where = {"pt": VP8_TYPE, "seq": publisher.sequence, "ts": 3000 * shown, "marker": 1}
        packet = build(vp8(shown, key=True), ssrc=publisher.sources.video[0], ext={MID_ID: b"1"}, **where)
        publisher.peer.send(publisher.peer.contexts._outbound.protect(packet))


async def test_pictures_out_of_order_are_told_by_the_api_and_logged_once(lines: io.StringIO, node: Running) -> None:
    publisher = await node.join("/whip/lobby/alice")
    shown = 0

    async def until_told(wanted: bool, *group: int) -> None:
        """Send pictures, in groups of this order, until the API tells of the layer that its time runs backwards."""
        nonlocal shown
        async with asyncio.timeout(30):
            while True:
                send_pictures(publisher, [shown + step for step in group])
                shown += len(group)
                _, _, body = await node.ask("GET", "/api/rooms")
                tracks = body["rooms"][0]["participants"][0]["tracks"]
                (layer,) = next(one["layers"] for one in tracks if one["kind"] == "video")
                if layer["active"] and layer["time_runs_backwards"] is wanted:
                    return
                await asyncio.sleep(0.01)

    for _ in range(2):
        await until_told(False, 0, 1, 2)
        await until_told(True, 2, 0, 1)
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    (line,) = [one for one in found if "RTP time runs backwards" in one["message"]]
    assert line["message"].endswith("viewers drop most of the pictures")
    assert (line["level"], line["room"], line["participant"], line["mid"]) == ("warning", "lobby", "alice", "1")
