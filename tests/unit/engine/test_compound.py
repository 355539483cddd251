"""RTCP is compound, with a report and a name first, for every peer that did not ask for reduced size (RFC 8834 4.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mediaserver.engine import layout as L
from tests.unit.engine.stage import Stage
from tests.unit.engine.theatre import IDS, Publisher, Viewer, leave, pass_time

SR, RR, SDES, BYE, RTPFB, PSFB = 200, 201, 202, 203, 205, 206
CNAME = 1


class Talk:
    """A publisher with losses, who reports, and a viewer."""

    def __init__(self, reduced: bool | None) -> None:
        self.stage = Stage(workers=1)
        self.publisher = Publisher(self.stage, twcc=True)
        self.layer = self.publisher.layer()
        self.viewer = Viewer(self.stage, kind=L.VIDEO, connected=False)
        for transport in (self.publisher.transport, self.viewer.guest.transport):
            if reduced is not None:
                transport.set_reduced_size(reduced)
        self.publisher.guest.connect()
        self.viewer.guest.connect()

    async def go_on(self) -> None:
        """A second and a half of pictures, some lost, with a sender report; then both are told to leave."""
        for number in range(75):
            if number % 10 != 3:
                self.publisher.picture(number, key=number == 0, mid=b"1", twcc=number.to_bytes(2))
            if number == 0:
                self.stage.turn()
                self.viewer.watch(self.layer)
            if number == 20:
                self.publisher.guest.deliver_rtcp(
                    bytes([0x80, SR, 0, 6]) + (8).to_bytes(4) + (0xE0 << 56).to_bytes(8) + bytes(12)
                )
                self.viewer.made.request_keyframe()
            pass_time(self.stage, 20 * L.MS)
        await self.stage.finish(self.publisher.transport.close())
        await self.stage.finish(self.viewer.guest.transport.close())


@pytest.fixture
async def talk(reduced: bool | None) -> AsyncIterator[Talk]:
    made = Talk(reduced)
    yield made
    await leave(made.stage, made.publisher, made.viewer)


def compounds(one: Publisher | Viewer) -> list[list[bytes]]:
    """The RTCP that came, each datagram as its packets."""
    found = []
    for data in one.guest.datagrams():
        if 192 <= data[1] <= 223:
            plain, packets = one.guest.opener.unprotect_rtcp(data), []
            while plain:
                size = 4 + 4 * int.from_bytes(plain[2:4])
                packets.append(plain[:size])
                plain = plain[size:]
            found.append(packets)
    return found


def kinds(found: list[list[bytes]]) -> set[int]:
    return {packet[1] for packets in found for packet in packets}


@pytest.mark.parametrize("reduced", [None, False])
async def test_every_datagram_begins_with_a_report_and_names_its_source(talk: Talk, reduced: bool | None) -> None:
    await talk.go_on()
    to_publisher, to_viewer = compounds(talk.publisher), compounds(talk.viewer)
    assert kinds(to_publisher) == {RR, SDES, RTPFB, PSFB, BYE} and kinds(to_viewer) == {SR, RR, SDES, BYE}
    for packets in to_publisher + to_viewer:
        report, name = packets[0], packets[1]
        assert report[1] in (SR, RR) and name[1] == SDES and name[8] == CNAME and name[9] > 0
        assert name[4:8] == report[4:8], "the name is that of the reporter"
        assert BYE not in [packet[1] for packet in packets[:-1]]


@pytest.mark.parametrize("reduced", [True])
async def test_who_asked_for_reduced_size_gets_feedback_alone(talk: Talk, reduced: bool) -> None:
    await talk.go_on()
    first = {packets[0][1] for packets in compounds(talk.publisher)}
    assert first == {RR, RTPFB, PSFB}


def nack(viewer: Viewer, sequence: int) -> None:
    ssrc = viewer.made.ssrc.to_bytes(4)
    viewer.guest.deliver_rtcp(bytes([0x81, RTPFB, 0, 3]) + bytes(4) + ssrc + sequence.to_bytes(2) + bytes(2))


def report_on(viewer: Viewer, ssrc: int) -> None:
    viewer.guest.deliver_rtcp(bytes([0x81, RR, 0, 7]) + bytes(4) + ssrc.to_bytes(4) + bytes(20))


@pytest.mark.parametrize("reduced", [None])
async def test_retransmissions_bear_the_mid_until_their_own_ssrc_is_reported_on(talk: Talk, reduced: None) -> None:
    viewer, number = talk.viewer, 0
    primary, repairs = viewer.made.ssrc, viewer.made.rtx_ssrc

    def named() -> tuple[bool, bool]:
        """Whether a new packet and the resend of it bear the mid."""
        nonlocal number
        talk.publisher.picture(number, key=number == 0, mid=b"1")
        number += 1
        pass_time(talk.stage, 600 * L.MS)
        if number == 1:
            viewer.watch(talk.layer)
            pass_time(talk.stage, 20 * L.MS)
        packets = viewer.packets()
        nack(viewer, packets[-1].sequence)
        talk.stage.turn()
        viewer.packets()
        newest = {ssrc: [p for p in viewer.came if p.ssrc == ssrc][-1] for ssrc in (primary, repairs)}
        assert newest[repairs].payload[:2] == packets[-1].sequence.to_bytes(2)
        return IDS["mid"] in newest[primary].extensions, IDS["mid"] in newest[repairs].extensions

    assert named() == (True, True)
    report_on(viewer, primary)
    assert named() == (False, True)
    report_on(viewer, repairs)
    assert named() == (False, False)
