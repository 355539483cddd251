"""The shape of a load-test scenario: every key, its type, its bounds, its default and its meaning.

Strict and closed like a node's configuration: an unknown key or a wrong type is an error. What a single value must be
is said here; what several values must be together (names that exist, counts that fit) is in checks.py. Descriptions go
into the JSON Schema that editors read, and the expected half of an error message is made from the same bounds.

Times are in seconds (s) for what people do and in milliseconds (ms) for what networks do, rates in kbit/s.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ALL, FIRST = "all", "first"
"""Not names of groups: what `of` says of every publisher of a room and of the first one."""
DEFAULT_URL = "http://127.0.0.1:7880"

Kind = Literal["audio", "video"]
Layer = Literal["l", "m", "h"]
"""RIDs of the three simulcast layers: a quarter, a half and the whole of width and height."""
VideoCodec = Literal["vp8", "vp9", "h264", "av1", "synthetic"]


def _expect(text: str) -> dict[str, Any]:
    return {"x-expected": text}


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in value:
        raise ValueError("not the address of a server")
    if parts.port == 0 or re.search(r"\s", value):  # reading the port raises ValueError where it is none
        raise ValueError("not the address of a server")
    return value


def _path_with(*needed: str) -> AfterValidator:
    def check(value: str) -> str:
        left = re.sub(r"\{(room|identity|publisher|layer)\}", "", value)
        wrong = not value.startswith("/") or value.startswith("//") or re.search(r"[{}\s#]", left)
        if wrong or any(f"{{{name}}}" not in value for name in needed):
            raise ValueError("not a path with the names that are needed")
        return value

    return AfterValidator(check)


Url = Annotated[
    str,
    AfterValidator(_url),
    Field(json_schema_extra=_expect(f"an http:// or https:// URL with a host, such as {DEFAULT_URL}")),
]
PublishPath = Annotated[
    str,
    _path_with("room", "identity"),
    Field(json_schema_extra=_expect("a path with {room} and {identity}, such as /whip/{room}/{identity}")),
]
SubscribePath = Annotated[
    str,
    _path_with("room", "publisher"),
    Field(json_schema_extra=_expect("a path with {room} and {publisher}, such as /whep/{room}/{publisher}")),
]
NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,39}$"
Name = Annotated[
    str,
    Field(
        pattern=NAME_PATTERN,
        json_schema_extra=_expect("a name: a letter, then up to 39 letters, digits, dashes or underscores"),
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Kilobits = Annotated[int, Field(ge=1, le=10_000_000)]
Pixels = Annotated[int, Field(ge=16, le=7680, multiple_of=2)]
Clients = Annotated[int, Field(ge=1, le=100_000)]


class Section(BaseModel):
    """What all parts of a scenario share: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Target(Section):
    """The server under test."""

    driver: Literal["whip-whep"] = Field(default="whip-whep", description="How to speak to the server.")
    url: Url = Field(default=DEFAULT_URL, description="Address of the server; nothing but this host is ever asked.")
    publish_path: PublishPath = Field(
        default="/whip/{room}/{identity}", description="Where a publisher posts its offer (WHIP), below the URL."
    )
    subscribe_path: SubscribePath = Field(
        default="/whep/{room}/{publisher}",
        description="Where a subscriber posts its offer (WHEP); {identity}, its own name, and {layer} may be in it.",
    )
    verify: bool = Field(default=True, description="Whether an https server's certificate must be one that is trusted.")
    token: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, repr=False, description="Bearer token that every client shows; null: none."
    )
    token_key: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Name of an API key: each client gets a token of its own, in LiveKit's form."
    )
    token_secret: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, repr=False, description="The secret of that key, which signs the tokens."
    )
    pid: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Process id of a server on this machine, whose CPU and memory are measured."
    )
    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = Field(
        default=None, description="Program and arguments that start the server: it is measured, and stopped at the end."
    )
    start_timeout: Annotated[float, Field(gt=0, le=600)] = Field(
        default=120.0, description="Seconds that a started server may take until it answers."
    )


class Joins(Section):
    """How fast clients come."""

    rate: Annotated[float, Field(gt=0, le=100_000)] = Field(
        default=50.0, description="Sessions begun a second, at most."
    )
    parallel: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=16, description="Sessions begun and not finished at once, at most."
    )
    timeout: Annotated[float, Field(gt=0, le=600)] = Field(
        default=20.0, description="Seconds that the HTTP answer of a join may take, and as many ICE and DTLS together."
    )


class Churn(Section):
    """Subscribers that leave and come while the run lasts, chosen at random by the seed."""

    leaves: Annotated[float, Field(ge=0, le=10_000)] = Field(default=0.0, description="Leaves a second, all rooms.")
    joins: Annotated[float, Field(ge=0, le=10_000)] = Field(default=0.0, description="Joins a second, all rooms.")


