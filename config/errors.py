"""What can be wrong with a configuration, said in one line each and all at once.

    ConfigError        the configuration cannot be used; `problems` holds every reason
     └─ Problem        one line: where, which key, what was found, what is expected

An operator who starts a node should repair a file in one go, so nothing here stops at the first fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Where a value sits in the configuration: ("ice_servers", 0, "urls")."""


def dotted(path: Path) -> str:
    """The path as people write it: ice_servers[0].urls."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".")


class Fault(NamedTuple):
    """What is wrong at path; `rests_on` names other keys that the check read: it is void where one of them failed."""

    path: Path
    found: str
    expected: str
    rests_on: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: `place` is file:line (or the environment variable), `path` the key, empty for the file as a whole."""

    place: str
    path: Path
    found: str
    expected: str
    line: int = 0

    def __str__(self) -> str:
        key = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place}: {key}found {self.found}; expected {self.expected}"


class ConfigError(Exception):
    """The configuration cannot be used. Its text is one line per problem, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
