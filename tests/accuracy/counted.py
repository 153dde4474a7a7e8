"""Numbers that count what is done with them: an op's definition, run on a small case, gives its operations.

Additions, multiplications, divisions, comparisons and square roots are FLOPs; exp, log, sin, tanh, erf are special.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence


class Number:
    """A float that notes every operation in ``tally``."""

    def __init__(self, value: float, tally: Counter) -> None:
        self.value = value
        self.tally = tally

    def _done(self, value: float, kind: str = "flops") -> "Number":
        self.tally[kind] += 1
        return Number(value, self.tally)

    def __add__(self, other):
        return self._done(self.value + _plain(other))

    def __sub__(self, other):
        return self._done(self.value - _plain(other))

    def __mul__(self, other):
        return self._done(self.value * _plain(other))

    def __truediv__(self, other):
        return self._done(self.value / (_plain(other) or 1.0))

    def __rsub__(self, other):
        return self._done(other - self.value)

    def __rtruediv__(self, other):
        return self._done(other / (self.value or 1.0))

    def __neg__(self):
        return self._done(-self.value)

    __radd__ = __add__
    __rmul__ = __mul__


def _plain(number):
    return number.value if isinstance(number, Number) else number


def bigger(a, b):
    return a._done(max(a.value, _plain(b)))


def smaller(a, b):
    return a._done(min(a.value, _plain(b)))


def root(a):
    return a._done(math.sqrt(abs(a.value)))


def special(a):
    """Any transcendental function: which one does not matter for counting."""
    return a._done(math.tanh(a.value), "special")


def count(definition: Callable, *columns: Sequence[float]) -> tuple[int, int]:
    """(FLOPs, special) of ``definition`` called with the columns as lists of counting numbers."""
    tally: Counter = Counter()
    definition(*([Number(value, tally) for value in column] for column in columns))
    return tally["flops"], tally["special"]


def elementwise(function: Callable) -> Callable:
    """The definition of one element, over all of them."""

    def over(*columns):
        return [function(*row) for row in zip(*columns, strict=True)]

    return over
