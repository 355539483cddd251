"""One engine thread seen from control: its tables, rings, socket, and which records are in use.

Control hands out indices and fills records; the worker thread runs `loop.run` over the WORKER record and never Python.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from mediacodecs.twcc import TWCC_STATE
from mediaserver.engine import layout as L
from mediaserver.engine.loop import MAX_WORKERS, STOP, run
from mediaserver.engine.ring import Ring
from packetio.batch import SLOT, ReceiveSlots, SendQueue, bind_udp
from packetio.log import PacketLog, log_size, store_release_py
from packetio.memory import Region, Table
from packetio.srtp import make_sealer

if TYPE_CHECKING:
    from config.schema import Config

RECEIVE_SLOTS = 64
SEND_MESSAGES, SEND_BYTES = 256, 512 * 1024  # fits the second-level cache
COMMAND_SLOTS, EVENT_SLOTS = 8192, 1024
SCRATCH = 4096


class EngineFull(Exception):
    """A table or the logs of a worker are used up: the join is refused, nothing else happens."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"no more {what}: the limit of {limit} per worker is reached")
        self.what, self.limit = what, limit


class Slots:
    """Free indices of one table. Index 0 is never given out."""

    def __init__(self, what: str, count: int) -> None:
        self.what, self.limit = what, count
        self.free = list(range(count, 0, -1))

    def take(self) -> int:
        """A free index. Raises EngineFull."""
        if not self.free:
            raise EngineFull(self.what, self.limit)
        return self.free.pop()

    def give(self, index: int) -> None:
        """Return an index that the worker has let go."""
        self.free.append(index)

    @property
    def used(self) -> int:
        """Indices in use."""
        return self.limit - len(self.free)


class LogStore:
    """The packet logs of one worker: fixed places in one memfd, for video and for audio."""

    def __init__(self, config: Config) -> None:
        video, audio = config.logs.video, config.logs.audio
        self.sizes = {L.VIDEO: video, L.AUDIO: audio}
        self.steps = {L.VIDEO: log_size(video.packets, video.bytes), L.AUDIO: log_size(audio.packets, audio.bytes)}
        self.starts = {L.VIDEO: 0, L.AUDIO: self.steps[L.VIDEO] * video.count}
        self.region = Region(self.starts[L.AUDIO] + self.steps[L.AUDIO] * audio.count, "weir-logs")
        self.slots = {L.VIDEO: Slots("video logs", video.count), L.AUDIO: Slots("audio logs", audio.count)}

    def take(self, kind: int) -> tuple[int, PacketLog]:
        """A fresh log for a layer of this kind, and its place. Raises EngineFull."""
        place = self.slots[kind].take()
        offset = self.starts[kind] + (place - 1) * self.steps[kind]
        return place, PacketLog.create(self.region, offset, self.sizes[kind].packets, self.sizes[kind].bytes)

    def give(self, kind: int, place: int) -> None:
        """Return a log that nobody reads any more; its memory goes back to the system."""
        self.region.release(self.starts[kind] + (place - 1) * self.steps[kind], self.steps[kind])
        self.slots[kind].give(place)

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
        self.logs = LogStore(config)
        self.transport_slots = Slots("transports", limits.transports)
        self.layer_slots = Slots("layers", limits.layers)
        self.feed_slots = Slots("feeds", 2 * limits.layers)
        self.subscription_slots = Slots("subscriptions", limits.subscriptions)
        self.twcc_slots = Slots("publishers", limits.publishers)
        self.commands = Ring(L.COMMAND, COMMAND_SLOTS)
        self.events = Ring(L.EVENT, EVENT_SLOTS)
        self.generations = np.random.default_rng(secrets.randbits(64)).integers(1, 1 << 14, limits.subscriptions + 1)
        self.acknowledged: dict[tuple[int, int], asyncio.Future[None]] = {}
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        wakes.rows[index] = self.wake_fd
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
        w.commands, w.command_slots = self.commands.address, COMMAND_SLOTS
        w.events, w.event_slots = self.events.address, EVENT_SLOTS
        w.worker_wakes = wakes.address
        w.slots, w.messages, w["data"] = slot.count, slot.messages.address, slot.data.address
        w.names, w.controls = slot.names.address, slot.controls.address
        w.out_count, w.out_size = queue.count, queue.size
        w.out_messages, w.out_vectors = queue.messages.address, queue.vectors.address
        w.out_controls, w.arena = queue.controls.address, queue.arena.address
        w.out_segments, w.out_arrivals = self.segments.address, self.arrivals.address
        w.sealer, w.scratch = self.sealer.address, self.scratch.address
        w.gso, w.linger = int(config.media.gso), config.media.linger_us * 1000
        late = config.late_join
        w.keyframe_age, w.keyframe_interval = late.keyframe_age * L.MS, late.keyframe_request_interval * L.MS
        w.burst, w.burst_rate = late.burst, late.rate // 8
        w.random = secrets.randbits(63)
        assert slot.data.count == RECEIVE_SLOTS * SLOT and MAX_WORKERS >= config.media.workers

    def start(self) -> None:
        """Bind the UDP socket and start the thread. Raises OSError when the address is taken."""
        media = self.config.media
        self.socket = bind_udp(media.host, self.port, media.receive_buffer, media.send_buffer)
        self.counters.fd = self.socket.fileno()
        self.counters.ipv6 = int(self.socket.family == socket.AF_INET6)
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

    def close(self) -> None:
        """Close the socket and descriptors, when no worker is left that might write to them."""
        if self.socket is not None:
            self.socket.close()
        os.close(self.wake_fd)
        self.logs.region.close()

    def wake(self) -> None:
        """Wake the thread if it sleeps."""
        os.eventfd_write(self.wake_fd, 1)

    def command(self, op: int, index: int, a: int = 0, b: int = 0) -> None:
        """Send one command. A full ring means a worker that has been stuck for seconds: RuntimeError."""
        if not self.commands.push(op, index, a, b):
            raise RuntimeError(f"worker {self.index} does not take commands")
        self.wake()

    async def remove(self, op: int, index: int) -> None:
        """Send a removal and wait until the worker has let go of the record."""
        future = self.acknowledged.setdefault((op, index), asyncio.get_running_loop().create_future())
        self.command(op, index)
        await future

    def acknowledge(self, op: int, index: int) -> None:
        """The worker let go of a record."""
        future = self.acknowledged.pop((op, index), None)
        if future is not None and not future.done():
            future.set_result(None)

    def sweep(self) -> None:
        """Acknowledge removals whose event was lost because the ring was full."""
        tables = {
            L.REMOVE_TRANSPORT: self.transports, L.REMOVE_LAYER: self.layers,
            L.REMOVE_FEED: self.feeds, L.REMOVE_SUBSCRIPTION: self.subscriptions,
        }  # fmt: skip
        for op, index in list(self.acknowledged):
            if int(tables[op].rows[index].state) == L.CLOSING:
                self.acknowledge(op, index)

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
