"""What a client may receive and send with, as its session was negotiated."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.transport.offers import Remote


@dataclass(frozen=True)
class Media:
    """Tables by payload type and extension id."""

    codecs: dict[int, int]  # payload type -> codec
    repairs: dict[int, int]  # RTX payload type -> its primary one
    kinds: dict[int, int]  # incoming extension id -> kind
    ids: dict[int, int]  # kind -> outgoing extension id


def media_of(remote: Remote) -> Media:
    """The tables of an answer."""
    codecs: dict[int, int] = {}
    repairs: dict[int, int] = {}
    ids: dict[int, int] = {}
    for section in remote.media:
        codecs |= section.codecs
        repairs |= section.repairs
        ids |= section.extensions
    return Media(codecs, repairs, {number: kind for kind, number in ids.items()}, ids)
