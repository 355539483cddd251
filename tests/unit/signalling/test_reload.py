"""Keys are taken anew without a restart: a key that leaked is worth nothing from then on, and sessions go on."""

from __future__ import annotations

import time

import jwt

from config import ConfigError, load_config
from config.schema import Config
from tests.unit.signalling.nodes import KEY, SECRET, configuration, running, token

NEW = "another-secret-for-the-unit-tests-and-no-more"


def signed_by_the_new_key() -> dict[str, str]:
    claims = {"iss": "new", "exp": int(time.time()) + 60, "video": {"roomList": True}}
    return {"Authorization": f"Bearer {jwt.encode(claims, NEW, algorithm='HS256')}"}


async def test_tokens_are_checked_against_the_keys_that_were_read_last() -> None:
    auth = {"required": True, "loopback_without_token": False, "keys": {KEY: SECRET}}
    async with running(auth=auth) as node:
        assert (await node.ask("GET", "/api/rooms", headers=token("r")))[0] == 200
        await node.refused(401, "GET", "/api/rooms", headers=signed_by_the_new_key())
        servers = [{"urls": ["turn:turn.example.org"], "secret": "shared"}]
        node.node.reload(lambda: configuration(auth=auth | {"keys": {"new": NEW}}, ice_servers=servers))
        await node.refused(401, "GET", "/api/rooms", headers=token("r"))
        assert (await node.ask("GET", "/api/rooms", headers=signed_by_the_new_key()))[0] == 200
        assert [server.secret for server in node.node.context.ice_servers] == ["shared"]


async def test_configuration_that_is_broken_leaves_the_old_keys(tmp_path: object) -> None:
    auth = {"required": True, "loopback_without_token": False, "keys": {KEY: SECRET}}

    def broken() -> Config:
        try:
            return load_config(f"{tmp_path}/none.yaml")
        except ConfigError as error:
            assert SECRET not in str(error)
            raise

    async with running(auth=auth) as node:
        node.node.reload(broken)
        assert (await node.ask("GET", "/api/rooms", headers=token("r")))[0] == 200
