"""Why a device had nothing to run: the launch of the activity that ends an idle interval explains it.

What the host does *during* a gap is not its cause. From the gap's start to the start of that launch call the device
was fed late: the time goes to what the calling thread was in, innermost first (garbage collection, the profiler,
start-up, allocation, compiling or loading, data loading), else to launching; or to the synchronisation that the
thread was inside when the device ran dry. The call itself is launching too. Once it has returned, up to twice the
usual gap between queued kernels is the price of a kernel; the rest waits for another stream where a recorded wait
says so, else is queued: launched, not started, nothing recorded was running.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.items import Recording
from diagnose.trace.extras import Extras
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Marks, Trace
from diagnose.waterfall import PARTS

SLOT_GAPS: Final = 2.0
"""A queued kernel may start this many usual gaps after the one before it; longer, and something held it up."""

LONG_CALL_NS: Final = 50_000_000
"""No runtime call takes this long but to create a context or to load a library (real traces: 0.7 to 30 s)."""

_ALLOCATION: Final = re.compile(
    r"^(cuda|hip|cu)(Malloc|Free|HostAlloc|HostFree|HostRegister|Mem(Create|Map|Unmap|Release|AddressReserve))"
)
_LOADING: Final = re.compile(
    r"ModuleLoad|LibraryLoad|LinkComplete|nvrtc|hiprtc|Lazy Function Loading|GraphInstantiate|StreamEndCapture"
    r"|_dynamo|compile_fx|CachingAutotuner|async_compile",
    re.IGNORECASE,
)
_DATA: Final = re.compile(r"enumerate\(DataLoader\)|DataLoader\w*\.__next__|data_?load(er|ing)?\b", re.IGNORECASE)
_START_UP: Final = re.compile(r"PrimaryCtx|CtxCreate|^(cuda|hip)(SetDevice|InitDevice)$")

_GC, _PROFILER, _STARTUP, _ALLOCATOR, _COMPILE, _LOADER, _OTHER = range(7)
_CAUSES: Final = ("idle_gc", "idle_profiler", "idle_startup", "idle_allocator", "idle_compile", "idle_data")
"""Parts by cause, the one that wins where several hold first."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """The idle intervals of one device, explained.

    Attributes:
        start: ns [m].
        end: ns [m].
        parts: Their time by part [m, len(PARTS)]; rows sum to ``end - start``.
        call: Launch call that ended each, -1 where there is none.
        blocking: Call that the launching thread waited in when the device ran dry, -1 where there is none.
    """

    start: Ints
    end: Ints
    parts: Ints
    call: Ints
    blocking: Ints


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
        return Gaps(start, end, parts, start, start)
    following, call, thread = _what_ends(recording, device, end)
    launch_start = np.where(call >= 0, taken(recording.trace.calls.start, call), end)
    launch_end = np.where(call >= 0, taken(recording.trace.calls.end, call), end)
    late_end = np.clip(launch_start, start, end)
    called_end = np.clip(launch_end, late_end, end)
    blocking = _blocking_at(recording, thread, start)
    # Something follows, but nobody recorded who launched it: nothing can be said.
    is_unknown = (following >= 0) & (call < 0) if not recording.is_cpu else np.zeros(len(start), np.bool_)
    is_unknown |= thread < 0

    causes = _late_by_cause(recording, extras, thread, start, late_end)
    for index, name in enumerate(_CAUSES):
        parts[:, PARTS.index(name)] = causes[:, index]
    rest = (late_end - start) - causes.sum(axis=1)
    parts[:, PARTS.index("idle_sync")] = np.where(blocking >= 0, rest, 0)
    parts[:, PARTS.index("idle_launch")] = np.where(blocking >= 0, 0, rest) + called_end - late_end
    queued = end - called_end
    slot = np.minimum(queued, 0 if gap_ns is None else int(SLOT_GAPS * gap_ns))
    parts[:, PARTS.index("idle_slot")] = slot
    parts[:, PARTS.index("idle_queued")] = queued - slot
    parts[is_unknown] = 0
    parts[is_unknown, PARTS.index("idle_unknown")] = (end - start)[is_unknown]
    return Gaps(start, end, parts, np.where(is_unknown, -1, call), np.where(is_unknown, -1, blocking))


def _what_ends(recording: Recording, device: int, end: Ints) -> tuple[Ints, Ints, Ints]:
    """For each interval the item that follows it, that item's launch call, and the thread whose work was awaited."""
    items, trace = recording.items, recording.trace
    here = np.flatnonzero(items.device[items.spans.row] == device)
    order = here[np.argsort(items.spans.start[here], kind="stable")]
    starts = items.spans.start[order]
    place = np.searchsorted(starts, end, side="left")
    following = np.where(place < len(order), taken(items.spans.row[order], np.minimum(place, len(order) - 1)), -1)
    call = taken(items.call, following)
    # At the window's end nothing follows: the thread that was last to launch was the one to launch more.
    latest = np.where(following >= 0, following, taken(items.spans.row[order], np.maximum(place - 1, 0)))
    if recording.is_cpu:
        return following, np.full(len(end), -1, np.int64), taken(trace.ops.thread, taken(items.op, latest))
    return following, call, taken(trace.calls.thread, taken(items.call, latest))


