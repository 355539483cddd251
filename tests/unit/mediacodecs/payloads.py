"""Calls the payload kernels on bytes, for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from mediacodecs.dependency_descriptor import DD_STATE, parse_dependency_descriptor
from mediacodecs.frame import FRAME, clear_frame
from mediacodecs.payload import parse_payload

BEFORE = 12  # bytes in front of the payload, as an RTP header would be


def blank_frame() -> Any:
    """A cleared FRAME."""
    frame = np.recarray(1, FRAME)[0]
    clear_frame(frame)
    return frame


def array(data: bytes) -> Any:
    """The payload behind BEFORE other bytes."""
    return np.frombuffer(b"\xff" * BEFORE + data, np.uint8).copy()


def parse(codec: int, data: bytes | str) -> Any:
    """The FRAME of a payload (hex or bytes) that has to be readable."""
    frame, error = parse_any(codec, bytes.fromhex(data) if isinstance(data, str) else data)
    assert error == 0
    return frame


def parse_any(codec: int, data: bytes) -> tuple[Any, int]:
    """The FRAME of a payload, and what the parser returned."""
    frame = blank_frame()
    return frame, parse_payload(codec, array(data), BEFORE, BEFORE + len(data), frame)


class Descriptors:
    """A stream of dependency descriptors with its state."""

    def __init__(self) -> None:
        self.state = np.zeros(1, DD_STATE).view(np.recarray)[0]

    def parse(self, data: bytes) -> tuple[Any, int]:
        """The FRAME of the next descriptor, and what the parser returned."""
        frame = blank_frame()
        return frame, parse_dependency_descriptor(array(data), BEFORE, len(data), self.state, frame)
