"""One device's wall time as parts that add up exactly.

The window is cut at every start and end. In an interval of length L the first class present owns it: own kernels,
communication, host copies, carried over, none. Of n own kernels active, small and uncosted ones take L/n each; the
costed ones share the rest R: kernel i uses e_i of the device, E is their sum, its time at the roof is
L e_i min(1, R / (L E)), and what remains of R is time above the roof, shared equally. Whole nanoseconds: floors, and
the missing ones to the largest fractions, ties by row.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.schema import BOUND_OF_PART

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

PARTS: Final = tuple(BOUND_OF_PART)
"""Names of the parts, in the order of the columns of ``Split.parts``."""

COMPUTE, MEMORY, SMALL, UNCOSTED, COMMUNICATION, COPY, CARRIED = range(7)
"""What a span is; the first four are own kernels."""

_PRIORITY: Final = np.array([0, 0, 0, 0, 1, 2, 3])
_NOBODY: Final = 4
_AT_ROOF: Final = np.array(
    [PARTS.index(name) for name in
     ("compute_roof", "memory_roof", "small_kernels", "uncosted", "exposed_communication", "exposed_copy",
      "carried_over")]
)  # fmt: skip
_ABOVE_ROOF: Final = {COMPUTE: PARTS.index("compute_above_roof"), MEMORY: PARTS.index("memory_above_roof")}
_IDLE: Final = PARTS.index("idle_unknown")
MOST_PAIRS: Final = 1 << 22
"""Pairs of an interval and a span active in it that are looked at together: all of them could fill the memory."""


class Spans(Struct, frozen=True):
    """Stretches of activity on one device; rows may repeat an item (the pieces of a CPU op's self time).

    Attributes:
        start: ns [n].
        end: ns [n].
        kind: COMPUTE ... CARRIED [n].
        use: The share of the device that the span uses, roof / duration clipped to 1 [n]; read for COMPUTE and
            MEMORY only.
        label: What else its time is to be told apart by, a small number from 0 [n]; None: nothing.
    """

    start: Ints
    end: Ints
    kind: Ints
    use: Floats
    label: Ints | None = None


class Cells(Struct, frozen=True):
    """Owned time by step, label and part: one row each that is not empty, in that order.

    Attributes:
        step, label, part: What owns it; the part is a column of ``PARTS`` [c].
        ns: How much [c].
    """

    step: Ints
    label: Ints
    part: Ints
    ns: Ints


class Split(Struct, frozen=True):
    """Who owns the wall time.

    Attributes:
        parts: ns owned by each part in each step [steps, len(PARTS)]; every row sums to the step's length.
        exposed: ns of wall time that each span owns [n].
        idle_start: Intervals that nobody owns, in order.
        idle_end: Their ends.
        cells: The owned time once more, also by label; idle time is not in it.
    """

    parts: Ints
    exposed: Ints
    idle_start: Ints
    idle_end: Ints
    cells: Cells


def split(spans: Spans, boundaries: Ints) -> Split:
    """Splits the window [boundaries[0], boundaries[-1]] among the spans of one device.

    Args:
        spans: What ran; what lies outside the window is ignored.
        boundaries: Of steps, ascending [k + 1].
    """
    low, high = boundaries[0], boundaries[-1]
    start, end = np.clip(spans.start, low, high), np.clip(spans.end, low, high)
    cuts = distinct(np.concatenate([start, end, boundaries]))
    length = np.diff(cuts)
    first, last = np.searchsorted(cuts, start), np.searchsorted(cuts, end)
    step = np.searchsorted(boundaries, cuts[:-1], side="right") - 1
    owner = np.full(len(length), _NOBODY)
    parts = np.zeros((len(boundaries) - 1, len(PARTS)), np.int64)
    exposed = np.zeros(len(start), np.int64)
    label = np.zeros(len(start), np.int64) if spans.label is None else spans.label
    owned: list[Cells] = []
    for begin, stop in _batches(first, last, len(length)):
        here = np.flatnonzero((first < stop) & (last > begin))
        interval, place = _pairs(np.maximum(first[here], begin) - begin, np.minimum(last[here], stop) - begin)
        row = here[place]
        priority = _PRIORITY[spans.kind[row]]
        np.minimum.at(owner[begin:stop], interval, priority)
        is_owner = priority == owner[begin:stop][interval]
        interval, row = interval[is_owner], row[is_owner]
        kind = spans.kind[row]
        at_roof, above_roof = _shares(interval, kind, spans.use[row], length[begin:stop])
        at_roof_ns, above_roof_ns = _whole(interval, at_roof, above_roof, length[begin:stop])
        of_step, named = step[begin:stop][interval], label[row]
        batch = [Cells(of_step, named, _AT_ROOF[kind], at_roof_ns)]
        for costed, part in _ABOVE_ROOF.items():
            is_of = kind == costed
            batch.append(Cells(of_step[is_of], named[is_of], np.full(int(is_of.sum()), part), above_roof_ns[is_of]))
        owned.append(merged(batch))
        np.add.at(exposed, row, at_roof_ns + above_roof_ns)
    cells = merged(owned)
    np.add.at(parts, (cells.step, cells.part), cells.ns)
    is_idle = owner == _NOBODY
    np.add.at(parts, (step[is_idle], _IDLE), length[is_idle])
    return Split(parts, exposed, cuts[:-1][is_idle], cuts[1:][is_idle], cells)


def merged(cells: list[Cells]) -> Cells:
    """The same time with one row a (step, label, part)."""
    if not cells:
        return Cells(*(np.zeros(0, np.int64) for _ in range(4)))
    columns = (np.concatenate([getattr(each, name) for each in cells]) for name in Cells.__struct_fields__)
    step, label, part, ns = columns
    labels = int(label.max(initial=0)) + 1
    keys, place = np.unique((step * labels + label) * len(PARTS) + part, return_inverse=True)
    total = np.zeros(len(keys), np.int64)
    np.add.at(total, place.reshape(-1), ns)
    kept = total > 0
    rest, part = np.divmod(keys[kept], len(PARTS))
    return Cells(rest // labels, rest % labels, part, total[kept])


def _batches(first: Ints, last: Ints, intervals: int) -> list[tuple[int, int]]:
    """Runs of intervals with at most ``MOST_PAIRS`` pairs each, or of one interval, where that has more."""
    change = np.bincount(first, minlength=intervals + 1) - np.bincount(last, minlength=intervals + 1)
    pairs = np.cumsum(np.cumsum(change))[:intervals]
    batches = []
    begin = 0
    while begin < intervals:
        before = int(pairs[begin - 1]) if begin else 0
        stop = max(begin + 1, int(np.searchsorted(pairs, before + MOST_PAIRS, side="right")))
        batches.append((begin, stop))
        begin = stop
    return batches


def _pairs(first: Ints, last: Ints) -> tuple[Ints, Ints]:
    """Every (interval, span) with the span active in the interval, by span, then by interval."""
    count = last - first
    row = np.repeat(np.arange(len(count)), count)
    before = np.concatenate([[0], np.cumsum(count)])[:-1]
    return first[row] + np.arange(len(row)) - before[row], row


def _shares(interval: Ints, kind: Ints, use: Floats, length: Ints) -> tuple[Floats, Floats]:
    """Time at and above the roof of each pair; what is not costed has all of its time in the first."""
    intervals = len(length)
    is_costed = kind <= MEMORY
    active = np.bincount(interval, minlength=intervals)[interval]
    costed = np.bincount(interval, weights=is_costed, minlength=intervals)[interval]
    span = length[interval].astype(np.float64)
    used = np.where(is_costed, np.clip(use, 0.0, 1.0), 0.0)
    all_used = np.bincount(interval, weights=used, minlength=intervals)[interval]
    rest = span * costed / active
    # min(1, R / (L E)), in the form that no tiny use can overflow.
    scale = np.divide(rest, np.maximum(rest, span * all_used), out=np.ones_like(rest), where=rest > 0)
    at_roof = np.where(is_costed, span * used * scale, span / active)
    rest_above = np.maximum(rest - span * all_used * scale, 0.0)
    above = np.divide(rest_above, costed, out=np.zeros_like(rest), where=is_costed)
    return at_roof, above


def _whole(interval: Ints, first: Floats, second: Floats, length: Ints) -> tuple[Ints, Ints]:
    """Both columns rounded to whole numbers that sum to the interval's length."""
    cells = np.concatenate([interval, interval])
    values = np.stack([first, second]).reshape(-1)
    floors = np.floor(values)
    whole = floors.astype(np.int64)
    owed = length.copy()
    np.subtract.at(owed, cells, whole)
    pair = np.tile(np.arange(len(interval)), 2)
    order = np.lexsort((pair, -(values - floors), cells))
    ordered = cells[order]
    begins = np.searchsorted(ordered, np.arange(len(length)))
    rank = np.arange(len(order)) - begins[ordered]
    whole[order] += rank < owed[ordered]
    return whole[: len(interval)], whole[len(interval) :]
