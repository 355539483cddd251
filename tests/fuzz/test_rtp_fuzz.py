"""RTP header and extension kernels against their twins, on random, changed and truncated packets."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from mediacodecs.extensions import EXTENSIONS, KINDS, parse_extensions
from mediacodecs.rtp import RTP, parse_rtp
from tests.unit.mediacodecs import rtp_twin
from tests.unit.mediacodecs.records import AROUND, BUDGET, array, cuts, fields, mutated, noisy, saved

KINDS_OF = np.arange(256, dtype=np.uint8) % (KINDS + 4)  # id -> kind: some unknown, some out of range, many ids a kind
OFFSETS = ("ext_at", "ext_end", "payload_at", "payload_end")
SEEDS = saved("rtp")


def agree(data: bytes) -> None:
    """Kernels and twins give the same for the bytes, whatever surrounds them."""
    error, expected = rtp_twin.parse(data)
    for around in AROUND:
        b, at, rtp = array(around + data + around), len(around), noisy(RTP)
        assert parse_rtp(b, at, at + len(data), rtp) == error, data.hex()
        if not error:
            found = fields(rtp)
            assert found | {name: found[name] - at for name in OFFSETS} == expected, data.hex()
            agree_on_extensions(data, b, rtp, expected["ext_at"], expected["ext_end"])


def agree_on_extensions(data: bytes, b: Any, rtp: Any, at: int, end: int) -> None:
    error, elements = rtp_twin.elements(data[at:end], bool(rtp.two_byte))
    ext = noisy(EXTENSIONS)
    assert parse_extensions(b, rtp, KINDS_OF, ext) == error, data.hex()
    for kind in range(KINDS):
        place = int(ext["at"][kind])
        found = bytes(b[place : place + int(ext["size"][kind])])
        names = [name for name in elements if KINDS_OF[name] == kind != 0]
        assert found == (elements[names[-1]] if names else b""), data.hex()


@BUDGET
@given(st.binary(max_size=80))
@example(b"")
def test_random_bytes(data: bytes) -> None:
    agree(data)


@BUDGET
@given(
    st.binary(min_size=11, max_size=11),
    st.sampled_from([b"\xbe\xde", b"\x10\x00", b"\x10\x03"]),
    st.binary(max_size=60),
)
def test_random_extension_elements(head: bytes, profile: bytes, elements: bytes) -> None:
    agree(b"\x90" + head + profile + (len(elements) // 4).to_bytes(2, "big") + elements)


@BUDGET
@given(mutated(SEEDS))
def test_changed_and_truncated_packets(data: bytes) -> None:
    agree(data)


def test_saved_packets_at_every_length() -> None:
    for data in cuts(SEEDS):
        agree(data)
