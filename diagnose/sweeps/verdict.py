"""The sentence that opens a sweep over sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from diagnose.sweeps.regimes import Curve
from diagnose.tables.sweep import Point
from diagnose.units import format_ns


def verdict_of(points: Sequence[Point], curve: Curve) -> str:
    """Up to where the time is flat and why, where it begins to grow, and what limits it from there."""
    flat = [point for point in points if curve.flat_ns is not None and point.trend == "flat"]
    flat = flat[: _prefix(points)]
    beyond = points[len(flat) :]
    if not flat:
        grows = f"time grows from the smallest size, {points[0].size:g}, on: {_regimes(points)}"
        return f"{grows}; smaller sizes would show a flat part" if points[0].size > 1 else grows
    level = format_ns(curve.flat_ns)
    flat_part = f"flat up to size {flat[-1].size:g} ({level}: {_regimes(flat)})"
    if not beyond:
        return f"{flat_part}, the largest: larger sizes are nearly free, and would show the knee"
    after = f"then {_regimes(beyond)}"
    if curve.knee is None:
        return f"{flat_part}, {after}; the time grows, not yet in proportion: larger sizes would show the knee"
    return f"{flat_part}, {after}; knee near size {_rounded(curve.knee[0])}"


def _prefix(points: Sequence[Point]) -> int:
    count = 0
    for point in points:
        if point.trend != "flat":
            break
        count += 1
    return count


def _regimes(points: Sequence[Point]) -> str:
    """The regimes in their order: ``memory, then compute from 512 on``."""
    runs = [(regime, next(members).size) for regime, members in groupby(points, key=lambda point: point.regime)]
    words = [runs[0][0], *(f"{regime} from {size:g} on" for regime, size in runs[1:])]
    return ", ".join(words)


def _rounded(size: float) -> str:
    """Two digits: the knee is not known better."""
    return f"{float(f'{size:.2g}'):g}"
