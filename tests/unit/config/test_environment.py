"""Environment variables win over the file, and a variable that means nothing is a problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import Config, ConfigError, load_config

SECRET = "0123456789abcdef0123456789abcdef"


def load(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "node.yaml"
    file.write_text(text)
    return load_config(file, {"WEIR_AUTH__KEYS__test": SECRET} | environ)


def problem(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    (only,) = caught.value.problems
    return str(only)


def test_a_variable_wins_over_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "http: {port: 1}", WEIR_HTTP__PORT="8080").http.port == 8080


def test_a_variable_of_a_single_word_sets_a_key_at_the_top(tmp_path: Path) -> None:
    assert load(tmp_path, "", WEIR_SHUTDOWN_GRACE="2.5").shutdown_grace == 2.5


def test_values_are_yaml(tmp_path: Path) -> None:
    config = load(tmp_path, "", WEIR_MEDIA__ADVERTISED="[203.0.113.7, 203.0.113.8]", WEIR_LOG="{level: debug}")
    assert config.media.advertised == ["203.0.113.7", "203.0.113.8"] and config.log.level == "debug"


def test_names_of_keys_keep_their_case_and_secrets_need_no_quotes(tmp_path: Path) -> None:
    digits = "1" * 32
    assert load(tmp_path, "", WEIR_AUTH__KEYS__APIabc=digits).auth.keys == {"test": SECRET, "APIabc": digits}


def test_a_variable_repairs_a_wrong_value_in_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "media: {advertised: [nonsense]}", WEIR_MEDIA__ADVERTISED="[]").media.advertised == []


def test_an_unknown_variable_is_named_with_a_near_one(tmp_path: Path) -> None:
    assert problem(tmp_path, "", WEIR_HTTP__PROT="1") == (
        "WEIR_HTTP__PROT: found a variable that sets no known key; expected a known key: did you mean WEIR_HTTP__PORT?"
    )


def test_a_wrong_value_names_the_variable(tmp_path: Path) -> None:
    assert problem(tmp_path, "", WEIR_HTTP__PORT="many") == (
        'WEIR_HTTP__PORT: http.port: found "many"; expected a whole number from 1 to 65535'
    )
    assert problem(tmp_path, "", WEIR_MEDIA__CPUS="[0") == (
        "WEIR_MEDIA__CPUS: media.cpus: found broken YAML; expected a YAML value"
    )


def test_a_wrong_section_in_the_file_is_told_although_a_variable_reaches_into_it(tmp_path: Path) -> None:
    assert ":1: http: found 5; expected a section" in problem(tmp_path, "http: 5", WEIR_HTTP__PORT="1")


def test_variables_of_others_are_let_be(tmp_path: Path) -> None:
    others = {
        "WEIR_CACHE_DIR": "/tmp",
        "WEIR_PORT": "tcp://10.0.0.1:7880",
        "WEIR_PORT_7880_TCP_ADDR": "10.0.0.1",
        "WEIR_SERVICE_HOST": "10.0.0.1",
        "WEIR_SERVICE_PORT_HTTP": "7880",
        "WEIRD": "1",
    }
    assert load(tmp_path, "", **others).http.port == 7880
