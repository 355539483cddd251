"""Lets people join at the scenario's pace, each group not before its time, and gives up where nobody gets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from loadtest.run.crowd import Crowd
from loadtest.run.ending import Ending
from loadtest.run.people import Person
from loadtest.scenario.schema import Scenario

LOST_JOINS = 20  # joins that fail one after another before the rest is given up, at least
BEHIND = 1.0  # seconds that a late join may catch up


class Joining:
    """The joins of one run. `seconds` is how long they took in all."""

    def __init__(self, scenario: Scenario, crowd: Crowd, ending: Ending) -> None:
        self.scenario, self.crowd, self.ending = scenario, crowd, ending
        self.seconds = 0.0
        self.notes: list[str] = []
        self._failed_in_a_row = 0

    async def first(self, people: Sequence[Person]) -> None:
        """Everybody in, each group not before its `start`."""
        await self._all(people, at_start=True)

    async def again(self, people: Sequence[Person]) -> None:
        """Those who have been here before come back, at once as far as the pace allows."""
        await self._all(people, at_start=False)

    async def _all(self, people: Sequence[Person], at_start: bool) -> None:
        """Nobody begins to watch while somebody is about to publish: a server may know only who is there."""
        begun = time.monotonic()
        tasks = set[asyncio.Task[None]]()
        try:
            await self._begin(people, tasks, at_start)
            if tasks:
                await self.ending.unless(_all_of(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.seconds += time.monotonic() - begun

    async def _begin(self, people: Sequence[Person], tasks: set[asyncio.Task[None]], at_start: bool) -> None:
        """Begin the joins one after another; those under way are in `tasks`."""
        joins, loop = self.scenario.joins, asyncio.get_running_loop()
        gate, publishing = asyncio.Semaphore(joins.parallel), set[asyncio.Task[None]]()
        self._failed_in_a_row = 0
        due = begun = loop.time()
        for person in sorted(people, key=lambda person: person.group.start) if at_start else people:
            due = max(due, loop.time() - BEHIND, begun + person.group.start if at_start else begun)
            await self.ending.pause(due - loop.time())
            if not person.publishes and publishing:
                await self.ending.unless(_all_of(publishing))
            due += max(len(person.watches), 1) / joins.rate
            if not await self.ending.unless(gate.acquire()) or self._hopeless():
                break
            task = asyncio.create_task(self._one(person, gate))
            for those in (tasks, publishing) if person.publishes else (tasks,):
                those.add(task)
                task.add_done_callback(those.discard)

    def _hopeless(self) -> bool:
        if self._failed_in_a_row < max(LOST_JOINS, 2 * self.scenario.joins.parallel):
            return False
        self.notes.append(f"{self._failed_in_a_row} joins failed one after another; the others were not tried")
        return True

    async def _one(self, person: Person, gate: asyncio.Semaphore) -> None:
        try:
            self._failed_in_a_row = 0 if await self.crowd.join(person) else self._failed_in_a_row + 1
        finally:
            gate.release()


async def _all_of(tasks: set[asyncio.Task[None]]) -> None:
    """Until all are done; when this is cancelled, they go on."""
    if tasks:
        await asyncio.wait(tasks)
