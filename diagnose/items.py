"""What is placed under the roof, in one shape: device activities, or on a CPU each op's own time.

Everything after this module treats the two alike.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.compiled import compiling, hidden_note
from diagnose.distinct import distinct
from diagnose.errors import UsageError
from diagnose.kernel_names import read_name
from diagnose.trace.graphs import link_graphs
from diagnose.trace.host import Nesting, Segments, self_segments
from diagnose.trace.link import Links, link, taken
from diagnose.trace.lost_arguments import with_lost_arguments
from diagnose.trace.tables import COPY, KERNEL, SET, Ints, Trace
from diagnose.trace.windows import Steps, carried_over, cut_steps, find_marks, step_of

KIND_KERNEL: Final = KERNEL
KIND_COPY: Final = COPY
KIND_SET: Final = SET
KIND_COLLECTIVE: Final = 3
KIND_SELF: Final = 4
"""Kinds of item; a collective is a kernel that communicates, SELF an op's own time on a CPU."""

CPU_DEVICE: Final = -1


class Items(Struct, frozen=True):
    """One row an item.

    Attributes:
        name: String id: the kernel's, copy's or op's.
        kind: KIND_KERNEL ... KIND_SELF.
        device: As recorded; CPU_DEVICE for the host.
        duration: ns of device time, or of own time on a CPU.
        op: Row of the op that it belongs to, -1 if unlinked.
        call: Row of the launch call, -1 if none was recorded.
        blocks: Thread blocks of the grid, -1 where not recorded.
        bytes: Of copies and sets, -1 where not recorded.
        metadata: Index into ``Trace.metadata``, -1 for none.
        step: Index of the step it belongs to, -1 for what is carried over.
        order: Rank in launch order.
        spans: When it ran; ``spans.row`` is the item.
    """

    name: Ints
    kind: Ints
    device: Ints
    duration: Ints
    op: Ints
    call: Ints
    blocks: Ints
    bytes: Ints
    metadata: Ints
    step: Ints
    order: Ints
    spans: Segments

    @property
    def is_own(self) -> NDArray[np.bool_]:
        """Whether the item was launched in the window."""
        return self.step >= 0


class Recording(Struct, frozen=True, weakref=True):
    """A trace with its steps and items."""

    trace: Trace
    steps: Steps
    items: Items
    is_cpu: bool
    links: Links | None
    notes: tuple[str, ...] = ()


def collect(
    trace: Trace,
    window: re.Pattern[str] | None = None,
    only_step: int | None = None,
    capture: Trace | None = None,
) -> Recording:
    """Finds steps and items: device activity where there is any, else the host's ops if the host is the device.

    Args:
        trace: The recording.
        window: Names of the annotations that begin a step, to override those that are known.
        only_step: Take this step alone, from 0; work of the others counts as carried over.
        capture: A recording of the capture of the device graphs that this one replays.

    Raises:
        UsageError: No annotation fits ``window``, or there is no such step.
    """
    trace = with_lost_arguments(trace)
    marks = find_marks(trace, window)
    if window is not None and not marks[0]:
        raise UsageError(f"--window {window.pattern!r}: no annotation of the recording has such a name")
    first_mark = int(marks[1][0]) if marks[0] else 0
    starts = marks[1] if marks[0] else np.zeros(1, np.int64)
    if len(trace.activities.start) or trace.missing_devices:
        trace, links = link_graphs(trace, link(trace), None if capture is None else with_lost_arguments(capture))
        items = _device_items(trace, links, starts, first_mark)
    else:
        items, links = _cpu_items(trace, starts, first_mark), None
    ends = np.zeros(len(items.name), np.int64)
    np.maximum.at(ends, items.spans.row, items.spans.end)
    steps = cut_steps(trace, marks, items.step, ends)
    notes = links.notes if links is not None else _hidden(trace, items)
    found = Recording(trace, steps, items, links is None, links, notes)
    return found if only_step is None else _one_step(found, only_step)


def _hidden(trace: Trace, items: Items) -> tuple[str, ...]:
    note = hidden_note(trace, items.duration)
    return () if note is None else (note,)


