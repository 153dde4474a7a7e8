"""Activations that the backward pass computes again."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import does_move, is_moved, joined
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.phases import BACKWARD, FORWARD

ALSO_FORWARD: Final = 0.8
"""Share of the recomputed kernels that the forward pass must have launched too; else it is a second derivative."""

USABLE: Final = 0.9
"""Of a device's memory: the rest is for the driver, for the library's workspaces, and lost between blocks."""

_HEAVY: Final = ("mm", "linear", "conv", "matmul", "attention", "attn")
"""Parts of the names of ops whose results are dear to compute again: selective checkpointing keeps these."""


def recomputed_activations(case: Case) -> list[Proposal]:
    """Checkpointed layers run their forward pass twice.

    At best nothing is computed again; probably what is dear is kept (matmuls, convolutions, attention), as selective
    checkpointing does; at worst memory allows it for half of the layers. Where the recording has the peak of the
    device's memory, as much is kept as fits beside it, in the least and the middle what is dear, at most everything.
    """
    again = _recomputed(case)
    groups, counts = np.unique(case.group_of[again], return_counts=True)
    if not len(groups):
        return []
    heavy = [group for group in groups.tolist() if any(part in case.op_name(group) for part in _HEAVY)]
    duration, steps = case.replayer.duration, max(1, len(case.steps))
    is_heavy = again & case.items_of(heavy)
    size = _results(case, groups, counts)
    kept, dear = (sum(size[group] for group in chosen) // steps for chosen in (size, heavy))
    ns, dear_ns = (int(duration[chosen].sum()) // steps for chosen in (again, is_heavy))
    room = _room(case)
    least, usual, most = (
        (0.5, 1.0, 1.0) if room is None else [min(1.0, room / max(1, each)) for each in (dear, dear, kept)]
    )
    saved = [round(least * dear_ns), round(usual * dear_ns), round(most * ns)]
    best = (again, most) if saved[2] > saved[1] else (is_heavy, usual)
    return [
        Proposal(
            rule="recomputed-activations",
            bound="memory",
            title="the backward pass computes activations again (checkpointing)",
            evidence={
                "recomputed_kernels_per_step": case.per_step(int(again.sum())),
                "recomputed_ns_per_step": ns,
                "matmul_and_convolution_ns_per_step": dear_ns,
                "results_bytes_per_step": kept,
                "matmul_and_convolution_bytes_per_step": dear,
                **({} if room is None else {"free_device_bytes": room}),
            },
            where=case.where(groups[np.argsort(-case.placed.groups.time[groups])[:8]].tolist()),
            cells=case.cells(groups.tolist()),
            low=_without(case, is_heavy, least),
            mid=_without(case, is_heavy, usual),
            high=_without(case, *best),
            gap_ns=Interval(saved[0], saved[1], max(saved)),
            advice="from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts\n"
            "keep = [torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.convolution.default]\n"
            "y = checkpoint(layer, x, use_reentrant=False,\n"
            "               context_fn=lambda: create_selective_checkpoint_contexts(keep))  # or plain layer(x)",
            assumes="the results kept fit in memory: at most results_bytes_per_step more, all of them kept"
            + ("" if room is None else _MEASURED),
        )
    ]


_MEASURED: Final = "; the recording has the peak of memory, so that only what fits beside it is counted"


def _results(case: Case, groups: Ints, counts: Ints) -> dict[int, int]:
    """Bytes that so many calls of each group write, 0 where that is not known."""
    works = {group: case.work(group) for group in groups.tolist() if is_moved(case, group)}
    written = {group: 0 if work is None else work.bytes_written or 0 for group, work in works.items()}
    return {group: count * written.get(group, 0) for group, count in zip(groups.tolist(), counts.tolist(), strict=True)}


def _room(case: Case) -> int | None:
    """Bytes of device memory that are free at the peak; None where the recording does not say (``profile_memory``)."""
    trace = case.placed.recording.trace
    sizes = [facts.memory_bytes for facts in trace.devices if facts.memory_bytes]
    if case.is_cpu or trace.peak_memory_bytes is None or not sizes:
        return None
    return max(0, int(USABLE * min(sizes)) - trace.peak_memory_bytes)


def _without(case: Case, chosen: NDArray[np.bool_], share: float) -> Change:
    """The recording without a share of the chosen items: launched no more where it is all of them."""
    duration = case.replayer.duration
    if share >= 1.0:
        return joined(duration.astype(np.float64), chosen)
    return joined(np.where(chosen, (1.0 - share) * duration, duration), np.zeros(len(duration), np.bool_))


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
