"""One engine worker that does not run: real tables, logs, SRTP contexts and sockets, and a clock moved by hand.

Tests call its kernels one at a time and open what they send at the other end of the socket.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import numpy as np
from aiortc.rtp import RtcpPacket
from pylibsrtp import Policy, Session

from mediaserver.engine import layout as L
from mediaserver.engine.loop import WAKE_WORDS
from mediaserver.engine.rtcp_in import handle_rtcp
from mediaserver.engine.send import flush
from mediaserver.engine.ticks import tick
from mediaserver.engine.worker import Worker
from packetio.batch import SLOT, bind_udp, pack_sockaddr
from packetio.log import ENTRY, PacketLog, append
from packetio.memory import Table
from packetio.srtp import GCM, KEY_BYTES, PROFILES, TAG_BYTES, SrtpContexts
from tests.unit.engine.peers import datagrams, small_config

RATES = {L.VIDEO: 90000, L.AUDIO: 48000}
FIRST_SEQUENCE = 1000


class FarEnd:
    """A peer's socket and SRTP contexts, and the transport record that the worker has for it."""

    def __init__(self, desk: Desk, profile: str = GCM) -> None:
        self.desk = desk
        self.index = desk.worker.transport_slots.take()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        ours, theirs = os.urandom(KEY_BYTES[profile]), os.urandom(KEY_BYTES[profile])
        self.sealer = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile]))
        self.opener = Session(Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile]))
        self.contexts = contexts = SrtpContexts(profile, theirs, ours)
        t = self.record = desk.worker.transports.clear(self.index)
        t.state, t.secured, t.reduced_size = L.OPEN, 1, 1
        t.inbound, t.outbound, t.evp = contexts.inbound, contexts.outbound, contexts.evp
        t.salt_high, t.salt_low, t.tag = contexts.salt_high, contexts.salt_low, TAG_BYTES[profile]
        t.rtcp_ssrc = 0x0ABC0000 + self.index
        t.repairs[:] = L.NO_TYPE
        host, port = self.sock.getsockname()
        address = pack_sockaddr(host, port, socket.AF_INET)
        t.remote[: len(address)] = np.frombuffer(address, np.uint8)
        t.remote_size = len(address)
        t.next_report = t.next_twcc = desk.w.now
        desk.w.transport_used = max(desk.w.transport_used, self.index + 1)

    def datagrams(self) -> list[bytes]:
        """What the worker has sent, as it came."""
        flush(self.desk.w)
        return list(datagrams(self.sock))

    def compounds(self) -> list[bytes]:
        """The RTCP that the worker has sent, opened."""
        return [self.opener.unprotect_rtcp(data) for data in self.datagrams() if 192 <= data[1] <= 223]

    def packets(self) -> list[Any]:
        """The same as aiortc's packets."""
        return [packet for compound in self.compounds() for packet in RtcpPacket.parse(compound)]

    def rtcp(self, *packets: Any, seal: bool = True) -> bytes:
        """Let the worker receive a compound; returns the datagram."""
        plain = b"".join(bytes(packet) for packet in packets)
        data = self.sealer.protect_rtcp(plain) if seal else plain
        self.desk.deliver(self.index, data)
        return data


