"""The load test's report in Chromium: every plot is drawn and visible, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from loadtest.results.html import write_report
from loadtest.results.schema import Results
from tests.unit.loadtest.results.sample import sample

PLOTS = {
    "latency": 2, "latency-distribution": 1, "loss": 2, "cpu": 2, "joined": 1, "joins-rate": 1, "join-split": 10,
    "join-distribution": 1, "packets-rate": 1, "bitrate": 1, "nack-rate": 1,
}  # fmt: skip  # and how many paths each has
WIDE, PHONE = (1280, 800), (360, 740)

# Of each plot on show: its box, its paths' lengths and boxes, and its words' boxes, in px of the page.
MEASURE = """() => Object.fromEntries([...document.querySelectorAll('figure')].map(figure => {
  const svg = [...figure.querySelectorAll('svg')].filter(e => getComputedStyle(e).display !== 'none');
  const box = e => { const {x, y, width, height} = e.getBoundingClientRect(); return {x, y, width, height}; };
  const paint = e => { const s = getComputedStyle(e); return s.stroke !== 'none' || s.fill !== 'none'; };
  return [figure.id, {
    shown: svg.length, box: box(svg[0]),
    paths: [...svg[0].querySelectorAll('path')].map(e => ({...box(e), length: e.getTotalLength(), paint: paint(e)})),
    words: [...svg[0].querySelectorAll('text')].map(e => ({...box(e), text: e.textContent})),
    pixels: Math.min(...[...svg[0].querySelectorAll('text')].map(e => e.getBoundingClientRect().height)),
  }];
}))"""


class Visit:
    """A page with what it asked for and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.requests.append(request.url))

    async def open(self, file: Path) -> dict[str, Any]:
        """Open a report and measure its plots."""
        await self.page.goto(file.as_uri())
        found: dict[str, Any] = await self.page.evaluate(MEASURE)
        return found

    def assert_quiet(self, file: Path) -> None:
        """Nothing was said, and nothing but the file itself (and its empty icon) was loaded."""
        assert not self.complaints
        assert [url for url in self.requests if url != "data:,"] == [file.as_uri()]


@pytest_asyncio.fixture(params=[(WIDE, "light"), (PHONE, "dark")], ids=["desk", "phone"], loop_scope="session")
async def visit(browser: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    (width, height), scheme = request.param
    context = await browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    yield Visit(await context.new_page())
    await context.close()


def written(tmp_path: Path, results: Results) -> Path:
    write_report(results, tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.mark.asyncio(loop_scope="session")
async def test_every_plot_is_drawn_within_its_box(visit: Visit, tmp_path: Path) -> None:
    file = written(tmp_path, sample())
    plots = await visit.open(file)
    assert list(plots) == [f"plot-{name}" for name in PLOTS]
    for name, paths in PLOTS.items():
        plot = plots[f"plot-{name}"]
        assert plot["shown"] == 1 and plot["box"]["width"] > 200 and plot["box"]["height"] > 80, name
        assert len(plot["paths"]) == paths, name
        for path in plot["paths"]:
            assert path["length"] > 1 and path["paint"] and inside(path, plot["box"]), (name, path)
    visit.assert_quiet(file)


@pytest.mark.asyncio(loop_scope="session")
async def test_words_are_readable_and_apart(visit: Visit, tmp_path: Path) -> None:
    plots = await visit.open(written(tmp_path, sample()))
    for name, plot in plots.items():
        assert len(plot["words"]) > 5 and plot["pixels"] >= 11, name
        for index, word in enumerate(plot["words"]):
            assert inside(word, plot["box"]), (name, word)
            assert not [other for other in plot["words"][index + 1 :] if overlap(word, other)], (name, word)
    assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_script_in_a_name_is_only_shown(visit: Visit, tmp_path: Path) -> None:
    name = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    results = sample(name=name)
    results.notes = [name]
    results.faults[0].what = name
    file = written(tmp_path, results)
    await visit.open(file)
    assert await visit.page.inner_text("h1") == name
    assert await visit.page.locator("script, main img").count() == 0
    visit.assert_quiet(file)


def inside(inner: dict[str, float], outer: dict[str, float], slack: float = 2) -> bool:
    """Whether one box lies within the other."""
    return all(
        outer[at] - slack <= inner[at] and inner[at] + inner[size] <= outer[at] + outer[size] + slack
        for at, size in (("x", "width"), ("y", "height"))
    )


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two words touch; a line's box is higher than its letters, so 3 px are let go."""
    return all(
        one[at] < other[at] + other[size] - 3 and other[at] < one[at] + one[size] - 3
        for at, size in (("x", "width"), ("y", "height"))
    )
