"""Where the window and its steps begin and end when a recording is run again."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.items import Recording
from diagnose.replays.dependencies import Dependencies
from diagnose.replays.replay import Replayed
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints


def window_marks(recording: Recording) -> tuple[Ints, Ints]:
    """Threads and times of the first mark's start and the last mark's end; empty where there are no marks.

    A mark that ends after the window (only one step was asked for) does not hold it open: then its start is given.
    """
    steps, marks = recording.steps, recording.trace.annotations
    first, last = (np.flatnonzero(marks.start == start) for start in (steps.starts[0], steps.starts[-1]))
    if not steps.has_marks or not first.size or not last.size:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing
    row = last[np.argmax(np.where(marks.end[last] <= steps.boundaries[-1], marks.end[last], -1))]
    end = marks.end[row] if marks.end[row] <= steps.boundaries[-1] else marks.start[row]
    return marks.thread[[first[0], row]], np.array([marks.start[first[0]], end])


class _Ends(Struct, frozen=True):
    """What completes steps: activities, or on a CPU the pieces of the ops' own time."""

    step: Ints
    is_before: NDArray[np.bool_]
    recorded: Ints
    replayed: Ints


def cut_window(recording: Recording, dependencies: Dependencies, replayed: Replayed) -> Ints:
    """D(0)..D(k) of a replay, as ``Steps.boundaries`` defines them for the recording, ns [steps + 1]."""
    steps = recording.steps
    thread, time = window_marks(recording)
    if not len(thread):
        latest = max(0, int(replayed.point[dependencies.points.ends].max()), int(replayed.end.max(initial=0)))
        return np.array([0, latest], np.int64)
    marks = zip(thread.tolist(), time.tolist(), strict=True)
    begin, end = (int(replayed.point[dependencies.points.at(*mark)]) for mark in marks)
    ends = _ends(recording, dependencies, replayed)
    # With one step chosen, the window begins where those before it are complete.
    is_later = steps.boundaries[0] != steps.starts[0]
    if is_later and ends.is_before.any() and int(ends.recorded[ends.is_before].max()) == steps.boundaries[0]:
        begin = int(ends.replayed[ends.is_before].max())
    completed = np.full(len(steps.names), begin, np.int64)
    is_own = ends.step >= 0
    np.maximum.at(completed, ends.step[is_own], ends.replayed[is_own])
    completed[-1] = max(completed[-1], end)
    return np.maximum.accumulate(np.concatenate([[begin], completed]))


def _ends(recording: Recording, dependencies: Dependencies, replayed: Replayed) -> _Ends:
    items, trace = recording.items, recording.trace
    if recording.is_cpu:
        points = dependencies.points
        own = np.flatnonzero(points.owner >= 0)
        item, recorded, ended = points.owner[own], points.time[own], replayed.point[own]
        began = np.full(len(items.name), np.iinfo(np.int64).max)
        np.minimum.at(began, items.spans.row, items.spans.start)
        began[: len(trace.ops.start)] = trace.ops.start  # behind them, what ran on threads of its own (collectives)
        began = began[item]
    else:
        item, recorded, ended = dependencies.streams.item, dependencies.streams.end, replayed.end
        began = np.where(items.call[item] >= 0, taken(trace.calls.start, items.call[item]), dependencies.streams.start)
    step = items.step[item]
    is_before = (step < 0) & (began < recording.steps.starts[0]) & (recorded <= recording.steps.boundaries[0])
    return _Ends(step, is_before, recorded, ended)
