"""Any strict root model is loaded with the same messages: tagged unions, optional sections, named sections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from config.errors import ConfigError, Fault
from config.loader import load_model

Name = Annotated[str, Field(pattern="^[a-z]+$", json_schema_extra={"x-expected": "a name in small letters"})]


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Kill(Part):
    do: Literal["kill"]
    count: int


class Turn(Part):
    do: Literal["turn"]
    turn: Literal["left", "right"]


class Wheel(Part):
    size: int = 1
    kind: Literal["round"] = "round"


class Car(Part):
    name: str
    token: str | None = None
    spare: Wheel | None = None
    wheels: dict[Name, Wheel] = {}
    actions: list[Annotated[Kill | Turn, Field(discriminator="do")]] = []


def faults(car: Car) -> Iterator[Fault]:
    if car.spare is not None and car.spare.size > 3:
        yield Fault(("spare", "size"), str(car.spare.size), "at most 3")


def load(tmp_path: Path, text: str, **environ: str) -> Car:
    file = tmp_path / "car.yaml"
    file.write_text(text)
    return load_model(file, Car, faults, "CAR_", environ=environ, secrets=(("token",),))


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actions: [{do: kil}]", 'actions[0].do: found "kil"; expected one of kill, turn'),
        ("actions: [{count: 1}]", "actions[0].do: found nothing; expected one of kill, turn"),
        ("actions: [5]", "actions[0]: found 5; expected a section whose do is one of kill, turn"),
        ("actions: [{do: turn, turn: up}]", 'actions[0].turn: found "up"; expected one of left, right'),
        ("actions: [{do: kill, cuont: 1, count: 1}]", "actions[0].cuont: found an unknown key; expected a known key: "),
        ("actions: [{do: kill}]", "actions[0].count: found nothing; expected a whole number"),
        ("spare: {size: x}", 'spare.size: found "x"; expected a whole number'),
        ("spare: {kind: flat}", 'spare.kind: found "flat"; expected round'),
        ("spare: {sise: 1}", "spare.sise: found an unknown key; expected a known key: did you mean size?"),
        ("wheels: {front: {size: x}}", 'wheels.front.size: found "x"; expected a whole number'),
        ("wheels: {FRONT: {size: 1}}", 'wheels.FRONT: found "FRONT"; expected a name in small letters'),
        ("wheels: 1", "wheels: found 1; expected a mapping of names to sections"),
        ("spare: {size: 4}", "spare.size: found 4; expected at most 3"),
        ("token: 12345678", "token: found a value of 8 characters; expected text or nothing"),
    ],
)
def test_a_mistake_is_told_with_its_path_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    (only,) = problems(tmp_path, f"name: a\n{text}")
    assert only.startswith(f"car.yaml:2: {message}")


def test_a_missing_key_at_the_top_is_told_with_the_rest(tmp_path: Path) -> None:
    found = problems(tmp_path, "spare: {size: x}\n")
    assert found == [
        "car.yaml:1: name: found nothing; expected text",
        'car.yaml:1: spare.size: found "x"; expected a whole number',
    ]


def test_variables_have_the_prefix_of_the_model(tmp_path: Path) -> None:
    assert load(tmp_path, "name: a", CAR_SPARE__SIZE="3", CAR_NAME="7", WEIR_NAME="b").name == "7"
    assert problems(tmp_path, "name: a", CAR_NAEM="b") == [
        "CAR_NAEM: found a variable that sets no known key; expected a known key: did you mean CAR_NAME?"
    ]
    assert problems(tmp_path, "name: a", CAR_COLOUR_OF_ALL="b")[0].endswith("CAR_SECTION__KEY, such as CAR_SPARE__SIZE")


def test_without_a_prefix_no_variable_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_NAME", "b")
    (tmp_path / "car.yaml").write_text("name: a")
    assert load_model(tmp_path / "car.yaml", Car, faults).name == "a"
