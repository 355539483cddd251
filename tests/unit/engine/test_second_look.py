"""An SSRC that could not be told is looked at again when a packet says more; and transport-wide numbers all count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.buckets import IDENTITY_DEPTH, IDENTITY_PAUSE
from mediaserver.engine.handles import Layer
from tests.unit.engine.stage import Stage
from tests.unit.engine.theatre import DELTA, KEY, OPUS, VP8, VP8_RTX, Publisher, leave

BODY = KEY + bytes(40)
ODD_TYPE = 77  # a payload type that nobody agreed on


class Home:
    """A publisher on a stage."""

    def __init__(self) -> None:
        self.stage = Stage(workers=1)
        self.publisher = Publisher(self.stage, twcc=True)
        self.w = self.stage.engine.workers[0].counters
        self.sequence: dict[int, int] = {}

    def add(self, *names: tuple[str, str | None], kind: int = L.VIDEO) -> list[Layer]:
        """Layers by (mid, rid)."""
        return [self.publisher.layer(kind, mid, rid) for mid, rid in names]

    def connect(self) -> None:
        self.publisher.guest.connect()

    def send(self, ssrc: int, payload: bytes = BODY, *, pt: int = VP8, pad: int = 0, **names: bytes) -> None:
        """The next packet of an SSRC."""
        seq = self.sequence.get(ssrc, 100)
        self.sequence[ssrc] = seq + 1
        self.publisher.send(payload, pt=pt, seq=seq, ts=3000 * seq, ssrc=ssrc, pad=pad, **names)
        self.stage.turn()


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    made = Home()
    yield made
    await leave(made.stage, made.publisher)


def logged(layer: Layer) -> int:
    return int(layer.log.header.received_packets)


def bound(layer: Layer) -> tuple[int, int]:
    return int(layer.record.ssrc), int(layer.record.rtx_ssrc)


FIRST = {
    "padding without names": {"payload": b"", "pad": 100},
    "padding with a mid": {"payload": b"", "pad": 100, "mid": b"1"},
    "padding with both names": {"payload": b"", "pad": 100, "mid": b"1", "rid": b"h"},
    "a payload without names": {},
    "a mid alone": {"mid": b"1"},
    "a rid of nobody": {"mid": b"1", "rid": b"x"},
    "an unknown payload type": {"pt": ODD_TYPE, "mid": b"1", "rid": b"h"},
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST.keys())
async def test_simulcast_layer_is_told_by_the_first_packet_that_can_tell(home: Home, first: dict[str, Any]) -> None:
    low, high = home.add(("1", "l"), ("1", "h"))
    home.connect()
    for _ in range(3):
        home.send(50, **first)
    assert (logged(low), logged(high)) == (0, 0)
    home.send(50, mid=b"1", rid=b"h")
    home.send(51, mid=b"1", rid=b"l")
    for _ in range(3):
        home.send(50, DELTA)
        home.send(51, DELTA)
    assert (bound(low), bound(high)) == ((51, -1), (50, -1))
    assert (logged(low), logged(high)) == (4, 4)
    assert int(high.log.header.epoch) == 0 and high.active


@pytest.mark.parametrize("names", [{}, {"mid": b"1"}], ids=["bare", "with a mid"])
async def test_retransmissions_that_begin_with_bare_padding_find_their_layer(
    home: Home, names: dict[str, bytes]
) -> None:
    low, high = home.add(("1", "l"), ("1", "h"))
    home.connect()
    for seq in (100, 102):
        home.sequence[50] = seq
        home.send(50, mid=b"1", rid=b"h")
    home.send(60, b"", pt=VP8_RTX, pad=200, **names)
    home.send(60, (101).to_bytes(2) + BODY, pt=VP8_RTX, mid=b"1", rrid=b"h")
    assert logged(high) == 3 and bound(high) == (50, 60) and bound(low) == (-1, -1)


async def test_padding_of_the_only_stream_of_its_kind_says_nothing_and_its_media_does(home: Home) -> None:
    (layer,) = home.add(("1", None))
    home.connect()
    home.send(60, b"", pt=VP8_RTX, pad=50)
    home.send(50, b"", pad=50)
    assert bound(layer) == (-1, -1) and not layer.active
    home.send(50)
    home.send(60, b"", pt=VP8_RTX, pad=50)
    assert bound(layer) == (50, -1) and logged(layer) == 1
    home.send(60, (99).to_bytes(2) + BODY, pt=VP8_RTX)
    assert bound(layer) == (50, 60)


@pytest.mark.parametrize("names", [{}, {"mid": b"1"}], ids=["bare", "with a mid"])
async def test_probes_on_ssrc_0_do_not_take_a_stream_over(home: Home, names: dict[str, bytes]) -> None:
    (layer,) = home.add(("1", None))
    home.connect()
    for pt in (VP8, VP8_RTX, ODD_TYPE):
        home.send(0, b"", pt=pt, pad=200, **names)
    home.send(50, mid=b"1")
    for pt in (VP8, VP8_RTX, ODD_TYPE):
        home.send(0, b"", pt=pt, pad=200, **names)
        home.send(50, DELTA)
    assert layer.record.ssrc == 50 and logged(layer) == 4 and int(layer.log.header.epoch) == 0


async def test_padding_of_a_restarted_encoder_waits_for_its_media(home: Home) -> None:
    (layer,) = home.add(("1", None))
    home.connect()
    home.send(50, mid=b"1")
    home.send(51, b"", pad=100, mid=b"1")
    home.send(50, DELTA)
    assert layer.record.ssrc == 50 and logged(layer) == 2
    home.send(51, mid=b"1")
    home.send(51, DELTA)
    assert layer.record.ssrc == 51 and logged(layer) == 4


async def test_name_corrects_what_the_payload_type_made_believe(home: Home) -> None:
    plain, low, high = home.add(("1", None), ("2", "l"), ("2", "h"))
    home.connect()
    home.send(50)
    assert plain.record.ssrc == 50
    home.send(50, mid=b"2", rid=b"h")
    home.send(50, DELTA)
    assert (bound(plain), bound(low), bound(high)) == ((-1, -1), (-1, -1), (50, -1))
    assert logged(high) == 2
    home.send(51, mid=b"1")
    home.send(51, DELTA)
    assert bound(plain) == (51, -1) and int(high.log.header.epoch) == 0


async def test_name_that_agrees_with_the_guess_changes_nothing(home: Home) -> None:
    (layer,) = home.add(("1", None))
    home.connect()
    home.send(50)
    home.send(50, DELTA, mid=b"1")
    home.send(50, DELTA, mid=b"9")
    assert layer.record.ssrc == 50 and logged(layer) == 3 and int(layer.log.header.epoch) == 0


def searches(home: Home) -> int:
    """How many searches the peer's bucket has given away."""
    full = int(home.publisher.transport.record.buckets[L.IDENTITIES])
    return max(full - int(home.w.now), 0) // IDENTITY_PAUSE


