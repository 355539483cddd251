"""The driver that a scenario's target asks for; room protocols are added here."""

from __future__ import annotations

from loadtest.drivers.base import Driver
from loadtest.drivers.whip_whep import WhipWhep
from loadtest.scenario.schema import Target


def make_driver(target: Target, allow_remote: bool) -> Driver:
    """A driver for the target. ValueError: its address is not allowed."""
    return WhipWhep(
        target.url,
        token=target.token or "",
        publish_path=target.publish_path,
        subscribe_path=target.subscribe_path,
        allow_remote=allow_remote,
    )
