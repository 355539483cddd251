"""Deadlines by the time in which the event loop was running. The loop's own clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from mediaserver.clock import BEAT, LATE, RunningClock


class Leaping(asyncio.SelectorEventLoop):
    """A loop whose clock goes on only when the test says so, and that never sleeps."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """Call what is due."""
        for _ in range(3):
            self.call_soon(self.stop)
            self.run_forever()

    def go(self, seconds: float) -> None:
        """Let time go by in small steps, with a turn at each."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + BEAT / 2, end)
            self.turn()


@pytest.fixture
def loop() -> Iterator[Leaping]:
    made = Leaping()
    yield made
    made.close()


def started(loop: Leaping) -> tuple[RunningClock, list[float]]:
    """A clock on the loop, and the stops that it has told of."""
    stops: list[float] = []
    clock = RunningClock(stops.append)
    loop.call_soon(clock.start)
    loop.turn()
    return clock, stops


def test_time_goes_by_as_the_loop_turns(loop: Leaping) -> None:
    clock, stops = started(loop)
    before = clock.time()
    loop.go(100)
    assert clock.time() - before == pytest.approx(100) and stops == []


@pytest.mark.parametrize("stop", [LATE + 2 * BEAT, 25.0, 3600.0])
def test_a_stop_does_not_count(loop: Leaping, stop: float) -> None:
    clock, stops = started(loop)
    loop.go(5.1)
    before = clock.time()
    loop.now += stop
    assert clock.time() - before <= BEAT
    loop.go(5)
    assert 5 <= clock.time() - before <= 5 + BEAT
    assert stops == [pytest.approx(stop, abs=1.01 * BEAT)]  # a part of a beat is time as any


def test_small_delays_are_time_as_any(loop: Leaping) -> None:
    clock, stops = started(loop)
    before = clock.time()
    for _ in range(50):
        loop.now += LATE
        loop.turn()
    assert clock.time() - before == pytest.approx(50 * LATE) and stops == []


def called(loop: Leaping, clock: RunningClock, seconds: float) -> list[str]:
    """A deadline, and what it has called."""
    calls: list[str] = []
    loop.call_soon(lambda: clock.call_later(seconds, calls.append, "due"))
    loop.turn()
    return calls


def test_deadline_is_met(loop: Leaping) -> None:
    clock, _ = started(loop)
    calls = called(loop, clock, 10)
    loop.go(9.9)
    assert calls == []
    loop.go(0.2)
    assert calls == ["due"]
    loop.go(20)
    assert calls == ["due"]


def test_deadline_waits_for_as_long_as_the_loop_stood_still(loop: Leaping) -> None:
    clock, _ = started(loop)
    calls = called(loop, clock, 10)
    for _ in range(3):
        loop.go(2)
        loop.now += 25
        loop.turn()
        assert calls == []
    loop.go(4 - 3 * BEAT - 0.1)
    assert calls == []
    loop.go(3 * BEAT + 0.2)
    assert calls == ["due"]


def test_cancelled_deadline_calls_nobody(loop: Leaping) -> None:
    clock, _ = started(loop)
    calls: list[str] = []

    def begin_and_cancel() -> None:
        deadline = clock.call_later(1, calls.append, "due")
        deadline.cancel()
        deadline.cancel()

    loop.call_soon(begin_and_cancel)
    loop.go(5)
    assert calls == []


def test_stopped_clock_lets_no_timer_behind(loop: Leaping) -> None:
    clock, stops = started(loop)
    clock.stop()
    clock.stop()
    loop.now += 100
    loop.turn()
    assert clock.time() > 0 and stops == []
