"""A sweep over sizes as a picture: time and throughput over size, the flat part, the rising part, the knee."""

from __future__ import annotations

import textwrap
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diagnose.render.drawing import COLORS, INK, MARKERS, new_axes, plain
from diagnose.render.names import clean
from diagnose.render.scaling_text import format_count
from diagnose.tables.sweep import Sweep
from diagnose.units import format_ns

_GREY: Final = "#777777"
_UNSURE_MARKERS: Final = "XPv*"
"""Of sizes without one kind of limit: a mark for each pair of kinds."""
_TITLE_COLUMNS: Final = 95


def plot_scaling(sweep: Sweep, ax: Axes | None = None) -> Axes:
    """Draws latency (left axis) and throughput (right axis) over size, all axes logarithmic.

    A mark's colour and shape say which kind of limit has the largest share; the bars are its noise.
    """
    axes = new_axes(8, 5, (0.9, 0.65, 0.9, 0.75)) if ax is None else ax
    _draw_fit(axes, sweep)
    _draw_times(axes, sweep)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = [float(point.size) for point in sweep.points]
    axes.set_xticks(sizes if len(sizes) <= 14 else sizes[:: -(-len(sizes) // 14)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(_ticks())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ns, _: format_ns(ns)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("size", fontsize=9, color=INK)
    axes.set_ylabel("latency, from idle to idle", fontsize=9, color=INK)
    title = "\n".join(textwrap.wrap(clean(sweep.verdict), _TITLE_COLUMNS, max_lines=2, placeholder=" …"))
    axes.set_title(plain(title), fontsize=9, loc="left", color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(visible=True, which="major", color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    _draw_throughput(axes, sweep)
    axes.legend(fontsize=8, loc="lower right")  # times rise to the upper right, throughput from the lower left
    return axes


def _ticks() -> LogLocator:
    return LogLocator(subs=(1.0, 2.0, 5.0), numticks=20)


def _draw_times(axes: Axes, sweep: Sweep) -> None:
    points = sweep.points
    axes.plot([float(p.size) for p in points], [p.latency_ns for p in points], color=INK, linewidth=0.8, zorder=2)
    unsure = iter(_UNSURE_MARKERS * len(points))
    for regime in dict.fromkeys(point.regime for point in points):
        mine = [point for point in points if point.regime == regime]
        middle = [point.latency_ns for point in mine]
        below = [max(0.0, point.latency_ns - point.low_ns) for point in mine]
        above = [max(0.0, point.high_ns - point.latency_ns) for point in mine]
        marker = next(unsure) if mine[0].bound is None else MARKERS[mine[0].bound]
        axes.errorbar(
            [float(point.size) for point in mine], middle, yerr=[below, above], fmt=marker,
            color=COLORS[mine[0].bound], ecolor=INK, elinewidth=0.8, capsize=2, markersize=7, zorder=3,
            label=plain(clean(regime)),
        )  # fmt: skip


def _draw_fit(axes: Axes, sweep: Sweep) -> None:
    """The level, the rising line and where they meet."""
    sizes = [float(point.size) for point in sweep.points]
    if sweep.flat_ns is not None:
        axes.plot(
            [sizes[0], sweep.knee or sizes[-1]], [sweep.flat_ns] * 2, color=_GREY, linestyle="--", linewidth=1, zorder=1
        )
    if sweep.knee is None or sweep.flat_ns is None or sweep.rise is None:
        return
    end = sweep.flat_ns * (sizes[-1] / sweep.knee) ** sweep.rise
    axes.plot([sweep.knee, sizes[-1]], [sweep.flat_ns, end], color=_GREY, linestyle="--", linewidth=1, zorder=1,
              label=f"flat, then size$^{{{sweep.rise:.2f}}}$")  # fmt: skip
    axes.axvline(sweep.knee, color=_GREY, linewidth=0.8, linestyle=":", zorder=1)
    axes.annotate(f"knee {sweep.knee:.2g}", (sweep.knee, 0.02), xycoords=("data", "axes fraction"), fontsize=8,
                  color=INK, xytext=(3, 0), textcoords="offset points")  # fmt: skip


def _draw_throughput(axes: Axes, sweep: Sweep) -> None:
    other = axes.twinx()
    sizes, rates = [float(p.size) for p in sweep.points], [p.throughput_per_s for p in sweep.points]
    other.plot(sizes, rates, color=COLORS["communication"], linewidth=1.0, linestyle="-.", zorder=1)
    other.set_yscale("log")
    other.yaxis.set_major_locator(_ticks())
    other.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: format_count(rate)))
    other.yaxis.set_minor_formatter(NullFormatter())
    other.set_ylabel("throughput, size a second, back to back (dash-dotted)", fontsize=9, color=INK)
    other.tick_params(labelsize=8, colors=INK)