def _one_step(recording: Recording, step: int) -> Recording:
    steps, items = recording.steps, recording.items
    if not 0 <= step < len(steps.names):
        raise UsageError(f"--step {step}: the recording has {len(steps.names)} steps, counted from 0")
    one = Steps(
        steps.names[step : step + 1],
        steps.starts[step : step + 1],
        steps.boundaries[step : step + 2],
        has_marks=True,
    )
    return replace(recording, steps=one, items=replace(items, step=np.where(items.step == step, 0, -1)))


def _device_items(trace: Trace, links: Links, starts: Ints, first_mark: int) -> Items:
    activities = trace.activities
    launch_start = taken(trace.calls.start, links.call)
    is_carried = carried_over(activities.start, activities.end, launch_start, activities.device, first_mark)
    began = np.where(launch_start >= 0, launch_start, activities.start)
    step = np.where(is_carried, -1, np.maximum(step_of(began, starts), 0))
    is_collective = np.zeros(len(activities.name), np.bool_)
    for name in distinct(activities.name[activities.kind == KERNEL]).tolist():
        if read_name(trace.strings[name]).is_collective:
            is_collective |= activities.name == name
    kind = np.where(is_collective & (activities.kind == KERNEL), KIND_COLLECTIVE, activities.kind)
    grid = activities.grid
    blocks = np.where((grid >= 0).all(axis=1), grid.prod(axis=1), -1)
    rows = np.arange(len(kind))
    # Kernels of a replayed graph share one launch: there their nodes, or the device's order, stand for the capture's.
    order = np.empty(len(kind), np.int64)
    order[np.lexsort((activities.start, activities.graph_node, began))] = rows
    metadata = np.where(activities.metadata >= 0, activities.metadata, _metadata_of_op(trace, links.op))
    return Items(
        activities.name, kind, activities.device, activities.end - activities.start, links.op, links.call, blocks,
        activities.bytes, metadata, step, order, Segments(rows, activities.start, activities.end),
    )  # fmt: skip


def _metadata_of_op(trace: Trace, op: Ints) -> Ints:
    """Older recordings describe a collective on its op alone: on that op, or the nearest one around it."""
    found = taken(trace.ops.metadata, op)
    above = taken(trace.ops.parent, op)
    while (missing := (found < 0) & (above >= 0)).any():
        found = np.where(missing, taken(trace.ops.metadata, above), found)
        above = taken(trace.ops.parent, above)
    return found


def _cpu_items(trace: Trace, starts: Ints, first_mark: int) -> Items:
    ops = trace.ops
    segments = self_segments(ops.thread, ops.start, Nesting(ops.parent, ops.end, ops.depth))
    count = len(ops.start)
    # torch.compile is no work: its time is the host's, and the ops it traces compute nothing.
    is_compiling = compiling(trace)
    is_kept = ~is_compiling[segments.row]
    segments = Segments(segments.row[is_kept], segments.start[is_kept], segments.end[is_kept])
    own_time = np.zeros(count, np.int64)
    np.add.at(own_time, segments.row, segments.end - segments.start)
    rows, unknown = np.arange(count), np.full(count, -1, np.int64)
    step = np.where(is_compiling | (ops.start < first_mark), -1, np.maximum(step_of(ops.start, starts), 0))
    return Items(
        ops.name, np.full(count, KIND_SELF), np.full(count, CPU_DEVICE), own_time, rows, unknown, unknown, unknown,
        ops.metadata, step, rows, segments,
    )  # fmt: skip


def host_lead_ns(recording: Recording) -> int | None:
    """Median time between the end of a launch call and the start of what it launched; None without launches."""
    items, calls = recording.items, recording.trace.calls
    rows = np.flatnonzero(items.is_own & (items.call >= 0))
    if not rows.size or recording.is_cpu:
        return None
    began = np.zeros(len(items.name), np.int64)
    began[items.spans.row] = items.spans.start
    return int(np.median(began[rows] - calls.end[items.call[rows]]))
