"""Reading of WHIP and WHEP offers: what a peer wants to send or to receive, in the engine's terms.

An offer that is no SDP, or lacks what WebRTC demands of every offer, is refused with 400; one that is well formed but
that this node can't serve with 422 (RFC 9725, section 4.2). A publisher is served whole or not at all, or its people
would talk to nobody without knowing (section 4.4.3); of a viewer's sections those that we can't fill are refused alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from mediacodecs.extensions import ABS_SEND_TIME, REPAIRED_RID, RID, TWCC, VIDEO_LAYERS_ALLOCATION, VIDEO_ORIENTATION
from mediacodecs.sdp import Candidate, Fingerprint, MediaDescription, Rid, SdpError, SessionDescription, parse_sdp
from mediaserver.signalling.codec_match import CODECS, Codec, describe_kind, prefer_widely_understood
from mediaserver.signalling.sections import (
    MAX_MID,
    NegotiationError,
    SectionReader,
    bundle_of,
    is_offered,
    name_section,
    refusal,
    share_attributes,
    tagged_section,
)

# No meaning to who gets one layer, and, until subscribers' bandwidth is estimated, bytes and feedback for nothing.
PUBLISHER_ONLY = frozenset({RID, REPAIRED_RID, VIDEO_LAYERS_ALLOCATION, TWCC, ABS_SEND_TIME})
UPRIGHT = frozenset({VIDEO_ORIENTATION})
"""Not agreed with who sends, who then turns the pictures itself: viewers without it would see them on their side."""
PROTOCOLS = frozenset(  # all mean DTLS-SRTP over ICE, in either case, and are echoed (RFC 9429, section 5.1.2)
    f"{over}RTP/{profile}" for over in ("", "TCP/DTLS/", "UDP/TLS/") for profile in ("SAVP", "SAVPF")
) | {"RTP/AVP", "RTP/AVPF"}
HASHES = ("sha-256", "sha-384", "sha-512")  # what we check certificates with, best known first
MAX_ENCODINGS = 4  # layers of simulcast from one media section
MAX_NAMED = 6  # codecs in a refusal
MAX_RID = 16  # bytes; what a one-byte header extension carries


@dataclass(frozen=True)
class Encoding:
    """One layer of a published track, told apart by rid, or by SSRC where packets bear none; both None: unsaid."""

    rid: str | None = None
    ssrc: int | None = None
    rtx_ssrc: int | None = None


@dataclass(frozen=True)
class Media:
    """A media section that we take: index among the offer's sections, extensions by id and codecs as negotiated."""

    mid: str
    kind: str
    index: int
    codecs: list[Codec]
    allow_mixed: bool

    @property
    def wire_mid(self) -> str:
        """The mid as packets may bear it, empty when it is too long for that."""
        return self.mid if len(self.mid) <= MAX_MID else ""


@dataclass(frozen=True)
class PublishedMedia(Media):
    """A track that a peer sends; extensions map the id in its packets to the kind in mediacodecs.extensions."""

    extensions: dict[int, int]
    encodings: list[Encoding]
    msid: str | None
    cname: str | None


@dataclass(frozen=True)
class SubscribedMedia(Media):
    """A track that a peer is ready to receive; extensions map a kind to the id that its packets must have."""

    extensions: dict[int, int]


@dataclass(frozen=True)
class Offer:
    """What both kinds of offer say about their one transport; candidates are (address, UDP port), literal ones only.

    reduced_size: the peer takes RTCP feedback alone, in no compound (RFC 5506), whatever section it is about.
    """

    description: SessionDescription
    ice_ufrag: str
    ice_pwd: str
    fingerprints: list[Fingerprint]
    setup: str
    candidates: list[tuple[str, int]]
    reduced_size: bool

    @property
    def local_setup(self) -> str:
        """Our DTLS role: server (passive), which chooses the SRTP profile, unless the peer insists on being it."""
        return "active" if self.setup == "passive" else "passive"


@dataclass(frozen=True)
class PublisherOffer(Offer):
    """A WHIP offer."""

    media: list[PublishedMedia] = field(default_factory=list)


@dataclass(frozen=True)
class SubscriberOffer(Offer):
    """A WHEP offer."""

    media: list[SubscribedMedia] = field(default_factory=list)


