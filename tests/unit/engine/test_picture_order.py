"""RTP time that runs backwards between pictures is counted: B-frames are, what the network swaps or loses is not."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from mediaserver.engine.handles import Layer
from mediaserver.rooms.track import Order
from tests.unit.engine.stage import Stage
from tests.unit.engine.theatre import H264, Publisher, leave

SLICES = 3  # packets of a picture
Packet = tuple[int, int]  # sequence number, time stamp


class Reel:
    def __init__(self) -> None:
        self.stage = Stage(workers=1)
        self.publisher = Publisher(self.stage)
        self.layer: Layer = self.publisher.layer()
        self.publisher.guest.connect()

    def deliver(self, packets: list[Packet]) -> int:
        """Let them arrive in this order; how often time ran backwards."""
        before = self.layer.backwards
        for seq, ts in packets:
            self.publisher.send(b"\x41\x9a" + bytes(20), pt=H264, seq=seq, ts=ts & 0xFFFFFFFF, ssrc=5)
        self.stage.turn()
        return self.layer.backwards - before


@pytest.fixture
async def reel() -> AsyncIterator[Reel]:
    made = Reel()
    yield made
    await leave(made.stage, made.publisher)


def pictures(order: list[int], stamp: int = (1 << 32) - 30_000) -> list[Packet]:
    """Pictures as they are sent, of three packets each; `order`: when each is shown. Time stamps wrap on the way."""
    return [(SLICES * k + j, stamp + 3000 * shown) for k, shown in enumerate(order) for j in range(SLICES)]


async def test_b_frames_are_counted_once_each_group(reel: Reel) -> None:
    groups = [shown for k in range(0, 30, 3) for shown in (k + 3, k + 1, k + 2)]  # P B B
    assert reel.deliver(pictures([0, *groups])) == 10


async def test_pictures_in_order_are_not(reel: Reel) -> None:
    assert reel.deliver(pictures(list(range(40)))) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_what_the_network_swaps_and_loses_is_not(reel: Reel, seed: int) -> None:
    dice = random.Random(seed)
    kept = [packet for packet in pictures(list(range(200))) if dice.random() > 0.05]
    late = sorted(enumerate(kept), key=lambda item: item[0] + dice.choice([0, 0, 0, 1.5, 4.5]))
    assert reel.deliver([packet for _, packet in late]) == 0


async def test_clock_that_begins_anew_is_not(reel: Reel) -> None:
    packets = pictures(list(range(10)))
    assert reel.deliver([*packets, *((seq + 30, ts - 90_000_000) for seq, ts in packets)]) == 0


class Counter:
    """A layer whose count a test sets."""

    backwards = 0


def test_once_a_second_it_is_judged_and_told_once() -> None:
    layer = Counter()
    order = Order(layer)  # type: ignore[arg-type]
    told, seen = [], []
    for steps in (0, 1, 0, 0, 5, 5, 5, 0, 0, 0, 9, 9):
        layer.backwards += steps
        told.append(order.look())
        seen.append(order.runs_backwards)
    assert told == [False] * 4 + [True] + [False] * 7
    assert seen == [False] * 4 + [True] * 4 + [False] * 2 + [True] * 2
