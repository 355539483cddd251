"""The SDP that load clients offer, as Chromium would, and what they read of any server's answer.

One bundled transport with one section of sound and one of video. A publisher offers one video codec, so that what is
sent is decided beforehand; a viewer offers all that we can check. Payload types and extension ids are Chromium's.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from mediacodecs.extensions import (
    ABS_CAPTURE_TIME,
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    MID,
    REPAIRED_RID,
    RID,
    TWCC,
    URIS,
)
from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import Candidate, MediaDescription, SessionDescription, fmtp_parameters, parse_sdp

AUDIO, VIDEO = "audio", "video"
AUDIO_MID, VIDEO_MID = "0", "1"
VIDEO_CODECS = {"vp8": VP8, "vp9": VP9, "h264": H264, "av1": AV1}
CODECS = {AUDIO: {"opus": OPUS}, VIDEO: VIDEO_CODECS}  # encoding names of SDP, in lower case
NAMES = {OPUS: "opus/48000/2", VP8: "VP8/90000", VP9: "VP9/90000", H264: "H264/90000", AV1: "AV1/90000"}
PAYLOAD_TYPES = {OPUS: (111, 0), VP8: (96, 97), VP9: (98, 99), H264: (108, 109), AV1: (45, 46)}  # and that of RTX
PARAMETERS = {
    OPUS: "minptime=10;useinbandfec=1",
    VP9: "profile-id=0",
    H264: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    AV1: "level-idx=5;profile=0;tier=0",
}
FEEDBACK = ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
URI_OF = {kind: uri for uri, kind in URIS.items()}
EXTENSION_IDS = {
    AUDIO_LEVEL: 1, ABS_SEND_TIME: 2, TWCC: 3, MID: 4, ABS_CAPTURE_TIME: 9, RID: 10, REPAIRED_RID: 11,
}  # fmt: skip
COMMON = (ABS_SEND_TIME, TWCC, MID, ABS_CAPTURE_TIME)
EXTENSIONS = {AUDIO: (AUDIO_LEVEL, *COMMON), VIDEO: (*COMMON, RID, REPAIRED_RID)}
HOST_CANDIDATE = 2130706431  # priority of our only candidate (RFC 8445 5.1.2)


@dataclass(frozen=True)
class Local:
    """Our end of the transport, as the offer names it."""

    ufrag: str
    password: str
    fingerprint: str
    host: str
    port: int


@dataclass(frozen=True)
class Ssrcs:
    """The SSRCs of a publisher, those of video in the order of its rids, and its CNAME."""

    audio: int
    video: tuple[int, ...]
    rtx: tuple[int, ...]
    cname: str

    @classmethod
    def random(cls, layers: int = 1) -> Ssrcs:
        """Fresh ones, far enough from 0 and from each other's."""
        first = secrets.randbits(31) & ~0xFF | 0x40000000
        video = tuple(first + 1 + 2 * layer for layer in range(layers))
        return cls(first, video, tuple(ssrc + 1 for ssrc in video), secrets.token_hex(8))


@dataclass(frozen=True)
class PublishSpec:
    """What a publisher sends: a key of VIDEO_CODECS or no video, sound or none; rids from low to high for simulcast."""

    video: str | None = "vp8"
    audio: bool = True
    rids: tuple[str, ...] = ()
    ssrcs: Ssrcs = field(default_factory=Ssrcs.random)

    def __post_init__(self) -> None:
        """ValueError for a publisher that could not send."""
        if self.video is None and not self.audio:
            raise ValueError("a publisher sends video or sound")
        if self.video is not None and self.video not in VIDEO_CODECS:
            raise ValueError(f"the video codec is one of {', '.join(VIDEO_CODECS)}, not {self.video!r}")
        if self.video and max(len(self.rids), 1) != len(self.ssrcs.video):
            raise ValueError(f"{len(self.ssrcs.video)} video SSRCs for {max(len(self.rids), 1)} layers")


@dataclass(frozen=True)
class Features:
    """What an offer asks for: by default all that Chromium does."""

    codecs: tuple[str, ...] = tuple(VIDEO_CODECS)  # of a viewer's video
    extensions: frozenset[int] = frozenset(EXTENSION_IDS)  # kinds of mediacodecs.extensions


CHROMIUM = Features()


def publish_offer(local: Local, spec: PublishSpec, features: Features = CHROMIUM) -> str:
    """A WHIP offer."""
    sections = []
    if spec.audio:
        sections.append(_audio(local, True, features) + _stream(spec.ssrcs.cname, "audio", (spec.ssrcs.audio,)))
    if spec.video:
        sections.append(_video(local, True, (spec.video,), features) + _video_streams(spec))
    return _session([AUDIO_MID] * spec.audio + [VIDEO_MID] * bool(spec.video), sections)


