"""The roofline: arithmetic intensity against achieved FLOP/s, under the roofs that the kernels were placed under."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diagnose.render.drawing import COLORS, INK, MARKERS, new_axes, plain
from diagnose.render.labels import Box, Segment, Spot, free_boxes
from diagnose.render.names import clean, fit, short_kernel, short_op
from diagnose.render.roofline_changes import Arrow, counterparts, draw_changes
from diagnose.render.roofline_points import area, draw_points, has_arithmetic, position
from diagnose.render.roofline_roofs import Frame, Roofs, draw_iso_time, draw_ridges, draw_roofs, has_own_datasheet
from diagnose.render.selection import device_row, main_device
from diagnose.render.words import step_words
from diagnose.schema import Ceiling, Document, KernelRow
from diagnose.units import format_flops_per_s, format_share

_NAMED: Final = 12
_SMALLEST_NAMED_SHARE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Obstacles:
    """What names keep away from, in pixels."""

    boxes: list[Box]
    lines: list[Segment]


def plot_roofline(
    document: Document, ax: Axes | None = None, *, before: Document | None = None, iso_time: bool = False
) -> Axes:
    """Draws the kernels of the device with most kernel time into ``ax``, or into a new figure.

    One point a kernel row, its area by time, its colour and shape by bound. Kernels that move bytes without known
    arithmetic stand in a strip on the left, where the memory roof goes on as a level line; those with nothing known
    are counted below the axis.

    Args:
        document: The report.
        ax: Where to draw.
        before: An earlier report: arrows lead from where its kernels were to where they are now.
        iso_time: Also lines on which a kernel takes 3, 10, 100... times as long as at the roof.
    """
    axes = new_axes(10, 6.4, (1.1, 0.75, 0.2, 0.6)) if ax is None else ax
    key = main_device(document)
    rows = [row for row in document.kernels if (row.process_rank, row.device) == key]
    axes.set_title(_title(document), fontsize=10, loc="left", color=INK)
    placed = [row for row in rows if has_arithmetic(row) or row.achieved_bytes_per_s]
    if not placed:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no kernel has known work", transform=axes.transAxes, ha="center", color=INK)
        return axes
    pairs = [] if before is None else counterparts(before, placed)
    roofs = _roofs(document, key[1] if key else "", placed)
    frame = _frame([*placed, *(old for old, _ in pairs)], roofs)
    _prepare(axes, frame, [row for row in rows if row not in placed])
    texts = draw_roofs(axes, frame, roofs, [position(row, frame) for row in placed])
    lines = _segments(axes)
    if iso_time:
        texts += draw_iso_time(axes, frame, roofs, texts)
    draw_ridges(axes, document, roofs.arithmetic)
    draw_points(axes, frame, placed)
    lines += _in_pixels(axes, draw_changes(axes, frame, pairs))
    legend = _draw_legend(axes, placed, roofs, has_before=bool(pairs))
    _draw_names(axes, frame, placed, Obstacles([legend, *map(_box, texts)], lines))
    return axes


def _title(document: Document) -> str:
    row = device_row(document, main_device(document))
    device = f"{clean(row.name)} ({row.device})" if row else "no device"
    return plain(f"{fit(device, 70)}, {step_words(document)}\n{fit(clean(document.verdict.verdict), 110)}")


def _ceiling(document: Document, device: str, resource: str) -> Ceiling | None:
    return next((row for row in document.ceilings if (row.device, row.resource) == (device, resource)), None)


def _roofs(document: Document, device: str, rows: Sequence[KernelRow]) -> Roofs:
    """The arithmetic roofs in use, the highest first, and those of DRAM and L2."""
    used = {row.math for row in rows if has_arithmetic(row)}
    found = [row for row in document.ceilings if row.device == device and row.resource in used and row.achievable > 0]
    return Roofs(
        sorted(found, key=lambda row: -row.achievable),
        _ceiling(document, device, "dram"),
        _ceiling(document, device, "l2"),
    )


def _frame(rows: Sequence[KernelRow], roofs: Roofs) -> Frame:
    """Ranges that hold every point, every roof and the ridges, with air around them."""
    points = [row for row in rows if has_arithmetic(row)]
    intensities = [row.arithmetic_intensity or 0.0 for row in points]
    memory = roofs.memory
    if memory:
        intensities += [roof.achievable / memory.achievable for roof in roofs.arithmetic]
    low = min(intensities, default=1.0) / 2.5
    high = max([*intensities, 100 * low]) * 30
    heights = [row.achieved_flops_per_s or 0.0 for row in points]
    heights += [(row.achieved_bytes_per_s or 0.0) * low for row in rows if not has_arithmetic(row)]
    heights += [roof.datasheet or roof.achievable for roof in roofs.arithmetic]
    heights += [(slope.datasheet or slope.achievable) * low for slope in roofs.slopes]
    return Frame(low, high, min(heights) / 3, max(heights) * 4)


def _prepare(axes: Axes, frame: Frame, unplaced: Sequence[KernelRow]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(frame.strip_low, frame.intensity_high)
    axes.set_ylim(frame.flops_per_s_low, frame.flops_per_s_high)
    axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short_number(x) if x >= frame.intensity_low else ""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: format_flops_per_s(y)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color="#E4E4E4", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK)
    axes.tick_params(which="minor", length=0)
    share = sum(row.share for row in unplaced)
    words = (
        f"\nnot drawn: {len(unplaced)} without work, or without known work, {format_share(share)} of the kernel time"
    )
    hidden = words if unplaced else ""
    axes.set_xlabel(f"arithmetic intensity (FLOP/byte){hidden}", fontsize=9, color=INK)
    axes.set_ylabel("achieved FLOP/s", fontsize=9, color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short_number(value: float) -> str:
    """``100``, ``10k``, ``1M``: an axis's powers of ten."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _draw_legend(axes: Axes, rows: Sequence[KernelRow], roofs: Roofs, *, has_before: bool) -> Box:
    """What colours, shapes and lines mean; returns the box that they take."""
    shares: defaultdict[str | None, float] = defaultdict(float)
    for row in rows:
        shares[row.bound] += row.share
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[bound], color=COLORS[bound], markeredgecolor=INK, markersize=7,
               label=f"{bound or 'bound unknown'} {format_share(share)}")
        for bound, share in sorted(shares.items(), key=lambda item: -item[1])
    ]  # fmt: skip
    if roofs.all:
        handles.append(Line2D([], [], color=INK, linewidth=1.4, label="achievable roof"))
    if any(map(has_own_datasheet, roofs.all)):
        handles.append(Line2D([], [], color="#777777", linewidth=0.9, linestyle="--", label="datasheet roof"))
    if has_before:
        handles.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker="o",
                color="white",
                markeredgecolor="#777777",
                markersize=6,
                label="where it was before",
            )
        )
    legend = axes.legend(handles=handles, loc="best", fontsize=8, title="area, %: kernel time", title_fontsize=8)
    legend.set_zorder(7)
    # "best" is looked for again whenever the picture is drawn: what it found now is kept, names are put around it.
    box = _box(legend)
    legend.set_loc(tuple(axes.transAxes.inverted().transform((box.x0, box.y0))))
    return box


