"""Looks at the counters once a second, for the live table and for the plots over time."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.engine.totals import sum_of
from loadtest.run.figures import (
    Attendance,
    Figures,
    Moment,
    media_figures,
    stay_between,
    target_figures,
    tool_figures,
)

SERIES = {
    "latency.p50": "latency.p50",
    "latency.p99": "latency.p99",
    "loss.before": "loss.before",
    "loss.after": "loss.after",
    "cpu.target": "target.cpu",
    "cpu.tool": "tool.cpu",
    "packets.rate": "packets.rate",
    "nack.rate": "nack.rate",
}  # name in the results -> figure
MOST = 3600  # points kept, an even number: then every other one is left out, again and again


class Sampler:
    """Points over time. `look` takes one; its figures are those of the time since the one before."""

    def __init__(self, moment: Callable[[], Moment], late_ms: Callable[[], float]) -> None:
        self._moment, self._late_ms = moment, late_ms
        self.attendance: Attendance | None = None  # of what is measured now, to which each look adds
        self._last = moment()
        self._begun = self._last.at
        self._done = 0
        self._stride = self._skipped = 1
        self.series: dict[str, list[float | None]] = {
            name: [] for name in ("time", *SERIES, "joined", "bitrate", "joins.rate")
        }

    def look(self, done: int) -> Figures:
        """One point; `done` is how many joins were done until now. The figures, and what else is shown live."""
        now, last = self._moment(), self._last
        seconds = max(now.at - last.at, 1e-6)
        if self.attendance:
            self.attendance.add(now)
        before, after = sum_of(last.totals), sum_of(now.totals)
        new = after.since(before)
        figures = media_figures(new, seconds, stay_between(last, now))
        figures |= target_figures(last, now, None) | tool_figures(last, now, self._late_ms())
        figures["joins.rate"] = (done - self._done) / seconds
        bitrate = (new.video_octets + new.audio_octets) * 8 / 1000 / seconds
        live: Figures = {"joins.done": done, "joined": now.sessions, "bitrate": bitrate}
        self._last, self._done = now, done
        if self._skipped >= self._stride:
            self._skipped = 0
            self._add(now, live | figures)
        self._skipped += 1
        return live | figures

    def _add(self, now: Moment, figures: Figures) -> None:
        series = self.series
        series["time"].append(round(now.at - self._begun, 3))
        for name, figure in SERIES.items():
            series[name].append(figures.get(figure))
        for name in ("joined", "bitrate", "joins.rate"):
            series[name].append(figures[name])
        if len(series["time"]) == MOST:
            self._stride *= 2
            for values in series.values():
                del values[::2]
