"""Real offers, mangled at random, through the whole join: an answer or a problem, and nothing left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mediaserver.signalling.problems import Problem
from tests.unit.engine.peers import until
from tests.unit.signalling.nodes import running

CORPUS = sorted((Path(__file__).parents[2] / "fuzz" / "corpus" / "sdp").glob("*.sdp"))
ODD = ("\x00", "é", "\ufffd", "a" * 300, ";", "/", " ", "\t")
NUMBERS = ("0", "-1", "127", "128", "255", "65536", "4294967296", "99999999999999999999", "１")


def mangled(lines: list[str], chance: random.Random) -> str:
    """A few lines left out, doubled, moved, swapped with other offers' or with a number changed."""
    out = list(lines)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out))
        kind = chance.randrange(6)
        if kind == 0:
            del out[at]
        elif kind == 1:
            out.insert(chance.randrange(len(out)), out[at])
        elif kind == 2:
            other = chance.choice(CORPUS).read_bytes().decode().splitlines()
            out[at] = chance.choice(other)
        elif kind == 3:
            words = out[at].replace(":", " : ").split(" ")
            words[chance.randrange(len(words))] = chance.choice(NUMBERS)
            out[at] = " ".join(words).replace(" : ", ":")
        elif kind == 4:
            out[at] = out[at][: chance.randrange(len(out[at]) + 1)]
        else:
            cut = chance.randrange(len(out[at]) + 1)
            out[at] = out[at][:cut] + chance.choice(ODD) + out[at][cut:]
        if not out:
            out = ["v=0"]
    return "\r\n".join(out) + "\r\n"


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
async def test_mangled_offer_is_answered_or_refused_and_leaves_nothing(file: Path) -> None:
    chance = random.Random(file.stem)
    lines = file.read_bytes().decode().splitlines()
    results: dict[int, int] = {}
    async with running(limits={"transports": 64, "handshakes": 64, "publishers": 16}) as node:
        sessions = node.node.sessions
        for _ in range(60):
            sdp = mangled(lines, chance)
            for way in ("whip", "whep"):
                try:
                    if way == "whip":
                        session, answer = sessions.publish("r", "a", sdp)
                    else:
                        session, answer = sessions.watch("r", "a", "v", sdp, layer="h", lag=100)
                    assert answer.startswith("v=0\r\n")
                    await sessions.end(session, "the test is over")  # type: ignore[misc]
                    results[201] = results.get(201, 0) + 1
                except Problem as problem:
                    assert problem.status in (400, 422, 503), problem.detail
                    results[problem.status] = results.get(problem.status, 0) + 1
        worker = node.node.engine.workers[0]
        await until(lambda: worker.transport_used == worker.layer_used == worker.subscription_used == 0)
        assert not sessions.rooms and sessions.handshakes.pending == 0 and worker.logs_used == 0
        assert {201, 400} <= results.keys(), results
