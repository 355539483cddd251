"""Two clients of one engine whose sockets are tied together: one publishes to the other, over a bad network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from loadtest.clips.encode import VideoProfile
from loadtest.clips.reel import Reel
from loadtest.engine.engine import LinkSettings
from loadtest.engine.layout import MS, SECOND, VIDEO
from loadtest.engine.media import Media
from loadtest.scenario.schema import Loss
from mediacodecs.extensions import ABS_CAPTURE_TIME, TWCC
from mediacodecs.frame import AV1, H264, VP8, VP9
from packetio.srtp import GCM, KEY_BYTES, SrtpContexts
from tests.unit.loadtest.engine.clients import StillEngine

START = 1_000_000_000_000
CODECS = {"vp8": VP8, "vp9": VP9, "h264": H264, "av1": AV1}
KEY = b"k" * KEY_BYTES[GCM]
TYPE, RTX_TYPE, TWCC_ID, CAPTURE_ID = 96, 97, 3, 7


class Pair:
    """Client `publisher` and client `watcher`."""

    def __init__(
        self, reel: Reel, *, down: LinkSettings | None = None, up: LinkSettings | None = None, opened: bool = False
    ):
        self.engine = StillEngine(2, 1, held=4096)
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        for sock, other in (sockets, sockets[::-1]):
            sock.connect(other.getsockname())
        kinds = {TWCC_ID: TWCC, CAPTURE_ID: ABS_CAPTURE_TIME}
        media = Media({TYPE: int(reel.row.codec)}, {RTX_TYPE: TYPE}, kinds, {kind: key for key, kind in kinds.items()})
        self.indices = [self.engine.reserve() for _ in range(2)]
        self.engine.set_network(self.indices[1], down, up, seed=5)
        for k, sock in enumerate(sockets):
            contexts = SrtpContexts(GCM, KEY, KEY)
            self.engine.hand_over(self.indices[k], sock, contexts, media, ssrc=70 + k, cname=f"peer{k}")
        fields = {"kind": VIDEO, "ssrc": 0xABCDEF, "payload_type": TYPE, "rtx_ssrc": 0xABCDF0, "rtx_type": RTX_TYPE}
        self.engine.add_source(self.indices[0], reel, burst=True, mid="v", **fields)
        self.watcher = self.engine.clients.rows[self.indices[1]]
        self.watcher.opened = int(opened)
        for index in self.indices:
            self.engine.open(index)
        self.engine.begin(self.indices[0], START + 5 * MS)
        self.now = START

    def run(self, seconds: float) -> None:
        """Let time pass, a millisecond a turn."""
        for _ in range(int(seconds * 1000)):
            self.now += 1 * MS
            self.engine.turn_at(self.now)

    @property
    def stream(self) -> Any:
        return self.engine.streams.rows[int(self.watcher.streams[0])]

    @property
    def source(self) -> Any:
        return self.engine.sources_of(self.indices[0])[0]

    @property
    def expected(self) -> int:
        return int(self.stream.highest - self.stream.first_position + 1)


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        pair.engine.stop()


def test_on_a_good_network_nothing_is_lost_and_nothing_asked_for(pairs: list[Pair]) -> None:
    pairs.append(pair := Pair(Reel.synthetic(25, 8, 1000), opened=True))
    pair.run(10)
    s = pair.stream
    assert (s.first_missing, s.given_up, s.nacks, s.plis, s.wrong, s.freezes, s.missed) == (0,) * 7
    assert s.frames == 250 and s.checked == s.packets == pair.source.packets
    assert s.latency_max <= 1 * MS and pair.source.resent + pair.source.unanswered == 0


@pytest.mark.parametrize("codec", CODECS)
def test_encoded_frames_of_every_codec_are_complete_and_decodable(pairs: list[Pair], codec: str) -> None:
    profile = VideoProfile(codec=codec, width=320, height=180, bitrate=300, duration=0.8, keyframe_interval=10)
    pairs.append(pair := Pair(Reel.from_video(profile)))
    pair.run(4)
    s = pair.stream
    assert pair.source.frames - 1 <= s.frames <= pair.source.frames and s.frames >= 98
    assert s.keyframes == pair.source.keyframes and (s.missed, s.plis, s.first_missing) == (0, 0, 0)
    assert s.width == 320
    assert s.latency.sum() == s.packets  # each tells when it was captured


def test_bursty_loss_is_measured_back_and_repaired(pairs: list[Pair]) -> None:
    network = LinkSettings(loss=Loss(share=0.05, burst=3).model(), delay_ms=20)
    pairs.append(pair := Pair(Reel.synthetic(25, 8, 1000), down=network, opened=True))
    pair.run(60)
    s, link = pair.stream, pair.watcher.down
    assert 0.04 < link.lost / (link.lost + link.passed) < 0.06
    assert s.first_missing / pair.expected == pytest.approx(0.05, abs=0.01)
    assert s.given_up / pair.expected < 0.002 and s.recovered > 0.9 * s.first_missing
    assert s.frames > 0.9 * pair.source.frames and s.wrong == 0
    assert pair.source.resent == s.nacks and pair.source.unanswered == 0
    assert 20 * MS <= s.latency_max <= 600 * MS
    assert int(s.latency[:104].sum()) == 0  # 104: up to 8.2 ms


def test_an_outage_freezes_the_picture_until_a_keyframe_is_asked_for_and_comes(pairs: list[Pair]) -> None:
    pairs.append(pair := Pair(Reel.synthetic(25, 8, 1000)))
    pair.run(4)
    frames, keyframes = int(pair.stream.frames), int(pair.stream.keyframes)
    down = pair.watcher.down
    down.random, down.loss_good, down.active = 1, 1.0, 1
    pair.run(2)
    assert pair.stream.frames <= frames + 1
    down.active = 0
    pair.run(4)
    s = pair.stream
    assert s.given_up >= 395 and s.plis >= 1 and s.keyframes == keyframes + 1
    assert s.freezes == 1 and 2 * SECOND < s.longest_freeze < 3 * SECOND and s.frozen == s.longest_freeze
    assert s.waiting == 0 and s.frames > frames + 60


def test_delay_with_jitter_and_reordering_loses_nothing(pairs: list[Pair]) -> None:
    network = LinkSettings(delay_ms=40, jitter_ms=5, reorder=0.02, reorder_delay_ms=3)
    pairs.append(pair := Pair(Reel.synthetic(25, 8, 1000), down=network, opened=True))
    pair.run(20)
    s = pair.stream
    assert (s.given_up, s.first_missing, s.nacks, s.plis, s.freezes) == (0, 0, 0, 0, 0)
    assert s.frames >= 495 and pair.watcher.down.reordered > 0
    mean = 2 ** (int((s.latency.cumsum() > s.latency.sum() // 2).argmax()) / 8) / 1000
    assert 36 <= mean <= 52


def test_feedback_reaches_the_publisher(pairs: list[Pair]) -> None:
    pairs.append(pair := Pair(Reel.synthetic(25, 8, 1000)))
    pair.run(5)
    publisher = pair.engine.clients.rows[pair.indices[0]]
    assert publisher.refused == publisher.garbage == 0
    assert 5 * 9 <= publisher.rtcp <= 5 * 25
    assert pair.stream.sr_arrival > START + 3 * SECOND
