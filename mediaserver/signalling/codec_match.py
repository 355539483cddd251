"""Which codecs we forward, how an offer names them, and when one side's codec can be played by another's.

The node never transcodes: a published stream reaches a subscriber only if that offered a codec able to decode it. The
rules are those of the payload formats: RFC 6184 (H.264), RFC 7587 (Opus), RFC 9628 (VP9), and the one of AV1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from mediacodecs.frame import AV1, H264, OPUS, VP8, VP9
from mediacodecs.sdp import MediaDescription, Rtpmap, fmtp_parameters

CODECS = {"audio": {"opus": OPUS}, "video": {"vp8": VP8, "vp9": VP9, "h264": H264, "av1": AV1}}
CLOCK_RATES = {"audio": 48000, "video": 90000}  # Hz
FEEDBACK = frozenset({"nack", "nack pli", "ccm fir", "transport-cc"})
PROFILES = {VP9: "profile-id", AV1: "profile"}  # the parameter that holds the number of a profile
MAX_CODECS = 32  # of a section, of those that we forward; a browser offers some 20
RTCP_CLASH = range(64, 96)  # payload types that rtcp-mux can't tell from RTCP (RFC 5761, section 4)
DEFAULT_PROFILE_LEVEL_ID = "42e01f"  # what browsers assume when fmtp names none

# Patterns of profile_iop per profile (RFC 6184, table 5): profile_idc, mask, value, profile.
H264_PROFILES = (
    (0x42, 0x4F, 0x40, "constrained-baseline"),
    (0x4D, 0x8F, 0x80, "constrained-baseline"),
    (0x58, 0xCF, 0xC0, "constrained-baseline"),
    (0x42, 0x4F, 0x00, "baseline"),
    (0x58, 0xCF, 0x80, "baseline"),
    (0x4D, 0xAF, 0x00, "main"),
    (0x58, 0xCF, 0x00, "extended"),
    (0x64, 0xFF, 0x00, "high"),
    (0x64, 0xFF, 0x0C, "constrained-high"),
    (0x6E, 0xFF, 0x00, "high-10"),
    (0x7A, 0xFF, 0x00, "high-4:2:2"),
    (0xF4, 0xFF, 0x00, "predictive-high-4:4:4"),
)
H264_BY_IDC = {  # where profile_iop has bits that the table does not: a constraint more makes no stream harder
    0x42: "baseline", 0x4D: "main", 0x58: "extended", 0x64: "high", 0x6E: "high-10", 0x7A: "high-4:2:2",
    0xF4: "predictive-high-4:4:4",
}  # fmt: skip
ABOVE_HIGH = ("high-10", "high-4:2:2", "predictive-high-4:4:4")
# Decoders of the profiles on the right play the one on the left, best first. Baseline as sent in practice uses neither
# flexible ordering nor redundant slices, which is all that it has above constrained baseline.
H264_PLAYED_BY = {
    "constrained-baseline": ("constrained-baseline", "baseline", "main", "constrained-high", "high", *ABOVE_HIGH),
    "baseline": ("baseline", "constrained-baseline", "main", "constrained-high", "high", *ABOVE_HIGH),
    "main": ("main", "high", *ABOVE_HIGH),
    "constrained-high": ("constrained-high", "high", *ABOVE_HIGH),
    "high": ("high", *ABOVE_HIGH),
    "high-10": ABOVE_HIGH,
    "high-4:2:2": ABOVE_HIGH[1:],
}
# Of 8 bits and 4:2:0, the least demanding first: decoders that are in use take all of them, whatever was negotiated
# (docs/decisions/0010-which-h264-goes-where.md).
H264_USUAL = ("constrained-baseline", "baseline", "main", "constrained-high", "high")
NAMES = {OPUS: "Opus", VP8: "VP8", VP9: "VP9", H264: "H.264", AV1: "AV1"}  # for sentences
Rank = tuple[int, int]  # how much is not promised, 0: nothing; and then how far from the exact codec
EXACT = (0, 0)
MODE_UNPROMISED, PROFILE_UNPROMISED = 1, 2


@dataclass(frozen=True)
class Codec:
    """One payload type of an offer that we can forward; codec is a constant of mediacodecs.frame, clock_rate in Hz."""

    codec: int
    name: str
    payload_type: int
    clock_rate: int
    channels: int | None = None
    fmtp: dict[str, str] = field(default_factory=dict, hash=False)
    rtx_payload_type: int | None = None
    feedback: frozenset[str] = frozenset()


def read_codecs(media: MediaDescription, *, twcc: bool) -> list[Codec]:
    """The codecs of a media section that we forward, in the order offered.

    RED, FEC, comfort noise and telephone events are not among them. twcc says whether the transport-wide sequence
    number extension is agreed: transport-cc feedback has no meaning without it.
    """
    retransmissions = dict(_retransmissions(media))
    codecs: list[Codec] = []
    for payload_type in _payload_types(media):
        if len(codecs) == MAX_CODECS:
            break
        rtpmap = media.rtpmap.get(payload_type)
        codec = _known(media.kind, rtpmap)
        if rtpmap is None or codec is None:
            continue
        found = Codec(
            codec=codec,
            name=rtpmap.name,
            payload_type=payload_type,
            clock_rate=rtpmap.clock_rate,
            channels=rtpmap.channels,
            fmtp=fmtp_parameters(media.fmtp.get(payload_type, "")),
            rtx_payload_type=retransmissions.get(payload_type),
            feedback=_feedback(media, payload_type, twcc=twcc),
        )
        codecs.append(_shared(found))
    return codecs


@functools.lru_cache(maxsize=1024)
def _shared(codec: Codec) -> Codec:
    """One object for all equal ones: viewers with the same browser offer the same, 14 KB of it each."""
    return codec


def _feedback(media: MediaDescription, payload_type: int, *, twcc: bool) -> frozenset[str]:
    """The feedback that we take part in."""
    offered = FEEDBACK.intersection(media.feedback(payload_type))
    return offered if twcc else offered - {"transport-cc"}


def _known(kind: str, rtpmap: Rtpmap | None) -> int | None:
    """The codec constant if the rtpmap is one that we forward for this kind of media."""
    if rtpmap is None or rtpmap.clock_rate != CLOCK_RATES.get(kind):
        return None
    return CODECS[kind].get(rtpmap.name.lower())


def _payload_types(media: MediaDescription) -> list[int]:
    """The formats that are usable payload types, each once."""
    numbers = [int(text) for text in media.formats if text.isascii() and text.isdigit() and len(text) <= 3]
    return list(dict.fromkeys(n for n in numbers if n <= 127 and n not in RTCP_CLASH))


def _retransmissions(media: MediaDescription) -> Iterator[tuple[int, int]]:
    """(payload type repaired, payload type of its RTX) as `apt` says (RFC 4588, section 8.6)."""
    for payload_type in _payload_types(media):
        rtpmap = media.rtpmap.get(payload_type)
        if rtpmap is None or rtpmap.name.lower() != "rtx":
            continue
        apt = fmtp_parameters(media.fmtp.get(payload_type, "")).get("apt", "")
        if apt.isascii() and apt.isdigit() and len(apt) <= 3:
            yield int(apt), payload_type


def prefer_widely_understood(codecs: list[Codec]) -> list[Codec]:
    """The same codecs, those of H.264 in the places that it has by how many decoders take them: mode 1, then profile.

    A sender of several codecs sends the first of the answer.
    """
    h264 = iter(sorted((c for c in codecs if c.codec == H264), key=_demand))
    return [next(h264) if codec.codec == H264 else codec for codec in codecs]


def _demand(codec: Codec) -> tuple[int, int]:
    """How much an H.264 stream asks of decoders: packetization modes in the order 1, 0, 2, then the profile."""
    mode, profile = packetization_mode(codec), h264_profile(codec)
    usual = H264_USUAL.index(profile) if profile in H264_USUAL else len(H264_USUAL)
    return (2 if mode not in ("0", "1") else mode == "0", usual)


def packetization_mode(codec: Codec) -> str:
    """H.264's packetization-mode, 0 when not given (RFC 6184, section 8.1)."""
    return codec.fmtp.get("packetization-mode", "0")


