"""Encoded frames to RTP payloads: what a sender of VP8, VP9, H.264, AV1 or Opus puts into its packets.

The payloads of a frame are of about the same size (they differ by a byte, the later ones are longer), as libwebrtc
cuts them: no small last packet, so that pacing and loss treat the packets of a frame alike. Sources: RFC 7741 (VP8),
RFC 9628 (VP9), RFC 6184 (H.264), RTP Payload Format For AV1 v1.0, RFC 7587 (Opus).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mediacodecs.h264 import FU_A, PPS, SPS, STAP_A

PAYLOAD_SIZE = 1180  # bytes; with header, extensions and SRTP tag a packet stays below a 1,280 byte MTU
SMALLEST_SIZE = 64  # bytes; below that a descriptor would take most of a payload
NOT_SENT = (2, 8, 15)  # AV1 OBU types: temporal delimiter, tile list, padding (section 5 of the payload format)
MANY_OBUS = 3  # W counts no more; beyond, each OBU has its length
START_CODE = re.compile(rb"\x00\x00\x01")


def split_evenly(length: int, room: int, reduction: int = 0) -> list[int]:
    """Sizes of the fewest parts of at most `room` bytes, the first at most `room - reduction`, alike but for a byte."""
    if length + reduction <= room:
        return [length]
    total = length + reduction
    count = -(-total // room)
    base, longer = divmod(total, count)
    sizes = [base] * (count - longer) + [base + 1] * longer
    sizes[0] -= reduction
    return sizes


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """The parts of data, which has as many bytes as the sizes together."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size


def check(frame: bytes, size: int) -> None:
    """ValueError: there is nothing to send, or the payloads would be too small."""
    if not frame:
        raise ValueError("an encoded frame can't be empty")
    if size < SMALLEST_SIZE:
        raise ValueError(f"payloads of {size} bytes are too small: at least {SMALLEST_SIZE}")


def packetize_vp8(
    frame: bytes,
    picture_id: int,
    size: int = PAYLOAD_SIZE,
    *,
    tl0: int | None = None,
    temporal: int | None = None,
) -> list[bytes]:
    """Payloads with a 15-bit picture id, and TL0PICIDX and temporal layer if given (RFC 7741 section 4.2)."""
    check(frame, size)
    if tl0 is not None and temporal is None:
        temporal = 0  # L needs T
    flags = 0x80 | (0x40 if tl0 is not None else 0) | (0x20 if temporal is not None else 0)
    rest = bytes([flags]) + (0x8000 | picture_id & 0x7FFF).to_bytes(2, "big")
    rest += b"" if tl0 is None else bytes([tl0 & 255])
    rest += b"" if temporal is None else bytes([(temporal & 3) << 6])
    parts = cut(frame, split_evenly(len(frame), size - 1 - len(rest)))
    return [bytes([0x90 if k == 0 else 0x80]) + rest + part for k, part in enumerate(parts)]


def vp9_keyframe(frame: bytes) -> bool:
    """Whether a VP9 frame is a keyframe (bitstream section 6.2): marker 2, profile 2, show existing 1, type 1."""
    head = frame[0]
    shift = 1 if head & 0x30 == 0x30 else 0  # a reserved bit in profile 3
    return head & 0xC0 == 0x80 and (head << shift) & 0x0C == 0


def packetize_vp9(
    frame: bytes,
    picture_id: int,
    size: int = PAYLOAD_SIZE,
    *,
    width: int = 0,
    height: int = 0,
    tl0: int | None = None,
    temporal: int | None = None,
) -> list[bytes]:
    """Payloads of a picture of one spatial layer in non-flexible mode with a 15-bit picture id (RFC 9628 section 4).

    A keyframe whose size is given begins with the scalability structure: this size, each picture refers to the last.
    """
    check(frame, size)
    keyframe = vp9_keyframe(frame)
    layered = tl0 is not None or temporal is not None
    flags = 0x80 | (0 if keyframe else 0x40) | (0x20 if layered else 0)
    rest = (0x8000 | picture_id & 0x7FFF).to_bytes(2, "big")
    if layered:
        rest += bytes([((temporal or 0) & 7) << 5, (tl0 or 0) & 255])
    structure = b""
    if keyframe and width and height:
        structure = b"\x18" + width.to_bytes(2, "big") + height.to_bytes(2, "big") + b"\x01\x04\x01"
    sizes = split_evenly(len(frame), size - 1 - len(rest), len(structure))
    payloads = []
    for k, part in enumerate(cut(frame, sizes)):
        begin = 0x08 | (0x02 if structure else 0) if k == 0 else 0
        end = 0x04 if k == len(sizes) - 1 else 0
        payloads.append(bytes([flags | begin | end]) + rest + (structure if k == 0 else b"") + part)
    return payloads


