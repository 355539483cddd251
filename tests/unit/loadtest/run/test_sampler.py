"""A point a second: of the time since the one before, and never more than so many."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from loadtest.engine.layout import MS
from loadtest.engine.totals import Totals
from loadtest.results.distribution import bucket_of
from loadtest.run.figures import Moment
from loadtest.run.sampler import MOST, SERIES, Sampler
from loadtest.run.target import Usage
from loadtest.run.tool import Mark


def moments(usage: bool = True, seconds: float = 1.0) -> Iterator[Moment]:
    """Every second 100 packets and a second's use of a quarter of a core."""
    for k in itertools.count():
        totals = Totals(packets=100 * k, expected=100 * k, video_octets=12_500 * k, nacks=2 * k)
        totals.latency[bucket_of(5 * MS)] = 10 * k
        at = 1000 + k * seconds
        mark = Mark(at, 0.25 * k, 0, 0, 0, 0, 0)
        yield Moment(at, {0: totals}, mark, Usage(at, 0.5 * k, 3, 1000) if usage else None, sessions=k)


def made(**options: float) -> Sampler:
    source = moments(**options)  # type: ignore[arg-type]
    return Sampler(lambda: next(source), lambda: 1.5)


def test_points_are_of_the_time_since_the_one_before() -> None:
    sampler = made()
    for k in range(1, 4):
        figures = sampler.look(done=10 * k)
        assert figures["packets.rate"] == 100 and figures["joins.rate"] == 10 and figures["tool.late"] == 1.5
        assert figures["tool.cpu"] == 25 and figures["target.cpu"] == 50
        assert (figures["joins.done"], figures["joined"], figures["bitrate"]) == (10 * k, k, 100)
    assert sampler.series["time"] == [1, 2, 3] and sampler.series["joined"] == [1, 2, 3]
    assert sampler.series["packets.rate"] == [100] * 3 and sampler.series["bitrate"] == [100] * 3
    assert sampler.series["nack.rate"] == [2] * 3 and sampler.series["joins.rate"] == [10] * 3
    assert {len(values) for values in sampler.series.values()} == {3}


def test_what_is_unknown_is_none() -> None:
    sampler = made(usage=False)
    sampler.look(0)
    assert sampler.series["cpu.target"] == [None] and sampler.series["latency.p50"][0] is not None


def test_two_looks_at_the_same_time_are_no_error() -> None:
    sampler = made(seconds=0.0)
    sampler.look(0)
    assert len(sampler.series["time"]) == 1


def test_long_runs_are_thinned_evenly() -> None:
    sampler = made()
    for k in range(5 * MOST):
        sampler.look(k)
    series = sampler.series
    assert set(series) == {"time", *SERIES, "joined", "bitrate", "joins.rate"}
    assert len({len(values) for values in series.values()}) == 1 and MOST // 2 <= len(series["time"]) < MOST
    steps = np.diff(np.array(series["time"], float))
    assert set(steps) == {8.0} and float(series["time"][-1] or 0) > 5 * MOST - 8
    assert series["joined"] == series["time"]
