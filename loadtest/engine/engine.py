"""Python's face of the client engine: it owns the memory, hands clients over, takes up what is control's, and counts.

Everything here is per join or per second. Counters of clients that have left are kept by group in `departed`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loadtest.clips.reel import Reel
from loadtest.engine import layout as L
from loadtest.engine.capture import CaptureRing
from loadtest.engine.held import HeldPackets
from loadtest.engine.links import LINK, fill_link, release_time, seed_link
from loadtest.engine.loop import STATE, STOP, run
from loadtest.engine.media import Media
from loadtest.engine.post import SCRATCH
from loadtest.engine.sources import begin_source, fill_source
from loadtest.engine.totals import Totals, add_clients
from packetio.batch import MESSAGE, SLOT, VECTOR, ReceiveSlots
from packetio.log import load_acquire_py, store_release_py
from packetio.memory import Table
from packetio.srtp import SrtpContexts

RECEIVE_SLOTS, SEND_SLOTS, EVENTS = 64, 64, 4096
SOON = 5_000_000  # ns after which sources begin: none is late from the start
GONE_WITHIN = 10.0  # seconds: the engine passes its clients far more often
SO_MEMINFO = 55  # of Linux; the socket module has no name for it
MEMINFO = struct.Struct("9I")  # its last number is the drops
MAXIMA_WANTED, MAXIMA_BEGUN = L.offset(L.ENGINE, "maxima_wanted"), L.offset(L.ENGINE, "maxima_begun")
HEADS = (L.offset(L.ENGINE, "event_head"), L.offset(L.ENGINE, "event_tail"))


@dataclass(frozen=True)
class LinkSettings:
    """One direction of a client's network, in the words of `links.fill_link`."""

    loss: tuple[float, float, float, float] | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder: float = 0.0
    reorder_delay_ms: float = 10.0
    rate_kbit: float = 0.0
    queue_ms: float = 200.0


@dataclass(eq=False)
class Kept:
    """What a client has outside the engine's memory, and how far its removal has come."""

    sock: socket.socket
    contexts: SrtpContexts | None
    sources: list[int] = field(default_factory=list)  # rows
    early: tuple[Table, Table] | None = None  # what `hand_over` was given, for the engine to read
    silenced: bool = False  # nobody empties its socket
    counted: bool = False  # its counters are in `departed`
    buried: bool = False


def drops_of(sock: socket.socket) -> int:
    """Datagrams that a socket had no room for since it was opened."""
    return int(MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO.size))[-1])


