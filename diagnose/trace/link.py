"""Which call launched which device activity, and for which op.

The launch is found by its correlation, whatever the call is named; its op is the innermost one of the launching
thread whose span holds the call. Kineto's ``External id`` is the check, and the way where no launch was recorded,
but only in a recording where it proves right: in old traces it is the correlation and lands on wrong ops.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.kernel_names import is_pageable
from diagnose.trace.tables import COPY, Ints, Trace

TRUSTED_AGREEMENT: Final = 0.99
"""Share of checked links in which ``External id`` must name the same op to be followed where there is no launch.

In ten newer traces 14,980 of 14,980 agree, in older ones next to none (FACTS, section 1); anything between is fine.
"""


class Links(Struct, frozen=True):
    """Rows of other tables for each activity, -1 where there is none.

    Attributes:
        call: The launch call.
        op: The innermost op that the activity belongs to.
        is_blocking: For each *call* of the recording, whether it waited for the device: by its name, or because it
            copied pageable memory.
        launches: How many activities have a launch; the rest were launched before the recording, or lost it.
        agreeing: Links by launch that ``External id`` confirms.
        checked: Links by launch of which ``External id`` says anything.
        notes: What was odd.
    """

    call: Ints
    op: Ints
    is_blocking: NDArray[np.bool_]
    launches: int
    agreeing: int
    checked: int
    notes: tuple[str, ...]


def match(keys: Ints, wanted: Ints) -> Ints:
    """Row of the first entry of ``keys`` equal to each of ``wanted`` (negative keys are absent), -1 for none."""
    order = np.argsort(keys, kind="stable")
    if not len(order):
        return np.full(len(wanted), -1, np.int64)
    place = np.searchsorted(keys[order], wanted)
    row = order[np.minimum(place, len(order) - 1)]
    return np.where((keys[row] == wanted) & (wanted >= 0), row, -1)


def link(trace: Trace) -> Links:
    """Links every device activity of a recording."""
    activities, calls, ops = trace.activities, trace.calls, trace.ops
    call = match(calls.correlation, activities.correlation)
    has_call = call >= 0
    op = np.where(has_call, taken(calls.op, call), -1)
    external = match(ops.external_id, activities.external_id)
    is_checked = (op >= 0) & (external >= 0)
    checked, agreeing = int(is_checked.sum()), int((op == external)[is_checked].sum())
    notes: list[str] = []
    if checked and agreeing >= TRUSTED_AGREEMENT * checked:
        op = np.where(~has_call, external, op)
    elif checked and agreeing:
        notes.append(f"External id contradicts the launch for {checked - agreeing} of {checked} kernels: launch taken")
    return Links(call, op, _blocking(trace, call), int(has_call.sum()), agreeing, checked, tuple(notes))


def _blocking(trace: Trace, call: Ints) -> NDArray[np.bool_]:
    """Calls that wait for the device: by their own name, and those that copy pageable host memory."""
    activities = trace.activities
    copies = np.flatnonzero((activities.kind == COPY) & (call >= 0))
    pageable = [name for name in distinct(activities.name[copies]).tolist() if is_pageable(trace.strings[name])]
    blocking = trace.calls.is_blocking.copy()
    blocking[call[copies[is_any(activities.name[copies], pageable)]]] = True
    return blocking


def taken(values: Ints, rows: Ints) -> Ints:
    """``values[rows]`` where rows are links: -1 stays -1."""
    if not len(values):
        return np.full(len(rows), -1, np.int64)
    return np.where(rows >= 0, values[np.maximum(rows, 0)], -1)
