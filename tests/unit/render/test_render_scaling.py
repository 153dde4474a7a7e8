"""A sweep as text and as a picture, at its edges."""

from __future__ import annotations

import pytest

from diagnose.render.scaling_plot import plot_scaling
from diagnose.render.scaling_text import format_count, to_text
from diagnose.schema import Tool
from diagnose.tables.sweep import Point, Sweep


def sweep(count: int, **other: object) -> Sweep:
    rows = [
        Point(size=2**index, latency_ns=1e6 * 2**index, low_ns=1e6, high_ns=3e6 * 2**index, runs=5,
              back_to_back_ns=1e6, throughput_per_s=1e9, regime="weight bandwidth or overhead")
        for index in range(count)
    ]  # fmt: skip
    values = {"device": "a\x1b[31m device", "verdict": "a $verdict$", "flat_ns": None, "knee": None, "knee_low": None,
              "knee_high": None, "rise": None, "points": rows}  # fmt: skip
    return Sweep(tool=Tool("torch-diagnose", "0"), **{**values, **other})


@pytest.mark.parametrize("count", [1, 12, 200])
def test_the_text_fits_a_screen(count: int):
    lines = to_text(sweep(count, notes=["a note"] * 9)).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in "".join(lines)
    assert lines[0] == "Verdict: a $verdict$"


@pytest.mark.parametrize("count", [1, 12, 100])
@pytest.mark.parametrize("known", [{}, {"flat_ns": 1e6}, {"flat_ns": 1e6, "knee": 8.0, "rise": 1.0}])
def test_whatever_is_known_can_be_drawn(count: int, known: dict[str, float]):
    axes = plot_scaling(sweep(count, **known))
    axes.figure.canvas.draw()
    assert len([text for text in axes.texts if "knee" in text.get_text()]) == ("knee" in known)


def test_the_line_is_drawn_from_the_knee_with_its_slope():
    axes = plot_scaling(sweep(8, flat_ns=1e6, knee=4.0, rise=2.0))
    rising = next(line for line in axes.get_lines() if "size" in str(line.get_label()))
    assert list(rising.get_xdata()) == [4.0, 128]
    assert list(rising.get_ydata()) == [1e6, 1e6 * 32**2]


@pytest.mark.parametrize(("value", "words"), [(3.14159, "3.14"), (12_345, "12.3 k"), (7e6, "7 M"), (2e9, "2 G")])
def test_counts_are_short(value: float, words: str):
    assert format_count(value) == words
