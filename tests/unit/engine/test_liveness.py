"""Who is alive: everything authentic is a sign of life, nothing else is a sign of anything, and nobody pays for a stop
of the node's own. The clock is moved by hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.engine import Engine, Transport
from mediaserver.engine.loop import SILENCE, find_silent_layers
from mediaserver.engine.paths import heard, silent
from mediaserver.engine.send import STALL, clock, tell_time
from mediaserver.transport.peer import WATCHFUL, Peer
from tests.unit.engine.desk import Desk, Track
from tests.unit.engine.members import Member, deliver
from tests.unit.engine.peers import build, small_config

ICE_TIMEOUT = 20.0


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    for end in made.ends:
        if isinstance(end, Member):
            end.close()
    made.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """One whose workers do not run: their clocks are moved by hand."""
    made = Engine(small_config())
    yield made
    for transport in list(made.transports.values()):
        transport.free()
    for worker in made.workers:
        worker.close()


def member_with_media(desk: Desk) -> tuple[Member, Track]:
    """A connected publisher with a layer."""
    member = Member(desk)
    member.connect()
    return member, Track(member)


def rtp(member: Member, track: Track, sequence: int) -> bytes:
    """One packet of its layer, sealed."""
    return member.sealer.protect(build(b"\x10" + bytes(20), pt=96, seq=sequence, ts=1, ssrc=int(track.record.ssrc)))


# In the engine


@pytest.mark.parametrize("sign", ["rtp", "rtcp", "check"])
def test_everything_authentic_is_a_sign_of_life(desk: Desk, sign: str) -> None:
    member, track = member_with_media(desk)
    desk.w.now += 10 * L.SECOND
    if sign == "rtp":
        member.put(rtp(member, track, 1000))
    elif sign == "rtcp":
        member.media()
    else:
        member.check()
    assert member.record.last_heard == member.record.remote_heard == desk.w.now


def test_what_is_not_authentic_is_no_sign_of_life(desk: Desk) -> None:
    member, track = member_with_media(desk)
    sealed = rtp(member, track, 1000)
    report = member.sealer.protect_rtcp(bytes([0x80, 201, 0, 1]) + (7).to_bytes(4))
    for data in (sealed, report):
        member.put(data)
    before = int(member.record.last_heard)
    desk.w.now += L.SECOND
    for data in (sealed, report):  # replayed, and damaged
        member.put(data)
        member.put(data[:-1] + bytes([data[-1] ^ 1]))
    member.put(bytes([23, 254, 253]) + bytes(60))
    member.put(member.request(key="wrong"))
    stranger = member.another()
    member.put(rtp(member, track, 1001), stranger)
    assert member.record.last_heard == member.record.remote_heard == before


def test_media_from_another_address_of_the_peer_says_nothing_about_the_one_that_is_sent_to(desk: Desk) -> None:
    member, track = member_with_media(desk)
    other = member.another()
    member.check(other)
    before = int(member.record.remote_heard)
    desk.w.now += L.SECOND
    member.put(rtp(member, track, 1000), other)
    assert member.record.last_heard == desk.w.now and member.record.remote_heard == before


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_address_is_told_from_its_neighbours(desk: Desk, family: str) -> None:
    member = desk.peer()
    t, names = member.record, desk.worker.receive_slots.names.rows
    six = family == "ipv6"
    remote = bytes([10 if six else 2, 0, 0x12, 0x34]) + (bytes(4) + bytes(range(1, 17)) if six else b"\x7f\0\0\1")
    t.remote[: len(remote)] = list(remote)
    t.remote_size = 28 if six else 16
    for changed in range(len(remote)):
        name = bytearray(remote)
        name[changed] ^= 1
        names[: len(name)] = list(name)
        t.remote_heard = 0
        heard(desk.w, t, int(desk.w["data"]), 10)
        assert bool(t.remote_heard) == (six and 4 <= changed < 8), changed  # the flow label is not of the address
        assert t.last_heard == desk.w.now


PLAIN_ALERT = b"\x15\xfe\xfd" + bytes(8) + b"\0\2\1\0"  # close_notify before there are keys
FORGED_ALERT = b"\x15\xfe\xfd\0\1" + bytes(6) + b"\0\x1a" + bytes(26)


@pytest.mark.parametrize("alert", [PLAIN_ALERT, FORGED_ALERT])
def test_alert_that_anybody_can_send_does_nothing_but_reach_control(desk: Desk, alert: bytes) -> None:
    member, _ = member_with_media(desk)
    desk.events()
    before = alive(member)
    desk.w.now += L.SECOND
    member.put(alert)
    assert alive(member) == before
    assert desk.events() == [(L.DTLS, member.index)]


def test_layers_are_not_taken_for_paused_because_the_worker_stood_still(desk: Desk) -> None:
    _, track = member_with_media(desk)
    desk.w.now += 25 * L.SECOND
    desk.w.awake_since = desk.w.now
    desk.events()
    find_silent_layers(desk.w)
    assert desk.events() == [] and track.record.active
    desk.w.now += SILENCE + 1
    find_silent_layers(desk.w)
    assert desk.events() == [(L.LAYER_PAUSED, track.index)]


def test_clock_that_leaps_means_that_the_thread_stood_still(desk: Desk) -> None:
    now = clock(desk.w)
    desk.w.now = now - STALL // 2
    tell_time(desk.w)
    assert desk.w.awake_since == 0 and desk.w.now >= now
    desk.w.now = now - STALL - L.SECOND
    tell_time(desk.w)
    assert desk.w.awake_since == desk.w.now >= now


def test_silence_is_counted_from_the_last_sign_or_from_when_the_worker_went_on(desk: Desk) -> None:
    w = desk.w
    w.now, w.awake_since = 100, 0
    assert silent(w, 89, 10) and not silent(w, 90, 10)
    w.awake_since = 95
    assert not silent(w, 1, 10) and silent(w, 1, 4)


def alive(member: Member) -> list[int]:
    """All that a transport's life is judged by."""
    names = ("state", "secured", "connected", "limited", "last_check", "last_heard", "remote_heard", "last_goodbye")
    return [int(member.record[name]) for name in names]


