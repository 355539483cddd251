"""The stages of the benchmark: each starts a fresh server, measures one thing, and notes it in the book."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.bench.book import Book
from loadtest.bench.clients import CM_ONLY, GCM_ONLY, PACKETS_A_FRAME, Clients, Publisher, Subscriber
from loadtest.bench.server import Server, split_cores, start_node, start_yardstick
from loadtest.bench.window import Window, histogram_quantile, quantile, run_window, spread_over_subscribers
from loadtest.engine.engine import ClientEngine
from loadtest.engine.media import Media
from loadtest.measure import memory_of, threads_of
from loadtest.transport.addresses import LOOPBACK
from loadtest.transport.peer import open_socket

COST, LOSS, LATENCY, JOINS, MEMORY, START, FLOOR, FLOOD = (
    "CPU per forwarded packet",
    "Packets that did not arrive",
    "Forward latency",
    "Joins",
    "Memory",
    "Start and stop",
    "Floor: a bare sendmmsg loop, CPU per packet",
    "Flood of garbage",
)
SINGLY, MIX = "sendmmsg, GCM, 100 sockets", "a frame by GSO and two Opus packets singly, GCM, 100 sockets"
EVEN, BURST = "even", "frames in bursts"
PARALLEL = 16  # joins at once where their speed is not what is measured
PUBLISHER = "p"  # identity of every room's publisher
OPENED_EVERY = 25  # one in so many subscribers opens and checks all it gets
MEMORY_AT = 200  # subscribers for memory per subscriber
HANDSHAKE_FORGOTTEN = 6  # seconds after which a node needs no handshake state any more
ROOMS = 10
FLOOR_SOCKETS = 100
PACKETS_A_SECOND = 300  # of one publisher: 250 video, 50 audio
HALF = 0.5  # of a core
LATE_NS = 20_000_000  # of a publisher's packet, beyond which the load was not as meant
GARBAGE = 240_000  # datagrams a second
FLOOD_SUBSCRIBERS, FLOOD_FRAMERATE = 20, 100  # 1,000 video packets a second to 20
COST_LIMITS = {EVEN: 2.5, BURST: 1.5}  # µs at 100 subscribers


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    repetitions: int = 3
    frames: int = 125  # of a window: 5 s
    sizes: tuple[int, ...] = (1, 10, 50, 100, 200, 500)
    joins: int = 200
    frame_joins: int = 60
    latency_subscribers: int = 800  # at most, over all rooms


QUICK = Plan(repetitions=1, frames=50, sizes=(1, 10, 100), joins=64, frame_joins=20, latency_subscribers=300)


async def fill(
    clients: Clients, room: str, have: int, want: int, profiles: Sequence[str] = GCM_ONLY, *, every: int = OPENED_EVERY
) -> list[Subscriber]:
    """Join subscribers number `have` to `want` of a room, PARALLEL at a time; one in `every` opens what it gets."""
    gate = asyncio.Semaphore(PARALLEL)

    async def one(k: int) -> Subscriber:
        async with gate:
            return await clients.subscribe(room, PUBLISHER, profiles, opened=k % every == 0)

    return list(await asyncio.gather(*(one(k) for k in range(have, want))))


def note_window(book: Book, case: str, window: Window, limit: float | None = None) -> None:
    """The cost and the losses of a window, and remarks where the tool itself was in the way."""
    book.note(COST, case, "µs", window.microseconds, limit=limit)
    book.note(LOSS, case, "packets", float(window.lost), limit=0)
    note_faults(book, case, window)


def note_faults(book: Book, case: str, window: Window) -> None:
    """What in a window a reader has to know of."""
    book.compared += window.checked
    book.wrong += window.wrong
    if window.late > LATE_NS:
        book.remark(f"{case}: a packet left {window.late / 1e6:.0f} ms late; the clients' core was busy")
    if window.our_drops:
        book.remark(f"{case}: the clients' own sockets dropped {window.our_drops} packets; the tool was the bottleneck")
    if window.node_drops:
        book.remark(f"{case}: the node's socket dropped {window.node_drops} datagrams")
    if window.wrong:
        book.remark(f"{case}: {window.wrong} packets could not be opened or were not what was sent")


async def first_start(book: Book, plan: Plan) -> None:
    """Fill the kernel cache, so that later starts are warm; the time is noted apart."""
    server_cores, _ = split_cores()
    with start_node(server_cores) as server:
        book.note(START, "first start, compiles what the cache lacks", "s", server.seconds_to_ready)


async def cost(book: Book, plan: Plan) -> None:
    """CPU per forwarded packet by size of the room, memory per subscriber, then CM-SHA1-80."""
    server_cores, _ = split_cores()
    with start_node(server_cores) as server:
        note_start(book, server)
        async with Clients(server.base, subscribers=sum(plan.sizes[-1:]) + 128, publishers=2) as clients:
            publisher = await clients.publish("wide", PUBLISHER)
            await run_window(clients, server, [(publisher, 0)], burst=False, frames=25)
            await sizes(book, plan, clients, server, publisher)
            await clients.leave([s for s in clients.sessions if isinstance(s, Subscriber)])
            await cm(book, plan, clients, server)
        book.note(START, "SIGTERM to exit", "s", server.stop(), limit=5)


async def sizes(book: Book, plan: Plan, clients: Clients, server: Server, publisher: Publisher) -> None:
    """The room grows; both kinds of pacing at each size."""
    empty, have = memory_of(server.pid), 0
    for size in plan.sizes:
        await fill(clients, "wide", have, size)
        have = size
        await run_window(clients, server, [(publisher, size)], burst=False, frames=25)
        for mode in (EVEN, BURST):
            window = await run_window(clients, server, [(publisher, size)], burst=mode == BURST, frames=plan.frames)
            note_window(book, f"{mode}, {size}", window, COST_LIMITS[mode] if size == 100 else None)
        if size == MEMORY_AT or (size == plan.sizes[-1] and size < MEMORY_AT):
            await asyncio.sleep(HANDSHAKE_FORGOTTEN)
            note_memory(book, server, empty.resident, size)


def note_memory(book: Book, server: Server, empty: int, size: int) -> None:
    """Resident memory per subscriber, and of the whole process."""
    now = memory_of(server.pid)
    book.note(MEMORY, f"per subscriber, {size} joined", "KB", (now.resident - empty) / size / 1000, limit=100)
    book.note(MEMORY, f"resident, {size} joined", "MB", now.resident / 1e6)
    book.note(MEMORY, f"proportional, {size} joined", "MB", now.proportional / 1e6)
    book.note(MEMORY, "threads", "", float(threads_of(server.pid)))


def note_start(book: Book, server: Server) -> None:
    """Seconds from process start to /readyz."""
    book.note(START, "process start to ready, cache warm", "s", server.seconds_to_ready, limit=3)


async def cm(book: Book, plan: Plan, clients: Clients, server: Server) -> None:
    """The same at 100 subscribers with the older profile."""
    publisher = await clients.publish("cm", PUBLISHER, CM_ONLY)
    await run_window(clients, server, [(publisher, 0)], burst=False, frames=5)
    await fill(clients, "cm", 0, 100, CM_ONLY)
    await run_window(clients, server, [(publisher, 100)], burst=False, frames=25)
    for mode in (EVEN, BURST):
        window = await run_window(clients, server, [(publisher, 100)], burst=mode == BURST, frames=plan.frames)
        note_window(book, f"{mode}, 100, CM-SHA1-80", window)


async def joins(book: Book, plan: Plan) -> None:
    """Joins per second to the first packet, and the time to the first whole keyframe from a warm log."""
    server_cores, _ = split_cores()
    with start_node(server_cores) as server:
        note_start(book, server)
        async with Clients(server.base, subscribers=max(plan.joins, plan.frame_joins), publishers=1) as clients:
            publisher = await clients.publish("room", PUBLISHER)
            publisher.begin(burst=False)
            warm = asyncio.create_task(keep_warm(publisher))
            await asyncio.sleep(1)
            await first_frames(book, plan, clients)
            for parallel in (1, 8, 32):
                await join_rate(book, clients, server, plan.joins, parallel)
            warm.cancel()


async def keep_warm(publisher: Publisher) -> None:
    """A keyframe a second, so that the log always has a fresh one."""
    while True:
        publisher.want_keyframe()
        await asyncio.sleep(1)


async def first_frames(book: Book, plan: Plan, clients: Clients) -> None:
    """One join after another, each to its first whole keyframe."""
    joined = []
    for _ in range(plan.frame_joins):
        subscriber = await clients.subscribe("room", PUBLISHER, opened=True)
        await subscriber.wait(frame=True, timeout=10)
        joined.append(subscriber)
    times = [s.peer.timings for s in joined]
    await clients.leave(joined)
    steps = {
        "HTTP": [t.answered - t.begun for t in times],
        "ICE": [t.connected - t.answered for t in times],
        "DTLS": [t.secured - t.connected for t in times],
        "to first packet": [t.first_packet - t.begun for t in times],
    }
    for name, values in steps.items():
        book.note(JOINS, f"{name}, median", "ms", float(np.median(values)) / 1e6)
    frames = np.array([t.first_frame - t.begun for t in times]) / 1e6
    book.note(JOINS, "to first frame, p50", "ms", float(np.percentile(frames, 50)))
    book.note(JOINS, "to first frame, p95", "ms", float(np.percentile(frames, 95)), limit=300)


async def join_rate(book: Book, clients: Clients, server: Server, count: int, parallel: int) -> None:
    """`count` joins, so many at once, until each has had a packet."""
    gate, cpu, begun = asyncio.Semaphore(parallel), server.cpu(), time.monotonic()

    async def one() -> Subscriber:
        async with gate:
            subscriber = await clients.subscribe("room", PUBLISHER)
            await subscriber.wait(frame=False, timeout=10)
            return subscriber

    joined = await asyncio.gather(*(one() for _ in range(count)))
    seconds = time.monotonic() - begun
    limit = 150 if parallel > 1 else None
    book.note(JOINS, f"joins a second, {parallel} at a time", "1/s", count / seconds, limit=limit, least=True)
    book.note(JOINS, f"server CPU a join, {parallel} at a time", "ms", (server.cpu() - cpu) / count * 1000)
    await clients.leave(joined)


async def latency(book: Book, plan: Plan) -> None:
    """Latency at half load: in ten rooms, then in one wide room with its first and last subscriber."""
    cost_even = book.median(COST, f"{EVEN}, 100", COST_LIMITS[EVEN])
    total = min(int(HALF * 1e6 / cost_even / PACKETS_A_SECOND), plan.latency_subscribers)
    server_cores, _ = split_cores()
    with start_node(server_cores) as server:
        note_start(book, server)
        async with Clients(server.base, subscribers=total + ROOMS, publishers=ROOMS) as clients:
            await latency_of(book, plan, clients, server, ROOMS, max(total // ROOMS, 1))
            await clients.leave(list(clients.sessions))
            await latency_of(book, plan, clients, server, 1, total)


async def latency_of(book: Book, plan: Plan, clients: Clients, server: Server, rooms: int, each: int) -> None:
    """`rooms` rooms of `each` subscribers, evenly paced."""
    filled = []
    for k in range(rooms):
        publisher = await clients.publish(f"{rooms}-{k}", PUBLISHER)
        filled.append((publisher, each))
        await fill(clients, f"{rooms}-{k}", 0, each, every=1)
    await run_window(clients, server, filled, burst=False, frames=25)
    window = await run_window(clients, server, filled, burst=False, frames=plan.frames)
    case = f"{rooms} rooms of {each}" if rooms > 1 else f"one room of {each}"
    for q, limit in ((0.5, None), (0.99, 1000.0 if rooms > 1 else None), (0.999, None)):
        book.note(
            LATENCY, f"{case}, in the node, p{q * 100:g}", "µs", histogram_quantile(window.node_latency, q), limit=limit
        )
    for q in (0.5, 0.99):
        spread = spread_over_subscribers(window.latency, q)
        if spread.size:
            book.note(LATENCY, f"{case}, one way, first subscriber, p{q * 100:g}", "µs", float(spread[0]))
            book.note(LATENCY, f"{case}, one way, last subscriber, p{q * 100:g}", "µs", float(spread[-1]))
    seconds = plan.frames / 25
    book.note(LATENCY, f"{case}, CPU of the server", "% of a core", window.cpu / seconds * 100)
    note_window(book, f"{EVEN}, {case}", window)


async def flood(book: Book, plan: Plan) -> None:
    """A room of 1 to 20 at 20,000 forwarded packets a second, with and without garbage at the worker's port."""
    server_cores, client_cores = split_cores()
    with start_node(server_cores) as server:
        note_start(book, server)
        async with Clients(server.base, subscribers=FLOOD_SUBSCRIBERS, publishers=1) as clients:
            publisher = await clients.publish("flood", PUBLISHER, framerate=FLOOD_FRAMERATE)
            await fill(clients, "flood", 0, FLOOD_SUBSCRIBERS, every=1)
            room = [(publisher, FLOOD_SUBSCRIBERS)]
            await run_window(clients, server, room, burst=False, frames=100)
            quiet = await run_window(clients, server, room, burst=False, frames=4 * plan.frames)
            note_flood(book, "without", quiet)
            seconds = plan.frames / 25 + 2.5
            arguments = ["-m", "loadtest.bench.flood", str(server.udp_port), str(GARBAGE), str(seconds)]
            task = asyncio.create_task(run_python(arguments, client_cores))
            await asyncio.sleep(1.5)
            loud = await run_window(clients, server, room, burst=False, frames=4 * plan.frames)
            note_flood(book, "with", loud)
            sent = int(await task)
            book.note(FLOOD, "garbage sent", "1/s", sent / seconds, limit=200_000, least=True)


