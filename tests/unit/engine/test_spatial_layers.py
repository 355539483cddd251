"""VP9 with two spatial layers in one SSRC: who is limited to the lower one gets whole pictures, without gaps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Layer, Subscription
from tests.unit.engine.peers import Peer, build, small_config, until

VP9_TYPE, SENT_TYPE = 98, 120


class Stage:
    """A publisher of pictures in two layers, and a viewer."""

    def __init__(self, engine: Engine) -> None:
        self.publisher, self.viewer = (Peer(engine, engine.workers[0]) for _ in range(2))
        receiving = self.publisher.transport
        receiving.set_receiving(kinds={1: MID}, codecs={VP9_TYPE: codecs.VP9}, repairs={}, twcc=False)
        self.layer: Layer = receiving.add_layer(
            kind=L.VIDEO, mid="1", rid=None, ssrc=None, rtx_ssrc=None, clock_rate=90000
        )
        self.subscription: Subscription = self.viewer.transport.add_subscription(
            kind=L.VIDEO, mid="v", cname="publisher", clock_rate=90000
        )
        self.sequence = 0

    def send(self, picture: int, *, key: bool = False) -> None:
        """One picture: a packet of each layer; the last one bears the marker (RFC 9628 section 4.1)."""
        for spatial in (0, 1):
            flags = 0x80 | 0x20 | 0x08 | 0x04 | (0 if key else 0x40)  # I, L, B, E; P unless a key picture
            layers = spatial << 1 | spatial  # no temporal layers; the upper layer refers to the lower one
            descriptor = bytes([flags]) + (0x8000 | picture).to_bytes(2, "big") + bytes([layers, picture & 255])
            payload = descriptor + bytes([spatial, picture]) + bytes(60)
            self.sequence += 1
            more = {"seq": self.sequence, "ts": 3000 * picture, "marker": spatial}
            self.publisher.send(build(payload, pt=VP9_TYPE, ssrc=5, ext={1: b"1"}, **more))  # type: ignore[arg-type]

    async def receive(self, count: int) -> list[tuple[int, int, int, int]]:
        """(picture, spatial layer, marker, number from the first on) of what has come."""
        packets = await self.viewer.receive(count)
        first = packets[0].sequence
        return [(p.payload[6], p.payload[5], p.marker, p.sequence - first) for p in packets]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    engine = Engine(small_config())
    await engine.start()
    made = Stage(engine)
    await made.publisher.connect()
    await made.viewer.connect()
    yield made
    for peer in (made.publisher, made.viewer):
        await asyncio.wait_for(peer.transport.close(), 5)
        peer.close()
    await engine.stop()


async def test_upper_layer_is_left_out_without_a_gap_and_the_lower_one_ends_the_picture(stage: Stage) -> None:
    stage.subscription.set_layers(0, 255)
    stage.send(1, key=True)
    await until(lambda: stage.layer.codec == codecs.VP9)
    stage.subscription.set_source(stage.layer, SENT_TYPE)
    for picture in range(2, 6):
        stage.send(picture)
    assert await stage.receive(5) == [(picture, 0, 1, picture - 1) for picture in range(1, 6)]


async def test_all_layers_pass_unless_limited_with_one_marker_a_picture(stage: Stage) -> None:
    stage.send(1, key=True)
    await until(lambda: stage.layer.codec == codecs.VP9)
    stage.subscription.set_source(stage.layer, SENT_TYPE)
    stage.send(2)
    assert await stage.receive(4) == [(1, 0, 0, 0), (1, 1, 1, 1), (2, 0, 0, 2), (2, 1, 1, 3)]


async def test_upper_layer_is_entered_at_a_keyframe(stage: Stage) -> None:
    stage.subscription.set_layers(0, 255)
    stage.send(1, key=True)
    await until(lambda: stage.layer.codec == codecs.VP9)
    stage.subscription.set_source(stage.layer, SENT_TYPE)
    stage.send(2)
    await stage.receive(2)
    stage.subscription.set_layers(1, 255)
    await until(lambda: int(stage.subscription.record.max_spatial) == 1)
    stage.send(3)
    stage.send(4, key=True)
    assert [(picture, spatial) for picture, spatial, _, _ in await stage.receive(5)] == [
        (1, 0), (2, 0), (3, 0), (4, 0), (4, 1),
    ]  # fmt: skip


async def test_freed_viewer_gets_the_upper_layer_from_a_keyframe_on(stage: Stage) -> None:
    stage.send(1, key=True)
    await until(lambda: stage.layer.codec != 0)
    stage.subscription.set_layers(0, 255)
    stage.subscription.set_source(stage.layer, SENT_TYPE)
    await stage.receive(1)
    stage.subscription.set_layers(255, 255)
    await until(lambda: int(stage.subscription.record.max_spatial) == 255)
    stage.send(2)
    stage.send(3, key=True)
    stage.send(4)
    got = await stage.receive(6)
    assert [(picture, spatial) for picture, spatial, _, _ in got] == [(1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
    assert [number for *_, number in got] == list(range(6))
