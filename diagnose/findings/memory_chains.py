"""Kernels that only pass numbers on to the next: what one kernel writes the next one reads."""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.costs.pointwise import BINARY, TERNARY, UNARY
from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import (
    Ordered,
    does_move,
    in_launch_order,
    is_moved,
    joined,
    rates,
    tensors_of,
)
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.phases import OPTIMIZER
from diagnose.work import SPECIAL, Op, TensorMeta

WRITTEN: Final = (1.0, 0.5, 0.0)
"""Share of the intermediate results that a fused kernel still writes, at worst, probably, at best.

At worst every one is needed elsewhere too (a residual stream, what backward has saved): then only its reading goes. At
best none is. Compilers recompute what is cheap, so half.
"""

_REDUCTIONS: Final = frozenset(("mean", "sum", "amax", "amin", "var", "var_mean", "std", "linalg_vector_norm"))
_NORMS: Final = frozenset((
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm", "_fused_rms_norm",
    "_fused_rms_norm_backward", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm",
    "_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data",
))  # fmt: skip
_OTHERS: Final = frozenset((
    "add", "sub", "rsub", "div", "pow", "addcmul", "addcdiv", "gelu", "gelu_backward", "glu", "elu_backward", "copy",
    "native_dropout", "cat",
))  # fmt: skip
_FUSIBLE: Final = frozenset((*UNARY, *BINARY, *TERNARY)) | _REDUCTIONS | _NORMS | _OTHERS
"""What a compiler puts into one kernel, by name without namespace and in-place underscore."""

_RMS: Final = ("pow", "mean", "add", "rsqrt", "mul")
"""An RMS norm written out."""


MOST_NAMES: Final = 12
"""Ops of the largest run that are named."""


class Chains(Struct, frozen=True):
    """Runs of kernels, each of which reads what the one before it wrote; a column has one entry a kernel of a run.

    Attributes:
        place: Where it stands in launch order [k].
        run: Number of its run, from 0 [k].
        is_first: Whether its run begins with it [k].
        passed_on: Bytes that the next kernel of the run reads of what it writes, 0 for the last [k].
        received: Bytes that it reads of what the one before it wrote [k].
    """

    place: Ints
    run: Ints
    is_first: NDArray[np.bool_]
    passed_on: NDArray[np.float64]
    received: NDArray[np.float64]