def watch_offer(local: Local, audio: bool = True, video: bool = True, features: Features = CHROMIUM) -> str:
    """A WHEP offer."""
    sections = [_audio(local, False, features)] if audio else []
    sections += [_video(local, False, features.codecs, features)] if video else []
    return _session([AUDIO_MID] * audio + [VIDEO_MID] * video, sections)


def _session(mids: list[str], sections: list[list[str]]) -> str:
    origin = f"o=- {secrets.randbits(62)} 2 IN IP4 127.0.0.1"
    lines = ["v=0", origin, "s=-", "t=0 0", f"a=group:BUNDLE {' '.join(mids)}"]
    lines += ["a=extmap-allow-mixed", "a=msid-semantic: WMS *"]
    return "\r\n".join(lines + [line for section in sections for line in section]) + "\r\n"


def _section(local: Local, kind: str, mid: str, formats: list[int], sending: bool, features: Features) -> list[str]:
    family = 6 if ":" in local.host else 4
    extensions = [one for one in EXTENSIONS[kind] if one in features.extensions]
    return [
        f"m={kind} {local.port} UDP/TLS/RTP/SAVPF {' '.join(map(str, formats))}",
        f"c=IN IP{family} {local.host}",
        f"a=candidate:1 1 udp {HOST_CANDIDATE} {local.host} {local.port} typ host",
        "a=end-of-candidates",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        "a=setup:actpass",
        f"a=mid:{mid}",
        *(f"a=extmap:{EXTENSION_IDS[one]} {URI_OF[one]}" for one in extensions),
        "a=sendonly" if sending else "a=recvonly",
        "a=rtcp-mux",
        "a=rtcp-rsize",
    ]


def _codec(codec: int, feedback: tuple[str, ...]) -> list[str]:
    payload_type, rtx = PAYLOAD_TYPES[codec]
    lines = [f"a=rtpmap:{payload_type} {NAMES[codec]}", *(f"a=rtcp-fb:{payload_type} {name}" for name in feedback)]
    lines += [f"a=fmtp:{payload_type} {PARAMETERS[codec]}"] if codec in PARAMETERS else []
    return lines + ([f"a=rtpmap:{rtx} rtx/90000", f"a=fmtp:{rtx} apt={payload_type}"] if rtx else [])


def _audio(local: Local, sending: bool, features: Features) -> list[str]:
    lines = _section(local, AUDIO, AUDIO_MID, [PAYLOAD_TYPES[OPUS][0]], sending, features)
    return lines + _codec(OPUS, ("transport-cc",))


def _video(local: Local, sending: bool, codecs: tuple[str, ...], features: Features) -> list[str]:
    numbers = [VIDEO_CODECS[codec] for codec in codecs]
    formats = [number for codec in numbers for number in PAYLOAD_TYPES[codec]]
    lines = _section(local, VIDEO, VIDEO_MID, formats, sending, features)
    return lines + [line for codec in numbers for line in _codec(codec, FEEDBACK)]


def _stream(cname: str, track: str, ssrcs: tuple[int, ...]) -> list[str]:
    """What names one track: its SSRC, and that of its retransmissions where there is one (RFC 5576)."""
    group = [f"a=ssrc-group:FID {ssrcs[0]} {ssrcs[1]}"] if len(ssrcs) > 1 else []
    about = [f"a=ssrc:{ssrc} {text}" for ssrc in ssrcs for text in (f"cname:{cname}", f"msid:{cname} {track}")]
    return [f"a=msid:{cname} {track}", *group, *about]


def _video_streams(spec: PublishSpec) -> list[str]:
    """One stream by its SSRCs, or layers by their rids alone, as Chromium names them (RFC 8853)."""
    if not spec.rids:
        return _stream(spec.ssrcs.cname, "video", (spec.ssrcs.video[0], spec.ssrcs.rtx[0]))
    lines = [f"a=msid:{spec.ssrcs.cname} video", *(f"a=rid:{rid} send" for rid in spec.rids)]
    return [*lines, f"a=simulcast:send {';'.join(spec.rids)}"]


@dataclass(frozen=True)
class Media:
    """One accepted section. All maps may be empty but `codecs`."""

    kind: str
    mid: str
    codecs: dict[int, int]  # payload type -> constant of mediacodecs.frame, in the server's order of preference
    repairs: dict[int, int]  # payload type of RTX -> that of what it repairs
    extensions: dict[int, int]  # kind (mediacodecs.extensions) -> id
    rids: tuple[str, ...]

    @property
    def payload_type(self) -> int:
        """What a publisher sends with."""
        return next(iter(self.codecs))

    @property
    def codec(self) -> int:
        """The codec of `payload_type`."""
        return self.codecs[self.payload_type]

    @property
    def rtx_type(self) -> int | None:
        """What a publisher retransmits with; None: it can't."""
        return next((rtx for rtx, repaired in self.repairs.items() if repaired == self.payload_type), None)


