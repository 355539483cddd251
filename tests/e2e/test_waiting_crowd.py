"""A whole crowd that waits for a publisher gets all of it, from the first packet on.

Seen from outside: what the publisher sent, and what each of the crowd received. WAITING_CROWD sets how many wait
(100; `make test-peers` runs it with 500).
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any

import pytest

from loadtest.engine.layout import AUDIO, VIDEO
from tests.e2e.conftest import MakeNode
from tests.e2e.loadtest_runs import compiled
from tests.e2e.loadtest_scenes import Scene, scene, until
from tests.unit.loadtest.run.scenarios import SYNTHETIC

__all__ = ["compiled"]
CROWD = int(os.environ.get("WAITING_CROWD", "100"))
ROUNDS = 3  # times that the publisher comes; all but the first are returns
PICTURES = 20  # that it sends each time
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(110 + CROWD, func_only=True),
    pytest.mark.usefixtures("compiled"),
]


def got(made: Scene) -> Counter[tuple[str, int]]:
    """Packets that have come, by viewer and kind."""
    found: Counter[tuple[str, int]] = Counter()
    for person in made.roster.subscribers:
        client = made.engine.clients.rows[person.sessions[0].index]
        for number in client.streams[: int(client.stream_count)].tolist():
            stream = made.engine.streams.rows[number]
            found[person.identity, int(stream.kind)] += int(stream.packets) - int(stream.duplicates)
    return found


async def test_everybody_who_waited_gets_every_packet(own_node: MakeNode) -> None:
    media = {"both": SYNTHETIC | {"audio": {}}}
    keys: dict[str, Any] = {
        "media": media,
        "publishers": [{"name": "hosts", "media": "both"}],
        "subscribers": [{"name": "audience", "count": CROWD}],
        "joins": {"rate": 500.0, "timeout": 60.0},
    }
    limits = {"transports": 2 * CROWD + 16, "subscriptions": 4 * CROWD + 16, "participants_per_room": CROWD + 16}
    async with own_node(limits=limits, media={"workers": 2}) as node:
        keys["target"] = {"url": node.base}
        async with scene("waiting", node.base, capacity=CROWD + 8, **keys) as made:
            for person in made.roster.subscribers:
                await made.crowd.join(person)
            sent: Counter[int] = Counter()
            (host,) = made.roster.publishers
            for _ in range(ROUNDS):
                await made.crowd.join(host)
                sources = made.engine.sources_of(host.sessions[0].index)
                await until(lambda sources=sources: min(int(s.frames) for s in sources) >= PICTURES, 60)  # type: ignore[misc]
                for source in sources:
                    source.frames_left = 0
                await until(lambda sources=sources: not any(int(s.running) for s in sources), 60)  # type: ignore[misc]
                for source in sources:
                    sent[int(source.kind)] += int(source.packets)
                await all_came(made, sent)
                await made.crowd.leave(host)
            assert not made.crowd.faults()


async def all_came(made: Scene, sent: Counter[int]) -> None:
    """Wait until everybody has everything; whoever does not get it is told."""
    wanted = {(person.identity, kind): sent[kind] for person in made.roster.subscribers for kind in (AUDIO, VIDEO)}
    try:
        await until(lambda: got(made) == wanted, 30)
    except TimeoutError:
        missing = {key: count - got(made)[key] for key, count in wanted.items() if got(made)[key] != count}
        raise AssertionError(f"of {dict(sent)} packets were missing: {missing}") from None
    await asyncio.sleep(0)
