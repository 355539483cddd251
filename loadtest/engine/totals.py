"""Sums over clients: what a group of them received, lost, repaired, completed and sent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.engine.layout import LATENCY_BUCKETS, OPEN, VIDEO

if TYPE_CHECKING:
    from loadtest.engine.engine import ClientEngine


@dataclass
class Totals:
    """Counters since the beginning. Times in ns; `latency` is counts by bucket of the engine's histogram."""

    clients: int = 0
    packets: int = 0  # media packets in the order of their streams, repaired ones included
    octets: int = 0
    video_octets: int = 0
    audio_octets: int = 0
    expected: int = 0  # packets between the first and the highest of each stream
    lost: int = 0  # of these, missing at first
    given_up: int = 0  # of these, never repaired
    video_expected: int = 0
    video_given_up: int = 0
    recovered: int = 0
    duplicates: int = 0
    nacks: int = 0
    plis: int = 0
    rtx: int = 0
    rtcp: int = 0
    refused: int = 0
    garbage: int = 0
    excess: int = 0
    failures: int = 0
    frames: int = 0
    keyframes: int = 0
    missed: int = 0
    freezes: int = 0
    frozen: int = 0
    longest_freeze: int = 0
    checked: int = 0
    wrong: int = 0
    videos: int = 0  # video streams received
    width_sum: int = 0  # of their newest keyframes
    datagrams: int = 0  # sent
    sent: int = 0  # media packets of sources
    sent_octets: int = 0
    sent_frames: int = 0
    requests: int = 0
    resent: int = 0
    unanswered: int = 0
    latency_max: int = 0
    latency: Any = field(default_factory=lambda: np.zeros(LATENCY_BUCKETS, np.int64))

    def copy(self) -> Totals:
        """A copy that does not change with this."""
        made = Totals(**{f.name: getattr(self, f.name) for f in fields(self)})
        made.latency = self.latency.copy()
        return made

    def add(self, other: Totals) -> None:
        """Add another's counts; of longest and highest times the greater one stays."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            most = f.name in ("longest_freeze", "latency_max")
            setattr(self, f.name, max(mine, theirs) if most else mine + theirs)

    def since(self, before: Totals) -> Totals:
        """What was counted since an earlier copy; of longest and highest times the present ones."""
        made = self.copy()
        for f in fields(self):
            if f.name not in ("longest_freeze", "latency_max", "clients", "videos", "width_sum"):
                setattr(made, f.name, getattr(self, f.name) - getattr(before, f.name))
        return made


def sum_of(all_totals: dict[int, Totals]) -> Totals:
    """All groups together."""
    made = Totals()
    for totals in all_totals.values():
        made.add(totals)
    return made


CLIENT_FIELDS = ("rtx", "rtcp", "refused", "garbage", "excess", "failures")
STREAM_FIELDS = (
    "packets", "octets", "recovered", "duplicates", "given_up", "nacks", "plis", "frames", "keyframes", "missed",
    "freezes", "frozen", "checked", "wrong",
)  # fmt: skip
SOURCE_FIELDS = ("requests", "resent", "unanswered")


def add_clients(engine: ClientEngine, indices: Any, totals: Totals) -> None:
    """Add what the clients in these rows (i8 array) have counted."""
    c = engine.clients.rows[indices]
    totals.clients += len(c)
    _add(totals, c, CLIENT_FIELDS)
    totals.datagrams += int(c["sent"].sum())
    _add_streams(engine.streams.rows[_rows(c["streams"], c["stream_count"])], totals)
    _add_sources(engine.sources.rows[_rows(c["sources"], c["source_count"])], totals)


def _rows(table: Any, counts: Any) -> Any:
    """The first `counts` entries of each row of a table, in one array."""
    return table[np.arange(table.shape[1]) < counts[:, None]]


def _add(totals: Totals, rows: Any, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(totals, name, getattr(totals, name) + int(rows[name].sum()))


def _add_streams(s: Any, totals: Totals) -> None:
    s = s[s["state"] == OPEN]
    if not len(s):
        return
    _add(totals, s, STREAM_FIELDS)
    totals.lost += int(s["first_missing"].sum())
    video = s["kind"] == VIDEO
    expected = np.where(s["received"] > 0, s["highest"] - s["first_position"] + 1, 0)
    totals.expected += int(expected.sum())
    totals.video_expected += int(expected[video].sum())
    totals.video_given_up += int(s["given_up"][video].sum())
    totals.video_octets += int(s["octets"][video].sum())
    totals.audio_octets += int(s["octets"][~video].sum())
    totals.videos += int(video.sum())
    totals.width_sum += int(s["width"][video].sum())
    totals.longest_freeze = max(totals.longest_freeze, int(s["longest_freeze"].max()))
    totals.latency_max = max(totals.latency_max, int(s["latency_max"].max()))
    totals.latency += s["latency"].sum(axis=0)


def _add_sources(sources: Any, totals: Totals) -> None:
    totals.sent += int(sources["packets"].sum())
    totals.sent_octets += int(sources["octets"].sum())
    totals.sent_frames += int(sources["frames"].sum())
    _add(totals, sources, SOURCE_FIELDS)
