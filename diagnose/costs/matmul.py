"""Matrix products: 2mnk FLOPs on the tensor unit of the inputs' dtype; epilogues (bias, activation, scaling) apart.

Bytes of every product: each distinct input element once, each output element once; ``self`` of the add- forms is read
unless beta is 0. A beta that was not recorded is taken as its default, 1. Inputs that are one and the same tensor
cannot be told from equal ones by their shapes, and count twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Final

from diagnose.costs.promotion import dtype_argument, known_dtype
from diagnose.costs.registry import Phase, cost, free
from diagnose.costs.traffic import bytes_of, dense_bytes, operations, vector_resource
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

SPLIT_REDUCTION: Final = re.compile(r"split_?k_?reduce|reduce_?split_?k|splitreduce|PostGSU", re.IGNORECASE)
"""cuBLAS', CUTLASS' and Tensile's kernels that add up the slices of a product whose k was cut."""

_BIAS_KERNEL: Final = re.compile(r"epilogue::impl::globalKernel")
_COPY_OR_ACTIVATION: Final = re.compile(r"elementwise_kernel")

free(
    "aten::einsum", "aten::tensordot", "aten::inner", "aten::chain_matmul", "aten::linalg_multi_dot",
    "aten::linalg_matmul", "aten::bilinear", "aten::_trilinear", "aten::linalg_vecdot",
)  # fmt: skip


def product_resource(dtype: str) -> tuple[str, int]:
    """The unit of a matmul-like op on ``dtype``, and the real FLOPs of one counted FLOP.

    A complex multiply-add is four real ones. Wide integers have no tensor unit.
    """
    if dtype.startswith("complex"):
        return {"complex128": "tensor.float64", "complex32": "tensor.float16"}.get(dtype, "tensor.float32"), 4
    if dtype.startswith("float8"):
        return "tensor.float8", 1
    if dtype.startswith("float4"):
        return "tensor.float4", 1
    if dtype in ("int8", "uint8", "qint8", "quint8"):
        return "tensor.int8", 1
    return (f"tensor.{dtype}" if dtype.startswith(("float", "bfloat")) else vector_resource(dtype)), 1


def split_reduction(output_bytes: int) -> Phase:
    """The extra kernel that adds up partial outputs: at least two of them are read. A bound: their number is unknown.

    Args:
        output_bytes: Of the finished output.
    """
    return Phase(Work((), 2 * output_bytes, output_bytes, is_bound=True), SPLIT_REDUCTION, is_extra=True)


def _trailing_output(op: Op, count: int) -> TensorMeta | None:
    """The ``out=`` tensor: recorded as one more input after the ``count`` of the schema."""
    if op.inputs is None or len(op.inputs) <= count:
        return None
    return op.tensor_or_none(-1)


def _phases(
    multiply_adds: int, dtype: str, reads: Sequence[TensorMeta | None], out: tuple[tuple[int, ...], str]
) -> tuple[Phase, ...]:
    resource, real = product_resource(dtype)
    written = dense_bytes(*out)
    work = Work(flops_of({resource: 2 * multiply_adds * real}), bytes_of(*reads), written)
    return Phase(work), split_reduction(written)


def _epilogue(addend: TensorMeta, written: int) -> tuple[Phase, ...]:
    """Kernels that only some calls launch: ``self`` copied into the output first, the bias added afterwards."""
    copied = Work((), bytes_of(addend), written)
    added = Work((), bytes_of(addend) + written, written)
    return Phase(copied, _COPY_OR_ACTIVATION, is_extra=True), Phase(added, _BIAS_KERNEL, is_extra=True)


def _check(condition: bool) -> None:
    if not condition:
        raise ValueError("shapes do not multiply")


def _beta(op: Op, index: int) -> bool:
    """Whether ``self`` is read."""
    try:
        return op.scalar(index, 1) != 0
    except MissingFactError:
        return True


@cost("aten::mm", "aten::_int_mm")
def mm(op: Op) -> tuple[Phase, ...]:
    """Product of two matrices.

    Shapes: a [m, k], b [k, n] -> [m, n]
    FLOPs: 2 m n k
    Bytes: a and b read, the result written (int32 for ``_int_mm``)
    """
    a, b = op.tensor(0), op.tensor(1)
    (m, k), (k2, n) = a.shape, b.shape
    _check(k == k2)
    dtype = "int32" if op.name == "aten::_int_mm" else _out_dtype(op, 2, known_dtype(a))
    return _phases(m * n * k, known_dtype(a), (a, b), ((m, n), dtype))


