"""The sink: what came, what is missing, whether it was right, and how long it took."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pylibsrtp import Policy, Session

from loadtest.measure import socket_drops
from loadtest.media import write_body, write_vp8
from loadtest.offers import VP8_TYPE
from loadtest.sink import Sink, open_socket, quantile
from packetio.srtp import GCM, KEY_BYTES, PROFILES, SrtpContexts

KEY = b"s" * KEY_BYTES[GCM]
SSRC = 0xBEEF


class Source:
    """Sends sealed VP8 packets to a socket that the sink drains."""

    def __init__(self, port: int, key: bytes = KEY) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        self.session = Session(Policy(key, Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[GCM]))

    def packet(self, sequence: int, *, first: bool = False, keyframe: bool = False, marker: bool = False) -> bytes:
        b = np.zeros(400, np.uint8)
        b[0], b[1] = 0x80, VP8_TYPE | (128 if marker else 0)
        b[2:4] = list((sequence & 0xFFFF).to_bytes(2))
        b[8:12] = list(SSRC.to_bytes(4))
        write_body(b, write_vp8(b, 12, first, keyframe, 9), 400, time.monotonic_ns(), sequence)
        return b.tobytes()

    def send(self, sequence: int, **kind: bool) -> None:
        self.socket.send(self.session.protect(self.packet(sequence, **kind)))


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink(4)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def contexts() -> SrtpContexts:
    return SrtpContexts(GCM, KEY, KEY)  # the sink closes it


def until(condition: Callable[[], bool]) -> None:
    """Until it is so; fails after five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.001)


def joined(sink: Sink, contexts: SrtpContexts | None, opened: bool = False) -> tuple[Source, int]:
    sock = open_socket("127.0.0.1")
    return Source(sock.getsockname()[1]), sink.add(sock, contexts, opened)


def test_packets_and_gaps_are_counted_across_the_wrap(sink: Sink) -> None:
    source, row = joined(sink, None)
    for sequence in (65533, 65534, 65536, 65537, 65535 + 5):
        source.send(sequence)
    until(lambda: sink.rows[row].packets == 5)
    assert sink.gaps() == 3
    assert sink.rows[row].streams[0].ssrc == SSRC
    source.socket.close()


def test_a_late_packet_closes_its_gap(sink: Sink) -> None:
    source, row = joined(sink, None)
    for sequence in (1, 2, 4, 3, 5):
        source.send(sequence)
    until(lambda: sink.rows[row].packets == 5)
    assert sink.gaps() == 0
    source.socket.close()


def test_what_is_not_rtp_is_counted_apart(sink: Sink) -> None:
    source, row = joined(sink, None)
    for datagram in (b"\x01\x01" + bytes(18), b"\x16\xfe\xfd" + bytes(20), b"\x80\xc8" + bytes(26), b"\x80"):
        source.socket.send(datagram)
    until(lambda: int(sink.rows[row].stun + sink.rows[row].other + sink.rows[row].rtcp) == 4)
    assert (sink.rows[row].stun, sink.rows[row].other, sink.rows[row].rtcp, sink.rows[row].packets) == (1, 2, 1, 0)
    source.socket.close()


def test_an_opened_subscribers_packets_are_checked_and_timed(sink: Sink, contexts: SrtpContexts) -> None:
    source, row = joined(sink, contexts, opened=True)
    for sequence in range(50):
        source.send(sequence)
    until(lambda: sink.rows[row].checked == 50)
    assert (sink.rows[row].wrong, sink.rows[row].refused, sink.rows[row].latency.sum()) == (0, 0, 50)
    assert 0 < quantile(sink.rows[row].latency, 0.5) < 1e6
    source.socket.close()


def test_a_changed_body_and_a_wrong_key_are_noticed(sink: Sink, contexts: SrtpContexts) -> None:
    source, row = joined(sink, contexts, opened=True)
    source.socket.send(source.session.protect(source.packet(1)[:-3] + b"abc"))
    source.session = Session(Policy(b"x" * KEY_BYTES[GCM], Policy.SSRC_ANY_OUTBOUND, srtp_profile=PROFILES[GCM]))
    source.send(2)
    until(lambda: sink.rows[row].packets == 2)
    assert (sink.rows[row].checked, sink.rows[row].wrong, sink.rows[row].refused) == (0, 1, 1)
    source.socket.close()


def test_the_first_frame_is_there_when_the_whole_keyframe_is(sink: Sink, contexts: SrtpContexts) -> None:
    source, row = joined(sink, contexts)
    source.send(9, marker=True)
    source.send(10, first=True, keyframe=True)
    source.send(12, marker=True)  # 11 is missing: not whole
    source.send(13, first=True, keyframe=True)
    source.send(14)
    until(lambda: sink.rows[row].packets == 5)
    assert sink.rows[row].first_packet > 0 and sink.rows[row].first_frame == 0
    source.send(15, marker=True)
    until(lambda: sink.rows[row].first_frame > 0)
    checked = int(sink.rows[row].checked)
    source.send(16)
    until(lambda: sink.rows[row].packets == 7)
    assert sink.rows[row].checked == checked == 6  # from then on it only counts
    source.socket.close()


def test_a_removed_subscribers_socket_is_closed_and_its_counts_stay(sink: Sink) -> None:
    source, row = joined(sink, None)
    source.send(1)
    until(lambda: sink.rows[row].packets == 1)
    sink.remove(row)
    assert sink.ports() == [] and sink.total("packets") == 1
    source.socket.close()


def test_a_full_socket_tells_what_it_dropped() -> None:
    sock = open_socket("127.0.0.1", receive_buffer=8192)
    source = Source(sock.getsockname()[1])
    for sequence in range(200):
        source.send(sequence)
    assert 100 < socket_drops([sock.getsockname()[1]]) < 200
    sock.close()
    source.socket.close()


def test_a_subscriber_too_many_is_refused(sink: Sink) -> None:
    sockets = [open_socket("127.0.0.1") for _ in range(5)]
    for sock in sockets[:4]:
        sink.add(sock)
    with pytest.raises(IndexError):
        sink.add(sockets[4])
    sockets[4].close()
