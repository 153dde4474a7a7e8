"""Activations that the backward pass computes again."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import does_move, is_moved, joined
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.phases import BACKWARD, FORWARD

ALSO_FORWARD: Final = 0.8
"""Share of the recomputed kernels that the forward pass must have launched too; else it is a second derivative."""

_HEAVY: Final = ("mm", "linear", "conv", "matmul", "attention", "attn")
"""Parts of the names of ops whose results are dear to compute again: selective checkpointing keeps these."""


def recomputed_activations(case: Case) -> list[Proposal]:
    """Checkpointed layers run their forward pass twice.

    At best nothing is computed again; probably what is dear is kept (matmuls, convolutions, attention), as selective
    checkpointing does; at worst memory allows it for half of the layers.
    """
    again = _recomputed(case)
    groups, counts = np.unique(case.group_of[again], return_counts=True)
    if not len(groups):
        return []
    heavy = [group for group in groups.tolist() if any(part in case.op_name(group) for part in _HEAVY)]
    duration = case.replayer.duration
    is_heavy = again & case.items_of(heavy)
    steps = max(1, len(case.steps))
    kept = 0
    for group, count in zip(groups.tolist(), counts.tolist(), strict=True):
        work = case.work(group)
        kept += count * ((work.bytes_written or 0) if work is not None and is_moved(case, group) else 0)
    changes = [
        joined(np.where(is_heavy, 0.5 * duration, duration), np.zeros(len(duration), np.bool_)),
        joined(duration.astype(np.float64), is_heavy),
        joined(duration.astype(np.float64), again),
    ]
    ns = int(duration[again].sum()) // steps
    dear_ns = int(duration[is_heavy].sum()) // steps
    return [
        Proposal(
            rule="recomputed-activations",
            bound="memory",
            title="the backward pass computes activations again (checkpointing)",
            evidence={
                "recomputed_kernels_per_step": case.per_step(int(again.sum())),
                "recomputed_ns_per_step": ns,
                "matmul_and_convolution_ns_per_step": dear_ns,
                "results_bytes_per_step": kept // steps,
            },
            where=case.where(groups[np.argsort(-case.placed.groups.time[groups])[:8]].tolist()),
            cells=case.cells(groups.tolist()),
            low=changes[0],
            mid=changes[1],
            high=changes[2],
            gap_ns=Interval(dear_ns // 2, dear_ns, ns),
            advice="from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts\n"
            "keep = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.convolution.default]\n"
            "y = checkpoint(layer, x, use_reentrant=False,\n"
            "               context_fn=lambda: create_selective_checkpoint_contexts(keep))  # or plain layer(x)",
            assumes="the results kept fit in memory: at most results_bytes_per_step more, all of them kept",
        )
    ]


def _recomputed(case: Case) -> NDArray[np.bool_]:
    """Items of forward ops that the backward pass ran, where the forward pass ran them too [n]."""
    phase = case.phases.phase
    inside = (phase == BACKWARD) & does_move(case) & _records_itself(case)
    forward = (phase == FORWARD) & (case.group_of >= 0)
    call = _call_of(case)
    both = inside & np.isin(call, call[forward])
    nothing = np.zeros(len(inside), np.bool_)
    is_enough = int(both.sum()) >= ALSO_FORWARD * int(inside.sum())
    return both if is_enough and both.any() else nothing


def _call_of(case: Case) -> Ints:
    """Number of the op and arguments that each item belongs to: run again, it may choose other kernels [n]."""
    groups = case.placed.groups
    op = np.append(groups.op_name, -1)[case.group_of]
    signature = np.append(groups.signature, -1)[case.group_of]
    code: Ints = op * (int(signature.max(initial=0)) + 2) + signature
    return code


def _records_itself(case: Case) -> NDArray[np.bool_]:
    """Items inside an op that autograd recorded: a forward op wherever it runs; a backward op has its thread [n]."""
    ops, op = case.placed.recording.trace.ops, case.placed.recording.items.op
    if not len(ops.start):
        return np.zeros(len(op), np.bool_)
    records = (ops.sequence >= 0) & (ops.forward_thread <= 0) & ~_is_engine(case)
    inside = records | (skip(ops.parent, records) >= 0)
    return (op >= 0) & inside[np.maximum(op, 0)]


def _is_engine(case: Case) -> NDArray[np.bool_]:
    """Ops that are autograd's own frames [ops]."""
    trace = case.placed.recording.trace
    names = distinct(trace.ops.name).tolist()
    own = [name for name in names if "Backward" in trace.strings[name] or "autograd::" in trace.strings[name]]
    return is_any(trace.ops.name, own)
