"""Figures, limits, quantiles and the garbage of the benchmark."""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path

from rich.console import Console

from loadtest.flood import garbage, run
from loadtest.floor import measure_floor
from loadtest.measure import cpu_seconds, machine, memory_of, threads_of
from loadtest.report import Book, shown
from loadtest.sink import open_socket
from loadtest.window import histogram_quantile, latency_buckets


def book() -> Book:
    made = Book({"cpu": "some"}, "weir bench")
    for value in (3.0, 1.0, 2.5):
        made.note("Cost", "even, 100", "µs", value, limit=2.5)
    made.note("Joins", "a second", "1/s", 149, limit=150, least=True)
    made.remark("the tool was the bottleneck")
    made.remark("the tool was the bottleneck")
    return made


def test_a_figure_is_judged_by_its_median() -> None:
    cost, joins = book().figures.values()
    assert cost.median == 2.5 and cost.reached() is True
    assert joins.reached() is False


def test_tables_show_least_median_and_most() -> None:
    out = io.StringIO()
    book().print(Console(file=out, width=120))
    text = out.getvalue()
    assert "1" in text and "2.50" in text and "≤ 2.5" in text and "≥ 150" in text
    assert text.count("the tool was the bottleneck") == 1


def test_json_holds_every_value(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    book().write(file)
    read = json.loads(file.read_text())
    assert read["figures"][0]["values"] == [3.0, 1.0, 2.5] and read["machine"] == {"cpu": "some"}


def test_numbers_are_short() -> None:
    assert [shown(x) for x in (3.0, 1.23456, 12345.6, 0.0123, float("nan"))] == ["3", "1.23", "12,346", "0.01", "-"]


def test_quantiles_are_interpolated_in_their_bucket_as_prometheus_does() -> None:
    text = (
        "# TYPE weir_forward_latency_seconds histogram\n"
        'weir_forward_latency_seconds_bucket{worker="0",le="0.0001"} 50\n'
        'weir_forward_latency_seconds_bucket{worker="0",le="0.001"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="0",le="+Inf"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="0.0001"} 50\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="0.001"} 100\n'
        'weir_forward_latency_seconds_bucket{worker="1",le="+Inf"} 100\n'
        "weir_forward_latency_seconds_sum 1\nweir_forward_latency_seconds_count 200\n"
    )
    buckets = latency_buckets(text)
    assert buckets[0.0001] == 100 and buckets[math.inf] == 200
    assert histogram_quantile(buckets, 0.25) == 50.0
    assert histogram_quantile(buckets, 0.75) == 550.0
    assert math.isnan(histogram_quantile({}, 0.5))


def test_garbage_is_the_same_for_a_seed_and_of_all_kinds() -> None:
    assert garbage(4) == garbage(4) != garbage(5)
    heads = {datagram[:1] for datagram in garbage(4)}
    assert {b"\x80", b"\x00", b"\x16", b"\x90"} <= heads
    assert all(1 <= len(datagram) <= 1400 for datagram in garbage(4))


def test_the_flood_keeps_its_rate() -> None:
    sock = open_socket("127.0.0.1")
    sent = run("127.0.0.1", sock.getsockname()[1], rate=20_000, seconds=0.2)
    assert 2_000 <= sent <= 4_200
    assert len(sock.recv(2048)) > 0
    sock.close()


def test_the_floor_sends_to_every_socket() -> None:
    sockets = [open_socket("127.0.0.1") for _ in range(2)]
    found = measure_floor([sock.getsockname()[1] for sock in sockets], rounds=3)
    assert set(found) == {"sendmmsg", "sendmmsg, GCM", "GSO of 10", "GSO of 10, GCM"}
    assert all(value > 0 for value in found.values())
    for sock in sockets:
        sizes = [len(sock.recv(4096)) for _ in range(4 * 2 + 4 * 20)]
        assert set(sizes) == {1136}
        sock.close()


def test_a_process_is_measured_from_outside() -> None:
    before = cpu_seconds(os.getpid())
    sum(range(1_000_000))
    assert cpu_seconds(os.getpid()) > before
    assert memory_of(os.getpid()).resident > 10_000_000
    assert threads_of(os.getpid()) >= 1
    assert "kernel" in machine()
