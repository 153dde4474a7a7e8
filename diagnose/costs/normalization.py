"""Layer, group and RMS norms. Work a row (a division, a square root) is left out beside work an element."""

from __future__ import annotations

import re
from math import prod
from typing import Final

from diagnose.costs.promotion import flags_argument, known_dtype, statistic_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, itemsize, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work

_STATISTICS: Final = re.compile(r"RowwiseMoments|rowwise_moments|welford")
_GRAD_PARAMETERS: Final = re.compile(r"[Gg]amma_?[Bb]eta|GradGamma|Compute1dBackwardFusedParams|InternalGradients")


@cost("aten::native_layer_norm")
def layer_norm(op: Op) -> Work:
    """Shapes: x [.., N], normalized_shape, weight?, bias? -> x, mean [..], rstd [..].

    FLOPs: 6 an element (mean 1, variance 3, normalise 2), 1 for a weight, 1 for a bias.
    Bytes: input, weight, bias; output, mean, rstd (float32).
    """
    x, weight, bias = op.tensor(0), op.tensor_or_none(2), op.tensor_or_none(3)
    rows = x.numel // max(1, prod(op.ints(1)))
    per_element = 6 + (weight is not None) + (bias is not None)
    written = dense_bytes(x.shape, known_dtype(x)) + 2 * dense_bytes((rows,), statistic_dtype(x))
    return Work(operations(known_dtype(x), per_element * x.numel), bytes_of(x, weight, bias), written)


def _affine_backward(x: TensorMeta, read: int, written: tuple[int, int], counts: tuple[int, int]) -> tuple[Phase, ...]:
    """The gradient of the input, and those of weight and bias, whose kernel reads gradient and input once more."""
    dtype = known_dtype(x)
    again = 2 * bytes_of(x)
    inputs = Work(operations(dtype, counts[0]), read, written[0])
    if not counts[1]:
        return (Phase(inputs),)
    if not counts[0]:
        return (Phase(Work(operations(dtype, counts[1]), read, written[1])),)
    parameters = Work(operations(dtype, counts[1]), again, written[1], extra_bytes=again)
    return Phase(inputs), Phase(parameters, _GRAD_PARAMETERS)


@cost("aten::native_layer_norm_backward")
def layer_norm_backward(op: Op) -> tuple[Phase, ...]:
    """Shapes: gradient, x, normalized_shape, mean, rstd, weight?, bias?, mask -> x, weight, bias.

    FLOPs: 10 an element for x (normalised input 2, product with weight 1, two sums 3, combination 4), 2 for the
    weight, 1 for the bias.
    Bytes: gradient, x, mean, rstd, weight; the gradients asked for. The kernel for weight and bias reads gradient and
    x again: extra bytes.
    """
    gradient, x, weight, bias = op.tensor(0), op.tensor(1), op.tensor_or_none(5), op.tensor_or_none(6)
    wants_x, wants_weight, wants_bias = flags_argument(op, 7, 3)
    read = bytes_of(gradient, x, op.tensor(3), op.tensor(4), weight)
    written = (
        dense_bytes(x.shape, known_dtype(x)) * wants_x,
        bytes_of(weight if wants_weight else None, bias if wants_bias else None),
    )
    parameters = 2 * (wants_weight and weight is not None) + (wants_bias and bias is not None)
    return _affine_backward(x, read, written, (10 * x.numel * wants_x, parameters * x.numel))


@cost("aten::native_group_norm")
def group_norm(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [N, C, ..], weight?, bias?, N, C, HxW, groups, eps -> x, mean [N, groups], rstd [N, groups].

    FLOPs: 4 an element for mean and variance; 2 to normalise (weight and bias are folded into both numbers).
    Bytes: input, weight, bias; output, mean, rstd. The kernel that normalises reads the input again: extra bytes.
    """
    x, weight, bias = op.tensor(0), op.tensor_or_none(1), op.tensor_or_none(2)
    batch, groups = op.scalar(3), op.scalar(6)
    if not isinstance(batch, int) or not isinstance(groups, int):
        raise MissingFactError("batch and groups were not recorded")
    dtype, size = known_dtype(x), bytes_of(x)
    moments = 2 * dense_bytes((batch, groups), dtype)
    statistics = Work(operations(dtype, 4 * x.numel), size, moments)
    normalise = Work(
        operations(dtype, 2 * x.numel), size + bytes_of(weight, bias), dense_bytes(x.shape, dtype), extra_bytes=size
    )
    return Phase(statistics, _STATISTICS), Phase(normalise)


@cost("aten::native_group_norm_backward")
def group_norm_backward(op: Op) -> Work:
    """Shapes: gradient, x, mean, rstd, weight?, N, C, HxW, groups, mask -> x, weight, bias.

    FLOPs: 10 an element for x, 2 for the weight, 1 for the bias.
    Bytes: gradient, x, mean, rstd, weight; the gradients asked for.
    """
    gradient, x, weight = op.tensor(0), op.tensor(1), op.tensor_or_none(4)
    wants_x, wants_weight, wants_bias = flags_argument(op, 9, 3)
    flops = (10 * wants_x + 2 * wants_weight + wants_bias) * x.numel
    written = dense_bytes(x.shape, known_dtype(x)) * wants_x + bytes_of(weight) * (wants_weight + wants_bias)
    return Work(operations(known_dtype(x), flops), bytes_of(gradient, x, op.tensor(2), op.tensor(3), weight), written)


@cost("aten::_fused_rms_norm", "aten::rms_norm", unless_child=("aten::_fused_rms_norm", "aten::rsqrt"))
def rms_norm(op: Op) -> Work:
    """Shapes: x [.., N], normalized_shape, weight?, eps -> x, and rstd [..] from the fused op.

    FLOPs: 3 an element (square, sum, product), 1 for a weight.
    Bytes: input, weight; output, rstd.
    """
    x, weight = op.tensor(0), op.tensor_or_none(2)
    rows = x.numel // max(1, prod(op.ints(1)))
    saved = dense_bytes((rows,), statistic_dtype(x)) if "_fused" in op.name else 0
    flops = operations(known_dtype(x), (3 + (weight is not None)) * x.numel)
    return Work(flops, bytes_of(x, weight), x.numel * itemsize(known_dtype(x)) + saved)


@cost("aten::_fused_rms_norm_backward")
def rms_norm_backward(op: Op) -> tuple[Phase, ...]:
    """Shapes: gradient, x, normalized_shape, rstd, weight?, mask -> x, weight.

    FLOPs: 7 an element for x, 2 for the weight.
    Bytes: gradient, x, rstd, weight; the gradients asked for; the weight's kernel reads gradient and x again.
    """
    gradient, x, weight = op.tensor(0), op.tensor(1), op.tensor_or_none(4)
    wants_x, wants_weight = flags_argument(op, 5, 2)
    read = bytes_of(gradient, x, op.tensor(3), weight)
    written = (dense_bytes(x.shape, known_dtype(x)) * wants_x, bytes_of(weight if wants_weight else None))
    counts = (7 * x.numel * wants_x, 2 * x.numel * (wants_weight and weight is not None))
    return _affine_backward(x, read, written, counts)
