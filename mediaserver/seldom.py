"""Log lines about what strangers do: the first of a kind is said at once, others are counted until the next may be.

Whoever can cause a line could else fill the disk with them, from one address or from a thousand.
"""

from __future__ import annotations

from collections import OrderedDict

EACH = 10.0  # seconds between two lines of one kind about one source
ALL = 1.0  # seconds between two lines of one kind in the long run, whatever the source
BURST = 5  # lines of one kind at once
REMEMBERED = 1000  # sources; the one unmentioned for longest makes room


class Seldom:
    """Decides whether one kind of line may be written now."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, float] = OrderedDict()
        self._left, self._at = float(BURST), 0.0
        self._unsaid = 0

    def due(self, source: str, now: float) -> int | None:
        """None: not now; else how many were left out since the last line of this kind."""
        self._left = min(self._left + (now - self._at) / ALL, float(BURST))
        self._at = now
        if self._left < 1.0 or now - self._said.get(source, -EACH) < EACH:
            self._unsaid += 1
            return None
        self._left -= 1.0
        self._said[source] = now
        self._said.move_to_end(source)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
