"""RTP headers and their extensions against aiortc's and the plain twins; wrapping numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket, pack_header_extensions

from mediacodecs.extensions import (
    ABS_SEND_TIME,
    AUDIO_LEVEL,
    EXTENSIONS,
    KINDS,
    MID,
    REPAIRED_RID,
    RID,
    TWCC,
    URIS,
    parse_extensions,
)
from mediacodecs.rtp import RTP, parse_rtp, unwrap16
from tests.unit.mediacodecs import rtp_twin
from tests.unit.mediacodecs.records import array, fields, noisy

IDS = {MID: 1, RID: 2, REPAIRED_RID: 3, AUDIO_LEVEL: 4, TWCC: 5, ABS_SEND_TIME: 14}


def table(ids: dict[int, int]) -> Any:
    """Extension id -> kind."""
    kinds = np.zeros(256, np.uint8)
    for kind, name in ids.items():
        kinds[name] = kind
    return kinds


def parse(data: bytes, ids: dict[int, int]) -> tuple[dict[str, Any], dict[int, bytes]]:
    """The header, and the extensions' data by kind."""
    rtp, ext = noisy(RTP), noisy(EXTENSIONS)
    assert parse_rtp(array(data), 0, len(data), rtp) == 0
    assert parse_extensions(array(data), rtp, table(ids), ext) == 0
    places = zip(ext["at"].tolist(), ext["size"].tolist(), strict=True)
    return fields(rtp), {kind: data[at : at + size] for kind, (at, size) in enumerate(places) if size}


@pytest.mark.parametrize("mid", ["0", "a mid that needs two-byte headers"])
def test_aiortc_packets_are_read(mid: str) -> None:
    uris = {kind: uri for uri, kind in URIS.items()}
    headers = [RTCRtpHeaderExtensionParameters(id=name, uri=uris[kind]) for kind, name in IDS.items()]
    known = HeaderExtensionsMap()
    known.configure(RTCRtpParameters(headerExtensions=headers))
    packet = RtpPacket(96, 1, 65535, 0xFFFFFFFE, 0xFFFFFFFF, b"payload")
    packet.csrc, packet.padding_size = [1, 2], 5
    values = packet.extensions
    values.mid, values.rtp_stream_id, values.repaired_rtp_stream_id = mid, "hi", "lo"
    values.audio_level, values.transport_sequence_number, values.abs_send_time = (True, 30), 513, 0x010203
    data = packet.serialize(known)
    rtp, found = parse(data, IDS)
    assert (rtp["marker"], rtp["payload_type"], rtp["sequence"]) == (1, 96, 65535)
    assert (rtp["timestamp"], rtp["ssrc"], rtp["padding"]) == (0xFFFFFFFE, 0xFFFFFFFF, 5)
    assert data[rtp["payload_at"] : rtp["payload_end"]] == b"payload"
    assert rtp["two_byte"] == int(len(mid) > 16)
    assert found == {
        MID: mid.encode(),
        RID: b"hi",
        REPAIRED_RID: b"lo",
        AUDIO_LEVEL: b"\x9e",
        TWCC: b"\2\1",
        ABS_SEND_TIME: b"\1\2\3",
    }


def test_unknown_ids_and_unknown_kinds_are_passed_over() -> None:
    profile, value = pack_header_extensions([(9, b"x"), (10, b"y"), (1, b"0")])
    data = rtp_bytes(profile, value)
    assert parse(data, {MID: 1, KINDS: 10})[1] == {MID: b"0"}


def rtp_bytes(profile: int, value: bytes) -> bytes:
    """An RTP packet with these extension elements."""
    head = b"\x90\x60\0\1" + bytes(8) + profile.to_bytes(2, "big") + (len(value) // 4).to_bytes(2, "big")
    return head + value + b"payload"


def test_id_15_ends_one_byte_elements() -> None:
    assert parse(rtp_bytes(0xBEDE, b"\x10a\xf0b\x20c\0\0"), IDS)[1] == {MID: b"a"}


def test_id_0_with_a_size_ends_one_byte_elements() -> None:
    assert parse(rtp_bytes(0xBEDE, b"\0\x10a\x01bc\x20d"), IDS)[1] == {MID: b"a"}


def test_two_byte_elements_may_be_empty_or_long() -> None:
    assert parse(rtp_bytes(0x100F, b"\1\0\2\x11" + b"r" * 17 + b"\0\0\0"), IDS)[1] == {RID: b"r" * 17}


def test_other_profiles_are_stepped_over() -> None:
    rtp, found = parse(rtp_bytes(0xABAC, b"\x10a\0\0"), IDS)
    assert not found and rtp["ext_at"] == rtp["ext_end"] == rtp["payload_at"] == 20


def test_element_that_runs_over_the_end_is_not_taken() -> None:
    data = rtp_bytes(0xBEDE, b"\x10a\x53b")
    rtp, ext = noisy(RTP), noisy(EXTENSIONS)
    assert parse_rtp(array(data), 0, len(data), rtp) == 0
    assert parse_extensions(array(data), rtp, table(IDS), ext) == rtp_twin.TRUNCATED
    assert ext["size"].tolist() == [int(kind == MID) for kind in range(KINDS)]


def test_padding_may_be_all_of_the_payload_and_no_more() -> None:
    head = b"\xa0\x60\0\1" + bytes(8)
    rtp = noisy(RTP)
    assert parse_rtp(array(head + b"\0\0\3"), 0, 15, rtp) == 0
    assert rtp.payload_at == rtp.payload_end == 12
    for tail in (b"", b"\0", b"\0\0\4"):
        assert parse_rtp(array(head + tail), 0, 12 + len(tail), noisy(RTP)) == rtp_twin.MALFORMED


def test_numbers_are_widened_to_the_nearest() -> None:
    rng, top = np.random.default_rng(3), 1 << 16
    references = [0, 1, top - 1, top, 5 * top, *rng.integers(0, 1 << 50, 200).tolist()]
    for reference in references:
        for step in (0, 1, -1, top // 2 - 1, -top // 2, top // 2, -top // 2 + 1, int(rng.integers(0, top))):
            value = (reference + step) % top
            assert unwrap16(reference, value) == rtp_twin.unwrap(reference, value, 16)
    assert unwrap16(0, top - 1) == -1
