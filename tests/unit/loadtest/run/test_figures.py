"""From counters to figures: the names are those that exist, the arithmetic is right, and nothing divides by nothing."""

from __future__ import annotations

import math

import pytest

from loadtest.engine.layout import MS
from loadtest.engine.totals import Totals
from loadtest.results.distribution import bucket_of
from loadtest.results.figures import FIGURES
from loadtest.run.figures import (
    Attendance,
    Figures,
    Moment,
    Stay,
    join_figures,
    media_figures,
    ratio,
    received,
    stay_between,
    target_figures,
    tool_figures,
)
from loadtest.run.steps import Step
from loadtest.run.target import Usage
from loadtest.run.tool import Mark

MARK = Mark(at=0, cpu=0, engine=0, drops=0, held_lost=0, events_lost=0, captures_lost=0)


def mark(cpu: float = 0, drops: int = 0) -> Mark:
    return Mark(at=0, cpu=cpu, engine=0, drops=drops, held_lost=0, events_lost=0, captures_lost=0)


def moment(at: float, packets: int = 0, usage: Usage | None = None, cpu: float = 0, drops: int = 0) -> Moment:
    half = packets // 2
    totals = {0: Totals(packets=half), 1: Totals(packets=packets - half)}
    return Moment(at, totals, mark(cpu, drops), usage, sessions=50)


def test_nothing_received_is_no_figure_and_no_error() -> None:
    figures = media_figures(Totals(), 0.0, Stay())
    none = {name for name, value in figures.items() if value is None}
    assert none == {
        "latency.p50", "latency.p95", "latency.p99", "latency.p99.9", "latency.max", "loss.before", "loss.after",
        "loss.video", "loss.audio", "frames.rate", "bitrate.video", "bitrate.audio", "layer.width",
    }  # fmt: skip
    assert all(value == 0 for name, value in figures.items() if name not in none)
    joins = join_figures(0, 0, 0, None, [])
    assert joins["joins.rate"] is None and joins["join.frame.p95"] is None and joins["joins.failed"] == 0
    assert target_figures(moment(0), moment(0), None) == {}
    assert tool_figures(moment(1), moment(1), 0.0)["tool.cpu_per_packet"] is None


def test_all_names_are_figures_that_exist() -> None:
    usage = Usage(1.0, 2.0, 3, 4)
    found: Figures = media_figures(Totals(), 1, Stay(1, 1)) | join_figures(1, 1, 0, 1, [])
    found |= target_figures(moment(0, usage=usage), moment(1, usage=usage), usage)
    found |= tool_figures(moment(0), moment(1), 1)
    assert found.keys() <= FIGURES.keys()
    assert {name for name in FIGURES.keys() - found.keys()} == {name for name in FIGURES if name.startswith("decode.")}


def test_rates_and_shares_are_of_the_time_and_of_what_was_expected() -> None:
    totals = Totals(
        packets=900, wrong=1, refused=2, garbage=3, excess=4,
        expected=1000, lost=150, given_up=100, nacks=30, rtx=60, plis=3, sent=200, frames=200, missed=20,
        freezes=2, frozen=1_500_000_000, longest_freeze=900_000_000, videos=4,
        video_octets=250_000, audio_octets=25_000, width_sum=1280 + 640 + 640 + 0,
    )  # fmt: skip
    figures = media_figures(totals, 10.0, Stay(videos=40.0, sessions=50.0))
    assert figures == figures | {
        "loss.before": 0.15, "loss.after": 0.1, "nack.rate": 3, "rtx.rate": 6, "pli.rate": 0.3, "packets.sent": 200,
        "packets.received": 900, "packets.wrong": 1, "packets.refused": 9,
        "packets.rate": 90, "frames.completed": 200, "frames.missed": 20, "frames.rate": 5,
        "freezes.count": 2, "freezes.total": 1.5, "freezes.longest": 0.9, "bitrate.video": 40, "bitrate.audio": 4,
        "layer.width": 640,
    }  # fmt: skip


def present(at: float, videos: int, clients: int = 0, hosts: int = 1) -> Moment:
    """A moment with so many streams and sessions of receivers, which are group 1."""
    return Moment(at, {0: Totals(clients=hosts), 1: Totals(clients=clients, videos=videos)}, MARK, None, clients)


