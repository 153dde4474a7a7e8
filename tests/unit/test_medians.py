"""The middle of a few numbers, as the standard library has it."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.medians import median_low, quartiles

NUMBERS = st.lists(st.integers(-(10**15), 10**15), min_size=2, max_size=12)


@settings(max_examples=30, deadline=None)
@given(NUMBERS)
def test_the_same_as_the_slower_module(numbers: list[int]) -> None:
    first, _, third = statistics.quantiles(numbers, n=4, method="inclusive")
    assert quartiles(numbers) == (first, third)
    assert median_low(iter(numbers)) == statistics.median_low(numbers)


def test_of_none_there_is_no_middle() -> None:
    with pytest.raises(IndexError):
        median_low([])