def _blocking_at(recording: Recording, thread: Ints, time: Ints) -> Ints:
    """The blocking call that each thread was inside at each time, -1 where there is none."""
    if recording.links is None:
        return np.full(len(time), -1, np.int64)
    calls = recording.trace.calls
    rows = np.flatnonzero(recording.links.is_blocking)
    found = np.full(len(time), -1, np.int64)
    for one in np.unique(thread[thread >= 0]).tolist():
        mine = rows[calls.thread[rows] == one]  # rows are in order of start
        if not mine.size:
            continue
        at = np.flatnonzero(thread == one)
        place = np.searchsorted(calls.start[mine], time[at], side="right") - 1
        candidate = mine[np.maximum(place, 0)]
        is_inside = (place >= 0) & (calls.end[candidate] >= time[at])
        found[at[is_inside]] = candidate[is_inside]
    return found


def _late_by_cause(recording: Recording, extras: Extras | None, thread: Ints, start: Ints, end: Ints) -> Ints:
    """How much of each [start, end] each cause takes on each thread [m, 6]."""
    owned = np.zeros((len(start), len(_CAUSES)), np.int64)
    causes = _intervals(recording.trace, extras)
    for one in np.unique(thread[thread >= 0]).tolist():
        at = np.flatnonzero(thread == one)
        edges, label = _painted([_of_thread(marks, one) for marks in causes])
        for cause in range(len(_CAUSES)):
            until = np.concatenate([[0], np.cumsum(np.where(label == cause, np.diff(edges), 0))])
            owned[at, cause] = _covered(edges, label == cause, until, end[at]) - _covered(
                edges, label == cause, until, start[at]
            )
    return owned


def _covered(edges: Ints, is_mine: NDArray[np.bool_], until: Ints, time: Ints) -> Ints:
    """How much of the time before ``time`` lies in the marked intervals between ``edges``."""
    if len(edges) < 2:
        return np.zeros(len(time), np.int64)
    clipped = np.clip(time, edges[0], edges[-1])
    place = np.minimum(np.searchsorted(edges, clipped, side="right") - 1, len(edges) - 2)
    return until[place] + np.where(is_mine[place], clipped - edges[place], 0)


def _painted(causes: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """Edges of the intervals of all causes, and between them the first cause that holds, _OTHER where none does."""
    edges = np.unique(np.concatenate([np.concatenate(pair) for pair in causes]))
    label = np.full(max(0, len(edges) - 1), _OTHER)
    for cause in reversed(range(len(causes))):
        opened = np.zeros(len(edges), np.int64)
        np.add.at(opened, np.searchsorted(edges, causes[cause][0]), 1)
        np.add.at(opened, np.searchsorted(edges, causes[cause][1]), -1)
        label[np.cumsum(opened)[:-1] > 0] = cause
    return edges, label


_ANY_THREAD: Final = -1


def _of_thread(marks: tuple[Ints, Ints, Ints], thread: int) -> tuple[Ints, Ints]:
    mine = (marks[0] == thread) | (marks[0] == _ANY_THREAD)
    return marks[1][mine], marks[2][mine]


def _intervals(trace: Trace, extras: Extras | None) -> list[tuple[Ints, Ints, Ints]]:
    """Thread, start and end of the intervals of each cause, in the order of ``_CAUSES``."""
    calls, overheads = trace.calls, trace.overheads
    names = calls.name
    is_allocation, is_loading = _named(trace, names, _ALLOCATION), _named(trace, names, _LOADING)
    is_long = (calls.end - calls.start >= LONG_CALL_NS) & ~calls.is_blocking & ~is_allocation & ~is_loading
    is_start_up = is_long | _named(trace, names, _START_UP)
    is_load_event = _named(trace, overheads.name, _LOADING)

    def of_calls(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        return calls.thread[mask], calls.start[mask], calls.end[mask]

    def of_overheads(mask: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        # Kineto writes them on a thread of their own; they happen inside whatever call is being made.
        return np.full(int(mask.sum()), _ANY_THREAD), overheads.start[mask], overheads.end[mask]

    return [
        _collections(trace, extras),
        of_overheads(~is_load_event),
        of_calls(is_start_up),
        of_calls(is_allocation),
        _joined(of_calls(is_loading), of_overheads(is_load_event), _marked(trace, _LOADING)),
        _marked(trace, _DATA),
    ]


def _named(trace: Trace, names: Ints, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return np.isin(names, [name for name in np.unique(names).tolist() if pattern.search(trace.strings[name])])


def _marked(trace: Trace, pattern: re.Pattern[str]) -> tuple[Ints, Ints, Ints]:
    """Annotations and ops of such a name."""
    found = []
    tables: tuple[Marks, ...] = (trace.annotations, Marks(*(getattr(trace.ops, key) for key in Marks.__slots__)))
    for table in tables:
        mask = _named(trace, table.name, pattern)
        found.append((table.thread[mask], table.start[mask], table.end[mask]))
    return _joined(*found)


def _joined(*parts: tuple[Ints, Ints, Ints]) -> tuple[Ints, Ints, Ints]:
    threads, starts, ends = zip(*parts, strict=True)
    return np.concatenate(threads), np.concatenate(starts), np.concatenate(ends)


def _collections(trace: Trace, extras: Extras | None) -> tuple[Ints, Ints, Ints]:
    """Garbage collections; they hold up every thread that runs Python."""
    runs = () if extras is None else extras.gc_runs
    start = np.array([run.start_ns - trace.epoch_ns for run in runs], np.int64)
    length = np.array([run.duration_ns for run in runs], np.int64)
    return np.full(len(runs), _ANY_THREAD), start, start + length
