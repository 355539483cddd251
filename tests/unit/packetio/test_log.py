"""The packet log: what is appended can be read, what is overtaken is noticed, also from another process."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from packetio import log as packet_log
from packetio.log import ENTRY, KEYFRAME, START, PacketLog, begin_epoch, log_size, newest_keyframe
from packetio.memory import Region, Table

PACKETS, CAPACITY = 128, 65536
FIRST = 3 << 16


class Writer:
    """A log and a draft entry to append with."""

    def __init__(self, packets: int = PACKETS, capacity: int = CAPACITY) -> None:
        self.region = Region(log_size(packets, capacity))
        self.log = PacketLog.create(self.region, 0, packets, capacity)
        self.draft = Table(ENTRY, 1)
        self.source = Table(np.dtype("u1"), 2048)

    def append(self, position: int, size: int = 100, *, marks: int = 0, arrival: int = 0) -> int:
        row: Any = self.draft.rows[0]
        row.length, row.marks, row.arrival, row.timestamp = size, marks, arrival, position & 0xFFFF
        self.source.rows[:size] = position & 255
        return int(packet_log.append(self.log.base, position, row, self.source.address))


@pytest.fixture
def writer() -> Writer:
    return Writer()


def test_appended_packet_is_read_back_whole(writer: Writer) -> None:
    assert writer.append(FIRST, 777, marks=KEYFRAME, arrival=5)
    packet = writer.log.read(FIRST)
    assert packet is not None
    assert packet.data == bytes([FIRST & 255]) * 777
    assert (packet.marks, packet.arrival, packet.position) == (KEYFRAME, 5, FIRST)


def test_journal_keeps_arrival_order_and_positions_keep_sequence_order(writer: Writer) -> None:
    order = [FIRST + k for k in (0, 2, 1, 3)]
    for position in order:
        writer.append(position)
    assert [position for _, position in writer.log.arrivals(0)] == order
    assert all(writer.log.read(FIRST + k) for k in range(4))


def test_second_copy_of_a_packet_is_refused(writer: Writer) -> None:
    assert writer.append(FIRST) == 1
    assert writer.append(FIRST) == 0
    assert writer.log.head == 1


def test_packet_older_than_the_ring_is_refused(writer: Writer) -> None:
    writer.append(FIRST + PACKETS)
    assert writer.append(FIRST) == 0


def test_oversized_packet_is_refused_and_counted(writer: Writer) -> None:
    assert writer.append(FIRST, packet_log.MAX_PACKET + 1) == 0
    assert int(writer.log.header.oversized) == 1


def test_position_overwritten_by_the_index_ring_is_not_held(writer: Writer) -> None:
    for k in range(PACKETS + 1):
        writer.append(FIRST + k, 50)
    assert writer.log.read(FIRST) is None
    assert writer.log.read(FIRST + 1) is not None


def test_packet_overwritten_in_the_byte_ring_is_not_held(writer: Writer) -> None:
    for k in range(100):
        writer.append(FIRST + k, 1500)
    held = [k for k in range(100) if writer.log.read(FIRST + k)]
    assert held == list(range(100 - len(held), 100))
    assert CAPACITY // 1500 - 2 <= len(held) <= CAPACITY // 1500


def test_every_held_packet_is_whole_under_random_sizes_losses_and_order() -> None:
    rng = random.Random(7)
    writer = Writer()
    sizes: dict[int, int] = {}
    late: list[int] = []
    for k in range(3000):
        position = FIRST + k
        if rng.random() < 0.1:
            late.append(position)
            continue
        sizes[position] = rng.randint(1, 1900)
        writer.append(position, sizes[position])
        if late and rng.random() < 0.5:
            back = late.pop(0)
            sizes[back] = rng.randint(1, 1900)
            writer.append(back, sizes[back])
        for probe in rng.sample(range(max(FIRST, position - 200), position + 1), min(5, k + 1)):
            packet = writer.log.read(probe)
            assert packet is None or packet.data == bytes([probe & 255]) * sizes[probe]


def test_newest_keyframe_respects_time_and_epoch(writer: Writer) -> None:
    for k in range(60):
        writer.append(FIRST + k, marks=KEYFRAME | START if k % 20 == 0 else 0, arrival=1000 * k)
    base = writer.log.base
    assert newest_keyframe(base, 10**9) == FIRST + 40
    assert newest_keyframe(base, 39_000) == FIRST + 20
    start = begin_epoch(base, PACKETS)
    assert start > FIRST + 60 + PACKETS and start % 65536 == 0
    assert newest_keyframe(base, 10**9) == -1


def test_log_with_unusable_sizes_is_refused() -> None:
    region = Region(log_size(PACKETS, CAPACITY))
    with pytest.raises(ValueError, match="power of two"):
        PacketLog.create(region, 0, 100, CAPACITY)
    with pytest.raises(ValueError, match="at least"):
        PacketLog.create(region, 0, PACKETS, 100)


def test_attaching_where_no_log_is_says_so() -> None:
    region = Region(log_size(PACKETS, CAPACITY))
    with pytest.raises(ValueError, match="no packet log"):
        PacketLog.attach(region.fd)


def test_another_process_reads_what_this_one_writes(writer: Writer) -> None:
    for k in range(50):
        writer.append(FIRST + k, 900)
    program = (
        "import sys; from packetio.log import PacketLog\n"
        "log = PacketLog.attach(int(sys.argv[1])); positions = [p for _, p in log.arrivals(0)]\n"
        "assert all(log.read(p).data == bytes([p & 255]) * 900 for p in positions)\n"
        "print(len(positions), positions[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(writer.region.fd)],
        pass_fds=[writer.region.fd], capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["50", str(FIRST)]


def test_reader_of_a_freed_log_gets_nothing_and_knows_why(writer: Writer) -> None:
    writer.append(FIRST)
    reader = PacketLog.attach(writer.region.fd)
    arriving = reader.arrivals(0)
    assert reader.read(FIRST) and not reader.gone
    writer.log.free()
    assert reader.read(FIRST) is None and reader.gone
    assert list(arriving) == [] and reader.head == 0
    with pytest.raises(ValueError, match="no packet log"):
        PacketLog.attach(writer.region.fd)


def test_reader_of_a_log_whose_place_is_used_again_gets_nothing_of_the_new_track(writer: Writer) -> None:
    writer.append(FIRST, 200)
    reader = PacketLog.attach(writer.region.fd)
    arriving = reader.arrivals(0)
    writer.log.free()
    writer.log = PacketLog.create(writer.region, 0, PACKETS, CAPACITY)
    writer.append(FIRST, 300)
    assert reader.read(FIRST) is None and reader.gone and list(arriving) == []
    fresh = PacketLog.attach(writer.region.fd)
    packet = fresh.read(FIRST)
    assert packet is not None and len(packet.data) == 300 and fresh.generation != reader.generation


def test_place_that_is_laid_out_again_without_being_freed_is_another_log(writer: Writer) -> None:
    writer.append(FIRST)
    reader = PacketLog.attach(writer.region.fd)
    again = PacketLog.create(writer.region, 0, PACKETS, CAPACITY)
    assert reader.gone and not again.gone and again.head == 0 and again.read(FIRST) is None


def test_words_that_say_how_large_a_log_is_outlive_it(writer: Writer) -> None:
    """Kernels of a late reader compute addresses from them."""
    writer.append(FIRST)
    writer.log.free()
    header = writer.log.header
    assert (int(header.packets), int(header.capacity), int(header.generation)) == (PACKETS, CAPACITY, 0)
    assert not packet_log.holds(writer.log.base, FIRST)


def test_journal_tells_nothing_of_numbers_whose_place_is_used_again(writer: Writer) -> None:
    for k in range(PACKETS):
        writer.append(FIRST + k)
    arriving = writer.log.arrivals(0)
    number, position = next(arriving)
    for k in range(PACKETS, 2 * PACKETS - 20):
        writer.append(FIRST + k)
    rest = list(arriving)
    assert position == FIRST + number
    assert rest == [(n, FIRST + n) for n in range(PACKETS - 19, PACKETS)]


@pytest.mark.parametrize("used_again", [False, True])
def test_late_reader_in_another_process_lives_on_and_reads_nothing(writer: Writer, used_again: bool) -> None:
    writer.append(FIRST, 900)
    program = (
        "import sys; from packetio.log import PacketLog\n"
        "log = PacketLog.attach(int(sys.argv[1])); position = [p for _, p in log.arrivals(0)][-1]\n"
        "print(len(log.read(position).data), flush=True); sys.stdin.readline()\n"
        "print(log.read(position), log.gone, list(log.arrivals(0)), log.head)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(writer.region.fd)],
        pass_fds=[writer.region.fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as helper:  # fmt: skip
        assert helper.stdin is not None and helper.stdout is not None
        assert helper.stdout.readline() == "900\n"
        writer.log.free()
        if used_again:
            writer.log = PacketLog.create(writer.region, 0, PACKETS, CAPACITY)
            writer.append(FIRST, 800)
        out, _ = helper.communicate("go on\n", timeout=60)
    assert (helper.returncode, out) == (0, "None True [] 0\n")
