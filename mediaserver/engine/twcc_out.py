"""Transport-wide feedback to publishers: without it a browser does not ramp up its bit rate.

What arrived is noted by `receive` with the kernel's time stamps; here it is reported about every 50 ms.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.kernel import kernel
from mediacodecs.twcc import TWCC_STATE, twcc_write
from mediaserver.engine.access import transport_of
from mediaserver.engine.layout import MS, twcc_at
from mediaserver.engine.rtcp_out import ROOM, begin_compound, send_rtcp
from packetio.memory import bytes_at

TWCC_SIZE = TWCC_STATE.itemsize
INTERVAL, IDLE_INTERVAL = 50 * MS, 100 * MS  # ns: libwebrtc's own bounds are 50 to 250 ms
LIMIT = 1100  # bytes of one compound
MAX_REPORTS = 16  # in a row; what is left comes with the next


@kernel
def twcc_tick(w: Any, transport_index: int) -> None:
    """Report all arrivals that are not reported yet; sets when to do so again."""
    t = transport_of(w, transport_index)
    t.next_twcc = w.now + IDLE_INTERVAL
    if t.twcc == 0 or t.ssrc_count == 0:
        return
    state = twcc_at(w.twccs + t.twcc * TWCC_SIZE)
    for _ in range(MAX_REPORTS):
        at = begin_compound(w, t, 0)
        end = twcc_write(state, bytes_at(w.scratch, ROOM), at, LIMIT, t.rtcp_ssrc, t.ssrcs[0])
        if end == at or not send_rtcp(w, t, end):
            return
        w.twcc_out += 1
        t.next_twcc = w.now + INTERVAL
