"""The second derivation of an op's work: from real tensors, sharing nothing with the formulas.

Bytes are distinct storage offsets, counted one by one; outputs come from running the op.
"""

import math

import torch

from diagnose.work import Op, TensorMeta, Value

# c10::ScalarType, the number that a recording holds where an op takes a dtype.
_SCALAR_TYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6,
    torch.float64: 7, torch.complex32: 8, torch.complex64: 9, torch.complex128: 10, torch.bool: 11,
    torch.qint8: 12, torch.quint8: 13, torch.bfloat16: 15, torch.float8_e5m2: 23, torch.float8_e4m3fn: 24,
}  # fmt: skip


def meta_of(tensor: torch.Tensor) -> TensorMeta:
    return TensorMeta(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tuple(tensor.stride()))


def value_of(argument: object) -> Value:
    if isinstance(argument, torch.Tensor):
        return meta_of(argument)
    if isinstance(argument, torch.dtype):
        return _SCALAR_TYPES[argument]
    if isinstance(argument, (list, tuple)):
        return tuple(value_of(item) for item in argument)
    if argument is None or isinstance(argument, (bool, int, float, str)):
        return argument
    raise TypeError(f"no recorded form for {type(argument).__name__}")


def op_of(name: str, *args: object) -> Op:
    """The op as a recording would hold it: real tensors, scalars and lists in the order of the op's schema."""
    return Op(name, tuple(value_of(argument) for argument in args))


def distinct_offsets(tensor: torch.Tensor) -> set[int]:
    """Every storage offset, in elements, that some index of ``tensor`` reaches."""
    if tensor.numel() == 0:
        return set()
    needed = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return set(torch.arange(needed).as_strided(tensor.shape, tensor.stride()).reshape(-1).tolist())


def distinct_bytes(tensor: torch.Tensor) -> int:
    """Bytes of the distinct elements of one tensor (views that repeat elements count them once)."""
    return len(distinct_offsets(tensor)) * tensor.element_size()


def output_bytes(result: object) -> int:
    """Bytes of what an op returned: every element of every tensor in it, once."""
    if isinstance(result, torch.Tensor):
        return math.prod(result.shape) * result.element_size()
    if isinstance(result, (list, tuple)):
        return sum(output_bytes(item) for item in result)
    return 0
