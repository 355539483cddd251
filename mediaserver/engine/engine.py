"""The packet engine as the rest of the node sees it: workers, placement, and events turned into callbacks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mediaserver.clock import RunningClock
from mediaserver.engine import layout as L
from mediaserver.engine.buffers import report_buffers
from mediaserver.engine.handles import Layer, Subscription, Transport
from mediaserver.engine.loop import WAKE_WORDS
from mediaserver.engine.ring import drain_eventfd
from mediaserver.engine.shares import EngineFull, Need
from mediaserver.engine.worker import Worker
from mediaserver.logs import get_logger
from packetio.batch import unpack_sockaddr
from packetio.memory import Table
from packetio.srtp import SrtpContexts

if TYPE_CHECKING:
    from config.schema import Config

__all__ = ["Engine", "EngineFull", "Layer", "Need", "SrtpContexts", "Subscription", "Transport", "Worker"]

log = get_logger("weir.engine")
EVENTS_A_TURN = 64  # of all workers, before HTTP and timers have theirs …
TURN_SECONDS = 0.003  # … or so much time: a step of a handshake may cost a millisecond
SWEEP = 0.25  # seconds between looks for what a wake-up may have missed: removals, commands that found no room
SETTLED = 64  # removals that are finished in one wake-up: each gives back a peer's contexts and slots
REMEMBERED = 1024  # ended transports whose names are kept, for when they send on
SPREAD_STEP = 50  # packed rooms spill to another worker when theirs has so many more subscriptions


def stood_still(seconds: float) -> None:
    """The process was stopped, or got no processor. Peers have their time anew, so nobody is ended for it."""
    log.warning("stood still", seconds=round(seconds, 1))


class Engine:
    """All workers of the node. Made, started and stopped on the control thread."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.wakes = Table(np.dtype("i8"), WAKE_WORDS)
        self.workers = [Worker(config, index, self.wakes, self.wake_fd) for index in range(config.media.workers)]
        self.transports: dict[tuple[int, int], Transport] = {}
        self.layers: dict[tuple[int, int], Layer] = {}
        self.subscriptions: dict[tuple[int, int], Subscription] = {}
        self.foreign: dict[tuple[int, Layer], int] = {}  # (worker, another worker's layer) -> feed
        self.room_workers: dict[str, int] = {}
        self._ended: dict[int, dict[str, str]] = {}  # by serial, the oldest first: whose transports have ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.clock = RunningClock(stood_still)  # for what peers have to do in time
        self._turn = 0  # the worker whose event is taken next

    async def start(self) -> None:
        """Bind the sockets and start the threads. Raises OSError when an address is taken."""
        self._loop = asyncio.get_running_loop()
        self.clock.start()
        self._loop.add_reader(self.wake_fd, self._on_events)
        for worker in self.workers:
            worker.start()
        if (sock := self.workers[0].socket) is not None:  # all workers' are alike
            report_buffers(sock, self.config.media.receive_buffer, self.config.media.send_buffer)
        self._sweep()

    async def stop(self) -> None:
        """End every worker. Transports are closed before."""
        if self._loop is not None:
            self._loop.remove_reader(self.wake_fd)
            self.clock.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)
        for worker in self.workers:
            worker.removals.abandon()
        for transport in list(self.transports.values()):
            transport.free()
        for worker in self.workers:
            worker.close()
        os.close(self.wake_fd)

    def place(self, room: str, need: Need, *, publishing: bool) -> Worker:
        """The worker for a new transport of a room: the first that has what it needs of those that suit.

        "pack": a room stays on one worker until that carries SPREAD_STEP more subscriptions than another; "spread": the
        least loaded. A publisher's worker is the room's, while it has room. Raises EngineFull when none has.
        """
        by_load = sorted(self.workers, key=lambda worker: (worker.subscription_used, worker.transport_used))
        choice = by_load
        if self.config.media.placement == "pack":
            home = self.workers[self.room_workers.setdefault(room, by_load[0].index)]
            if publishing or home.subscription_used < by_load[0].subscription_used + SPREAD_STEP:
                choice = [home] + [worker for worker in by_load if worker is not home]
        lacks = [need.lacking(worker) for worker in choice]
        for worker, lack in zip(choice, lacks, strict=True):
            if lack is None:
                return worker
        assert lacks[0] is not None
        raise EngineFull(lacks[0].what, lacks[0].limit)

    def forget_room(self, room: str) -> None:
        """The room is empty: its next life may be placed elsewhere."""
        self.room_workers.pop(room, None)

    def open_transport(self, worker: Worker, ufrag: str, password: str) -> Transport:
        """A transport that answers ICE checks for these credentials. Raises EngineFull."""
        transport = Transport(self, worker, ufrag, password)
        self.transports[(worker.index, transport.index)] = transport
        return transport

    def quiet_transports(self, seconds: float) -> set[Transport]:
        """The transports that have been silent for longer, as `Transport.idle` has it; not those never heard of."""
        quiet: set[Transport] = set()
        for worker in self.workers:
            before = worker.clock() - int(seconds * 1e9)
            if worker.awake_since >= before:
                continue
            heard = worker.transports.rows["last_heard"]
            for index in np.flatnonzero((heard > 0) & (heard < before)).tolist():
                if (transport := self.transports.get((worker.index, index))) is not None:
                    quiet.add(transport)
        return quiet

    def remember(self, transport: Transport) -> None:
        """A transport has ended: keep its name for a while."""
        self._ended[transport.serial] = transport.about
        while len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def feed_for(self, worker: Worker, layer: Layer) -> int:
        """The feed by which a worker reads a layer's log; one is opened when another worker writes it."""
        if layer.worker is worker:
            return layer.feed
        feed = self.foreign.get((worker.index, layer))
        if feed is None:
            feed = worker.feed_slots.take()
            row = worker.feeds.clear(feed)
            row.log, row.owner_wake = layer.log.base, layer.worker.wake_fd
            row.generation = layer.log.generation
            worker.command(L.ADD_FEED, feed)
            self.foreign[(worker.index, layer)] = feed
        return feed

    def close_feeds(self, layer: Layer, then: Callable[[], None]) -> int:
        """Close every other worker's feed of a layer; `then` is called once for each. Returns how many there are."""
        count = 0
        for worker in self.workers:
            feed = self.foreign.pop((worker.index, layer), None)
            if feed is not None:
                count += 1

                def closed(worker: Worker = worker, feed: int = feed) -> None:
                    worker.feed_slots.give(feed)
                    then()

                worker.remove(L.REMOVE_FEED, worker.feeds, feed, closed)
        return count

    def _sweep(self) -> None:
        self._settle()
        assert self._loop is not None
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    def _settle(self) -> None:
        more = False
        for worker in self.workers:
            try:
                more |= worker.settle(SETTLED)
            except Exception:
                log.exception("a removal could not be finished")
                more = True
        if more:
            os.eventfd_write(self.wake_fd, 1)  # the rest after whatever else the loop has to do

    def _on_events(self) -> None:
        drain_eventfd(self.wake_fd)  # before the rings are looked at: what comes from here on wakes us again
        if self._take_events():
            os.eventfd_write(self.wake_fd, 1)  # the rest when everybody else has had a turn of the loop
        self._settle()

    def _take_events(self) -> bool:
        """Handle a bounded number of events, one of each worker in turn; whether there may be more."""
        end = time.monotonic() + TURN_SECONDS
        handled = empty = 0
        while empty < len(self.workers):
            if handled == EVENTS_A_TURN or (handled and time.monotonic() > end):
                return True
            worker = self.workers[self._turn]
            self._turn = (self._turn + 1) % len(self.workers)
            event = worker.events.pop()
            if event is None:
                empty += 1
                continue
            empty, handled = 0, handled + 1
            try:
                self._handle(worker, *event)
            except Exception:  # a fault of ours about one peer must not keep the others' events waiting
                log.exception("an event of the engine could not be handled", op=event[0], index=event[1])
        return False

    def _handle(self, worker: Worker, op: int, index: int, a: int, b: int, payload: bytes) -> None:
        key = (worker.index, index)
        if op in (L.LAYER_STARTED, L.LAYER_PAUSED):
            layer = self.layers.get(key)
            if layer is not None and op == L.LAYER_STARTED:
                layer.on_started(a, b)
            elif layer is not None:
                layer.on_paused()
        elif op == L.SOURCE_STARTED:
            subscription = self.subscriptions.get(key)
            if subscription is not None and subscription.layer is not None:
                subscription.on_started(subscription.layer)
        elif op == L.SENDS_ON:
            host, port = unpack_sockaddr(np.frombuffer(payload, np.uint8))
            about = self._ended.pop(a, None)  # it may send from several addresses: one line for a session
            if about is not None:
                log.warning("a peer whose session has ended goes on sending", remote=f"{host}:{port}", **about)
        elif (transport := self.transports.get(key)) is not None and not transport.closed:
            self._handle_transport(transport, op, payload)

    def _handle_transport(self, transport: Transport, op: int, payload: bytes) -> None:
        if op == L.DTLS:
            transport.on_datagram(payload)
        elif op == L.GOODBYE:
            transport.on_goodbye()
        elif op in (L.ICE_CONNECTED, L.ADDRESS_CHANGED):
            address = transport.remote
            if address is not None:
                (transport.on_connected if op == L.ICE_CONNECTED else transport.on_address_changed)(address)
