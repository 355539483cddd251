"""The test picture: it moves, and carries its frame number for people (a time code) and for machines (a bar code).

The bar code is a strip at the bottom: 24 bits of frame number and 8 bits of checksum as black and white blocks, large
enough that they survive an encoder at a low bit rate. Who decodes a forwarded stream reads the number back, so that
the picture is proven to have come through and not assumed. A picture is planar YUV 4:2:0: an array of shape
(height * 3 / 2, width), as `av.VideoFrame.from_ndarray(picture, format="yuv420p")` takes it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]

KINDS = ("camera", "screen")
SMALLEST_WIDTH, SMALLEST_HEIGHT = 64, 32  # pixels; below that the bar code's blocks would be too small
NUMBER_BITS, CHECK_BITS = 24, 8
BITS = NUMBER_BITS + CHECK_BITS
BLACK, WHITE = 16, 235  # limited range luma
UNSURE = 40  # a block whose mean is nearer than this to the middle is neither black nor white
PAGE_FRAMES = 10  # pictures of kind screen that show the same page
MARGIN = 6  # luma of the noise of a camera, so that an encoder has something to spend its bits on

FONT = {  # rows from the top, 5 bits each, the highest is the left pixel
    "0": "0e 11 13 15 19 11 0e", "1": "04 0c 04 04 04 04 0e", "2": "0e 11 01 06 08 10 1f", "3": "1f 02 04 02 01 11 0e",
    "4": "02 06 0a 12 1f 02 02", "5": "1f 10 1e 01 01 11 0e", "6": "06 08 10 1e 11 11 0e", "7": "1f 01 02 04 04 04 04",
    "8": "0e 11 11 0e 11 11 0e", "9": "0e 11 11 0f 01 02 0c", ":": "00 04 04 00 04 04 00", "#": "0a 0a 1f 0a 1f 0a 0a",
    "A": "0e 11 11 1f 11 11 11", "E": "1f 10 10 1e 10 10 1f", "I": "0e 04 04 04 04 04 0e", "L": "10 10 10 10 10 10 1f",
    "N": "11 19 19 15 13 13 11", "O": "0e 11 11 11 11 11 0e", "R": "1e 11 11 1e 14 12 11", "S": "0f 10 10 0e 01 01 1e",
    "T": "1f 04 04 04 04 04 04", "V": "11 11 11 11 11 0a 04", "W": "11 11 11 15 15 1b 11", "X": "11 11 0a 04 0a 11 11",
    " ": "00 00 00 00 00 00 00",
}  # fmt: skip
GLYPHS = "".join(FONT)
SPACE = len(GLYPHS) - 1
BITMAPS = np.array(
    [[[int(row, 16) >> (4 - x) & 1 for x in range(5)] for row in FONT[glyph].split()] for glyph in GLYPHS], np.uint8
)  # shape (glyphs, 7, 5)


def check_size(width: int, height: int) -> None:
    """ValueError: a picture of this size can't be drawn."""
    if width % 2 or height % 2 or width < SMALLEST_WIDTH or height < SMALLEST_HEIGHT:
        least = f"{SMALLEST_WIDTH}x{SMALLEST_HEIGHT}"
        raise ValueError(f"a picture has even sides and at least {least} pixels, not {width}x{height}")


