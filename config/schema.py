"""The shape of a node's configuration: every key, its type, its bounds, its default and its meaning.

Models are strict (no quiet conversion) and closed (an unknown key is an error). What a single value must be is said
here; what several values must be together (ports, certificate pairs) is in checks.py. Descriptions go into the JSON
Schema that editors read, and the expected half of an error message is made from the same bounds.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

KIB = 1024
MIB = 1024 * KIB


def _expect(text: str) -> dict[str, Any]:
    return {"x-expected": text}


def _ip_address(value: str) -> str:
    ipaddress.ip_address(value)
    return value


def _reachable(value: str) -> str:
    address = ipaddress.ip_address(value)
    if address.is_unspecified or address.is_multicast or "%" in value:
        raise ValueError("not an address that a client can send to")
    return value


def _origin(value: str) -> str:
    if value != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", value):
        raise ValueError("not an origin")
    return value


def _host_name(value: str) -> str:
    if not re.fullmatch(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", value):
        raise ValueError("not a host name")
    return value


def _network(value: str) -> str:
    ipaddress.ip_network(value)
    return value


def _base_path(value: str) -> str:
    if not re.fullmatch(r"((/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+)?", value):
        raise ValueError("not a path")
    return value


def _header_text(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError("not printable ASCII")
    return value


def _ice_url(value: str) -> str:
    if not re.fullmatch(r"(stuns?|turns?):[!#-.0-;=?-\[\]-~]+", value):
        raise ValueError("not a STUN or TURN URL")
    return value


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError("not a power of two")
    return value


Address = Annotated[
    str, AfterValidator(_ip_address), Field(json_schema_extra=_expect("an IPv4 or IPv6 address to listen on"))
]
PublicAddress = Annotated[
    str, AfterValidator(_reachable), Field(json_schema_extra=_expect("an IPv4 or IPv6 address that clients can reach"))
]
Origin = Annotated[
    str,
    AfterValidator(_origin),
    Field(json_schema_extra=_expect('"*" or an origin such as https://example.org, without a path')),
]
HostName = Annotated[
    str,
    AfterValidator(_host_name),
    Field(json_schema_extra=_expect("a host name in small letters such as meet.example.org, without a port")),
]
Network = Annotated[
    str,
    AfterValidator(_network),
    Field(json_schema_extra=_expect("an address or a network such as 10.0.0.0/8, without host bits")),
]
BasePath = Annotated[
    str,
    AfterValidator(_base_path),
    Field(
        max_length=200,
        json_schema_extra=_expect(
            '"" or a path such as /media: letters, digits, ".", "_", "~" and "-", no slash at its end'
        ),
    ),
]
HeaderText = Annotated[
    str, AfterValidator(_header_text), Field(json_schema_extra=_expect("text of printable ASCII characters"))
]
IceUrl = Annotated[
    str,
    AfterValidator(_ice_url),
    Field(json_schema_extra=_expect("a URL such as stun:host:3478 or turns:host:443?transport=tcp")),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Slots = Annotated[
    int,
    AfterValidator(_power_of_two),
    Field(ge=64, le=65536, json_schema_extra=_expect("a power of two from 64 to 65536")),
]
LogBytes = Annotated[int, Field(ge=64 * KIB, le=1024 * MIB, multiple_of=4096)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class Section(BaseModel):
    """What all parts of the configuration share: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Node(Section):
    """Who this node is."""

    name: str = Field(
        default="weir",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="Name of the node in logs and metrics.",
        json_schema_extra=_expect("1 to 63 letters, digits, dots, dashes or underscores"),
    )


class Http(Section):
    """Where WHIP, WHEP, the page, health probes and metrics are served."""

    host: Address = Field(default="0.0.0.0", description="Address to listen on (TCP).")
    port: Port = Field(default=7880, description="TCP port to listen on.")
    certificate: str | None = Field(
        default=None,
        description="PEM file with the certificate chain: HTTPS instead of HTTP. A relative path starts at this file.",
    )
    private_key: str | None = Field(default=None, description="PEM file with the certificate's private key.")
    cors_origins: list[Origin] = Field(
        default=["*"], description='Origins of web pages that may call the API with a token; "*" stands for all.'
    )
    names: list[HostName] = Field(
        default=[], max_length=64, description="Host names of this node, for clients and pages that have no token."
    )
    trusted_proxies: list[Network] = Field(
        default=[], max_length=64, description="Addresses of proxies whose word about their clients counts."
    )
    base_path: BasePath = Field(default="", description="Path below which a proxy shows the node.")
    max_body: int = Field(
        default=256 * KIB, ge=4 * KIB, le=16 * MIB, description="Largest accepted request body, in bytes."
    )
    header_timeout: Seconds = Field(
        default=10.0, description="Seconds within which a connection agrees on TLS, and then sends a request's headers."
    )
    body_timeout: Seconds = Field(default=10.0, description="Seconds that a request's body may take.")
    idle_timeout: Seconds = Field(default=75.0, description="Seconds that a connection may be idle after a request.")
    write_timeout: Seconds = Field(default=30.0, description="Seconds that an answer may wait for its reader.")
    connections: int = Field(default=4096, ge=16, le=1 << 20, description="Connections at once.")
    connections_per_source: int = Field(
        default=512, ge=1, le=1 << 20, description="Connections at once from one source address."
    )


