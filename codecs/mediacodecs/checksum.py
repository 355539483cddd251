"""Checksums and hashes that kernels need: CRC-32 for STUN's FINGERPRINT, FNV-1a to find an ICE user by its ufrag."""

from __future__ import annotations

import numpy as np

from mediacodecs.frame import Bytes, int64
from mediacodecs.kernel import kernel

POLYNOMIAL = 0xEDB88320  # of CRC-32 (ISO 3309), bits reversed
OFFSET_HIGH, OFFSET_LOW = 0xCBF29CE4, 0x84222325  # FNV-1a, 64 bits: the halves of the offset basis
PRIME_LOW = 0x1B3  # the prime is 2⁴⁰ + this
WORD = 0xFFFFFFFF
COLON = 0x3A


def _crc_of(byte: int) -> int:
    """The CRC-32 register after eight steps from `byte`."""
    for _ in range(8):
        byte = byte >> 1 ^ POLYNOMIAL * (byte & 1)
    return byte


CRC_TABLE = np.array([_crc_of(byte) for byte in range(256)], np.int64)


@kernel
def crc32(b: Bytes, at: int, end: int) -> int:
    """CRC-32 of b[at:end], 0 to 2³² - 1."""
    crc = int64(WORD)
    for k in range(at, end):
        crc = CRC_TABLE[(crc ^ int64(b[k])) & 0xFF] ^ crc >> 8
    return int64(crc ^ WORD)


@kernel
def username_hash(b: Bytes, at: int, size: int) -> int:
    """A hash of b[at:at+size] before the first colon: of the local ufrag in a binding request's USERNAME.

    FNV-1a of 64 bits without the highest: 0 to 2⁶³ - 1. Worked in halves of 32 bits, which nothing can overflow.
    """
    high = int64(OFFSET_HIGH)
    low = int64(OFFSET_LOW)
    for k in range(at, at + size):
        if b[k] == COLON:
            break
        low ^= int64(b[k])
        product = low * PRIME_LOW
        high = high * PRIME_LOW + (low << 8) + (product >> 32) & WORD
        low = product & WORD
    return (high & WORD >> 1) << 32 | low


def ufrag_hash(ufrag: str) -> int:
    """The same hash of a ufrag in Python."""
    value = OFFSET_HIGH << 32 | OFFSET_LOW
    for byte in ufrag.partition(":")[0].encode():
        value = (value ^ byte) * ((1 << 40) + PRIME_LOW) % (1 << 64)
    return value & (1 << 63) - 1
