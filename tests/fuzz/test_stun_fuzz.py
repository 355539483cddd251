"""The STUN parser against its twin and against aioice, on random, changed and truncated messages."""

from __future__ import annotations

import contextlib
import struct

from aioice.stun import parse_message
from hypothesis import example, given
from hypothesis import strategies as st

from mediacodecs.stun import STUN, fingerprint_ok, parse_stun
from tests.unit.mediacodecs import stun_twin
from tests.unit.mediacodecs.records import AROUND, BUDGET, array, cuts, fields, mutated, noisy, saved

SEEDS = saved("stun")
OFFSETS = ("transaction_at", "username_at", "integrity_at", "fingerprint_at")
TYPES = [1, 6, 8, 9, 10, 0x1C, 0x20, 0x24, 0x25, 0x7ABC, 0x8022, 0x8028, 0x8029, 0x802A, 0xC057]


def agree(data: bytes) -> None:
    """Kernel and twin give the same for the bytes, whatever surrounds them; aioice agrees on what both take."""
    error, expected = stun_twin.parse(data)
    for around in AROUND:
        b, at, stun = array(around + data + around), len(around), noisy(STUN)
        assert parse_stun(b, at, at + len(data), stun) == error, data.hex()
        if not error:
            found = fields(stun)
            assert found | {name: max(0, found[name] - at) for name in OFFSETS} == expected, data.hex()
            right = bool(expected["fingerprint_at"]) and stun_twin.fingerprint_ok(data)
            assert fingerprint_ok(b, at, stun) == right, data.hex()
    if not error:
        agree_with_aioice(data)


def agree_with_aioice(data: bytes) -> None:
    fields_found = stun_twin.parse(data)[1]
    with contextlib.suppress(
        ValueError, struct.error
    ):  # aioice refuses wrong fingerprints and methods, text that isn't UTF-8 …
        found = parse_message(data).attributes
        assert ("USE-CANDIDATE" in found) == bool(fields_found["use_candidate"])
        assert ("MESSAGE-INTEGRITY" in found) == bool(fields_found["integrity_at"])
        assert ("ERROR-CODE" in found) == bool(fields_found["error"])


def message(parts: list[tuple[int, bytes]], more: int) -> bytes:
    body = b"".join(
        kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for kind, value in parts
    )
    return b"\0\1" + max(0, len(body) + 4 * more).to_bytes(2, "big") + stun_twin.COOKIE + b"transaction!" + body


VALUES = st.one_of(st.binary(max_size=24), st.sampled_from([bytes(4), bytes(8), bytes(20), b"\0\1" + bytes(6)]))


@BUDGET
@given(
    st.lists(st.tuples(st.one_of(st.sampled_from(TYPES), st.integers(0, 65535)), VALUES), max_size=5),
    st.integers(-1, 1),
)
@example([], 0)
def test_random_attributes(parts: list[tuple[int, bytes]], more: int) -> None:
    agree(message(parts, more))


@BUDGET
@given(st.binary(max_size=60))
@example(b"")
def test_random_bytes(rest: bytes) -> None:
    agree(rest)
    agree(b"\0\1" + len(rest).to_bytes(2, "big") + stun_twin.COOKIE + b"transaction!" + rest)


@BUDGET
@given(mutated(SEEDS))
def test_changed_and_truncated_messages(data: bytes) -> None:
    agree(data)
    if len(data) > 20:
        agree(data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:])


def test_saved_messages_at_every_length() -> None:
    for data in cuts(SEEDS):
        agree(data)
        if len(data) >= 20:
            agree(data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:])