class Media(Section):
    """Where media flows: UDP sockets, workers, and how they send."""

    host: Address = Field(
        default="0.0.0.0", description='Address to listen on (UDP); "::" takes IPv6 and IPv4, one socket for both.'
    )
    port: Port = Field(default=7882, description="UDP port of the first worker; worker i listens on port + i.")
    advertised: list[PublicAddress] = Field(
        default=[],
        max_length=16,
        description="IP addresses offered to clients (behind NAT: the public one); empty: the host's own addresses.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Engine threads, each with a UDP port of its own.")
    cpus: list[Annotated[int, Field(ge=0, le=4095)]] = Field(
        default=[], description="CPU number for each worker to be pinned to, one per worker; empty: not pinned."
    )
    placement: Literal["pack", "spread"] = Field(
        default="pack",
        description="pack: a room stays on one worker while it fits; spread: its viewers go to all workers.",
    )
    gso: bool = Field(default=True, description="Send trains of packets by UDP segmentation offload where possible.")
    receive_buffer: int = Field(
        default=8 * MIB, ge=64 * KIB, le=1024 * MIB, description="Socket receive buffer per worker, in bytes."
    )
    send_buffer: int = Field(
        default=8 * MIB, ge=64 * KIB, le=1024 * MIB, description="Socket send buffer per worker, in bytes."
    )
    linger_us: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Microseconds that a worker waits after a wake-up to gather more packets: less CPU, more latency.",
    )


class Limits(Section):
    """Bounds that size the node's memory. A join that would pass one is refused; nothing else suffers."""

    transports: int = Field(default=1024, ge=1, le=65536, description="Connected peers, per worker.")
    publishers: int = Field(default=128, ge=1, le=65536, description="Peers that publish, per worker.")
    layers: int = Field(default=512, ge=1, le=16384, description="Published layers (SSRCs with a log), per worker.")
    subscriptions: int = Field(default=4096, ge=1, le=65535, description="Tracks forwarded to a peer, per worker.")
    ssrcs_per_publisher: int = Field(
        default=24, ge=1, le=32, description="SSRCs that one publisher may send, retransmissions included."
    )
    uplink_packets_per_second: int = Field(
        default=5000, ge=100, le=10_000_000, description="Packets per second from one peer; a second's worth at once."
    )
    uplink_bits_per_second: int = Field(
        default=50_000_000,
        ge=100_000,
        le=100_000_000_000,
        description="Bits per second from one peer; a second's worth at once.",
    )
    rooms: int = Field(default=1000, ge=1, le=1 << 20, description="Open rooms, per node.")
    participants_per_room: int = Field(default=1000, ge=1, le=1 << 20, description="Participants of one room.")
    handshakes: int = Field(default=256, ge=1, le=65536, description="Unfinished handshakes at once, per node.")
    handshakes_per_source: int = Field(
        default=64,
        ge=1,
        le=65536,
        description="Unfinished handshakes at once from one source address; those with many tracks count as several.",
    )
    join_timeout: Seconds = Field(
        default=30.0, description="Seconds from the answer to the peer's first connectivity check."
    )
    handshake_timeout: Seconds = Field(default=10.0, description="Seconds from that check to the keys.")
    tracks_per_participant: int = Field(default=8, ge=1, le=64, description="Tracks that one participant publishes.")
    layers_per_participant: int = Field(
        default=12, ge=1, le=256, description="Layers of all tracks that one participant publishes."
    )
    subscriptions_per_participant: int = Field(
        default=32, ge=1, le=256, description="Tracks forwarded to one participant."
    )
    sessions_per_identity: int = Field(
        default=2,
        ge=2,
        le=64,
        description="Sessions that publish, or are about to, of one identity; an unfinished one makes way for a newer.",
    )
    viewers_per_source: int = Field(
        default=256, ge=1, le=1 << 20, description="Viewers from one source address; four tracks count as one."
    )
    ice_timeout: float = Field(
        default=20.0,
        ge=1,
        le=30,
        description="Seconds without an authenticated check, SRTP or SRTCP after which a peer counts as gone.",
    )
    joins_per_second: float = Field(
        default=5.0, gt=0, le=100_000, description="Joins per second from one source address, in the long run."
    )
    joins_burst: int = Field(default=20, ge=1, le=100_000, description="Joins at once from one source address.")
    unlimited_loopback_joins: bool = Field(
        default=False, description="Whether loopback addresses are free of the limits per source."
    )
    requests_per_second: float = Field(
        default=100.0, gt=0, le=100_000, description="HTTP requests per second from one source, in the long run."
    )
    requests_burst: int = Field(
        default=1000, ge=1, le=1_000_000, description="HTTP requests at once from one source; beyond: 429."
    )
    refusals_per_second: float = Field(
        default=5.0, gt=0, le=100_000, description="Refused requests per second from one source, in the long run."
    )
    refusals_burst: int = Field(
        default=50, ge=1, le=100_000, description="Refused requests at once from one source; beyond: 429."
    )


