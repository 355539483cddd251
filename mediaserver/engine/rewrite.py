"""One outgoing packet: RTP header and extensions made anew for the subscriber, payload sealed from the log.

Written per subscription: SSRC, sequence number, time stamp, payload type, and the extensions of the transport (mid,
abs-send-time, transport-wide number). Passed on end to end: audio level, orientation, dependency descriptor, capture
time. All else is stripped. VP8's picture id and TL0PICIDX continue across layers. Padding evens out the sizes of a
train.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import put16, put24, put32
from mediacodecs.extensions import (
    ABS_CAPTURE_TIME,
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    DEPENDENCY_DESCRIPTOR,
    MID,
    TWCC,
    VIDEO_ORIENTATION,
)
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from packetio.log import END, MARKER, NO_LEVEL
from packetio.memory import bytes_at, copy_bytes, pointer_to
from packetio.native import srtp_protect
from packetio.srtp import SEALER, add_gcm, begin_gcm, end_gcm

sealer_at = pointer_to(SEALER)
length_at = pointer_to(np.dtype([("value", "i4")]))
SQUEEZE = 16  # a late joiner's replay runs this much faster in time stamps
REPLAYED = 30  # s after a replay in which its packets may be asked for again
MASK32, MASK48 = 0xFFFFFFFF, (1 << 48) - 1
ONE_BYTE, TWO_BYTE = 0xBEDE, 0x1000
PAD_SCRATCH = 1024  # offset in the worker's scratch where padding bytes are made; the prefix lies below


@kernel
def signed32(value: int) -> int:
    """The difference of two 32-bit time stamps as a signed number."""
    return int64(((value & MASK32) ^ 0x80000000) - 0x80000000)


@kernel
def timestamp_of(sub: Any, timestamp: int) -> int:
    """A publisher's time stamp as this subscription sends it (32 bits)."""
    if sub.squeeze_from >= 0:
        behind = signed32(sub.squeeze_to - timestamp)
        if behind > 0:
            timestamp = sub.squeeze_to - behind // SQUEEZE
    return int64((timestamp + sub.timestamp_offset) & MASK32)


@kernel
def end_squeeze(sub: Any) -> None:
    """Forget a replay that is long over: its time stamps would be met again after half a turn of 32 bits."""
    passed = signed32(sub.last_timestamp - sub.timestamp_offset - sub.squeeze_to)
    if sub.squeeze_from >= 0 and passed > REPLAYED * sub.clock_rate:
        sub.squeeze_from = -1


@kernel
def element(b: Any, at: int, two: int, identity: int, size: int) -> int:
    """Begin one extension element; returns where its data goes."""
    if two:
        b[at] = identity
        b[at + 1] = size
        return at + 2
    b[at] = identity << 4 | (size - 1)
    return at + 1


