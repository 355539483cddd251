"""Reading and writing of single `a=` lines, one small function per attribute and one table that names them.

A reader gets the section to fill and the value after the colon; it raises SdpError with the reason alone, and the
caller adds the line, or leaves it out where it is not NEEDED. Numbers are ASCII digits within a range: Python's int()
takes far more than the grammar does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mediacodecs.sdp_types import (
    DIRECTIONS,
    EVERY_FORMAT,
    Candidate,
    Extmap,
    Fingerprint,
    MediaDescription,
    Rid,
    Rtpmap,
    SdpError,
    Section,
    SessionDescription,
    Simulcast,
    SsrcAttributes,
    SsrcGroup,
)

TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,255}")
MID = re.compile(r"[!-~]{1,255}")  # a token in the RFC; others are as good to tell sections apart by
RID = re.compile(r"[A-Za-z0-9_-]{1,255}")  # RFC 8851; `-` and `_` by its erratum
UFRAG = re.compile(r"[A-Za-z0-9+/=_-]{4,256}")  # RFC 8839 has ice-char only; some senders use base64url
PWD = re.compile(r"[A-Za-z0-9+/=_-]{22,256}")
HEX_PAIRS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})*")
SETUPS = ("active", "passive", "actpass", "holdconn")
HASH_BYTES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64}
MAX_SSRC = 0xFFFFFFFF
MAX_RIDS = 64  # of a section; a sender has three or four
NEEDED = frozenset({"mid", "group", "ice-ufrag", "ice-pwd", "setup"})
"""Attributes without which a session would be another than the one described: how packets are told apart, and whose
they are. Of the others enough can be read, or what they offer is not taken, or what has to be there is missed later."""


def number(text: str, low: int, high: int, what: str) -> int:
    """text as a decimal within low..high; SdpError names what it should have been."""
    found = small_number(text)
    if found is None or not low <= found <= high:
        raise SdpError(f"{what} must be a number from {low} to {high}")
    return found


def small_number(text: str) -> int | None:
    """text as a decimal of at most ten ASCII digits, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def matched(pattern: re.Pattern[str], text: str, what: str) -> str:
    """text when the whole of it follows the pattern."""
    if pattern.fullmatch(text) is None:
        raise SdpError(f"{what} is empty, too short, too long or has characters that it may not have")
    return text


def words(value: str, at_least: int, form: str) -> list[str]:
    """value cut at blanks, at least so many words."""
    parts = value.split()
    if len(parts) < at_least:
        raise SdpError(f"the form is `{form}`")
    return parts


def payload_type_and_rest(value: str, form: str) -> tuple[int, str]:
    parts = value.split(None, 1)
    if len(parts) < 2:
        raise SdpError(f"the form is `{form}`")
    return number(parts[0], 0, 127, "the payload type"), parts[1].strip()


def read_rtpmap(media: MediaDescription, value: str) -> None:
    payload_type, rest = payload_type_and_rest(value, "PT NAME/CLOCK[/CHANNELS]")
    parts = rest.split("/")
    if len(parts) < 2:
        raise SdpError("the form is `PT NAME/CLOCK[/CHANNELS]`")
    channels = (small_number(parts[2]) if len(parts) > 2 else None) or None
    name, clock = matched(TOKEN, parts[0], "the encoding name"), number(parts[1], 1, 1_000_000, "the clock rate")
    media.rtpmap[payload_type] = Rtpmap(name, clock, channels)


def read_fmtp(media: MediaDescription, value: str) -> None:
    payload_type, rest = payload_type_and_rest(value, "PT PARAMETERS")
    media.fmtp[payload_type] = rest


def read_rtcp_fb(media: MediaDescription, value: str) -> None:
    parts = words(value, 2, "PT FEEDBACK")
    payload_type = EVERY_FORMAT if parts[0] == "*" else number(parts[0], 0, 127, "the payload type")
    media.rtcp_fb.setdefault(payload_type, []).append(" ".join(parts[1:]))