class Video(Section):
    """A video track: a moving test picture that carries its frame number and time code, encoded ahead of the run."""

    codec: VideoCodec = Field(
        default="vp8",
        description="synthetic: no picture but packets that carry their number and time and are checked byte by byte.",
    )
    width: Pixels = Field(default=640, description="Pixels, of the largest layer.")
    height: Pixels = Field(default=360, description="Pixels, of the largest layer.")
    framerate: Annotated[float, Field(gt=0, le=240)] = Field(default=25.0, description="Frames a second.")
    bitrate: Kilobits = Field(default=800, description="kbit/s of the largest layer.")
    layers: Literal[1, 3] = Field(default=1, description="3: simulcast of three layers, RIDs l, m and h.")
    keyframe_interval: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        default=None, description="Seconds between keyframes; null: at the start and when the server asks for one."
    )
    content: Literal["camera", "screen"] = Field(
        default="camera", description="camera: motion everywhere; screen: text, still between jumps, large keyframes."
    )
    pacing: Literal["burst", "even"] = Field(
        default="burst", description="burst: a frame's packets leave at once; even: spread over the frame's time."
    )
    packet_size: Annotated[int, Field(ge=64, le=1400)] = Field(
        default=1100, description="Bytes of media in a packet, at most; of a synthetic one, exactly."
    )
    packets_per_frame: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10, description="Packets of each frame of a synthetic track."
    )
    pcap: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Capture file with RTP of this codec to send instead of the test picture, with its own timing.",
    )


class Audio(Section):
    """An audio track: a tone."""

    codec: Literal["opus"] = Field(default="opus", description="Codec.")
    bitrate: Annotated[int, Field(ge=6, le=510)] = Field(default=32, description="kbit/s.")


class Media(Section):
    """What a publisher sends: video, audio or both."""

    video: Video | None = Field(default=None, description="Video track; null: none.")
    audio: Audio | None = Field(default=None, description="Audio track; null: none.")


class GilbertElliott(NamedTuple):
    """A loss model of two states; all four are chances for each packet (Gilbert 1960, Elliott 1963)."""

    p: float  # to change from the good state to the bad one
    r: float  # to change back
    good: float  # to be lost in the good state
    bad: float  # to be lost in the bad state

    @property
    def share(self) -> float:
        """The share of packets lost in the long run."""
        if self.p + self.r == 0:
            return self.good
        return (self.r * self.good + self.p * self.bad) / (self.p + self.r)


class Loss(Section):
    """Packet loss after Gilbert and Elliott: either share and burst, or the model's own p, r, good and bad."""

    share: Annotated[float, Field(ge=0, le=0.95)] | None = Field(
        default=None, description="Share of the packets that are lost on average, 0 to 0.95."
    )
    burst: Annotated[float, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Packets lost in a row, on average; null: each packet is lost or not by itself."
    )
    p: Share | None = Field(default=None, description="Chance, for each packet, to change to the bad state.")
    r: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Chance, for each packet, to change back to the good state."
    )
    good: Share | None = Field(default=None, description="Chance to be lost in the good state; null: 0.")
    bad: Share | None = Field(default=None, description="Chance to be lost in the bad state; null: 1.")

    def model(self) -> GilbertElliott:
        """p, r, good and bad, whichever way the loss was written."""
        if self.p is not None and self.r is not None:
            return GilbertElliott(self.p, self.r, self.good or 0.0, 1.0 if self.bad is None else self.bad)
        share = self.share or 0.0
        if self.burst is None:
            return GilbertElliott(share, 1.0 - share, 0.0, 1.0)
        return GilbertElliott(share / (1.0 - share) / self.burst, 1.0 / self.burst, 0.0, 1.0)


class Link(Section):
    """One direction of a client's network. Packets meet loss, then a bottleneck, then delay."""

    loss: Loss | None = Field(default=None, description="Loss; null: none.")
    delay: Milliseconds = Field(default=0.0, description="Milliseconds that each packet takes.")
    jitter: Milliseconds = Field(
        default=0.0, description="Milliseconds, standard deviation of the delay; packets keep their order."
    )
    reorder: Share = Field(default=0.0, description="Share of packets held back so that later ones overtake, 0 to 1.")
    reorder_delay: Milliseconds = Field(default=10.0, description="Milliseconds that those are held back.")
    rate: Kilobits | None = Field(default=None, description="kbit/s of the bottleneck; null: no bottleneck.")
    queue: Milliseconds = Field(
        default=200.0, description="Milliseconds that a packet may wait at the bottleneck before it is dropped."
    )


class Network(Section):
    """A bad network, seen from the client. It is in the client's own packet path and needs no privileges."""

    down: Link | None = Field(default=None, description="From the server to the client; null: as it is.")
    up: Link | None = Field(default=None, description="From the client to the server; null: as it is.")


