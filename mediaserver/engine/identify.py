"""Which layer an SSRC belongs to: by mid and rid, then by what the SDP declared, then by a unique payload type.

The answer is kept per transport; an SSRC that can't be told is refused, once, and SSRCs are bounded. A new SSRC for a
layer that has one is a restarted encoder: it takes over, and the packet log begins a new epoch.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.extensions import MID, REPAIRED_RID, RID
from mediacodecs.frame import OPUS, int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import layer_of
from mediaserver.engine.layout import AUDIO, NO_TYPE
from mediaserver.engine.news import tell_refused


@kernel
def known_ssrc(t: Any, ssrc: int) -> int:
    """layer << 1 | is RTX of an SSRC; -1: refused; -2: not known."""
    for k in range(t.ssrc_count):
        if int64(t.ssrcs[k]) == ssrc:
            return int64(t.ssrc_layers[k])
    return -2


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
def by_declaration(w: Any, t: Any, ssrc: int, repair: bool) -> int:
    """The layer whose a=ssrc or FID line has this SSRC; 0: none."""
    index = int64(t.first_layer)
    while index:
        layer = layer_of(w, index)
        if (layer.declared_rtx if repair else layer.declared_ssrc) == ssrc:
            return index
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
def identify(w: Any, ti: int, t: Any, b: Any, ssrc: int, payload_type: int) -> int:
    """Learn an SSRC from an authenticated packet whose extensions are in w.extensions.

    Returns layer << 1 | is RTX, or -1: refused.
    """
    primary = int64(t.repairs[payload_type])
    repair = primary != NO_TYPE
    codec = int64(t.codecs[primary if repair else payload_type])
    layer_index = by_names(w, t, b, w.extensions, repair)
    if layer_index == 0:
        layer_index = by_declaration(w, t, ssrc, repair)
    if layer_index == 0 and codec:
        layer_index = by_payload_type(w, t, codec)
    reference = int64(-1)
    if layer_index and codec:
        reference = layer_index << 1 | int64(repair)
        layer = layer_of(w, layer_index)
        if repair:
            layer.rtx_ssrc = ssrc
    else:
        tell_refused(w, ti, t, ssrc, payload_type)
    slot = free_slot(w, t)
    if slot < 0:
        return -1
    t.ssrcs[slot] = ssrc
    t.ssrc_layers[slot] = reference
    return reference


@kernel
def free_slot(w: Any, t: Any) -> int:
    """A place for one more SSRC: a new one, or that of an SSRC that was refused or replaced; -1: none."""
    if t.ssrc_count < t.ssrc_limit:
        t.ssrc_count += 1
        return int64(t.ssrc_count - 1)
    for k in range(t.ssrc_count):
        reference = int64(t.ssrc_layers[k])
        if reference < 0:
            return k
        layer = layer_of(w, reference >> 1)
        if int64(t.ssrcs[k]) != (layer.rtx_ssrc if reference & 1 else layer.ssrc):
            return k
    return -1
