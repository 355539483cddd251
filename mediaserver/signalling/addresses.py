"""This machine's addresses: those in ICE candidates, and those under which a page may call the node its own."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator

import ifaddr

from config.schema import Config

WILDCARDS = {"0.0.0.0", "::"}
FRESH = 10.0  # seconds for which the interfaces' addresses are taken to be the same


def is_loopback(address: str | None) -> bool:
    """Whether an address is one of loopback."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def interfaces() -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of the host's interfaces."""
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            yield ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])


def candidates(config: Config) -> list[str]:
    """IP addresses, the best first: loopback last, IPv6 only when media listens on it."""
    if config.media.advertised:
        return [str(address) for address in config.media.advertised]
    if config.media.host not in WILDCARDS:
        return [config.media.host]
    found = [
        address
        for address in interfaces()
        if not address.is_link_local and (address.version == 4 or config.media.host == "::")
    ]
    found.sort(key=lambda address: (address.is_loopback, address.version, address))
    return [str(address) for address in found]


class OwnAddresses:
    """Whether an address is this host's: advertised to clients, or an interface's, looked up again as time goes by."""

    def __init__(self, config: Config) -> None:
        self._advertised = {ipaddress.ip_address(one) for one in config.media.advertised}
        self._found: set[ipaddress.IPv4Address | ipaddress.IPv6Address] = set()
        self._looked = -FRESH

    def __contains__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        now = time.monotonic()
        if now - self._looked >= FRESH:
            self._found, self._looked = set(interfaces()), now
        return address.is_loopback or address in self._advertised or address in self._found