def test_averages_are_over_who_was_there_while_people_come() -> None:
    """Five more a second at 30 frames/s and 600 kbit/s each: 10 at first, 60 at the end, 35 in the mean."""
    attendance = Attendance(present(100, 10, 10), {1})
    for k in range(1, 11):
        attendance.add(present(100 + k, 10 + 5 * k, 10 + 5 * k))
    assert (attendance.all.videos, attendance.all.sessions) == (350, 350) and attendance.groups[1] == attendance.all
    totals = Totals(frames=30 * 350, video_octets=75_000 * 350, audio_octets=5_000 * 350, videos=60)
    figures = media_figures(totals, 10.0, attendance.all)
    assert (figures["frames.rate"], figures["bitrate.video"], figures["bitrate.audio"]) == (30, 600, 40)


def test_averages_are_over_who_was_there_when_most_are_killed_late() -> None:
    """Nine of ten go after 8.5 s of 10: 86.5 seconds of streams, and not 10."""
    attendance = Attendance(present(0, 10, 10), {1})
    for at, count in ((8, 10), (9, 1), (10, 1)):
        attendance.add(present(at, count, count))
    assert attendance.all == Stay(86.5, 86.5)
    assert media_figures(Totals(frames=2595, videos=1), 10.0, attendance.all)["frames.rate"] == 30


def test_publishers_sessions_and_groups_that_are_away_do_not_count() -> None:
    attendance = Attendance(present(0, 4, 2, hosts=7), {1, 2})
    attendance.add(present(2, 4, 2, hosts=7))
    assert attendance.all == attendance.groups[1] == Stay(videos=8, sessions=4) and attendance.groups[2] == Stay()
    assert stay_between(present(0, 4, 2), present(2, 8, 4)) == Stay(videos=12, sessions=6)


def test_latencies_are_quantiles_of_the_histogram() -> None:
    totals = Totals(latency_max=90 * MS)
    totals.latency[bucket_of(10 * MS)], totals.latency[bucket_of(80 * MS)] = 98, 2
    figures = media_figures(totals, 1, Stay())
    assert figures["latency.p50"] == pytest.approx(10, rel=0.1) and figures["latency.p95"] == pytest.approx(10, rel=0.1)
    assert figures["latency.p99"] == pytest.approx(80, rel=0.1) and figures["latency.max"] == 90


def test_joins_without_media_count_in_the_steps_that_they_took() -> None:
    steps = [Step(http=k, ice=2 * k, dtls=3 * k, packet=None if k > 50 else 100, frame=None) for k in range(1, 101)]
    figures = join_figures(110, 100, 10, 25.0, steps)
    assert figures["joins.rate"] == 25 and figures["joins.attempted"] == 110
    assert figures["join.http.p50"] == 50.5 and figures["join.dtls.p95"] == pytest.approx(285.15)
    assert figures["join.packet.p95"] == 100 and figures["join.frame.p50"] is None


def test_the_tool_s_cost_is_per_packet_and_per_second() -> None:
    figures = tool_figures(moment(10, 1000, cpu=1, drops=2), moment(14, 5000, cpu=2, drops=5), 7.5)
    assert figures == {
        "tool.cpu": 25,
        "tool.cpu_per_packet": pytest.approx(250),
        "tool.socket_drops": 3,
        "tool.late": 7.5,
    }


def test_the_target_s_cost_is_per_packet_per_core_and_per_subscriber() -> None:
    before, after = Usage(10.0, 5.0, 4, 150_000_000), Usage(14.0, 7.0, 6, 170_000_000)
    empty = Usage(1.0, 1.0, 3, 120_000_000)
    figures = target_figures(moment(10, 1000, before), moment(14, 5000, after), empty)
    assert figures == {
        "target.cpu": 50,
        "target.cpu_per_packet": pytest.approx(500),
        "target.packets_per_core": 2000,
        "target.threads": 6,
        "target.memory": 170,
        "target.memory_per_subscriber": 1000,
    }
    assert target_figures(moment(10, 0, before), moment(14, 0, before), None)["target.memory_per_subscriber"] is None


def test_a_target_that_has_gone_has_no_figures() -> None:
    usage = Usage(10.0, 5.0, 4, 1)
    assert target_figures(moment(10, 0, usage), moment(14), usage) == {}


def test_received_is_of_all_groups() -> None:
    assert received(moment(0, 11), moment(1, 51)) == 40


def test_a_ratio_to_nothing_is_unknown() -> None:
    assert ratio(3, 0) is None and ratio(0, 4) == 0 and math.isclose(ratio(1, 3) or 0, 1 / 3)
