"""Tokens: who may do what, and what is said of those that can't be read."""

from __future__ import annotations

import io
from typing import Any

import jwt
import pytest

from config.schema import Auth
from mediaserver.minting import Grant, mint
from mediaserver.signalling.addresses import is_loopback
from mediaserver.signalling.grants import Bearer, Grants, allow, allow_sources
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.tokens import Tokens

SECRET = "a-secret-for-the-unit-tests-and-no-more"
AUTH = Auth(required=True, keys={"key": SECRET})
NOW = 1_900_000_000


def header(claims: Any, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return f"Bearer {jwt.encode(claims, secret, algorithm=algorithm)}"


def refusal(text: str | None, *, auth: Auth = AUTH) -> Problem:
    with pytest.raises(Problem) as caught:
        Tokens(auth).bearer([] if text is None else [text])
    assert caught.value.status == 401 and "WWW-Authenticate" in caught.value.headers
    return caught.value


def test_minted_token_is_taken() -> None:
    text = mint(Grant(room="lobby", identity="ann", publish=False), key="key", secret=SECRET, now=NOW, ttl=60)
    claims = jwt.decode(text, options={"verify_signature": False}) | {"nbf": 0, "exp": NOW * 2}
    bearer = Tokens(AUTH).bearer([header(claims)])
    assert bearer == Bearer(identity="ann", room="lobby", publish=False, subscribe=True, lists=False, key="key")


GOOD = {"iss": "key", "exp": NOW * 2, "video": {"room": "r", "roomJoin": True}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "needs an access token"),
        ("Bearer", "not of the form"),
        ("Basic eA==", "not of the form"),
        ("Bearer a.b.c", "can't be accepted"),
        (header(GOOD | {"iss": "nobody"}), "not a key"),
        (header({k: v for k, v in GOOD.items() if k != "iss"}), "not a key"),
        (header({k: v for k, v in GOOD.items() if k != "exp"}), "exp"),
        (header(GOOD, "another-secret-of-thirty-two-characters"), "can't be accepted"),
        (header(GOOD, SECRET * 2, "HS512"), "can't be accepted"),
        (header(GOOD | {"nbf": NOW * 2}), "not yet valid"),
        (header(GOOD | {"exp": 1}), "expired"),
        (header(GOOD | {"video": "everything"}), "video is an object"),
        (header(GOOD | {"sub": 7}), "can't be accepted"),
        ("Bearer \udcff\udcfe.\ud800.x", "not three parts"),
        ("Bearer a.b.c d", "not three parts"),
        ("Bearer " + "." * 5, "not three parts"),
        (header(GOOD | {"exp": 1e400}), "can't be accepted"),
        (header(GOOD | {"nbf": [1]}), "can't be accepted"),
        (header(GOOD | {"iss": ""}), "not a key"),
        ("Bearer " + jwt.encode(GOOD, None, algorithm="none"), "can't be accepted"),
    ],
)
def test_what_is_no_good_token_is_401(text: str | None, said: str) -> None:
    assert said in refusal(text).detail


def test_token_that_has_run_out_is_taken_where_it_may_be() -> None:
    late = GOOD | {"exp": 1}
    assert Tokens(AUTH).bearer([header(late)], expired=True).room == "r"
    with pytest.raises(Problem):
        Tokens(AUTH).bearer([header(late, "another-secret-of-thirty-two-characters")], expired=True)


def test_two_authorization_headers_are_none() -> None:
    with pytest.raises(Problem):
        Tokens(AUTH).bearer([header(GOOD), header(GOOD)])


def test_clients_go_without_a_token_only_where_the_configuration_says_so() -> None:
    assert not Tokens(AUTH).spares(local=True)
    lenient = Tokens(Auth(required=True, loopback_without_token=True, keys={"key": SECRET}))
    assert lenient.spares(local=True) and not lenient.spares(local=False)
    assert Tokens(Auth(required=False)).spares(local=False)


