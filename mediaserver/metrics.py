"""Prometheus metrics, read from the workers' counters and the sessions when somebody asks: counting costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mediaserver.engine.engine import Engine, Worker
from mediaserver.engine.layout import LATENCY_BUCKETS
from mediaserver.signalling.sessions import HANDSHAKE_BUCKETS, Sessions

COUNTERS = {
    "received": ("weir_packets_received", "Datagrams received"),
    "received_bytes": ("weir_bytes_received", "Bytes received"),
    "forwarded": ("weir_packets_sent", "RTP packets forwarded"),
    "forwarded_bytes": ("weir_bytes_sent", "Bytes forwarded"),
    "trains": ("weir_sent_messages", "Messages handed to the kernel; a message is a train of packets"),
    "sends": ("weir_send_calls", "sendmmsg calls"),
    "send_waits": ("weir_send_waits", "Times that a worker waited for room in its socket's buffer"),
    "padded": ("weir_padded_packets", "Packets padded to the size of their train"),
    "stun_in": ("weir_stun_packets", "STUN messages received"),
    "dtls_in": ("weir_dtls_packets", "DTLS datagrams received"),
    "rtcp_in": ("weir_rtcp_packets", "RTCP datagrams received"),
    "nack_in": ("weir_nacks_received", "Packets that viewers asked for again"),
    "nack_out": ("weir_nacks_sent", "Packets asked for again from publishers"),
    "rtx_in": ("weir_retransmissions_received", "RTX packets from publishers"),
    "rtx_out": ("weir_retransmissions_sent", "RTX packets to viewers"),
    "pli_in": ("weir_keyframe_requests_received", "Keyframe requests (PLI, FIR) from viewers"),
    "pli_out": ("weir_keyframe_requests_sent", "Keyframe requests (PLI) to publishers"),
    "twcc_out": ("weir_transport_feedback_sent", "Transport-wide feedback packets to publishers"),
    "keyframe_starts": ("weir_keyframe_starts", "Late joins served from a keyframe in the log"),
    "rounds": ("weir_worker_rounds", "Rounds of the worker's loop"),
    "waits": ("weir_worker_waits", "Times the worker slept"),
    "gso_refused": ("weir_gso_refused", "Trains that the kernel refused and that were sent packet by packet"),
}
DROPS = (
    *("truncated", "unknown", "stun", "garbage", "srtp", "ssrc", "payload", "duplicate", "event", "send", "overrun"),
    "ended",  # from a peer whose session has ended
    "unproven",  # to an address that has not shown that it is the peer's
    *("uplink", "epoch", "dtls"),  # more than one peer may cost the others
)


def latency_bounds() -> list[str]:
    """Upper bounds of the latency buckets in seconds; the last is +Inf."""
    bounds = [(1.414 if k % 2 == 0 else 2.0) * 2 ** (k // 2) * 1e-6 for k in range(LATENCY_BUCKETS - 1)]
    return [f"{bound:.9g}" for bound in bounds] + ["+Inf"]


class NodeCollector(Collector):
    """All metrics of the node."""

    def __init__(self, engine: Engine, sessions: Sessions) -> None:
        self.engine, self.sessions = engine, sessions

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        about = {"node": self.engine.config.node.name, "version": version("weir")}
        yield InfoMetricFamily("weir_node", "Which node this is", value=about)
        yield from self._counters()
        yield from self._workers()
        yield self._latency()
        yield from self._sessions()

    def _counters(self) -> Iterator[Metric]:
        for field, (name, text) in COUNTERS.items():
            family = CounterMetricFamily(name, text, labels=["worker"])
            for worker in self.engine.workers:
                family.add_metric([str(worker.index)], int(worker.counters[field]))
            yield family
        drops = CounterMetricFamily("weir_packets_dropped", "Packets dropped, by cause", labels=["worker", "cause"])
        for worker in self.engine.workers:
            for cause in DROPS:
                drops.add_metric([str(worker.index), cause], int(worker.counters[f"drop_{cause}"]))
        yield drops

    def _workers(self) -> Iterator[Metric]:
        idle = CounterMetricFamily("weir_worker_idle_seconds", "Time that the worker slept", labels=["worker"])
        cpu = CounterMetricFamily("weir_worker_cpu_seconds", "Processor time that the worker used", labels=["worker"])
        used = GaugeMetricFamily("weir_table_used", "Records in use", labels=["worker", "table"])
        limit = GaugeMetricFamily("weir_table_limit", "Records there are", labels=["worker", "table"])
        for worker in self.engine.workers:
            idle.add_metric([str(worker.index)], int(worker.counters["idle"]) / 1e9)
            cpu.add_metric([str(worker.index)], cpu_seconds(worker))
            for table, slots in tables(worker).items():
                used.add_metric([str(worker.index), table], slots.used)
                limit.add_metric([str(worker.index), table], slots.limit)
        yield from (idle, cpu, used, limit)

    def _latency(self) -> Metric:
        text = "Time of forwarded packets in the node, from the kernel's receive time stamp to the return of sendmmsg"
        family = HistogramMetricFamily("weir_forward_latency_seconds", text, labels=["worker"])
        bounds = latency_bounds()
        for worker in self.engine.workers:
            total, buckets = 0, []
            for bound, count in zip(bounds, worker.counters["latency"].tolist(), strict=True):
                total += count
                buckets.append((bound, float(total)))
            family.add_metric([str(worker.index)], buckets, int(worker.counters["latency_sum"]) / 1e9)
        return family

    def _sessions(self) -> Iterator[Metric]:
        joins = CounterMetricFamily("weir_joins", "Joins, by kind and result", labels=["kind", "result"])
        for (kind, result), count in ({("whip", "ok"): 0, ("whep", "ok"): 0} | self.sessions.joins).items():
            joins.add_metric([kind, result], count)
        yield joins
        ends = CounterMetricFamily("weir_handshakes", "Handshakes that are over, by result", labels=["result"])
        for result, count in self.sessions.handshakes.results.items():
            ends.add_metric([result], count)
        yield ends
        people = GaugeMetricFamily("weir_participants", "Participants, by what they do", labels=["role"])
        people.add_metric(["publisher"], sum(len(room.publishers) for room in self.sessions.rooms.values()))
        people.add_metric(["viewer"], sum(len(room.viewers) for room in self.sessions.rooms.values()))
        yield people
        total, buckets = 0, []
        for bound in (*HANDSHAKE_BUCKETS, float("inf")):
            total += self.sessions.handshake_times[bound]
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        handshakes = HistogramMetricFamily("weir_handshake_seconds", "From the answer to the SRTP keys")
        handshakes.add_metric([], buckets, self.sessions.handshake_sum)
        yield handshakes
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(name, text, value)

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        rooms = list(self.sessions.rooms.values())
        publishers = [publisher for room in rooms for publisher in room.publishers.values()]
        viewers = [viewer for room in rooms for viewer in room.viewers]
        subscriptions = [one for viewer in viewers for one in viewer.subscriptions]
        yield "weir_rooms", "Rooms with somebody in them", len(rooms)
        yield "weir_transports", "Peers that the workers hold", sum(w.transport_used for w in self.engine.workers)
        yield "weir_tracks", "Tracks published", sum(len(publisher.tracks) for publisher in publishers)
        yield "weir_subscriptions", "Tracks forwarded to viewers", len(subscriptions)
        paused = sum(one.state in ("codec", "full") for one in subscriptions)
        yield "weir_subscriptions_paused", "Subscriptions that can't be served: no codec in common, no room", paused
        yield "weir_handshakes_pending", "Unfinished handshakes", self.sessions.handshakes.pending


def cpu_seconds(worker: Worker) -> float:
    """Processor time of a worker's thread; 0 when it does not run."""
    thread = worker.thread
    if thread is None or thread.ident is None or not thread.is_alive():
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def tables(worker: Worker) -> dict[str, Any]:
    """The tables of a worker whose occupancy is worth watching."""
    return {
        "transports": worker.transport_slots,
        "layers": worker.layer_slots,
        "feeds": worker.feed_slots,
        "subscriptions": worker.subscription_slots,
        "publishers": worker.twcc_slots,
        **{slots.what.replace(" ", "_"): slots for slots in worker.logs.slots.values()},
    }


def make_metrics(engine: Engine, sessions: Sessions) -> CollectorRegistry:
    """A registry of this node alone."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(engine, sessions))
    ProcessCollector(registry=registry)
    return registry


def render(registry: CollectorRegistry) -> bytes:
    """The text format."""
    return generate_latest(registry)