# In control


def opened(engine: Engine, name: str) -> Transport:
    return engine.open_transport(engine.workers[0], name, "p" * 24)


def seconds(engine: Engine, now: float) -> None:
    """Set the worker's clock."""
    engine.workers[0].counters.now = int(now * 1e9)


async def test_silent_transports_are_found_and_those_never_heard_of_are_not(engine: Engine) -> None:
    names = ("never", "long ago", "lately")
    never, long_ago, lately = (opened(engine, name) for name in names)
    long_ago.record.last_heard, lately.record.last_heard = int(100e9), int(115e9)
    seconds(engine, 121)
    assert engine.quiet_transports(20) == {long_ago}
    assert engine.quiet_transports(5) == {long_ago, lately}
    assert never.idle == 0 and long_ago.idle == 21 and lately.idle == 6


async def test_nobody_is_silent_while_the_worker_stands_still_and_all_have_time_anew_then(engine: Engine) -> None:
    transport = opened(engine, "somebody")
    transport.record.last_heard = int(100e9)
    seconds(engine, 101)  # and there it stops: the wall clock goes on, its own does not
    assert engine.quiet_transports(2) == set() and transport.idle == 1
    engine.workers[0].counters.awake_since = int(126e9)
    seconds(engine, 126)
    assert engine.quiet_transports(2) == set() and transport.idle == 0
    seconds(engine, 128.5)
    assert engine.quiet_transports(2) == {transport} and transport.idle == 2.5


class Judged:
    """A peer as `Peer.check` sees it, without DTLS; `ended` says why it was ended."""

    def __init__(self, engine: Engine) -> None:
        self.transport = opened(engine, "judged")
        self.ended: list[str] = []

    def _end(self, reason: str) -> None:
        self.ended.append(reason)

    def check(self) -> bool:
        """Whether it is still there after a look."""
        Peer.check(self, ICE_TIMEOUT)  # type: ignore[arg-type]
        return not self.ended


async def test_peer_is_gone_when_nothing_was_heard_for_the_timeout(engine: Engine) -> None:
    peer = Judged(engine)
    seconds(engine, 1000)
    assert peer.check()
    peer.transport.record.last_heard = int(1000e9)
    seconds(engine, 1000 + ICE_TIMEOUT)
    assert peer.check()
    seconds(engine, 1000.1 + ICE_TIMEOUT)
    assert not peer.check()


async def test_goodbye_shortens_the_wait_until_something_else_is_heard(engine: Engine) -> None:
    peer = Judged(engine)
    record = peer.transport.record
    record.last_goodbye = record.last_heard = int(1000e9)
    seconds(engine, 1000 + WATCHFUL)
    assert peer.check()
    record.last_heard += 1
    seconds(engine, 1000.1 + WATCHFUL)
    assert peer.check()
    record.last_heard -= 1
    assert not peer.check()


def test_deliver_is_heard_by_the_worker(desk: Desk) -> None:
    """What the tests above stand on: a datagram reaches the worker as if from a socket's address."""
    member = Member(desk)
    deliver(desk, member.request(), member.sock)
    assert len(member.stun()[0]) == 1
