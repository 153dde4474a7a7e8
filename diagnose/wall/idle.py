"""Why a device had nothing to run: the launch of the activity that ends an idle interval explains it.

What the host does *during* a gap is not its cause. From the gap's start to the start of that launch call the device
was fed late: the time goes to what the calling thread was in, innermost first (garbage collection, the profiler,
start-up, allocation, compiling or loading, data loading), else to launching; or to the synchronisation that the
thread was inside when the device ran dry. The call itself is launching too. Once it has returned, up to twice the
usual gap between queued kernels is the price of a kernel; the rest waits for another stream where a recorded wait
says so, else is queued: launched, not started, nothing recorded was running.

Threads hand over to each other: autograd's begins where the one that called ``backward`` stops, and the optimizer's
where autograd's stops. Until the launching thread does anything at all, the thread that launched before it counts too.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from diagnose.distinct import distinct
from diagnose.items import Recording
from diagnose.trace.extras import Extras
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints
from diagnose.wall.host_causes import CAUSES, causes_of, time_by_cause
from diagnose.wall.waits import awaited_ends
from diagnose.wall.waterfall import PARTS

SLOT_GAPS: Final = 2.0
"""A queued kernel may start this many usual gaps after the one before it; longer, and something held it up."""


class Gaps(Struct, frozen=True):
    """The idle intervals of one device, explained.

    Attributes:
        start: ns [m].
        end: ns [m].
        parts: Their time by part [m, len(PARTS)]; rows sum to ``end - start``.
        following: The item that ended each, -1 at the window's end.
        call: Launch call that ended each, -1 where there is none.
        blocking: Call that the launching thread waited in when the device ran dry, -1 where there is none.
    """

    start: Ints
    end: Ints
    parts: Ints
    following: Ints
    call: Ints
    blocking: Ints


class _Feeding(Struct, frozen=True):
    """Who fed the device at the end of each interval.

    Attributes:
        following: The item that follows, -1 for none.
        call: Its launch call.
        thread: The thread that launched it, or was last to launch where nothing follows; -1 where not recorded.
        before: The thread that made the launch before.
        woke: When the first of the two did anything, from the interval's start on; the start where it was at it.
    """

    following: Ints
    call: Ints
    thread: Ints
    before: Ints
    woke: Ints


def explain(
    recording: Recording, device: int, gaps: tuple[Ints, Ints], gap_ns: float | None, extras: Extras | None
) -> Gaps:
    """Explains the idle intervals of one device.

    Args:
        recording: What ran.
        device: As recorded.
        gaps: Starts and ends of the intervals, in order.
        gap_ns: The usual gap between queued kernels, None where unknown (then none is the price of a kernel).
        extras: Our recorder's key: it knows when Python collected garbage.
    """
    start, end = gaps
    parts = np.zeros((len(start), len(PARTS)), np.int64)
    if not len(start):
        return Gaps(start, end, parts, start, start, start)
    feeding = _feeding(recording, device, start, end)
    following, call = feeding.following, feeding.call
    calls = recording.trace.calls
    late_end = np.clip(np.where(call >= 0, taken(calls.start, call), end), start, end)
    called_end = np.clip(np.where(call >= 0, taken(calls.end, call), end), late_end, end)
    blocking = _blocking_at(recording, feeding.thread, start)
    handed = np.where(feeding.woke > start, _blocking_at(recording, feeding.before, start), -1)
    blocking = np.where(blocking >= 0, blocking, handed)
    # Something follows, but nobody recorded who launched it: nothing can be said.
    is_unknown = (following >= 0) & (call < 0) if not recording.is_cpu else np.zeros(len(start), np.bool_)
    is_unknown |= feeding.thread < 0

    causes = _late_by_cause(recording, extras, feeding, start, late_end)
    for index, name in enumerate(CAUSES):
        parts[:, PARTS.index(name)] = causes[:, index]
    rest = (late_end - start) - causes.sum(axis=1)
    parts[:, PARTS.index("idle_sync")] = np.where(blocking >= 0, rest, 0)
    parts[:, PARTS.index("idle_launch")] = np.where(blocking >= 0, 0, rest) + called_end - late_end
    queued = end - called_end
    slot = np.minimum(queued, 0 if gap_ns is None else int(SLOT_GAPS * gap_ns))
    awaited = taken(awaited_ends(recording), following)
    is_awaited = (awaited >= start) & (awaited <= end)
    parts[:, PARTS.index("idle_slot")] = slot
    parts[:, PARTS.index("idle_dependency")] = np.where(is_awaited, queued - slot, 0)
    parts[:, PARTS.index("idle_queued")] = np.where(is_awaited, 0, queued - slot)
    parts[is_unknown] = 0
    parts[is_unknown, PARTS.index("idle_unknown")] = (end - start)[is_unknown]
    return Gaps(
        start, end, parts, following, np.where(is_unknown, -1, call),
        np.where(is_unknown | (parts[:, PARTS.index("idle_sync")] == 0), -1, blocking),
    )  # fmt: skip


def _feeding(recording: Recording, device: int, start: Ints, end: Ints) -> _Feeding:
    items, trace = recording.items, recording.trace
    here = np.flatnonzero(items.device[items.spans.row] == device)
    order = here[np.argsort(items.spans.start[here], kind="stable")]
    starts, rows = items.spans.start[order], items.spans.row[order]
    place = np.searchsorted(starts, end, side="left")
    following = np.where(place < len(order), taken(rows, np.minimum(place, len(order) - 1)), -1)
    # At the window's end nothing follows: the thread that was last to launch was the one to launch more.
    latest = np.where(following >= 0, following, taken(rows, np.maximum(place - 1, 0)))
    thread_of = taken(trace.ops.thread, items.op) if recording.is_cpu else taken(trace.calls.thread, items.call)
    thread = taken(thread_of, latest)
    before = taken(thread_of, _launched_before(recording, device, latest))
    before = np.where(before >= 0, before, thread)
    return _Feeding(following, taken(items.call, following), thread, before, _woke(recording, thread, start, end))


def _launched_before(recording: Recording, device: int, wanted: Ints) -> Ints:
    """The item of the same device that was launched just before each, itself where none was."""
    items = recording.items
    mine = np.flatnonzero((items.device == device) & ((items.call >= 0) | recording.is_cpu))
    mine = mine[np.argsort(items.order[mine], kind="stable")]
    rank = np.zeros(len(items.name), np.int64)
    rank[mine] = np.arange(len(mine))
    return taken(mine, np.maximum(rank[wanted] - 1, 0)) if len(mine) else wanted


def _woke(recording: Recording, thread: Ints, start: Ints, end: Ints) -> Ints:
    """When each thread next made a call or ran an op, at the latest at the end; the start where it was inside one."""
    ops, calls = recording.trace.ops, recording.trace.calls
    woke = start.copy()
    for one in distinct(thread[thread >= 0]).tolist():
        at = np.flatnonzero(thread == one)
        is_op, is_call = ops.thread == one, calls.thread == one
        begins = np.concatenate([ops.start[is_op], calls.start[is_call]])
        order = np.argsort(begins, kind="stable")
        begins = begins[order]
        reach = np.maximum.accumulate(np.concatenate([ops.end[is_op], calls.end[is_call]])[order])
        place = np.searchsorted(begins, start[at], side="right")
        is_inside = (place > 0) & (reach[np.maximum(place - 1, 0)] >= start[at])
        following = np.where(place < len(begins), begins[np.minimum(place, len(begins) - 1)], end[at])
        woke[at] = np.where(is_inside, start[at], np.minimum(following, end[at]))
    return woke


def _blocking_at(recording: Recording, thread: Ints, time: Ints) -> Ints:
    """The blocking call that each thread was inside at each time, -1 where there is none."""
    if recording.links is None:
        return np.full(len(time), -1, np.int64)
    calls = recording.trace.calls
    rows = np.flatnonzero(recording.links.is_blocking)
    found = np.full(len(time), -1, np.int64)
    for one in distinct(thread[thread >= 0]).tolist():
        mine = rows[calls.thread[rows] == one]  # rows are in order of start
        if not mine.size:
            continue
        at = np.flatnonzero(thread == one)
        place = np.searchsorted(calls.start[mine], time[at], side="right") - 1
        candidate = mine[np.maximum(place, 0)]
        is_inside = (place >= 0) & (calls.end[candidate] >= time[at])
        found[at[is_inside]] = candidate[is_inside]
    return found


def _late_by_cause(recording: Recording, extras: Extras | None, feeding: _Feeding, start: Ints, late_end: Ints) -> Ints:
    """How much of each [start, late_end] each cause takes [m, len(CAUSES)]."""
    owned = np.zeros((len(start), len(CAUSES)), np.int64)
    causes = causes_of(recording.trace, extras)
    woke = np.clip(feeding.woke, start, late_end)
    pairs = {*zip(feeding.thread.tolist(), feeding.before.tolist(), strict=True)}
    for one, other in sorted(pairs):
        if one < 0:
            continue
        at = np.flatnonzero((feeding.thread == one) & (feeding.before == other))
        owned[at] = time_by_cause(causes, (one, other), start[at], woke[at])
        owned[at] += time_by_cause(causes, (one,), woke[at], late_end[at])
    return owned
