"""Fourier transforms by the usual convention: 5 N log2 N FLOPs a complex transform of N points.

The count of the radix-2 algorithm is taken for every length (as the makers' benchmarks do), rounded to whole FLOPs;
half of it where input or output is real. Each dimension costs its own N. The arithmetic is real, on the vector unit.
"""

from __future__ import annotations

from math import log2, prod

from diagnose.costs.promotion import DEFAULT_DTYPE, known_dtype, whole_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, TensorMeta, Work

_COMPLEX_OF = {"float16": "complex32", "bfloat16": "complex64", "float32": "complex64", "float64": "complex128"}
_REAL_OF = {"complex32": "float16", "complex64": "float32", "complex128": "float64"}


def transform_flops(count: int, size: int) -> int:
    """Of ``count`` complex transforms of ``size`` points."""
    return round(5 * count * size * log2(size)) if size > 1 else 0


def _over(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    """Complex transforms along each of ``dims`` of a tensor of that shape."""
    total = prod(shape)
    return sum(transform_flops(total // shape[dim], shape[dim]) for dim in dims) if total else 0


@cost("aten::_fft_c2c", unless_child=("aten::_fft_c2c",))
def complex_transform(op: Op) -> Work:
    """Shapes: x complex, dims, normalization -> x.

    FLOPs: 5 x.numel log2(N) for each dimension of size N; scaling apart.
    Bytes: input; output.
    """
    x = op.tensor(0)
    real = _REAL_OF.get(known_dtype(x), DEFAULT_DTYPE)
    flops = operations(real, _over(x.shape, op.ints(1)))
    return Work(flops, bytes_of(x), dense_bytes(x.shape, known_dtype(x)))


def _half(x: TensorMeta, shape: tuple[int, ...], dims: tuple[int, ...], full: tuple[int, ...]) -> int:
    """The last dimension's transforms at half price over the full shape, the others over the half spectrum."""
    if not prod(full):
        return 0
    last = dims[-1] % len(x.shape)
    return transform_flops(prod(full) // full[last], full[last]) // 2 + _over(shape, dims[:-1])


@cost("aten::_fft_r2c", unless_child=("aten::_fft_r2c",))
def real_to_complex(op: Op) -> Work:
    """Shapes: x real, dims, normalization, onesided -> complex, the last of dims N / 2 + 1 where onesided.

    FLOPs: 2.5 N log2(N) a transform of the last dimension, 5 N log2(N) of the others (over what is left).
    Bytes: input; output.
    """
    x, dims = op.tensor(0), op.ints(1)
    last = dims[-1] % len(x.shape)
    half = tuple(size // 2 + 1 if place == last else size for place, size in enumerate(x.shape))
    flops = operations(known_dtype(x), _half(x, half, dims, x.shape))
    shape = half if op.scalar(3) else x.shape
    return Work(flops, bytes_of(x), dense_bytes(shape, _COMPLEX_OF.get(known_dtype(x), "complex64")))


@cost("aten::_fft_c2r", unless_child=("aten::_fft_c2r",))
def complex_to_real(op: Op) -> Work:
    """Shapes: x complex, dims, normalization, size of the last of them -> real.

    FLOPs: 2.5 N log2(N) a transform of the last dimension, 5 N log2(N) of the others.
    Bytes: input; output.
    """
    x, dims, size = op.tensor(0), op.ints(1), whole_argument(op, 3)
    last = dims[-1] % len(x.shape)
    shape = tuple(size if place == last else length for place, length in enumerate(x.shape))
    real = _REAL_OF.get(known_dtype(x), DEFAULT_DTYPE)
    return Work(operations(real, _half(x, x.shape, dims, shape)), bytes_of(x), dense_bytes(shape, real))
