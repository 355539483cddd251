"""What one peer may cost others: every budget of the engine, on a clock moved by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from aiortc.rtp import RtcpByePacket, RtcpPsfbPacket, RtcpRtpfbPacket

from mediacodecs.frame import H264, VP8
from mediaserver.engine import layout as L
from mediaserver.engine.buckets import (
    BEHIND,
    CHECK_DEPTH,
    CHECK_PAUSE,
    EASE,
    EPOCH_DEPTH,
    EPOCH_PAUSE,
    FIRST_SHARE,
    LEAST_SHARE,
    NACK_DEPTH,
    NACK_PAUSE,
    ROUNDS,
    WINDOW,
    admitted,
    allow,
    may_check,
    note_round,
)
from mediaserver.engine.intake import CODEC_STEP
from mediaserver.engine.loop import find_silent_layers
from mediaserver.engine.news import (
    AGAIN,
    DTLS_DEPTH,
    DTLS_PAUSE,
    LAYER_DEPTH,
    LAYER_PAUSE,
    PEER_DEPTH,
    PEER_PAUSE,
    SETTLED_SHARE,
    SOURCE_DEPTH,
    SOURCE_PAUSE,
    tell_again,
    tell_peer,
    tell_source,
)
from mediaserver.engine.numbering import next_index, start_at
from mediaserver.engine.receive import handle_dtls, handle_rtp
from mediaserver.engine.resend import RESEND_BURST, RESEND_RATE
from mediaserver.engine.ring import emit
from mediaserver.engine.rtcp_in import ASKED_DEPTH, ASKED_PAUSE, MAX_NACKED
from packetio.memory import Table
from tests.unit.engine.desk import Desk, FarEnd, Outgoing, Track
from tests.unit.engine.peers import parse

PACKETS, BITS = 5000, 50_000_000  # what the manual says that a peer may send in a second
ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
Event = tuple[int, int, int, int, bytes]


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def taken(desk: Desk) -> list[Event]:
    """What control takes from the ring now."""
    found = []
    while (event := desk.worker.events.pop()) is not None:
        found.append(event)
    return found


def tick(desk: Desk, ns: int) -> None:
    """Let time pass for what is told later."""
    desk.w.now += ns
    desk.w.tick = (int(desk.w.tick) // AGAIN + 1) * AGAIN
    tell_again(desk.w)


def rtp(desk: Desk, end: FarEnd, data: bytes) -> None:
    """Let the worker receive a datagram as media."""
    desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
    handle_rtp(desk.w, end.index, 0, len(data), 0)


def dtls(desk: Desk, end: FarEnd, first: int = HANDSHAKE, rest: bytes = bytes(20)) -> None:
    """Let the worker receive a datagram that looks like DTLS."""
    data = bytes([first]) + rest
    desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
    handle_dtls(desk.w, end.index, desk.worker.receive_slots.data.address, len(data), first)


@pytest.mark.parametrize("seed", range(5))
def test_bucket_agrees_with_a_plain_one(seed: int) -> None:
    dice = random.Random(seed)
    pause, burst = dice.choice([7, 1000, 20 * L.MS]), dice.randint(1, 50)
    buckets, now, left = Table(np.dtype("i8"), 3).rows, dice.randrange(1 << 50), burst * pause
    for _ in range(3000):
        passed = dice.choice([0, 0, 0, dice.randrange(2 * pause), dice.randrange(20 * pause)])
        now, left = now + passed, min(burst * pause, left + passed)
        good = left >= pause
        left -= pause * good
        assert bool(allow(buckets, 1, now, pause, burst * pause)) == good
    assert buckets[0] == buckets[2] == 0


def test_packets_beyond_the_rate_are_dropped_before_they_are_opened(desk: Desk) -> None:
    flooder, other = desk.peer(), desk.peer()
    flooder.record.ssrc_limit = other.record.ssrc_limit = 8
    garbage = bytes([0x80, 96]) + bytes(60)
    for _ in range(PACKETS + 1000):
        rtp(desk, flooder, garbage)
    assert (desk.w.drop_srtp, desk.w.drop_uplink, flooder.record.policed) == (PACKETS, 1000, 1000)
    rtp(desk, other, garbage)
    assert desk.w.drop_srtp == PACKETS + 1 and other.record.policed == 0
    desk.w.now += 10 * L.SECOND // PACKETS
    for _ in range(20):
        rtp(desk, flooder, garbage)
    assert desk.w.drop_srtp == PACKETS + 11


def test_bytes_beyond_the_rate_are_dropped_before_they_are_opened(desk: Desk) -> None:
    flooder = desk.peer()
    flooder.record.ssrc_limit = 8
    fit = BITS // 8 // 1400
    for _ in range(fit + 500):
        rtp(desk, flooder, bytes([0x80, 96]) + bytes(1398))
    assert abs(int(desk.w.drop_srtp) - fit) <= 1
    assert desk.w.drop_uplink == fit + 500 - desk.w.drop_srtp


def test_feedback_counts_as_what_is_sent(desk: Desk) -> None:
    track = Track(desk.peer())
    viewer = desk.peer()
    outgoing = Outgoing(viewer, track)
    request = RtcpPsfbPacket(fmt=1, ssrc=1, media_ssrc=int(outgoing.record.ssrc))
    for _ in range(PACKETS + 100):
        viewer.rtcp(request, seal=False)
    assert (desk.w.drop_srtp, desk.w.drop_uplink) == (PACKETS, 100)
    viewer.rtcp(request)
    assert desk.w.pli_in == 0
    desk.w.now += L.SECOND
    viewer.rtcp(request)
    assert desk.w.pli_in == 1


def test_worker_that_falls_behind_gives_each_peer_a_share_that_shrinks_until_it_has_caught_up(desk: Desk) -> None:
    flooder, light = desk.peer().record, desk.peer().record
    flooder.buckets[:] = light.buckets[:] = -(1 << 62)  # their own budgets don't matter here
    desk.w.uplink_packet_pause = desk.w.uplink_byte_pause = 0

    def window(behind: bool) -> int:
        """What is served in a window of 200 datagrams of one and 30 of the other; the other's are whole."""
        desk.w.now = (int(desk.w.now) // W + 1) * W
        served = 0
        for _ in range(10):
            served += sum(bool(admitted(desk.w, flooder, 100)) for _ in range(20))
            assert all(admitted(desk.w, light, 100) for _ in range(3))
            note_round(desk.w, behind)
            desk.w.now += W // 10 - 1
        return served

    W = WINDOW
    window(False)
    shares = [window(True) for _ in range(BEHIND * 6 // W)]
    steps = [served for k, served in enumerate(shares) if k == 0 or served != shares[k - 1]]
    assert steps[0] == 200 and steps[-1] == LEAST_SHARE and set(steps) >= {200, FIRST_SHARE, 64, LEAST_SHARE}
    assert shares == sorted(shares, reverse=True) and shares[0] == shares[1] == 200
    grown = [window(False) for _ in range(4 * EASE // W)]
    steps = [served for k, served in enumerate(grown) if k == 0 or served != grown[k - 1]]
    assert grown == sorted(grown) and set(steps) >= {LEAST_SHARE, 64, FIRST_SHARE, 200} and grown[-1] == 200
    assert desk.w.crowded == 0 and light.policed == 0
    assert desk.w.drop_uplink == flooder.policed == 200 * (len(shares) + len(grown)) - sum(shares) - sum(grown)


def test_burst_that_is_worked_off_in_time_is_no_overload(desk: Desk) -> None:
    note_round(desk.w, False)
    for _ in range(BEHIND // L.MS):
        desk.w.now += L.MS
        note_round(desk.w, True)
    note_round(desk.w, False)
    desk.w.now += L.MS
    note_round(desk.w, True)
    assert desk.w.crowded == 0


def test_worker_that_was_stopped_works_off_what_waited(desk: Desk) -> None:
    note_round(desk.w, False)
    desk.w.now += 25 * L.SECOND
    for _ in range(BEHIND // L.MS):  # some thousand datagrams
        note_round(desk.w, True)
        desk.w.now += L.MS
    note_round(desk.w, False)
    for _ in range(ROUNDS - 1):  # it gets no processor in between
        desk.w.now += BEHIND
        note_round(desk.w, True)
    assert desk.w.crowded == 0
    note_round(desk.w, True)
    assert desk.w.crowded == 1


def test_checks_are_bounded_for_each_peer(desk: Desk) -> None:
    flooder, other = desk.peer().record, desk.peer().record
    assert sum(bool(may_check(desk.w, flooder)) for _ in range(1000)) == CHECK_DEPTH // CHECK_PAUSE
    assert may_check(desk.w, other)
    desk.w.now += 3 * CHECK_PAUSE
    assert sum(bool(may_check(desk.w, flooder)) for _ in range(10)) == 3


def test_handshakes_of_many_reach_a_control_that_was_stalled(desk: Desk) -> None:
    rows = [desk.worker.transports.rows[1 + k % 32] for k in range(32)]
    assert desk.w.event_slots * 3 // 4 >= 256 * 6  # a flight of each of 256 peers
    flights = {}
    for k, row in enumerate(rows):
        row.state = L.OPEN
        for n in range(6):
            data = bytes([HANDSHAKE, k, n]) + bytes(30)
            desk.worker.receive_slots.data.rows[: len(data)] = np.frombuffer(data, np.uint8)
            handle_dtls(desk.w, 1 + k, desk.worker.receive_slots.data.address, len(data), HANDSHAKE)
            flights[1 + k, n] = data
    assert {(event[1], event[4][2]): event[4] for event in taken(desk)} == flights
    assert desk.w.drop_dtls == desk.w.drop_event == 0


def test_longest_flight_reaches_a_control_that_is_late_and_again_when_it_is_repeated(desk: Desk) -> None:
    end = desk.peer()
    end.record.secured = 0
    for _ in range(3):  # RSA of 4096 bits in fragments of 256 bytes, OpenSSL's size where nobody sets one
        for _ in range(12):
            dtls(desk, end)
        assert len(taken(desk)) == 12
        desk.w.now += L.SECOND
    assert desk.w.drop_dtls == 0


def test_dtls_of_one_peer_takes_a_few_places_in_the_ring_and_others_reach_control(desk: Desk) -> None:
    flooder, other = desk.peer(), desk.peer()
    flooder.record.secured = other.record.secured = 0
    for _ in range(5000):
        dtls(desk, flooder)
    dtls(desk, other)
    assert [event[1] for event in taken(desk)] == [flooder.index] * L.TOLD_DTLS + [other.index]
    assert desk.w.drop_dtls == 5000 - L.TOLD_DTLS and desk.w.drop_event == 0
    dtls(desk, flooder)
    assert len(taken(desk)) == 1  # what control has taken makes place again


def test_datagrams_of_a_handshake_have_a_rate_too(desk: Desk) -> None:
    flooder = desk.peer()
    flooder.record.secured = 0
    handled = 0
    for _ in range(500):
        dtls(desk, flooder)
        handled += len(taken(desk))
    assert handled == DTLS_DEPTH // DTLS_PAUSE
    desk.w.now += 5 * DTLS_PAUSE
    for _ in range(20):
        dtls(desk, flooder)
        handled += len(taken(desk))
    assert handled == DTLS_DEPTH // DTLS_PAUSE + 5


def test_repeated_handshake_of_ten_seconds_on_a_bad_line_is_not_cut(desk: Desk) -> None:
    end = desk.peer()
    end.record.secured = 0
    wait, passed, sent = 50 * L.MS, 0, 0
    while passed < 10 * L.SECOND:  # as a browser does: the flight of 6 again after 50 ms, 100 ms, 200 ms …
        for _ in range(6):
            dtls(desk, end)
            sent += 1
        assert len(taken(desk)) == 6
        desk.w.now += wait
        passed, wait = passed + wait, 2 * wait
    assert sent == 48 and desk.w.drop_dtls == 0


def test_after_the_handshake_only_alerts_and_a_repeated_flight_are_passed_up(desk: Desk) -> None:
    end = desk.peer()
    for first in range(20, 64):
        dtls(desk, end, first)
        assert [event[4][0] for event in taken(desk)] == ([first] if first in (20, ALERT, HANDSHAKE) else [])
    assert desk.w.drop_dtls == 41
    for _ in range(100):
        dtls(desk, end, ALERT)
    assert len(taken(desk)) == SETTLED_SHARE


def test_control_knows_in_the_end_whether_media_flows_however_often_that_changed(desk: Desk) -> None:
    flooder, other = desk.peer(), desk.peer()
    track, fine = Track(flooder, ssrc=100), Track(other, ssrc=200)
    flooder.record.codecs[96] = VP8
    track.record.codec = VP8
    most = LAYER_DEPTH // LAYER_PAUSE

    def flow(sequence: int) -> None:
        packet = bytes([0x80, 96]) + sequence.to_bytes(2) + bytes(4) + (100).to_bytes(4) + bytes([0x10]) + bytes(20)
        rtp(desk, flooder, flooder.sealer.protect(packet))

    flooder.record.ssrc_limit, flooder.record.ssrc_count = 8, 1
    flooder.record.ssrcs[0], flooder.record.ssrc_layers[0] = 100, track.index << 1
    track.record.told = VP8 << 8 | 96
    for k in range(500):
        flooder.rtcp(RtcpByePacket(sources=[100]))
        flow(track.first + k & 0xFFFF)
    told = [event[0] for event in taken(desk) if event[1] == track.index and event[0] != L.GOODBYE]
    assert told == [L.LAYER_PAUSED, L.LAYER_STARTED] * (most // 2)
    other.rtcp(RtcpByePacket(sources=[200]))
    assert (L.LAYER_PAUSED, fine.index) in [event[:2] for event in taken(desk)]
    flooder.rtcp(RtcpByePacket(sources=[100]))
    assert [event for event in taken(desk) if event[0] == L.LAYER_PAUSED] == []
    tick(desk, LAYER_PAUSE)
    tick(desk, LAYER_PAUSE)
    assert [event[:2] for event in taken(desk) if event[0] != L.GOODBYE] == [(L.LAYER_PAUSED, track.index)]


def test_silence_that_could_not_be_told_is_told_later(desk: Desk) -> None:
    track = Track(desk.peer())
    while emit(desk.w, L.LAYER_PAUSED, 0, 0, 0, 0, 0):
        pass
    desk.w.now += 10 * L.SECOND
    find_silent_layers(desk.w)
    assert track.record.active == 0 and (L.LAYER_PAUSED, track.index) not in [event[:2] for event in taken(desk)]
    tick(desk, 0)
    tick(desk, 0)
    assert [event[:2] for event in taken(desk)] == [(L.LAYER_PAUSED, track.index)]


def test_changed_codec_is_told_although_media_flows_on(desk: Desk) -> None:
    end = desk.peer()
    track = Track(end, ssrc=100)
    end.record.codecs[96], end.record.codecs[102] = VP8, H264
    end.record.ssrc_limit, end.record.ssrc_count = 8, 1
    end.record.ssrcs[0], end.record.ssrc_layers[0] = 100, track.index << 1
    track.record.active = track.record.told = track.record.started = 0
    for sequence, kind in ((1, 96), (2, 96), (3, 102), (4, 102)):  # the second of a codec in a row confirms it
        desk.w.now += CODEC_STEP
        head = bytes([0x80, kind]) + sequence.to_bytes(2) + bytes(4) + (100).to_bytes(4)
        rtp(desk, end, end.sealer.protect(head + bytes([0x10]) + bytes(20)))
    assert [event[:4] for event in taken(desk)] == [
        (L.LAYER_STARTED, track.index, VP8, 96),
        (L.LAYER_STARTED, track.index, H264, 102),
    ]


def test_sources_that_start_all_at_once_are_all_told(desk: Desk) -> None:
    track = Track(desk.peer())
    viewers = [Outgoing(desk.peer(), track) for _ in range(10)]
    while emit(desk.w, L.SOURCE_STARTED, 0, 0, 0, 0, 0):
        pass
    for viewer in viewers:
        for _ in range(3):
            tell_source(desk.w, viewer.index, viewer.record)
    assert {event[1] for event in taken(desk)} == {0}
    tick(desk, 0)
    assert [event[:3] for event in taken(desk)] == [
        (L.SOURCE_STARTED, viewer.index, track.feed_index) for viewer in viewers
    ]
    tick(desk, 0)
    assert taken(desk) == []


def test_sources_of_one_viewer_have_a_rate(desk: Desk) -> None:
    viewer = Outgoing(desk.peer(), Track(desk.peer()))
    for _ in range(2000):
        tell_source(desk.w, viewer.index, viewer.record)
    assert len(taken(desk)) == SOURCE_DEPTH // SOURCE_PAUSE
    tick(desk, SOURCE_PAUSE)
    assert len(taken(desk)) == 1 and viewer.record.untold == desk.w.untold == 0


def test_source_that_is_gone_is_not_told(desk: Desk) -> None:
    viewer = Outgoing(desk.peer(), Track(desk.peer()))
    viewer.record.untold = desk.w.untold = 1
    viewer.record.feed = 0
    tick(desk, 0)
    assert taken(desk) == []


def test_address_that_changes_all_the_time_is_told_at_a_rate_and_at_last(desk: Desk) -> None:
    end = desk.peer()
    for k in range(1000):
        end.record.remote[3] = k & 255
        tell_peer(desk.w, end.index, end.record, L.ADDRESS_CHANGED)
    told = taken(desk)
    assert len(told) == PEER_DEPTH // PEER_PAUSE and told[-1][4][3] != 999 & 255
    tick(desk, PEER_PAUSE)
    assert [(event[0], event[1], event[4][3]) for event in taken(desk)] == [(L.ADDRESS_CHANGED, end.index, 999 & 255)]
    tick(desk, PEER_PAUSE)
    assert taken(desk) == [] and desk.w.untold == 0


def test_peer_that_connects_finds_room_in_a_ring_full_of_other_news(desk: Desk) -> None:
    end = desk.peer()
    while emit(desk.w, L.SOURCE_STARTED, 0, 0, 0, 0, 0):
        pass
    while emit(desk.w, L.DTLS, 0, 0, 0, 0, 0):
        pass
    tell_peer(desk.w, end.index, end.record, L.ICE_CONNECTED)
    assert taken(desk)[-1][:2] == (L.ICE_CONNECTED, end.index)
    while emit(desk.w, L.ICE_CONNECTED, 0, 0, 0, 0, 0):
        pass
    tell_peer(desk.w, end.index, end.record, L.ICE_CONNECTED)
    taken(desk)
    tick(desk, 0)
    assert [event[:2] for event in taken(desk)] == [(L.ICE_CONNECTED, end.index)]


@pytest.mark.parametrize("kind", ["jumps", "ssrcs"])
def test_epochs_are_bounded_however_they_are_brought_about(desk: Desk, kind: str) -> None:
    end = desk.peer()
    track = Track(end, ssrc=1)
    end.record.codecs[96] = VP8
    end.record.ssrc_limit = L.MAX_SSRCS
    most, sequence = EPOCH_DEPTH // EPOCH_PAUSE, 0

    def send(k: int) -> None:
        nonlocal sequence
        ssrc = 1
        if kind == "jumps":
            sequence = sequence + 1 if k % 2 else sequence + 20000
        else:
            ssrc, sequence = 1 + k, 7
        end.record.ssrc_count, end.record.ssrcs[0], end.record.ssrc_layers[0] = 1, ssrc, track.index << 1
        head = bytes([0x80, 96]) + (sequence & 0xFFFF).to_bytes(2) + bytes(4) + ssrc.to_bytes(4)
        rtp(desk, end, end.sealer.protect(head + bytes([0x10]) + bytes(20)))

    track.record.started = 0
    for k in range(600):
        track.log.header.last_arrival = 0  # so that an SSRC that was replaced may come back
        send(k)
    first = int(track.log.header.epoch)
    assert first == most < 600 // 2 and desk.w.drop_epoch > 0
    for turn in range(3):
        desk.w.now += EPOCH_PAUSE
        for k in range(4):
            track.log.header.last_arrival = 0
            send(600 + 4 * turn + k)
    assert int(track.log.header.epoch) == first + 3


def test_first_packets_of_many_layers_are_no_epochs_that_cost_anybody(desk: Desk) -> None:
    end = desk.peer()
    end.record.codecs[96] = VP8
    end.record.ssrc_limit = L.MAX_SSRCS
    end.record.buckets[L.EPOCHS] = desk.w.now + EPOCH_DEPTH
    track = Track(end, ssrc=-1)
    track.record.started = 0
    end.record.ssrc_count, end.record.ssrcs[0], end.record.ssrc_layers[0] = 1, 5, track.index << 1
    rtp(desk, end, end.sealer.protect(bytes([0x80, 96, 0, 1]) + bytes(4) + (5).to_bytes(4) + b"\x10" + bytes(20)))
    assert track.log.header.received_packets == 1 and desk.w.drop_epoch == 0


def sent(outgoing: Outgoing, track: Track, count: int, size: int = 100) -> list[int]:
    """As if `count` packets had been logged and forwarded; their outgoing sequence numbers."""
    start_at(outgoing.record, track.first)
    numbers = []
    for k in range(count):
        track.logged(track.first + k, bytes([k & 255]) * size)
        numbers.append(int(next_index(outgoing.record, track.first + k)) & 0xFFFF)
    return numbers


def nack(outgoing: Outgoing, numbers: list[int]) -> RtcpRtpfbPacket:
    return RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=int(outgoing.record.ssrc), lost=numbers)


def watched(desk: Desk) -> tuple[Track, FarEnd, Outgoing]:
    viewer, track = desk.peer(), Track(desk.peer())
    return track, viewer, Outgoing(viewer, track)


@pytest.mark.parametrize(("rtt", "pause"), [(0, 20), (5 * L.MS, 20), (80 * L.MS, 80), (30 * L.SECOND, 500)])
def test_nothing_is_resent_twice_within_a_round_trip(desk: Desk, rtt: int, pause: int) -> None:
    track, viewer, outgoing = watched(desk)
    numbers = sent(outgoing, track, 20)
    viewer.record.rtt = rtt
    viewer.rtcp(nack(outgoing, numbers[:2]), nack(outgoing, numbers[:2]))
    for passed in (1, pause - 2):
        desk.w.now += passed * L.MS
        viewer.rtcp(nack(outgoing, numbers[:2]))
    assert outgoing.record.resent == 2
    viewer.rtcp(nack(outgoing, numbers[:3]))
    assert outgoing.record.resent == 3
    desk.w.now += 2 * L.MS
    viewer.rtcp(nack(outgoing, numbers[:2]))
    assert outgoing.record.resent == 5 and outgoing.record.unanswered == 0
    again = [parse(viewer.opener.unprotect(data)).payload[:2] for data in viewer.datagrams()]
    assert [int.from_bytes(number) for number in again] == [*numbers[:3], *numbers[:2]]


@pytest.mark.parametrize("hours", [0.01, 1, 3, 4, 24, 5000])
def test_retransmission_works_however_long_the_host_has_been_up(desk: Desk, hours: float) -> None:
    desk.w.now = int(hours * 3600) * L.SECOND
    track, viewer, outgoing = watched(desk)
    numbers = sent(outgoing, track, 10)
    viewer.rtcp(nack(outgoing, numbers))
    assert outgoing.record.resent == 10


def test_resent_bytes_have_a_rate_and_a_burst(desk: Desk) -> None:
    track, viewer, outgoing = watched(desk)
    numbers = sent(outgoing, track, 800, size=1100)
    viewer.rtcp(nack(outgoing, numbers))
    first = int(outgoing.record.resent)
    assert first == RESEND_BURST // 1100 and outgoing.record.unanswered == 800 - first
    desk.w.now += L.SECOND // 10
    viewer.rtcp(nack(outgoing, numbers[first:]))
    assert outgoing.record.resent == (RESEND_BURST + RESEND_RATE // 10) // 1100


def test_datagram_asks_for_so_many_numbers_at_most(desk: Desk) -> None:
    track, viewer, outgoing = watched(desk)
    sent(outgoing, track, 2)
    everything = b"".join(k.to_bytes(2) + b"\xff\xff" for k in range(0, 65000, 1000))
    packet = bytes([0x81, 205]) + (2 + len(everything) // 4).to_bytes(2) + (1).to_bytes(4)
    packet += int(outgoing.record.ssrc).to_bytes(4) + everything
    viewer.rtcp(packet)
    once = 17 * 65
    assert outgoing.record.nacks == desk.w.nack_in == min(once, MAX_NACKED)
    viewer.rtcp(packet, packet, packet)
    assert outgoing.record.nacks == desk.w.nack_in == 2 * min(once, MAX_NACKED)


def test_numbers_asked_for_are_bounded_for_each_stream_and_each_peer(desk: Desk) -> None:
    track, viewer, first = watched(desk)
    streams = [first, *(Outgoing(viewer, track) for _ in range(3))]
    sent(first, track, 1)
    answered = []
    for outgoing in streams:
        outgoing.record.map, outgoing.record.offset = first.record.map, first.record.offset
        outgoing.record.out_first = outgoing.record.out_start = first.record.out_start
        outgoing.record.out_highest = first.record.out_highest
        tried = viewer.record.buckets[L.NACKED]
        for _ in range(5):
            viewer.rtcp(nack(outgoing, list(range(3000, 3800))))
        answered.append((max(int(viewer.record.buckets[L.NACKED]), 0) - max(int(tried), int(desk.w.now))) // NACK_PAUSE)
        assert outgoing.record.nacks == outgoing.record.unanswered == 4000
    stream, peer = ASKED_DEPTH // ASKED_PAUSE, NACK_DEPTH // NACK_PAUSE
    assert answered == [stream] * (peer // stream) + [0] * (4 - peer // stream)
    another = Track(desk.peer())
    other = Outgoing(desk.peer(), another)
    numbers = sent(other, another, 1)
    desk.ends[-1].rtcp(nack(other, numbers))
    assert other.record.resent == 1