def _out_dtype(op: Op, index: int, default: str) -> str:
    """The result's dtype: of the ``out=`` tensor, else the one asked for, else that of the inputs."""
    out = _trailing_output(op, index)
    if out is not None:
        return known_dtype(out)
    return dtype_argument(op, index) or default


@cost("aten::bmm")
def bmm(op: Op) -> tuple[Phase, ...]:
    """Products of a batch of matrices.

    Shapes: a [b, m, k], b [b, k, n] -> [b, m, n]
    FLOPs: 2 b m n k
    Bytes: a and b read (an expanded batch once), the result written
    """
    a, b = op.tensor(0), op.tensor(1)
    (batch, m, k), (batch2, k2, n) = a.shape, b.shape
    _check((batch, k) == (batch2, k2))
    return _phases(batch * m * n * k, known_dtype(a), (a, b), ((batch, m, n), _out_dtype(op, 2, known_dtype(a))))


@cost("aten::addmm", "aten::addmm_", "aten::_addmm_activation", "aten::baddbmm", "aten::baddbmm_")
def addmm(op: Op) -> tuple[Phase, ...]:
    """``beta self + alpha a b``, plain or batched.

    Shapes: self broadcast to [..., m, n]; a [..., m, k], b [..., k, n] -> [..., m, n]
    FLOPs: 2 m n k a batch
    Bytes: self (its distinct elements, unless beta is 0), a, b read; the result written
    """
    addend, a, b = op.tensor(0), op.tensor(1), op.tensor(2)
    (*batch, m, k), (*batch2, k2, n) = a.shape, b.shape
    _check(batch == batch2 and k == k2)
    out_dtype, beta_at = known_dtype(a), 3
    if op.overload in ("dtype", "dtype_out") or (op.overload is None and _has_dtype_argument(op)):
        out_dtype, beta_at = dtype_argument(op, 3) or out_dtype, 4
    read = addend if _beta(op, beta_at) else None
    shape = (*batch, m, n)
    return (
        *_phases(prod(shape) * k, known_dtype(a), (read, a, b), (shape, out_dtype)),
        *_epilogue(addend, dense_bytes(shape, out_dtype)),
    )


def _has_dtype_argument(op: Op) -> bool:
    """``addmm.dtype(self, a, b, out_dtype, beta, alpha)`` beside ``addmm(self, a, b, beta, alpha)``."""
    if op.inputs is None or op.name == "aten::_addmm_activation":
        return False
    return len(op.inputs) - (op.tensor_or_none(-1) is not None) == 6


@cost("aten::addbmm", "aten::addbmm_", unless_child=("aten::addmm_", "aten::addmm", "aten::baddbmm"))
def addbmm(op: Op) -> tuple[Phase, ...]:
    """``beta self + alpha sum(a b)`` over the batch.

    Shapes: self broadcast to [m, n]; a [b, m, k], b [b, k, n] -> [m, n]
    FLOPs: 2 b m n k
    Bytes: self (unless beta is 0), a, b read; the result written
    """
    addend, a, b = op.tensor(0), op.tensor(1), op.tensor(2)
    (batch, m, k), (batch2, k2, n) = a.shape, b.shape
    _check((batch, k) == (batch2, k2))
    read = addend if _beta(op, 3) else None
    return _phases(batch * m * n * k, known_dtype(a), (read, a, b), ((m, n), known_dtype(a)))


@cost("aten::mv", unless_child=("aten::addmv_", "aten::addmv"))
def mv(op: Op) -> tuple[Phase, ...]:
    """Matrix times vector.

    Shapes: a [m, k], x [k] -> [m]
    FLOPs: 2 m k
    Bytes: a and x read, the result written
    """
    a, x = op.tensor(0), op.tensor(1)
    (m, k), (k2,) = a.shape, x.shape
    _check(k == k2)
    return _phases(m * k, known_dtype(a), (a, x), ((m,), known_dtype(a)))


@cost("aten::addmv", "aten::addmv_")
def addmv(op: Op) -> tuple[Phase, ...]:
    """``beta self + alpha a x``.

    Shapes: self broadcast to [m]; a [m, k], x [k] -> [m]
    FLOPs: 2 m k
    Bytes: self (unless beta is 0), a, x read; the result written
    """
    addend, a, x = op.tensor(0), op.tensor(1), op.tensor(2)
    (m, k), (k2,) = a.shape, x.shape
    _check(k == k2)
    read = addend if _beta(op, 3) else None
    return _phases(m * k, known_dtype(a), (read, a, x), ((m,), known_dtype(a)))


