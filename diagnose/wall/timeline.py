"""Wall time of each device: what owns it in each step, and why the rest is idle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from diagnose.distinct import distinct
from diagnose.items import KIND_COPY, Recording
from diagnose.roofs.hardware import Hardware
from diagnose.roofs.placing import Placed
from diagnose.schema import BOUND_OF_PART, IdleRow, Step, WaterfallRow
from diagnose.trace.extras import Extras
from diagnose.trace.tables import Ints
from diagnose.verdict import IdleCause
from diagnose.wall import waterfall
from diagnose.wall.idle import Gaps, explain
from diagnose.wall.phases import DATA, ItemPhases, item_phases
from diagnose.wall.waterfall import PARTS, Cells, Spans, merged, split

_UNKNOWN = PARTS.index("idle_unknown")


class Timeline(Struct, frozen=True):
    """One device.

    Attributes:
        parts: ns owned by each part in each step [steps, len(PARTS)].
        exposed: ns of wall time that each of its spans owns, in the order of the items' spans.
        gaps: Its idle intervals, explained.
        cells: The same time by step, label and part; ``labels_of`` says what a label means.
        annotations: Names of the user's annotations, for ``labels_of``.
    """

    parts: Ints
    exposed: Ints
    gaps: Gaps
    cells: Cells
    annotations: tuple[str, ...]


def labels_of(timeline: Timeline) -> tuple[Ints, Ints]:
    """Phase (index into ``PHASES``) and annotation (index into the timeline's) of each of its cells, -1 for none."""
    phase, annotation = np.divmod(timeline.cells.label, len(timeline.annotations) + 1)
    return phase - 1, annotation - 1


def device_timelines(placed: Placed, extras: Extras | None) -> dict[int, Timeline]:
    """The timeline of each device that worked."""
    items, groups, boundaries = placed.recording.items, placed.groups, placed.recording.steps.boundaries
    # The last entry of both is for group -1: carried over.
    kinds = np.array([_span_kind(placed, index) for index in range(len(groups))] + [waterfall.CARRIED])
    roofs = np.array([placement.roof_ns or 0.0 for placement in placed.placements] + [0.0])
    use = np.divide(roofs[groups.of_item], items.duration, out=np.zeros(len(items.name)), where=items.duration > 0)
    phases = item_phases(placed.recording)
    labels = _labels(phases)
    timelines = {}
    for device in distinct(items.device).tolist():
        here = np.flatnonzero(items.device[items.spans.row] == device)
        row = items.spans.row[here]
        spans = Spans(items.spans.start[here], items.spans.end[here], kinds[groups.of_item[row]], use[row], labels[row])
        found = split(spans, boundaries)
        gap_s = None if device not in placed.hardware.ceilings else placed.hardware.ceilings[device].rate("kernel_gap")
        idle = (found.idle_start, found.idle_end)
        gaps = explain(placed.recording, device, idle, None if gap_s is None else gap_s * 1e9, extras)
        step = np.searchsorted(boundaries, gaps.start, side="right") - 1
        parts = found.parts.copy()
        parts[:, _UNKNOWN] = 0
        np.add.at(parts, step, gaps.parts)
        cells = merged([found.cells, _idle_cells(gaps, step, labels, len(phases.annotations))])
        timelines[device] = Timeline(parts, found.exposed, gaps, cells, phases.annotations)
    return timelines


def _labels(phases: ItemPhases) -> Ints:
    """Phase and annotation of each item as one number from 0."""
    return (phases.phase + 1) * (len(phases.annotations) + 1) + phases.annotation + 1


def _idle_cells(gaps: Gaps, step: Ints, labels: Ints, annotations: int) -> Cells:
    """Idle time by the label of the item that ends it; waiting for data is the data phase's, whatever it held up."""
    gap, part = np.nonzero(gaps.parts)
    label = np.where(gaps.following[gap] >= 0, labels[gaps.following[gap]], 0)
    is_data = part == PARTS.index("idle_data")
    label = np.where(is_data, (DATA + 1) * (annotations + 1) + label % (annotations + 1), label)
    return Cells(step[gap], label, part, gaps.parts[gap, part])


def _span_kind(placed: Placed, index: int) -> int:
    placement, work = placed.placements[index], placed.work(index)
    if placement.bound == "communication":
        return waterfall.COPY if placed.groups.kind[index] == KIND_COPY else waterfall.COMMUNICATION
    is_limit = work is not None and work.is_bound  # no verdict rests on a bound
    if placement.bound is None or not placement.is_believed or is_limit:
        return waterfall.UNCOSTED
    return {"compute": waterfall.COMPUTE, "memory": waterfall.MEMORY, "overhead": waterfall.SMALL}[placement.bound]


def exposed_ns(recording: Recording, timelines: dict[int, Timeline]) -> Ints:
    """Wall time that each item owns."""
    items = recording.items
    owned = np.zeros(len(items.name), np.int64)
    for device, found in timelines.items():
        here = np.flatnonzero(items.device[items.spans.row] == device)
        np.add.at(owned, items.spans.row[here], found.exposed)
    return owned


def idle_causes(rows: Sequence[IdleRow], *, is_cpu: bool) -> list[IdleCause]:
    """Idle time by part and by the op it is to be blamed on, largest first.

    A late launch is the op's that made it, a synchronisation's wait the op's that synchronised; of a CPU's idle time no
    op is to blame, since it lies between ops.
    """
    sums: dict[tuple[str, str | None], int] = {}
    for row in rows:
        key = (row.part, None if is_cpu else row.op or row.call)
        sums[key] = sums.get(key, 0) + row.ns
    return [IdleCause(part, name, ns) for (part, name), ns in sorted(sums.items(), key=lambda entry: -entry[1])]


def step_rows(recording: Recording) -> list[Step]:
    """Steps as offsets from the window's start; the first, and any with carried-over time, is not steady."""
    items, steps = recording.items, recording.steps
    is_carried = ~items.is_own[items.spans.row]
    start, end = items.spans.start[is_carried], items.spans.end[is_carried]
    bounds = steps.boundaries.tolist()
    count = len(steps.names)
    return [
        Step(
            name,
            low - bounds[0],
            high - low,
            steady=(count == 1 or index > 0) and not ((start < high) & (end > low)).any(),
        )
        for index, (name, low, high) in enumerate(zip(steps.names, bounds[:-1], bounds[1:], strict=True))
    ]


def waterfall_rows(recording: Recording, timelines: dict[int, Timeline], hardware: Hardware) -> list[WaterfallRow]:
    """Every part that owns time, of the whole window and of each step."""
    rank = recording.trace.process_rank
    rows: list[WaterfallRow] = []
    for device, found in timelines.items():
        whole: list[tuple[int | None, Ints]] = [(None, found.parts.sum(axis=0))]
        for step, owned in whole + list(enumerate(found.parts)):
            wall = int(owned.sum())
            rows += [
                WaterfallRow(rank, hardware.keys[device], step, part, BOUND_OF_PART[part], int(ns), ns / wall)  # type: ignore[arg-type]
                for part, ns in zip(PARTS, owned.tolist(), strict=True)
                if ns
            ]
    return rows
