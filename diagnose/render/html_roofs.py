"""The axes and roofs of the page's roofline as numbers: what is drawn, not how."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from diagnose.render.names import clean
from diagnose.render.selection import DeviceKey
from diagnose.schema import Ceiling, Document, KernelRow
from diagnose.units import format_bytes_per_s, format_flops_per_s

Style = Literal["achievable", "datasheet", "cache"]

_STRIP_SHARE: Final = 0.09
"""How much of the width the strip of kernels without arithmetic takes."""

_AIR_LEFT: Final = 2.5
_AIR_RIGHT: Final = 30.0
_AIR_BELOW: Final = 3.0
_AIR_ABOVE: Final = 6.0
_FEWEST_DECADES: Final = 2


@dataclass(frozen=True, slots=True)
class Axes:
    """The drawn ranges. Left of ``intensity_low`` lies the strip, whose heights are bytes/s x ``intensity_low``.

    Attributes:
        strip_low: The left edge (FLOP/byte).
        intensity_low, intensity_high: Where the axis proper begins and ends (FLOP/byte).
        flops_per_s_low, flops_per_s_high: The heights.
    """

    strip_low: float
    intensity_low: float
    intensity_high: float
    flops_per_s_low: float
    flops_per_s_high: float


@dataclass(frozen=True, slots=True)
class RoofLine:
    """One roof of one device.

    Attributes:
        is_slope: Memory's, rising; arithmetic's are level.
        xs, ys: Its corners (FLOP/byte, FLOP/s).
        name: Empty where another line carries the roof's name.
        name_at: The height above which the name stands, clear of the datasheet's line (FLOP/s).
    """

    device: str
    style: Style
    is_slope: bool
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    name: str
    name_at: float


def has_arithmetic(row: KernelRow) -> bool:
    """Whether the row has a place on the axes."""
    return bool(row.arithmetic_intensity and row.achieved_flops_per_s)


def is_drawn(row: KernelRow) -> bool:
    """Whether the row is in the picture: on the axes, or in the strip of those that only move bytes."""
    return has_arithmetic(row) or bool(row.achieved_bytes_per_s)


def axes_of(document: Document) -> Axes:
    """Ranges that hold every drawn row and every roof, with air around them."""
    rows = [row for row in document.kernels if is_drawn(row)]
    on_axes = [row for row in rows if has_arithmetic(row)]
    roofs = [roof for device in _devices(document) for roof in _arithmetic(document, device)]
    slopes = [roof for device in _devices(document) for roof in _slopes(document, device)]
    intensities = [row.arithmetic_intensity or 0.0 for row in on_axes]
    intensities += [
        roof.achievable / slope.achievable for roof in roofs for slope in slopes if slope.resource == "dram"
    ]
    low = min(intensities, default=1.0) / _AIR_LEFT
    high = max([*intensities, 10**_FEWEST_DECADES * low]) * _AIR_RIGHT
    heights = [row.achieved_flops_per_s or 0.0 for row in on_axes]
    heights += [(row.achieved_bytes_per_s or 0.0) * low for row in rows if not has_arithmetic(row)]
    heights += [roof.datasheet or roof.achievable for roof in roofs]
    heights += [slope.achievable * low for slope in slopes]
    bottom = min(heights, default=1.0) / _AIR_BELOW
    top = max([*heights, 10**_FEWEST_DECADES * bottom]) * _AIR_ABOVE
    decades = math.log10(high / low) * _STRIP_SHARE / (1 - _STRIP_SHARE)
    return Axes(low / 10**decades, low, high, bottom, top)


def position(row: KernelRow, axes: Axes) -> tuple[float, float] | None:
    """Where the row is drawn; None where it is not."""
    if has_arithmetic(row):
        return row.arithmetic_intensity or 0.0, row.achieved_flops_per_s or 0.0
    if not row.achieved_bytes_per_s:
        return None
    # Left and right mean nothing in the strip: the golden ratio spreads neighbouring ranks over it.
    across = 0.15 + 0.7 * (row.place * 0.618034 % 1)
    return axes.strip_low * (
        axes.intensity_low / axes.strip_low
    ) ** across, row.achieved_bytes_per_s * axes.intensity_low


def roof_lines(document: Document, axes: Axes) -> list[RoofLine]:
    """Every roof of every device that has kernels."""
    return [line for device in _devices(document) for line in _device_lines(document, device, axes)]


def ticks(low: float, high: float) -> list[float]:
    """The powers of ten from ``low`` to ``high``, every second or third where there are very many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = 1 if last - first <= 9 else 3
    return [10.0**power for power in range(first, last + 1) if power % stride == 0]


