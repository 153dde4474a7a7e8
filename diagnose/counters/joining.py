"""Which counted launch each kernel of a recording is. The two come from two runs of the same step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.counters.alignment import align, base_name, period
from diagnose.counters.ncu import Counters
from diagnose.distinct import all_but, distinct
from diagnose.items import KIND_COLLECTIVE, KIND_KERNEL, Recording
from diagnose.pricing.grouping import unique_rows
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints

Floats = NDArray[np.float64]

_ALIKE: Final = 0.6
"""Shortest length over longest, of a counted run that may hold the recording's own steps."""
_SAME: Final = 0.9
"""Share of the shorter side that must fit for that: then all steps are laid side by side at once."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Which counted launch each kernel of the recording is.

    Attributes:
        items: Kernels of the window in launch order [n].
        launches: For each period of the counters the launch that each item is [p, n], -1 where there is none.
        unmatched_kernels: Names of kernels of the recording without counters, with how many.
        unmatched_launches: Names of counted launches that no kernel of the recording is, with how many.
    """

    items: Ints
    launches: Ints
    unmatched_kernels: Counter[str]
    unmatched_launches: Counter[str]

    def mean(self, values: Floats) -> Floats:
        """Means over periods of a metric [launches] by item [n]; nan where nothing was counted."""
        found = np.where(self.launches >= 0, values[np.maximum(self.launches, 0)], np.nan)
        known = np.isfinite(found)
        count = known.sum(axis=0)
        total = np.where(known, found, 0.0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def join(recording: Recording, counters: Counters) -> Joined:
    """Joins by order and name: each step of the recording to each of the steps that were counted.

    Where several processes or devices were counted, those launches are taken that most kernels of the file are of.
    """
    items, activities = recording.items, recording.trace.activities
    is_kernel = np.isin(items.kind, (KIND_KERNEL, KIND_COLLECTIVE)) & items.is_own
    rows = np.flatnonzero(is_kernel)
    rows = rows[np.argsort(items.order[rows], kind="stable")]
    launches = _main_launches(counters)
    names = [recording.trace.strings[name] for name in items.name[rows].tolist()]
    wide, narrow = _codes(
        (names, activities.grid[rows], activities.block[rows]),
        ([counters.names[i] for i in launches.tolist()], counters.grid[launches], counters.block[launches]),
    )
    count = len(rows)
    step = items.step[rows]
    is_shared = np.isin(narrow[:count], narrow[count:])  # not all kernels may have been asked for
    longest = int(np.bincount(step[is_shared]).max()) if is_shared.any() else 0
    found = np.full((0, count), -1, np.int64)
    length = period(wide[count:], longest)
    is_whole = length == len(launches)
    if is_whole and _ALIKE < len(launches) / max(1, count) < 1 / _ALIKE:
        whole = align((wide[:count], wide[count:]), (narrow[:count], narrow[count:]))
        if (whole >= 0).sum() >= _SAME * min(count, len(launches)):
            found = taken(launches, whole).reshape(1, -1)
    if not len(found):
        found = _by_step(step, wide, narrow, launches, length)
    lost = rows[(found < 0).all(axis=0)]
    spare = all_but(launches, found)
    return Joined(
        rows,
        found,
        Counter(recording.trace.strings[name] for name in items.name[lost].tolist()),
        Counter(counters.names[index] for index in spare.tolist()),
    )


def _by_step(step: Ints, wide: Ints, narrow: Ints, launches: Ints, length: int) -> Ints:
    """Each distinct step of ours beside each period of theirs [periods, n]."""
    count = len(step)
    periods = max(1, len(launches) // length if length else 1)
    found = np.full((periods, count), -1, np.int64)
    known: dict[tuple[bytes, int], Ints] = {}
    for number in distinct(step).tolist():
        here = np.flatnonzero(step == number)
        for turn in range(periods):
            there = count + np.arange(turn * length, (turn + 1) * length)
            key = (wide[here].tobytes(), turn)
            if key not in known:
                known[key] = align((wide[here], wide[there]), (narrow[here], narrow[there]))
            found[turn, here] = taken(launches[there - count], known[key])
    return found


def _main_launches(counters: Counters) -> Ints:
    """Launches of the process and device with most of them."""
    if not len(counters):
        return np.zeros(0, np.int64)
    first, which = unique_rows([counters.process, counters.device])
    return np.flatnonzero(which == np.bincount(which, minlength=len(first)).argmax())


Launches = tuple[Sequence[str], Ints, Ints]
"""Names, grids and blocks."""


def _codes(ours: Launches, theirs: Launches) -> tuple[Ints, Ints]:
    """Numbers for name, grid and block, and for the name alone, of our launches and then of theirs.

    Where extents are not known of all (replayed graphs of AMD devices have none), the names alone decide.
    """
    ids: dict[str, int] = {}
    bases = {name: base_name(name) for name in {*ours[0], *theirs[0]}}
    narrow = np.array([ids.setdefault(bases[name], len(ids)) for name in (*ours[0], *theirs[0])], np.int64)
    grid = np.concatenate([ours[1].reshape(-1, 3), theirs[1].reshape(-1, 3)])
    block = np.concatenate([ours[2].reshape(-1, 3), theirs[2].reshape(-1, 3)])
    columns = [narrow]
    for extent in (grid, block):
        has_it = extent.min(axis=1) >= 0
        if has_it.all():
            columns += [extent[:, axis] for axis in range(3)]
    return unique_rows(columns)[1] if len(narrow) else narrow, narrow
