"""The picture size in an H.264 sequence parameter set (ITU-T H.264 section 7.3.2.1.1), the one thing we want of it.

A reader is a bit position in the raw NAL unit; emulation prevention bytes (the 3 of 00 00 03) are stepped over.
Bits past the end read as 0. Numbers and lists end there too: a set of ten bytes may promise thousands of numbers, and
a packet holds a hundred such sets. What led past the end is no parameter set.
"""

from __future__ import annotations

from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel

MAX_UE = 32  # leading zeros of an Exp-Golomb code


@kernel
def next_bit(b: Bytes, bit: int, start: int, end: int) -> tuple[int, int]:
    """The bit at position `bit` of the NAL unit b[start:end], and the position after it."""
    i = bit >> 3
    if bit & 7 == 0 and start + 2 <= i < end and b[i] == 3 and b[i - 1] == 0 and b[i - 2] == 0:
        bit += 8
        i += 1
    if i >= end:
        return int64(0), int64(bit + 1)
    return int64(b[i]) >> (7 - (bit & 7)) & 1, int64(bit + 1)


@kernel
def is_past(bit: int, end: int) -> bool:
    """Whether what was read until a position lay behind the end in part."""
    return bit > end * 8


@kernel
def fixed(b: Bytes, bit: int, start: int, end: int, count: int) -> tuple[int, int]:
    """A number of `count` bits, and the position after it."""
    value = int64(0)
    for _ in range(count):
        one, bit = next_bit(b, bit, start, end)
        value = value << 1 | one
    return value, int64(bit)


@kernel
def golomb(b: Bytes, bit: int, start: int, end: int) -> tuple[int, int]:
    """An unsigned Exp-Golomb number (section 9.1), and the position after it; 0 where it leads past the end."""
    zeros = int64(0)
    one, bit = next_bit(b, bit, start, end)
    while one == 0 and zeros < MAX_UE and not is_past(bit, end):
        zeros += 1
        one, bit = next_bit(b, bit, start, end)
    if is_past(bit, end):
        return int64(0), int64(bit)
    value, bit = fixed(b, bit, start, end, zeros)
    return (int64(1) << zeros) - 1 + value, bit


@kernel
def sps_resolution(b: Bytes, at: int, end: int) -> int:
    """`width << 16 | height` in pixels, cropped, of the SPS b[at:end] with its NAL header; 0: it can't be told."""
    bit = int64((at + 4) * 8)
    _, bit = golomb(b, bit, at, end)
    chroma = int64(1)
    if at + 4 < end and has_chroma(int64(b[at + 1])):
        chroma, bit = skip_chroma(b, bit, at, end)
    _, bit = golomb(b, bit, at, end)
    bit = skip_order(b, bit, at, end)
    _, bit = golomb(b, bit, at, end)
    _, bit = next_bit(b, bit, at, end)
    columns, bit = golomb(b, bit, at, end)
    rows, bit = golomb(b, bit, at, end)
    frames_only, bit = next_bit(b, bit, at, end)
    _, bit = fixed(b, bit, at, end, 2 - frames_only)
    crop_width, crop_height, bit = read_crop(b, bit, at, end)
    width = (columns + 1) * 16 - crop_width * (2 if chroma == 1 or chroma == 2 else 1)
    height = (rows + 1) * 16 - crop_height * (2 if chroma == 1 else 1)
    height *= 2 - frames_only
    if is_past(bit, end) or not (0 < width <= 0xFFFF and 0 < height <= 0xFFFF):
        return 0
    return int64(width << 16 | height)


@kernel
def has_chroma(profile: int) -> bool:
    """Whether an SPS of this profile_idc tells its chroma format and scaling lists."""
    return profile in (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)


@kernel
def skip_chroma(b: Bytes, bit: int, start: int, end: int) -> tuple[int, int]:
    """chroma_format_idc (0 when the colour planes are coded apart), and the position after the scaling lists."""
    chroma, bit = golomb(b, bit, start, end)
    lists = 12 if chroma == 3 else 8
    if chroma == 3:
        apart, bit = next_bit(b, bit, start, end)
        chroma = int64(0) if apart else chroma
    _, bit = golomb(b, bit, start, end)
    _, bit = golomb(b, bit, start, end)
    _, bit = next_bit(b, bit, start, end)
    scaled, bit = next_bit(b, bit, start, end)
    if scaled:
        for k in range(lists):
            present, bit = next_bit(b, bit, start, end)
            if is_past(bit, end):
                break
            if present:
                bit = skip_scaling(b, bit, start, end, 16 if k < 6 else 64)
    return chroma, bit


@kernel
def skip_scaling(b: Bytes, bit: int, start: int, end: int, size: int) -> int:
    """Step over one scaling list of `size` entries (section 7.3.2.1.1.1)."""
    last = int64(8)
    for _ in range(size):
        code, bit = golomb(b, bit, start, end)
        delta = (code + 1) >> 1 if code & 1 else -(code >> 1)
        last = (last + delta) & 0xFF
        if last == 0 or is_past(bit, end):
            break
    return bit


@kernel
def skip_order(b: Bytes, bit: int, start: int, end: int) -> int:
    """Step over the fields of the picture order count."""
    kind, bit = golomb(b, bit, start, end)
    if kind == 0:
        _, bit = golomb(b, bit, start, end)
    elif kind == 1:
        _, bit = next_bit(b, bit, start, end)
        _, bit = golomb(b, bit, start, end)
        _, bit = golomb(b, bit, start, end)
        count, bit = golomb(b, bit, start, end)
        for _ in range(min(count, 255)):
            _, bit = golomb(b, bit, start, end)
            if is_past(bit, end):
                break
    return bit


@kernel
def read_crop(b: Bytes, bit: int, start: int, end: int) -> tuple[int, int, int]:
    """Cropped columns and rows in crop units, and the position after them."""
    cropped, bit = next_bit(b, bit, start, end)
    if not cropped:
        return int64(0), int64(0), bit
    left, bit = golomb(b, bit, start, end)
    right, bit = golomb(b, bit, start, end)
    top, bit = golomb(b, bit, start, end)
    bottom, bit = golomb(b, bit, start, end)
    return left + right, top + bottom, bit
