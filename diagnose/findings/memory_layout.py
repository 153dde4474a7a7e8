"""Copies that only change how numbers lie in memory, or their type, and that another order or type would spare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import is_moved, is_worth, moved_bytes, shape_text, tensors_of
from diagnose.items import KIND_COPY, KIND_KERNEL, KIND_SELF
from diagnose.kernel_names import copy_direction, read_name
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints
from diagnose.work import TensorMeta

LAYOUT_GONE: Final = (0.5, 0.8, 1.0)
"""Share of the layout kernels around convolutions that goes: a first layer of 3 channels, and kernels that exist for
one layout only, may keep theirs; at worst half do."""

COPIES_GONE: Final = (0.25, 0.5, 1.0)
"""Share of the copies into another order that goes: each needs its own change, and some order has to be the first."""

CASTS_GONE: Final = (0.5, 0.9, 1.0)
"""Share of the casts of weights that goes: norms and embeddings may have to stay in float32, and are small."""

_WRAPPERS: Final = frozenset(("aten::copy_", "aten::clone", "aten::_to_copy", "aten::to", "aten::type_as"))
_REORDERING: Final = ("aten::contiguous", "aten::reshape", "aten::flatten")
_NARROW: Final = frozenset(("bfloat16", "float16"))


def channels_last(case: Case) -> list[Proposal]:
    """Convolutions run on channels-last tensors; tensors in the other order are turned around every one of them.

    The kernels that do nothing else go, ``LAYOUT_GONE`` of them. Tensors that lie channels-last already do not count.
    """
    groups = case.groups_where(lambda group: read_name(case.placed.kernel(group)).is_layout)
    groups = [group for group in groups if not _is_channels_last(case, group)]
    if case.is_cpu or not groups or not is_worth(case, groups):
        return []
    is_rocm = any("miopen" in case.op_name(group) for group in range(len(case.placed.groups)))
    setting = "export PYTORCH_MIOPEN_SUGGEST_NHWC=1  # MIOpen asks for this\n" if is_rocm else ""
    low, mid, high = _changes(case, groups, LAYOUT_GONE)
    return [
        Proposal(
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            gap_ns=_gap(case, groups, LAYOUT_GONE),
            bound="memory",
            rule="channels-last",
            title="tensors turned to channels-last and back around convolutions",
            evidence={
                "layout_kernels_per_step": case.per_step(case.calls(groups)),
                "layout_ns_per_step": round(case.time_ns(groups) / max(1, len(case.steps))),
                "share_of_kernel_time": round(case.time_ns(groups) / max(1, int(case.placed.groups.time.sum())), 3),
            },
            advice=f"{setting}model = model.to(memory_format=torch.channels_last)\n"
            "x = x.to(memory_format=torch.channels_last)",
            assumes="every layer between the convolutions keeps the order (no view or reshape of NCHW); no memory",
        )
    ]


def _is_channels_last(case: Case, group: int) -> bool:
    tensor = next(iter(tensors_of(case.op(group))), None)
    if tensor is None or tensor.strides is None or len(tensor.shape) < 4:
        return False
    return tensor.shape[1] > 1 and tensor.strides[1] == 1


def reordering_copies(case: Case) -> list[Proposal]:
    """``contiguous()`` and ``reshape()`` that had to copy: same numbers, same type, another order.

    ``COPIES_GONE`` of them go.
    """
    copies = _copies(case)
    same = [group for group, pair in copies.items() if _is_reordered(*pair)]
    above = _called_by(case, same)
    groups = [group for group in same if above.get(group, "") in _REORDERING]
    if not groups or not is_worth(case, groups):
        return []
    largest = max(groups, key=lambda group: int(case.placed.groups.time[group]))
    source = copies[largest][1]
    expanded = [group for group in groups if _is_repeated_heads(copies[group][1])]
    by_expand = case.time_ns(expanded) > 0.5 * case.time_ns(groups)
    low, mid, high = _changes(case, groups, COPIES_GONE)
    return [
        Proposal(
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            gap_ns=_gap(case, groups, COPIES_GONE),
            bound="memory",
            rule="reordering-copies",
            title="copies that only put a tensor into another order",
            evidence={
                "copies_per_step": case.per_step(case.calls(groups)),
                "copy_bytes_per_step": round(_traffic(case, groups) / max(1, len(case.steps))),
                "copy_ns_per_step": round(case.time_ns(groups) / max(1, len(case.steps))),
                "largest_shape": shape_text(source),
                "largest_strides": "x".join(str(stride) for stride in source.strides or ()),
                "called_by": above[largest],
            },
            advice=(
                "out = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)"
                "  # instead of expanding key and value"
                if by_expand
                else "x = x.transpose(1, 2)  # without .contiguous(): matmul, attention and sums read strides\n"
                "x = x.flatten(2)  # view where strides allow it; else let torch.compile write the order that is read"
            ),
            assumes="what reads the copy takes strided tensors as fast, or the op before can write that order",
        )
    ]


def _is_reordered(to: TensorMeta, source: TensorMeta) -> bool:
    if to.strides is None or source.strides is None or (to.dtype, to.shape) != (source.dtype, source.shape):
        return False
    return to.strides != source.strides and (not _repeats(source) or _is_repeated_heads(source))


def _repeats(source: TensorMeta) -> bool:
    pairs = zip(source.shape, source.strides or (), strict=True)
    return any(size > 1 and stride == 0 for size, stride in pairs)


def _is_repeated_heads(source: TensorMeta) -> bool:
    """[batch, heads, repeats, tokens, width] with keys or values repeated for the heads that share them."""
    return len(source.shape) == 5 and (source.strides or ())[2:3] == (0,)


def weight_casts(case: Case) -> list[Proposal]:
    """Weights kept in float32 are cast for every step: keep them in the type that multiplies.

    A cast counts if its tensor is the weight of the op that asked for it. ``CASTS_GONE`` of them go.
    """
    copies = _copies(case)
    narrowed = [group for group, (to, source) in copies.items() if source.dtype == "float32" and to.dtype in _NARROW]
    weights = _weights_above(case, narrowed)
    groups = [group for group in narrowed if copies[group][1].shape in weights.get(group, ())]
    if not groups or not is_worth(case, groups):
        return []
    dtype = copies[groups[0]][0].dtype
    training = "\n# the optimizer then has to keep the float32 copy, as FSDP's MixedPrecisionPolicy does"
    low, mid, high = _changes(case, groups, CASTS_GONE)
    return [
        Proposal(
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            gap_ns=_gap(case, groups, CASTS_GONE),
            bound="memory",
            rule="weight-casts",
            title=f"weights cast from float32 to {dtype} again and again",
            evidence={
                "casts_per_step": case.per_step(case.calls(groups)),
                "cast_bytes_per_step": round(_traffic(case, groups) / max(1, len(case.steps))),
                "cast_ns_per_step": round(case.time_ns(groups) / max(1, len(case.steps))),
            },
            advice=f"model = model.to(torch.{dtype})" + (training if case.is_training else "  # instead of autocast"),
            assumes=f"weights rounded to {dtype}; norms and losses that need float32 are kept there"
            + ("; small updates may be lost without a float32 copy" if case.is_training else ""),
        )
    ]


def _copies(case: Case) -> dict[int, tuple[TensorMeta, TensorMeta]]:
    """Target and source of the groups that copy on the device."""
    found = {}
    for group in case.groups_where(lambda group: case.op_name(group) == "aten::copy_" and is_moved(case, group)):
        op, kind = case.op(group), int(case.placed.groups.kind[group])
        inside = kind == KIND_COPY and copy_direction(case.placed.kernel(group)) == "device_to_device"
        to, source = (None, None) if op is None else (op.tensor_or_none(0), op.tensor_or_none(1))
        if (inside or kind in (KIND_KERNEL, KIND_SELF)) and to is not None and source is not None and to.shape:
            found[group] = (to, source)
    return found


def _called_by(case: Case, groups: Sequence[int]) -> dict[int, str]:
    """Name of the op that asked for the copies of a group: the nearest that is none of copying's own."""
    caller = _caller_of(case)
    ops, strings = case.placed.recording.trace.ops, case.placed.recording.trace.strings
    heads = {group: int(caller[int(case.placed.groups.first[group])]) for group in groups}
    return {group: strings[int(ops.name[row])] for group, row in heads.items() if row >= 0}


