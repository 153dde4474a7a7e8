"""Transformer Engine's modules: its kernels are launched from Python bindings, so that the module's function is the op.

Where its arguments stand changed over versions. A product's two sides are found as the first two matrices that share
their last size; which of them is the weight changes neither the operations nor the bytes.
"""

from __future__ import annotations

import re
from itertools import combinations
from math import prod
from typing import Final

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import is_floating, known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_NORM: Final = re.compile(r"norm|ln_fwd", re.IGNORECASE)
_CAST: Final = re.compile(r"cast|quantize|transpose", re.IGNORECASE)
_RMS_FLOPS, _LAYER_FLOPS = 4, 8
_WORKERS: Final = ("aten::mm", "aten::addmm", "aten::linear", "aten::matmul", "aten::bmm")
"""What a function of the same name that is not the library's calls."""
_SINGLE_BYTES: Final = ("uint8", "int8")


def _sides(op: Op) -> tuple[TensorMeta, TensorMeta]:
    matrices = [tensor for tensor in op.tensors() if len(tensor.shape) >= 2]
    for a, b in combinations(matrices[:4], 2):
        if a.shape[-1] == b.shape[-1] and a.numel and b.numel:
            return a, b
    raise MissingFactError("the two sides of the product were not recorded")


def _is_short(tensor: TensorMeta) -> bool:
    return known_dtype(tensor) in _SINGLE_BYTES or known_dtype(tensor).startswith("float8")


def _product(a: TensorMeta, b: TensorMeta) -> Work:
    m, n, k = prod(a.shape[:-1]), prod(b.shape[:-1]), a.shape[-1]
    wide = next((known_dtype(tensor) for tensor in (a, b) if not _is_short(tensor)), "bfloat16")
    dtype = "float8_e4m3fn" if _is_short(a) or _is_short(b) else wide
    resource, real = product_resource(dtype)
    return Work(flops_of({resource: 2 * m * n * k * real}), bytes_of(a, b), dense_bytes((m, n), wide))


@cost("_Linear", unless_child=_WORKERS)
def linear(op: Op) -> tuple[Phase, ...]:
    """A linear layer.

    Shapes: x [.., k], weight [n, k], bias [n]? -> [.., n]
    FLOPs: 2 m n k, on float8 where a side is of single bytes, else on the wider dtype
    Bytes: x, weight; the result. Casts to 8 bits are kernels of their own: x and half its bytes again, extra
    Assumes: wide sides were multiplied wide; on 8-bit copies the time may be below the roof, which is then said
    """
    a, b = _sides(op)
    return Phase(_product(a, b)), *(_cast(tensor) for tensor in (a, b))


def _cast(tensor: TensorMeta) -> Phase:
    return Phase(Work((), bytes_of(tensor), tensor.numel), _CAST, is_extra=True)


@cost("_LayerNormLinear", unless_child=_WORKERS)
def norm_linear(op: Op) -> tuple[Phase, ...]:
    """A norm and a linear layer.

    Shapes: x [.., k], weight of the norm [k], its bias [k]?, weight [n, k], bias [n]? -> [.., n]
    FLOPs: the norm 8 an element (RMS 4), the product 2 m n k
    Bytes: the norm: x and its weights read, as much written; the product: that and the weight read, the result written
    """
    x, weight = _sides(op)
    vectors = [t for t in op.tensors() if t.shape == x.shape[-1:] and is_floating(known_dtype(t))]
    per_element = _LAYER_FLOPS if len(vectors) > 1 else _RMS_FLOPS
    counted = operations(known_dtype(x), per_element * x.numel)
    norm = Work(counted, bytes_of(x, *vectors[:2]), dense_bytes(x.shape, known_dtype(x)))
    return Phase(norm, _NORM), Phase(_product(x, weight)), _cast(x), _cast(weight)
