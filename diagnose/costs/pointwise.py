"""Elementwise ops: one row of a table each, broadcasting and type promotion by one rule.

A row counts operations an output element, as written in the op's usual definition: every addition, multiplication,
division, square root, comparison or selection of a minimum is one FLOP, every exp, log, sine, tanh or erf one special
operation. Choosing between two values by a mask (where, masked_fill) is none. Which constants each row has is listed
in ``docs/work.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final, Literal

from msgspec import Struct

from diagnose.costs.promotion import as_floating, broadcast, is_python_number, known_dtype, out_argument, result_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, Scalar, TensorMeta, Work

Result = Literal["promoted", "float", "bool"]


class Row(Struct, frozen=True):
    """What an op does to one element.

    Attributes:
        flops, special: Operations an output element.
        reads: How many leading arguments are operands; a tensor after them is ``out=``.
        result: The output's dtype from the operands': promoted, promoted to floating point, or bool.
    """

    flops: int
    special: int = 0
    reads: int = 1
    result: Result = "promoted"


_FLOAT: Final[Result] = "float"
_BOOL: Final[Result] = "bool"

UNARY: Final[Mapping[str, Row]] = {
    "abs": Row(1), "neg": Row(1), "sign": Row(1), "sgn": Row(1), "square": Row(1),
    "floor": Row(1), "ceil": Row(1), "round": Row(1), "trunc": Row(1), "frac": Row(2), "nan_to_num": Row(3),
    "relu": Row(1), "bitwise_not": Row(1), "hardtanh": Row(2), "leaky_relu": Row(2),
    "threshold": Row(1), "hardswish": Row(5), "hardsigmoid": Row(4), "logical_not": Row(1, result=_BOOL),
    "sqrt": Row(1, result=_FLOAT), "rsqrt": Row(1, result=_FLOAT), "reciprocal": Row(1, result=_FLOAT),
    **{name: Row(0, 1, result=_FLOAT) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh",
        "asin", "acos", "atan", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma", "digamma")},
    # Series and recurrences: one special operation stands for the whole function.
    **{name: Row(0, 1, result=_FLOAT) for name in (
        "sinc", "i0", "special_i0e", "special_i1", "special_i1e", "special_erfcx", "special_ndtri", "special_log_ndtr",
        "special_entr", "special_airy_ai", "special_bessel_j0", "special_bessel_j1", "special_bessel_y0",
        "special_bessel_y1", "special_modified_bessel_i0", "special_modified_bessel_i1", "special_modified_bessel_k0",
        "special_modified_bessel_k1", "special_scaled_modified_bessel_k0", "special_scaled_modified_bessel_k1",
        "special_spherical_bessel_j0")},
    "deg2rad": Row(1, result=_FLOAT), "rad2deg": Row(1, result=_FLOAT), "hardshrink": Row(1), "softshrink": Row(2),
    "conj_physical": Row(0),
    "sigmoid": Row(3, 1, result=_FLOAT), "silu": Row(3, 1), "log_sigmoid_forward": Row(3, 2), "logit": Row(2, 1),
    "elu": Row(3, 1), "celu": Row(3, 1), "selu": Row(3, 1), "softplus": Row(3, 2), "mish": Row(1, 3),
    "isnan": Row(1, result=_BOOL), "isinf": Row(1, result=_BOOL), "isfinite": Row(1, result=_BOOL),
    "isposinf": Row(1, result=_BOOL), "isneginf": Row(1, result=_BOOL), "signbit": Row(1, result=_BOOL),
    "tril": Row(0), "triu": Row(0),
}  # fmt: skip

BINARY: Final[Mapping[str, Row]] = {
    **{name: Row(1, reads=2) for name in (
        "mul", "multiply", "floor_divide", "remainder", "fmod", "minimum", "maximum", "fmin", "fmax",
        "clamp_min", "clamp_max", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift",
        "bitwise_right_shift", "__and__", "__or__", "__xor__", "__lshift__", "__rshift__", "copysign")},
    **{name: Row(1, reads=2, result=_BOOL) for name in (
        "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")},
    "atan2": Row(1, 1, reads=2, result=_FLOAT), "hypot": Row(4, reads=2),
    "_prelu_kernel": Row(2, reads=2), "xlogy": Row(1, 1, reads=2, result=_FLOAT), "logaddexp": Row(4, 2, reads=2),
    "threshold_backward": Row(1, reads=2), "sigmoid_backward": Row(3, reads=2),
    "logit_backward": Row(3, reads=2), "tanh_backward": Row(3, reads=2),
    "silu_backward": Row(8, 1, reads=2), "hardtanh_backward": Row(2, reads=2), "hardswish_backward": Row(5, reads=2),
    "hardsigmoid_backward": Row(3, reads=2), "leaky_relu_backward": Row(2, reads=2),
    "softplus_backward": Row(5, 1, reads=2), "mish_backward": Row(7, 3, reads=2),
    "log_sigmoid_backward": Row(5, 1, reads=2), "native_dropout_backward": Row(2, reads=2),
    "_masked_scale": Row(2, reads=2), "hardshrink_backward": Row(1, reads=2), "softshrink_backward": Row(1, reads=2),
    "gcd": Row(1, reads=2), "lcm": Row(1, reads=2), "nextafter": Row(1, reads=2), "heaviside": Row(1, reads=2),
    "ldexp": Row(1, 1, reads=2, result=_FLOAT), "logaddexp2": Row(4, 2, reads=2),
    "special_xlog1py": Row(1, 1, reads=2, result=_FLOAT), "special_zeta": Row(0, 1, reads=2, result=_FLOAT),
    "igamma": Row(0, 1, reads=2), "igammac": Row(0, 1, reads=2), "__ilshift__": Row(1, reads=2),
    "__irshift__": Row(1, reads=2),
    **{f"special_{name}": Row(0, 1, reads=2, result=_FLOAT) for name in (
        "chebyshev_polynomial_t", "chebyshev_polynomial_u", "chebyshev_polynomial_v", "chebyshev_polynomial_w",
        "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p",
        "shifted_chebyshev_polynomial_t", "shifted_chebyshev_polynomial_u", "shifted_chebyshev_polynomial_v",
        "shifted_chebyshev_polynomial_w")},
}  # fmt: skip

TERNARY: Final[Mapping[str, Row]] = {
    "where": Row(0, reads=3), "masked_fill": Row(0, reads=3), "clamp": Row(2, reads=3), "clip": Row(2, reads=3),
    "lerp": Row(3, reads=3),
}  # fmt: skip

# Ops that call another one for their work, on some device or for some dtypes. Every op may also call itself: the
# overload that is given its output runs the kernel, and is recorded below the one that was asked.
_WORKERS: Final[Mapping[str, tuple[str, ...]]] = {
    "relu": ("clamp_min", "clamp_min_"), "hardtanh": ("clamp", "clamp_"), "square": ("pow", "pow_"),
    "masked_fill": ("masked_fill_",), "isnan": ("ne",), "isinf": ("eq",), "isfinite": ("ne", "eq", "mul"),
    "multiply": ("mul", "mul_"), "clip": ("clamp", "clamp_"), "selu": ("elu", "elu_"), "celu": ("elu", "elu_"),
    "__and__": ("bitwise_and",), "__or__": ("bitwise_or",), "__xor__": ("bitwise_xor",),
    "__lshift__": ("bitwise_left_shift",), "__rshift__": ("bitwise_right_shift",), "where": ("nonzero",),
    "native_dropout_backward": ("mul",), "deg2rad": ("mul",), "rad2deg": ("mul",),
    "ldexp": ("mul", "pow"),
}  # fmt: skip

_NEVER_IN_PLACE: Final = frozenset({
    "_masked_scale", "_prelu_kernel", "fmax", "fmin", "isfinite", "isinf", "isnan", "isneginf", "isposinf",
    "hardshrink", "log_sigmoid_forward", "logaddexp", "logaddexp2", "maximum", "minimum", "signbit", "softplus",
    "softshrink", "where",
})  # fmt: skip


def _operands(op: Op, count: int) -> list[TensorMeta | Scalar]:
    found: list[TensorMeta | Scalar] = []
    for index in range(count):
        tensor = op.tensor_or_none(index)
        found.append(op.scalar(index) if tensor is None else tensor)
    return found


def _compute_dtype(op: Op, operands: list[TensorMeta | Scalar], row: Row) -> str:
    name = op.name.removesuffix("_")
    if name == "aten::where":
        operands = operands[1:]  # the mask takes no part in promotion
    elif name == "aten::masked_fill":
        operands = operands[:1]  # nor does the value
    dtype = result_dtype(operands)
    return as_floating(dtype) if row.result == _FLOAT else dtype


def elementwise(op: Op, row: Row) -> Work:
    """The work of one pass over the broadcast operands.

    Shapes: operands broadcast to the output; ``name_`` writes its first operand.
    FLOPs: ``row.flops`` (vector unit of the promoted dtype) and ``row.special`` an output element.
    Bytes: distinct elements of every tensor operand, Python numbers none; output elements once.
    Assumes: default dtype float32; a 0-dim float64 or int64 after the first operand is a Python number; operands that
    are the same tensor are not recognised as such.
    """
    operands = _operands(op, row.reads)
    tensors = [
        tensor
        for index, tensor in enumerate(operands)
        if isinstance(tensor, TensorMeta) and not is_python_number(tensor, index)
    ]
    if not tensors:
        raise MissingFactError("no tensor operand was recorded")
    compute, shape = _compute_dtype(op, operands, row), broadcast(tensor.shape for tensor in tensors)
    if op.name.endswith("_") and not op.name.endswith("__"):
        target = op.tensor(0)
        if shape != target.shape:
            raise ValueError(f"{shape} does not fit into {target.shape}")
        count, written = target.numel, bytes_of(target)
    else:
        out = out_argument(op, row.reads)
        stored = "bool" if row.result == _BOOL else compute
        count, written = prod(shape), dense_bytes(shape, stored if out is None else known_dtype(out))
    return Work(operations(compute, row.flops * count, row.special * count), bytes_of(*tensors), written)


def _register(name: str, row: Row) -> None:
    workers = tuple(f"aten::{worker}" for worker in (name, f"{name}_", *_WORKERS.get(name, ())))
    is_method = name in _NEVER_IN_PLACE or name.startswith(("__", "special_")) or name.endswith("_backward")
    names = (f"aten::{name}",) if is_method else (f"aten::{name}", f"aten::{name}_")
    cost(*names, unless_child=workers)(lambda op: elementwise(op, row))


for _name, _row in {**UNARY, **BINARY, **TERNARY}.items():
    _register(_name, _row)


def _with_alpha(op: Op, index: int, plain: int) -> int:
    """Operations of an op with a scale: one more where it is not one."""
    alpha = 1 if op.tensor_or_none(index) is not None else op.scalar(index, 1)
    return plain if alpha is None or alpha == 1 else plain + 1


@cost("aten::add", "aten::add_", "aten::sub", "aten::sub_")
@cost("aten::rsub", "aten::subtract", "aten::subtract_", unless_child=("aten::sub", "aten::sub_"))
def add(op: Op) -> Work:
    """Shapes: a, b -> broadcast.

    FLOPs: 1, and 1 more where alpha is not 1.
    Bytes: a, b, output.
    """
    return elementwise(op, Row(_with_alpha(op, 2, 1), reads=2))


@cost("aten::addcmul", "aten::addcmul_", "aten::addcdiv", "aten::addcdiv_")
def addcmul(op: Op) -> Work:
    """Shapes: a, b, c -> broadcast; a + value * b * c (or b / c).

    FLOPs: 2, and 1 more where value is not 1.
    Bytes: a, b, c, output.
    """
    return elementwise(op, Row(_with_alpha(op, 3, 2), reads=3, result="float" if "div" in op.name else "promoted"))


@cost("aten::div", "aten::div_")
@cost("aten::true_divide", "aten::divide", "aten::divide_", unless_child=("aten::div", "aten::div_"))
def div(op: Op) -> Work:
    """Shapes: a, b -> broadcast; a rounding mode keeps whole numbers whole.

    FLOPs: 1, and 1 more for rounding.
    Bytes: a, b, output.
    """
    rounds = op.tensor_or_none(2) is None and isinstance(op.scalar(2), str)
    return elementwise(op, Row(2, reads=2) if rounds else Row(1, reads=2, result="float"))


@cost("aten::pow", "aten::pow_")
def power(op: Op) -> Work:
    """Shapes: base, exponent -> broadcast.

    FLOPs: x^2, x^1/2, x^-1/2, 1/x: 1; x^3, x^-2: 2; else a logarithm and an exponential (special) and a product.
    Bytes: base, exponent, output.
    """
    exponent = None if op.tensor_or_none(1) is not None else op.scalar(1)
    cheap = {0: 0, 1: 0, 2: 1, 3: 2, 0.5: 1, -0.5: 1, -1: 1, -2: 2}
    if isinstance(exponent, (int, float)) and exponent in cheap:
        return elementwise(op, Row(cheap[exponent], reads=2))
    return elementwise(op, Row(1, 2, reads=2))


@cost("aten::gelu", "aten::gelu_")
def gelu(op: Op) -> Work:
    """Shapes: x -> x.

    FLOPs: 4 and an erf; by tanh 8 and a tanh.
    Bytes: input, output.
    """
    by_tanh = op.tensor_or_none(1) is None and op.scalar(1) == "tanh"
    return elementwise(op, Row(8, 1) if by_tanh else Row(4, 1))


@cost("aten::gelu_backward")
def gelu_backward(op: Op) -> Work:
    """Shapes: gradient, x -> x.

    FLOPs: 9, an erf and an exponential; by tanh 17 and a tanh.
    Bytes: gradient, input, output.
    """
    by_tanh = op.tensor_or_none(2) is None and op.scalar(2) == "tanh"
    return elementwise(op, Row(17, 1, reads=2) if by_tanh else Row(9, 2, reads=2))


@cost("aten::elu_backward")
def elu_backward(op: Op) -> Work:
    """Shapes: gradient, (alpha, scale, input scale, is result,) x -> x.

    FLOPs: 4 and an exponential.
    Bytes: gradient, input, output.
    """
    gradient, x = op.tensor(0), op.tensor(5)
    return elementwise(Op(op.name, (gradient, x)), Row(4, 1, reads=2))


@cost("aten::native_dropout", unless_child=("aten::bernoulli_", "aten::clone"))
def native_dropout(op: Op) -> Work:
    """Shapes: x -> x and a mask of bool.

    FLOPs: 3 (compare, mask, scale); random numbers are not counted.
    Bytes: input, output, mask.
    """
    x = op.tensor(0)
    read = bytes_of(x)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(x.shape, "bool")
    return Work(operations(known_dtype(x), 3 * x.numel), read, written)


@cost("aten::glu", "aten::glu_backward")
def glu(op: Op) -> Work:
    """Shapes: [.., 2n, ..] -> [.., n, ..], backward the other way.

    FLOPs: 4 and an exponential an output element (sigmoid and a product); backward 4 more.
    Bytes: inputs, output.
    """
    is_backward = op.name.endswith("_backward")
    x = op.tensor(1) if is_backward else op.tensor(0)
    half, dtype = x.numel // 2, known_dtype(x)
    read = bytes_of(op.tensor(0), x) if is_backward else bytes_of(x)
    written = dense_bytes((x.numel if is_backward else half,), dtype)
    return Work(operations(dtype, (8 if is_backward else 4) * half, half), read, written)
