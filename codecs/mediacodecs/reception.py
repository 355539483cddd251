"""How well a stream arrives, as receiver reports tell it: jitter and loss (RFC 3550 sections 6.4, A.3 and A.8).

The caller's record of the stream holds the fields of RECEPTION. A packet that came by RTX counts as lost (RFC 4588
section 5).
"""

from __future__ import annotations

from typing import Any

from mediacodecs.kernel import kernel

SECOND = 1_000_000_000  # ns
SANE = 5  # s: a packet further from the last one says nothing about jitter
KNOWN = 1 << 32  # set in `transit` once there is one
MASK32 = 0xFFFFFFFF

RECEPTION = [
    ("highest", "i8"),  # sequence number, widened to 64 bits
    ("first_position", "i8"),  # the first one
    ("received", "i8"),  # packets
    ("expected_prior", "i8"),
    ("received_prior", "i8"),
    ("transit", "i8"),
    ("jitter", "i8"),  # time-stamp units × 16
    ("sr_middle", "i8"),  # middle 32 bits of the newest sender report's NTP time
    ("sr_arrival", "i8"),  # ns; 0: none came
]  # fields of the record that the kernels below take, besides its ssrc


@kernel
def count_reception(state: Any, timestamp: int, arrival: int, clock_rate: int) -> None:
    """Add one packet to the jitter, in time-stamp units × 16 (RFC 3550 A.8); arrival in ns."""
    units = arrival // SECOND * clock_rate + arrival % SECOND * clock_rate // SECOND
    transit = (units - timestamp) & MASK32
    if state.transit & KNOWN:
        step = abs((((transit - state.transit) & MASK32) ^ 0x80000000) - 0x80000000)
        if step < SANE * clock_rate:
            state.jitter += step - ((state.jitter + 8) >> 4)
    state.transit = transit | KNOWN


@kernel
def fill_block(state: Any, now: int, block: Any) -> None:
    """Fill a REPORT_BLOCK for a state and begin the next interval (RFC 3550 A.3)."""
    cycles = (state.highest >> 16) - (state.first_position >> 16)
    expected = state.highest - state.first_position + 1
    interval = expected - state.expected_prior
    lost = interval - (state.received - state.received_prior)
    state.expected_prior, state.received_prior = expected, state.received
    block.ssrc = state.ssrc
    block.fraction = min((lost << 8) // interval, 255) if interval > 0 and lost > 0 else 0
    block.lost = max(min(expected - state.received, 0x7FFFFF), -0x800000)
    block.highest = ((cycles << 16) | (state.highest & 0xFFFF)) & MASK32
    block.jitter = (state.jitter >> 4) & MASK32
    block.lsr = block.dlsr = 0
    if state.sr_arrival:
        block.lsr = state.sr_middle
        since = now - state.sr_arrival
        block.dlsr = min(since // SECOND * 65536 + (since % SECOND << 16) // SECOND, MASK32)
