"""Who takes part: the people of a scenario's groups, in the order in which they come, and their sessions."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from loadtest.scenario.schema import FIRST, Group, Publishers, Scenario, Subscribers
from loadtest.transport.peer import Peer, Timings

State = Literal["away", "joining", "here", "failed", "leaving", "dead"]  # dead: killed


@dataclass(eq=False)
class Session:
    """One WHIP or WHEP session: of a publisher itself (`publisher` is None), or of somebody who watches one."""

    publisher: str | None
    peer: Peer | None = None
    handle: str = ""  # what the driver calls it
    asking: asyncio.Task[str] | None = None  # the server, for its answer
    index: int = 0  # the engine's client; 0: not handed over
    ended: str = ""  # why it ended: what the server did, or that it left or was killed
    noted: bool = False  # what its join took was written down

    @property
    def timings(self) -> Timings:
        """When the steps of its join were done."""
        return self.peer.timings if self.peer else Timings()


@dataclass(eq=False)
class Person:
    """One participant: a publisher with one session, or a subscriber with one for each publisher that it watches."""

    group: Group
    room: int
    identity: str
    watches: tuple[str, ...] = ()  # identities of publishers; none: it publishes
    layer: str | None = None
    decodes: bool = False
    sessions: list[Session] = field(default_factory=list)
    state: State = "away"

    @property
    def publishes(self) -> bool:
        """Whether it sends media."""
        return isinstance(self.group, Publishers)


def room_name(scenario: Scenario, room: int) -> str:
    """What a room is called on the server."""
    return f"{scenario.name}-{room + 1}"


def identities(group: Group, room: int) -> list[str]:
    """The identities of a group in one room; none where the group is not."""
    if group.rooms == "first" and room:
        return []
    return [f"{group.name}-{k + 1}" for k in range(group.count)]


class Roster:
    """All people of a scenario: publishers first, then subscribers, both room by room in turn."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._numbers = itertools.count(1)
        self._decoders = {group.name: group.decode for group in scenario.subscribers}
        self.publishers = list(self._publishers())
        self.subscribers = list(self._subscribers())

    @property
    def everybody(self) -> list[Person]:
        """Publishers, then subscribers, those included who came later."""
        return self.publishers + self.subscribers

    def _publishers(self) -> Iterator[Person]:
        for group in self.scenario.publishers:
            for room in range(self.scenario.rooms_of(group)):
                for identity in identities(group, room):
                    yield Person(group, room, identity)

    def _subscribers(self) -> Iterator[Person]:
        for group in self.scenario.subscribers:
            for _ in range(group.count):
                for room in range(self.scenario.rooms_of(group)):
                    yield self.subscriber(group, room)

    def subscriber(self, group: Subscribers, room: int) -> Person:
        """One more person of a group."""
        decodes = self._decoders[group.name] > 0
        self._decoders[group.name] -= decodes
        identity = f"{group.name}-{next(self._numbers)}"
        return Person(group, room, identity, self.watched(group, room), group.layer, decodes)

    def gone(self, person: Person) -> None:
        """A subscriber does not come back: somebody who comes later decodes in its place."""
        self.subscribers.remove(person)
        self._decoders[person.group.name] += person.decodes

    def watched(self, group: Subscribers, room: int) -> tuple[str, ...]:
        """The identities that somebody of the group watches in a room."""
        found = [one for publishers in self.scenario.watched_by(group, room) for one in identities(publishers, room)]
        return tuple(found[:1] if group.of == FIRST else found)

    def by_group(self, name: str) -> list[Person]:
        """The people of a group."""
        return [person for person in self.everybody if person.group.name == name]
