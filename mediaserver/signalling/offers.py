"""Reading of WHIP and WHEP offers: what a peer wants to send or to receive, in the engine's terms.

An offer that is no SDP, or lacks what WebRTC demands of every offer, is refused with 400; one that is well formed but
that this node can't serve with 422 (RFC 9725, section 4.2). Media sections that we do not take are refused one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mediacodecs.extensions import ABS_SEND_TIME, REPAIRED_RID, RID, TWCC, URIS, VIDEO_LAYERS_ALLOCATION
from mediacodecs.sdp import Candidate, Fingerprint, MediaDescription, SdpError, SessionDescription, parse_sdp
from mediaserver.signalling.codec_match import CODECS, Codec, prefer_packetization_mode_1, read_codecs

# No meaning to who gets one layer, and, until subscribers' bandwidth is estimated, bytes and feedback for nothing.
PUBLISHER_ONLY = frozenset({RID, REPAIRED_RID, VIDEO_LAYERS_ALLOCATION, TWCC, ABS_SEND_TIME})
PROTOCOLS = frozenset({"UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP"})
HASHES = ("sha-256", "sha-384", "sha-512")  # what we check certificates with, best known first
MAX_ENCODINGS = 4  # layers of simulcast from one media section
MAX_RID = MAX_MID = 16  # bytes; what a one-byte header extension carries
ONE_BYTE_IDS, TWO_BYTE_IDS = range(1, 15), range(1, 256)  # RFC 8285, sections 4.2 and 4.3


class NegotiationError(Exception):
    """An offer that can't be answered; status is the HTTP status for it, 400 or 422, and the message a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Encoding:
    """One layer of a published track, told apart by rid or, in offers without rids, by SSRC; both None: unsaid."""

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
    """What both kinds of offer say about their one transport; candidates are (address, UDP port), literal ones only."""

    description: SessionDescription
    ice_ufrag: str
    ice_pwd: str
    fingerprints: list[Fingerprint]
    setup: str
    candidates: list[tuple[str, int]]

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
    """Read a WHIP offer (RFC 9725); NegotiationError when nothing of it can be taken."""
    description = _parse(sdp)
    ids: dict[int, str] = {}
    media = []
    for index, section in _wanted(description, "sendonly"):
        extensions = _extensions(description, section, ids, refused="recvonly", unwanted=frozenset())
        codecs = read_codecs(section, twcc=TWCC in extensions.values())
        if codecs:
            media.append(
                PublishedMedia(
                    mid=_mid(section, index),
                    kind=section.kind,
                    index=index,
                    codecs=prefer_packetization_mode_1(codecs),
                    allow_mixed=_allow_mixed(description, section),
                    extensions=extensions,
                    encodings=_encodings(section, with_rid=RID in extensions.values()),
                    msid=_msid(section),
                    cname=next((about.cname for about in section.ssrcs.values() if about.cname), None),
                )
            )
    _check_media(description, media, "publish", "sendonly")
    return PublisherOffer(**_transport(description, media), media=media)


def read_subscriber_offer(sdp: str) -> SubscriberOffer:
    """Read a WHEP offer; NegotiationError when nothing of it can be taken."""
    description = _parse(sdp)
    ids: dict[int, str] = {}
    media = []
    for index, section in _wanted(description, "recvonly"):
        extensions = _extensions(description, section, ids, refused="sendonly", unwanted=PUBLISHER_ONLY)
        codecs = read_codecs(section, twcc=TWCC in extensions.values())
        if codecs:
            media.append(
                SubscribedMedia(
                    mid=_mid(section, index),
                    kind=section.kind,
                    index=index,
                    codecs=codecs,
                    allow_mixed=_allow_mixed(description, section),
                    extensions={kind: id for id, kind in extensions.items()},
                )
            )
    _check_media(description, media, "watch", "recvonly")
    return SubscriberOffer(**_transport(description, media), media=media)


def _parse(sdp: str) -> SessionDescription:
    try:
        description = parse_sdp(sdp)
    except SdpError as error:
        raise NegotiationError(400, str(error)) from error
    if not description.media:
        raise NegotiationError(400, "The body is no offer: it has no media section (m= line).")
    mids = [section.mid for section in description.media if section.mid is not None]
    if len(mids) != len(set(mids)):
        raise NegotiationError(400, "Two media sections of the offer have the same a=mid.")
    if description.ice_lite:
        raise NegotiationError(422, "The offer is ICE-lite, as this node is: no side would send connectivity checks.")
    return description


def _wanted(description: SessionDescription, direction: str) -> Iterator[tuple[int, MediaDescription]]:
    """The audio and video sections with index that flow in the direction (seen from the peer) and are not refused."""
    for index, section in enumerate(description.media):
        flows = (section.direction or description.direction or "sendrecv") in (direction, "sendrecv")
        if flows and section.kind in CODECS and section.proto in PROTOCOLS and (section.port or section.bundle_only):
            yield index, section


def _check_media(description: SessionDescription, media: Sequence[Media], verb: str, direction: str) -> None:
    """422 unless something is left and all of it shares one transport."""
    if not any(True for _ in _wanted(description, direction)):
        raise NegotiationError(422, f"The offer has no {direction} audio or video over DTLS-SRTP to {verb}.")
    if not media:
        raise NegotiationError(422, f"No codec to {verb} in common: the node takes Opus, VP8, VP9, H.264 and AV1.")
    bundle = description.bundles[0] if description.bundles else ()
    if len(media) > 1 and not {description.media[m.index].mid for m in media} <= set(bundle):
        raise NegotiationError(422, "The media sections of the offer must share one transport (a=group:BUNDLE).")
    _check_names(media)
    for section in (description.media[m.index] for m in media):
        if not (section.rtcp_mux or section.rtcp_mux_only):
            raise NegotiationError(422, "The offer must multiplex RTP and RTCP (a=rtcp-mux).")


