"""What a prediction changes about the recording, as three changes for the replay: fastest, probable, slowest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.findings.case import Case
from diagnose.findings.overhead import graph_changes
from diagnose.predictions.times import Times
from diagnose.predictions.work import family_of
from diagnose.replays.replayer import Change
from diagnose.trace.tables import Ints

Three = tuple[Change, Change, Change]

POINTWISE: Final = frozenset(("pointwise",))
"""Families whose neighbouring kernels a compiler fuses into one."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A changed recording.

    Attributes:
        changes: For the replay: fastest, probable, slowest.
        durations: ns of the items in each; 0 for those that are gone [3, n].
        gone: Items that fusion makes superfluous [n].
    """

    changes: Three
    durations: tuple[Ints, Ints, Ints]
    gone: NDArray[np.bool_]


def changed(case: Case, factors: dict[int, Times], *, fuse: bool, graph: bool) -> Changed:
    """The recording with other durations, and on request with pointwise kernels fused and launched from a graph."""
    durations = [case.scaled({group: each[end] for group, each in factors.items()}) for end in range(3)]
    gone = np.zeros(len(case.group_of), np.bool_)
    hosts: list[Ints | None] = [None, None, None]
    if fuse:
        run, gone = _runs(case)
        durations = [_fused(case, durations[end], run, end) for end in range(3)]
        ops = np.unique(case.placed.recording.items.op[gone & (case.placed.recording.items.op >= 0)])
        hosts = [case.replayer.host_without(ops=ops, keep=keep) for keep in (0.0, 0.5, 1.0)]
    changes = [
        Change(duration=duration, removed=gone if fuse else None, host=host)
        for duration, host in zip(durations, hosts, strict=True)
    ]
    if graph:
        changes = [_both(one, other) for one, other in zip(changes, reversed(graph_changes(case)), strict=True)]
    kept = [np.where(gone, 0, duration) for duration in durations]
    return Changed((changes[0], changes[1], changes[2]), (kept[0], kept[1], kept[2]), gone)


def _both(change: Change, graph: Change) -> Change:
    """A change of kernels, launched from a graph."""
    if change.host is None or graph.host is None:
        return replace(change, host=graph.host, slot=graph.slot)
    return replace(change, host=np.minimum(change.host, graph.host), slot=graph.slot)


def _runs(case: Case) -> tuple[Ints, NDArray[np.bool_]]:
    """The run of neighbouring pointwise items that each belongs to, -1 for none; and all but the first of each run.

    Neighbours follow each other on a stream (on a CPU: on a thread) without another item between them that does
    anything: views do nothing.
    """
    placed, items = case.placed, case.placed.recording.items
    count = len(placed.groups)
    families = [family_of(case, group) in POINTWISE and placed.is_exact(group) for group in range(count)]
    works = [placed.work(group) for group in range(count)]
    is_nothing = [work is not None and work.flops == () and work.bytes_accessed == 0 for work in works]
    chosen = np.array([*families, False], np.bool_)[case.group_of]
    passed = np.array([*is_nothing, False], np.bool_)[case.group_of] & ~chosen
    start = np.zeros(len(items.name), np.int64)
    start[items.spans.row[::-1]] = items.spans.start[::-1]
    lane = _lanes(case)
    order = np.lexsort((start, lane, items.step))
    order = order[~passed[order]]
    run, gone = np.full(len(chosen), -1, np.int64), np.zeros(len(chosen), np.bool_)
    if not len(order):
        return run, gone
    flag = chosen[order]
    breaks = (np.diff(lane[order]) != 0) | (np.diff(items.step[order]) != 0) | (flag[1:] != flag[:-1])
    begins = np.concatenate([[True], breaks])
    run[order] = np.where(flag, np.cumsum(begins), -1)
    gone[order] = flag & ~begins
    return run, gone


def _lanes(case: Case) -> Ints:
    """Stream of each item as one number; on a CPU the thread."""
    recording = case.placed.recording
    if recording.is_cpu:
        return recording.trace.ops.thread[recording.items.op]
    activities = recording.trace.activities
    _, lane = np.unique(np.stack([activities.device, activities.stream]), axis=1, return_inverse=True)
    return np.asarray(lane, np.int64).reshape(-1)


def _fused(case: Case, duration: Ints, run: Ints, end: int) -> Ints:
    """Durations with each run's on its first item.

    Fastest is its longest kernel's, probable what is left of the bytes, slowest their sum: launched once, no faster.
    """
    rows = np.flatnonzero(run >= 0)
    if not len(rows):
        return duration
    items = case.placed.recording.items
    start = np.zeros(len(items.name), np.int64)
    start[items.spans.row[::-1]] = items.spans.start[::-1]
    rows = rows[np.lexsort((start[rows], run[rows]))]
    first = np.flatnonzero(np.diff(run[rows], prepend=-1) != 0)
    total = np.add.reduceat(duration[rows], first)
    longest = np.maximum.reduceat(duration[rows], first)
    read, written = _bytes(case)
    moved = np.add.reduceat((read + written)[rows], first)
    handed = np.zeros(len(rows), np.int64)  # written by one and read by the next: neither happens any more
    handed[1:] = np.minimum(written[rows][:-1], read[rows][1:]) + written[rows][:-1]
    handed[first] = 0
    left = 1 - np.minimum(np.add.reduceat(handed, first), moved) / np.maximum(moved, 1)
    probable = np.maximum(longest, np.rint(total * left).astype(np.int64))
    changed_ns = duration.copy()
    changed_ns[rows[first]] = (longest, probable, total)[end]
    return changed_ns


def _bytes(case: Case) -> tuple[Ints, Ints]:
    """Bytes that each item reads and writes, 0 where unknown."""
    works = [case.work(group) for group in range(len(case.placed.groups))]
    read = np.array([0 if work is None else work.bytes_read or 0 for work in works] + [0], np.int64)
    written = np.array([0 if work is None else work.bytes_written or 0 for work in works] + [0], np.int64)
    return read[case.group_of], written[case.group_of]
