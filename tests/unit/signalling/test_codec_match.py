"""A published stream goes only to who can decode it, by the payload formats' own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import parse_sdp
from mediaserver.signalling.codec_match import (
    Codec,
    describe_codec,
    h264_profile,
    is_fall_back,
    match_codec,
    prefer_widely_understood,
    read_codecs,
)


def h264(profile_level_id: str | None, mode: str = "1", payload_type: int = 96) -> Codec:
    fmtp = {"packetization-mode": mode} | ({"profile-level-id": profile_level_id} if profile_level_id else {})
    return Codec(H264, "H264", payload_type, 90000, fmtp=fmtp)


def video(codec: int, payload_type: int = 96, **fmtp: str) -> Codec:
    return Codec(codec, "x", payload_type, 90000, fmtp={key.replace("_", "-"): value for key, value in fmtp.items()})


@pytest.mark.parametrize(
    ("profile_level_id", "profile"),
    [
        ("42e01f", "constrained-baseline"),
        ("42C02A", "constrained-baseline"),
        ("4d801f", "constrained-baseline"),
        ("42001f", "baseline"),
        ("4d001f", "main"),
        ("4d401f", "main"),
        ("64001f", "high"),
        ("640c1f", "constrained-high"),
        ("f4001f", "predictive-high-4:4:4"),
        ("64081f", "high"),
        ("6e101f", "high-10"),
        ("53e01f", "53e0"),
        (None, "constrained-baseline"),
        ("nonsense", "constrained-baseline"),
    ],
)
def test_profile_is_read_from_profile_level_id(profile_level_id: str | None, profile: str) -> None:
    assert h264_profile(h264(profile_level_id)) == profile


@pytest.mark.parametrize(
    ("published", "offered"),
    [("42e01f", "42e034"), ("42e01f", "42001f"), ("42e01f", "4d001f"), ("42e01f", "64001f"), ("4d001f", "640028")],
)
def test_higher_profile_and_any_level_take_the_stream(published: str, offered: str) -> None:
    assert match_codec(h264(published), [h264(offered)]) == h264(offered)


def test_browser_with_only_constrained_baseline_takes_what_encoders_call_baseline() -> None:
    assert match_codec(h264("42000d"), [h264("42e01f")]) is not None


@pytest.mark.parametrize(
    ("published", "offered"), [("64001f", "f4001f"), ("6e001f", "f4001f"), ("7a001f", "f4001f"), ("6e001f", "7a001f")]
)
def test_decoder_of_much_takes_all_below(published: str, offered: str) -> None:
    assert not is_fall_back(h264(published), h264(offered)) and match_codec(h264(published), [h264(offered)])


@pytest.mark.parametrize(
    ("published", "offered"),
    [
        ("4d001f", "42e01f"),
        ("64001f", "4d001f"),
        ("640028", "42e01f"),
        ("640c1f", "42001f"),
        ("64081f", "42e01f"),
        ("4d001f", "640c1f"),
    ],
)
def test_lower_profile_is_tried_when_there_is_nothing_else(published: str, offered: str) -> None:
    assert match_codec(h264(published), [h264(offered)]) == h264(offered)
    assert is_fall_back(h264(published), h264(offered))
    better = h264(published, payload_type=97)
    assert match_codec(h264(published), [h264(offered), better]) == better and not is_fall_back(h264(published), better)


def test_most_demanding_of_the_lower_profiles_is_tried() -> None:
    offered = [h264("42e01f"), h264("4d001f", payload_type=97), h264("42001f", payload_type=98)]
    assert match_codec(h264("640028"), offered) == offered[1]


@pytest.mark.parametrize(
    ("published", "offered"), [("f4001f", "64001f"), ("6e001f", "640028"), ("7a001f", "42e01f"), ("58001f", "42e01f")]
)
def test_streams_that_usual_decoders_can_not_take_go_to_none_of_them(published: str, offered: str) -> None:
    assert match_codec(h264(published), [h264(offered)]) is None


def test_exact_profile_is_preferred_to_an_earlier_one() -> None:
    assert match_codec(h264("42e01f"), [h264("4d001f", payload_type=100), h264("42e01f", payload_type=101)]) == h264(
        "42e01f", payload_type=101
    )


def test_packetization_mode_1_takes_mode_0_and_the_reverse_is_tried_when_there_is_nothing_else() -> None:
    one, zero = h264("42e01f", "1", 100), h264("42e01f", "0", 101)
    assert match_codec(zero, [one]) == one and not is_fall_back(zero, one)
    assert match_codec(one, [zero]) == zero and is_fall_back(one, zero)
    assert match_codec(zero, [one, zero]) == zero and match_codec(one, [zero, one]) == one


def test_right_profile_in_the_wrong_mode_is_better_than_the_reverse() -> None:
    offered = [h264("42e01f", "1", 100), h264("64001f", "0", 101)]
    assert match_codec(h264("64001f"), offered) == offered[1]
    assert match_codec(h264("64001f"), offered[:1]) == offered[0]


def test_interleaved_mode_goes_to_its_like_only() -> None:
    assert match_codec(h264("42e01f", "2"), [h264("42e01f", "1"), h264("42e01f", "0")]) is None
    assert match_codec(h264("42e01f", "2"), [h264("42e01f", "2")]) is not None
    assert match_codec(h264("42e01f", "1"), [h264("42e01f", "2")]) is None


def test_h264_without_parameters_is_taken_for_what_all_can_decode() -> None:
    bare = Codec(H264, "H264", 102, 90000)
    assert match_codec(h264("42e01f"), [bare]) == bare and match_codec(h264("64001f"), [bare]) == bare
    assert match_codec(bare, [h264("42e01f")]) == h264("42e01f") and not is_fall_back(bare, h264("42e01f"))
    assert match_codec(bare, [bare]) == bare and not is_fall_back(bare, bare)


def test_least_demanding_h264_comes_first_and_other_codecs_keep_their_places() -> None:
    high, mode_0 = h264("64001f", "1", 96), h264("42e01f", "0", 97)
    vp8, base, interleaved = video(VP8, 98), h264("42e01f", "1", 99), h264("42e01f", "2", 100)
    assert prefer_widely_understood([interleaved, vp8, high, mode_0, base]) == [base, vp8, high, mode_0, interleaved]


@pytest.mark.parametrize(
    ("codec", "says"),
    [
        (h264("640028"), "H.264 High in packetization mode 1"),
        (h264("42e01f", "0"), "H.264 Constrained Baseline in packetization mode 0"),
        (Codec(H264, "h264", 96, 90000), "H.264 Constrained Baseline in packetization mode 0"),
        (h264("f4001f"), "H.264 Predictive High 4:4:4 in packetization mode 1"),
        (video(VP9, profile_id="2"), "VP9 profile 2"),
        (video(AV1), "AV1 profile 0"),
        (video(VP8), "VP8"),
        (Codec(OPUS, "OPUS", 111, 48000), "Opus"),
    ],
)
def test_codec_is_named_with_profile_and_mode(codec: Codec, says: str) -> None:
    assert describe_codec(codec) == says


def test_vp9_profiles_must_be_equal() -> None:
    offered = [video(VP9, 98, profile_id="0"), video(VP9, 100, profile_id="2")]
    assert match_codec(video(VP9), offered) == offered[0]
    assert match_codec(video(VP9, profile_id="2"), offered) == offered[1]
    assert match_codec(video(VP9, profile_id="1"), offered) is None


def test_av1_decoder_takes_lower_profiles() -> None:
    assert match_codec(video(AV1), [video(AV1, profile="1")]) is not None
    assert match_codec(video(AV1, profile="1"), [video(AV1)]) is None


@pytest.mark.parametrize("published", [None, 1, 2])
@pytest.mark.parametrize("offered", [None, 1, 2])
def test_channels_of_opus_are_not_compared(published: int | None, offered: int | None) -> None:
    taken = Codec(OPUS, "OPUS", 96, 48000, offered)
    assert match_codec(Codec(OPUS, "opus", 111, 48000, published), [taken]) == taken


def test_other_codecs_go_by_name() -> None:
    assert match_codec(video(VP8), [video(VP9), video(VP8, 97)]) == video(VP8, 97)
    assert match_codec(video(VP8), []) is None


def test_equal_codecs_of_two_offers_are_one_object() -> None:
    sdp = (Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp" / "chromium_recvonly.sdp").read_bytes().decode()
    first, second = (read_codecs(parse_sdp(sdp).media[1], twcc=False) for _ in range(2))
    assert first == second and len(first) > 5
    assert all(one is other for one, other in zip(first, second, strict=True))
