"""Pooling to a size that is asked for, fractional pooling, and pooling undone."""

from __future__ import annotations

from math import gcd, prod

from diagnose.costs.pooling import spatial_rank
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, operations
from diagnose.work import Op, TensorMeta, Work


def _pairs(size: int, outputs: int) -> int:
    """Input elements over all windows of one dimension; window i spans floor(i n / m) to ceil((i + 1) n / m).

    Neighbours share an element where a window ends inside one: at all inner ends but those that n and m have in common.
    """
    if outputs < 0:
        raise ValueError("a negative size")
    return size + outputs - gcd(size, outputs)


def _pooled(op: Op, x: TensorMeta, outputs: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    rank = spatial_rank(op)
    outputs = outputs * rank if len(outputs) == 1 else outputs
    pairs = prod(_pairs(*sizes) for sizes in zip(x.shape[-rank:], outputs, strict=True))
    return (*x.shape[:-rank], *outputs), prod(x.shape[:-rank]) * pairs


@cost("aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d", "aten::mkldnn_adaptive_avg_pool2d",
      unless_child=("aten::mean",))  # fmt: skip
def adaptive_avg_pool(op: Op) -> Work:
    """Shapes: x [.., H, W], (H', W') -> [.., H', W'].

    FLOPs: 1 a pair of output and input in its window, 1 an output.
    Bytes: input, output.
    """
    x = op.tensor(0)
    shape, pairs = _pooled(op, x, op.ints(1))
    return Work(operations(known_dtype(x), pairs + prod(shape)), bytes_of(x), dense_bytes(shape, known_dtype(x)))


@cost("aten::_adaptive_avg_pool2d_backward", "aten::_adaptive_avg_pool3d_backward",
      "aten::mkldnn_adaptive_avg_pool2d_backward")  # fmt: skip
@cost("aten::adaptive_avg_pool3d_backward", unless_child=("aten::_adaptive_avg_pool3d_backward",))
def adaptive_avg_pool_backward(op: Op) -> Work:
    """Shapes: gradient [.., H', W'], x [.., H, W] -> x.

    FLOPs: 1 a pair of output and input in its window, 1 a gradient element.
    Bytes: gradient; output.
    """
    gradient, x = op.tensor(0), op.tensor(1)
    _, pairs = _pooled(op, x, gradient.shape[-spatial_rank(op) :])
    flops = operations(known_dtype(x), pairs + gradient.numel)
    return Work(flops, bytes_of(gradient), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::adaptive_max_pool2d", "aten::adaptive_max_pool3d")
def adaptive_max_pool(op: Op) -> Work:
    """Shapes: x [.., H, W], (H', W') -> [.., H', W'] and its indices.

    FLOPs: 1 a pair of output and input in its window.
    Bytes: input; output, and int64 indices.
    """
    x = op.tensor(0)
    shape, pairs = _pooled(op, x, op.ints(1))
    written = dense_bytes(shape, known_dtype(x)) + dense_bytes(shape, "int64")
    return Work(operations(known_dtype(x), pairs), bytes_of(x), written)


@cost("aten::fractional_max_pool2d", "aten::fractional_max_pool3d")
def fractional_max_pool(op: Op) -> Work:
    """Shapes: x [.., H, W], kernel, (H', W'), samples -> [.., H', W'] and its indices; windows begin at random.

    FLOPs: 1 an element of every window.
    Bytes: at most what the windows hold of the input, samples; output, and int64 indices.
    """
    x, kernel, outputs = op.tensor(0), op.ints(1), op.ints(2)
    shape = (*x.shape[: -spatial_rank(op)], *outputs)
    pairs = prod(shape) * prod(kernel)
    written = dense_bytes(shape, known_dtype(x)) + dense_bytes(shape, "int64")
    return Work(operations(known_dtype(x), pairs), bytes_at_most(x, pairs) + bytes_of(op.tensor(3)), written)


# Where the indices stand among the arguments.
_INDICES = {"adaptive": 2, "fractional": 4}


@cost("aten::adaptive_max_pool2d_backward", "aten::adaptive_max_pool3d_backward",
      "aten::fractional_max_pool2d_backward", "aten::fractional_max_pool3d_backward")  # fmt: skip
def max_pool_backward(op: Op) -> Work:
    """Shapes: gradient [.., H', W'], x [.., H, W], ..., indices -> x.

    FLOPs: 1 a gradient element.
    Bytes: gradient, indices; output (of x only the shape is used).
    """
    gradient, x = op.tensor(0), op.tensor(1)
    indices = op.tensor(next(place for name, place in _INDICES.items() if name in op.name))
    counts = operations(known_dtype(x), gradient.numel)
    return Work(counts, bytes_of(gradient, indices), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::max_unpool2d", "aten::max_unpool3d")
def max_unpool(op: Op) -> Work:
    """Shapes: x [.., H', W'], indices, (H, W) -> [.., H, W], zero where nothing is put.

    FLOPs: none.
    Bytes: input, indices; output (zeroing is within the op).
    """
    x, indices, outputs = op.tensor(0), op.tensor(1), op.ints(2)
    shape = (*x.shape[: -len(outputs)], *outputs)
    return Work((), bytes_of(x, indices), dense_bytes(shape, known_dtype(x)))
