"""What several values must be together: ports that do not clash, both halves of a certificate, keys where needed.

Each check takes a configuration whose single values are sound and yields faults.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath

from config.errors import Fault, Path, dotted
from config.schema import Config

__all__ = ["Fault", "Listener", "all_faults", "faults_here", "listeners", "machine_faults", "port_faults"]

SECRET_LENGTH = 32
"""Characters: HS256 signs with SHA-256, whose keys should be no shorter than its 32 bytes (RFC 7518, 3.2)."""
PUBLISHED = frozenset({"for-development-only-not-a-secret"})
"""Secrets that everybody can read in the files that come with Weir (dev.yaml)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A range of ports that the node opens, the key that says so, and the other keys that shape it."""

    path: Path
    keys: tuple[Path, ...]
    protocol: str
    host: str
    first: int
    last: int

    def clashes(self, other: Listener) -> bool:
        """Whether both want one port: same protocol, overlapping ranges and addresses."""
        overlap = self.first <= other.last and other.first <= self.last
        return overlap and self.protocol == other.protocol and _same_address(self.host, other.host)


def _same_address(a: str, b: str) -> bool:
    if a == b or "::" in (a, b):
        return True
    one, two = ipaddress.ip_address(a), ipaddress.ip_address(b)
    return one.version == two.version and (one.is_unspecified or two.is_unspecified)


def listeners(config: Config) -> list[Listener]:
    """Every range of ports that the node listens on."""
    http, media = config.http, config.media
    media_keys = (("media", "port"), ("media", "host"), ("media", "workers"))
    return [
        Listener(("http", "port"), (("http", "port"), ("http", "host")), "TCP", http.host, http.port, http.port),
        Listener(("media", "port"), media_keys, "UDP", media.host, media.port, media.port + media.workers - 1),
    ]


def port_faults(ranges: list[Listener]) -> Iterator[Fault]:
    """Ranges that pass the last port, and pairs that want the same port."""
    for one in ranges:
        if one.last > 65535:
            found = f"{one.protocol} ports {one.first} to {one.last}"
            most = 65535 - (one.last - one.first)
            yield Fault(one.path, found, f"no port above 65535: at most {most} here", one.keys)
    for one, two in itertools.combinations(ranges, 2):
        if one.clashes(two):
            found = f"{one.protocol} ports {two.first} to {two.last}"
            wanted = f"none of {one.first} to {one.last}, which {dotted(one.path)} takes"
            yield Fault(two.path, found, wanted, one.keys + two.keys)


def certificate_faults(config: Config) -> Iterator[Fault]:
    """A pair that is half there, missing on disk, or does not fit together."""
    http = config.http
    files = {"certificate": http.certificate, "private_key": http.private_key}
    for name, other in (("certificate", "private_key"), ("private_key", "certificate")):
        if files[name] is None and files[other] is not None:
            wanted = f"a PEM file, because http.{other} is set (both or none)"
            yield Fault(("http", name), "nothing", wanted)
    unreadable = list(_unreadable(files))
    yield from unreadable
    if http.certificate and http.private_key and not unreadable:
        yield from _pair_faults(http.certificate, http.private_key)


def _unreadable(files: dict[str, str | None]) -> Iterator[Fault]:
    for name, file in files.items():
        try:
            if file is not None:
                FilePath(file).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            yield Fault(("http", name), f'"{file}" ({reason.lower()})', "a readable PEM file")


def _pair_faults(certificate: str, private_key: str) -> Iterator[Fault]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        wanted = "a PEM certificate that http.private_key fits"
        yield Fault(("http", "certificate"), f'"{certificate}" ({reason})', wanted, (("http", "private_key"),))


def media_faults(config: Config) -> Iterator[Fault]:
    """Pinning that does not match the workers, addresses of a family that is not listened on."""
    media = config.media
    if media.cpus and len(media.cpus) != media.workers:
        wanted = f"one CPU for each worker (media.workers is {media.workers}), or none"
        yield Fault(("media", "cpus"), f"a list of {len(media.cpus)}", wanted, (("media", "workers"),))
    if len(set(media.cpus)) != len(media.cpus):
        yield Fault(("media", "cpus"), f"{media.cpus}", "a different CPU for each worker")
    family = ipaddress.ip_address(media.host).version
    for index, address in enumerate(media.advertised):
        if media.host != "::" and ipaddress.ip_address(address).version != family:
            wanted = f'an IPv{family} address like media.host, or "::" there'
            yield Fault(("media", "advertised", index), f'"{address}"', wanted, (("media", "host"),))


def machine_faults(config: Config) -> Iterator[Fault]:
    """What this machine lacks: CPUs that it hasn't, or that the process may not use. Asked where a node starts."""
    usable = os.sched_getaffinity(0)
    for index, cpu in enumerate(config.media.cpus):
        if cpu not in usable:
            yield Fault(("media", "cpus", index), f"{cpu}", f"a CPU that the node may use here: {_ranges(usable)}")


def _ranges(numbers: set[int]) -> str:
    """Numbers as people write them: 0-3, 8."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else f"{run[0][1]}" for run in runs)


def limit_faults(config: Config) -> Iterator[Fault]:
    """Limits that contradict each other."""
    limits = config.limits
    if limits.publishers > limits.transports:
        wanted = f"at most limits.transports, {limits.transports}"
        yield Fault(("limits", "publishers"), str(limits.publishers), wanted, (("limits", "transports"),))


def auth_faults(config: Config) -> Iterator[Fault]:
    """No way in, or secrets that can be guessed. Messages never hold a secret."""
    auth = config.auth
    if auth.required and not auth.keys and not auth.loopback_without_token:
        wanted = "at least one key with its secret, because auth.required is true"
        yield Fault(("auth", "keys"), "no key", wanted, (("auth", "required"), ("auth", "loopback_without_token")))
    if ipaddress.ip_address(config.http.host).is_loopback:
        return
    for key, secret in auth.keys.items():
        if secret in PUBLISHED:
            found, wanted = "the published secret of dev.yaml", "one of your own, because http.host is beyond loopback"
            yield Fault(("auth", "keys", key), found, wanted, (("http", "host"),))
        elif len(secret) < SECRET_LENGTH:
            found, wanted = f"a secret of {len(secret)} characters", f"at least {SECRET_LENGTH}"
            yield Fault(("auth", "keys", key), found, wanted, (("http", "host"),))


def ice_faults(config: Config) -> Iterator[Fault]:
    """TURN servers need name and password, or the secret that they are made from; never both."""
    for index, server in enumerate(config.ice_servers):
        turn = any(url.startswith("turn") for url in server.urls)
        for name in ("username", "credential"):
            if server.secret is not None and getattr(server, name) is not None:
                yield Fault(("ice_servers", index, name), "text beside a secret", "one of the two: secret makes it")
            elif turn and server.secret is None and not getattr(server, name):
                yield Fault(("ice_servers", index, name), "nothing", "text, because a turn: URL needs it")


def faults_here(config: Config) -> Iterator[Fault]:
    """Every fault, those of this machine too."""
    yield from all_faults(config)
    yield from machine_faults(config)


def all_faults(config: Config) -> Iterator[Fault]:
    """Every fault that only shows when values are seen together, on whatever machine."""
    yield from port_faults(listeners(config))
    for check in (certificate_faults, media_faults, limit_faults, auth_faults, ice_faults):
        yield from check(config)
