"""Batch norm. Work a channel (a division, a square root) is left out beside work an element."""

from __future__ import annotations

import re
from typing import Final

from diagnose.costs.promotion import flags_argument, known_dtype, statistic_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work

_STATISTICS: Final = re.compile(r"collect_statistics|batch_norm_reduce|welford")
_RUNNING: Final = re.compile(r"multi_outputs|update_stats|running")


def _channels(x: TensorMeta) -> int:
    return x.shape[1] if len(x.shape) > 1 else 1


def _batch_norm(op: Op, is_training: bool, *, is_fused: bool) -> tuple[Phase, ...]:
    """One pass with known statistics; in training one more for them, and the running ones moved."""
    x, weight, bias, mean, variance = op.tensor(0), *(op.tensor_or_none(index) for index in range(1, 5))
    dtype, size, output = known_dtype(x), bytes_of(x), dense_bytes(x.shape, known_dtype(x))
    affine = 2 + (weight is not None) + (bias is not None)
    if not is_training:
        work = Work(operations(dtype, affine * x.numel), size + bytes_of(weight, bias, mean, variance), output)
        return (Phase(work),)
    saved = 2 * dense_bytes((_channels(x),), statistic_dtype(x))
    running = Work((), bytes_of(mean, variance), bytes_of(mean, variance))
    statistics = Work(operations(dtype, 4 * x.numel), size, saved)
    again = 0 if is_fused else size
    normalise = Work(operations(dtype, affine * x.numel), again + bytes_of(weight, bias), output, extra_bytes=again)
    if is_fused:
        return (Phase(statistics + running + normalise),)
    moved = () if mean is None else (Phase(running, _RUNNING),)
    return (Phase(statistics, _STATISTICS), *moved, Phase(normalise))


