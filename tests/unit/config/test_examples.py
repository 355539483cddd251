"""The files that come with Weir are right, and the manual is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import config
from config import Config, ConfigError, json_schema, load_config

FOLDER = Path(config.__file__).parent
KEY = {"WEIR_AUTH__KEYS__test": "0123456789abcdef0123456789abcdef"}
EXAMPLES = ("default.yaml", "dev.yaml", "edge.yaml")


def values(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schema_accepts_the_example(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json_schema()).validate(values(name))


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for wrong in ({"htp": {}}, {"http": {"port": "80"}}, {"http": {"port": 0}}, {"log": {"format": "xml"}}):
        assert not validator.is_valid(wrong)


def test_the_published_schema_is_the_current_one() -> None:
    """After a change: weir config schema > config/weir.schema.json."""
    assert json.loads((FOLDER / "weir.schema.json").read_text()) == json_schema()


def test_the_manual_holds_every_key_with_its_default() -> None:
    assert values("default.yaml") == Config().model_dump()


def test_every_key_has_a_description() -> None:
    schema = json_schema()
    for definition in [schema, *schema["$defs"].values()]:
        for name, field in definition["properties"].items():
            section = schema["$defs"].get(field.get("$ref", "").rsplit("/", 1)[-1], {})
            assert field.get("description", section.get("description")), name


def test_the_default_lacks_nothing_but_a_key() -> None:
    load_config(FOLDER / "default.yaml", KEY)
    with pytest.raises(ConfigError) as caught:
        load_config(FOLDER / "default.yaml", {})
    assert [problem.path for problem in caught.value.problems] == [("auth", "keys")]


def test_development_needs_nothing() -> None:
    loaded = load_config(FOLDER / "dev.yaml", {})
    assert loaded.http.host == "127.0.0.1" and loaded.auth.loopback_without_token
    assert loaded.limits.unlimited_loopback_joins and loaded.log.format == "console"


def test_the_edge_lacks_nothing_but_its_certificate() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(FOLDER / "edge.yaml", KEY)
    assert [problem.path for problem in caught.value.problems] == [("http", "certificate"), ("http", "private_key")]
