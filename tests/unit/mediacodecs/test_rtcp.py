"""RTCP that the kernels write, read by aiortc, and the other way round; demultiplexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiortc.rtp import (
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)
from aiortc.rtp import is_rtcp as aiortc_is_rtcp

from mediacodecs.bits import put32
from mediacodecs.rtcp import (
    BLOCK_BYTES,
    REPORT_BLOCK,
    RR,
    RTCP,
    SENDER_INFO,
    is_rtcp,
    next_rtcp,
    read_bye,
    read_fir,
    read_nack,
    read_report_block,
    read_sender_info,
)
from mediacodecs.rtcp_write import (
    write_bye,
    write_head,
    write_nack,
    write_pli,
    write_report_block,
    write_sdes_cname,
    write_sender_report,
)
from tests.unit.mediacodecs.records import array, fields, noisy, written, zeroed
from tests.unit.mediacodecs.rtcp_twin import compound, nack_entries

ME, YOU = 0xFFFFFFFE, 0x80000001
INFOS = [
    RtcpReceiverInfo(YOU, 255, -1, 0x1FFFF, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD),
    RtcpReceiverInfo(7, 0, 0x7FFFFF, 5, 6, 7, 8),
    RtcpReceiverInfo(8, 128, -0x800000, 0, 0, 0, 0),
]
NAMES = {"fraction": "fraction_lost", "lost": "packets_lost", "highest": "highest_sequence"}  # ours -> aiortc's


def one(write: Callable[[Any], int], size: int) -> Any:
    """The packet of a writer that names `size` bytes, as aiortc reads it."""
    (packet,) = RtcpPacket.parse(written(write, size))
    return packet


def items(data: bytes) -> list[tuple[Any, Any]]:
    """The compound's bytes with the record of each packet."""
    b, at, found = array(data), 0, []
    while at < len(data):
        item = noisy(RTCP)
        at = next_rtcp(b, at, len(data), item)
        assert at > 0
        found.append((b, item))
    assert next_rtcp(b, at, len(data), noisy(RTCP)) == -1
    return found


@pytest.mark.parametrize("ntp", [0xEE112233_80000000, -1, np.uint64((1 << 64) - 2)])
def test_sender_report_is_read_by_aiortc(ntp: Any) -> None:
    found = one(lambda b: write_sender_report(b, 3, ME, ntp, 0xFFFFFFFF, 1 << 32 | 9, 0x80000000), 28)
    assert found == RtcpSrPacket(ME, RtcpSenderInfo(int(ntp) % (1 << 64), 0xFFFFFFFF, 9, 0x80000000))


@pytest.mark.parametrize("count", range(4))
def test_report_blocks_are_read_by_aiortc(count: int) -> None:
    blocks = zeroed(REPORT_BLOCK, 4)
    for row, info in zip(blocks, INFOS, strict=False):
        for name in REPORT_BLOCK.names or ():
            row[name] = getattr(info, NAMES.get(name, name))

    def write(b: Any) -> int:
        put32(b, 3 + 4, ME)
        for k in range(count):
            write_report_block(b, 3 + 8 + BLOCK_BYTES * k, blocks[k])
        return write_head(b, 3, RR, count, 3 + 8 + BLOCK_BYTES * count)

    assert one(write, 8 + BLOCK_BYTES * count) == RtcpRrPacket(ME, INFOS[:count])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 16, 255])
def test_cname_is_read_by_aiortc(size: int) -> None:
    cname = bytes(range(1, 1 + size)) if size < 255 else b"n" * 255
    found = one(lambda b: write_sdes_cname(b, 3, ME, array(cname + b"more"), size), 14 + size)
    assert found == RtcpSdesPacket([RtcpSourceInfo(ME, [(1, cname)])])


@pytest.mark.parametrize("count", [0, 1, 31])
def test_bye_is_read_by_aiortc(count: int) -> None:
    sources = np.arange(ME - 40, ME, dtype=np.uint32)
    found = one(lambda b: write_bye(b, 3, sources, count), 4 + 4 * count)
    assert found == RtcpByePacket(sources[:count].tolist())


