"""Steps: which mark begins one, what belongs to it, and when it was complete.

A step is cut at completion. D(0) is the start of the first mark, D(k) the latest end of any activity of a step <= k,
never before D(k-1), and for the last step not before its mark ends; step k is [D(k-1), D(k)]. Steps therefore tile the
window, and their length is the step period however far the host runs ahead of the device.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.trace.extras import MARK_PREFIX
from diagnose.trace.tables import Ints, Trace

_PROFILER_STEP: Final = re.compile(r"^ProfilerStep#\d+$")
_SERVING: Final = re.compile(r"^execute_\w*context_\d+.*_generation_\d+")
"""One annotation a model step, as vLLM's worker writes it: ``execute_context_1(...)_generation_0(...)``."""


class Steps(Struct, frozen=True):
    """The window's steps.

    Attributes:
        names: One a step.
        starts: Of the host marks [k]; the host interval of a step ends where the next begins.
        boundaries: D(0)..D(k) [k + 1].
        has_marks: False when the whole recording is taken as one step.
    """

    names: tuple[str, ...]
    starts: Ints
    boundaries: Ints
    has_marks: bool


def find_marks(trace: Trace, window: re.Pattern[str] | None = None) -> tuple[list[str], Ints, Ints]:
    """Names, starts and ends of the marks that begin steps; empty when there are none.

    What the user named wins, then ``ProfilerStep#``, then a serving engine's own mark, then our recorder's.
    """
    marks = trace.annotations
    names = [trace.strings[index] for index in marks.name.tolist()]
    ours = re.compile("^" + re.escape(MARK_PREFIX))
    patterns = [window] if window is not None else [_PROFILER_STEP, _SERVING, ours]
    for pattern in patterns:
        rows = [row for row, name in enumerate(names) if pattern.search(name)]
        rows = rows[:-1] if pattern is ours and len(rows) > 1 and _is_empty(trace, rows[-1]) else rows
        if rows:
            return [names[row] for row in rows], marks.start[rows], marks.end[rows]
    nothing = np.zeros(0, np.int64)
    return [], nothing, nothing


def _is_empty(trace: Trace, mark: int) -> bool:
    """Our recorder opens a mark after each ``p.step()``; the last one holds nothing where the block ended there."""
    start, end = trace.annotations.start[mark], trace.annotations.end[mark]
    return not bool(((trace.ops.start >= start) & (trace.ops.start < end)).any())


def step_of(times: Ints, starts: Ints) -> Ints:
    """The step in whose host interval each time lies; -1 before the first mark."""
    return np.searchsorted(starts, times, side="right") - 1


def carried_over(start: Ints, end: Ints, launch_start: Ints, device: Ints, first_mark: int) -> NDArray[np.bool_]:
    """Activities that belong to what ran before the window.

    That is what was launched before the first mark, or has no recorded launch and starts before the activity of
    the first recorded launch completes (it was queued ahead of it).

    Args:
        start: Of activities [n].
        end: Of activities [n].
        launch_start: Start of the launch call, -1 where none was recorded.
        device: Of activities [n].
        first_mark: When the window's first mark begins.
    """
    has_launch = launch_start >= 0
    is_carried = has_launch & (launch_start < first_mark)
    for one in distinct(device):
        here = np.flatnonzero((device == one) & has_launch)
        if here.size:
            first = here[np.argmin(launch_start[here])]
            is_carried |= (device == one) & ~has_launch & (start < end[first])
    return is_carried


def cut_steps(trace: Trace, marks: tuple[list[str], Ints, Ints], own_step: Ints, end: Ints) -> Steps:
    """The steps of a recording.

    Args:
        trace: The recording.
        marks: As ``find_marks`` gives them.
        own_step: For each activity the mark it belongs to, -1 for what is carried over.
        end: Ends of activities.
    """
    names, starts, ends = marks
    if not names:
        return Steps(("recording",), np.zeros(1, np.int64), np.array([0, trace.end_ns]), has_marks=False)
    completed = np.full(len(names), starts[0], np.int64)
    is_own = own_step >= 0
    np.maximum.at(completed, own_step[is_own], end[is_own])
    completed[-1] = max(completed[-1], ends.max())
    boundaries = np.maximum.accumulate(np.concatenate([starts[:1], completed]))
    return Steps(tuple(names), starts, boundaries, has_marks=True)
