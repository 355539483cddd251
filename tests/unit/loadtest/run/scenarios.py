"""Small scenarios for tests."""

from __future__ import annotations

from typing import Any

from loadtest.scenario.schema import Scenario

SYNTHETIC = {"video": {"codec": "synthetic", "framerate": 25.0, "packets_per_frame": 4, "packet_size": 500}}
Keys = dict[str, Any]


def scenario_of(name: str, url: str, **keys: Any) -> Scenario:
    """One publisher of synthetic media and three viewers, unless told."""
    base: Keys = {
        "name": name,
        "seed": 5,
        "target": {"url": url},
        "duration": 1.0,
        "joins": {"rate": 500.0},
        "media": {"synthetic": SYNTHETIC},
        "publishers": [{"name": "hosts", "media": "synthetic"}],
        "subscribers": [{"name": "audience", "count": 3}],
    }
    return Scenario.model_validate(base | keys)