def test_keyframe_request_is_read_by_aiortc() -> None:
    assert one(lambda b: write_pli(b, 3, ME, YOU), 12) == RtcpPsfbPacket(1, ME, YOU)


@pytest.mark.parametrize("seed", range(20))
def test_nack_is_read_by_aiortc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lost = np.cumsum(rng.choice([1, 2, 15, 16, 17, 18, 400], 40)) + 65536 * 7 - 300
    data = written(lambda b: write_nack(b, 3, ME, YOU, lost, lost.size), 12 + 4 * lost.size)
    assert len(data) == 12 + 4 * len(nack_entries(lost.tolist()))
    (found,) = RtcpPacket.parse(data)
    assert isinstance(found, RtcpRtpfbPacket) and (found.fmt, found.ssrc, found.media_ssrc) == (1, ME, YOU)
    assert [number % 65536 for number in found.lost] == [number % 65536 for number in lost.tolist()]
    ((b, item),) = items(data)
    out = np.zeros(100, np.uint16)
    assert out[: read_nack(b, item, out)].tolist() == [number % 65536 for number in lost.tolist()]
    assert read_nack(b, item, out[:7]) == 7


def test_nack_names_each_number_once() -> None:
    lost = np.array([5, 5, 6, 6, 21, 22, 22], np.int64)
    found = one(lambda b: write_nack(b, 3, ME, YOU, lost, lost.size), 40)
    assert found.lost == [5, 6, 21, 22]


def test_compound_of_aiortc_is_read() -> None:
    parts: list[AnyRtcpPacket] = [
        RtcpSrPacket(ME, RtcpSenderInfo((1 << 64) - 1, 2, 3, 4), INFOS),
        RtcpSdesPacket([RtcpSourceInfo(ME, [(1, b"name")])]),
        RtcpRrPacket(YOU, INFOS[1:]),
        RtcpByePacket([ME, YOU]),
        RtcpPsfbPacket(4, ME, 0, INFOS[0].ssrc.to_bytes(4, "big") + b"\1\0\0\0" + b"\0\0\0\x09\2\0\0\0"),
    ]
    data = b"".join(bytes(part) for part in parts)
    found = items(data)
    assert [int(item.packet_type) for _, item in found] == [200, 202, 201, 203, 206]
    assert [int(item.ssrc) for _, item in found] == [ME, ME, YOU, ME, ME]
    (report, reports, goodbye, refresh) = (found[0], found[2], found[3], found[4])
    info = zeroed(SENDER_INFO)
    assert read_sender_info(*report, info) and fields(info) == compound(data)[0].sender_info()
    assert not read_sender_info(*reports, info)
    assert [block_of(*report, k) for k in range(4)] == [*compound(data)[0].blocks(), None]
    assert [block_of(*reports, k) for k in range(3)] == [*compound(data)[2].blocks(), None]
    assert [read_bye(*goodbye, k) for k in (-1, 0, 1, 2)] == [-1, ME, YOU, -1]
    assert [read_fir(*refresh, k) for k in (-1, 0, 1, 2)] == [-1, YOU, 9, -1]
    assert read_fir(*goodbye, 0) == read_bye(*refresh, 0) == -1


def block_of(b: Any, item: Any, k: int) -> dict[str, Any] | None:
    block = noisy(REPORT_BLOCK)
    return fields(block) if read_report_block(b, item, k, block) else None


def test_padding_is_removed_and_bad_padding_refused() -> None:
    head = b"\xa0\xc9\0\2" + bytes(4)
    ((_, item),) = items(head + b"\0\0\0\4")
    assert (int(item.at), int(item.end)) == (0, 8)
    for padding in (b"\0", b"\x09"):
        assert next_rtcp(array(head + b"\0\0\0" + padding), 0, 12, noisy(RTCP)) == -1
    assert next_rtcp(array(b"\xa0\xc9\0\0"), 0, 4, noisy(RTCP)) == -1


def test_rtcp_is_told_from_rtp_by_its_second_byte() -> None:
    for second in range(256):
        assert is_rtcp(array(bytes([0, 0x80, second])), 1) == (192 <= second <= 223)
        assert not aiortc_is_rtcp(bytes([0x80, second])) or is_rtcp(array(bytes([0x80, second])), 0)
