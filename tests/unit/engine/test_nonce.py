"""No (SSRC, index) is ever sealed twice, whatever a subscription goes through: AES-GCM and AES-CM are void where it is.

Random lives: publishers lose, reorder, repair and pad, change SSRC, numbering and codec, leave and come back; viewers
on both workers, with both ciphers, are switched, parked, paused, lagged, limited and replaced, and ask for anything
again. What a viewer's socket gets is opened by libsrtp, and each number on the wire is held against all before it.
WEIR_LIVES=n runs n lives, WEIR_TURNS=n makes each n × 5 ms long.
"""

from __future__ import annotations

import os
import random
import struct
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from pylibsrtp import Error

from mediacodecs import frame as codecs
from mediacodecs.extensions import ABS_SEND_TIME, MID, RID, TWCC
from mediaserver.engine import layout as L
from mediaserver.engine.handles import Layer, Subscription
from packetio.srtp import CM80, GCM
from tests.unit.engine.peers import Rtp, build, parse
from tests.unit.engine.stage import Guest, Stage

LIVES = int(os.environ.get("WEIR_LIVES", "8"))
TURNS = int(os.environ.get("WEIR_TURNS", "500"))  # of 5 ms each
VP8, H264, OPUS, RTX = 96, 102, 111, 97  # the publishers' payload types
CODECS = {VP8: codecs.VP8, H264: codecs.H264, OPUS: codecs.OPUS}
TYPES = {codecs.VP8: (120, 121), codecs.H264: (122, 123), codecs.OPUS: (124, 125)}  # the viewers'
PARAMETERS = b"\x18\x00\x0a\x67\x42\xe0\x1f" + bytes(6) + b"\x00\x04\x68\xce\x3c\x80"  # SPS and PPS as one STAP-A
TAG = b"\xfatag"  # before the eight bytes that name a packet at its end
LONGEST_LAG = 700 * L.MS
IDS = 6  # bytes at the begin of a VP8 payload that may be rewritten


@dataclass(frozen=True)
class Place:
    """Where the engine logged a packet."""

    source: tuple[int, int]  # number of the log, epoch
    position: int


@dataclass
class Book:
    """What is known of everything that was published."""

    payloads: dict[int, bytes] = field(default_factory=dict)  # by tag
    places: dict[int, Place] = field(default_factory=dict)  # by tag, of what was accepted
    in_order: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))  # source -> positions
    logs: int = 0

    def new_tag(self, payload: bytes) -> bytes:
        """The payload with the next tag behind it."""
        tag = len(self.payloads) + 1
        self.payloads[tag] = payload + TAG + tag.to_bytes(8)
        return self.payloads[tag]

    def lost(self, source: tuple[int, int], first: int, end: int) -> int:
        """How many of the positions first … end - 1 did not come, or came late."""
        return sum(position not in self.in_order[source] for position in range(first, end))


def tag_of(payload: bytes) -> int:
    """The packet's name; 0: it has none (parameter sets, padding)."""
    return int.from_bytes(payload[-8:]) if payload[-12:-8] == TAG else 0


