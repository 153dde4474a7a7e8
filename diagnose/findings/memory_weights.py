"""Products that mostly read weights or a cache: one row, or a few, against a whole matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import (
    has_rate,
    is_moved,
    is_worth,
    moved_bytes,
    rates,
    shape_text,
    tensors_of,
)
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.work import TensorMeta

WEIGHT_SHARE: Final = 0.8
"""Of a product's bytes: above this, reading the weight is what it does."""

MOST_ROWS: Final = 64
"""Rows of the activation; beyond this, unpacking narrow weights costs more than their bytes save (weight-only kernels
are written for up to 16 rows, and lose to plain ones at 64 to 128: Frantar et al. 2024, MARLIN, arXiv 2408.11743)."""

NARROWED: Final = ((8, 0.53), (8, 0.80), (4, 0.97))
"""Bits of a weight, and the share of the present bandwidth that kernels for such weights reach: worst, probable, best.

Llama-2 7B on an A100 with torchao 0.5 (its README): 1419 GB/s in bfloat16, 1131 with 8 bits (0.80), 751 with 4 (0.53).
MARLIN multiplies weights of 4 bits 3.87 times as fast as cuBLAS those of 16 (Frantar et al. 2024, arXiv 2408.11743).
"""

_PRODUCTS: Final[dict[str, tuple[int, int]]] = {
    "aten::mm": (0, 1), "aten::addmm": (1, 2), "aten::linear": (0, 1), "aten::mv": (1, 0), "aten::addmv": (2, 1),
}  # fmt: skip
"""Activation and weight."""


def weight_bandwidth(case: Case) -> list[Proposal]:
    """Few rows against a large weight: its bytes are the time. Narrower weights, or more rows for the same read.

    ``NARROWED`` says how narrow, and how fast kernels for such weights are; none becomes shorter than the
    kernel floor. What more rows give is throughput, not a shorter step: it is said, not priced.
    """
    if case.is_training or case.is_cpu:
        return []
    groups = {group: weight for group in case.groups_where(lambda _: True) if (weight := _weight(case, group))}
    if not groups or not is_worth(case, groups):
        return []
    largest = max(groups, key=lambda group: int(case.placed.groups.time[group]))
    low, mid, high = (
        _shortened(case, {group: _left(case, group, weight, kind) for group, weight in groups.items()})
        for kind in NARROWED
    )
    read = sum(weight.numel * (weight.itemsize or 0) * int(case.placed.groups.calls[g]) for g, weight in groups.items())
    fp8, where = has_rate(case, largest, "tensor.float8"), case.where(groups)
    rows = _rows(case, largest)
    ridge = _ridge_rows(case, largest)
    more = f"\n# or more rows a step: up to about {ridge} they cost the same read" if ridge else ""
    return [
        Proposal(
            rule="weight-bandwidth",
            bound="memory",
            title=f"matmuls of {rows} row{'s' if rows > 1 else ''} that mostly read their weights",
            evidence={
                "matmuls_per_step": case.per_step(case.calls(groups)),
                "weight_bytes_per_step": round(read / max(1, len(case.steps))),
                "time_ns_per_step": round(case.time_ns(groups) / max(1, len(case.steps))),
                "rows": rows,
                "largest_weight": shape_text(groups[largest]),
                "weight_dtype": str(groups[largest].dtype),
            },
            where=where,
            cells=case.cells(groups),
            low=low[0],
            mid=mid[0],
            high=high[0],
            gap_ns=Interval(low[1], mid[1], high[1]),
            advice=_narrower(where, fp8=fp8) + more,
            assumes="accuracy is checked after quantising (an output layer is often left out); 4 bits at best",
        )
    ]


def _narrower(where: Sequence[str], *, fp8: bool) -> str:
    """How to keep weights in fewer bits; an engine quantises by an option of its own."""
    if any(line.startswith("vllm/") for line in where):
        return (
            f"llm = vllm.LLM(model, quantization='{'fp8' if fp8 else 'bitsandbytes'}')\n"
            "# its output layer stays as it is, unless the checkpoint holds that quantised"
        )
    return (
        "from torchao.quantization import Int8WeightOnlyConfig, quantize_\n"
        "quantize_(model, Int8WeightOnlyConfig())  # then torch.compile, which fuses the unpacking"
        + "\n# Float8WeightOnlyConfig() loses less accuracy at the same bytes"
        * fp8
    )


def _weight(case: Case, group: int) -> TensorMeta | None:
    """The weight of a product that mostly reads it; None for any other group."""
    names = _PRODUCTS.get(case.op_name(group))
    op, placement = case.op(group), case.placed.placements[group]
    if names is None or op is None or placement.bound != "memory" or not is_moved(case, group):
        return None
    weight = op.tensor_or_none(names[1])
    rows = _rows(case, group)
    if weight is None or not weight.itemsize or weight.itemsize < 2 or not 1 <= rows <= MOST_ROWS:
        return None
    share = weight.distinct_numel * weight.itemsize / moved_bytes(case, group)
    return weight if share >= WEIGHT_SHARE else None


