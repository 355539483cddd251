"""A client that receives on a fake clock, and the server's end of its socket, which seals what is sent to it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiortc.rtp import RtcpPacket
from pylibsrtp import Policy, Session

from loadtest.engine.capture import CaptureRing
from loadtest.engine.held import HeldPackets
from loadtest.engine.layout import (
    CLIENT,
    ENGINE,
    EVENT,
    MS,
    NO_TYPE,
    OPEN,
    SOURCE,
    STREAM,
)
from loadtest.engine.post import SCRATCH, flush
from loadtest.engine.receive import drain_client
from loadtest.engine.reports import timers
from loadtest.engine.synthetic import write_body
from mediacodecs.extensions import ABS_CAPTURE_TIME, TWCC
from mediacodecs.frame import OPUS, VP8
from packetio.batch import MESSAGE, SLOT, VECTOR, ReceiveSlots
from packetio.memory import Table
from packetio.srtp import GCM, KEY_BYTES, PROFILES, SrtpContexts
from tests.unit.loadtest.engine.bodies import OPUS_TOC, write_vp8

START = 1_000_000_000_000
REALTIME = 1_700_000_000_123_456_789
SLOTS, EVENTS = 64, 8
VIDEO_TYPE, RTX_TYPE, AUDIO_TYPE = 96, 97, 111
VIDEO_SSRC, RTX_SSRC, AUDIO_SSRC = 0xFEDC0001, 0xFEDC0002, 0xFEDC0003
TWCC_ID, CAPTURE_ID = 3, 7
NTP_UNIX = 2_208_988_800
SECOND = 1_000_000_000


def ntp(ns: int) -> int:
    """A time of CLOCK_MONOTONIC as abs-capture-time has it."""
    wall = ns + REALTIME
    return (wall // SECOND + NTP_UNIX) << 32 | (wall % SECOND << 32) // SECOND


@dataclass
class Media:
    """One packet to be sent, in the clear."""

    sequence: int
    payload: bytes = b""
    timestamp: int = 0
    marker: bool = False
    ssrc: int = VIDEO_SSRC
    payload_type: int = VIDEO_TYPE
    extensions: tuple[tuple[int, bytes], ...] = ()

    def data(self) -> bytes:
        head = bytes([0x90 if self.extensions else 0x80, self.payload_type | (0x80 if self.marker else 0)])
        head += (self.sequence & 0xFFFF).to_bytes(2) + (self.timestamp & 0xFFFFFFFF).to_bytes(4) + self.ssrc.to_bytes(4)
        if self.extensions:
            elements = b"".join(bytes([name << 4 | len(data) - 1]) + data for name, data in self.extensions)
            elements += bytes(-len(elements) % 4)
            head += b"\xbe\xde" + (len(elements) // 4).to_bytes(2) + elements
        return head + self.payload

    def rtx(self, sequence: int) -> Media:
        """The packet that repeats it."""
        payload = (self.sequence & 0xFFFF).to_bytes(2) + self.payload
        return Media(sequence, payload, self.timestamp, self.marker, RTX_SSRC, RTX_TYPE, self.extensions)


def vp8(
    sequence: int, *, first: bool, key: bool, last: bool, picture: int, sent: int = START, size: int = 200
) -> Media:
    """A packet of a synthetic VP8 frame."""
    b = np.zeros(size, np.uint8)
    write_body(b, write_vp8(b, 0, first, key, picture & 0x7FFF), size, sent, sequence)
    return Media(sequence, b.tobytes(), 3600 * picture, last)


def opus(sequence: int, sent: int = START) -> Media:
    b = np.zeros(80, np.uint8)
    b[0] = OPUS_TOC
    write_body(b, 1, 80, sent, sequence)
    return Media(sequence, b.tobytes(), 960 * sequence, True, AUDIO_SSRC, AUDIO_TYPE)


def frame(sequence: int, picture: int, *, key: bool = False, packets: int = 3, sent: int = START) -> list[Media]:
    """All packets of one frame."""
    return [
        vp8(sequence + k, first=k == 0, key=key, last=k == packets - 1, picture=picture, sent=sent)
        for k in range(packets)
    ]


class Watch:
    """Client 1 of an engine without a thread."""

    def __init__(self, profile: str = GCM, *, stamps: bool = False) -> None:
        self.server, self.socket = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.server, self.socket):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            sock.bind(("127.0.0.1", 0))
        self.server.connect(self.socket.getsockname())
        self.socket.connect(self.server.getsockname())
        if stamps:
            self.socket.setsockopt(socket.SOL_SOCKET, 35, 1)
        key = b"k" * KEY_BYTES[profile]
        self.contexts = SrtpContexts(profile, key, key)
        self.sealer = Session(Policy(key, Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[profile]))
        self.opener = Session(Policy(key, Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile]))
        sizes = ((ENGINE, 1), (CLIENT, 2), (STREAM, 7), (SOURCE, 2), (EVENT, EVENTS))
        self.tables = {dtype: Table(dtype, n) for dtype, n in sizes}
        self.messages, self.vectors = Table(MESSAGE, SLOTS), Table(VECTOR, SLOTS)
        self.slots, self.scratch = Table(np.dtype("u1"), SLOT * SLOTS), Table(np.dtype("u1"), SCRATCH)
        self.free = Table(np.dtype("i8"), 7)
        self.receive, self.held, self.captures = ReceiveSlots(SLOTS), HeldPackets(256), CaptureRing(64)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.e, self.c = self.tables[ENGINE].rows[0], self.tables[CLIENT].rows[1]
        self.lay_out()
        self.negotiate()
        self.at(START)

    def lay_out(self) -> None:
        e, receive = self.e, self.receive
        receive.messages.rows["name"] = receive.messages.rows["name_size"] = 0
        self.vectors.rows["base"] = self.slots.address + np.arange(SLOTS) * SLOT
        self.messages.rows["vector"] = self.vectors.address + np.arange(SLOTS) * VECTOR.itemsize
        self.messages.rows["vector_count"] = 1
        self.free.rows[:6] = np.arange(6, 0, -1)
        e.clients, e.streams = self.tables[CLIENT].address, self.tables[STREAM].address
        e.sources, e.events, e.event_slots = self.tables[SOURCE].address, self.tables[EVENT].address, EVENTS
        e.stream_free, e.stream_free_count = self.free.address, 6
        e.out_messages, e.out_vectors, e.out_buffer = self.messages.address, self.vectors.address, self.slots.address
        e.messages, e.buffer, e.controls = receive.messages.address, receive.data.address, receive.controls.address
        e.out_count, e.slots, e.scratch, e.wake = SLOTS, SLOTS, self.scratch.address, self.wake
        e.held, e.captures, e.realtime = self.held.address, self.captures.address, REALTIME

    def negotiate(self) -> None:
        c = self.c
        c.state, c.fd, c.ssrc, c.token = OPEN, self.socket.fileno(), 77, 5 << 24 | 1
        c.inbound, c.outbound = self.contexts.inbound, self.contexts.outbound
        c.cname[:5], c.cname_size = np.frombuffer(b"alice", np.uint8), 5
        c.repairs[:] = NO_TYPE
        c.codecs[VIDEO_TYPE], c.codecs[AUDIO_TYPE], c.repairs[RTX_TYPE] = VP8, OPUS, VIDEO_TYPE
        c.kinds[TWCC_ID], c.kinds[CAPTURE_ID] = TWCC, ABS_CAPTURE_TIME

    def at(self, now: int) -> None:
        """Set the clock."""
        self.e.now = self.e.fake_now = now

    @property
    def now(self) -> int:
        return int(self.e.now)

    def send(self, *packets: Media, at: int | None = None) -> None:
        """Let packets come, at a time."""
        if at is not None:
            self.at(at)
        for packet in packets:
            self.server.send(self.sealer.protect(packet.data()))
        self.drain()

    def drain(self) -> int:
        total = 0
        while taken := int(drain_client(self.e, self.c)):
            total += taken
        return total

    def tick(self, until: int, step: int = 5 * MS) -> list[tuple[int, Any]]:
        """Let time pass; returns the RTCP packets that left, with their times."""
        found = []
        while self.now < until:
            self.at(min(self.now + step, until))
            timers(self.e, 1, self.c)
            flush(self.e, self.c)
            found += [(self.now, packet) for compound in self.compounds() for packet in compound]
        return found

    def compounds(self) -> list[list[Any]]:
        """What has come to the server, opened and parsed by aiortc."""
        found: list[list[Any]] = []
        while True:
            try:
                data = self.server.recv(2048)
            except BlockingIOError:
                return found
            found.append(RtcpPacket.parse(self.opener.unprotect_rtcp(data)))

    def stream(self, ssrc: int = VIDEO_SSRC) -> Any:
        """The row of the stream with this SSRC."""
        for row in self.c.streams[: self.c.stream_count]:
            if self.tables[STREAM].rows[row].ssrc == ssrc:
                return self.tables[STREAM].rows[row]
        raise KeyError(ssrc)

    def close(self) -> None:
        """Release sockets and contexts."""
        os.close(self.wake)
        self.server.close()
        self.socket.close()
        self.contexts.close()