class Stream:
    """One layer of a publisher: what its encoder sends next, and what the network holds back."""

    def __init__(self, home: Publisher, layer: Layer, ssrc: int, codec: int) -> None:
        self.home, self.layer, self.ssrc, self.codec = home, layer, ssrc, codec
        self.dice = home.dice
        self.sequence, self.repaired = self.dice.randrange(1 << 16), self.dice.randrange(1 << 16)
        self.picture, self.stamp = self.dice.randrange(1 << 15), self.dice.getrandbits(32)
        self.held: list[tuple[bytes, int]] = []
        self.slots: dict[int, tuple[tuple[int, int], int, int]] = {}  # of the log: source, position, arrival
        home.book.logs += 1
        self.number = home.book.logs

    def payload(self, key: bool) -> bytes:
        """One packet of the codec, one packet a frame."""
        body = self.dice.randbytes(self.dice.choice([20, 21, 60, 200]))
        self.picture += 1
        self.stamp += 960
        if self.codec == OPUS:
            return b"\x78" + body
        if self.codec == H264:
            return (b"\x65" if key else b"\x41") + b"\x88" + body
        temporal = 0 if key else self.picture % 3
        head = bytes([0x90, 0xE0]) + (0x8000 | self.picture & 0x7FFF).to_bytes(2)
        head += bytes([self.picture & 255, temporal << 6 | (self.dice.random() < 0.3) << 5])
        return head + (b"\x10\x00\x00\x9d\x01\x2a\x80\x02\xe0\x01" if key else b"\x11\x00\x00") + body

    def sealed(self, payload: bytes, *, repair: bool = False, padding: int = 0) -> bytes:
        """The next packet, ready to be sent; `repair`: its number before the payload, as RTX."""
        extensions = {1: self.layer.mid.encode()} | ({2: self.layer.rid.encode()} if self.layer.rid else {})
        number, kind, ssrc = self.sequence & 0xFFFF, self.codec, self.ssrc
        self.sequence += 1
        if repair:
            payload = number.to_bytes(2) + payload
            number, kind, ssrc = self.repaired & 0xFFFF, RTX, ssrc ^ 0x8000
            self.repaired += 1
        plain = build(payload, pt=kind, seq=number, ts=self.stamp, ssrc=ssrc, marker=1, ext=extensions)
        if padding:
            plain = bytes([plain[0] | 0x20]) + plain[1:] + bytes(padding - 1) + bytes([padding])
        return self.home.guest.sealer.protect(plain)

    def publish(self) -> None:
        """Send the next packet: lost, late, as RTX, empty or well."""
        chance, tag = self.dice.random(), 0
        if chance < 0.04:  # padding that a bandwidth estimator sends
            data = self.sealed(b"", padding=20)
        elif self.codec == H264 and chance < 0.08:
            data = self.sealed(PARAMETERS)
        else:
            payload = self.home.book.new_tag(self.payload(self.dice.random() < 0.08))
            repairable = self.codec == VP8 and self.layer.record.started
            data, tag = self.sealed(payload, repair=bool(repairable and self.dice.random() < 0.05)), tag_of(payload)
        fate = self.dice.random()
        if fate < 0.86:
            self.arrive(data, tag)
        elif fate < 0.95:
            self.held.append((data, tag))

    def release(self) -> None:
        """What the network held back comes, in any order."""
        self.dice.shuffle(self.held)
        while self.held:
            self.arrive(*self.held.pop())

    def arrive(self, data: bytes, tag: int) -> None:
        """One packet reaches the worker; the book notes where it was logged, if it was."""
        log, book = self.layer.log, self.home.book
        head, highest = log.head, int(log.header.highest)
        self.home.guest.deliver_rtp(data)
        if log.head == head:
            return
        ((_, position),) = log.arrivals(head)
        source, now = (self.number, int(log.header.epoch)), self.home.guest.stage.now
        if position > highest:
            book.in_order[source].add(position)
        slot = position % int(log.header.packets)
        before = self.slots.get(slot)
        if before and now - before[2] < 1.5 * LONGEST_LAG:  # its place was taken before every cursor had read it
            book.in_order[before[0]].discard(before[1])
        self.slots[slot] = source, position, now
        book.places[tag] = Place(source, position)


class Publisher:
    """A peer that sends two video layers and audio."""

    def __init__(self, stage: Stage, book: Book, dice: random.Random, number: int) -> None:
        self.book, self.dice = book, dice
        self.guest = Guest(stage, stage.engine.workers[number % 2], dice.choice([GCM, CM80]))
        kinds, repairs = {1: MID, 2: RID}, {RTX: VP8}
        transport = self.guest.transport
        transport.set_receiving(kinds=kinds, codecs=CODECS, repairs=repairs, twcc=False)
        base = 0x100000 * (number + 1)
        self.streams = []
        for k, (kind, mid, rid, codec) in enumerate(
            [(L.VIDEO, "1", "q", VP8), (L.VIDEO, "1", "h", VP8), (L.AUDIO, "2", None, OPUS)]
        ):
            rate = 48_000 if kind == L.AUDIO else 90_000
            layer = transport.add_layer(kind=kind, mid=mid, rid=rid, ssrc=None, rtx_ssrc=None, clock_rate=rate)
            self.streams.append(Stream(self, layer, base + k, codec))
        self.guest.connect()

    def change(self) -> None:
        """The encoder of a stream restarts, jumps or takes another codec."""
        stream = self.dice.choice(self.streams)
        what = self.dice.random()
        if what < 0.4:
            stream.ssrc += 16
            stream.sequence = self.dice.randrange(1 << 16)
            stream.held.clear()
        elif what < 0.8:
            stream.sequence += self.dice.choice([3, 500, 1023, 1024, 1500, 5000, 20000])
        elif stream.codec != OPUS:
            stream.codec = H264 if stream.codec == VP8 else VP8


