"""What a session description says, as plain data: the words of RFC 8866 and of the WebRTC attributes (RFC 8829).

Only what an SFU reads or writes is kept; `mediacodecs.sdp` turns text to these and back.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

EVERY_FORMAT = -1  # the `*` of `a=rtcp-fb:* nack`
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")


class SdpError(ValueError):
    """The text is no session description that we can read; the message is one sentence naming the offending line."""


@dataclass(frozen=True)
class Rtpmap:
    """`a=rtpmap` (RFC 8866, section 6.6): the encoding behind a payload type; clock_rate in Hz."""

    name: str
    clock_rate: int
    channels: int | None = None


@dataclass(frozen=True)
class Extmap:
    """`a=extmap` (RFC 8285, section 5); direction None means that none is written: both ways."""

    id: int
    uri: str
    direction: str | None = None


@dataclass(frozen=True)
class SsrcGroup:
    """`a=ssrc-group` (RFC 5576): FID joins a stream and its retransmissions, SIM the layers of old-style simulcast."""

    semantics: str
    ssrcs: tuple[int, ...]


@dataclass
class SsrcAttributes:
    """What `a=ssrc` lines say about one source."""

    cname: str | None = None
    msid: str | None = None


@dataclass(frozen=True)
class Rid:
    """`a=rid` (RFC 8851): one restriction identifier; direction is send or recv, restrictions are as written."""

    id: str
    direction: str
    restrictions: str = ""


@dataclass(frozen=True)
class Simulcast:
    """`a=simulcast` (RFC 8853): per stream its alternative rids in order of preference; a leading ~ means paused."""

    send: tuple[tuple[str, ...], ...] = ()
    recv: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """`a=candidate` (RFC 8839, section 5.1); address may be a name, such as a browser's mDNS name."""

    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    type: str
    tcptype: str | None = None

    @property
    def ip(self) -> str | None:
        """The address when it is a literal IPv4 or IPv6 one without scope, else None: names are never resolved."""
        try:
            return str(ipaddress.ip_address(self.address)) if "%" not in self.address else None
        except ValueError:
            return None


@dataclass(frozen=True)
class Fingerprint:
    """`a=fingerprint` (RFC 8122): hash name in lower case, value as upper-case hex pairs joined by colons."""

    algorithm: str
    value: str


@dataclass
class Section:
    """Attributes that may stand at session level or in a media section; the session's are defaults for the media."""

    ice_ufrag: str | None = None
    ice_pwd: str | None = None
    ice_options: tuple[str, ...] = ()
    fingerprints: list[Fingerprint] = field(default_factory=list)
    setup: str | None = None
    direction: str | None = None
    extmap_allow_mixed: bool = False
    extmap: list[Extmap] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    end_of_candidates: bool = False


@dataclass
class MediaDescription(Section):
    """One `m=` section; formats as written, which are payload types for RTP; address from its `c=` line."""

    kind: str = "audio"
    port: int = 9
    proto: str = "UDP/TLS/RTP/SAVPF"
    formats: list[str] = field(default_factory=list)
    address: str | None = None
    mid: str | None = None
    rtpmap: dict[int, Rtpmap] = field(default_factory=dict)
    fmtp: dict[int, str] = field(default_factory=dict)
    rtcp_fb: dict[int, list[str]] = field(default_factory=dict)
    ssrcs: dict[int, SsrcAttributes] = field(default_factory=dict)
    ssrc_groups: list[SsrcGroup] = field(default_factory=list)
    rids: dict[str, Rid] = field(default_factory=dict)
    simulcast: Simulcast | None = None
    rtcp_mux: bool = False
    rtcp_mux_only: bool = False
    rtcp_rsize: bool = False
    bundle_only: bool = False
    msids: list[str] = field(default_factory=list)

    def feedback(self, payload_type: int) -> list[str]:
        """The rtcp-fb values of a payload type, those for every format (`*`) included."""
        return self.rtcp_fb.get(payload_type, []) + self.rtcp_fb.get(EVERY_FORMAT, [])


@dataclass
class SessionDescription(Section):
    """A whole offer or answer; origin is the value of `o=`, name of `s=`.

    skipped: a sentence for each of the first lines that could not be read and were not needed; unread: their number.
    """

    origin: str = "- 1 1 IN IP4 127.0.0.1"
    name: str = "-"
    ice_lite: bool = False
    bundles: list[tuple[str, ...]] = field(default_factory=list)
    msid_semantic: str | None = None
    media: list[MediaDescription] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list, compare=False)
    unread: int = field(default=0, compare=False)


@dataclass
class IceFragment:
    """A body of application/trickle-ice-sdpfrag (RFC 8840): news of one bundled transport."""

    ufrag: str | None = None
    pwd: str | None = None
    candidates: list[Candidate] = field(default_factory=list)
    end_of_candidates: bool = False
    mid: str | None = None  # the first media section named; None where all stands at session level


def fmtp_parameters(text: str) -> dict[str, str]:
    """The `key=value;…` form of an fmtp value as a dict, keys in lower case; a bare word maps to an empty string."""
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {key.strip().lower(): value.strip() for key, _, value in pairs if key.strip()}
