"""The driver that a scenario's target asks for; room protocols are added here."""

from __future__ import annotations

from loadtest.drivers.base import Driver
from loadtest.drivers.tokens import minted
from loadtest.drivers.whip_whep import TIMEOUT, WhipWhep
from loadtest.scenario.schema import Target


def make_driver(target: Target, allow_remote: bool, timeout: float = TIMEOUT) -> Driver:
    """A driver for the target, whose answers may take `timeout` seconds. ValueError: its address is not allowed."""
    key, secret = target.token_key, target.token_secret
    return WhipWhep(
        target.url,
        token=minted(key, secret) if key and secret else target.token or "",
        publish_path=target.publish_path,
        subscribe_path=target.subscribe_path,
        allow_remote=allow_remote,
        timeout=timeout,
        verify=target.verify,
    )
