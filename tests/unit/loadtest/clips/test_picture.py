"""The test picture: its number is read back, also from a damaged picture, and never made up."""

from __future__ import annotations

import numpy as np
import pytest

from loadtest.clips.picture import KINDS, PAGE_FRAMES, draw, read_number, time_code

SIZES = [(64, 32), (80, 44), (160, 90), (322, 182), (640, 360), (1280, 720)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_is_read_back(size: tuple[int, int], kind: str) -> None:
    width, height = size
    for number in (0, 1, 99, 0x5555, (1 << 24) - 1):
        picture = draw(width, height, number, kind)
        assert picture.shape == (height * 3 // 2, width) and picture.dtype == np.uint8
        assert read_number(picture[:height]) == number


@pytest.mark.parametrize("kind", KINDS)
def test_equal_arguments_give_equal_pictures_and_each_number_another(kind: str) -> None:
    first, again, other = draw(320, 180, 3, kind), draw(320, 180, 3, kind), draw(320, 180, 4, kind)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_camera_moves_everywhere_and_a_screen_stands_until_the_next_page() -> None:
    def changed(kind: str, number: int) -> float:
        before, after = draw(640, 360, number - 1, kind), draw(640, 360, number, kind)
        return float((before[:300] != after[:300]).mean())

    assert changed("camera", 5) > 0.5
    assert changed("screen", 5) < 0.01 < 0.1 < changed("screen", PAGE_FRAMES)


def test_the_number_survives_noise_and_less_contrast() -> None:
    luma = draw(320, 180, 1234)[:180].astype(float)
    noise = np.random.default_rng(1).normal(0, 30, luma.shape)
    assert read_number(np.clip(luma * 0.8 + 25 + noise, 0, 255).astype(np.uint8)) == 1234


def test_no_number_is_made_up() -> None:
    seeded = np.random.default_rng(2)
    for luma in (0, 128, 255):
        assert read_number(np.full((180, 320), luma, np.uint8)) is None
    assert read_number(seeded.integers(0, 256, (180, 320), dtype=np.uint8)) is None
    assert read_number(np.zeros((4, 4), np.uint8)) is None
    damaged = draw(320, 180, 77)[:180].copy()
    damaged[-15:, :20] = 235 - damaged[-15:, :20] + 16  # one bit
    assert read_number(damaged) is None


def test_the_time_code_counts_seconds_and_frames() -> None:
    assert [time_code(n, 25) for n in (0, 24, 25, 1537)] == [
        "00:00:00 #0",
        "00:00:24 #24",
        "00:01:00 #25",
        "01:01:12 #1537",
    ]


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="even sides .* not 321x180"):
        draw(321, 180, 0)
    with pytest.raises(ValueError, match="not 62x32"):
        draw(62, 32, 0)
    with pytest.raises(ValueError, match="24 bits"):
        draw(320, 180, 1 << 24)
    with pytest.raises(ValueError, match="unknown kind of picture 'film'"):
        draw(320, 180, 0, "film")
