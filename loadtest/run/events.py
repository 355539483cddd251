"""What happens while a run lasts: churn, and the scenario's actions at their times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from loadtest.drivers.base import DriverError
from loadtest.engine.layout import AUDIO, VIDEO
from loadtest.run.crowd import Crowd
from loadtest.run.ending import Ending
from loadtest.run.people import Person, Roster
from loadtest.run.target import Target, TargetError
from loadtest.scenario.schema import Action, ChangeLayer, Kill, Mute, RestartTarget, Scenario

LEAVERS_END = 2.0  # seconds that who is leaving has when the run is to end at once

Again = Callable[[list[Person]], Coroutine[Any, Any, None]]


class Events:
    """Churn and actions of one run, chosen by the scenario's seed. What can't be done breaks the run off."""

    def __init__(
        self, scenario: Scenario, roster: Roster, crowd: Crowd, target: Target, again: Again, ending: Ending
    ) -> None:
        self.scenario, self.roster, self.crowd, self.target, self.ending = scenario, roster, crowd, target, ending
        self._again = again  # joins people at the scenario's rate
        self.restarting = False  # the target is away, or its clients have not come back
        self._random = random.Random(scenario.seed)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._leaving: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """From now on."""
        for action in self.scenario.actions:
            self._spawn(self._at(action))
        churn = self.scenario.churn
        if churn.leaves:
            self._spawn(self._every(1 / churn.leaves, self._one_leaves))
        if churn.joins:
            self._spawn(self._every(1 / churn.joins, self._one_joins))

    async def stop(self) -> None:
        """No more; what is under way is given up, but who is leaving leaves, if there is time."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        leaving = set(self._leaving)
        if leaving:
            await asyncio.wait(leaving, timeout=LEAVERS_END if self.ending.due else None)
        for task in leaving:
            task.cancel()  # the others leave with everybody
        await asyncio.gather(*leaving, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ending.break_off(f"an event failed: {type(error).__name__}: {error}")

    async def _every(self, pause: float, what: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._random.expovariate(1 / pause)
            await asyncio.sleep(max(due - loop.time(), 0))
            what()

    def _one_leaves(self) -> None:
        here = [person for person in self.roster.subscribers if person.state == "here"]
        if here:
            person = self._random.choice(here)
            person.state = "leaving"
            task = asyncio.get_running_loop().create_task(self._leave(person))
            self._leaving.add(task)
            task.add_done_callback(self._done)

    async def _leave(self, person: Person) -> None:
        await self.crowd.leave(person)
        self.roster.gone(person)

    def _one_joins(self) -> None:
        group = self._random.choice(self.scenario.subscribers)
        person = self.roster.subscriber(group, self._random.randrange(self.scenario.rooms_of(group)))
        self.roster.subscribers.append(person)
        self._spawn(self.crowd.join(person))

    async def _at(self, action: Action) -> None:
        await asyncio.sleep(action.at)
        if isinstance(action, RestartTarget):
            await self._restart()
        elif isinstance(action, Kill):
            for person in self._some(action.group, action.count):
                self.crowd.kill(person)
        elif isinstance(action, Mute):
            await self._mute(action)
        elif isinstance(action, ChangeLayer):
            await asyncio.gather(*(self._change(p, action.layer) for p in self._some(action.group, action.count)))

    def _some(self, group: str, count: int) -> list[Person]:
        here = [person for person in self.roster.by_group(group) if person.state == "here"]
        return self._random.sample(here, min(count, len(here)))

    async def _mute(self, action: Mute) -> None:
        kind = AUDIO if action.kind == "audio" else VIDEO
        sessions = [session for p in self._some(action.group, action.count) for session in p.sessions]
        for muted in (True, False):
            for session in sessions:
                if session.index:  # it may have left meanwhile
                    self.crowd.engine.mute(session.index, kind, muted)
            if action.lasting is None:
                return
            if muted:
                await asyncio.sleep(action.lasting)

    async def _change(self, person: Person, layer: str) -> None:
        for session in person.sessions:
            try:
                await self.crowd.driver.set_layer(session.handle, layer)
            except DriverError as error:
                self.crowd.note(person, f"layer change failed: {error}")

    async def _restart(self) -> None:
        """The server dies and comes back; everybody joins again, as people do."""
        people = [person for person in self.roster.everybody if person.state in ("here", "failed")]
        self.restarting = True
        for person in people:
            self.crowd.kill(person)
        try:
            await self.target.restart()
        except TargetError as error:
            self.ending.break_off(f"the target did not come back: {error}")
            return
        await asyncio.gather(*(self.crowd.bury(person) for person in people))
        await self._again(people)
        self.restarting = False
