"""What load clients offer, to the node's own reader; what the node answers, to theirs."""

from __future__ import annotations

import pytest

from loadtest.offers import RTX_TYPE, VP8_TYPE, Local, Sources, offer, read_answer
from mediaserver.signalling.answers import LocalTransport, answer_publisher, answer_subscriber
from mediaserver.signalling.offers import read_publisher_offer, read_subscriber_offer

LOCAL = Local("abcd", "a" * 22, "AA:" * 31 + "AA", "127.0.0.1", 4321)
SOURCES = Sources(audio=101, video=102, rtx=103, cname="somebody")
NODE = LocalTransport("node", "n" * 22, "BB:" * 31 + "BB", [("10.0.0.1", 7882), ("127.0.0.1", 7882)])


def test_the_node_reads_a_publishers_sources_and_codecs() -> None:
    read = read_publisher_offer(offer(LOCAL, SOURCES))
    audio, video = read.media
    assert [(e.ssrc, e.rtx_ssrc) for e in audio.encodings + video.encodings] == [(101, None), (102, 103)]
    assert (video.codecs[0].payload_type, video.codecs[0].rtx_payload_type) == (VP8_TYPE, RTX_TYPE)
    assert read.ice_ufrag == "abcd" and read.candidates == [("127.0.0.1", 4321)]


def test_the_node_reads_a_subscribers_offer() -> None:
    assert [media.kind for media in read_subscriber_offer(offer(LOCAL, None)).media] == ["audio", "video"]


def test_the_answers_transport_is_read_with_the_preferred_candidate() -> None:
    for text in (
        answer_publisher(read_publisher_offer(offer(LOCAL, SOURCES)), NODE),
        answer_subscriber(read_subscriber_offer(offer(LOCAL, None)), NODE, []),
    ):
        remote = read_answer(text, "127.0.0.1")
        assert (remote.ufrag, remote.password, remote.setup) == ("node", "n" * 22, "passive")
        assert remote.address == ("127.0.0.1", 7882)
        assert remote.fingerprints == (("sha-256", NODE.fingerprint),)


def test_an_answer_without_transport_is_refused() -> None:
    with pytest.raises(ValueError, match="candidate"):
        read_answer(offer(LOCAL, None).replace("a=candidate", "a=x-candidate"), "127.0.0.1")
    with pytest.raises(ValueError, match="every media section"):
        read_answer(offer(LOCAL, None).replace(" 4321 ", " 0 "), "127.0.0.1")
