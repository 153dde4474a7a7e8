"""Counters made up for real recordings: each kernel is found again by order and name, with gaps, in other spellings."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.counters.alignment import base_name
from diagnose.counters.joining import join
from diagnose.counters.ncu import DRAM_READ, parse_counters
from diagnose.items import KIND_COLLECTIVE, KIND_KERNEL, collect
from diagnose.trace.chrome import read_trace
from tests.counter_sheets import Sheet

MISSING = 7
"""Every so many kernels one was not counted."""


def test_every_counted_kernel_is_found_again(real_trace) -> None:
    recording = collect(read_trace(real_trace).trace)
    items, trace = recording.items, recording.trace
    rows = np.flatnonzero(np.isin(items.kind, (KIND_KERNEL, KIND_COLLECTIVE)) & items.is_own)
    if not rows.size:
        pytest.skip("no kernels")
    rows = rows[np.argsort(items.order[rows], kind="stable")]
    sheet = Sheet()
    is_counted = np.arange(len(rows)) % MISSING != 3
    for place in np.flatnonzero(is_counted).tolist():
        item = rows[place]
        grid, block = trace.activities.grid[item].tolist(), trace.activities.block[item].tolist()
        has_extent = min(grid + block) >= 0
        name = base_name(trace.strings[items.name[item]])
        extents = {"grid": grid, "block": block} if has_extent else {}
        sheet.kernel(f"void n::{name}<T1>(T2)" if name.isidentifier() else name, read=place, written=0, **extents)
    counters = parse_counters(sheet.raw())
    joined = join(recording, counters)
    assert joined.items.tolist() == rows.tolist()
    found = joined.mean(counters.metric(DRAM_READ))
    is_found = np.isfinite(found)
    # All that were counted are found; a kernel beside a gap may be taken for its equal neighbour, never for another.
    assert is_found.sum() >= 0.99 * is_counted.sum()
    names = [base_name(trace.strings[name]) for name in items.name[rows].tolist()]
    if len(joined.launches) == 1:
        assert all(names[place] == names[int(value)] for place, value in enumerate(found.tolist()) if value == value)  # noqa: PLR0124 - nan
