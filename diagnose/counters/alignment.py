"""Two sequences of kernels, recorded apart, laid side by side; and what a kernel's name is without its decoration."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Final

import numpy as np

from diagnose.trace.tables import Ints

_MOST_PAIRS: Final = 400_000_000
"""Pairs up to which order is followed kernel by kernel (50 MB); beyond, only kernels as frequent on both sides are."""
_MOST_OF_STEP: Final = 0.75
"""A period has at least this share of a step's kernels: a few may be missing."""
_PERIODIC: Final = 0.95
"""Share of kernels that must come again one period later."""

_TEMPLATE: Final = re.compile(r"<[^<>]*>")
_MANGLED: Final = re.compile(r"^_Z(?P<nested>N[rVK]*)?(?:St)?")
_IDENTIFIER: Final = re.compile(r"L?(\d{1,5})")
_LONGEST: Final = 20_000


@lru_cache(maxsize=8192)
def base_name(name: str) -> str:
    """The function's own name, without return type, namespaces, template arguments and parameters.

    Kineto and Nsight Compute print the same kernel differently (``char*`` or ``char *``, ``T2`` for a type, or
    mangled); this much they have in common.
    """
    name = name[:_LONGEST].strip()
    if name.startswith("_Z"):
        return _of_mangled(name)
    text = name.replace("(anonymous namespace)", "").replace("->", "")
    while (shorter := _TEMPLATE.sub("", text)) != text:
        text = shorter
    head = text.split("<", 1)[0].split("(", 1)[0].strip()
    return head.rsplit(" ", 1)[-1].rsplit("::", 1)[-1] or name


def _of_mangled(name: str) -> str:
    """The last plain identifier before template arguments or parameters."""
    start = _MANGLED.match(name)
    place, found = start.end() if start else 2, ""
    is_nested = start is not None and start["nested"] is not None
    while (number := _IDENTIFIER.match(name, place)) is not None:
        end = number.end() + int(number[1])
        if end > len(name):
            break
        found, place = name[number.end() : end], end
        if not is_nested:
            break
    return found or name


def period(codes: Ints, at_most: int) -> int:
    """After how many kernels a sequence begins again.

    Args:
        codes: Kernels as numbers [n].
        at_most: Kernels of a step as the other side knows it; a period has most of them, so that equal layers of one
            step are not taken for steps.

    Returns:
        The period; n where the sequence is no whole number of repetitions.
    """
    count = len(codes)
    shortest = max(1, math.ceil(_MOST_OF_STEP * at_most))
    for times in range(count // shortest, 1, -1):
        length, rest = divmod(count, times)
        if not rest and (codes[length:] == codes[:-length]).mean() >= _PERIODIC:
            return length
    return count


def align(wide: tuple[Ints, Ints], narrow: tuple[Ints, Ints]) -> Ints:
    """Which of their kernels each of ours is, in order, with gaps on both sides.

    Args:
        wide: Our and their kernels by name, grid and block.
        narrow: The same by name alone: for what is left between two that are joined, if it is as many on both sides.

    Returns:
        Index into theirs for each of ours [n], -1 where there is none.
    """
    found = np.full(len(wide[0]), -1, np.int64)
    ours, theirs = _same(wide[0], wide[1])
    found[ours] = theirs
    left, right = np.flatnonzero(found < 0), np.setdiff1d(np.arange(len(wide[1])), found)
    if left.size and right.size:
        gap = np.searchsorted(np.sort(ours), left), np.searchsorted(np.sort(theirs), right)
        codes = len(wide[0]) + len(wide[1]) + 1
        a, b = _as_frequent(narrow[0][left] * codes + gap[0], narrow[1][right] * codes + gap[1])
        found[left[a]] = right[b]
    return found


def _same(ours: Ints, theirs: Ints) -> tuple[Ints, Ints]:
    """Pairs of equal kernels in the order of both, as two columns of indices."""
    shorter = min(len(ours), len(theirs))
    differs = np.flatnonzero(ours[:shorter] != theirs[:shorter])
    head = int(differs[0]) if differs.size else shorter
    rest = shorter - head
    differs = np.flatnonzero(ours[len(ours) - rest :][::-1] != theirs[len(theirs) - rest :][::-1])
    tail = int(differs[0]) if differs.size else rest
    a, b = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    middle = _in_order(a, b) if len(a) * len(b) <= _MOST_PAIRS else _as_frequent(a, b)
    ends = np.arange(len(ours) - tail, len(ours)), np.arange(len(theirs) - tail, len(theirs))
    first = np.arange(head)
    return np.concatenate([first, middle[0] + head, ends[0]]), np.concatenate([first, middle[1] + head, ends[1]])


def _in_order(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """A longest common subsequence, a row of it as the bits of one integer: n steps over m / 64 words.

    The loops are over kernels that were counted one by one, at milliseconds each; there are never many.
    """
    holds: dict[int, int] = {}
    for place, code in enumerate(b.tolist()):
        holds[code] = holds.get(code, 0) | 1 << place
    # Bit j of a row is 0 where the subsequence of what was seen of both grows at b[j].
    ones = (1 << len(b)) - 1
    row, rows = ones, []
    for code in a.tolist():
        grown = row & holds.get(code, 0)
        row = ((row + grown) | (row - grown)) & ones
        rows.append(row)
    ours, theirs = [], []
    i, j = len(a), len(b)
    while i and j:
        if rows[i - 1] >> (j - 1) & 1:
            j -= 1
            continue
        i -= 1
        if i and not rows[i - 1] >> (j - 1) & 1:
            continue  # it had grown there without a[i]
        j -= 1
        ours.append(i)
        theirs.append(j)
    return np.array(ours[::-1], np.int64), np.array(theirs[::-1], np.int64)


def _as_frequent(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """The k-th of ours and the k-th of theirs, for codes that are as frequent on both sides."""
    codes, which = np.unique(np.concatenate([a, b]), return_inverse=True)
    ours, theirs = which.reshape(-1)[: len(a)], which.reshape(-1)[len(a) :]
    is_even = np.bincount(ours, minlength=len(codes)) == np.bincount(theirs, minlength=len(codes))
    left, right = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    return left[is_even[ours[left]]], right[is_even[theirs[right]]]