@cost("aten::dot", "aten::vdot", unless_child=("aten::dot",))
def dot(op: Op) -> tuple[Phase, ...]:
    """Inner product of two vectors.

    Shapes: x [k], y [k] -> []
    FLOPs: 2 k
    Bytes: x and y read, one element written
    """
    x, y = op.tensor(0), op.tensor(1)
    (k,), (k2,) = x.shape, y.shape
    _check(k == k2)
    return _phases(k, known_dtype(x), (x, y), ((), known_dtype(x)))


@cost("aten::outer", "aten::ger", unless_child=("aten::mul", "aten::outer"))
def outer(op: Op) -> Work:
    """Every product of two elements: pointwise arithmetic, no sum.

    Shapes: x [m], y [n] -> [m, n]
    FLOPs: m n on the vector unit
    Bytes: x and y read, the result written
    """
    x, y = op.tensor(0), op.tensor(1)
    (m,), (n,) = x.shape, y.shape
    dtype = known_dtype(x)
    return Work(operations(dtype, m * n), bytes_of(x, y), dense_bytes((m, n), dtype))


@cost("aten::addr", "aten::addr_")
def addr(op: Op) -> Work:
    """``beta self + alpha outer(x, y)``, pointwise.

    Shapes: self broadcast to [m, n]; x [m], y [n] -> [m, n]
    FLOPs: a multiply and an add an element on the vector unit (no add when beta is 0); scaling apart
    Bytes: self (unless beta is 0), x, y read; the result written
    """
    addend, x, y = op.tensor(0), op.tensor(1), op.tensor(2)
    (m,), (n,) = x.shape, y.shape
    reads = _beta(op, 3)
    dtype = known_dtype(x)
    read = bytes_of(x, y, addend if reads else None)
    return Work(operations(dtype, m * n * (1 + reads)), read, dense_bytes((m, n), dtype))


_PRODUCTS: Final = (
    "aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::addmm", "aten::addmm_", "aten::addmv", "aten::addmv_",
    "aten::baddbmm", "aten::baddbmm_", "aten::_addmm_activation", "aten::_scaled_mm", "aten::_int_mm",
    "aten::mkldnn_linear", "mkldnn::_linear_pointwise", "mkl::_mkl_linear",
)  # fmt: skip


@cost("aten::matmul", unless_child=(*_PRODUCTS, "aten::mul"))
def matmul(op: Op) -> tuple[Phase, ...]:
    """``torch.matmul`` where no product below it was recorded.

    Shapes: a [..., m, k], b [..., k, n], batches broadcast; a vector on either side is a matrix of one row or column
    FLOPs: 2 m n k a batch
    Bytes: a and b read (a broadcast side once), the result written
    """
    a, b = op.tensor(0), op.tensor(1)
    _check(bool(a.shape) and bool(b.shape))
    *batch, m, k = a.shape if len(a.shape) > 1 else (1, *a.shape)
    *batch2, k2, n = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    _check(k == k2)
    shape = (*_broadcast(batch, batch2), m, n)
    return _phases(prod(shape) * k, known_dtype(a), (a, b), (shape, known_dtype(a)))


