"""What publishers send is prepared before anybody joins: by media profile, with its layers and its sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.run.reels import RIDS, Reels, layers_of
from loadtest.scenario.schema import Video
from mediacodecs.frame import OPUS, VP8
from tests.unit.loadtest.run.scenarios import SYNTHETIC, scenario_of

SMALL = {"codec": "vp8", "width": 160, "height": 90, "bitrate": 100}


def prepared(media: dict[str, Any], *used: str) -> tuple[Reels, list[str]]:
    publishers = [{"name": f"group{k}", "media": name} for k, name in enumerate(used)]
    reels, told = Reels(scenario_of("reels", "http://127.0.0.1:7880", media=media, publishers=publishers)), list[str]()

    def goes_on(name: str) -> bool:
        told.append(name)
        return name != "the-end"

    reels.prepare(goes_on)
    return reels, told


def test_only_what_somebody_sends_is_made_and_each_once() -> None:
    unused = {"video": {"codec": "vp8", "pcap": "/nonexistent"}}
    reels, told = prepared({"a": SYNTHETIC, "b": {"audio": {}}, "unused": unused}, "a", "b", "a")
    assert told == ["a", "b"] and reels.audio("a") is None and reels.video("b") == []
    with pytest.raises(KeyError):
        reels.video("unused")


def test_nothing_is_encoded_any_more_when_the_run_is_to_end() -> None:
    reels, told = prepared({"a": SYNTHETIC, "the-end": SYNTHETIC, "b": SYNTHETIC}, "a", "the-end", "b")
    assert told == ["a", "the-end"] and len(reels.video("a")) == 1
    with pytest.raises(KeyError):
        reels.video("the-end")


def test_synthetic_video_has_one_reel_without_a_rid() -> None:
    reels, _ = prepared({"a": SYNTHETIC}, "a")
    ((rid, reel),) = reels.video("a")
    assert rid == "" and reel.row.synthetic and reel.row.codec == VP8
    assert [len(payload) for payload in reel.payloads(1)] == [500, 500, 501, 501]


def test_simulcast_has_three_from_low_to_high() -> None:
    reels, _ = prepared({"a": {"video": SMALL | {"width": 320, "height": 180, "layers": 3}}}, "a")
    layers = reels.video("a")
    assert [rid for rid, _ in layers] == list(RIDS) == ["l", "m", "h"]
    assert [int(reel.row.width) for _, reel in layers] == [80, 160, 320]


def test_sound_is_encoded_at_its_rate() -> None:
    reels, _ = prepared({"a": {"audio": {"bitrate": 24}}}, "a")
    reel = reels.audio("a")
    assert reel is not None and reel.row.codec == OPUS and not reel.row.synthetic
    assert 12 < len(reel.bytes) * 8 / 1000 / reel.seconds < 36


def test_keyframes_come_at_their_interval() -> None:
    ((_, reel),) = layers_of(Video.model_validate(SMALL | {"keyframe_interval": 2.0}))
    assert [k for k, row in enumerate(reel.frame_rows) if row.keyframe] == [0, 50, 100, 150]


def test_a_capture_file_that_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "not.pcap"
    file.write_bytes(b"hello, this is no capture")
    with pytest.raises(ValueError, match="is no pcap or pcapng file"):
        layers_of(Video(pcap=str(file)))
    with pytest.raises(ValueError, match="/nonexistent.pcap"):
        layers_of(Video(pcap="/nonexistent.pcap"))
