"""Transport-wide feedback in plain Python (draft-holmer-rmcat-transport-wide-cc-extensions-01): reporter and reader."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

TICK = 250_000
WINDOW = 1024


@dataclass
class Reporter:
    """What has arrived, by unwrapped number, and what has been reported."""

    arrivals: dict[int, int] = field(default_factory=dict)
    base: int = 0
    highest: int | None = None
    reports: int = 0

    def receive(self, sequence: int, arrival: int) -> None:
        if self.highest is None:
            self.base = 65536 + sequence
            self.highest = self.base - 1
        step = (sequence - self.highest) % 65536
        number = self.highest + (step if step < 32768 else step - 65536)
        if number <= self.highest - WINDOW or number in self.arrivals:
            return
        self.highest = max(self.highest, number)
        self.arrivals[number] = max(arrival, 1)
        self.arrivals = {number: at for number, at in self.arrivals.items() if number > self.highest - WINDOW}
        self.base = min(max(self.base, self.highest - WINDOW + 1), number)

    def statuses(self) -> tuple[int, list[bytes | None]]:
        """Reference time in ticks, and for each number that one report can cover its delta, None: not received."""
        found: list[bytes | None] = []
        reference, last = -1, 0
        for number in range(self.base, self.base if self.highest is None else self.highest + 1):
            arrival = self.arrivals.get(number)
            if arrival is None:
                found.append(None)
                continue
            ticks = round_half_up(arrival)
            if reference < 0:
                reference = last = ticks - ticks % 256
            delta, last = ticks - last, ticks
            if not -32768 <= delta <= 32767:
                break
            found.append(bytes([delta]) if 0 <= delta <= 255 else struct.pack("!h", delta))
        return max(reference, 0), found

    def report(self, limit: int, sender: int, media: int) -> bytes:
        """One report of at most `limit` bytes; empty: nothing to say, or too little room."""
        reference, deltas = self.statuses()
        symbols = [len(delta or b"") for delta in deltas]
        chunks: list[bytes] = []
        done = used = 0
        while done < len(symbols):
            wanted, form = plan(symbols[done:])
            part = symbols[done : done + wanted]
            while part and 20 + 2 * len(chunks) + 2 + used + sum(part) > limit // 4 * 4:
                part.pop()
            if not part:
                break
            chunks.append(chunk(part, form))
            done, used = done + len(part), used + sum(part)
            if len(part) < wanted:
                break
        if not done:
            return b""
        body = struct.pack("!IIHH", sender, media, self.base % 65536, done)
        body += struct.pack("!I", reference // 256 % (1 << 24) << 8 | self.reports)
        body += b"".join(chunks) + b"".join(delta or b"" for delta in deltas[:done])
        body += bytes(-len(body) % 4)
        self.base += done
        self.reports = (self.reports + 1) % 256
        return struct.pack("!BBH", 0x8F, 205, len(body) // 4) + body


def round_half_up(arrival: int) -> int:
    return (2 * arrival + TICK) // (2 * TICK)


def plan(symbols: list[int]) -> tuple[int, str]:
    """How many symbols the next chunk should take, and in which form."""
    same = next((k for k, symbol in enumerate(symbols) if symbol != symbols[0]), len(symbols))
    form, most = ("two bits", 7) if 2 in symbols[:14] else ("one bit", 14)
    vector = min(most, len(symbols))
    return (same, "run") if same >= vector else (vector, form)


def chunk(part: list[int], form: str) -> bytes:
    """The 16 bits for these symbols."""
    if form == "run":
        bits = f"0{part[0]:02b}{len(part):013b}"
    elif form == "one bit":
        bits = "10" + "".join(map(str, part)).ljust(14, "0")
    else:
        bits = "11" + "".join(f"{symbol:02b}" for symbol in part).ljust(14, "0")
    return int(bits, 2).to_bytes(2, "big")


def read(data: bytes) -> list[tuple[int, int]] | None:
    """Number and arrival (ns, -1: never) of each packet that the RTCP body (after its header, unpadded) covers."""
    if len(data) < 16:
        return None
    base, count = struct.unpack("!HH", data[8:12])
    ticks = int.from_bytes(data[12:15], "big", signed=True) * 256
    symbols: list[int] = []
    at = 16
    while len(symbols) < count:
        bits = "".join(f"{byte:08b}" for byte in data[at : at + 2])
        at += 2
        if len(bits) < 16:
            return None
        if bits[0] == "0":
            symbols += [int(bits[1:3], 2)] * min(int(bits[3:], 2), count - len(symbols))
        elif bits[1] == "0":
            symbols += map(int, bits[2 : 2 + count - len(symbols)])
        else:
            symbols += [int(bits[k : k + 2], 2) for k in range(2, 16, 2)][: count - len(symbols)]
        if 3 in symbols:
            return None
    found = []
    for k, size in enumerate(symbols):
        part = data[at : at + size]
        at += size
        if len(part) < size:
            return None
        ticks += int.from_bytes(part, "big", signed=size == 2)
        found.append(((base + k) % 65536, ticks * TICK if size else -1))
    return found
