"""Clocks told apart by the ends of collectives; waiting and moving told apart by the last arrival."""

import numpy as np
import pytest

from diagnose.ranks.clock_offsets import Meeting, corrections, estimate_offsets, waits

MS = 1_000_000


def meeting(starts, end, ahead=None, jitter=None):
    """All ranks leave at ``end`` by true time; each rank's clock shows it ``ahead`` later."""
    ahead, jitter = ahead or {}, jitter or {}
    return Meeting(
        {
            rank: (start + ahead.get(rank, 0), end + ahead.get(rank, 0) + jitter.get(rank, 0))
            for rank, start in starts.items()
        }
    )


def test_equal_clocks_need_no_correction():
    found = estimate_offsets([0, 1], [meeting({0: 0, 1: 4 * MS}, 5 * MS), meeting({0: 9 * MS, 1: 8 * MS}, 10 * MS)])
    assert [row.offset_ns for row in found] == [0, 0]
    assert corrections(found) == {0: 0, 1: 0}


def test_a_clock_that_is_ahead_is_found_and_corrected():
    ahead = {1: 30 * MS}
    found = estimate_offsets([0, 1], [meeting({0: k * MS, 1: k * MS}, (k + 2) * MS, ahead) for k in (0, 10, 20)])
    assert found[1].offset_ns == 30 * MS
    assert (found[1].uncertainty_ns, found[1].samples, found[1].is_applied) == (0, 3, True)
    assert corrections(found) == {0: 0, 1: 30 * MS}
    assert found[1].low_ns <= 30 * MS <= found[1].high_ns


def test_what_moving_explains_is_not_the_clocks():
    """Rank 1 always leaves 0.3 ms later, and no stay is shorter than 2 ms."""
    found = estimate_offsets(
        [0, 1], [meeting({0: k * MS, 1: k * MS}, (k + 2) * MS, None, {1: 300_000}) for k in (0, 10)]
    )
    assert found[1].offset_ns == 300_000
    assert not found[1].is_applied


@pytest.mark.parametrize(
    ("late", "offset", "uncertainty"),
    [
        (range(0, 900, 100), 400, 200),  # quartiles 200 and 600
        ([0, 100, 200, 300, 400], 200, 200),  # of so few the whole range
    ],
)
def test_the_uncertainty_is_half_the_middle_halfs_spread(late, offset, uncertainty):
    found = estimate_offsets([0, 1], [meeting({0: 0, 1: 0}, 50, None, {1: ns}) for ns in late])
    assert (found[1].offset_ns, found[1].uncertainty_ns) == (offset, uncertainty)


def test_ranks_that_never_meet_the_first_are_reached_over_others():
    ahead = {1: 50 * MS, 2: 80 * MS}
    found = estimate_offsets(
        [0, 1, 2],
        [meeting({0: 0, 1: 0}, MS, ahead), meeting({1: 0, 2: 0}, MS, ahead), meeting({1: 5, 2: 9}, MS, ahead)],
    )
    assert [row.offset_ns for row in found] == [0, 50 * MS, 80 * MS]


def test_a_rank_without_a_common_collective_has_no_offset():
    found = estimate_offsets([0, 1, 2], [meeting({0: 0, 1: 0}, MS)])
    assert (found[2].offset_ns, found[2].samples, found[2].is_applied) == (None, 0, False)


def test_the_last_to_arrive_waits_for_nobody():
    wait, move = waits(np.array([10, 40, 25]), np.array([90, 95, 88]))
    assert wait.tolist() == [30, 0, 15]
    assert move.tolist() == [50, 55, 48]


def test_a_root_that_left_early_did_not_wait_beyond_its_end():
    wait, move = waits(np.array([0, 100]), np.array([20, 130]))
    assert (wait.tolist(), move.tolist()) == ([20, 0], [0, 30])


@pytest.mark.parametrize("ranks", [[], [3]])
def test_few_ranks(ranks):
    assert [row.offset_ns for row in estimate_offsets(ranks, [])] == [0] * len(ranks)