def read_extmap(section: Section, value: str) -> None:
    parts = words(value, 2, "ID[/DIRECTION] URI")
    id_text, _, direction = parts[0].partition("/")
    if direction and direction not in DIRECTIONS:
        raise SdpError(f"the direction must be one of {', '.join(DIRECTIONS)}")
    section.extmap.append(Extmap(number(id_text, 0, 4351, "the extension id"), parts[1], direction or None))


def read_ssrc(media: MediaDescription, value: str) -> None:
    ssrc_text, _, attribute = value.strip().partition(" ")
    ssrc = number(ssrc_text, 0, MAX_SSRC, "the SSRC")
    about = media.ssrcs.setdefault(ssrc, SsrcAttributes())
    name, _, rest = attribute.strip().partition(":")
    if name == "cname":
        about.cname = " ".join(rest.split()) or None
    elif name == "msid":
        about.msid = " ".join(rest.split()) or None


def read_ssrc_group(media: MediaDescription, value: str) -> None:
    parts = words(value, 2, "SEMANTICS SSRC…")
    ssrcs = tuple(number(part, 0, MAX_SSRC, "the SSRC") for part in parts[1:])
    media.ssrc_groups.append(SsrcGroup(matched(TOKEN, parts[0], "the semantics"), ssrcs))


def read_rid(media: MediaDescription, value: str) -> None:
    parts = words(value, 2, "RID send|recv [RESTRICTIONS]")
    if parts[1] not in ("send", "recv"):
        raise SdpError("the direction must be send or recv")
    rid = matched(RID, parts[0], "the rid")
    media.rids[rid] = Rid(rid, parts[1], " ".join(parts[2:]))


def read_simulcast(media: MediaDescription, value: str) -> None:
    parts = words(value, 2, "send|recv RIDS [send|recv RIDS]")
    if len(parts) not in (2, 4) or set(parts[::2]) - {"send", "recv"} or len(set(parts[::2])) != len(parts) // 2:
        raise SdpError("the form is `send|recv RIDS [send|recv RIDS]`")
    if value.count(";") + value.count(",") > MAX_RIDS:
        raise SdpError(f"there are more than {MAX_RIDS} rids")
    lists = {
        word: tuple(tuple(simulcast_rid(rid) for rid in stream.split(",")) for stream in rids.split(";"))
        for word, rids in zip(parts[::2], parts[1::2], strict=True)
    }
    media.simulcast = Simulcast(lists.get("send", ()), lists.get("recv", ()))


def simulcast_rid(text: str) -> str:
    matched(RID, text.removeprefix("~"), "the rid")
    return text


def read_candidate(section: Section, value: str) -> None:
    section.candidates.append(parse_candidate(value))


def parse_candidate(value: str) -> Candidate:
    """The value of `a=candidate:` (RFC 8839, section 5.1), also as browsers hand it to scripts, with that prefix."""
    value = value.removeprefix("a=").removeprefix("candidate:")
    parts = words(value, 8, "FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE")
    if parts[6] != "typ":
        raise SdpError("the form is `FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE`")
    more = dict(zip(parts[8::2], parts[9::2], strict=False))
    return Candidate(
        foundation=parts[0],
        component=number(parts[1], 1, 256, "the component"),
        transport=matched(TOKEN, parts[2], "the transport").lower(),
        priority=number(parts[3], 0, MAX_SSRC, "the priority"),
        address=parts[4],
        port=number(parts[5], 0, 65535, "the port"),
        type=matched(TOKEN, parts[7], "the type"),
        tcptype=more.get("tcptype"),
    )


