"""The delay queue against heapq, through holding, taking, giving back and forgetting in any order."""

from __future__ import annotations

import heapq
import random
from typing import Any

import numpy as np
import pytest

from loadtest.engine.held import (
    DETAIL,
    DOWN,
    HELD,
    NEVER,
    SLOT_BYTES,
    UP,
    HeldPackets,
    due,
    give_back,
    hold,
    next_release,
    slot_address,
    take,
)


class Queue:
    """A delay queue of datagrams given as bytes."""

    def __init__(self, capacity: int) -> None:
        self.held = HeldPackets(capacity)
        self.h: Any = self.held.h

    def hold(self, release: int, data: bytes, client: int = 1, direction: int = DOWN, stamp: int = 0) -> bool:
        source = np.frombuffer(data or b"\0", np.uint8)
        return bool(hold(self.h, release, client, direction, int(source.ctypes.data), len(data), stamp))

    def take(self) -> bytes:
        """The first datagram; its slot is given back."""
        slot = take(self.h)
        data = self.held.payload(slot)
        give_back(self.h, slot)
        return data


def test_datagrams_leave_in_the_order_of_their_release_and_equals_as_they_came() -> None:
    queue = Queue(8)
    for release, data in [(30, b"c"), (10, b"a1"), (20, b"b"), (10, b"a2"), (10, b"a3")]:
        assert queue.hold(release, data)
    assert [queue.take() for _ in range(5)] == [b"a1", b"a2", b"a3", b"b", b"c"]
    assert take(queue.h) == -1


def test_datagram_is_due_at_its_release_and_not_before() -> None:
    queue = Queue(2)
    assert due(queue.h, NEVER) == -1 and next_release(queue.h) == NEVER
    queue.hold(100, b"x")
    assert due(queue.h, 99) == -1
    slot = due(queue.h, 100)
    assert slot == due(queue.h, 1000) == take(queue.h)
    assert due(queue.h, 1000) == -1


def test_what_is_known_of_a_datagram_is_kept_with_it() -> None:
    queue = Queue(4)
    queue.hold(70, b"hello", client=9, direction=UP, stamp=55)
    slot = take(queue.h)
    detail = queue.held.details.rows[slot]
    assert (detail.client, detail.direction, detail.length, detail.stamp) == (9, UP, 5, 55)
    assert slot_address(queue.h, slot) == queue.held.arena.address + slot * SLOT_BYTES


def test_full_queue_refuses_until_a_slot_is_given_back() -> None:
    queue = Queue(2)
    assert queue.hold(1, b"a") and queue.hold(2, b"b")
    assert not queue.hold(0, b"c")
    slot = take(queue.h)
    assert not queue.hold(3, b"d")  # taken out, but still being read
    give_back(queue.h, slot)
    assert queue.hold(3, b"e")
    assert len(queue.held) == 2


def test_datagrams_up_to_the_slot_size_are_taken() -> None:
    queue = Queue(2)
    data = bytes(k & 255 for k in range(SLOT_BYTES))
    assert queue.hold(1, data)
    assert not queue.hold(1, data + b"x")
    assert queue.hold(2, b"")
    assert queue.take() == data and queue.take() == b""


def test_taken_slot_keeps_its_bytes_while_others_are_held() -> None:
    queue = Queue(3)
    queue.hold(1, b"first")
    slot = take(queue.h)
    assert queue.hold(0, b"second") and queue.hold(0, b"third")
    assert queue.held.payload(slot) == b"first"
    give_back(queue.h, slot)
    give_back(queue.h, slot)  # twice is once
    assert queue.h.taken == 0
    assert queue.take() == b"second" and queue.take() == b"third"


def test_queue_needs_room() -> None:
    with pytest.raises(ValueError, match="0"):
        HeldPackets(0)


class Model:
    """The same with heapq and lists."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.order = capacity, 0
        self.heap: list[tuple[int, int, int, bytes]] = []
        self.out: dict[int, bytes] = {}  # slot -> bytes

    def hold(self, release: int, client: int, data: bytes) -> bool:
        if len(self.heap) + len(self.out) >= self.capacity:
            return False
        heapq.heappush(self.heap, (release, self.order, client, data))
        self.order += 1
        return True


def check(queue: Queue, model: Model) -> None:
    """What can be seen of both is the same, and every slot is named once."""
    assert (queue.h.count, queue.h.taken) == (len(model.heap), len(model.out))
    assert next_release(queue.h) == (model.heap[0][0] if model.heap else NEVER)
    assert all(queue.held.payload(slot) == data for slot, data in model.out.items())
    assert sorted(queue.held.heap.rows[2::3].tolist()) == list(range(model.capacity))


@pytest.mark.parametrize("seed", range(12))
def test_queue_agrees_with_heapq(seed: int) -> None:
    dice = random.Random(seed)
    capacity = dice.choice([1, 2, 3, 7, 30])
    queue, model = Queue(capacity), Model(capacity)
    for step in range(400):
        choice = dice.random()
        if choice < 0.5:
            release, client, data = dice.randrange(20), dice.randrange(4), f"{step}".encode() * dice.randrange(1, 9)
            assert queue.hold(release, data, client) == model.hold(release, client, data)
        elif choice < 0.75:
            slot = take(queue.h)
            assert (slot >= 0) == bool(model.heap)
            if slot >= 0:
                model.out[slot] = heapq.heappop(model.heap)[3]
        elif model.out:
            slot = dice.choice(list(model.out))
            del model.out[slot]
            give_back(queue.h, slot)
        check(queue, model)


def test_fields_are_readable_as_attributes() -> None:
    assert not [name for record in (HELD, DETAIL) for name in record.names or () if hasattr(np.void, name)]