class Track:
    """A published layer: its record, its log and the worker's own feed of it."""

    def __init__(self, end: FarEnd, kind: int = L.VIDEO, ssrc: int = 0x11110000) -> None:
        self.desk, self.end, self.kind = end.desk, end, kind
        worker = end.desk.worker
        self.index, self.feed_index = worker.layer_slots.take(), worker.feed_slots.take()
        self.log: PacketLog = worker.logs.open(kind, worker.logs.take(kind))
        layer = self.record = worker.layers.clear(self.index)
        layer.transport, layer.kind, layer.log, layer.feed = end.index, kind, self.log.base, self.feed_index
        layer.clock_rate, layer.ssrc, layer.payload_type = RATES[kind], ssrc, 96 if kind == L.VIDEO else 111
        layer.state, layer.active, layer.started = L.OPEN, 1, 1
        layer.told = layer.payload_type
        self.begin(5 << 16 | FIRST_SEQUENCE)
        layer.next, end.record.first_layer = end.record.first_layer, self.index
        feed = self.feed = worker.feeds.clear(self.feed_index)
        feed.log, feed.layer, feed.state = self.log.base, self.index, L.OPEN
        feed.generation = self.log.generation
        self.log.header.clock_rate = RATES[kind]
        self.log.header.last_arrival = end.desk.w.now
        end.desk.w.layer_used = max(end.desk.w.layer_used, self.index + 1)
        end.desk.w.feed_used = max(end.desk.w.feed_used, self.feed_index + 1)
        self.draft = Table(ENTRY, 1)

    def begin(self, position: int) -> None:
        """Let the first packet have this position; its low 16 bits are its sequence number."""
        self.first = position
        self.record.first_position = position
        self.record.highest = position - 1

    def logged(self, position: int, payload: bytes) -> None:
        """Write one packet to the log."""
        data = np.frombuffer(bytes(12) + payload, np.uint8).copy()
        draft = self.draft.rows[0]
        draft.length, draft.payload_at, draft.arrival = data.size, 12, self.desk.w.now
        assert append(self.log.base, position, draft, int(data.ctypes.data)) == 1


class Outgoing:
    """A subscription that is live on a track."""

    def __init__(self, end: FarEnd, track: Track, cname: bytes = b"someone") -> None:
        worker = end.desk.worker
        self.index = worker.subscription_slots.take()
        sub = self.record = worker.subscriptions.clear(self.index)
        sub.state, sub.mode, sub.transport, sub.feed, sub.kind = (
            L.OPEN, L.LIVE, end.index, track.feed_index, track.kind,
        )  # fmt: skip
        sub.clock_rate = RATES[track.kind]
        sub.ssrc = 77 << 17 | self.index << 1
        sub.rtx_ssrc = sub.ssrc | 1
        sub.payload_type, sub.rtx_type = 120, 121
        sub.map = worker.maps.address + self.index * L.MAP_SIZE * 8
        sub.out_first = sub.out_start = 500
        sub.out_highest = 499
        sub.last_timestamp = sub.last_picture = sub.squeeze_from = -1
        sub.packets, sub.octets = 1, 100
        sub.cname[: len(cname)] = np.frombuffer(cname, np.uint8)
        sub.cname_size = len(cname)
        sub.next_report = end.desk.w.now
        sub.next, end.record.first_subscription = end.record.first_subscription, self.index
        end.desk.w.subscription_used = max(end.desk.w.subscription_used, self.index + 1)


class Desk:
    """The worker, and what a test does with it."""

    def __init__(self) -> None:
        self.wakes = Table(np.dtype("i8"), WAKE_WORDS)
        self.control_wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.worker = Worker(small_config(), 0, self.wakes, self.control_wake)
        self.sock = bind_udp("127.0.0.1", 0, 1 << 20, 1 << 20)
        self.w: Any = self.worker.counters
        self.w.fd = self.sock.fileno()
        self.w.now = 5000 * L.SECOND + 123_456_789
        self.ends: list[FarEnd] = []

    def peer(self, profile: str = GCM) -> FarEnd:
        """One more peer."""
        self.ends.append(FarEnd(self, profile))
        return self.ends[-1]

    def pass_time(self, ns: int) -> None:
        """Move the clock, with the ticks that fall due."""
        for _ in range(ns // (10 * L.MS)):
            self.w.now += 10 * L.MS
            self.w.tick += 1
            tick(self.w)

    def deliver(self, transport: int, data: bytes) -> None:
        """Put a datagram into the first receive slot and handle it as RTCP."""
        slot = self.worker.receive_slots.data.rows
        slot[: len(data)] = np.frombuffer(data, np.uint8)
        assert len(data) <= SLOT
        handle_rtcp(self.w, transport, self.worker.receive_slots.data.address, len(data))

    def events(self) -> list[tuple[int, int]]:
        """(op, index) of the events for control so far."""
        found = []
        while (event := self.worker.events.pop()) is not None:
            found.append(event[:2])
        return found

    def close(self) -> None:
        """Close sockets and free the contexts."""
        for end in self.ends:
            end.sock.close()
            end.contexts.close()
        self.sock.close()
        os.close(self.worker.wake_fd)
        os.close(self.control_wake)
        self.worker.logs.close()
