"""Histograms with logarithmic buckets, as the client engine counts latencies: quantiles, sums, and the results' form.

256 buckets, eight an octave from 1 µs: bucket 0 holds what is below 1 µs, bucket k holds up to 2 ** (k / 8) µs, and the
last also holds all that is longer. A quantile is therefore right within 9 %, at any size, in 2 KB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loadtest.results.schema import Distribution

BUCKETS = 256
PER_OCTAVE = 8
FIRST_NS = 1000

Counts = npt.NDArray[np.int64]


def bucket_of(ns: float) -> int:
    """The bucket of a duration in nanoseconds; what is negative is in the lowest."""
    if ns < FIRST_NS:
        return 0
    return min(int(math.log2(ns / FIRST_NS) * PER_OCTAVE) + 1, BUCKETS - 1)


def upper_ms(bucket: int) -> float:
    """The upper edge of a bucket in ms."""
    return float(2.0 ** (bucket / PER_OCTAVE)) / 1000


class Histogram:
    """Counts of durations. `counts` may be the engine's own array: it is copied."""

    def __init__(self, counts: Sequence[int] | Counts | None = None) -> None:
        self.counts: Counts = np.zeros(BUCKETS, np.int64)
        if counts is not None:
            if len(counts) != BUCKETS:
                raise ValueError(f"{len(counts)} counts for {BUCKETS} buckets")
            self.counts[:] = counts

    @property
    def total(self) -> int:
        """How many durations were counted."""
        return int(self.counts.sum())

    def record(self, ns: float, times: int = 1) -> None:
        """Count one duration in nanoseconds."""
        self.counts[bucket_of(ns)] += times

    def add(self, other: Histogram | Sequence[int] | Counts) -> Histogram:
        """Count all of another histogram here too; returns itself."""
        self.counts += other.counts if isinstance(other, Histogram) else Histogram(other).counts
        return self

    def since(self, earlier: Histogram) -> Histogram:
        """What was counted after an earlier copy of the same histogram."""
        return Histogram(np.maximum(self.counts - earlier.counts, 0))

    def quantile(self, q: float) -> float | None:
        """The duration in ms that a share q of all lies below, interpolated within its bucket; None when empty."""
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is between 0 and 1, not {q}")
        total = self.total
        if not total:
            return None
        cumulated = np.cumsum(self.counts)
        wanted = q * total
        bucket = int(np.searchsorted(cumulated, max(wanted, 1e-9)))
        within = (wanted - int(cumulated[bucket]) + int(self.counts[bucket])) / int(self.counts[bucket])
        low = upper_ms(bucket - 1) if bucket else 0.0
        return low + max(within, 0.0) * (upper_ms(bucket) - low)

    def distribution(self) -> Distribution:
        """For the results, in ms: the used buckets and an empty one before them, which tells the lowest edge."""
        used = np.flatnonzero(self.counts)
        if not used.size:
            return Distribution(unit="ms", bounds=[], counts=[])
        buckets = range(max(int(used[0]) - 1, 0), int(used[-1]) + 1)
        return Distribution(
            unit="ms",
            bounds=[float(f"{upper_ms(bucket):.6g}") for bucket in buckets],
            counts=[int(self.counts[bucket]) for bucket in buckets],
        )
