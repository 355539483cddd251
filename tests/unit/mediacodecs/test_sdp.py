"""Session descriptions: real offers survive reading and writing, and bad lines are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediacodecs.sdp import (
    Candidate,
    IceFragment,
    SdpError,
    Simulcast,
    fmtp_parameters,
    parse_candidate,
    parse_fragment,
    parse_sdp,
    serialise,
    serialise_fragment,
)

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp"
OFFERS = sorted(CORPUS.glob("*.sdp"))


def read(name: str) -> str:
    return (CORPUS / f"{name}.sdp").read_bytes().decode()


def with_line(line: str) -> str:
    return f"v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n{line}\r\n"


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
def test_real_offers_are_the_same_after_writing_and_reading_again(path: Path) -> None:
    description = parse_sdp(path.read_bytes().decode())
    assert description.media
    assert parse_sdp(serialise(description)) == description


def test_chromium_simulcast_offer_is_read_in_full() -> None:
    description = parse_sdp(read("chromium_all_datachannel"))
    audio, video, data = description.media
    assert description.bundles == [("0", "1", "2")] and description.extmap_allow_mixed
    assert (video.kind, video.mid, video.direction, video.proto) == ("video", "1", "sendonly", "UDP/TLS/RTP/SAVPF")
    assert video.simulcast == Simulcast(send=(("q",), ("h",), ("f",)))
    assert list(video.rids) == ["q", "h", "f"]
    assert video.rtpmap[96].name == "VP8" and fmtp_parameters(video.fmtp[97]) == {"apt": "96"}
    assert set(video.feedback(96)) == {"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}
    assert video.rtcp_mux and video.rtcp_rsize
    assert audio.rtpmap[111].channels == 2
    assert [about.cname for about in audio.ssrcs.values()] == ["SZ9Suja9bkWR1ITq"]
    assert data.formats == ["webrtc-datachannel"]
    assert audio.candidates[2].tcptype == "active"


def test_fid_groups_join_a_stream_with_its_retransmissions() -> None:
    video = parse_sdp(read("ffmpeg_whip")).media[1]
    assert [(group.semantics, group.ssrcs) for group in video.ssrc_groups] == [("FID", (1333786157, 1333786158))]


def test_bare_newlines_and_unknown_attributes_are_tolerated() -> None:
    description = parse_sdp(
        "v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=shiny:new\nm=audio 9 RTP/SAVPF 111\na=shiny\n\n"
    )
    assert [media.formats for media in description.media] == [["111"]]


def test_feedback_for_every_format_holds_for_each() -> None:
    media = parse_sdp(with_line("a=rtcp-fb:* nack pli")).media[0]
    assert media.feedback(96) == ["nack pli"]


@pytest.mark.parametrize(
    "line",
    [
        "a=setup:maybe",
        "a=ice-ufrag:abc",
        "a=ice-pwd:short",
        "a=mid:two words",
        "a=mid:\x00",
        "a=mid:\ud800",
        "a=mid:" + "x" * 5000,
        "m=video 99999 UDP/TLS/RTP/SAVPF 96",
        "m=video 9",
        "m=video 9 UDP/TLS/RTP/SAVPF 9\x016",
        "z",
        "!=0",
    ],
)
def test_line_without_which_the_session_would_be_wrong_is_named_in_one_sentence(line: str) -> None:
    with pytest.raises(SdpError) as caught:
        parse_sdp(with_line(line))
    message = str(caught.value)
    assert message.startswith("Line 3, `") and message.endswith(".") and len(message) < 250
    assert message.isprintable()
    message.encode()


@pytest.mark.parametrize(
    "line",
    [
        "a=rtpmap:96",
        "a=rtpmap:128 VP8/90000",
        "a=rtpmap:96 VP8",
        "a=rtpmap:9_6 VP8/90000",
        "a=rtpmap:٩٦ VP8/90000",
        "a=fmtp:96",
        "a=rtcp-fb:96",
        "a=extmap:0x1 urn:x",
        "a=extmap:1/sideways urn:x",
        "a=ssrc:4294967296 cname:x",
        "a=ssrc:-1 mslabel:x",
        "a=ssrc-group:FID 1 two",
        "a=rid:a b c",
        "a=rid:ä send",
        "a=simulcast:send a;;b",
        "a=simulcast: send rid=a;b",
        "a=simulcast:send a send b",
        "a=msid:",
        "a=ice-options:ä",
        "a=candidate:1 1 udp 1 127.0.0.1",
        "a=candidate:1 1 udp 1 127.0.0.1 70000 typ host",
        "a=fingerprint:sha-256 AA:BB",
        "a=fingerprint:sha-256 zz",
        "a=fingerprint:\x1b[31m\x07",
        "a=" + "x" * 5000,
        "a=x-vendor:\x02",
        "b=AS:\x07",
        "c=IN",
        "o=me",
        "s=\x01",
    ],
)
def test_line_that_nobody_needs_is_left_out_and_noted(line: str) -> None:
    description = parse_sdp(with_line("a=mid:before") + line + "\r\na=rtcp-mux\r\n")
    (note,) = description.skipped
    assert note.startswith("Line 4, `") and note.endswith(".") and len(note) < 250 and note.isprintable()
    without = parse_sdp(with_line("a=mid:before") + "a=rtcp-mux\r\n")
    assert description == without and without.skipped == []


def test_few_of_the_lines_left_out_are_noted() -> None:
    assert len(parse_sdp(with_line("a=fmtp:96\r\n" * 256)).skipped) == 4


def test_offer_of_nothing_but_broken_lines_is_refused_before_it_costs_much() -> None:
    with pytest.raises(SdpError, match=r"More than 256 lines can't be read. Line \d+, `a=fmtp:96`"):
        parse_sdp(with_line("a=fmtp:96\r\n" * 5000))


def test_rids_of_a_section_are_bounded() -> None:
    many = ";".join(f"r{k}" for k in range(66))
    assert parse_sdp(with_line(f"a=simulcast:send {many}")).media[0].simulcast is None


def test_broken_line_beside_a_good_one_takes_nothing_from_it() -> None:
    good, bad = "a=fingerprint:sha-256 " + ":".join(["ab"] * 32), "a=fingerprint:sha-256 AB"
    for lines in (f"{good}\r\n{bad}", f"{bad}\r\n{good}"):
        assert [f.value[:5] for f in parse_sdp(with_line(lines)).media[0].fingerprints] == ["AB:AB"]


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("ice2,trickle", ("ice2", "trickle")),
        ("trickle ice2", ("trickle", "ice2")),
        ("trickle, ice2 ,", ("trickle", "ice2")),
        ("", ()),
    ],
)
def test_ice_options_are_parted_by_blanks_or_commas(value: str, options: tuple[str, ...]) -> None:
    assert parse_sdp(with_line(f"a=ice-options:{value}")).media[0].ice_options == options


@pytest.mark.parametrize(
    ("value", "channels"), [("opus/48000/2", 2), ("opus/48000", None), ("opus/48000/x", None), ("opus/48000/2/1", 2)]
)
def test_channels_that_can_not_be_read_cost_no_codec(value: str, channels: int | None) -> None:
    rtpmap = parse_sdp(with_line(f"a=rtpmap:96 {value}")).media[0].rtpmap[96]
    assert (rtpmap.name, rtpmap.clock_rate, rtpmap.channels) == ("opus", 48000, channels)


def test_bundle_whose_mids_can_not_be_read_is_refused_and_other_groups_are_left() -> None:
    assert parse_sdp("v=0\r\na=group:\r\na=group:LS ä\r\n").bundles == []
    with pytest.raises(SdpError, match="Line 2, `a=group:BUNDLE ä`"):
        parse_sdp("v=0\r\na=group:BUNDLE ä\r\n")


def test_mids_need_not_be_tokens() -> None:
    description = parse_sdp("v=0\r\na=group:BUNDLE a/b (c)\r\nm=audio 9 RTP/SAVPF 0\r\na=mid:a/b\r\n")
    assert description.bundles == [("a/b", "(c)")] and description.media[0].mid == "a/b"


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n"])
def test_lines_end_in_any_way(end: str) -> None:
    text = read("obs_h264").replace("\r\n", end)
    assert parse_sdp(text) == parse_sdp(read("obs_h264"))


@pytest.mark.parametrize("end", ["\0", "\r\n\0", "\r\n\0\0\r\n"])
def test_marks_of_files_and_ends_of_strings_are_no_lines(end: str) -> None:
    text = read("obs_h264").rstrip()
    description = parse_sdp("\ufeff" + text + end)
    assert description == parse_sdp(text) and description.skipped == []


def test_setup_is_read_in_any_case_and_a_section_without_formats_is_kept() -> None:
    description = parse_sdp("v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF\r\na=setup:ActPass\r\n")
    assert description.media[0].formats == [] and description.media[0].setup == "actpass"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("hello", "Line 1"),
        ("o=- 1 1 IN IP4 0.0.0.0\r\nv=0\r\n", "starts with `v=0`"),
        ("v=0\r\n" + "a=x\r\n" * 20_000, "lines"),
        ("v=0\r\n" + "a=xxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n" * 9_999, "characters"),
        ("v=0\r\n" + "\r" * 20_000, "lines"),
        ("v=0\r\n" + "m=audio 9 RTP/SAVPF 0\r\n" * 65, "64 media sections"),
        ("v=0\r\nm=audio 9 RTP/SAVPF" + " 0" * 257 + "\r\n", "256 formats"),
    ],
)
def test_size_is_bounded(text: str, says: str) -> None:
    with pytest.raises(SdpError, match=says):
        parse_sdp(text)


def test_mdns_candidate_has_no_ip() -> None:
    candidate = parse_candidate("candidate:1 1 udp 2113937151 4f1f2a-aa.local 53000 typ host generation 0")
    assert candidate.ip is None and candidate.port == 53000


def test_address_with_a_scope_is_no_ip() -> None:
    assert parse_candidate("1 1 udp 5 fe80::1%eth0 9 typ host").ip is None


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_literal_candidate_has_its_ip(address: str) -> None:
    assert parse_candidate(f"a=candidate:1 1 UDP 5 {address} 9 typ host") == Candidate(
        "1", 1, "udp", 5, address, 9, "host"
    )
    assert parse_candidate(f"1 1 UDP 5 {address} 9 typ host").ip == address


def test_fragment_of_the_rfc_is_read() -> None:
    fragment = parse_fragment(
        "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n"
        "a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2\r\n"
        "a=end-of-candidates\r\n"
    )
    assert (fragment.ufrag, fragment.pwd, fragment.mid) == ("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1", "0")
    assert [(c.ip, c.port) for c in fragment.candidates] == [("192.0.2.1", 61764), ("198.51.100.2", 61765)]
    assert fragment.end_of_candidates


def test_fragment_with_two_credentials_is_refused() -> None:
    with pytest.raises(SdpError, match="several values of ice-ufrag"):
        parse_fragment("m=audio 9 A/B 0\r\na=ice-ufrag:aaaa\r\nm=video 9 A/B 0\r\na=ice-ufrag:bbbb\r\n")


def test_candidates_that_can_not_be_read_cost_no_fragment() -> None:
    fragment = parse_fragment(
        "a=ice-ufrag:EsAw\r\na=candidate:1 1 udp x\r\na=candidate:1 1 udp 5 192.0.2.1 9 typ host\r\n"
    )
    assert fragment.ufrag == "EsAw" and [c.ip for c in fragment.candidates] == ["192.0.2.1"]


def test_empty_fragment_says_nothing() -> None:
    assert parse_fragment("") == IceFragment()


def test_fragment_is_the_same_after_writing_and_reading_again() -> None:
    fragment = IceFragment("abcd", "p" * 22, [Candidate("1", 1, "udp", 7, "::1", 7882, "host")], True, "0")
    assert parse_fragment(serialise_fragment(fragment, ice_lite=True)) == fragment
