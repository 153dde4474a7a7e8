"""Rules about launches that training makes and need not: optimizers in a loop, gradients set to zero, DDP's copies."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.items import KIND_COPY
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.wall.phases import OPTIMIZER

FEWEST_LOOPED: Final = 20
"""Optimizer kernels a step of one kind, one a tensor, that a loop must launch before it is called one."""

TENSORS_A_LAUNCH: Final = 30
"""Tensors that one multi-tensor kernel takes at least (torch's MultiTensorApply.cuh: 30 of five lists, 110 of one)."""

MOST_TENSORS_A_LAUNCH: Final = 110

_TOGETHER: Final = re.compile(r"_foreach_|_fused_|multi_tensor|lamb|_amp_")
_ZERO_MARK: Final = re.compile(r"Optimizer\.zero_grad#|^zero_grad\b")
_ZEROING: Final = frozenset({"aten::zero_", "aten::fill_", "aten::_foreach_zero_"})
_TO_GRADIENT: Final = "torch.distributed.ddp.reducer::copy_bucket_to_grad"
_DDP: Final = "DistributedDataParallel.forward"
_BUFFER_OPS: Final = frozenset({"aten::copy_"})


def optimizer_loop(case: Case) -> list[Proposal]:
    """The optimizer updates one tensor after the other: a kernel (on a CPU: an op) a tensor and operation.

    low: one launch for 30 tensors, half of the ops' host time stays. mid: the same without that host time. high: one
    for 110. What stays does the others' work: their time less a kernel floor each.
    """
    trace, items = case.placed.recording.trace, case.placed.recording.items
    op_name = taken(trace.ops.name, items.op)
    under = case.items_under(lambda name: _TOGETHER.search(name) is not None)
    looped = items.is_own & (case.phases.phase == OPTIMIZER) & (items.op >= 0) & ~under & ~_zeroing(case)
    looped &= np.isin(
        case.group_of, case.groups_where(lambda group: bool(case.is_kernel[group]) and _is_small(case, group))
    )
    rank, size = _ranks(looped, np.stack([items.step, op_name, items.device]))
    looped &= size >= FEWEST_LOOPED
    if not looped.any():
        return []
    gone, duration = _merged(case, looped, rank, TENSORS_A_LAUNCH)
    fewest, shortest = _merged(case, looped, rank, MOST_TENSORS_A_LAUNCH)
    ops, most = distinct(items.op[gone]), distinct(items.op[fewest])
    groups, steps = distinct(case.group_of[looped]).tolist(), max(1, len(case.steps))
    without = case.replayer.host_without
    return [
        Proposal(
            rule="optimizer-loop",
            bound="overhead",
            title="the optimizer updates one tensor after the other",
            evidence={
                "calls_per_step": round(int(looped.sum()) / steps, 1),
                "calls_left_per_step": round(int((looped & ~gone).sum()) / steps, 1),
                "mean_call_ns": round(float(items.duration[looped].mean())),
                "ops": ", ".join(sorted({case.op_name(group) for group in groups})[:4]),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch"), Cell(None, "idle_slot")],
            low=Change(removed=gone, duration=duration, host=without(ops=ops, keep=0.5)),
            mid=Change(removed=gone, duration=duration, host=without(ops=ops)),
            high=Change(removed=fewest, duration=shortest, host=without(ops=most)),
            advice="optimizer = torch.optim.AdamW(model.parameters(), lr, fused=True)   # or foreach=True"
            if not case.is_cpu
            else "optimizer = torch.optim.AdamW(model.parameters(), lr, fused=True)   # SGD, Adam, Adagrad have it too",
            assumes="gradients of one dtype on one device; foreach holds one more copy of what it computes, fused none",
        )
    ]


def zero_gradients(case: Case) -> list[Proposal]:
    """Gradients are overwritten with zeros and added to, instead of dropped.

    low: the kernels go. mid and high: their ops' host time too. What the first addition would save is not counted.
    """
    chosen = _zeroing(case)
    if not chosen.any():
        return []
    items = case.placed.recording.items
    groups, ops = distinct(case.group_of[chosen]).tolist(), distinct(items.op[chosen & (items.op >= 0)])
    gone = Change(removed=chosen, host=case.replayer.host_without(ops=ops))
    return [
        Proposal(
            rule="zero-gradients",
            bound="overhead",
            title="gradients are set to zero instead of dropped",
            evidence={
                "calls_per_step": round(int(chosen.sum()) / max(1, len(case.steps)), 1),
                "time_ns_per_step": int(items.duration[chosen].sum()) // max(1, len(case.steps)),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch"), Cell(None, "idle_slot")],
            low=Change(removed=chosen),
            mid=gone,
            high=gone,
            advice="optimizer.zero_grad(set_to_none=True)   # the default since torch 2.0",
            assumes="nothing reads .grad between zero_grad and backward, nor keeps a reference to it",
        )
    ]


def ddp_copies(case: Case) -> list[Proposal]:
    """DistributedDataParallel copies reduced gradients out of its buckets, and broadcasts and copies every buffer.

    low: the copies out of the buckets are not launched. mid: the buffers' copies neither. high: without the host time
    of both kinds of ops.
    """
    items = case.placed.recording.items
    if case.is_cpu:
        return []
    out_of_buckets = items.is_own & case.items_under(lambda name: name == _TO_GRADIENT)
    buffers = _buffer_copies(case) & ~out_of_buckets
    chosen = out_of_buckets | buffers
    steps = max(1, len(case.steps))
    if int(chosen.sum()) < FEWEST_LOOPED * steps:
        return []
    groups, ops = distinct(case.group_of[chosen]).tolist(), distinct(items.op[chosen])
    arguments = [
        "gradient_as_bucket_view=True" if out_of_buckets.any() else "",
        "broadcast_buffers=False" if buffers.any() else "",
    ]
    return [
        Proposal(
            rule="ddp-copies",
            bound="overhead",
            title="DistributedDataParallel copies gradients and buffers one by one",
            evidence={
                "copies_out_of_buckets_per_step": round(int(out_of_buckets.sum()) / steps, 1),
                "buffer_copies_per_step": round(int(buffers.sum()) / steps, 1),
                "mean_copy_ns": round(float(items.duration[chosen].mean())),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch"), Cell(None, "idle_slot")],
            low=Change(removed=out_of_buckets),
            mid=Change(removed=chosen),
            high=Change(removed=chosen, host=case.replayer.host_without(ops=ops)),
            advice=f"model = DistributedDataParallel(model, {', '.join(filter(None, arguments))})",
            assumes="nobody calls detach_() on a gradient; ranks may keep their own buffers (running statistics of "
            "batch norm differ then a little; save those of rank 0)",
        )
    ]


def _is_small(case: Case, group: int) -> bool:
    """At the floor, or of unknown work; a large tensor's update has its time in memory traffic, which stays."""
    return case.placed.placements[group].bound in ("overhead", None)


def _ranks(chosen: NDArray[np.bool_], key: Ints) -> tuple[Ints, Ints]:
    """For each chosen item its number among those with the same key, and how many there are; 0 for others."""
    rows = np.flatnonzero(chosen)
    rank, size = np.zeros(len(chosen), np.int64), np.zeros(len(chosen), np.int64)
    if len(rows):
        order = rows[np.lexsort(key[:, rows])]
        begins = np.concatenate([[True], (np.diff(key[:, order]) != 0).any(axis=0)])
        first = np.flatnonzero(begins)
        run = np.cumsum(begins) - 1
        rank[order] = np.arange(len(order)) - first[run]
        size[order] = np.diff(np.append(first, len(order)))[run]
    return rank, size


def _merged(case: Case, looped: NDArray[np.bool_], rank: Ints, tensors: int) -> tuple[NDArray[np.bool_], Ints]:
    """What a launch for so many tensors makes superfluous, and all durations with the work on those that stay."""
    items = case.placed.recording.items
    gone = looped & (rank % tensors != 0)
    floor_ns = max((placement.floor_ns or 0.0 for placement in case.placed.placements), default=0.0)
    work = np.maximum(items.duration - round(floor_ns), 0)
    moved = int(work[gone].sum())
    kept = np.flatnonzero(looped & ~gone)
    duration = items.duration.copy()
    duration[kept] += moved // max(1, len(kept))
    return gone, duration


def _zeroing(case: Case) -> NDArray[np.bool_]:
    """Items of ops that fill, launched inside the optimizer's zero_grad."""
    trace, items = case.placed.recording.trace, case.placed.recording.items
    chosen: NDArray[np.bool_] = items.is_own & (case.phases.phase == OPTIMIZER) & (items.op >= 0)
    spans = _marked(trace)
    if not chosen.any() or not len(spans[0]):
        return np.zeros(len(chosen), np.bool_)
    named = case.items_under(lambda name: name in _ZEROING)
    thread, start = taken(trace.ops.thread, items.op), taken(trace.ops.start, items.op)
    place = np.searchsorted(spans[0], start, side="right") - 1
    at = np.maximum(place, 0)
    chosen &= named & (place >= 0) & (start < spans[1][at]) & (thread == spans[2][at])
    return chosen


def _marked(trace: Trace) -> tuple[Ints, Ints, Ints]:
    """Starts, ends and threads of the annotations of zero_grad, in order."""
    marks = trace.annotations
    names = [name for name in distinct(marks.name).tolist() if _ZERO_MARK.search(trace.strings[name])]
    rows = np.flatnonzero(is_any(marks.name, names))
    rows = rows[np.argsort(marks.start[rows], kind="stable")]
    return marks.start[rows], marks.end[rows], marks.thread[rows]


def _buffer_copies(case: Case) -> NDArray[np.bool_]:
    """Copies on the device at the floor that DDP's forward makes itself, outside the model's ops."""
    trace, items = case.placed.recording.trace, case.placed.recording.items
    marks = trace.annotations
    rows = np.flatnonzero(is_any(marks.name, [index for index, text in enumerate(trace.strings) if text == _DDP]))
    op = items.op
    names = [index for index, text in enumerate(trace.strings) if text in _BUFFER_OPS]
    chosen: NDArray[np.bool_] = items.is_own & (items.kind == KIND_COPY) & is_any(taken(trace.ops.name, op), names)
    chosen &= taken(trace.ops.parent, op) < 0
    small = case.groups_where(lambda group: case.placed.placements[group].bound == "overhead")
    chosen &= is_any(case.group_of, small)
    if not len(rows):
        return np.zeros(len(chosen), np.bool_)
    start = taken(trace.ops.start, op)
    place = np.searchsorted(marks.start[rows], start, side="right") - 1
    chosen &= (place >= 0) & (start < marks.end[rows][np.maximum(place, 0)])
    return chosen


RULES: Final[tuple[Rule, ...]] = (optimizer_loop, zero_gradients, ddp_copies)
