"""Publishers and viewers on a stage (`stage`): what control does, and when, is a test's own."""

from __future__ import annotations

from typing import Any

from mediacodecs import frame as codecs
from mediacodecs.extensions import MID, REPAIRED_RID, RID, TWCC
from mediaserver.engine import layout as L
from mediaserver.engine.handles import Layer, Subscription
from packetio.srtp import GCM
from tests.unit.engine.peers import Rtp, build, parse
from tests.unit.engine.stage import STEP, Guest, Stage

VP8, VP8_RTX, H264, OPUS = 96, 97, 102, 111
CODECS = {VP8: codecs.VP8, H264: codecs.H264, OPUS: codecs.OPUS}
TYPES = {codecs.VP8: (120, 121), codecs.H264: (122, 123), codecs.OPUS: (124, None)}  # the viewers'
RATES = {L.VIDEO: 90_000, L.AUDIO: 48_000}
IDS = {"mid": 1, "rid": 2, "rrid": 3, "twcc": 5}
KEY = b"\x10\x10\x00\x00\x9d\x01\x2a\x40\x01\xf0\x00"  # VP8 of 320x240: the beginning of a keyframe …
DELTA = b"\x10\x11\x00\x00"  # … and of another frame


class Publisher:
    """A peer that sends what it is told to."""

    def __init__(self, stage: Stage, *, worker: int = 0, twcc: bool = False) -> None:
        self.stage = stage
        self.guest = Guest(stage, stage.engine.workers[worker], GCM)
        self.transport = self.guest.transport
        self.transport.set_receiving(
            kinds={IDS["mid"]: MID, IDS["rid"]: RID, IDS["rrid"]: REPAIRED_RID, IDS["twcc"]: TWCC},
            codecs=CODECS,
            repairs={VP8_RTX: VP8},
            twcc=twcc,
        )

    def layer(self, kind: int = L.VIDEO, mid: str = "1", rid: str | None = None, **ssrcs: int) -> Layer:
        """Expect a layer."""
        names: dict[str, Any] = {"ssrc": None, "rtx_ssrc": None} | ssrcs
        return self.transport.add_layer(kind=kind, mid=mid, rid=rid, clock_rate=RATES[kind], **names)

    def send(
        self, payload: bytes, *, pt: int, seq: int, ts: int, ssrc: int, marker: int = 0, pad: int = 0, **names: bytes
    ) -> None:
        """One packet reaches the worker. `names`: mid, rid, rrid and twcc; `pad`: bytes of padding."""
        ext = {IDS[name]: value for name, value in names.items()}
        plain = build(payload, pt=pt, seq=seq, ts=ts, ssrc=ssrc, marker=marker, ext=ext or None)
        if pad:
            plain = bytes([plain[0] | 0x20]) + plain[1:] + bytes(pad - 1) + bytes([pad])
        self.guest.deliver_rtp(self.guest.sealer.protect(plain))

    def sound(self, seq: int, *, ssrc: int = 7, **names: bytes) -> None:
        """A packet of Opus, 20 ms long, that bears its number."""
        self.send(b"\x78" + seq.to_bytes(4), pt=OPUS, seq=seq, ts=960 * seq, ssrc=ssrc, **names)

    def picture(self, seq: int, *, key: bool = False, ssrc: int = 8, **names: bytes) -> None:
        """A picture of VP8 in one packet that bears its number."""
        body = (KEY if key else DELTA) + bytes(60) + seq.to_bytes(4)
        self.send(body, pt=VP8, seq=seq, ts=3000 * seq, ssrc=ssrc, marker=1, **names)


class Viewer:
    """A peer that receives."""

    def __init__(self, stage: Stage, *, worker: int = 0, kind: int = L.AUDIO, connected: bool = True) -> None:
        self.stage = stage
        self.guest = Guest(stage, stage.engine.workers[worker], GCM)
        self.guest.transport.set_sending(ids={MID: 1}, allow_mixed=False)
        self.made: Subscription = self.guest.transport.add_subscription(
            kind=kind, mid="v", cname="c", clock_rate=RATES[kind]
        )
        self.came: list[Rtp] = []
        if connected:
            self.guest.connect()

    def watch(self, layer: Layer, **how: Any) -> None:
        """What control does when it has heard that a layer has started."""
        self.made.set_source(layer, *TYPES[layer.codec], **how)

    def packets(self) -> list[Rtp]:
        """All media that has come so far, in sequence."""
        for data in self.guest.datagrams():
            if not 192 <= data[1] <= 223:
                self.came.append(parse(self.guest.opener.unprotect(data)))
        return sorted((p for p in self.came if p.ssrc == self.made.ssrc), key=lambda p: p.sequence)

    def numbers(self) -> list[int]:
        """The numbers that the publisher's packets bear, in sequence; AssertionError when ours have gaps."""
        found = self.packets()
        assert [p.sequence for p in found] == [found[0].sequence + k for k in range(len(found))] if found else True
        return [int.from_bytes(p.payload[-4:]) for p in found]


async def leave(stage: Stage, *people: Publisher | Viewer) -> None:
    """Everybody leaves, and the stage is closed."""
    for one in people:
        await one.guest.close()
    await stage.close()


def pass_time(stage: Stage, ns: int) -> None:
    """Turns that last so long in all."""
    for _ in range(ns // STEP):
        stage.turn()
