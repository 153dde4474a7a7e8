"""Numbers from their JSON text, a column at a time.

A double cannot hold absolute microseconds with three decimals (near 1.7e15 its step is 0.25), so times are never
parsed as floats: the integer part times a thousand, plus three digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Text = bytes | Raw

_ZERO, _NINE, _DOT, _MINUS, _BREAK = 48, 9, 46, 45, 10
"""Characters; the nine, once the zero is taken from it."""
_WIDEST: Final = 16
"""Digits before the dot; with three more, a 64-bit number holds them or stops at its largest."""
_LIMIT: Final = 1 << 62
_SCALE: Final = np.array([1000, 100, 10, 1])
"""Nanoseconds of the last digit, by the number of decimals."""


def nanoseconds(texts: Iterable[Text]) -> tuple[Ints, NDArray[np.bool_]]:
    """Microseconds as decimal text to whole nanoseconds.

    Args:
        texts: JSON numbers (quoted ones are taken too): ``b"1712195495519689.25"``.

    Returns:
        Nanoseconds [n] (0 where invalid) and whether each was a number [n].
    """
    column = list(texts)
    if not column:
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    joined = b"\n".join(column) + b"\n"
    text = np.frombuffer(joined, np.uint8)
    marks = np.flatnonzero((text - np.uint8(_ZERO)) > _NINE)  # whatever is no digit: two or three a number
    is_break = text[marks] == _BREAK
    if np.count_nonzero(is_break) != len(column):
        return _slowly(column)
    is_plain, decimals = _shapes(text, marks, is_break)
    if not is_plain.all():
        joined = b"\n".join(itertools.compress(column, is_plain.tobytes())) + b"\n"
    found = np.zeros(len(column), np.int64)
    if is_plain.any():  # without the dots: whole numbers
        found[is_plain] = np.fromstring(joined.translate(None, b"."), np.int64, sep="\n")
    scale = _SCALE[np.minimum(decimals, 3)]
    valid = is_plain & (np.abs(found) < _LIMIT // scale)
    found = np.where(valid, found * scale, 0)
    odd = np.flatnonzero(~valid)
    if odd.size:
        found[odd], valid[odd] = _slowly([column[row] for row in odd])
    return found, valid


def _shapes(text: NDArray[np.uint8], marks: Ints, is_break: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Ints]:
    """Which are numbers with an optional sign, digits, and at most three decimals; and how many decimals each has.

    Args:
        text: The numbers, a line each.
        marks: Where it holds something else than a digit.
        is_break: Which of those end a line.
    """
    ends = marks[is_break]
    row: Ints = np.cumsum(is_break) - is_break
    begins = np.concatenate([[0], ends[:-1] + 1])
    is_dot = text[marks] == _DOT
    dots = np.bincount(row[is_dot], minlength=len(ends))
    last_dot = ends.copy()
    last_dot[row[is_dot]] = marks[is_dot]
    decimals = np.maximum(ends - last_dot - 1, 0)
    is_signed = text[begins] == _MINUS
    whole_digits = last_dot - begins - is_signed
    is_plain = (dots <= 1) & (decimals <= 3) & (whole_digits >= 1) & (whole_digits <= _WIDEST)
    other = ~is_break & ~is_dot
    other &= (marks != begins[row]) | ~is_signed[row]
    is_plain[row[other]] = False
    return is_plain, decimals


def _slowly(column: list[Text]) -> tuple[Ints, NDArray[np.bool_]]:
    found = [_one(bytes(text)) for text in column]
    valid = np.array([value is not None for value in found], np.bool_)
    return np.array([value or 0 for value in found], np.int64), valid


def _one(text: bytes) -> int | None:
    from decimal import Decimal, InvalidOperation  # only odd numbers need it

    try:
        value = Decimal(text.decode("ascii").strip('"')) * 1000
    except (InvalidOperation, UnicodeDecodeError):
        return None
    if not value.is_finite() or abs(value) >= _LIMIT:
        return None
    return int(value.to_integral_value())
