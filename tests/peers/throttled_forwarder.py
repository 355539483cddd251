"""A forwarder with a limit that is known: of each packet it sends so many copies and no more, whatever the machine can.

It is the benchmark's yardstick with a short send queue. Those who get no copy change with every packet, so that one
viewer too many is loss for all and not silence for one. Run it as `python throttled_forwarder.py COPIES`; it prints
`listening` and its address when it does.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aiohttp import web
from pylibsrtp import Session

from loadtest.bench.yardstick import Address, Forwarder, Member, application
from packetio.dtls import State

HOST = "127.0.0.1"


class Throttled(Forwarder):
    """`copies` of each packet at most."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self._copies = self._left = copies

    def _forward(self, inbound: Session, data: bytes) -> None:
        self._left = self._copies
        first = next(iter(self.by_ufrag))
        self.by_ufrag[first] = self.by_ufrag.pop(first)  # another one is the last now
        super()._forward(inbound, data)

    def _send(self, data: bytes, addr: Address) -> None:
        if 128 <= data[0] <= 191:
            if self._left == 0:
                return
            self._left -= 1
        super()._send(data, addr)

    def _handshake(self, member: Member, data: bytes) -> None:
        super()._handshake(member, data)
        if member.endpoint.state in (State.CLOSED, State.FAILED):
            self.by_ufrag = {name: one for name, one in self.by_ufrag.items() if one is not member}
            self.by_address = {address: one for address, one in self.by_address.items() if one is not member}


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    transport, forwarder = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Throttled(int(sys.argv[1])), (HOST, 0)
    )
    runner = web.AppRunner(application(forwarder, transport.get_extra_info("sockname")[1]), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    print(f"listening http://{HOST}:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()
    transport.close()


if __name__ == "__main__":
    asyncio.run(main())
