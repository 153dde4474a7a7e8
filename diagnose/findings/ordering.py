"""The kernels of each stream in launch order, and what rules say of several of them that would become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.findings.case import Case
from diagnose.replays.replayer import Change
from diagnose.trace.tables import Ints
from diagnose.work import Op, TensorMeta

SMALLEST_BYTES: Final = 64
"""On a CPU an op that moves less (a view, a scalar converted) is no link of a chain."""

WORTH_ASKING: Final = 0.0025
"""Of the window: half of what is worth a sentence, since with its kernels a change may spare their launches."""

Durations = NDArray[np.float64]


class Ordered(Struct, frozen=True):
    """Own kernels by (device, stream, launch); every column has one entry a kernel [k].

    Attributes:
        item: Row of the item.
        group: Its group.
        lane: Number of its stream (on a CPU: thread); only neighbours of one lane follow each other.
    """

    item: Ints
    group: Ints
    lane: Ints


def in_launch_order(case: Case) -> Ordered:
    """The kernels that were launched in the window; copies, sets and collectives are left out."""
    recording = case.placed.recording
    items, trace = recording.items, recording.trace
    stream = trace.ops.thread[items.op] if recording.is_cpu else trace.activities.stream
    rows = np.flatnonzero(does_move(case) & np.append(case.is_kernel, False)[case.group_of])
    rows = rows[np.lexsort((items.order[rows], stream[rows], items.device[rows]))]
    code = items.device[rows] * (int(stream.max(initial=0)) + 2) + stream[rows]
    lane = np.cumsum(np.concatenate([[0], np.diff(code) != 0])) if len(rows) else rows
    return Ordered(rows, case.group_of[rows], lane)


def does_move(case: Case) -> NDArray[np.bool_]:
    """Items launched in the window that, as far as is known, move more than a few bytes; on a device all do [n]."""
    moves = np.ones(len(case.placed.groups) + 1, np.bool_)
    moves[-1] = False  # of group -1
    if case.is_cpu:
        works = [case.work(group) for group in range(len(case.placed.groups))]
        moved = [None if work is None else work.bytes_accessed for work in works]
        moves[:-1] = [size is None or size >= SMALLEST_BYTES for size in moved]
    return moves[case.group_of]


def joined(duration: Durations, gone: NDArray[np.bool_]) -> Change:
    """Some items take another time, others are not launched at all.

    Args:
        duration: ns of each item [n].
        gone: Items that are not launched [n].
    """
    kept = np.where(gone, 0, np.maximum(np.rint(duration), 0)).astype(np.int64)
    return Change(duration=kept, removed=gone)


def is_worth(case: Case, groups: Iterable[int]) -> bool:
    """Whether the time of some groups is large enough for a finding; asked before a replay, which costs more."""
    return case.time_ns(groups) >= WORTH_ASKING * case.wall_ns


def rates(case: Case, group: int) -> tuple[float | None, float]:
    """DRAM bandwidth (bytes/s, None if unknown) and kernel floor (ns) of the device that a group ran on."""
    ceilings = case.placed.hardware.ceilings.get(int(case.placed.groups.device[group]))
    if ceilings is None:
        return None, 0.0
    return ceilings.rate("dram"), (ceilings.rate("kernel_floor") or 0.0) * 1e9


def has_rate(case: Case, group: int, resource: str) -> bool:
    """Whether the device that a group ran on has such a unit, as far as its row says."""
    ceilings = case.placed.hardware.ceilings.get(int(case.placed.groups.device[group]))
    return ceilings is not None and ceilings.rate(resource) is not None


def is_moved(case: Case, group: int) -> bool:
    """Whether a group's bytes are known exactly and can be believed."""
    work = case.work(group)
    return work is not None and bool(work.bytes_accessed) and case.placed.is_exact(group)


def moved_bytes(case: Case, group: int) -> int:
    """Bytes of one call; ask ``is_moved`` first."""
    work = case.work(group)
    return 0 if work is None or work.bytes_accessed is None else work.bytes_accessed


def tensors_of(op: Op | None) -> list[TensorMeta]:
    """Tensor arguments, those in lists included; none where nothing was recorded."""
    if op is None or op.inputs is None:
        return []
    lists = [value if isinstance(value, tuple) else (value,) for value in op.inputs]
    return [entry for entries in lists for entry in entries if isinstance(entry, TensorMeta)]


def shape_text(tensor: TensorMeta) -> str:
    """``16x559x1024``."""
    return "x".join(str(size) for size in tensor.shape) or "scalar"
