"""Numbers from their JSON text, a column at a time.

A double cannot hold absolute microseconds with three decimals (near 1.7e15 its step is 0.25), so times are never
parsed as floats: the integer part times a thousand, plus three digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Final

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Text = bytes | Raw

_ZERO, _NINE, _DOT, _MINUS, _BREAK = 48, 57, 46, 45, 10
_WIDEST: Final = 24
_LIMIT: Final = 1 << 62


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
    text = np.frombuffer(b"\n".join(column), np.uint8)
    breaks = np.flatnonzero(text == _BREAK)
    if len(breaks) != len(column) - 1:
        return _slowly(column)
    begins, ends = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(text)]])
    found, is_plain = _plain(np.append(text, np.zeros(_WIDEST, np.uint8)), begins, ends - begins)
    odd = np.flatnonzero(~is_plain)
    valid = np.ones(len(column), np.bool_)
    if odd.size:
        found[odd], valid[odd] = _slowly([column[row] for row in odd])
    return found, valid


def _plain(text: NDArray[np.uint8], begins: Ints, widths: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Numbers with an optional sign, digits, and at most three decimals; and which ones are no such numbers."""
    count = len(begins)
    values = np.zeros(count, np.uint64)  # 19 digits fit, so that nothing wraps before it is judged
    whole_digits = np.zeros(count, np.int64)
    decimals = np.full(count, -1, np.int64)
    is_negative = (text[begins] == _MINUS) & (widths > 0)
    is_plain = (widths > 0) & (widths <= _WIDEST)
    for position in range(min(_WIDEST, int(widths.max()))):
        character = text[begins + position]
        is_inside = position < widths
        is_digit = (character >= _ZERO) & (character <= _NINE) & is_inside
        np.copyto(values, values * np.uint64(10) + (character - np.uint8(_ZERO)), where=is_digit)
        whole_digits += is_digit & (decimals < 0)
        decimals += is_digit & (decimals >= 0)
        is_dot = (character == _DOT) & is_inside
        is_plain &= is_digit | ~is_inside | (is_dot & (decimals < 0)) | (is_negative & (position == 0))
        decimals[is_dot] = np.maximum(decimals[is_dot], 0)
    is_plain &= (decimals <= 3) & (whole_digits >= 1) & (whole_digits <= 16)
    values *= (10 ** (3 - np.clip(decimals, 0, 3))).astype(np.uint64)
    is_plain &= values < _LIMIT
    found = np.where(is_plain, values, np.uint64(0)).astype(np.int64)
    found[is_negative] *= -1
    return found, is_plain


def _slowly(column: list[Text]) -> tuple[Ints, NDArray[np.bool_]]:
    found = [_one(bytes(text)) for text in column]
    valid = np.array([value is not None for value in found], np.bool_)
    return np.array([value or 0 for value in found], np.int64), valid


def _one(text: bytes) -> int | None:
    try:
        value = Decimal(text.decode("ascii").strip('"')) * 1000
    except (InvalidOperation, UnicodeDecodeError):
        return None
    if not value.is_finite() or abs(value) >= _LIMIT:
        return None
    return int(value.to_integral_value())
