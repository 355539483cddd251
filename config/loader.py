"""From a YAML file to a checked model, or one `ConfigError` with everything that is wrong.

`load_model` does so for any root model whose sections are strict and closed; `load_config` for a node's configuration
under the environment. Values that fail are taken out (their defaults step in) so that the checks of several values
still run on the rest; a check that rests on a failed value stays silent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config.checks import all_faults, faults_here
from config.environment import PREFIX, apply
from config.errors import ConfigError, Fault, Path, Problem
from config.schema import Config
from config.source import Source, describe, read_file
from config.wording import Wording, wording_of

M = TypeVar("M", bound=BaseModel)
Checks = Callable[[M], Iterable[Fault]]
Amend = Callable[[Source], None]
"""Changes values between reading and validation: file names made absolute, values from a command line laid over."""

SECRETS: tuple[Path, ...] = (("auth", "keys"), ("ice_servers",))
"""Values below these paths of a node's configuration are not repeated in messages."""


def load_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, *, to_serve: bool = False
) -> Config:
    """The configuration in a YAML file under the variables of environ (the process's own when None).

    With to_serve it has to suit this machine too, not only the one it was written for. Raises ConfigError with all
    problems, ordered by line and then variable.
    """
    checks = faults_here if to_serve else all_faults
    return load_model(
        path, Config, checks, PREFIX, environ=environ, secrets=SECRETS, amend=_anchor(FilePath(path).parent)
    )


def load_model(
    path: str | os.PathLike[str],
    model: type[M],
    checks: Checks[M],
    environ_prefix: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    secrets: tuple[Path, ...] = (),
    amend: Amend | None = None,
) -> M:
    """The model in a YAML file; `checks` yields what is wrong with values that are sound one by one.

    With environ_prefix, variables of environ (the process's own when None) win over the file. Values at or below the
    paths in `secrets` are not repeated. Raises ConfigError with all problems, ordered by line and then by place.
    """
    source = read_file(FilePath(path))
    if environ_prefix is not None:
        apply(source, os.environ if environ is None else environ, wording_of(model), environ_prefix)
    if amend is not None:
        amend(source)
    loaded = _validate(source, model, checks, secrets)
    if source.problems or loaded is None:
        raise ConfigError(sorted(dict.fromkeys(source.problems), key=_order))
    return loaded


def _order(problem: Problem) -> tuple[bool, int, str]:
    return problem.line == 0, problem.line, problem.place


def _anchor(folder: FilePath) -> Amend:
    """Relative file names start at the configuration file's folder, wherever the node is started from."""

    def amend(source: Source) -> None:
        http = source.values.get("http")
        for name in ("certificate", "private_key"):
            if isinstance(http, dict) and isinstance(http.get(name), str):
                http[name] = str(folder.resolve() / http[name])

    return amend


def _validate(source: Source, model: type[M], checks: Checks[M], secrets: tuple[Path, ...]) -> M | None:
    """The model of what is sound; None where a key without a default is missing at the top."""
    failed: set[Path] = set()
    while True:
        try:
            loaded = model.model_validate(source.values)
            break
        except ValidationError as error:
            items = [_Item(dict(item), wording_of(model)) for item in error.errors(include_url=False)]
        for item in items:
            item.add(source, secrets, failed)
        if any(item.kind == "missing" and len(item.path) == 1 for item in items):
            return None
    for fault in checks(loaded) if source.readable else ():
        if not any(_touches(path, other) for path in (fault.path, *fault.rests_on) for other in failed):
            source.add_problem(fault.path, fault.found, fault.expected)
    return loaded


class _Item:
    """One of pydantic's errors in terms of the file."""

    def __init__(self, error: dict[str, Any], wording: Wording) -> None:
        self.kind: str = error["type"]
        self.value: Any = error["input"]
        self.path, part = wording.locate(tuple(error["loc"]))
        if self.kind in ("union_tag_invalid", "union_tag_not_found"):
            context = error["ctx"]
            self.kind = "missing" if self.kind == "union_tag_not_found" else "tag"
            self.value = context.get("tag")
            self.path, part = wording.locate((*error["loc"], context["discriminator"].strip("'")))
        self.expected = wording.phrase(part)
        if self.kind == "extra_forbidden":
            self.expected = wording.instead_of(self.path, wording.locate(tuple(error["loc"][:-1]))[1])

    def add(self, source: Source, secrets: tuple[Path, ...], failed: set[Path]) -> None:
        """Note the problem and take the value out; a missing value takes out what it is missing from."""
        source.add_problem(self.path, self._found(secrets), self.expected)
        failed.add(self.path)
        _remove(source.values, self.path[:-1] if self.kind == "missing" else self.path)

    def _found(self, secrets: tuple[Path, ...]) -> str:
        if self.kind in ("extra_forbidden", "missing"):
            return "an unknown key" if self.kind == "extra_forbidden" else "nothing"
        path = self.path
        secret = isinstance(self.value, str | int | float) and any(path[: len(top)] == top for top in secrets)
        if secret and path[-1] != "urls" and not isinstance(path[-1], int):
            return f"a value of {len(str(self.value))} characters"
        return describe(self.value)


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
