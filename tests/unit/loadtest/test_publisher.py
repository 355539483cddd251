"""The paced sender on a fake clock: when packets leave, how many, and what is in them."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from pylibsrtp import Policy, Session

from loadtest.offers import OPUS_TYPE, VP8_TYPE
from loadtest.publisher import AUDIO_NS, FRAME_NS, PACKETS_A_FRAME, Publishers
from packetio.srtp import CM80, GCM, KEY_BYTES, PROFILES, SrtpContexts

START = 1_000_000_000_000
VIDEO, AUDIO = 5000, 6000


class Stage:
    """Publishers whose packets come to a socket of ours, and a clock that jumps to what is due."""

    def __init__(self, profile: str = "") -> None:
        self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.receiver.bind(("127.0.0.1", 0))
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname())
        self.contexts = SrtpContexts(profile, b"k" * KEY_BYTES[profile], b"k" * KEY_BYTES[profile]) if profile else None
        self.publishers = Publishers(2)
        outbound = self.contexts.outbound if self.contexts else 0
        self.row = self.publishers.add(self.sender.fileno(), outbound, VIDEO, AUDIO)

    def received(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.receiver.recv(2048))
            except BlockingIOError:
                return found

    def run(self, until: int) -> list[tuple[int, bytes]]:
        """(time, packet) of all that is sent before `until`."""
        now, out = START, []
        while now < until:
            due = self.publishers.serve_at(now)
            out += [(now, packet) for packet in self.received()]
            now = max(due, now + 1)
        return out

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()
        if self.contexts:
            self.contexts.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def kind(packet: bytes) -> int:
    return packet[1] & 127


def test_even_packets_leave_four_milliseconds_apart(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=False, frames=3)
    times = [now for now, packet in stage.run(START + 4 * FRAME_NS) if kind(packet) == VP8_TYPE]
    assert times == [START + k * FRAME_NS // PACKETS_A_FRAME for k in range(3 * PACKETS_A_FRAME)]


def test_a_burst_is_a_whole_frame_at_once(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=True, frames=3)
    times = [now for now, packet in stage.run(START + 4 * FRAME_NS) if kind(packet) == VP8_TYPE]
    assert times == [START + frame * FRAME_NS for frame in range(3) for _ in range(PACKETS_A_FRAME)]


@pytest.mark.parametrize("burst", [False, True])
def test_a_window_is_an_exact_number_of_packets(stage: Stage, burst: bool) -> None:
    for window in range(1, 3):
        stage.publishers.begin(stage.row, START, burst=burst, frames=7)
        sent = stage.run(START + 12 * FRAME_NS)
        assert len(sent) == 7 * PACKETS_A_FRAME + 14
        row = stage.publishers.rows[stage.row]
        assert (row.running, row.sent_video, row.sent_audio) == (0, 70 * window, 14 * window)


def test_halting_ends_with_a_whole_frame(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=False)
    before = stage.run(START + FRAME_NS + FRAME_NS // 2)
    stage.publishers.halt(stage.row)
    for now in range(START + FRAME_NS + FRAME_NS // 2, START + 3 * FRAME_NS, FRAME_NS // 20):
        stage.publishers.serve_at(now)
    video = [packet for packet in [p for _, p in before] + stage.received() if kind(packet) == VP8_TYPE]
    assert len(video) == 2 * PACKETS_A_FRAME and video[-1][1] & 128


def test_numbers_run_on_and_only_a_frames_last_packet_has_the_marker(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=False, frames=4)
    video = [packet for _, packet in stage.run(START + 5 * FRAME_NS) if kind(packet) == VP8_TYPE]
    numbers = [int.from_bytes(packet[2:4]) for packet in video]
    assert numbers == [numbers[0] + k for k in range(len(numbers))]
    assert [packet[1] >> 7 for packet in video] == ([0] * 9 + [1]) * 4
    times = [int.from_bytes(packet[4:8]) for packet in video]
    assert [(time - times[0]) // 3600 for time in times] == [frame for frame in range(4) for _ in range(10)]


def test_sizes_within_a_frame_differ_by_one_byte(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=True, frames=1)
    sizes = [len(packet) for _, packet in stage.run(START + FRAME_NS) if kind(packet) == VP8_TYPE]
    assert sizes == [1124] * 5 + [1125] * 5


def test_a_wanted_keyframe_is_the_next_frame_and_only_that(stage: Stage) -> None:
    rows = stage.publishers.rows
    stage.publishers.begin(stage.row, START, burst=True, frames=3)
    stage.run(START + 4 * FRAME_NS)
    rows[stage.row].want_key = 1
    stage.publishers.begin(stage.row, START, burst=True, frames=3)
    video = [packet for _, packet in stage.run(START + 4 * FRAME_NS) if kind(packet) == VP8_TYPE]
    assert [packet[28] & 1 for packet in video[::10]] == [0, 1, 1]
    assert rows[stage.row].keyframes == 2


def test_audio_leaves_fifty_times_a_second(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=True, frames=25)
    times = [now for now, packet in stage.run(START + 26 * FRAME_NS) if kind(packet) == OPUS_TYPE]
    assert [later - now for now, later in zip(times, times[1:], strict=False)] == [AUDIO_NS] * 49


def test_the_history_gives_back_a_sent_packet_and_forgets_old_ones(stage: Stage) -> None:
    stage.publishers.begin(stage.row, START, burst=True, frames=60)
    video = [packet for _, packet in stage.run(START + 61 * FRAME_NS) if kind(packet) == VP8_TYPE]
    newest, oldest = int.from_bytes(video[-1][2:4]), int.from_bytes(video[0][2:4])
    assert stage.publishers.packet(stage.row, newest) == video[-1]
    assert stage.publishers.packet(stage.row, oldest) == b""


@pytest.mark.parametrize("profile", [GCM, CM80])
def test_libsrtp_opens_what_is_sent(profile: str) -> None:
    stage = Stage(profile)
    stage.publishers.begin(stage.row, START, burst=True, frames=2)
    sent = stage.run(START + 3 * FRAME_NS)
    policy = Policy(b"k" * KEY_BYTES[profile], Policy.SSRC_ANY_INBOUND, srtp_profile=PROFILES[profile])
    session = Session(policy)
    assert len([session.unprotect(packet) for _, packet in sent]) == 24
    stage.close()


def test_a_publisher_too_many_is_refused(stage: Stage) -> None:
    stage.publishers.add(stage.sender.fileno(), 0, 1, 2)
    with pytest.raises(IndexError):
        stage.publishers.add(stage.sender.fileno(), 0, 1, 2)
