"""Every kind of mistake in a configuration file is told with its line, its key, what was found and what is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import Config, ConfigError, load_config
from config.schema import Http

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"WEIR_AUTH__KEYS__test": SECRET}


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """The problems of a file with this text, without the folder's name."""
    file = tmp_path / "node.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, KEY | environ)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def loaded(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    return load_config(file, KEY | environ)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Config.model_validate({"auth": {"keys": {"test": SECRET}}})


HTTP = f"a section with {', '.join(Http.model_fields)}"
LISTEN = "an IPv4 or IPv6 address to listen on"
REACH = "an IPv4 or IPv6 address that clients can reach"
NAME = "1 to 63 letters, digits, dots, dashes or underscores"
ICE_URL = "a URL such as stun:host:3478 or turns:host:443?transport=tcp"
BYTES = "a whole number from 65536 to 1073741824, a multiple of 4096"


@pytest.mark.parametrize(
    ("text", "line", "key", "found", "expected"),
    [
        ("http:\n  prot: 1", 2, "http.prot", "an unknown key", "a known key: did you mean port?"),
        ("log: {colour: red}", 1, "log.colour", "an unknown key", "one of level, format"),
        ("\nlag_max: 3", 2, "lag_max", "an unknown key", "a known key: did you mean late_join.lag_max?"),
        ('http:\n  port: "80"', 2, "http.port", '"80"', "a whole number from 1 to 65535"),
        ("media:\n  gso: 1", 2, "media.gso", "1", "true or false"),
        ("limits: {handshakes: true}", 1, "limits.handshakes", "true", "a whole number from 1 to 65536"),
        ("limits: {ice_timeout: 31}", 1, "limits.ice_timeout", "31", "a number from 1 to 30"),
        ("limits: {handshake_timeout: .nan}", 1, "limits.handshake_timeout", "nan", "a number above 0 up to 3600"),
        ("media:\n\n  workers: 65", 3, "media.workers", "65", "a whole number from 1 to 64"),
        ("http:", 1, "http", "nothing", HTTP),
        ("http: [1]", 1, "http", "a list of 1", HTTP),
        ("log: {level: loud}", 1, "log.level", '"loud"', "one of debug, info, warning, error"),
        ("node: {name: a b}", 1, "node.name", '"a b"', NAME),
        ("http: {host: example.org}", 1, "http.host", '"example.org"', LISTEN),
        ("media:\n  advertised:\n    - 1.2.3.4\n    - 0.0.0.0", 4, "media.advertised[1]", '"0.0.0.0"', REACH),
        (
            "http: {cors_origins: [example.org]}",
            1,
            "http.cors_origins[0]",
            '"example.org"',
            '"*" or an origin such as https://example.org, without a path',
        ),
        ("logs: {video: {packets: 1000}}", 1, "logs.video.packets", "1000", "a power of two from 64 to 65536"),
        ("logs:\n  audio:\n    bytes: 70000", 3, "logs.audio.bytes", "70000", BYTES),
        ("ice_servers:\n- username: a", 2, "ice_servers[0].urls", "nothing", f"a list of at least 1, each {ICE_URL}"),
        ("ice_servers:\n- urls: ['http://a']", 2, "ice_servers[0].urls[0]", '"http://a"', ICE_URL),
        ("http:\n  port: 1\n  port: 2", 3, "http.port", "the key twice (first in line 2)", "it once"),
        ("log: {level: !!binary aGk=}", 1, "log.level", "the tag tag:yaml.org,2002:binary", "a plain value"),
    ],
)
def test_a_mistake_is_told_with_line_and_key(
    tmp_path: Path, text: str, line: int, key: str, found: str, expected: str
) -> None:
    assert problems(tmp_path, text)[0] == f"node.yaml:{line}: {key}: found {found}; expected {expected}"


def test_what_is_no_mapping_of_names_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, "- 1") == ["node.yaml:1: found a list of 1; expected a mapping of keys to values"]
    assert problems(tmp_path, "? [a]\n: 1") == ["node.yaml:1: found a key that is no plain text; expected a key name"]


def test_broken_yaml_gives_line_and_column(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "http:\n  port: [1\nmedia: {}")
    assert only.startswith("node.yaml:3:6: found broken YAML: expected ',' or ']'")
    assert only.endswith("expected valid YAML")


def test_an_alias_is_refused_where_it_stands(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "node: &n {name: a}\nhttp: *n")
    assert only == "node.yaml:2:7: found broken YAML: an alias (quote what begins with *); expected valid YAML"


def test_endless_nesting_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "a: " + "[" * 20_000)
    assert only == "node.yaml: found broken YAML: values nested too deeply; expected valid YAML"


def test_bytes_that_are_no_text_are_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_bytes(b"node: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected valid YAML"):
        load_config(file, KEY)


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found no such file or directory; expected a readable YAML file"):
        load_config(tmp_path / "none.yaml", KEY)


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "http:\n  prot: 1\n  certificate: a.pem\nmedia:\n  workers: 2\n  cpus: [0]\n  host: '::1'\n"
        "limits:\n  rooms: 0\nlogs: {video: {count: x}}\n"
    )
    found = problems(tmp_path, text, WEIR_LOG__LEVEL="loud", WEIR_NONSENSE="1")
    places = [line.split(" found")[0] for line in found]
    assert places == [
        "node.yaml:1: http.private_key:",
        "node.yaml:2: http.prot:",
        "node.yaml:3: http.certificate:",
        "node.yaml:6: media.cpus:",
        "node.yaml:9: limits.rooms:",
        "node.yaml:10: logs.video.count:",
        "WEIR_LOG__LEVEL: log.level:",
        "WEIR_NONSENSE:",
    ]


def test_a_check_that_rests_on_a_wrong_value_stays_silent(tmp_path: Path) -> None:
    (only,) = problems(tmp_path, "media:\n  workers: 99\n  cpus: [0]")
    assert "media.workers" in only


def test_messages_hold_no_secret(tmp_path: Path) -> None:
    text = "auth: {keys: {short: hunter2, number: 1234567}}\nice_servers: [{urls: ['turn:a'], credential: 7654321}]"
    found = "\n".join(problems(tmp_path, text))
    assert "a secret of 7 characters" in found and "ice_servers[0].credential" in found
    assert not any(secret in found for secret in ("hunter2", "1234567", "7654321"))


def test_a_loaded_configuration_does_not_show_its_secrets(tmp_path: Path) -> None:
    assert SECRET not in repr(loaded(tmp_path, ""))


def test_a_part_of_a_log_size_keeps_the_defaults_of_its_kind(tmp_path: Path) -> None:
    audio = loaded(tmp_path, "logs: {audio: {count: 7}}").logs.audio
    assert (audio.count, audio.packets, audio.bytes) == (7, 512, 128 * 1024)
