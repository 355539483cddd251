"""Writing of the answers to WHIP and WHEP offers, section by section in the order of the offer (RFC 8829, section 5.3).

The node is ICE-lite, takes one bundled transport with rtcp-mux, and keeps the peer's payload types, mids and extension
ids, so that nothing has to be agreed twice. Sections that we do not take get port 0. What is answered will be done:
no `nack` where no resend would follow, reduced-size RTCP (RFC 5506) only to who offered it for all that we take.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mediacodecs.extensions import URIS
from mediacodecs.frame import OPUS
from mediacodecs.sdp import (
    Candidate,
    Extmap,
    Fingerprint,
    MediaDescription,
    Rid,
    Rtpmap,
    SessionDescription,
    Simulcast,
    SsrcAttributes,
    SsrcGroup,
    serialise,
)
from mediaserver.signalling.codec_match import Codec
from mediaserver.signalling.offers import (
    Media,
    Offer,
    PublishedMedia,
    PublisherOffer,
    SubscribedMedia,
    SubscriberOffer,
)
from mediaserver.signalling.sections import bundle_of

URI_OF_KIND = {kind: uri for uri, kind in URIS.items()}
FEEDBACK_ORDER = ("transport-cc", "ccm fir", "nack", "nack pli")
OPUS_PARAMETERS = frozenset(
    {"minptime", "useinbandfec", "usedtx", "stereo", "maxaveragebitrate", "maxplaybackrate", "cbr"}
)
OF_THE_SENDER = frozenset({"sprop-parameter-sets"})  # describe the offerer's stream, so never mirrored
ICE_OPTIONS = ("trickle", "ice2")  # peers may send candidates later (RFC 8838); we follow RFC 8445
HOST_PREFERENCE = 126 << 24 | 255  # RFC 8445, section 5.1.2: type preference of host candidates, component 1
OPPOSITE = {"sendonly": "recvonly", "recvonly": "sendonly"}


@dataclass(frozen=True)
class LocalTransport:
    """Our end of the transport: candidates are (address, UDP port), best first; fingerprint is `AA:BB:…` of sha-256."""

    ufrag: str
    pwd: str
    fingerprint: str
    candidates: list[tuple[str, int]] = field(default_factory=list)
    session_id: int = 1  # of the o= line; below 2^63


@dataclass(frozen=True)
class LocalTrack:
    """What we send in the section with this mid; msid_stream joins audio and video of a participant, as cname does."""

    mid: str
    ssrc: int
    rtx_ssrc: int | None
    cname: str
    msid_stream: str
    msid_track: str


def answer_publisher(offer: PublisherOffer, local: LocalTransport) -> str:
    """The SDP answer to a WHIP offer: recvonly, with every codec and every layer that was read from it."""
    media = {m.index: m for m in offer.media}
    sections = []
    for index, offered in enumerate(offer.description.media):
        if index in media:
            section = _accept(offer, offered, media[index], local)
            section.direction = "recvonly"
            section.extmap = _extmap(offered, media[index].extensions)
            _take_layers(section, media[index])
        else:
            section = _refuse(offered)
        sections.append(section)
    return _answer(offer, local, sections)


def answer_subscriber(offer: SubscriberOffer, local: LocalTransport, tracks: list[LocalTrack]) -> str:
    """The SDP answer to a WHEP offer: sendonly with the sources of tracks; a section without a track is inactive."""
    media = {m.index: m for m in offer.media}
    by_mid = {track.mid: track for track in tracks}
    sections = []
    for index, offered in enumerate(offer.description.media):
        if index in media:
            section = _accept(offer, offered, media[index], local)
            section.extmap = _extmap(offered, {id: kind for kind, id in media[index].extensions.items()})
            _give_track(section, media[index], by_mid.get(media[index].mid))
        else:
            section = _refuse(offered)
        sections.append(section)
    return _answer(offer, local, sections)


def _answer(offer: Offer, local: LocalTransport, sections: list[MediaDescription]) -> str:
    """The whole answer: candidates stand in the first section taken, which carries the bundle."""
    taken = [section for section in sections if section.port]
    bundled = bundle_of(offer.description)
    mids = tuple(section.mid for section in taken if section.mid is not None and section.mid in bundled)
    taken[0].candidates = host_candidates(local)
    taken[0].end_of_candidates = True
    return serialise(
        SessionDescription(
            origin=f"- {local.session_id} 1 IN IP4 127.0.0.1",
            ice_lite=True,
            ice_options=ICE_OPTIONS,
            bundles=[mids] if mids else [],
            msid_semantic="WMS *",
            extmap_allow_mixed=offer.description.extmap_allow_mixed,
            media=sections,
        )
    )


def _refuse(offered: MediaDescription) -> MediaDescription:
    """The same section with port 0 (RFC 3264, section 6)."""
    return MediaDescription(
        kind=offered.kind,
        port=0,
        proto=offered.proto,
        formats=offered.formats[:1] or ["0"],
        address="0.0.0.0",
        mid=offered.mid,
        direction="inactive",
    )


def _accept(offer: Offer, offered: MediaDescription, media: Media, local: LocalTransport) -> MediaDescription:
    """The section with our transport and the codecs in common, without direction, extensions or streams."""
    address, port = local.candidates[0] if local.candidates else ("0.0.0.0", 9)
    section = MediaDescription(
        kind=offered.kind,
        port=port,
        proto=offered.proto,
        address=address,
        mid=offered.mid,
        ice_ufrag=local.ufrag,
        ice_pwd=local.pwd,
        fingerprints=[Fingerprint("sha-256", local.fingerprint)],
        setup=offer.local_setup,
        extmap_allow_mixed=offered.extmap_allow_mixed,
        rtcp_mux=True,
        rtcp_rsize=offer.reduced_size,
    )
    for codec in media.codecs:
        _add_codec(section, codec, resent=_is_resent(media, codec))
    return section


def _is_resent(media: Media, codec: Codec) -> bool:
    """Whether lost packets are asked for and sent again: by RTX, and video by any publisher that offered to."""
    publishes_video = isinstance(media, PublishedMedia) and media.kind == "video"
    return publishes_video or codec.rtx_payload_type is not None


def _add_codec(section: MediaDescription, codec: Codec, *, resent: bool) -> None:
    payload_type = codec.payload_type
    section.formats.append(str(payload_type))
    section.rtpmap[payload_type] = Rtpmap(codec.name, codec.clock_rate, codec.channels)
    section.rtcp_fb[payload_type] = [
        name for name in FEEDBACK_ORDER if name in codec.feedback and (resent or name != "nack")
    ]
    parameters = ";".join(f"{key}={value}" if value else key for key, value in _answered_fmtp(codec).items())
    if parameters:
        section.fmtp[payload_type] = parameters
    if codec.rtx_payload_type is not None:
        section.formats.append(str(codec.rtx_payload_type))
        section.rtpmap[codec.rtx_payload_type] = Rtpmap("rtx", codec.clock_rate)
        section.fmtp[codec.rtx_payload_type] = f"apt={payload_type}"


def _answered_fmtp(codec: Codec) -> dict[str, str]:
    """The parameters that we mirror: Opus by list, with stereo taken as announced; of the other codecs all the rest.

    One with a tab in it, which nobody can have meant, is left out.
    """
    if codec.codec != OPUS:
        clean = {key: value for key, value in codec.fmtp.items() if (key + value).isprintable()}
        return {key: value for key, value in clean.items() if key not in OF_THE_SENDER}
    mirrored = {key: value for key, value in codec.fmtp.items() if key in OPUS_PARAMETERS}
    if codec.fmtp.get("sprop-stereo") == "1":
        mirrored.setdefault("stereo", "1")
    return mirrored


def _extmap(offered: MediaDescription, extensions: dict[int, int]) -> list[Extmap]:
    """The extensions {id: kind} that we take, with the direction turned round (RFC 8285, section 6)."""
    directions = {ext.id: ext.direction for ext in offered.extmap}
    return [Extmap(id, URI_OF_KIND[kind], _turned(directions.get(id))) for id, kind in extensions.items()]


def _turned(direction: str | None) -> str | None:
    return OPPOSITE.get(direction or "", direction)


def _take_layers(section: MediaDescription, media: PublishedMedia) -> None:
    """Accept the rids that were read, as simulcast when there are several (RFC 8853, section 5.3)."""
    rids = [encoding.rid for encoding in media.encodings if encoding.rid is not None]
    section.rids = {rid: Rid(rid, "recv") for rid in rids}
    if len(rids) > 1:
        section.simulcast = Simulcast(recv=tuple((rid,) for rid in rids))


def _give_track(section: MediaDescription, media: SubscribedMedia, track: LocalTrack | None) -> None:
    """Announce our sources, the retransmissions too where any codec has them (RFC 5576, RFC 8830)."""
    section.direction = "sendonly" if track else "inactive"
    if track is None:
        return
    msid = f"{track.msid_stream} {track.msid_track}"
    section.msids = [msid]
    section.ssrcs[track.ssrc] = SsrcAttributes(track.cname, msid)
    if track.rtx_ssrc is not None and any(codec.rtx_payload_type is not None for codec in media.codecs):
        section.ssrcs[track.rtx_ssrc] = SsrcAttributes(track.cname, msid)
        section.ssrc_groups = [SsrcGroup("FID", (track.ssrc, track.rtx_ssrc))]


def host_candidates(local: LocalTransport) -> list[Candidate]:
    """Our host candidates; each address is a foundation of its own, and earlier ones are preferred."""
    return [
        Candidate(str(at + 1), 1, "udp", HOST_PREFERENCE + ((65535 - at) << 8), address, port, "host")
        for at, (address, port) in enumerate(local.candidates)
    ]
