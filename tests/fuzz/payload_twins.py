"""Plain Python twins of the payload kernels, written from the RFCs: slices, bit strings and exceptions.

Each returns a dict of FRAME fields; what isn't named is 0 (-1 for picture id and TL0PICIDX).
"""

from __future__ import annotations

from typing import Any

OPUS, VP8, VP9, H264, AV1, H265, RED, OTHER = range(1, 9)
Fields = dict[str, Any]


class Short(Exception):
    """The payload ends too early: code 1."""


class Bad(Exception):
    """The payload contradicts itself: code 2."""


class Reader:
    """Bytes from the front; running out is Short."""

    def __init__(self, data: bytes) -> None:
        self.data, self.used = data, 0

    def take(self, count: int = 1) -> bytes:
        if self.used + count > len(self.data):
            raise Short
        self.used += count
        return self.data[self.used - count : self.used]

    def byte(self) -> int:
        return self.take()[0]

    def rest(self) -> bytes:
        return self.data[self.used :]


class Bits:
    """A string of bits; past its end there are zeros, and `over` tells so."""

    def __init__(self, data: bytes) -> None:
        self.text, self.used = "".join(f"{byte:08b}" for byte in data), 0

    def number(self, count: int) -> int:
        part = self.text[self.used : self.used + count].ljust(count, "0")
        self.used += count
        return int(part or "0", 2)

    def golomb(self) -> int:
        zeros = 0
        while not self.number(1) and zeros < 32:
            zeros += 1
        return (1 << zeros) - 1 + self.number(zeros)

    def signed(self) -> int:
        code = self.golomb()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    @property
    def over(self) -> bool:
        return self.used > len(self.text)


def picture_id(reader: Reader, out: Fields) -> None:
    out["picture_id_at"] = reader.used
    high = reader.byte()
    out["picture_id"], out["picture_id_bits"] = high, 7
    if high > 127:
        out["picture_id"], out["picture_id_bits"] = (high - 128) * 256 + reader.byte(), 15


def vp8(data: bytes) -> Fields:
    out: Fields = {}
    reader = Reader(data)
    x, _, n, s, _, *pid = (bit == "1" for bit in f"{reader.byte():08b}")
    out["discardable"], out["start"] = int(n), int(s and not any(pid))
    if x:
        i, tl0, t, k = (bit == "1" for bit in f"{reader.byte():08b}"[:4])
        if i:
            picture_id(reader, out)
        if tl0:
            out["tl0_at"] = reader.used
            out["tl0"] = reader.byte()
        if t or k:
            layers = f"{reader.byte():08b}"
            if t:
                out["temporal"], out["switch_up"] = int(layers[:2], 2), int(layers[2])
    body = reader.rest()
    if not body:
        raise Short
    if out["start"] and body[0] % 2 == 0:
        out["keyframe"] = 1
        if len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
            out["width"] = int.from_bytes(body[6:8], "little") % (1 << 14)
            out["height"] = int.from_bytes(body[8:10], "little") % (1 << 14)
    return out


