"""Imports run down only, as docs/ARCHITECTURE.md says; codecs read no clock and open no socket; files stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "mediaserver": ROOT / "mediaserver",
    "routing": ROOT / "routing",
    "loadtest": ROOT / "loadtest",
    "packetio": ROOT / "codecs" / "packetio",
    "mediacodecs": ROOT / "codecs" / "mediacodecs",
    "config": ROOT / "config",
}
BELOW = {
    "mediaserver": {"routing", "packetio", "mediacodecs", "config"},
    "routing": {"packetio", "mediacodecs", "config"},
    "loadtest": {"packetio", "mediacodecs", "config"},
    "packetio": {"mediacodecs"},
    "mediacodecs": set(),
    "config": set(),
}
OUTSIDE_WORLD = {"time", "socket", "asyncio", "selectors", "threading"}
LONGEST = 700


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level package of each import in a file, those inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written in full"
            yield node.lineno, (node.module or "").split(".")[0]


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_run_down_only(package: str) -> None:
    allowed = BELOW[package] | {package}
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sources(FOLDERS[package])
        for line, name in imports(file)
        if name in FOLDERS and name not in allowed
    ]
    assert sources(FOLDERS[package]) and not wrong


def test_codecs_read_no_clock_and_open_no_socket() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sources(FOLDERS["mediacodecs"])
        for line, name in imports(file)
        if name in OUTSIDE_WORLD
    ]
    assert not wrong


def test_the_folder_of_the_codecs_is_no_package() -> None:
    """As a package it would stand in the way of the standard library's codecs."""
    assert not (ROOT / "codecs" / "__init__.py").exists()


def test_no_file_is_longer_than_700_lines() -> None:
    files = [file for folder in [*FOLDERS.values(), ROOT / "tests"] for file in sources(folder)]
    scripts = [*(ROOT / "mediaserver" / "web").rglob("*.js"), *(ROOT / "mediaserver" / "web").rglob("*.css")]
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in [*files, *scripts]}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
