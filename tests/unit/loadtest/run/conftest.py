"""One node for the tests of the runner's parts: it takes nobody without a token."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.node import Node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """The node that tests share; each uses rooms of its own."""
    async with Node(tmp_path_factory.mktemp("node"), auth={"required": True}) as running:
        yield running
        assert not running.errors(), running.errors()
