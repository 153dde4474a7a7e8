"""A step at several sizes as rows: what every rendering of ``scaling`` takes. None is unknown."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from diagnose.schema import Bound, Tool

Trend = Literal["flat", "bending", "rising"]


class Point(Struct, frozen=True, kw_only=True):
    """The step at one size.

    Attributes:
        size: As the caller gave it.
        latency_ns: Median time of a run, from an idle device to an idle device, without the profiler.
        low_ns, high_ns: What a repetition may give.
        runs: Timed runs.
        back_to_back_ns: Time of a run where many follow each other and only the last is waited for.
        throughput_per_s: Size over that.
        slope: d log(time) / d log(size) on the way from the size below: 0 flat, 1 in proportion; None for the smallest.
        trend: Where on the curve it lies; None where a single size does not tell.
        regime: What limits the step at this size, in words.
        bound: The kind of limit with the largest share; None where no kind owns time, or two readings disagree.
        overhead_share: Share of the step that is overhead, as recorded.
        overhead_share_unrecorded: The same less what recording added, all of it taken for overhead: a lower bound.
        idle_share: Share of the recorded step in which the device ran nothing.
        recorded_ns: Median time of a recorded step.
    """

    size: float
    latency_ns: float
    low_ns: float
    high_ns: float
    runs: int
    back_to_back_ns: float
    throughput_per_s: float
    slope: float | None = None
    trend: Trend | None = None
    regime: str = "unknown"
    bound: Bound | None = None
    overhead_share: float | None = None
    overhead_share_unrecorded: float | None = None
    idle_share: float | None = None
    recorded_ns: float | None = None


class Sweep(Struct, frozen=True, kw_only=True):
    """All sizes, ascending.

    Attributes:
        device: What it ran on.
        verdict: Up to where the time is flat and why, where it begins to grow, and what limits it from there.
        flat_ns: The flat part's time; None where there is none.
        knee: The size at which the flat part and the rising part meet; None where one of them was not seen.
        knee_low, knee_high: The same with the noise of the flat part.
        rise: Slope of the rising part; None where it was not seen.
    """

    tool: Tool
    device: str | None
    verdict: str
    flat_ns: float | None
    knee: float | None
    knee_low: float | None
    knee_high: float | None
    rise: float | None
    points: list[Point]
    notes: list[str] = []
