"""The scenarios that come with the package are right, in full and in their short form."""

from __future__ import annotations

import jsonschema
import pytest
import yaml

from loadtest.scenario import load_scenario, scenario_schema, shipped, shorten
from loadtest.scenario.checks import all_faults
from loadtest.scenario.load import find
from loadtest.scenario.schema import DEFAULT_URL, Kill, Mute, Scenario
from loadtest.scenario.short import fewer

NAMES = ("audio-room", "churn", "lossy", "many-rooms", "meeting", "screen-share", "webinar")


def test_all_are_there() -> None:
    assert shipped() == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_and_aims_at_this_machine(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name and scenario.target.url == DEFAULT_URL and scenario.expect
    jsonschema.Draft202012Validator(scenario_schema()).validate(yaml.safe_load(find(name).read_text()))


@pytest.mark.parametrize("name", NAMES)
def test_its_comment_says_how_to_run_it(name: str) -> None:
    text = find(name).read_text()
    assert text.startswith(f"# {name}: ") and f"weir loadtest {name}" in text


@pytest.mark.parametrize("name", NAMES)
def test_its_short_form_is_small_and_sound(name: str) -> None:
    long = load_scenario(name)
    short = shorten(long)
    assert short.duration == 5 and short.sessions() <= 40 < long.sessions()
    assert Scenario.model_validate(short.model_dump(by_alias=True)) == short
    assert list(all_faults(short)) == []
    assert [group for group in short.groups()] == [group for group in long.groups()]
    assert set(short.expect) < set(long.expect) and "joins.failed" in short.expect


def test_sizes_are_those_of_their_names() -> None:
    meeting, webinar, audio = (load_scenario(name) for name in ("meeting", "webinar", "audio-room"))
    assert meeting.rooms == 10 and meeting.publishers[0].count == 10 and meeting.sessions() == 10 * (10 + 10 * 9)
    assert webinar.sessions() == 1 + 500
    assert audio.sessions() == 10 + 10 * 300


def test_short_forms_keep_what_makes_a_crowd() -> None:
    assert [fewer(count, 0.05) for count in (1, 2, 3, 10, 500)] == [1, 2, 2, 2, 25]


def test_times_of_actions_shrink_with_the_duration() -> None:
    mute = shorten(load_scenario("audio-room"), duration=6).actions[0]
    assert isinstance(mute, Mute) and mute.at == pytest.approx(2) and mute.lasting == pytest.approx(1)
    assert mute.count == 1
    kill = shorten(load_scenario("churn"), duration=6, scale=1).actions[1]
    assert isinstance(kill, Kill) and kill.at == pytest.approx(4) and kill.count == 20


def test_a_short_churn_still_has_somebody_leave() -> None:
    churn = shorten(load_scenario("churn")).churn
    assert churn.leaves == churn.joins == 1


def test_a_short_form_does_not_run_out_of_viewers() -> None:
    short = shorten(load_scenario("churn", ["churn.joins=0", "churn.leaves=1.5"]))
    assert short.churn.leaves * short.duration <= short.size_of(short.subscribers[0])


def test_a_short_form_is_never_longer() -> None:
    assert shorten(load_scenario("meeting", ["duration=2"]), duration=5).duration == 2