def vp9(data: bytes) -> Fields:
    reader = Reader(data)
    i, p, layered, f, b, e, v, _ = (int(bit) for bit in f"{reader.byte():08b}")
    out: Fields = {"start": b, "end": e, "keyframe": 1 - p}
    if i:
        picture_id(reader, out)
    if layered:
        bits = f"{reader.byte():08b}"
        out.update(temporal=int(bits[:3], 2), switch_up=int(bits[3]))
        out.update(spatial=int(bits[4:7], 2), inter_layer=int(bits[7]))
        if not f:
            out["tl0_at"] = reader.used
            out["tl0"] = reader.byte()
    if f and p:
        if reader.byte() % 2 and reader.byte() % 2 and reader.byte() % 2:
            raise Bad
    alone = not layered
    if v:
        structure = reader.byte()
        alone = structure < 32
        if structure & 16:
            sizes = reader.take(4 * (structure // 32 + 1))
            out["width"], out["height"] = int.from_bytes(sizes[-4:-2], "big"), int.from_bytes(sizes[-2:], "big")
        if structure & 8:
            for _ in range(reader.byte()):
                reader.take(reader.byte() // 4 % 4)
    body = reader.rest()
    if not body:
        raise Short
    if not i and not p and not layered:
        out["keyframe"] = 0
        if b:
            out.update(vp9_header(body))
    elif b and not p and alone:
        out.update(vp9_header(body))
    return out


def vp9_header(body: bytes) -> Fields:
    bits = Bits(body)
    marker, profile = bits.number(2), bits.number(1) + 2 * bits.number(1)
    if profile == 3:
        bits.number(1)
    shown_again, inter = bits.number(1), bits.number(1)
    bits.number(2)
    if marker != 2 or shown_again or inter or bits.number(24) != 0x498342:
        return {}
    out = {"keyframe": 1}
    if profile == 0 and bits.number(3) != 7:
        bits.number(1)
        width, height = bits.number(16) + 1, bits.number(16) + 1
        if not bits.over:
            out.update(width=min(width, 65535), height=min(height, 65535))
    return out


def stap(data: bytes) -> list[bytes]:
    reader, nals = Reader(data), []
    try:
        while reader.rest():
            nals.append(reader.take(int.from_bytes(reader.take(2), "big")))
            if not nals[-1]:
                raise Bad
    except Short:
        raise Bad from None
    return nals


def h264(data: bytes) -> Fields:
    if not data:
        raise Short
    kind = data[0] % 32
    if kind == 28:
        if len(data) < 3:
            raise Short
        kind = data[1] % 32
        return h264_nals([(data[0] // 32 % 4, kind, data[2:] if data[1] & 128 else b"")], fragment=True)
    if kind == 24:
        nals = stap(data[1:])
        if not nals:
            raise Short
    elif 1 <= kind <= 23:
        nals = [data]
    else:
        raise Bad
    return h264_nals([(nal[0] // 32 % 4, nal[0] % 32, nal[1:]) for nal in nals], fragment=False)


def nal_units(data: bytes) -> list[bytes]:
    """The whole NAL units of an H.264 payload, up to the first broken one."""
    kind = data[0] % 32 if data else 0
    if kind != 24:
        return [data] if 1 <= kind <= 23 else []
    found, rest = [], data[1:]
    while len(rest) > 2 and 0 < (size := int.from_bytes(rest[:2], "big")) <= len(rest) - 2:
        found.append(rest[2 : 2 + size])
        rest = rest[2 + size :]
    return found


def h264_nals(nals: list[tuple[int, int, bytes]], fragment: bool) -> Fields:
    out: Fields = {"param_sets": 0}
    for importance, kind, body in nals:
        if kind in (1, 5):
            out["discardable"] = int(importance == 0)
            if body and body[0] >= 128:
                out["start"] = 1
        if kind == 5:
            out["keyframe"] = 1
            out["param_sets"] |= 4
        if kind == 8 and not fragment:
            out["param_sets"] |= 2
        if kind == 7 and not fragment:
            out["param_sets"] |= 1
            out["width"], out["height"] = sps_size(bytes([importance * 32 + 7]) + body)
    return out


def unescape(nal: bytes) -> bytes:
    """Drop the emulation prevention bytes behind the four fixed bytes."""
    return bytes(byte for i, byte in enumerate(nal) if i < 4 or byte != 3 or nal[i - 2 : i] != b"\0\0")


HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


def sps_size(nal: bytes) -> tuple[int, int]:
    if len(nal) < 5:
        return 0, 0
    bits = Bits(unescape(nal))
    bits.used = 32
    bits.golomb()
    chroma = 1
    if nal[1] in HIGH:
        chroma = chroma_format(bits)
    bits.golomb()
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.number(1), bits.golomb(), bits.golomb()
        for _ in range(min(bits.golomb(), 255)):
            bits.golomb()
    bits.golomb(), bits.number(1)
    columns, rows, progressive = bits.golomb() + 1, bits.golomb() + 1, bits.number(1)
    bits.number(1 if progressive else 2)
    left = right = top = bottom = 0
    if bits.number(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
    across, down = {1: (2, 2), 2: (2, 1)}.get(chroma, (1, 1))
    width = 16 * columns - across * (left + right)
    height = (16 * rows - down * (top + bottom)) * (1 if progressive else 2)
    if bits.over or not 0 < width < 65536 or not 0 < height < 65536:
        return 0, 0
    return width, height


def chroma_format(bits: Bits) -> int:
    chroma = bits.golomb()
    lists = [16] * 6 + [64] * (6 if chroma == 3 else 2)
    if chroma == 3 and bits.number(1):
        chroma = 0
    bits.golomb(), bits.golomb(), bits.number(1)
    if bits.number(1):
        for length in lists:
            if bits.number(1):
                scale = 8
                while length and scale:
                    scale = (scale + bits.signed()) % 256
                    length -= 1
    return chroma


def leb128(reader: Reader) -> int:
    value = 0
    try:
        for place in range(8):
            byte = reader.byte()
            value += (byte % 128) << 7 * place
            if byte < 128:
                return value
    except Short:
        pass
    raise Bad


def av1(data: bytes) -> Fields:
    if len(data) < 2:
        raise Short
    z, _, w1, w0, n, *_ = (int(bit) for bit in f"{data[0]:08b}")
    count, reader, obus = 2 * w1 + w0, Reader(data[1:]), []
    while reader.rest():
        last = len(obus) == count - 1
        size = len(reader.rest()) if last else leb128(reader)
        try:
            obus.append(reader.take(size))
        except Short:
            raise Bad from None
    if len(obus) < count:
        raise Bad
    out: Fields = {"keyframe": n, "start": n}
    for place, obu in enumerate(obus):
        if obu and not (place == 0 and z):
            av1_obu(obu, place, out)
    return out


def av1_obu(obu: bytes, place: int, out: Fields) -> None:
    kind, extended, sized = obu[0] // 8 % 16, obu[0] & 4, obu[0] & 2
    if place == 0 and kind in (1, 2, 3, 5, 6):
        out["start"] = 1
    body = Reader(obu[1:])
    if extended and len(obu) > 1:
        layers = body.byte()
        out["temporal"], out["spatial"] = layers // 32, layers // 8 % 4
    if kind == 1 and out["start"]:
        out["keyframe"] = 1
        try:
            if sized:
                leb128(body)
        except Bad:
            return
        out.update(sequence_size(Bits(body.rest())))


def sequence_size(bits: Bits) -> Fields:
    bits.number(4)
    if bits.number(1):
        bits.number(5)
    else:
        operating_points(bits)
    wide, high = bits.number(4) + 1, bits.number(4) + 1
    width, height = bits.number(wide) + 1, bits.number(high) + 1
    return {} if bits.over else {"width": min(width, 65535), "height": min(height, 65535)}


def operating_points(bits: Bits) -> None:
    model = delay = 0
    if bits.number(1):
        bits.number(64)
        if bits.number(1):
            zeros = 0
            while bits.used < len(bits.text) and not bits.number(1):
                zeros += 1
            bits.number(zeros)
        model = bits.number(1)
        if model:
            delay = bits.number(5) + 1
            bits.number(42)
    display = bits.number(1)
    for _ in range(bits.number(5) + 1):
        bits.number(12)
        if bits.number(5) > 7:
            bits.number(1)
        if model and bits.number(1):
            bits.number(delay), bits.number(delay), bits.number(1)
        if display and bits.number(1):
            bits.number(4)


def h265(data: bytes) -> Fields:
    if len(data) < 3:
        raise Short
    kind, out = data[0] // 2 % 64, {"temporal": max(data[1] % 8 - 1, 0)}
    if kind == 48:
        nals = stap(data[2:])
        if any(len(nal) < 2 for nal in nals):
            raise Bad
        parts = [(nal[0] // 2 % 64, nal[2:]) for nal in nals]
    elif kind == 49:
        parts = [(data[2] % 64, data[3:] if data[2] > 127 else b"")]
    elif kind < 48:
        parts = [(kind, data[2:])]
    else:
        raise Bad
    for kind, body in parts:
        if kind < 32 and body and body[0] > 127:
            out["start"] = 1
        if 16 <= kind <= 23:
            out["keyframe"] = 1
    return out


def alone(data: bytes) -> Fields:
    if not data:
        raise Short
    return {"keyframe": 1, "start": 1, "end": 1}


TWINS = {OPUS: alone, VP8: vp8, VP9: vp9, H264: h264, AV1: av1, H265: h265, RED: alone, OTHER: alone}
BLANK = dict.fromkeys(
    "keyframe start end spatial temporal switch_up discardable inter_layer picture_id_bits".split(), 0
)
BLANK |= dict.fromkeys("param_sets picture_id_at tl0_at width height".split(), 0) | {"picture_id": -1, "tl0": -1}


def payload(codec: int, data: bytes) -> tuple[int, Fields]:
    """What parse_payload should return and write."""
    try:
        return 0, BLANK | TWINS[codec](data)
    except Short:
        return 1, BLANK
    except Bad:
        return 2, BLANK
