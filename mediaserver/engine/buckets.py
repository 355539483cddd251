"""What one peer may cost others: token buckets, and the door that they keep.

A bucket is one word of its owner's record: the time (ns) at which it will be full again. Each use moves that on by the
pause that is due between two uses in the long run, and is refused when the bucket would then be more than `depth` ns
from full. So a zeroed record has full buckets, and nothing has to refill them. Whoever is refused pays alone: the
buckets are the peer's own, and they are asked before the work that they limit is done.

Media and RTCP pass the door before anything is decrypted. A worker that can't keep up (round after round leaves
datagrams in the socket) also lets each peer have only a share of what it takes, which shrinks until the socket is
drained, and grows slowly: the kernel drops without asking whose a datagram is, so what can't be served must go fast.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.layout import (
    BYTE_SHIFT,
    CHECKS,
    EPOCHS,
    IDENTITIES,
    MS,
    NACKED,
    SECOND,
    UPLINK_BYTES,
    UPLINK_PACKETS,
)

UPLINK_DEPTH = SECOND  # ns; a second's worth at once: the 4 MB of a 4K screen's keyframe and what else is being sent
CHECK_PAUSE = 20 * MS  # ns; ICE agents send a check every 20 to 50 ms (RFC 8445 14), over all pairs together
CHECK_DEPTH = 200 * CHECK_PAUSE  # two restarts of an agent with many addresses
EPOCH_PAUSE = 500 * MS  # ns; a new epoch costs every reader of the log; encoders restart at worst every few seconds …
EPOCH_DEPTH = 64 * EPOCH_PAUSE  # … but all layers at once, when a page changes its camera or a script loops
IDENTITY_PAUSE = 20 * MS  # ns; packets of streams that were refused come with names in any case, a page adds few …
IDENTITY_DEPTH = 64 * IDENTITY_PAUSE  # … but all layers at once, twice as many as a publisher can have
NACK_PAUSE = MS // 4  # ns; 4,000 numbers a second: 10 % of what a viewer of 25 videos gets, asked for once again
NACK_DEPTH = SECOND  # a second's worth at once: what 100 ms without a network lose, of all streams
WINDOW = 20 * MS  # ns in which shares are counted
FIRST_SHARE, LEAST_SHARE = 128, 32  # datagrams of a window that a peer is served at first, and always: 1,600 a second
BEHIND = 50 * MS  # ns that the socket is not emptied before shares shrink: keyframes of a whole room are no overload …
ROUNDS = 8  # … and rounds: a worker that got no processor for a while works off what waited
EASE = SECOND  # ns after which a share grows again


@kernel
def allow(buckets: Any, kind: int, now: int, pause: int, depth: int) -> bool:
    """Take one use from a bucket. False: there is none left, and nothing was taken."""
    full = max(int64(buckets[kind]), int64(now)) + pause
    if full - now > depth:
        return False
    buckets[kind] = full
    return True


@kernel
def admitted(w: Any, t: Any, size: int) -> bool:
    """Whether a peer may send this datagram of media or RTCP: by its packets, its bytes and its share; counted if not.

    Asked before SRTP. What it refuses costs a table look-up and some comparisons.
    """
    good = w.crowded == 0 or within_share(w, t)
    good = good and allow(t.buckets, UPLINK_PACKETS, w.now, w.uplink_packet_pause, UPLINK_DEPTH)
    if good and allow(t.buckets, UPLINK_BYTES, w.now, size * w.uplink_byte_pause >> BYTE_SHIFT, UPLINK_DEPTH):
        w.media_taken += 1
        return True
    w.drop_uplink += 1
    t.policed += 1
    return False


@kernel
def within_share(w: Any, t: Any) -> bool:
    """Count a datagram of this window; False: the peer had its share."""
    window = w.now // WINDOW
    if t.share_window != window:
        t.share_window, t.share_taken = window, 0
    t.share_taken += 1
    return bool(t.share_taken <= w.share)


@kernel
def note_round(w: Any, behind: bool) -> None:
    """Note whether a round left datagrams in the socket. Shares halve while all rounds do, and double later."""
    if not behind or w.behind_rounds == 0:
        w.behind_since, w.behind_rounds = w.now, 0
    w.behind_rounds += behind
    since = w.now - max(int64(w.behind_since), int64(w.share_changed))
    if w.behind_rounds >= ROUNDS and since >= BEHIND:
        w.share = max(int64(w.share) >> 1, int64(LEAST_SHARE)) if w.crowded else int64(FIRST_SHARE)
        w.share_changed, w.crowded = w.now, 1
    elif w.crowded and w.now - w.share_changed >= EASE:
        w.share, w.share_changed = w.share << 1, w.now
        w.crowded = int64(w.share <= FIRST_SHARE)


@kernel
def may_check(w: Any, t: Any) -> bool:
    """Whether a binding request is worth an HMAC: a peer's own bucket, since only it was told its ufrag."""
    return allow(t.buckets, CHECKS, w.now, CHECK_PAUSE, CHECK_DEPTH)


@kernel
def may_begin_epoch(w: Any, t: Any) -> bool:
    """Whether the publisher may begin one more epoch of a log that has been written to."""
    return allow(t.buckets, EPOCHS, w.now, EPOCH_PAUSE, EPOCH_DEPTH)


@kernel
def may_identify(w: Any, t: Any) -> bool:
    """Whether one more search may be made for the layer of an SSRC that had its answer."""
    return allow(t.buckets, IDENTITIES, w.now, IDENTITY_PAUSE, IDENTITY_DEPTH)


@kernel
def may_ask_again(w: Any, t: Any) -> bool:
    """Whether a viewer may ask for one more lost packet, of whatever stream."""
    return allow(t.buckets, NACKED, w.now, NACK_PAUSE, NACK_DEPTH)
