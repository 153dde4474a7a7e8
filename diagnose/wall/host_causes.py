"""What held the host up besides launching: intervals by cause, and how much of a stretch of time each takes.

Innermost first, which is the order of ``CAUSES``: the garbage collector interrupts anything, the profiler's own work
happens inside any call, the device is started inside a runtime call, and so on outwards to data loading.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.compiled import COMPILER
from diagnose.distinct import distinct, is_any
from diagnose.trace.extras import Extras
from diagnose.trace.graphs import capture_starts
from diagnose.trace.tables import Ints, Marks, Trace

CAUSES: Final = ("idle_gc", "idle_profiler", "idle_startup", "idle_allocator", "idle_compile", "idle_data")
"""Parts of the waterfall by cause, the one that wins where several hold first."""
_OTHER: Final = len(CAUSES)

LONG_CALL_NS: Final = 50_000_000
"""No runtime call takes this long but to create a context or to load a library (real traces: 0.7 to 30 s)."""

_ALLOCATION: Final = re.compile(
    r"^(cuda|hip|cu)(Ext)?(Malloc|Free|HostAlloc|HostFree|HostRegister"
    r"|Mem(Alloc|Free|Create|Map|Unmap|Release|AddressReserve))"
)
_LOADING: Final = re.compile(
    r"ModuleLoad|LibraryLoad|LinkComplete|nvrtc|hiprtc|Lazy Function Loading|GraphInstantiate|Stream(Begin|End)Capture"
    r"|_dynamo|compile_fx|CachingAutotuner|async_compile|" + COMPILER,
    re.IGNORECASE,
)
_CAPTURE_END: Final = re.compile(r"StreamEndCapture")
_DATA: Final = re.compile(
    r"enumerate\(DataLoader\)|DataLoader\w*\.__next__|_dataloader_next\b|\bdata_?load(er|ing)?\b", re.IGNORECASE
)
_START_UP: Final = re.compile(r"PrimaryCtx|CtxCreate|^(cuda|hip)(SetDevice|InitDevice)$")
_ANY_THREAD: Final = -1

Stretches = tuple[Ints, Ints, Ints]
"""Thread (-1: whichever), start and end of each interval."""


def causes_of(trace: Trace, extras: Extras | None) -> list[Stretches]:
    """The intervals of each cause, in the order of ``CAUSES``.

    Args:
        trace: The recording.
        extras: Our recorder's key: it knows when Python collected garbage.
    """
    calls, overheads = trace.calls, trace.overheads
    names = calls.name
    is_allocation, is_loading = _named(trace, names, _ALLOCATION), _named(trace, names, _LOADING)
    is_long = (calls.end - calls.start >= LONG_CALL_NS) & ~calls.is_blocking & ~is_allocation & ~is_loading
    is_start_up = is_long | _named(trace, names, _START_UP)
    is_load_event = _named(trace, overheads.name, _LOADING)

    def of_calls(mask: NDArray[np.bool_]) -> Stretches:
        return calls.thread[mask], calls.start[mask], calls.end[mask]

    def of_overheads(mask: NDArray[np.bool_]) -> Stretches:
        # Kineto writes them on a thread of their own; they happen inside whatever call is being made.
        return np.full(int(mask.sum()), _ANY_THREAD), overheads.start[mask], overheads.end[mask]

    return [
        _collections(trace, extras),
        of_overheads(~is_load_event),
        of_calls(is_start_up),
        of_calls(is_allocation),
        _joined(of_calls(is_loading), of_overheads(is_load_event), _marked(trace, _LOADING), _captures(trace)),
        _marked(trace, _DATA),
    ]


def time_by_cause(causes: list[Stretches], threads: tuple[int, ...], start: Ints, end: Ints) -> Ints:
    """How much of each [start, end] each cause takes on these threads together [m, len(CAUSES)]; never more than all.

    Args:
        causes: As ``causes_of`` gives them.
        threads: Host threads; a moment counts once, for the first cause that holds on any of them.
        start: ns [m].
        end: ns [m].
    """
    owned = np.zeros((len(start), len(CAUSES)), np.int64)
    edges, label = _painted([_of_threads(stretches, threads) for stretches in causes])
    for cause in range(len(CAUSES)):
        is_mine = label == cause
        until = np.concatenate([[0], np.cumsum(np.where(is_mine, np.diff(edges), 0))])
        owned[:, cause] = _covered(edges, is_mine, until, end) - _covered(edges, is_mine, until, start)
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
    edges = distinct(np.concatenate([np.concatenate(pair) for pair in causes]))
    label = np.full(max(0, len(edges) - 1), _OTHER)
    for cause in reversed(range(len(causes))):
        opened = np.zeros(len(edges), np.int64)
        np.add.at(opened, np.searchsorted(edges, causes[cause][0]), 1)
        np.add.at(opened, np.searchsorted(edges, causes[cause][1]), -1)
        label[np.cumsum(opened)[:-1] > 0] = cause
    return edges, label


def _of_threads(stretches: Stretches, threads: tuple[int, ...]) -> tuple[Ints, Ints]:
    mine = stretches[0] == _ANY_THREAD
    for thread in threads:
        mine |= stretches[0] == thread
    return stretches[1][mine], stretches[2][mine]


def _named(trace: Trace, names: Ints, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return is_any(names, [name for name in distinct(names).tolist() if pattern.search(trace.strings[name])])


def _marked(trace: Trace, pattern: re.Pattern[str]) -> Stretches:
    """Annotations and ops of such a name."""
    found = []
    ops = Marks(*(getattr(trace.ops, key) for key in Marks.__struct_fields__))
    tables: tuple[Marks, ...] = (trace.annotations, ops)
    for table in tables:
        mask = _named(trace, table.name, pattern)
        found.append((table.thread[mask], table.start[mask], table.end[mask]))
    return _joined(*found)


def _joined(*parts: Stretches) -> Stretches:
    threads, starts, ends = zip(*parts, strict=True)
    return np.concatenate(threads), np.concatenate(starts), np.concatenate(ends)


def _captures(trace: Trace) -> Stretches:
    """From the begin to the end of each capture of a device graph, in which launches run nothing; on any thread."""
    begin = capture_starts(trace)
    ends = np.sort(trace.calls.end[_named(trace, trace.calls.name, _CAPTURE_END)])
    place = np.searchsorted(ends, begin, side="right")
    begin, place = begin[place < len(ends)], place[place < len(ends)]
    return np.full(len(begin), _ANY_THREAD), begin, ends[place]


def _collections(trace: Trace, extras: Extras | None) -> Stretches:
    """Garbage collections; they hold up every thread that runs Python."""
    runs = () if extras is None else extras.gc_runs
    start = np.array([run.start_ns - trace.epoch_ns for run in runs], np.int64)
    length = np.array([run.duration_ns for run in runs], np.int64)
    return np.full(len(runs), _ANY_THREAD), start, start + length
