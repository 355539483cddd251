"""A peer that is read in Python after its handshake; the load test's own are detached, and the engine reads them."""

from __future__ import annotations

from collections.abc import Callable

from loadtest.transport.peer import Peer


class ReadingPeer(Peer):
    """A peer on which `read` may be called instead of `detach`."""

    receive: Callable[[bytes], None] | None = None

    def read(self, receive: Callable[[bytes], None]) -> None:
        """Hand all RTP and RTCP, sealed, to `receive` from now on."""
        self.receive = receive
        for _, data in self.early:
            receive(data)
        self.early.clear()
        self._start_reading()

    def _reading(self) -> bool:
        return self.receive is not None or super()._reading()

    def _take_media(self, data: bytes) -> None:
        if self.receive:
            self.receive(data)
        else:
            super()._take_media(data)
