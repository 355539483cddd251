"""Reads a YAML file into plain values and remembers the line of each, so that every complaint can name its line.

The file is composed to YAML's node tree, not loaded: the tree has marks. Stricter than YAML where leniency hides
mistakes: a duplicate key, an alias and an explicit tag are problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from config.errors import Path, Problem

PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null")}
TEXT = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value", "merge")}


class _Loader(yaml.SafeLoader):
    """Composes without aliases: they save nothing in a configuration, and nested ones can fill memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias (quote what begins with *)", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


@dataclass(slots=True)
class Source:
    """The values of a configuration before validation, and where each stood; `readable` once YAML was parsed."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, tuple[str, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    readable: bool = False

    def place(self, path: Path) -> tuple[str, int]:
        """Where the value at path, or else the nearest value around it, was written: text and line."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (self.name, 0))

    def add_problem(self, path: Path, found: str, expected: str) -> None:
        place, line = self.place(path)
        self.problems.append(Problem(place, path, found, expected, line))

    def replace(self, path: Path, place: str, text: str, *, as_text: bool) -> tuple[bool, Any]:
        """Whether text is YAML, and its value, which from now on stands at path and comes from place.

        as_text: the key holds text, so that a number or a truth value is taken as written.
        """
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        try:
            node = compose(text)
        except (yaml.YAMLError, RecursionError):
            self.problems.append(Problem(place, path, "broken YAML", "a YAML value"))
            return False, None
        value = None if node is None else Reader(self, place).read(node, path)
        self.places[path] = (place, 0)
        return True, text.strip() if as_text and isinstance(value, bool | int | float) else value


def read_file(file: FilePath) -> Source:
    """The values, lines and problems of a YAML file; never raises for what the file holds."""
    source = Source(str(file))
    try:
        text = file.read_bytes()
    except OSError as error:
        source.problems.append(Problem(source.name, (), (error.strerror or str(error)).lower(), "a readable YAML file"))
        return source
    try:
        root = compose(text)
    except (yaml.YAMLError, RecursionError) as error:
        source.problems.append(_syntax_problem(source.name, error))
        return source
    source.readable = True
    if root is not None:
        _read_root(source, root)
    return source


def compose(text: bytes | str) -> yaml.Node | None:
    """YAML's node tree of one document; None when it is empty. Raises yaml.YAMLError or RecursionError."""
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax_problem(name: str, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    found = getattr(error, "problem", None) or getattr(error, "reason", None) or "values nested too deeply"
    context = getattr(error, "context", None)
    place, line = (f"{name}:{mark.line + 1}:{mark.column + 1}", mark.line + 1) if mark else (name, 0)
    return Problem(place, (), f"broken YAML: {found}{f' ({context})' if context else ''}", "valid YAML", line)


def _read_root(source: Source, root: yaml.Node) -> None:
    value = Reader(source).read(root, ())
    if isinstance(value, dict):
        source.values = value
    elif value is not None:
        source.add_problem((), describe(value), "a mapping of keys to values")


class Reader:
    """Turns nodes into values, noting places and problems in a Source; values without lines get one fixed place."""

    def __init__(self, source: Source, place: str | None = None) -> None:
        self.source = source
        self.fixed_place = place

    def read(self, node: yaml.Node, path: Path) -> Any:
        """The plain value of a node: dict, list, str, int, float, bool or None."""
        self.source.places.setdefault(path, self._place(node))
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _place(self, node: yaml.Node) -> tuple[str, int]:
        line = node.start_mark.line + 1
        return (self.fixed_place, 0) if self.fixed_place else (f"{self.source.name}:{line}", line)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain(key_node, path, "a key that is no plain text", "a key name")
                continue
            key = str(key_node.value)
            if key in first:
                self._complain(key_node, (*path, key), f"the key twice (first in line {first[key]})", "it once")
                continue
            first[key] = key_node.start_mark.line + 1
            self.source.places[(*path, key)] = self._place(key_node)
            yield key, self.read(value_node, (*path, key))

    def _complain(self, node: yaml.Node, path: Path, found: str, expected: str) -> None:
        place, line = self._place(node)
        self.source.problems.append(Problem(place, path, found, expected, line))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag in TEXT:
            return str(node.value)
        if node.tag in PLAIN:
            return _construct(node)
        self._complain(node, path, f"the tag {node.tag}", "a plain value")
        return str(node.value)


def _construct(node: yaml.Node) -> Any:
    """The int, float, bool or None of a scalar; text where an explicit tag does not fit it."""
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, KeyError, IndexError):
        return str(node.value)


def describe(value: Any) -> str:
    """A found value in a message: short, and typed so that 80 and "80" differ."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
