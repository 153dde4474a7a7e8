"""Rules about how much collectives move: gradients in float32, activations where weights are less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import gap_of, ns_per_step, rate_of
from diagnose.findings.sending import LARGE_NS, Nanoseconds, Sent, link_ns, sent, shorter, transfer_ns
from diagnose.replays.replayer import Change
from diagnose.roofs.operands import product

OUTWEIGHED: Final = 0.5
"""Weights have to be at most this share of what the activations move."""

CAST_BYTES: Final = 12
"""Traffic of compressing one float32 number and back: 4 read and 2 written, 2 read and 4 written."""


_HOOKS: Final = {"bfloat16": "bf16_compress_hook", "float16": "fp16_compress_hook"}


def float32_gradients(case: Case) -> list[Proposal]:
    """Gradients reduced in float32: as 16-bit numbers half of the bytes cross the link.

    Low: half of what the link needs at its ceiling. Mid: half of the transfer at the best rate seen here. High: half
    of the kernels' time. Casting there and back is taken off each.
    """
    everything = sent(case)
    found = [each for each in everything if _is_gradient(each)]
    needed = link_ns(case, found)
    if needed.sum() < LARGE_NS * max(1, len(case.steps)):
        return []
    groups, half, casts = [each.group for each in found], _half(case, found[0]), _casts_ns(case, found)
    items = case.items_of(groups)
    low, mid, high = (
        items * ns / 2 - casts for ns in (needed, transfer_ns(case, everything, found), case.replayer.duration)
    )
    is_sharded = any(each.kind == "reduce_scatter" for each in found)
    sharded = (
        f"fully_shard(module, mp_policy=MixedPrecisionPolicy(param_dtype=torch.{half}, reduce_dtype=torch.{half}))"
    )
    return [
        Proposal(
            rule="float32-gradients",
            bound="communication",
            title="gradients cross the link as float32",
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "gradient_bytes_per_step": round(case.per_step(_bytes(case, found))),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "link_needs_ns_per_step": ns_per_step(case, needed.sum()),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=shorter(case, low),
            mid=shorter(case, mid),
            high=shorter(case, high),
            gap_ns=gap_of(case, *(float(each.sum()) for each in (low, mid, high))),
            advice=sharded
            if is_sharded
            else "from torch.distributed.algorithms.ddp_comm_hooks import default_hooks\n"
            f"model.register_comm_hook(None, default_hooks.{_HOOKS[half]})",
            assumes=f"gradients are summed over the ranks in {half}: check that the loss still falls; the transfer, "
            "not a late rank, is what takes the time",
        )
    ]


def heavy_activations(case: Case) -> list[Proposal]:
    """Partial products all-reduced over a tensor-parallel group, though gathering their weights would move less.

    An all-reduce of [m, n] over R ranks moves 2 m n (R - 1) / R numbers a rank, gathering weights [k R, n] moves
    k n (R - 1). Only where a product [m, k] x [k, n] with that very output ran as often. Low: nothing. High: the time
    shrinks as the bytes do. Mid: half of that.
    """
    products = _products(case)
    found = {each.group: (each, share) for each in sent(case) if (share := _weights_share(case, each, products))}
    if not found:
        return []
    groups = list(found)
    saved = np.zeros(len(case.group_of))
    for group, (_, share) in found.items():
        saved += case.items_of([group]) * case.replayer.duration * (1 - share)
    first, share = found[groups[0]]
    return [
        Proposal(
            rule="heavy-activations",
            bound="communication",
            title="tensor parallel moves more activations than there are weights",
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "activations_crossing_bytes": first.crossed,
                "weights_crossing_bytes": round(share * first.crossed),
                "ranks": first.ranks,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=Change(),
            mid=shorter(case, saved / 2),
            high=shorter(case, saved),
            gap_ns=gap_of(case, 0, float(saved.sum()) / 2, float(saved.sum())),
            advice="for layer in model.layers:  # in place of tensor parallel: each rank takes a part of the batch\n"
            "    torch.distributed.fsdp.fully_shard(layer, mesh=mesh)",
            assumes="the batch can be split over the ranks; the gathered weights of a layer or two fit the memory",
        )
    ]


def _is_gradient(each: Sent) -> bool:
    return each.is_backward and each.dtype == "float32" and each.kind in ("all_reduce", "reduce_scatter")


def _half(case: Case, each: Sent) -> str:
    """What the device's matrix units take: NVIDIA's know bfloat16 from Ampere on."""
    return "float16" if rate_of(case, each.group, "tensor.bfloat16") is None else "bfloat16"


def _bytes(case: Case, found: Sequence[Sent]) -> int:
    return sum(each.message * int(case.placed.groups.calls[each.group]) for each in found)


def _casts_ns(case: Case, found: Sequence[Sent]) -> Nanoseconds:
    """What casting each message there and back takes, 0 where the memory's rate is not known [n]."""
    total = np.zeros(len(case.group_of))
    for each in found:
        rate = rate_of(case, each.group, "dram")
        if rate is not None:
            total += case.items_of([each.group]) * (1e9 * each.message / 4 * CAST_BYTES / rate)
    return total


def _products(case: Case) -> dict[tuple[int, str], list[tuple[int, int, int]]]:
    """By output elements and type: rows, inner size and calls of plain products."""
    found: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
    for group in range(len(case.placed.groups)):
        op = case.op(group)
        one = None if op is None else product(op)
        if one is not None and one.batch == 1 and one.a.dtype is not None:
            calls = int(case.placed.groups.calls[group])
            found.setdefault((one.m * one.n, one.a.dtype), []).append((one.m, one.a.shape[-1], calls))
    return found


def _weights_share(case: Case, each: Sent, products: dict[tuple[int, str], list[tuple[int, int, int]]]) -> float | None:
    """Bytes of the weights over those of the activations, k R / 2 m; None where no product fits, or it is no less."""
    if each.kind != "all_reduce" or each.is_backward or each.ranks < 2:
        return None
    calls = int(case.placed.groups.calls[each.group])
    shares = [inner * each.ranks / (2 * rows) for rows, inner, times in products.get((each.elements, each.dtype), [])
              if times == calls and rows]  # fmt: skip
    share = max(shares, default=1.0)  # where several fit, the one that gains least
    return share if share <= OUTWEIGHED else None


RULES: Final[tuple[Rule, ...]] = (float32_gradients, heavy_activations)
