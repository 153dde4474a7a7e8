"""What the calls that hold up a host thread wait for: activities to end, or room in the queue of launches."""

from __future__ import annotations

import re

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import all_but, distinct, is_any
from diagnose.items import Recording
from diagnose.replays.stream_chain import NEVER, Streams
from diagnose.trace.link import match
from diagnose.trace.tables import CONTEXT_SYNC, STREAM_WAIT, Ints

QUEUE_DEPTH = 1024
"""Launches that a device lets wait; the next launch call blocks (real traces stop at 1,022)."""

QUEUE_STRIDE = 32
"""Every so many launches the queue's depth is looked at: a bound that is this much loose costs a 32nd of the time."""

SKEW_NS = 10_000
"""The clocks of host and device may differ by this much: an activity may seem to end after the call that awaited it."""

SHORT_CALL_NS = 5_000
"""What a synchronising call takes that need not wait, if the recording has none of its name."""

LONG_LAUNCH = 2
"""A launch call this many times as long as the usual one of its name was held up, if many launches were pending."""

_WHOLE_DEVICE = re.compile(r"(Device|Ctx|Context)Synchronize|^(cuda|hip)(Free|FreeHost|HostFree|DeviceReset)$")


class Holds(Struct, frozen=True):
    """Calls that an activity holds up, one row each; a call may have several, one a stream.

    Attributes:
        call: Row of the call [h].
        row: Row of ``Streams`` [h].
        at_start: Whether the call goes on when the activity starts (the queue has room) rather than ends [h].
        lag: ns from then to the call's end [h].
        own: What each call of the trace takes when nothing holds it up, ns; -1 for those that nothing holds up [calls].
    """

    call: Ints
    row: Ints
    at_start: Ints
    lag: Ints
    own: Ints


def holds_of(recording: Recording, streams: Streams) -> Holds:
    """What holds up the calls of a recording."""
    calls = recording.trace.calls
    own = np.full(len(calls.start), -1, np.int64)
    call, row = _synchronised(recording, streams)
    queued, ahead, taken_ns = _queued(recording, streams)
    length = calls.end - calls.start
    is_full = taken_ns < length[queued]
    lag = calls.end[call] - streams.end[row]
    last = np.full(len(calls.start), NEVER)
    np.maximum.at(last, call, streams.end[row])
    is_waiting = streams.end[row] > calls.start[call]
    is_last = is_waiting & (streams.end[row] == last[call])
    usual = max(0, int(np.median(lag[is_last]))) if is_last.any() else 0
    held = np.zeros(len(calls.start), np.bool_)
    held[call[is_waiting]] = True
    idle = all_but(call, np.flatnonzero(held))
    own[call] = length[call]
    for name in distinct(calls.name[np.flatnonzero(held)]).tolist():
        here = np.flatnonzero(held & (calls.name == name))
        alike = idle[calls.name[idle] == name]
        short = int(np.median(length[alike])) if alike.size else SHORT_CALL_NS
        own[here] = np.minimum(length[here], short)
    # Only the last to end held the call up; what the others would have allowed is not known, but no more than this.
    lag = np.where(is_last, lag, np.minimum(lag, usual))
    room = np.where(is_full, calls.end[queued] - streams.start[ahead], 0)
    alone = own[queued] < 0
    own[queued[alone]] = taken_ns[alone]
    return Holds(
        np.concatenate([call, queued]), np.concatenate([row, ahead]),
        np.repeat([0, 1], [len(call), len(queued)]), np.concatenate([lag, room]), own,
    )  # fmt: skip


def _synchronised(recording: Recording, streams: Streams) -> tuple[Ints, Ints]:
    """Pairs of a call and the activity whose end it waits for."""
    trace, links = recording.trace, recording.links
    nothing = np.zeros(0, np.int64)
    if links is None or not len(streams.item):
        return nothing, nothing
    calls = trace.calls
    whole = [index for index, name in enumerate(trace.strings) if _WHOLE_DEVICE.search(name)]
    is_whole = is_any(calls.name, whole)
    rows = np.flatnonzero(links.is_blocking | is_whole)
    # Not the copies among them that return before the device has copied.
    launches = np.flatnonzero(np.isin(streams.call, rows))
    is_launch = np.isin(rows, streams.call[launches])
    returned = calls.end[streams.call[launches]]
    own = launches[(streams.end[launches] <= returned + SKEW_NS) & (streams.start[launches] < returned)]
    call, row, edges = [streams.call[own]], [own], streams.bounds()
    syncs = rows[~is_launch]
    wanted = _wanted_streams(recording, syncs)
    best, best_end = np.full(len(syncs), -1, np.int64), np.full(len(syncs), NEVER)
    for lane in range(streams.count):
        low, high = edges[lane], edges[lane + 1]
        last = low + np.searchsorted(streams.launched[low:high], calls.start[syncs], side="left") - 1
        end = np.where(last >= low, streams.end[np.maximum(last, 0)], NEVER)
        was_done = (last >= low) & (end <= calls.end[syncs] + SKEW_NS)
        stream = recording.trace.activities.stream[streams.item[low]]
        was_done &= (wanted < 0) | (wanted == stream)
        chosen = was_done & is_whole[syncs]
        call.append(syncs[chosen])
        row.append(last[chosen])
        is_better = was_done & ~is_whole[syncs] & (end > best_end)
        best, best_end = np.where(is_better, last, best), np.where(is_better, end, best_end)
    missing = np.flatnonzero((best < 0) & ~is_whole[syncs])
    best[missing] = _ended_inside(streams, calls.start[syncs[missing]], calls.end[syncs[missing]])
    found = best >= 0
    call.append(syncs[found])
    row.append(best[found])
    return _first_of_each(np.concatenate(call), np.concatenate(row), calls.thread)


