"""The steady step of a report: how long it lasts and how sure that is, and what owns its time, exactly."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from diagnose.schema import Document

FEWEST_FOR_QUARTILES: Final = 5
"""Of fewer values the smallest and largest are taken."""
NOTCH: Final = 2.0
"""Half width of the interval of a median, in quartile distances over the root of the count. Two samples of the same
thing, one value in ten interrupted, then lie apart in 6 % (of five values) to 1 % (of ten) of the cases, simulated; box
plots' customary 1.57 gives 10 % and 2 %. Quartiles, because an interruption must not widen it."""
SMALLEST_NOISE: Final = 0.01
"""Half width, relative. Two runs of the same thing differ by this much even where the steps inside each do not:
clocks, memory addresses and neighbours are drawn once a run. A convention, not a measurement."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity of a step, measured several times.

    Attributes:
        middle: Its median, of an even number of values the lower middle one.
        low, high: What a repetition may give; None where one value does not say.
        count: Values.
    """

    middle: float
    low: float | None
    high: float | None
    count: int


def spread_of(values: Sequence[float]) -> Spread | None:
    """The median with its noise; None without values.

    The noise is the interval of the median (``NOTCH``), of fewer than five values all of them, and never less than 1 %
    either way. Of one value it is unknown.
    """
    if not values:
        return None
    middle = statistics.median_low(values)
    if len(values) == 1:
        return Spread(middle, None, None, 1)
    low, high = min(values), max(values)
    if len(values) >= FEWEST_FOR_QUARTILES:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        half = NOTCH * (third - first) / math.sqrt(len(values))
        low, high = max(low, middle - half), min(high, middle + half)
    floor = SMALLEST_NOISE * abs(middle)
    return Spread(middle, min(low, middle - floor), max(high, middle + floor), len(values))


def steady_steps(document: Document) -> list[int]:
    """Indices of the steady steps, of all steps where none is."""
    steps = document.window.steps
    return [index for index, step in enumerate(steps) if step.steady] or list(range(len(steps)))


def step_times(document: Document) -> list[int]:
    """Wall times in ns of the steady recorded steps."""
    return [document.window.steps[index].wall_ns for index in steady_steps(document)]


def part_times(document: Document, parts: Collection[str]) -> list[float]:
    """What these parts of the waterfall own together of each steady step: ns, the mean over devices."""
    kept = steady_steps(document)
    owned = dict.fromkeys(kept, 0)
    for row in document.waterfall:
        if row.step in owned and row.part in parts:
            owned[row.step] += row.ns
    devices = _device_count(document)
    return [owned[index] / devices for index in kept] if devices else []


def is_of_no_kernel(part: str) -> bool:
    """Whether a part of the waterfall belongs to none of the report's kernel rows: idle time and carried-over work."""
    return part.startswith("idle_") or part == "carried_over"


@dataclass(frozen=True, slots=True)
class Account:
    """The median steady step as parts that add up to it.

    Attributes:
        step_ns: Its length.
        kernels: ns of it that each kernel row of the report owns, in their order.
        parts: ns of it that belong to no kernel, by part of the waterfall.
    """

    step_ns: int
    kernels: list[int]
    parts: dict[str, int]


def account_of(document: Document) -> Account:
    """Splits the median steady step among kernel rows and idle parts; they sum to it to the nanosecond.

    A part of the waterfall has the share that it has of all steady steps. A kernel row's exposed time is known for the
    window only: rows share the steady steps' busy time as they share the window's. Where all steps are steady, as in a
    window of one step, nothing is assumed. Several devices count with their mean.
    """
    times = step_times(document)
    step_ns = statistics.median_low(times) if times else 0
    steady = set(steady_steps(document))
    in_steps: dict[str, int] = {}
    for row in document.waterfall:
        if row.step in steady:
            in_steps[row.part] = in_steps.get(row.part, 0) + row.ns
    outside = {part: ns for part, ns in in_steps.items() if is_of_no_kernel(part)}
    busy = sum(in_steps.values()) - sum(outside.values())
    exposed = [row.exposed_ns for row in document.kernels]
    whole = sum(exposed)
    weights: dict[int | str, int] = {part: ns * max(1, whole) for part, ns in outside.items()}
    weights |= {index: ns * busy for index, ns in enumerate(exposed)}
    if not any(weights.values()):
        weights = {"idle_unknown": 1}  # nothing ran on a device, or outside the steps: no part is known
    shared = apportioned(weights, step_ns)
    return Account(
        step_ns,
        [shared.get(index, 0) for index in range(len(exposed))],
        {part: ns for part, ns in shared.items() if isinstance(part, str)},
    )


def apportioned(weights: Mapping[int | str, int], total: int) -> dict[int | str, int]:
    """``total`` as whole numbers in proportion to ``weights``: floors, the missing ones to the largest fractions."""
    whole = sum(weights.values())
    shared = {key: weight * total // whole for key, weight in weights.items()}
    fractions = sorted(weights, key=lambda key: -(weights[key] * total % whole))
    for key in fractions[: total - sum(shared.values())]:
        shared[key] += 1
    return shared


def _device_count(document: Document) -> int:
    return len({(row.process_rank, row.device) for row in document.waterfall})
