"""A recording's kernels as rows, with the counters of the same step beside them where there are any."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.gpu.judging import is_agreed, verdict_of, why_bytes_differ
from diagnose.costs.registry import formula_of
from diagnose.counters.counters import read_counters
from diagnose.counters.joining import join
from diagnose.counters.ncu import DRAM_READ, DRAM_WRITTEN, L2, MEMORY_THROUGHPUT, SM_THROUGHPUT
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, KIND_SET, Recording, collect
from diagnose.kernel_names import read_name
from diagnose.pricing.communication import describe_collectives
from diagnose.pricing.grouping import group_items
from diagnose.pricing.pricing import price_items
from diagnose.roofs.hardware import find_hardware
from diagnose.roofs.placing import Placed, place_groups
from diagnose.trace.chrome import read_trace

FAMILIES: Final = {
    "scaled_matmul": "matmul", "custom_matmul": "matmul", "linear_algebra": "matmul", "attention_backward": "attention",
    "custom_attention": "attention", "batch_norm": "normalization", "activation": "pointwise", "filling": "pointwise",
    "promotion": "pointwise", "softmax": "reduction", "custom_moe": "indexing", "custom_embedding": "indexing",
}  # fmt: skip
"""Modules of formulas that count as another family."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and what is true of the recording as a whole.

    Attributes:
        rows: One a group of equal kernels, as plain values.
        flops: FLOPs of products (tensor unit) a step, by family.
        steps: How many were recorded.
        notes: The join's.
        l2_bytes: Of the device, None where unknown.
    """

    rows: list[dict[str, Any]]
    flops: dict[str, float]
    steps: int
    notes: list[str]
    l2_bytes: int | None


def table_of(trace: Path, counters: Path | None = None) -> Table:
    """Reads a trace, and the counters if there are any."""
    reading = read_trace(trace)
    recording = describe_collectives(collect(reading.trace))
    priced = price_items(recording)
    groups = group_items(recording.trace, recording.items, priced)
    hardware = find_hardware(recording, reading.extras, None, None)
    placed = place_groups(recording, groups, priced, hardware)
    counted, notes = _counted(placed, counters)
    rows = [_row(placed, index, counted.get(index, {})) for index in range(len(groups))]
    steps = len(recording.steps.names)
    main = next(iter(hardware.ceilings.values()), None)
    return Table(rows, _flops(placed, steps), steps, notes, None if main is None else main.l2_bytes)


def family_of(op: str | None, kind: int) -> str:
    """The room of the formula that prices an op."""
    if kind == KIND_COLLECTIVE:
        return "collective"
    if kind in (KIND_COPY, KIND_SET):
        return "copy"
    if op is None:
        return "unlinked"
    formula = formula_of(op)
    if formula is None:
        return "triton" if "triton" in op else "other"
    module = formula.__module__.rsplit(".", 1)[-1]
    return FAMILIES.get(module, module)


def _flops(placed: Placed, steps: int) -> dict[str, float]:
    found: Counter[str] = Counter()
    for index in range(len(placed.groups)):
        work = placed.work(index)
        if work is None or work.flops is None:
            continue
        products = sum(count for unit, count in work.flops if unit.startswith("tensor."))
        found[family_of(placed.op(index), int(placed.groups.kind[index]))] += products * int(placed.groups.calls[index])
    return {family: count / steps for family, count in found.items() if count}


def _counted(placed: Placed, path: Path | None) -> tuple[dict[int, dict[str, float]], list[str]]:
    """Means of the counters by group, over its counted launches."""
    if path is None:
        return {}, []
    counters = read_counters(path)
    recording: Recording = placed.recording
    joined = join(recording, counters)
    names = {
        "dram_read": DRAM_READ,
        "dram_written": DRAM_WRITTEN,
        "l2": L2,
        "sm": SM_THROUGHPUT,
        "mem": MEMORY_THROUGHPUT,
    }
    group = placed.groups.of_item[joined.items]
    found: dict[int, dict[str, float]] = {}
    for label, metric in names.items():
        values = joined.mean(counters.metric(metric))
        for index in np.unique(group[np.isfinite(values)]).tolist():
            found.setdefault(index, {})[label] = float(values[(group == index) & np.isfinite(values)].mean())
    lost, spare = joined.unmatched_kernels, joined.unmatched_launches
    notes = [f"{len(joined.items) - lost.total()} of {len(joined.items)} kernels joined"]
    notes += [f"not counted: {', '.join(sorted(lost)[:3])}"] if lost else []
    notes += [f"counted, not recorded: {', '.join(sorted(spare)[:3])}"] if spare else []
    return found, notes


def _row(placed: Placed, index: int, counted: dict[str, float]) -> dict[str, Any]:
    groups, placement, work = placed.groups, placed.placements[index], placed.work(index)
    moved = None if work is None else work.bytes_accessed
    row: dict[str, Any] = {
        "kernel": placed.kernel(index)[:160],
        "op": placed.op(index),
        "family": family_of(placed.op(index), int(groups.kind[index])),
        "calls": int(groups.calls[index]),
        "time_ns": int(groups.time[index]),
        "source": None if work is None else work.source,
        "is_bound": work is not None and work.is_bound,
        "bytes": moved,
        "bound": placement.bound,
        "efficiency": placement.efficiency,
        "flags": " ".join(placement.flags),
    }
    dram = counted.get("dram_read", math.nan) + counted.get("dram_written", math.nan)
    if math.isfinite(dram):
        row |= {"dram_bytes": dram, "l2_bytes": counted.get("l2")}
        is_split = read_name(placed.kernel(index)).is_split_k
        row["why"] = why_bytes_differ(moved, dram, counted.get("l2"), is_split_k=is_split) if moved else ""
    if "sm" in counted and "mem" in counted:
        theirs = verdict_of(counted["sm"], counted["mem"])
        row |= {"sm_percent": counted["sm"], "memory_percent": counted["mem"], "theirs": theirs}
        row["agreed"] = is_agreed(theirs, placement.bound, placement.flags)
    return row
