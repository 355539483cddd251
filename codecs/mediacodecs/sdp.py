"""Session descriptions: text to data and back, for offers and answers (RFC 8866, RFC 8829) and trickled ICE (RFC 8840).

The text comes from strangers, so its size, lines and sections are bounded, and whatever it holds the only error is
SdpError. Refused is what would make a wrong session: a text that is none (RFC 8866, section 5), a section that can't be
counted, an attribute of NEEDED that can't be read. Any other line that can't be read is left out and noted in
`skipped`, so that a refusal for want of it can name it: a comma in an option that nobody asked for costs no join.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mediacodecs.sdp_attributes import (
    NEEDED,
    TOKEN,
    candidate_value,
    matched,
    media_lines,
    number,
    parse_candidate,
    read_attribute,
    session_lines,
    words,
)
from mediacodecs.sdp_types import (
    DIRECTIONS,
    EVERY_FORMAT,
    Candidate,
    Extmap,
    Fingerprint,
    IceFragment,
    MediaDescription,
    Rid,
    Rtpmap,
    SdpError,
    Section,
    SessionDescription,
    Simulcast,
    SsrcAttributes,
    SsrcGroup,
    fmtp_parameters,
)

__all__ = [
    "DIRECTIONS",
    "EVERY_FORMAT",
    "Candidate",
    "Extmap",
    "Fingerprint",
    "IceFragment",
    "MediaDescription",
    "Rid",
    "Rtpmap",
    "SdpError",
    "Section",
    "SessionDescription",
    "Simulcast",
    "SsrcAttributes",
    "SsrcGroup",
    "fmtp_parameters",
    "parse_candidate",
    "parse_fragment",
    "parse_sdp",
    "serialise",
    "serialise_fragment",
]

MAX_CHARACTERS = 256 * 1024  # a browser's section of every codec is 5 kB
MAX_LINES = 10_000
MAX_LINE_CHARACTERS = 4096
MAX_MEDIA = 64
MAX_FORMATS = 256
MAX_SKIPPED = 4  # lines left out that are noted
MAX_UNREAD = 256  # lines left out; each costs more than one that is read, and no client has more than a few a section
SHOWN_CHARACTERS = 60  # of the offending line, in a message
LINE_END = re.compile(r"\r{0,2}\n|\r")  # as it should be, doubled by a text mode, or one of the two alone
LINE_TYPES = frozenset("vosiuepcbtrzkam")  # RFC 8866, section 5: a description with any other is not to be used
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # controls, and what UTF-8 can't carry


def parse_sdp(text: str) -> SessionDescription:
    """Read an offer or answer; SdpError for anything else, never another exception."""
    session = SessionDescription()
    first = True
    for at, kind, value in _lines(text):
        if first and (kind, value) != ("v", "0"):
            raise SdpError(f"Line {at}, {_shown(kind, value)}: a session description starts with `v=0`.")
        first = False
        _read_line(session, at, kind, value)
    if first:
        raise SdpError("The session description is empty.")
    return session


def parse_fragment(text: str) -> IceFragment:
    """Read a trickle fragment (RFC 8840, section 9), candidates at either level; SdpError for anything else."""
    session = SessionDescription()
    for at, kind, value in _lines(text):
        _read_line(session, at, kind, value)
    sections: list[Section] = [session, *session.media]
    return IceFragment(
        ufrag=_agreed("ice-ufrag", [s.ice_ufrag for s in sections]),
        pwd=_agreed("ice-pwd", [s.ice_pwd for s in sections]),
        candidates=[candidate for s in sections for candidate in s.candidates],
        end_of_candidates=any(s.end_of_candidates for s in sections),
        mid=next((media.mid for media in session.media if media.mid), None),
    )


def serialise(session: SessionDescription) -> str:
    """The text of a session description, lines ended by CR LF."""
    lines = ["v=0", f"o={session.origin}", f"s={session.name}", "t=0 0"]
    lines += [f"a={line}" for line in session_lines(session)]
    for media in session.media:
        lines.append(" ".join((f"m={media.kind}", str(media.port), media.proto, *media.formats)))
        if media.address:
            lines.append(f"c=IN IP{6 if ':' in media.address else 4} {media.address}")
        lines += [f"a={line}" for line in media_lines(media)]
    return "\r\n".join(lines) + "\r\n"


def serialise_fragment(fragment: IceFragment, kind: str = "audio", *, ice_lite: bool = False) -> str:
    """The text of a trickle fragment, such as the reply to an ICE restart (RFC 9725, section 4.3.2)."""
    lines = ["a=ice-lite"] if ice_lite else []
    if fragment.mid:
        lines += [f"m={kind} 9 UDP/TLS/RTP/SAVPF 0", f"a=mid:{fragment.mid}"]
    lines += [f"a=ice-ufrag:{fragment.ufrag}"] if fragment.ufrag else []
    lines += [f"a=ice-pwd:{fragment.pwd}"] if fragment.pwd else []
    lines += [f"a=candidate:{candidate_value(candidate)}" for candidate in fragment.candidates]
    lines += ["a=end-of-candidates"] if fragment.end_of_candidates else []
    return "\r\n".join(lines) + "\r\n"


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number from 1, type letter, value) of each line within the bounds; blank lines are passed over."""
    if len(text) > MAX_CHARACTERS:
        raise SdpError(f"The session description has {len(text)} characters, more than {MAX_CHARACTERS}.")
    lines = LINE_END.split(text.removeprefix("\ufeff").rstrip("\0"))  # marks of files, and the end of a string in C
    if len(lines) > MAX_LINES:
        raise SdpError(f"The session description has more than {MAX_LINES} lines.")
    for at, line in enumerate(lines, 1):
        if not line.strip(" \t\0"):
            continue
        if line[1:2] != "=" or line[0] not in LINE_TYPES:
            raise SdpError(f"Line {at}, {_quoted(line)}: a line has a known type letter, then `=` and a value.")
        yield at, line[0], line[2:].strip()