def _broadcast(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    width = max(len(left), len(right))
    pairs = zip((*(1,) * (width - len(left)), *left), (*(1,) * (width - len(right)), *right), strict=True)
    sizes = []
    for one, other in pairs:
        _check(one == other or 1 in (one, other))
        sizes.append(other if one == 1 else one)
    return tuple(sizes)


@cost("aten::linear", "aten::mkldnn_linear", unless_child=(*_PRODUCTS, "aten::matmul"))
def linear(op: Op) -> tuple[Phase, ...]:
    """``x w^T + bias`` where no product below it was recorded.

    Shapes: x [..., k], w [n, k] (or [k]), bias [n] -> [..., n]
    FLOPs: 2 m n k with m rows of x
    Bytes: x, w, bias read; the result written
    """
    return _linear(op.tensor(0), op.tensor(1), (op.tensor_or_none(2),))


@cost("mkldnn::_linear_pointwise")
def mkldnn_linear_pointwise(op: Op) -> tuple[Phase, ...]:
    """The linear layer of oneDNN with a fused epilogue; the binary form (x, other, w, bias) adds a second tensor.

    Shapes: x [..., k], w [n, k], bias [n], other like the result
    FLOPs: 2 m n k
    Bytes: x, w, bias, other read; the result written
    """
    third = op.tensor_or_none(2)
    if op.overload == "binary" or (third is not None and len(third.shape) == 2):
        return _linear(op.tensor(0), op.tensor(2), (op.tensor(1), op.tensor_or_none(3)))
    return _linear(op.tensor(0), op.tensor(1), (third,))


@cost("mkl::_mkl_linear")
def mkl_linear(op: Op) -> tuple[Phase, ...]:
    """MKL's linear layer: the packed weight is opaque, the original one beside it has the shape.

    Shapes: x [..., k], packed, w [n, k], bias [n]
    FLOPs: 2 m n k
    Bytes: x, w, bias read; the result written
    """
    return _linear(op.tensor(0), op.tensor(2), (op.tensor_or_none(3),))


def _linear(x: TensorMeta, weight: TensorMeta, addends: tuple[TensorMeta | None, ...]) -> tuple[Phase, ...]:
    k = weight.shape[-1]
    _check(len(weight.shape) <= 2 and bool(x.shape) and x.shape[-1] == k)
    shape = (*x.shape[:-1], *weight.shape[:-1])
    return _phases(prod(shape) * k, known_dtype(x), (x, weight, *addends), (shape, known_dtype(x)))


@cost("aten::_scaled_mm")
def scaled_mm(op: Op) -> tuple[Phase, ...]:
    """Product of two 8- or 4-bit matrices with scales.

    Shapes: a [m, k], b [k, n], scales, bias [n] -> [m, n] in the dtype asked for (else a's)
    FLOPs: 2 m n k; a 4-bit tensor's last size counts pairs, so k is twice that
    Bytes: a, b, scales, bias read; the result written
    """
    a, b = op.tensor(0), op.tensor(1)
    (m, k), (k2, n) = a.shape, b.shape
    _check(k == k2)
    dtype = known_dtype(a)
    k *= 2 if dtype == "float4_e2m1fn_x2" else 1
    reads = (a, b, op.tensor_or_none(2), op.tensor_or_none(3), op.tensor_or_none(4), op.tensor_or_none(5))
    out = _trailing_output(op, 8)
    out_dtype = known_dtype(out) if out is not None else dtype_argument(op, 6) or dtype
    return _phases(m * n * k, dtype, reads, ((m, n), out_dtype))


@cost("aten::_weight_int8pack_mm", "aten::_weight_int4pack_mm")
def weight_only_mm(op: Op) -> tuple[Phase, ...]:
    """Product with a weight of short integers, widened on the way: the arithmetic is that of the activations.

    Shapes: x [m, k]; int8: w [n, k], scales [n]; int4: packed w, group size, scales and zeros [k / group, n, 2]
    FLOPs: 2 m n k
    Bytes: x, w, scales read; the result written
    """
    x, weight = op.tensor(0), op.tensor(1)
    m, k = x.shape
    scales = op.tensor(2 if op.name == "aten::_weight_int8pack_mm" else 3)
    n = scales.shape[0] if len(scales.shape) == 1 else scales.shape[1]
    return _phases(m * n * k, known_dtype(x), (x, weight, scales), ((m, n), known_dtype(x)))


@cost("aten::_grouped_mm", "aten::_scaled_grouped_mm", unless_child=("aten::mm", "aten::bmm", "aten::_scaled_mm"))
def grouped_mm(op: Op) -> tuple[Phase, ...]:
    """One product a group; ``offs`` says where the groups end along the dimension that only one side has.

    Shapes: a [m, k] x b [g, k, n] (rows in groups), [g, m, k] x [k, n] (columns in groups), [m, k] x [k, n] (k in
        groups -> [g, m, n]), [g, m, k] x [g, k, n]
    FLOPs: 2 m n k over all groups (m, n, or k is their sum)
    Bytes: as if every group were in use and the groups filled the tensors
    Assumes: a bound wherever ``offs`` is given: its values are not recorded
    """
    a, b = op.tensor(0), op.tensor(1)
    scaled = op.name == "aten::_scaled_grouped_mm"
    offs = op.tensor_or_none(4 if scaled else 2)
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    _check(k == k2)
    groups = a.shape[0] if len(a.shape) == 3 else b.shape[0] if len(b.shape) == 3 else _group_count(offs)
    grouped_inside = len(a.shape) != len(b.shape)  # rows or columns are cut into groups: no group sees all of them
    shape = (m, n) if grouped_inside else (groups, m, n)
    repeats = groups if len(a.shape) == len(b.shape) == 3 else 1
    dtype = known_dtype(a)
    out_dtype = dtype_argument(op, 7 if scaled else 4) or ("bfloat16" if scaled else dtype)
    reads = [op.tensor_or_none(index) for index in range(min(len(op.inputs or ()), 7 if scaled else 4))]
    resource, real = product_resource(dtype)
    flops = flops_of({resource: 2 * m * n * k * repeats * real})
    return (Phase(Work(flops, bytes_of(*reads), dense_bytes(shape, out_dtype), is_bound=offs is not None)),)


def _group_count(offs: TensorMeta | None) -> int:
    if offs is None:
        raise MissingFactError("the groups' ends were not recorded")
    return offs.numel
