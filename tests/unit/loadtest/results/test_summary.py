"""The summary at the end of a run, and the live table while it runs, on terminals and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from loadtest.results.console import WIDTH, clean, output
from loadtest.results.figures import GROUPS
from loadtest.results.live import DRAW_EVERY, LINE_EVERY, Live
from loadtest.results.schema import Fault, Verdict
from loadtest.results.summary import MOST_FAULTS, load, print_summary, verdict_line
from tests.unit.loadtest.results.sample import sample

SNAPSHOT = {
    "joined": 300.0,
    "latency.p50": 2.125,
    "latency.p99": None,
    "loss.after": 0.001,
    "cpu.tool": 33.0,
    "new": 1.0,
}


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def piped() -> Console:
    return output(io.StringIO())


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=40, legacy_windows=False)


def test_the_summary_tells_everything_in_order() -> None:
    console = piped()
    print_summary(sample(), console)
    text = "\n".join(line.rstrip() for line in printed(console).splitlines())
    wanted = ["webinar (seed 1)", "http://127.0.0.1:7880", "500 of 501 joins"]
    wanted += [f"\n{heading}\n" for heading in GROUPS] + ["Expectations", "BROKEN"]
    wanted += [
        "unknown",
        "Faults",
        "ICE timed out after 10 s",
        "Note: The tool used 41 %",
        "FAILED: loss.after <= 0.001",
    ]
    places = [text.find(word) for word in wanted]
    assert -1 not in places and text.find("phones") > 0
    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= WIDTH and "\x1b" not in text


def test_what_is_unknown_is_left_out_of_the_tables() -> None:
    results = sample()
    results.figures = {"joins.done": 3.0, "target.cpu": None}
    console = piped()
    print_summary(results, console)
    assert "target.cpu" not in printed(console) and "joins.done" in printed(console)


def test_foreign_text_is_neither_markup_nor_an_escape_sequence() -> None:
    results = sample(name="[red]we\x1b[31mb")
    results.faults = [Fault(client="[/]", group="g", room="r", what="[bold]no\nanswer\x07")]
    results.notes = ["[/nothing]"]
    console = piped()
    print_summary(results, console)
    text = printed(console)
    assert "[red]we\ufffd[31mb" in text and "[bold]no answer\ufffd" in text and "[/nothing]" in text
    assert "\x1b" not in text and "\x07" not in text
    assert clean("a\r\n b\x9b") == "a b\ufffd"


def test_many_faults_are_cut() -> None:
    results = sample()
    results.faults = [Fault(client=f"c{i}", group="g", room="r", what="gone") for i in range(MOST_FAULTS + 3)]
    console = piped()
    print_summary(results, console)
    assert "… and 3 more in the results file." in printed(console)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("passed", "PASSED: 3 expectations held"),
        ("failed", "FAILED: loss.after <= 0.001 broken"),
        ("no verdict", "NO VERDICT: 1 expectations without a value"),
        ("interrupted", "INTERRUPTED: after 90 s"),
    ],
)
def test_the_verdict_says_why(verdict: Verdict, words: str) -> None:
    results = sample()
    results.verdict = verdict
    assert verdict_line(results).plain == words


def test_a_failure_without_expectations_points_to_the_notes() -> None:
    results = sample()
    results.expect = []
    assert verdict_line(results).plain == "FAILED: see the notes"


def test_without_a_terminal_there_is_a_line_every_five_seconds_and_one_for_each_phase() -> None:
    console, clock = piped(), Clock()
    with Live(console, clock=clock) as live:
        for tick in range(120):
            clock.now = 100 + tick * 0.1
            live.update(SNAPSHOT, "joining" if tick < 60 else "running", tick * 0.1, 90)
    lines = printed(console).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "0 of 90 s joining", "5 of 90 s joining", "6 of 90 s running", "11 of 90 s running",
    ]  # fmt: skip
    assert LINE_EVERY == 5
    assert "sessions 300" in lines[0] and "latency, median 2.12 ms" in lines[0] and "0.1 %" in lines[0]
    assert "99th" not in lines[0] and "new 1" in lines[0] and "\x1b" not in lines[0]


def test_nothing_is_printed_when_quiet() -> None:
    for console in (piped(), terminal()):
        with Live(console, quiet=True) as live:
            live.update(SNAPSHOT, "joining", 0, 90)
        assert printed(console) == ""


def test_a_terminal_shows_a_table_that_is_redrawn_and_given_back() -> None:
    console, clock = terminal(), Clock()
    with Live(console, clock=clock) as live:
        live.update(SNAPSHOT, "joining", 3, 90)
        first = printed(console)
        live.update(SNAPSHOT, "joining", 3.1, 90)
        assert printed(console) == first
        clock.now += DRAW_EVERY
        live.update(SNAPSHOT | {"joined": 777.0}, "joining", 4, None)
        assert "777" in printed(console)[len(first) :]
    assert "sessions" in first and "3 of 90 s" in first and "–" in first
    assert printed(console).endswith("\x1b[2K") or "\x1b[?25h" in printed(console)[-80:]


def test_a_fault_in_the_run_gives_the_terminal_back() -> None:
    console = terminal()
    with pytest.raises(KeyboardInterrupt), Live(console) as live:
        live.update({}, "joining", 0, None)
        raise KeyboardInterrupt
    assert "\x1b[?25h" in printed(console)


def test_where_nobody_tried_to_join_there_is_no_line_of_the_load() -> None:
    results, console = sample(), piped()
    results.figures = {}
    print_summary(results, console)
    head = printed(console).partition("Machine")[0]
    assert load(results) == "" and "Load" not in head and "joins" not in head and "Started" in head


def test_why_a_run_was_broken_off_is_the_first_note_and_its_verdict_s_reason() -> None:
    results = sample()
    results.broken_off, results.expect = "the target is [gone]", []
    console = piped()
    print_summary(results, console)
    told = "the run was broken off: the target is [gone]"
    assert printed(console).index(f"Note: {told}") < printed(console).index("Note: The tool used")
    assert verdict_line(results).plain == f"FAILED: {told}"
