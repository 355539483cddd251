"""Which protocol a datagram of a WebRTC transport belongs to, by its first byte (RFC 7983 section 7)."""

from __future__ import annotations

from mediacodecs.kernel import kernel

STUN, DTLS, RTP, OTHER = range(4)  # RTP: or RTCP, see mediacodecs.rtcp.is_rtcp; OTHER: ZRTP, TURN channels, QUIC, noise


@kernel
def first_byte_kind(first: int) -> int:
    """STUN, DTLS, RTP or OTHER."""
    if first < 4:
        return STUN
    if 20 <= first < 64:
        return DTLS
    if 128 <= first < 192:
        return RTP
    return OTHER
