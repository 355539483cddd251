"""Says in words what a key must hold, from the same JSON Schema that editors read: bounds are written down once.

Paths are those of the file. Pydantic's own (`loc`) have more steps, a tag below each tagged union and a mark on the
keys of mappings: `Wording.locate` takes them out.
"""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from pydantic import BaseModel

from config.errors import Path

KEY = "[key]"
"""Pydantic's last step where not a value but its key in a mapping is wrong."""
NAMES = {
    "string": "text",
    "boolean": "true or false",
    "null": "nothing",
    "integer": "a whole number",
    "number": "a number",
}


class Wording:
    """The words for the keys of one root model; get it from `wording_of`."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root: dict[str, Any] = model.model_json_schema()

    def schema_at(self, path: Path) -> dict[str, Any] | None:
        """The part of the schema that describes path; None for a key that does not exist."""
        part: dict[str, Any] | None = self.root
        for step in path:
            part = self._child(part, step) if part is not None else None
        return part

    def known_keys(self, path: Path) -> list[str]:
        """The keys that a section may hold; none for values and for free mappings."""
        part = self.schema_at(path)
        return _keys(self._forms(part)) if part else []

    def locate(self, loc: Path) -> tuple[Path, dict[str, Any] | None]:
        """The path in the file of one of pydantic's locations, and the part of the schema that is meant there."""
        path: Path = ()
        part: dict[str, Any] | None = self.root
        for step in loc:
            if step == KEY:
                return path, self._names_of(path[:-1]) or part
            tags = self._tagged(part)
            if step in tags:
                part = self._resolve({"$ref": tags[step]})
                continue
            path = (*path, step)
            part = self._child(part, step) if part is not None else None
        return path, part

    def phrase(self, part: dict[str, Any] | None) -> str:
        """What a part of the schema asks for, such as `a whole number from 1 to 65535`."""
        return self._phrase(part) if part is not None else "no such key"

    def instead_of(self, path: Path, part: dict[str, Any] | None) -> str:
        """What is expected in place of the unknown key at the end of path, in the section `part`: a name, or all."""
        names = _keys(self._forms(part or {}))
        last = str(path[-1]).lower()
        near = [*difflib.get_close_matches(last, names, n=1), *(f"{top}.{last}" for top in self._sections_with(last))]
        return f"a known key: did you mean {near[0]}?" if near else f"one of {', '.join(names)}"

    def holds_text(self, part: dict[str, Any]) -> bool:
        """Whether text may stand there, so that digits from a command line are text too."""
        return any(option.get("type") == "string" for option in (part, *part.get("anyOf", ())))

    def _sections_with(self, name: str) -> list[str]:
        return [top for top in self.known_keys(()) if name in self.known_keys((top,))]

    def _resolve(self, part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        name = str(part["$ref"]).rsplit("/", 1)[-1]
        return {**self.root["$defs"][name], **{key: value for key, value in part.items() if key != "$ref"}}

    def _forms(self, part: dict[str, Any]) -> list[dict[str, Any]]:
        """The forms that a value may take: several for what may be nothing and for tagged unions."""
        options = part.get("anyOf") or part.get("oneOf") or (part,)
        return [self._resolve(option) for option in options]

    def _tagged(self, part: dict[str, Any] | None) -> dict[str | int, str]:
        return dict((part or {}).get("discriminator", {}).get("mapping", {}))

    def _child(self, part: dict[str, Any], step: str | int) -> dict[str, Any] | None:
        tags = self._tagged(part)
        if tags and step == part["discriminator"]["propertyName"]:
            return {"type": "string", "enum": list(tags)}
        for form in self._forms(part):
            found = _step(form, step)
            if found is not None:
                return self._resolve(found)
        return None

    def _names_of(self, path: Path) -> dict[str, Any] | None:
        """What the keys of the free mapping at path must be, where the schema has words for it."""
        names = (self.schema_at(path) or {}).get("propertyNames", {})
        return names if "x-expected" in names else None

    def _phrase(self, part: dict[str, Any]) -> str:
        part = self._resolve(part)
        if "x-expected" in part:
            return str(part["x-expected"])
        if "const" in part:
            return str(part["const"])
        if "enum" in part:
            return f"one of {', '.join(str(value) for value in part['enum'])}"
        if "discriminator" in part:
            tags = ", ".join(part["discriminator"]["mapping"])
            return f"a section whose {part['discriminator']['propertyName']} is one of {tags}"
        if "anyOf" in part:
            return " or ".join(self._phrase(option) for option in part["anyOf"])
        if part["type"] == "array":
            return f"a list{_amount(part)}, each {self._phrase(part['items'])}"
        if part["type"] == "object":
            return self._section(part)
        return NAMES[part["type"]] + _bounds(part) + _length(part)

    def _section(self, part: dict[str, Any]) -> str:
        if "properties" in part:
            return f"a section with {', '.join(part['properties'])}"
        values = _free(part)
        of_sections = values is not None and self._resolve(values).get("type") == "object"
        return f"a mapping of names to {'sections' if of_sections else 'text'}"


@cache
def wording_of(model: type[BaseModel]) -> Wording:
    """The words for a root model, made once."""
    return Wording(model)


def _keys(forms: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for form in forms for name in form.get("properties", ())))


def _step(form: dict[str, Any], step: str | int) -> dict[str, Any] | None:
    found = form.get("items") if isinstance(step, int) else form.get("properties", {}).get(step, _free(form))
    return found if isinstance(found, dict) else None


def _free(part: dict[str, Any]) -> dict[str, Any] | None:
    """What the values of a free mapping must be."""
    found = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
    return found if isinstance(found, dict) else None


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
