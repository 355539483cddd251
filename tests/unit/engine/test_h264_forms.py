"""H.264 keyframes in every form that encoders give them: whoever joins starts with both parameter sets and the picture.

Forms are from RFC 6184 and from what hardware encoders send; each also with two neighbours swapped on the way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mediaserver.engine import layout as L
from mediaserver.engine.handles import Layer
from mediaserver.engine.parameters import NEAR
from tests.unit.engine.stage import Stage
from tests.unit.engine.theatre import H264, Publisher, Viewer, leave, pass_time

SPS = bytes.fromhex("6742c01fd9005005bb016a02020280000003008000001e478c1924")
WIDE_SPS = bytes.fromhex("6764001facd9405005bb016a02020280")
PPS = bytes.fromhex("68cb83cb20")
AUD, SEI = b"\x09\x10", b"\x06\x05\x04abcd\x80"
RECOVERY = b"\x06\x01\x01\x33\x06\x01\x84\x80"  # picture timing, then a recovery point
IDR, IDR_2 = b"\x65\x88\x84" + bytes(range(150)), b"\x65\x40\x84" + bytes(range(150))  # first and second slice
SLICE = b"\x41\x9a\x24" + bytes(range(90))


def stap(*units: bytes) -> bytes:
    return b"\x78" + b"".join(len(unit).to_bytes(2) + unit for unit in units)


def fragments(unit: bytes, size: int = 60) -> list[bytes]:
    parts = [unit[at : at + size] for at in range(1, len(unit), size)]
    flags = [(k == 0) << 7 | (k == len(parts) - 1) << 6 for k in range(len(parts))]
    return [bytes([unit[0] & 0xE0 | 28, flag | unit[0] & 31]) + part for flag, part in zip(flags, parts, strict=True)]


# A keyframe's packets, those of one time stamp in a list of their own
FORMS: dict[str, list[list[bytes]]] = {
    "all in one": [[stap(SPS, PPS, IDR)]],
    "delimiter and SEI first": [[AUD, SEI, SPS, PPS, IDR]],
    "sets in one, fragments": [[stap(AUD, SPS, PPS, SEI), *fragments(IDR)]],
    "SPS, then PPS with the picture": [[SPS, stap(PPS, IDR)]],
    "PPS, then SPS with the picture": [[PPS, stap(SPS, IDR)]],
    "PPS before SPS": [[PPS, SPS, IDR]],
    "PPS before SPS, fragments": [[PPS, SPS, *fragments(IDR)]],
    "SEI between and behind": [[SPS, SEI, PPS, SEI, IDR]],
    "a time stamp of their own": [[stap(SPS, PPS)], fragments(IDR)],
    "time stamps of their own each": [[PPS], [SPS], [IDR]],
    "two slices": [[stap(SPS, PPS), IDR, IDR_2]],
    "sets twice": [[SPS, PPS, SPS, PPS, IDR]],
}


class Camera:
    """A publisher of H.264 whose packets may be swapped on the way."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.publisher = stage, Publisher(stage)
        self.layer: Layer = self.publisher.layer()
        self.publisher.guest.connect()
        self.sequence, self.stamp = 65_530, 90_000

    def picture(self, *times: list[bytes], swap: int | None = None, lose: int | None = None) -> None:
        """The packets of one picture (each list with one time stamp). `swap`: that packet comes after its successor."""
        packets = []
        for payloads in times:
            for k, payload in enumerate(payloads):
                packets.append((payload, self.sequence, self.stamp, int(k == len(payloads) - 1)))
                self.sequence += 1
            self.stamp += 3000
        if swap is not None:
            packets[swap], packets[swap + 1] = packets[swap + 1], packets[swap]
        for k, (payload, seq, ts, marker) in enumerate(packets):
            if k != lose:
                self.publisher.send(payload, pt=H264, seq=seq, ts=ts, ssrc=5, marker=marker)
        pass_time(self.stage, 20 * L.MS)

    def others(self, count: int = 3) -> None:
        """Some pictures that depend on those before."""
        for _ in range(count):
            self.picture([SLICE])


class Studio:
    """A camera and who watches it."""

    def __init__(self) -> None:
        self.stage = Stage(workers=1)
        self.camera = Camera(self.stage)
        self.viewers: list[Viewer] = []

    def viewer(self) -> Viewer:
        self.viewers.append(Viewer(self.stage, kind=L.VIDEO))
        self.stage.turn()
        return self.viewers[-1]


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    made = Studio()
    yield made
    await leave(made.stage, made.camera.publisher, *made.viewers)


