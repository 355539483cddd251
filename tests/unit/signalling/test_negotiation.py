"""Offers of real clients are answered as WHIP and WHEP ask, and what can't be served is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediacodecs import extensions
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import MediaDescription, SessionDescription, Simulcast, fmtp_parameters, parse_sdp
from mediaserver.signalling.codec_match import MAX_CODECS
from mediaserver.signalling.negotiation import (
    Encoding,
    LocalTrack,
    LocalTransport,
    NegotiationError,
    answer_publisher,
    answer_subscriber,
    read_publisher_offer,
    read_subscriber_offer,
)

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp"
FINGERPRINT = ":".join(["AB"] * 32)
LOCAL = LocalTransport("localufrag", "p" * 24, FINGERPRINT, [("192.0.2.7", 7882), ("2001:db8::7", 7882)])


def offer_of(name: str) -> str:
    return (CORPUS / f"{name}.sdp").read_bytes().decode()


def published_text(sdp: str) -> SessionDescription:
    return parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL))


def published(name: str) -> SessionDescription:
    return published_text(offer_of(name))


def watched(sdp: str) -> SessionDescription:
    offer = read_subscriber_offer(sdp)
    tracks = [LocalTrack(m.mid, 10 + m.index, 20 + m.index, "cname", "stream", m.kind) for m in offer.media]
    return parse_sdp(answer_subscriber(offer, LOCAL, tracks))


def refusal(sdp: str) -> NegotiationError:
    with pytest.raises(NegotiationError) as caught:
        read_publisher_offer(sdp)
    return caught.value


def encodings_named(media: MediaDescription) -> list[str]:
    return [media.rtpmap[int(payload_type)].name for payload_type in media.formats]


@pytest.mark.parametrize(
    ("name", "codec", "count"), [("vp8", VP8, 1), ("vp9", VP9, 2), ("h264", H264, 6), ("av1", AV1, 1)]
)
def test_every_profile_of_a_codec_is_kept_with_its_retransmissions(name: str, codec: int, count: int) -> None:
    audio, video = read_publisher_offer(offer_of(f"chromium_{name}")).media
    assert [c.codec for c in audio.codecs] == [OPUS]
    assert [c.codec for c in video.codecs] == [codec] * count
    assert all(c.rtx_payload_type is not None for c in video.codecs)


def test_red_and_fec_are_declined() -> None:
    audio, video = published("chromium_vp8").media
    assert encodings_named(audio) == ["opus"]
    assert encodings_named(video) == ["VP8", "rtx"]
    assert [int(f) for f in video.formats] == [96, 97]


def test_h264_that_every_decoder_takes_stands_first_in_the_answer_to_a_publisher() -> None:
    video = published("chromium_h264").media[1]
    found = [fmtp_parameters(video.fmtp[int(f)]) for f in video.formats if video.rtpmap[int(f)].name == "H264"]
    profiles = ["42e01f", "42001f", "4d001f"]
    assert [p["profile-level-id"] for p in found] == profiles * 2
    assert [p["packetization-mode"] for p in found] == ["1"] * 3 + ["0"] * 3
    assert encodings_named(video) == ["H264", "rtx"] * 6


def test_h264_keeps_its_places_among_other_codecs() -> None:
    offer = offer_of("larix_whip").replace("98 99 100 101 127", "98 99 102 100 101")
    video = read_publisher_offer(offer.replace("a=rtpmap:127 red", "a=rtpmap:102 VP8")).media[1]
    assert [c.payload_type for c in video.codecs] == [100, 102, 98]


def test_only_feedback_that_we_take_part_in_is_kept() -> None:
    video = published("chromium_vp8").media[1]
    assert video.feedback(96) == ["transport-cc", "ccm fir", "nack", "nack pli"]
    assert published("aiortc_sendrecv").media[1].feedback(97) == ["nack", "nack pli"]


def test_simulcast_is_accepted_as_mirrored() -> None:
    offer = read_publisher_offer(offer_of("chromium_vp8_simulcast"))
    assert offer.media[1].encodings == [Encoding(rid="q"), Encoding(rid="h"), Encoding(rid="f")]
    video = parse_sdp(answer_publisher(offer, LOCAL)).media[1]
    assert video.simulcast == Simulcast(recv=(("q",), ("h",), ("f",)))
    assert [(rid.id, rid.direction) for rid in video.rids.values()] == [("q", "recv"), ("h", "recv"), ("f", "recv")]


def test_paused_and_alternative_rids_are_read() -> None:
    sdp = offer_of("chromium_vp8_simulcast").replace("send q;h;f", "send ~q,h;nothing,f;h")
    assert [e.rid for e in read_publisher_offer(sdp).media[1].encodings] == ["q", "f", "h"]


def test_rid_of_a_codec_that_is_not_taken_is_no_layer() -> None:
    """RFC 8851, section 6.3: of its payload types one has to be there."""
    offered = offer_of("chromium_vp8_simulcast")
    for types, rids in (("pt=96", ["q", "h", "f"]), ("pt=99,96", ["q", "h", "f"]), ("pt=99", ["q", "f"])):
        sdp = offered.replace("a=rid:h send", f"a=rid:h send {types};max-width=640")
        assert [e.rid for e in read_publisher_offer(sdp).media[1].encodings] == rids


def test_bundle_without_mids_is_passed_over() -> None:
    sdp = offer_of("chromium_vp8_simulcast").replace("a=group:BUNDLE", "a=group:BUNDLE\r\na=group:BUNDLE", 1)
    assert parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL)).bundles == [("0", "1")]


def test_section_outside_the_bundle_is_named() -> None:
    sdp = offer_of("chromium_vp8_simulcast").replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0")
    with pytest.raises(NegotiationError, match=r"Section 2 of the offer \(video, mid 1\) is not in the bundle"):
        read_publisher_offer(sdp)


def test_publishers_are_asked_for_upright_pictures_and_viewers_are_not() -> None:
    """Not every viewer can turn them, and a publisher that may not signal the rotation turns them itself."""
    offer = read_publisher_offer(offer_of("chromium_vp8"))
    assert extensions.VIDEO_ORIENTATION not in offer.media[1].extensions.values()
    assert "video-orientation" not in answer_publisher(offer, LOCAL)
    viewer = read_subscriber_offer(offer_of("chromium_recvonly"))
    assert extensions.VIDEO_ORIENTATION in viewer.media[1].extensions


def test_codecs_of_a_section_are_bounded() -> None:
    sdp = offer_of("chromium_recvonly")
    types = [n for n in range(128) if not 64 <= n <= 95]
    lines = "".join(f"a=rtpmap:{n} VP8/90000\r\n" for n in types)
    at = sdp.index("m=video")
    head, rest = sdp[at:].split("\r\n", 1)
    sdp = sdp[:at] + " ".join([*head.split()[:3], *map(str, types)]) + "\r\n" + rest + lines
    assert len(read_subscriber_offer(sdp).media[1].codecs) <= MAX_CODECS


def test_simulcast_without_the_rid_extension_is_declined() -> None:
    sdp = offer_of("chromium_vp8_simulcast").replace("sdes:rtp-stream-id", "sdes:other")
    offer = read_publisher_offer(sdp)
    assert offer.media[1].encodings == [Encoding()]
    assert parse_sdp(answer_publisher(offer, LOCAL)).media[1].simulcast is None


def test_ssrc_and_retransmissions_are_read_without_rids() -> None:
    audio, video = read_publisher_offer(offer_of("ffmpeg_whip")).media
    assert audio.encodings == [Encoding(ssrc=1333786156)]
    assert video.encodings == [Encoding(ssrc=1333786157, rtx_ssrc=1333786158)]
    assert (video.msid, video.cname) == ("FFmpeg video", "FFmpeg")


def test_old_simulcast_by_ssrc_group_is_read() -> None:
    groups = "a=ssrc-group:SIM 1 2\r\na=ssrc-group:FID 1 3\r\na=ssrc-group:FID 2 4\r\n"
    sdp = offer_of("ffmpeg_whip").replace("a=ssrc-group:FID 1333786157 1333786158\r\n", groups)
    assert read_publisher_offer(sdp).media[1].encodings == [
        Encoding(ssrc=1, rtx_ssrc=3),
        Encoding(ssrc=2, rtx_ssrc=4),
    ]


def test_extensions_are_those_that_we_know() -> None:
    offer = read_publisher_offer(offer_of("chromium_all_datachannel"))
    audio, video = offer.media
    assert audio.extensions == {
        1: extensions.AUDIO_LEVEL,
        2: extensions.ABS_SEND_TIME,
        3: extensions.TWCC,
        4: extensions.MID,
    }
    assert video.extensions[10] == extensions.RID and video.extensions[12] == extensions.DEPENDENCY_DESCRIPTOR
    answered = parse_sdp(answer_publisher(offer, LOCAL))
    assert {ext.id for ext in answered.media[1].extmap} == set(video.extensions)
    assert not {8, 14} & set(video.extensions)
    assert answered.extmap_allow_mixed and video.allow_mixed


def test_extension_directions_are_turned_round() -> None:
    sdp = offer_of("chromium_vp8").replace("a=extmap:3 ", "a=extmap:3/sendonly ")
    answer = parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL))
    assert [ext.direction for ext in answer.media[1].extmap if ext.id == 3] == ["recvonly"]


def test_extension_whose_id_means_another_one_in_the_bundle_is_dropped() -> None:
    sdp = offer_of("aiortc_sendrecv").replace("a=extmap:3 http", "a=extmap:2 http")
    audio, video = read_publisher_offer(sdp).media
    assert audio.extensions == {1: extensions.MID, 2: extensions.AUDIO_LEVEL}
    assert video.extensions == {1: extensions.MID}


def test_two_byte_ids_need_mixed_extensions() -> None:
    sdp = offer_of("chromium_vp8").replace("a=extmap:3 ", "a=extmap:20 ")
    assert extensions.TWCC in read_publisher_offer(sdp).media[1].extensions.values()
    plain = read_publisher_offer(sdp.replace("a=extmap-allow-mixed\r\n", "")).media[1]
    assert extensions.TWCC not in plain.extensions.values()
    assert "transport-cc" not in plain.codecs[0].feedback


def test_answer_to_a_publisher_is_lite_bundled_and_recvonly() -> None:
    answer = published("chromium_all_datachannel")
    audio, video, data = answer.media
    assert answer.ice_lite and "trickle" in answer.ice_options and answer.bundles == [("0", "1")]
    for section in (audio, video):
        assert (section.direction, section.setup, section.port) == ("recvonly", "passive", 7882)
        assert (section.ice_ufrag, section.ice_pwd) == ("localufrag", "p" * 24)
        assert section.fingerprints[0].value == FINGERPRINT
        assert section.rtcp_mux and section.rtcp_rsize
    assert (data.port, data.direction, data.formats) == (0, "inactive", ["webrtc-datachannel"])
    assert [(c.ip, c.port) for c in audio.candidates] == LOCAL.candidates and audio.end_of_candidates
    assert audio.candidates[0].priority > audio.candidates[1].priority


def test_we_are_the_dtls_client_of_who_insists_on_being_server() -> None:
    assert [section.setup for section in published("ffmpeg_whip").media] == ["active", "active"]


def test_opus_parameters_are_mirrored_and_announced_stereo_accepted() -> None:
    assert published("chromium_vp8").media[0].fmtp[111] == "minptime=10;useinbandfec=1"
    sdp = offer_of("chromium_vp8").replace("useinbandfec=1", "useinbandfec=1;sprop-stereo=1;usedtx=1")
    answer = answer_publisher(read_publisher_offer(sdp), LOCAL)
    assert parse_sdp(answer).media[0].fmtp[111] == "minptime=10;useinbandfec=1;usedtx=1;stereo=1"


def test_parameter_sets_of_the_publisher_are_read_but_not_mirrored() -> None:
    sdp = offer_of("ffmpeg_whip").replace("42000d", "42000d;sprop-parameter-sets=Z0IADQ==,aM4G4g==")
    offer = read_publisher_offer(sdp)
    assert offer.media[1].codecs[0].fmtp["sprop-parameter-sets"] == "Z0IADQ==,aM4G4g=="
    assert "sprop" not in answer_publisher(offer, LOCAL)


def test_parameters_with_a_tab_are_not_mirrored() -> None:
    sdp = offer_of("obs_h264").replace("level-asymmetry-allowed=1", "level-asym\tmetry=1;x=\ty;max-fr=3\t0")
    assert published_text(sdp).media[1].fmtp[96] == "profile-level-id=42e01f;packetization-mode=1;x=y"


def test_transport_of_the_offer_is_read() -> None:
    offer = read_publisher_offer(offer_of("chromium_all_datachannel"))
    assert (offer.ice_ufrag, offer.ice_pwd) == ("w8ao", "R64SowlAHXLzWucHQLeGpMF5")
    assert offer.fingerprints[0].algorithm == "sha-256" and offer.setup == "actpass"
    assert offer.candidates == [("192.0.2.2", 34411), ("fd00::2", 57836)]


def test_names_among_the_candidates_are_ignored() -> None:
    sdp = offer_of("chromium_vp8_simulcast").replace("192.0.2.2", "7c3f0f5e.local")
    assert [address for address, _ in read_publisher_offer(sdp).candidates] == ["fd00::2"]


def test_transport_attributes_may_stand_at_session_level() -> None:
    lines = offer_of("ffmpeg_whip").split("\r\n")
    shared = [line for line in dict.fromkeys(lines) if line.startswith(("a=ice-", "a=fingerprint", "a=setup"))]
    media = [line for line in lines if line not in shared]
    offer = read_publisher_offer("\r\n".join(media[:7] + shared + media[7:]))
    assert (offer.ice_ufrag, offer.setup) == ("4dbcc709", "passive")


def test_single_section_needs_no_bundle_and_no_mid() -> None:
    text = offer_of("ffmpeg_whip")
    sdp = text[: text.index("m=video")].replace("a=group:BUNDLE 0 1\r\n", "").replace("a=mid:0\r\n", "")
    offer = read_publisher_offer(sdp)
    assert [m.mid for m in offer.media] == ["0"]
    answer = parse_sdp(answer_publisher(offer, LOCAL))
    assert answer.bundles == [] and answer.media[0].mid is None


@pytest.mark.parametrize(
    ("name", "old", "new", "status", "says"),
    [
        ("ffmpeg_whip", "v=0", "v=1", 400, "Line 1"),
        ("ffmpeg_whip", "a=mid:1", "a=mid:0", 400, "same a=mid"),
        ("ffmpeg_whip", "a=ice-pwd", "a=x-pwd", 400, "ICE credentials"),
        ("ffmpeg_whip", "a=fingerprint", "a=finger", 400, "fingerprint"),
        ("ffmpeg_whip", "a=group:BUNDLE 0 1\r\n", "", 422, "BUNDLE"),
        ("ffmpeg_whip", "a=group:BUNDLE 0 1", "a=group:BUNDLE 0", 422, "BUNDLE"),
        ("ffmpeg_whip", "a=rtcp-mux\r\n", "", 422, "rtcp-mux"),
        ("ffmpeg_whip", "a=setup:passive", "a=setup:holdconn", 422, "holdconn"),
        ("ffmpeg_whip", "t=0 0", "t=0 0\r\na=ice-lite", 422, "ICE-lite"),
        ("ffmpeg_whip", "a=sendonly", "a=recvonly", 422, "no sendonly"),
        ("ffmpeg_whip", "UDP/TLS/RTP/SAVPF", "RTP/SAVPX", 422, "RTP/SAVPX is no profile"),
        ("ffmpeg_whip", "m=video", "m=text", 422, "Section 2 of the offer (text, mid 1)"),
        ("ffmpeg_whip", "H264/90000", "H261/90000", 422, "Section 2 of the offer (video, mid 1)"),
        ("ffmpeg_whip", "H264/90000", "H261/90000", 422, "it offers H261."),
        ("ffmpeg_whip", "opus/48000/2", "PCMU/8000", 422, "Section 1 of the offer (audio, mid 0)"),
        ("ffmpeg_whip", "a=rtpmap:106 H264/90000", "a=rtpmap:106 H264", 422, "Not understood: Line 32, `a=rtpmap:106"),
        (
            "ffmpeg_whip",
            "a=fingerprint:sha-256 60",
            "a=fingerprint:sha-256 6",
            400,
            "Not understood: Line 12, `a=fi",
        ),
        ("ffmpeg_whip", "106", "111", 422, "payload type 111 means another codec in an earlier section"),
        ("chromium_recvonly", "a=mid:7", "", 422, "no sendonly"),
    ],
)
def test_offer_that_can_not_be_served_is_refused(name: str, old: str, new: str, status: int, says: str) -> None:
    error = refusal(offer_of(name).replace(old, new))
    assert error.status == status and says in str(error)


def test_publisher_is_served_whole_or_not_at_all() -> None:
    error = refusal(offer_of("obs_hevc"))
    assert error.status == 422 and "(video, mid 1)" in str(error) and "H265" in str(error)


def test_what_is_no_media_or_does_not_flow_is_refused_alone() -> None:
    for change in ("a=inactive", "a=recvonly"):
        sdp = offer_of("obs_hevc")
        at = sdp.index("m=video")
        sdp = sdp[:at] + sdp[at:].replace("a=sendonly", change)
        answer = parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL))
        assert [m.port for m in answer.media] == [7882, 0] and answer.bundles == [("0",)]
    assert [m.port for m in published("chromium_all_datachannel").media] == [7882, 7882, 0]


def test_viewer_gets_what_there_is_for_it() -> None:
    sdp = offer_of("libdatachannel_recvonly").replace("H264", "H261")
    answer = watched(sdp)
    assert [m.port for m in answer.media] == [0, 7882] and answer.bundles == [("audio",)]
    with pytest.raises(NegotiationError, match="Section 1.*takes VP8, VP9, H.264 and AV1: it offers H261"):
        read_subscriber_offer(sdp.replace("OPUS", "speex"))


def test_section_with_port_0_is_taken_only_if_it_waits_for_the_bundle() -> None:
    refused = offer_of("ffmpeg_whip").replace("m=video 9", "m=video 0")
    assert [m.kind for m in read_publisher_offer(refused).media] == ["audio"]
    waiting = refused.replace("a=mid:1", "a=mid:1\r\na=bundle-only")
    assert [m.kind for m in read_publisher_offer(waiting).media] == ["audio", "video"]


def test_what_a_bundle_shares_is_read_from_its_tagged_section() -> None:
    offer = read_publisher_offer(offer_of("str0m_bundle_only"))
    assert [m.kind for m in offer.media] == ["audio", "video"]
    assert (offer.ice_ufrag, offer.setup, offer.reduced_size) == ("Hq4N", "actpass", True)
    assert all(m.allow_mixed for m in offer.media)
    answer = parse_sdp(answer_publisher(offer, LOCAL))
    assert [m.port for m in answer.media] == [7882, 7882] and answer.bundles == [("ann", "sue")]
    assert all(m.rtcp_mux and m.rtcp_rsize and m.ice_ufrag for m in answer.media)


def test_tagged_section_speaks_for_sections_that_differ() -> None:
    text = offer_of("ffmpeg_whip")
    at = text.index("m=video")
    other = (
        text[at:].replace("4dbcc709", "other123").replace("setup:passive", "setup:active").replace(" 60:92", " 61:92")
    )
    for bundle, ufrag, setup, first in (("0 1", "4dbcc709", "passive", "60"), ("1 0", "other123", "active", "61")):
        offer = read_publisher_offer((text[:at] + other).replace("BUNDLE 0 1", f"BUNDLE {bundle}"))
        assert (offer.ice_ufrag, offer.setup, offer.fingerprints[0].value[:2]) == (ufrag, setup, first)


def test_tagged_section_is_none_that_the_offerer_refuses() -> None:
    sdp = (
        offer_of("ffmpeg_whip").replace("m=audio 9", "m=audio 0").replace("a=ice-ufrag:4dbcc709", "a=ice-ufrag:old1", 1)
    )
    assert read_publisher_offer(sdp).ice_ufrag == "4dbcc709"


def test_session_speaks_before_sections_that_are_not_tagged() -> None:
    sdp = offer_of("str0m_bundle_only").replace("a=ice-ufrag:Hq4N\r\na=ice-pwd:x9Vb2cT7mLw0RzYq5KdJ3sFa\r\n", "")
    shared = "a=ice-ufrag:sess\r\na=ice-pwd:x9Vb2cT7mLw0RzYq5KdJ3sFa\r\n"
    stray = shared.replace("sess", "stray")
    sdp = sdp.replace("m=audio", f"{shared}m=audio").replace("a=mid:sue\r\n", f"a=mid:sue\r\n{stray}")
    assert read_publisher_offer(sdp).ice_ufrag == "sess"
    assert read_publisher_offer(sdp.replace(shared, "")).ice_ufrag == "stray", "better than none"


@pytest.mark.parametrize(
    "proto",
    [
        "RTP/AVP",
        "RTP/AVPF",
        "RTP/SAVP",
        "RTP/SAVPF",
        "TCP/DTLS/RTP/SAVP",
        "TCP/DTLS/RTP/SAVPF",
        "UDP/TLS/RTP/SAVP",
        "UDP/TLS/RTP/SAVPF",
        "udp/tls/rtp/savpf",
        "Rtp/Savpf",
    ],
)
def test_every_profile_of_webrtc_is_taken_and_echoed(proto: str) -> None:
    sdp = offer_of("ffmpeg_whip").replace("UDP/TLS/RTP/SAVPF", proto)
    answer = parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL))
    assert [(m.proto, m.port) for m in answer.media] == [(proto, 7882)] * 2


def test_reduced_size_is_agreed_only_with_who_offered_it_for_all() -> None:
    plain = offer_of("chromium_vp8").replace("a=rtcp-rsize\r\n", "")
    half = offer_of("chromium_vp8").replace("a=rtcp-rsize\r\n", "", 1)
    for sdp, agreed in ((offer_of("chromium_vp8"), True), (plain, False), (half, False)):
        offer = read_publisher_offer(sdp)
        assert offer.reduced_size is agreed
        assert [m.rtcp_rsize for m in parse_sdp(answer_publisher(offer, LOCAL)).media] == [agreed] * 2
    assert not read_subscriber_offer(offer_of("libdatachannel_recvonly")).reduced_size
    assert [m.rtcp_rsize for m in watched(offer_of("safari_recvonly")).media] == [True] * 2


def test_nack_is_answered_only_where_a_resend_will_come() -> None:
    video, audio = watched(offer_of("gstreamer_recvonly")).media
    assert video.feedback(102) == ["nack pli"] and audio.feedback(111) == []
    video, audio = watched(offer_of("safari_recvonly")).media
    assert "nack" in video.feedback(100) and "nack" not in audio.feedback(111)
    sound = offer_of("obs_h264").replace("a=rtpmap:111", "a=rtcp-fb:111 nack\r\na=rtpmap:111")
    audio, video = parse_sdp(answer_publisher(read_publisher_offer(sound), LOCAL)).media
    assert video.feedback(96) == ["nack", "nack pli"], "a publisher can resend without RTX"
    assert audio.feedback(111) == [], "but nobody asks for sound without it"


def test_ssrcs_beside_rids_are_noted_for_packets_without_rid() -> None:
    video = read_publisher_offer(offer_of("firefox_simulcast")).media[1]
    assert video.encodings == [
        Encoding("f", 1100220033, 1100220034),
        Encoding("h", 2200330044, 2200330045),
        Encoding("q", 3300440055, 3300440056),
    ]


def test_ssrcs_beside_rids_are_left_where_they_are_not_one_for_each() -> None:
    for line in ("a=ssrc-group:FID 3300440055 3300440056\r\n", "a=rid:h send\r\n"):
        video = read_publisher_offer(offer_of("firefox_simulcast").replace(line, "")).media[1]
        assert {e.ssrc for e in video.encodings} == {None}
    plain = offer_of("firefox_simulcast")
    for ssrc in (1100220034, 2200330045, 3300440056):
        plain = plain.replace(f" {ssrc}\r\n", "\r\n").replace(f"a=ssrc:{ssrc} ", "a=x:")
    encodings = read_publisher_offer(plain).media[1].encodings
    assert [(e.ssrc, e.rtx_ssrc) for e in encodings] == [(s, None) for s in (1100220033, 2200330044, 3300440055)]


def test_payload_type_that_means_another_codec_in_the_bundle_is_dropped() -> None:
    text = offer_of("chromium_recvonly")
    copy = text[text.index("m=video") :].replace("a=mid:1", "a=mid:2")
    swapped = copy.replace("96 VP8", "96 AV2").replace("98 VP9", "98 VP8").replace("apt=100", "apt=98")
    offer = read_subscriber_offer(text.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + swapped)
    first, second = ({c.payload_type: c for c in m.codecs} for m in offer.media[1:])
    assert {96, 98} <= set(first) and not {96, 98} & set(second)
    assert second[102].rtx_payload_type == 103 and first[100].rtx_payload_type == 101
    moved = copy.replace("a=fmtp:101 apt=100", "a=fmtp:101 apt=102").replace("a=fmtp:103 apt=102", "a=fmtp:103 apt=0")
    offer = read_subscriber_offer(text.replace("BUNDLE 0 1", "BUNDLE 0 1 2") + moved)
    assert {c.payload_type: c.rtx_payload_type for c in offer.media[2].codecs}[102] is None


def test_mid_that_no_packet_can_bear_is_left_out_of_packets() -> None:
    sdp = (
        offer_of("chromium_vp8")
        .replace("BUNDLE 0 1", "BUNDLE 0 a-mid-of-seventeen")
        .replace("a=mid:1", "a=mid:a-mid-of-seventeen")
    )
    audio, video = read_publisher_offer(sdp).media
    assert (audio.wire_mid, video.mid, video.wire_mid) == ("0", "a-mid-of-seventeen", "")
    assert extensions.MID in audio.extensions.values() and extensions.MID not in video.extensions.values()


def test_refused_section_may_repeat_a_mid_and_needs_no_format() -> None:
    sdp = offer_of("ffmpeg_whip") + "m=video 0 UDP/TLS/RTP/SAVPF\r\na=mid:1\r\na=inactive\r\n"
    answer = parse_sdp(answer_publisher(read_publisher_offer(sdp), LOCAL))
    assert [(m.port, m.formats[:1]) for m in answer.media] == [(7882, ["111"]), (7882, ["106"]), (0, ["0"])]


def test_rtcp_mux_may_be_said_once_for_the_bundle() -> None:
    assert len(read_publisher_offer(offer_of("ffmpeg_whip").replace("a=rtcp-mux\r\n", "", 1)).media) == 2


def test_subscriber_gets_every_codec_in_the_order_offered() -> None:
    offer = read_subscriber_offer(offer_of("chromium_recvonly"))
    audio, video = offer.media
    assert {c.codec for c in video.codecs} == {VP8, VP9, H264, AV1}
    offered = [f for f in offer.description.media[1].formats if int(f) in {c.payload_type for c in video.codecs}]
    assert [str(c.payload_type) for c in video.codecs] == offered
    assert all(c.rtx_payload_type is not None for c in video.codecs)
    assert video.extensions[extensions.MID] and extensions.RID not in video.extensions
    assert video.allow_mixed


@pytest.mark.parametrize("name", ["chromium_recvonly", "aiortc_recvonly", "aiortc_sendrecv"])
def test_answer_to_a_subscriber_names_its_sources(name: str) -> None:
    audio, video = watched(offer_of(name)).media
    assert (audio.direction, video.direction) == ("sendonly", "sendonly")
    assert (audio.msids, video.msids) == (["stream audio"], ["stream video"])
    assert {about.cname for about in [*audio.ssrcs.values(), *video.ssrcs.values()]} == {"cname"}
    assert list(audio.ssrcs) == [10] and not audio.ssrc_groups
    assert [(g.semantics, g.ssrcs) for g in video.ssrc_groups] == [("FID", (11, 21))]
    assert list(video.ssrcs) == [11, 21]


def test_section_without_a_track_is_inactive_but_kept() -> None:
    offer = read_subscriber_offer(offer_of("chromium_recvonly"))
    answer = parse_sdp(answer_subscriber(offer, LOCAL, [LocalTrack("0", 1, None, "c", "s", "t")]))
    assert [(m.direction, m.port) for m in answer.media] == [("sendonly", 7882), ("inactive", 7882)]


def test_sender_alone_can_not_watch() -> None:
    with pytest.raises(NegotiationError, match="no recvonly"):
        read_subscriber_offer(offer_of("chromium_vp8"))


def test_viewer_s_section_without_a_payload_type_of_its_own_is_refused_alone() -> None:
    sdp = offer_of("ffmpeg_whip").replace("a=sendonly", "a=recvonly").replace("a=rtpmap:111 opus", "a=rtpmap:106 opus")
    sdp = sdp.replace("SAVPF 111", "SAVPF 106")
    with pytest.raises(NegotiationError, match="means another codec in an earlier section"):
        read_publisher_offer(sdp.replace("a=recvonly", "a=sendonly"))
    assert [media.kind for media in read_subscriber_offer(sdp).media] == ["audio"]
