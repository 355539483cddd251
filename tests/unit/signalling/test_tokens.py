"""Tokens: who may do what, and what is said of those that can't be read."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from config.schema import Auth
from mediaserver.minting import Grant, mint
from mediaserver.signalling.problems import Problem
from mediaserver.signalling.tokens import Bearer, Tokens, allow, is_loopback

SECRET = "a-secret-for-the-unit-tests-and-no-more"
AUTH = Auth(required=True, keys={"key": SECRET})
NOW = 1_900_000_000


def header(claims: Any, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return f"Bearer {jwt.encode(claims, secret, algorithm=algorithm)}"


def refusal(text: str | None, *, auth: Auth = AUTH, local: bool = False) -> Problem:
    with pytest.raises(Problem) as caught:
        Tokens(auth).bearer(text, local=local)
    assert caught.value.status == 401 and "WWW-Authenticate" in caught.value.headers
    return caught.value


def test_minted_token_is_taken() -> None:
    text = mint(Grant(room="lobby", identity="ann", publish=False), key="key", secret=SECRET, now=NOW, ttl=60)
    claims = jwt.decode(text, options={"verify_signature": False}) | {"nbf": 0, "exp": NOW * 2}
    bearer = Tokens(AUTH).bearer(header(claims), local=False)
    assert bearer == Bearer(identity="ann", room="lobby", publish=False, subscribe=True, lists=False)


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
        (header(GOOD | {"video": "everything"}), "no form"),
        ("Bearer " + jwt.encode(GOOD, None, algorithm="none"), "can't be accepted"),
    ],
)
def test_what_is_no_good_token_is_401(text: str | None, said: str) -> None:
    assert said in refusal(text).detail


def test_token_that_has_run_out_is_taken_where_it_may_be() -> None:
    late = header(GOOD | {"exp": 1})
    assert Tokens(AUTH).bearer(late, local=False, expired=True).room == "r"
    with pytest.raises(Problem):
        Tokens(AUTH).bearer(
            header(GOOD | {"exp": 1}, "another-secret-of-thirty-two-characters"), local=False, expired=True
        )


def test_loopback_goes_without_only_where_the_configuration_says_so() -> None:
    assert refusal(None, local=True)
    lenient = Auth(required=True, loopback_without_token=True, keys={"key": SECRET})
    assert Tokens(lenient).bearer(None, local=True) == Bearer()
    assert refusal(None, auth=lenient, local=False)
    assert Tokens(Auth(required=False)).bearer(None, local=False) == Bearer()


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
