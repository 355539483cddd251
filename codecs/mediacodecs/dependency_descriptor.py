"""The dependency descriptor (RTP Payload Format For AV1, v1.0, Appendix A): which frames a frame needs, for any codec.

A keyframe carries the structure: templates of layer, decode target indications, references and chains. Later frames
name a template and tell where they differ, so the structure is kept per stream in a DD_STATE record. Start with a
zeroed one, and zero it when the stream's SSRC changes. Where the descriptor is present it wins over the payload's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import read_bits
from mediacodecs.frame import MALFORMED, NO_STRUCTURE, OK, TRUNCATED, Bytes, int64
from mediacodecs.kernel import kernel

MAX_TEMPLATES, MAX_TARGETS, MAX_LAYERS, MAX_TEMPORAL = 64, 32, 4, 8
MAX_REFERENCES = 16  # references of one frame that we take; AV1 has 7
ABSENT, DISCARDABLE, SWITCH, REQUIRED = range(4)  # decode target indications, table A.1
STRUCTURE, ACTIVE, CUSTOM_DTIS, CUSTOM_FDIFFS, CUSTOM_CHAINS = 16, 8, 4, 2, 1  # flags of the extended fields
HISTORY = 64  # frames whose layers are remembered, to know what a reference leads to
KEY_WINDOW = 1024  # frames after which a keyframe's number is forgotten, long before the numbers wrap
LATE_WINDOW = 512  # frames by which a keyframe that was sent again may come late

DD_STATE = np.dtype(
    [
        ("bit", "i8"),  # reader: bit position in the bytes being parsed …
        ("limit", "i8"),  # … and the position after their last bit
        ("valid", "i8"),  # 1: the structure below is whole
        ("template_offset", "i8"),  # id of template 0
        ("templates", "i8"),
        ("targets", "i8"),  # decode targets
        ("chains", "i8"),
        ("layers", "i8"),  # spatial layers
        ("sized", "i8"),  # 1: width and height are told
        ("active", "i8"),  # bit t: decode target t is being sent
        ("keyed", "i8"),  # 1: key_number is recent
        ("key_number", "i8"),  # frame number of the newest keyframe
        ("number", "i8"),  # the newest parsed frame: its number, template, references and chains
        ("template", "i8"),
        ("fdiff_count", "i8"),
        ("fdiffs", "i4", (MAX_REFERENCES,)),  # distances to the frames it refers to
        ("chain_fdiffs", "i4", (MAX_TARGETS,)),  # distance to the previous frame in each chain; 0: it begins here
        ("dtis", "u1", (MAX_TARGETS,)),
        ("width", "i4", (MAX_LAYERS,)),
        ("height", "i4", (MAX_LAYERS,)),
        ("target_chain", "u1", (MAX_TARGETS,)),  # the chain that protects a decode target
        ("target_spatial", "u1", (MAX_TARGETS,)),
        ("target_temporal", "u1", (MAX_TARGETS,)),
        ("template_spatial", "u1", (MAX_TEMPLATES,)),
        ("template_temporal", "u1", (MAX_TEMPLATES,)),
        ("template_fdiff_count", "u1", (MAX_TEMPLATES,)),
        ("template_fdiffs", "u1", (MAX_TEMPLATES, MAX_REFERENCES)),
        ("template_dtis", "u1", (MAX_TEMPLATES, MAX_TARGETS)),
        ("template_chains", "u1", (MAX_TEMPLATES, MAX_TARGETS)),
        ("seen", "i4", (HISTORY,)),  # frame number + 1 of a remembered frame; 0: none
        ("seen_layer", "u1", (HISTORY,)),  # its spatial << 4 | switch_up << 3 | temporal
    ],
    align=True,
)


@kernel
def parse_dependency_descriptor(b: Bytes, at: int, size: int, state: Any, frame: Any) -> int:
    """Fill a FRAME, on top of what the payload told, from the descriptor b[at:at+size] and the stream's DD_STATE.

    Returns OK, TRUNCATED, MALFORMED, or NO_STRUCTURE when the templates are unknown (a keyframe was lost); start and
    end are then still told. Keyframe is set on each packet of a keyframe and of the layers above it in its picture.
    """
    if size < 3:
        return TRUNCATED
    head = int64(b[at])
    number = int64(b[at + 1]) << 8 | int64(b[at + 2])
    state.bit = (at + 3) * 8
    state.limit = (at + size) * 8
    frame.start = head >> 7
    frame.end = head >> 6 & 1
    flags = take(b, state, 5) if size > 3 else int64(0)
    if flags & STRUCTURE:
        if state.keyed and 0 < (state.key_number - number & 0xFFFF) <= LATE_WINDOW:
            return late_keyframe(frame)
        state.valid = 0
        error = read_structure(b, state)
        if error:
            return error
    template = (head & 63) - state.template_offset & 63
    if not state.valid and not flags & STRUCTURE or template >= state.templates:
        return NO_STRUCTURE
    if flags & ACTIVE:
        state.active = take(b, state, state.targets)
    if not read_definition(b, state, template, flags):
        return MALFORMED
    if state.bit > state.limit:
        return TRUNCATED
    note_number(state, number, template, flags)
    fill_frame(state, frame, flags)
    return OK


@kernel
def take(b: Bytes, state: Any, count: int) -> int:
    """The next `count` bits, highest first: f(n) of the specification. Past the end they are 0."""
    bit = int64(state.bit)
    state.bit = bit + count
    return read_bits(b, bit, int64(state.limit), count)


@kernel
def take_ns(b: Bytes, state: Any, count: int) -> int:
    """The next number below `count` in the non-symmetric code: ns(n) of the specification."""
    width = 0
    while count >> width:
        width += 1
    short = (1 << width) - count
    value = take(b, state, width - 1)
    if value < short:
        return value
    return (value << 1) - short + take(b, state, 1)


@kernel
def late_keyframe(frame: Any) -> int:
    """A keyframe older than the newest, sent again: its structure must not replace the newer one."""
    frame.keyframe = 1
    frame.spatial = 0
    frame.temporal = 0
    frame.switch_up = 1
    frame.discardable = 0
    frame.inter_layer = 0
    return OK


@kernel
def read_structure(b: Bytes, state: Any) -> int:
    """template_dependency_structure(): returns OK, TRUNCATED or MALFORMED; `valid` is left to the caller."""
    state.template_offset = take(b, state, 6)
    state.targets = take(b, state, 5) + 1
    if not read_layers(b, state):
        return MALFORMED
    for template in range(state.templates):
        for target in range(state.targets):
            state.template_dtis[template, target] = take(b, state, 2)
    if not read_fdiffs(b, state):
        return MALFORMED
    read_chains(b, state)
    find_target_layers(state)
    state.sized = take(b, state, 1)
    if state.sized:
        for layer in range(state.layers):
            state.width[layer] = take(b, state, 16) + 1
            state.height[layer] = take(b, state, 16) + 1
    state.active = (1 << int64(state.targets)) - 1
    return TRUNCATED if state.bit > state.limit else OK


@kernel
def read_layers(b: Bytes, state: Any) -> bool:
    """template_layers(); False: more templates or layers than there can be."""
    spatial = 0
    temporal = 0
    for template in range(MAX_TEMPLATES):
        state.template_spatial[template] = spatial
        state.template_temporal[template] = temporal
        following = take(b, state, 2)
        if following == 1:
            temporal += 1
        elif following == 2:
            temporal = 0
            spatial += 1
        elif following == 3:
            state.templates = template + 1
            state.layers = spatial + 1
            return True
        if temporal >= MAX_TEMPORAL or spatial >= MAX_LAYERS:
            return False
    return False


@kernel
def read_fdiffs(b: Bytes, state: Any) -> bool:
    """template_fdiffs(); False: a template has too many."""
    for template in range(state.templates):
        count = 0
        while take(b, state, 1):
            if count == MAX_REFERENCES:
                return False
            state.template_fdiffs[template, count] = take(b, state, 4) + 1
            count += 1
        state.template_fdiff_count[template] = count
    return True


@kernel
def read_chains(b: Bytes, state: Any) -> None:
    """template_chains()."""
    chains = take_ns(b, state, int64(state.targets) + 1)
    state.chains = chains
    if chains == 0:
        return
    for target in range(state.targets):
        state.target_chain[target] = take_ns(b, state, chains)
    for template in range(state.templates):
        for chain in range(chains):
            state.template_chains[template, chain] = take(b, state, 4)


@kernel
def find_target_layers(state: Any) -> None:
    """decode_target_layers(): the highest layers of a decode target's templates."""
    for target in range(state.targets):
        spatial = int64(0)
        temporal = int64(0)
        for template in range(state.templates):
            if state.template_dtis[template, target] != ABSENT:
                spatial = max(spatial, int64(state.template_spatial[template]))
                temporal = max(temporal, int64(state.template_temporal[template]))
        state.target_spatial[target] = spatial
        state.target_temporal[target] = temporal


