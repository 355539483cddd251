"""What a search for the limit found, in words: the knee, what broke first, and each step."""

from __future__ import annotations

from loadtest.results.figures import FIGURES, shown, unit_shown
from loadtest.results.schema import Expectation, Search, SearchStep

STEP_FIGURES = ("packets.rate", "latency.p99", "loss.after", "target.cpu", "tool.cpu")


def knee(search: Search) -> str:
    """The result in a sentence."""
    if search.held is None:
        said = f"no size of {search.vary} that was tried kept the limits"
    else:
        said = f"{search.held} {search.vary} kept all limits"
    if search.broke is not None:
        said += f"; {search.broke} did not"
    if search.first:
        said += ": " + ", ".join(
            f"{item.figure} {item.limit} was {shown(item.value, unit_of(item))}" for item in search.first
        )
    return f"{said} ({search.why})" if search.why else said


def unit_of(item: Expectation) -> str:
    """The unit of the figure that a limit is on; a group's is named group/figure."""
    return FIGURES[item.figure.rpartition("/")[2]].unit


def step_cells(step: SearchStep) -> tuple[str, ...]:
    """Size, verdict and a few figures of one step."""
    return str(step.value), step.verdict, *(shown(step.figures.get(name), FIGURES[name].unit) for name in STEP_FIGURES)


def step_head(search: Search) -> tuple[str, ...]:
    """The head of a table of steps."""
    return search.vary, "verdict", *(f"{name} {unit_shown(FIGURES[name].unit)}".strip() for name in STEP_FIGURES)
