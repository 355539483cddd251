"""Which packets of a received stream are missing, and when to ask for them (again): for all who send NACKs.

The list is bounded and ascending, in the fields of MISSING of the caller's record of the stream. A packet is first
asked for after a grace for reordering, then about every round trip, with growing pauses, until it is given up.
"""

from __future__ import annotations

from typing import Any

from mediacodecs.frame import int64
from mediacodecs.kernel import kernel

MAX_MISSING = 128  # packets of a stream that are being asked for
EVEN_TRIES = 3  # after so many requests the pauses grow
MAX_TRIES = 10

MISSING = [
    ("missing", "i8", (MAX_MISSING,)),  # sequence numbers widened to 64 bits, ascending
    ("missing_next", "i8", (MAX_MISSING,)),  # ns: when to ask (again)
    ("missing_tries", "u1", (MAX_MISSING,)),
    ("missing_count", "i8"),
]  # fields of the record that the kernels below take


@kernel
def open_gap(state: Any, first: int, end: int, due: int) -> None:
    """Add the positions first … end - 1, at most MAX_MISSING of them, above all in the list; the oldest make room."""
    excess = state.missing_count + end - first - MAX_MISSING
    if excess > 0:
        remove(state, 0, excess)
    for position in range(first, end):
        k = state.missing_count
        state.missing[k] = position
        state.missing_next[k] = due
        state.missing_tries[k] = 0
        state.missing_count = k + 1


@kernel
def remove(state: Any, at: int, count: int) -> None:
    """Take `count` positions from the list, beginning with number `at`."""
    for k in range(at, state.missing_count - count):
        state.missing[k] = state.missing[k + count]
        state.missing_next[k] = state.missing_next[k + count]
        state.missing_tries[k] = state.missing_tries[k + count]
    state.missing_count -= count


@kernel
def forget(state: Any, position: int) -> None:
    """A missing packet came."""
    for k in range(state.missing_count):
        if state.missing[k] == position:
            remove(state, k, 1)
            return


@kernel
def take_due(state: Any, now: int, pause: int, lost: Any) -> tuple[int, int]:
    """Write the positions to ask for now to `lost`, and note when to ask again; those asked in vain leave the list.

    Returns how many are asked for and how many are given up.
    """
    asked = kept = 0
    count = int64(state.missing_count)
    for k in range(count):
        position, due, tries = state.missing[k], state.missing_next[k], int64(state.missing_tries[k])
        if due <= now:
            if tries >= MAX_TRIES:
                continue
            lost[asked] = position
            asked += 1
            tries += 1
            due = now + pause * max(int64(1), tries - EVEN_TRIES + 1)
        state.missing[kept] = position
        state.missing_next[kept] = due
        state.missing_tries[kept] = tries
        kept += 1
    state.missing_count = kept
    return asked, count - kept
