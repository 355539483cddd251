"""Which web pages a node without a token takes at their word: its own, opened under a name that is this machine's.

A browser on this machine, or behind its firewall, runs pages of strangers too. Two things tell them apart. `Origin`
(RFC 6454), and `Sec-Fetch-Site` where the browser sends it, name the page that asks. `Host` names what the page took
us for: a stranger's name that was made to point here (DNS rebinding) is its own origin, but not our name. Whoever
brings a token needs none of this: a stranger's page has no token to send, and no cookie is ever asked for. So "*" in
`http.cors_origins` says who may read answers, and never who may go without a token.
"""

from __future__ import annotations

import ipaddress
import re

from config.schema import Config
from mediaserver.signalling.addresses import OwnAddresses
from mediaserver.signalling.proxies import Client, Headers

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")  # RFC 9110 section 7.2
ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>.+)")
PORTS = {"http": 80, "https": 443}
OWN_SITES = {"same-origin", "none"}  # of Sec-Fetch-Site: asked by our page, or by the user
SHOWN = 100  # characters of what a client sent, in a sentence back to it


def host_and_port(text: str, scheme: str) -> tuple[str, int] | None:
    """A Host header or an origin's authority in one spelling; None when it is none."""
    match = HOST.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        return None
    name = match["name"].lower().removesuffix(".")
    if name.startswith("["):
        try:
            name = f"[{ipaddress.IPv6Address(name[1:-1]).compressed}]"
        except ValueError:
            return None
    return name, int(match["port"] or PORTS[scheme])


class Origins:
    """The names of this node, and the pages that are its own."""

    def __init__(self, config: Config) -> None:
        self._names = {name.lower().removesuffix(".") for name in config.http.names}
        self._pages = {origin for origin in config.http.cors_origins if origin != "*"}
        self._addresses = OwnAddresses(config)

    def is_own_name(self, host: str) -> bool:
        """Whether a Host header is a loopback name, an address of this host, or one of http.names."""
        found = host_and_port(host, "http")
        if found is None:
            return False
        name = found[0]
        if name in self._names or name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
            return True
        try:
            ip = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return (getattr(ip, "ipv4_mapped", None) or ip) in self._addresses

    def is_own_page(self, origin: str, client: Client) -> bool:
        """Whether a page has the scheme, name and port under which it asks, or is one that the configuration names."""
        if origin in self._pages:
            return True
        match = ORIGIN.fullmatch(origin)
        if match is None or match["scheme"] != client.scheme:
            return False
        page = host_and_port(match["host"], client.scheme)
        return page is not None and page == host_and_port(client.host, client.scheme)

    def objection(self, client: Client, headers: Headers) -> str | None:
        """A sentence that says why this request can't go without a token; None when it can."""
        asked = [client.host, *headers.getall("Host", [])]  # a page can write what a proxy says, but never Host
        if strange := [host for host in asked if not self.is_own_name(host)]:
            shown = strange[0][:SHOWN] or "nothing"
            return f"Without a token this node answers to its own names only (http.names), and {shown!a} is none."
        pages, sites = headers.getall("Origin", []), headers.getall("Sec-Fetch-Site", [])
        foreign = [one for one in pages if not self.is_own_page(one, client)]
        if foreign or len(pages) > 1:
            hint = "" if client.direct else " A proxy in front must pass the Host with its port (nginx: $http_host)."
            return f"Without a token this node takes requests of its own page only, not of {pages[0][:SHOWN]!a}.{hint}"
        if not pages and any(site not in OWN_SITES for site in sites):
            return "Without a token this node takes requests of its own page only, and another site sent this one."
        return None