async def test_packets_that_say_nothing_new_are_not_searched_for(home: Home) -> None:
    home.add(("1", "l"), ("1", "h"))
    home.connect()
    for _ in range(200):
        home.publisher.send(BODY, pt=VP8, seq=home.sequence.setdefault(50, 1), ts=0, ssrc=50, mid=b"1")
        home.sequence[50] += 1
    assert searches(home) == 0 and home.w.drop_ssrc == 200


async def test_member_that_changes_its_names_in_every_packet_is_bounded(home: Home) -> None:
    low, high = home.add(("1", "l"), ("1", "h"))
    home.connect()
    most = IDENTITY_DEPTH // IDENTITY_PAUSE
    for k in range(3 * most):
        names = {"mid": b"1", "rid": b"%d" % k}
        home.publisher.send(BODY, pt=VP8, seq=k, ts=0, ssrc=50, **names)
    assert searches(home) == most
    home.publisher.send(BODY, pt=VP8, seq=900, ts=0, ssrc=50, mid=b"1", rid=b"h")
    assert logged(high) == 0
    home.stage.turn(IDENTITY_PAUSE)
    home.publisher.send(BODY, pt=VP8, seq=901, ts=0, ssrc=50, mid=b"1", rid=b"h")
    assert logged(high) == 1 and logged(low) == 0


async def test_transport_wide_numbers_of_all_authentic_packets_are_counted(home: Home) -> None:
    home.add(("1", "l"), ("1", "h"))
    home.connect()
    kinds: list[dict[str, Any]] = [
        {"ssrc": 50, "mid": b"1", "rid": b"h"},
        {"ssrc": 51},  # nobody's
        {"ssrc": 51},
        {"ssrc": 0, "payload": b"", "pad": 200, "pt": VP8_RTX},
        {"ssrc": 52, "pt": ODD_TYPE},
        {"ssrc": 52, "pt": OPUS, "payload": b"\x78abc"},
        {"ssrc": 0, "payload": b"", "pad": 200},
    ]
    state = home.stage.engine.workers[0].twccs.rows[home.publisher.transport.twcc]
    for number, kind in enumerate(kinds):
        arguments = {"payload": BODY, "pt": VP8, "pad": 0} | kind
        payload, ssrc = arguments.pop("payload"), arguments.pop("ssrc")
        home.publisher.send(payload, seq=number, ts=0, ssrc=ssrc, twcc=number.to_bytes(2), **arguments)
        assert int(state.highest) & 0xFFFF == number and state.arrival[number] > 0