class LogSize(Section):
    """How many packet logs of one kind a worker has, and how much each remembers."""

    count: int = Field(default=128, ge=1, le=65536, description="Logs, per worker.")
    packets: Slots = Field(default=2048, description="Packets that a log remembers: a power of two.")
    bytes: LogBytes = Field(default=2 * MIB, description="Bytes that a log remembers: a multiple of 4096.")


class AudioLogSize(LogSize):
    """The same for audio, which is smaller."""

    packets: Slots = Field(default=512, description="Packets that a log remembers: a power of two.")
    bytes: LogBytes = Field(default=128 * KIB, description="Bytes that a log remembers: a multiple of 4096.")


class Logs(Section):
    """Sizes of the packet logs. Memory per worker is the sum of count x bytes over both kinds."""

    video: LogSize = Field(default=LogSize(), description="Logs of video layers.")
    audio: AudioLogSize = Field(default=AudioLogSize(), description="Logs of audio tracks.")


class LateJoin(Section):
    """How a reader that starts in the past or late gets its pictures from the log."""

    keyframe_age: Milliseconds = Field(
        default=2000, description="Milliseconds up to which a keyframe in the log is fresh enough to start from."
    )
    burst: int = Field(
        default=512 * KIB,
        ge=0,
        le=64 * MIB,
        description="Most bytes from the log at a start; more: ask for a keyframe.",
    )
    rate: int = Field(
        default=20_000_000, ge=100_000, le=10_000_000_000, description="Pace of that burst, in bits per second."
    )
    lag_max: Milliseconds = Field(default=5000, description="Largest lag that a viewer may ask for, in milliseconds.")
    keyframe_request_interval: int = Field(
        default=500, ge=50, le=60_000, description="Least milliseconds between two keyframe requests for one layer."
    )


class Auth(Section):
    """Who may join."""

    required: bool = Field(default=True, description="Whether a join needs a token.")
    loopback_without_token: bool = Field(
        default=False, description="Whether clients on loopback addresses may join without a token."
    )
    keys: dict[Annotated[str, Field(min_length=1, max_length=256)], Annotated[str, Field(min_length=1)]] = Field(
        default={}, repr=False, description="API keys and their secrets (at least 32 characters) that sign tokens."
    )


class IceServer(Section):
    """A STUN or TURN server that clients are told of."""

    urls: list[IceUrl] = Field(min_length=1, description="URLs of the server.")
    username: HeaderText | None = Field(default=None, description="User name for TURN.")
    credential: HeaderText | None = Field(default=None, repr=False, description="Password for TURN.")
    secret: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, repr=False, description="Secret that the TURN server shares: names and passwords that run out."
    )
    ttl: int = Field(
        default=86_400, ge=60, le=30 * 86_400, description="Seconds for which a name made from the secret is good."
    )


class Log(Section):
    """What the node writes to standard output."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level written.")
    format: Literal["json", "console"] = Field(
        default="json", description="json: one object per line; console: coloured lines for people."
    )


class Metrics(Section):
    """Prometheus metrics."""

    enabled: bool = Field(default=True, description="Whether GET /metrics on the HTTP port answers.")


class Config(Section):
    """The configuration of one Weir node."""

    node: Node = Field(default=Node(), description="Who this node is.")
    http: Http = Field(default=Http(), description="HTTP: WHIP, WHEP, the page, probes, metrics.")
    media: Media = Field(default=Media(), description="UDP sockets and workers.")
    limits: Limits = Field(default=Limits(), description="Bounds that size the node's memory.")
    logs: Logs = Field(default=Logs(), description="Sizes of the packet logs.")
    late_join: LateJoin = Field(default=LateJoin(), description="How a late joiner gets its first picture.")
    auth: Auth = Field(default=Auth(), description="Who may join.")
    ice_servers: list[IceServer] = Field(default=[], max_length=16, description="STUN and TURN servers for clients.")
    log: Log = Field(default=Log(), description="What the node writes to standard output.")
    metrics: Metrics = Field(default=Metrics(), description="Prometheus metrics.")
    shutdown_grace: Annotated[float, Field(ge=0, le=60)] = Field(
        default=5.0, description="Seconds that closing the sessions may take after SIGTERM."
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
