"""Which host interval lies inside which, and what of an op's time is its own.

Kineto writes flat events; nesting is found from times alone, a thread at a time, without a Python loop over events.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct

Ints = NDArray[np.int64]


class Nesting(Struct, frozen=True):
    """The forest of one set of intervals, rows as they were given.

    Attributes:
        parent: Row of the innermost enclosing interval of the same thread, -1 at the top.
        end: Ends, cut to the parent's end or the next one's start (some writers round starts but not durations).
        depth: 0 at the top.
    """

    parent: Ints
    end: Ints
    depth: Ints


def nest(thread: Ints, start: Ints, end: Ints, rank: Ints | None = None) -> Nesting:
    """Nests intervals of the same thread.

    Args:
        thread: [n] ids.
        start: [n] ns.
        end: [n] ns.
        rank: Who encloses whom where two intervals are equal: the lower rank; by default the earlier row.
    """
    count = len(start)
    if count == 0:
        empty = np.zeros(0, np.int64)
        return Nesting(empty, empty, empty)
    key_start, key_end = _keys(thread, start, np.maximum(end, start))
    order = _outermost_first(key_start, end, rank)
    parent, clipped, depth = _nest_sorted(start[order], np.maximum(end, start)[order], key_start[order], key_end[order])
    rows_parent, rows_end, rows_depth = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    rows_parent[order] = np.where(parent >= 0, order[parent], -1)
    rows_end[order] = clipped
    rows_depth[order] = depth
    return Nesting(rows_parent, rows_end, rows_depth)


def _outermost_first(key: Ints, end: Ints, rank: Ints | None) -> Ints:
    """The order by ``key``, of equal ones the later end first, then the lower rank (by default the earlier row)."""
    order = np.argsort(key, kind="stable")  # nearly in order as they come
    equal = key[order[1:]] == key[order[:-1]]
    if equal.any():
        alike = np.concatenate([equal, [False]])
        alike[1:] |= equal
        rows = order[alike]
        order[alike] = rows[np.lexsort((rows if rank is None else rank[rows], -end[rows], key[rows]))]
    return order


def _nest_sorted(start: Ints, end: Ints, key_start: Ints, key_end: Ints) -> tuple[Ints, Ints, Ints]:
    count = len(start)
    # The subtree of a row is everything up to the first later row of its thread that starts at or after its end.
    after = np.maximum(np.searchsorted(key_start, key_end, side="left"), np.arange(count) + 1)
    closed_before = np.cumsum(np.bincount(after, minlength=count + 1))[:count]
    depth = np.arange(count) - closed_before
    parent = np.full(count, -1, np.int64)
    above = np.flatnonzero(depth == 0)
    for level in range(1, int(depth.max()) + 1):
        here = np.flatnonzero(depth == level)
        if above.size:
            parent[here] = above[np.maximum(np.searchsorted(above, here) - 1, 0)]
        above = here
    inner = parent >= 0
    clipped = _cut_to_parents(end, parent)
    is_crossing = (depth > 0) & ~inner
    is_crossing[inner] = (after[inner] > after[parent[inner]]) | (after[parent[inner]] <= np.flatnonzero(inner))
    is_crossing[inner] |= 2 * clipped[parent[inner]] < start[inner] + end[inner]
    if is_crossing.any():
        rows, is_first = _clusters(key_start, key_end, is_crossing)
        clipped[rows] = end[rows]
        parent[rows], depth[rows], clipped[rows] = _nest_by_stack(rows, is_first, start[rows], end[rows])
    return parent, clipped, depth


def _clusters(key_start: Ints, key_end: Ints, is_marked: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_]]:
    """Rows of the runs of intervals that hang together by overlaps, where one of them is marked; and where one begins.

    A run behind another has nothing to do with it, on the same thread or not.
    """
    reach = np.maximum.accumulate(key_end)
    begins = np.concatenate([[0], np.flatnonzero(key_start[1:] >= reach[:-1]) + 1, [len(key_start)]])
    run = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    is_chosen = np.zeros(len(begins) - 1, np.bool_)
    is_chosen[run[is_marked]] = True
    is_first = np.zeros(len(key_start), np.bool_)
    is_first[begins[:-1]] = True
    rows = np.flatnonzero(is_chosen[run])
    return rows, is_first[rows]


def _cut_to_parents(end: Ints, parent: Ints) -> Ints:
    clipped, inner = end.copy(), parent >= 0
    while True:  # once a level that a cut has to reach, which is once as a rule
        cut = np.minimum(clipped[inner], clipped[parent[inner]])
        if (cut == clipped[inner]).all():
            return clipped
        clipped[inner] = cut


def _keys(thread: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Starts and ends of all threads on one axis, a thread behind the other."""
    first = int(start.min())
    span = int(end.max()) - first + 1
    if (int(thread.max()) + 1) * span < 1 << 62:
        base = thread * np.int64(span) - first
        return base + start, base + end
    times = distinct(np.concatenate([start, end]))  # absurd times: their ranks will do
    base = thread * np.int64(len(times) + 1)
    return base + np.searchsorted(times, start), base + np.searchsorted(times, end)