def h264_profile(codec: Codec) -> str:
    """The name of the H.264 profile that profile-level-id stands for; four hex digits when it is none of ours."""
    text = codec.fmtp.get("profile-level-id", DEFAULT_PROFILE_LEVEL_ID).lower()
    return _profile_of(text if len(text) == 6 else DEFAULT_PROFILE_LEVEL_ID)


@functools.lru_cache(maxsize=256)
def _profile_of(text: str) -> str:
    if set(text) - set("0123456789abcdef"):
        text = DEFAULT_PROFILE_LEVEL_ID
    idc, iop = int(text[:2], 16), int(text[2:4], 16)
    found = (name for i, mask, value, name in H264_PROFILES if idc == i and iop & mask == value)
    return next(found, H264_BY_IDC.get(idc, text[:4]))


def match_codec(published: Codec, subscribed: list[Codec]) -> Codec | None:
    """The subscriber's codec that best takes the published stream unchanged, None when none can."""
    ranked = [(_rank(published, codec), at) for at, codec in enumerate(subscribed) if codec.codec == published.codec]
    usable = sorted((rank, at) for rank, at in ranked if rank is not None)
    return subscribed[usable[0][1]] if usable else None


def is_fall_back(published: Codec, subscribed: Codec) -> bool:
    """Whether a codec that match_codec found does not promise to decode the stream, but does so in practice."""
    rank = _rank(published, subscribed)
    return rank is not None and rank[0] > 0


