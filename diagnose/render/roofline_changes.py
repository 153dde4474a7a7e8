"""How kernels moved on the roofline from one report to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from matplotlib.axes import Axes

from diagnose.render.drawing import INK, MARKERS
from diagnose.render.roofline_points import area, has_arithmetic, position
from diagnose.render.roofline_roofs import Frame
from diagnose.render.selection import main_device
from diagnose.schema import Document, KernelRow

_MOST_ARROWS: Final = 12
_NO_MOVE_POINTS: Final = 8.0
"""Shorter arrows would be hidden under the marks."""

_GREY: Final = "#777777"

Arrow = tuple[tuple[float, float], tuple[float, float]]
"""From where to where, on the axes."""


def _shapes(row: KernelRow) -> str:
    return "" if row.signature is None else repr((row.signature.shapes, row.signature.dtypes))


_LIKENESS: Final[tuple[Callable[[KernelRow], Hashable], ...]] = (
    lambda row: (row.op, row.kernel, _shapes(row)),
    lambda row: (row.op, _shapes(row)) if row.op else None,
    lambda row: (row.op, row.kernel),
    lambda row: row.op,
)
"""What makes two rows the same work, the strictest first; None is like nothing."""


def counterparts(before: Document, rows: Sequence[KernelRow]) -> list[tuple[KernelRow, KernelRow]]:
    """The largest of ``rows``, each with its row in ``before``: the same op on the same shapes, else the same op.

    A looser likeness counts only where it leaves no choice. Rows without a counterpart have no pair.
    """
    key = main_device(before)
    old = [row for row in before.kernels if (row.process_rank, row.device) == key]
    old = [row for row in old if has_arithmetic(row) or row.achieved_bytes_per_s]
    new = sorted(rows, key=lambda row: -row.share)
    pairs: list[tuple[KernelRow, KernelRow]] = []
    for likeness in _LIKENESS:
        for row in list(new):
            wanted = likeness(row)
            alike = [each for each in old if wanted is not None and likeness(each) == wanted]
            if len(alike) == 1 and sum(likeness(each) == wanted for each in new) == 1:
                pairs.append((alike[0], row))
                old.remove(alike[0])
                new.remove(row)
    return sorted(pairs, key=lambda pair: -pair[1].share)[:_MOST_ARROWS]


def draw_changes(axes: Axes, frame: Frame, pairs: Sequence[tuple[KernelRow, KernelRow]]) -> list[Arrow]:
    """Hollow marks where kernels were, arrows to where they are; returns the arrows."""
    ends: list[Arrow] = []
    scale = axes.figure.dpi / 72
    for old, new in pairs:
        start, end = position(old, frame), position(new, frame)
        axes.scatter(*start, s=area(old), c="none", marker=MARKERS[old.bound], edgecolors=_GREY, linewidths=0.9,
                     zorder=2.5)  # fmt: skip
        (x, y), (u, v) = axes.transData.transform([start, end])
        radii = [math.sqrt(area(row)) / 2 for row in (old, new)]
        if math.hypot(u - x, v - y) / scale < sum(radii) + _NO_MOVE_POINTS:
            continue
        axes.annotate(
            "", xy=end, xytext=start, zorder=4,
            arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": radii[0], "shrinkB": radii[1]},
        )  # fmt: skip
        ends.append((start, end))
    return ends
