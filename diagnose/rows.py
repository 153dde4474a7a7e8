"""The report's rows from groups and their places: kernels by time, coverage, totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from diagnose.costs.collective import bus_bytes_per_s
from diagnose.distinct import distinct
from diagnose.items import KIND_COLLECTIVE, KIND_KERNEL, KIND_SELF, host_lead_ns
from diagnose.roofs.placing import ABOVE_ROOF, BOUND_NOT_TIGHT, Placed
from diagnose.roofs.roofline import Placement
from diagnose.schema import Coverage, Interval, KernelRow, Place, Signature, Totals, Uncosted
from diagnose.trace.tables import Ints
from diagnose.units import format_share
from diagnose.work import Op, TensorMeta, Value, _Unknown


def kernel_rows(placed: Placed, exposed: Ints, places: Sequence[list[Place]]) -> list[KernelRow]:
    """One row a group, most time first.

    Args:
        placed: The groups.
        exposed: Wall time that each group owns.
        places: Where each group was called.
    """
    best = _best_efficiencies(placed)
    order = np.lexsort((np.arange(len(placed.groups)), -placed.groups.time)).tolist()
    return [_row(placed, index, rank, int(exposed[index]), best, places[index]) for rank, index in enumerate(order, 1)]


def _row(
    placed: Placed,
    index: int,
    rank: int,
    exposed: int,
    best: Mapping[tuple[str | None, str | None], float],
    places: list[Place],
) -> KernelRow:
    groups, trace, placement = placed.groups, placed.recording.trace, placed.placements[index]
    calls, time, signature = int(groups.calls[index]), int(groups.time[index]), int(groups.signature[index])
    work = placed.work(index)
    flops = None if work is None else work.total_flops
    moved = None if work is None else work.bytes_accessed
    seconds = time / calls / 1e9
    return KernelRow(
        place=rank,
        process_rank=trace.process_rank,
        device=placed.hardware.keys[int(groups.device[index])],
        kernel=placed.kernel(index),
        op=placed.op(index),
        signature=None if signature < 0 else signature_of(trace.signatures[signature]),
        calls=calls,
        time_ns=time,
        exposed_ns=exposed,
        share=time / max(1, int(groups.time.sum())),
        flops=flops,
        special_ops=None if work is None else work.special_ops,
        bytes_read=None if work is None else work.bytes_read,
        bytes_written=None if work is None else work.bytes_written,
        extra_bytes=None if work is None else work.extra_bytes,
        math=placement.math,
        arithmetic_intensity=flops / moved if flops is not None and moved else None,
        achieved_flops_per_s=flops / seconds if flops is not None and seconds else None,
        achieved_bytes_per_s=_bytes_per_s(placed, index, time / calls),
        roof_ns=placement.roof_ns,
        datasheet_roof_ns=placement.datasheet_roof_ns,
        efficiency=placement.efficiency,
        bound=placement.bound,
        flags=list(placement.flags),
        reasons=placed.reasons(index),
        cost_source=None if work is None else work.source,
        places=places,
        gap_ns=_gap(placement, calls, time, best.get((placed.op(index), placement.bound))),
    )


def _bytes_per_s(placed: Placed, index: int, duration_ns: float) -> float | None:
    """Bytes over time; of a collective those that crossed a link, its bus bandwidth, which its roof is made of."""
    if placed.groups.kind[index] == KIND_COLLECTIVE:
        described = placed.collective(index)
        return None if described is None else bus_bytes_per_s(described, duration_ns)
    work = placed.work(index)
    moved = None if work is None else work.bytes_accessed
    return None if moved is None or duration_ns <= 0 else moved / (duration_ns / 1e9)


def _best_efficiencies(placed: Placed) -> dict[tuple[str | None, str | None], float]:
    """The best efficiency that each (op, bound) reaches in this recording."""
    best: dict[tuple[str | None, str | None], float] = {}
    for index, placement in enumerate(placed.placements):
        if placement.is_believed and "bounded" not in placement.flags and placement.efficiency is not None:
            key = (placed.op(index), placement.bound)
            best[key] = max(best.get(key, 0.0), min(1.0, placement.efficiency))
    return best


def _gap(placement: Placement, calls: int, time: int, best: float | None) -> Interval | None:
    """What the row could be shorter by: to the best that its family reaches here, and to its achievable roof."""
    is_known = placement.is_believed and "bounded" not in placement.flags  # a bound says nothing of what is left
    if not is_known or placement.roof_ns is None or placement.efficiency is None:
        return None
    high = max(0, round(time - placement.roof_ns * calls))
    reached = min(1.0, placement.efficiency)
    low = 0 if not best or best <= reached else min(high, round(time * (1 - reached / best)))
    return Interval(low, (low + high) // 2, high)


def signature_of(op: Op) -> Signature | None:
    """An op's arguments as the report shows them; None where they were not recorded."""
    if op.inputs is None:
        return None
    return Signature(
        shapes=[_shape(value) for value in op.inputs],
        dtypes=[_dtype(value) for value in op.inputs],
        strides=[_strides(value) for value in op.inputs],
        args=[_argument(value) for value in op.inputs],
    )


def _tensors(value: Value) -> list[TensorMeta] | None:
    if isinstance(value, tuple) and value and all(isinstance(item, TensorMeta) for item in value):
        return [item for item in value if isinstance(item, TensorMeta)]
    return None


def _shape(value: Value) -> list[int | list[int]] | None:
    if isinstance(value, TensorMeta):
        return list(value.shape)
    many = _tensors(value)
    return None if many is None else [list(item.shape) for item in many]


def _strides(value: Value) -> list[int | list[int]] | None:
    if isinstance(value, TensorMeta):
        return None if value.strides is None else list(value.strides)
    many = _tensors(value)
    if many is None or any(item.strides is None for item in many):
        return None
    return [list(item.strides or ()) for item in many]


