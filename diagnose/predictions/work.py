"""The work of a kernel if the batch or the dtype were another: what grows with the batch, and what the dtype halves."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.costs.registry import formula_of
from diagnose.findings.case import Case
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, KIND_SET
from diagnose.kernel_names import copy_direction, read_name
from diagnose.wall.phases import BACKWARD, OPTIMIZER
from diagnose.work import ITEMSIZE, Op, TensorMeta, Work, flops_of

NARROW: Final = frozenset(("float8", "float4", "int8"))
"""Types that only matrix products take; what lies between them stays as it is."""

ITEM_BYTES: Final = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8": 1.0, "int8": 1.0, "float4": 0.5}
"""Target types of a prediction, and the bytes of one number."""

_WEIGHT_AT: Final = {
    "aten::mm": 1, "aten::addmm": 2, "aten::linear": 1, "aten::_scaled_mm": 1, "aten::_int_mm": 1,
    "aten::addmv": 1, "aten::mv": 0, "aten::mkldnn_linear": 1, "mkl::_mkl_linear": 1, "aten::_addmm_activation": 2,
    "aten::convolution_backward": 2,
}  # fmt: skip
"""Index of the argument that is a weight, in the matmul family and beside the convolutions."""
_CONVOLUTION: Final = re.compile(r"conv")
_OF_PARAMETERS: Final = re.compile(r"AccumulateGrad|distributed::reducer|ddp\.reducer|_foreach_|_fused_|clip_grad")
"""Ops on parameters and their gradients, whose size no batch changes."""

_FAMILY_OF_ROOM: Final = {
    "activation": "pointwise", "attention_backward": "attention", "scaled_matmul": "matmul", "batch_norm":
    "normalization", "adaptive_pooling": "pooling", "embedding_bag": "indexing", "composition": "pointwise",
    "flex_attention": "attention", "filling": "copy", "triton": "generated",
}  # fmt: skip


def family_of(case: Case, group: int) -> str:
    """The family of a group's kernels: the room of its op's formula, else what its kernel's name says."""
    kind, kernel = int(case.placed.groups.kind[group]), case.placed.kernel(group)
    if kind == KIND_COLLECTIVE:
        return "collective"
    if kind in (KIND_COPY, KIND_SET):
        is_host = copy_direction(kernel) in ("host_to_device", "device_to_host")
        return "host copy" if is_host else "copy"
    formula = formula_of(case.op_name(group))
    if formula is not None:
        room = formula.__module__.rpartition(".")[2].removeprefix("custom_")
        return _FAMILY_OF_ROOM.get(room, room)
    if kernel.startswith("triton_"):
        return "generated"
    return "matmul" if read_name(kernel).is_gemm else "other"


def of_parameters(case: Case) -> NDArray[np.bool_]:
    """Groups that work on parameters, gradients or optimizer states: the batch does not change them [g]."""
    inside = case.items_under(lambda name: _OF_PARAMETERS.search(name) is not None)
    inside |= case.phases.phase == OPTIMIZER
    count = len(case.placed.groups)
    chosen, all_items = (
        np.bincount(case.group_of[mask & (case.group_of >= 0)], minlength=count)
        for mask in (inside, np.ones_like(inside))
    )
    found: NDArray[np.bool_] = 2 * chosen > all_items
    return found | (np.asarray(case.placed.groups.kind == KIND_COLLECTIVE) & case.is_training)


def with_batch(case: Case, group: int, work: Work, factor: float) -> Work:
    """The work of one call with so many times the batch: weights, and their gradients, move as before."""
    moved = work.bytes_accessed
    fixed = 0 if moved is None else min(moved, _weight_bytes(case, group))
    grown = None if moved is None else round(fixed + factor * (moved - fixed))
    flops = None if work.flops is None else flops_of({unit: round(factor * count) for unit, count in work.flops})
    return replace(work, flops=flops, bytes_read=grown, bytes_written=None if grown is None else 0)


def with_dtype(case: Case, group: int, work: Work, dtype: str) -> Work:
    """The work of one call if its floating-point tensors were of ``dtype``; as it is where they are no wider."""
    op = case.op(group)
    source = None if op is None else _floating(op)
    if source is None or ITEMSIZE[source] <= ITEM_BYTES[dtype] or work.bytes_read is None:
        return work
    share = ITEM_BYTES[dtype] / ITEMSIZE[source]
    units = {unit for unit, _ in work.flops or ()}
    multiplies = any(unit.startswith("tensor.") for unit in units)
    if dtype in NARROW and not multiplies:
        return work
    renamed: dict[str, int] = {}
    for unit, count in work.flops or ():
        kind, _, _ = unit.partition(".")
        is_kept = kind == "special" or (dtype in NARROW and kind != "tensor")
        target = unit if is_kept else f"{kind}.{dtype}"
        renamed[target] = renamed.get(target, 0) + count
    written = work.bytes_written or 0
    return replace(
        work,
        flops=None if work.flops is None else flops_of(renamed),
        bytes_read=round(share * work.bytes_read),
        bytes_written=written if dtype in NARROW else round(share * written),
    )


def multiplies_anything(case: Case) -> bool:
    """Whether any kernel's known work is that of matrix products."""
    works = (case.work(group) for group in range(len(case.placed.groups)))
    return any(unit.startswith("tensor.") for work in works if work is not None for unit, _ in work.flops or ())


def _floating(op: Op) -> str | None:
    """Dtype of the widest floating-point tensor among an op's arguments."""
    values = [value.dtype for value in op.inputs or () if isinstance(value, TensorMeta) and value.dtype is not None]
    floating = [dtype for dtype in values if "float" in dtype]
    return max(floating, key=lambda dtype: ITEMSIZE[dtype], default=None)


def _weight_bytes(case: Case, group: int) -> int:
    """Bytes of a call's traffic that are weights, or the gradient of one."""
    op = case.op(group)
    if op is None or op.inputs is None:
        return 0
    at = _WEIGHT_AT.get(op.name, 1 if _CONVOLUTION.search(op.name) else None)
    if at is None:
        return 0
    weight = op.tensor_or_none(at)
    if op.name == "aten::mm" and _is_weight_gradient(case, group, op):
        rows, columns = op.tensor(0), op.tensor(1)
        return rows.shape[0] * columns.shape[-1] * (rows.itemsize or 0)
    return 0 if weight is None else weight.distinct_numel * (weight.itemsize or 0)


def _is_weight_gradient(case: Case, group: int, op: Op) -> bool:
    """In the backward pass a product whose first matrix is transposed sums over the batch."""
    first = op.tensor_or_none(0)
    phase = int(case.phases.phase[int(case.placed.groups.first[group])])
    strides = None if first is None else first.strides
    is_transposed = strides is not None and len(strides) == 2 and strides[0] == 1 and strides[1] > 1
    second = op.tensor_or_none(1)
    return phase == BACKWARD and is_transposed and second is not None and len(second.shape) == 2