def _nest_by_stack(
    rows: Ints, is_first: NDArray[np.bool_], start: Ints, end: Ints
) -> tuple[list[int], list[int], list[int]]:
    """Parent, depth and end of rows that cross others, outermost first, so that a cut reaches the inner ones.

    Of two that cross, the later is a child that ends too late if less of it lies outside than inside; else it is what
    came next and begins too early, and the earlier one ends where it begins. A loop over rows: they come from writers
    that round times, and are rare.

    Args:
        rows: Their numbers [n].
        is_first: Where a run begins that has nothing to do with what came before [n].
        start: ns [n].
        end: ns [n].
    """
    stack: list[int] = []  # places in ``rows``
    ends: list[int] = []  # of the rows on the stack
    parents, depths, cut = [], [], end.tolist()
    numbers = rows.tolist()
    for place, (begin, is_new) in enumerate(zip(start.tolist(), is_first.tolist(), strict=True)):
        if is_new:
            stack.clear()
            ends.clear()
        while ends and (ends[-1] <= begin or 2 * ends[-1] < begin + cut[place]):
            cut[stack.pop()] = min(ends.pop(), begin)
        parents.append(numbers[stack[-1]] if stack else -1)
        depths.append(len(stack))
        if ends and cut[place] > ends[-1]:
            cut[place] = ends[-1]
        stack.append(place)
        ends.append(cut[place])
    return parents, depths, cut


def skip(parent: Ints, is_wanted: NDArray[np.bool_]) -> Ints:
    """For each row the nearest ancestor that is wanted, -1 if there is none."""
    found = parent.copy()
    while True:
        passing = np.flatnonzero((found >= 0) & ~is_wanted[np.maximum(found, 0)])
        if not passing.size:
            return found
        found[passing] = parent[found[passing]]


class Segments(Struct, frozen=True):
    """Stretches of time that belong to one row each; they never overlap on one thread.

    Attributes:
        row: Whose time it is.
        start, end: ns, ``end > start``.
    """

    row: Ints
    start: Ints
    end: Ints


def self_segments(thread: Ints, start: Ints, nesting: Nesting) -> Segments:
    """The time of each interval that none of its children covers; sums to the union of the top-level intervals."""
    rows = np.flatnonzero(nesting.end > start)  # an interval without length owns nothing
    parent = skip(nesting.parent, nesting.end > start)[rows]
    edge_time = np.concatenate([start[rows], nesting.end[rows]])
    edge_thread = np.concatenate([thread[rows]] * 2)
    is_start = np.repeat([1, 0], len(rows))
    depth = nesting.depth[rows]
    # At one instant ends come before starts, the deepest end first, the shallowest start first.
    edge_depth = np.concatenate([depth, -depth])
    edge_owner = np.concatenate([rows, parent])
    order = np.lexsort((edge_depth, is_start, edge_time, edge_thread))
    time, owner, lane = edge_time[order], edge_owner[order], edge_thread[order]
    is_kept = (owner[:-1] >= 0) & (time[1:] > time[:-1]) & (lane[1:] == lane[:-1])
    return Segments(owner[:-1][is_kept], time[:-1][is_kept], time[1:][is_kept])
