"""Nsight Compute's verdict by its own rule, agreement with ours, and errors weighted by time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gpu.judging import agreed_share, is_agreed, spread_of, verdict_of, why_bytes_differ


@pytest.mark.parametrize(
    ("sm", "memory", "verdict"),
    [
        (90, 20, "compute"), (20, 90, "memory"), (85, 82, "compute"), (59, 59.9, "latency"), (0, 0, "latency"),
        (70, 65, "balanced"), (65, 70, "balanced"), (70, 60, "compute"), (30, 75, "memory"), (80, 79, "compute"),
    ],
)  # fmt: skip
def test_verdicts(sm: float, memory: float, verdict: str) -> None:
    assert verdict_of(sm, memory) == verdict


@pytest.mark.parametrize(
    ("theirs", "bound", "flags", "agreed"),
    [
        ("compute", "compute", (), True), ("memory", "compute", (), False), ("memory", "memory", (), True),
        ("latency", "memory", ("under-used",), True), ("latency", "overhead", ("too-small",), True),
        ("latency", "memory", (), False), ("memory", "memory", ("under-used",), False),
        ("balanced", "compute", (), True),
        ("balanced", "overhead", (), False), ("compute", "memory", ("balanced",), True),
        ("memory", None, ("uncosted",), None), ("memory", "communication", (), None),
    ],
)  # fmt: skip
def test_agreement(theirs: str, bound: str | None, flags: tuple[str, ...], agreed: bool | None) -> None:
    assert is_agreed(theirs, bound, flags) is agreed


@pytest.mark.parametrize(
    ("formula", "dram", "l2", "is_split_k", "why"),
    [
        (100, 100, 100, False, ""), (100, 20, 110, False, "served by the L2"), (100, 20, 30, False, ""),
        (100, 20, None, False, ""), (100, 200, 300, False, "read more than once: the L2 did not hold it"),
        (100, 200, 300, True, "partial results of split-k"), (100, 200, None, False, ""),
    ],
)  # fmt: skip
def test_a_reason_is_given_only_where_the_counters_show_it(
    formula: float, dram: float, l2: float | None, is_split_k: bool, why: str
) -> None:
    assert why_bytes_differ(formula, dram, l2, is_split_k=is_split_k) == why


def test_a_spread_is_by_count_and_by_time() -> None:
    found = spread_of([(-0.1, 1), (0.2, 1), (0.0, 8)])
    assert found is not None
    assert (found.count, found.median, found.worst) == (3, 0.1, 0.2)
    assert found.p90 == pytest.approx(0.18)
    assert found.by_time == pytest.approx(0.03)
    assert spread_of([]) is None


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1e6)), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_a_spread_is_ordered_and_between_its_ends(pairs: list[tuple[float, float]]) -> None:
    found = spread_of(pairs)
    assert found is not None
    assert 0 <= found.median <= found.p90 <= found.worst
    assert 0 <= found.by_time <= found.worst * (1 + 1e-9)


def test_what_is_not_judged_counts_in_neither_part() -> None:
    assert agreed_share([(True, 3.0), (False, 1.0), (None, 6.0)]) == (0.75, 6.0)
    assert agreed_share([(None, 2.0)]) == (None, 2.0)
