"""Idle time and synchronisations as rows: which op, which call, and where in the code."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diagnose.items import Recording
from diagnose.places.places import Places
from diagnose.pricing.grouping import sum_by, unique_rows
from diagnose.roofs.hardware import Hardware
from diagnose.schema import BOUND_OF_PART, IdleRow, SynchronizationRow
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.wall.idle import Gaps
from diagnose.wall.timeline import Timeline
from diagnose.wall.waits import awaited_by
from diagnose.wall.waterfall import PARTS

_SYNC = PARTS.index("idle_sync")


def idle_rows(
    recording: Recording, timelines: Mapping[int, Timeline], hardware: Hardware, places: Places | None = None
) -> list[IdleRow]:
    """Idle time by device, part and what is to blame, most first.

    Args:
        recording: What ran.
        timelines: Of each device.
        hardware: Names of the devices.
        places: Where the ops were called, if that is known.
    """
    rows: list[IdleRow] = []
    for device, found in timelines.items():
        gap, part = np.nonzero(found.gaps.parts)
        call, op = _blamed(recording, found.gaps, gap, part)
        place = _place_of(places, op)
        names = taken(recording.trace.ops.name, op), taken(recording.trace.calls.name, call)
        first, row = unique_rows([part, *names, place])
        ns = sum_by(row, found.gaps.parts[gap, part], len(first))
        count = np.bincount(row, minlength=len(first))
        for index, at in enumerate(first.tolist()):
            module, line = _spelled(places, int(place[at]))
            rows.append(
                IdleRow(
                    process_rank=recording.trace.process_rank,
                    device=hardware.keys[device],
                    part=PARTS[part[at]],
                    bound=BOUND_OF_PART[PARTS[part[at]]],
                    op=_text(recording.trace, int(names[0][at])),
                    call=_text(recording.trace, int(names[1][at])),
                    module=module,
                    line=line,
                    count=int(count[index]),
                    ns=int(ns[index]),
                )
            )
    return sorted(rows, key=lambda entry: -entry.ns)


def synchronization_rows(
    recording: Recording, timelines: Mapping[int, Timeline], places: Places | None = None
) -> list[SynchronizationRow]:
    """The calls of the window in which the host waited for the device, most time first."""
    if recording.links is None:
        return []
    trace, bounds = recording.trace, recording.steps.boundaries
    is_in = (trace.calls.start < bounds[-1]) & (trace.calls.end > bounds[0])
    calls = np.flatnonzero(recording.links.is_blocking & is_in)
    if not calls.size:
        return []
    awaited, op = awaited_by(recording, calls), trace.calls.op[calls]
    place = _place_of(places, op)
    awaited_op = taken(trace.ops.name, taken(recording.items.op, awaited))
    names = (trace.calls.name[calls], taken(trace.ops.name, op), taken(recording.items.name, awaited), awaited_op)
    first, row = unique_rows([*names, place])
    ns = sum_by(row, (trace.calls.end - trace.calls.start)[calls], len(first))
    idle = sum_by(row, _idle_after(recording, timelines)[calls], len(first))
    count = np.bincount(row, minlength=len(first))
    rows = []
    for index, at in enumerate(first.tolist()):
        module, line = _spelled(places, int(place[at]))
        rows.append(
            SynchronizationRow(
                process_rank=trace.process_rank,
                call=trace.strings[int(names[0][at])],
                op=_text(trace, int(names[1][at])),
                module=module,
                line=line,
                awaited=_text(trace, int(names[2][at])),
                awaited_op=_text(trace, int(names[3][at])),
                count=int(count[index]),
                ns=int(ns[index]),
                idle_ns=int(idle[index]),
            )
        )
    return sorted(rows, key=lambda entry: (-entry.ns, entry.call))


def _blamed(recording: Recording, gaps: Gaps, gap: Ints, part: Ints) -> tuple[Ints, Ints]:
    """Call and op that each (gap, part) is to be blamed on, -1 for none."""
    call = np.where(part == _SYNC, gaps.blocking[gap], gaps.call[gap])
    if recording.is_cpu:
        return call, taken(recording.items.op, gaps.following[gap])
    return call, taken(recording.trace.calls.op, call)


def _idle_after(recording: Recording, timelines: Mapping[int, Timeline]) -> Ints:
    """idle_sync that each call of the recording is to be blamed for."""
    idle = np.zeros(len(recording.trace.calls.name), np.int64)
    for found in timelines.values():
        rows = np.flatnonzero(found.gaps.blocking >= 0)
        np.add.at(idle, found.gaps.blocking[rows], found.gaps.parts[rows, _SYNC])
    return idle


def _place_of(places: Places | None, op: Ints) -> Ints:
    """Index of the place of each op, -1 where nothing is known."""
    return np.full(len(op), -1, np.int64) if places is None else taken(places.of_op, op)


def _spelled(places: Places | None, place: int) -> tuple[str | None, str | None]:
    if places is None or place < 0:
        return None, None
    return places.distinct[place].module, places.distinct[place].line


def _text(trace: Trace, name: int) -> str | None:
    return trace.strings[name] if name >= 0 else None
