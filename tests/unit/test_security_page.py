"""docs/SECURITY.md names a test for each promise: they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "SECURITY.md").read_text())))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_promise_is_shown_by_a_test_that_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_page_names_many() -> None:
    assert len(NAMED) > 30
