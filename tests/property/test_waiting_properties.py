"""Waiting plus moving is every rank's time in a collective, whatever the times; joining never invents a row."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.pricing.host_collectives import queued
from diagnose.ranks.arrivals import Arrivals, Key
from diagnose.ranks.clock_offsets import waits
from diagnose.ranks.joined_collectives import join

times = st.integers(-(10**12), 10**12)
KEY = Key("0", "[0, 1]", 2, "all_reduce", 8)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(times, st.integers(0, 10**9)), min_size=1, max_size=6))
def test_waiting_and_moving_add_up(stays):
    start = np.array([at for at, _ in stays])
    end = start + np.array([long for _, long in stays])
    wait, move = waits(start, end)
    assert (wait + move).tolist() == (end - start).tolist()
    assert (wait >= 0).all()
    assert (move >= 0).all()
    assert wait[start == start.max()].tolist() == [0] * int((start == start.max()).sum())


def arrivals(starts, lengths):
    count = len(starts)
    start = np.sort(np.array(starts, np.int64))
    end = start + np.array(lengths[:count], np.int64)
    return Arrivals(
        (KEY,), np.zeros(count, np.int64), np.arange(count), start, end, np.zeros(count, np.int64),
        (), tuple({} for _ in range(count)), 0,
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=8), st.lists(st.integers(0, 1000), max_size=8), st.booleans())
def test_each_collective_is_joined_at_most_once(first, second, by_time):
    lengths = [10] * 8
    found = join({0: arrivals(first, lengths), 1: arrivals(second, lengths)}, {0: 0, 1: 0} if by_time else None)
    for rank, count in ((0, len(first)), (1, len(second))):
        rows = [one.rows[rank] for one in found]
        assert len(set(rows)) == len(rows)
        assert all(0 <= row < count for row in rows)
        assert rows == sorted(rows)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=10), st.lists(st.integers(0, 50), max_size=10))
def test_a_queue_gives_its_oldest_entry(enqueued, began):
    enqueued, began = sorted(enqueued), sorted(began)
    waiting, expected, place = [], [], 0
    for time in began:
        while place < len(enqueued) and enqueued[place] <= time:
            waiting.append(place)
            place += 1
        expected.append(waiting.pop(0) if waiting else -1)
    assert queued(np.array(enqueued, np.int64), np.array(began, np.int64)).tolist() == expected
