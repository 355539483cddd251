"""Offers as the node and aiortc read them, and answers of several servers as we do."""

from __future__ import annotations

import contextlib
import random

import aiortc.sdp
import pytest

from loadtest.transport.offers import (
    AUDIO,
    VIDEO,
    VIDEO_CODECS,
    Features,
    Local,
    PublishSpec,
    Ssrcs,
    publish_offer,
    read_answer,
    watch_offer,
)
from mediacodecs.extensions import ABS_CAPTURE_TIME, ABS_SEND_TIME, AUDIO_LEVEL, MID, REPAIRED_RID, RID, TWCC
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import SdpError, parse_sdp
from mediaserver.signalling.offers import read_publisher_offer, read_subscriber_offer

LOCAL = Local("abcd", "a-password-of-24-letters", ":".join(["AB"] * 32), "127.0.0.1", 5000)
SSRCS = Ssrcs(audio=11, video=(21,), rtx=(22,), cname="somebody")

ANSWER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE 0 1
a=fingerprint:sha-256 {fingerprint}
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=ice-ufrag:remote
a=ice-pwd:a-password-of-the-server
a=setup:passive
a=sendonly
a=candidate:1 1 udp 100 10.0.0.7 4000 typ host
a=candidate:2 1 udp 200 127.0.0.1 4001 typ host
a=candidate:3 1 tcp 900 127.0.0.1 4002 typ host tcptype passive
a=candidate:4 2 udp 800 127.0.0.1 4003 typ host
a=candidate:5 1 udp 700 0b1c.local 4004 typ host
a=rtpmap:111 opus/48000/2
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=ssrc:100 cname:x
m=video 9 UDP/TLS/RTP/SAVPF 98 99 96 97 120
a=mid:1
a=sendonly
a=rtpmap:98 VP9/90000
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:120 flexfec-03/90000
a=rtcp-fb:98 nack pli
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:7 urn:something:else
a=ssrc-group:FID 200 201
a=ssrc:200 cname:x
a=ssrc:201 cname:x
""".format(fingerprint=":".join(["CD"] * 32))


@pytest.mark.parametrize("name", VIDEO_CODECS)
def test_the_node_reads_what_a_publisher_offers(name: str) -> None:
    offer = read_publisher_offer(publish_offer(LOCAL, PublishSpec(name, True, (), SSRCS)))
    audio, video = offer.media
    assert [codec.codec for codec in audio.codecs] == [OPUS]
    assert [codec.codec for codec in video.codecs] == [VIDEO_CODECS[name]]
    assert video.codecs[0].rtx_payload_type == video.codecs[0].payload_type + 1
    assert video.codecs[0].feedback == {"nack", "nack pli", "ccm fir", "transport-cc"}
    assert set(video.extensions.values()) >= {MID, ABS_SEND_TIME, TWCC, ABS_CAPTURE_TIME}
    assert AUDIO_LEVEL in audio.extensions.values()
    assert [(e.rid, e.ssrc, e.rtx_ssrc) for e in video.encodings] == [(None, 21, 22)]


def test_the_node_reads_three_layers_by_their_rids() -> None:
    spec = PublishSpec("vp8", False, ("l", "m", "h"), Ssrcs.random(3))
    (video,) = read_publisher_offer(publish_offer(LOCAL, spec)).media
    assert [encoding.rid for encoding in video.encodings] == ["l", "m", "h"]
    assert {RID, REPAIRED_RID} <= set(video.extensions.values())


def test_the_node_reads_what_a_viewer_offers() -> None:
    audio, video = read_subscriber_offer(watch_offer(LOCAL)).media
    assert [codec.codec for codec in audio.codecs] == [OPUS]
    assert {codec.codec for codec in video.codecs} == {VP8, VP9, H264, AV1}
    assert all(codec.rtx_payload_type for codec in video.codecs)


def test_sound_or_picture_can_be_left_out() -> None:
    only_audio = parse_sdp(publish_offer(LOCAL, PublishSpec(None, True, (), SSRCS)))
    assert [m.kind for m in only_audio.media] == [AUDIO] and only_audio.bundles == [("0",)]
    only_video = parse_sdp(watch_offer(LOCAL, audio=False))
    assert [m.kind for m in only_video.media] == [VIDEO] and only_video.bundles == [("1",)]


def test_aiortc_reads_the_offers() -> None:
    for text in (publish_offer(LOCAL, PublishSpec()), watch_offer(LOCAL)):
        description = aiortc.sdp.SessionDescription.parse(text)
        assert [m.kind for m in description.media] == [AUDIO, VIDEO]
        assert description.media[1].ice.usernameFragment == "abcd"
        assert description.media[1].ice_candidates[0].port == 5000


def test_a_publisher_that_could_not_send_is_refused() -> None:
    with pytest.raises(ValueError, match="video or sound"):
        PublishSpec(None, False)
    with pytest.raises(ValueError, match="vp8, vp9, h264, av1, not 'h265'"):
        PublishSpec("h265")
    with pytest.raises(ValueError, match="1 video SSRCs for 2 layers"):
        PublishSpec("vp8", rids=("l", "h"))


def test_ssrcs_differ() -> None:
    ssrcs = Ssrcs.random(3)
    every = {ssrcs.audio, *ssrcs.video, *ssrcs.rtx}
    assert len(every) == 7 and all(0 < ssrc < 1 << 32 for ssrc in every)


def test_an_answer_is_read() -> None:
    remote = read_answer(ANSWER)
    assert (remote.ufrag, remote.password, remote.lite) == ("remote", "a-password-of-the-server", True)
    assert remote.setup == "passive" and remote.fingerprints == (("sha-256", ":".join(["CD"] * 32)),)
    assert remote.candidates == (("127.0.0.1", 4001), ("10.0.0.7", 4000))
    audio, video = remote.section(AUDIO), remote.section(VIDEO)
    assert audio is not None and video is not None
    assert audio.extensions == {AUDIO_LEVEL: 1} and audio.codecs == {111: OPUS} and audio.rtx_type is None
    assert video.codecs == {98: VP9, 96: VP8} and video.repairs == {99: 98, 97: 96}
    assert (video.payload_type, video.codec, video.rtx_type) == (98, VP9, 99)
    assert video.extensions == {TWCC: 3}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a=ice-ufrag:remote\n", "", "no a=ice-ufrag"),
        ("a=fingerprint", "a=nothing", "no a=fingerprint"),
        ("a=setup:passive", "a=setup:actpass", "setup:actpass"),
        (" udp ", " tcp ", "no UDP candidate"),
        ("a=candidate", "a=nothing", "no UDP candidate"),
        ("audio 9", "audio 0", "the answer has no a=ice"),
        ("VP8/90000", "H265/90000", "does not accept vp8"),
        ("opus/48000/2", "PCMU/8000", "does not accept Opus"),
    ],
)
def test_what_an_answer_lacks_is_said(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_answer(ANSWER.replace(old, new), PublishSpec())


def test_an_answer_that_refuses_is_none() -> None:
    with pytest.raises(ValueError, match="refuses every"):
        read_answer(ANSWER.replace("audio 9", "audio 0").replace("video 9", "video 0"))
    with pytest.raises(ValueError, match="no codec"):
        read_answer(ANSWER.replace("opus", "x").replace("VP8", "x").replace("VP9", "x"))
    with pytest.raises(ValueError, match="layers none, not l, h"):
        read_answer(ANSWER, PublishSpec("vp8", rids=("l", "h"), ssrcs=Ssrcs.random(2)))


@pytest.mark.parametrize("text", ["", "<html>", "v=0\r\nnonsense", "v=0\r\nm=audio"])
def test_nonsense_is_no_answer(text: str) -> None:
    with pytest.raises((SdpError, ValueError)):
        read_answer(text)


def test_an_offer_can_ask_for_less_than_chromium_does() -> None:
    spec = PublishSpec("vp8", ssrcs=SSRCS)
    published = read_publisher_offer(publish_offer(LOCAL, spec, Features(extensions=frozenset({MID, TWCC}))))
    assert [set(media.extensions.values()) for media in published.media] == [{MID, TWCC}, {MID, TWCC}]
    watched = read_subscriber_offer(watch_offer(LOCAL, features=Features(("vp8",), frozenset({MID}))))
    assert [set(media.extensions) for media in watched.media] == [{MID}, {MID}]
    assert [codec.name.lower() for codec in watched.media[1].codecs] == ["vp8"]


def test_a_mangled_answer_raises_nothing_but_value_errors() -> None:
    source = random.Random(11)
    lines = ANSWER.splitlines()
    for _ in range(3000):
        mangled = list(lines)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(mangled))
            cut = source.randrange(len(mangled[at]) + 1)
            noise = "".join(source.choices("0123456789 :=/;-a*~\xe9", k=source.randint(0, 6)))
            mangled[at] = source.choice((mangled[at][:cut] + noise, noise + mangled[at][cut:], source.choice(lines)))
        with contextlib.suppress(ValueError):
            read_answer("\r\n".join(mangled), PublishSpec())
