"""A short form of a scenario: the same kinds of clients, media and events, with few clients and in few seconds.

It shows that a scenario works, not how fast anything is: limits on times, rates and CPU are left out, those on counts
and shares stay.
"""

from __future__ import annotations

import math
from typing import TypeVar

from loadtest.results.figures import COUNT, FIGURES, SHARE
from loadtest.scenario.expect import figure_of
from loadtest.scenario.schema import Action, Churn, Group, Mute, OnGroup, Scenario

G = TypeVar("G", bound=Group)
ENOUGH = 2
"""Rooms, and clients of a group, that are never scaled away: one alone would show nothing about others."""


def shorten(scenario: Scenario, *, duration: float = 5.0, scale: float = 0.05) -> Scenario:
    """The scenario with `duration` seconds (at most) and `scale` times the rooms and the clients of each group.

    A room count or group above ENOUGH keeps at least that many. Times of actions shrink with the duration.
    """
    seconds = min(duration, scenario.duration)
    pace = seconds / scenario.duration
    small = scenario.model_copy(
        update={
            "duration": seconds,
            "rooms": fewer(scenario.rooms, scale),
            "publishers": [_group(group, scale, pace) for group in scenario.publishers],
            "expect": {name: text for name, text in scenario.expect.items() if _tells_function(name)},
        }
    )
    small = small.model_copy(update={"subscribers": [_group(group, scale, pace) for group in scenario.subscribers]})
    decoding = [one.model_copy(update={"decode": min(one.decode, small.size_of(one))}) for one in small.subscribers]
    small = small.model_copy(update={"subscribers": decoding})
    small = small.model_copy(update={"churn": _churn(small, scale)})
    return small.model_copy(update={"actions": [_action(small, action, scale, pace) for action in scenario.actions]})


def fewer(count: int, scale: float) -> int:
    """scale times count, but no more than count and no less than ENOUGH of it."""
    return min(count, max(ENOUGH, math.ceil(count * scale)))


def _group(group: G, scale: float, pace: float) -> G:
    return group.model_copy(update={"count": fewer(group.count, scale), "start": group.start * pace})


def _churn(small: Scenario, scale: float) -> Churn:
    """The churn of fewer clients: the faster of leaves and joins at least one a second, so that a few seconds see it.

    Where more leave than come, not more than there are.
    """
    churn = small.churn
    fastest = max(churn.leaves, churn.joins)
    if not fastest:
        return churn
    share = max(scale, min(1.0, fastest) / fastest)
    joins = churn.joins * share
    clients = sum(small.size_of(group) for group in small.subscribers)
    return churn.model_copy(
        update={"leaves": min(churn.leaves * share, joins + clients / small.duration), "joins": joins}
    )


def _action(small: Scenario, action: Action, scale: float, pace: float) -> Action:
    changes: dict[str, object] = {"at": action.at * pace}
    if isinstance(action, OnGroup):
        clients = small.size_of(small.groups()[action.group])
        changes["count"] = min(clients, max(1, math.ceil(action.count * scale)))
    if isinstance(action, Mute) and action.lasting is not None:
        changes["lasting"] = action.lasting * pace
    return action.model_copy(update=changes)


def _tells_function(name: str) -> bool:
    return FIGURES[figure_of(name)[1]].unit in (COUNT, SHARE)
