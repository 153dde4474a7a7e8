"""Bytes and operation counts, in the words that every elementwise formula shares."""

from __future__ import annotations

from math import prod

from diagnose.costs.promotion import is_complex, known_dtype
from diagnose.work import ITEMSIZE, MissingFactError, TensorMeta, Work, flops_of


def itemsize(dtype: str) -> int:
    """Bytes an element; raises for a dtype that we do not know."""
    size = ITEMSIZE.get(dtype)
    if size is None:
        raise MissingFactError(f"unknown dtype {dtype}")
    return size


def bytes_of(*tensors: TensorMeta | None) -> int:
    """Bytes of the distinct elements of each tensor; None (not passed) has none."""
    return sum(tensor.distinct_numel * itemsize(known_dtype(tensor)) for tensor in tensors if tensor is not None)


def bytes_at_most(tensor: TensorMeta, elements: int) -> int:
    """Bytes of ``elements`` elements picked from ``tensor``, which cannot be more than it has."""
    return min(elements, tensor.distinct_numel) * itemsize(known_dtype(tensor))


def dense_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a new tensor of that shape."""
    return prod(shape) * itemsize(dtype)


def vector_resource(dtype: str) -> str:
    """The unit that computes on ``dtype``: short floats in float32, short integers and bool in int32."""
    if dtype == "float64":
        return "vector.float64"
    if dtype.startswith(("float", "bfloat")):
        return "vector.float32"
    return "vector.int64" if dtype in ("int64", "uint64") else "vector.int32"


def operations(dtype: str, flops: int, special: int = 0) -> tuple[tuple[str, int], ...] | None:
    """Counts as ``Work.flops``; None for complex numbers, whose real operations we do not count."""
    if is_complex(dtype):
        return None
    return flops_of({vector_resource(dtype): flops, "special": special})


def moved(read: int, written: int) -> Work:
    """The work of an op that moves bytes and computes nothing."""
    return Work((), read, written)
