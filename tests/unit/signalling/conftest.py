"""A node for the tests that need no configuration of their own, and what is logged."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from config.schema import Log
from mediaserver import logs
from tests.unit.signalling.nodes import Running, running


@pytest.fixture
async def node() -> AsyncIterator[Running]:
    async with running() as made:
        yield made


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged meanwhile, at all levels."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    logs.set_up(Log(level="debug"), out)
    yield out
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
