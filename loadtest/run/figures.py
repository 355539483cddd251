"""From counters to figures: what a window of a run says, under the names of `results.figures`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.engine.totals import Totals, sum_of
from loadtest.results.distribution import Histogram
from loadtest.run.steps import Step
from loadtest.run.target import Usage
from loadtest.run.tool import Mark

Figures = dict[str, float | None]
SHORTEST = 1e-6  # seconds: no time at all is no reason to fail
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True)
class Moment:
    """Everything that is counted, at one time (s)."""

    at: float
    totals: dict[int, Totals]
    tool: Mark
    target: Usage | None
    sessions: int  # subscribers' sessions that are there


@dataclass
class Stay:
    """How long what is averaged over was there: seconds of all video streams, and of all receivers' sessions."""

    videos: float = 0.0
    sessions: float = 0.0

    def add(self, seconds: float, videos: float, sessions: float) -> None:
        """So many streams and sessions were there for so long."""
        self.videos += seconds * videos
        self.sessions += seconds * sessions


class Attendance:
    """Adds up who was there, by group and in all, from one moment to the next: people come and go while a run lasts.

    Between two moments it takes the mean of both, so who came or went counts to within half the time between them. A
    session counts until it has left or was killed, also when the server has ended it; those of publishers do not.
    """

    def __init__(self, begin: Moment, receivers: Collection[int]) -> None:
        self._last, self._receivers = begin, receivers
        self.all, self.groups = Stay(), {group: Stay() for group in receivers}

    def add(self, now: Moment) -> None:
        """What was there since the moment before."""
        last, seconds = self._last, now.at - self._last.at
        self._last = now
        for group in self._receivers:
            a, b = last.totals.get(group, Totals()), now.totals.get(group, Totals())
            for stay in (self.groups[group], self.all):
                stay.add(seconds, (a.videos + b.videos) / 2, (a.clients + b.clients) / 2)


def stay_between(before: Moment, after: Moment) -> Stay:
    """Of all groups between two moments that follow one another."""
    stay, a, b = Stay(), sum_of(before.totals), sum_of(after.totals)
    stay.add(after.at - before.at, (a.videos + b.videos) / 2, (before.sessions + after.sessions) / 2)
    return stay


def ratio(a: float, b: float) -> float | None:
    """a / b; None when b is nothing."""
    return a / b if b else None


def join_figures(attempted: int, done: int, failed: int, rate: float | None, steps: Sequence[Step]) -> Figures:
    """Of all joins until now; rate is that of those at the start, in joins done a second."""
    found: Figures = {
        "joins.attempted": attempted,
        "joins.done": done,
        "joins.failed": failed,
        "joins.rate": rate,
    }
    parts: dict[str, Callable[[Step], float | None]] = {
        "http": lambda step: step.http,
        "ice": lambda step: step.ice,
        "dtls": lambda step: step.dtls,
        "packet": lambda step: step.packet,
        "frame": lambda step: step.frame,
    }
    for name, part in parts.items():
        values = [value for value in map(part, steps) if value is not None]
        for label, q in (("p50", 50), ("p95", 95)):
            found[f"join.{name}.{label}"] = float(np.percentile(values, q)) if values else None
    return found


def media_figures(totals: Totals, seconds: float, stay: Stay) -> Figures:
    """Of what a group (or all) received and sent in `seconds`; stay says how long its streams and sessions were."""
    seconds = max(seconds, SHORTEST)
    latency = Histogram(totals.latency)
    found: Figures = {f"latency.{name}": latency.quantile(q) for name, q in QUANTILES.items()}
    found |= {
        "latency.max": totals.latency_max / 1e6 if latency.total else None,
        "loss.before": ratio(totals.lost, totals.expected),
        "loss.after": ratio(totals.given_up, totals.expected),
        "loss.video": ratio(totals.video_given_up, totals.video_expected),
        "loss.audio": ratio(totals.given_up - totals.video_given_up, totals.expected - totals.video_expected),
        "nack.rate": totals.nacks / seconds,
        "rtx.rate": totals.rtx / seconds,
        "pli.rate": totals.plis / seconds,
        "packets.sent": totals.sent,
        "packets.received": totals.packets,
        "packets.wrong": totals.wrong,
        "packets.refused": totals.refused + totals.garbage + totals.excess,
        "packets.rate": totals.packets / seconds,
        "frames.completed": totals.frames,
        "frames.missed": totals.missed,
        "frames.rate": ratio(totals.frames, stay.videos),
        "freezes.count": totals.freezes,
        "freezes.total": totals.frozen / 1e9,
        "freezes.longest": totals.longest_freeze / 1e9,
        "bitrate.video": ratio(totals.video_octets * 8 / 1000, stay.sessions),
        "bitrate.audio": ratio(totals.audio_octets * 8 / 1000, stay.sessions),
        "layer.width": ratio(totals.width_sum, totals.videos),
    }
    return found


def tool_figures(before: Moment, after: Moment, late_ms: float) -> Figures:
    """What the load test itself used between two moments."""
    seconds = max(after.at - before.at, SHORTEST)
    cpu = after.tool.cpu - before.tool.cpu
    packets = received(before, after)
    return {
        "tool.cpu": cpu / seconds * 100,
        "tool.cpu_per_packet": ratio(cpu * 1e6, packets),
        "tool.socket_drops": after.tool.drops - before.tool.drops,
        "tool.late": late_ms,
    }


def target_figures(before: Moment, after: Moment, empty: Usage | None) -> Figures:
    """What the target used between two moments; `empty` is what it used before anybody joined."""
    if not before.target or not after.target:
        return {}
    seconds = max(after.target.at - before.target.at, SHORTEST)
    cpu = after.target.cpu - before.target.cpu
    packets = received(before, after)
    grown = after.target.resident - empty.resident if empty else 0
    return {
        "target.cpu": cpu / seconds * 100,
        "target.cpu_per_packet": ratio(cpu * 1e6, packets),
        "target.packets_per_core": ratio(packets, cpu),
        "target.threads": after.target.threads,
        "target.memory": after.target.resident / 1e6,
        "target.memory_per_subscriber": ratio(grown / 1000, after.sessions) if empty else None,
    }


def received(before: Moment, after: Moment) -> int:
    """Media packets that arrived between two moments."""
    return sum_of(after.totals).packets - sum_of(before.totals).packets
