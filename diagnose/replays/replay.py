"""The recording run again: every start computed from what it depended on, with other durations or host times.

Streams and threads are chains, and within a chain a start is a running maximum, which is computed for all activities
at once. Only where one chain waits for another (a launch after a wait, a synchronisation, a stream's wait for another
stream) is there something to be walked through, one such place after another.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from msgspec import Struct

from diagnose.replays.dependencies import Dependencies
from diagnose.replays.stream_chain import NEVER
from diagnose.trace.tables import Ints


class Setting(Struct, frozen=True):
    """What a replay is run with; ``recorded_setting`` gives what was recorded, to be changed with ``replace``.

    Attributes:
        duration: ns of each activity, in the order of ``Dependencies.streams`` [n].
        lead: ns from its launch call to its start; ``NEVER`` where no launch holds it up [n].
        gap: ns from the end of the one before on its stream, ``NEVER`` where that one does not hold it up [n].
        host: ns of each interval of host time [points].
        lag: ns from what each dependency between chains waits for, ``NEVER`` where it does not hold [edges].
    """

    duration: Ints
    lead: Ints
    gap: Ints
    host: Ints
    lag: Ints


class Replayed(Struct, frozen=True):
    """When everything happens.

    Attributes:
        start, end: Of each activity, ns, in the order of ``Dependencies.streams`` [n].
        point: Time of each point of the host, ns [points].
    """

    start: Ints
    end: Ints
    point: Ints


def recorded_setting(dependencies: Dependencies) -> Setting:
    """The setting with which a replay gives the recording."""
    streams, lags = dependencies.streams, dependencies.lags
    return Setting(streams.end - streams.start, lags.lead, lags.gap, dependencies.points.interval, dependencies.lag)


def replay(dependencies: Dependencies, setting: Setting) -> Replayed:
    """Runs the recording again.

    Args:
        dependencies: As ``dependencies_of`` finds them.
        setting: What to run it with.
    """
    streams = dependencies.streams
    elapsed = np.cumsum(setting.host)
    since = elapsed - elapsed[dependencies.anchor_of]  # since the anchor of each point
    # A chain's own time: the earliest start of each activity if only the one before on its stream counts.
    step = np.concatenate([[0], setting.duration[:-1]])[: len(setting.gap)] + setting.gap
    own = np.cumsum(np.where(streams.is_first, 0, np.maximum(step, 0)))
    origin = own[streams.is_first][streams.stream] if len(own) else own
    own = own - origin
    is_launched = (dependencies.point >= 0) & (setting.lead > NEVER)
    offset = np.where(is_launched, since[dependencies.point] + setting.lead - own, NEVER) if len(own) else own
    at, entered = _walk(dependencies, setting, since, own, offset)
    anchored = at[len(dependencies.first) :]
    point = anchored[dependencies.anchor_number] + since
    if not len(own):
        return Replayed(own, own, point)
    free = np.where(is_launched, anchored[dependencies.base] + offset, NEVER)
    free[dependencies.first] = np.maximum(free[dependencies.first], entered)
    edges = streams.bounds().tolist()
    for low, high in pairwise(edges):
        free[low:high] = np.maximum.accumulate(free[low:high])
    start = free + own
    return Replayed(start, start + setting.duration, point)


def _walk(dependencies: Dependencies, setting: Setting, since: Ints, own: Ints, offset: Ints) -> tuple[Ints, Ints]:
    """Runs of activities and anchors of the host, each after what it depends on.

    Returns:
        at: When the last activity of each run starts, then when each anchor is [runs + anchors]. entered: For each run
        the latest of what it was not free to start before, as offsets from the stream's own time [runs].
    """
    graph = dependencies.graph
    runs = len(dependencies.first)
    best = np.maximum.reduceat(offset, dependencies.first).tolist() if runs else []
    enter, leave = own[dependencies.first].tolist(), own[dependencies.last].tolist()
    anchors = dependencies.anchors
    previous = np.maximum(anchors - 1, 0)
    step = (since[previous] + np.where(dependencies.is_woken, 0, setting.host[anchors])).tolist()
    kind = graph.kind
    add = setting.lag + np.where(kind == graph.AT_END, setting.duration[graph.row] if len(own) else 0, 0)
    add = np.where(kind == graph.AT_POINT, setting.lag + since[graph.point] + setting.host[graph.to_point], add)
    added, source, first_edge = np.where(setting.lag > NEVER, add, NEVER).tolist(), graph.source, graph.first_edge
    base, stream, chained = graph.base, graph.stream, graph.previous
    at = dependencies.recorded.tolist()
    entered = [NEVER] * runs
    tail = [NEVER] * dependencies.streams.count
    for node in graph.order:
        if node < runs:
            ready = tail[stream[node]]
            shift = enter[node]
            for edge in range(first_edge[node], first_edge[node + 1]):
                free = at[source[edge]] + added[edge] - shift
                if free > ready:  # noqa: PLR1730 (max() is three times slower, and this is the inner loop)
                    ready = free
            entered[node] = ready
            free = at[base[node]] + best[node]
            if free > ready:  # noqa: PLR1730 (max() is three times slower, and this is the inner loop)
                ready = free
            tail[stream[node]] = ready
            at[node] = ready + leave[node]
        else:
            ready = at[chained[node - runs]] + step[node - runs]
            for edge in range(first_edge[node], first_edge[node + 1]):
                free = at[source[edge]] + added[edge]
                if free > ready:  # noqa: PLR1730 (max() is three times slower, and this is the inner loop)
                    ready = free
            at[node] = ready
    return np.array(at, np.int64), np.array(entered, np.int64)
