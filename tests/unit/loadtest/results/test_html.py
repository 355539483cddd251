"""The report is one page that loads nothing, and what it shows is text, whatever a scenario is called."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

from loadtest.results.figures import FIGURES
from loadtest.results.html import MOST_FAULTS, POLICY, render_report, write_report
from loadtest.results.schema import Fault, Results, Scenario, Target
from tests.unit.loadtest.results.sample import YAML, sample

EVIL = """"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"""
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Collects elements, and fails when one is closed that isn't open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


STEPS = {"http": 11.0, "ice": 3.0, "dtls": 20.0, "packet": 50.0, "frame": 51.0}  # the first three by themselves


def empty() -> Results:
    """Results of a run that ended before anything was measured."""
    return Results(
        scenario=Scenario(name="meeting", text="", seed=1),
        target=Target(url="http://127.0.0.1:1", driver="whip-whep"),
        machine={},
        command="",
        started="2025-03-04T10:00:00+00:00",
        duration=0.0,
        verdict="interrupted",
    )


def test_the_report_holds_all_plots_and_all_known_figures(tmp_path: Path) -> None:
    write_report(sample(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    figures = [attributes["id"] for tag, attributes in page.tags if tag == "figure"]
    assert figures == [
        "plot-latency", "plot-latency-distribution", "plot-loss", "plot-cpu", "plot-joined", "plot-joins-rate",
        "plot-join-split", "plot-join-distribution", "plot-packets-rate", "plot-bitrate", "plot-nack-rate",
    ]  # fmt: skip
    assert "Not measured" not in text
    known = [name for name in FIGURES if sample().figures[name] is not None]
    assert all(f"<code>{name}</code>" in text for name in known)
    assert YAML in unescape(text)


def test_the_report_loads_nothing_and_runs_nothing() -> None:
    page = Page(render_report(sample()))
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "img", "form", "base")]
    addresses = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "action", "xlink:href")]
    assert addresses == ["data:,"]
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    policies = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY] and "url(" not in render_report(sample())


def test_whatever_is_foreign_is_text() -> None:
    results = sample(name=EVIL)
    results.scenario.text = results.command = results.target.url = results.target.driver = results.started = EVIL
    results.notes, results.machine = [EVIL], {EVIL: EVIL}
    results.groups = {EVIL: {"latency.p50": 1.0}, "others": {}}
    results.faults = [Fault(client=EVIL, group=EVIL, room=EVIL, what=EVIL)]
    results.expect[1].figure = results.expect[1].limit = EVIL
    text = render_report(results)
    page = Page(text)
    assert "<script" not in text and not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert text.count("&lt;script&gt;") >= 12


def test_a_run_without_anything_measured_has_a_report() -> None:
    text = render_report(empty())
    Page(text)
    assert text.count("Not measured.") == 11 and "INTERRUPTED" in text


def test_a_flood_of_faults_is_cut_and_says_so() -> None:
    results = sample()
    results.faults = [Fault(client=f"c{i}", group="g", room="r", what="gone", count=i) for i in range(MOST_FAULTS + 7)]
    text = render_report(results)
    assert "… and 7 more in the results file." in text
    assert "<th scope=row>c506</th>" in text and "<th scope=row>c6</th>" not in text


def test_each_expectation_says_how_it_went() -> None:
    words = re.findall(r'<span class="(held|broken|unknown)">', render_report(sample()))
    assert words == ["held", "broken", "unknown"]


def test_half_a_character_does_not_stop_the_report(tmp_path: Path) -> None:
    results = sample()
    results.notes = ["\ud800"]
    write_report(results, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_steps_of_a_join_follow_each_other_in_their_plot() -> None:
    results = sample()
    results.figures |= {f"join.{step}.p50": value for step, value in STEPS.items()}

    page = render_report(results)

    assert (
        "HTTP after 11 ms, ICE after 14 ms, DTLS after 34 ms, first packet after 50 ms, first frame after 51 ms" in page
    )


def test_why_a_run_was_broken_off_is_a_note() -> None:
    results = sample()
    results.broken_off = "<gone>"
    assert "<li>the run was broken off: &lt;gone&gt;</li>" in render_report(results)
