"""Joins: who is tried when a server has no room, and what is said of those who were not."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.run.ending import Ending
from loadtest.run.joining import LOST_JOINS, Joining
from loadtest.run.people import Person, Roster
from tests.unit.loadtest.run.scenarios import scenario_of


class Rooms:
    """Lets so many publishers and subscribers in; all others are refused."""

    def __init__(self, publishers: int, subscribers: int) -> None:
        self.room = {True: publishers, False: subscribers}
        self.tried = {True: 0, False: 0}
        self.done = 0

    async def join(self, person: Person) -> bool:
        self.tried[person.publishes] += 1
        await asyncio.sleep(0)
        joined = self.room[person.publishes] > 0
        self.room[person.publishes] -= joined
        self.done += joined
        person.state = "here" if joined else "failed"
        return joined


async def joined(rooms: Rooms, publishers: int, subscribers: int) -> tuple[Joining, Ending]:
    hosts = [{"name": "hosts", "media": "synthetic", "count": publishers}] if publishers else []
    audience = [{"name": "audience", "count": subscribers, "of": "first"}]
    joins = {"rate": 100_000.0, "parallel": 4}
    scenario = scenario_of("joins", "http://127.0.0.1:1", joins=joins, publishers=hosts, subscribers=audience)
    ending = Ending()
    joining = Joining(scenario, rooms, ending)
    await joining.first(Roster(scenario).everybody)
    return joining, ending


async def test_where_there_is_no_room_for_more_publishers_subscribers_are_tried_and_the_run_has_failed() -> None:
    rooms = Rooms(publishers=30, subscribers=50)
    joining, ending = await joined(rooms, publishers=100, subscribers=50)
    assert 50 <= rooms.tried[True] < 60 and rooms.tried[False] == 50 and rooms.done == 80
    assert " joins of publishers failed one after another; the others were not tried" in ending.broken_off
    assert not joining.notes
    assert not ending.due  # what is there is measured


async def test_where_no_publisher_gets_in_no_subscriber_is_tried() -> None:
    rooms = Rooms(publishers=0, subscribers=50)
    joining, ending = await joined(rooms, publishers=100, subscribers=50)
    assert rooms.tried[True] < LOST_JOINS + 5 and rooms.tried[False] == 0
    assert len(joining.notes) == 1 and "publishers failed one after another" in joining.notes[0]
    assert not ending.broken_off  # the run says that nobody could join


async def test_subscribers_are_given_up_apart() -> None:
    rooms = Rooms(publishers=1, subscribers=3)
    _, ending = await joined(rooms, publishers=1, subscribers=100)
    assert LOST_JOINS + 3 <= rooms.tried[False] < LOST_JOINS + 8 and rooms.done == 4
    assert "joins of subscribers failed one after another" in ending.broken_off


async def test_where_both_are_given_up_both_are_told() -> None:
    joining, ending = await joined(Rooms(publishers=1, subscribers=1), publishers=60, subscribers=60)
    assert "publishers" in ending.broken_off and len(joining.notes) == 1 and "subscribers" in joining.notes[0]


@pytest.mark.parametrize(("publishers", "failing"), [(19, 19), (40, 0)])
async def test_a_few_failures_give_nobody_up(publishers: int, failing: int) -> None:
    rooms = Rooms(publishers=publishers - failing, subscribers=9)
    joining, ending = await joined(rooms, publishers=publishers, subscribers=9)
    assert rooms.tried == {True: publishers, False: 9} and not ending.broken_off and not joining.notes


async def test_failures_of_the_last_who_were_to_come_leave_nobody_untried() -> None:
    rooms = Rooms(publishers=5, subscribers=0)
    _, ending = await joined(rooms, publishers=5, subscribers=LOST_JOINS)
    assert rooms.tried[False] == LOST_JOINS and not ending.broken_off


async def test_an_interrupted_run_tries_nobody() -> None:
    scenario = scenario_of("joins", "http://127.0.0.1:1")
    rooms, ending = Rooms(9, 9), Ending()
    ending.interrupt()
    await Joining(scenario, rooms, ending).first(Roster(scenario).everybody)
    assert rooms.tried == {True: 0, False: 0}
