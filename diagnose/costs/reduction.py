"""Reductions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from diagnose.costs.promotion import as_floating, dtype_argument, is_floating, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


class Reduction(Struct, frozen=True):
    """How a reduction is called and what it does to one input element.

    Attributes:
        flops, special: Operations an input element.
        dims: Where the dimensions are passed (absent or empty: all of them).
        keepdim: Where the flag is passed.
        dtype: Where an output dtype is passed, None if nowhere.
        result: The output's dtype where none is passed: ``""`` the input's, ``"float"``, ``"sum"`` (whole numbers
            are summed in int64), or a dtype.
        outputs: Tensors of the reduced shape in that dtype.
        has_indices: One more of int64.
    """

    flops: int
    special: int = 0
    dims: int | None = 1
    keepdim: int | None = 2
    dtype: int | None = None
    result: str = ""
    outputs: int = 1
    has_indices: bool = False


REDUCTIONS: Final[Mapping[str, Reduction]] = {
    "sum": Reduction(1, dtype=3, result="sum"), "nansum": Reduction(2, dtype=3, result="sum"),
    "prod": Reduction(1, dtype=3, result="sum"), "mean": Reduction(1, dtype=3),
    "aminmax": Reduction(2, outputs=2), "linalg__powsum": Reduction(2, dims=2, keepdim=3, dtype=4),
    "amax": Reduction(1), "amin": Reduction(1), "all": Reduction(1, result="bool"), "any": Reduction(1, result="bool"),
    "argmax": Reduction(1, result="int64"), "argmin": Reduction(1, result="int64"),
    "max": Reduction(1, has_indices=True), "min": Reduction(1, has_indices=True),
    "logsumexp": Reduction(3, 1, result="float"),
    "norm": Reduction(2, dims=2, keepdim=3, dtype=4), "linalg_vector_norm": Reduction(2, dims=2, keepdim=3, dtype=4),
    "var": Reduction(4, keepdim=3), "std": Reduction(4, keepdim=3), "var_mean": Reduction(4, keepdim=3, outputs=2),
    "std_mean": Reduction(4, keepdim=3, outputs=2), "count_nonzero": Reduction(1, keepdim=None, result="int64"),
}  # fmt: skip

# As for elementwise ops: what does the work where it is recorded below; every op may also call itself.
_WORKERS: Final[Mapping[str, tuple[str, ...]]] = {
    "mean": ("sum",), "nansum": ("sum",), "logsumexp": ("exp", "exp_", "sum"), "count_nonzero": ("sum",),
    "norm": ("linalg_vector_norm",), "max": ("amax", "maximum"), "min": ("amin", "minimum"),
}  # fmt: skip


def _dims(op: Op, index: int | None, rank: int) -> tuple[int, ...]:
    """The reduced dimensions, counted from the front; all where none is passed."""
    if index is None or op.inputs is None or index >= len(op.inputs) or op.inputs[index] is None:
        return tuple(range(rank))
    value = op.inputs[index]
    if isinstance(value, (bool, TensorMeta)):
        return tuple(range(rank))
    dims = op.ints(index)
    return tuple(dim % rank if rank else 0 for dim in dims) or tuple(range(rank))


def reduced_shape(x: TensorMeta, dims: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """The output's shape."""
    if keepdim:
        return tuple(1 if place in dims else size for place, size in enumerate(x.shape))
    return tuple(size for place, size in enumerate(x.shape) if place not in dims)


def _output_dtype(op: Op, x: TensorMeta, rule: Reduction) -> str:
    asked = None
    if rule.dtype is not None:
        # sum(x, dtype=...) has the dtype where other overloads have the dimensions.
        asked = dtype_argument(op, rule.dtype if len(op.inputs or ()) > 2 else 1)
    dtype = known_dtype(x)
    if asked is not None:
        return asked
    if rule.result == "sum":
        return dtype if is_floating(dtype) or dtype.startswith("complex") else "int64"
    if rule.result == "float":
        return as_floating(dtype)
    return rule.result or dtype


def _without_dims(op: Op, rule: Reduction) -> bool:
    """Whether the call reduces everything: ``max(x)``, ``sum(x, dtype)``, ``norm(x, p)``."""
    inputs = op.inputs or ()
    if rule.has_indices or rule.result == "bool":
        return len(inputs) < 2
    return (rule.dims == 1 and rule.dtype is not None and len(inputs) <= 2) or len(inputs) <= (rule.dims or 0)


def reduce(op: Op, rule: Reduction) -> Work:
    """Shapes: x, dims, keepdim -> x without dims.

    FLOPs: ``rule.flops`` and ``rule.special`` an input element.
    Bytes: input; every output element once.
    """
    x = op.tensor(0)
    if rule.has_indices and len(op.inputs or ()) > 1 and op.tensor_or_none(1) is not None:
        raise MissingFactError("the elementwise overload is priced as minimum and maximum")
    is_whole = _without_dims(op, rule)
    dims = tuple(range(len(x.shape))) if is_whole else _dims(op, rule.dims, len(x.shape))
    keepdim = False if is_whole or rule.keepdim is None else bool(op.scalar(rule.keepdim, False))
    shape = reduced_shape(x, dims, keepdim)
    written = rule.outputs * dense_bytes(shape, _output_dtype(op, x, rule))
    if rule.has_indices and not is_whole:
        written += dense_bytes(shape, "int64")
    return Work(operations(known_dtype(x), rule.flops * x.numel, rule.special * x.numel), bytes_of(x), written)


def _register(name: str, rule: Reduction) -> None:
    workers = tuple(f"aten::{worker}" for worker in (name, *_WORKERS.get(name, ())))
    cost(f"aten::{name}", unless_child=workers)(lambda op: reduce(op, rule))


for _name, _rule in REDUCTIONS.items():
    _register(_name, _rule)