@kernel
def own_extensions(w: Any, sub: Any, t: Any, b: Any, at: int, two: int) -> int:
    """The extensions that belong to this transport."""
    if t.ids[TWCC]:
        at = element(b, at, two, int64(t.ids[TWCC]), 2)
        put16(b, at, t.twcc_next & 0xFFFF)
        t.twcc_next += 1
        at += 2
    if t.ids[ABS_SEND_TIME]:
        at = element(b, at, two, int64(t.ids[ABS_SEND_TIME]), 3)
        put24(b, at, (((w.now + w.realtime) // 1000 << 18) // 1000000) & 0xFFFFFF)
        at += 3
    if t.ids[MID] and sub.acknowledged == 0 and sub.mid_size > 0:
        at = element(b, at, two, int64(t.ids[MID]), sub.mid_size)
        for k in range(sub.mid_size):
            b[at + k] = sub.mid[k]
        at += sub.mid_size
    return int64(at)


@kernel
def passed_extensions(t: Any, p: Any, b: Any, at: int, two: int) -> int:
    """The extensions that are the publisher's word to the receiver."""
    e = p.entry
    if t.ids[AUDIO_LEVEL] and e.audio_level != NO_LEVEL:
        at = element(b, at, two, int64(t.ids[AUDIO_LEVEL]), 1)
        b[at] = e.audio_level
        at += 1
    if t.ids[VIDEO_ORIENTATION] and e.orientation != NO_LEVEL:
        at = element(b, at, two, int64(t.ids[VIDEO_ORIENTATION]), 1)
        b[at] = e.orientation
        at += 1
    if t.ids[DEPENDENCY_DESCRIPTOR] and e.descriptor_size and (two or e.descriptor_size <= 16):
        at = copied(b, at, two, int64(t.ids[DEPENDENCY_DESCRIPTOR]), p.start + e.descriptor_at, e.descriptor_size)
    if t.ids[ABS_CAPTURE_TIME] and 0 < e.capture_size <= 16:
        at = copied(b, at, two, int64(t.ids[ABS_CAPTURE_TIME]), p.start + e.capture_at, e.capture_size)
    return int64(at)


@kernel
def copied(b: Any, at: int, two: int, identity: int, source: int, size: int) -> int:
    """One element copied from the log."""
    at = element(b, at, two, identity, int64(size))
    copy_bytes(b.ctypes.data + at, int64(source), int64(size))
    return at + int64(size)


@kernel
def marker_of(sub: Any, p: Any) -> int:
    """The marker bit: also on the last packet of the highest spatial layer that is sent."""
    if p.marks & MARKER:
        return 1
    return int64(sub.max_spatial != 255 and p.marks & END != 0 and p.entry.spatial == sub.spatial)


@kernel
def write_head(w: Any, sub: Any, t: Any, p: Any, index: int, to: int) -> int:
    """RTP header and extensions of packet p at address `to`; returns their size. SSRC and type are the primary ones."""
    b = bytes_at(to, 512)
    b[1] = marker_of(sub, p) << 7 | sub.payload_type
    put16(b, 2, index & 0xFFFF)
    put32(b, 4, timestamp_of(sub, p.timestamp))
    put32(b, 8, sub.ssrc)
    two = int64(t.allow_mixed != 0 and t.ids[DEPENDENCY_DESCRIPTOR] != 0 and p.entry.descriptor_size > 16)
    at = own_extensions(w, sub, t, b, int64(16), two)
    at = passed_extensions(t, p, b, at, two)
    if at == 16:
        b[0] = 0x80
        return 12
    while at & 3:
        b[at] = 0
        at += 1
    b[0] = 0x90
    put16(b, 12, TWO_BYTE if two else ONE_BYTE)
    put16(b, 14, (at - 16) >> 2)
    return int64(at)


@kernel
def set_payload(w: Any, sub: Any, p: Any) -> None:
    """Point the worker at the payload of p: what must be rewritten goes to the prefix, the rest stays in the log."""
    w.prefix_size = 0
    e = p.entry
    if e.picture_id_bits and (sub.picture_offset | sub.tl0_offset):
        n = int64(e.picture_id_at) + (2 if e.picture_id_bits == 15 else 1)
        n = max(n, int64(e.tl0_at) + 1)
        copy_bytes(w.scratch, p.payload, n)
        rewrite_ids(bytes_at(w.scratch, 64), sub, e)
        w.prefix_size = n
    w.body = p.payload + w.prefix_size
    w.body_size = p.length - w.prefix_size


@kernel
def rewrite_ids(b: Any, sub: Any, e: Any) -> None:
    """Picture id and TL0PICIDX in a copied VP8 payload descriptor (RFC 7741 4.2)."""
    at = int64(e.picture_id_at)
    picture = int64(e.picture_id) + sub.picture_offset
    if e.picture_id_bits == 15:
        put16(b, at, 0x8000 | (picture & 0x7FFF))
    else:
        b[at] = picture & 0x7F
    if e.tl0_at:
        b[e.tl0_at] = (int64(e.tl0) + sub.tl0_offset) & 255


@kernel
def seal(w: Any, t: Any, ssrc: int, index: int, to: int, head: int) -> int:
    """Seal header (already at `to`) and the worker's payload pieces; returns the size on the wire, 0 on failure."""
    pad = w.padding
    if pad:
        bytes_at(to, 1)[0] |= 0x20
        pads = bytes_at(w.scratch + PAD_SCRATCH, 256)
        for k in range(pad - 1):
            pads[k] = 0
        pads[pad - 1] = pad
    if t.evp == 0:
        return copy_and_protect(w, t, to, head)
    sealer = sealer_at(w.sealer)
    if begin_gcm(sealer, t, ssrc, index & MASK48, to, head) != 1:
        return 0
    end = to + head
    if w.prefix_size:
        end = add_gcm(t, end, w.scratch, w.prefix_size)
    if w.body_size:
        end = add_gcm(t, end, w.body, w.body_size)
    if pad:
        end = add_gcm(t, end, w.scratch + PAD_SCRATCH, pad)
    end = end_gcm(sealer, t, end)
    return end - to if end else 0


@kernel
def copy_and_protect(w: Any, t: Any, to: int, head: int) -> int:
    """The same through libsrtp, which works in place (AES-CM)."""
    end = to + head
    copy_bytes(end, w.scratch, w.prefix_size)
    end += w.prefix_size
    copy_bytes(end, w.body, w.body_size)
    end += w.body_size
    copy_bytes(end, w.scratch + PAD_SCRATCH, w.padding)
    length = length_at(w.words.ctypes.data)
    length.value = end + w.padding - to
    if srtp_protect(t.outbound, to, w.words.ctypes.data) != 0:
        return 0
    return int64(length.value)
