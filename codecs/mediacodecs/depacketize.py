"""RTP payloads back to encoded frames, for who decodes what a server forwarded.

The payloads are those of one whole frame in the order of their sequence numbers. What comes out is what decoders
take: an Annex B access unit for H.264, a temporal unit with delimiter and sizes for AV1. Sources as in packetize.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mediacodecs.frame import AV1, FRAME, H264, OK, OPUS, VP8, VP9
from mediacodecs.h264 import FU_A, STAP_A
from mediacodecs.packetize import leb128, read_leb128
from mediacodecs.vp8 import vp8_descriptor_size
from mediacodecs.vp9 import parse_vp9

TEMPORAL_DELIMITER = b"\x12\x00"
ANNEX_B = b"\x00\x00\x00\x01"


def join_vp8(payloads: Sequence[bytes]) -> bytes:
    """The frame behind the descriptors (RFC 7741 section 4.2). ValueError: a payload is truncated."""
    out = []
    for payload in payloads:
        size = int(vp8_descriptor_size(np.frombuffer(payload, np.uint8), 0, len(payload)))
        if size < 0 or size >= len(payload):
            raise ValueError("a VP8 payload ends within its descriptor")
        out.append(payload[size:])
    return b"".join(out)


def join_vp9(payloads: Sequence[bytes]) -> bytes:
    """The picture, of all its spatial layers that are here. ValueError: a payload is malformed."""
    frames: list[bytes] = []
    for payload in payloads:
        body = payload[vp9_descriptor_size(payload) :]
        if payload[0] & 0x08 or not frames:
            frames.append(b"")
        frames[-1] += body
    return frames[0] if len(frames) == 1 else superframe(frames)


def superframe(frames: Sequence[bytes]) -> bytes:
    """Frames of several spatial layers as one unit for the decoder, with the index at its end (VP9 Annex B)."""
    if not 1 < len(frames) <= 8:
        raise ValueError(f"a VP9 picture has {len(frames)} frames, 1 to 8 are possible")
    marker = bytes([0xC0 | 3 << 3 | len(frames) - 1])  # sizes of 4 bytes
    sizes = b"".join(len(frame).to_bytes(4, "little") for frame in frames)
    return b"".join(frames) + marker + sizes + marker


def vp9_descriptor_size(payload: bytes) -> int:
    """Bytes of the descriptor (RFC 9628 section 4.2). ValueError: it is malformed or all there is."""
    frame = np.recarray(1, FRAME)[0]
    if parse_vp9(np.frombuffer(payload, np.uint8), 0, len(payload), frame) != OK:
        raise ValueError("a VP9 payload is truncated or malformed")
    flags, at = payload[0], 1
    if flags & 0x80:
        at += 1 + (payload[at] >> 7)
    if flags & 0x20:
        at += 1 if flags & 0x10 else 2
    if flags & 0x50 == 0x50:
        while payload[at] & 1:
            at += 1
        at += 1
    return at + vp9_structure_size(payload, at) if flags & 0x02 else at


def vp9_structure_size(payload: bytes, at: int) -> int:
    """Bytes of the scalability structure at payload[at], which has been found whole."""
    head, begin = payload[at], at
    at += 1 + (4 * ((head >> 5) + 1) if head & 0x10 else 0)
    if head & 0x08:
        pictures = payload[at]
        at += 1
        for _ in range(pictures):
            at += 1 + (payload[at] >> 2 & 3)
    return at - begin


def join_h264(payloads: Sequence[bytes]) -> bytes:
    """The access unit as Annex B (RFC 6184, modes 0 and 1). ValueError: a payload is malformed or a fragment lost."""
    units: list[bytes] = []
    open_unit = False
    for payload in payloads:
        if not payload:
            raise ValueError("an H.264 payload is empty")
        kind = payload[0] & 31
        if kind == FU_A:
            open_unit = join_fragment(payload, units, open_unit)
            continue
        if open_unit:
            raise ValueError("an H.264 fragment lacks its end")
        if kind == STAP_A:
            units += stap_units(payload)
        elif 1 <= kind <= 23:
            units.append(payload)
        else:
            raise ValueError(f"H.264 payloads of type {kind} aren't supported")
    if open_unit:
        raise ValueError("an H.264 fragment lacks its end")
    return b"".join(ANNEX_B + unit for unit in units)


def join_fragment(payload: bytes, units: list[bytes], open_unit: bool) -> bool:
    """Add an FU-A to the units; whether its NAL unit goes on."""
    if len(payload) < 3 or bool(payload[1] & 0x80) == open_unit:
        raise ValueError("an H.264 fragment is truncated or lacks its beginning")
    if not open_unit:
        units.append(bytes([payload[0] & 0xE0 | payload[1] & 31]))
    units[-1] += payload[2:]
    return not payload[1] & 0x40


def stap_units(payload: bytes) -> list[bytes]:
    """The NAL units of a STAP-A."""
    units = []
    at = 1
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        unit = payload[at + 2 : at + 2 + size]
        if not size or len(unit) < size:
            raise ValueError("an H.264 STAP-A is malformed")
        units.append(unit)
        at += 2 + size
    return units


def join_av1(payloads: Sequence[bytes]) -> bytes:
    """The temporal unit with delimiter and OBU sizes. ValueError: a payload is malformed or a fragment lost."""
    obus: list[bytes] = []
    goes_on = False
    for payload in payloads:
        if len(payload) < 2:
            raise ValueError("an AV1 payload is truncated")
        if bool(payload[0] & 0x80) != goes_on:
            raise ValueError("an AV1 payload lacks the part before it")
        for k, part in enumerate(av1_parts(payload)):
            if k == 0 and goes_on:
                obus[-1] += part
            else:
                obus.append(part)
        goes_on = bool(payload[0] & 0x40)
    if goes_on:
        raise ValueError("an AV1 OBU lacks its last part")
    return TEMPORAL_DELIMITER + b"".join(with_size(obu) for obu in obus if obu)


def av1_parts(payload: bytes) -> list[bytes]:
    """The OBUs or parts of OBUs of a payload, at least one."""
    count = payload[0] >> 4 & 3
    parts: list[bytes] = []
    at = 1
    while at < len(payload):
        size = len(payload) - at
        if count == 0 or len(parts) < count - 1:
            size, at = read_leb128(payload, at)
        if size > len(payload) - at or (count and len(parts) == count):
            raise ValueError("an AV1 payload is malformed")
        parts.append(payload[at : at + size])
        at += size
    if len(parts) < max(count, 1):
        raise ValueError("an AV1 payload has fewer OBUs than it says")
    return parts


def with_size(obu: bytes) -> bytes:
    """An OBU as the low overhead format has it (AV1 section 5.3); one that has its size already stays as it is."""
    head = obu[0]
    body = 1 + (head >> 2 & 1)
    if head & 2:
        return obu
    return bytes([head | 2]) + obu[1:body] + leb128(len(obu) - body) + obu[body:]


def join_opus(payloads: Sequence[bytes]) -> bytes:
    """The one payload. ValueError: there are none or several."""
    if len(payloads) != 1 or not payloads[0]:
        raise ValueError(f"an Opus frame is one payload that isn't empty, not {len(payloads)}")
    return payloads[0]


JOINERS: dict[int, Callable[[Sequence[bytes]], bytes]] = {
    VP8: join_vp8,
    VP9: join_vp9,
    H264: join_h264,
    AV1: join_av1,
    OPUS: join_opus,
}


def join_frame(codec: int, payloads: Sequence[bytes]) -> bytes:
    """The encoded frame of these payloads. ValueError: they are no whole frame, or the codec isn't known."""
    if codec not in JOINERS:
        raise ValueError(f"frames of codec {codec} can't be put together")
    if not payloads:
        raise ValueError("a frame without payloads")
    return JOINERS[codec](payloads)