class Group(Section):
    """Clients that are alike."""

    name: Name = Field(description="Name of the group, in reports and for actions.")
    count: Clients = Field(default=1, description="Clients in each room that the group is in.")
    rooms: Literal["every", "first"] = Field(default="every", description="Whether it is in every room or the first.")
    network: str | None = Field(default=None, description="Name of an entry of networks; null: none, the real one.")
    start: Seconds = Field(default=0.0, description="Seconds after the run's begin before which none of it joins.")


class Publishers(Group):
    """Clients that send."""

    media: str = Field(description="Name of an entry of media.")


class Subscribers(Group):
    """Clients that watch. Each has one WHEP session for each publisher that it watches."""

    of: str = Field(
        default=ALL, description="Whom of its room it watches: all, first, or the name of a publishers group."
    )
    layer: Layer | None = Field(default=None, description="Simulcast layer asked for: l, m or h; null: none.")
    decode: Annotated[int, Field(ge=0, le=64)] = Field(
        default=0, description="How many of the group, over all rooms, decode what they receive and read it back."
    )


class Timed(Section):
    """Something done while the run lasts."""

    at: Seconds = Field(description="When: seconds after the joins.")


class OnGroup(Timed):
    """Something done to clients of a group, chosen at random by the seed."""

    group: str = Field(description="Name of a group.")
    count: Clients = Field(default=1, description="To how many of its clients, over all rooms.")


class Kill(OnGroup):
    """Clients vanish without a word: no DTLS alert, no DELETE."""

    do: Literal["kill"]


class Mute(OnGroup):
    """Publishers stop sending a track."""

    do: Literal["mute"]
    kind: Kind = Field(description="The track: audio or video.")
    lasting: Annotated[float, Field(gt=0, le=86_400)] | None = Field(
        default=None, alias="for", description="For how many seconds; null: to the end."
    )


class ChangeLayer(OnGroup):
    """Subscribers ask for another simulcast layer."""

    do: Literal["layer"]
    layer: Layer = Field(description="The layer: l, m or h.")


class RestartTarget(Timed):
    """The server is killed and started again; only for one that target.command starts."""

    do: Literal["restart-target"]


Action = Annotated[Kill | Mute | ChangeLayer | RestartTarget, Field(discriminator="do")]


class Scenario(Section):
    """One load test: who joins where, what they send, what happens, and what must hold at the end."""

    name: Name = Field(default="unnamed", description="Name in reports; the file's name when it is left out.")
    seed: Annotated[int, Field(ge=0, le=(1 << 63) - 1)] = Field(
        default=1, description="Seed of all chance: who leaves, what networks lose. The same seed, the same run."
    )
    target: Target = Field(default=Target(), description="The server under test.")
    rooms: Annotated[int, Field(ge=1, le=100_000)] = Field(default=1, description="Rooms; groups are in each of them.")
    duration: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=30.0, description="Seconds that are measured, after the joins."
    )
    joins: Joins = Field(default=Joins(), description="How fast clients come.")
    churn: Churn = Field(default=Churn(), description="Subscribers that leave and come.")
    media: dict[Name, Media] = Field(default={}, description="What publishers send, by name.")
    networks: dict[Name, Network] = Field(default={}, description="Bad networks, by name.")
    publishers: list[Publishers] = Field(default=[], max_length=100, description="Groups of clients that send.")
    subscribers: list[Subscribers] = Field(default=[], max_length=100, description="Groups of clients that watch.")
    actions: list[Action] = Field(default=[], max_length=1000, description="What happens at which time.")
    expect: dict[str, str] = Field(
        default={},
        description='Limits that decide the exit status: a figure, or group/figure, and text such as "<= 50 ms".',
    )

    def rooms_of(self, group: Group) -> int:
        """How many rooms a group is in."""
        return self.rooms if group.rooms == "every" else 1

    def size_of(self, group: Group) -> int:
        """How many clients a group has, over all rooms."""
        return group.count * self.rooms_of(group)

    def groups(self) -> dict[str, Publishers | Subscribers]:
        """All groups by name."""
        groups: list[Publishers | Subscribers] = [*self.publishers, *self.subscribers]
        return {group.name: group for group in groups}

    def watched_by(self, group: Subscribers, room: int = 0) -> list[Publishers]:
        """The publishers' groups that a subscriber of a room watches, in order; of `first`, the first client only."""
        here = [one for one in self.publishers if one.rooms == "every" or room == 0]
        if group.of == FIRST:
            return here[:1]
        return here if group.of == ALL else [one for one in here if one.name == group.of]

    def sessions(self) -> int:
        """Sessions that the server has to hold once all have joined."""
        total = sum(self.size_of(group) for group in self.publishers)
        for group in self.subscribers:
            for room, times in ((0, 1), (1, self.rooms_of(group) - 1)):
                watched = self.watched_by(group, room)
                each = len(watched) if group.of == FIRST else sum(one.count for one in watched)
                total += group.count * times * each
        return total


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file, for editors."""
    schema = Scenario.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
