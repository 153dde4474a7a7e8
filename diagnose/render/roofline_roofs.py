"""The roofs of a roofline picture: memory's slope, a level line for each arithmetic in use, and the ridges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.text import Text

from diagnose.render.drawing import INK, plain
from diagnose.render.names import clean
from diagnose.schema import Ceiling, Document
from diagnose.units import format_bytes_per_s, format_flops_per_s

_STRIP: Final = 0.09
"""How much of the width the strip of kernels without arithmetic takes."""

_ISO_TIMES: Final = (3, 10, 100, 1000)
_ISO_NAMES_AT: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Where along the level part of such a line its name may stand."""

_SLOPE_NAMES_AT: Final = (0.04, 0.12, 0.2, 0.28, 0.36)
"""Where along the axis a slope's name may begin."""

_MARK_PIXELS: Final = 6


@dataclass(frozen=True, slots=True)
class Frame:
    """The drawn ranges. Left of ``intensity_low`` lies the strip, whose heights are bytes/s x ``intensity_low``."""

    intensity_low: float
    intensity_high: float
    flops_per_s_low: float
    flops_per_s_high: float

    @property
    def strip_low(self) -> float:
        """The picture's left edge."""
        decades = math.log10(self.intensity_high / self.intensity_low)
        return float(self.intensity_low / 10 ** (decades * _STRIP / (1 - _STRIP)))


@dataclass(frozen=True, slots=True)
class Roofs:
    """What is drawn: the arithmetic roofs, the highest first, the slope of DRAM and that of L2 where known."""

    arithmetic: Sequence[Ceiling]
    memory: Ceiling | None
    cache: Ceiling | None = None

    @property
    def slopes(self) -> list[Ceiling]:
        """Memory roofs."""
        return [roof for roof in (self.memory, self.cache) if roof is not None]

    @property
    def all(self) -> list[Ceiling]:
        """Every roof."""
        return [*self.arithmetic, *self.slopes]

    def top(self, frame: Frame, *, datasheet: bool = False) -> float:
        """Where slopes end."""
        heights = [(roof.datasheet or roof.achievable) if datasheet else roof.achievable for roof in self.arithmetic]
        return max(heights, default=frame.flops_per_s_high)


def draw_roofs(axes: Axes, frame: Frame, roofs: Roofs, points: Sequence[tuple[float, float]]) -> list[Text]:
    """Achievable roofs solid, datasheet roofs dashed, L2 dash-dotted.

    Returns the texts that name them; those of slopes keep away from ``points`` if there is a place.
    """
    texts: list[Text] = []
    memory = roofs.memory
    if memory:
        _draw_slope(axes, frame, memory.achievable, roofs.top(frame), "-")
        if memory.datasheet and has_own_datasheet(memory):
            _draw_slope(axes, frame, memory.datasheet, roofs.top(frame, datasheet=True), "--")
        texts.append(_name_slope(axes, frame, memory, points))
    if roofs.cache:
        _draw_slope(axes, frame, roofs.cache.achievable, roofs.top(frame), "-.")
        texts.append(_name_slope(axes, frame, roofs.cache, points))
    for roof in roofs.arithmetic:
        for height, style in ((roof.achievable, "-"), (roof.datasheet, "--")):
            if height and (style == "-" or has_own_datasheet(roof)):
                bandwidth = memory and (memory.achievable if style == "-" else memory.datasheet or memory.achievable)
                start = height / bandwidth if bandwidth else frame.intensity_low
                axes.plot([start, frame.intensity_high], [height, height], **_line(style))
        texts.append(_name_roof(axes, frame, roof))
    return texts


def draw_iso_time(axes: Axes, frame: Frame, roofs: Roofs, taken: Sequence[Text]) -> list[Text]:
    """Lines of equal time: on each a kernel takes so many times as long as it would at the highest roof.

    A kernel of given work moves straight down as it slows. Returns the texts that name the lines, which keep away
    from those that are there already.
    """
    memory = roofs.memory
    texts: list[Text] = []
    if memory is None or not roofs.arithmetic:
        return []
    top = roofs.top(frame)
    for times in _ISO_TIMES:
        bandwidth, height = memory.achievable / times, top / times
        if height < frame.flops_per_s_low:
            break
        edge = bandwidth * frame.intensity_low
        axes.plot(
            [frame.strip_low, frame.intensity_low, height / bandwidth, frame.intensity_high],
            [edge, edge, height, height], linestyle=":", color="#56B4E9", linewidth=0.9, zorder=1,
        )  # fmt: skip
        start = math.log(max(frame.intensity_low, height / bandwidth))
        name = _free_name(axes, f"{times}x the roof's time", (start, math.log(frame.intensity_high), height), taken)
        texts += [] if name is None else [name]
    return texts


