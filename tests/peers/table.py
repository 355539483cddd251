"""docs/CLIENTS.md, made of what the tests of clients saw: a line for each client and codec, and one for each more."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "CLIENTS.md"
NAMES = {"vp8": "VP8", "vp9": "VP9", "av1": "AV1", "h264": "H.264"}
# What is tried beside each client with each codec.
ALIVE = "GStreamer, whose libnice sends no consent checks, publishes for 60 s what another watches"
LAYERS = {
    "vp8": "Firefox publishes simulcast of VP8, 720p",
    "vp9": "Firefox publishes VP9, 720p, with simulcast chosen (the page offers it none there)",
}
HIGH = "FFmpeg publishes H.264 High, libdatachannel offers Constrained Baseline to watch"
BESIDE = [ALIVE, *LAYERS.values(), HIGH]
LONGEST = 300  # characters of a failure's message in a cell
OPENING = """# Clients that were tried

Programs that nobody of this project wrote, each publishing to a node and watching one, over loopback. `make test-peers`
writes this page from what its run saw ({system}, {date}). It needs Debian with root, or the packages that it
names, and npm and cargo. Firefox, GStreamer, aiortc, FFmpeg and Chromium take part in `make test` too.

*Publishes*: what Chromium showed of it. *Watches*: what the client showed of the same codec, published by Chromium.
Clients without codecs of their own (libdatachannel, werift, str0m) send a clip that FFmpeg encoded, and FFmpeg decodes
what they receive. Firefox has H.264 only with a plugin that it loads from its maker at its first start: not tried.
"""


def cell(text: str) -> str:
    """Text as it can stand in a table."""
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


class Note:
    """What one test saw; `text` is set by it."""

    text = "nothing was noted"


class Table:
    """Collects the lines. `wanted` are the (client, codec, way) and the names that make a whole page."""

    def __init__(self, wanted: Sequence[object]) -> None:
        self.wanted = list(wanted)
        self.versions: dict[str, str] = {}
        self.seen: dict[object, str] = {}

    @contextmanager
    def note(self, key: object) -> Iterator[Note]:
        """Note what a test sees, also that it failed."""
        note = Note()
        try:
            yield note
        except BaseException as error:
            self.seen[key] = f"**no**: {error}"
            raise
        self.seen[key] = note.text

    def complete(self) -> bool:
        """Whether everything was tried, so that the page can be written."""
        return all(key in self.seen for key in self.wanted)

    def page(self) -> str:
        """The whole page."""
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
        parts = [OPENING.format(system=system, date=datetime.date.today().isoformat())]
        parts += ["| client | version | codec | publishes | watches |", "|---|---|---|---|---|"]
        pairs = dict.fromkeys(key[:2] for key in self.wanted if isinstance(key, tuple))
        for client, codec in pairs:
            ways = [cell(self.seen.get((client, codec, way), "–")) for way in ("publishes", "watches")]
            parts.append(f"| {client} | {cell(self.versions.get(client, '?'))} | {NAMES[codec]} | {' | '.join(ways)} |")
        parts += ["\nBeside these:\n", "| what | seen |", "|---|---|"]
        parts += [f"| {key} | {cell(self.seen.get(key, '–'))} |" for key in self.wanted if isinstance(key, str)]
        return "\n".join(parts) + "\n"
