"""Rules about how many operations there are: what is computed again and again, and what a model could skip."""

from __future__ import annotations

from typing import Final

import numpy as np

from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.precision import float8_products, float32_products, tf32_off
from diagnose.findings.retiming import (
    Saved,
    all_but_first,
    call_ns,
    gap_of,
    is_sure,
    ns_per_step,
    product_dtype,
    rate_of,
    retimed,
)
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.roofs.operands import product
from diagnose.trace.tables import Ints
from diagnose.wall.waterfall import PARTS
from diagnose.work import Op, TensorMeta

REBUILT: Final = 4
"""Times a step from which on a constant counts as rebuilt: fewer may be one a micro-batch, or forward and backward."""

CHAIN: Final = 16
"""Activities after a constant's first kernel that are looked at for what is made of it."""

COMPUTE_SHARE: Final = 0.5
"""Of the step: with less arithmetic in it, fewer operations are not what it waits for."""

NEAR_ROOF: Final = 0.6
"""Mean efficiency from which on better kernels have little left to give (Nsight Compute: below 60 % is latency)."""

SPARSE_MID, SPARSE_HIGH = 1.25, 1.6
"""Speed-up of a layer's product with 2:4 sparse weights: measured 1.24 and 1.27 on an A100 (ViT-L's layers, pruned
while training: pytorch/ao, torchao/sparsity/training/README.md); and half way from there to the units' factor of 2."""

_SEEDS: Final = frozenset(
    f"aten::{name}" for name in ("arange", "linspace", "eye", "triu", "tril", "triu_", "tril_", "triu_indices")
)
_MADE_OF_THEM: Final = frozenset(
    f"aten::{name}"
    for name in (
        "cos", "sin", "where", "lt", "le", "gt", "ge", "eq", "ne", "logical_not", "bitwise_not", "logical_and", "fill_",
        "triu", "tril", "triu_", "tril_",
    )
)  # fmt: skip
_OF_ANGLES: Final = frozenset(("aten::cos", "aten::sin"))
_LAYERS: Final = frozenset(("aten::mm", "aten::addmm", "aten::_addmm_activation"))