@kernel
def read_definition(b: Bytes, state: Any, template: int, flags: int) -> bool:
    """frame_dependency_definition(): the frame's own indications, or its template's. False: too many references."""
    for target in range(state.targets):
        custom = flags & CUSTOM_DTIS
        state.dtis[target] = take(b, state, 2) if custom else int64(state.template_dtis[template, target])
    if flags & CUSTOM_FDIFFS:
        count = 0
        size = take(b, state, 2)
        while size:
            if count == MAX_REFERENCES:
                return False
            state.fdiffs[count] = take(b, state, 4 * size) + 1
            count += 1
            size = take(b, state, 2)
        state.fdiff_count = count
    else:
        state.fdiff_count = state.template_fdiff_count[template]
        for k in range(state.fdiff_count):
            state.fdiffs[k] = state.template_fdiffs[template, k]
    for chain in range(state.chains):
        custom = flags & CUSTOM_CHAINS
        state.chain_fdiffs[chain] = take(b, state, 8) if custom else int64(state.template_chains[template, chain])
    return True


@kernel
def note_number(state: Any, number: int, template: int, flags: int) -> None:
    """Keep the parsed frame's number and template, and the newest keyframe's number while it is recent."""
    state.number = number
    state.template = template
    if flags & STRUCTURE:
        state.valid = 1
        state.keyed = 1
        state.key_number = number
    elif KEY_WINDOW < (number - state.key_number & 0xFFFF) < 0x8000:
        state.keyed = 0


