"""The page's roofline and kernel table as Bokeh models: one source of data, one view, so that a selection is shared.

No model here carries JavaScript: Bokeh would run it through ``new Function``, which the page's security policy forbids.
What needs code (filters, tool tips, formatted numbers, colours of the theme) is in ``templates/*.js``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from bokeh.core.property.vectorization import Field
from bokeh.document import Document as BokehDocument
from bokeh.models import (
    BooleanFilter,
    BoxSelectTool,
    CategoricalColorMapper,
    CDSView,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    TapTool,
    WheelZoomTool,
)
from bokeh.models.annotations import BoxAnnotation, Label, LabelSet
from bokeh.models.widgets import DataTable, StringFormatter, TableColumn
from bokeh.plotting import figure
from bokeh.transform import factor_mark

from diagnose.render.html_roofs import Axes, RoofLine, ticks
from diagnose.render.html_rows import UNKNOWN_BOUND
from diagnose.units import format_flops_per_s

BOUNDS: Final = ("compute", "memory", "communication", "overhead", UNKNOWN_BOUND)
MARKERS: Final = {
    "compute": "circle", "memory": "square", "communication": "triangle", "overhead": "diamond", UNKNOWN_BOUND: "hex",
}  # fmt: skip
"""Shapes beside colours: for a reader who does not see colours, and for a grey printer."""

_COLUMNS: Final[tuple[tuple[str, str, int, str], ...]] = (
    ("place", "#", 44, "right"), ("kernel", "kernel", 236, "left"), ("op", "op", 130, "left"),
    ("bound", "bound", 124, "left"), ("time", "time", 78, "right"), ("share", "share", 62, "right"),
    ("calls", "calls", 62, "right"), ("efficiency", "efficiency", 78, "right"), ("rate_text", "achieved", 110, "right"),
    ("gap", "gap to roof", 90, "right"), ("line", "line", 130, "left"),
)  # fmt: skip
"""Field, heading, width in pixels, and side of each column of the table."""

_DASHES: Final = {"achievable": "solid", "datasheet": "dashed", "cache": "dashdot"}
_PLACEHOLDER: Final = "#888888"
"""Colours come from the page's theme once it is open."""

_FLOATS: Final = frozenset({"x", "y", "size", "share", "efficiency", "gap"})


def plots_json(columns: Mapping[str, Sequence[Any]], axes: Axes, lines: Sequence[RoofLine], table_style: str) -> Any:
    """The Bokeh document with two roots, the roofline and the table, as what its JSON holds."""
    source = ColumnDataSource(
        {
            name: np.array(values, dtype=np.float32) if name in _FLOATS else list(values)
            for name, values in columns.items()
        },
        name="kernels",
    )
    # The script sets which rows the filters leave.
    view = CDSView(filter=BooleanFilter(booleans=None, name="filter"), name="view")
    document = BokehDocument()
    document.add_root(_roofline(source, view, axes, lines))
    document.add_root(_table(source, view, columns, table_style))
    return _renumbered(document.to_json(deferred=False))


def _roofline(source: ColumnDataSource, view: CDSView, axes: Axes, lines: Sequence[RoofLine]) -> Any:
    plot: Any = figure(
        x_axis_type="log", y_axis_type="log", x_range=Range1d(start=axes.strip_low, end=axes.intensity_high),
        y_range=Range1d(start=axes.flops_per_s_low, end=axes.flops_per_s_high), sizing_mode="stretch_both",
        min_height=320, tools=[],
        name="roofline", background_fill_color=None, border_fill_color=None, outline_line_color=None,
        output_backend="canvas", toolbar_location="above",
    )  # fmt: skip
    plot.xaxis.axis_label, plot.yaxis.axis_label = "arithmetic intensity (FLOP/byte)", "achieved FLOP/s"
    _label_axes(plot, axes)
    plot.add_layout(
        Label(
            x=axes.strip_low, y=axes.flops_per_s_low, x_offset=4, y_offset=3, text="bytes only", name="roof name",
            text_font_size="11px", text_color=_PLACEHOLDER, tags=["", "strip"],
        )
    )  # fmt: skip
    plot.add_layout(
        BoxAnnotation(left=axes.strip_low, right=axes.intensity_low, fill_alpha=0.07, line_color=None, name="strip")
    )
    _draw_roofs(plot, lines)
    mapper = CategoricalColorMapper(factors=list(BOUNDS), palette=[_PLACEHOLDER] * len(BOUNDS), name="colors")
    markers = [MARKERS[bound] for bound in BOUNDS]
    points: Any = plot.scatter(
        "x", "y", size="size", marker=factor_mark("bound", markers, list(BOUNDS)),
        fill_color=Field("bound", transform=mapper), line_color="#222222", fill_alpha=0.8, line_width=0.8,
        source=source, view=view, name="points", selection_fill_alpha=1.0,
        nonselection_fill_alpha=0.22, nonselection_line_alpha=0.25,
    )  # fmt: skip
    points.selection_glyph.line_width = 2.6
    wheel, tap = WheelZoomTool(), TapTool(renderers=[points])
    plot.add_tools(
        PanTool(), wheel, tap, BoxSelectTool(renderers=[points]), ResetTool(), SaveTool(filename="roofline"),
        HoverTool(renderers=[points], tooltips=[("kernel", "@kernel")], name="hover", attachment="horizontal"),
    )  # fmt: skip
    plot.toolbar.logo = None
    plot.toolbar.stylesheets = ["@media print { :host { visibility: hidden } }"]
    plot.toolbar.active_tap = tap
    return plot