def rebuilt_constants(case: Case) -> list[Proposal]:
    """Ranges, masks and rotary tables that are made of nothing but sizes, and made again in every layer.

    That two results are equal cannot be seen in general; here it can: an ``arange`` of the same numbers, a ``triu``
    of the same shape, and the comparisons, sines and cosines right after it, as often. One of them a step stays. Low:
    their kernels' time. Mid: their launches too. High: the whole of their ops on the host.
    """
    groups = _rebuilt(case)
    if not groups:
        return []
    again = all_but_first(case, case.items_of(groups), case.group_of)
    no_time = np.where(again, 0, case.replayer.duration)
    op = case.placed.recording.items.op[again]
    saved_ns = int(case.replayer.duration[again].sum())
    return [
        Proposal(
            rule="rebuilt-constants",
            bound="overhead" if case.is_cpu else "memory",
            title="the same mask or position table is built again in every layer",
            evidence={
                "kernels_per_step": case.per_step(case.calls(groups)),
                "repeated_per_step": case.per_step(int(again.sum())),
                "repeated_ns_per_step": ns_per_step(case, saved_ns),
                "ops": ", ".join(sorted({case.op_name(group).removeprefix("aten::") for group in groups})),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch")],
            low=Change(duration=no_time),
            mid=Change(removed=again),
            high=Change(removed=again, host=case.replayer.host_without(ops=distinct(op[op >= 0]))),
            gap_ns=gap_of(case, saved_ns, saved_ns, saved_ns),
            advice="# in the model's __init__, once, for the longest sequence:\n"
            "self.register_buffer('mask', torch.ones(longest, longest, dtype=torch.bool).triu(1), persistent=False)\n"
            "# in forward: pass self.mask[:length, :length] (or the cos/sin table) to every layer",
            assumes="the sizes are the same in every layer; the table stays in memory",
        )
    ]


def fewer_operations(case: Case) -> list[Proposal]:
    """The step is bound by arithmetic that runs near its roof: only fewer operations are left.

    Only where no narrower type would help, and on NVIDIA's tensor cores from Ampere on, which skip half of the
    weights if two in four are zero. Low: nothing, since accuracy decides. Mid and high: layers 1.25
    and 1.6 times as fast.
    """
    groups = [] if case.is_cpu else _sparse_candidates(case)
    if not groups or not _is_near_roof(case):
        return []
    if any(rule(case) for rule in (tf32_off, float32_products, float8_products)):
        return []
    change = retimed(case, {group: _as_sparse(call_ns(case, group)) for group in groups})
    return [
        Proposal(
            rule="fewer-operations",
            bound="compute",
            title="arithmetic near its roof: only fewer operations are left",
            evidence={
                "compute_share": round(_compute_ns(case) / max(1, case.wall_ns), 3),
                "layers_per_step": case.per_step(case.calls(groups)),
                "layers_ns_per_step": ns_per_step(case, case.time_ns(groups)),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=change.low,
            mid=change.mid,
            high=change.high,
            gap_ns=change.gap_ns,
            advice="for module in model.modules():  # pruned to 2:4 and fine-tuned; else distil into a smaller model\n"
            "    if isinstance(module, torch.nn.Linear):\n"
            "        sparse = torch.sparse.to_sparse_semi_structured(module.weight)\n"
            "        module.weight = torch.nn.Parameter(sparse)",
            assumes="two of four weights are pruned and the model is fine-tuned; accuracy decides: at least this gives "
            "nothing",
        )
    ]


def _rebuilt(case: Case) -> list[int]:
    """Groups of the seeds, and of what is made of them, most time first."""
    calls, steps = case.placed.groups.calls, max(1, len(case.steps))
    seeds = [
        group
        for group in range(len(case.placed.groups))
        if case.op_name(group) in _SEEDS and calls[group] >= REBUILT * steps and _is_small(case.op(group))
    ]
    found = set(seeds)
    in_order = case.group_of[_launched(case)] if seeds else case.group_of[:0]
    for seed in seeds:
        begin = int(np.flatnonzero(in_order == seed)[0]) + 1
        found.update(
            group
            for group in in_order[begin : begin + CHAIN].tolist()
            if group >= 0
            and calls[group] == calls[seed]
            and case.op_name(group) in _MADE_OF_THEM
            and (case.op_name(group) in _OF_ANGLES or _is_small(case.op(group)))
        )
    return sorted(found, key=lambda group: -case.time_ns([group]))


def _is_small(op: Op | None) -> bool:
    """Whether it works on no batch and no heads, as far as was recorded: at most two sizes but 1s in front."""
    if op is None or op.inputs is None:
        return False
    tensors = [value for value in op.inputs if isinstance(value, TensorMeta)]
    return all(size == 1 for tensor in tensors for size in tensor.shape[:-2])


def _launched(case: Case) -> Ints:
    """Rows of the items in launch order [n]."""
    return np.argsort(case.placed.recording.items.order, kind="stable")


def _as_sparse(duration_ns: float) -> Saved:
    return Saved(0.0, duration_ns * (1 - 1 / SPARSE_MID), duration_ns * (1 - 1 / SPARSE_HIGH))


def _sparse_candidates(case: Case) -> list[int]:
    """Products of layers in 16 bits, bound by arithmetic, on a device with TF32: NVIDIA's from Ampere on."""
    found = []
    for group in range(len(case.placed.groups)):
        op, is_compute = case.op(group), case.placed.placements[group].bound == "compute"
        is_layer = op is not None and op.name in _LAYERS and product(op) is not None
        is_half = product_dtype(case, group) in ("bfloat16", "float16")
        if is_layer and is_half and is_compute and is_sure(case, group) and _has_sparse_units(case, group):
            found.append(group)
    return found


def _has_sparse_units(case: Case, group: int) -> bool:
    return rate_of(case, group, "tensor.tfloat32") is not None and rate_of(case, group, "tensor.float32") is None


def _compute_ns(case: Case) -> int:
    columns = [index for index, part in enumerate(PARTS) if part.startswith("compute_")]
    return sum(int(found.parts[:, columns].sum()) for found in case.timelines.values()) // max(1, len(case.timelines))


def _is_near_roof(case: Case) -> bool:
    times = [case.time_ns([group]) for group in _compute_groups(case)]
    roofs = [
        (case.placed.placements[group].roof_ns or 0.0) * int(case.placed.groups.calls[group])
        for group in _compute_groups(case)
    ]
    is_bound = _compute_ns(case) >= COMPUTE_SHARE * case.wall_ns
    return is_bound and sum(roofs) >= NEAR_ROOF * sum(times)


def _compute_groups(case: Case) -> list[int]:
    return case.groups_where(lambda group: case.placed.placements[group].bound == "compute" and is_sure(case, group))


RULES: Final[tuple[Rule, ...]] = (rebuilt_constants, fewer_operations)
