"""In which regime a step is at each size: from times and recordings, nothing is run here.

Time that does not grow with the size is overhead or the reading of the same weights: the times cannot tell which, only
whether the device idles. A curve is flat, then bends, then rises; the knee is where the flat part's level and the
rising part's line meet on logarithmic axes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from diagnose.schema import BOUND_OF_PART, Bound, Document
from diagnose.steady import is_of_no_kernel, part_times, step_times
from diagnose.tables.sweep import Point, Trend

FLAT_SLOPE: Final = 0.25
"""A doubling of the size that costs less than 19 % is flat (the textbook's example: 10 %)."""
RISING_SLOPE: Final = 0.75
"""One that costs 68 % or more grows with the size."""
_UNSURE_SLOPE: Final = 0.5
"""Between, a segment is flat where its noise allows it."""
_FLAT_GROWTH: Final = 1.5
"""Times that crept up by more than this in all are not flat, however gently."""
_MOSTLY_IDLE: Final = 0.5
"""Where no kernel's kind is known: the device idles for most of the step."""
_FLAT_WORDS: Final[Mapping[Bound, str]] = {
    "overhead": "overhead",
    "memory": "weight bandwidth",
    "compute": "unfilled device",
    "communication": "communication latency",
}
"""What time that does not grow with the size goes to, by the kind of limit."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How time goes with size.

    Attributes:
        slopes: Of each segment between neighbouring sizes.
        trends: Of each size.
        flat_ns: Level of the flat part, None without one.
        knee: Where flat part and rising part meet, None without one of them; its low and high with the flat noise.
        rise: Slope of the rising part.
    """

    slopes: list[float]
    trends: list[Trend | None]
    flat_ns: float | None = None
    knee: tuple[float, float, float] | None = None
    rise: float | None = None


def curve_of(points: Sequence[Point]) -> Curve:
    """The shape of latency over size; points ascend by size."""
    sizes = [math.log(point.size) for point in points]
    if len(points) < 2:
        return Curve([], [None] * len(points))
    slopes = [
        _slope(points[i].latency_ns, points[i + 1].latency_ns, sizes[i + 1] - sizes[i]) for i in range(len(points) - 1)
    ]
    flat = _flat_count(points, slopes)
    trends: list[Trend | None] = ["flat"] * flat
    trends += [_trend(slopes[max(0, index - 1)]) for index in range(flat, len(points))]
    level = statistics.median(point.latency_ns for point in points[:flat]) if flat else None
    line = _rising_line(points, slopes, flat)
    if level is None or line is None:
        return Curve(slopes, trends, level, None, None if line is None else line[1])
    low, high = min(point.low_ns for point in points[:flat]), max(point.high_ns for point in points[:flat])
    crossings = [_crossing(value, line, points) for value in (level, min(low, level), max(high, level))]
    return Curve(slopes, trends, level, (crossings[0], crossings[1], crossings[2]), line[1])


def _slope(before: float, after: float, distance: float) -> float:
    return math.log(max(after, 1.0) / max(before, 1.0)) / distance


def _trend(slope: float) -> Trend:
    return "rising" if slope >= RISING_SLOPE else "flat" if slope <= FLAT_SLOPE else "bending"


def _flat_count(points: Sequence[Point], slopes: Sequence[float]) -> int:
    """How many of the smallest sizes take the same time; 0 where not even two do."""
    count = 1
    for index, slope in enumerate(slopes):
        here, there = points[index], points[index + 1]
        least = _slope(here.high_ns, there.low_ns, math.log(there.size / here.size))
        is_flat = slope <= FLAT_SLOPE or (slope <= _UNSURE_SLOPE and least <= FLAT_SLOPE)
        level = statistics.median(point.latency_ns for point in points[:count])
        if not is_flat or there.latency_ns > _FLAT_GROWTH * level:
            break
        count += 1
    return count if count > 1 else 0


def _rising_line(points: Sequence[Point], slopes: Sequence[float], flat: int) -> tuple[float, float] | None:
    """Intercept and slope of the rising part in logarithms; None where time does not grow with the size.

    A least-squares line through the ends of rising segments beyond the flat part. A single one, or noise that leaves no
    slope, gives a line of slope 1: time in proportion to size.
    """
    ends = {index + 1 for index in range(len(slopes)) if slopes[index] >= RISING_SLOPE and index + 1 >= max(1, flat)}
    starts = {index for index in range(flat, len(slopes)) if slopes[index] >= RISING_SLOPE and index > 0}
    kept = sorted(ends | {index for index in starts if index > flat or not flat})
    if not ends:
        return None
    x = [math.log(points[index].size) for index in kept]
    y = [math.log(points[index].latency_ns) for index in kept]
    if len(kept) > 1:
        slope, intercept = statistics.linear_regression(x, y)
        if slope >= _UNSURE_SLOPE:
            return intercept, slope
    return y[-1] - x[-1], 1.0


def _crossing(level: float, line: tuple[float, float], points: Sequence[Point]) -> float:
    """The size where the line reaches the level, inside the sizes that were run."""
    found = math.exp((math.log(level) - line[0]) / line[1])
    return min(max(found, points[0].size), points[-1].size)


@dataclass(frozen=True, slots=True)
class Shares:
    """Who owns a recorded step.

    Attributes:
        kinds: Share of each kind of limit.
        unrecorded: The same less what recording added to the step, all of it taken for overhead.
        idle: Share in which the device ran nothing.
        recorded_ns: The step's length.
    """

    kinds: dict[Bound, float]
    unrecorded: dict[Bound, float]
    idle: float
    recorded_ns: float


def shares_of(document: Document, plain_ns: float) -> Shares | None:
    """The shares of a recorded step whose unrecorded time is known; None where nothing ran on a device."""
    times = step_times(document)
    recorded = statistics.median_low(times) if times else 0
    if not document.waterfall or not recorded:
        return None

    def owned(parts: set[str]) -> float:
        return statistics.median_low(part_times(document, parts) or [0.0])

    kinds: tuple[Bound, ...] = ("compute", "memory", "communication", "overhead")
    ns = {kind: owned({part for part, bound in BOUND_OF_PART.items() if bound == kind}) for kind in kinds}
    added = max(0.0, recorded - plain_ns)
    plain = {kind: value if kind != "overhead" else max(0.0, value - added) for kind, value in ns.items()}
    whole = max(1.0, recorded - added)
    idle = owned({part for part in BOUND_OF_PART if is_of_no_kernel(part) and part != "carried_over"})
    return Shares(
        {kind: value / recorded for kind, value in ns.items()},
        {kind: min(1.0, value / whole) for kind, value in plain.items()},
        min(1.0, idle / recorded),
        recorded,
    )


def regime_of(trend: Trend | None, shares: Shares | None) -> tuple[str, Bound | None]:
    """What limits the step, in words, and the kind of limit where recorded and unrecorded shares agree on it."""
    if shares is None:
        return "unknown", None
    first, second = _largest(shares.kinds), _largest(shares.unrecorded)
    if first is None and second is None:
        return ("overhead", "overhead") if shares.idle >= _MOSTLY_IDLE else ("unknown", None)
    kinds = list(dict.fromkeys(kind for kind in (second, first) if kind is not None))
    words = [_FLAT_WORDS[kind] if trend == "flat" else kind for kind in kinds]
    return " or ".join(words), kinds[0] if len(kinds) == 1 else None


def _largest(kinds: Mapping[Bound, float]) -> Bound | None:
    kind = max(kinds, key=lambda kind: kinds[kind])
    return kind if kinds[kind] > 0 else None
