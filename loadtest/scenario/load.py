"""From a shipped scenario's name or a file, and values from the command line, to a checked `Scenario`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path as FilePath
from typing import Any

import yaml

from config.errors import ConfigError, Path, Problem
from config.loader import load_model
from config.source import Source
from loadtest.scenario import overrides as command_line
from loadtest.scenario.checks import all_faults
from loadtest.scenario.schema import NAME_PATTERN, Scenario

SECRETS: tuple[Path, ...] = (("target", "token"), ("target", "token_secret"))
"""Values that messages and results do not repeat."""
HIDDEN = "(hidden)"


def shipped_folder() -> FilePath:
    """Where the scenarios lie that come with the package."""
    return FilePath(str(resources.files("loadtest.scenario") / "shipped"))


def shipped() -> list[str]:
    """The names of the scenarios that come with the package."""
    return sorted(file.stem for file in shipped_folder().glob("*.yaml"))


def find(name_or_path: str | os.PathLike[str]) -> FilePath:
    """The file of a shipped scenario or of a path. A bare name is a shipped one; a file of that name is ./NAME.

    Raises ConfigError where there is neither.
    """
    text = os.fspath(name_or_path)
    if text in shipped():
        return shipped_folder() / f"{text}.yaml"
    if FilePath(text).is_file():
        return FilePath(text)
    expected = f"a scenario file, or one of {', '.join(shipped())}"
    raise ConfigError([Problem(text or "the scenario's name", (), "no such file and no shipped scenario", expected)])


def load_scenario(name_or_path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a shipped name or a file, under overrides such as `rooms=2` or `target.url=http://…`.

    Raises ConfigError with all problems, each with file and line (or the override), key, found and expected.
    """
    file = find(name_or_path)

    def amend(source: Source) -> None:
        _anchor_files(source.values, file.parent)
        command_line.apply(source, overrides)
        if source.readable and re.fullmatch(NAME_PATTERN, file.stem):
            source.values.setdefault("name", file.stem)

    return load_model(file, Scenario, all_faults, secrets=SECRETS, amend=amend)


def _anchor_files(values: dict[str, Any], folder: FilePath) -> None:
    """Relative names of capture files start at the scenario's folder, wherever the tool is started from."""
    media = values.get("media")
    for profile in media.values() if isinstance(media, dict) else ():
        video = profile.get("video") if isinstance(profile, dict) else None
        if isinstance(video, dict) and isinstance(video.get("pcap"), str) and video["pcap"]:
            video["pcap"] = str(folder.resolve() / video["pcap"])


def as_text(scenario: Scenario) -> str:
    """The scenario as YAML, as it was run: overrides are in, keys that nobody set are left out, secrets are hidden."""
    values = scenario.model_dump(by_alias=True, exclude_unset=True)
    target = values.get("target", {})
    for _, key in SECRETS:
        if key in target:
            target[str(key)] = HIDDEN
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
