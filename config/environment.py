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

from config.errors import Path, Problem
from config.schema import Config
from config.source import Source
from config.wording import Wording, wording_of

PREFIX = "WEIR_"
OTHERS = frozenset({"WEIR_CACHE_DIR"})
"""Variables that other parts of Weir read: the folder of the kernel cache."""
CLUSTER = re.compile(r"WEIR_(SERVICE_(HOST|PORT.*)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes and Docker links set by themselves where a service is called weir."""


def apply(source: Source, environ: Mapping[str, str], wording: Wording | None = None, prefix: str = PREFIX) -> None:
    """Lay the variables of environ over the values of source; what is wrong goes to its problems.

    `wording` is that of the root model, a node's configuration when None.
    """
    variables = Variables(wording or wording_of(Config), prefix)
    for name in sorted(environ):
        if name.startswith(prefix) and name not in OTHERS and not CLUSTER.fullmatch(name):
            variables.apply(source, name, environ[name])


class Variables:
    """The variables of one root model."""

    def __init__(self, wording: Wording, prefix: str) -> None:
        self.wording = wording
        self.prefix = prefix

    def apply(self, source: Source, name: str, text: str) -> None:
        """Lay one variable over source."""
        path = self.path_of(name)
        part = self.wording.schema_at(path)
        if part is None:
            source.problems.append(Problem(name, (), "a variable that sets no known key", self._suggestion(name)))
            return
        readable, value = source.replace(path, name, text, as_text=self.wording.holds_text(part))
        if readable:
            _put(source.values, path, value)

    def path_of(self, name: str) -> Path:
        """The key that a variable names: WEIR_AUTH__KEYS__abc is ("auth", "keys", "abc")."""
        path: Path = ()
        for step in name.removeprefix(self.prefix).split("__"):
            path = (*path, step.lower() if self.wording.known_keys(path) else step)
        return path

    def names(self, path: Path = ()) -> Iterator[str]:
        """Every variable that sets a key or a section."""
        if path:
            yield self.prefix + "__".join(str(step).upper() for step in path)
        for key in self.wording.known_keys(path):
            yield from self.names((*path, key))

    def _suggestion(self, name: str) -> str:
        near = difflib.get_close_matches(name.upper(), list(self.names()), n=1, cutoff=0.7)
        if near:
            return f"a known key: did you mean {near[0]}?"
        example = next((known for known in self.names() if "__" in known), next(self.names()))
        return f"{self.prefix}SECTION__KEY, such as {example}"


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    """Set the value at path; a section that the file filled with something else stays, for its own message."""
    for step in path[:-1]:
        values = values.setdefault(str(step), {})
        if not isinstance(values, dict):
            return
    values[str(path[-1])] = value