def _label_axes(plot: Any, axes: Axes) -> None:
    """Powers of ten, in the words that every other number of the report has."""
    for axis, grid, low, high in (
        (plot.xaxis[0], plot.xgrid[0], axes.intensity_low, axes.intensity_high),
        (plot.yaxis[0], plot.ygrid[0], axes.flops_per_s_low / 1e3, axes.flops_per_s_high * 1e3),
    ):
        marks = ticks(low, high)
        axis.ticker = FixedTicker(
            ticks=marks, minor_ticks=[times * mark for mark in marks for times in range(2, 10) if times * mark < high]
        )
        grid.ticker = FixedTicker(ticks=marks)
        axis.minor_tick_line_color = None
        words = _short_number if axis is plot.xaxis[0] else _short_rate
        axis.major_label_overrides = {mark: words(mark) for mark in marks}


def _short_number(value: float) -> str:
    """``100``, ``10k``, ``1M``: an axis's powers of ten."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _short_rate(value: float) -> str:
    """``1 TFLOP/s``: a power of ten needs no decimals."""
    return re.sub(r"\.0+ ", " ", format_flops_per_s(value))


def _draw_roofs(plot: Any, lines: Sequence[RoofLine]) -> None:
    """A renderer a roof, tagged with its device: the script shows those of the chosen device."""
    for line in lines:
        drawn = plot.line(
            list(line.xs), list(line.ys), line_dash=_DASHES[line.style], line_color=_PLACEHOLDER, name="roof",
            line_width=1.1 if line.style == "datasheet" else 1.8,
        )  # fmt: skip
        drawn.tags = [line.device, line.style]
    for device in dict.fromkeys(line.device for line in lines):
        for is_slope in (True, False):
            named = [line for line in lines if line.device == device and line.is_slope == is_slope and line.name]
            if named:
                _name_roofs(plot, named, device, is_slope=is_slope)


def _name_roofs(plot: Any, lines: Sequence[RoofLine], device: str, *, is_slope: bool) -> None:
    data: dict[str, Any] = {
        "x": [line.xs[1] if is_slope else line.xs[-1] for line in lines],
        "y": [line.ys[1] if is_slope else line.name_at for line in lines],
        "text": [line.name for line in lines],
        "short": [line.name.partition(" (")[0] for line in lines],
    }
    names = LabelSet(
        x="x", y="y", text="text", source=ColumnDataSource(data), text_font_size="11px", text_color=_PLACEHOLDER,
        text_align="left" if is_slope else "right", text_baseline="bottom", x_offset=10 if is_slope else -4,
        y_offset=14 if is_slope else 3, name="roof name", tags=[device, "slope" if is_slope else "level"],
    )  # fmt: skip
    plot.add_layout(names)


def _table(source: ColumnDataSource, view: CDSView, columns: Mapping[str, Sequence[Any]], style: str) -> DataTable:
    # A column in which nothing is known says nothing.
    is_empty = {"gap": all(map(math.isnan, columns["gap"])), "line": not any(columns["line"])}
    shown = [
        TableColumn(
            field=field, title=title, width=width, sortable=field != "rate_text",
            formatter=StringFormatter(text_align=side, nan_format="?"),
            default_sort="ascending" if field in ("place", "kernel", "op", "bound", "line") else "descending",
        )
        for field, title, width, side in _COLUMNS
        if not is_empty.get(field, False)
    ]  # fmt: skip
    return DataTable(
        source=source, view=view, columns=shown, sizing_mode="stretch_both", min_height=240, index_position=None,
        row_height=26, autosize_mode="force_fit", reorderable=False, selectable=True, scroll_to_selection=True,
        name="table", stylesheets=[style], margin=0,
    )  # fmt: skip


def _renumbered(content: Any) -> Any:
    """The same with models numbered from 1: Bokeh counts on through a process, and equal reports are equal files."""
    numbers: dict[str, str] = {}

    def visit(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: numbers.setdefault(value, f"m{len(numbers) + 1}")
                if key == "id" and isinstance(value, str)
                else visit(value)
                for key, value in node.items()
            }
        return [visit(value) for value in node] if isinstance(node, list) else node

    return visit(content)