def nal_units(stream: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream. ValueError: it doesn't begin with a start code."""
    parts = START_CODE.split(stream)
    if len(parts) < 2 or parts[0].strip(b"\x00"):
        raise ValueError("an H.264 access unit begins with the start code 00 00 01 (Annex B)")
    return [unit for unit in (part.rstrip(b"\x00") for part in parts[1:]) if unit]


def packetize_h264(access_unit: bytes, size: int = PAYLOAD_SIZE) -> list[bytes]:
    """Payloads of an Annex B access unit in packetization mode 1 (RFC 6184): parameter sets share a STAP-A."""
    check(access_unit, size)
    payloads: list[bytes] = []
    sets: list[bytes] = []
    for unit in nal_units(access_unit):
        joins = unit[0] & 31 in (SPS, PPS)
        if sets and not (joins and 1 + sum(2 + len(one) for one in [*sets, unit]) <= size):
            payloads += aggregate(sets, size)
            sets = []
        if joins:
            sets.append(unit)
        else:
            payloads += fragments(unit, size)
    return payloads + aggregate(sets, size)


def aggregate(units: Sequence[bytes], size: int) -> list[bytes]:
    """Several NAL units as one STAP-A, whose NRI is their highest; a single one as it is."""
    if len(units) < 2:
        return [payload for unit in units for payload in fragments(unit, size)]
    head = max(unit[0] & 0x60 for unit in units) | STAP_A
    return [bytes([head]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)]


def fragments(unit: bytes, size: int) -> list[bytes]:
    """A NAL unit as it is, or as FU-A when it is longer than a payload (section 5.8)."""
    if len(unit) <= size:
        return [unit]
    indicator, kind = unit[0] & 0xE0 | FU_A, unit[0] & 31
    sizes = split_evenly(len(unit) - 1, size - 2)
    last = len(sizes) - 1
    return [
        bytes([indicator, kind | (0x80 if k == 0 else 0) | (0x40 if k == last else 0)]) + part
        for k, part in enumerate(cut(unit[1:], sizes))
    ]


def leb128(value: int) -> bytes:
    """A length as AV1 writes it (section 4.10.5), in as few bytes as it takes."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """The number at data[at] and where it ends. ValueError: it is truncated or longer than 8 bytes."""
    value = 0
    for k in range(8):
        if at + k >= len(data):
            raise ValueError("an AV1 length ends before its last byte")
        value |= (data[at + k] & 127) << 7 * k
        if data[at + k] < 128:
            return value, at + k + 1
    raise ValueError("an AV1 length is longer than 8 bytes")


def bare_obus(unit: bytes) -> list[bytes]:
    """The OBUs of a temporal unit (low overhead format, section 5.2) without sizes; those that aren't sent left out."""
    obus = []
    at = 0
    while at < len(unit):
        head = unit[at]
        body = at + 1 + (head >> 2 & 1)
        length, end = len(unit) - body, body
        if head & 2:
            length, end = read_leb128(unit, body)
        if head & 0x80 or end + length > len(unit) or body > len(unit):
            raise ValueError(f"the AV1 temporal unit is malformed at byte {at}")
        if head >> 3 & 15 not in NOT_SENT:
            obus.append(bytes([head & ~2]) + unit[at + 1 : body] + unit[end : end + length])
        at = end + length
    return obus


def packetize_av1(temporal_unit: bytes, size: int = PAYLOAD_SIZE, keyframe: bool = False) -> list[bytes]:
    """Payloads of a temporal unit: aggregation header, then OBUs or parts of them (AV1 payload format, section 4)."""
    check(temporal_unit, size)
    obus = bare_obus(temporal_unit)
    if not obus:
        raise ValueError("the AV1 temporal unit has nothing to send")
    total = sum(map(len, obus))
    most = total // (size // 2) + len(obus) + 1
    count = len(fill(obus, [size] * most))
    for length in range(total + count, count * size):
        packets = fill(obus, split_evenly(length, -(-length // count)))
        if packets:
            break
    else:
        packets = fill(obus, [size] * count)
    return [write_av1(packets, k, keyframe) for k in range(len(packets))]


Packet = list[tuple[bytes, bool]]  # parts of OBUs, and whether each is the OBU's last


def fill(obus: Sequence[bytes], limits: Sequence[int]) -> list[Packet]:
    """OBU parts for one packet after the other, each up to its limit; nothing if the packets are too few."""
    packets: list[Packet] = []
    packet: Packet = []
    for obu in obus:
        at = 0
        while at < len(obu):
            if len(packets) == len(limits):
                return []
            take = room_for([len(part) for part, _ in packet], len(obu) - at, limits[len(packets)])
            if take:
                packet.append((obu[at : at + take], at + take == len(obu)))
                at += take
            if at < len(obu):
                packets.append(packet)
                packet = []
    return packets + ([packet] if packet else [])


def room_for(lengths: list[int], wanted: int, limit: int) -> int:
    """How many bytes of the next OBU fit behind parts of these lengths; 0: not enough to begin it."""
    take = min(wanted, limit - weigh([*lengths, 0]))
    while take > 0 and weigh([*lengths, take]) > limit:
        take -= 1
    return take if take == wanted or take > 1 else 0


def weigh(lengths: list[int]) -> int:
    """Bytes of a payload of parts of these lengths: the last needs no length field unless there are too many."""
    told = lengths if len(lengths) > MANY_OBUS else lengths[:-1]
    return 1 + sum(lengths) + sum(len(leb128(length)) for length in told)


def write_av1(packets: Sequence[Packet], k: int, keyframe: bool) -> bytes:
    """The payload of packet k."""
    parts = [part for part, _ in packets[k]]
    many = len(parts) > MANY_OBUS
    head = 0 if many else len(parts) << 4
    head |= 0x80 if k > 0 and not packets[k - 1][-1][1] else 0
    head |= 0 if packets[k][-1][1] else 0x40
    head |= 0x08 if keyframe and k == 0 else 0
    told = parts if many else parts[:-1]
    body = b"".join(leb128(len(part)) + part for part in told)
    return bytes([head]) + body + (b"" if many else parts[-1])


def packetize_opus(frame: bytes) -> list[bytes]:
    """The frame itself: an Opus packet is one payload (RFC 7587 section 4.2)."""
    if not frame:
        raise ValueError("an encoded frame can't be empty")
    return [frame]
