"""Hardware counters joined to a recording's kernels: what the memory really moved takes the place of the formulas.

The recording and the counters come from two runs of the same step, since counting serialises the device. Kernels are
joined by the order of their launches and by name, grid and block; a kernel that only one side has is left
out, and said.

DRAM bytes win over a formula's, and what is more than the compulsory traffic is ``extra_bytes``. One thing wins over
them: where the L2's counter shows that the compulsory bytes did cross it while DRAM saw less than half of them, a cache
served the kernel; its compulsory bytes stand, and the row says what DRAM saw. FLOPs stay the formula's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.counters.alignment import base_name
from diagnose.counters.joining import Joined, join
from diagnose.counters.ncu import DRAM_READ, DRAM_WRITTEN, L2, Counters, parse_counters
from diagnose.items import Recording
from diagnose.pricing.grouping import sum_by, unique_rows
from diagnose.pricing.pricing import Priced
from diagnose.trace.link import taken
from diagnose.trace.source import Source, name_of, read_bytes
from diagnose.trace.tables import Ints
from diagnose.units import format_bytes, format_share
from diagnose.work import Work

Floats = NDArray[np.float64]

_CACHED: Final = 0.5
"""DRAM traffic below this share of the compulsory bytes, while all of them crossed the L2: a cache served them."""
_NAMED: Final = 3
"""Unmatched kernels named in a note."""


def read_counters(source: Source) -> Counters:
    """Reads a file that ``ncu --csv`` printed; plain or gzip.

    Raises:
        TraceError: There is no such file, or it cannot be decompressed.
        UsageError: It holds no counters.
    """
    return parse_counters(read_bytes(source).decode("utf-8", "replace"), name_of(source) or "the counters")


def apply_counters(recording: Recording, priced: Priced, counters: Counters) -> tuple[str, ...]:
    """Puts what was counted in the place of what formulas say; equal kernels get the mean of their launches.

    Args:
        recording: What ran.
        priced: Its work, changed here.
        counters: Of another run of the same step.

    Returns:
        Notes: how much was joined, and what was not.
    """
    joined = join(recording, counters)
    items, trace, rows = recording.items, recording.trace, joined.items
    read, written = joined.mean(counters.metric(DRAM_READ)), joined.mean(counters.metric(DRAM_WRITTEN))
    both, l2 = joined.mean(counters.dram_bytes()), joined.mean(counters.metric(L2))
    is_counted = np.isfinite(both)
    if not is_counted.any():
        return (*counters.notes, *_notes(recording, joined, is_counted), _WITHOUT_DRAM)
    columns = [items.name, items.kind, taken(trace.ops.name, items.op), taken(trace.ops.signature, items.op)]
    first, group = unique_rows([column[rows] for column in (*columns, items.device, priced.work)])
    means = _Means(group, len(first), is_counted)
    table = [means.of(values) for values in (read, written, both, l2)]
    counted, calls = means.counted.tolist(), np.bincount(group, minlength=len(first)).tolist()
    work = priced.work[rows[first]].tolist()
    traffic = [0.0, 0.0]
    for index in np.flatnonzero(means.counted).tolist():
        formula = priced.works[work[index]] if work[index] >= 0 else None
        seen = _Seen(*(float(column[index]) for column in table))
        found, sentence = _settled(formula, seen)
        if counted[index] < calls[index]:
            sentence += f" (counted in {counted[index]} of {calls[index]} calls)"
        here = rows[group == index]
        before = int(priced.reason[here[0]])
        if found is not None:
            priced.work[here] = priced.work_id(found)
        if before >= 0 and (found is None or found.is_bound):  # why it is unknown, or what the bound leaves out
            sentence = f"{priced.reasons[before]}; {sentence}"
        priced.reason[here] = priced.reason_id(sentence)
        if formula is not None and formula.bytes_accessed and not formula.is_bound:
            traffic[0] += seen.both * calls[index]
            traffic[1] += formula.bytes_accessed * calls[index]
    return (*counters.notes, *_notes(recording, joined, is_counted), *_compared(traffic))


_WITHOUT_DRAM: Final = (
    f"counters: none of DRAM traffic ({DRAM_READ}, {DRAM_WRITTEN}), so nothing took a formula's place"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Means of a group's launches, nan where not counted."""

    read: float
    written: float
    both: float
    l2: float


