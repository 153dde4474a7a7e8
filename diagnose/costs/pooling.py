"""Pooling over windows of one, two or three dimensions."""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct

from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, TensorMeta, Work


def spatial_rank(op: Op) -> int:
    """The number in ``avg_pool2d``: how many dimensions, the last ones, a window has."""
    return next(rank for rank in (1, 2, 3) if f"{rank}d" in op.name)


def _setting(op: Op, index: int, count: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """A per-dimension setting; one number stands for all, an empty list for the default."""
    values = op.ints(index) if op.inputs is not None and index < len(op.inputs) else ()
    if not values:
        return default
    return values * count if len(values) == 1 else values


_MOST: Final = 1 << 14


def _inside(start: int, step: int, count: int, size: int) -> int:
    """How many of ``start``, ``start + step``, ... (``count`` of them) are from 0 to below ``size``."""
    first = max(0, -(start // step))
    last = min(count - 1, (size - 1 - start) // step)
    return max(0, last - first + 1)


class _Window(Struct, frozen=True):
    """A pooling window along one dimension."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    ceil_mode: bool

    @property
    def outputs(self) -> int:
        """How many windows there are; in ceil mode one may overhang the end, but must begin inside."""
        span = self.size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        count = (-(-span // self.stride) if self.ceil_mode else span // self.stride) + 1
        return count - 1 if self.ceil_mode and (count - 1) * self.stride >= self.size + self.padding else count

    @property
    def pairs(self) -> int:
        """Input elements over all windows, padding not counted.

        Counted along the longer side in one go: the places of each tap, or the taps of each place.
        """
        if min(self.kernel, self.stride, self.dilation) < 1 or self.outputs < 0:
            raise ValueError("not the sizes of a window")
        places, taps = (self.outputs, self.stride), (self.kernel, self.dilation)
        (few, coarse), (many, fine) = sorted((places, taps))
        if few > _MOST:
            raise ValueError("more windows than a picture has")
        return sum(_inside(index * coarse - self.padding, fine, many, self.size) for index in range(few))


def _pooled(op: Op, x: TensorMeta, first: int, *, is_average: bool) -> tuple[tuple[int, ...], int]:
    """The output's shape and the number of (output, input) pairs of a pooling whose settings begin at ``first``."""
    rank = spatial_rank(op)
    kernel = _setting(op, first, rank, ())
    stride = _setting(op, first + 1, rank, kernel)
    padding = _setting(op, first + 2, rank, (0,) * rank)
    dilation = (1,) * rank if is_average else _setting(op, first + 3, rank, (1,) * rank)
    ceil_mode = bool(op.scalar(first + (3 if is_average else 4), False))
    windows = [
        _Window(*settings, ceil_mode)
        for settings in zip(x.shape[-rank:], kernel, stride, padding, dilation, strict=True)
    ]
    shape = (*x.shape[:-rank], *(window.outputs for window in windows))
    return shape, prod(x.shape[:-rank]) * prod(window.pairs for window in windows)


@cost("aten::max_pool2d_with_indices", "aten::max_pool3d_with_indices")
def max_pool(op: Op) -> Work:
    """Shapes: x [.., H, W], kernel, stride, padding, dilation, ceil_mode -> [.., H', W'] and its indices.

    FLOPs: 1 a pair of output and input in its window.
    Bytes: input; output, and int64 indices.
    """
    x = op.tensor(0)
    shape, pairs = _pooled(op, x, 1, is_average=False)
    written = dense_bytes(shape, known_dtype(x)) + dense_bytes(shape, "int64")
    return Work(operations(known_dtype(x), pairs), bytes_of(x), written)


@cost("aten::mkldnn_max_pool2d", "aten::mkldnn_max_pool3d",
      "aten::quantized_max_pool1d", "aten::quantized_max_pool2d", "aten::quantized_max_pool3d")  # fmt: skip
@cost("aten::max_pool1d", unless_child=("aten::max_pool2d_with_indices", "aten::quantized_max_pool1d"))
def max_pool_without_indices(op: Op) -> Work:
    """Shapes: x [.., L], kernel, stride, padding, dilation, ceil_mode -> [.., L'].

    FLOPs: 1 a pair of output and input in its window.
    Bytes: input; output.
    """
    x = op.tensor(0)
    shape, pairs = _pooled(op, x, 1, is_average=False)
    return Work(operations(known_dtype(x), pairs), bytes_of(x), dense_bytes(shape, known_dtype(x)))


@cost("aten::max_pool2d_with_indices_backward", "aten::max_pool3d_with_indices_backward")
def max_pool_backward(op: Op) -> Work:
    """Shapes: gradient [.., H', W'], x [.., H, W], ..., indices -> x.

    FLOPs: 1 a gradient element.
    Bytes: gradient, indices; output (of x only the shape is used).
    """
    gradient, x, indices = op.tensor(0), op.tensor(1), op.tensor(7)
    return Work(
        operations(known_dtype(x), gradient.numel), bytes_of(gradient, indices), dense_bytes(x.shape, known_dtype(x))
    )


@cost("aten::mkldnn_max_pool2d_backward", "aten::mkldnn_max_pool3d_backward")
def mkldnn_max_pool_backward(op: Op) -> Work:
    """Shapes: gradient, output, x, kernel, ... -> x; the maxima are looked for again.

    FLOPs: 1 a pair of output and input in its window, 1 a gradient element.
    Bytes: gradient, x; output.
    """
    gradient, x = op.tensor(0), op.tensor(2)
    _, pairs = _pooled(op, x, 3, is_average=False)
    counts = operations(known_dtype(x), pairs + gradient.numel)
    return Work(counts, bytes_of(gradient, x), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::avg_pool2d", "aten::avg_pool3d")
def avg_pool(op: Op) -> Work:
    """Shapes: x [.., H, W], kernel, stride, padding, ceil_mode, ... -> [.., H', W'].

    FLOPs: 1 a pair of output and input in its window, 1 an output.
    Bytes: input, output.
    """
    x = op.tensor(0)
    shape, pairs = _pooled(op, x, 1, is_average=True)
    return Work(operations(known_dtype(x), pairs + prod(shape)), bytes_of(x), dense_bytes(shape, known_dtype(x)))


@cost("aten::avg_pool2d_backward", "aten::avg_pool3d_backward")
def avg_pool_backward(op: Op) -> Work:
    """Shapes: gradient [.., H', W'], x [.., H, W], kernel, stride, padding, ... -> x.

    FLOPs: 1 a pair of output and input in its window, 1 a gradient element.
    Bytes: gradient; output.
    """
    gradient, x = op.tensor(0), op.tensor(1)
    _, pairs = _pooled(op, x, 2, is_average=True)
    flops = operations(known_dtype(x), pairs + gradient.numel)
    return Work(flops, bytes_of(gradient), dense_bytes(x.shape, known_dtype(x)))
