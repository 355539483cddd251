"""Histograms of the engine's buckets against sorted lists of the same values."""

from __future__ import annotations

import random

import numpy as np
import pytest

from loadtest.engine.layout import LATENCY_BUCKETS
from loadtest.engine.streams import bucket_of as engine_bucket_of
from loadtest.results.distribution import BUCKETS, Histogram, bucket_of, upper_ms


def test_buckets_lie_between_their_edges() -> None:
    for bucket in range(1, BUCKETS - 1):
        middle = (upper_ms(bucket - 1) + upper_ms(bucket)) / 2
        assert bucket_of(middle * 1e6) == bucket
    assert (bucket_of(-5), bucket_of(0), bucket_of(999), bucket_of(1000), bucket_of(1e30)) == (0, 0, 0, 1, BUCKETS - 1)


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.99, 0.999])
def test_quantiles_are_near_those_of_the_values_themselves(q: float) -> None:
    chance = random.Random(3)
    values = [chance.lognormvariate(14, 1.0) for _ in range(20_000)]  # ns
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    assert histogram.total == len(values)
    assert histogram.quantile(q) == pytest.approx(np.quantile(values, q) / 1e6, rel=0.05)


def test_quantiles_are_interpolated_within_a_bucket_and_rise() -> None:
    histogram = Histogram()
    histogram.record(100e6, times=10)
    low, high = upper_ms(bucket_of(100e6) - 1), upper_ms(bucket_of(100e6))
    assert histogram.quantile(0) == pytest.approx(low) and histogram.quantile(1) == pytest.approx(high)
    assert histogram.quantile(0.5) == pytest.approx((low + high) / 2)
    histogram.record(1e6, times=3)
    found = [histogram.quantile(q / 100) or 0 for q in range(101)]
    assert found == sorted(found)


def test_an_empty_histogram_has_no_quantile_and_no_buckets() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().distribution().bounds == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        Histogram().quantile(50)


def test_sums_and_differences_count_the_same_values() -> None:
    first, second = Histogram(), Histogram()
    first.record(5e6)
    second.record(9e6, times=2)
    before = Histogram(first.counts)
    first.add(second).add(second.counts)
    assert first.total == 5
    assert (first.since(before).counts == second.counts * 2).all()
    with pytest.raises(ValueError, match="3 counts"):
        Histogram([1, 2, 3])


def test_a_distribution_has_only_the_used_buckets_and_their_lowest_edge() -> None:
    histogram = Histogram()
    histogram.record(1e6)
    histogram.record(2.1e6, times=4)
    found = histogram.distribution()
    assert found.unit == "ms" and sum(found.counts) == 5 and found.counts[0] == 0 and found.counts[1] == 1
    assert found.bounds[0] < 1 <= found.bounds[1] and found.bounds[-2] < 2.1 <= found.bounds[-1]


def test_buckets_are_those_of_the_engine() -> None:
    assert BUCKETS == LATENCY_BUCKETS
    for ns in (0, 999, 1000, 1001, 123_456, 7_000_000, 10**10, 10**15):
        assert bucket_of(ns) == engine_bucket_of(ns)
