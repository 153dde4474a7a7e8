"""Streams as chains of activities: what each waited for before it started, and how long after that it started.

An activity starts after its launch call, after the activity before it on its stream, and after the activities of other
streams that its stream was told to wait for. What a recording shows is the latest of these plus a lag; the others were
satisfied, and their lags are known to be at most what was recorded, so they get the recording's usual one.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.items import Recording
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints

NEVER = -(1 << 60)
"""Earlier than any time: a dependency that does not hold."""


class Streams(Struct, frozen=True):
    """Activities in order of (stream, start); every column has one entry an activity [n].

    Attributes:
        item: Row of the item.
        stream: Dense number of the (device, stream).
        device: As recorded.
        start, end: As recorded, ns.
        call: Launch call, -1 where none was recorded.
        launched: When that call began, not before that of an earlier activity of the stream (it cannot overtake);
            ``NEVER`` where no call was recorded.
        is_first: Whether it is the first of its stream.
    """

    item: Ints
    stream: Ints
    device: Ints
    start: Ints
    end: Ints
    call: Ints
    launched: Ints
    is_first: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many streams there are."""
        return int(self.stream[-1]) + 1 if len(self.stream) else 0

    def bounds(self) -> Ints:
        """The first row of each stream, and the number of rows [streams + 1]."""
        return np.searchsorted(self.stream, np.arange(self.count + 1))


def streams_of(recording: Recording) -> Streams:
    """The streams of a recording of a device; without rows for a CPU."""
    activities, items = recording.trace.activities, recording.items
    if recording.is_cpu:
        nothing = np.zeros(0, np.int64)
        return Streams(nothing, nothing, nothing, nothing, nothing, nothing, nothing, np.zeros(0, np.bool_))
    order = np.lexsort((activities.end, activities.start, activities.stream, activities.device))
    device, lane = activities.device[order], activities.stream[order]
    is_first = (np.diff(device, prepend=device[:1] - 1) != 0) | (np.diff(lane, prepend=lane[:1] - 1) != 0)
    stream = np.cumsum(is_first) - 1
    call = items.call[order]
    launched = np.where(call >= 0, taken(recording.trace.calls.start, call), NEVER)
    for low, high in _runs(is_first):
        launched[low:high] = np.maximum.accumulate(launched[low:high])
    return Streams(order, stream, device, activities.start[order], activities.end[order], call, launched, is_first)


def _runs(is_first: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = [*np.flatnonzero(is_first).tolist(), len(is_first)]
    return list(pairwise(edges))


class Lags(Struct, frozen=True):
    """How long after what an activity starts; columns are [n], in the order of ``Streams``.

    Attributes:
        after_end: Whether ``lead`` counts from the end of the launch call rather than from its start.
        lead: ns from the launch call to the start, if nothing else held it up; ``NEVER`` where there is no call.
        gap: ns from the end of the activity before it on the stream; negative where the two overlapped.
        wait: ns from the end of each awaited activity, one for each pair of ``pairs`` [w].
        unexplained: What neither a launch nor a wait nor the usual gap explains; it is kept as it was recorded.
    """

    after_end: NDArray[np.bool_]
    lead: Ints
    gap: Ints
    wait: Ints
    unexplained: Ints


class Usual(Struct, frozen=True):
    """The recording's usual lags, ns.

    Attributes:
        lead: From the return of a launch call to the start, where the stream was idle.
        early: The same from the beginning of the call, for what starts before the call returns.
        gap: Between an activity that was queued in time and the one before it.
    """

    lead: int
    early: int
    gap: int


def usual_lags(streams: Streams, calls: tuple[Ints, Ints], waiting: Ints) -> Usual:
    """Medians of a recording; 0 where it has none.

    Args:
        streams: Of the recording.
        calls: Start and end of each activity's launch call, -1 where there is none.
        waiting: Rows of activities that waited for another stream: they say nothing of the usual.
    """
    before = _before(streams)
    has_both = (streams.call >= 0) & ~streams.is_first
    has_both[waiting] = False
    was_idle = has_both & (before <= calls[0])
    late, gap = streams.start - calls[1], streams.start - before
    was_queued = has_both & (calls[1] <= before) & (gap >= 0)
    return Usual(
        _median(late[was_idle & (late >= 0)]), _median((streams.start - calls[0])[was_idle]), _median(gap[was_queued])
    )


def _median(lags: Ints) -> int:
    return max(0, int(np.median(lags))) if len(lags) else 0


def _before(streams: Streams) -> Ints:
    """End of the activity before on the stream; for the first one its own start."""
    return np.where(streams.is_first, streams.start, np.concatenate([streams.start[:1], streams.end[:-1]]))


def lags_of(streams: Streams, calls: tuple[Ints, Ints], pairs: tuple[Ints, Ints], usual: Usual) -> Lags:
    """What held up each activity, and for how long.

    Args:
        streams: Of the recording.
        calls: Start and end of each activity's launch call, -1 where there is none.
        pairs: Rows of the activities that wait, and of those that each waits for [w].
        usual: Usual lags.
    """
    start, before = streams.start, _before(streams)
    has_call = streams.call >= 0
    after_end = has_call & (start >= calls[1])
    reference = np.where(after_end, calls[1], calls[0])
    late, gap = start - reference, start - before
    lead = np.where(has_call, np.minimum(late, np.where(after_end, usual.lead, usual.early)), NEVER)
    is_alone = ~has_call & streams.is_first  # nothing says why it started: when it did is kept
    overlaps = (gap < 0) & ~streams.is_first
    # What overlaps the one before although it was launched just in time owes that one nothing.
    is_free = overlaps & has_call & (late <= 2 * usual.lead)
    kept_gap = np.where(is_free, NEVER, np.where(streams.is_first, 0, np.minimum(gap, usual.gap)))
    by_launch = np.where(has_call, reference + lead, NEVER)
    by_stream = np.where(streams.is_first | is_free, NEVER, before + kept_gap)
    slack = start[pairs[0]] - streams.end[pairs[1]]
    wait = np.minimum(slack, usual.gap)
    by_wait = np.full(len(start), NEVER)
    np.maximum.at(by_wait, pairs[0], streams.end[pairs[1]] + wait)
    explained = np.maximum(np.maximum(by_launch, by_stream), by_wait)
    residual = np.where(is_alone, 0, start - explained)
    # The latest of the three held it up, so what remains is its lag.
    is_wait = (by_wait == explained) & (by_wait > NEVER)
    is_stream = ~is_wait & (by_stream == explained) & (by_stream > NEVER)
    is_launch = ~is_wait & ~is_stream & has_call
    lead = lead + np.where(is_launch, residual, 0)
    kept_gap = kept_gap + np.where(is_stream, residual, 0)
    held = is_wait[pairs[0]] & (streams.end[pairs[1]] + wait == explained[pairs[0]])
    wait = wait + np.where(held, residual[pairs[0]], 0)
    return Lags(after_end, lead, kept_gap, wait, np.maximum(residual, 0))
