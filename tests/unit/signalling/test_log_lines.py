"""Every line that concerns somebody bears the room and the participant."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import SDP, VP8_TYPE, Running

NOT_OF_A_PERSON = {"weir.node", "weir.engine"}  # loggers


async def test_lines_of_joins_and_ends_name_room_and_participant(lines: io.StringIO, node: Running) -> None:
    lacking = await node.join(
        "/whep/lobby/alice", change=lambda sdp: sdp.replace(f"{VP8_TYPE} VP8/", f"{VP8_TYPE} VP9/")
    )
    publisher = await node.join("/whip/lobby/alice")
    publisher.send_video()
    await until(lambda: "subscription paused" in lines.getvalue())
    await node.refused(400, "POST", "/whip/lobby/bob", data="nonsense", headers=SDP)
    await node.join("/whip/lobby/alice")
    await until(lambda: publisher.dtls == "closed")
    assert (await node.ask("DELETE", lacking.location))[0] == 200
    found: list[dict[str, Any]] = [json.loads(line) for line in lines.getvalue().splitlines()]
    ours = [one for one in found if one["logger"].startswith("weir.") and one["logger"] not in NOT_OF_A_PERSON]
    assert {"joined", "connected", "left", "subscription paused", "join refused"} <= {one["message"] for one in ours}
    assert all(one["room"] == "lobby" and one["participant"] for one in ours), ours
    assert {one["participant"] for one in ours if one["message"] in ("joined", "left")} >= {"alice"}
    assert [one["reason"] for one in ours if one["message"] == "left"][0] == "another publisher took the identity"
    assert not [one for one in found if one["level"] in ("error", "critical")]


async def test_publisher_that_sends_on_after_its_session_is_counted_by_name_and_logged_once(
    lines: io.StringIO, node: Running
) -> None:
    publisher = await node.join("/whip/lobby/alice")
    assert (await node.ask("DELETE", publisher.location))[0] == 200

    def told() -> list[dict[str, Any]]:
        publisher.send_video(20)
        found = [json.loads(line) for line in lines.getvalue().splitlines()]
        return [one for one in found if "goes on sending" in one["message"]]

    await until(told)
    ended = await node.metric("weir_packets_dropped_total", cause="ended")
    async with asyncio.timeout(30):
        while await node.metric("weir_packets_dropped_total", cause="ended") < ended + 100:
            publisher.send_video(20)
            await asyncio.sleep(0.01)
    (line,) = told()
    assert (line["level"], line["room"], line["participant"]) == ("warning", "lobby", "alice")
    assert line["remote"] == f"127.0.0.1:{publisher.peer.local.port}"
    assert await node.metric("weir_packets_dropped_total", cause="unknown") == 0
