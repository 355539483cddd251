"""How well a publisher's streams arrive: jitter, loss and receiver reports (RFC 3550 sections 6.4 and A.8), and its
sender reports, which tie its RTP time stamps to its clock.

Counts are those of the epoch, and a packet that came by RTX counts as lost (RFC 4588 section 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.bits import put32
from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediacodecs.reception import fill_block
from mediacodecs.rtcp import BLOCK_BYTES, RR
from mediacodecs.rtcp_write import write_head, write_report_block
from mediaserver.engine.access import layer_of, transport_of
from mediaserver.engine.layout import SECOND
from mediaserver.engine.rtcp_out import ROOM, send_rtcp, write_own_name
from packetio.log import log_at, set_sender_report
from packetio.memory import bytes_at

REPORT_INTERVAL = 1 * SECOND  # ns between two reports
SILENT = 8 * SECOND  # ns without media after which a layer is not reported on
MAX_BLOCKS = 31
MASK32 = 0xFFFFFFFF


@kernel
def receiver_reports(w: Any, transport_index: int) -> None:
    """Report on all layers of a transport that media comes from, in one compound; sets when to do so again."""
    t = transport_of(w, transport_index)
    t.next_report = w.now + REPORT_INTERVAL
    b = bytes_at(w.scratch, ROOM)
    n = 0
    index = int64(t.first_layer)
    while index and n < MAX_BLOCKS:
        layer = layer_of(w, index)
        if layer.started and layer.ssrc >= 0 and w.now - log_at(layer.log).last_arrival < SILENT:
            fill_block(layer, w.now, w.report)
            write_report_block(b, 8 + BLOCK_BYTES * n, w.report)
            n += 1
        index = int64(layer.next)
    if n == 0:
        return
    put32(b, 4, t.rtcp_ssrc)
    at = write_head(b, 0, RR, n, 8 + BLOCK_BYTES * n)
    if not t.reduced_size:
        at = write_own_name(w, t, at)
    send_rtcp(w, t, at)


@kernel
def layer_of_ssrc(w: Any, t: Any, ssrc: int) -> int:
    """The layer of a transport that an SSRC is bound to; 0: none."""
    index = int64(t.first_layer)
    while index:
        layer = layer_of(w, index)
        if layer.ssrc == ssrc:
            return index
        index = int64(layer.next)
    return 0


@kernel
def sender_report_in(w: Any, t: Any, ssrc: int, info: Any) -> None:
    """Keep a publisher's sender report: for its own receiver reports, and in the log for all readers."""
    index = layer_of_ssrc(w, t, ssrc)
    if index == 0:
        return
    layer = layer_of(w, index)
    seconds = int64(info.ntp >> np.uint64(32))
    fraction = int64(info.ntp & np.uint64(MASK32))
    layer.sr_middle = (seconds & 0xFFFF) << 16 | fraction >> 16
    layer.sr_arrival = w.now
    set_sender_report(layer.log, seconds * SECOND + (fraction * SECOND >> 32), int64(info.rtp), w.now)
