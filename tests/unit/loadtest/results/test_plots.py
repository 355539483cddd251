"""Axes with round ticks, lines that break at gaps, and drawings that stay within their frame."""

from __future__ import annotations

import math
import random
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from loadtest.results.axes import clock_ticks, log_axis, nice_axis
from loadtest.results.plots import SIZES, Line, Mark, distribution, lines_over_time, path_of, stacked, thinned

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def drawings(svg: str) -> list[ET.Element]:
    """The drawings of a plot, parsed: what is not well-formed fails here."""
    return list(ET.fromstring(f"<page>{svg}</page>"))


def words(drawing: ET.Element) -> list[tuple[float, float, float, str]]:
    """Left, right, baseline and words of each text."""
    found = []
    for text in drawing.iter("text"):
        width, x = len(text.text or "") * 6.8, float(text.attrib["x"])
        left = {"start": x, "middle": x - width / 2, "end": x - width}[text.attrib["text-anchor"]]
        found.append((left, left + width, float(text.attrib["y"]), text.text or ""))
    return found


def assert_words_stay_apart(svg: str) -> None:
    for drawing in drawings(svg):
        _, _, right, bottom = map(float, drawing.attrib["viewBox"].split())
        placed = words(drawing)
        for left, end, y, text in placed:
            assert -1 <= left and end <= right + 1 and 0 < y <= bottom, text
        for index, (left, end, y, text) in enumerate(placed):
            for other_left, other_end, other_y, other in placed[index + 1 :]:
                apart = end <= other_left or other_end <= left or abs(y - other_y) >= 12
                assert apart, (text, other)


@pytest.mark.parametrize("high", [1e-6, 0.003, 0.99, 1, 7, 42, 99.9, 1234, 5.5e7])
def test_ticks_are_round_few_and_cover_the_values(high: float) -> None:
    axis = nice_axis(0, high, 5)
    steps = [b - a for (a, _), (b, _) in pairwise(axis.ticks)]
    leading = steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.0001))
    assert min(abs(leading - nice) for nice in (1, 2, 5)) < 1e-6
    assert 2 <= len(axis.ticks) <= 7 and axis.low <= 0 and axis.high >= high * 0.999
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)


def test_an_axis_of_nothing_but_zeros_is_one_long() -> None:
    axis = nice_axis(0, 0, 5)
    assert (axis.low, axis.high, axis.share(0)) == (0, 1, 0)


@pytest.mark.parametrize("tiny", [0.0, -5.0, 5e-324, 1e-300, 1e300])
def test_absurd_values_make_a_plot_all_the_same(tiny: float) -> None:
    svg = lines_over_time("A", "ms", [Line("a", [(0.0, tiny), (1.0, 1.0), (1.0, tiny)])], log=True)
    svg += distribution("A", "ms", [-1.0, abs(tiny), 2 * abs(tiny) + 1], [1, 2, 3], [Mark("p50", tiny)])
    svg += stacked("A", "ms", ["x", "y"], [("median", [tiny, 2.0])])
    assert len(drawings(svg)) == 6
    for path in re.findall(r' d="(.*?)"', svg):
        assert re.fullmatch(r"(?:[MLHVhv][\d. -]+Z?)+", path)


def test_whole_things_have_no_ticks_between_them() -> None:
    assert [value for value, _ in nice_axis(0, 2, 5, whole=True).ticks] == [0, 1, 2]


def test_times_are_at_whole_steps_of_a_clock() -> None:
    assert [text for _, text in clock_ticks(0, 90, 8).ticks] == ["0", "15", "30", "45", "60", "75", "90"]
    assert [text for _, text in clock_ticks(0, 600, 5).ticks] == ["0:00", "2:00", "4:00", "6:00", "8:00", "10:00"]
    assert [text for _, text in clock_ticks(0, 0.9, 5).ticks] == ["0", "0.2", "0.4", "0.6", "0.8"]
    assert len(clock_ticks(0, 1e7, 5).ticks) > 1


@pytest.mark.parametrize(("low", "high"), [(0.01, 0.02), (1, 5000), (0.001, 1e6), (3, 3)])
def test_logarithmic_ticks_are_few_and_within(low: float, high: float) -> None:
    axis = log_axis(low, high, 6)
    assert 1 <= len(axis.ticks) <= 8
    assert axis.low <= low and axis.high >= high
    assert all(axis.low * 0.999 <= value <= axis.high * 1.001 for value, _ in axis.ticks)
    assert 0 <= axis.share(0) <= axis.share(low) < axis.share(axis.high) == 1


