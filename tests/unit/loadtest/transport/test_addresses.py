"""Where a load test may send."""

from __future__ import annotations

import pytest

from loadtest.transport.addresses import host_towards, may_send, why_not


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_always_allowed(address: str) -> None:
    assert may_send(address, False) and may_send(address, True)


@pytest.mark.parametrize("address", ["192.0.2.7", "10.1.1.1", "169.254.1.1", "2001:db8::7", "::ffff:192.0.2.7"])
def test_other_hosts_only_when_allowed(address: str) -> None:
    assert not may_send(address, False)
    assert may_send(address, True)
    assert why_not(address, False) == f"{address} is not loopback (--allow-remote)"


@pytest.mark.parametrize(
    "address", ["224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "localhost", "", "1.2"]
)
def test_what_is_no_single_host_never(address: str) -> None:
    assert not may_send(address, False) and not may_send(address, True)


def test_packets_to_loopback_leave_from_loopback() -> None:
    assert host_towards("127.0.0.1") == "127.0.0.1"
