"""The middle of a few numbers. ``statistics`` does the same, but imports fractions, decimals and random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def median_low(values: Iterable[int]) -> int:
    """The middle one, of an even number the lower of the two.

    Raises:
        IndexError: There are none.
    """
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def quartiles(values: Sequence[int]) -> tuple[float, float]:
    """Below and above which a quarter lies, the smallest and the largest being the ends of the whole.

    Args:
        values: At least two.
    """
    ordered, steps = sorted(values), len(values) - 1
    low, high = divmod(steps, 4), divmod(3 * steps, 4)
    first, third = (
        (ordered[place] * (4 - rest) + ordered[min(place + 1, steps)] * rest) / 4 for place, rest in (low, high)
    )
    return first, third
