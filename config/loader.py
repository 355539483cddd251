"""From a YAML file and the environment to a checked `Config`, or one `ConfigError` with everything that is wrong.

Values that fail are taken out (their defaults step in) so that the checks of several values still run on the rest;
a check that rests on a failed value stays silent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from config.checks import all_faults
from config.environment import apply
from config.errors import ConfigError, Path, Problem
from config.schema import Config
from config.source import Source, describe, read_file
from config.wording import expected, instead_of

SECRETS = (("auth", "keys"), ("ice_servers",))
"""Values below these paths are not repeated in messages."""


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in a YAML file under the variables of environ (the process's own when None).

    Raises ConfigError with all problems, ordered by line and then variable.
    """
    source = read_file(FilePath(path))
    apply(source, os.environ if environ is None else environ)
    _anchor_files(source, FilePath(path).parent)
    config = _validate(source)
    if source.problems:
        raise ConfigError(sorted(dict.fromkeys(source.problems), key=_order))
    return config


def _order(problem: Problem) -> tuple[bool, int, str]:
    return problem.line == 0, problem.line, problem.place


def _anchor_files(source: Source, folder: FilePath) -> None:
    """Relative file names start at the configuration file's folder, wherever the node is started from."""
    http = source.values.get("http")
    for name in ("certificate", "private_key"):
        if isinstance(http, dict) and isinstance(http.get(name), str):
            http[name] = str(folder.resolve() / http[name])


def _validate(source: Source) -> Config:
    failed: set[Path] = set()
    while True:
        try:
            config = Config.model_validate(source.values)
            break
        except ValidationError as error:
            for item in error.errors(include_url=False):
                _add(source, _cut(tuple(item["loc"])), item["type"], item["input"], failed)
    for fault in all_faults(config) if source.readable else ():
        if not any(_touches(path, other) for path in (fault.path, *fault.rests_on) for other in failed):
            source.add_problem(fault.path, fault.found, fault.expected)
    return config


def _cut(loc: Path) -> Path:
    """Pydantic marks the key of a mapping by a last step of its own."""
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _add(source: Source, path: Path, kind: str, value: Any, failed: set[Path]) -> None:
    """Note the problem at path and take the value out; a missing value takes out what it is missing from."""
    if kind == "extra_forbidden":
        source.add_problem(path, "an unknown key", instead_of(path))
    elif kind == "missing":
        source.add_problem(path, "nothing", expected(path))
    else:
        source.add_problem(path, _found(path, value), expected(path))
    failed.add(path)
    _remove(source.values, path[:-1] if kind == "missing" else path)


def _found(path: Path, value: Any) -> str:
    secret = isinstance(value, str | int | float) and any(path[: len(top)] == top for top in SECRETS)
    if secret and path[-1] != "urls" and not isinstance(path[-1], int):
        return f"a value of {len(str(value))} characters"
    return describe(value)


def _remove(values: Any, path: Path) -> None:
    """Take out the value at path; inside a list the whole list goes, so that its other items keep their numbers."""
    for index, step in enumerate(path):
        last = index == len(path) - 1
        inside = values.get(step) if isinstance(values, dict) else None
        if last or isinstance(inside, list):
            if isinstance(values, dict):
                values.pop(step, None)
            return
        values = inside


def _touches(path: Path, failed: Path) -> bool:
    """Whether one of the two paths lies within the other."""
    return path[: len(failed)] == failed or failed[: len(path)] == path
