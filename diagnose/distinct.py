"""The distinct values of a column, and which rows have one of a few values.

``numpy.unique`` and ``numpy.isin`` do the same, but asked for values alone, or for an empty list, they import
``numpy.ma``, which takes longer than the whole of many analyses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FEW: Final = 8
"""So many comparisons are faster than one search."""


def is_any(values: NDArray[np.int64], wanted: Iterable[int]) -> NDArray[np.bool_]:
    """Which of ``values`` are among ``wanted``.

    Args:
        values: Whole numbers [n].
        wanted: Whole numbers, few as a rule; there may be none.
    """
    ordered = np.sort(np.fromiter(wanted, np.int64))
    if len(ordered) <= _FEW:
        found = np.zeros(np.shape(values), np.bool_)
        for one in ordered:
            found |= values == one
        return found
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[place] == values)


def distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each value once, ascending.

    Args:
        values: Whole numbers [n].
    """
    ordered = np.sort(values, axis=None)
    is_new = np.ones(len(ordered), np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    found: NDArray[np.int64] = ordered[is_new]
    return found


def all_but(values: NDArray[np.int64], unwanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each of ``values`` once, ascending, but for those that are unwanted."""
    found = distinct(values)
    return found[~is_any(found, unwanted.reshape(-1))]