def _wanted_streams(recording: Recording, syncs: Ints) -> Ints:
    """The stream that each call waits for where that was recorded, else -1."""
    waits = recording.trace.waits
    host = np.flatnonzero((waits.kind != STREAM_WAIT) & (waits.kind != CONTEXT_SYNC))
    found = match(waits.correlation[host], recording.trace.calls.correlation[syncs])
    return np.where(found >= 0, waits.stream[host[np.maximum(found, 0)]] if len(host) else -1, -1)


def _ended_inside(streams: Streams, start: Ints, end: Ints) -> Ints:
    """The last activity to end while each call lasted, if launched before: an event in the middle of a stream."""
    order = np.argsort(streams.end, kind="stable")
    place = np.searchsorted(streams.end[order], end, side="right") - 1
    row = np.where(place >= 0, order[np.maximum(place, 0)], -1)
    is_inside = (row >= 0) & (streams.end[row] > start) & (streams.launched[row] < start)
    return np.where(is_inside, row, -1)


def _first_of_each(call: Ints, row: Ints, thread: Ints) -> tuple[Ints, Ints]:
    """A thread that has waited for an activity has done so for the rest of its life."""
    order = np.argsort(call, kind="stable")
    key = row * (int(thread.max(initial=0)) + 1) + thread[call]
    _, first = np.unique(key[order], return_index=True)
    return call[order[first]], row[order[first]]


def _queued(recording: Recording, streams: Streams) -> tuple[Ints, Ints, Ints]:
    """Pairs of a launch call and the activity that must start before it returns, and what the call itself takes.

    That is less than it lasted where it was held up: calls much longer than usual while many launches were pending.
    """
    calls = recording.trace.calls
    length = calls.end - calls.start
    launch = np.flatnonzero(streams.call >= 0)
    found: list[tuple[Ints, Ints, Ints]] = []
    for device in distinct(streams.device[launch]).tolist():
        rows = launch[streams.device[launch] == device]
        rows = rows[np.lexsort((streams.start[rows], streams.launched[rows]))]
        call, order = streams.call[rows], rows[np.argsort(streams.start[rows], kind="stable")]
        starts = streams.start[order]
        pending = np.arange(len(rows)) - np.searchsorted(starts, calls.start[call], side="right")
        most = int(pending.max(initial=0))
        depth = max(QUEUE_DEPTH, most + 1)
        at = np.arange(depth, len(rows), QUEUE_STRIDE)
        at = at[streams.start[rows[at - depth]] <= calls.end[call[at]]]
        bound = call[at], rows[at - depth], length[call[at]]
        is_crowded = pending * 2 >= QUEUE_DEPTH
        usual = _usual_length(calls.name[call], length[call], is_crowded)
        full = np.flatnonzero(is_crowded & (length[call] > LONG_LAUNCH * usual))
        ahead = order[np.maximum(np.searchsorted(starts, calls.end[call[full]], side="right") - 1, 0)]
        is_held = (streams.start[ahead] > calls.start[call[full]]) & (streams.launched[ahead] < calls.start[call[full]])
        full, ahead = full[is_held], ahead[is_held]
        found += [(call[full], ahead, usual[full]), bound]
    columns = [np.concatenate([part[index] for part in found] or [np.zeros(0, np.int64)]) for index in range(3)]
    # Where both say something of a call, that it was held up comes first.
    _, first = np.unique(columns[0], return_index=True)
    held, ahead, own = (column[first] for column in columns)
    return held, ahead, own


def _usual_length(name: Ints, length: Ints, is_crowded: NDArray[np.bool_]) -> Ints:
    """What each launch call takes when it is not held up: the median of its name's; of all, if those all were."""
    usual = length.copy()
    everyone = np.flatnonzero(~is_crowded)
    for one in distinct(name).tolist():
        here = np.flatnonzero(name == one)
        free = here[~is_crowded[here]]
        free = free if free.size else everyone
        short = np.median(length[free]) if free.size else np.percentile(length[here], 1)
        usual[here] = np.minimum(length[here], int(short))
    return np.maximum(usual, 1)
