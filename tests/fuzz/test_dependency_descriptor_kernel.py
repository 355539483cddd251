"""The dependency descriptor kernel against a plain reader, on written streams that are then damaged, and on noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mediacodecs.dependency_descriptor import DD_STATE, parse_dependency_descriptor
from mediacodecs.frame import FRAME, clear_frame
from tests.fuzz.dependency_twin import Descriptor, Stream, Structure, Template, write
from tests.fuzz.payload_twins import BLANK

CORPUS = Path(__file__).parent / "corpus" / "dependency_descriptor"
BUDGET = settings(max_examples=120, deadline=None, derandomize=True, database=None)


class Kernel:
    """The kernel with its record, called like the twin."""

    def __init__(self, around: bytes) -> None:
        self.around = around
        self.state = np.zeros(1, DD_STATE).view(np.recarray)[0]

    def parse(self, data: bytes, size: tuple[int, int] = (0, 0)) -> tuple[int, dict[str, Any]]:
        """`size`: what the payload told."""
        frame = np.recarray(1, FRAME)[0]
        clear_frame(frame)
        frame.width, frame.height = size
        array = np.frombuffer(self.around + data + self.around, np.uint8)
        error = parse_dependency_descriptor(array, len(self.around), len(data), self.state, frame)
        return int(error), {name: int(frame[name]) for name in FRAME.names or ()}


def agree(stream: list[bytes]) -> None:
    """Kernel and twin give the same for each descriptor of a stream."""
    for around in (b"", b"\xff" * 16, b"\0" * 16):
        kernel, twin = Kernel(around), Stream()
        for data in stream:
            assert kernel.parse(data) == twin.parse(data), [one.hex() for one in stream]


def test_size_that_the_payload_told_counts_more_than_the_one_that_is_announced() -> None:
    structure = Structure(0, [Template(0, 0, [2])], [], [(1280, 720)])
    first = write(Descriptor(1, 1, 0, 7, structure), 1)
    for told, size in (((0, 0), (1280, 720)), ((320, 180), (320, 180))):
        error, frame = Kernel(b"").parse(first, told)
        assert error == 0 and (frame["width"], frame["height"]) == size
        assert Stream().parse(first, BLANK | {"width": told[0], "height": told[1]}) == (error, frame)


@st.composite
def structures(draw: st.DrawFn) -> Structure:
    """Any template dependency structure."""
    targets = draw(st.integers(1, 32))
    chains = draw(st.integers(0, targets))
    layers = [(0, 0)]
    for step in draw(st.lists(st.integers(0, 2), max_size=12)):
        spatial, temporal = layers[-1]
        if step == 1 and temporal < 7:
            temporal += 1
        if step == 2 and spatial < 3:
            spatial, temporal = spatial + 1, 0
        layers.append((spatial, temporal))
    templates = [
        Template(
            spatial,
            temporal,
            draw(st.lists(st.integers(0, 3), min_size=targets, max_size=targets)),
            draw(st.lists(st.integers(1, 16), max_size=4)),
            draw(st.lists(st.integers(0, 15), min_size=chains, max_size=chains)),
        )
        for spatial, temporal in layers
    ]
    protected = draw(st.lists(st.integers(0, chains - 1), min_size=targets, max_size=targets)) if chains else []
    side, highest = st.integers(1, 65536), layers[-1][0]
    sizes = st.lists(st.tuples(side, side), min_size=highest + 1, max_size=highest + 1)
    return Structure(draw(st.integers(0, 63)), templates, protected, draw(sizes) if draw(st.booleans()) else [])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Descriptors of one stream: a keyframe, then frames near it in number, some of them keyframes."""
    number = draw(st.sampled_from([0, 1, 40, 30000, 65530, 65535]))
    stream: list[bytes] = []
    structure = draw(structures())
    for k in range(draw(st.integers(1, 12))):
        key = k == 0 or draw(st.integers(0, 5)) == 0
        if key and k and draw(st.booleans()):
            structure = draw(structures())
        custom = st.none() if draw(st.booleans()) else st.just(1)
        descriptor = Descriptor(
            start=draw(st.integers(0, 1)),
            end=draw(st.integers(0, 1)),
            template=(structure.offset + draw(st.integers(0, len(structure.templates)))) % 64,
            number=number,
            structure=structure if key else None,
            active=draw(custom) and draw(st.integers(0, 2**structure.targets - 1)),
            dtis=draw(custom) and [draw(st.integers(0, 3)) for _ in range(structure.targets)],
            fdiffs=draw(custom) and draw(st.lists(st.integers(1, 4096), max_size=5)),
            chains=draw(custom) and [draw(st.integers(0, 255)) for _ in range(structure.chains)],
        )
        stream.append(write(descriptor, structure.targets))
        number = (number + draw(st.sampled_from([0, 1, 1, 1, 2, 3, -1, -400, 1100]))) % 65536
    return stream


def damage(stream: list[bytes], changes: list[tuple[int, int, int]], cuts: list[int]) -> list[bytes]:
    """Change bits (descriptor, byte, mask) and cut ends off."""
    damaged = [bytearray(data) for data in stream]
    for which, at, mask in changes:
        data = damaged[which % len(damaged)]
        data[at % len(data)] ^= mask
    for which in cuts:
        data = damaged[which % len(damaged)]
        del data[len(data) - 1 - which % 7 :]
    return [bytes(data) for data in damaged]


@BUDGET
@given(streams())
def test_written_streams_are_read_like_the_twin_reads_them(stream: list[bytes]) -> None:
    agree(stream)


@BUDGET
@given(
    streams(),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60), st.integers(1, 255)), max_size=4),
    st.lists(st.integers(0, 200), max_size=2),
)
def test_damaged_streams_are_read_like_the_twin_reads_them(
    stream: list[bytes], changes: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    agree(damage(stream, changes, cuts))


@BUDGET
@given(st.lists(st.binary(max_size=120), max_size=4))
def test_noise_is_read_like_the_twin_reads_it(stream: list[bytes]) -> None:
    agree(stream)


def test_saved_descriptors_are_read_like_the_twin_reads_them() -> None:
    stream = [file.read_bytes() for file in sorted(CORPUS.glob("*.bin"))]
    assert stream
    agree(stream)
    for data in stream:
        for size in range(len(data)):
            agree([stream[0], data[:size]])


@BUDGET
@given(structures())
def test_a_structure_is_kept_as_it_was_written(structure: Structure) -> None:
    kernel = Kernel(b"")
    descriptor = Descriptor(1, 1, structure.offset, 7, structure)
    assert kernel.parse(write(descriptor, structure.targets))[0] == 0
    state, count = kernel.state, len(structure.templates)
    assert (state.templates, state.targets, state.chains) == (count, structure.targets, structure.chains)
    for k, template in enumerate(structure.templates):
        assert (state.template_spatial[k], state.template_temporal[k]) == (template.spatial, template.temporal)
        assert list(state.template_dtis[k, : structure.targets]) == template.dtis
        assert list(state.template_fdiffs[k, : state.template_fdiff_count[k]]) == template.fdiffs
        assert list(state.template_chains[k, : structure.chains]) == template.chains
    if structure.chains:
        assert list(state.target_chain[: structure.targets]) == structure.protected_by
    if structure.sizes:
        layers = len(structure.sizes)
        assert list(zip(state.width[:layers], state.height[:layers], strict=True)) == structure.sizes
