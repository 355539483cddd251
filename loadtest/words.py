"""Words that Python writes and a compiled loop of another thread reads."""

from __future__ import annotations

from mediacodecs.kernel import kernel
from packetio.memory import store_release


@kernel
def set_word(address: int, value: int) -> None:
    """Store a 64-bit value so that all written before it is seen with it."""
    store_release(address, value)
