"""What one join took, step by step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """The steps of one join, ms; None: it did not come so far. packet and frame are from the beginning."""

    http: float
    ice: float
    dtls: float
    packet: float | None
    frame: float | None