def note_flood(book: Book, case: str, window: Window) -> None:
    """Loss and latency of the room."""
    book.note(FLOOD, f"{case} garbage: packets forwarded", "", float(window.received))
    book.note(FLOOD, f"{case} garbage: packets that did not arrive", "", float(window.lost), limit=0)
    book.note(FLOOD, f"{case} garbage: dropped by the node's full socket", "", float(window.node_drops))
    book.note(FLOOD, f"{case} garbage: latency in the node, p99", "µs", histogram_quantile(window.node_latency, 0.99))
    one_way = window.latency.sum(axis=0)
    book.note(FLOOD, f"{case} garbage: one way, p99", "µs", quantile(one_way, 0.99))
    book.note(FLOOD, f"{case} garbage: one way, p99.9", "µs", quantile(one_way, 0.999))
    note_faults(book, f"{case} garbage", window)


async def start_python(arguments: Iterable[str], cores: set[int]) -> asyncio.subprocess.Process:
    """Run our interpreter on some cores; what it prints is read by the caller, who waits for its end."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    finally:
        os.sched_setaffinity(0, ours)


async def run_python(arguments: Iterable[str], cores: set[int]) -> str:
    """Run our interpreter on some cores and return what it printed; ended by pid when we are cancelled."""
    process = await start_python(arguments, cores)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:80]} ended with {process.returncode}")
    return output.decode()


async def floor(book: Book, plan: Plan) -> None:
    """What sending alone costs on the server's core, to 100 sockets."""
    server_cores, _ = split_cores()
    engine = ClientEngine(FLOOR_SOCKETS, publishers=0)
    engine.start()
    try:
        ports = [drained_port(engine) for _ in range(FLOOR_SOCKETS)]
        arguments = ["-m", "loadtest.bench.floor", *map(str, ports)]
        found = json.loads(await run_python(arguments, server_cores))
        for case, value in found.items():
            book.note(FLOOR, f"{case}, {FLOOR_SOCKETS} sockets", "µs", value)
        mix = (PACKETS_A_FRAME * found["GSO of 10, GCM"] + 2 * found["sendmmsg, GCM"]) / (PACKETS_A_FRAME + 2)
        book.note(FLOOR, MIX, "µs", mix)
    finally:
        engine.stop()


