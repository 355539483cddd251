"""The lock files name one version of every package, by hash and from nowhere in particular, as pyproject.toml wants."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
FILES = ("run", "build", "dev")
PYTHONS = ("3.11", "3.12", "3.13")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
Versions = dict[str, set[str]]


def entries(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock file with its hashes; AssertionError for any other line."""
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", "")
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement, *rest = re.split(r" +(?=--hash)", line.strip())
            assert all(HASH.fullmatch(option) for option in rest), line[:200]
            yield Requirement(requirement), rest


def locked(name: str, python: str) -> dict[str, str]:
    """Versions by package that a lock file gives to one Python on Linux."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    found: dict[str, str] = {}
    for requirement, _ in entries(name):
        if requirement.marker is None or requirement.marker.evaluate(here):
            package = canonicalize_name(requirement.name)
            assert package not in found, f"{package} is there twice for Python {python}"
            found[package] = str(requirement.specifier).removeprefix("==")
    return found


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = project["project"]["dependencies"]
    texts = {
        "run": run,
        "dev": run + project["project"]["optional-dependencies"]["dev"],
        "build": project["dependency-groups"]["build"] + project["build-system"]["requires"],
    }
    return [Requirement(text) for text in texts[name]]


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_with_hashes_and_without_an_address(name: str) -> None:
    found = list(entries(name))
    assert found
    for requirement, hashes in found:
        assert hashes and requirement.url is None
        assert re.fullmatch(r"==[0-9][0-9a-z.!+]*", str(requirement.specifier)), requirement
    assert not re.search(r"://|^ *-", (ROOT / "locks" / f"{name}.txt").read_text().replace("    --hash=", ""), re.M)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", FILES)
def test_the_versions_are_those_that_the_project_allows(name: str, python: str) -> None:
    versions = locked(name, python)
    for requirement in wanted(name):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: `make lock` has to be run"


@pytest.mark.parametrize("python", PYTHONS)
def test_tests_run_with_the_versions_of_the_image(python: str) -> None:
    run, build, dev = (locked(name, python) for name in FILES)
    assert run.items() <= dev.items()
    assert all(dev[package] == version for package, version in build.items() if package in dev)