def _read_line(session: SessionDescription, at: int, kind: str, value: str) -> None:
    """Take one line in, or leave it out with a note; an SdpError that comes out names the line."""
    try:
        if len(value) > MAX_LINE_CHARACTERS:
            raise SdpError(f"it is longer than {MAX_LINE_CHARACTERS} characters")
        if FORBIDDEN.search(value):
            raise SdpError("it holds a control character")
        _read_value(session, kind, value)
    except SdpError as error:
        sentence = f"Line {at}, {_shown(kind, value)}: {error}."
        if _is_needed(kind, value):
            raise SdpError(sentence) from None
        session.unread += 1
        if session.unread > MAX_UNREAD:
            raise SdpError(f"More than {MAX_UNREAD} lines can't be read. {session.skipped[0]}") from None
        if len(session.skipped) < MAX_SKIPPED:
            session.skipped.append(sentence)


def _read_value(session: SessionDescription, kind: str, value: str) -> None:
    """Put the value of a line where it belongs."""
    media = session.media[-1] if session.media else None
    if kind == "a":
        read_attribute(session, media, value)
    elif kind == "m":
        session.media.append(_read_media(value, len(session.media)))
    elif kind == "c" and media is not None:
        media.address = words(value, 3, "IN IP4|IP6 ADDRESS")[2]
    elif kind == "o":
        session.origin = " ".join(words(value, 6, "USER ID VERSION IN IP4|IP6 ADDRESS"))
    elif kind == "s":
        session.name = value or "-"


def _is_needed(kind: str, value: str) -> bool:
    """Whether a session without this line would be a wrong one."""
    return kind in ("v", "m") or (kind == "a" and value.partition(":")[0] in NEEDED)


def _read_media(value: str, count: int) -> MediaDescription:
    """A section with its formats, which may be none where the offerer refuses it."""
    if count >= MAX_MEDIA:
        raise SdpError(f"there are more than {MAX_MEDIA} media sections")
    parts = words(value, 3, "KIND PORT PROTO FORMAT…")
    if len(parts) - 3 > MAX_FORMATS:
        raise SdpError(f"there are more than {MAX_FORMATS} formats")
    port = number(parts[1].partition("/")[0], 0, 65535, "the port")
    formats = [matched(TOKEN, part, "a format") for part in parts[3:]]
    kind, proto = (
        matched(TOKEN, parts[0], "the kind"),
        "/".join(matched(TOKEN, p, "proto") for p in parts[2].split("/")),
    )
    return MediaDescription(kind=kind, port=port, proto=proto, formats=formats)


def _agreed(name: str, values: list[str | None]) -> str | None:
    """The one value that the sections give, None if none does."""
    given = set(values) - {None}
    if len(given) > 1:
        raise SdpError(f"The fragment has several values of {name}, but bundled media share one.")
    return given.pop() if given else None


def _shown(kind: str, value: str) -> str:
    return _quoted(f"{kind}={value}")


def _quoted(line: str) -> str:
    """The line as it may stand in a message or a log: short and printable."""
    short = line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS] + "…"
    return "`" + "".join(c if c.isprintable() else "?" for c in short) + "`"
