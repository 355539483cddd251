"""Whether the load test itself was in the way: its own CPU, its sockets' losses, its lateness.

A tool that is the bottleneck measures itself. It must say so, and then there is no verdict.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Set
from dataclasses import dataclass, replace

from loadtest.engine.engine import ClientEngine
from loadtest.measure import busy_seconds

SPARE_FILES = 256  # for HTTP, logs and whatever else
BUSY = 0.92  # of a core, or of cores: no time is left
BURST = 1.0  # seconds: of joins that took less, a share of a core says nothing
OTHERS = 0.1  # of the machine, taken by other processes, that a reader must know of
LATE_MS = 20.0  # of a publisher's packet, beyond which the load was not what the scenario says


@dataclass(frozen=True)
class Mark:
    """The tool's counters at a time (s): CPU seconds of the process and of its two main threads, what it lost.

    `busy` is CPU seconds of the whole machine, by anybody.
    """

    at: float
    cpu: float
    engine: float
    drops: int
    held_lost: int
    events_lost: int
    captures_lost: int
    control: float = 0.0  # CPU seconds of the thread that lets clients join
    busy: float = 0.0


@dataclass(frozen=True)
class Cores:
    """The cores that the load test may use, and those of the target: none when it is not a process here."""

    tool: Set[int] = frozenset()
    target: Set[int] = frozenset()


def cores_of(pid: int | None) -> Cores:
    """The cores that this process and the target's may use now."""
    try:
        target = os.sched_getaffinity(pid) if pid is not None else set()
    except OSError:  # it has gone
        target = set()
    return Cores(os.sched_getaffinity(0), target)


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
        """The counters now; asked for in the thread that lets clients join."""
        times, state = os.times(), self._engine.state
        return Mark(
            at=time.monotonic(),
            cpu=times.user + times.system,
            engine=self._engine.cpu(),
            drops=self._engine.drops(),
            held_lost=int(state.held_lost),
            events_lost=int(state.events_lost),
            captures_lost=self._engine.captures.lost,
            control=time.thread_time(),
            busy=busy_seconds(),
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


def held_up_joins(before: Mark, after: Mark) -> list[str]:
    """In what ways the tool was in the way of joins between two marks: the times of joins are its own then."""
    seconds = after.at - before.at
    if seconds < BURST:  # what was lost counts all the same
        before = replace(before, at=after.at - BURST, cpu=after.cpu, engine=after.engine, control=after.control)
    found = bottlenecks(before, after, 0.0) + slow_control(before, after)
    return [f"{what} while clients joined" for what in found]


def slow_control(before: Mark, after: Mark) -> list[str]:
    """Whether the thread that lets clients join had no time left between two marks."""
    share = (after.control - before.control) / max(after.at - before.at, 1e-9)
    return [f"the load test's thread for joins used {share:.0%} of its core"] if share > BUSY else []


def crowded(tool: float, target: float, cores: Cores) -> list[str]:
    """Whether tool and target were in each other's way on the cores that they share; both used so many cores.

    What either used beyond the cores that it has to itself it has used of the shared ones.
    """
    shared = cores.tool & cores.target
    used = max(0.0, tool - len(cores.tool - shared)) + max(0.0, target - len(cores.target - shared))
    if not shared or used < BUSY * len(shared):
        return []
    return [f"the load test and the target used {used:.1f} of the {len(shared)} cores that they share"]


def others(before: Mark, after: Mark, target: float) -> list[str]:
    """Whether other processes took much of the machine between two marks; the target used so many CPU seconds."""
    seconds = max(after.at - before.at, 1e-9)
    theirs = after.busy - before.busy - (after.cpu - before.cpu) - target
    share = theirs / seconds / (os.cpu_count() or 1)
    return [f"other processes took {share:.0%} of the machine"] if share > OTHERS else []