def read_publisher_offer(sdp: str) -> PublisherOffer:
    """Read a WHIP offer (RFC 9725); NegotiationError when not all of its media can be taken."""
    description = _parse(sdp)
    reader = SectionReader(description, useless="recvonly", unwanted=UPRIGHT)
    media = []
    for index, section in _flowing(description, "sendonly"):
        reason = _objection(section)
        common = reader.read(index, section)
        if reason or not common["codecs"]:
            raise refusal(422, description, f"{name_section(index, section)} {reason or _no_codec(section)}")
        common["codecs"] = prefer_widely_understood(common["codecs"])
        types = {codec.payload_type for codec in common["codecs"]}
        media.append(
            PublishedMedia(
                **common,
                encodings=_encodings(section, types, with_rid=RID in common["extensions"].values()),
                msid=_msid(section),
                cname=next((about.cname for about in section.ssrcs.values() if about.cname), None),
            )
        )
    if not media:
        raise refusal(422, description, "The offer has no sendonly audio or video over DTLS-SRTP to publish.")
    return PublisherOffer(**_transport(description, media), media=media)


def read_subscriber_offer(sdp: str) -> SubscriberOffer:
    """Read a WHEP offer; NegotiationError when nothing of it can be taken."""
    description = _parse(sdp)
    reader = SectionReader(description, useless="sendonly", unwanted=PUBLISHER_ONLY)
    flowing = [(index, section) for index, section in _flowing(description, "recvonly") if not _objection(section)]
    if not flowing:
        raise refusal(422, description, "The offer has no recvonly audio or video over DTLS-SRTP to watch.")
    media = []
    for index, section in flowing:
        common = reader.read(index, section)
        if common["codecs"]:
            ids = {kind: id for id, kind in common.pop("extensions").items()}
            media.append(SubscribedMedia(**common, extensions=ids))
    if not media:
        raise refusal(422, description, f"{name_section(*flowing[0])} {_no_codec(flowing[0][1])}")
    return SubscriberOffer(**_transport(description, media), media=media)


def _parse(sdp: str) -> SessionDescription:
    try:
        description = parse_sdp(sdp)
    except SdpError as error:
        raise NegotiationError(400, str(error)) from error
    if not description.media:
        raise NegotiationError(400, "The body is no offer: it has no media section (m= line).")
    mids = [section.mid for section in description.media if section.mid is not None and is_offered(section)]
    if len(mids) != len(set(mids)):
        raise NegotiationError(400, "Two media sections of the offer have the same a=mid.")
    if description.ice_lite:
        raise NegotiationError(422, "The offer is ICE-lite, as this node is: no side would send connectivity checks.")
    share_attributes(description)
    return description


def _flowing(description: SessionDescription, direction: str) -> Iterator[tuple[int, MediaDescription]]:
    """The sections with index whose media flow in the direction (seen from the peer); data channels are no media."""
    for index, section in enumerate(description.media):
        flows = (section.direction or description.direction or "sendrecv") in (direction, "sendrecv")
        if flows and section.kind != "application" and is_offered(section):
            yield index, section


def _objection(section: MediaDescription) -> str:
    """Why a section can't be taken, whatever its codecs: the end of a sentence, empty when it can."""
    if section.kind not in CODECS:
        return "can't be taken: the node takes audio and video."
    if section.proto.upper() not in PROTOCOLS:
        return f"can't be taken: {section.proto[:40]} is no profile for audio or video over DTLS-SRTP."
    return ""


def _no_codec(section: MediaDescription) -> str:
    """Why no codec of a section will do: the end of a sentence."""
    names = dict.fromkeys(rtpmap.name[:20] for rtpmap in section.rtpmap.values() if rtpmap.name.lower() != "rtx")
    found = ", ".join([*names][:MAX_NAMED]) or f"payload types {' '.join(section.formats[:MAX_NAMED])}"
    return f"has no codec in common with the node, which takes {describe_kind(section.kind)}: it offers {found}."


def _transport(description: SessionDescription, media: Sequence[Media]) -> dict[str, Any]:
    """The fields of Offer, from the section that stands for the bundle or from the session."""
    sections = [description.media[one.index] for one in media]
    _check_shared(description, sections)
    tagged = tagged_section(description) or sections[0]
    places = [tagged, description, *sections]  # the last, for who writes them everywhere but there
    ice = next((s for s in places if s.ice_ufrag and s.ice_pwd), None)
    if ice is None:
        raise refusal(400, description, "The offer has no ICE credentials (a=ice-ufrag and a=ice-pwd).")
    prints = next((s.fingerprints for s in places if s.fingerprints), [])
    usable = sorted((p for p in prints if p.algorithm in HASHES), key=lambda p: HASHES.index(p.algorithm))
    if not usable:
        names = ", ".join(HASHES)
        raise refusal(400, description, f"The offer has no certificate fingerprint of {names} (a=fingerprint).")
    setup = next((s.setup for s in places if s.setup), "actpass")
    if setup == "holdconn":
        raise NegotiationError(422, "The offer holds its connection back (a=setup:holdconn).")
    return {
        "description": description,
        "ice_ufrag": ice.ice_ufrag,
        "ice_pwd": ice.ice_pwd,
        "fingerprints": usable,
        "setup": setup,
        "candidates": literal_candidates([c for s in (tagged, description) for c in s.candidates]),
        "reduced_size": all(section.rtcp_rsize for section in sections),
    }


