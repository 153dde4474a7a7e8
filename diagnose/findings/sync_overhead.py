"""Rules about a host that waits for the device, and a device that runs dry because of it."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct

from diagnose.distinct import all_but, distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import SMALLEST_SHARE, Rule
from diagnose.items import KIND_COPY
from diagnose.kernel_names import copy_direction
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints
from diagnose.wall.waits import awaited_by
from diagnose.wall.waterfall import PARTS

_SYNC: Final = PARTS.index("idle_sync")
_MOST_PLACES: Final = 3

_CELLS: Final = tuple(Cell(None, f"idle_{part}") for part in ("sync", "launch", "slot", "queued"))
"""A host that runs ahead launches in time, too: the rest of the gap after such a wait goes with it."""

_WITHOUT_READING: Final = """\
total += loss.detach()                     # instead of total += loss.item()
if step % 100 == 0: print(total.item())    # read back rarely
x = torch.where(mask, a, b)                # instead of `if mask.any(): ...` and x[mask]"""

_WITHOUT_SYNCHRONIZE: Final = """\
start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))   # instead of torch.cuda.synchronize() a step
start.record(); step(); end.record()       # and once, after the loop: end.synchronize(); start.elapsed_time(end)"""


class _Waiting(Struct, frozen=True):
    """Calls that waited for the device.

    Attributes:
        calls: Rows of the calls [m].
        idle_ns: Idle time that each is to be blamed for [m].
        places: Where they were made, the most idle time first.
        awaited: What the one with the most idle time waited for, ``nothing`` where nothing was running.
    """

    calls: Ints
    idle_ns: Ints
    places: list[str]
    awaited: str


def synchronisation(case: Case) -> list[Proposal]:
    """The host reads a value back or synchronises, and the device runs dry while the host catches up.

    low: one wait a step stays, the last (the value is needed some time). mid: no such call waits. high: the ops that
    wait are gone as well, with their copies.
    """
    rows = _blocking(case, pageable=False)
    found = _waiting(case, rows)
    if found is None:
        return []
    trace, items, replayer = case.placed.recording.trace, case.placed.recording.items, case.replayer
    what, is_explicit = _what_waits(case, found)
    ops = distinct(trace.calls.op[found.calls][trace.calls.op[found.calls] >= 0])
    own = np.isin(items.call, found.calls) & (items.kind == KIND_COPY)
    kept = all_but(found.calls, _last_of_steps(case, found.calls))
    return [
        Proposal(
            rule="synchronisation",
            bound="overhead",
            title=f"the device runs dry after {what}",
            evidence=_wait_evidence(case, found),
            where=found.places,
            cells=_CELLS,
            low=Change(unblocked=case.calls_mask(kept)),
            mid=Change(unblocked=case.calls_mask(found.calls)),
            high=Change(unblocked=case.calls_mask(found.calls), removed=own, host=replayer.host_without(ops=ops)),
            advice="\n".join(_advice(case, found, is_explicit=is_explicit)),
            assumes="a profiler or timer that synchronises by itself does so in no other run"
            if is_explicit
            else "the program can go on without the value, or take it some steps later",
        )
    ]


def pageable_copies(case: Case) -> list[Proposal]:
    """Copies from pageable host memory make the host wait, and the device runs dry.

    low: the last such copy of each step still waits. mid: none does. high: the calls' own time goes too.
    """
    found = _waiting(case, _blocking(case, pageable=True))
    if found is None:
        return []
    kept = all_but(found.calls, _last_of_steps(case, found.calls))
    return [
        Proposal(
            rule="pageable-copies",
            bound="overhead",
            title="copies from pageable memory make the host wait",
            evidence=_wait_evidence(case, found),
            where=found.places,
            cells=_CELLS,
            low=Change(unblocked=case.calls_mask(kept)),
            mid=Change(unblocked=case.calls_mask(found.calls)),
            high=Change(unblocked=case.calls_mask(found.calls), host=case.replayer.host_without(calls=found.calls)),
            advice="loader = DataLoader(dataset, pin_memory=True)\n"
            "x = x.to(device, non_blocking=True)   # from x.pin_memory(), made once",
            assumes="pinned memory for every tensor that is copied; the host may not change it before the copy is done",
        )
    ]


