"""Ops that write what they were told or drew, and read next to nothing."""

from __future__ import annotations

from math import ceil
from typing import Final

from diagnose.costs.promotion import dtype_argument, known_dtype, out_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, Work

_RANDOM_SPECIAL: Final = {"normal_": 2, "exponential_": 1, "geometric_": 1, "log_normal_": 3, "cauchy_": 1}


@cost("aten::zero_", unless_child=("aten::fill_",))
@cost(*(f"aten::{name}" for name in (
    "fill_", "uniform_", "random_", "bernoulli_", *_RANDOM_SPECIAL)))  # fmt: skip
def overwrite(op: Op) -> Work:
    """Shapes: writes its argument, reads only a tensor of values or probabilities.

    FLOPs: none; special ones for distributions made by logarithms and sines. Random integers are not counted.
    Bytes: output once.
    """
    target = op.tensor(0)
    special = _RANDOM_SPECIAL.get(op.name.removeprefix("aten::"), 0) * target.numel
    return Work(operations(known_dtype(target), 0, special), bytes_of(op.tensor_or_none(1)), bytes_of(target))


@cost("aten::arange", unless_child=("aten::arange",))
def arange(op: Op) -> Work:
    """Shapes: end | start, end[, step] -> ceil((end - start) / step).

    FLOPs: 2 (a product and a sum).
    Bytes: output.
    Assumes: the output's dtype is that of ``out=``, as the op that writes has it.
    """
    out = out_argument(op, 0)
    if out is None:
        raise MissingFactError("only the inner arange, which is given its output, writes")
    numbers = [value for value in (op.inputs or ()) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    start, end, step = {1: (0, *numbers, 1), 2: (*numbers, 1)}.get(len(numbers), tuple(numbers[:3]))
    count = max(0, ceil((end - start) / step))
    return Work(operations(known_dtype(out), 2 * count), 0, dense_bytes((count,), known_dtype(out)))


@cost("aten::linspace")
def linspace(op: Op) -> Work:
    """Shapes: start, end, steps -> [steps].

    FLOPs: 2 (a product and a sum).
    Bytes: output.
    """
    steps, out = op.scalar(2), out_argument(op, 3)
    if not isinstance(steps, int):
        raise MissingFactError("the number of steps was not recorded")
    dtype = known_dtype(out) if out is not None else dtype_argument(op, 3) or "float32"
    return Work(operations(dtype, 2 * steps), 0, dense_bytes((steps,), dtype))
