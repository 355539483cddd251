"""The addresses in ICE candidates: what is advertised, what is listened on, or the host's own."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from config.schema import Config
from mediaserver.signalling.addresses import candidates


def listed(**media: Any) -> list[str]:
    return candidates(Config.model_validate({"media": media}))


def test_advertised_addresses_come_as_they_are() -> None:
    assert listed(advertised=["203.0.113.7", "198.51.100.1"]) == ["203.0.113.7", "198.51.100.1"]


def test_one_address_that_is_listened_on_is_the_only_one() -> None:
    assert listed(host="127.0.0.1") == ["127.0.0.1"]


@pytest.mark.parametrize(("host", "versions"), [("0.0.0.0", {4}), ("::", {4, 6})])
def test_all_of_the_hosts_addresses_with_loopback_last(host: str, versions: set[int]) -> None:
    found = [ipaddress.ip_address(address) for address in listed(host=host)]
    assert found and {address.version for address in found} <= versions
    assert not any(address.is_link_local or address.is_unspecified for address in found)
    loopback = [address.is_loopback for address in found]
    assert loopback == sorted(loopback) and loopback[-1]