def devices_of(document: Document) -> list[DeviceKey]:
    """The devices that have kernels, by rank and name."""
    keys = {(row.process_rank, row.device) for row in document.kernels}
    return sorted(keys, key=lambda key: (-1 if key[0] is None else key[0], key[1]))


def _devices(document: Document) -> list[str]:
    """Ceilings carry no rank: devices of one name share theirs."""
    return sorted({row.device for row in document.kernels})


def _arithmetic(document: Document, device: str) -> list[Ceiling]:
    """The arithmetic roofs that the device's rows stand under, the highest first."""
    used = {row.math for row in document.kernels if row.device == device and has_arithmetic(row)}
    found = [row for row in document.ceilings if row.device == device and row.resource in used and row.achievable > 0]
    return sorted(found, key=lambda row: -row.achievable)


def _slopes(document: Document, device: str) -> list[Ceiling]:
    """The memory roofs: DRAM's, and L2's where it is known."""
    found = {row.resource: row for row in document.ceilings if row.device == device and row.achievable > 0}
    return [found[resource] for resource in ("dram", "l2") if resource in found]


def _device_lines(document: Document, device: str, axes: Axes) -> list[RoofLine]:
    arithmetic, slopes = _arithmetic(document, device), _slopes(document, device)
    dram = next((roof for roof in slopes if roof.resource == "dram"), None)
    lines: list[RoofLine] = []
    for slope in slopes:
        style: Style = "achievable" if slope is dram else "cache"
        lines.append(_slope(slope, style, _top(arithmetic, axes, datasheet=False), axes))
        if slope is dram and _has_own_datasheet(slope):
            lines.append(_slope(slope, "datasheet", _top(arithmetic, axes, datasheet=True), axes))
    for roof in arithmetic:
        lines.append(_level(roof, "achievable", dram, axes))
        if _has_own_datasheet(roof):
            lines.append(_level(roof, "datasheet", dram, axes))
    return lines


def _top(arithmetic: Sequence[Ceiling], axes: Axes, *, datasheet: bool) -> float:
    """Where slopes end."""
    heights = [(roof.datasheet or roof.achievable) if datasheet else roof.achievable for roof in arithmetic]
    return max(heights, default=axes.flops_per_s_high)


def _slope(roof: Ceiling, style: Style, top: float, axes: Axes) -> RoofLine:
    """Level in the strip, then rising to ``top``."""
    rate = (roof.datasheet if style == "datasheet" else None) or roof.achievable
    name = f"{roof.resource} {format_bytes_per_s(rate)} ({roof.origin})"
    edge = rate * axes.intensity_low
    return RoofLine(
        roof.device, style, True,
        (axes.strip_low, axes.intensity_low, max(top / rate, axes.intensity_low)), (edge, edge, max(top, edge)),
        "" if style == "datasheet" else clean(name), edge,
    )  # fmt: skip


def _level(roof: Ceiling, style: Style, dram: Ceiling | None, axes: Axes) -> RoofLine:
    height = (roof.datasheet if style == "datasheet" else None) or roof.achievable
    start = axes.intensity_low
    if dram is not None:
        start = height / ((dram.datasheet if style == "datasheet" else None) or dram.achievable)
    sheet = f", datasheet {format_flops_per_s(roof.datasheet)}" if _has_own_datasheet(roof) else ""
    name = f"{roof.resource} {format_flops_per_s(roof.achievable)} ({roof.origin}{sheet})"
    end = axes.intensity_high
    return RoofLine(
        roof.device, style, False, (min(start, end), end), (height, height),
        "" if style == "datasheet" else clean(name), max(height, roof.datasheet or 0.0),
    )  # fmt: skip


def _has_own_datasheet(roof: Ceiling) -> bool:
    """Whether the datasheet's roof is another line than the achievable one."""
    return roof.datasheet is not None and not math.isclose(roof.datasheet, roof.achievable, rel_tol=1e-3)
