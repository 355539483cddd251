"""Whether the load test was in the way: real marks of a real engine, and what each of its weaknesses is called."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtest.clips.reel import Reel
from loadtest.engine.engine import LinkSettings
from loadtest.engine.layout import MS
from loadtest.run.tool import BUSY, LATE_MS, Mark, Tool, allow_sockets, asides, bottlenecks
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
