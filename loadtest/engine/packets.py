"""One outgoing packet, made from what a source's history keeps of it: the first time, and again as RTX (RFC 4588).

Extensions have one-byte headers (RFC 8285 section 4.2): mid, rid, the transport-wide number, abs-send-time,
abs-capture-time (on every packet, so that each tells its latency), and the level of audio. Picture id and TL0PICIDX go
on where the reel's do not: at its end, and where a keyframe request made it jump. Nothing here seals or sends.
"""

from __future__ import annotations

from typing import Any

from loadtest.clips.reel import FRAME_ROW, PACKET_ROW, REEL
from loadtest.engine.layout import AUDIO, HISTORY, HISTORY_ENTRY, SECOND
from loadtest.engine.synthetic import stamp
from mediacodecs.bits import put16, put24, put32
from mediacodecs.extensions import ABS_CAPTURE_TIME, ABS_SEND_TIME, AUDIO_LEVEL, MID, REPAIRED_RID, RID, TWCC
from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel
from mediacodecs.rtp import ONE_BYTE
from packetio.batch import SLOT
from packetio.memory import bytes_at, copy_bytes, pointer_to

reel_at, frame_at, packet_at = pointer_to(REEL), pointer_to(FRAME_ROW), pointer_to(PACKET_ROW)
history_at = pointer_to(HISTORY_ENTRY)
FRAME_SIZE, PACKET_SIZE, ENTRY_SIZE = FRAME_ROW.itemsize, PACKET_ROW.itemsize, HISTORY_ENTRY.itemsize
ELEMENTS_AT = 16  # where the extension elements begin: behind the fixed header and the profile's word
NTP_OFFSET = 2_208_988_800 * SECOND  # ns from 1900 to 1970
LEVEL = 0x80 | 30  # voice, at -30 dBov (RFC 6464)
MAX_ID = 14  # of a one-byte element
MOST_PAYLOAD = SLOT - 256  # bytes: the head is never above 128, and sealing adds up to 16
MASK32 = 0xFFFFFFFF


@kernel
def history_of(s: Any, sequence: int) -> Any:
    """The entry in which a source keeps packet `sequence` (64 bit)."""
    return history_at(s.history.ctypes.data + (sequence & (HISTORY - 1)) * ENTRY_SIZE)


@kernel
def frame_of(reel: Any, frame: int) -> Any:
    """A FRAME_ROW of the reel."""
    return frame_at(reel.frame_rows + frame * FRAME_SIZE)


@kernel
def packet_of(reel: Any, packet: int) -> Any:
    """A PACKET_ROW of the reel."""
    return packet_at(reel.packet_rows + packet * PACKET_SIZE)


@kernel
def ntp_of(e: Any, when: int) -> tuple[int, int]:
    """A time of CLOCK_MONOTONIC as NTP's seconds since 1900 and their fraction, 32 bits each."""
    ns = when + e.realtime + NTP_OFFSET
    return ns // SECOND & MASK32, (ns % SECOND << 32) // SECOND


@kernel
def element(b: Bytes, at: int, identity: int, size: int) -> int:
    """Begin an extension element; returns where its data goes."""
    b[at] = identity << 4 | (size - 1)
    return at + 1


@kernel
def text_element(b: Bytes, at: int, identity: int, text: Bytes, size: int) -> int:
    """A whole element of `size` bytes of text; returns where it ends, `at` when it was not negotiated."""
    if identity == 0 or identity > MAX_ID or size == 0:
        return int64(at)
    at = element(b, at, identity, size)
    for k in range(size):
        b[at + k] = text[k]
    return int64(at + size)


@kernel
def names(c: Any, s: Any, b: Bytes, at: int, repair: int) -> int:
    """Mid and rid: what a receiver needs to tell streams apart. RTX names the stream that it repairs (RFC 8852)."""
    at = text_element(b, at, int64(c.ids[MID]), s.mid, int64(s.mid_size))
    kind = REPAIRED_RID if repair else RID
    return text_element(b, at, int64(c.ids[kind]), s.rid, int64(s.rid_size))