def _caller_of(case: Case) -> Ints:
    """Row of the op that asked for each item, -1 for none [n]."""
    trace, op = case.placed.recording.trace, case.placed.recording.items.op
    ids = [name for name in distinct(trace.ops.name).tolist() if trace.strings[name] in _WRAPPERS]
    return taken(skip(trace.ops.parent, ~is_any(trace.ops.name, ids)), op)


def _weights_above(case: Case, groups: Sequence[int]) -> dict[int, set[tuple[int, ...]]]:
    """Shapes of the weights of the ops that asked for the casts of a group."""
    if not groups:
        return {}
    caller, trace = _caller_of(case), case.placed.recording.trace
    wanted: dict[int, set[tuple[int, ...]]] = {}
    for group in groups:
        rows = distinct(caller[np.flatnonzero(case.group_of == group)])
        signatures = distinct(trace.ops.signature[rows[rows >= 0]])
        ops = [trace.signatures[number] for number in signatures.tolist() if number >= 0]
        weights = [op.tensor_or_none(1) for op in ops if op.name.startswith(("aten::linear", "aten::conv"))]
        # What is not linear or a convolution has no argument that is surely a weight: only two-dimensional ones count.
        weights += [op.tensor_or_none(1) for op in ops if op.name in ("aten::matmul", "aten::mm")]
        wanted[group] = {weight.shape for weight in weights if weight is not None and len(weight.shape) >= 2}
    return wanted


def _traffic(case: Case, groups: Sequence[int]) -> int:
    return sum(moved_bytes(case, group) * int(case.placed.groups.calls[group]) for group in groups)


def _changes(case: Case, groups: Sequence[int], shares: Sequence[float]) -> list[Change]:
    """Shares of the time of some groups taken away; their launches go only where all of them do."""
    items = case.items_of(groups)
    return [
        case.gone(groups)
        if share >= 1
        else Change(
            duration=np.where(items, np.rint(case.replayer.duration * (1 - share)), case.replayer.duration).astype(
                np.int64
            )
        )
        for share in shares
    ]


def _gap(case: Case, groups: Sequence[int], shares: Sequence[float]) -> Interval:
    ns = case.time_ns(groups) / max(1, len(case.steps))
    low, mid, high = (round(ns * share) for share in shares)
    return Interval(low, mid, high)