def _dtype(value: Value) -> str | None:
    if isinstance(value, TensorMeta):
        return value.dtype
    many = _tensors(value)
    names = {item.dtype for item in many or ()}
    return names.pop() if len(names) == 1 else None


def _argument(value: Value) -> str | None:
    if value is None or isinstance(value, (TensorMeta, _Unknown)) or _tensors(value) is not None:
        return None
    return repr(list(value)) if isinstance(value, tuple) else str(value)


def coverage_of(placed: Placed) -> Coverage:
    """Which part of the device's time is linked, has exact work, has a bound, has nothing."""
    groups, items = placed.groups, placed.recording.items
    by_source: dict[str, int] = {}
    uncosted: dict[tuple[str | None, str, str], list[int]] = {}
    costed = bounded = 0
    for index in range(len(groups)):
        time, calls, work = int(groups.time[index]), int(groups.calls[index]), placed.work(index)
        if work is not None and placed.is_exact(index):
            costed += time
            by_source[work.source] = by_source.get(work.source, 0) + time
        elif work is not None and placed.is_bounded(index):
            bounded += time
            by_source[f"{work.source}, a bound"] = by_source.get(f"{work.source}, a bound", 0) + time
        else:
            sums = uncosted.setdefault(
                (placed.op(index), placed.kernel(index), "; ".join(placed.reasons(index))), [0, 0]
            )
            sums[0] += calls
            sums[1] += time
    is_linked = items.is_own & ((items.op >= 0) | (items.kind != KIND_KERNEL))
    return Coverage(
        kernel_ns=int(groups.time.sum()),
        linked_ns=int(items.duration[is_linked].sum()),
        costed_ns=costed,
        bounded_ns=bounded,
        out_of_window_ns=int(items.duration[~items.is_own].sum()),
        by_source=by_source,
        uncosted=[
            Uncosted(op, kernel, calls, ns, reason)
            for (op, kernel, reason), (calls, ns) in sorted(uncosted.items(), key=lambda entry: -entry[1][1])
        ],
    )


def totals_of(placed: Placed, kernels: Sequence[KernelRow]) -> Totals:
    """Sums over the window; only believed work counts, and None says that there is none."""
    recording = placed.recording
    boundaries = recording.steps.boundaries
    wall_s = float(boundaries[-1] - boundaries[0]) / 1e9
    believed = [
        row for row in kernels if row.cost_source is not None and not {ABOVE_ROOF, BOUND_NOT_TIGHT} & {*row.flags}
    ]
    flops = [row.flops * row.calls for row in believed if row.flops is not None]
    moved = [
        (row.bytes_read + row.bytes_written) * row.calls
        for row in believed
        if row.bytes_read is not None and row.bytes_written is not None
    ]
    items = recording.items
    # A sum of nothing but copies is no statement about the FLOPs of kernels that are not known.
    total = sum(flops) if any(flops) or (kernels and len(believed) == len(kernels)) else None
    return Totals(
        flops=total,
        bytes=sum(moved) if moved else None,
        flops_per_s=total / wall_s if total is not None and wall_s else None,
        mfu=_mfu(placed, wall_s),
        launches=len(distinct(items.call[items.is_own & (items.call >= 0)])),
        kernels=_kernel_count(placed),
        host_lead_ns=host_lead_ns(recording),
        peak_memory_bytes=recording.trace.peak_memory_bytes,
    )


_WORTH_A_NOTE: Final = 0.01


def left_out_of_totals(placed: Placed) -> list[str]:
    """What the FLOPs and with them MFU do not count, where some are known and some are not."""
    unknown = known = 0
    for index, placement in enumerate(placed.placements):
        work, time = placed.work(index), int(placed.groups.time[index])
        if placement.bound == "communication":
            continue
        is_counted = work is not None and work.flops is not None and placement.is_believed
        known += time if is_counted and work is not None and work.total_flops else 0
        unknown += 0 if is_counted else time
    share = unknown / max(1, int(placed.groups.time.sum()))
    if not known or share < _WORTH_A_NOTE:
        return []
    return [
        f"FLOPs, FLOP/s and MFU are lower bounds: they leave out kernels of {format_share(share)} of the kernel time"
    ]


def _kernel_count(placed: Placed) -> int:
    """Kernels, collectives among them; on a CPU the calls of ops that do anything themselves."""
    kinds = (KIND_KERNEL, KIND_COLLECTIVE, KIND_SELF)
    sources = [getattr(placed.work(index), "source", None) for index in range(len(placed.groups))]
    return sum(
        int(calls)
        for calls, kind, source in zip(placed.groups.calls, placed.groups.kind, sources, strict=True)
        if kind in kinds and source != "free"
    )


def _mfu(placed: Placed, wall_s: float) -> float | None:
    """The share of the paid-for peak that is used: time at the datasheet's peak over wall time, over devices.

    Each kernel counts with the unit that it keeps busy longest, against that unit's peak, so that mixed precision adds
    up; units that run beside it add nothing.
    """
    at_peak: list[float] = []
    devices: set[int] = set()
    for index, placement in enumerate(placed.placements):
        device = int(placed.groups.device[index])
        ceilings = placed.hardware.ceilings.get(device)
        unit = None if ceilings is None or placement.math is None else ceilings.get(placement.math)
        if placement.compute_ns is None or unit is None or not unit.datasheet or not placement.is_believed:
            continue
        at_peak.append(placement.compute_ns / 1e9 * unit.achievable / unit.datasheet * int(placed.groups.calls[index]))
        devices.add(device)
    return sum(at_peak) / wall_s / len(devices) if at_peak and wall_s else None
