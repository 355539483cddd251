"""Environment variables over the file: WEIR_HTTP__PORT=8080 sets http.port.

Two underscores step into a section; section and key names may be in either case, names inside a free mapping
(auth.keys) keep theirs. Values are YAML, except that a key which holds text takes a number as its digits: secrets and
file names need no quotes. A name that means nothing is a problem: a typing error must not pass for a setting.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from config.errors import Path, Problem
from config.source import Reader, Source, compose
from config.wording import known_keys, schema_at

PREFIX = "WEIR_"
OTHERS = frozenset({"WEIR_CACHE_DIR"})
"""Variables that other parts of Weir read: the folder of the kernel cache."""
CLUSTER = re.compile(r"WEIR_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes and Docker links set by themselves where a service is called weir."""


def apply(source: Source, environ: Mapping[str, str]) -> None:
    """Lay the variables of environ over the values of source; what is wrong goes to its problems."""
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in OTHERS and not CLUSTER.fullmatch(name):
            _apply_one(source, name, environ[name])


def _apply_one(source: Source, name: str, text: str) -> None:
    path = path_of(name)
    part = schema_at(path)
    if part is None:
        source.problems.append(Problem(name, (), "a variable that sets no known key", _suggestion(name)))
        return
    reader = Reader(source, name)
    for part_path in [known for known in source.places if known[: len(path)] == path]:
        del source.places[part_path]
    try:
        node = compose(text)
    except (yaml.YAMLError, RecursionError):
        source.problems.append(Problem(name, path, "broken YAML", "a YAML value"))
        return
    value = None if node is None else reader.read(node, path)
    source.places[path] = (name, 0)
    if isinstance(value, bool | int | float) and _holds_text(part):
        value = text.strip()
    _put(source.values, path, value)


def path_of(name: str) -> Path:
    """The key that a variable names: WEIR_AUTH__KEYS__abc is ("auth", "keys", "abc")."""
    path: Path = ()
    for step in name.removeprefix(PREFIX).split("__"):
        path = (*path, step.lower() if known_keys(path) else step)
    return path


def _holds_text(part: dict[str, Any]) -> bool:
    return any(option.get("type") == "string" for option in [part, *part.get("anyOf", ())])


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at path; a section that the file filled with something else stays, for its own message."""
    for step in path[:-1]:
        values = values.setdefault(str(step), {})
        if not isinstance(values, dict):
            return
    values[str(path[-1])] = value


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name.upper(), list(variable_names()), n=1, cutoff=0.7)
    return f"a known key: did you mean {near[0]}?" if near else "WEIR_SECTION__KEY, such as WEIR_HTTP__PORT"


def variable_names(path: Path = ()) -> Iterator[str]:
    """Every variable that sets a key or a section."""
    if path:
        yield PREFIX + "__".join(str(step).upper() for step in path)
    for key in known_keys(path):
        yield from variable_names((*path, key))
