"""Which activity of one stream waited for which of another: as recorded, or as launches and times show.

Few recordings say it (``cuda_sync``). The others show the calls that make a stream wait but not for what, or not even
these; then the launches around the call and the times tell, and nothing is taken for a wait that the times contradict.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from diagnose.distinct import distinct, is_any
from diagnose.items import KIND_COLLECTIVE, Recording
from diagnose.replays.stream_chain import NEVER, Streams
from diagnose.trace.link import match, taken
from diagnose.trace.tables import STREAM_WAIT, Ints

_WAIT_CALL = re.compile(r"^(cuda|hip|cu)StreamWaitEvent")

EVIDENCE_NS = 30_000
"""An activity that starts this soon after one of another stream has ended, though it was free to start long before,
waited for it (real waits: 1 to 2 us on NVIDIA, 18 to 21 us on ROCm)."""

LONG_BEFORE = 4
"""That long before is this many times as long as it took to start after that end."""


def stream_waits(recording: Recording, streams: Streams) -> tuple[Ints, Ints]:
    """Pairs of rows of ``streams``: who waits, and for whom, besides the one before on its own stream."""
    overlapped = _overlapped(streams)
    if streams.count < 2:
        return overlapped
    recorded = _recorded(recording, streams)
    found = recorded if len(recorded[0]) else _by_launches(recording, streams)
    seen = _by_times(streams, found[0])
    waiting, awaited = np.concatenate([found[0], seen[0]]), np.concatenate([found[1], seen[1]])
    order = np.argsort(waiting, kind="stable")
    # What a stream has waited for once, all that comes later on it has waited for too.
    _, first = np.unique((awaited * streams.count + streams.stream[waiting])[order], return_index=True)
    waiting, awaited = waiting[order[first]], awaited[order[first]]
    return np.concatenate([waiting, overlapped[0]]), np.concatenate([awaited, overlapped[1]])


def _overlapped(streams: Streams) -> tuple[Ints, Ints]:
    """Activities that started after the end of one which outlasted those between the two, on one stream."""
    latest = np.arange(len(streams.end))
    for low, high in _lanes(streams):
        ends = np.maximum.accumulate(streams.end[low:high])
        latest[low:high] = np.maximum.accumulate(np.where(streams.end[low:high] == ends, latest[low:high], 0))
    waiting = np.flatnonzero(~streams.is_first)
    awaited = latest[waiting - 1]
    kept = (awaited < waiting - 1) & (streams.end[awaited] <= streams.start[waiting])
    return waiting[kept], awaited[kept]


def _lanes(streams: Streams) -> list[tuple[int, int]]:
    edges = streams.bounds().tolist()
    return list(pairwise(edges))


def _recorded(recording: Recording, streams: Streams) -> tuple[Ints, Ints]:
    """What ``cuda_sync`` says: from its call on, a stream waits for what was launched before the event's record."""
    waits, calls, activities = recording.trace.waits, recording.trace.calls, recording.trace.activities
    rows = np.flatnonzero((waits.kind == STREAM_WAIT) & (waits.stream >= 0) & (waits.wait_on_stream >= 0))
    called, recorded = match(calls.correlation, waits.correlation[rows]), match(calls.correlation, waits.record[rows])
    rows, called, recorded = (column[(called >= 0) & (recorded >= 0)] for column in (rows, called, recorded))
    from_time, until_time = calls.start[called], calls.start[recorded]
    lane_of = {
        (int(activities.device[streams.item[low]]), int(activities.stream[streams.item[low]])): (low, high)
        for low, high in _lanes(streams)
    }
    keys = list(zip(waits.device[rows].tolist(), waits.stream[rows].tolist(), strict=True))
    others = list(zip(waits.device[rows].tolist(), waits.wait_on_stream[rows].tolist(), strict=True))
    waiting, awaited = np.full(len(rows), -1, np.int64), np.full(len(rows), -1, np.int64)
    for key, other in set(zip(keys, others, strict=True)):
        if key == other or key not in lane_of or other not in lane_of:
            continue
        here = np.array([pair == (key, other) for pair in zip(keys, others, strict=True)], np.bool_)
        waiting[here] = _first_from(streams, lane_of[key], from_time[here])
        awaited[here] = _last_before(streams, lane_of[other], until_time[here])
    return _consistent(streams, waiting, awaited)


def _first_from(streams: Streams, lane: tuple[int, int], time: Ints) -> Ints:
    """The first activity of a stream that was launched at or after each time, -1 for none."""
    low, high = lane
    row = low + np.searchsorted(streams.launched[low:high], time, side="left")
    return np.where(row < high, row, -1)


def _last_before(streams: Streams, lane: tuple[int, int], time: Ints) -> Ints:
    """The last activity of a stream that was launched before each time, -1 for none."""
    low, high = lane
    row = low + np.searchsorted(streams.launched[low:high], time, side="left") - 1
    return np.where(row >= low, row, -1)


