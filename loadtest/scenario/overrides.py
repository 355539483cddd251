"""Values from a command line over those of a scenario file: `--set rooms=2 --set publishers.hosts.count=1`.

A key is written as messages write it, steps apart by dots. An item of a list is named by its number, as `actions.0` or
`actions[0]`, and a group by its name, as `publishers.hosts`. In `expect`, what follows is the figure with its dots.
The value is YAML; a key that holds text takes digits as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from config.errors import Path, Problem
from config.source import Source
from config.wording import wording_of
from loadtest.scenario.schema import Scenario

WORDING = wording_of(Scenario)


class _WrongKey(Exception):
    """A step that leads nowhere: what was found, what is expected."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        super().__init__(found)
        self.path, self.found, self.expected = path, found, expected


def apply(source: Source, overrides: Iterable[str]) -> None:
    """Lay `key=value` texts over the values of source; what is wrong goes to its problems."""
    for text in overrides:
        key, sign, value = text.partition("=")
        place = f"--set {key.strip()}"
        try:
            if not sign or not key.strip():
                raise _WrongKey((), "no key=value", "such as rooms=2 or target.url=http://127.0.0.1:7880")
            path = path_of(source.values, key.strip())
        except _WrongKey as wrong:
            source.problems.append(Problem(place, wrong.path, wrong.found, wrong.expected))
            continue
        _set(source, path, place, value)


def path_of(values: dict[str, Any], key: str) -> Path:
    """The path that a key names, in a file of these values. Raises _WrongKey where it leads nowhere."""
    steps = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    path: Path = ()
    inside: Any = values
    while steps:
        part = WORDING.schema_at(path) or {}
        if part.get("type") == "array":
            step: str | int = _index(inside, steps.pop(0), path)
        elif path == ("expect",):
            step, steps = ".".join(steps), []
        else:
            step = steps.pop(0)
        path = (*path, step)
        if WORDING.schema_at(path) is None:
            raise _WrongKey(path, "an unknown key", WORDING.instead_of(path, WORDING.schema_at(path[:-1])))
        inside = _inside(inside, step)
    return path


def _index(items: Any, step: str, path: Path) -> int:
    known = items if isinstance(items, list) else []
    names = [item.get("name") for item in known if isinstance(item, dict) and item.get("name")]
    if step in names:
        return [isinstance(item, dict) and item.get("name") == step for item in known].index(True)
    if re.fullmatch(r"\d{1,6}", step) and int(step) < len(known):
        return int(step)
    numbers = f"a number below {len(known)}" if known else "the whole list, because the file has none"
    raise _WrongKey(path, f'"{step}"', " or ".join([numbers, *map(str, names)]))


def _inside(value: Any, step: str | int) -> Any:
    if isinstance(value, list) and isinstance(step, int):
        return value[step]
    return value.get(step) if isinstance(value, dict) else None


def _set(source: Source, path: Path, place: str, text: str) -> None:
    part = WORDING.schema_at(path) or {}
    readable, value = source.replace(path, place, text.strip(), as_text=WORDING.holds_text(part))
    if not readable:
        return
    around: Any = source.values
    for step in path[:-1]:
        if isinstance(around, dict) and around.get(str(step)) is None:
            around[str(step)] = {}
        around = _inside(around, step)
    last = path[-1]
    if isinstance(around, dict):
        around[str(last)] = value
    elif isinstance(around, list) and isinstance(last, int):
        around[last] = value
    # Anything else is a wrong section of the file, which gets its own message.
