"""Every line that concerns somebody bears the room and the participant."""

from __future__ import annotations

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