def _free_name(axes: Axes, words: str, level: tuple[float, float, float], taken: Sequence[Text]) -> Text | None:
    """A name on a level line (logarithms of its ends, and its height) where no other stands; None if there is none."""
    start, end, height = level
    others = [text.get_window_extent() for text in taken]
    for share, side in [(share, side) for side in ("bottom", "top") for share in _ISO_NAMES_AT]:
        text = axes.annotate(
            words, (math.exp(start + share * (end - start)), height), xytext=(-4, 2 if side == "bottom" else -2),
            textcoords="offset points", ha="right", va=side, fontsize=7, color="#2C7FB8", zorder=5,
        )  # fmt: skip
        box = text.get_window_extent()
        if not any(box.overlaps(other) for other in others):
            return text
        text.remove()
    return None


def has_own_datasheet(roof: Ceiling) -> bool:
    """Whether the datasheet's roof is another line than the achievable one."""
    return roof.datasheet is not None and not math.isclose(roof.datasheet, roof.achievable, rel_tol=1e-3)


def _line(style: str) -> dict[str, Any]:
    width = {"-": 1.4, "-.": 1.1}.get(style, 0.9)
    return {"linestyle": style, "color": "#777777" if style == "--" else INK, "linewidth": width, "zorder": 2}


def _draw_slope(axes: Axes, frame: Frame, bandwidth: float, end: float, style: str) -> None:
    """The memory roof: level in the strip, then rising to the highest arithmetic roof."""
    edge = bandwidth * frame.intensity_low
    axes.plot([frame.strip_low, frame.intensity_low, end / bandwidth], [edge, edge, end], **_line(style))


def _name_slope(axes: Axes, frame: Frame, memory: Ceiling, points: Sequence[tuple[float, float]]) -> Text:
    """The name above a slope, as far left as no point is under it."""
    low = axes.transData.transform((frame.intensity_low, frame.intensity_low))
    high = axes.transData.transform((frame.intensity_high, frame.intensity_high))
    angle = math.degrees(math.atan2(high[1] - low[1], high[0] - low[0]))
    words = f"{memory.resource} {format_bytes_per_s(memory.achievable)} ({memory.origin})"
    pixels = axes.transData.transform(points).tolist() if points else []
    places = [frame.intensity_low * (frame.intensity_high / frame.intensity_low) ** share for share in _SLOPE_NAMES_AT]
    text = axes.annotate(
        words, (1, 1), xytext=(-2, 4), textcoords="offset points", rotation=angle, rotation_mode="anchor", fontsize=8,
        color=INK, zorder=5,
    )  # fmt: skip
    for x in [*places, places[0]]:
        text.xy = (x, x * (memory.datasheet or memory.achievable))
        text.update_positions(axes.figure.canvas.get_renderer())  # type: ignore[attr-defined]
        box = text.get_window_extent().padded(_MARK_PIXELS)
        if not any(box.contains(px, py) for px, py in pixels):
            break
    return text


def _name_roof(axes: Axes, frame: Frame, roof: Ceiling) -> Text:
    sheet = f", datasheet {format_flops_per_s(roof.datasheet)}" if has_own_datasheet(roof) else ""
    words = f"{clean(roof.resource)} {format_flops_per_s(roof.achievable)} ({roof.origin}{sheet})"
    top = max(roof.achievable, roof.datasheet or 0)
    return axes.annotate(
        plain(words), (frame.intensity_high, top), xytext=(-4, 3), textcoords="offset points", ha="right", va="bottom",
        fontsize=8, color=INK, zorder=5,
    )  # fmt: skip


def draw_ridges(axes: Axes, document: Document, roofs: Sequence[Ceiling]) -> None:
    """Marks where each drawn arithmetic roof leaves the memory slope."""
    heights = {(roof.device, roof.resource): roof.achievable for roof in roofs}
    bottom = axes.get_ylim()[0]
    for ridge in document.ridges:
        height = heights.get((ridge.device, ridge.resource))
        if height is None or ridge.flops_per_byte <= 0:
            continue
        x = ridge.flops_per_byte
        axes.plot([x, x], [bottom, height], color="#777777", linewidth=0.8, linestyle=":", zorder=1)
        axes.plot([x], [height], marker="D", markersize=5, color="white", markeredgecolor=INK, zorder=4)
        axes.annotate(
            f"ridge {x:.3g} FLOP/byte", (x, bottom), xytext=(2, 3), textcoords="offset points", fontsize=7,
            color="#555555", rotation=90, va="bottom",
        )  # fmt: skip
