"""Where a load test may send: to loopback only, unless its user allowed more. One rule for HTTP and for media.

A load test is an attack on whoever did not ask for it, and a server's answer can name any address as a candidate.
"""

from __future__ import annotations

import ipaddress
import socket

ALLOW = "--allow-remote"  # the option that allows more, as messages name it
LOOPBACK = "127.0.0.1"


def may_send(address: str, allow_remote: bool) -> bool:
    """Whether a literal IP address may be sent to. Names, multicast, broadcast and the unspecified address never."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return True
    barred = ip.is_multicast or ip.is_unspecified or address == "255.255.255.255"
    return allow_remote and not barred


def why_not(address: str, allow_remote: bool) -> str:
    """The end of a sentence about an address that may not be sent to."""
    return f"{address} is not an address that one host has" if allow_remote else f"{address} is not loopback ({ALLOW})"


def host_towards(address: str) -> str:
    """Our own address that packets to this literal one leave from: where to bind. OSError when there is no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        return str(probe.getsockname()[0])
