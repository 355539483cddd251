"""A node for the tests that need no configuration of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.signalling.nodes import Running, running


@pytest.fixture
async def node() -> AsyncIterator[Running]:
    async with running() as made:
        yield made
