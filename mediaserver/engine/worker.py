"""One engine thread seen from control: its tables, rings, socket, and which records are in use.

Control hands out indices and fills records; the worker thread runs `loop.run` over the WORKER record and never Python.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from mediacodecs.twcc import TWCC_STATE
from mediaserver.engine import layout as L
from mediaserver.engine.loop import MAX_WORKERS, STOP, run
from mediaserver.engine.removals import Removals
from mediaserver.engine.ring import Ring
from mediaserver.engine.send import SEND_WAIT
from mediaserver.engine.shares import Slots
from packetio.batch import SLOT, ReceiveSlots, SendQueue, bind_udp
from packetio.log import PacketLog, log_size, store_release_py
from packetio.memory import Region, Table
from packetio.srtp import make_sealer

if TYPE_CHECKING:
    from config.schema import Config

RECEIVE_SLOTS = 64
SEND_MESSAGES, SEND_BYTES = 256, 512 * 1024  # fits the second-level cache
COMMAND_SLOTS, EVENT_SLOTS = 8192, 2048  # of the events three quarters for DTLS: 256 handshakes of 6 datagrams each
SCRATCH = 5120
STANDSTILL = 5_000_000_000  # ns without a round, after which a worker counts as stuck: one is due every 10 ms


class LogStore:
    """The packet logs of one worker: fixed places in one memfd, for video and for audio.

    A place is taken when somebody is about to publish; it costs memory only from `open` on, when they have connected.
    """

    def __init__(self, config: Config) -> None:
        video, audio = config.logs.video, config.logs.audio
        self.sizes = {L.VIDEO: video, L.AUDIO: audio}
        self.steps = {L.VIDEO: log_size(video.packets, video.bytes), L.AUDIO: log_size(audio.packets, audio.bytes)}
        self.starts = {L.VIDEO: 0, L.AUDIO: self.steps[L.VIDEO] * video.count}
        self.region = Region(self.starts[L.AUDIO] + self.steps[L.AUDIO] * audio.count, "weir-logs")
        self.slots = {L.VIDEO: Slots("video logs", video.count), L.AUDIO: Slots("audio logs", audio.count)}
        self._threads = ThreadPoolExecutor(1, "weir-prefault")  # a log's pages take a millisecond to come
        self._faulting: dict[tuple[int, int], Future[None]] = {}

    def take(self, kind: int) -> int:
        """A place for a log of this kind. Raises EngineFull."""
        return self.slots[kind].take()

    def address(self, kind: int, place: int) -> int:
        """Where the log of a place begins."""
        return self.region.address + self._offset(kind, place)

    def open(self, kind: int, place: int) -> PacketLog:
        """An empty log at a place that was taken; its pages come meanwhile."""
        offset = self._offset(kind, place)
        made = PacketLog.create(self.region, offset, self.sizes[kind].packets, self.sizes[kind].bytes)
        self._faulting[kind, place] = self._threads.submit(self.region.prefault, offset, self.steps[kind])
        return made

    def give(self, kind: int, place: int) -> None:
        """Return a place whose log nobody reads any more; its memory goes back to the system."""
        try:
            if (faulting := self._faulting.pop((kind, place), None)) is not None:
                if not faulting.cancel():
                    faulting.result()
                PacketLog(self.region, self._offset(kind, place)).free()
        finally:
            self.slots[kind].give(place)

    def close(self) -> None:
        """The node ends: no log is used any more."""
        self._threads.shutdown()
        self.region.close()

    def _offset(self, kind: int, place: int) -> int:
        return self.starts[kind] + (place - 1) * self.steps[kind]

    @property
    def used(self) -> int:
        """Logs in use."""
        return self.slots[L.VIDEO].used + self.slots[L.AUDIO].used


class Worker:
    """Tables, rings and thread of one engine worker."""

    def __init__(self, config: Config, index: int, wakes: Table, control_wake: int) -> None:
        limits = config.limits
        self.config, self.index = config, index
        self.port = config.media.port + index
        self.transports = Table(L.TRANSPORT, limits.transports + 1)
        self.layers = Table(L.LAYER, limits.layers + 1)
        self.feeds = Table(L.FEED, 2 * limits.layers + 1)
        self.subscriptions = Table(L.SUBSCRIPTION, limits.subscriptions + 1)
        self.twccs = Table(TWCC_STATE, limits.publishers + 1)
        self.maps = Table(np.dtype("i8"), (limits.subscriptions + 1) * L.MAP_SIZE)
        self.resends = Table(np.dtype("u4"), (limits.subscriptions + 1) * L.MAP_SIZE)  # touched where there is loss
        self.logs = LogStore(config)
        self.transport_slots = Slots("transports", limits.transports)
        self.layer_slots = Slots("layers", limits.layers)
        self.feed_slots = Slots("feeds", 2 * limits.layers)
        self.subscription_slots = Slots("subscriptions", limits.subscriptions)
        self.twcc_slots = Slots("publishers", limits.publishers)
        self.commands = Ring(L.COMMAND, COMMAND_SLOTS)
        self.events = Ring(L.EVENT, EVENT_SLOTS)
        self.generations = np.random.default_rng(secrets.randbits(64)).integers(1, 1 << 14, limits.subscriptions + 1)
        self.removals = Removals(self.events)
        self._unsent: deque[tuple[int, int, int, int]] = deque()  # commands that found the ring full
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.news = Table(np.dtype("i8"), self.feeds.count // 64 + 1)
        wakes.rows[index], wakes.rows[MAX_WORKERS + index] = self.wake_fd, self.news.address
        self.socket: socket.socket | None = None
        self.thread: threading.Thread | None = None
        self._lay_out(config, wakes, control_wake)

    def _lay_out(self, config: Config, wakes: Table, control_wake: int) -> None:
        """Make the WORKER record: addresses, counts and settings."""
        limits = config.limits
        self.receive_slots = ReceiveSlots(RECEIVE_SLOTS)
        self.queue = SendQueue(SEND_MESSAGES, SEND_BYTES)
        self.packets = Table(L.PACKET, L.RUN + 1)
        slots = 1 << (4 * limits.transports - 1).bit_length()
        self.addresses, self.ufrags = Table(L.ADDRESS, slots * 2), Table(L.UFRAG, slots)
        self.dirty = Table(np.dtype("i8"), self.feeds.count)
        self.ended = Table(L.ENDED, L.ENDED_SLOTS)
        self.segments, self.arrivals = Table(np.dtype("i8"), SEND_MESSAGES), Table(np.dtype("i8"), SEND_MESSAGES)
        self.sealer, self.scratch = make_sealer(), Table(np.dtype("u1"), SCRATCH)
        self.table = Table(L.WORKER, 1)
        self.counters: Any = self.table.rows[0]
        w, slot, queue = self.counters, self.receive_slots, self.queue
        w.index, w.wake, w.control_wake, w.worker_count = self.index, self.wake_fd, control_wake, config.media.workers
        for name in ("transports", "layers", "feeds", "subscriptions"):
            w[name] = getattr(self, name).address
            w[f"{name[:-1]}_count"] = getattr(self, name).count
        w.twccs, w.packets, w.dirty = self.twccs.address, self.packets.address, self.dirty.address
        w.addresses, w.address_slots = self.addresses.address, slots * 2
        w.ufrags, w.ufrag_slots = self.ufrags.address, slots
        w.ended = self.ended.address
        w.commands, w.command_slots = self.commands.address, COMMAND_SLOTS
        w.events, w.event_slots = self.events.address, EVENT_SLOTS
        w.worker_wakes, w.news, w.resends = wakes.address, self.news.address, self.resends.address
        w.slots, w.messages, w["data"] = slot.count, slot.messages.address, slot.data.address
        w.names, w.controls = slot.names.address, slot.controls.address
        w.out_count, w.out_size = queue.count, queue.size
        w.out_messages, w.out_vectors = queue.messages.address, queue.vectors.address
        w.out_controls, w.arena = queue.controls.address, queue.arena.address
        w.out_segments, w.out_arrivals = self.segments.address, self.arrivals.address
        w.sealer, w.scratch = self.sealer.address, self.scratch.address
        w.gso, w.linger = int(config.media.gso), config.media.linger_us * 1000
        w.send_wait = SEND_WAIT
        late = config.late_join
        w.keyframe_age, w.keyframe_interval = late.keyframe_age * L.MS, late.keyframe_request_interval * L.MS
        w.burst, w.burst_rate = late.burst, late.rate // 8
        w.uplink_packet_pause = L.SECOND // limits.uplink_packets_per_second
        w.uplink_byte_pause = (8 * L.SECOND << L.BYTE_SHIFT) // limits.uplink_bits_per_second
        w.random = secrets.randbits(63)
        w.question_key[:] = np.frombuffer(secrets.token_bytes(w.question_key.size), np.uint8)
        assert slot.data.count == RECEIVE_SLOTS * SLOT and MAX_WORKERS >= config.media.workers

    def start(self) -> None:
        """Bind the UDP socket and start the thread. Raises OSError when the address is taken."""
        media = self.config.media
        self.socket = bind_udp(media.host, self.port, media.receive_buffer, media.send_buffer)
        self.counters.fd = self.socket.fileno()
        self.counters.ipv6 = int(self.socket.family == socket.AF_INET6)
        self.counters.now = time.monotonic_ns()
        cpu = media.cpus[self.index] if media.cpus else None
        self.thread = threading.Thread(target=self._run, args=(cpu,), name=f"weir-worker-{self.index}", daemon=True)
        self.thread.start()

    def _run(self, cpu: int | None) -> None:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        run(self.table.address)

    def stop(self) -> None:
        """End the thread."""
        offset = L.WORKER.fields["stop"][1]  # type: ignore[index]
        assert offset == STOP
        store_release_py(self.table.address + STOP, 1)
        self.wake()
        if self.thread is not None:
            self.thread.join(5)

    def fault(self, now: int) -> str | None:
        """What keeps the thread from its work at `now` (ns, CLOCK_MONOTONIC), as a sentence; None: it is at it."""
        if self.thread is None or not self.thread.is_alive():
            return f"Worker {self.index} has no thread."
        still = now - int(self.counters.now)
        return f"Worker {self.index} has stood still for {still / 1e9:.0f} s." if still > STANDSTILL else None

    def close(self) -> None:
        """Close the socket and descriptors, when no worker is left that might write to them."""
        if self.socket is not None:
            self.socket.close()
        os.close(self.wake_fd)
        self.logs.close()

    @property
    def awake_since(self) -> int:
        """When the thread last went on after it had stood still (ns, CLOCK_MONOTONIC)."""
        return int(self.counters.awake_since)

    def clock(self) -> int:
        """Until when the thread has looked after its peers (ns, CLOCK_MONOTONIC), not more than a round ago.

        Who judges silence by this never counts the time in which the thread stood still.
        """
        return int(self.counters.now)

    def wake(self) -> None:
        """Wake the thread if it sleeps."""
        os.eventfd_write(self.wake_fd, 1)

    def command(self, op: int, index: int, a: int = 0, b: int = 0) -> None:
        """Send one command; it waits here while the ring is full, and is then sent in its turn."""
        if self._unsent or not self.commands.push(op, index, a, b):
            self._unsent.append((op, index, a, b))
        self.wake()

    def remove(self, op: int, table: Table, index: int, then: Callable[[], None]) -> None:
        """Send the removal of a record; `then` is called once the worker has let go of it, however late that is."""
        self.command(op, index)
        self.removals.ask(table.address + index * table.dtype.itemsize, then)

    def settle(self, most: int) -> bool:
        """Send what waits, and do what is due of at most `most` removals; returns whether more may be due."""
        while self._unsent and self.commands.push(*self._unsent[0]):
            self._unsent.popleft()
            self.wake()
        return self.removals.settle(most)

    @property
    def transport_used(self) -> int:
        """Transports in use."""
        return self.transport_slots.used

    @property
    def layer_used(self) -> int:
        """Layers in use."""
        return self.layer_slots.used

    @property
    def subscription_used(self) -> int:
        """Subscriptions in use."""
        return self.subscription_slots.used

    @property
    def logs_used(self) -> int:
        """Logs in use."""
        return self.logs.used