def _rows(case: Case, group: int) -> int:
    """Rows of the activation, 0 where they are not known."""
    op = case.op(group)
    names = _PRODUCTS.get(case.op_name(group))
    tensor = None if op is None or names is None else op.tensor_or_none(names[0])
    if tensor is None or not tensor.shape:
        return 0
    return 1 if len(tensor.shape) == 1 else tensor.numel // max(1, tensor.shape[-1])


def _ridge_rows(case: Case, group: int) -> int | None:
    """Rows at which arithmetic takes as long as reading the weight, None where a roof is not known."""
    placement = case.placed.placements[group]
    if not placement.compute_ns or not placement.memory_ns:
        return None
    return int(_rows(case, group) * placement.memory_ns / placement.compute_ns)


def _left(case: Case, group: int, weight: TensorMeta, kind: tuple[int, float]) -> float:
    """Share of a group's time that is left with weights of so many bits, never more than all."""
    bits, reach = kind
    itemsize = weight.itemsize or 0
    width = min(1.0, bits / (8 * itemsize) / reach) if itemsize else 1.0
    return 1 - weight.distinct_numel * itemsize * (1 - width) / moved_bytes(case, group)


def _shortened(case: Case, left: dict[int, float]) -> tuple[Change, int]:
    """Groups that take a share of their time, though never less than the kernel floor; and what that is a step, ns."""
    factor = {}
    for group, share in left.items():
        mean = int(case.placed.groups.time[group]) / int(case.placed.groups.calls[group])
        shortest = min(1.0, rates(case, group)[1] / mean) if mean else 1.0
        factor[group] = max(share, shortest)
    duration = case.scaled(factor)
    return Change(duration=duration), int((case.replayer.duration - duration).sum()) // max(1, len(case.steps))


CACHE_REACH: Final = 0.80
"""At worst, of the bandwidth with 16 bits: taken to be that of weights of 8 bits (``NARROWED``)."""

MOST_QUERIES: Final = 4
"""Keys and values are at least so many times the queries; heads that share keys make queries many."""

_ATTENTION: Final = ("attention", "attn")


def cache_bandwidth(case: Case) -> list[Proposal]:
    """Attention of one or a few new tokens reads the whole cache of keys and values: keep that in 8 bits.

    Half of the cache's bytes, at worst at ``CACHE_REACH`` of the present bandwidth.
    """
    if case.is_training or case.is_cpu:
        return []
    groups = {group: cache for group in case.groups_where(lambda _: True) if (cache := _cache(case, group))}
    if not groups or not is_worth(case, groups) or not all(has_rate(case, group, "tensor.float8") for group in groups):
        return []
    low, mid = (
        _shortened(
            case,
            {group: 1 - cache * max(0.0, 1 - part) / moved_bytes(case, group) for group, cache in groups.items()},
        )
        for part in (0.5 / CACHE_REACH, 0.5)
    )
    read = sum(cache * int(case.placed.groups.calls[group]) for group, cache in groups.items())
    return [
        Proposal(
            rule="cache-bandwidth",
            bound="memory",
            title="attention that mostly reads the cache of keys and values",
            evidence={
                "attentions_per_step": case.per_step(case.calls(groups)),
                "cache_bytes_per_step": round(read / max(1, len(case.steps))),
                "time_ns_per_step": round(case.time_ns(groups) / max(1, len(case.steps))),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=low[0],
            mid=mid[0],
            high=mid[0],
            gap_ns=Interval(low[1], mid[1], mid[1]),
            advice="llm = vllm.LLM(model, kv_cache_dtype='fp8')  # or the same option of the engine that serves it",
            assumes="accuracy is checked on long contexts; the attention kernel reads 8-bit keys and values",
        )
    ]


def _cache(case: Case, group: int) -> int | None:
    """Bytes of keys and values of an attention of few queries that mostly reads them; None for any other group."""
    name, op = case.op_name(group).lower(), case.op(group)
    if op is None or not any(word in name for word in _ATTENTION) or "backward" in name or not is_moved(case, group):
        return None
    if case.placed.placements[group].bound != "memory":
        return None
    tensors = tensors_of(op)[:3]
    if len(tensors) < 3 or any(tensor.itemsize != 2 for tensor in tensors):
        return None
    query, key, value = tensors
    cache = 2 * (key.distinct_numel + value.distinct_numel)
    few = query.numel * MOST_QUERIES <= key.numel + value.numel
    return cache if few and cache >= WEIGHT_SHARE * moved_bytes(case, group) else None