class _Means:
    """Means over the counted members of each group."""

    def __init__(self, group: Ints, count: int, is_counted: NDArray[np.bool_]) -> None:
        self._group, self._count = group, count
        self.counted = sum_by(group, is_counted.astype(np.int64), count)

    def of(self, values: Floats) -> Floats:
        known = np.isfinite(values)
        total = np.bincount(self._group, np.where(known, values, 0.0), self._count)
        members = np.bincount(self._group, known, self._count)
        return np.where(members > 0, total / np.maximum(members, 1), np.nan)


def _settled(formula: Work | None, seen: _Seen) -> tuple[Work | None, str]:
    """The work that stands, None where the formula's does, and the sentence that shows the difference."""
    known = None if formula is None or formula.is_bound else formula.bytes_accessed
    if known and seen.both < _CACHED * known <= seen.l2:
        share = format_share(seen.both / known)
        return None, f"counters: DRAM moved {share} of the formula's bytes, which crossed the L2: a cache served them"
    read, written = seen.read, seen.written
    if not (np.isfinite(read) and np.isfinite(written)):
        split = _share_written(formula)
        if split is None:
            return None, f"counters: {format_bytes(seen.both)} of DRAM traffic, read and written together"
        read, written = seen.both * (1 - split), seen.both * split
    whole = Work(
        flops=None if formula is None else formula.flops,
        bytes_read=round(read),
        bytes_written=round(written),
        extra_bytes=0 if known is None else max(0, round(read) + round(written) - known),
        source="counter",
        is_bound=formula is not None and formula.is_bound and bool(formula.flops),
    )
    return whole, _difference(formula, seen.both)


def _share_written(formula: Work | None) -> float | None:
    """Which part of a sum of bytes is taken as written, where the file does not tell: the formula's part."""
    if formula is None or not formula.bytes_accessed or formula.bytes_written is None:
        return None
    return formula.bytes_written / formula.bytes_accessed


def _difference(formula: Work | None, counted: float) -> str:
    known = None if formula is None else formula.bytes_accessed
    seen = f"counters: {format_bytes(counted)} of DRAM traffic"
    if formula is None or known is None:
        return f"{seen}, no formula"
    bound = ", which is a bound" if formula.is_bound else ""
    change = f" ({100 * (counted / known - 1):+.1f} %)" if known else ""
    return f"{seen}, {format_bytes(known)} by {formula.source}{change}{bound}"


def _notes(recording: Recording, joined: Joined, is_counted: NDArray[np.bool_]) -> list[str]:
    duration = recording.items.duration[joined.items]
    total = int(duration.sum())
    share = format_share(int(duration[is_counted].sum()) / total) if total else "none"
    several = f", each the mean of {len(joined.launches)} counted steps" if len(joined.launches) > 1 else ""
    notes = [
        f"counters: {int(is_counted.sum())} of {len(joined.items)} kernels joined, {share} of kernel time{several}"
    ]
    if joined.unmatched_kernels:
        notes.append(f"counters: not counted: {_named(joined.unmatched_kernels)}")
    if joined.unmatched_launches:
        notes.append(f"counters: counted but not in the recording: {_named(joined.unmatched_launches)}")
    return notes


def _named(names: Counter[str]) -> str:
    bases: Counter[str] = Counter()
    for name, count in names.items():
        bases[_short(base_name(name))] += count
    shown = ", ".join(f"{name} x {count}" for name, count in bases.most_common(_NAMED))
    return shown if len(bases) <= _NAMED else f"{shown} and {len(bases) - _NAMED} more names"


def _short(name: str) -> str:
    printable = re.sub(r"[^\x20-\x7e]", " ", name)
    return printable if len(printable) <= 40 else printable[:39] + "~"


def _compared(traffic: Sequence[float]) -> list[str]:
    if not traffic[1]:
        return []
    return [
        f"counters: {traffic[0] / traffic[1]:.2f} times the DRAM traffic that the formulas say, over joined kernels"
    ]
