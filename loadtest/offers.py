"""The SDP that load clients offer and what they read of the answer: Opus and VP8 with RTX on one bundled transport.

Kept to what a browser can't do without, so that a run measures the node and not its SDP code. Payload types and
extension ids are Chromium's.
"""

from __future__ import annotations

from dataclasses import dataclass

from mediacodecs.sdp import parse_sdp

OPUS_TYPE, VP8_TYPE, RTX_TYPE = 111, 96, 97
LEVEL_ID, TWCC_ID, MID_ID = 1, 3, 4
AUDIO_MID, VIDEO_MID = "0", "1"
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
LEVEL_URI = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
TWCC_URI = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"


@dataclass(frozen=True)
class Sources:
    """The SSRCs of a publisher and its CNAME."""

    audio: int
    video: int
    rtx: int
    cname: str


@dataclass(frozen=True)
class Local:
    """Our end of the transport, as the offer names it."""

    ufrag: str
    password: str
    fingerprint: str
    host: str
    port: int


@dataclass(frozen=True)
class Remote:
    """The node's end, as its answer names it; setup is its DTLS role, ssrcs those it announces."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]
    setup: str
    address: tuple[str, int]
    ssrcs: tuple[int, ...]


def offer(local: Local, sources: Sources | None) -> str:
    """A WHIP offer when there are sources, else a WHEP offer."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE {AUDIO_MID} {VIDEO_MID}"]
    return "\r\n".join(lines + _audio(local, sources) + _video(local, sources)) + "\r\n"


def _common(local: Local, mid: str, sending: bool) -> list[str]:
    return [
        f"c=IN IP4 {local.host}",
        f"a=mid:{mid}",
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        "a=setup:actpass",
        "a=sendonly" if sending else "a=recvonly",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        f"a=candidate:1 1 udp 2130706431 {local.host} {local.port} typ host",
        "a=end-of-candidates",
        f"a=extmap:{MID_ID} {MID_URI}",
    ]


def _audio(local: Local, sources: Sources | None) -> list[str]:
    lines = [f"m=audio {local.port} UDP/TLS/RTP/SAVPF {OPUS_TYPE}", *_common(local, AUDIO_MID, sources is not None)]
    lines += [f"a=extmap:{LEVEL_ID} {LEVEL_URI}"]
    lines += [f"a=rtpmap:{OPUS_TYPE} opus/48000/2", f"a=fmtp:{OPUS_TYPE} minptime=10;useinbandfec=1"]
    if sources:
        lines += [f"a=msid:load audio-{sources.audio}", f"a=ssrc:{sources.audio} cname:{sources.cname}"]
    return lines


def _video(local: Local, sources: Sources | None) -> list[str]:
    formats = f"{VP8_TYPE} {RTX_TYPE}"
    lines = [f"m=video {local.port} UDP/TLS/RTP/SAVPF {formats}", *_common(local, VIDEO_MID, sources is not None)]
    feedback = ["nack", "nack pli", "ccm fir"]
    if sources:
        lines += [f"a=extmap:{TWCC_ID} {TWCC_URI}"]
        feedback.append("transport-cc")
    lines += [f"a=rtpmap:{VP8_TYPE} VP8/90000", *(f"a=rtcp-fb:{VP8_TYPE} {name}" for name in feedback)]
    lines += [f"a=rtpmap:{RTX_TYPE} rtx/90000", f"a=fmtp:{RTX_TYPE} apt={VP8_TYPE}"]
    if sources:
        lines += [f"a=msid:load video-{sources.video}", f"a=ssrc-group:FID {sources.video} {sources.rtx}"]
        lines += [f"a=ssrc:{ssrc} cname:{sources.cname}" for ssrc in (sources.video, sources.rtx)]
    return lines


def read_answer(text: str, host: str) -> Remote:
    """What the answer says of the transport; `host` is the preferred candidate. ValueError if a part is missing."""
    description = parse_sdp(text)
    sections = [section for section in description.media if section.port]
    if not sections:
        raise ValueError("the answer refuses every media section")
    first = sections[0]
    candidates = [(c.ip, c.port) for s in sections for c in s.candidates if c.transport == "udp" and c.ip]
    if not candidates:
        raise ValueError("the answer has no UDP candidate")
    ip, port = next((c for c in candidates if c[0] == host), candidates[0])
    ufrag, password = first.ice_ufrag or description.ice_ufrag, first.ice_pwd or description.ice_pwd
    prints = first.fingerprints or description.fingerprints
    if not ufrag or not password or not prints or ip is None:
        raise ValueError("the answer has no ICE credentials or no fingerprint")
    return Remote(
        ufrag=ufrag,
        password=password,
        fingerprints=tuple((p.algorithm, p.value) for p in prints),
        setup=first.setup or description.setup or "passive",
        address=(ip, port),
        ssrcs=tuple(ssrc for section in sections for ssrc in section.ssrcs),
    )
