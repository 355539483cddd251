"""Which layer an SSRC belongs to: by mid and rid, then by what the SDP declared, then by a unique payload type.

The answer is kept per transport, and SSRCs are bounded. A new SSRC for a layer that has one is a restarted encoder: it
takes over, and the packet log begins a new epoch. What has no payload (a probe for bandwidth, on SSRC 0 or before the
media) takes nothing over, and says nothing by its payload type.

The answer is not for life, because it may be taken on too little: the first packets of a stream may lack their names or
be padding, or were lost. An SSRC that was refused is looked at again with each packet that looks different (payload
type, payload or none, mid, rid, repaired rid) from the one before that was looked at; so is one that no name spoke for,
with each packet that bears another name. A peer has a bucket of such searches.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.extensions import MID, REPAIRED_RID, RID
from mediacodecs.frame import OPUS, int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import layer_of
from mediaserver.engine.buckets import may_identify
from mediaserver.engine.layout import AUDIO, GUESSED, LAYER, NO_TYPE
from mediaserver.engine.news import tell_refused

assert LAYER.fields is not None
LONGEST_NAME = LAYER.fields["mid"][0].itemsize  # bytes of a mid or rid: a longer one is no layer's
FNV_BASIS, FNV_PRIME, MASK32 = 0x811C9DC5, 0x01000193, 0xFFFFFFFF  # FNV-1a, the Fowler-Noll-Vo hash of 32 bits


@kernel
def slot_of(t: Any, ssrc: int) -> int:
    """The place of an SSRC that was learnt; -1: none."""
    for k in range(t.ssrc_count):
        if int64(t.ssrcs[k]) == ssrc:
            return int64(k)
    return -1


@kernel
def known_ssrc(t: Any, ssrc: int) -> int:
    """layer << 1 | is RTX, and GUESSED, of an SSRC; -1: refused; -2: not known."""
    k = slot_of(t, ssrc)
    return int64(t.ssrc_layers[k]) if k >= 0 else int64(-2)


@kernel
def same_text(b: Any, at: int, size: int, text: Any, text_size: int) -> bool:
    """Whether b[at:at+size] is this text."""
    if size != text_size:
        return False
    for k in range(size):
        if b[at + k] != text[k]:
            return False
    return True


@kernel
def mid_matches(b: Any, ext: Any, layer: Any) -> bool:
    """Whether the packet's mid, if it bears one, is the layer's."""
    size = int64(ext.size[MID])
    return size == 0 or same_text(b, int64(ext.at[MID]), size, layer.mid, int64(layer.mid_size))


@kernel
def rid_of(ext: Any, repair: bool) -> int:
    """The extension kind that names the layer of this packet; 0: it bears none."""
    kind = REPAIRED_RID if repair else RID
    if ext.size[kind] == 0 and repair:
        kind = RID
    return kind if ext.size[kind] else 0


@kernel
def by_names(w: Any, t: Any, b: Any, ext: Any, repair: bool) -> int:
    """The layer that mid and rid name; 0: none, or more than one."""
    kind = rid_of(ext, repair)
    if kind == 0 and ext.size[MID] == 0:
        return 0
    found = 0
    index = int64(t.first_layer)
    while index:
        layer = layer_of(w, index)
        good = mid_matches(b, ext, layer)
        if good and kind:
            good = same_text(b, int64(ext.at[kind]), int64(ext.size[kind]), layer.rid, int64(layer.rid_size))
        elif good:
            good = layer.rid_size == 0
        if good:
            if found:
                return 0
            found = index
        index = int64(layer.next)
    return int64(found)


@kernel
def by_declaration(w: Any, t: Any, b: Any, ssrc: int, repair: bool) -> int:
    """The layer whose a=ssrc or FID line has this SSRC; 0: none, or the packet's mid is of another section."""
    index = int64(t.first_layer)
    while index:
        layer = layer_of(w, index)
        if (layer.declared_rtx if repair else layer.declared_ssrc) == ssrc:
            return int64(index) if mid_matches(b, w.extensions, layer) else int64(0)
        index = int64(layer.next)
    return 0


@kernel
def by_payload_type(w: Any, t: Any, codec: int) -> int:
    """The only layer of the codec's kind; 0: none, or more than one."""
    found = 0
    index = int64(t.first_layer)
    while index:
        layer = layer_of(w, index)
        if (layer.kind == AUDIO) == (codec == OPUS) and layer.rid_size == 0:
            if found:
                return 0
            found = index
        index = int64(layer.next)
    return int64(found)


@kernel
def settled(reference: int) -> int:
    """layer << 1 | is RTX, whether it is a guess or not; -1: refused."""
    return reference & ~GUESSED if reference >= 0 else int64(reference)


