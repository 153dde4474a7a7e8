"""What depended on what in a recording of a device, or of a CPU: all that a replay needs, found once.

Activities that follow each other on a stream, launched by one thread between two of its waits, form a run: of these
only the first waits for other chains, and only the last is waited for.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.items import Recording
from diagnose.replays.awaited import Holds, holds_of
from diagnose.replays.host_chain import Points, host_points
from diagnose.replays.stream_chain import Lags, Streams, lags_of, streams_of, usual_lags
from diagnose.replays.stream_waits import stream_waits
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints


class Graph(Struct, frozen=True):
    """Runs, then anchors, as nodes; and the dependencies between chains as edges, by the node that waits.

    Attributes:
        order: Nodes, each after all that it depends on; origins are left out.
        base: Of each run, the anchor (as a node) that its launches' host time counts from [runs].
        stream: Of each run [runs].
        previous: The node of the anchor before on the thread, of each anchor [anchors].
        first_edge: Of each node the first of its edges, and the number of edges [nodes + 1].
        source: The node that each edge waits for [edges].
        kind: AT_START or AT_END of the source's last activity, or AT_POINT [edges].
        row: That activity, 0 if it is a point [edges].
        point, to_point: The points of a handoff, 0 if it is none [edges].
        call: The call that the edge holds up, -1 if it is none [edges].
    """

    AT_START: ClassVar[int] = 0
    AT_END: ClassVar[int] = 1
    AT_POINT: ClassVar[int] = 2
    order: list[int]
    base: list[int]
    stream: list[int]
    previous: list[int]
    first_edge: list[int]
    source: list[int]
    kind: Ints
    row: Ints
    point: Ints
    to_point: Ints
    call: Ints


class Dependencies(Struct, frozen=True):
    """A recording's chains and what ties them together.

    Attributes:
        points: Of the host.
        streams: Of the devices; rows are activities.
        lags: As recorded.
        point: The point that each activity's launch counts from, -1 for none [n].
        base: That point's anchor, as a number among anchors [n].
        first, last: Rows of each run's first and last activity [runs].
        anchors: Points whose time depends on more than the one before; the first of each thread is one [anchors].
        is_woken: Whether the anchor is where a thread goes on after having waited for another [anchors].
        anchor_of: For each point the last anchor at or before it, as a point [points].
        anchor_number: The same, as a number among anchors [points].
        recorded: When each node was, as recorded, ns [runs + anchors].
        lag: Of each edge of the graph, as recorded, ns.
        graph: Runs and anchors.
    """

    points: Points
    streams: Streams
    lags: Lags
    point: Ints
    base: Ints
    first: Ints
    last: Ints
    anchors: Ints
    is_woken: NDArray[np.bool_]
    anchor_of: Ints
    anchor_number: Ints
    recorded: Ints
    lag: Ints
    graph: Graph


def dependencies_of(recording: Recording, marks: tuple[Ints, Ints]) -> Dependencies:
    """Finds what depended on what.

    Args:
        recording: What ran.
        marks: Threads and times of host events whose time is to be known too.
    """
    calls = recording.trace.calls
    streams = streams_of(recording)
    pairs = stream_waits(recording, streams)
    holds = holds_of(recording, streams)
    relevant = distinct(np.concatenate([streams.call[streams.call >= 0], holds.call]))
    points = host_points(recording, relevant, marks)
    # A call that was held up takes its own time only; the rest follows from what held it up.
    held = distinct(holds.call)
    points.interval[points.call_end[held]] = np.minimum(points.interval[points.call_end[held]], holds.own[held])
    times = taken(calls.start, streams.call), taken(calls.end, streams.call)
    lags = lags_of(streams, times, pairs, usual_lags(streams, times, pairs[0]))
    return _tied(points, streams, lags, pairs, holds)


def _tied(points: Points, streams: Streams, lags: Lags, pairs: tuple[Ints, Ints], holds: Holds) -> Dependencies:
    is_anchor = np.diff(points.thread, prepend=-1) != 0
    is_anchor[points.call_end[holds.call]] = True
    is_anchor[points.woken] = True
    anchors = np.flatnonzero(is_anchor)
    number = np.cumsum(is_anchor) - 1
    point = np.where(lags.after_end, taken(points.call_end, streams.call), taken(points.call_start, streams.call))
    is_alone = streams.is_first & (streams.call < 0)
    lead = lags.lead
    if is_alone.any():  # nothing says why it started: it does so when it did, counted from the first thread's origin
        point, lead = np.where(is_alone, 0, point), np.where(is_alone, streams.start, lead)
        lags = Lags(lags.after_end, lead, lags.gap, lags.wait, lags.unexplained)
    base = _carried_on(taken(number, point), streams.is_first)
    first, last, run_of = _runs(streams, base, pairs, holds)
    runs = len(first)
    target = np.concatenate([run_of[pairs[0]], runs + number[points.call_end[holds.call]], runs + number[points.woken]])
    source = np.concatenate([run_of[pairs[1]], run_of[holds.row], runs + number[points.waker]])
    counts = [len(pairs[0]), len(holds.call), len(points.woken)]
    nothing = [np.zeros(count, np.int64) for count in counts]
    kind = np.concatenate([nothing[0] + 1, 1 - holds.at_start, nothing[2] + 2])
    lag = np.concatenate([lags.wait, holds.lag, nothing[2]])
    row = np.concatenate([pairs[1], holds.row, nothing[2]])
    from_point = np.concatenate([nothing[0], nothing[1], points.waker])
    to_point = np.concatenate([nothing[0], nothing[1], points.woken])
    call = np.concatenate([nothing[0] - 1, holds.call, nothing[2] - 1])
    order = np.argsort(target, kind="stable")
    nodes = runs + len(anchors)
    first_edge = np.searchsorted(target[order], np.arange(nodes + 1))
    recorded = np.concatenate([streams.start[last], points.time[anchors]])
    previous = runs + number[np.maximum(anchors - 1, 0)]
    is_origin = np.diff(points.thread, prepend=-1)[anchors] != 0
    graph = Graph(
        [], (runs + base[first]).tolist(), streams.stream[first].tolist(), previous.tolist(), first_edge.tolist(),
        source[order].tolist(), kind[order], row[order], from_point[order], to_point[order], call[order],
    )  # fmt: skip
    graph.order.extend(_ordered(graph, is_origin, recorded))
    is_woken = np.zeros(len(anchors), np.bool_)
    is_woken[number[points.woken]] = True
    return Dependencies(
        points, streams, lags, point, base, first, last, anchors, is_woken, anchors[number], number, recorded,
        lag[order], graph,
    )  # fmt: skip


def _carried_on(base: Ints, is_first: NDArray[np.bool_]) -> Ints:
    """The anchor of each activity; of those without a launch that of the one before, or the first anchor of all."""
    known = np.where((base >= 0) | is_first, np.arange(len(base)), 0)
    return np.maximum(base[np.maximum.accumulate(known)], 0) if len(base) else base


def _runs(streams: Streams, base: Ints, pairs: tuple[Ints, Ints], holds: Holds) -> tuple[Ints, Ints, Ints]:
    """First and last rows of the runs, and the run of each row."""
    begins = streams.is_first | (np.diff(base, prepend=-1) != 0)
    begins[pairs[0]] = True
    after = np.concatenate([pairs[1], holds.row]) + 1
    begins[after[after < len(begins)]] = True
    first = np.flatnonzero(begins)
    last = np.concatenate([first[1:], [len(begins)]])[: len(first)] - 1
    return first, last, np.cumsum(begins) - 1


def _ordered(graph: Graph, is_origin: NDArray[np.bool_], recorded: Ints) -> list[int]:
    """Nodes, each after what it depends on.

    Odd times (clocks that disagree) can make a circle; there the earliest node is taken to depend on the recorded
    time of what comes after it.
    """
    runs, nodes = len(graph.base), len(recorded)
    stream = np.array(graph.stream, np.int64)
    before = np.arange(runs) - 1
    before[np.diff(stream, prepend=-1) != 0] = -1
    anchor = np.flatnonzero(~is_origin)
    into = np.concatenate(
        [
            np.repeat(np.arange(nodes), np.diff(graph.first_edge)), np.arange(runs), np.flatnonzero(before >= 0),
            runs + anchor,
        ]
    )  # fmt: skip
    out = np.concatenate(
        [
            np.array(graph.source, np.int64), np.array(graph.base, np.int64), before[before >= 0],
            np.array(graph.previous, np.int64)[anchor],
        ]
    )  # fmt: skip
    waiting = np.bincount(into, minlength=nodes).tolist()
    order = np.argsort(out, kind="stable")
    reached, first = into[order].tolist(), np.searchsorted(out[order], np.arange(nodes + 1)).tolist()
    ready = [node for node, count in enumerate(waiting) if not count]
    by_time = np.lexsort((np.arange(nodes) < runs, recorded)).tolist()
    place = 0
    while len(ready) < nodes:
        if place == len(ready):  # a circle: cut where it was first entered
            ready.append(next(node for node in by_time if waiting[node] > 0))
            waiting[ready[-1]] = 0
        node = ready[place]
        place += 1
        for other in reached[first[node] : first[node + 1]]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    origins = set((runs + np.flatnonzero(is_origin)).tolist())
    return [node for node in ready if node not in origins]
