"""The host's threads as chains of points in time, with the host time that lies between two points.

A point is where something else depends on a thread, or a thread on something else: the start and end of each launch
and of each blocking call, where a thread goes on after having waited for another one, marks, and the thread's end.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from diagnose.distinct import distinct, is_any
from diagnose.items import Recording
from diagnose.trace.tables import Ints, Trace

MIN_HANDOFF_NS = 20_000
"""A thread that records nothing for less than this is between two ops; longer, and it may have waited for another."""

MIN_COVERAGE = 0.5
"""Share of a thread's silence that another thread's work must span to be what it waited for."""


class Points(Struct, frozen=True):
    """Points in time of all threads, by thread, then by time. A thread's first point is its origin, at 0.

    Attributes:
        thread: Host thread id [p].
        time: When it was recorded, ns [p].
        interval: Host time from the thread's point before to this one, or at a point of ``woken`` from its waker's; 0
            at an origin [p].
        call_start, call_end: Of each call of the trace its points, -1 where nothing depends on the call [calls].
        woken: Points at which a thread went on after having waited for another thread [w].
        waker: The other thread's point just before, one for each of ``woken`` [w].
        ends: The last point of each thread that did anything.
        owner: Of each interval the item that it is the own time of, -1 for none (CPU recordings only) [p].
    """

    thread: Ints
    time: Ints
    interval: Ints
    call_start: Ints
    call_end: Ints
    woken: Ints
    waker: Ints
    ends: Ints
    owner: Ints

    def at(self, thread: int, time: int) -> int:
        """The last point of a thread at or before a time; -1 for a thread without points."""
        low, high = np.searchsorted(self.thread, [thread, thread + 1]).tolist()
        place = int(np.searchsorted(self.time[low:high], time, side="right"))
        return low + max(0, place - 1) if high > low else -1


def host_points(recording: Recording, calls: Ints, marks: tuple[Ints, Ints]) -> Points:
    """Chains the host's threads.

    Args:
        recording: What ran.
        calls: Rows of the calls on which something depends, or that wait.
        marks: Threads and times that are to be points too [m].
    """
    trace = recording.trace
    edge_thread, edge_time = _edges(trace)
    silent = calls if recording.links is None else calls[recording.links.is_blocking[calls]]
    woken, waker = _handoffs(edge_thread, edge_time, (trace.calls.thread[silent], trace.calls.start[silent]))
    last_thread, last_time = _last_of_threads(edge_thread, edge_time, trace)
    spans = recording.items.spans
    own = np.zeros(0, np.int64) if not recording.is_cpu else np.arange(len(spans.row))
    of_op = trace.ops.thread[recording.items.op[spans.row[own]]]
    # Lists of points that are put in order of (thread, time, rank): what ends before what starts.
    lists = [
        (last_thread, np.zeros_like(last_time), 0),
        (of_op, spans.end[own], 1),
        (trace.calls.thread[calls], trace.calls.end[calls], 1),
        (woken[0], woken[1], 2),
        (*marks, 2),
        (of_op, spans.start[own], 3),
        (trace.calls.thread[calls], trace.calls.start[calls], 3),
        (waker[0], waker[1], 3),
        (last_thread, last_time, 5),
    ]
    thread = np.concatenate([part[0] for part in lists])
    time = np.concatenate([part[1] for part in lists])
    rank = np.repeat([part[2] for part in lists], [len(part[0]) for part in lists])
    first = np.cumsum([0, *(len(part[0]) for part in lists)])
    instant = slice(int(first[2]), int(first[3]))
    rank[instant] = np.where(trace.calls.end[calls] > trace.calls.start[calls], 1, 4)
    order = np.lexsort((rank, time, thread))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    thread, time = thread[order], time[order]
    interval = np.diff(time, prepend=0)
    is_origin = np.diff(thread, prepend=-1) != 0
    interval[is_origin] = 0
    woke, by = place[first[3] : first[4]], place[first[7] : first[8]]
    interval[woke] = time[woke] - time[by]
    owner = np.full(len(order), -1, np.int64)
    owner[place[first[1] : first[2]]] = spans.row[own]
    call_start, call_end = (np.full(len(trace.calls.start), -1, np.int64) for _ in range(2))
    call_start[calls], call_end[calls] = place[first[6] : first[7]], place[first[2] : first[3]]
    return Points(
        thread, time, interval, call_start, call_end, woke, by, place[first[8] :], owner
    )  # fmt: skip


def _edges(trace: Trace) -> tuple[Ints, Ints]:
    """Starts and ends of everything that threads did, in order of (thread, time)."""
    ops, calls = trace.ops, trace.calls
    thread = np.concatenate([ops.thread, ops.thread, calls.thread, calls.thread])
    time = np.concatenate([ops.start, ops.end, calls.start, calls.end])
    order = np.lexsort((time, thread))
    return thread[order], time[order]


def _last_of_threads(edge_thread: Ints, edge_time: Ints, trace: Trace) -> tuple[Ints, Ints]:
    """Threads and when each did its last."""
    marks = (trace.annotations, trace.overheads)
    thread = np.concatenate([[0], edge_thread, *(part.thread for part in marks)])  # one thread there always is
    time = np.concatenate([[0], edge_time, *(part.end for part in marks)])
    distinct, inverse = np.unique(thread, return_inverse=True)
    last = np.zeros(len(distinct), np.int64)
    np.maximum.at(last, inverse.reshape(-1), time)
    return distinct, last


def _handoffs(thread: Ints, time: Ints, silent: tuple[Ints, Ints]) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Where a thread waited for another: (thread, time) at which it went on, and of the other's last edge before.

    A thread waits for another if it records nothing, outside a call that waits for the device, while one other thread
    works through most of that silence and is the last to record something before it ends.

    Args:
        thread: Of edges [e], in order of (thread, time).
        time: ns [e].
        silent: Threads and starts of the calls that wait for the device.
    """
    nothing = np.zeros(0, np.int64)
    if not len(thread) or thread[0] == thread[-1]:
        return (nothing, nothing), (nothing, nothing)
    span = int(time.max()) + 2
    key = thread * span + time + 1
    since = np.where(np.diff(thread, prepend=-1) == 0, np.concatenate([[0], time[:-1]]), 0)
    rows = np.flatnonzero(time - since >= MIN_HANDOFF_NS)
    rows = rows[~is_any(thread[rows] * span + since[rows], silent[0] * span + silent[1])]
    by_time = np.argsort(time, kind="stable")
    latest = by_time[np.maximum(np.searchsorted(time[by_time], time[rows], side="left") - 1, 0)]
    # Only another thread can have recorded something after this one fell silent.
    is_other = (time[latest] > since[rows]) & (time[latest] < time[rows]) & (thread[latest] != thread[rows])
    rows, latest = rows[is_other], latest[is_other]
    first = np.searchsorted(key, thread[latest] * span + since[rows] + 1, side="left")
    covered = time[latest] - time[np.minimum(first, len(time) - 1)]
    kept = covered >= MIN_COVERAGE * (time[rows] - since[rows])
    rows, latest = rows[kept], latest[kept]
    return (thread[rows], time[rows]), (thread[latest], time[latest])


