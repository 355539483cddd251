"""A published stream goes only to who can decode it, by the payload formats' own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import parse_sdp
from mediaserver.signalling.codec_match import Codec, h264_profile, match_codec, read_codecs


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


@pytest.mark.parametrize(("published", "offered"), [("4d001f", "42e01f"), ("64001f", "4d001f"), ("f4001f", "64001f")])
def test_lower_profile_can_not_take_the_stream(published: str, offered: str) -> None:
    assert match_codec(h264(published), [h264(offered)]) is None


def test_exact_profile_is_preferred_to_an_earlier_one() -> None:
    assert match_codec(h264("42e01f"), [h264("4d001f", payload_type=100), h264("42e01f", payload_type=101)]) == h264(
        "42e01f", payload_type=101
    )


def test_packetization_mode_1_takes_mode_0_but_not_the_reverse() -> None:
    assert match_codec(h264("42e01f", "0"), [h264("42e01f", "1")]) is not None
    assert match_codec(h264("42e01f", "1"), [h264("42e01f", "0")]) is None
    both = [h264("42e01f", "1", 100), h264("42e01f", "0", 101)]
    assert match_codec(h264("42e01f", "0"), both) == both[1]


def test_vp9_profiles_must_be_equal() -> None:
    offered = [video(VP9, 98, profile_id="0"), video(VP9, 100, profile_id="2")]
    assert match_codec(video(VP9), offered) == offered[0]
    assert match_codec(video(VP9, profile_id="2"), offered) == offered[1]
    assert match_codec(video(VP9, profile_id="1"), offered) is None


def test_av1_decoder_takes_lower_profiles() -> None:
    assert match_codec(video(AV1), [video(AV1, profile="1")]) is not None
    assert match_codec(video(AV1, profile="1"), [video(AV1)]) is None


def test_opus_goes_by_channels_and_other_codecs_by_name() -> None:
    opus = Codec(OPUS, "opus", 111, 48000, 2)
    assert match_codec(opus, [Codec(OPUS, "OPUS", 96, 48000, 2)]) is not None
    assert match_codec(opus, [Codec(OPUS, "opus", 96, 48000)]) is None
    assert match_codec(video(VP8), [video(VP9), video(VP8, 97)]) == video(VP8, 97)
    assert match_codec(video(VP8), []) is None


def test_equal_codecs_of_two_offers_are_one_object() -> None:
    sdp = (Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp" / "chromium_recvonly.sdp").read_bytes().decode()
    first, second = (read_codecs(parse_sdp(sdp).media[1], twcc=False) for _ in range(2))
    assert first == second and len(first) > 5
    assert all(one is other for one, other in zip(first, second, strict=True))
