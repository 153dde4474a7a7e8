"""Which rows of a report are shown: one device, one step, one order. Nothing is measured or judged here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final, Literal, get_args

from msgspec import Struct

from diagnose.errors import UsageError
from diagnose.medians import median_low
from diagnose.places.module_tree import folded
from diagnose.schema import Bound, DeviceRow, Document, KernelRow, Part, Place, WaterfallRow

Sort = Literal["time", "recoverable", "module"]
DeviceKey = tuple[int | None, str]

PART_WORDS: Final[dict[Part, str]] = {
    "compute_roof": "at the roof", "compute_above_roof": "above the roof",
    "memory_roof": "at the roof", "memory_above_roof": "above the roof",
    "exposed_communication": "exposed collectives", "exposed_copy": "exposed copies",
    "small_kernels": "small kernels", "idle_launch": "idle: launching", "idle_sync": "idle: synchronising",
    "idle_data": "idle: data loading", "idle_allocator": "idle: allocator", "idle_compile": "idle: compiling",
    "idle_gc": "idle: garbage collection", "idle_startup": "idle: start-up", "idle_slot": "idle: between kernels",
    "uncosted": "no work known", "carried_over": "carried over", "idle_profiler": "idle: profiler",
    "idle_dependency": "idle: dependency", "idle_queued": "queued, not started", "idle_unknown": "idle: unexplained",
}  # fmt: skip
"""The parts of the waterfall in words for people."""


class StepSpan(Struct, frozen=True):
    """How long a step lasts: the median of the steady ones (of two the shorter, which is shown), and their spread."""

    count: int
    median_ns: float
    low_ns: int
    high_ns: int


def main_device(document: Document) -> DeviceKey | None:
    """The device that a one-device view shows: the one with most kernel time; None when nothing ran on any."""
    time_ns: defaultdict[DeviceKey, int] = defaultdict(int)
    for row in document.kernels:
        time_ns[row.process_rank, row.device] += row.time_ns
    if time_ns:
        return max(time_ns, key=lambda key: time_ns[key])
    return next(((row.process_rank, row.device) for row in document.waterfall), None)


def device_row(document: Document, key: DeviceKey | None) -> DeviceRow | None:
    """What is known of the device ``key``."""
    return next((row for row in document.devices if (row.process_rank, row.device) == key), None)


def steady_span(document: Document) -> StepSpan | None:
    """The steady steps' median and spread, None when there is no steady step."""
    walls = [step.wall_ns for step in document.window.steps if step.steady]
    return StepSpan(len(walls), median_low(walls), min(walls), max(walls)) if walls else None


def shown_step(document: Document) -> int | None:
    """The step whose waterfall is shown: the steady one of median length, the earlier of two; None: the window."""
    steps = document.window.steps
    steady = sorted((step.wall_ns, index) for index, step in enumerate(steps) if step.steady)
    if len(steps) < 2 or not steady:
        return None
    return steady[(len(steady) - 1) // 2][1]


def waterfall_of(document: Document, key: DeviceKey, step: int | None) -> list[WaterfallRow]:
    """One device's parts in one step (None: the whole window), in the order of the parts, empty ones left out."""
    order = {part: index for index, part in enumerate(get_args(Part))}
    rows = [
        row for row in document.waterfall if (row.process_rank, row.device) == key and row.step == step and row.ns > 0
    ]
    return sorted(rows, key=lambda row: order[row.part])


def shown_waterfall(document: Document) -> tuple[int | None, list[WaterfallRow]]:
    """The step that a one-screen view shows, and its parts; the whole window where the step has none."""
    key = main_device(document)
    if key is None:
        return None, []
    step = shown_step(document)
    rows = waterfall_of(document, key, step)
    return (step, rows) if rows else (None, waterfall_of(document, key, None))


def groups_of(rows: list[WaterfallRow]) -> list[tuple[Bound | None, list[WaterfallRow]]]:
    """The parts by kind of limit, the largest kind first; what belongs to no kind comes last."""
    grouped: defaultdict[Bound | None, list[WaterfallRow]] = defaultdict(list)
    for row in rows:
        grouped[row.bound].append(row)
    return sorted(grouped.items(), key=lambda item: (item[0] is None, -sum(row.ns for row in item[1])))


def ordered_kernels(document: Document, sort: str = "time") -> list[KernelRow]:
    """The kernel rows by time, by what they could be shorter by, or module by module.

    Raises UsageError for another order.
    """
    if sort == "time":
        return sorted(document.kernels, key=lambda row: row.place)
    if sort == "recoverable":
        return sorted(document.kernels, key=lambda row: (-row.gap_ns.mid if row.gap_ns else 1, row.place))
    if sort == "module":
        stacks = {row.place: folded(stack_of(row) or "") for row in document.kernels}
        time_ns: defaultdict[str, int] = defaultdict(int)
        for row in document.kernels:
            time_ns[stacks[row.place]] += row.time_ns
        return sorted(document.kernels, key=lambda row: (-time_ns[stacks[row.place]], stacks[row.place], row.place))
    raise UsageError(f"cannot sort by {sort!r}: choose one of {', '.join(get_args(Sort))}")


def module_of(row: KernelRow) -> str | None:
    """The module that most of the row's time was spent for, None where that was not recorded."""
    return _most(row, lambda place: place.module)


def line_of(row: KernelRow) -> str | None:
    """The source line that most of the row's time was spent for, None where that was not recorded."""
    return _most(row, lambda place: place.line)


def stack_of(row: KernelRow) -> str | None:
    """As ``module_of`` with the layers of a stack as one, ``GPT2.h.*.mlp``, where the row has several."""
    if len({place.module for place in row.places}) == 1:
        return row.places[0].module
    return _most(row, lambda place: None if place.module is None else folded(place.module))


def _most(row: KernelRow, key: Callable[[Place], str | None]) -> str | None:
    time_ns: dict[str | None, int] = {None: 0}
    for place in row.places:
        time_ns[key(place)] = time_ns.get(key(place), 0) + place.time_ns
    return max(time_ns, key=lambda found: (time_ns[found], found is not None))