@dataclass(frozen=True)
class Remote:
    """The server's end, as its answer names it; setup is its DTLS role: active (client) or passive (server)."""

    ufrag: str
    password: str
    lite: bool
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    candidates: tuple[tuple[str, int], ...]  # the preferred first
    media: tuple[Media, ...]

    def section(self, kind: str) -> Media | None:
        """The first accepted section of audio or video."""
        return next((media for media in self.media if media.kind == kind), None)


def read_answer(text: str, spec: PublishSpec | None = None) -> Remote:
    """What an answer says, checked against what a publisher wants to send. ValueError with what is missing."""
    description = parse_sdp(text)
    sections = [section for section in description.media if section.port]
    if not sections:
        raise ValueError("the answer refuses every media section")
    first = sections[0]
    ufrag, password = first.ice_ufrag or description.ice_ufrag, first.ice_pwd or description.ice_pwd
    if not ufrag or not password:
        raise ValueError("the answer has no a=ice-ufrag or no a=ice-pwd")
    prints = first.fingerprints or description.fingerprints
    if not prints:
        raise ValueError("the answer has no a=fingerprint")
    remote = Remote(
        ufrag=ufrag,
        password=password,
        lite=description.ice_lite,
        fingerprints=tuple((p.algorithm, p.value) for p in prints),
        setup=_setup(first.setup or description.setup),
        candidates=_usable([c for s in (description, *sections) for c in s.candidates]),
        media=tuple(media for section in sections if (media := _read_media(description, section)).codecs),
    )
    _check(remote, spec)
    return remote


def _setup(value: str | None) -> str:
    """The DTLS role; one that is not given is passive, which lets us call."""
    if value not in (None, "active", "passive"):
        raise ValueError(f"the answer has a=setup:{value}; a DTLS role is active or passive")
    return value or "passive"


def _usable(candidates: list[Candidate]) -> tuple[tuple[str, int], ...]:
    """UDP addresses of the first component, highest priority first, each once. ValueError when there are none."""
    fit = [c for c in candidates if c.transport.lower() == "udp" and c.component == 1 and c.ip and c.port]
    found = dict.fromkeys((str(c.ip), c.port) for c in sorted(fit, key=lambda c: -c.priority))
    if not found:
        others = ", ".join(f"{c.transport} {c.address}" for c in candidates[:4])
        raise ValueError(f"the answer has no UDP candidate with a literal address{others and ', but ' + others}")
    return tuple(found)


def _read_media(description: SessionDescription, section: MediaDescription) -> Media:
    codecs, repairs = _formats(section)
    known = {URIS[ext.uri]: ext.id for ext in (*description.extmap, *section.extmap) if ext.uri in URIS}
    return Media(
        kind=section.kind,
        mid=section.mid or "",
        codecs=codecs,
        repairs=repairs,
        extensions={kind: number for kind, number in known.items() if number <= 255},
        rids=tuple(section.rids),
    )


def _formats(section: MediaDescription) -> tuple[dict[int, int], dict[int, int]]:
    """The payload types that we know of a section, and those of RTX for them."""
    types = [int(text) for text in section.formats if text.isascii() and text.isdigit() and int(text) <= 127]
    names = {number: section.rtpmap[number].name.lower() for number in types if number in section.rtpmap}
    known = CODECS.get(section.kind, {})
    codecs = {number: known[name] for number, name in names.items() if name in known}
    repairs: dict[int, int] = {}
    for number in (number for number, name in names.items() if name == "rtx"):
        repaired = fmtp_parameters(section.fmtp.get(number, "")).get("apt", "")
        if repaired.isascii() and repaired.isdigit() and int(repaired) in codecs:
            repairs[number] = int(repaired)
    return codecs, repairs


def _check(remote: Remote, spec: PublishSpec | None) -> None:
    """ValueError when nothing can flow, or not all that a publisher sends."""
    if not remote.media:
        raise ValueError("the answer accepts no codec that was offered")
    if spec is None:
        return
    video = remote.section(VIDEO)
    if spec.video and (video is None or VIDEO_CODECS[spec.video] not in video.codecs.values()):
        raise ValueError(f"the answer does not accept {spec.video}")
    if spec.audio and remote.section(AUDIO) is None:
        raise ValueError("the answer does not accept Opus")
    if spec.video and spec.rids and video is not None and not set(spec.rids) <= set(video.rids):
        raise ValueError(f"the answer accepts the layers {', '.join(video.rids) or 'none'}, not {', '.join(spec.rids)}")
