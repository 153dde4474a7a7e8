"""What pricing works with: prices of distinct ops on one side, each item's work or reason on the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from diagnose.compiled import UNSHAPED, is_compiled_kernel
from diagnose.costs.copy import with_list_dtype
from diagnose.costs.registry import Price, price
from diagnose.trace.tables import Ints, Trace
from diagnose.work import Op, Work

_STAND_IN: Final = {1: "int8", 2: "bfloat16", 4: "float32", 8: "float64"}
"""A dtype of each size, for what is only moved: the size is all that counts there."""


class Priced(Struct):
    """Work of items.

    Attributes:
        works: Distinct works.
        work: Index into ``works`` [n], -1 where unknown.
        reasons: Distinct reasons why work is unknown, or a bound.
        reason: Index into ``reasons`` [n], -1 where the work is known.
    """

    works: list[Work]
    work: Ints
    reasons: list[str]
    reason: Ints
    _work_ids: dict[Work, int] = field(default_factory=dict)
    _reason_ids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> Priced:
        """Nothing known of ``count`` items yet."""
        return cls([], np.full(count, -1, np.int64), [], np.full(count, -1, np.int64))

    def work_id(self, work: Work) -> int:
        """The index of a work, added if new."""
        found = self._work_ids.setdefault(work, len(self.works))
        if found == len(self.works):
            self.works.append(work)
        return found

    def reason_id(self, reason: str) -> int:
        """The index of a reason, added if new."""
        found = self._reason_ids.setdefault(reason, len(self.reasons))
        if found == len(self.reasons):
            self.reasons.append(reason)
        return found

    def set_where(self, rows: NDArray[np.bool_] | Ints, work: Work | None, reason: str) -> None:
        """Gives all of ``rows`` one work, or one reason why there is none; a bound keeps the reason why it is one."""
        self.work[rows], self.reason[rows] = self.ids_of(work, reason)

    def ids_of(self, work: Work | None, reason: str) -> tuple[int, int]:
        """The indices of a work, -1 if unknown, and of the reason, -1 if there is nothing to explain."""
        is_told = work is None or (work.is_bound and bool(reason))
        return -1 if work is None else self.work_id(work), self.reason_id(reason) if is_told else -1


Fallback = Callable[[Op], Price]


class Prices:
    """Prices of distinct ops, by signature index."""

    def __init__(self, trace: Trace, fallback: Fallback | None) -> None:
        self.trace = trace
        self.fallback = fallback
        self._found: dict[tuple[int, int | None], Price] = {}

    def of(self, signature: int, element_size: int | None = None) -> Price:
        """The price of a distinct op; ``element_size`` stands in for the dtype that lists of tensors lost."""
        key = (signature, element_size)
        if key not in self._found:
            self._found[key] = self._price(self.trace.signatures[signature], element_size)
        return self._found[key]

    def _price(self, op: Op, element_size: int | None) -> Price:
        if op.inputs is None:
            return Price(None, UNSHAPED if is_compiled_kernel(op.name) else "shapes were not recorded")
        if element_size in _STAND_IN:
            op = with_list_dtype(op, _STAND_IN[element_size])
        found = price(op)
        if found.phases is None and self.fallback is not None:
            found = self.fallback(op)
        return found


class Outcomes:
    """Works and reasons in a row, given to many items at once."""

    def __init__(self, priced: Priced) -> None:
        self._priced = priced
        self._work: list[int] = []
        self._reason: list[int] = []

    def __len__(self) -> int:
        return len(self._work)

    def add(self, work: Work | None, reason: str) -> int:
        """One more outcome; returns its number."""
        number, told = self._priced.ids_of(work, reason)
        self._work.append(number)
        self._reason.append(told)
        return len(self._work) - 1

    def give(self, rows: Ints, outcome: Ints, keeps: NDArray[np.bool_] | None = None) -> None:
        """Each of ``rows`` takes the outcome of that number; those in ``keeps`` only if it is known work."""
        work, reason = np.array(self._work, np.int64)[outcome], np.array(self._reason, np.int64)[outcome]
        takes = np.ones(len(rows), np.bool_) if keeps is None else ~keeps | (work >= 0)
        self._priced.work[rows[takes]] = work[takes]
        self._priced.reason[rows[takes]] = reason[takes]