def _check_shared(description: SessionDescription, sections: list[MediaDescription]) -> None:
    """422 unless all media can share one transport, RTCP with them."""
    bundled = bundle_of(description)
    alone = [section for section in sections if len(sections) > 1 and section.mid not in bundled]
    if alone:
        name = name_section(description.media.index(alone[0]), alone[0])
        said = f"{name} is not in the bundle, and all media must share one transport (a=group:BUNDLE)."
        raise refusal(422, description, said)
    if not any(section.rtcp_mux or section.rtcp_mux_only for section in sections):
        raise refusal(422, description, "The offer must multiplex RTP and RTCP (a=rtcp-mux).")


def literal_candidates(candidates: list[Candidate]) -> list[tuple[str, int]]:
    """(address, port) of the UDP candidates for RTP, each once; host names (mDNS) are left out, never resolved."""
    found = ((c.ip, c.port) for c in candidates if c.transport == "udp" and c.component == 1 and c.port)
    return list(dict.fromkeys((ip, port) for ip, port in found if ip is not None))


def _encodings(section: MediaDescription, taken: Set[int], *, with_rid: bool) -> list[Encoding]:
    """The layers that the section announces, lowest first as offered; one without a name if it announces nothing.

    Beside rids the SSRCs are noted where there is one for each, for packets that bear no rid, such as retransmissions.
    """
    repairs = {g.ssrcs[0]: g.ssrcs[1] for g in section.ssrc_groups if g.semantics == "FID" and len(g.ssrcs) == 2}
    primaries = list(dict.fromkeys(_primaries(section)))
    rids = _sent_rids(section, taken) if with_rid else []
    if rids and len(primaries) != len(rids):
        return [Encoding(rid) for rid in rids]
    if rids:
        return [Encoding(rid, ssrc, repairs.get(ssrc)) for rid, ssrc in zip(rids, primaries, strict=True)]
    layers = primaries if any(g.semantics == "SIM" for g in section.ssrc_groups) else primaries[:1]
    named = [Encoding(ssrc=ssrc, rtx_ssrc=repairs.get(ssrc)) for ssrc in layers]
    return named[:MAX_ENCODINGS] or [Encoding()]


def _primaries(section: MediaDescription) -> Sequence[int]:
    """The SSRCs of media: those of old-style simulcast, else all that are not another's repair."""
    others = {ssrc for g in section.ssrc_groups if g.semantics in ("FID", "FEC-FR") for ssrc in g.ssrcs[1:]}
    layers = next((g.ssrcs for g in section.ssrc_groups if g.semantics == "SIM"), ())
    grouped = [g.ssrcs[0] for g in section.ssrc_groups if g.semantics == "FID"]
    return layers or [ssrc for ssrc in (section.ssrcs or grouped) if ssrc not in others]


def _sent_rids(section: MediaDescription, taken: Set[int]) -> list[str]:
    """The first usable alternative of each simulcast stream; without a=simulcast the one a=rid there may be.

    One whose payload types are none of those `taken` is not usable (RFC 8851, section 6.3).
    """
    sendable = (rid for rid in section.rids.values() if rid.direction == "send" and len(rid.id) <= MAX_RID)
    sent = dict.fromkeys(rid.id for rid in sendable if _suits(rid, taken))
    if section.simulcast is None:
        return list(sent)[:1]
    streams = ([rid.removeprefix("~") for rid in stream] for stream in section.simulcast.send)
    first = (next((rid for rid in stream if rid in sent), None) for stream in streams)
    return list(dict.fromkeys(rid for rid in first if rid is not None))[:MAX_ENCODINGS]


def _suits(rid: Rid, taken: Set[int]) -> bool:
    """Whether one of the payload types that a=rid restricts its stream to is taken; true where it does not restrict."""
    types = next((part[3:].split(",") for part in rid.restrictions.split(";") if part.startswith("pt=")), None)
    return types is None or any(str(number) in types for number in taken)


def _msid(section: MediaDescription) -> str | None:
    """`STREAM TRACK`, from a=msid or from the older a=ssrc form."""
    of_sources = (about.msid for about in section.ssrcs.values() if about.msid)
    return section.msids[0] if section.msids else next(of_sources, None)
