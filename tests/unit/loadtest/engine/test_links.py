"""Links: what was set is measured back, a plain twin gives the same numbers, and a seed gives the same network."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.engine.links import (
    CUT,
    LINK,
    MULTIPLIER,
    UNIT_BITS,
    draw,
    fill_link,
    normal,
    release_time,
    seed_link,
)
from loadtest.scenario.schema import Loss
from mediacodecs.kernel import JIT, kernel
from packetio.memory import Table

PACKETS = 100_000 if JIT else 10_000
SLACK = 1 if JIT else 3  # how much wider the limits are for fewer packets
MS, SECOND = 1_000_000, 1_000_000_000
Times = NDArray[np.int64]
EVERYTHING: dict[str, Any] = {
    "loss": (0.02, 0.3, 0.001, 0.9), "delay_ms": 40, "jitter_ms": 9.5, "reorder": 0.01, "rate_kbit": 2500,
    "queue_ms": 30,
}  # fmt: skip


@kernel
def send_all(link: Any, nows: Any, sizes: Any, out: Any) -> None:
    for k in range(len(nows)):
        out[k] = release_time(link, nows[k], sizes[k])


@kernel
def draw_all(link: Any, uniform: Any, normals: Any) -> None:
    for k in range(len(uniform)):
        uniform[k] = draw(link)
        normals[k] = normal(link)


def make(**settings: Any) -> Any:
    row = Table(LINK, 1).rows[0]
    fill_link(row, **{"seed": 1, **settings})
    return row


def send(link: Any, nows: Times, size: int = 1000) -> Times:
    """The release time of packets of `size` bytes that come at `nows`."""
    out = np.zeros(len(nows), np.int64)
    send_all(link, nows, np.full(len(nows), size, np.int64), out)
    return out


def every(interval: int, count: int = PACKETS) -> Times:
    return np.arange(count, dtype=np.int64) * interval + SECOND


def runs(lost: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of lost packets."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], lost, [False])).astype(np.int8)))
    return [int(n) for n in edges[1::2] - edges[::2]]


class Twin:
    """A link in ordinary Python, straight from its description."""

    def __init__(self, row: Any) -> None:
        self.v: dict[str, Any] = {name: row[name].item() for name in LINK.names or ()}

    def draw(self) -> int:
        state = self.v["random"]
        state = MULTIPLIER * (state % 2**32) + state // 2**32
        self.v["random"] = state
        return int(state % 2**32 ^ state // 2**32)

    def happens(self, chance: float) -> bool:
        return chance >= 1 or (chance > 0 and self.draw() / 2**32 < chance)

    def normal(self) -> int:
        drawn = [self.draw() for _ in range(6)]
        total = sum(n % 2**16 + n // 2**16 for n in drawn)
        return sorted((-CUT, 2 * total - 12 * 65535, CUT))[1]

    def release_time(self, now: int, size: int) -> int:
        v = self.v
        if not v["active"]:
            return now
        bad = v["bad"]
        lost = self.happens(v["loss_bad"] if bad else v["loss_good"])
        if self.happens(v["to_good"] if bad else v["to_bad"]):
            v["bad"] = 1 - bad
        if lost:
            v["lost"] += 1
            return -1
        at = now
        if v["rate"]:
            begin = max(now, v["busy_until"])
            if begin - now > v["queue"]:
                v["capped"] += 1
                return -1
            at = v["busy_until"] = begin + size * 8 * SECOND // v["rate"]
        v["passed"] += 1
        at += max(v["delay"] + (v["jitter"] * self.normal() // 2**UNIT_BITS if v["jitter"] else 0), 0)
        if v["keep_order"]:
            at = v["last_release"] = max(at, v["last_release"])
        if self.happens(v["reorder"]):
            v["reordered"] += 1
            at += v["reorder_delay"]
        return at


@pytest.mark.parametrize("keep_order", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_link_and_its_plain_twin_agree_in_every_bit(seed: int, keep_order: bool) -> None:
    dice = random.Random(seed)
    link = make(**EVERYTHING, seed=seed, keep_order=keep_order)
    twin = Twin(link)
    now = SECOND
    for _ in range(1500):
        now, size = now + dice.randrange(0, 4 * MS), dice.randrange(1, 1500)
        assert release_time(link, now, size) == twin.release_time(now, size)
    assert Twin(link).v == twin.v
    assert link.lost and link.capped and link.reordered and link.passed


def test_same_seed_gives_the_same_network_compiled_or_not() -> None:
    out = send(make(**EVERYTHING, seed=7), every(3 * MS, 2000))
    assert hashlib.sha256(out.astype("<i8").tobytes()).hexdigest()[:16] == "cbd633f2df75fddc"


def test_other_seeds_give_other_networks() -> None:
    outs = [send(make(loss=(0.1, 0.5, 0, 1), seed=seed), every(MS, 1000)) < 0 for seed in range(8)]
    for a in range(8):
        for b in range(a):
            both = int(np.sum(outs[a] & outs[b]))
            assert both < 0.5 * min(int(outs[a].sum()), int(outs[b].sum()))


def test_drawn_numbers_are_uniform_and_normal_and_unrelated() -> None:
    uniform, normals = np.zeros(PACKETS, np.int64), np.zeros(PACKETS, np.int64)
    draw_all(make(seed=3), uniform, normals)
    share = uniform / 2**32
    assert 0 <= share.min() and share.max() < 1
    assert share.mean() == pytest.approx(0.5, abs=0.004 * SLACK)
    counts = np.histogram(share, 50, (0, 1))[0]
    assert np.sum((counts - PACKETS / 50) ** 2) / (PACKETS / 50) < 95  # chi-square of 49 degrees; 1 in 10,000
    deviations = normals / 2**UNIT_BITS
    assert deviations.mean() == pytest.approx(0, abs=0.012 * SLACK)
    assert deviations.std() == pytest.approx(1, abs=0.012 * SLACK)
    assert abs(deviations).max() <= 3
    assert np.mean(abs(deviations) < 1) == pytest.approx(0.6827, abs=0.01 * SLACK)
    assert abs(np.corrcoef(share[1:], share[:-1])[0, 1]) < 0.013 * SLACK
    assert abs(np.corrcoef(deviations[1:], deviations[:-1])[0, 1]) < 0.013 * SLACK


def test_states_of_near_and_odd_seeds_are_valid_and_differ() -> None:
    link, seen = make(), set()
    for seed in [*range(200), -1, 1 << 63, 1 << 64, (1 << 200) + 5]:
        seed_link(link, seed)
        assert 0 < link.random < (MULTIPLIER << 32) - 1
        seen.add(int(link.random))
    assert len(seen) == 202  # seeds count modulo 1 << 64


@pytest.mark.parametrize(("share", "burst"), [(0.01, 1.5), (0.02, 3), (0.1, 5), (0.3, 2)])
def test_bursty_loss_is_measured_back(share: float, burst: float) -> None:
    link = make(loss=Loss(share=share, burst=burst).model())
    lost = send(link, every(MS)) < 0
    assert lost.mean() == pytest.approx(share, rel=0.12 * SLACK)
    assert np.mean(runs(lost)) == pytest.approx(burst, rel=0.1 * SLACK)
    assert (link.lost, link.passed) == (lost.sum(), (~lost).sum())


def test_both_states_lose_their_own_share() -> None:
    p, r, good, bad = 0.05, 0.2, 0.01, 0.6
    lost = send(make(loss=(p, r, good, bad)), every(MS)) < 0
    in_bad = p / (p + r)
    assert lost.mean() == pytest.approx(in_bad * bad + (1 - in_bad) * good, rel=0.05 * SLACK)


def test_even_loss_comes_without_bursts() -> None:
    lost = send(make(loss=(0, 1, 0.05, 0)), every(MS)) < 0
    assert lost.mean() == pytest.approx(0.05, rel=0.06 * SLACK)
    assert np.mean(runs(lost)) == pytest.approx(1 / 0.95, rel=0.02 * SLACK)


def test_certain_loss_loses_all_and_no_loss_loses_none() -> None:
    assert (send(make(loss=(0, 0, 1, 1)), every(MS, 500)) == -1).all()
    nows = every(MS, 500)
    assert (send(make(loss=(0, 0, 0, 0), delay_ms=1), nows) == nows + MS).all()


def test_delay_and_jitter_are_measured_back() -> None:
    nows = every(200 * MS)
    delays = (send(make(delay_ms=50, jitter_ms=10), nows) - nows) / MS
    assert delays.mean() == pytest.approx(50, abs=0.15 * SLACK)
    assert delays.std() == pytest.approx(10, rel=0.015 * SLACK)
    assert 20 <= delays.min() and delays.max() <= 80


def test_delay_never_falls_below_nothing() -> None:
    nows = every(200 * MS, 5000)
    delays = send(make(delay_ms=5, jitter_ms=20), nows) - nows
    assert delays.min() == 0
    assert delays.max() <= 65 * MS


def test_delay_alone_is_exact() -> None:
    nows = every(MS, 1000)
    assert (send(make(delay_ms=12.5), nows) - nows == 12_500_000).all()


def test_order_is_kept_under_jitter_unless_told_otherwise() -> None:
    nows = every(2 * MS, 5000)
    kept = send(make(delay_ms=50, jitter_ms=10), nows)
    free = send(make(delay_ms=50, jitter_ms=10, keep_order=False), nows)
    assert (np.diff(kept) >= 0).all()
    assert (np.diff(free) < 0).mean() > 0.3
    assert (kept >= nows).all() and (kept >= free).all()


def test_share_of_reordered_packets_is_measured_back() -> None:
    nows = every(2 * MS)
    link = make(delay_ms=20, reorder=0.01, reorder_delay_ms=7)
    out = send(link, nows)
    held = out - nows == 27 * MS
    assert (out - nows == 20 * MS).sum() + held.sum() == PACKETS
    assert held.mean() == pytest.approx(0.01, rel=0.1 * SLACK)
    assert link.reordered == held.sum()
    overtaken = [k for k in np.flatnonzero(held) if k + 3 < PACKETS]
    assert all(out[k] > out[k + 1 : k + 4].min() for k in overtaken)


@pytest.mark.parametrize(("rate", "size"), [(2000, 1200), (500, 300), (64, 160)])
def test_bandwidth_cap_is_measured_back(rate: int, size: int) -> None:
    interval = size * 8 * MS // rate // 2  # twice what fits
    link = make(rate_kbit=rate, queue_ms=100)
    nows = every(interval, PACKETS // 5)
    out = send(link, nows, size)
    through = out[out >= 0]
    assert (len(through) - 1) * size * 8 * SECOND / (through[-1] - through[0]) == pytest.approx(rate * 1000, rel=0.01)
    waits = (out - nows)[out >= 0]
    assert waits.max() <= 100 * MS + size * 8 * MS / rate
    assert link.capped == (out < 0).sum()
    assert link.capped == pytest.approx(len(nows) / 2, rel=0.02 * SLACK)


def test_traffic_below_the_cap_waits_only_for_itself() -> None:
    nows = every(10 * MS, 1000)
    link = make(rate_kbit=2000, queue_ms=0)
    assert (send(link, nows, 1000) - nows == 4 * MS).all()
    assert link.capped == 0


def test_burst_beyond_the_queue_is_dropped() -> None:
    nows = np.full(100, SECOND, np.int64)
    out = send(make(rate_kbit=1000, queue_ms=50), nows, 1250)  # 10 ms each
    assert list(out[:6] - SECOND) == [10 * MS * k for k in range(1, 7)]
    assert (out[6:] == -1).all()


def test_inactive_link_releases_at_once_and_counts_nothing() -> None:
    link = make()
    before = link.tobytes()
    nows = every(MS, 1000)
    assert (send(link, nows) == nows).all()
    assert link.tobytes() == before


def test_link_inside_another_record_is_used_in_place() -> None:
    outer = Table(np.dtype([("pad", "i8"), ("down", LINK), ("up", LINK)], align=True), 2).rows[1]
    fill_link(outer.up, delay_ms=3, seed=2)
    assert release_time(outer.up, SECOND, 100) == SECOND + 3 * MS
    assert release_time(outer.down, SECOND, 100) == SECOND
    assert (outer.up.passed, outer.down.passed) == (1, 0)


def test_refilled_link_begins_anew() -> None:
    link = make(**EVERYTHING)
    first = send(link, every(MS, 300))
    fill_link(link, **EVERYTHING, seed=1)
    assert (send(link, every(MS, 300)) == first).all()
    fill_link(link)
    assert link.active == 0 and link.passed == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": (0.1, 1.2, 0, 1)}, "1.2"),
        ({"reorder": -0.1}, "-0.1"),
        ({"delay_ms": -1}, "delay"),
        ({"jitter_ms": float("nan")}, "jitter"),
        ({"queue_ms": 1e9}, "queue"),
        ({"rate_kbit": -5}, "-5"),
        ({"rate_kbit": 0.2}, "0.2"),
    ],
)
def test_bad_settings_are_refused_with_the_value(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_fields_are_readable_as_attributes() -> None:
    assert not [name for name in LINK.names or () if hasattr(np.void, name)]
