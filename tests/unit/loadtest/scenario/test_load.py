"""Scenarios are read strictly: each kind of mistake is told with its line and key, all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from config.errors import ConfigError
from loadtest.scenario import Scenario, as_text, load_scenario, scenario_schema
from loadtest.scenario.schema import Loss, Mute, Video

GOOD = """\
name: good
rooms: 2
duration: 10
target: {command: [weir, serve]}
media:
  camera: {video: {codec: vp8, layers: 3}, audio: {}}
  voice: {audio: {bitrate: 24}}
networks:
  mobile: {down: {loss: {share: 0.02, burst: 3}, delay: 40}}
publishers:
  - {name: hosts, count: 2, media: camera}
  - {name: voices, media: voice, rooms: first}
subscribers:
  - {name: audience, count: 5, of: hosts, network: mobile, layer: m, decode: 1}
churn: {leaves: 1, joins: 1}
actions:
  - {at: 1, do: kill, group: audience, count: 5}
  - {at: 2, do: mute, group: hosts, kind: audio, for: 5}
  - {at: 3, do: layer, group: audience, count: 10, layer: l}
  - {at: 4, do: restart-target}
expect: {latency.p99: "<= 50 ms", audience/loss.after: "<= 1 %"}
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    file = tmp_path / "some.yaml"
    file.write_text(text)
    return load_scenario(file, overrides)


