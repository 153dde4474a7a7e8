"""Inductor's template kernels: products and convolutions found again in the sizes of their buffers.

A template is given buffers, not views: a weight may lie there transposed and an activation with its batch unfolded, so
that sizes are told from the numbers of elements. A [m, k], B [k, n] and C [m, n] have A B / C = k^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import isqrt, prod
from typing import Final

from msgspec import Struct

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.traffic import vector_resource
from diagnose.costs.triton_names import PARTS, PRODUCTS, KernelName
from diagnose.work import TensorMeta, flops_of

_BATCHED: Final = frozenset({"bmm", "baddbmm"})
_CONVOLUTION: Final = frozenset({"convolution"})


class Template(Struct, frozen=True):
    """What a template kernel computes.

    Attributes:
        flops: As ``Work.flops``, None where the sizes do not tell.
        is_in_place: The result takes the place of the first buffer, which is read too.
    """

    flops: tuple[tuple[str, int], ...] | None
    is_in_place: bool = False


def read_template(name: KernelName, pointers: tuple[TensorMeta, ...], estimate: str | float | None) -> Template:
    """FLOPs of the product on the tensor unit and of its epilogue on the others.

    Args:
        name: Of the kernel.
        pointers: Its buffers; the result stands last, or first where it takes the place of an input.
        estimate: FLOPs of the product as Inductor counted them, for when the sizes do not tell.
    """
    if name.ops is None or not name.has(PRODUCTS) or len(pointers) < 3:
        return Template(None)
    found = next(_candidates(name, pointers), None)
    if found is None:
        left = next((pointer for pointer in pointers if len(pointer.shape) > 1), pointers[0])
        flops = round(estimate) if isinstance(estimate, (int, float)) else None
        return Template(None if flops is None else _with_epilogue(flops, left, pointers[-1], name.ops))
    flops, left, is_first = found
    out = pointers[0] if is_first else pointers[-1]
    return Template(_with_epilogue(flops, left, out, name.ops), is_first)


def _with_epilogue(flops: int, left: TensorMeta, out: TensorMeta, ops: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    resource, real = product_resource(known_dtype(left))
    vector = vector_resource(known_dtype(out))
    counts = {resource: flops * real}
    counts[vector] = counts.get(vector, 0) + sum(PARTS[op].flops for op in ops) * out.numel
    counts["special"] = sum(PARTS[op].special for op in ops) * out.numel
    return flops_of(counts)


def _candidates(name: KernelName, pointers: tuple[TensorMeta, ...]) -> Iterator[tuple[int, TensorMeta, bool]]:
    """(FLOPs, left operand, whether the result stands first) of neighbours that give the result, likely ones first."""
    for is_strict in (True, False):
        for is_first in (False, True):
            out, inputs = (pointers[0], pointers[1:]) if is_first else (pointers[-1], pointers[:-1])
            found = [_flops(name, left, right, out, is_strict) for left, right in pairwise(inputs)]
            for place, flops in enumerate(found):
                if flops is None:
                    continue
                second = found[place + 2] if place + 2 < len(found) else None
                is_sum_of_products = name.ops == ("add", "mm") and second is not None
                yield flops + (second or 0 if is_sum_of_products else 0), inputs[place], is_first


def _flops(name: KernelName, left: TensorMeta, right: TensorMeta, out: TensorMeta, is_strict: bool) -> int | None:
    if name.has(_CONVOLUTION):
        return _convolution(left, right, out)
    return _product(left, right, out, prod(out.shape[:-2]) if name.has(_BATCHED) else 1, is_strict)


def _product(a: TensorMeta, b: TensorMeta, out: TensorMeta, batch: int, is_strict: bool) -> int | None:
    """2 m n k, where the three are the sides of ``batch`` products; strictly so if their last sizes say it too."""
    if not all((a.numel, b.numel, out.numel)) or any(tensor.numel % batch for tensor in (a, b, out)):
        return None
    left, right, result = (tensor.numel // batch for tensor in (a, b, out))
    k = isqrt(left * right // result)
    m, n = left // k if k else 0, right // k if k else 0
    if (m * k, k * n, m * n) != (left, right, result) or not (_has_side(a, k) and _has_side(b, k)):
        return None
    if is_strict and not (a.shape[-1:] == (k,) and out.shape[-1:] == (n,)):
        return None
    return 2 * batch * m * n * k


def _has_side(tensor: TensorMeta, size: int) -> bool:
    """Whether one of the tensor's sizes, or several neighbours from an end, come to ``size``."""
    shape = tensor.shape
    return size in shape or any(size in (prod(shape[cut:]), prod(shape[:cut])) for cut in range(len(shape) + 1))


def _convolution(x: TensorMeta, weight: TensorMeta, out: TensorMeta) -> int | None:
    """A multiply-add for each element of the result and of one channel's window."""
    if len(x.shape) < 3 or not len(x.shape) == len(weight.shape) == len(out.shape):
        return None
    (batch, channels), (filters, depth), (batch2, filters2) = x.shape[:2], weight.shape[:2], out.shape[:2]
    if batch != batch2 or filters != filters2 or not depth or channels % depth:
        return None
    return 2 * out.numel * prod(weight.shape[1:])