def _check_names(media: Sequence[Media]) -> None:
    """What names must be for packets of a bundle to be told apart (RFC 9143, sections 9.1 and 15)."""
    types: dict[int, int] = {}
    for one in media:
        if len(one.mid) > MAX_MID:
            raise NegotiationError(422, f"The a=mid of section {one.index} is longer than {MAX_MID} characters.")
        for codec in one.codecs:
            if types.setdefault(codec.payload_type, codec.codec) != codec.codec:
                raise NegotiationError(422, f"The payload type {codec.payload_type} stands for two codecs.")


def _transport(description: SessionDescription, media: Sequence[Media]) -> dict[str, Any]:
    """The fields of Offer, from the section that stands for the bundle (RFC 9143, section 7) or from the session."""
    bundle = description.bundles[0] if description.bundles else ()
    tagged = [section for section in description.media if section.mid in bundle[:1]]
    sections = [*tagged, *(description.media[m.index] for m in media), description]
    ice = next((s for s in sections if s.ice_ufrag and s.ice_pwd), None)
    if ice is None:
        raise NegotiationError(400, "The offer has no ICE credentials (a=ice-ufrag and a=ice-pwd).")
    prints = next((s.fingerprints for s in sections if s.fingerprints), [])
    usable = sorted((p for p in prints if p.algorithm in HASHES), key=lambda p: HASHES.index(p.algorithm))
    if not usable:
        raise NegotiationError(400, f"The offer has no certificate fingerprint of {', '.join(HASHES)} (a=fingerprint).")
    setup = next((s.setup for s in sections if s.setup), "actpass")
    if setup == "holdconn":
        raise NegotiationError(422, "The offer holds its connection back (a=setup:holdconn).")
    return {
        "description": description,
        "ice_ufrag": ice.ice_ufrag,
        "ice_pwd": ice.ice_pwd,
        "fingerprints": usable,
        "setup": setup,
        "candidates": literal_candidates([c for s in sections for c in s.candidates]),
    }


def literal_candidates(candidates: list[Candidate]) -> list[tuple[str, int]]:
    """(address, port) of the UDP candidates for RTP, each once; host names (mDNS) are left out, never resolved."""
    found = ((c.ip, c.port) for c in candidates if c.transport == "udp" and c.component == 1 and c.port)
    return list(dict.fromkeys((ip, port) for ip, port in found if ip is not None))


def _mid(section: MediaDescription, index: int) -> str:
    """The mid, or the index in its place: a single section may do without."""
    return section.mid if section.mid is not None else str(index)


def _allow_mixed(description: SessionDescription, section: MediaDescription) -> bool:
    return description.extmap_allow_mixed or section.extmap_allow_mixed


def _extensions(
    description: SessionDescription,
    section: MediaDescription,
    ids: dict[int, str],
    *,
    refused: str,
    unwanted: frozenset[int],
) -> dict[int, int]:
    """{id: kind} of the header extensions that we take from the section.

    One id means one extension in a whole bundle (RFC 9143, section 9): ids notes {id: uri} over the sections, and a
    later section loses an extension whose id is taken. refused is the direction in which an extension is useless to us.
    """
    usable = TWO_BYTE_IDS if _allow_mixed(description, section) else ONE_BYTE_IDS
    taken: dict[int, int] = {}
    for ext in [*section.extmap, *description.extmap]:
        kind = URIS.get(ext.uri)
        wanted = kind is not None and kind not in unwanted and ext.direction not in (refused, "inactive")
        if kind is None or not wanted or ext.id not in usable or ext.id in taken or kind in taken.values():
            continue
        if ids.setdefault(ext.id, ext.uri) == ext.uri:
            taken[ext.id] = kind
    return taken


def _encodings(section: MediaDescription, *, with_rid: bool) -> list[Encoding]:
    """The layers that the section announces, lowest first as offered; one without a name if it announces nothing."""
    rids = _sent_rids(section) if with_rid else []
    if rids:
        return [Encoding(rid=rid) for rid in rids]
    repairs = {g.ssrcs[0]: g.ssrcs[1] for g in section.ssrc_groups if g.semantics == "FID" and len(g.ssrcs) == 2}
    layers = next((g.ssrcs for g in section.ssrc_groups if g.semantics == "SIM"), ())
    others = {ssrc for g in section.ssrc_groups if g.semantics in ("FID", "FEC-FR") for ssrc in g.ssrcs[1:]}
    primaries = layers or [ssrc for ssrc in section.ssrcs if ssrc not in others][:1]
    named = [Encoding(ssrc=ssrc, rtx_ssrc=repairs.get(ssrc)) for ssrc in dict.fromkeys(primaries)]
    return named[:MAX_ENCODINGS] or [Encoding()]


def _sent_rids(section: MediaDescription) -> list[str]:
    """The first usable alternative of each simulcast stream; without a=simulcast the one a=rid there may be."""
    sent = dict.fromkeys(rid.id for rid in section.rids.values() if rid.direction == "send" and len(rid.id) <= MAX_RID)
    if section.simulcast is None:
        return list(sent)[:1]
    streams = ([rid.removeprefix("~") for rid in stream] for stream in section.simulcast.send)
    first = (next((rid for rid in stream if rid in sent), None) for stream in streams)
    return list(dict.fromkeys(rid for rid in first if rid is not None))[:MAX_ENCODINGS]


def _msid(section: MediaDescription) -> str | None:
    """`STREAM TRACK`, from a=msid or from the older a=ssrc form."""
    of_sources = (about.msid for about in section.ssrcs.values() if about.msid)
    return section.msids[0] if section.msids else next(of_sources, None)
