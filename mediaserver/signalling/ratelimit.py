"""A token bucket for each source address, so that one source can't keep the node busy with joins."""

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
    """`burst` joins at once from a source, and `rate` a second after that. A rate of 0 means no limit."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._sources: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Count one join from an address. 0: granted; else the seconds to wait."""
        if self.rate <= 0:
            return 0.0
        source = source_of(address)
        left, at = self._sources.pop(source, (float(self.burst), now))
        left = min(left + (now - at) * self.rate, float(self.burst))
        granted = left >= 1.0
        self._sources[source] = (left - 1.0 if granted else left, now)
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return 0.0 if granted else (1.0 - left) / self.rate
