"""Where the wall time goes: one stacked bar a step and device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from diagnose.render.drawing import COLORS, INK, new_axes, plain
from diagnose.render.names import clean, fit
from diagnose.render.selection import PART_WORDS, DeviceKey, waterfall_of
from diagnose.schema import BOUND_OF_PART, Document, Part, WaterfallRow
from diagnose.units import format_ns, format_share

_MOST_BARS: Final = 24
_BAR: Final = 0.72
_HATCHES: Final[dict[str | None, str]] = {
    "compute": "", "memory": "///", "communication": "...", "overhead": "\\\\\\", None: "",
}  # fmt: skip
_TINT: Final = 0.6
_LEGEND_COLUMNS: Final = 3
_TEXT_MARGIN_PIXELS: Final = 4.0

Color = tuple[float, float, float]


def plot_waterfall(document: Document, ax: Axes | None = None) -> Axes:
    """Draws each step of each device as a bar of parts; the first bars only where there are very many.

    A kind of limit has a colour and a hatch; its first part is full, each further one paler.
    """
    bars = _bars(document)
    shown = bars[:_MOST_BARS]
    faces = _faces([row for _, rows in shown for row in rows])
    axes = _own_axes(len(shown), len(faces)) if ax is None else ax
    axes.set_title(plain(fit(clean(document.verdict.verdict), 95)), fontsize=10, loc="left", color=INK)
    if not shown:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing ran on a device", transform=axes.transAxes, ha="center", color=INK)
        return axes
    for position, (_, rows) in enumerate(shown):
        _draw_bar(axes, position, rows, faces)
    _finish(axes, [name for name, _ in shown], hidden=len(bars) - len(shown))
    for position, (_, rows) in enumerate(shown):
        _write_shares(axes, position, rows)
    _draw_legend(axes, faces)
    return axes


def _own_axes(bars: int, parts: int) -> Axes:
    below = 0.75 + 0.2 * -(-parts // _LEGEND_COLUMNS)
    return new_axes(10, 0.45 + 0.42 * max(1, bars) + below, (2.7, below, 0.2, 0.45))


def _bars(document: Document) -> list[tuple[str, list[WaterfallRow]]]:
    """A name and the parts of each bar: every step, or the whole window where there is one step."""
    keys: list[DeviceKey] = list(dict.fromkeys((row.process_rank, row.device) for row in document.waterfall))
    steps = document.window.steps
    stretches: list[int | None] = [*range(len(steps))] if len(steps) > 1 else [None]
    found = []
    for key in keys:
        for step in stretches:
            rows = waterfall_of(document, key, step)
            name = "whole window" if step is None else fit(clean(steps[step].name), 24)
            rank = "" if key[0] is None else f"rank {key[0]} "
            steady = "" if step is None or steps[step].steady else " (not steady)"
            if rows:
                found.append((f"{name}{steady}, {rank}{key[1]}", rows))
    return found


def _draw_bar(axes: Axes, position: int, rows: Sequence[WaterfallRow], faces: Mapping[Part, Color]) -> None:
    left = 0
    for row in rows:
        axes.barh(
            position, row.ns, left=left, height=_BAR, color=faces[row.part], hatch=_HATCHES[row.bound],
            edgecolor="white", linewidth=0.8,
        )  # fmt: skip
        left += row.ns
    axes.text(left, position, f" {format_ns(left)}", va="center", fontsize=8, color=INK)


def _write_shares(axes: Axes, position: int, rows: Sequence[WaterfallRow]) -> None:
    """Each part's share inside its piece of the bar, where the piece is wide enough."""
    left = 0
    for row in rows:
        text = axes.text(
            left + row.ns / 2, position, format_share(row.share), ha="center", va="center", fontsize=8, color=INK,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        (start, _), (end, _) = axes.transData.transform([(left, position), (left + row.ns, position)])
        if text.get_window_extent().width + _TEXT_MARGIN_PIXELS > end - start:
            text.remove()
        left += row.ns


def _faces(rows: Sequence[WaterfallRow]) -> dict[Part, Color]:
    """Each part's colour: its kind's, the further down the list of the kind's parts the paler."""
    order = list(BOUND_OF_PART)
    present = sorted({row.part for row in rows}, key=order.index)
    faces = {}
    for part in present:
        siblings = [other for other in present if BOUND_OF_PART[other] == BOUND_OF_PART[part]]
        white = _TINT * siblings.index(part) / max(1, len(siblings) - 1)
        red, green, blue = to_rgb(COLORS[BOUND_OF_PART[part]])
        faces[part] = (red + (1 - red) * white, green + (1 - green) * white, blue + (1 - blue) * white)
    return faces


def _finish(axes: Axes, names: Sequence[str], *, hidden: int) -> None:
    axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: format_ns(ns)))
    axes.tick_params(labelsize=8, colors=INK)
    more = f" ({hidden} more bars are not drawn)" if hidden else ""
    axes.set_xlabel(f"wall time{more}", fontsize=9, color=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_legend(axes: Axes, faces: Mapping[Part, Color]) -> None:
    handles = [
        Patch(facecolor=face, hatch=_HATCHES[BOUND_OF_PART[part]], edgecolor="white",
              label=f"{BOUND_OF_PART[part] or 'no kind'}: {PART_WORDS[part]}")
        for part, face in faces.items()
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="upper left", ncols=_LEGEND_COLUMNS, fontsize=8, frameon=False,
        bbox_to_anchor=(0, -0.5 / _height_inches(axes)), borderaxespad=0,
    )  # fmt: skip


def _height_inches(axes: Axes) -> float:
    return float(axes.get_window_extent().height / axes.figure.dpi)