def problems(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def changed(old: str, new: str) -> tuple[str, int]:
    """GOOD with one piece replaced, and the line of that piece."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new), GOOD[: GOOD.index(old)].count("\n") + 1


def test_a_good_file_loads(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD)
    mute = scenario.actions[1]
    assert scenario.name == "good" and isinstance(mute, Mute) and mute.lasting == 5
    assert scenario.size_of(scenario.subscribers[0]) == 10 and scenario.rooms_of(scenario.publishers[1]) == 1
    assert scenario.sessions() == 2 * 2 + 1 + 2 * 5 * 2


def test_a_scenario_without_a_name_has_the_files(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD.replace("name: good\n", "")).name == "some"


@pytest.mark.parametrize(
    ("old", "new", "key", "found", "expected"),
    [
        ("rooms: 2", "rooms: two", "rooms", '"two"', "a whole number from 1 to 100000"),
        ("rooms: 2", "room: 2", "room", "an unknown key", "a known key: did you mean rooms?"),
        ("duration: 10", "duration: 0", "duration", "0", "a number above 0 up to 86400"),
        ("codec: vp8", "codec: h265", "media.camera.video.codec", '"h265"', "one of vp8, vp9, h264, av1, synthetic"),
        ("layers: 3", "layers: 2", "media.camera.video.layers", "2", "one of 1, 3"),
        (
            "voice: {audio: {bitrate: 24}}",
            "voice: {}",
            "media.voice",
            "neither video nor audio",
            "one of them at least",
        ),
        ("  voice: {", "  my voice: {", "media.my voice", '"my voice"', "a name: a letter, then up to 39 letters"),
        (
            "layers: 3",
            "layers: 3, packets_per_frame: 3",
            "media.camera.video.packets_per_frame",
            "3",
            "no such key here: only a synthetic track has it",
        ),
        ("share: 0.02", "share: 2", "networks.mobile.down.loss.share", "2", "a number from 0 to 0.95 or nothing"),
        ("share: 0.02, burst: 3", "burst: 3", "networks.mobile.down.loss.share", "nothing", "a share from 0 to 0.95"),
        ("share: 0.02, burst: 3", "p: 0.1", "networks.mobile.down.loss.r", "nothing", "a number, because p and r go"),
        ("share: 0.02,", "share: 0.9,", "networks.mobile.down.loss.burst", "3", "at least 9 for a share of 0.9"),
        (
            "share: 0.02,",
            "p: 0.1, r: 1,",
            "networks.mobile.down.loss",
            "burst, p, r",
            "either share and burst, or p, r, good and bad",
        ),
        ("delay: 40", "queue: 40", "networks.mobile.down.queue", "40", "rate beside it, or no such key"),
        ("media: camera", "media: cam", "publishers[0].media", '"cam"', "one of camera, voice"),
        ("network: mobile", "network: wifi", "subscribers[0].network", '"wifi"', "one of mobile"),
        ("of: hosts", "of: host", "subscribers[0].of", '"host"', "all, first or the name of a publishers group: hosts"),
        (
            "of: hosts",
            "of: voices",
            "subscribers[0].of",
            '"voices"',
            "publishers to watch in the rooms after the first",
        ),
        ("decode: 1", "decode: 11", "subscribers[0].decode", "11", "at most the group's 10 clients"),
        ("name: audience", "name: hosts", "subscribers[0].name", '"hosts"', "a different name for each group"),
        ("name: audience", "name: all", "subscribers[0].name", '"all"', "a name that `of` has no use for"),
        ("leaves: 1", "leaves: 9", "churn.leaves", "9", "at most 2 a second: more and all 10 subscribers are gone"),
        ("do: kill", "do: kil", "actions[0].do", '"kil"', "one of kill, layer, mute, restart-target"),
        ("at: 1,", "at: 11,", "actions[0].at", "11", "at most the duration, 10 s"),
        ("count: 5}", "count: 11}", "actions[0].count", "11", "at most the group's 10 clients"),
        ("group: hosts", "group: audience", "actions[1].group", '"audience"', "one of hosts, voices"),
        ("hosts, kind: audio", "voices, kind: video", "actions[1].kind", '"video"', "a track that voices sends"),
        (", kind: audio", "", "actions[1].kind", "nothing", "one of audio, video"),
        ("layer: l", "layer: x", "actions[2].layer", '"x"', "one of l, m, h"),
        (
            "layer: l",
            "layer: l, kind: audio",
            "actions[2].kind",
            "an unknown key",
            "one of at, group, count, do, layer",
        ),
        ("latency.p99", "latency.p98", "expect.latency.p98", "an unknown figure", "a figure: did you mean latency.p9"),
        (
            "audience/loss",
            "crowd/loss",
            "expect.crowd/loss.after",
            'the group "crowd"',
            "one of hosts, voices, audience",
        ),
        ("50 ms", "50 s", "expect.latency.p99", '"<= 50 s"', 'a limit in ms, such as "<= 50 ms"'),
        ('"<= 50 ms"', "50", "expect.latency.p99", "50", "text"),
        (
            "command: [weir, serve]",
            "command: [a], pid: 1",
            "target.pid",
            "1",
            "nothing, because target.command starts the server",
        ),
        (
            "command: [weir, serve]",
            "command: [a], token_key: a",
            "target.token_secret",
            "nothing",
            "text, because target.token_key is set",
        ),
    ],
)
def test_a_mistake_is_told_with_line_and_key(
    tmp_path: Path, old: str, new: str, key: str, found: str, expected: str
) -> None:
    text, line = changed(old, new)
    lines = problems(tmp_path, text)
    assert any(one.startswith(f"some.yaml:{line}: {key}: found {found}; expected {expected}") for one in lines), lines


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7880", "ftp://a", "http://", "http://u@a", "http://a:99999", "http://a?b", "http://a b"]
)
def test_a_target_is_an_http_address(tmp_path: Path, url: str) -> None:
    (only,) = problems(tmp_path, GOOD, f"target.url={url}")
    assert "target.url: found " in only and only.endswith(
        "expected an http:// or https:// URL with a host, such as http://127.0.0.1:7880"
    )


@pytest.mark.parametrize(
    "path", ["whip/{room}/{identity}", "/whip/{room}", "//a/{room}/{identity}", "/{room}/{identity}/{x}"]
)
def test_a_path_has_the_names_that_tell_clients_apart(tmp_path: Path, path: str) -> None:
    (only,) = problems(tmp_path, GOOD, f"target.publish_path='{path}'")
    assert only.endswith("expected a path with {room} and {identity}, such as /whip/{room}/{identity}")


def test_only_a_server_that_the_tool_starts_is_restarted(tmp_path: Path) -> None:
    text, _ = changed("target: {command: [weir, serve]}\n", "")
    (only,) = problems(tmp_path, text)
    assert "actions[3].do: found " in only and "target.command" in only


def test_layers_are_asked_for_only_where_they_are_sent(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("layers: 3", "layers: 1"))
    assert [one.split(": found")[0] for one in found] == [
        "some.yaml:14: subscribers[0].layer",
        "some.yaml:19: actions[2].layer",
    ]
    assert found[0].endswith("no layer, because none of hosts sends 3 layers")


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("rooms: 2", "rooms: 0").replace("codec: vp8", "codec: vp7").replace("burst: 3", "burst: 0")
    text = text.replace("latency.p99", "latency.p").replace("do: kill", "do: kiss")
    places = [one.split(" found")[0] for one in problems(tmp_path, text)]
    assert places == [
        "some.yaml:2: rooms:",
        "some.yaml:6: media.camera.video.codec:",
        "some.yaml:9: networks.mobile.down.loss.burst:",
        "some.yaml:17: actions[0].do:",
        "some.yaml:21: expect.latency.p:",
    ]


def test_a_scenario_without_clients_is_refused(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "name: empty\n")
    assert only.endswith("publishers: found no group; expected a group in publishers or subscribers")


def test_what_is_no_scenario_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="meting: found no such file and no shipped scenario; expected a scenario file"
    ):
        load_scenario("meting")


def test_a_capture_file_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    text = "media: {clip: {video: {codec: vp8, pcap: a.pcap}}}\npublishers: [{name: a, media: clip}]\n"
    (only,) = problems(tmp_path, text)
    assert only.endswith('a.pcap" (no such file or directory); expected a readable capture file')
    (tmp_path / "a.pcap").write_bytes(b"")
    video = load(tmp_path, text).media["clip"].video
    assert isinstance(video, Video) and video.pcap == str(tmp_path / "a.pcap")


def test_a_capture_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    text = "media: {clip: {video: {codec: vp8, pcap: a.pcap}}}\npublishers: [{name: a, media: clip}]\n"
    os.mkfifo(tmp_path / "a.pcap")
    (only,) = problems(tmp_path, text)
    assert only.endswith('a.pcap" (not a regular file); expected a readable capture file')
    (tmp_path / "a.pcap").unlink()
    (tmp_path / "a.pcap").mkdir()
    (only,) = problems(tmp_path, text)
    assert only.endswith('a.pcap" (is a directory); expected a readable capture file')


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    scenario = load(
        tmp_path,
        GOOD,
        "rooms=3",
        "target.url=http://127.0.0.1:1234",
        "publishers.hosts.count=4",
        "subscribers[0].count=7",
        "media.voice.video.codec=synthetic",
        "networks.mobile.down.loss.share=0.5",
        "actions.0.count=2",
        "expect.latency.p99=< 5 ms",
        "name=short",
    )
    assert (scenario.rooms, scenario.target.url, scenario.name) == (3, "http://127.0.0.1:1234", "short")
    assert scenario.publishers[0].count == 4 and scenario.subscribers[0].count == 7
    assert scenario.target.command == ["weir", "serve"], "the keys beside it stay"
    assert scenario.media["voice"].video == Video(codec="synthetic")
    assert scenario.expect["latency.p99"] == "< 5 ms"
    assert load(tmp_path, GOOD, "expect={}", "actions=[]").expect == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rooms", "--set rooms: found no key=value; expected such as rooms=2 or target.url=http://127.0.0.1:7880"),
        ("=2", "--set : found no key=value; expected such as rooms=2"),
        ("room=2", "--set room: room: found an unknown key; expected a known key: did you mean rooms?"),
        ("rooms=x", '--set rooms: rooms: found "x"; expected a whole number from 1 to 100000'),
        ("rooms=[", "--set rooms: rooms: found broken YAML; expected a YAML value"),
        ("rooms.a=1", "--set rooms.a: rooms.a: found an unknown key; expected "),
        ("publishers.guests.count=1", '--set publishers.guests.count: publishers: found "guests"; expected a number '),
        (
            "publishers.7.count=1",
            '--set publishers.7.count: publishers: found "7"; expected a number below 2 or hosts or',
        ),
        (
            "publishers.hosts.cuont=1",
            "--set publishers.hosts.cuont: publishers[0].cuont: found an unknown key; expected",
        ),
        (
            "expect.latncy.p99=< 1 ms",
            "--set expect.latncy.p99: expect.latncy.p99: found an unknown figure; expected a ",
        ),
        ("target.url=nonsense", '--set target.url: target.url: found "nonsense"; expected an http:// or https:// URL'),
    ],
)
def test_a_wrong_override_is_told_with_its_key(tmp_path: Path, override: str, message: str) -> None:
    found = problems(tmp_path, GOOD, override)
    assert found[0].startswith(message), found


def test_messages_and_texts_hold_no_secret(tmp_path: Path) -> None:
    assert "1234567" not in "".join(problems(tmp_path, GOOD, "target.token=[1234567]", "target.token_secret=abc7654"))
    scenario = load(tmp_path, GOOD, "target.token_key=me", "target.token_secret=hunter2")
    assert "hunter2" not in as_text(scenario) + repr(scenario) and "token_key: me" in as_text(scenario)


def test_the_text_of_a_scenario_is_the_scenario_as_it_was_run(tmp_path: Path) -> None:
    scenario = load(tmp_path, GOOD, "rooms=3")
    assert load(tmp_path, as_text(scenario)) == scenario


def test_loss_has_one_model_whichever_way_it_is_written() -> None:
    assert Loss(share=0.02, burst=4).model().share == pytest.approx(0.02)
    assert Loss(share=0.02, burst=4).model().r == 0.25
    assert Loss(share=0.3).model().share == pytest.approx(0.3), "by itself: nothing remembers the packet before"
    assert sum(Loss(share=0.3).model()[:2]) == pytest.approx(1)
    assert tuple(Loss(p=0.1, r=0.4, bad=0.5).model()) == (0.1, 0.4, 0.0, 0.5)
    assert Loss(p=0.1, r=0.4, bad=0.5).model().share == pytest.approx(0.1)


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    jsonschema.Draft202012Validator.check_schema(scenario_schema())
    validator = jsonschema.Draft202012Validator(scenario_schema())
    validator.validate(yaml.safe_load(GOOD))
    for wrong in ({"room": 1}, {"rooms": "1"}, {"actions": [{"do": "kill", "at": 1}]}, {"media": {"a": {"vidoe": {}}}}):
        assert not validator.is_valid(wrong), wrong


def test_every_key_has_a_description() -> None:
    schema = scenario_schema()
    for definition in [schema, *schema["$defs"].values()]:
        for name, field in definition["properties"].items():
            section = schema["$defs"].get(field.get("$ref", "").rsplit("/", 1)[-1], {})
            assert name == "do" or field.get("description", section.get("description")), name
