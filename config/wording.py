"""Says in words what a key must hold, from the same JSON Schema that editors read: bounds are written down once."""

from __future__ import annotations

import difflib
from typing import Any

from config.errors import Path
from config.schema import Config

ROOT = Config.model_json_schema()
NAMES = {
    "string": "text",
    "boolean": "true or false",
    "null": "nothing",
    "integer": "a whole number",
    "number": "a number",
}


def schema_at(path: Path) -> dict[str, Any] | None:
    """The part of the schema that describes path; None for a key that does not exist."""
    part: dict[str, Any] | None = ROOT
    for step in path:
        part = _child(part, step) if part is not None else None
    return part


def known_keys(path: Path) -> list[str]:
    """The keys that a section may hold; none for values and for free mappings."""
    return list((schema_at(path) or {}).get("properties", ()))


def expected(path: Path) -> str:
    """What the key must hold, such as `a whole number from 1 to 65535`."""
    part = schema_at(path)
    return _phrase(part) if part is not None else "no such key"


def instead_of(path: Path) -> str:
    """What is expected in place of the unknown key at the end of path: a near name, or all names."""
    names = known_keys(path[:-1])
    last = str(path[-1]).lower()
    near = [*difflib.get_close_matches(last, names, n=1), *(f"{top}.{last}" for top in _sections_with(last))]
    return f"a known key: did you mean {near[0]}?" if near else f"one of {', '.join(names)}"


def _sections_with(name: str) -> list[str]:
    return [top for top in known_keys(()) if name in known_keys((top,))]


def _resolve(part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    name = str(part["$ref"]).rsplit("/", 1)[-1]
    return {**ROOT["$defs"][name], **{key: value for key, value in part.items() if key != "$ref"}}


def _child(part: dict[str, Any], step: str | int) -> dict[str, Any] | None:
    if isinstance(step, int):
        found = part.get("items")
    else:
        found = part.get("properties", {}).get(step, part.get("additionalProperties") or None)
    return _resolve(found) if isinstance(found, dict) else None


def _phrase(part: dict[str, Any]) -> str:
    part = _resolve(part)
    if "x-expected" in part:
        return str(part["x-expected"])
    if "enum" in part:
        return f"one of {', '.join(part['enum'])}"
    if "anyOf" in part:
        return " or ".join(_phrase(option) for option in part["anyOf"])
    if part["type"] == "array":
        return f"a list{_amount(part)}, each {_phrase(part['items'])}"
    if part["type"] == "object":
        return (
            "a mapping of names to text"
            if "properties" not in part
            else f"a section with {', '.join(part['properties'])}"
        )
    return NAMES[part["type"]] + _bounds(part) + _length(part)


def _amount(part: dict[str, Any]) -> str:
    low, high = part.get("minItems"), part.get("maxItems")
    if low and high:
        return f" of {low} to {high}"
    return f" of at least {low}" if low else f" of at most {high}" if high else ""


def _bounds(part: dict[str, Any]) -> str:
    low, above, high = part.get("minimum"), part.get("exclusiveMinimum"), part.get("maximum")
    words = f" above {above:g}" if above is not None else f" from {_number(low)}" if low is not None else ""
    if high is not None:
        words += f" {'to' if low is not None else 'up to'} {_number(high)}"
    return words + (f", a multiple of {part['multipleOf']}" if "multipleOf" in part else "")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _length(part: dict[str, Any]) -> str:
    return " that is not empty" if part.get("minLength") else ""