def drained_port(engine: ClientEngine) -> int:
    """A port that the engine reads, and on which nothing comes that it could open."""
    sock, index = open_socket(LOOPBACK), engine.reserve()
    engine.hand_over(index, sock, None, Media({}, {}, {}, {}), ssrc=1, cname="")
    engine.clients.rows[index].counted_only = 1
    engine.open(index)
    return int(sock.getsockname()[1])


def ratios(book: Book) -> None:
    """The node's cost at 100 subscribers over the floor of the same run."""
    for mode, bottom in ((EVEN, SINGLY), (BURST, MIX)):
        cost_of, floor_of = book.figures.get((COST, f"{mode}, 100")), book.figures.get((FLOOR, bottom))
        if cost_of and floor_of:
            book.note(FLOOR, f"the node over it, {mode}", "times", cost_of.median / floor_of.median)


async def yardstick(book: Book, plan: Plan) -> None:
    """The pure Python forwarder at 10 subscribers, measured the same way."""
    server_cores, _ = split_cores()
    with start_yardstick(server_cores) as server:
        async with Clients(server.base, subscribers=16, publishers=1) as clients:
            publisher = await clients.publish("y", PUBLISHER)
            await fill(clients, "y", 0, 10)
            await run_window(clients, server, [(publisher, 10)], burst=False, frames=25)
            for mode in (EVEN, BURST):
                window = await run_window(clients, server, [(publisher, 10)], burst=mode == BURST, frames=plan.frames)
                note_window(book, f"{mode}, 10, pure Python on aiortc parts", window)