async def test_stream_whose_mid_is_another_section_s_takes_no_layer_over(home: Home) -> None:
    plain, low, high = home.add(("1", None), ("2", "l"), ("2", "h"))
    home.connect()
    home.send(40, mid=b"1")
    home.send(50, mid=b"2")
    home.send(60, mid=b"zz")
    home.send(40, DELTA)
    assert bound(plain) == (40, -1) and logged(plain) == 2 and int(plain.log.header.epoch) == 0
    home.send(50, mid=b"2", rid=b"h")
    assert bound(plain) == (40, -1) and bound(low) == (-1, -1) and bound(high) == (50, -1)


async def test_guess_stays_one_until_a_name_confirms_it(home: Home) -> None:
    plain, _, high = home.add(("1", None), ("2", "l"), ("2", "h"))
    home.connect()
    home.send(50)
    for names in ({"mid": b"2"}, {"mid": b"9"}, {"mid": b"2", "rid": b"x"}):
        home.send(50, DELTA, **names)
    home.send(50, mid=b"2", rid=b"h")
    assert bound(plain) == (-1, -1) and bound(high) == (50, -1) and logged(high) == 1


@pytest.mark.parametrize("repair", [False, True])
async def test_guess_about_one_ssrc_says_nothing_of_another(home: Home, repair: bool) -> None:
    """Nor does a layer lose the SSRC that it was given by name, when the guess about the other is corrected."""
    plain, _, high = home.add(("1", None), ("2", "l"), ("2", "h"))
    home.connect()
    home.send(40, mid=b"1")
    home.send(45, mid=b"2", rid=b"h")
    epoch = int(plain.log.header.epoch)
    if repair:
        home.send(50, (99).to_bytes(2) + BODY, pt=VP8_RTX)
        home.send(60, (98).to_bytes(2) + BODY, pt=VP8_RTX, mid=b"1")
        assert bound(plain) == (40, 60)
        home.send(50, (99).to_bytes(2) + BODY, pt=VP8_RTX, mid=b"2", rrid=b"h")
        assert bound(plain) == (40, 60) and bound(high) == (45, 50)
        assert int(plain.log.header.epoch) == epoch
        return
    home.send(50)
    home.send(60, mid=b"1")
    epoch = int(plain.log.header.epoch)
    home.send(50, mid=b"2", rid=b"h")
    home.send(60, DELTA)
    assert bound(plain) == (60, -1) and bound(high) == (50, -1) and int(plain.log.header.epoch) == epoch


async def test_pairs_of_ssrc_and_rid_that_no_line_declares_are_corrected_by_names(home: Home) -> None:
    low = home.publisher.layer(L.VIDEO, "1", "l", ssrc=50, rtx_ssrc=60)
    high = home.publisher.layer(L.VIDEO, "1", "h", ssrc=51, rtx_ssrc=61)
    home.connect()
    home.send(50)
    home.send(51)
    assert (bound(low)[0], bound(high)[0]) == (50, 51)
    home.send(50, mid=b"1", rid=b"h")
    home.send(51, mid=b"1", rid=b"l")
    assert (bound(low)[0], bound(high)[0]) == (51, 50)


async def test_declared_ssrc_with_the_mid_of_another_section_is_not_what_was_declared(home: Home) -> None:
    one, other = home.publisher.layer(L.VIDEO, "1", None, ssrc=50), home.publisher.layer(L.VIDEO, "2", None)
    home.connect()
    home.send(50, mid=b"2")
    assert bound(one) == (-1, -1) and bound(other) == (50, -1)


async def test_restarted_encoder_finds_room_in_a_full_table(home: Home) -> None:
    (layer,) = home.add(("1", None))
    home.connect()
    home.publisher.transport.record.ssrc_limit = 2
    home.send(50, mid=b"1")
    home.send(60, (99).to_bytes(2) + BODY, pt=VP8_RTX, mid=b"1")
    home.send(51, mid=b"1")
    home.send(61, (99).to_bytes(2) + BODY, pt=VP8_RTX, mid=b"1")
    assert bound(layer) == (51, 61) and logged(layer) >= 1 and int(home.publisher.transport.record.ssrc_count) == 2


async def test_repaired_rid_alone_corrects_a_guess_about_retransmissions(home: Home) -> None:
    plain, _, high = home.add(("1", None), ("2", "l"), ("2", "h"))
    home.connect()
    home.send(40, mid=b"1")
    home.send(45, mid=b"2", rid=b"h")
    home.send(60, (99).to_bytes(2) + BODY, pt=VP8_RTX)
    assert bound(plain) == (40, 60)
    home.send(60, (99).to_bytes(2) + BODY, pt=VP8_RTX, rrid=b"h")
    assert bound(plain) == (40, -1) and bound(high) == (45, 60)
