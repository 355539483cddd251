"""Links to STUN and TURN servers, with names that run out where a secret is shared."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

from config.schema import Config, IceServer
from mediaserver.signalling.ice_servers import credentials, ice_links
from tests.unit.signalling.nodes import OFFER, SDP, running


def server(**more: Any) -> IceServer:
    return IceServer.model_validate({"urls": ["turn:turn.example.org:3478"], **more})


def test_shared_secret_makes_a_name_that_runs_out_and_its_hmac_as_password() -> None:
    """The example of coturn's manual, by hand: base64(HMAC-SHA1(secret, "expiry:name"))."""
    name, password = credentials(server(secret="north", ttl=3600), "alice", 1_900_000_000.9) or ("", "")
    assert name == "1900003600:alice"
    wanted = hmac.new(b"north", b"1900003600:alice", hashlib.sha1).digest()
    assert base64.b64decode(password) == wanted and len(wanted) == 20


def test_fixed_name_is_given_as_it_is_and_stun_needs_none() -> None:
    assert credentials(server(username="me", credential="x"), "alice", 0.0) == ("me", "x")
    assert credentials(server(), "alice", 0.0) is None


def test_quotes_in_a_password_stay_inside_the_link() -> None:
    config = Config.model_validate({"ice_servers": [server(username='a"b', credential="c\\d").model_dump()]})
    (link,) = ice_links(config.ice_servers, "s")
    assert link == (
        '<turn:turn.example.org:3478>; rel="ice-server"; username="a\\"b"; credential="c\\\\d"; '
        'credential-type="password"'
    )


async def test_each_session_gets_a_name_of_its_own_and_the_secret_stays_here() -> None:
    ices = [{"urls": ["turn:turn.example.org:3478"], "secret": "the-shared-secret", "ttl": 600}]
    async with running(ice_servers=ices) as node:
        links = []
        for _ in range(2):
            status, headers, _ = await node.ask("POST", "/whep/a/b", data=OFFER, headers=SDP)
            assert status == 201
            links.append(headers["Link"])
        assert links[0] != links[1] and "the-shared-secret" not in "".join(links)
        expiry = int(links[0].partition('username="')[2].partition(":")[0])
        assert abs(expiry - time.time() - 600) < 60
