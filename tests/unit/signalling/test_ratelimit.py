"""A bucket for each source: bursts, refilling, who counts as one source, and a bounded memory."""

from __future__ import annotations

from mediaserver.signalling import ratelimit
from mediaserver.signalling.ratelimit import RateLimit


def test_burst_is_granted_and_then_one_at_the_rate() -> None:
    limit = RateLimit(rate=2.0, burst=3)
    assert [limit.take("192.0.2.1", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limit.take("192.0.2.1", 0.25) == 0.25
    assert limit.take("192.0.2.1", 0.5) == 0.0
    assert limit.take("192.0.2.1", 0.5) > 0


def test_refusals_cost_nothing() -> None:
    limit = RateLimit(rate=1.0, burst=1)
    assert limit.take("192.0.2.1", 0.0) == 0.0
    assert all(limit.take("192.0.2.1", 0.0) == 1.0 for _ in range(100))
    assert limit.take("192.0.2.1", 1.0) == 0.0


def test_rest_does_not_save_up_more_than_the_burst() -> None:
    limit = RateLimit(rate=1.0, burst=2)
    assert limit.take("192.0.2.1", 0.0) == 0.0
    assert [limit.take("192.0.2.1", 1000.0) == 0.0 for _ in range(3)] == [True, True, False]


def test_sources_are_told_apart_and_an_ipv6_network_is_one() -> None:
    limit = RateLimit(rate=1.0, burst=1)
    assert limit.take("192.0.2.1", 0.0) == limit.take("192.0.2.2", 0.0) == limit.take("2001:db8::1", 0.0) == 0.0
    assert limit.take("2001:db8::ffff:1", 0.0) > 0
    assert limit.take("2001:db8:0:1::1", 0.0) == 0.0
    assert limit.take("::ffff:192.0.2.1", 0.0) > 0, "the same host by way of an IPv6 socket"


def test_memory_is_bounded_and_whoever_was_seen_last_is_remembered() -> None:
    limit = RateLimit(rate=0.001, burst=1)
    for k in range(ratelimit.MAX_SOURCES + 500):
        limit.take(f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", 0.0)
    assert len(limit._sources) == ratelimit.MAX_SOURCES
    newest = ratelimit.MAX_SOURCES + 499
    assert limit.take(f"10.{newest >> 16}.{newest >> 8 & 255}.{newest & 255}", 0.0) > 0
    assert limit.take("10.0.0.0", 0.0) == 0.0
