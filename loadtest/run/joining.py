"""Lets people join at the scenario's pace, each group not before its time, and gives up where nobody gets in.

Publishers and subscribers are given up apart: a server without room for more publishers may still have room for those
who watch the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loadtest.run.ending import Ending
from loadtest.run.people import Person
from loadtest.scenario.schema import Scenario

LOST_JOINS = 20  # joins that fail one after another before the rest is given up, at least
BEHIND = 1.0  # seconds that a late join may catch up


class Door(Protocol):
    """What people come in through: `done` is how many joins there have been."""

    done: int

    async def join(self, person: Person) -> bool:
        """Whether somebody has got in."""
        ...


@dataclass
class Tries:
    """Joins of publishers or of subscribers: `failed` is how many failed one after another, until now.

    `given_up` is how many had failed when the rest was given up, at `limit` or beyond; 0: it was not.
    """

    kind: str
    limit: int
    failed: int = 0
    given_up: int = 0

    def tried(self, joined: bool) -> None:
        """One more."""
        self.failed = 0 if joined else self.failed + 1

    def hopeless(self) -> bool:
        """Whether the rest need not try; where that is so, it stays so."""
        if not self.given_up and self.failed >= self.limit:
            self.given_up = self.failed
        return self.given_up > 0


class Joining:
    """The joins of one run. `seconds` is how long they took in all.

    Where people are given up the run goes on, but it has failed: `broken_off` of its ending says why.
    """

    def __init__(self, scenario: Scenario, crowd: Door, ending: Ending) -> None:
        self.scenario, self.crowd, self.ending = scenario, crowd, ending
        self.seconds = 0.0
        self.notes: list[str] = []

    async def first(self, people: Sequence[Person]) -> None:
        """Everybody in, each group not before its `start`."""
        await self._all(people, at_start=True)

    async def again(self, people: Sequence[Person]) -> None:
        """Those who have been here before come back, at once as far as the pace allows."""
        await self._all(people, at_start=False)

    async def _all(self, people: Sequence[Person], at_start: bool) -> None:
        """Nobody begins to watch while somebody is about to publish: a server may know only who is there."""
        begun = time.monotonic()
        limit = max(LOST_JOINS, 2 * self.scenario.joins.parallel)
        publishers, subscribers = Tries("publishers", limit), Tries("subscribers", limit)
        tasks = set[asyncio.Task[None]]()
        try:
            await self._begin(people, tasks, publishers, subscribers, at_start)
            if tasks:
                await self.ending.unless(_all_of(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.seconds += time.monotonic() - begun
            self._tell(publishers)
            self._tell(subscribers)

    async def _begin(
        self,
        people: Sequence[Person],
        tasks: set[asyncio.Task[None]],
        publishers: Tries,
        subscribers: Tries,
        at_start: bool,
    ) -> None:
        """Begin the joins one after another; those under way are in `tasks`."""
        joins, loop = self.scenario.joins, asyncio.get_running_loop()
        gate, publishing = asyncio.Semaphore(joins.parallel), set[asyncio.Task[None]]()
        due = begun = loop.time()
        for person in sorted(people, key=lambda person: person.group.start) if at_start else people:
            tries = publishers if person.publishes else subscribers
            if tries.given_up:
                continue
            if not person.publishes and publishing:
                await self.ending.unless(_all_of(publishing))
            if publishers.given_up and not _somebody_publishes(people):
                break
            due = max(due, loop.time() - BEHIND, begun + person.group.start if at_start else begun)
            await self.ending.pause(due - loop.time())
            due += max(len(person.watches), 1) / joins.rate
            if not await self.ending.unless(gate.acquire()):
                break
            if tries.hopeless():
                gate.release()
                continue
            task = asyncio.create_task(self._one(person, gate, tries))
            for those in (tasks, publishing) if person.publishes else (tasks,):
                those.add(task)
                task.add_done_callback(those.discard)

    def _tell(self, tries: Tries) -> None:
        """A run in which not everybody was tried can't pass; who is there is measured all the same."""
        if not tries.given_up:
            return
        why = f"{tries.given_up} joins of {tries.kind} failed one after another; the others were not tried"
        if self.crowd.done and not self.ending.broken_off:
            self.ending.broken_off = why
        else:  # nobody could join, which the run says itself, or there is a reason already
            self.notes.append(why)

    async def _one(self, person: Person, gate: asyncio.Semaphore, tries: Tries) -> None:
        try:
            tries.tried(await self.crowd.join(person))
        finally:
            gate.release()


def _somebody_publishes(people: Sequence[Person]) -> bool:
    return any(person.publishes and person.state == "here" for person in people)


async def _all_of(tasks: set[asyncio.Task[None]]) -> None:
    """Until all are done; when this is cancelled, they go on."""
    if tasks:
        await asyncio.wait(tasks)