def draw(width: int, height: int, number: int, kind: str = "camera", framerate: float = 25) -> Plane:
    """Picture `number` (0 to 2^24 - 1) of a clip. ValueError: odd or small size, number out of range, unknown kind.

    Equal arguments give equal pictures.
    """
    check_size(width, height)
    if not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"frame number {number} doesn't fit into {NUMBER_BITS} bits")
    if kind not in KINDS:
        raise ValueError(f"unknown kind of picture {kind!r}: {' or '.join(KINDS)}")
    picture: Plane = np.empty((height * 3 // 2, width), np.uint8)
    draw_content = draw_camera if kind == "camera" else draw_screen
    draw_content(picture, width, height, number)
    luma = picture[:height]
    label_height, label_width = draw_time_code(luma, number, framerate)
    code_height = draw_number(luma, number)
    for plane in chroma(picture, width, height):
        plane[: -(-label_height // 2), : -(-label_width // 2)] = 128
        plane[(height - code_height) // 2 :] = 128
    return picture


def chroma(picture: Plane, width: int, height: int) -> tuple[Plane, Plane]:
    """Views of the two chroma planes, (height / 2, width / 2)."""
    size = (height // 2) * (width // 2)
    flat = picture.reshape(-1)[height * width :]
    shape = (height // 2, width // 2)
    return flat[:size].reshape(shape), flat[size:].reshape(shape)


@lru_cache(maxsize=8)
def backdrop(width: int, height: int) -> tuple[Plane, Plane]:
    """A wide gradient and fixed noise, both larger than the picture so that a moving part of them can be shown."""
    x = np.arange(2 * width)[None, :]
    y = np.arange(height)[:, None]
    wave = 50 * np.sin(2 * np.pi * x / width) + 30 * np.cos(2 * np.pi * (y / height + 2 * x / width))
    noise = np.random.default_rng(width * 8192 + height).integers(0, 2 * MARGIN, (2 * height, 2 * width))
    return (wave + 110).astype(np.uint8), noise.astype(np.uint8)


def draw_camera(picture: Plane, width: int, height: int, number: int) -> None:
    """A gradient that pans, a bright disc that circles, and the noise of a camera."""
    gradient, noise = backdrop(width, height)
    pan = number * 4 % width
    luma = picture[:height]
    luma[:] = gradient[:, pan : pan + width]
    dx, dy = (int(shift) for shift in np.random.default_rng(number).integers(0, (width, height)))
    luma += noise[dy : dy + height, dx : dx + width]
    radius = min(width, height) // 6
    angle = number * 0.1
    cx, cy = int(width * (0.5 + 0.3 * np.cos(angle))), int(height * (0.45 + 0.25 * np.sin(angle)))
    disc = (np.arange(width)[None, :] - cx) ** 2 + (np.arange(height)[:, None] - cy) ** 2 < radius * radius
    luma[disc] = 210
    blue, red = chroma(picture, width, height)
    blue[:] = gradient[::2, pan : pan + width : 2] // 2 + 70
    red[:] = 255 - blue
    red[disc[::2, ::2]] = 200


def draw_screen(picture: Plane, width: int, height: int, number: int) -> None:
    """A white page full of small sharp text, another one every PAGE_FRAMES pictures."""
    picture[:height] = WHITE
    page = page_of_text(width, height, number // PAGE_FRAMES)
    picture[: page.shape[0], : page.shape[1]] = page
    for plane in chroma(picture, width, height):
        plane[:] = 128


@lru_cache(maxsize=8)
def page_of_text(width: int, height: int, page: int) -> Plane:
    """Luma of a page of ragged lines of random glyphs; a point of a glyph is 1 pixel, in pictures of 720 lines 2."""
    scale = max(1, height // 360)
    rows, columns = height // (14 * scale), width // (6 * scale)
    seeded = np.random.default_rng(page)
    codes = np.minimum(seeded.integers(0, len(GLYPHS) + 4, (rows, columns)), SPACE)
    codes[np.arange(columns) >= seeded.integers(columns // 4, columns, rows)[:, None]] = SPACE
    cells = np.zeros((rows, 14, columns, 6), np.uint8)
    cells[:, 3:10, :, :5] = BITMAPS[codes].transpose(0, 2, 1, 3)
    return enlarged(cells.reshape(rows * 14, columns * 6), scale, BLACK, WHITE)


def enlarged(points: Plane, scale: int, ink: int, paper: int) -> Plane:
    """Each point as a square of scale x scale pixels."""
    big = np.repeat(np.repeat(points, scale, axis=0), scale, axis=1)
    return np.where(big, ink, paper).astype(np.uint8)


def time_code(number: int, framerate: float) -> str:
    """Minutes, seconds and the frame within the second, then the frame number."""
    seconds = int(number / framerate)
    frame = number - int(np.ceil(seconds * framerate))
    return f"{seconds // 60:02}:{seconds % 60:02}:{frame:02} #{number}"


def draw_time_code(luma: Plane, number: int, framerate: float) -> tuple[int, int]:
    """White on black at the top, as large as half the width allows; returns height and width in pixels."""
    text = time_code(number, framerate)
    points = np.zeros((9, len(text) * 6 + 1), np.uint8)
    for k, glyph in enumerate(text):
        points[1:8, 1 + 6 * k : 6 + 6 * k] = BITMAPS[GLYPHS.index(glyph)]
    scale = max(1, luma.shape[1] // (2 * points.shape[1]))
    label = enlarged(points, scale, WHITE, BLACK)[: luma.shape[0], : luma.shape[1]]
    luma[: label.shape[0], : label.shape[1]] = label
    return label.shape[0], label.shape[1]


def bar_code_shape(width: int, height: int) -> tuple[int, int, int, int]:
    """Rows and columns of blocks, and a block's height and width in pixels."""
    columns = 16 if width >= 160 else 8
    rows = BITS // columns
    return rows, columns, max(6, height // 12), width // columns


def checksum(number: int) -> int:
    """CRC-8 (polynomial 0x07, start 0xFF) of the number's 24 bits: never right for a strip all black or all white."""
    crc = 0xFF
    for shift in range(NUMBER_BITS - 1, -1, -1):
        crc = (crc << 1 ^ (0x07 if (crc >> 7 ^ number >> shift) & 1 else 0)) & 0xFF
    return crc


def draw_number(luma: Plane, number: int) -> int:
    """Write the bar code; returns how many luma rows it takes at the bottom."""
    height, width = luma.shape
    rows, columns, block_height, block_width = bar_code_shape(width, height)
    word = number << CHECK_BITS | checksum(number)
    bits = np.array([word >> (BITS - 1 - k) & 1 for k in range(BITS)], np.uint8).reshape(rows, columns)
    blocks = np.repeat(np.repeat(bits, block_height, axis=0), block_width, axis=1)
    strip = luma[height - rows * block_height :]
    strip[:] = BLACK
    strip[:, : columns * block_width] = np.where(blocks, WHITE, BLACK)
    return rows * block_height


def read_number(luma: NDArray[Any]) -> int | None:
    """The frame number in a luma plane (height, width); None: there is none, or it can't be told for sure."""
    height, width = luma.shape
    if width < SMALLEST_WIDTH or height < SMALLEST_HEIGHT:
        return None
    rows, columns, block_height, block_width = bar_code_shape(width, height)
    strip = luma[height - rows * block_height :, : columns * block_width]
    blocks = strip.reshape(rows, block_height, columns, block_width)
    edge_y, edge_x = block_height // 4, block_width // 4
    inner = blocks[:, edge_y : block_height - edge_y, :, edge_x : block_width - edge_x]
    means = inner.mean(axis=(1, 3)).reshape(-1) - (BLACK + WHITE) / 2
    if np.abs(means).min() < UNSURE:
        return None
    word = 0
    for bit in means > 0:
        word = word << 1 | int(bit)
    number = word >> CHECK_BITS
    return number if checksum(number) == word & 0xFF else None
