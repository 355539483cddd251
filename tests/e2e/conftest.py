"""What the end-to-end tests share: one default node, one Chromium, and pages that are closed after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.e2e.browser import Tabs, launch
from tests.e2e.node import PATIENT, Node

MakeNode = Callable[..., Any]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """The node that tests share; each uses rooms of its own."""
    async with Node(tmp_path_factory.mktemp("node")) as running:
        yield running
        await running.stop(PATIENT)
        assert not running.errors(), running.errors()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def strict_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """One that takes nobody without a token."""
    async with Node(tmp_path_factory.mktemp("strict-node"), auth={"required": True}) as running:
        yield running
        await running.stop(PATIENT)
        assert not running.errors(), running.errors()


@pytest.fixture
def own_node(tmp_path: Path) -> MakeNode:
    """Makes a node of a test's own: `async with own_node(media={"workers": 2}) as node`."""
    return lambda **changes: Node(tmp_path, **changes)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        running = await launch(playwright)
        yield running
        await running.close()


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(browser: Browser) -> AsyncIterator[Tabs]:
    opened = Tabs(browser)
    yield opened
    await opened.close()


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room name of the test's own."""
    name: str = request.node.name
    return "".join(c if c.isalnum() else "-" for c in name)[:100].strip("-")
