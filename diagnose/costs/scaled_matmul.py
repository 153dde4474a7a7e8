"""Products of 8- and 4-bit matrices whose scales come as lists: the second version of torch's scaled products."""

from __future__ import annotations

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import dtype_argument, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of


def _scales(op: Op, indices: tuple[int, int]) -> int:
    """Bytes of the listed scales; one of unknown dtype is taken as float32, which they mostly are (8-bit at least)."""
    size = 0
    for index in indices:
        for scale in op.tensor_list(index):
            size += dense_bytes(scale.shape, scale.dtype or "float32")
    return size


def _inner(a: TensorMeta) -> int:
    """The summed dimension: a 4-bit tensor's last size counts pairs."""
    return a.shape[-1] * (2 if a.dtype == "float4_e2m1fn_x2" else 1)


@cost("aten::_scaled_mm_v2")
def scaled_mm(op: Op) -> Work:
    """Shapes: a [m, k], b [k, n], scales and how they lie (2 to 7), bias?, dtype -> [m, n].

    FLOPs: 2 m n k on the inputs' dtype; scaling apart.
    Bytes: a, b, scales, bias; output.
    """
    a, b = op.tensor(0), op.tensor(1)
    (m, k), (k2, n) = a.shape, b.shape
    if k != k2:
        raise ValueError("shapes do not multiply")
    resource, real = product_resource(known_dtype(a))
    read = bytes_of(a, b, op.tensor_or_none(8)) + _scales(op, (2, 5))
    flops = flops_of({resource: 2 * m * n * _inner(a) * real})
    return Work(flops, read, dense_bytes((m, n), dtype_argument(op, 9) or known_dtype(a)))


@cost("aten::_scaled_grouped_mm_v2")
def scaled_grouped_mm(op: Op) -> Work:
    """Shapes: a [m, k] or [g, m, k], b [g, k, n] or [k, n], scales (2 to 7), ends of groups?, bias?, dtype.

    FLOPs: 2 m n k over all groups.
    Bytes: as if every group were in use and the groups filled the tensors: a bound where their ends are given.
    """
    a, b, ends = op.tensor(0), op.tensor(1), op.tensor_or_none(8)
    (m, _), n = a.shape[-2:], b.shape[-1]
    is_paired = len(a.shape) == len(b.shape)
    groups = a.shape[0] if len(a.shape) == 3 else None
    if is_paired and groups is None:
        if ends is None:
            raise MissingFactError("the groups' ends were not recorded")
        groups, repeats = ends.numel, 1
    else:
        repeats = groups if is_paired and groups is not None else 1
    shape = (groups, m, n) if is_paired and groups is not None else (m, n)
    resource, real = product_resource(known_dtype(a))
    flops = flops_of({resource: 2 * m * n * _inner(a) * repeats * real})
    read = bytes_of(a, b, ends, op.tensor_or_none(9)) + _scales(op, (2, 5))
    written = dense_bytes(shape, dtype_argument(op, 10) or "bfloat16")
    return Work(flops, read, written, is_bound=ends is not None)
