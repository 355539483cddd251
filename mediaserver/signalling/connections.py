"""One client's connection: aiohttp's own protocol, watched from outside for the time that it takes.

aiohttp closes a connection that is idle after a request, and that is all: one that never sends its headers, or sends
a byte of them now and then, or never reads its answers stays for ever. So each connection notes when it began to wait
for what, and `overdue` says what it has waited for too long. Time is handed in: nothing here reads a clock but `now`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from config.schema import Http

FAREWELL = 5.0  # seconds from a close to the end of it, then the connection is cut


class Connection(asyncio.Protocol):
    """Passes everything on to `inner`, and keeps the time. `gone` is called once, when the connection has ended."""

    def __init__(self, inner: asyncio.Protocol, now: Callable[[], float], gone: Callable[[Connection], None]) -> None:
        self.source = ""
        self.transport: asyncio.Transport | None = None
        self._inner, self._now, self._gone = inner, now, gone
        self._busy = False  # with a request whose headers are there
        self._head: float | None = now()  # since when headers are awaited; a new connection has to send some
        self._idle = now()  # since when nothing was asked
        self._unread: float | None = None  # since when something waits for the client to read
        self._closing: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected, and TLS is agreed on where there is any."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of it."""
        self.transport = None
        self._gone(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came: of a request's head, if none is being answered."""
        if not self._busy and self._head is None:
            self._head = self._now()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has read."""
        self._inner.resume_writing()

    def begin(self) -> None:
        """A request's headers are there, and its handler has begun."""
        self._busy, self._head = True, None

    def end(self) -> None:
        """The request has its answer."""
        self._busy, self._idle = False, self._now()

    def overdue(self, limits: Http) -> str | None:
        """What the client has been waited for too long; None while it keeps its times."""
        now, transport = self._now(), self.transport
        if transport is None:
            return None
        if transport.get_write_buffer_size() == 0:
            self._unread = None
        elif self._unread is None:
            self._unread = now
        if self._unread is not None and now - self._unread > limits.write_timeout:
            return f"it has not read its answer for {limits.write_timeout:g} s"
        if self._busy:
            return None
        if self._head is not None and now - self._head > limits.header_timeout:
            return f"no whole request came within {limits.header_timeout:g} s"
        if self._head is None and now - self._idle > limits.idle_timeout:
            return f"it has been idle for {limits.idle_timeout:g} s"
        return None

    def shut(self) -> bool:
        """Close, at once if the client does not read; True the first time."""
        if self.transport is None:
            return False
        first = self._closing is None
        if self._closing is None:
            self._closing = self._now()
            self.transport.close()
        if self.transport.get_write_buffer_size() > 0 or self._now() - self._closing > FAREWELL:
            self.transport.abort()
        return first