def read_fingerprint(section: Section, value: str) -> None:
    parts = words(value, 2, "HASH HEX:HEX:…")
    algorithm, pairs = matched(TOKEN, parts[0], "the hash name").lower(), matched(HEX_PAIRS, parts[1], "the hash")
    if len(pairs) + 1 != 3 * HASH_BYTES.get(algorithm, (len(pairs) + 1) // 3):
        raise SdpError(f"a {algorithm} hash has {HASH_BYTES[algorithm]} bytes")
    section.fingerprints.append(Fingerprint(algorithm, pairs.upper()))


def read_setup(section: Section, value: str) -> None:
    if value.lower() not in SETUPS:
        raise SdpError(f"setup must be one of {', '.join(SETUPS)}")
    section.setup = value.lower()


def read_ice_ufrag(section: Section, value: str) -> None:
    section.ice_ufrag = matched(UFRAG, value, "the ufrag")


def read_ice_pwd(section: Section, value: str) -> None:
    section.ice_pwd = matched(PWD, value, "the password")


def read_ice_options(section: Section, value: str) -> None:
    """Options are parted by blanks (RFC 8839, section 5.6), in practice by commas too."""
    section.ice_options = tuple(matched(TOKEN, word, "an ICE option") for word in value.replace(",", " ").split())


def read_mid(media: MediaDescription, value: str) -> None:
    media.mid = matched(MID, value, "the mid")


def read_msid(media: MediaDescription, value: str) -> None:
    media.msids.append(" ".join(words(value, 1, "STREAM [TRACK]")))


def read_group(session: SessionDescription, value: str) -> None:
    parts = value.split()
    if parts[:1] == ["BUNDLE"]:
        session.bundles.append(tuple(matched(MID, part, "the mid") for part in parts[1:]))


def read_msid_semantic(session: SessionDescription, value: str) -> None:
    session.msid_semantic = " ".join(value.split()) or None


def flag(name: str) -> Callable[[Section, str], None]:
    """A reader that sets a boolean."""
    return lambda section, _value: setattr(section, name, True)


def direction(name: str) -> Callable[[Section, str], None]:
    """A reader of `a=sendonly` and its like."""
    return lambda section, _value: setattr(section, "direction", name)


ANYWHERE: dict[str, Callable[[Section, str], None]] = {
    "ice-ufrag": read_ice_ufrag,
    "ice-pwd": read_ice_pwd,
    "ice-options": read_ice_options,
    "fingerprint": read_fingerprint,
    "setup": read_setup,
    "extmap": read_extmap,
    "extmap-allow-mixed": flag("extmap_allow_mixed"),
    "candidate": read_candidate,
    "end-of-candidates": flag("end_of_candidates"),
    **{name: direction(name) for name in DIRECTIONS},
}
IN_SESSION: dict[str, Callable[[SessionDescription, str], None]] = {
    "group": read_group,
    "msid-semantic": read_msid_semantic,
    "ice-lite": flag("ice_lite"),
}
IN_MEDIA: dict[str, Callable[[MediaDescription, str], None]] = {
    "mid": read_mid,
    "rtpmap": read_rtpmap,
    "fmtp": read_fmtp,
    "rtcp-fb": read_rtcp_fb,
    "ssrc": read_ssrc,
    "ssrc-group": read_ssrc_group,
    "rid": read_rid,
    "simulcast": read_simulcast,
    "msid": read_msid,
    "rtcp-mux": flag("rtcp_mux"),
    "rtcp-mux-only": flag("rtcp_mux_only"),
    "rtcp-rsize": flag("rtcp_rsize"),
    "bundle-only": flag("bundle_only"),
}


def read_attribute(session: SessionDescription, media: MediaDescription | None, value: str) -> None:
    """Put one `a=` value where it belongs; unknown ones, or those at the wrong level, are left."""
    name, _, rest = value.partition(":")
    if name in ANYWHERE:
        ANYWHERE[name](media or session, rest.strip())
    elif media is None and name in IN_SESSION:
        IN_SESSION[name](session, rest.strip())
    elif media is not None and name in IN_MEDIA:
        IN_MEDIA[name](media, rest.strip())


def candidate_value(c: Candidate) -> str:
    """The value of `a=candidate:`."""
    tail = f" tcptype {c.tcptype}" if c.tcptype else ""
    return f"{c.foundation} {c.component} {c.transport} {c.priority} {c.address} {c.port} typ {c.type}{tail}"


def section_lines(section: Section) -> Iterator[str]:
    """The attributes that session and media share, without `a=`."""
    if section.ice_ufrag:
        yield f"ice-ufrag:{section.ice_ufrag}"
    if section.ice_pwd:
        yield f"ice-pwd:{section.ice_pwd}"
    if section.ice_options:
        yield f"ice-options:{' '.join(section.ice_options)}"
    for fingerprint in section.fingerprints:
        yield f"fingerprint:{fingerprint.algorithm} {fingerprint.value}"
    if section.setup:
        yield f"setup:{section.setup}"
    if section.extmap_allow_mixed:
        yield "extmap-allow-mixed"
    for ext in section.extmap:
        yield f"extmap:{ext.id}{'/' + ext.direction if ext.direction else ''} {ext.uri}"
    if section.direction:
        yield section.direction
    for candidate in section.candidates:
        yield f"candidate:{candidate_value(candidate)}"
    if section.end_of_candidates:
        yield "end-of-candidates"


def session_lines(session: SessionDescription) -> Iterator[str]:
    """The attributes of the session level, without `a=`."""
    for bundle in session.bundles:
        yield " ".join(("group:BUNDLE", *bundle))
    if session.msid_semantic:
        yield f"msid-semantic: {session.msid_semantic}"
    if session.ice_lite:
        yield "ice-lite"
    yield from section_lines(session)


def media_lines(media: MediaDescription) -> Iterator[str]:
    """The attributes of a media section, without `a=`."""
    if media.mid:
        yield f"mid:{media.mid}"
    yield from section_lines(media)
    yield from (f"msid:{msid}" for msid in media.msids)
    for name in ("rtcp-mux", "rtcp-mux-only", "rtcp-rsize", "bundle-only"):
        if getattr(media, name.replace("-", "_")):
            yield name
    yield from format_lines(media)
    yield from stream_lines(media)


def format_lines(media: MediaDescription) -> Iterator[str]:
    """rtpmap, rtcp-fb and fmtp, grouped by payload type in the order of the formats."""
    known = dict.fromkeys([*media.rtpmap, *media.fmtp, *media.rtcp_fb])
    offered = [int(text) for text in media.formats if text.isascii() and text.isdigit() and len(text) < 4]
    for payload_type in dict.fromkeys([*(pt for pt in offered if pt in known), *known]):
        rtpmap = media.rtpmap.get(payload_type)
        if rtpmap:
            channels = f"/{rtpmap.channels}" if rtpmap.channels else ""
            yield f"rtpmap:{payload_type} {rtpmap.name}/{rtpmap.clock_rate}{channels}"
        for feedback in media.rtcp_fb.get(payload_type, ()):
            yield f"rtcp-fb:{'*' if payload_type == EVERY_FORMAT else payload_type} {feedback}"
        if payload_type in media.fmtp:
            yield f"fmtp:{payload_type} {media.fmtp[payload_type]}"


def stream_lines(media: MediaDescription) -> Iterator[str]:
    """rid, simulcast and ssrc lines."""
    for rid in media.rids.values():
        yield f"rid:{rid.id} {rid.direction} {rid.restrictions}".rstrip()
    if media.simulcast:
        both = (("send", media.simulcast.send), ("recv", media.simulcast.recv))
        lists = (f"{word} {';'.join(','.join(stream) for stream in streams)}" for word, streams in both if streams)
        yield f"simulcast:{' '.join(lists)}"
    for group in media.ssrc_groups:
        yield f"ssrc-group:{group.semantics} {' '.join(map(str, group.ssrcs))}"
    for ssrc, about in media.ssrcs.items():
        if about.cname:
            yield f"ssrc:{ssrc} cname:{about.cname}"
        if about.msid:
            yield f"ssrc:{ssrc} msid:{about.msid}"
        if not about.cname and not about.msid:
            yield f"ssrc:{ssrc}"
