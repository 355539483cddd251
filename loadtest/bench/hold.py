"""The stage "hostile": what others notice while one member does its worst, kind after kind.

A room of 1 to 20 at 20,000 forwarded packets a second goes on; meanwhile `/healthz` is asked every 20 ms and somebody
joins and leaves, over and over. Limits are counts (nothing lost, no join refused) and, for a machine that is otherwise
idle, the time in which `/healthz` answers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from loadtest.bench import hostile
from loadtest.bench.book import Book
from loadtest.bench.clients import Clients, Publisher
from loadtest.bench.server import Server, split_cores, start_node
from loadtest.bench.stages import (
    FLOOD_FRAMERATE,
    FLOOD_SUBSCRIBERS,
    PUBLISHER,
    Plan,
    fill,
    note_faults,
    note_start,
    start_python,
)
from loadtest.bench.window import Window, histogram_quantile, run_window
from loadtest.drivers.base import DriverError
from loadtest.transport.peer import JoinError

HOSTILE = "Hostile member"
ASK_EVERY = 0.02  # seconds
Room = list[tuple[Publisher, int]]
PROMPT = 100.0  # ms in which /healthz answers at p99


@dataclass
class Notices:
    """What an outsider saw: seconds that /healthz took, joins that worked and that did not."""

    answers: list[float] = field(default_factory=list)
    unanswered: int = 0
    joined: int = 0
    refused: int = 0


async def hostile_member(book: Book, plan: Plan) -> None:
    """All kinds, one after the other, against one node; first nobody's, to compare with."""
    server_cores, _ = split_cores()
    with start_node(server_cores) as server:
        note_start(book, server)
        async with (
            Clients(server.base, subscribers=FLOOD_SUBSCRIBERS, publishers=1) as clients,
            Clients(server.base, subscribers=8, publishers=1) as aside,  # whose joins are cut in the middle
        ):
            publisher = await clients.publish("hold", PUBLISHER, framerate=FLOOD_FRAMERATE)
            await fill(clients, "hold", 0, FLOOD_SUBSCRIBERS, every=1)
            room = [(publisher, FLOOD_SUBSCRIBERS)]
            await run_window(clients, server, room, burst=False, frames=100)
            for kind in ("nobody", *hostile.KINDS):
                await under(book, plan, clients, aside, server, room, kind)


async def under(
    book: Book, plan: Plan, clients: Clients, aside: Clients, server: Server, room: Room, kind: str
) -> None:
    """One window while the member does one kind of thing."""
    seconds = 4 * plan.frames / FLOOD_FRAMERATE + 1.0
    process = None
    if kind != "nobody":
        arguments = ["-m", "loadtest.bench.hostile", server.base, "hold", kind, str(seconds)]
        process = await start_python(arguments, split_cores()[1])
        assert process.stdout is not None
        await process.stdout.readline()
    notices = Notices()
    watching = [asyncio.create_task(ask(server, notices)), asyncio.create_task(join_again(aside, notices))]
    try:
        window = await run_window(clients, server, room, burst=False, frames=4 * plan.frames)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        sent = int((await process.communicate())[0] or 0) if process else 0
    note(book, kind, window, notices, sent / seconds)


async def ask(server: Server, notices: Notices) -> None:
    """GET /healthz again and again, on a connection that stays."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        while True:
            begun = time.monotonic()
            try:
                async with http.get(server.base + "/healthz") as response:
                    await response.read()
                notices.answers.append(time.monotonic() - begun)
            except (aiohttp.ClientError, TimeoutError):
                notices.unanswered += 1
            await asyncio.sleep(ASK_EVERY)


async def join_again(clients: Clients, notices: Notices) -> None:
    """Join a room of its own, with ICE and DTLS, leave, and begin anew."""
    while True:
        try:
            subscriber = await clients.subscribe("aside", PUBLISHER)
            notices.joined += 1
            await clients.leave([subscriber])
        except (DriverError, JoinError):
            notices.refused += 1
        await asyncio.sleep(ASK_EVERY)


def note(book: Book, kind: str, window: Window, notices: Notices, rate: float) -> None:
    """The figures of one kind."""
    times = np.array(notices.answers) * 1000
    book.note(HOSTILE, f"{kind}: datagrams sent", "1/s", rate)
    book.note(HOSTILE, f"{kind}: packets of others that did not arrive", "", float(window.lost), limit=0)
    book.note(HOSTILE, f"{kind}: joins that worked", "", float(notices.joined), limit=1, least=True)
    book.note(HOSTILE, f"{kind}: joins that did not", "", float(notices.refused), limit=0)
    book.note(HOSTILE, f"{kind}: /healthz without an answer", "", float(notices.unanswered), limit=0)
    if times.size:
        book.note(HOSTILE, f"{kind}: /healthz, p50", "ms", float(np.percentile(times, 50)))
        book.note(HOSTILE, f"{kind}: /healthz, p99", "ms", float(np.percentile(times, 99)), limit=PROMPT)
    p99 = histogram_quantile(window.node_latency, 0.99)
    book.note(HOSTILE, f"{kind}: latency in the node, p99", "µs", p99)
    note_faults(book, f"hostile member, {kind}", window)
