"""DESIGN's sharing rule worked by hand: who owns each interval, how concurrent kernels share one, how it is rounded."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.wall import waterfall
from diagnose.wall.waterfall import (
    CARRIED,
    COMMUNICATION,
    COMPUTE,
    COPY,
    MEMORY,
    PARTS,
    SMALL,
    UNCOSTED,
    Spans,
    Split,
    split,
)

Span = tuple[int, int, int, float]
"""Start, end, kind, use."""


def split_of(spans: list[Span], *boundaries: int) -> Split:
    start, end, kind, use = zip(*spans, strict=True) if spans else ((), (), (), ())
    columns = Spans(
        np.array(start, np.int64), np.array(end, np.int64), np.array(kind, np.int64), np.array(use, np.float64)
    )
    return split(columns, np.array(boundaries, np.int64))


def parts_of(found: Split, step: int = 0) -> dict[str, int]:
    return {name: ns for name, ns in zip(PARTS, found.parts[step].tolist(), strict=True) if ns}


def test_an_empty_window_is_idle() -> None:
    found = split_of([], 100, 400)
    assert parts_of(found) == {"idle_unknown": 300}
    assert (found.idle_start.tolist(), found.idle_end.tolist()) == ([100], [400])


def test_one_kernel_is_split_at_its_roof() -> None:
    found = split_of([(100, 200, MEMORY, 0.75)], 0, 300)
    assert parts_of(found) == {"memory_roof": 75, "memory_above_roof": 25, "idle_unknown": 200}
    assert found.exposed.tolist() == [100]
    assert (found.idle_start.tolist(), found.idle_end.tolist()) == ([0, 200], [100, 300])


def test_a_use_above_one_is_one() -> None:
    assert parts_of(split_of([(0, 100, COMPUTE, 7.5)], 0, 100)) == {"compute_roof": 100}


@pytest.mark.parametrize(
    ("kind", "part"),
    [(SMALL, "small_kernels"), (UNCOSTED, "uncosted"), (COMMUNICATION, "exposed_communication"),
     (COPY, "exposed_copy"), (CARRIED, "carried_over")],
)  # fmt: skip
def test_what_is_not_costed_owns_its_time_whole(kind: int, part: str) -> None:
    assert parts_of(split_of([(0, 100, kind, 0.5)], 0, 100)) == {part: 100}


@pytest.mark.parametrize(
    ("winner", "loser"),
    [(COMPUTE, COMMUNICATION), (MEMORY, COPY), (SMALL, COMMUNICATION), (UNCOSTED, CARRIED), (COMMUNICATION, COPY),
     (COMMUNICATION, CARRIED), (COPY, CARRIED)],
)  # fmt: skip
def test_the_first_class_present_owns_the_interval(winner: int, loser: int) -> None:
    for spans in ([(0, 100, winner, 1.0), (0, 300, loser, 1.0)], [(0, 300, loser, 1.0), (0, 100, winner, 1.0)]):
        found = split_of(spans, 0, 300)
        owned = dict(zip([kind for _, _, kind, _ in spans], found.exposed.tolist(), strict=True))
        assert owned == {winner: 100, loser: 200}


def test_communication_hidden_behind_a_kernel_is_not_exposed() -> None:
    found = split_of([(0, 100, COMPUTE, 1.0), (20, 60, COMMUNICATION, 0.0)], 0, 100)
    assert parts_of(found) == {"compute_roof": 100}
    assert found.exposed.tolist() == [100, 0]


def test_two_kernels_that_leave_room_share_what_is_above_the_roof() -> None:
    # L 1000, e 0.3 and 0.5: at the roof 300 and 500; the remaining 200 shared equally.
    found = split_of([(0, 1000, COMPUTE, 0.3), (0, 1000, MEMORY, 0.5)], 0, 1000)
    assert parts_of(found) == {
        "compute_roof": 300, "compute_above_roof": 100, "memory_roof": 500, "memory_above_roof": 100,
    }  # fmt: skip
    assert found.exposed.tolist() == [400, 600]


def test_two_kernels_that_want_more_than_the_device_are_scaled() -> None:
    # E 1.4 > 1: 800 / 1.4 = 571.43 and 600 / 1.4 = 428.57; the missing nanosecond to the larger fraction.
    found = split_of([(0, 1000, COMPUTE, 0.8), (0, 1000, MEMORY, 0.6)], 0, 1000)
    assert parts_of(found) == {"compute_roof": 571, "memory_roof": 429}


def test_a_small_kernel_takes_its_nth_whole_and_the_costed_share_the_rest() -> None:
    # n 3, L 900: small 300, R 600. E 0.8: L E = 720 > R, so e is scaled by 600 / 720: 225 and 375.
    found = split_of([(0, 900, COMPUTE, 0.3), (0, 900, SMALL, 0.0), (0, 900, MEMORY, 0.5)], 0, 900)
    assert parts_of(found) == {"compute_roof": 225, "small_kernels": 300, "memory_roof": 375}


def test_a_small_kernel_beside_kernels_that_leave_room() -> None:
    # n 3, L 900: small 300, R 600. e 0.2 and 0.3: 180 + 270 = 450; the remaining 150 are 75 each.
    found = split_of([(0, 900, COMPUTE, 0.2), (0, 900, UNCOSTED, 0.0), (0, 900, MEMORY, 0.3)], 0, 900)
    assert parts_of(found) == {
        "compute_roof": 180, "compute_above_roof": 75, "uncosted": 300, "memory_roof": 270, "memory_above_roof": 75,
    }  # fmt: skip


def test_kernels_without_any_use_are_all_above_the_roof() -> None:
    found = split_of([(0, 100, COMPUTE, 0.0), (0, 100, MEMORY, 0.0)], 0, 100)
    assert parts_of(found) == {"compute_above_roof": 50, "memory_above_roof": 50}


@pytest.mark.parametrize(("length", "owned"), [(99, [33, 33, 33]), (100, [34, 33, 33]), (101, [34, 34, 33])])
def test_ties_of_fractions_go_by_row(length: int, owned: list[int]) -> None:
    assert split_of([(0, length, UNCOSTED, 0.0)] * 3, 0, length).exposed.tolist() == owned


def test_each_interval_of_a_partial_overlap_is_shared_by_itself() -> None:
    # [0, 100) a alone; [100, 200) both, e 1 each: halves; [200, 300) b alone.
    found = split_of([(0, 200, COMPUTE, 1.0), (100, 300, MEMORY, 1.0)], 0, 300)
    assert parts_of(found) == {"compute_roof": 150, "memory_roof": 150}


def test_a_span_over_two_steps_counts_in_both() -> None:
    found = split_of([(50, 150, COMPUTE, 0.5)], 0, 100, 250)
    assert parts_of(found, 0) == {"compute_roof": 25, "compute_above_roof": 25, "idle_unknown": 50}
    assert parts_of(found, 1) == {"compute_roof": 25, "compute_above_roof": 25, "idle_unknown": 100}
    assert found.exposed.tolist() == [100]


def test_what_lies_outside_the_window_is_ignored() -> None:
    found = split_of([(-500, 20, CARRIED, 0.0), (90, 400, COMPUTE, 1.0), (200, 300, MEMORY, 1.0)], 0, 100)
    assert parts_of(found) == {"carried_over": 20, "idle_unknown": 70, "compute_roof": 10}
    assert found.exposed.tolist() == [20, 10, 0]


def test_steps_and_kernels_without_length() -> None:
    found = split_of([(10, 10, COMPUTE, 1.0), (0, 20, MEMORY, 1.0)], 0, 10, 10, 20)
    assert found.parts.sum(axis=1).tolist() == [10, 0, 10]
    assert found.exposed.tolist() == [0, 20]
    assert split_of([(5, 5, COMPUTE, 1.0)], 5, 5).parts.sum() == 0


@pytest.mark.parametrize("most", [1, 7, 40])
def test_a_window_split_in_batches_is_the_same_window(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(most)
    start = random.integers(0, 400, 60)
    spans = waterfall.Spans(
        start, start + random.integers(0, 120, 60), random.integers(0, 7, 60), random.uniform(0, 1, 60)
    )
    boundaries = np.array([10, 150, 300, 480])
    whole = waterfall.split(spans, boundaries)
    monkeypatch.setattr(waterfall, "MOST_PAIRS", most)
    batched = waterfall.split(spans, boundaries)
    for field in ("parts", "exposed", "idle_start", "idle_end"):
        assert getattr(batched, field).tolist() == getattr(whole, field).tolist()
    assert batched.parts.sum(axis=1).tolist() == np.diff(boundaries).tolist()
