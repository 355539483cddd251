"""A token bucket for each source address, so that one source can't keep the node busy with joins or refusals."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

MAX_SOURCES = 10_000  # sources remembered; the one unseen for longest makes room


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))


class RateLimit:
    """`burst` at once from a source, and `rate` a second after that. A rate of 0 means no limit."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, source: str, now: float, cost: float = 1.0) -> float:
        """Count one from a source, or what costs as much as so many. 0: granted; else the seconds to wait."""
        source, wait = source_of(source), self.wait(source, now)
        if self.rate > 0:
            left = self._left(source, now)
            self._sources[source] = (left if wait else left - cost, now)
            self._sources.move_to_end(source)
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        return wait

    def wait(self, source: str, now: float) -> float:
        """The seconds until one would be granted to a source; 0 when it would be now. Counts nothing."""
        left = self._left(source_of(source), now)
        return 0.0 if self.rate <= 0 or left >= 1.0 else (1.0 - left) / self.rate

    def _left(self, source: str, now: float) -> float:
        left, at = self._sources.get(source, (float(self.burst), now))
        return min(left + (now - at) * self.rate, float(self.burst))
