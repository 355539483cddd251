"""Sums over clients: what a group of them received, lost, repaired, completed and sent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.engine.frames import ENOUGH, FREEZE_FACTOR, FREEZE_MORE
from loadtest.engine.layout import LATENCY_BUCKETS, OPEN, VIDEO

if TYPE_CHECKING:
    from loadtest.engine.engine import ClientEngine

PRESENT = ("longest_freeze", "latency_max", "clients", "videos", "width_sum")  # of now, and not since a time


@dataclass
class Totals:
    """Counters since the beginning. Times in ns; `latency` is counts by bucket of the engine's histogram.

    `clients`, `videos` and `width_sum` are of those who are there now: neither gone nor silenced.
    """

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
            if f.name not in PRESENT:
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


def add_clients(engine: ClientEngine, indices: Any, totals: Totals, *, here: bool = True) -> None:
    """Add what the clients in these rows (i8 array) have counted; not `here`: they are on their way out.

    Fields are read one by one, since a row is large: the whole of a thousand clients is tens of megabytes.
    """
    c = engine.clients.rows
    present = c["stopped"][indices] == 0 if here else np.zeros(len(indices), bool)
    totals.clients += int(present.sum())
    _add(totals, c, indices, CLIENT_FIELDS)
    totals.datagrams += int(c["sent"][indices].sum())
    shown = present & (c["counted_only"][indices] == 0)  # of the others' frames nothing is known
    streams, owners = _rows(c["streams"][indices], c["stream_count"][indices])
    _add_streams(engine.streams.rows, streams, shown[owners], totals)
    if here:
        _add_pauses(engine.streams.rows, streams[shown[owners]], int(engine.state.now), totals)
    if engine.maxima_begun and len(streams):
        _add_maxima(engine.streams.rows, streams, totals)
    sources, _ = _rows(c["sources"][indices], c["source_count"][indices])
    _add_sources(engine.sources.rows, sources, totals)


def _rows(table: Any, counts: Any) -> tuple[Any, Any]:
    """The first `counts` entries of each row of a table, in one array, and whose they are: places in `table`."""
    chosen = np.arange(table.shape[1]) < counts[:, None]
    return table[chosen], np.nonzero(chosen)[0]


def _add(totals: Totals, rows: Any, chosen: Any, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(totals, name, getattr(totals, name) + int(rows[name][chosen].sum()))


def _add_streams(s: Any, chosen: Any, shown: Any, totals: Totals) -> None:
    there = s["state"][chosen] == OPEN
    chosen, shown = chosen[there], shown[there]
    if not len(chosen):
        return
    _add(totals, s, chosen, STREAM_FIELDS)
    totals.lost += int(s["first_missing"][chosen].sum())
    expected = np.where(s["received"][chosen] > 0, s["highest"][chosen] - s["first_position"][chosen] + 1, 0)
    totals.expected += int(expected.sum())
    video, octets = s["kind"][chosen] == VIDEO, s["octets"][chosen]
    totals.video_expected += int(expected[video].sum())
    totals.video_given_up += int(s["given_up"][chosen[video]].sum())
    totals.video_octets += int(octets[video].sum())
    totals.audio_octets += int(octets[~video].sum())
    totals.videos += int((video & shown).sum())
    totals.width_sum += int(s["width"][chosen[video & shown]].sum())
    totals.latency += s["latency"][chosen].sum(axis=0)


def _add_maxima(s: Any, chosen: Any, totals: Totals) -> None:
    totals.longest_freeze = max(totals.longest_freeze, int(s["longest_freeze"][chosen].max()))
    totals.latency_max = max(totals.latency_max, int(s["latency_max"][chosen].max()))


def _add_pauses(s: Any, chosen: Any, now: int, totals: Totals) -> None:
    """Freezes that have not ended: pauses since the newest frame that are long already."""
    chosen = chosen[(s["state"][chosen] == OPEN) & (s["frames"][chosen] > ENOUGH)]
    pauses, interval = now - s["last_frame"][chosen], s["interval"][chosen]
    frozen = pauses[pauses >= np.maximum(FREEZE_FACTOR * interval, interval + FREEZE_MORE)]
    if len(frozen):
        totals.freezes += len(frozen)
        totals.frozen += int(frozen.sum())
        totals.longest_freeze = max(totals.longest_freeze, int(frozen.max()))


def _add_sources(s: Any, chosen: Any, totals: Totals) -> None:
    totals.sent += int(s["packets"][chosen].sum())
    totals.sent_octets += int(s["octets"][chosen].sum())
    totals.sent_frames += int(s["frames"][chosen].sum())
    _add(totals, s, chosen, SOURCE_FIELDS)
