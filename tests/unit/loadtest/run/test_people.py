"""Who takes part: names, order, whom they watch and who decodes, as the scenario says."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loadtest.run.people import Roster, Session, identities, room_name
from loadtest.transport.peer import Timings
from tests.unit.loadtest.run.scenarios import SYNTHETIC, scenario_of

URL = "http://127.0.0.1:7880"
HOSTS, GUESTS = {"name": "hosts", "media": "a", "count": 2}, {"name": "guests", "media": "a", "rooms": "first"}


def roster(**keys: Any) -> Roster:
    base: dict[str, Any] = {"media": {"a": SYNTHETIC}, "rooms": 3, "publishers": [HOSTS, GUESTS]}
    return Roster(scenario_of("party", URL, **(base | keys)))


def test_publishers_are_in_the_rooms_of_their_group() -> None:
    made = roster()
    found = [(room_name(made.scenario, person.room), person.identity) for person in made.publishers]
    assert found == [
        *((f"party-{room}", f"hosts-{k}") for room in (1, 2, 3) for k in (1, 2)),
        ("party-1", "guests-1"),
    ]


def test_nobody_has_another_s_name() -> None:
    made = roster(subscribers=[{"name": "a", "count": 7}, {"name": "b", "count": 5, "rooms": "first"}])
    assert len(made.subscribers) == 26
    names = Counter((person.room, person.identity) for person in made.everybody)
    assert max(names.values()) == 1
    late = made.subscriber(made.scenario.subscribers[0], 1)
    assert (1, late.identity) not in names and late.watches == ("hosts-1", "hosts-2") and late.state == "away"


def test_rooms_fill_in_turn() -> None:
    made = roster(subscribers=[{"name": "a", "count": 2}])
    assert [person.room for person in made.subscribers] == [0, 1, 2, 0, 1, 2]
    assert [person.publishes for person in made.everybody] == [True] * 7 + [False] * 6


def test_whom_somebody_watches_is_of_the_own_room() -> None:
    groups = [{"name": "every"}, {"name": "one", "of": "first"}, {"name": "fans", "of": "guests", "rooms": "first"}]
    made = roster(subscribers=groups)
    watched = {(person.group.name, person.room): person.watches for person in made.subscribers}
    both = ("hosts-1", "hosts-2")
    assert watched == {
        ("every", 0): (*both, "guests-1"), ("every", 1): both, ("every", 2): both,
        ("one", 0): both[:1], ("one", 1): both[:1], ("one", 2): both[:1],
        ("fans", 0): ("guests-1",),
    }  # fmt: skip
    assert sum(len(watches) for watches in watched.values()) + 7 == made.scenario.sessions()


def test_so_many_of_a_group_decode_and_later_ones_do_not() -> None:
    made = roster(subscribers=[{"name": "a", "count": 2, "decode": 4}, {"name": "b"}])
    assert [person.decodes for person in made.by_group("a")] == [True] * 4 + [False] * 2
    assert not any(person.decodes for person in made.by_group("b"))
    assert not made.subscriber(made.scenario.subscribers[0], 0).decodes


def test_who_comes_after_a_decoder_has_left_decodes_in_its_place() -> None:
    made = roster(subscribers=[{"name": "a", "count": 2, "decode": 1}])
    (decoder,) = [person for person in made.subscribers if person.decodes]
    other = made.subscribers[-1]
    made.gone(other)
    assert not made.subscriber(made.scenario.subscribers[0], 0).decodes
    made.gone(decoder)
    assert decoder not in made.subscribers and other not in made.everybody
    assert [made.subscriber(made.scenario.subscribers[0], 0).decodes for _ in range(2)] == [True, False]


def test_a_group_that_is_not_in_a_room_has_nobody_there() -> None:
    made = roster()
    hosts, guests = made.scenario.publishers
    assert identities(guests, 1) == [] and identities(guests, 0) == ["guests-1"]
    assert identities(hosts, 2) == ["hosts-1", "hosts-2"]


def test_a_session_that_never_began_has_no_times() -> None:
    assert Session(None).timings == Timings()