@cost("aten::native_batch_norm", "aten::_native_batch_norm_legit")
def batch_norm(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [N, C, ..], weight?, bias?, running mean?, running variance?, training, ... -> x, mean [C], rstd [C].

    FLOPs: 2 an element to normalise, 1 for a weight, 1 for a bias; in training 4 more for mean and variance.
    Bytes: input, parameters, output; in training the saved statistics, the running ones both ways, and, for the
    kernel that normalises, the input again: extra bytes.
    """
    # The overload without running statistics has the flag where the running mean would be.
    flag = op.scalar(3 if op.tensor_or_none(3) is None and isinstance(op.scalar(3), bool) else 5)
    return _batch_norm(op, bool(flag), is_fused=False)


@cost("aten::_native_batch_norm_legit_no_training")
def batch_norm_no_training(op: Op) -> tuple[Phase, ...]:
    """Shapes: x, weight?, bias?, running mean, running variance, momentum, eps -> x.

    FLOPs: 2 an element, 1 for a weight, 1 for a bias.
    Bytes: input, parameters, output.
    """
    return _batch_norm(op, False, is_fused=True)


@cost("aten::cudnn_batch_norm", "aten::miopen_batch_norm")
def library_batch_norm(op: Op) -> tuple[Phase, ...]:
    """Shapes: as batch_norm; the library's kernel does all of it.

    FLOPs: as batch_norm.
    Bytes: as batch_norm, the input once.
    """
    return _batch_norm(op, bool(op.scalar(5)), is_fused=True)


@cost("aten::_batch_norm_with_update")
def batch_norm_with_update(op: Op) -> tuple[Phase, ...]:
    """Shapes: x, weight?, bias?, running mean, running variance, momentum, eps -> x; always training.

    FLOPs: as batch_norm.
    Bytes: as batch_norm, the input once (which kernels run depends on the library).
    """
    return _batch_norm(op, True, is_fused=True)


def _batch_norm_gradients(tensors: tuple[TensorMeta | None, ...], flags: tuple[bool, ...], is_training: bool) -> Work:
    gradient, x, weight, *statistics = tensors
    if gradient is None or x is None:
        raise MissingFactError("the gradient was not recorded")
    dtype = known_dtype(x)
    flops = ((9 if is_training else 2) * flags[0] + 3 * flags[1] + flags[2]) * x.numel
    parameter = dense_bytes((_channels(x),), dtype if weight is None else known_dtype(weight))
    written = dense_bytes(x.shape, dtype) * flags[0] + parameter * (flags[1] + flags[2])
    return Work(operations(dtype, flops), bytes_of(gradient, x, weight, *statistics), written)


@cost("aten::native_batch_norm_backward")
def batch_norm_backward(op: Op) -> Work:
    """Shapes: gradient, x, weight?, running (2), saved (2), training, eps, mask -> x, weight, bias.

    FLOPs: 9 an element for x in training (2 with known statistics), 3 for the weight, 1 for the bias.
    Bytes: gradient, x, weight, the statistics used; the gradients asked for.
    """
    is_training = bool(op.scalar(7))
    statistics = (5, 6) if is_training else (3, 4)
    tensors = (op.tensor(0), op.tensor(1), *(op.tensor_or_none(index) for index in (2, *statistics)))
    return _batch_norm_gradients(tensors, flags_argument(op, 9, 3), is_training)


@cost("aten::cudnn_batch_norm_backward", "aten::miopen_batch_norm_backward")
def library_batch_norm_backward(op: Op) -> Work:
    """Shapes: x, gradient, weight, running (2), saved (2), eps -> x, weight, bias.

    FLOPs: 13 an element.
    Bytes: gradient, x, weight, saved statistics; all three gradients.
    """
    # cuDNN's op takes the input first; which of the two is which makes no difference to the work.
    tensors = (op.tensor(1), op.tensor(0), *(op.tensor_or_none(index) for index in (2, 5, 6)))
    return _batch_norm_gradients(tensors, (True, True, True), True)


@cost("aten::batch_norm_stats")
def batch_norm_stats(op: Op) -> Work:
    """Shapes: x [N, C, ..], eps -> mean [C], rstd [C].

    FLOPs: 4 an element.
    Bytes: input; the statistics.
    """
    x = op.tensor(0)
    written = 2 * dense_bytes((_channels(x),), statistic_dtype(x))
    return Work(operations(known_dtype(x), 4 * x.numel), bytes_of(x), written)


@cost("aten::batch_norm_elemt")
def batch_norm_elemt(op: Op) -> Work:
    """Shapes: x, weight?, bias?, mean, rstd, eps -> x.

    FLOPs: 2 an element, 1 for a weight, 1 for a bias.
    Bytes: input, parameters, output.
    """
    return _batch_norm(op, False, is_fused=True)[0].work


@cost("aten::batch_norm_backward")
def batch_norm_with_update_backward(op: Op) -> Work:
    """Shapes: gradient, x, weight, running (2), saved (2), training, eps, mask, reserve -> x, weight, bias.

    FLOPs, Bytes: as ``batch_norm_backward``.
    """
    is_training = bool(op.scalar(7))
    statistics = (5, 6) if is_training else (3, 4)
    tensors = (op.tensor(0), op.tensor(1), *(op.tensor_or_none(index) for index in (2, *statistics)))
    return _batch_norm_gradients(tensors, flags_argument(op, 9, 3), is_training)


@cost("aten::batch_norm_backward_reduce")
def batch_norm_backward_reduce(op: Op) -> Work:
    """Shapes: gradient, x [N, C, ..], mean, rstd, weight?, flags -> two sums [C], weight, bias.

    FLOPs: 4 an element (sum; difference, product, sum).
    Bytes: gradient, x, statistics; the sums and gradients asked for.
    """
    x = op.tensor(1)
    asked = 2 * bool(op.scalar(5)) + bool(op.scalar(6)) + bool(op.scalar(7))
    written = asked * dense_bytes((_channels(x),), statistic_dtype(x))
    read = bytes_of(op.tensor(0), x, op.tensor(2), op.tensor(3))
    return Work(operations(known_dtype(x), 4 * x.numel), read, written)


@cost("aten::batch_norm_backward_elemt")
def batch_norm_backward_elemt(op: Op) -> Work:
    """Shapes: gradient, x, mean, rstd, weight?, two sums, counts -> x.

    FLOPs: 5 an element (numbers of a channel are made once).
    Bytes: gradient, x, statistics, sums; output.
    """
    x = op.tensor(1)
    read = bytes_of(op.tensor(0), x, *(op.tensor_or_none(index) for index in range(2, 8)))
    return Work(operations(known_dtype(x), 5 * x.numel), read, dense_bytes(x.shape, known_dtype(x)))


@cost("aten::batch_norm_gather_stats", "aten::batch_norm_gather_stats_with_counts")
def batch_norm_gather_stats(op: Op) -> Work:
    """Shapes: x, means [ranks, C], rstds [ranks, C], running (2)?, .., counts -> mean [C], rstd [C].

    FLOPs: 8 an element of the means.
    Bytes: means, rstds, running ones both ways; outputs.
    """
    means, rstds = op.tensor(1), op.tensor(2)
    running = bytes_of(op.tensor_or_none(3), op.tensor_or_none(4))
    written = 2 * dense_bytes((means.shape[-1],), known_dtype(means)) + running
    return Work(operations(known_dtype(means), 8 * means.numel), bytes_of(means, rstds) + running, written)


@cost("aten::batch_norm_update_stats")
def batch_norm_update_stats(op: Op) -> Work:
    """Shapes: x [N, C, ..], running (2)? -> mean [C], variance [C].

    FLOPs: 4 an element.
    Bytes: input, running ones both ways; the statistics.
    """
    x, running = op.tensor(0), bytes_of(op.tensor_or_none(1), op.tensor_or_none(2))
    written = 2 * dense_bytes((_channels(x),), statistic_dtype(x)) + running
    return Work(operations(known_dtype(x), 4 * x.numel), bytes_of(x) + running, written)