def pointwise_chains(case: Case) -> list[Proposal]:
    """One kernel for a run of pointwise, norm, cast and reduction kernels: intermediates stay in registers.

    ``WRITTEN`` says what of the intermediates is still written, ``_saved`` what the bytes that go are worth; of the
    kernel floors one a run stays. Low: the launches stay. Mid: they go, and half of what the host spends in their ops.
    High: all of it. Whether neighbours really hand their numbers on is read from sizes, not from addresses, which no
    recording has.
    """
    ordered = in_launch_order(case)
    chains = _chains(case, ordered)
    if chains is None:
        return []
    groups = ordered.group[chains.place]
    total = np.array([_bytes(case, group) for group in range(len(case.placed.groups))], np.float64)[groups]
    items, head = ordered.item[chains.place], np.flatnonzero(chains.is_first)
    duration = case.replayer.duration.astype(np.float64)
    gone = np.zeros(len(duration), np.bool_)
    gone[items[~chains.is_first]] = True
    columns = _durations(case, chains, groups, items)
    less = [int(duration[items].sum() - column[items[head]].sum()) // max(1, len(case.steps)) for column in columns]
    low, mid, high = _changes(case, columns, gone)
    claimed = sorted(set(groups.tolist()))
    pattern, times = _largest(ordered, chains, duration[items])
    return [
        Proposal(
            rule="pointwise-chain",
            bound="memory",
            title="runs of small ops that a compiler makes one kernel of",
            evidence={
                "kernels_per_step": case.per_step(len(items)),
                "kernels_per_step_fused": case.per_step(len(head)),
                "time_ns_per_step": round(float(duration[items].sum()) / max(1, len(case.steps))),
                "bytes_per_step": round(float(total.sum()) / max(1, len(case.steps))),
                "intermediate_bytes_per_step": round(float(chains.passed_on.sum()) / max(1, len(case.steps))),
                "largest_run": _spelled(case, pattern),
                "largest_run_per_step": case.per_step(times),
            },
            where=case.where(_dominant(claimed, groups, duration[items])),
            cells=[*case.cells(claimed), Cell(None, "idle_launch"), Cell(None, "idle_slot")],
            low=low,
            mid=mid,
            high=high,
            gap_ns=Interval(*less),
            advice=_advice(case, pattern),
            assumes="shapes stay the same from step to step; the first steps compile; results differ by rounding",
        )
    ]


def _durations(case: Case, chains: Chains, groups: Ints, items: Ints) -> list[NDArray[np.float64]]:
    """All durations with each run's time on its first kernel and nothing on the others: worst, probable, best."""
    duration, head = case.replayer.duration.astype(np.float64), np.flatnonzero(chains.is_first)
    count = range(len(case.placed.groups))
    floor = np.minimum(np.array([rates(case, group)[1] for group in count])[groups], duration[items])
    column_of = np.array([_bound_by(case, group) for group in count], np.float64)[groups]
    total = np.array([_bytes(case, group) for group in count], np.float64)[groups]
    columns = []
    for kind, share in enumerate(WRITTEN):
        vanished = np.minimum(chains.received + (1.0 - share) * chains.passed_on, total)
        saved = _saved(kind, vanished, (duration[items] - floor) / np.maximum(total, 1.0), column_of)
        column = duration.copy()
        column[items] = 0.0
        column[items[head]] = floor[head] + np.add.reduceat(duration[items] - floor - saved, head)
        columns.append(column)
    return columns


def _bound_by(case: Case, group: int) -> tuple[float, float]:
    """Nanoseconds a byte at the device's bandwidth (0: unknown), and whether the arithmetic is what takes the time."""
    dram, work = rates(case, group)[0], case.work(group)
    units = () if work is None else (work.flops or ())
    return 1e9 / dram if dram else 0.0, float(case.is_cpu and any(unit == SPECIAL for unit, _ in units))


def _saved(
    kind: int, vanished: NDArray[np.float64], now: NDArray[np.float64], bound: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What bytes that no kernel moves any more are worth, ns.

    At worst what they take at the device's full bandwidth, since what a kernel loses beyond that may stay; else at the
    bandwidth that it reaches now. A CPU's exp, tanh or erf takes its time in arithmetic, which stays: at best the
    traffic's time at full bandwidth goes.

    Args:
        kind: 0 worst, 1 probable, 2 best.
        vanished: Bytes.
        now: ns a byte as recorded.
        bound: As ``_bound_by`` says [k, 2].
    """
    full, is_arithmetic = vanished * np.minimum(bound[:, 0], now), bound[:, 1] > 0
    return np.where(is_arithmetic, full if kind == 2 else 0.0, full if kind == 0 else vanished * now)


def _changes(case: Case, columns: list[NDArray[np.float64]], gone: NDArray[np.bool_]) -> list[Change]:
    """At worst the step gains no launches; a CPU's ops are its items, and have gone already."""
    nothing = np.zeros_like(gone)
    low, mid, high = (joined(column, gone if index else nothing) for index, column in enumerate(columns))
    if case.is_cpu:
        return [low, mid, high]
    op = case.placed.recording.items.op[gone]
    ops = distinct(op[op >= 0])
    host = case.replayer.host_without
    return [low, replace(mid, host=host(ops=ops, keep=0.5)), replace(high, host=host(ops=ops))]


def _bytes(case: Case, group: int) -> int:
    work = case.work(group)
    return 0 if work is None or work.bytes_accessed is None else work.bytes_accessed


def _chains(case: Case, ordered: Ordered) -> Chains | None:
    """Runs of two kernels and more, None where there are none."""
    count = len(case.placed.groups)
    can = np.array([_is_fusible(case, group) for group in range(count)], np.bool_)
    if len(ordered.item) < 2 or not can.any():
        return None
    op, phase = case.placed.recording.items.op[ordered.item], case.phases.phase[ordered.item]
    here = can[ordered.group] & (phase != OPTIMIZER) & ~_is_inside_another(case)[ordered.item]
    step = case.placed.recording.items.step[ordered.item]
    near = here[1:] & here[:-1] & (np.diff(ordered.lane) == 0) & (np.diff(op) != 0) & (np.diff(step) == 0)
    code = ordered.group[:-1] * count + ordered.group[1:]
    pairs, inverse = np.unique(code[near], return_inverse=True)
    passed = np.array([_passed(case, *divmod(pair, count)) for pair in pairs.tolist()], np.float64)
    handed = np.zeros(len(ordered.item) - 1)
    handed[near] = passed[inverse.reshape(-1)] if len(pairs) else 0.0
    out, into = np.append(handed, 0.0), np.concatenate([[0.0], handed])
    place = np.flatnonzero((out > 0) | (into > 0))
    if not len(place):
        return None
    is_first = into[place] == 0
    return Chains(place, np.cumsum(is_first) - 1, is_first, out[place], into[place])


def _is_inside_another(case: Case) -> NDArray[np.bool_]:
    """On a CPU: ops below an op that computes too (a product copies its bias first); their order tells nothing [n]."""
    items, parent = case.placed.recording.items, case.placed.recording.trace.ops.parent
    inside = np.zeros(len(items.op), np.bool_)
    if case.is_cpu and len(parent):
        works = np.zeros(len(parent), np.bool_)
        works[items.op[does_move(case) & (items.op >= 0)]] = True
        inside = (items.op >= 0) & (skip(parent, works) >= 0)[np.maximum(items.op, 0)]
    return inside


def _is_fusible(case: Case, group: int) -> bool:
    if not case.is_kernel[group] or not is_moved(case, group):
        return False
    name = case.op_name(group)
    return name.startswith("aten::") and name.removeprefix("aten::").rstrip("_") in _FUSIBLE


def _passed(case: Case, group: int, following: int) -> float:
    """Bytes that a kernel reads of what the one before it wrote, as their sizes tell; 0 for none."""
    written = _written(case, group)
    op, work, reader = case.op(following), case.work(group), case.work(following)
    if written is None or op is None or work is None or reader is None:
        return 0.0
    read = tensors_of(op)
    # The target of a copy is written, not read.
    read = read[1:] if op.name == "aten::copy_" else read
    fitting = [tensor for tensor in read if tensor.numel == written]
    if not fitting or _is_another(case.op(group), fitting):
        return 0.0
    return float(min(work.bytes_written or 0, reader.bytes_read or 0))


def _is_another(writer: Op | None, read: list[TensorMeta]) -> bool:
    """Whether a copy's result lies in memory otherwise than each of the tensors of its shape that are read."""
    to = None if writer is None or writer.name != "aten::copy_" else writer.tensor_or_none(0)
    if to is None or to.strides is None:
        return False
    alike = [tensor for tensor in read if tensor.shape == to.shape and tensor.strides is not None]
    return len(alike) == len(read) and all(tensor.strides != to.strides for tensor in alike)


def _written(case: Case, group: int) -> int | None:
    """How many numbers a kernel's result has."""
    op, work = case.op(group), case.work(group)
    tensors = tensors_of(op)
    if op is None or work is None or not tensors:
        return None
    name = op.name.removeprefix("aten::").rstrip("_")
    if name == "cat":
        return sum(tensor.numel for tensor in tensors)
    if name == "copy" or name in _NORMS:
        return tensors[0].numel
    if name in _REDUCTIONS:
        itemsize = tensors[0].itemsize
        return None if not itemsize or work.bytes_written is None else work.bytes_written // itemsize
    return _broadcast(tensors)


def _broadcast(tensors: list[TensorMeta]) -> int:
    rank = max(len(tensor.shape) for tensor in tensors)
    padded = [(1,) * (rank - len(tensor.shape)) + tensor.shape for tensor in tensors]
    return prod(max(sizes) for sizes in zip(*padded, strict=True))


def _dominant(claimed: list[int], groups: Ints, duration: NDArray[np.float64]) -> list[int]:
    """The groups with the most time: asking for the places of all costs more than it tells."""
    time = np.bincount(groups, duration)
    return sorted(claimed, key=lambda group: -float(time[group]))[:8]


def _largest(ordered: Ordered, chains: Chains, duration: NDArray[np.float64]) -> tuple[list[int], int]:
    """The kind of run with the most time, as groups, and how often it occurs in the window."""
    head = np.flatnonzero(chains.is_first)
    group = ordered.group[chains.place]
    time = np.add.reduceat(duration, head)
    kinds: dict[tuple[int, ...], list[float]] = {}
    ends = np.append(head[1:], len(group))
    for index, (low, high) in enumerate(zip(head.tolist(), ends.tolist(), strict=True)):
        kinds.setdefault(tuple(group[low:high].tolist()), []).append(float(time[index]))
    best = max(kinds, key=lambda kind: sum(kinds[kind]))
    return list(best), len(kinds[best])


def _spelled(case: Case, pattern: list[int]) -> str:
    names = [case.op_name(group).removeprefix("aten::") for group in pattern]
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")


def _advice(case: Case, pattern: list[int]) -> str:
    names = [case.op_name(group).removeprefix("aten::") for group in pattern]
    steps = iter(names)
    norm = (
        "x = torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, eps)  # the norm in one kernel\n"
        if all(wanted in steps for wanted in _RMS)
        else ""
    )
    is_compiled = any(
        case.op_name(group).startswith(("triton_", "Torch-Compiled")) for group in range(len(case.placed.groups))
    )
    if is_compiled:
        return norm + "TORCH_LOGS=graph_breaks,recompiles python script.py  # says what kept these ops out of the graph"
    return norm + "model = torch.compile(model)"
