"""How even the steady steps are: their median and quartiles, and which steps stand out by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from diagnose.medians import median_low, quartiles
from diagnose.schema import Part, Step, StepOutlier, StepSpread, WaterfallRow

FEWEST_FOR_QUARTILES: Final = 8
_FEWEST: Final = 3
_FENCE: Final = 1.5
"""Tukey's: a value this many interquartile ranges outside the quartiles stands out."""
_SMALLEST: Final = 0.05
"""A smaller difference from the median is not worth a name, however even the other steps are."""
_SMALLEST_OF_FEW: Final = 0.2
"""The same where there are too few steps for quartiles."""


def step_spread(steps: Sequence[Step], waterfall: Sequence[WaterfallRow]) -> StepSpread | None:
    """The spread of the steady steps; None without any.

    Args:
        steps: The window's.
        waterfall: Its parts by step.
    """
    steady = [index for index, step in enumerate(steps) if step.steady]
    if not steady:
        return None
    walls = [steps[index].wall_ns for index in steady]
    median = median_low(walls)
    low = high = None
    if len(walls) >= FEWEST_FOR_QUARTILES:
        first, third = quartiles(walls)
        low, high = round(first), round(third)
    standing_out = [index for index in steady if _stands_out(steps[index].wall_ns, len(walls), median, low, high)]
    owned = _owned(waterfall, steady) if standing_out else {}
    return StepSpread(
        count=len(steady),
        median_ns=median,
        low_quartile_ns=low,
        high_quartile_ns=high,
        outliers=[_outlier(index, steps[index], median, owned) for index in standing_out],
    )


def _stands_out(wall: int, count: int, median: int, low: int | None, high: int | None) -> bool:
    if low is None or high is None:
        return count >= _FEWEST and abs(wall - median) > _SMALLEST_OF_FEW * median
    fence = _FENCE * (high - low)
    return not low - fence <= wall <= high + fence and abs(wall - median) > _SMALLEST * median


def _owned(waterfall: Sequence[WaterfallRow], steady: Sequence[int]) -> dict[Part, dict[int, int]]:
    """Time of each part in each steady step, over all devices."""
    owned: dict[Part, dict[int, int]] = {row.part: dict.fromkeys(steady, 0) for row in waterfall}
    for row in waterfall:
        if row.step in owned[row.part]:
            owned[row.part][row.step] += row.ns
    return owned


def _outlier(index: int, step: Step, median: int, owned: Mapping[Part, Mapping[int, int]]) -> StepOutlier:
    off = step.wall_ns - median
    differences = {part: by_step[index] - median_low(by_step.values()) for part, by_step in owned.items()}
    # Only a part that differs in the same direction can be why.
    fitting = {part: ns for part, ns in differences.items() if ns * off > 0}
    part = max(fitting, key=lambda name: abs(fitting[name]), default=None)
    return StepOutlier(
        step=index,
        name=step.name,
        wall_ns=step.wall_ns,
        off_ns=off,
        part=part,
        part_ns=0 if part is None else fitting[part],
    )