@kernel
def numbers(e: Any, c: Any, b: Bytes, at: int) -> int:
    """Transport-wide number and send time: of this packet on the wire, new for each RTX."""
    identity = int64(c.ids[TWCC])
    if 0 < identity <= MAX_ID:
        at = element(b, at, identity, 2)
        put16(b, at, c.twcc_next & 0xFFFF)
        c.twcc_next += 1
        at += 2
    identity = int64(c.ids[ABS_SEND_TIME])
    if 0 < identity <= MAX_ID:
        at = element(b, at, identity, 3)
        seconds, fraction = ntp_of(e, e.now)
        put24(b, at, (seconds << 18 | fraction >> 14) & 0xFFFFFF)  # 6.18 bits
        at += 3
    return int64(at)


@kernel
def facts(e: Any, c: Any, s: Any, entry: Any, b: Bytes, at: int) -> int:
    """Capture time (8 bytes: without the clock offset) and audio level: what is true of the media."""
    identity = int64(c.ids[ABS_CAPTURE_TIME])
    if 0 < identity <= MAX_ID:
        at = element(b, at, identity, 8)
        seconds, fraction = ntp_of(e, entry.captured)
        put32(b, at, seconds)
        put32(b, at + 4, fraction)
        at += 8
    identity = int64(c.ids[AUDIO_LEVEL])
    if 0 < identity <= MAX_ID and s.kind == AUDIO:
        at = element(b, at, identity, 1)
        b[at] = LEVEL
        at += 1
    return int64(at)


@kernel
def write_head(e: Any, c: Any, s: Any, entry: Any, b: Bytes, repair: int) -> int:
    """RTP header and extensions at b[0]; returns their size."""
    b[1] = int64(entry.marker) << 7 | int64(s.rtx_type if repair else s.payload_type)
    put16(b, 2, (s.rtx_sequence if repair else entry.sequence) & 0xFFFF)
    put32(b, 4, entry.timestamp & MASK32)
    put32(b, 8, s.rtx_ssrc if repair else s.ssrc)
    at = names(c, s, b, ELEMENTS_AT, repair)
    at = numbers(e, c, b, at)
    at = facts(e, c, s, entry, b, at)
    if at == ELEMENTS_AT:
        b[0] = 0x80
        return 12
    while at & 3:
        b[at] = 0
        at += 1
    b[0] = 0x90
    put16(b, 12, ONE_BYTE)
    put16(b, 14, at - ELEMENTS_AT >> 2)
    return int64(at)


@kernel
def shift_ids(b: Bytes, at: int, row: Any, entry: Any) -> None:
    """Let picture id and TL0PICIDX of the payload at b[at] go on (VP8, VP9: RFC 7741 4.2, RFC 9628 4.2)."""
    if row.picture_id_at >= 0 and row.picture_id_bits:
        picture, where = int64(row.picture_id) + int64(entry.picture_offset), at + int64(row.picture_id_at)
        if row.picture_id_bits == 15:
            put16(b, where, 0x8000 | picture & 0x7FFF)
        else:
            b[where] = picture & 0x7F
    if row.tl0_at >= 0:
        b[at + int64(row.tl0_at)] = int64(row.tl0) + int64(entry.tl0_offset) & 255


@kernel
def write_packet(e: Any, c: Any, s: Any, entry: Any, to: int, repair: int) -> int:
    """Write the packet of a history entry at address `to` (SLOT bytes), in the clear; returns its size.

    repair: 1: as RTX, numbered s.rtx_sequence, with the original number in front of the payload. The caller counts.
    0: the reel's payload is too large.
    """
    b = bytes_at(to, SLOT)
    reel = reel_at(s.reel)
    row = packet_of(reel, int64(entry.packet))
    size = int64(row["size"])  # by key: to plain Python a record's `.size` is numpy's own
    if size > MOST_PAYLOAD:
        return 0
    at = write_head(e, c, s, entry, b, repair)
    if repair:
        put16(b, at, entry.sequence & 0xFFFF)
        at += 2
    copy_bytes(to + at, reel.bytes + row.at, size)
    shift_ids(b, at, row, entry)
    if reel.synthetic:
        stamp(b, at, at + size, int64(reel.codec), int64(entry.sent), int64(entry.counter))
    return int64(at + size)
