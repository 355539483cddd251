"""What the tests of clients share: the node, Chromium and Firefox, and the page that is written at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.browser import Tabs
from tests.e2e.conftest import browser, node, own_node, room, tabs  # noqa: F401  # fixtures
from tests.e2e.firefox import Firefox
from tests.e2e.node import Node
from tests.peers.clients import PUBLISHED, WATCHED, Clients
from tests.peers.table import BESIDE, PAGE, Table

WAYS = {"publishes": PUBLISHED, "watches": WATCHED}


@pytest.fixture(scope="session")
def table() -> Iterator[Table]:
    """Collects what is seen; writes docs/CLIENTS.md when everything was tried, else prints it."""
    pairs = [(client, codec) for client, codecs in PUBLISHED.items() for codec in codecs]
    wanted = [(*pair, way) for pair in pairs for way, clients in WAYS.items() if pair[0] in clients]
    collected = Table([*wanted, *BESIDE])
    yield collected
    if collected.complete():
        PAGE.write_text(collected.page())
    else:
        print(collected.page())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Firefox]:
    async with Firefox(tmp_path_factory.mktemp("firefox")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def clients(
    node: Node,  # noqa: F811
    tabs: Tabs,  # noqa: F811
    firefox: Firefox,
    tmp_path: Path,
    table: Table,
) -> AsyncIterator[Clients]:
    made = Clients(node, tabs, firefox, tmp_path)
    yield made
    table.versions |= made.versions
    await firefox.close_tabs()
