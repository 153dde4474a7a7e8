"""Collectives that the profiler left undescribed, described by the arguments of the ops that called them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.costs.collective import Metadata, message_bytes
from diagnose.costs.collective_ops import described
from diagnose.items import KIND_COLLECTIVE, Recording
from diagnose.kernel_names import read_name
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace


def describe_collectives(recording: Recording) -> Recording:
    """Gives each collective without a recorded size what its op, or an op around that one, says of it."""
    items, trace = recording.items, recording.trace
    is_sized = np.array([message_bytes(found) is not None for found in trace.metadata] + [False], np.bool_)
    rows = np.flatnonzero((items.kind == KIND_COLLECTIVE) & ~is_sized[items.metadata] & (items.op >= 0))
    if not rows.size:
        return recording
    numbers = _Numbers(trace, items.metadata.copy())
    # The profiler's own op stands below the collective's and says less: it is asked last, with the kernel's name.
    for with_kernel in (False, True):
        rows = numbers.climb(rows, items.op[rows], items.name[rows], with_kernel=with_kernel)
    return replace(
        recording,
        trace=replace(trace, metadata=tuple(numbers.metadata)),
        items=replace(items, metadata=numbers.of_item),
    )


@dataclass
class _Numbers:
    """Descriptions by number, the recorded ones first, and each item's."""

    trace: Trace
    of_item: Ints
    metadata: list[Mapping[str, str | int]] = field(init=False)
    ids: dict[tuple[tuple[str, str | int], ...], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metadata = list(self.trace.metadata)

    def climb(self, rows: Ints, op: Ints, kernel: Ints, *, with_kernel: bool) -> Ints:
        """Asks each row's op, then the ops around it; returns the rows that none describes."""
        left: list[Ints] = []
        while rows.size:
            is_described = self._ask(rows, op, kernel, with_kernel=with_kernel)
            above = taken(self.trace.ops.parent, op)
            left.append(rows[~is_described & (above < 0)])
            goes_on = ~is_described & (above >= 0)
            rows, op, kernel = rows[goes_on], above[goes_on], kernel[goes_on]
        return np.concatenate(left) if left else rows

    def _ask(self, rows: Ints, op: Ints, kernel: Ints, *, with_kernel: bool) -> NDArray[np.bool_]:
        """Describes the rows whose op says enough, each distinct question once."""
        trace = self.trace
        facts = np.stack([trace.ops.signature[op], kernel, self.of_item[rows]], axis=1)
        distinct, index = np.unique(facts, axis=0, return_inverse=True)
        answers = np.full(len(distinct), -1, np.int64)
        for place, (signature, name, recorded) in enumerate(distinct.tolist()):
            kind = read_name(trace.strings[name]).collective if with_kernel else None
            found = described(trace.signatures[signature], trace.group_sizes, kind)
            if found is not None:
                answers[place] = self._number({**found, **(self.metadata[recorded] if recorded >= 0 else {})})
        answer = answers[index.reshape(-1)]
        self.of_item[rows] = np.where(answer >= 0, answer, self.of_item[rows])
        return answer >= 0

    def _number(self, found: Metadata) -> int:
        number = self.ids.setdefault(tuple(sorted(found.items())), len(self.metadata))
        if number == len(self.metadata):
            self.metadata.append(found)
        return number
