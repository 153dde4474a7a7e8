"""Padding and its gradients; slices written into a copy of their tensor."""

from __future__ import annotations

from math import prod
from typing import Final

from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, moved, operations
from diagnose.work import Op, Work

_MIRRORS: Final = tuple(f"aten::{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3))


@cost("aten::constant_pad_nd", unless_child=("aten::copy_",))
@cost(*_MIRRORS)
def pad(op: Op) -> Work:
    """Shapes: x, pairs of widths, last dimension first -> x widened (narrowed where negative).

    FLOPs: none.
    Bytes: the input elements kept; output.
    """
    x, widths = op.tensor(0), op.ints(1)
    sizes, kept = list(x.shape), list(x.shape)
    for place in range(len(widths) // 2):
        before, after = widths[2 * place : 2 * place + 2]
        sizes[-1 - place] += before + after
        kept[-1 - place] += min(before, 0) + min(after, 0)
    return moved(bytes_at_most(x, prod(kept)), dense_bytes(tuple(sizes), known_dtype(x)))


@cost(*(f"{name}_backward" for name in _MIRRORS))
def pad_backward(op: Op) -> Work:
    """Shapes: gradient [.., H', W'], x [.., H, W], widths -> x.

    FLOPs: 1 a gradient element (it is added to where it came from).
    Bytes: gradient; output (zeroed by an op of its own).
    """
    gradient, x = op.tensor(0), op.tensor(1)
    flops = operations(known_dtype(gradient), gradient.numel)
    return Work(flops, bytes_of(gradient), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::slice_scatter", "aten::select_scatter", "aten::as_strided_scatter", "aten::diagonal_scatter",
      unless_child=("aten::copy_", "aten::clone"))  # fmt: skip
def view_scatter(op: Op) -> Work:
    """Shapes: x, source, where -> x with the source in it.

    FLOPs: none.
    Bytes: both; output. Where a copy is recorded below, it has the work.
    """
    x, source = op.tensor(0), op.tensor(1)
    return moved(bytes_of(x, source), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::unfold_backward")
def unfold_backward(op: Op) -> Work:
    """Shapes: gradient [.., windows, .., size], sizes of x, dim, size, step -> x.

    FLOPs: 1 a gradient element.
    Bytes: gradient; output.
    """
    gradient, shape = op.tensor(0), op.ints(1)
    dtype = known_dtype(gradient)
    return Work(operations(dtype, gradient.numel), bytes_of(gradient), dense_bytes(shape, dtype))
