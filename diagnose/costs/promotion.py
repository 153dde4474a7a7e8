"""Which dtype and shape an op's result has: torch's promotion and broadcasting rules, written again without torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from diagnose.work import ITEMSIZE, MissingFactError, Op, Scalar, TensorMeta

_SCALAR_TYPES: Final = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
    8: "complex32", 9: "complex64", 10: "complex128", 11: "bool", 12: "qint8", 13: "quint8", 14: "qint32",
    15: "bfloat16", 23: "float8_e5m2", 24: "float8_e4m3fn", 25: "float8_e5m2fnuz", 26: "float8_e4m3fnuz",
    27: "uint16", 28: "uint32", 29: "uint64", 44: "float8_e8m0fnu", 45: "float4_e2m1fn_x2",
}  # fmt: skip
"""c10::ScalarType, the number that stands where an op takes a dtype (c10/core/ScalarType.h)."""

_BOOL, _INT, _FLOAT, _COMPLEX = range(4)
DEFAULT_DTYPE: Final = "float32"
"""What ``torch.get_default_dtype()`` is unless someone changed it; a recording does not say."""


def dtype_argument(op: Op, index: int) -> str | None:
    """The dtype passed at ``index``; None where None was passed or the argument left out."""
    code = op.scalar(index)
    if code is None:
        return None
    if isinstance(code, bool) or not isinstance(code, int) or code not in _SCALAR_TYPES:
        raise MissingFactError(f"argument {index} is not a known dtype")
    return _SCALAR_TYPES[code]


def whole_argument(op: Op, index: int) -> int:
    """The whole number at ``index``; raises where it was not recorded."""
    value = op.scalar(index)
    if not isinstance(value, int):
        raise MissingFactError(f"the whole number at argument {index} was not recorded")
    return int(value)


def flags_argument(op: Op, index: int, count: int) -> tuple[bool, ...]:
    """Which gradients were asked for, from a recorded list of flags."""
    flags = op.ints(index)
    if len(flags) != count:
        raise MissingFactError(f"the flags at argument {index} were not recorded")
    return tuple(bool(flag) for flag in flags)


def out_argument(op: Op, reads: int) -> TensorMeta | None:
    """The tensor passed as ``out=``: it follows the operands, only its dtype is trusted (it may have been resized)."""
    rest = range(reads, len(op.inputs or ()))
    return next((tensor for index in rest if (tensor := op.tensor_or_none(index)) is not None), None)


def known_dtype(tensor: TensorMeta) -> str:
    """The tensor's dtype; raises where the recording lost it."""
    if tensor.dtype is None:
        raise MissingFactError("the dtype of a listed tensor was not recorded")
    return tensor.dtype


def _category(dtype: str) -> int:
    if dtype == "bool":
        return _BOOL
    if dtype.startswith("complex"):
        return _COMPLEX
    return _FLOAT if is_floating(dtype) else _INT


def statistic_dtype(tensor: TensorMeta) -> str:
    """Means and variances of short floats are kept in float32 (on a GPU; a CPU may keep them short)."""
    return "float64" if known_dtype(tensor) == "float64" else "float32"


def is_floating(dtype: str) -> bool:
    """Real floating point, 8-bit kinds included."""
    return dtype.startswith(("float", "bfloat"))


def is_complex(dtype: str) -> bool:
    """Complex of any width."""
    return dtype.startswith("complex")


def as_floating(dtype: str) -> str:
    """What true division, exp, sqrt... give for it: whole numbers and bool become the default dtype."""
    return dtype if _category(dtype) >= _FLOAT else DEFAULT_DTYPE


def _as_complex(dtype: str) -> str:
    return {"float16": "complex32", "float64": "complex128"}.get(dtype, "complex64")


def promote(a: str, b: str) -> str:
    """The dtype that holds both, for two tensors of equal priority."""
    if a == b:
        return a
    low, high = sorted((a, b), key=_category)
    if _category(low) != _category(high):
        if _category(high) == _COMPLEX and _category(low) == _FLOAT:
            return promote(_as_complex(low), high)
        return high
    pair = {a, b}
    if any(name.startswith(("float8", "float4", "q")) or name in ("uint16", "uint32", "uint64") for name in pair):
        raise MissingFactError(f"torch does not promote {a} with {b}")
    if pair == {"float16", "bfloat16"}:
        return "float32"
    if pair == {"uint8", "int8"}:
        return "int16"
    return max(a, b, key=lambda name: ITEMSIZE[name])


def _joined(dtypes: Iterable[str]) -> str | None:
    joined: str | None = None
    for dtype in dtypes:
        joined = dtype if joined is None else promote(joined, dtype)
    return joined


def _outranks(high: str | None, low: str | None) -> str | None:
    """A weaker operand (0-dim, then Python number) changes the result only where its category is higher."""
    if high is None or low is None:
        return low if high is None else high
    if _category(low) <= _category(high):
        return high
    return _as_complex(high) if _category(low) == _COMPLEX and _category(high) == _FLOAT else low


def _dtype_of_number(number: Scalar) -> str:
    if isinstance(number, bool):
        return "bool"
    return "int64" if isinstance(number, int) else DEFAULT_DTYPE


def is_python_number(tensor: TensorMeta, position: int) -> bool:
    """Whether a recorded 0-dim tensor is taken as a Python number: torch wraps those in 0-dim float64 or int64.

    A true 0-dim tensor of these dtypes cannot be told from one; the first argument is taken as a tensor.
    """
    return position > 0 and not tensor.shape and tensor.dtype in ("float64", "int64", "complex128")


def result_dtype(operands: Sequence[TensorMeta | Scalar]) -> str:
    """torch.result_type over tensors, 0-dim tensors and Python numbers, in the op's order."""
    sized: list[str] = []
    zero: list[str] = []
    numbers: list[str] = []
    for position, operand in enumerate(operands):
        if not isinstance(operand, TensorMeta):
            numbers += [] if operand is None else [_dtype_of_number(operand)]
        elif is_python_number(operand, position):
            numbers.append({"float64": DEFAULT_DTYPE, "complex128": "complex64"}.get(known_dtype(operand), "int64"))
        else:
            (sized if operand.shape else zero).append(known_dtype(operand))
    dtype = _outranks(_joined(sized), _outranks(_joined(zero), _joined(numbers)))
    if dtype is None:
        raise MissingFactError("no operand has a recorded dtype")
    return dtype


def broadcast(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape; sizes of one stretch, others must agree (ValueError)."""
    found: list[int] = []
    for shape in shapes:
        found = [1] * (len(shape) - len(found)) + found
        for place, size in enumerate(shape, len(found) - len(shape)):
            if size not in (found[place], 1) and found[place] != 1:
                raise ValueError(f"sizes {found[place]} and {size} do not broadcast")
            found[place] = size if found[place] == 1 else found[place]
    return tuple(found)
