"""Which layer an SSRC belongs to: names in the packets first, then the SDP's a=ssrc lines, then the payload type."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID, REPAIRED_RID, RID
from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Layer
from tests.unit.engine.peers import Peer, build, small_config, until

VP8_TYPE, RTX_TYPE, OPUS_TYPE = 96, 97, 111
KEYFRAME = b"\x10\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(50)  # VP8 of 640x480
LOST = b"\x00\x08" + KEYFRAME  # RTX of number 8 (RFC 4588 section 4)
AUDIO = {"kind": L.AUDIO, "mid": "0", "clock_rate": 48000}
VIDEO = {"kind": L.VIDEO, "mid": "1", "clock_rate": 90000}


@pytest.fixture
async def publisher() -> AsyncIterator[Peer]:
    engine = Engine(small_config())
    await engine.start()
    peer = Peer(engine, engine.workers[0])
    peer.transport.set_receiving(
        kinds={1: MID, 2: RID, 3: REPAIRED_RID},
        codecs={VP8_TYPE: codecs.VP8, OPUS_TYPE: codecs.OPUS},
        repairs={RTX_TYPE: VP8_TYPE},
        twcc=False,
    )
    await peer.connect()
    yield peer
    await asyncio.wait_for(peer.transport.close(), 5)
    peer.close()
    await engine.stop()


def layer_of(peer: Peer, kind: dict[str, Any], **names: Any) -> Layer:
    return peer.transport.add_layer(**{"rid": None, "ssrc": None, "rtx_ssrc": None} | kind | names)


def send(peer: Peer, ssrc: int, payload: bytes = KEYFRAME, *, pt: int = VP8_TYPE, seq: int = 7, **names: bytes) -> None:
    """One packet; `names` are mid, rid and rrid."""
    ext = {{"mid": 1, "rid": 2, "rrid": 3}[name]: value for name, value in names.items()}
    peer.send(build(payload, pt=pt, seq=seq, ts=9000, ssrc=ssrc, ext=ext or None))


def bound(layer: Layer) -> tuple[int, int]:
    """The SSRCs that a layer has taken: media and retransmissions; -1: none."""
    return int(layer.record.ssrc), int(layer.record.rtx_ssrc)


def logged(layer: Layer) -> int:
    """How many packets the layer's log has taken."""
    return int(layer.log.header.received_packets)


def dropped(peer: Peer) -> int:
    return int(peer.transport.worker.counters.drop_ssrc)


async def test_mid_and_rid_name_the_layer_whatever_the_declarations_say(publisher: Peer) -> None:
    low, high = layer_of(publisher, VIDEO, rid="q"), layer_of(publisher, VIDEO, rid="f", ssrc=50)
    send(publisher, 50, mid=b"1", rid=b"q")
    await until(lambda: bound(low) == (50, -1))
    assert bound(high) == (-1, -1)


async def test_repaired_rid_joins_retransmissions_with_their_layer(publisher: Peer) -> None:
    low, high = layer_of(publisher, VIDEO, rid="q"), layer_of(publisher, VIDEO, rid="f")
    for seq in (7, 9):
        send(publisher, 60, seq=seq, mid=b"1", rid=b"f")
    await until(lambda: logged(high) == 2)
    send(publisher, 61, LOST, pt=RTX_TYPE, mid=b"1", rrid=b"f")
    await until(lambda: logged(high) == 3)
    assert bound(high) == (60, 61) and bound(low) == (-1, -1)


async def test_declared_ssrcs_are_found_without_names(publisher: Peer) -> None:
    first, second = layer_of(publisher, VIDEO, ssrc=70, rtx_ssrc=71), layer_of(publisher, VIDEO, ssrc=80, rtx_ssrc=81)
    for seq in (7, 9):
        send(publisher, 80, seq=seq)
    await until(lambda: logged(second) == 2)
    send(publisher, 81, LOST, pt=RTX_TYPE)
    await until(lambda: logged(second) == 3)
    assert bound(second) == (80, 81) and bound(first) == (-1, -1)


async def test_payload_type_tells_when_only_one_layer_can_be_meant(publisher: Peer) -> None:
    sound, picture = layer_of(publisher, AUDIO), layer_of(publisher, VIDEO)
    send(publisher, 90)
    send(publisher, 91, b"opus", pt=OPUS_TYPE)
    await until(lambda: sound.codec == codecs.OPUS and picture.codec == codecs.VP8)
    assert bound(picture) == (90, -1) and bound(sound) == (91, -1)


async def test_stream_that_could_be_either_of_two_is_refused(publisher: Peer) -> None:
    layers = [layer_of(publisher, VIDEO), layer_of(publisher, VIDEO | {"mid": "2"})]
    send(publisher, 92)
    await until(lambda: dropped(publisher) == 1)
    assert [bound(layer) for layer in layers] == [(-1, -1)] * 2
    send(publisher, 93, mid=b"2")
    await until(lambda: bound(layers[1]) == (93, -1))


async def test_unknown_rid_is_refused_and_not_guessed(publisher: Peer) -> None:
    low, high = layer_of(publisher, VIDEO, rid="q"), layer_of(publisher, VIDEO, rid="f")
    send(publisher, 94, mid=b"1", rid=b"x")
    await until(lambda: dropped(publisher) == 1)
    assert bound(low) == bound(high) == (-1, -1)