def units(viewer: Viewer) -> list[bytes]:
    """The NAL units that a viewer got, in sequence; fragments are joined."""
    found: list[bytes] = []
    packets = viewer.packets()
    for before, p in zip([None, *packets], packets, strict=False):
        assert before is None or p.sequence == before.sequence + 1 & 0xFFFF, "a gap"
        kind = p.payload[0] & 31
        if kind == 24:
            at = 1
            while at < len(p.payload):
                size = int.from_bytes(p.payload[at : at + 2])
                found.append(p.payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind != 28:
            found.append(p.payload)
        elif p.payload[1] & 0x80:
            found.append(bytes([p.payload[0] & 0xE0 | p.payload[1] & 31]) + p.payload[2:])
        else:
            found[-1] += p.payload[2:]
    return found


def decodable(found: list[bytes], *, first: bytes = IDR, sps: bytes = SPS) -> bool:
    """Whether the first picture is a keyframe, whole, with both of its parameter sets before it."""
    slices = [k for k, unit in enumerate(found) if unit[0] & 31 in (1, 5)]
    if not slices or found[slices[0]] != first:
        return False
    newest = [[unit for unit in found[: slices[0]] if unit[0] & 31 == kind][-1:] for kind in (7, 8)]
    return newest == [[sps], [PPS]]


def swaps() -> list[tuple[str, int | None]]:
    """Each form as it is, and with each pair of neighbours swapped."""
    return [(name, k) for name, form in FORMS.items() for k in (None, *range(sum(map(len, form)) - 1))]


@pytest.mark.parametrize(("name", "swap"), swaps())
async def test_who_waits_and_who_joins_late_both_start_with_a_whole_keyframe(
    studio: Studio, name: str, swap: int | None
) -> None:
    camera, form = studio.camera, FORMS[name]
    waiting, late = studio.viewer(), None
    camera.others(2)
    waiting.watch(camera.layer)
    camera.picture(*form, swap=swap)
    camera.others()
    late = studio.viewer()
    late.watch(camera.layer)
    camera.others()
    for viewer in (waiting, late):
        found = units(viewer)
        assert decodable(found), [unit[0] & 31 for unit in found]
        assert found[-6:] == [SLICE] * 6
    assert IDR_2 not in sum(form, []) or all(IDR_2 in units(viewer) for viewer in (waiting, late))


@pytest.mark.parametrize(("name", "swap"), swaps())
async def test_switch_in_the_middle_of_a_stream_starts_with_a_whole_keyframe(
    studio: Studio, name: str, swap: int | None
) -> None:
    camera, form = studio.camera, FORMS[name]
    camera.picture([stap(SPS, PPS), IDR])
    camera.others(2)
    viewer = studio.viewer()
    viewer.made.pause(True)
    viewer.watch(camera.layer)
    pass_time(studio.stage, 2500 * L.MS)  # the old keyframe is too old to start from
    camera.others(1)
    viewer.made.pause(False)
    studio.stage.turn()
    camera.picture(*form, swap=swap)
    camera.others(4)
    found = units(viewer)
    assert decodable(found), [unit[0] & 31 for unit in found]


async def test_sets_that_come_once_are_put_before_later_keyframes(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(NEAR)
    camera.picture(fragments(IDR))
    camera.others()
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    found = units(viewer)
    assert decodable(found) and len(found) == 2 + 1 + 4


async def test_keyframe_right_behind_another_begins_by_itself(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.picture([IDR])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert [unit[0] & 31 for unit in units(viewer)] == [7, 8, 5, 1]


async def test_keyframe_that_brings_one_set_gets_both(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(NEAR)
    camera.picture([stap(PPS, IDR)])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert decodable(units(viewer))


async def test_keyframe_whose_set_was_lost_starts_nobody_and_the_next_is_asked_for(studio: Studio) -> None:
    camera = studio.camera
    viewer = studio.viewer()
    camera.others(1)
    viewer.watch(camera.layer)
    camera.picture([SPS, PPS, IDR], lose=0)
    camera.others(2)
    assert units(viewer) == [] and camera.layer.record.keyframe_pending == 1
    camera.picture([SPS, PPS, IDR])
    camera.others(1)
    assert decodable(units(viewer)) and camera.layer.record.keyframe_pending == 0


async def test_stream_whose_sets_the_session_description_has_begins_with_its_second_keyframe(studio: Studio) -> None:
    camera = studio.camera
    viewer = studio.viewer()
    camera.picture([IDR])
    viewer.watch(camera.layer)
    camera.others(1)
    assert units(viewer) == []
    camera.picture([IDR])
    camera.others(1)
    assert units(viewer) == [IDR, SLICE]


async def test_sets_before_every_picture_make_no_keyframes(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    for _ in range(5):
        camera.picture([SPS, PPS, SLICE])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert decodable(units(viewer))
    assert camera.layer.record.keyframe_count == 1


async def test_recovery_point_is_where_a_stream_without_idr_pictures_begins(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    pass_time(studio.stage, 2500 * L.MS)
    for _ in range(3):
        camera.others(4)
        camera.picture([SPS, PPS, RECOVERY, SLICE])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert decodable(units(viewer), first=SLICE)
    assert camera.layer.record.keyframe_count == 4


@pytest.mark.parametrize("swap", [None, 0, 1])
async def test_new_size_is_shown_with_its_own_sets_though_they_come_late(studio: Studio, swap: int | None) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(2)
    camera.picture([PPS, WIDE_SPS, IDR], swap=swap)
    late = studio.viewer()
    late.watch(camera.layer)
    camera.others(1)
    assert decodable(units(late), sps=WIDE_SPS)


async def test_sequence_that_jumps_keeps_the_sets_of_an_encoder_that_sends_them_once(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(2)
    camera.sequence += 20_000
    camera.others(2)
    camera.picture([IDR])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert decodable(units(viewer))


@pytest.mark.parametrize(("sps", "asked"), [(SPS, 0), (WIDE_SPS, 1)], ids=["the same", "another"])
async def test_sets_that_change_behind_their_picture_ask_for_another_keyframe(
    studio: Studio, sps: bytes, asked: int
) -> None:
    """Who has begun with the picture did with the sets before it."""
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(2)
    before = int(camera.layer.record.plis_sent)
    camera.picture([PPS, sps, IDR], swap=1)
    pass_time(studio.stage, 100 * L.MS)
    assert int(camera.layer.record.plis_sent) - before == asked


async def test_sets_of_a_picture_before_are_not_the_keyframe_s_own(studio: Studio) -> None:
    camera = studio.camera
    camera.picture([SPS, PPS, IDR])
    camera.others(NEAR)
    camera.picture([stap(SPS, PPS), SLICE])
    camera.picture([IDR])
    viewer = studio.viewer()
    viewer.watch(camera.layer)
    camera.others(1)
    assert [unit[0] & 31 for unit in units(viewer)] == [7, 8, 5, 1]
