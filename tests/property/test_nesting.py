"""Nesting without a loop says what a stack says; self times tile what was busy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diagnose.trace.host import nest, self_segments, skip

Interval = tuple[int, int, int]
"""Thread, start, end."""

INTERVALS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(0, 25)).map(
        lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
    ),
    max_size=25,
)


def by_stack(intervals: Sequence[Interval]) -> list[tuple[int, int, int]]:
    """(parent, end, depth) of each interval, one at a time.

    Where two cross, the later is a child cut short if at least half of it lies inside, else the next, which cuts the
    earlier.
    """
    found = [(-1, end, 0) for _, _, end in intervals]
    stacks: dict[int, list[int]] = {}
    for row in sorted(range(len(intervals)), key=lambda row: (intervals[row][1], -intervals[row][2], row)):
        thread, start, end = intervals[row]
        stack = stacks.setdefault(thread, [])
        while stack and (found[stack[-1]][1] <= start or end - found[stack[-1]][1] > found[stack[-1]][1] - start):
            earlier = stack.pop()
            found[earlier] = (found[earlier][0], min(found[earlier][1], start), found[earlier][2])
        parent = stack[-1] if stack else -1
        found[row] = (parent, min(end, found[parent][1]) if stack else end, len(stack))
        stack.append(row)
    return found


def columns(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    thread, start, end = np.array(intervals, np.int64).reshape(-1, 3).T
    return thread, start, end


@given(INTERVALS)
def test_nesting_equals_a_stack(intervals: list[Interval]) -> None:
    found = nest(*columns(intervals))
    assert list(zip(found.parent.tolist(), found.end.tolist(), found.depth.tolist(), strict=True)) == by_stack(
        intervals
    )


@given(INTERVALS)
def test_self_segments_are_the_innermost_interval_at_every_instant(intervals: list[Interval]) -> None:
    thread, start, end = columns(intervals)
    found = self_segments(thread, start, nest(thread, start, end))
    owner = {
        (int(thread[row]), instant): row
        for row, low, high in zip(found.row.tolist(), found.start.tolist(), found.end.tolist(), strict=True)
        for instant in range(low, high)
    }
    assert len(owner) == int((found.end - found.start).sum())  # no instant has two owners
    truth = by_stack(intervals)
    expected = {}
    for row in sorted(range(len(intervals)), key=lambda row: truth[row][2]):  # the deepest is written last
        expected.update({(intervals[row][0], instant): row for instant in range(intervals[row][1], truth[row][1])})
    assert owner == expected


@given(INTERVALS, st.lists(st.booleans(), min_size=25, max_size=25))
def test_skip_equals_walking_up(intervals: list[Interval], flags: list[bool]) -> None:
    parent = nest(*columns(intervals)).parent
    wanted = np.array(flags[: len(intervals)], np.bool_)

    def walk(row: int) -> int:
        above = int(parent[row])
        while above >= 0 and not wanted[above]:
            above = int(parent[above])
        return above

    assert skip(parent, wanted).tolist() == [walk(row) for row in range(len(intervals))]
