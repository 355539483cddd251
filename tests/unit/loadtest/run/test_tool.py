"""Whether the load test was in the way: real marks of a real engine, and what each of its weaknesses is called."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtest.clips.reel import Reel
from loadtest.engine.engine import LinkSettings
from loadtest.engine.layout import MS
from loadtest.run.tool import (
    BUSY,
    LATE_MS,
    Cores,
    Mark,
    Tool,
    allow_sockets,
    asides,
    bottlenecks,
    cores_of,
    crowded,
    held_up_joins,
    others,
)
from tests.unit.loadtest.engine.clients import START, STUN, Served

NOTHING = Mark(at=100, cpu=0, engine=0, drops=0, held_lost=0, events_lost=0, captures_lost=0)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(held=8)
    yield made
    made.close()


def test_a_tool_that_had_time_was_not_in_the_way(served: Served) -> None:
    tool = Tool(served.engine)
    before, client = tool.mark(), served.join()
    client.send(20)
    served.run(10)
    after = tool.mark()
    assert after.control >= before.control and after.busy >= before.busy > 0
    assert after.at >= before.at and after.cpu >= before.cpu and (after.drops, after.held_lost) == (0, 0)
    assert bottlenecks(before, replace(after, at=before.at + 10, cpu=before.cpu), tool.late_ms()) == []


def test_datagrams_that_the_tool_lost_are_told(served: Served) -> None:
    tool = Tool(served.engine)
    before = tool.mark()
    small, slow = served.join(receive_buffer=2048), served.join(down=LinkSettings(delay_ms=50))
    small.send(200)
    slow.send(20)
    served.run(1)
    for _ in range(5000):
        slow.server.send(STUN)
        served.engine.turn_at(served.now)
    after = tool.mark()
    found = bottlenecks(before, replace(after, at=before.at + 10, cpu=before.cpu), 0)
    assert len(found) == 2
    assert found[0] == f"the load test's own sockets dropped {small.engine.drops()} datagrams"
    assert found[1] == f"{20 + 5000 - 8} datagrams found no room in the load test's delay queue"


def test_control_that_does_not_keep_up_is_told(served: Served) -> None:
    tool, client = Tool(served.engine), served.join()
    before = tool.mark()
    for _ in range(5000):
        client.server.send(STUN)
        served.engine.turn_at(START)
    after = replace(tool.mark(), at=before.at + 10, cpu=before.cpu)
    assert bottlenecks(before, after, 0) == [f"{5000 - 4096} STUN or DTLS datagrams were lost in the load test"]


def test_late_packets_are_told_and_forgotten(served: Served) -> None:
    tool, client = Tool(served.engine), served.join(reel=Reel.synthetic(25, 1, 300))
    served.engine.begin(client.index, START + 1 * MS)
    served.now += 35 * MS
    served.run(1)
    assert tool.late_ms() == 35
    assert bottlenecks(NOTHING, replace(NOTHING, at=110), tool.late_ms()) == ["a publisher's packet left 35 ms late"]
    served.engine.forget_maxima()
    served.run(1)
    assert tool.late_ms() == 0 and bottlenecks(NOTHING, replace(NOTHING, at=110), LATE_MS) == []


def test_a_busy_tool_is_told() -> None:
    (found,) = bottlenecks(NOTHING, replace(NOTHING, at=110, engine=9.5), 0)
    assert found == "the load test's own packet loop used 95% of its core"
    (found,) = bottlenecks(NOTHING, replace(NOTHING, at=110, cpu=640), 0)
    assert found.startswith("the load test used 64.0 of its ")
    assert bottlenecks(NOTHING, replace(NOTHING, at=110, engine=10 * BUSY - 0.1), 0) == []


def test_a_tool_that_was_full_while_clients_joined_is_told() -> None:
    (found,) = held_up_joins(NOTHING, replace(NOTHING, at=104, control=3.8))
    assert found == "the load test's thread for joins used 95% of its core while clients joined"
    (found,) = held_up_joins(NOTHING, replace(NOTHING, at=104, engine=3.8, control=3.0))
    assert found == "the load test's own packet loop used 95% of its core while clients joined"
    assert held_up_joins(NOTHING, replace(NOTHING, at=104, control=3.6)) == []


def test_joins_that_took_no_time_are_held_up_only_by_what_was_lost() -> None:
    burst = replace(NOTHING, at=100.1, cpu=64, engine=0.1, control=0.1)
    assert held_up_joins(NOTHING, burst) == [] and held_up_joins(NOTHING, NOTHING) == []
    (found,) = held_up_joins(NOTHING, replace(burst, events_lost=3))
    assert found == "3 STUN or DTLS datagrams were lost in the load test while clients joined"


@pytest.mark.parametrize(
    ("tool", "target", "ours", "theirs", "told"),
    [
        (0.9, 1.0, {0, 1}, {0, 1}, "1.9 of the 2 cores"),
        (0.8, 1.0, {0, 1}, {0, 1}, ""),
        (0.9, 1.0, {0}, {1}, ""),  # each has its own
        (0.9, 1.0, {0, 1}, set(), ""),  # a target elsewhere
        (0.5, 0.5, {1}, {1}, "1.0 of the 1 cores"),
        (0.6, 0.9, {1}, {0, 1}, ""),  # the target has a core to itself
        (0.6, 1.4, {1}, {0, 1}, "1.0 of the 1 cores"),
        (1.7, 2.2, {0, 1}, {1, 2, 3}, ""),
        (1.7, 2.3, {0, 1}, {1, 2, 3}, "1.0 of the 1 cores"),
    ],
)
def test_full_cores_that_tool_and_target_share_are_told(
    tool: float, target: float, ours: set[int], theirs: set[int], told: str
) -> None:
    found = crowded(tool, target, Cores(ours, theirs))
    assert found == ([f"the load test and the target used {told} that they share"] if told else [])


def test_cores_are_those_that_a_process_may_use() -> None:
    ours = os.sched_getaffinity(0)
    assert cores_of(os.getpid()) == Cores(ours, ours)
    assert cores_of(None) == cores_of(2**22 + 1) == Cores(ours, set())


def test_what_other_processes_took_is_told() -> None:
    cores = os.cpu_count() or 1
    after = replace(NOTHING, at=110, cpu=3, busy=5 + 2.5 * cores)
    assert others(NOTHING, after, 2) == ["other processes took 25% of the machine"]
    assert others(NOTHING, replace(after, busy=5 + 0.9 * cores), 2) == others(NOTHING, NOTHING, 0) == []


def test_marks_at_the_same_time_are_no_error() -> None:
    assert bottlenecks(NOTHING, NOTHING, 0) == []


def test_what_was_not_decoded_is_told_but_no_bottleneck() -> None:
    after = replace(NOTHING, at=110, captures_lost=7)
    assert bottlenecks(NOTHING, after, 0) == [] and asides(NOTHING, NOTHING) == []
    assert asides(NOTHING, after)[0].startswith("7 packets found no room on the way to the decoders")


def test_open_files_are_allowed_as_far_as_the_system_does() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        allow_sockets(10)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        allow_sockets(200)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 400
        if hard != resource.RLIM_INFINITY:
            with pytest.raises(ValueError, match="this system allows"):
                allow_sockets(hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
