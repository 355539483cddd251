"""Feedback through a running engine: a publisher and a viewer on sockets of their own, nothing called by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiortc.rtp import RtcpPacket, RtcpPsfbPacket, RtcpRrPacket, RtcpRtpfbPacket, RtcpSenderInfo, RtcpSrPacket

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Layer, Subscription
from tests.unit.engine.peers import Peer, build, small_config, until

SSRC = 0x11223344
VP8_TYPE, RTX_TYPE = 96, 97
KEYFRAME = b"\x10" + b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(100)
DELTA = b"\x10" + b"\x11\x00\x00" + bytes(100)


class Scene:
    """A publisher of VP8 with RTX on one worker, and a viewer on another or the same."""

    def __init__(self, engine: Engine, worker: int) -> None:
        self.publisher = Peer(engine, engine.workers[0])
        self.publisher.transport.set_receiving(
            kinds={1: MID}, codecs={VP8_TYPE: codecs.VP8}, repairs={RTX_TYPE: VP8_TYPE}, twcc=False
        )
        self.layer: Layer = self.publisher.transport.add_layer(
            kind=L.VIDEO, mid="1", rid=None, ssrc=SSRC, rtx_ssrc=None, clock_rate=90000
        )
        self.viewer = Peer(engine, engine.workers[worker])
        self.viewer.transport.set_sending(ids={}, allow_mixed=False)
        self.subscription: Subscription = self.viewer.transport.add_subscription(
            kind=L.VIDEO, mid="v", cname="alice", clock_rate=90000
        )

    async def start(self) -> None:
        await self.publisher.connect()
        await self.viewer.connect()
        self.send(100, KEYFRAME)
        await until(lambda: self.layer.codec != 0)
        self.subscription.set_source(self.layer, 120, 121)
        await self.viewer.receive(1)

    def send(self, sequence: int, payload: bytes = DELTA) -> None:
        packet = build(payload, pt=VP8_TYPE, seq=sequence, ts=3000 * sequence, ssrc=SSRC, marker=1, ext={1: b"1"})
        self.publisher.send(packet)

    async def rtcp(self, peer: Peer, kind: type, count: int = 1) -> list[Any]:
        """Wait until `count` packets of a kind have come to a peer."""

        def found() -> list[Any]:
            peer.drain()
            return [p for data in peer.rtcp for p in RtcpPacket.parse(data) if isinstance(p, kind)]

        await until(lambda: len(found()) >= count)
        return found()

    async def close(self) -> None:
        for peer in (self.viewer, self.publisher):
            await peer.transport.close()
            peer.close()


@pytest.fixture(params=[0, 1], ids=["one worker", "two workers"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    engine = Engine(small_config(2))
    await engine.start()
    made = Scene(engine, request.param)
    await made.start()
    yield made
    await made.close()
    await engine.stop()


async def test_loss_towards_the_node_is_asked_for_and_mended(scene: Scene) -> None:
    for sequence in (101, 102, 105, 106):
        scene.send(sequence)
    nacks = await scene.rtcp(scene.publisher, RtcpRtpfbPacket)
    assert nacks[0].media_ssrc == SSRC and nacks[0].lost == [103, 104]
    for original in (103, 104):
        payload = original.to_bytes(2) + DELTA
        rtx = build(payload, pt=RTX_TYPE, seq=original, ts=3000 * original, ssrc=SSRC + 1, marker=1, ext={1: b"1"})
        scene.publisher.send(rtx)
    packets = await scene.viewer.receive(7)
    assert sorted(p.sequence - packets[0].sequence for p in packets) == list(range(7))


async def test_viewers_loss_of_picture_reaches_the_publisher(scene: Scene) -> None:
    scene.viewer.send_rtcp(bytes(RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=scene.subscription.ssrc)))
    (request,) = await scene.rtcp(scene.publisher, RtcpPsfbPacket)
    assert (request.fmt, request.media_ssrc) == (1, SSRC)


async def test_viewers_nack_is_answered(scene: Scene) -> None:
    scene.send(101)
    packets = await scene.viewer.receive(2)
    wanted = [packets[1].sequence]
    nack = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=scene.subscription.ssrc, lost=wanted)
    scene.viewer.send_rtcp(bytes(nack))
    (resent,) = await scene.viewer.receive(1, scene.subscription.rtx_ssrc)
    assert resent.payload == wanted[0].to_bytes(2) + packets[1].payload


async def test_reports_go_both_ways(scene: Scene) -> None:
    info = RtcpSenderInfo(ntp_timestamp=0xE000_0000_8000_0000, rtp_timestamp=300_000, packet_count=1, octet_count=1)
    scene.publisher.send_rtcp(bytes(RtcpSrPacket(ssrc=SSRC, sender_info=info)))
    report = (await scene.rtcp(scene.viewer, RtcpSrPacket))[0]
    assert report.ssrc == scene.subscription.ssrc
    offset = int(scene.subscription.record.timestamp_offset)
    seconds = (report.sender_info.ntp_timestamp - info.ntp_timestamp) / (1 << 32)
    units = report.sender_info.rtp_timestamp - info.rtp_timestamp - offset & 0xFFFFFFFF
    assert abs(seconds - units / 90000) < 1e-6
    blocks = [b for r in await scene.rtcp(scene.publisher, RtcpRrPacket) for b in r.reports]
    assert {b.ssrc for b in blocks} == {SSRC}
