"""A publisher whose payload type changes on one SSRC: a new stream is followed, a mixture of types is not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mediacodecs.frame import H264, OPUS, VP8
from mediaserver.engine import layout as L
from mediaserver.engine.intake import CODEC_STEP
from mediaserver.engine.receive import handle_rtp
from tests.unit.engine.desk import Desk, Track

VP8_TYPE, H264_TYPE, H264_RTX, OPUS_TYPE = 96, 102, 103, 111
SSRC, RTX_SSRC = 5, 6
PAYLOADS = {
    (VP8_TYPE, True): b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" + bytes(20),
    (VP8_TYPE, False): b"\x10\x01\x00\x00" + bytes(20),
    (H264_TYPE, True): bytes.fromhex("6742c01fd900b03ddff80100008000000300"),  # the parameter sets before a keyframe
    (H264_TYPE, False): b"\x41\x9a" + bytes(20),
    (OPUS_TYPE, True): b"opus" * 5,
}


class Publisher:
    """A member that sends a layer of video, one packet after the other."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.end = desk, desk.peer()
        self.track = Track(self.end, ssrc=-1)
        self.layer, self.header = self.track.record, self.track.log.header
        self.layer.started = self.layer.active = 0
        record = self.end.record
        record.ssrc_limit = 8
        for payload_type, codec in ((VP8_TYPE, VP8), (H264_TYPE, H264), (OPUS_TYPE, OPUS)):
            record.codecs[payload_type] = codec
        record.repairs[H264_RTX] = H264_TYPE
        self.sequence = 100

    def send(self, payload_type: int, *, key: bool = False) -> bool:
        """The next packet; whether it was logged."""
        return self.deliver(payload_type, SSRC, PAYLOADS[payload_type, key])

    def deliver(self, payload_type: int, ssrc: int, payload: bytes) -> bool:
        before = int(self.header.received_packets)
        self.sequence += 1
        packet = bytes([0x80, payload_type]) + self.sequence.to_bytes(2) + bytes(4) + ssrc.to_bytes(4) + payload
        data = self.end.sealer.protect(packet)
        self.desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
        handle_rtp(self.desk.w, self.end.index, 0, len(data), 0)
        return int(self.header.received_packets) == before + 1

    @property
    def epochs(self) -> int:
        """Epochs begun after the first."""
        return int(self.header.epoch)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    desk = Desk()
    made = Publisher(desk)
    assert made.send(VP8_TYPE, key=True) and made.layer.codec == VP8
    desk.w.now += CODEC_STEP
    yield made
    desk.close()


def test_stream_that_goes_on_in_another_codec_is_followed_from_its_keyframe_on(publisher: Publisher) -> None:
    assert publisher.send(VP8_TYPE)
    assert publisher.send(H264_TYPE, key=True) and publisher.send(H264_TYPE)
    assert (publisher.epochs, publisher.layer.codec, publisher.header.codec) == (1, H264, H264)
    publisher.desk.w.now += CODEC_STEP
    assert publisher.send(VP8_TYPE, key=True) and publisher.send(VP8_TYPE)
    assert (publisher.epochs, publisher.layer.codec, publisher.desk.w.drop_payload) == (2, VP8, 0)


def test_new_codec_whose_keyframe_began_with_a_loss_is_confirmed_by_two_packets_in_a_row(publisher: Publisher) -> None:
    assert not publisher.send(H264_TYPE)
    assert publisher.send(H264_TYPE) and publisher.send(H264_TYPE)
    assert (publisher.epochs, publisher.layer.codec, publisher.desk.w.drop_payload) == (1, H264, 1)


def test_packet_of_another_type_in_a_stream_is_dropped(publisher: Publisher) -> None:
    for _ in range(20):
        assert not publisher.send(H264_TYPE)
        assert publisher.send(VP8_TYPE)
    assert (publisher.epochs, publisher.layer.codec, publisher.desk.w.drop_payload) == (0, VP8, 20)


@pytest.mark.parametrize("run", [1, 2, 3])
def test_mixture_of_types_begins_a_few_epochs_a_second_at_most(publisher: Publisher, run: int) -> None:
    start = publisher.desk.w.now
    for k in range(1200):
        publisher.send((VP8_TYPE, H264_TYPE)[k // run & 1], key=True)
        publisher.desk.w.now += 2 * L.MS
    spent = publisher.desk.w.now - start
    assert 0 < publisher.epochs <= spent // CODEC_STEP + 1
    assert publisher.desk.w.drop_payload >= 500
    assert publisher.desk.w.drop_payload + publisher.header.received_packets == 1201


def test_retransmission_of_the_codec_before_is_dropped(publisher: Publisher) -> None:
    publisher.send(VP8_TYPE)
    publisher.end.record.ssrcs[1], publisher.end.record.ssrc_layers[1] = RTX_SSRC, publisher.track.index << 1 | 1
    publisher.end.record.ssrc_count = 2
    lost = (publisher.sequence - 1).to_bytes(2) + PAYLOADS[H264_TYPE, False]
    assert not publisher.deliver(H264_RTX, RTX_SSRC, lost)
    assert publisher.desk.w.rtx_in == 1 and publisher.desk.w.drop_payload == 1 and publisher.layer.codec == VP8


def test_layer_of_video_does_not_turn_to_sound(publisher: Publisher) -> None:
    for _ in range(3):
        assert not publisher.send(OPUS_TYPE, key=True)
    assert publisher.send(VP8_TYPE) and (publisher.epochs, publisher.layer.codec) == (0, VP8)


def test_padding_does_not_change_the_codec(publisher: Publisher) -> None:
    for _ in range(3):
        assert not publisher.deliver(H264_TYPE, SSRC, b"")
    assert publisher.send(VP8_TYPE) and publisher.epochs == 0
