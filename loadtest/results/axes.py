"""Axes of plots: a range, round ticks within it, and where a value lies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loadtest.results.figures import brief

# Steps of a clock in seconds, so that ticks are at whole minutes when there are minutes.
CLOCK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
LEAST = 1e-9  # what is smaller, in any unit of ours, is nothing
MOST = 1e15  # and what is larger is an error of measurement that is drawn at the edge
LONG = 300  # s from which times are shown as min:s


@dataclass(frozen=True)
class Axis:
    """From low to high, with ticks and their words."""

    low: float
    high: float
    ticks: list[tuple[float, str]]
    log: bool = False

    def share(self, value: float) -> float:
        """Where between low (0) and high (1) a value lies; what is outside is put on the edge."""
        if self.log:
            value = max(value, self.low)
            found = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            found = (value - self.low) / (self.high - self.low)
        return min(max(found, 0.0), 1.0)


def nice_axis(low: float, high: float, most: int, *, whole: bool = False) -> Axis:
    """About `most` ticks at steps of 1, 2 or 5 times a power of ten; it ends at ticks. An empty range is 1 long."""
    high = min(high, MOST)
    if not high - low > LEAST:
        high = low + 1
    rough = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    if whole:
        step = max(step, 1.0)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    ticks = [(index * step, _even(index * step, digits)) for index in range(first, last + 1)]
    return Axis(first * step, last * step, ticks)


def _even(value: float, digits: int) -> str:
    """All words of an axis with the same number of digits after the point."""
    if abs(value) >= 1_000_000:
        return brief(value)
    return "0" if value == 0 else f"{value:,.{digits}f}"


def clock_ticks(low: float, high: float, most: int) -> Axis:
    """Times in seconds, as min:s when the run is long. The axis ends where the times do."""
    if not high > low:
        high = low + 1
    rough = (high - low) / max(most, 1)
    step = next((step for step in CLOCK_STEPS if step >= rough), CLOCK_STEPS[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return Axis(low, high, [(index * step, _clock(index * step, high)) for index in range(first, last + 1)])


def _clock(seconds: float, high: float) -> str:
    if high < LONG:
        return f"{seconds:.10g}"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def log_axis(low: float, high: float, most: int, *, exact: bool = False) -> Axis:
    """A logarithmic axis; ticks at 1, 2 and 5 of each decade, or fewer when that is too many. Low is above 0.

    `exact` ends the axis where the values do, else it is rounded to ticks.
    """
    low = min(max(low, LEAST), MOST)
    high = max(min(high, MOST), low * 1.01)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        below = max((value for value in values if value <= low * 1.0001), default=low)
        above = min((value for value in values if value >= high * 0.9999), default=high)
        begin, end = (low, high) if exact else (below, above)
        inside = [value for value in values if begin * 0.9999 <= value <= end * 1.0001]
        if len(inside) <= most:
            break
    else:
        inside = inside[:: math.ceil(len(inside) / max(most, 1))]
    return Axis(begin, max(end, begin * 1.01), [(value, f"{value:,.10g}") for value in inside], log=True)