@pytest.mark.parametrize(
    "video",
    [
        {"canPublish": "no"},
        {"canPublish": 1},
        {"canPublish": []},
        {"canSubscribe": "true"},
        {"roomJoin": "true"},
        {"roomList": 1},
        {"room": ["r"]},
        {"canPublishSources": "camera"},
        {"canPublishSources": [1]},
        {"canPublishSources": {"camera": True}},
        {"hidden": "yes"},
        {"canPublishData": 0},
        {"destinationRoom": 5},
    ],
)
def test_mistyped_grant_is_401_and_named(video: dict[str, Any]) -> None:
    (name,) = video
    assert f"The token's {name} is" in refusal(header(GOOD | {"video": {"room": "r", "roomJoin": True} | video})).detail


def test_null_is_as_good_as_no_grant_and_nothing_is_granted_without_joining() -> None:
    given = {"room": "r", "roomJoin": True, "canPublish": None, "canPublishSources": None, "hidden": None}
    bearer = Grants().bearer({"video": given})
    assert bearer.publish and bearer.subscribe and bearer.sources is None and not bearer.lists
    bearer = Grants().bearer({"video": {"room": "r", "canPublish": True}})
    assert not bearer.publish and not bearer.subscribe
    assert Grants().bearer({}).room == "" and not Grants().bearer({"video": None}).publish


def test_unknown_grant_is_left_aside_and_told_of_once(lines: io.StringIO) -> None:
    grants = Grants()
    for _ in range(3):
        video = {"room": "r", "roomJoin": True, "canFly": "very\nhigh", "roomAdmin": True}
        assert grants.bearer({"video": video}).publish
    assert lines.getvalue().count("canFly") == 1
    assert "roomAdmin" not in lines.getvalue(), "known at LiveKit"
    for k in range(1000):
        grants.bearer({"video": {f"grant{k}": 1}})
    assert len(lines.getvalue().splitlines()) < 100, "a bounded number of lines"


def sources(*names: str) -> Bearer:
    return Grants().bearer({"video": {"room": "r", "roomJoin": True, "canPublishSources": list(names)}})


@pytest.mark.parametrize(
    ("names", "kinds", "screen", "granted"),
    [
        (("camera", "microphone"), {"video", "audio"}, False, True),
        (("camera",), {"video", "audio"}, False, False),
        (("microphone",), {"audio"}, False, True),
        (("microphone",), {"video"}, False, False),
        (("screen_share",), {"video"}, False, False),
        (("screen_share",), {"video"}, True, True),
        (("screen_share",), {"video", "audio"}, True, False),
        (("screen_share", "screen_share_audio"), {"video", "audio"}, True, True),
        (("camera", "microphone"), {"audio"}, True, False),
        (("of-another-world",), {"audio"}, False, False),
        ((), {"video", "audio"}, True, True),
    ],
)
def test_sources_that_may_be_published_are_the_tokens(
    names: tuple[str, ...], kinds: set[str], screen: bool, granted: bool
) -> None:
    if granted:
        return allow_sources(sources(*names), kinds, screen=screen)
    with pytest.raises(Problem) as caught:
        allow_sources(sources(*names), kinds, screen=screen)
    assert caught.value.status == 403 and "canPublishSources" in caught.value.detail


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        (None, False),
    ],
)
def test_loopback_addresses_are_known_in_all_their_forms(address: str | None, loopback: bool) -> None:
    assert is_loopback(address) == loopback


def test_grants_are_for_one_room_and_for_publishing_as_oneself() -> None:
    bearer = Bearer(identity="ann", room="r", publish=True, subscribe=False, lists=False)
    allow(bearer, room="r", publish=True, identity="ann")
    for wrong in (
        {"room": "other", "publish": True, "identity": "ann"},
        {"room": "r", "publish": True, "identity": "bob"},
        {"room": "r", "publish": False},
    ):
        with pytest.raises(Problem) as caught:
            allow(bearer, **wrong)  # type: ignore[arg-type]
        assert caught.value.status == 403
    allow(Bearer(), room="any", publish=True, identity="anybody")
