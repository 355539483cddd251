"""What a peer sends after its session has ended: counted as that, told to control once, and bounded."""

from __future__ import annotations

import io
import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from config.schema import Log
from mediaserver import logs
from mediaserver.engine import layout as L
from mediaserver.engine.ended import FORGOTTEN, MANY, UNDER_WAY
from mediaserver.engine.removal import remove_transport
from mediaserver.engine.ring import emit
from packetio.batch import SOCKADDR, pack_sockaddr, unpack_sockaddr
from packetio.memory import Table
from packetio.srtp import GCM
from tests.unit.engine.desk import Desk
from tests.unit.engine.members import Member
from tests.unit.engine.stage import Guest, Stage

MEDIA = bytes([0x80, 96]) + bytes(40)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    for end in made.ends:
        if isinstance(end, Member):
            end.close()
    made.close()


def cut(desk: Desk, name: str = "ours", serial: int = 7) -> Member:
    """A member whose session has ended."""
    member = Member(desk, name=name)
    member.record.state, member.record.serial = L.OPEN, serial
    member.connect()
    remove_transport(desk.w, member.index)
    return member


def counts(desk: Desk) -> tuple[int, int, int]:
    return int(desk.w.drop_ended), int(desk.w.drop_unknown), int(desk.w.drop_stun)


def told(desk: Desk) -> list[tuple[int, int]]:
    """(serial, port) of what control was told."""
    found = []
    while (event := desk.worker.events.pop()) is not None:
        if event[0] == L.SENDS_ON:
            found.append((event[2], unpack_sockaddr(event[4])[1]))
    return found


@pytest.mark.parametrize("data", [MEDIA, bytes([0x80, 200]) + bytes(40), bytes([22]) + bytes(40)])
def test_packets_of_a_peer_that_was_cut_off_are_no_strangers(desk: Desk, data: bytes) -> None:
    member = cut(desk)
    for _ in range(5):
        member.put(data)
    member.put(data, member.another())
    assert counts(desk) == (5, 1, 0)


def test_checks_of_a_peer_that_was_cut_off_are_its_too(desk: Desk) -> None:
    member = cut(desk)
    for _ in range(3):
        member.check()
    member.check(member.another())
    assert counts(desk) == (3, 0, 1) and member.stun() == ([], [])


def test_peer_that_goes_on_is_told_once_and_one_that_stops_is_not(desk: Desk) -> None:
    member, other = cut(desk, serial=7), cut(desk, "theirs", serial=8)
    for _ in range(5 * MANY):  # what was under way
        member.put(MEDIA)
        other.put(MEDIA)
    assert told(desk) == []
    desk.w.now += UNDER_WAY + 1
    other.put(MEDIA)
    for _ in range(5 * MANY):
        member.put(MEDIA)
        desk.w.now += FORGOTTEN // 2  # it may go on for hours
    assert told(desk) == [(7, member.sock.getsockname()[1])]
    assert counts(desk) == (2 * 5 * MANY + 1 + 5 * MANY, 0, 0)


def test_telling_waits_while_control_has_no_room(desk: Desk) -> None:
    member = cut(desk)
    desk.w.now += UNDER_WAY + 1
    slots, desk.w.event_slots = int(desk.w.event_slots), 0
    for _ in range(3 * MANY):
        member.put(MEDIA)
    desk.w.event_slots = slots
    assert told(desk) == []
    for _ in range(3):
        member.put(MEDIA)
    assert [serial for serial, _ in told(desk)] == [7]


def test_address_that_is_silent_for_long_is_anybodys(desk: Desk) -> None:
    member = cut(desk)
    desk.w.now += FORGOTTEN + 1
    member.put(MEDIA)
    member.put(MEDIA)
    assert counts(desk) == (0, 2, 0)


def test_address_that_a_new_session_takes_is_that_sessions(desk: Desk) -> None:
    member = cut(desk)
    new = Member(desk, name="new")
    new.record.state = L.OPEN
    new.sock, old = member.sock, new.sock
    new.connect()
    before = counts(desk)
    member.put(MEDIA)
    assert counts(desk) == before
    new.sock = old


def test_more_addresses_than_are_remembered_take_each_others_places(desk: Desk) -> None:
    key: Any = None
    for _ in range(20):
        key = cut(desk)
    assert (desk.worker.ended.rows["serial"] != 0).sum() <= min(20, L.ENDED_SLOTS)
    key.put(MEDIA)
    assert counts(desk)[0] == 1


async def test_log_names_who_sends_on() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    output = io.StringIO()
    logs.set_up(Log(), output, node="edge")
    stage = Stage(workers=1)
    guest = Guest(stage, stage.engine.workers[0], GCM)
    guest.transport.about = {"room": "hall", "participant": "ann"}
    await guest.close()
    w = stage.engine.workers[0].counters
    name = Table(np.dtype("u1"), SOCKADDR)
    address = pack_sockaddr("10.0.0.9", 5004, socket.AF_INET)
    name.rows[: len(address)] = np.frombuffer(address, np.uint8)
    assert emit(w, L.SENDS_ON, 0, guest.transport.serial, 0, name.address, SOCKADDR)
    stage.turn()
    await stage.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    (line,) = [
        line for text in output.getvalue().splitlines() if "goes on sending" in (line := json.loads(text))["message"]
    ]
    assert (line["room"], line["participant"], line["remote"]) == ("hall", "ann", "10.0.0.9:5004")
    assert line["level"] == "warning"
