"""The addresses that go into ICE candidates: those that the configuration advertises, else the host's own."""

from __future__ import annotations

import ipaddress

import ifaddr

from config.schema import Config

WILDCARDS = {"0.0.0.0", "::"}


def candidates(config: Config) -> list[str]:
    """IP addresses, the best first: loopback last, IPv6 only when media listens on it."""
    if config.media.advertised:
        return [str(address) for address in config.media.advertised]
    if config.media.host not in WILDCARDS:
        return [config.media.host]
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            address = ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
            if not address.is_link_local and (address.version == 4 or config.media.host == "::"):
                found.append(address)
    found.sort(key=lambda address: (address.is_loopback, address.version, address))
    return [str(address) for address in found]
