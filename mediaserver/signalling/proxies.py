"""Whom a request comes from, when proxies stand between.

What a proxy says of the client (X-Forwarded-For, Forwarded, X-Real-IP, X-Forwarded-Proto, -Host, -Prefix) counts from
the addresses in `http.trusted_proxies` alone: anybody else may write what they like. Sources that contradict each
other count for nothing, and a request that any proxy speaks for is never this machine's own. Pure: headers in, a
`Client` out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

SPOKEN = ("forwarded", "via", "x-real-ip")  # with all that begins with x-forwarded-: signs of a proxy
PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")  # a path's segments; none is "." or "..", none empty
PREFIX_MAX = 200  # characters
HOPS = 32  # proxies in a row that are looked behind
FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]+)', re.IGNORECASE)  # RFC 7239 section 4

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Headers(Protocol):
    """A request's headers: names in any case, some of them there more than once."""

    def getall(self, key: str, default: list[str], /) -> list[str]: ...  # noqa: D102

    def __iter__(self) -> Iterator[str]: ...


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks, as far as it can be known. `host` is what the client called us, "" when that is not clear."""

    address: str
    scheme: str
    host: str
    prefix: str
    direct: bool
    """No proxy spoke for it."""


def plain_address(text: str) -> Address | None:
    """The address in a peer name or a forwarded element: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, "[2001:db8::1]:80"."""
    text = text.strip().strip('"').partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def is_prefix(text: str) -> bool:
    """Whether a path may stand before ours: /media, /a/b; no trailing slash, nothing that another reader may undo."""
    return len(text) <= PREFIX_MAX and PREFIX.fullmatch(text) is not None


def elements(headers: Headers, name: str) -> list[str]:
    """The members of a header that is a list, in order."""
    return [one.strip() for line in headers.getall(name, []) for one in line.split(",")]


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Iterable[str], base_path: str = "") -> None:
        self.networks = [ipaddress.ip_network(one, strict=False) for one in trusted]
        self.base_path = base_path

    def trusts(self, address: Address | str) -> bool:
        """Whether this is a proxy of ours."""
        ip = plain_address(address) if isinstance(address, str) else address
        return ip is not None and any(ip.version == net.version and ip in net for net in self.networks)

    def client(self, peer: str, scheme: str, headers: Headers) -> Client:
        """Who is behind a connection from `peer`."""
        spoken = any(name.lower() in SPOKEN or name.lower().startswith("x-forwarded-") for name in headers)
        hosts = headers.getall("Host", [])
        host = hosts[0].strip() if len(hosts) == 1 else ""
        if not (spoken and self.trusts(peer)):
            return Client(peer, scheme, host, self.base_path, not spoken)
        schemes, others = elements(headers, "X-Forwarded-Proto"), elements(headers, "X-Forwarded-Host")
        if schemes and schemes[-1].lower() in ("http", "https"):
            scheme = schemes[-1].lower()
        return Client(
            self._address(peer, headers), scheme, others[-1] if others else host, self._prefix(headers), False
        )

    def _address(self, peer: str, headers: Headers) -> str:
        """Where the nearest untrusted hop is; the proxy itself when its headers say different things or nothing."""
        chains = (
            elements(headers, "X-Forwarded-For"),
            [m[1] if (m := FOR.search(one)) else "" for one in elements(headers, "Forwarded")],
            headers.getall("X-Real-IP", []),
        )
        found = {address for chain in chains if (address := self._nearest(chain)) is not None}
        return found.pop() if len(found) == 1 else peer

    def _nearest(self, chain: list[str]) -> str | None:
        for one in reversed(chain[-HOPS:]):
            ip = plain_address(one)
            if ip is None:
                return None
            if not self.trusts(ip):
                return str(ip)
        return None

    def _prefix(self, headers: Headers) -> str:
        given = headers.getall("X-Forwarded-Prefix", [])
        text = given[0].strip(" \t").rstrip("/") if len(given) == 1 else ""
        return text if is_prefix(text) else self.base_path