def without(points: Points, thread: Ints, spans: tuple[Ints, Ints], keep: float = 0.0) -> Ints:
    """Host intervals [p] of which the parts that lie in spans of host time are cut to the share ``keep``.

    Args:
        points: Of the host.
        thread: Of each span [n].
        spans: Their starts and ends; they may overlap and nest.
        keep: 0 removes that time, 0.5 halves it.
    """
    interval = points.interval.copy()
    start, end = spans
    for one in distinct(thread).tolist():
        low, high = np.searchsorted(points.thread, [one, one + 1]).tolist()
        if high - low < 2:
            continue
        mine = np.flatnonzero(thread == one)
        until = _covered_before(start[mine], end[mine], points.time[low:high])
        inside = np.diff(until)
        interval[low + 1 : high] -= np.minimum(
            interval[low + 1 : high], inside - np.rint(inside * keep).astype(np.int64)
        )
    return interval


def _covered_before(start: Ints, end: Ints, time: Ints) -> Ints:
    """How much of the time before each of ``time`` some span covers."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order])
    # Overlapping spans as disjoint ones: each begins where those before it have ended.
    begin = np.maximum(start, np.concatenate([start[:1], end[:-1]]))
    length = np.maximum(end - begin, 0)
    total = np.concatenate([[0], np.cumsum(length)])
    place = np.searchsorted(begin, time, side="right") - 1
    at = np.maximum(place, 0)
    return np.where(place >= 0, total[at] + np.clip(time - begin[at], 0, length[at]), 0)
