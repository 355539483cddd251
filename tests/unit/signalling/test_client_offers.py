"""Offers as other people's clients write them, with the habits that shut them out of servers, are taken as they mean.

Each is a file of the fuzz corpus, so that the parser's tests, the fuzzer and the mangled joins see it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mediacodecs.sdp import SessionDescription, parse_sdp
from mediaserver.signalling.codec_match import match_codec
from mediaserver.signalling.negotiation import (
    Codec,
    Encoding,
    LocalTrack,
    LocalTransport,
    answer_publisher,
    answer_subscriber,
    read_publisher_offer,
    read_subscriber_offer,
)

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp"
LOCAL = LocalTransport("localufrag", "p" * 24, ":".join(["AB"] * 32), [("192.0.2.7", 7882)])


def offer_of(name: str) -> str:
    return (CORPUS / f"{name}.sdp").read_bytes().decode()


@dataclass(frozen=True)
class Published:
    """What a publisher's offer means: payload types in the answer's order, and the layers of video."""

    audio: list[int]
    video: list[int]
    layers: list[Encoding]
    ufrag: str
    setup: str = "passive"  # ours
    reduced_size: bool = False


PUBLISHERS = {
    "obs_h264": Published([111], [96], [Encoding(ssrc=3388068601)], "nQ2/"),
    "pion_whip": Published(
        [111], [125], [Encoding(None, 4177141165, 3051984722)], "JYJqpTsLBtMsyFuL", reduced_size=True
    ),
    "gstreamer_h264": Published(
        [98], [96], [Encoding(None, 2456110321, 871234501)], "UJXJh3xnzAo/M7STXf5SkPrJo/YbHCNR", reduced_size=True
    ),
    "str0m_bundle_only": Published([111], [96], [Encoding(None, 4055667788, 4099001122)], "Hq4N", reduced_size=True),
    "werift_simulcast": Published([], [96], [Encoding("high"), Encoding("low")], "8f3d"),
    "larix_whip": Published([111], [100, 98], [Encoding(None, 1570614609, 2570614610)], "ez/q"),
    "chromium_sim_group": Published(
        [], [96], [Encoding(None, 1815289772, 1199324968), Encoding(None, 3974668332, 4137902746)], "Ezq+",
        reduced_size=True,
    ),
    "small_camera": Published([111], [96], [Encoding(ssrc=4)], "qrst"),
    "ffmpeg_whip_high": Published([111], [106], [Encoding(None, 1333786157, 1333786158)], "4dbcc709"),
    "firefox_simulcast": Published(
        [109],
        [120, 126, 97],
        [
            Encoding("f", 1100220033, 1100220034),
            Encoding("h", 2200330044, 2200330045),
            Encoding("q", 3300440055, 3300440056),
        ],
        "4a6f1d27",
    ),
}  # fmt: skip
VIEWERS = {
    "libdatachannel_recvonly": ([96], [111]),
    "firefox_recvonly": ([120, 126, 97], [109]),
    "safari_recvonly": ([96, 98, 100], [111]),
    "gstreamer_recvonly": ([102], [111]),
}


def types_of(answer: SessionDescription, kind: str) -> list[int]:
    """The payload types of the sections taken, without those of RTX."""
    sections = [m for m in answer.media if m.kind == kind and m.port]
    found = [(m.rtpmap[int(text)].name, int(text)) for m in sections for text in m.formats]
    return [payload_type for name, payload_type in found if name != "rtx"]


@pytest.mark.parametrize("name", PUBLISHERS)
def test_publisher_is_taken_whole(name: str) -> None:
    expected, offer = PUBLISHERS[name], read_publisher_offer(offer_of(name))
    assert (offer.ice_ufrag, offer.reduced_size) == (expected.ufrag, expected.reduced_size)
    assert [e for m in offer.media if m.kind == "video" for e in m.encodings] == expected.layers
    answer = parse_sdp(answer_publisher(offer, LOCAL))
    assert (types_of(answer, "audio"), types_of(answer, "video")) == (expected.audio, expected.video)
    taken = [m for m in answer.media if m.port]
    assert {(m.setup, m.direction, m.rtcp_mux) for m in taken} == {(expected.setup, "recvonly", True)}
    assert [m.mid for m in answer.media] == [m.mid for m in offer.description.media]
    assert not answer.skipped


@pytest.mark.parametrize("name", VIEWERS)
def test_viewer_is_offered_all_that_it_takes(name: str) -> None:
    offer = read_subscriber_offer(offer_of(name))
    tracks = [LocalTrack(m.mid, 10 + m.index, 20 + m.index, "cname", "stream", m.kind) for m in offer.media]
    answer = parse_sdp(answer_subscriber(offer, LOCAL, tracks))
    assert (types_of(answer, "video"), types_of(answer, "audio")) == VIEWERS[name]
    assert {m.direction for m in answer.media} == {"sendonly"}


@pytest.mark.parametrize("viewer", [*VIEWERS, "chromium_recvonly", "aiortc_recvonly"])
@pytest.mark.parametrize("publisher", [*PUBLISHERS, "chromium_h264", "chromium_vp8", "aiortc_sendrecv", "ffmpeg_whip"])
def test_every_viewer_hears_every_publisher_and_sees_it_when_it_has_the_codec(publisher: str, viewer: str) -> None:
    taken = {m.kind: m.codecs for m in read_subscriber_offer(offer_of(viewer)).media}
    for media in read_publisher_offer(offer_of(publisher)).media:
        found = match_codec(media.codecs[0], taken[media.kind])
        known = {codec.codec for codec in taken[media.kind]}
        assert (found is not None) == (media.codecs[0].codec in known)


def best(publisher: str, viewer: str) -> Codec | None:
    """What a viewer gets of the video that a publisher prefers to send after our answer."""
    (sent,) = (m.codecs[0] for m in read_publisher_offer(offer_of(publisher)).media if m.kind == "video")
    (taken,) = (m.codecs for m in read_subscriber_offer(offer_of(viewer)).media if m.kind == "video")
    return match_codec(sent, taken)


@pytest.mark.parametrize(
    ("publisher", "viewer", "payload_type"),
    [
        ("ffmpeg_whip_high", "safari_recvonly", 96),  # constrained high, the nearest
        ("ffmpeg_whip_high", "chromium_recvonly", 41),  # predictive high 4:4:4 holds high
        ("ffmpeg_whip_high", "firefox_recvonly", 126),  # all that it has in mode 1
        ("ffmpeg_whip_high", "gstreamer_recvonly", 102),
        ("obs_h264", "safari_recvonly", 98),
        ("obs_h264", "chromium_recvonly", 108),
        ("larix_whip", "libdatachannel_recvonly", 96),
        ("small_camera", "firefox_recvonly", 126),
    ],
)
def test_viewer_gets_h264_under_the_type_that_promises_most(publisher: str, viewer: str, payload_type: int) -> None:
    found = best(publisher, viewer)
    assert found is not None and found.payload_type == payload_type
