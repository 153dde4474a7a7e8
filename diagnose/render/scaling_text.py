"""A sweep over sizes as one screen of text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean
from diagnose.tables.sweep import Point, Sweep
from diagnose.units import format_ns, format_share

_MOST_ROWS: Final = 28
_HEADINGS: Final = ("size", "latency", "noise", "size/s", "slope", "trend", "overhead", "idle", "limited by")


def to_text(sweep: Sweep, width: int = 100) -> str:
    """The verdict, then a line a size; of very many sizes, evenly spread ones."""
    lines = _paragraph("Verdict: ", sweep.verdict, width)
    if sweep.device is not None:
        lines.append(f"Device:  {clean(sweep.device)}"[:width])
    if sweep.knee is not None and sweep.knee_low is not None and sweep.knee_high is not None:
        lines.append(
            f"Knee:    {sweep.knee:.3g} (with the flat part's noise {sweep.knee_low:.3g} to {sweep.knee_high:.3g})"
        )
    points = _thinned(sweep.points)
    cells = [_HEADINGS, *map(_cells, points)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    lines += ["", *("  ".join(_aligned(row, widths)).rstrip()[:width] for row in cells)]
    if len(points) < len(sweep.points):
        lines.append(f"{len(sweep.points) - len(points)} more sizes are in the JSON")
    for note in sweep.notes[:3]:
        lines += ["", *_paragraph("Note: ", note, width)]
    return "\n".join(lines)


def _cells(point: Point) -> tuple[str, ...]:
    return (
        f"{point.size:g}",
        format_ns(point.latency_ns),
        f"±{format_share((point.high_ns - point.low_ns) / 2 / point.latency_ns)}",
        format_count(point.throughput_per_s),
        "" if point.slope is None else f"{point.slope:.2f}",
        point.trend or "?",
        _overhead(point),
        format_share(point.idle_share),
        point.regime,
    )


def _overhead(point: Point) -> str:
    """What recording itself added may be overhead or not: both ends."""
    low, high = point.overhead_share_unrecorded, point.overhead_share
    if low is None or high is None:
        return "?"
    low, high = min(low, high), max(low, high)
    return format_share(high) if high - low < 0.05 else f"{format_share(low)[:-2]} to {format_share(high)}"


def format_count(rate: float) -> str:
    """``78.3 k``; sizes have no unit."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.3g} {prefix}"
    return f"{rate:.3g}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Numbers to the right, words to the left."""
    words = {5, 8}
    return [
        cell.ljust(width) if index in words else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _thinned(points: Sequence[Point]) -> list[Point]:
    if len(points) <= _MOST_ROWS:
        return list(points)
    return [points[round(index * (len(points) - 1) / (_MOST_ROWS - 1))] for index in range(_MOST_ROWS)]


def _paragraph(label: str, words: str, width: int) -> list[str]:
    wrapped = textwrap.wrap(clean(words), width - len(label), max_lines=3, placeholder=" …") or ["?"]
    return [f"{label if index == 0 else ' ' * len(label)}{part}" for index, part in enumerate(wrapped)]