def _consistent(streams: Streams, waiting: Ints, awaited: Ints) -> tuple[Ints, Ints]:
    """The pairs that the times do not contradict."""
    is_pair = (waiting >= 0) & (awaited >= 0)
    waiting, awaited = waiting[is_pair], awaited[is_pair]
    kept = (streams.end[awaited] <= streams.start[waiting]) & (streams.stream[waiting] != streams.stream[awaited])
    return waiting[kept], awaited[kept]


def _by_launches(recording: Recording, streams: Streams) -> tuple[Ints, Ints]:
    """Wait calls that do not say for what.

    The next launch of the thread tells who waits. If it goes to another stream than the launch before, that stream
    waits for the launch before (a collective for the gradients); else the stream waits for every other one (the
    optimizer for the collectives). A collective waits for what was launched before it even if no calls were recorded.
    """
    trace = recording.trace
    launch = np.flatnonzero(streams.call >= 0)
    thread, time = taken(trace.calls.thread, streams.call[launch]), streams.launched[launch]
    order = np.lexsort((streams.start[launch], time, thread))
    launch, thread, time = launch[order], thread[order], time[order]
    names = [index for index, name in enumerate(trace.strings) if _WAIT_CALL.match(name)]
    rows = np.flatnonzero(is_any(trace.calls.name, names))
    if len(rows):
        following = _following(thread, time, (trace.calls.thread[rows], trace.calls.start[rows]))
    else:
        is_collective = recording.items.kind[streams.item[launch]] == KIND_COLLECTIVE
        following = np.flatnonzero(is_collective | np.concatenate([[False], is_collective[:-1]]))
    following = distinct(following)
    before = np.maximum(following - 1, 0)
    is_same_thread = (following > 0) & (thread[before] == thread[following])
    waiting, previous = launch[following], launch[before]
    hands_over = is_same_thread & (streams.stream[waiting] != streams.stream[previous])
    handed = _latest_done(streams, waiting[hands_over], streams.stream[previous[hands_over]])
    joining = waiting[~hands_over]
    lanes = [np.full(len(joining), lane) for lane in range(streams.count)]
    pairs = [(waiting[hands_over], handed), *((joining, _latest_done(streams, joining, lane)) for lane in lanes)]
    return _consistent(
        streams, np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
    )


def _following(thread: Ints, time: Ints, calls: tuple[Ints, Ints]) -> Ints:
    """The first launch of the same thread at or after each call, left out where there is none."""
    span = int(max(time.max(initial=0), calls[1].max(initial=0))) + 1
    place = np.searchsorted(thread * span + time, calls[0] * span + calls[1], side="left")
    at = np.minimum(place, len(thread) - 1)
    return at[(place < len(thread)) & (thread[at] == calls[0])] if len(thread) else place[:0]


def _latest_done(streams: Streams, waiting: Ints, lane: Ints) -> Ints:
    """The last activity of a stream that was launched before, and had ended when each waiting one started."""
    found = np.full(len(waiting), -1, np.int64)
    edges = streams.bounds()
    for one in distinct(lane).tolist():
        here = np.flatnonzero(lane == one)
        low, high = edges[one], edges[one + 1]
        ends = np.maximum.accumulate(streams.end[low:high])
        ended = np.searchsorted(ends, streams.start[waiting[here]], side="right")
        launched = np.searchsorted(streams.launched[low:high], streams.launched[waiting[here]], side="left")
        row = low + np.minimum(ended, launched) - 1
        found[here] = np.where((row >= low) & (streams.device[low] == streams.device[waiting[here]]), row, -1)
    return found


def _by_times(streams: Streams, known: Ints) -> tuple[Ints, Ints]:
    """Activities that were free to start long before they did, and started just after one of another stream ended."""
    before = np.where(streams.is_first, NEVER, np.concatenate([[NEVER], streams.end[:-1]]))
    free = np.maximum(before, streams.launched)
    is_known = np.zeros(len(free), np.bool_)
    is_known[known] = True
    late = np.flatnonzero((free > NEVER) & ~is_known)
    order = np.argsort(streams.end, kind="stable")
    place = np.searchsorted(streams.end[order], streams.start[late], side="right") - 1
    found = np.where(place >= 0, order[np.maximum(place, 0)], -1)
    near = streams.start[late] - streams.end[found]
    is_near = (found >= 0) & (near <= EVIDENCE_NS) & (streams.start[late] - free[late] > LONG_BEFORE * near)
    is_near &= streams.end[found] > free[late]
    is_near &= (streams.launched[found] < streams.launched[late]) | (streams.call[late] < 0)
    is_near &= streams.device[found] == streams.device[late]
    return _consistent(streams, late[is_near], found[is_near])
