"""A measured window: an exact number of frames from every publisher, what arrived, and what it cost the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from loadtest.bench.clients import FRAMERATE, PACKETS_A_FRAME, SECOND, Clients, Publisher
from loadtest.bench.server import Server
from loadtest.measure import socket_drops
from loadtest.results.distribution import Histogram

FRAME_NS = SECOND // FRAMERATE
PACKET_NS = FRAME_NS // PACKETS_A_FRAME  # between packets that are evenly paced
SETTLE = 0.3  # seconds without a packet that end a window
SETTLE_MOST = 6.0
LATENCY = "forward_latency"  # what the node's histogram has in its name


@dataclass
class Window:
    """What one window showed. cpu in seconds; late in ns; latency: a histogram of the engine's for each subscriber."""

    cpu: float
    received: int
    expected: int
    our_drops: int
    node_drops: int
    late: int
    latency: Any
    node_latency: dict[float, float]
    checked: int
    wrong: int

    @property
    def microseconds(self) -> float:
        """CPU per packet that arrived."""
        return self.cpu / self.received * 1e6 if self.received else float("nan")

    @property
    def lost(self) -> int:
        """Packets that were sent and did not arrive, by any cause."""
        return self.expected - self.received


def latency_buckets(metrics: str) -> dict[float, float]:
    """Cumulative counts by upper bound (seconds) of the node's forward latency, over its workers."""
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples if LATENCY in family.name else ():
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                found[bound] = found.get(bound, 0.0) + sample.value
    return found


def histogram_quantile(buckets: dict[float, float], q: float) -> float:
    """Microseconds, linear inside the bucket as Prometheus does it; nan when nothing was counted."""
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return float("nan")
    rank, lower, below = q * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            share = (rank - below) / max(buckets[bound] - below, 1e-9)
            return (lower if bound == float("inf") else lower + (bound - lower) * share) * 1e6
        lower, below = bound, buckets[bound]
    return lower * 1e6


def node_metrics(server: Server) -> dict[float, float]:
    """The node's latency buckets now; empty for a server without metrics."""
    try:
        return latency_buckets(server.get("/metrics"))
    except (OSError, ValueError):
        return {}


async def settle(clients: Clients) -> None:
    """Until nothing has come for SETTLE, SETTLE_MOST at most: a starved server is late, which is not loss."""
    seen, until = -1, time.monotonic() + SETTLE_MOST
    while seen != (seen := clients.received()) and time.monotonic() < until:
        await asyncio.sleep(SETTLE)


async def run_window(
    clients: Clients, server: Server, rooms: Sequence[tuple[Publisher, int]], *, burst: bool, frames: int
) -> Window:
    """Let each publisher of (publisher, its subscribers) send `frames` frames, their clocks spread out."""
    publishers = [publisher for publisher, _ in rooms]
    sent = [publisher.sent for publisher in publishers]
    drops = clients.drops(), socket_drops([server.udp_port])
    buckets = await asyncio.to_thread(node_metrics, server)
    before, cpu = clients.counts(), server.cpu()
    for k, publisher in enumerate(publishers):
        publisher.begin(burst=burst, frames=frames, phase=k * (FRAME_NS + PACKET_NS) // len(rooms))
    while any(publisher.running for publisher in publishers):
        await asyncio.sleep(0.02)
    await settle(clients)
    spent, after = server.cpu() - cpu, clients.counts()
    metrics = await asyncio.to_thread(node_metrics, server)
    return Window(
        cpu=spent,
        received=after.received - before.received,
        expected=sum((one.sent - was) * count for (one, count), was in zip(rooms, sent, strict=True)),
        our_drops=clients.drops() - drops[0],
        node_drops=socket_drops([server.udp_port]) - drops[1],
        late=max(publisher.late for publisher in publishers),
        latency=after.latency - before.latency,
        node_latency={bound: count - buckets.get(bound, 0.0) for bound, count in metrics.items()},
        checked=after.checked - before.checked,
        wrong=after.wrong - before.wrong,
    )


def quantile(latency: Any, q: float) -> float:
    """Microseconds below which the share `q` of a latency histogram lies; nan if it is empty."""
    found = Histogram(latency).quantile(q)
    return float("nan") if found is None else found * 1000


def spread_over_subscribers(latency: Any, q: float) -> Any:
    """The quantile `q` of each subscriber's latency, of those who have any, in µs, ascending."""
    return np.sort([quantile(one, q) for one in latency if one.any()])
