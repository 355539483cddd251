"""Whether the load test itself was in the way: its own CPU, its sockets' losses, its lateness.

A tool that is the bottleneck measures itself. It must say so, and then there is no verdict.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from loadtest.engine.engine import ClientEngine

SPARE_FILES = 256  # for HTTP, logs and whatever else
BUSY = 0.92  # of a core: the engine's thread has no time left
LATE_MS = 20.0  # of a publisher's packet, beyond which the load was not what the scenario says


@dataclass(frozen=True)
class Mark:
    """The tool's counters at a time (s): CPU seconds of the process and of the engine's thread, socket drops."""

    at: float
    cpu: float
    engine: float
    drops: int
    held_lost: int
    events_lost: int
    captures_lost: int


def allow_sockets(count: int) -> None:
    """Raise the limit of open files so that `count` sockets fit. ValueError when the system does not allow that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise ValueError(f"the scenario needs {needed} open files, and this system allows {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class Tool:
    """Looks at the load test's own process."""

    def __init__(self, engine: ClientEngine) -> None:
        self._engine = engine

    def mark(self) -> Mark:
        """The counters now."""
        times, state = os.times(), self._engine.state
        return Mark(
            at=time.monotonic(),
            cpu=times.user + times.system,
            engine=self._engine.cpu(),
            drops=self._engine.drops(),
            held_lost=int(state.held_lost),
            events_lost=int(state.events_lost),
            captures_lost=self._engine.captures.lost,
        )

    def late_ms(self) -> float:
        """How late a publisher's packet left at most, in ms, since the engine's last `forget_maxima`."""
        return int(self._engine.state.late) / 1e6


def asides(before: Mark, after: Mark) -> list[str]:
    """What else of the tool's a reader must know, though it was not in the load's way."""
    lost = after.captures_lost - before.captures_lost
    if not lost:
        return []
    return [f"{lost} packets found no room on the way to the decoders: not all that came was decoded"]


def bottlenecks(before: Mark, after: Mark, late_ms: float) -> list[str]:
    """In what ways the tool was in the way between two marks; none: it was not."""
    seconds = max(after.at - before.at, 1e-9)
    found = []
    share = (after.engine - before.engine) / seconds
    if share > BUSY:
        found.append(f"the load test's own packet loop used {share:.0%} of its core")
    cores = len(os.sched_getaffinity(0))
    total = (after.cpu - before.cpu) / seconds
    if total > BUSY * cores:
        found.append(f"the load test used {total:.1f} of its {cores} cores")
    if after.drops > before.drops:
        found.append(f"the load test's own sockets dropped {after.drops - before.drops} datagrams")
    if after.held_lost > before.held_lost:
        found.append(f"{after.held_lost - before.held_lost} datagrams found no room in the load test's delay queue")
    if after.events_lost > before.events_lost:
        found.append(f"{after.events_lost - before.events_lost} STUN or DTLS datagrams were lost in the load test")
    if late_ms > LATE_MS:
        found.append(f"a publisher's packet left {late_ms:.0f} ms late")
    return found
