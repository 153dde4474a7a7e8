"""Wall time of each device: what owns it in each step, and why the rest is idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnose import waterfall
from diagnose.hardware import Hardware
from diagnose.idle import Gaps, explain
from diagnose.items import KIND_COPY, Recording
from diagnose.placing import Placed
from diagnose.schema import BOUND_OF_PART, Step, WaterfallRow
from diagnose.trace.extras import Extras
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.verdict import IdleCause
from diagnose.waterfall import PARTS, Spans, split

_UNKNOWN = PARTS.index("idle_unknown")


@dataclass(frozen=True, slots=True)
class Timeline:
    """One device.

    Attributes:
        parts: ns owned by each part in each step [steps, len(PARTS)].
        exposed: ns of wall time that each of its spans owns, in the order of the items' spans.
        gaps: Its idle intervals, explained.
    """

    parts: Ints
    exposed: Ints
    gaps: Gaps


def device_timelines(placed: Placed, extras: Extras | None) -> dict[int, Timeline]:
    """The timeline of each device that worked."""
    items, groups, boundaries = placed.recording.items, placed.groups, placed.recording.steps.boundaries
    # The last entry of both is for group -1: carried over.
    kinds = np.array([_span_kind(placed, index) for index in range(len(groups))] + [waterfall.CARRIED])
    roofs = np.array([placement.roof_ns or 0.0 for placement in placed.placements] + [0.0])
    use = np.divide(roofs[groups.of_item], items.duration, out=np.zeros(len(items.name)), where=items.duration > 0)
    timelines = {}
    for device in np.unique(items.device).tolist():
        here = np.flatnonzero(items.device[items.spans.row] == device)
        row = items.spans.row[here]
        spans = Spans(items.spans.start[here], items.spans.end[here], kinds[groups.of_item[row]], use[row])
        found = split(spans, boundaries)
        gap_s = None if device not in placed.hardware.ceilings else placed.hardware.ceilings[device].rate("kernel_gap")
        idle = (found.idle_start, found.idle_end)
        gaps = explain(placed.recording, device, idle, None if gap_s is None else gap_s * 1e9, extras)
        step = np.searchsorted(boundaries, gaps.start, side="right") - 1
        parts = found.parts.copy()
        parts[:, _UNKNOWN] = 0
        np.add.at(parts, step, gaps.parts)
        timelines[device] = Timeline(parts, found.exposed, gaps)
    return timelines


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


def idle_causes(recording: Recording, timelines: dict[int, Timeline]) -> list[IdleCause]:
    """Idle time by part and by the op it is to be blamed on, largest first.

    A late launch is the op's that made it, a synchronisation's wait the op's that synchronised.
    """
    sums: dict[tuple[str, str | None], int] = {}
    for found in timelines.values():
        gaps = found.gaps
        for index, part in enumerate(PARTS):
            rows = np.flatnonzero(gaps.parts[:, index])
            names = _names_of_calls(recording.trace, (gaps.blocking if part == "idle_sync" else gaps.call)[rows])
            distinct, inverse = np.unique(names, return_inverse=True)
            owned = np.zeros(len(distinct), np.int64)
            np.add.at(owned, inverse.reshape(-1), gaps.parts[rows, index])
            for name, ns in zip(distinct.tolist(), owned.tolist(), strict=True):
                key = (part, recording.trace.strings[name] if name >= 0 else None)
                sums[key] = sums.get(key, 0) + ns
    return [IdleCause(part, name, ns) for (part, name), ns in sorted(sums.items(), key=lambda entry: -entry[1])]


def _names_of_calls(trace: Trace, calls: Ints) -> Ints:
    """String id of the op that each call was made in, of the call itself outside any op, -1 for no call."""
    op = taken(trace.calls.op, calls)
    return np.where(op >= 0, taken(trace.ops.name, op), taken(trace.calls.name, calls))


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
