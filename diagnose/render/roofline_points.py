"""The kernels of a roofline picture: where each stands, how large it is, and what it looks like."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes

from diagnose.render.drawing import COLORS, INK, MARKERS
from diagnose.render.roofline_roofs import Frame
from diagnose.schema import KernelRow

_SMALLEST_AREA: Final = 22.0
_AREA_OF_ALL: Final = 1500.0


def has_arithmetic(row: KernelRow) -> bool:
    """Whether the row has a place on the axes."""
    return bool(row.arithmetic_intensity and row.achieved_flops_per_s)


def area(row: KernelRow) -> float:
    """Of its mark, in points squared."""
    return max(_SMALLEST_AREA, _AREA_OF_ALL * row.share)


def position(row: KernelRow, frame: Frame) -> tuple[float, float]:
    """Where the row is drawn: on the axes, or in the strip at the height of its bandwidth."""
    if has_arithmetic(row):
        return row.arithmetic_intensity or 0.0, row.achieved_flops_per_s or 0.0
    # Left and right mean nothing in the strip: the golden ratio spreads neighbouring ranks over it.
    across = 0.15 + 0.7 * (row.place * 0.618034 % 1)
    return frame.strip_low * (frame.intensity_low / frame.strip_low) ** across, (
        row.achieved_bytes_per_s or 0.0
    ) * frame.intensity_low


def draw_points(axes: Axes, frame: Frame, rows: Sequence[KernelRow]) -> None:
    """One mark a row, its colour and shape by bound; the strip where some rows have no arithmetic."""
    by_bound: defaultdict[str | None, list[KernelRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: -row.share):
        by_bound[row.bound].append(row)
    for bound, members in by_bound.items():
        xs, ys = zip(*(position(row, frame) for row in members), strict=True)
        axes.scatter(
            xs, ys, s=[area(row) for row in members], c=COLORS[bound], marker=MARKERS[bound], edgecolors=INK,
            linewidths=0.7, alpha=0.85, zorder=3,
        )  # fmt: skip
    if not all(map(has_arithmetic, rows)):
        axes.axvspan(frame.strip_low, frame.intensity_low, color="#F3F3F3", zorder=0)
        middle = math.sqrt(frame.strip_low * frame.intensity_low)
        axes.annotate(
            "bytes\nonly", (middle, 0), xycoords=("data", "axes fraction"), xytext=(0, -5), textcoords="offset points",
            ha="center", va="top", fontsize=8, color=INK, annotation_clip=False,
        )  # fmt: skip
