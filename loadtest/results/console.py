"""Where text goes: the terminal as it is, or lines of a fixed width for files and pipes; and text made safe to print.

Names and messages come from scenario files and from servers under test, so they are printed as text: no markup of
ours, no control characters that a terminal would obey.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.text import Text

WIDTH = 110  # columns without a terminal: the widest table fits


def output(file: IO[str] | None = None) -> Console:
    """A console for standard output or a file."""
    console = Console(file=file, highlight=False)
    return console if console.is_terminal else Console(file=file, width=WIDTH, highlight=False)


def clean(text: str) -> str:
    """On one line, with control characters (escape sequences too) replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def styled(text: str, style: str = "") -> Text:
    """Foreign text for the console."""
    return Text(clean(text), style=style)