class Viewer:
    """A peer that receives: every number that it was ever sent, and what was in it."""

    def __init__(self, stage: Stage, book: Book, dice: random.Random, number: int) -> None:
        self.stage, self.book, self.dice = stage, book, dice
        self.guest = Guest(stage, stage.engine.workers[number % 2], GCM if number < 2 else CM80)
        ids = {MID: 1, TWCC: 5} if number % 3 else {ABS_SEND_TIME: 2}
        self.guest.transport.set_sending(ids=ids, allow_mixed=False)
        self.seen: dict[int, dict[int, bytes]] = {}  # SSRC -> index -> datagram
        self.opened: dict[int, dict[int, Rtp]] = {}
        self.newest: dict[int, int] = {}
        self.came = 0
        self.primaries: list[Subscription] = []
        self.subscriptions = [self.subscribe(kind) for kind in (L.VIDEO, L.VIDEO, L.AUDIO)]
        self.guest.connect()

    def subscribe(self, kind: int) -> Subscription:
        """A new subscription; half of them begin shortly before their sequence number wraps."""
        rate = 48_000 if kind == L.AUDIO else 90_000
        mid = str(len(self.primaries))
        made = self.guest.transport.add_subscription(kind=kind, mid=mid, cname="c", clock_rate=rate)
        first = self.dice.choice([1, 65_536 - self.dice.randrange(40, 400)])
        row = made.record
        row.out_first = row.out_start = first
        row.out_highest = row.rtx_index = first - 1
        self.primaries.append(made)
        return made

    async def replace(self) -> None:
        """A subscription goes, another takes its place."""
        k = self.dice.randrange(3)
        await self.stage.finish(self.subscriptions[k].close())
        self.take()
        self.subscriptions[k] = self.subscribe(self.subscriptions[k].kind)

    def take(self) -> None:
        """Open what has come. A number that came before may only come again with the very same bytes."""
        for data in self.guest.datagrams():
            self.came += 1
            if 192 <= data[1] <= 223:
                self.guest.opener.unprotect_rtcp(data)
                continue
            sequence, ssrc = int.from_bytes(data[2:4]), int.from_bytes(data[8:12])
            seen = self.seen.setdefault(ssrc, {})
            newest = self.newest.get(ssrc, sequence)
            index = newest + (sequence - newest + 32_768) % 65_536 - 32_768
            if index in seen:
                assert seen[index] == data, f"SSRC {ssrc:x} sealed two packets as number {index}"
                continue
            seen[index] = data
            self.newest[ssrc] = max(newest, index)
            try:
                self.opened.setdefault(ssrc, {})[index] = parse(self.guest.opener.unprotect(data))
            except Error as error:
                raise AssertionError(f"libsrtp does not open number {index} of SSRC {ssrc:x}: {error}") from error

    def ask_again(self) -> None:
        """NACK some numbers, near the newest ones or older, sent or not."""
        subscription = self.dice.choice(self.subscriptions)
        newest = self.newest.get(subscription.ssrc)
        if newest is None:
            return
        about = newest - self.dice.choice([0, 0, 30, 500, 1024])
        first = [about + self.dice.randrange(-30, 30) & 0xFFFF for _ in range(4)]
        body = b"".join(struct.pack("!HH", number, self.dice.getrandbits(16)) for number in first)
        self.guest.deliver_rtcp(struct.pack("!BBHII", 0x81, 205, 2 + len(first), 77, subscription.ssrc) + body)

    def order(self, streams: list[Stream]) -> None:
        """Control wants something of a subscription."""
        subscription = self.dice.choice(self.subscriptions)
        what = self.dice.random()
        if what < 0.6:
            stream = self.dice.choice([s for s in streams if s.layer.kind == subscription.kind])
            if stream.layer.codec:
                types = TYPES[stream.layer.codec]
                subscription.set_source(stream.layer, *types, fresh=self.dice.random() < 0.4)
        elif what < 0.63:
            subscription.set_source(None)
        elif what < 0.72:
            subscription.set_lag(self.dice.choice([0, 0, 0, 40, 200, LONGEST_LAG // L.MS]))
        elif what < 0.85:
            subscription.pause(self.dice.random() < 0.3)
        else:
            subscription.set_layers(255, self.dice.choice([0, 1, 2, 255]))

    def check(self) -> None:
        """All that was sent was sent once, whole, and in numbers without gaps."""
        assert self.came == self.guest.transport.record.packets_out, "the test's own socket lost packets"
        for subscription in self.primaries:
            primary = self.opened.get(subscription.ssrc, {})
            self.check_numbers(primary)
            repeats = self.opened.get(subscription.rtx_ssrc, {})
            assert not repeats or max(repeats) - min(repeats) == len(repeats) - 1
            for packet in repeats.values():
                self.check_repeat(packet, primary)

    def check_payload(self, payload: bytes) -> int:
        """The tag of a payload that is as it was published."""
        tag = tag_of(payload)
        if tag:
            published = self.book.payloads[tag]
            assert payload == published or (payload[IDS:], payload[0]) == (published[IDS:], published[0])
        return tag

    def check_numbers(self, primary: dict[int, Rtp]) -> None:
        """Between two packets no more numbers are missing than packets were lost there."""
        numbers = sorted(primary)
        tagged = [(index, tag) for index in numbers if (tag := self.check_payload(primary[index].payload))]
        for (before, first), (index, second) in pairwise(tagged):
            missing = sum(number not in primary for number in range(before + 1, index))
            assert missing <= self.lost(self.book.places[first], self.book.places[second], index - before - 1)

    def lost(self, place: Place, here: Place, numbers: int) -> int:
        """How many packets were lost between two that are so many numbers apart."""
        lost = self.book.lost
        if here.source == place.source and here.position > place.position:
            return lost(place.source, place.position + 1, here.position)
        last = max(self.book.in_order[place.source], default=place.position)
        # what one source ends with was lost, or what another begins with, beside padding, after its first packet
        return lost(place.source, place.position + 1, last) + lost(
            here.source, here.position - 2 * numbers - 4 if numbers else here.position, here.position
        )

    def check_repeat(self, packet: Rtp, primary: dict[int, Rtp]) -> None:
        """RTX holds the packet that its number was given to (RFC 4588 4): time stamp and payload."""
        original = int.from_bytes(packet.payload[:2])
        tag = self.check_payload(packet.payload[2:])
        for index in primary:
            if index & 0xFFFF == original:
                assert tag == tag_of(primary[index].payload)
                assert packet.timestamp == primary[index].timestamp


class Life:
    """Two publishers, four viewers, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.dice, self.book = random.Random(seed), Book()
        self.stage = Stage(workers=2)
        self.publishers = [self.publisher(number) for number in range(2)]
        self.viewers = [Viewer(self.stage, self.book, self.dice, number) for number in range(4)]
        self.left: list[int] = []

    def publisher(self, number: int) -> Publisher:
        return Publisher(self.stage, self.book, self.dice, number)

    def streams(self) -> list[Stream]:
        return [stream for publisher in self.publishers for stream in publisher.streams]

    async def turn(self) -> None:
        """5 ms: some packets, now and then an event, and everybody's share of the engine's work."""
        for stream in self.streams():
            for _ in range(self.dice.choice([0, 0, 0, 1] if stream.codec == OPUS else [0, 1, 1, 1, 3])):
                stream.publish()
            if self.dice.random() < 0.2:
                stream.release()
        viewer = self.dice.choice(self.viewers)
        if self.dice.random() < 0.4:
            viewer.order(self.streams())
        if self.dice.random() < 0.2:
            viewer.ask_again()
        if self.dice.random() < 0.04:
            self.dice.choice(self.publishers).change()
        if self.dice.random() < 0.01:
            await viewer.replace()
        if self.dice.random() < 0.006:
            await self.leave_and_return(self.dice.randrange(2))
        self.pass_time()

    def pass_time(self) -> None:
        self.stage.turn()
        for viewer in self.viewers:
            viewer.take()
        for publisher in self.publishers:
            publisher.guest.datagrams()

    async def leave_and_return(self, number: int) -> None:
        """A publisher goes; it comes back with other SSRCs, or with those that it had."""
        await self.publishers[number].guest.close()
        self.publishers[number] = self.publisher(number + self.dice.choice([0, 2, 4]))

    async def close(self) -> None:
        for guest in [*self.publishers, *self.viewers]:
            await guest.guest.close()
        await self.stage.close()


@pytest.fixture
async def life(seed: int) -> AsyncIterator[Life]:
    made = Life(seed)
    yield made
    await made.close()


@pytest.mark.parametrize("seed", range(LIVES))
async def test_no_number_is_sealed_twice_in_any_life(life: Life) -> None:
    for _ in range(TURNS):
        await life.turn()
    for _ in range(200):  # what lags comes too
        life.pass_time()
    for viewer in life.viewers:
        viewer.check()