def test_a_line_breaks_at_a_gap_and_a_lone_value_is_a_dot() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 4.0), (4.0, None), (5.0, 6.0), (6.0, 7.0)]
    assert path_of(points, float, float) == "M0.0 1.0L1.0 2.0M3.0 4.0h0M5.0 6.0L6.0 7.0"
    assert path_of([(0.0, None)], float, float) == ""


def test_a_long_series_keeps_its_peaks_and_its_gaps() -> None:
    points: list[tuple[float, float | None]] = [(float(x), 1.0) for x in range(10_000)]
    points[7_321] = (7321.0, 99.0)
    points[4_000] = (4000.0, None)
    kept = thinned(points, 300)
    assert len(kept) <= 310 and (7321.0, 99.0) in kept
    assert sum(y is None for _, y in kept) == 1
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert thinned(points[:100], 300) == points[:100]


@pytest.mark.parametrize("top", [0.0, 0.004, 3.0, 99_999.0, 2.5e6])
@pytest.mark.parametrize("seconds", [2, 60, 299, 301, 7200])
def test_words_of_a_plot_over_time_stay_apart(top: float, seconds: int) -> None:
    chance = random.Random(7)
    points = [(float(x), chance.uniform(0, top)) for x in range(0, seconds, max(1, seconds // 50))]
    assert_words_stay_apart(lines_over_time("Packets", "1/s", [Line("packets", points)]))


def test_lines_stay_within_their_drawing() -> None:
    svg = lines_over_time("A", "ms", [Line("a", [(0.0, 5.0), (1.0, 0.0), (2.0, 1e4)])], log=True)
    assert len(drawings(svg)) == len(SIZES)
    for drawing, size in zip(drawings(svg), SIZES, strict=True):
        (path,) = drawing.iter("path")
        numbers = [float(number) for number in NUMBER.findall(path.attrib["d"])]
        assert all(0 <= x <= size.width for x in numbers[::2]) and all(0 <= y <= size.height for y in numbers[1::2])
    assert "log scale" in svg


def test_nothing_measured_is_no_plot() -> None:
    assert lines_over_time("A", "ms", [Line("a", [(0.0, None)])]) == ""
    assert lines_over_time("A", "ms", []) == ""
    assert distribution("A", "ms", [], []) == "" and distribution("A", "ms", [1.0], [0]) == ""
    assert stacked("A", "ms", ["x"], [("median", [None])]) == ""


def test_one_sample_is_a_plot() -> None:
    (path, _) = (drawing.find("path") for drawing in drawings(lines_over_time("A", "s", [Line("a", [(3.0, 2.0)])])))
    assert path is not None and path.attrib["d"].endswith("h0")


def test_a_plot_tells_its_content_to_those_who_hear_it() -> None:
    svg = lines_over_time("Loss", "%", [Line("before <i>", [(0.0, 1.0), (1.0, 4.0), (2.0, None)])])
    assert drawings(svg)[0].attrib["aria-label"] == "Loss. before <i>: from 1 % to 4 %, at the end 4 %."
    assert all(drawing.attrib["role"] == "img" for drawing in drawings(svg))


@pytest.mark.parametrize("marks", [(2.0, 2.01, 2.02), (0.5, 1.0, 1e6), (1e-6, 2.0, 4.0)])
def test_names_of_near_quantiles_stay_apart(marks: tuple[float, ...]) -> None:
    named = [Mark(f"p{index}", x) for index, x in enumerate(marks)]
    svg = distribution("Latency", "ms", [0.5, 1.0, 2.0, 4.0], [0, 3, 10, 1], named, "packets")
    assert_words_stay_apart(svg)
    assert "% of packets" in svg and "14 values" in svg


def test_the_steps_of_a_distribution_are_as_high_as_their_share() -> None:
    svg = distribution("Latency", "ms", [1.0, 2.0, 4.0], [0, 1, 3])
    path = next(drawings(svg)[0].iter("path")).attrib["d"]
    heights = [float(y) for y in re.findall(r"V([\d.]+)", path)]
    floor = heights[-1]
    assert floor - heights[2] == pytest.approx(3 * (floor - heights[1]), abs=0.3)
    assert heights[0] == pytest.approx(floor)


def test_steps_of_a_join_follow_each_other_and_unknown_ones_have_no_length() -> None:
    svg = stacked(
        "Join", "ms", ["HTTP", "ICE", "DTLS"], [("median", [10.0, None, 30.0]), ("95th percentile", [20.0, 15.0, 60.0])]
    )
    for drawing in drawings(svg):
        ends = [[float(x) for x in re.findall(r"[MH]([\d.]+)", p.attrib["d"])][:2] for p in drawing.iter("path")]
        assert len(ends) == 4 and ends[0][1] == ends[1][0] and ends[2][1] == ends[3][0]
    assert_words_stay_apart(svg)
    assert "ICE after unknown" in svg
