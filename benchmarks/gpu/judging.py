"""How a comparison with counters is judged: Nsight Compute's verdict, agreement with ours, errors weighted by time.

Plain functions over plain numbers, so that each can be tested on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Theirs = Literal["compute", "memory", "balanced", "latency"]

HIGH: Final = 80.0
LOW: Final = 60.0
BALANCED: Final = 10.0
"""Percent of the peak, as Nsight Compute's own rules have them (SpeedOfLight section)."""

LONG_NS: Final = 20_000
"""Kernels over this are held to the aim: below it, counters and durations are those of starting and ending."""
CACHED: Final = 0.9
REREAD: Final = 1.1


def verdict_of(sm_percent: float, memory_percent: float) -> Theirs:
    """What the two throughputs say of a kernel."""
    larger = max(sm_percent, memory_percent)
    if larger < LOW:
        return "latency"
    if larger < HIGH and abs(sm_percent - memory_percent) < BALANCED:
        return "balanced"
    return "compute" if sm_percent > memory_percent else "memory"


def is_agreed(theirs: Theirs, bound: str | None, flags: Sequence[str]) -> bool | None:
    """Whether our row says the same; None where we say nothing, or speak of a link.

    Below 60 % of either throughput theirs says latency; ours then says too small, or far below its roof.
    """
    if bound not in ("compute", "memory", "overhead"):
        return None
    is_low = bound == "overhead" or "under-used" in flags
    if theirs == "latency":
        return is_low
    if is_low:
        return False
    return theirs in ("balanced", bound) or "balanced" in flags


def why_bytes_differ(formula: float, dram: float, l2: float | None, *, is_split_k: bool) -> str:
    """A reason that the other counters support; empty where none does, or nothing differs."""
    if dram < CACHED * formula:
        return "served by the L2" if l2 is not None and l2 >= CACHED * formula else ""
    if dram > REREAD * formula:
        if is_split_k:
            return "partial results of split-k"
        return "read more than once: the L2 did not hold it" if l2 is not None and l2 >= dram else ""
    return ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of absolute relative errors: by count the median, 90th percentile and worst, and the mean by time."""

    count: int
    median: float
    p90: float
    worst: float
    by_time: float


def spread_of(errors: Iterable[tuple[float, float]]) -> Spread | None:
    """Of pairs (relative error, time); None of nothing."""
    pairs = sorted((abs(error), weight) for error, weight in errors)
    if not pairs:
        return None
    values = [error for error, _ in pairs]
    total = sum(weight for _, weight in pairs)
    by_time = sum(error * weight for error, weight in pairs) / total if total else 0.0
    return Spread(len(values), _quantile(values, 0.5), _quantile(values, 0.9), values[-1], by_time)


def _quantile(values: Sequence[float], share: float) -> float:
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


def agreed_share(judged: Iterable[tuple[bool | None, float]]) -> tuple[float | None, float]:
    """Share of the judged time that agrees, and the time that is not judged."""
    agreed = total = unjudged = 0.0
    for verdict, time in judged:
        if verdict is None:
            unjudged += time
        else:
            total += time
            agreed += time if verdict else 0.0
    return (agreed / total if total else None), unjudged