def _blocking(case: Case, *, pageable: bool) -> Ints:
    """Calls of the window that waited: those that copy to the device out of pageable memory, or all others."""
    recording = case.placed.recording
    if recording.links is None:
        return np.zeros(0, np.int64)
    items, trace = recording.items, recording.trace
    names = distinct(items.name[items.kind == KIND_COPY]).tolist()
    to_device = [name for name in names if copy_direction(trace.strings[name]) == "host_to_device"]
    copies = items.call[is_any(items.name, to_device) & (items.call >= 0)]
    ops = distinct(trace.calls.op[copies])
    rows = np.flatnonzero(recording.links.is_blocking & case.is_in_window(trace.calls.start))
    # A pageable copy may be two calls of one op: the copy, and the wait for it.
    is_copy = np.isin(rows, copies) | ((trace.calls.op[rows] >= 0) & np.isin(trace.calls.op[rows], ops))
    chosen: Ints = rows[is_copy == pageable]
    return chosen


def _waiting(case: Case, rows: Ints) -> _Waiting | None:
    """Those of the calls' waits after which a device ran dry; None where that cost too little."""
    recording = case.placed.recording
    trace = recording.trace
    idle = np.zeros(len(trace.calls.name), np.int64)
    for found in case.timelines.values():
        blamed = np.flatnonzero(found.gaps.blocking >= 0)
        np.add.at(idle, found.gaps.blocking[blamed], found.gaps.parts[blamed, _SYNC])
    idle_ns = idle[rows]
    if idle_ns.sum() < SMALLEST_SHARE * case.wall_ns * max(1, len(case.timelines)):
        return None
    spent: dict[str, int] = {}
    for row, ns in zip(rows[idle_ns > 0].tolist(), idle_ns[idle_ns > 0].tolist(), strict=True):
        label = case.place_of_call(row)
        spent[label] = spent.get(label, 0) + ns
    worst = rows[[int(np.argmax(idle_ns))]]
    item = int(awaited_by(recording, worst)[0])
    awaited = "nothing" if item < 0 else trace.strings[int(recording.items.name[item])][:80]
    return _Waiting(rows, idle_ns, sorted(spent, key=lambda label: -spent[label])[:_MOST_PLACES], awaited)


def _what_waits(case: Case, found: _Waiting) -> tuple[str, bool]:
    """The op (or, where no op made it, the call) whose waits cost most, and whether it is such a call."""
    trace = case.placed.recording.trace
    names = taken(trace.ops.name, trace.calls.op[found.calls])
    values, inverse = np.unique(names, return_inverse=True)
    most = int(values[int(np.argmax(np.bincount(inverse.reshape(-1), weights=found.idle_ns)))])
    if most < 0:
        return trace.strings[int(trace.calls.name[found.calls[int(np.argmax(found.idle_ns * (names < 0)))]])], True
    name = trace.strings[most]
    return (f"{name} (.item(), bool(), float())" if name == "aten::_local_scalar_dense" else name), False


def _advice(case: Case, found: _Waiting, *, is_explicit: bool) -> list[str]:
    """For the kind of wait that costs most, and for the other if there is one too: without the one it costs more."""
    by_op = case.placed.recording.trace.calls.op[found.calls] >= 0
    reads, synchronizes = bool((by_op & (found.idle_ns > 0)).any()), bool((~by_op & (found.idle_ns > 0)).any())
    both = [_WITHOUT_SYNCHRONIZE] * (is_explicit or synchronizes) + [_WITHOUT_READING] * (reads or not is_explicit)
    return both if is_explicit else both[::-1]


def _wait_evidence(case: Case, found: _Waiting) -> dict[str, float | int | str]:
    calls, steps = case.placed.recording.trace.calls, max(1, len(case.steps))
    return {
        "waits_per_step": round(len(found.calls) / steps, 1),
        "idle_ns_per_step": int(found.idle_ns.sum()) // steps,
        "in_call_ns_per_step": int((calls.end - calls.start)[found.calls].sum()) // steps,
        "waited_for": found.awaited,
    }


def _last_of_steps(case: Case, calls: Ints) -> Ints:
    """The last of the calls in each step."""
    starts = case.placed.recording.trace.calls.start[calls]
    step = np.searchsorted(case.placed.recording.steps.starts, starts, side="right")
    order = np.argsort(starts, kind="stable")
    last = np.flatnonzero(np.diff(step[order], append=step.max(initial=0) + 1) != 0)
    return calls[order[last]]


RULES: Final[tuple[Rule, ...]] = (synchronisation, pageable_copies)