@kernel
def doubtful(w: Any, reference: int) -> bool:
    """Whether the packet in hand may change what its SSRC refers to: it has a name, and there was only a guess."""
    sizes = w.extensions.size
    return reference & GUESSED != 0 and bool(sizes[MID] or sizes[RID] or sizes[REPAIRED_RID])


@kernel
def look_of(b: Any, rtp: Any, ext: Any) -> int:
    """All that an answer depends on beside the SSRC, as 32 bits: payload type, whether there is a payload, names."""
    look = (FNV_BASIS ^ int64(rtp.payload_type)) * FNV_PRIME & MASK32
    look = (look ^ int64(has_payload(rtp))) * FNV_PRIME & MASK32
    for kind in (MID, RID, REPAIRED_RID):
        size = min(int64(ext.size[kind]), int64(LONGEST_NAME))
        look = (look ^ size) * FNV_PRIME & MASK32
        for k in range(size):
            look = (look ^ int64(b[ext.at[kind] + k])) * FNV_PRIME & MASK32
    return look


@kernel
def has_payload(rtp: Any) -> bool:
    """Whether there is more than padding in a packet."""
    return bool(int64(rtp.payload_end) > int64(rtp.payload_at))


@kernel
def search(w: Any, t: Any, b: Any, ssrc: int) -> int:
    """layer << 1 | is RTX, and GUESSED, of the packet in w.rtp, whose extensions are in w.extensions; -1: none.

    A mid that no layer has is nobody's: it is not guessed (RFC 9143, section 9.2). That a declared SSRC has a rid is
    a guess, since no line of an offer says which rid an SSRC has: they are paired by their places.
    """
    primary = int64(t.repairs[w.rtp.payload_type])
    repair = primary != NO_TYPE
    codec = int64(t.codecs[primary if repair else w.rtp.payload_type])
    full = has_payload(w.rtp)
    if codec == 0 or not (full or repair):
        return -1
    index, guess = by_names(w, t, b, w.extensions, repair), False
    if index == 0:
        index = by_declaration(w, t, b, ssrc, repair)
        guess = index != 0 and layer_of(w, index).rid_size > 0
    if index == 0 and full and w.extensions.size[MID] == 0:
        index, guess = by_payload_type(w, t, codec), True
    if index == 0:
        return -1
    return int64(index << 1 | int64(repair) | int64(guess) * GUESSED)


@kernel
def identify(w: Any, ti: int, t: Any, b: Any, ssrc: int) -> int:
    """What an SSRC that is new, was refused or guessed refers to, by the authentic packet in w.rtp and w.extensions.

    Returns layer << 1 | is RTX, or -1: refused.
    """
    look = look_of(b, w.rtp, w.extensions)
    k = slot_of(t, ssrc)
    before = int64(t.ssrc_layers[k]) if k >= 0 else int64(-1)
    if k >= 0 and (int64(t.ssrc_looks[k]) == look or not may_identify(w, t)):
        return settled(before)
    found = search(w, t, b, ssrc)
    if k < 0:
        if found < 0 and has_payload(w.rtp):
            tell_refused(w, ti, t, ssrc, int64(w.rtp.payload_type))
        k = free_slot(w, t, found)
        if k < 0:
            return -1
    if before >= 0 and (found < 0 or found & GUESSED):
        found = before  # nothing better
    elif before >= 0 and settled(before) != found:
        let_go(w, settled(before), ssrc)
    if found >= 0 and found & 1:
        layer_of(w, settled(found) >> 1).rtx_ssrc = ssrc
    t.ssrcs[k], t.ssrc_layers[k], t.ssrc_looks[k] = ssrc, found, look
    return settled(found)


@kernel
def let_go(w: Any, reference: int, ssrc: int) -> None:
    """A layer loses an SSRC that was another's, unless it has a better one by now."""
    layer = layer_of(w, reference >> 1)
    if reference & 1 and layer.rtx_ssrc == ssrc:
        layer.rtx_ssrc = -1
    elif reference & 1 == 0 and layer.ssrc == ssrc:
        layer.ssrc = -1
        layer.missing_count = 0


@kernel
def free_slot(w: Any, t: Any, found: int) -> int:
    """A place for one more SSRC: a new one, or that of an SSRC that was refused or replaced; -1: none.

    `found` is what `search` said of it: what it names, not guesses, may take the place of the SSRC that was there.
    """
    if t.ssrc_count < t.ssrc_limit:
        t.ssrc_count += 1
        return int64(t.ssrc_count - 1)
    same = int64(-1)
    for k in range(t.ssrc_count):
        reference = settled(int64(t.ssrc_layers[k]))
        if reference < 0:
            return k
        layer = layer_of(w, reference >> 1)
        if int64(t.ssrcs[k]) != (layer.rtx_ssrc if reference & 1 else layer.ssrc):
            return k
        if reference == found:
            same = k
    return int64(same)