def _box(artist: Artist) -> Box:
    extent = artist.get_window_extent()
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)


def _draw_names(axes: Axes, frame: Frame, rows: Sequence[KernelRow], obstacles: Obstacles) -> None:
    """The largest points' ranks and ops, where there is room; the rank leads to the kernel table."""
    scale = axes.figure.dpi / 72
    largest = sorted(rows, key=lambda row: -row.share)
    named = [row for row in largest if row.share >= _SMALLEST_NAMED_SHARE][:_NAMED]
    names = [f"{row.place} {fit(short_op(row.op) if row.op else short_kernel(row.kernel), 24)}" for row in named]
    points = axes.transData.transform([position(row, frame) for row in largest])
    radii = [math.sqrt(area(row)) / 2 * scale for row in largest]
    spots = []
    texts = []
    for name, (x, y), radius in zip(names, points, radii, strict=False):
        text = axes.text(0.5, 0.5, plain(name), transform=None, fontsize=8, color=INK, zorder=6)
        box = _box(text)
        texts.append(text)
        spots.append(Spot(x, y, radius, box.x1 - box.x0, box.y1 - box.y0))
    rest = zip(points[len(named) :], radii[len(named) :], strict=True)
    others = [Box(x - radius, y - radius, x + radius, y + radius) for (x, y), radius in rest]
    places = free_boxes(spots, _box(axes), [*obstacles.boxes, *others], obstacles.lines)
    for spot, text, place in zip(spots, texts, places, strict=True):
        _put(axes, spot, text, place)


def _segments(axes: Axes) -> list[Segment]:
    """The roofs in pixels, piece by piece."""
    found: list[Segment] = []
    for line in axes.get_lines():
        corners = axes.transData.transform(line.get_xydata())
        found += [(float(x), float(y), float(u), float(v)) for (x, y), (u, v) in pairwise(corners)]
    return found


def _in_pixels(axes: Axes, arrows: Sequence[Arrow]) -> list[Segment]:
    found: list[Segment] = []
    for arrow in arrows:
        (x, y), (u, v) = axes.transData.transform(arrow)
        found.append((float(x), float(y), float(u), float(v)))
    return found


def _put(axes: Axes, spot: Spot, text: Text, box: Box | None) -> None:
    """Moves the name into its box, with a line to the point; without a box there is no name."""
    if box is None:
        text.remove()
        return
    to_data = axes.transData.inverted().transform
    middle = to_data(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    text.set(transform=axes.transData, x=middle[0], y=middle[1], ha="center", va="center_baseline")
    x, y = box.nearest(spot.x, spot.y)
    distance = math.hypot(x - spot.x, y - spot.y)
    if distance <= spot.radius:
        return
    edge = spot.radius / distance
    start = to_data((spot.x + (x - spot.x) * edge, spot.y + (y - spot.y) * edge))
    end = to_data((x, y))
    axes.add_line(Line2D([start[0], end[0]], [start[1], end[1]], color=INK, linewidth=0.5, zorder=5))
