"""A client that sends on a fake clock, and the server's end of its socket, where libsrtp opens what comes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pylibsrtp import Policy, Session

from loadtest.clips.reel import FRAME_ROW, PACKET_ROW, REEL, Reel
from loadtest.engine.held import HeldPackets
from loadtest.engine.layout import AUDIO, CLIENT, ENGINE, SOURCE, VIDEO
from loadtest.engine.post import SCRATCH, flush
from loadtest.engine.requests import take_packet
from loadtest.engine.sources import begin_source, fill_source, serve_sources
from mediacodecs.extensions import (
    ABS_CAPTURE_TIME,
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    EXTENSIONS,
    MID,
    REPAIRED_RID,
    RID,
    TWCC,
    parse_extensions,
)
from mediacodecs.frame import FRAME, OPUS, VP8, clear_frame
from mediacodecs.rtcp import next_rtcp
from mediacodecs.rtp import RTP, parse_rtp
from mediacodecs.vp8 import parse_vp8
from packetio.batch import MESSAGE, SLOT, VECTOR
from packetio.memory import Table
from packetio.srtp import GCM, KEY_BYTES, PROFILES, SrtpContexts
from tests.unit.loadtest.engine.bodies import OPUS_TOC, write_vp8

START = 1_000_000_000_000
REALTIME = 1_700_000_000_123_456_789
FRAME_NS = 40_000_000
SLOTS = 64
IDS = {MID: 4, RID: 10, REPAIRED_RID: 11, TWCC: 3, ABS_SEND_TIME: 2, ABS_CAPTURE_TIME: 7, AUDIO_LEVEL: 1}
KIND_OF = {identity: kind for kind, identity in IDS.items()}
VIDEO_SSRC, RTX_SSRC, AUDIO_SSRC = 0xFEDC0001, 0xFEDC0002, 0xFEDC0003
VIDEO_TYPE, RTX_TYPE, AUDIO_TYPE = 96, 97, 111


@dataclass
class Clip:
    """A reel in native memory: `frames` lists the payloads of each frame."""

    frames: Sequence[Sequence[bytes]]
    keyframes: Sequence[int] = (0,)
    codec: int = VP8
    synthetic: bool = False
    ticks: int = 3600
    clock_rate: int = 90000
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        payloads = [payload for frame in self.frames for payload in frame]
        self.table = Table(REEL, 1)
        self.frame_rows, self.packet_rows = Table(FRAME_ROW, len(self.frames)), Table(PACKET_ROW, len(payloads))
        self.data = Table(np.dtype("u1"), sum(map(len, payloads)))
        self.data.rows[:] = np.frombuffer(b"".join(payloads), np.uint8)
        first = at = 0
        for k, frame in enumerate(self.frames):
            row = self.frame_rows.rows[k]
            row.first, row.count, row.keyframe, row.ticks, row.number = (
                first,
                len(frame),
                k in self.keyframes,
                self.ticks,
                k,
            )
            first += len(frame)
        for k, payload in enumerate(payloads):
            self.packet_rows.rows[k]["at"], self.packet_rows.rows[k]["size"] = at, len(payload)
            self.describe(self.packet_rows.rows[k], payload)
            at += len(payload)
        reel = self.table.rows[0]
        reel.frames, reel.packets, reel.codec, reel.clock_rate = len(self.frames), first, self.codec, self.clock_rate
        reel.kind, reel.synthetic, reel.picture_ids = int(self.codec == VP8), int(self.synthetic), len(self.frames)
        reel.frame_rows, reel.packet_rows, reel.bytes = (
            self.frame_rows.address,
            self.packet_rows.address,
            self.data.address,
        )

    def describe(self, row: Any, payload: bytes) -> None:
        """Where picture id and TL0PICIDX lie."""
        row.picture_id_at = row.tl0_at = -1
        if self.codec == VP8:
            found = frame_of(payload)
            row.picture_id_bits = found.picture_id_bits
            if found.picture_id_bits:
                row.picture_id_at, row.picture_id = found.picture_id_at, found.picture_id
            if found.tl0_at:
                row.tl0_at, row.tl0 = found.tl0_at, found.tl0


def frame_of(payload: bytes) -> Any:
    """A VP8 payload as the parser sees it."""
    table = Table(np.dtype(FRAME), 1)
    clear_frame(table.rows[0])
    assert parse_vp8(np.frombuffer(payload, np.uint8), 0, len(payload), table.rows[0]) == 0
    return table.rows[0].copy()


def vp8_payload(first: bool, keyframe: bool, picture_id: int, size: int = 200, tl0: int | None = None) -> bytes:
    """A payload of this size whose body is noise that depends on the picture."""
    b = np.zeros(size, np.uint8)
    begin = write_vp8(b, 0, first, keyframe, picture_id)
    b[begin:] = np.random.default_rng(picture_id * 2 + first).integers(0, 256, size - begin, np.uint8)
    data = b.tobytes()
    return data if tl0 is None else data[:1] + b"\xc0" + data[2:4] + bytes([tl0]) + data[4:]


def vp8_clip(frames: int, packets: int = 2, keyframes: Sequence[int] = (0,), *, tl0: bool = False, **more: Any) -> Clip:
    """A clip whose picture ids begin at 7 (and TL0PICIDX at 250)."""
    return Clip(
        [
            [vp8_payload(p == 0, f in keyframes, 7 + f, tl0=(250 + f) % 256 if tl0 else None) for p in range(packets)]
            for f in range(frames)
        ],
        keyframes,
        **more,
    )


def opus_clip(frames: int, **more: Any) -> Clip:
    """20 ms frames of 80 bytes."""
    payloads = [[bytes([OPUS_TOC]) + bytes([k]) * 79] for k in range(frames)]
    return Clip(payloads, range(frames), codec=OPUS, ticks=960, clock_rate=48000, **more)


@dataclass
class Packet:
    """One received packet, opened and parsed."""

    at: int  # ns of the fake clock
    sequence: int
    timestamp: int
    ssrc: int
    payload_type: int
    marker: int
    extensions: dict[int, bytes]
    payload: bytes
    data: bytes

    @property
    def vp8(self) -> Any:
        return frame_of(self.payload)


def parse(data: bytes, at: int = 0) -> Packet:
    """An RTP packet in the clear."""
    b = np.frombuffer(data, np.uint8)
    rtp, ext, kinds = Table(RTP, 1).rows[0], Table(EXTENSIONS, 1).rows[0], np.zeros(256, np.uint8)
    for identity, kind in KIND_OF.items():
        kinds[identity] = kind
    assert parse_rtp(b, 0, len(data), rtp) == 0 and parse_extensions(b, rtp, kinds, ext) == 0
    found = {k: data[ext["at"][k] : ext["at"][k] + ext["size"][k]] for k in range(16) if ext["size"][k]}
    payload = data[rtp.payload_at : rtp.payload_end]
    numbers = (int(rtp.sequence), int(rtp.timestamp), int(rtp.ssrc), int(rtp.payload_type), int(rtp.marker))
    return Packet(at, *numbers, found, payload, data)


class Stage:
    """Client 1 with its sources, and what a server would receive of it."""

    def __init__(self, profile: str = GCM, *, ids: dict[int, int] = IDS) -> None:
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.server.bind(("127.0.0.1", 0))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(self.server.getsockname())
        key = b"k" * KEY_BYTES[profile]
        self.contexts = SrtpContexts(profile, key, key)
        self.session = Session(Policy(key, Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile]))
        self.tables = {dtype: Table(dtype, n) for dtype, n in ((ENGINE, 1), (CLIENT, 2), (SOURCE, 5))}
        self.messages, self.vectors = Table(MESSAGE, SLOTS), Table(VECTOR, SLOTS)
        self.slots, self.scratch = Table(np.dtype("u1"), SLOT * SLOTS), Table(np.dtype("u1"), SCRATCH)
        self.held, self.clips = HeldPackets(16), list[Clip | Reel]()
        self.vectors.rows["base"] = self.slots.address + np.arange(SLOTS) * SLOT
        self.messages.rows["vector"] = self.vectors.address + np.arange(SLOTS) * VECTOR.itemsize
        self.messages.rows["vector_count"] = 1
        self.e, self.c = self.tables[ENGINE].rows[0], self.tables[CLIENT].rows[1]
        e, c = self.e, self.c
        e.clients, e.sources = self.tables[CLIENT].address, self.tables[SOURCE].address
        e.out_messages, e.out_vectors, e.out_buffer = self.messages.address, self.vectors.address, self.slots.address
        e.out_count, e.scratch, e.held, e.realtime = SLOTS, self.scratch.address, self.held.address, REALTIME
        c.fd, c.outbound, c.state = self.socket.fileno(), self.contexts.outbound, 1
        c.cname[:5], c.cname_size = np.frombuffer(b"alice", np.uint8), 5
        for kind, identity in ids.items():
            c.ids[kind] = identity
        self.at(START)

    def at(self, now: int) -> None:
        """Set the clock."""
        self.e.now = self.e.fake_now = now

    def add(
        self, clip: Clip | Reel, *, kind: int = VIDEO, ssrc: int = VIDEO_SSRC, begin: int = START, **fields: Any
    ) -> Any:
        """One more source, which runs from `begin`; returns its row."""
        self.clips.append(clip)
        row = self.tables[SOURCE].rows[len(self.clips)]
        frames = fields.pop("frames", -1)
        payload_type = VIDEO_TYPE if kind == VIDEO else AUDIO_TYPE
        fill_source(row, kind=kind, ssrc=ssrc, payload_type=payload_type, reel=clip.table.address, **fields)
        self.c.sources[self.c.source_count] = len(self.clips)
        self.c.source_count += 1
        begin_source(row, begin, frames=frames)
        return row

    def video(self, clip: Clip | Reel, **fields: Any) -> Any:
        """A video source with RTX, in bursts."""
        return self.add(clip, **{"rtx_ssrc": RTX_SSRC, "rtx_type": RTX_TYPE, "mid": "v", "burst": True} | fields)

    def audio(self, clip: Clip | Reel, **fields: Any) -> Any:
        """An audio source."""
        return self.add(clip, kind=AUDIO, ssrc=AUDIO_SSRC, mid="a", **fields)

    def datagrams(self) -> list[bytes]:
        """What has come, as it came."""
        found = []
        while True:
            try:
                found.append(self.server.recv(2048))
            except BlockingIOError:
                return found

    def serve(self) -> tuple[int, list[Packet], list[bytes]]:
        """Serve once: (when the next is due, RTP, RTCP compounds in the clear)."""
        due = int(serve_sources(self.e, self.c))
        return due, *self.opened()

    def opened(self) -> tuple[list[Packet], list[bytes]]:
        """What has come: RTP, and RTCP compounds in the clear."""
        flush(self.e, self.c)
        media, control = [], []
        for data in self.datagrams():
            if 192 <= data[1] <= 223:
                control.append(self.session.unprotect_rtcp(data))
            else:
                media.append(parse(self.session.unprotect(data), int(self.e.now)))
        return media, control

    def run(self, until: int) -> tuple[list[Packet], list[tuple[int, bytes]]]:
        """All RTP, and (time, RTCP), that leaves before `until`, on a clock that jumps to what is due."""
        media, control = [], []
        while self.e.fake_now < until:
            due, packets, compounds = self.serve()
            media += packets
            control += [(int(self.e.now), compound) for compound in compounds]
            self.at(min(max(due, int(self.e.now) + 1), until))
        return media, control

    def ask(self, compound: bytes) -> list[Packet]:
        """Let an opened RTCP compound come to the client; returns the RTP that leaves because of it."""
        b = np.frombuffer(compound + bytes(-len(compound) % 4), np.uint8).copy()
        at = 0
        while at < len(compound):
            at = next_rtcp(b, at, len(compound), self.e.rtcp)
            assert at > 0
            take_packet(self.e, self.c, b)
        return self.opened()[0]

    def close(self) -> None:
        """Release sockets and contexts."""
        self.server.close()
        self.socket.close()
        self.contexts.close()
