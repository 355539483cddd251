"""Whatever a scenario file or an override holds, the answer is a scenario or a ConfigError."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

from config.errors import ConfigError
from loadtest.scenario import load_scenario, shipped, shorten
from loadtest.scenario.checks import all_faults
from loadtest.scenario.load import find

VALUES = (None, 5, -1, 1e400, float("nan"), "", "x", [], {}, [5], {"a": 5}, [[]], [None], True, 10**30, "é", "../a")


def mutated(value: object, rng: random.Random) -> object:
    """The value with one part of it, at random, replaced, dropped or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {name: kept for name, kept in value.items() if name != key}
        return {**value, key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        return [*value[:index], mutated(value[index], rng), *value[index + rng.randrange(2) :]]
    return rng.choice(VALUES)


def test_files_with_wrong_parts_are_told_or_sound(tmp_path: Path) -> None:
    rng = random.Random(4)
    refused = 0
    for round_ in range(400):
        values: object = yaml.safe_load(find(rng.choice(shipped())).read_text())
        for _ in range(rng.randint(1, 3)):
            values = mutated(values, rng)
        file = tmp_path / f"{round_}.yaml"
        file.write_text(yaml.safe_dump(values))
        try:
            scenario = load_scenario(
                file, [rng.choice(("rooms=2", "publishers.0.count=2", "media.a.video.width=2", "x=1"))]
            )
        except ConfigError as error:
            assert error.problems and all(": found " in str(problem) for problem in error.problems)
            refused += 1
        else:
            short = shorten(scenario, scale=rng.choice((0.01, 0.5, 1)))
            assert short.sessions() <= scenario.sessions() and not list(all_faults(short))
    assert 100 < refused < 400


def test_a_file_that_cannot_be_read_is_told_with_the_overrides(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("rooms: [")
    try:
        load_scenario(file, ["publishers.hosts.count=2", "rooms=x"])
    except ConfigError as error:
        assert [problem.place.replace(f"{tmp_path}/", "") for problem in error.problems][0].startswith("a.yaml:1:")
        assert len(error.problems) == 3
