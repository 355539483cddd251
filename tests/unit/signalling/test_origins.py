"""Which names are the node's own, and which pages: the difference between its page and a stranger's."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import CIMultiDict

from config.schema import Config
from mediaserver.signalling.addresses import interfaces
from mediaserver.signalling.origins import Origins
from mediaserver.signalling.proxies import Client

NAMES = ["meet.example.org"]


def origins(**sections: Any) -> Origins:
    http = {"names": NAMES, "cors_origins": ["*", "https://app.example.org"]} | sections.pop("http", {})
    return Origins(Config.model_validate({"http": http, **sections}))


def objection(host: str, scheme: str = "http", **headers: str) -> str | None:
    given = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return origins().objection(Client("127.0.0.1", scheme, host, "", True), given)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:7880",
        "localhost.",
        "weir.localhost:80",
        "127.0.0.1:7880",
        "127.8.9.10",
        "[::1]:7880",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "meet.example.org",
        "Meet.Example.Org.:443",
    ],
)
def test_loopback_names_and_configured_names_are_own(host: str) -> None:
    assert origins().is_own_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:7880",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "meet.example.org.evil.example",
        "app.example.org",
        "192.0.2.1",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::2]",
        "[::1",
        "::1",
        "[localhost]",
        "localhost:99999",
        "localhost:",
        "localhost:80:80",
        "localhost:80, evil.example",
        "localhost@evil.example",
        "evil.example/localhost",
        "localhost\n",
        "localhost\x00",
        "ｌocalhost",
        "*",
    ],
)
def test_other_names_are_not(host: str) -> None:
    assert not origins().is_own_name(host)


def test_addresses_of_this_host_and_advertised_ones_are_own_names() -> None:
    for address in interfaces():
        assert origins().is_own_name(f"[{address}]:80" if address.version == 6 else f"{address}:80")
    told = origins(media={"advertised": ["203.0.113.7"]})
    assert told.is_own_name("203.0.113.7:7880") and not told.is_own_name("203.0.113.8:7880")


def test_program_without_an_origin_is_taken() -> None:
    assert objection("localhost:7880") is None


@pytest.mark.parametrize(
    ("host", "scheme", "origin"),
    [
        ("localhost:7880", "http", "http://localhost:7880"),
        ("LOCALHOST:7880", "http", "http://localhost:7880"),
        ("localhost", "http", "http://localhost"),
        ("localhost:80", "http", "http://localhost"),
        ("meet.example.org", "https", "https://meet.example.org:443"),
        ("[::1]:7880", "http", "http://[::1]:7880"),
        ("localhost:7880", "http", "https://app.example.org"),
    ],
)
def test_own_page_is_taken(host: str, scheme: str, origin: str) -> None:
    assert objection(host, scheme, Origin=origin) is None
    assert objection(host, scheme, Origin=origin, Sec_Fetch_Site="same-origin") is None


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:7881",
        "https://localhost:7880",
        "http://127.0.0.1:7880",
        "http://evil.example",
        "http://app.example.org",
        "https://app.example.org.evil.example",
        "null",
        "*",
        "",
        "file://",
        "http://localhost:7880/",
        "http://localhost:7880 ",
        "http://localhost:7880@evil.example",
        "http://evil.example#localhost:7880",
        "javascript://localhost:7880",
        "\udcff",
    ],
)
def test_page_of_another_origin_is_refused_though_a_star_stands_in_the_configuration(origin: str) -> None:
    assert "own page" in (objection("localhost:7880", Origin=origin) or "")


def test_stranger_s_name_that_points_here_is_refused_though_the_page_is_its_own() -> None:
    assert "own names" in (objection("evil.example:7880", Origin="http://evil.example:7880") or "")
    assert "own names" in (objection("evil.example:7880") or "")


@pytest.mark.parametrize(
    ("site", "taken"), [("same-origin", True), ("none", True), ("same-site", False), ("cross-site", False), ("", False)]
)
def test_browser_that_says_whose_page_asks_is_believed(site: str, taken: bool) -> None:
    assert (objection("localhost:7880", Sec_Fetch_Site=site) is None) == taken


def test_two_origins_are_none() -> None:
    headers = CIMultiDict([("Origin", "http://localhost:7880"), ("Origin", "http://localhost:7880")])
    assert origins().objection(Client("127.0.0.1", "http", "localhost:7880", "", True), headers)
