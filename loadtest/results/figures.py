"""The names of all figures of a load test: one place for unit, meaning and which way is better.

Whoever measures writes these names, `expect:` limits are set on them, and reports and comparisons show them. A name
that is not here is refused when a results file is read, so that a misspelt figure is not silently without a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["low", "high"] | None
COUNT = "count"
SHARE = "share"  # 0..1


@dataclass(frozen=True)
class Figure:
    """One figure's unit, what it says in a few words, and whether low or high values are better (None: neither)."""

    unit: str
    text: str
    better: Better = "low"


JOIN_STEPS = {
    "http": "time of the HTTP exchange",
    "ice": "time of ICE, from the answer to a working pair",
    "dtls": "time of the DTLS handshake",
    "packet": "from the join's beginning to the first media packet",
    "frame": "from the join's beginning to the first decodable frame",
}
STEPS_IN_TURN = ("http", "ice", "dtls")  # each begins where the one before ends
PERCENTILES = {"p50": "median", "p95": "95th percentile", "p99": "99th percentile", "p99.9": "99.9th percentile"}


def _joins() -> dict[str, Figure]:
    counted = {
        "joins.attempted": Figure(COUNT, "joins begun", None),
        "joins.done": Figure(COUNT, "joins that reached media", "high"),
        "joins.failed": Figure(COUNT, "joins that failed"),
        "joins.rate": Figure("1/s", "joins done a second, while clients joined", "high"),
    }
    for step, text in JOIN_STEPS.items():
        for name in ("p50", "p95"):
            counted[f"join.{step}.{name}"] = Figure("ms", f"{text}, {_word(name)}")
    return counted


def _latency() -> dict[str, Figure]:
    text = "one way, capture to arrival at the kernel"
    found = {f"latency.{name}": Figure("ms", f"{text}, {word}") for name, word in PERCENTILES.items()}
    return found | {"latency.max": Figure("ms", f"{text}, longest")}


def _word(percentile: str) -> str:
    return PERCENTILES[percentile]


_MEDIA = {
    "loss.before": Figure(SHARE, "packets that did not come the first time"),
    "loss.after": Figure(SHARE, "packets still missing after repair"),
    "loss.video": Figure(SHARE, "video packets still missing after repair"),
    "loss.audio": Figure(SHARE, "audio packets missing: nobody asks for them again"),
    "nack.rate": Figure("1/s", "packets asked for again by NACK, all clients"),
    "rtx.rate": Figure("1/s", "retransmitted packets received, all clients"),
    "pli.rate": Figure("1/s", "PLI messages sent, all clients"),
    "packets.sent": Figure(COUNT, "media packets sent by publishers", None),
    "packets.received": Figure(COUNT, "media packets received by subscribers", "high"),
    "packets.wrong": Figure(COUNT, "synthetic packets that are not byte for byte what was sent"),
    "packets.refused": Figure(COUNT, "packets that could not be opened or belong to no stream"),
    "packets.rate": Figure("1/s", "media packets received a second", "high"),
    "frames.completed": Figure(COUNT, "video frames received whole", "high"),
    "frames.missed": Figure(COUNT, "video frames that never became whole"),
    "frames.rate": Figure("1/s", "whole frames a second of each video stream", "high"),
    "freezes.count": Figure(COUNT, "freezes of the picture, all streams"),
    "freezes.total": Figure("s", "time in freezes, all streams together"),
    "freezes.longest": Figure("s", "longest freeze"),
    "bitrate.video": Figure("kbit/s", "video received by each subscriber's session", "high"),
    "bitrate.audio": Figure("kbit/s", "audio received by each subscriber's session", "high"),
    "layer.width": Figure("px", "mean width of the newest frames", "high"),
    "decode.clients": Figure(COUNT, "clients that decoded what they received", None),
    "decode.frames": Figure(COUNT, "frames decoded, their numbers read back", "high"),
    "decode.errors": Figure(COUNT, "frames that the decoder refused"),
    "decode.unread": Figure(COUNT, "decoded frames without a readable number"),
    "decode.latency.p50": Figure("ms", "time code in the picture to decoded frame, median"),
    "decode.latency.p95": Figure("ms", "time code in the picture to decoded frame, 95th percentile"),
}
_PROCESSES = {
    "target.cpu": Figure("% of a core", "CPU of the target process"),
    "target.cpu_per_packet": Figure("µs", "CPU of the target for each packet forwarded"),
    "target.packets_per_core": Figure("1/s", "packets forwarded a second with one whole core", "high"),
    "target.threads": Figure(COUNT, "threads of the target process", None),
    "target.memory": Figure("MB", "resident memory of the target process"),
    "target.memory_per_subscriber": Figure("KB", "resident memory that each subscriber's session added"),
    "tool.cpu": Figure("% of a core", "CPU of the load test itself", None),
    "tool.cpu_per_packet": Figure("µs", "CPU of the load test for each packet received"),
    "tool.socket_drops": Figure(COUNT, "packets that the load test's own sockets dropped"),
    "tool.late": Figure("ms", "how late the publishers' packets left at most"),
}

FIGURES: dict[str, Figure] = _joins() | _latency() | _MEDIA | _PROCESSES

# Headings under which the figures are shown, and the first words of the names below each.
GROUPS: dict[str, tuple[str, ...]] = {
    "Joins": ("joins", "join"),
    "Latency": ("latency",),
    "Loss and repair": ("loss", "nack", "rtx", "pli", "packets"),
    "Picture": ("frames", "freezes", "bitrate", "layer", "decode"),
    "Target": ("target",),
    "Tool": ("tool",),
}


def group_of(name: str) -> str:
    """The heading of a figure. KeyError for a name whose first word belongs nowhere."""
    first = name.partition(".")[0]
    for heading, words in GROUPS.items():
        if first in words:
            return heading
    raise KeyError(name)


def shown(value: float | None, unit: str = COUNT) -> str:
    """A value with about three significant digits, thousands apart, shares as percent; a dash when unknown."""
    if value is None or value != value:
        return "–"
    if unit == SHARE:
        return f"{_digits(value * 100)} %"
    return _digits(value)


def brief(value: float) -> str:
    """A value in little room: thousands of thousands and more with a letter."""
    size, unit = abs(value), ""
    for factor, letter in ((1e9, "G"), (1e6, "M")):
        if size >= factor:
            value, unit = value / factor, letter
            break
    return _digits(value) + unit


def unit_shown(unit: str) -> str:
    """The unit to write beside `shown`: counts and shares need none."""
    return "" if unit in (COUNT, SHARE) else unit


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e15:
        return f"{value:.1e}"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    if size < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}" if size < 1 else f"{value:.{1 if size >= 10 else 2}f}"
