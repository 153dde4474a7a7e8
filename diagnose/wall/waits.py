"""What waited for what: streams for events of other streams, the host for the device.

Which event a stream waited for is known only where the recording has synchronisation events; that the host waited is
known from the calls, and what for from what ended last before they returned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.items import Recording
from diagnose.trace.link import match, taken
from diagnose.trace.tables import CONTEXT_SYNC, EVENT_SYNC, STREAM_WAIT, Ints, Trace


def awaited_ends(recording: Recording) -> Ints:
    """When that ended which each item's stream had been told to wait for since its launch before, -1 for nothing.

    Args:
        recording: What ran; one entry an item [n].
    """
    trace, found = recording.trace, np.full(len(recording.items.name), -1, np.int64)
    waits = trace.waits
    rows = np.flatnonzero((waits.kind == STREAM_WAIT) & (waits.stream >= 0))
    if not rows.size or recording.links is None:
        return found
    launched = _launch_starts(recording)
    called = taken(trace.calls.start, match(trace.calls.correlation, waits.correlation[rows]))
    called = np.where(called >= 0, called, waits.start[rows])
    ends = _recorded_ends(trace, launched, rows, called)
    for device, stream, mine in _by_stream(waits.device[rows], waits.stream[rows]):
        here = _of_stream(trace, launched, device, stream)
        place = np.searchsorted(launched[here], called[mine], side="left")
        is_followed = place < len(here)
        np.maximum.at(found, here[place[is_followed]], ends[mine[is_followed]])
    return found


def awaited_by(recording: Recording, calls: Ints) -> Ints:
    """The item that each of these calls, made by a host that waits, waited for; -1 where it found nothing to wait for.

    That is what ended last before the call returned and was not over when it began: of the stream that is waited for,
    where that is recorded, else of any; of a copy that waits for itself, the copy.

    Args:
        recording: What ran.
        calls: Rows of the trace's calls [m].
    """
    trace, items = recording.trace, recording.items
    start, end = trace.calls.start[calls], trace.calls.end[calls]
    own = match(items.call, calls)
    waits = trace.waits
    event = match(np.where(waits.kind != STREAM_WAIT, waits.correlation, -1), trace.calls.correlation[calls])
    kind = taken(waits.kind, event)
    stream = np.where(kind == EVENT_SYNC, taken(waits.wait_on_stream, event), taken(waits.stream, event))
    stream = np.where(kind == CONTEXT_SYNC, -1, stream)
    found = np.full(len(calls), -1, np.int64)
    for one in distinct(stream).tolist():
        asked = np.flatnonzero(stream == one)
        on_stream: NDArray[np.bool_] = (
            trace.activities.stream == one if one >= 0 else np.ones(len(items.name), np.bool_)
        )
        rows = np.flatnonzero(on_stream)
        rows = rows[np.argsort(trace.activities.end[rows], kind="stable")]
        place = np.searchsorted(trace.activities.end[rows], end[asked], side="right") - 1
        last = np.where(place >= 0, taken(rows, np.maximum(place, 0)), -1)
        found[asked] = np.where(taken(trace.activities.end, last) > start[asked], last, -1)
    return np.where(own >= 0, own, found)


def _launch_starts(recording: Recording) -> Ints:
    """When each item was launched, or where that is unknown began."""
    launched = taken(recording.trace.calls.start, recording.items.call)
    return np.where(recording.items.call >= 0, launched, recording.trace.activities.start)


def _of_stream(trace: Trace, launched: Ints, device: int, stream: int) -> Ints:
    """Activities of one stream in order of their launches."""
    activities = trace.activities
    rows = np.flatnonzero((activities.stream == stream) & ((activities.device == device) | (device < 0)))
    return rows[np.argsort(launched[rows], kind="stable")]


def _recorded_ends(trace: Trace, launched: Ints, rows: Ints, called: Ints) -> Ints:
    """When that was over which had been launched on the awaited stream before its event was recorded, -1 unknown."""
    waits = trace.waits
    recorded = taken(trace.calls.start, match(trace.calls.correlation, waits.record[rows]))
    recorded = np.where(recorded >= 0, recorded, called)
    awaited, found = waits.wait_on_stream[rows], np.full(len(rows), -1, np.int64)
    for device, stream, mine in _by_stream(waits.device[rows], awaited):
        here = _of_stream(trace, launched, device, stream)
        ends = np.concatenate([[-1], np.maximum.accumulate(trace.activities.end[here])])
        found[mine] = ends[np.searchsorted(launched[here], recorded[mine], side="left")]
    return found


def _by_stream(device: Ints, stream: Ints) -> list[tuple[int, int, Ints]]:
    """Each (device, stream) with its rows; a stream that is not known is left out."""
    pairs = {*zip(device.tolist(), stream.tolist(), strict=True)}
    return [
        (one, other, np.flatnonzero((device == one) & (stream == other))) for one, other in sorted(pairs) if other >= 0
    ]
