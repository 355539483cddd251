"""A run as a real one looks: two groups, a ramp of joins, a burst of loss, a gap in what was measured. Seeded."""

from __future__ import annotations

import random

from loadtest.results.distribution import Histogram
from loadtest.results.figures import FIGURES
from loadtest.results.schema import Expectation, Fault, Results, Scenario, Target

SECONDS = 90
RAMP = 20  # s until all have joined
GAP = range(40, 45)  # s without samples of latency
BURST = range(60, 66)  # s with loss
SUBSCRIBERS = 500
YAML = """name: webinar
seed: 1
target: {driver: whip-whep, url: "http://127.0.0.1:7880"}
rooms: 1
duration: 70
publishers: [{name: host, count: 1, media: camera}]
subscribers: [{name: audience, count: 480}, {name: phones, count: 20, network: mobile}]
expect: {latency.p99: "<= 50 ms", loss.after: "<= 0.001", joins.failed: "== 0"}
"""
JOINS = {"http": 4.1, "ice": 5.7, "dtls": 21.2, "packet": 44.5, "frame": 120.0}


def sample(seed: int = 1, *, name: str = "webinar", slower: float = 1.0) -> Results:
    """Results of a webinar; `slower` multiplies the latencies."""
    chance = random.Random(seed)
    histogram = latencies(chance, slower)
    return Results(
        scenario=Scenario(name=name, text=YAML, seed=1),
        target=Target(url="http://127.0.0.1:7880", driver="whip-whep", pid=4711),
        machine={"cpu": "A Processor @ 3.00 GHz", "cores": 2, "kernel": "6.1.0", "python": "3.11.2", "weir": "0.1.0"},
        command="weir loadtest webinar",
        started="2025-03-04T10:00:00+00:00",
        duration=float(SECONDS),
        verdict="failed",
        notes=["The tool used 41 % of its core.", "Latency was not sampled for 5 s."],
        figures=figures(histogram, chance),
        groups={
            "audience": {"latency.p50": 1.9 * slower, "loss.after": 0.0},
            "phones": {"latency.p50": 46.0 * slower, "loss.after": 0.004},
        },
        expect=[
            Expectation(figure="latency.p99", limit="<= 50 ms", value=histogram.quantile(0.99), held=True),
            Expectation(figure="loss.after", limit="<= 0.001", value=0.0021, held=False),
            Expectation(figure="target.memory", limit="<= 400 MB", value=None, held=None),
        ],
        distributions={"latency": histogram.distribution(), "join.frame": joins(chance).distribution()},
        series=series(chance, slower),
        faults=[
            Fault(client="phones-7", group="phones", room="room-0", what="ICE timed out after 10 s", count=1),
            Fault(client="audience-31", group="audience", room="room-0", what="no packet for 3.0 s", count=4),
        ],
    )


def repeated(seed: int = 1, *, times: int = 5, slower: float = 1.0) -> Results:
    """The same with a figures dict for each repetition."""
    results = sample(seed, slower=slower)
    results.repetitions = [sample(seed + index, slower=slower).figures for index in range(times)]
    return results


def latencies(chance: random.Random, slower: float) -> Histogram:
    """Most at about 2 ms, some far out."""
    histogram = Histogram()
    for _ in range(5000):
        histogram.record(chance.lognormvariate(0.7, 0.35) * 1e6 * slower)
    for _ in range(150):
        histogram.record(chance.lognormvariate(3.6, 0.3) * 1e6 * slower)
    return histogram


def joins(chance: random.Random) -> Histogram:
    """Join times around 120 ms."""
    histogram = Histogram()
    for _ in range(SUBSCRIBERS):
        histogram.record(chance.lognormvariate(4.8, 0.4) * 1e6)
    return histogram


def figures(histogram: Histogram, chance: random.Random) -> dict[str, float | None]:
    """A value for every figure but the target's memory."""
    found: dict[str, float | None] = {name: float(chance.randint(1, 400)) for name in FIGURES}
    names = {"latency.p50": 0.5, "latency.p95": 0.95, "latency.p99": 0.99, "latency.p99.9": 0.999, "latency.max": 1.0}
    found |= {name: histogram.quantile(q) for name, q in names.items()}
    for step, median in JOINS.items():
        found |= {f"join.{step}.p50": median, f"join.{step}.p95": median * 2.2}
    found |= {"joins.attempted": 501.0, "joins.done": 500.0, "joins.failed": 1.0, "joins.rate": 25.0}
    found |= {"loss.before": 0.013, "loss.after": 0.0021, "packets.rate": 150_123.4, "packets.received": 10_508_638.0}
    return found | {"target.memory": None, "target.memory_per_subscriber": None}


def series(chance: random.Random, slower: float) -> dict[str, list[float | None]]:
    """One sample a second."""
    time = [float(second) for second in range(SECONDS)]
    joined = [min(SUBSCRIBERS, SUBSCRIBERS * second / RAMP) for second in time]

    def around(value: float, spread: float = 0.05) -> float:
        return value * (1 + spread * chance.uniform(-1, 1))

    def of_latency(median: float) -> list[float | None]:
        return [None if second in GAP else around(median * slower, 0.3) for second in time]

    return {
        "time": list(time),
        "latency.p50": of_latency(2.0),
        "latency.p99": of_latency(42.0),
        "loss.before": [0.08 if second in BURST else around(0.001, 0.9) for second in time],
        "loss.after": [0.02 if second in BURST else 0.0 for second in time],
        "cpu.target": [around(0.17 * count) for count in joined],
        "cpu.tool": [around(0.08 * count) for count in joined],
        "joined": list(joined),
        "joins.rate": [around(25.0, 0.2) if second < RAMP else 0.0 for second in time],
        "packets.rate": [around(300 * count, 0.01) for count in joined],
        "bitrate": [around(830 * count, 0.01) for count in joined],
        "nack.rate": [around(120.0) if second in BURST else 0.0 for second in time],
    }
