"""A token's grants: LiveKit's `video` claim. A grant of the wrong type is refused, one that is not known is left aside.

`canPublish: "no"` is a mistake of whoever made the token; to take it for true, as a mere test for truth would, hands
out what was meant to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from mediaserver.logs import get_logger
from mediaserver.signalling.problems import Problem

log = get_logger("weir.tokens")
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="weir"'}
CAMERA, MICROPHONE, SCREEN, SCREEN_AUDIO = "camera", "microphone", "screen_share", "screen_share_audio"
SOURCES = frozenset({CAMERA, MICROPHONE, SCREEN, SCREEN_AUDIO})
HONOURED = frozenset({"room", "roomJoin", "roomList", "canPublish", "canSubscribe", "canPublishSources"})
ELSEWHERE = {
    name: bool
    for name in (
        "roomCreate", "roomRecord", "roomAdmin", "ingressAdmin", "canPublishData", "canUpdateOwnMetadata",
        "canSubscribeMetrics", "canManageAgentSession", "hidden", "recorder", "agent",
    )
} | {"destinationRoom": str}  # fmt: skip
"""LiveKit's grants for what Weir does not do: known, checked for their type, of no effect."""
REMEMBERED = 64  # names of unknown grants that have been logged


@dataclass(frozen=True)
class Bearer:
    """Who asks, and what they may. `room` None: any; `lists`: may see all rooms; `sources` None: any.

    `key` is the name of the key that signed the token, None where there is no token.
    """

    identity: str | None = None
    room: str | None = None
    publish: bool = True
    subscribe: bool = True
    lists: bool = True
    sources: frozenset[str] | None = None
    key: str | None = None


class Grants:
    """Reads the claim, and remembers which unknown grants have been told of."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def bearer(self, claims: dict[str, object]) -> Bearer:
        """What verified claims grant. Raises Problem 401 with what is mistyped."""
        video, subject, key = claims.get("video"), claims.get("sub"), claims.get("iss")
        video = {} if video is None else video
        if not isinstance(video, dict):
            raise mistyped("video", video, "an object")
        if not isinstance(subject, str | None):
            raise mistyped("sub", subject, "text")
        self._tell(set(video) - HONOURED - set(ELSEWHERE))
        for name, kind in ELSEWHERE.items():
            if not isinstance(video.get(name), kind | None):
                raise mistyped(name, video[name], "true or false" if kind is bool else "text")
        room = video.get("room")
        if not isinstance(room, str | None):
            raise mistyped("room", room, "text")
        joins = flag(video, "roomJoin", False)
        return Bearer(
            identity=subject,
            room=room or "",
            publish=flag(video, "canPublish", True) and joins,
            subscribe=flag(video, "canSubscribe", True) and joins,
            lists=flag(video, "roomList", False),
            sources=sources_of(video),
            key=key if isinstance(key, str) else None,
        )

    def _tell(self, names: set[str]) -> None:
        for name in sorted(names - self._told):
            if len(self._told) < REMEMBERED:
                self._told.add(name)
                log.info("a token's grant is not known here and has no effect", grant=ascii(name[:80]))


def flag(video: dict[str, object], name: str, default: bool) -> bool:
    """A grant that is true or false; null is as good as absent. Raises Problem 401."""
    value = video.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise mistyped(name, value, "true or false")
    return value


def sources_of(video: dict[str, object]) -> frozenset[str] | None:
    """What may be published; an empty list restricts nothing, as at LiveKit. Raises Problem 401."""
    value = video.get("canPublishSources")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise mistyped("canPublishSources", value, f"a list out of {', '.join(sorted(SOURCES))}")
    return frozenset(value) & SOURCES if value else None


def mistyped(name: str, value: object, wanted: str) -> Problem:
    """The refusal of a claim that is not what it must be."""
    return Problem(401, f"The token's {name} is {wanted}, not {ascii(value)[:60]}.", headers=CHALLENGE)


def allow(bearer: Bearer, *, room: str, publish: bool, identity: str | None = None) -> None:
    """Raise Problem 403 when the bearer may not do this."""
    if bearer.room is not None and bearer.room != room:
        raise Problem(403, f"The token is for room {bearer.room!a}, not {room!a}.")
    if publish and not bearer.publish:
        raise Problem(403, "The token does not grant publishing (roomJoin and canPublish).")
    if publish and bearer.identity is not None and identity is not None and bearer.identity != identity:
        raise Problem(403, f"The token is for the identity {bearer.identity!a}, not {identity!a}.")
    if not publish and not bearer.subscribe:
        raise Problem(403, "The token does not grant watching (roomJoin and canSubscribe).")


def allow_sources(bearer: Bearer, kinds: set[str], *, screen: bool) -> None:
    """Raise Problem 403 when the offer has a kind ("audio", "video") whose source canPublishSources leaves out."""
    if bearer.sources is None:
        return
    names = {"video": SCREEN, "audio": SCREEN_AUDIO} if screen else {"video": CAMERA, "audio": MICROPHONE}
    for kind in sorted(kinds):
        if names[kind] not in bearer.sources:
            granted = ", ".join(sorted(bearer.sources)) or "nothing"
            detail = f"The token does not grant publishing {kind} as {names[kind]} (canPublishSources: {granted})."
            raise Problem(403, detail)
