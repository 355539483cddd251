"""What a worker does every 10 ms: feedback to publishers, sender reports to subscribers.

Only layers in use are looked at, and an eighth of the subscriptions, so that a report waits at most 80 ms and hundreds
of reports don't leave at once.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel
from mediaserver.engine.access import layer_of, subscription_of, transport_of
from mediaserver.engine.keyframes import keyframe_tick
from mediaserver.engine.layout import LIVE, OPEN, PACED
from mediaserver.engine.nacks import nack_tick
from mediaserver.engine.questions import repeat_questions
from mediaserver.engine.reception import receiver_reports
from mediaserver.engine.rewrite import end_squeeze
from mediaserver.engine.sender_reports import sender_report
from mediaserver.engine.twcc_out import twcc_tick

GROUPS = 8  # of subscriptions; one is looked at in a tick


@kernel
def tick(w: Any) -> None:
    """All that is due; w.tick was raised before."""
    if w.questions_listed:
        repeat_questions(w)
    for index in range(1, w.layer_used):
        layer = layer_of(w, index)
        if layer.state == OPEN:
            publisher_tick(w, index, layer)
    first = w.tick % GROUPS
    for index in range(first if first else GROUPS, w.subscription_used, GROUPS):
        sub = subscription_of(w, index)
        if sub.state == OPEN and (sub.mode == LIVE or sub.mode == PACED):
            end_squeeze(sub)
            if w.now >= sub.next_report:
                sender_report(w, index)


@kernel
def publisher_tick(w: Any, index: int, layer: Any) -> None:
    """A layer's own feedback, and with the first layer of a transport what concerns all of its layers."""
    t = transport_of(w, layer.transport)
    if t.state != OPEN or t.secured == 0:
        return
    keyframe_tick(w, index)
    nack_tick(w, index)
    if t.first_layer == index:
        if t.twcc and w.now >= t.next_twcc:
            twcc_tick(w, int64(layer.transport))
        if w.now >= t.next_report:
            receiver_reports(w, int64(layer.transport))