def describe_codec(codec: Codec) -> str:
    """The codec as a sentence names it: with its profile and, for H.264, the packetization mode."""
    name = NAMES.get(codec.codec, codec.name)
    if codec.codec == H264:
        profile = h264_profile(codec).replace("-", " ").title()
        return f"{name} {profile} in packetization mode {packetization_mode(codec)[:8]}"
    return f"{name} profile {_profile(codec)}" if codec.codec in PROFILES else name


def describe_kind(kind: str) -> str:
    """The codecs of audio or of video that the node forwards, as a sentence names them."""
    names = [NAMES[codec] for codec in CODECS[kind].values()]
    return " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])


def _rank(published: Codec, offered: Codec) -> Rank | None:
    """How well offered decodes what published sends: the lower the better, None not at all."""
    if published.codec == H264:
        return _rank_h264(published, offered)
    if published.codec == VP9:
        return EXACT if _profile(published) == _profile(offered) else None
    if published.codec == AV1:  # a decoder of a profile takes the lower ones (AV1 specification, section 6.4.1)
        ours, theirs = _profile(published), _profile(offered)
        return (0, theirs - ours) if theirs >= ours else None
    return EXACT  # Opus too: its channels in rtpmap mean nothing and are left out by some (RFC 7587, section 7)


def _rank_h264(published: Codec, offered: Codec) -> Rank | None:
    """By profile first, then by packetization mode; the level is left aside."""
    profile = _rank_profile(h264_profile(published), h264_profile(offered))
    mode = _rank_mode(packetization_mode(published), packetization_mode(offered))
    if profile is None or mode is None:
        return None
    return profile[0] + mode[0], 2 * profile[1] + mode[1]


def _rank_profile(sent: str, taken: str) -> Rank | None:
    """Same or higher; or, among the usual ones, a lower: then the most demanding that is taken is the best."""
    players = H264_PLAYED_BY.get(sent, (sent,))
    if taken in players:
        return 0, players.index(taken)
    if sent in H264_USUAL and taken in H264_USUAL:
        return PROFILE_UNPROMISED, len(H264_USUAL) - H264_USUAL.index(taken)
    return None


def _rank_mode(sent: str, taken: str) -> Rank | None:
    """Who takes mode 1 takes the single packets of mode 0 (RFC 6184, section 6.3); in practice the reverse is true."""
    if sent == taken:
        return EXACT
    return {("0", "1"): (0, 1), ("1", "0"): (MODE_UNPROMISED, 1)}.get((sent, taken))


def _profile(codec: Codec) -> int:
    """A profile number of fmtp, 0 when absent; one that is no small number matches nothing but itself."""
    text = codec.fmtp.get(PROFILES[codec.codec], "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else 1000