class ClientEngine:
    """`capacity` clients at once, of which `publishers` send; `start` begins, `stop` ends.

    Its thread goes before all others where that is allowed, so that packets leave in time, unless it is not `urgent` or
    there is one core for all.
    """

    def __init__(
        self, capacity: int, publishers: int, *, held: int = 8192, captured: int = 2048, urgent: bool = True
    ) -> None:
        self.clients = Table(L.CLIENT, capacity + 1)
        self.streams = Table(L.STREAM, L.MAX_STREAMS * capacity + 1)
        self.sources = Table(L.SOURCE, L.MAX_SOURCES * publishers + 1)
        self.held, self.captures = HeldPackets(held), CaptureRing(captured)
        self.departed: dict[int, Totals] = {}
        self.on_datagram: Callable[[int, bytes], None] = lambda token, data: None
        self._receive = ReceiveSlots(RECEIVE_SLOTS)
        self._receive.messages.rows["name"], self._receive.messages.rows["name_size"] = 0, 0
        self._messages, self._vectors = Table(MESSAGE, SEND_SLOTS), Table(VECTOR, SEND_SLOTS)
        self._send = Table(np.dtype("u1"), SLOT * SEND_SLOTS)
        self._scratch, self._events = Table(np.dtype("u1"), SCRATCH), Table(L.EVENT, EVENTS)
        self._free_streams = Table(np.dtype("i8"), self.streams.count)
        self._free_clients = list(range(capacity, 0, -1))
        self._free_sources = list(range(self.sources.count - 1, 0, -1))
        self._kept: dict[int, Kept] = {}
        self._drops = 0  # of sockets that are closed or silenced
        self._reels: dict[int, Reel] = {}  # by address
        self._generation, self._urgent, self._real_time = 0, urgent, False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.table = Table(L.ENGINE, 1)
        self.state: Any = self.table.rows[0]
        self._lay_out()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _lay_out(self) -> None:
        e = self.state
        e.clients, e.streams, e.sources = self.clients.address, self.streams.address, self.sources.address
        count = self.streams.count - 1
        self._free_streams.rows[:count] = np.arange(count, 0, -1)
        e.stream_free, e.stream_free_count = self._free_streams.address, count
        e.held, e.captures = self.held.address, self.captures.address
        e.events, e.event_slots, e.wake = self._events.address, EVENTS, self._wake
        slots = self._receive
        e.messages, e.buffer, e.controls, e.slots = (
            slots.messages.address, slots.data.address, slots.controls.address, slots.count,
        )  # fmt: skip
        self._vectors.rows["base"] = self._send.address + np.arange(SEND_SLOTS) * SLOT
        self._messages.rows["vector"] = self._vectors.address + np.arange(SEND_SLOTS) * VECTOR.itemsize
        self._messages.rows["vector_count"] = 1
        e.out_messages, e.out_vectors = self._messages.address, self._vectors.address
        e.out_buffer, e.out_count, e.scratch = self._send.address, SEND_SLOTS, self._scratch.address
        e.client_used = self.clients.count

    def compile(self) -> None:
        """Compile all kernels now, if they are not cached: it takes a minute."""
        store_release_py(self.table.address + STOP, 1)
        run(self.table.address)
        store_release_py(self.table.address + STOP, 0)

    def start(self) -> None:
        """Start the thread, and take up events on the running event loop."""
        self.compile()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._wake, self.take_events)
        self._thread.start()

    def _run(self) -> None:
        if self._urgent and len(os.sched_getaffinity(0)) > 1:  # on one core control and a target would starve
            try:
                os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(1))
                self._real_time = True
            except (OSError, AttributeError):
                pass  # without the right to it, packets leave a little later when the core is busy
        run(self.table.address)

    @property
    def scheduling(self) -> str:
        """How the system runs the thread: "real-time" when it goes before all others, else "normal"."""
        return "real-time" if self._real_time else "normal"

    def stop(self) -> None:
        """End the thread and close every socket that is still ours. Again: nothing."""
        store_release_py(self.table.address + STOP, 1)
        if self._thread.ident is not None:
            self._thread.join()
        if self._loop:
            self._loop.remove_reader(self._wake)
            self._loop = None
        for index in list(self._kept):
            self._bury(index)
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def reserve(self, group: int = 0) -> int:
        """A client's record that nobody serves yet: its links can be set. Returns its row. IndexError: none is left."""
        if not self._free_clients:
            raise IndexError(f"the engine has {self.clients.count - 1} clients, all of them in use")
        index = self._free_clients.pop()
        c = self.clients.clear(index)
        self._generation += 1
        c.token, c.group = self._generation << 24 | index, group
        c.repairs[:] = L.NO_TYPE
        return index

    def give_back(self, index: int) -> None:
        """A reserved record is not needed: nothing was handed over."""
        self._free_clients.append(index)

    def set_network(self, index: int, down: LinkSettings | None, up: LinkSettings | None, seed: int) -> None:
        """Impair the network of a reserved client."""
        c = self.clients.rows[index]
        for row, network, salt in ((c.down, down, 0), (c.up, up, 1)):
            if network:
                fill_link(row, **network.__dict__, seed=seed * 2 + salt)

    def gate(self, index: int) -> Callable[[bool, int, int], int] | None:
        """A reserved client's network for what control sends and takes: (outgoing, bytes, now) -> release, -1: lost.

        Times in ns. The links are like the client's own, which the engine's thread changes, but with other chances.
        """
        c = self.clients.rows[index]
        if not c.down.active and not c.up.active:
            return None
        links = Table(LINK, 2)
        for k, link in enumerate((c.down, c.up)):
            links.rows[k] = link
            seed_link(links.rows[k], int(link.random))
        return lambda outgoing, size, now: int(release_time(links.rows[int(outgoing)], now, size))

    def hand_over(
        self,
        index: int,
        sock: socket.socket,
        contexts: SrtpContexts | None,
        media: Media,
        *,
        ssrc: int,
        cname: str,
        early: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Give a reserved client its socket and keys, which are the engine's to close from here on; `open` starts it.

        early: media that came before and that its network still delays: (release in ns, datagram), in order.
        Whatever fails from here on, `remove` takes it all back. IndexError: a number in `media` is out of range.
        """
        self._kept[index] = Kept(sock, contexts)
        c = self.clients.rows[index]
        c.fd = sock.fileno()
        c.inbound, c.outbound = (contexts.inbound, contexts.outbound) if contexts else (0, 0)
        c.ssrc = ssrc
        name = cname.encode()[: L.NAME]
        c.cname[: len(name)], c.cname_size = np.frombuffer(name, np.uint8), len(name)
        for table, values in ((c.codecs, media.codecs), (c.repairs, media.repairs), (c.kinds, media.kinds)):
            for key, value in values.items():
                table[key] = value
        for kind, identity in media.ids.items():
            c.ids[kind] = identity
        self._keep_early(index, early)

    def _keep_early(self, index: int, early: Sequence[tuple[int, bytes]]) -> None:
        if not early:
            return
        c, sizes = self.clients.rows[index], [len(data) for _, data in early]
        rows, data = Table(L.EARLY, len(early)), Table(np.dtype("u1"), sum(sizes))
        data.rows[:] = np.frombuffer(b"".join(datagram for _, datagram in early), np.uint8)
        rows.rows["release"], rows.rows["length"] = [release for release, _ in early], sizes
        rows.rows["address"] = data.address + np.cumsum(sizes) - sizes
        self._kept[index].early = rows, data
        c.early, c.early_count = rows.address, len(early)
        c.down.last_release = early[-1][0]  # what comes next does not overtake them

    def add_source(self, index: int, reel: Reel, **fields: Any) -> int:
        """A source of a client that is not open yet, from `sources.fill_source`'s arguments, `reel` a Reel.

        ValueError: an argument is out of range. IndexError: there is no room.
        """
        c = self.clients.rows[index]
        if not self._free_sources or c.source_count >= L.MAX_SOURCES:
            raise IndexError("no room for another source")
        number = self._free_sources[-1]
        fill_source(self.sources.clear(number), reel=reel.address, **fields)
        self._kept[index].sources.append(self._free_sources.pop())
        c.sources[c.source_count] = number
        c.source_count += 1
        self._reels[reel.address] = reel  # the engine reads it by address
        return number

    def open(self, index: int) -> None:
        """From now on the client is the engine's."""
        store_release_py(self._state_of(index), L.OPEN)

    def _state_of(self, index: int) -> int:
        return self.clients.address + index * L.CLIENT_SIZE + STATE

    def begin(self, index: int, at: int = 0, *, frames: int = -1) -> None:
        """Let a client's sources send from `at` (ns, CLOCK_MONOTONIC; 0: now) on: so many frames, or without end."""
        at = at or time.monotonic_ns() + SOON
        for number in self._kept[index].sources:
            begin_source(self.sources.rows[number], at, frames=frames)

    def mute(self, index: int, kind: int, muted: bool) -> None:
        """Send no media of one kind, or send it again; it begins with a keyframe."""
        for number in self._kept[index].sources:
            row = self.sources.rows[number]
            if int(row.kind) == kind:
                row.muted, row.want_key = int(muted), 1

    def forget_maxima(self) -> None:
        """Measure the highest latency, the longest freeze and the lateness anew.

        The engine's thread begins that with its next pass; until then the first two are 0.
        """
        store_release_py(self.table.address + MAXIMA_WANTED, int(self.state.maxima_wanted) + 1)
        for totals in self.departed.values():
            totals.latency_max = totals.longest_freeze = 0

    @property
    def maxima_begun(self) -> bool:
        """Whether the maxima in the records are those since `forget_maxima`."""
        return load_acquire_py(self.table.address + MAXIMA_BEGUN) == int(self.state.maxima_wanted)

    def captured(self, source: Any, number: int) -> int:
        """When a source captured the newest frame that is number `number` in its reel, ns; 0: not lately."""
        reel = self._reels.get(int(source.reel))
        if reel is None or not 0 <= number < int(reel.row.frames):
            return 0
        history = source.history
        begun = history[(history["packet"] == int(reel.frame_rows[number].first)) & (history["sequence"] >= 0)]
        return int(begun["captured"].max()) if len(begun) else 0

    def sources_of(self, index: int) -> list[Any]:
        """The SOURCE records of a client; none when it has gone, which another thread may find."""
        kept = self._kept.get(index)
        return [self.sources.rows[number] for number in kept.sources] if kept else []

    def silence(self, index: int) -> None:
        """Let a client be dead: it neither reads nor sends."""
        self.clients.rows[index].stopped = 1
        kept = self._kept.get(index)
        if kept and not kept.silenced:
            self._drops += drops_of(kept.sock)
            kept.silenced = True

    async def remove(self, index: int) -> None:
        """Take a client back and close its socket; its counters go to `departed`. RuntimeError: it does not answer.

        Again, also while another call is under way or after one was cancelled: the rest of it.
        """
        kept, state = self._kept.get(index), self._state_of(index)
        if kept is None:
            return
        if not kept.counted:
            store_release_py(state, L.LEAVING)
            await self._until(lambda: kept.counted or load_acquire_py(state) == L.GONE)
        if not kept.counted:
            self._count_out(index, kept)
            store_release_py(state, L.SPENT)
        await self._until(lambda: kept.buried or load_acquire_py(state) == L.FREE)
        if not kept.buried:
            for number in kept.sources:
                self.sources.clear(number)
            self._free_sources += kept.sources
            self._bury(index)
            self._free_clients.append(index)

    def _count_out(self, index: int, kept: Kept) -> None:
        kept.counted = True
        totals = self.departed.setdefault(int(self.clients.rows[index].group), Totals())
        add_clients(self, np.array([index]), totals, here=False)

    async def _until(self, done: Callable[[], bool]) -> None:
        until = asyncio.get_running_loop().time() + GONE_WITHIN
        while not done():
            if not self._thread.is_alive():
                raise RuntimeError("the client engine does not run")
            if asyncio.get_running_loop().time() > until:
                raise RuntimeError("the client engine does not answer")
            await asyncio.sleep(0.001)

    def _bury(self, index: int) -> None:
        kept = self._kept.pop(index)
        kept.buried = True
        if not kept.silenced:
            self._drops += drops_of(kept.sock)
        kept.sock.close()
        if kept.contexts:
            kept.contexts.close()

    def take_events(self) -> None:
        """Hand STUN and DTLS datagrams to `on_datagram(token, bytes)`."""
        try:
            os.eventfd_read(self._wake)
        except (BlockingIOError, OSError):
            pass
        head, tail = (self.table.address + at for at in HEADS)
        while load_acquire_py(tail) < load_acquire_py(head):
            row = self._events.rows[int(self.state.event_tail) % EVENTS]
            token, data = int(row.token), row.payload[: int(row.length)].tobytes()
            store_release_py(tail, int(self.state.event_tail) + 1)
            if int(self.clients.rows[token & L.INDEX].token) == token:
                self.on_datagram(token & L.INDEX, data)

    def totals(self) -> dict[int, Totals]:
        """What all clients counted until now, those that left included, by group."""
        found = {group: totals.copy() for group, totals in self.departed.items()}
        indices = np.array(sorted(index for index, kept in self._kept.items() if not kept.counted), np.int64)
        groups = self.clients.rows["group"][indices]
        for group in np.unique(groups):
            add_clients(self, indices[groups == group], found.setdefault(int(group), Totals()))
        return found

    def cpu(self) -> float:
        """CPU seconds that the engine's thread has used."""
        if self._thread.ident is None or not self._thread.is_alive():
            return 0.0
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def drops(self) -> int:
        """Datagrams that the clients' sockets had no room for, closed ones included; of silenced ones before that."""
        return self._drops + sum(drops_of(kept.sock) for kept in self._kept.values() if not kept.silenced)
