"""The capture ring: packets arrive whole and in order, a full ring loses and counts, two threads agree."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest

from loadtest.engine.capture import (
    CAPTURE,
    CAPTURED,
    PAYLOAD,
    CapturedPacket,
    CaptureRing,
    capture,
    captured_at,
    reserve,
)
from mediacodecs.kernel import JIT, kernel
from packetio.memory import bytes_at

MANY = 30_000 if JIT else 3_000


@kernel
def note(c: Any, client: int, sequence: int, payload: int, size: int) -> bool:
    """Capture one packet whose fields follow from its sequence number."""
    address = reserve(c)
    if address == 0:
        return False
    entry = captured_at(address)
    entry.client, entry.stream, entry.sequence = client, client + 1, sequence
    entry.timestamp, entry.codec = sequence * 3000, 2
    entry.marker, entry.keyframe, entry.start = sequence & 1, (sequence >> 1) & 1, (sequence >> 2) & 1
    entry.stamp, entry.captured = sequence + 7, sequence + 5
    return bool(capture(c, payload, size))


@kernel
def produce(c: Any, payload: int, count: int) -> int:
    """Capture packets 0 … count - 1, waiting for room, the first four payload bytes counting. Returns how many."""
    b = bytes_at(payload, 64)
    for sequence in range(count):
        for k in range(4):
            b[k] = (sequence >> (8 * k)) & 255
        while not note(c, 1, sequence, payload, 4 + sequence % 60):
            pass
    return count


def expected(client: int, sequence: int, payload: bytes) -> CapturedPacket:
    return CapturedPacket(
        client, client + 1, sequence, sequence * 3000, 2, bool(sequence & 1), bool(sequence & 2), bool(sequence & 4),
        sequence + 7, sequence + 5, payload,
    )  # fmt: skip


def put(ring: CaptureRing, sequence: int, payload: bytes, client: int = 3) -> bool:
    b = np.frombuffer(payload or b"\0", np.uint8)
    return bool(note(ring.c, client, sequence, int(b.ctypes.data), len(payload)))


def test_captured_packet_is_read_back_whole() -> None:
    ring = CaptureRing(4)
    assert ring.pop() is None
    payload = bytes(k % 251 for k in range(PAYLOAD))
    assert put(ring, (1 << 40) + 5, payload)
    assert ring.pop() == expected(3, (1 << 40) + 5, payload)
    assert ring.pop() is None


def test_full_ring_loses_the_new_packet_and_counts_it() -> None:
    ring = CaptureRing(2)
    assert put(ring, 1, b"a") and put(ring, 2, b"b")
    assert not put(ring, 3, b"c")
    assert ring.lost == 1
    assert ring.pop() == expected(3, 1, b"a")
    assert put(ring, 4, b"d")
    assert [ring.pop(), ring.pop(), ring.pop()] == [expected(3, 2, b"b"), expected(3, 4, b"d"), None]


def test_oversized_payload_is_lost_and_counted() -> None:
    ring = CaptureRing(2)
    assert not put(ring, 1, bytes(PAYLOAD + 1))
    assert ring.lost == 1 and ring.pop() is None
    assert put(ring, 2, b"")
    assert ring.pop() == expected(3, 2, b"")


@pytest.mark.parametrize("seed", range(4))
def test_ring_agrees_with_a_list(seed: int) -> None:
    dice = random.Random(seed)
    slots = dice.choice([1, 2, 8])
    ring, model, lost = CaptureRing(slots), [], 0
    for sequence in range(300):
        payload = dice.randbytes(dice.randrange(0, 200))
        room = len(model) < slots
        assert put(ring, sequence, payload) == room
        lost += not room
        if room:
            model.append(expected(3, sequence, payload))
        for _ in range(dice.randrange(3)):
            assert ring.pop() == (model.pop(0) if model else None)
    assert ring.lost == lost


def test_producer_in_another_thread_loses_no_word() -> None:
    ring = CaptureRing(64)
    scratch = np.zeros(64, np.uint8)
    produce(ring.c, int(scratch.ctypes.data), 1)  # compiled before the threads meet
    assert ring.pop() is not None
    thread = threading.Thread(target=produce, args=(ring.c, int(scratch.ctypes.data), MANY))
    thread.start()
    wanted = 0
    while wanted < MANY:
        packet = ring.pop()
        if packet is None:
            continue
        assert packet.sequence == wanted == int.from_bytes(packet.payload[:4], "little")
        assert (packet.stamp, len(packet.payload)) == (wanted + 7, 4 + wanted % 60)
        wanted += 1
    thread.join(10)
    assert not thread.is_alive() and ring.pop() is None


@pytest.mark.parametrize("slots", [0, -4, 3, 100])
def test_ring_has_a_power_of_two_of_slots(slots: int) -> None:
    with pytest.raises(ValueError, match=str(slots)):
        CaptureRing(slots)


def test_fields_are_readable_as_attributes() -> None:
    assert not [name for record in (CAPTURE, CAPTURED) for name in record.names or () if hasattr(np.void, name)]
