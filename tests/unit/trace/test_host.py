"""Nesting and self time of host intervals, by hand."""

from __future__ import annotations

import numpy as np

from diagnose.trace.host import Nesting, Segments, nest, self_segments, skip


def nested(*intervals: tuple[int, int], thread: list[int] | None = None) -> Nesting:
    start = np.array([low for low, _ in intervals], np.int64)
    end = np.array([high for _, high in intervals], np.int64)
    return nest(np.array(thread or [0] * len(intervals), np.int64), start, end)


def pieces(segments: Segments) -> set[tuple[int, int, int]]:
    return set(zip(segments.row.tolist(), segments.start.tolist(), segments.end.tolist(), strict=True))


def self_time(*intervals: tuple[int, int], thread: list[int] | None = None) -> set[tuple[int, int, int]]:
    start = np.array([low for low, _ in intervals], np.int64)
    lanes = np.array(thread or [0] * len(intervals), np.int64)
    return pieces(self_segments(lanes, start, nested(*intervals, thread=thread)))


def test_a_tree_with_siblings() -> None:
    found = nested((0, 100), (10, 40), (20, 30), (50, 90))
    assert found.parent.tolist() == [-1, 0, 1, 0]
    assert found.depth.tolist() == [0, 1, 2, 1]
    assert found.end.tolist() == [100, 40, 30, 90]


def test_rows_may_come_in_any_order() -> None:
    found = nested((20, 30), (0, 100), (50, 90), (10, 40))
    assert found.parent.tolist() == [3, -1, 1, 1]


def test_an_interval_that_begins_where_another_ends_is_its_sibling() -> None:
    found = nested((0, 100), (10, 40), (40, 60))
    assert found.parent.tolist() == [-1, 0, 0]


def test_of_equal_starts_the_longer_encloses_and_of_equal_intervals_the_earlier_row() -> None:
    assert nested((0, 50), (0, 100)).parent.tolist() == [1, -1]
    assert nested((0, 100), (0, 100)).parent.tolist() == [-1, 0]


def test_zero_length_intervals_lie_in_others_but_hold_nothing() -> None:
    found = nested((0, 100), (50, 50), (50, 60), (100, 100))
    assert found.parent.tolist() == [-1, 2, 0, -1]
    assert nested((5, 5), (5, 5)).parent.tolist() == [-1, -1]


def test_threads_do_not_enclose_each_other() -> None:
    found = nested((0, 100), (10, 20), (15, 18), thread=[0, 1, 1])
    assert found.parent.tolist() == [-1, -1, 1]


def test_a_child_that_outlives_its_parent_is_cut_to_it() -> None:
    # Writers that round starts but not durations: v100_resnet's children are up to 146 ns too long.
    found = nested((0, 1000), (100, 1146), (2000, 3000))
    assert found.parent.tolist() == [-1, 0, -1]
    assert found.end.tolist() == [1000, 1000, 3000]


def test_a_cut_reaches_the_grandchildren() -> None:
    found = nested((0, 1000), (100, 1050), (200, 1100), (300, 1146))
    assert found.parent.tolist() == [-1, 0, 1, 2]
    assert found.end.tolist() == [1000, 1000, 1000, 1000]


def test_what_follows_a_child_that_was_cut_is_no_child_of_it() -> None:
    found = nested((0, 1000), (800, 1146), (1050, 1100), (0, 10), thread=[0, 0, 0, 1])
    assert found.parent.tolist() == [-1, 0, -1, -1]
    assert found.end.tolist() == [1000, 1000, 1100, 10]


def test_of_two_that_touch_by_rounding_the_later_is_the_next_not_a_child() -> None:
    # v100_resnet: a view of 571 ns begins 25 ns before the one before it ends.
    found = nested((0, 5000), (300, 725), (700, 1271), (750, 900))
    assert found.parent.tolist() == [-1, 0, 0, 2]
    assert found.end.tolist() == [5000, 700, 1271, 900]
    assert nested((300, 725), (700, 1271)).parent.tolist() == [-1, -1]


def test_nothing_to_nest() -> None:
    assert len(nested().parent) == 0


def test_self_time_is_what_no_child_covers() -> None:
    assert self_time((0, 100), (10, 40), (20, 30), (50, 90)) == {
        (0, 0, 10), (1, 10, 20), (2, 20, 30), (1, 30, 40), (0, 40, 50), (3, 50, 90), (0, 90, 100),
    }  # fmt: skip


def test_self_time_of_children_back_to_back_and_of_a_child_as_long_as_its_parent() -> None:
    assert self_time((0, 100), (0, 50), (50, 100)) == {(1, 0, 50), (2, 50, 100)}
    assert self_time((0, 100), (0, 100)) == {(1, 0, 100)}


def test_zero_length_intervals_own_no_time() -> None:
    assert self_time((0, 100), (50, 50), (7, 7)) == {(0, 0, 100)}


def test_self_time_of_threads_apart() -> None:
    assert self_time((0, 10), (0, 10), thread=[0, 1]) == {(0, 0, 10), (1, 0, 10)}


def test_skip_passes_over_rows_that_are_not_wanted() -> None:
    parent = np.array([-1, 0, 1, 2], np.int64)
    assert skip(parent, np.array([True, False, False, True])).tolist() == [-1, 0, 0, 0]
    assert skip(parent, np.array([False, False, False, True])).tolist() == [-1, -1, -1, -1]