@kernel
def fill_frame(state: Any, frame: Any, flags: int) -> None:
    """Write what the parsed frame means. Resolutions are told with the structure, of the highest spatial layer.

    They are what the encoder was asked for: a size that the payload itself told is a better one.
    """
    spatial = int64(state.template_spatial[state.template])
    temporal = int64(state.template_temporal[state.template])
    frame.spatial = spatial
    frame.temporal = temporal
    in_key = state.keyed and (state.number - state.key_number & 0xFFFF) == spatial
    frame.keyframe = 1 if in_key else 0
    frame.discardable = 1 if is_discardable(state) else 0
    below, switch = read_references(state, spatial, temporal)
    frame.inter_layer = below
    if switch_indicated(state, temporal):
        switch = int64(1)
    frame.switch_up = switch
    slot = state.number & HISTORY - 1
    state.seen[slot] = state.number + 1
    state.seen_layer[slot] = spatial << 4 | switch << 3 | temporal
    if flags & STRUCTURE and state.sized and not frame.width:
        frame.width = min(state.width[state.layers - 1], 0xFFFF)
        frame.height = min(state.height[state.layers - 1], 0xFFFF)


@kernel
def is_discardable(state: Any) -> bool:
    """Whether no frame of any decode target refers to this one: it is in some, and discardable in each of them."""
    present = False
    for target in range(state.targets):
        if state.dtis[target] > DISCARDABLE:
            return False
        present |= state.dtis[target] == DISCARDABLE
    return present


@kernel
def switch_indicated(state: Any, temporal: int) -> bool:
    """Whether a decode target of this temporal layer or a higher one can begin here."""
    for target in range(state.targets):
        if state.dtis[target] == SWITCH and state.target_temporal[target] >= temporal:
            return True
    return False


@kernel
def read_references(state: Any, spatial: int, temporal: int) -> tuple[int, int]:
    """1 if the frame refers to a lower spatial layer; 1 if it refers to nothing but lower temporal layers.

    The second makes it a place to begin a temporal layer whose frames are all marked discardable, the highest: there
    decode targets give no switch indication. A spatial layer below counts if one could begin there itself.
    """
    below = int64(0)
    switch = int64(1)
    for k in range(state.fdiff_count):
        number = state.number - int64(state.fdiffs[k]) & 0xFFFF
        slot = number & HISTORY - 1
        layer = int64(state.seen_layer[slot])
        if state.seen[slot] != number + 1:
            switch = int64(0)
        elif layer >> 4 < spatial:
            below = int64(1)
            switch &= layer >> 3 & 1 | (layer & 7 < temporal)
        elif layer & 7 >= temporal:
            switch = int64(0)
    return below, switch
