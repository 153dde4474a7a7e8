"""Elementwise ops whose arguments, results or counts do not fit a row of ``pointwise``."""

from __future__ import annotations

from typing import Final

from diagnose.costs.pointwise import Row, elementwise
from diagnose.costs.promotion import broadcast, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, Work


@cost("aten::_prelu_kernel_backward")
def prelu_backward(op: Op) -> Work:
    """Shapes: gradient, x, weight (broadcast to x) -> x, and the weight's gradient before it is summed, like x.

    FLOPs: 4 an element (a comparison and a product for x, the same for the weight).
    Bytes: gradient, x, weight; both outputs.
    """
    gradient, x, weight = op.tensor(0), op.tensor(1), op.tensor(2)
    written = 2 * dense_bytes(broadcast((x.shape, weight.shape)), known_dtype(x))
    return Work(operations(known_dtype(x), 4 * x.numel), bytes_of(gradient, x, weight), written)


@cost("aten::rrelu_with_noise", "aten::rrelu_with_noise_", unless_child=("aten::leaky_relu", "aten::leaky_relu_"))
def rrelu(op: Op) -> Work:
    """Shapes: x, noise -> x; in training the slopes are drawn into noise.

    FLOPs: 2 an element.
    Bytes: input; output and noise.
    """
    x, noise = op.tensor(0), op.tensor(1)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(noise.shape, known_dtype(noise))
    return Work(operations(known_dtype(x), 2 * x.numel), bytes_of(x), written)


@cost("aten::rrelu_with_noise_backward", unless_child=("aten::mul", "aten::leaky_relu_backward"))
def rrelu_backward(op: Op) -> Work:
    """Shapes: gradient, x, noise -> x.

    FLOPs: 1 an element.
    Bytes: gradient, noise; output.
    """
    gradient, noise = op.tensor(0), op.tensor(2)
    return Work(operations(known_dtype(gradient), gradient.numel), bytes_of(gradient, noise),
                dense_bytes(gradient.shape, known_dtype(gradient)))  # fmt: skip


@cost("aten::_add_relu", "aten::_add_relu_")
def add_relu(op: Op) -> Work:
    """Shapes: a, b -> broadcast.

    FLOPs: 2 (a sum, a maximum).
    Bytes: a, b, output.
    """
    return elementwise(op, Row(2, reads=2))


@cost("aten::polygamma", "aten::polygamma_")
def polygamma(op: Op) -> Work:
    """Shapes: n, x -> x (in place: x, n).

    FLOPs: none; one special.
    Bytes: input, output.
    """
    x = op.tensor(0 if op.name.endswith("_") else 1)
    return elementwise(Op(op.name, (x,)), Row(0, 1, result="float"))


@cost("aten::mvlgamma", "aten::mvlgamma_", unless_child=("aten::lgamma", "aten::lgamma_"))
@cost("aten::frexp")
def float_parts(op: Op) -> Work:
    """Shapes: x -> x (frexp: and exponents of int32).

    FLOPs: 1 an element.
    Bytes: input; outputs.
    """
    x = op.tensor(0)
    exponents = dense_bytes(x.shape, "int32") if op.name == "aten::frexp" else 0
    flops = operations(known_dtype(x), x.numel)
    return Work(flops, bytes_of(x), dense_bytes(x.shape, known_dtype(x)) + exponents)


_COMPLEX: Final = {"float16": "complex32", "float64": "complex128"}
_REAL: Final = {"complex32": "float16", "complex128": "float64", "complex64": "float32"}


@cost("aten::complex", "aten::polar", unless_child=("aten::complex", "aten::polar"))
def complex_of(op: Op) -> Work:
    """Shapes: real and imaginary part (or length and angle) -> complex.

    FLOPs: none (polar 2 and two special).
    Bytes: both; output.
    """
    a, b = op.tensor(0), op.tensor(1)
    shape, dtype = broadcast((a.shape, b.shape)), known_dtype(a)
    count = Work((), 0, 0)
    written = dense_bytes(shape, _COMPLEX.get(dtype, "complex64"))
    if op.name == "aten::polar":
        elements = written // (8 if dtype == "float32" else 16 if dtype == "float64" else 4)
        count = Work(operations(dtype, 2 * elements, 2 * elements), 0, 0)
    return count + Work((), bytes_of(a, b), written)


@cost("aten::angle", unless_child=("aten::angle",))
def angle(op: Op) -> Work:
    """Shapes: x -> the angle of each, real.

    FLOPs: 1 and an arctangent (special).
    Bytes: input; output.
    """
    x = op.tensor(0)
    dtype = known_dtype(x)
    real = _REAL.get(dtype, dtype)
    return Work(operations(real, x.numel, x.numel), bytes_of(x), dense_bytes(x.shape, real))
