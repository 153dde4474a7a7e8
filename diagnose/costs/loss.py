"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, itemsize, operations
from diagnose.work import Op, TensorMeta, Work

_NONE: Final = 0
"""Reduction::None, as losses are told to keep every element; 1 is the mean, 2 the sum."""

_LOSS_FLOPS: Final[Mapping[str, tuple[int, int]]] = {
    "mse_loss": (2, 0), "l1_loss": (2, 0), "smooth_l1_loss": (5, 0), "huber_loss": (5, 0),
    "binary_cross_entropy": (5, 2), "soft_margin_loss": (2, 2),
}  # fmt: skip
_LOSS_REDUCTION: Final = {"binary_cross_entropy": 3, "binary_cross_entropy_backward": 4, "huber_loss": 2}


@cost(*(f"aten::{name}" for name in _LOSS_FLOPS), unless_child=("aten::mean", "aten::sum"))
def loss(op: Op) -> Work:
    """Shapes: x, target[, weight] -> x, or one element.

    FLOPs: an element: mse 2, l1 2, smooth l1 and huber 5, binary cross-entropy 5 and two logarithms, soft margin 2
    and two special; 1 more to reduce.
    Bytes: x, target, weight; output.
    Assumes: where ``aten::mean`` or ``aten::sum`` is recorded below, it and the elementwise inner op carry the work.
    """
    name = op.name.removeprefix("aten::")
    x, target = op.tensor(0), op.tensor(1)
    weight = op.tensor_or_none(2) if name == "binary_cross_entropy" else None
    keeps = op.scalar(_LOSS_REDUCTION.get(name, 2), 1) == _NONE
    flops, special = _LOSS_FLOPS[name]
    counts = operations(known_dtype(x), (flops + (not keeps)) * x.numel, special * x.numel)
    written = dense_bytes(x.shape if keeps else (), known_dtype(x))
    return Work(counts, bytes_of(x, target, weight), written)


@cost("aten::mse_loss_backward", "aten::smooth_l1_loss_backward",
      "aten::huber_loss_backward", "aten::binary_cross_entropy_backward")  # fmt: skip
@cost("aten::soft_margin_loss_backward", unless_child=("aten::mul", "aten::exp"))
def loss_backward(op: Op) -> Work:
    """Shapes: gradient, x, target, ... -> x.

    FLOPs: 3 an element (difference, two products), binary cross-entropy 6.
    Bytes: gradient, x, target, weight; output.
    """
    gradient, x, target = op.tensor(0), op.tensor(1), op.tensor(2)
    is_entropy = "entropy" in op.name
    weight = op.tensor_or_none(3) if is_entropy else None
    flops = operations(known_dtype(x), (6 if is_entropy else 3) * x.numel)
    return Work(flops, bytes_of(gradient, x, target, weight), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::nll_loss_forward", "aten::nll_loss2d_forward")
def nll_loss(op: Op) -> Work:
    """Shapes: x [N, C, ..], target [N, ..], weight?, reduction -> a loss (per target, or one) and the total weight.

    FLOPs: 1 a target, 1 more with a weight.
    Bytes: one element of x a target, targets, weight; outputs.
    Assumes: no target is ignored.
    """
    x, target, weight = op.tensor(0), op.tensor(1), op.tensor_or_none(2)
    keeps = op.scalar(3) == _NONE
    read = bytes_at_most(x, target.numel) + bytes_of(target, weight)
    written = ((target.numel if keeps else 1) + 1) * itemsize(known_dtype(x))
    return Work(operations(known_dtype(x), (1 + (weight is not None)) * target.numel), read, written)


@cost("aten::nll_loss_backward", "aten::nll_loss2d_backward")
def nll_loss_backward(op: Op) -> Work:
    """Shapes: gradient, x [N, C, ..], target, weight?, reduction, ignored, total weight -> x.

    FLOPs: 1 a target (2 with a weight).
    Bytes: gradient, targets, weight, total weight; one element a target, since an op of its own zeroes the rest.
    """
    gradient, x, target, weight = op.tensor(0), op.tensor(1), op.tensor(2), op.tensor_or_none(3)
    read = bytes_of(gradient, target, weight, op.tensor_or_none(6))
    flops = operations(known_dtype(x), (1 + (weight is not None)) * target.numel)
    return Work(flops, read, target.numel * itemsize(known_dtype(x)))


@cost("aten::multi_margin_loss")
def multi_margin_loss(op: Op) -> Work:
    """Shapes: x [N, C], target [N], p, margin, weight?, reduction -> [N], or one element.

    FLOPs: 4 an element (margin, two differences, the larger), 1 to add it up.
    Bytes: x, target, weight; output.
    """
    x, target = op.tensor(0), op.tensor(1)
    count = target.numel if op.scalar(5, 1) == _NONE else 1
    counts = operations(known_dtype(x), 5 * x.numel)
    return Work(counts, bytes_of(x, target, op.tensor_or_none(4)), dense_bytes((count,), known_dtype(x)))


@cost("aten::multi_margin_loss_backward")
def multi_margin_loss_backward(op: Op) -> Work:
    """Shapes: gradient, x [N, C], target [N], p, margin, weight?, ... -> x.

    FLOPs: 5 an element.
    Bytes: gradient, x, target, weight; output.
    """
    gradient, x, target = op.tensor(0), op.tensor(1), op.tensor(2)
    read = bytes_of(gradient, x, target, op.tensor_or_none(5))
    return Work(operations(known_dtype(x), 5 * x.numel), read, dense_bytes(x.shape, known_dtype(x)))


@cost("aten::multilabel_margin_loss_forward")
def multilabel_margin_loss(op: Op) -> Work:
    """Shapes: x [N, C], labels [N, C], reduction -> [N] or one element, and which labels are targets [N, C].

    FLOPs: an upper bound: 4 for every pair of elements of a row (how many labels there are is data).
    Bytes: x, labels; outputs.
    """
    x, target = op.tensor(0), op.tensor(1)
    rows = prod(x.shape[:-1])
    written = dense_bytes((rows if op.scalar(2) == _NONE else 1,), known_dtype(x)) + dense_bytes(
        x.shape, known_dtype(x)
    )
    return Work(operations(known_dtype(x), 4 * x.numel * x.shape[-1]), bytes_of(x, target), written, is_bound=True)


@cost("aten::multilabel_margin_loss_backward")
def multilabel_margin_loss_backward(op: Op) -> Work:
    """Shapes: gradient, x [N, C], labels, reduction, which are targets -> x.

    FLOPs: an upper bound: 5 for every pair of elements of a row.
    Bytes: all inputs; output.
    """
    x = op.tensor(1)
    read = bytes_of(op.tensor(0), x, op.tensor(2), op.tensor(4))
    flops = operations(known_dtype(x), 5 * x.numel * x.shape[-1])
    return Work(flops, read, dense_bytes(x.shape, known_dtype(x)), is_bound=True)


def _ctc_targets(op: Op, index: int, targets: TensorMeta, batch: int) -> int:
    """The longest target: its lengths are recorded as a list, or lie in a tensor (then as wide as the targets)."""
    if op.tensor_or_none(index) is None:
        return max(op.ints(index), default=0)
    return targets.shape[1] if len(targets.shape) == 2 else -(-targets.numel // max(1, batch))


@cost("aten::_ctc_loss", "aten::_cudnn_ctc_loss", unless_child=("aten::_ctc_loss",))
def ctc_loss(op: Op) -> Work:
    """Shapes: log probabilities [T, N, C], targets, lengths -> [N], and log alpha [N, T, 2 S + 1].

    FLOPs: 6 a state and time (two maxima, three differences, sums), and four special.
    Bytes: an upper bound, as if every sequence were as long as the longest: one probability a state and time, targets;
    log alpha twice (each time is read by the next), losses.
    """
    log_probs, targets = op.tensor(0), op.tensor(1)
    time, batch, classes = log_probs.shape if len(log_probs.shape) == 3 else (log_probs.shape[0], 1, log_probs.shape[1])
    states = 2 * _ctc_targets(op, 3, targets, batch) + 1
    dtype = known_dtype(log_probs)
    alpha = dense_bytes((batch, time, states), dtype)
    read = dense_bytes((batch, time, min(states, classes)), dtype) + bytes_of(targets) + alpha
    counts = operations(dtype, 6 * batch * time * states, 4 * batch * time * states)
    return Work(counts, read, alpha + dense_bytes((batch,), dtype), is_bound=True)


@cost("aten::_ctc_loss_backward", unless_child=("aten::_ctc_loss_backward",))
def ctc_loss_backward(op: Op) -> Work:
    """Shapes: gradient [N], log probabilities [T, N, C], targets, lengths, losses, log alpha -> [T, N, C].

    FLOPs: 6 a state and time for beta and 3 to add up, 2 an output element; five special a state and time and one an
    output element.
    Bytes: an upper bound, as forward: log probabilities, log alpha, beta both ways; output.
    """
    log_probs, targets, alpha = op.tensor(1), op.tensor(2), op.tensor(6)
    dtype, cells = known_dtype(log_probs), alpha.numel
    counts = operations(dtype, 9 * cells + 2 * log_probs.numel, 5 * cells + log_probs.numel)
    beta = dense_bytes((cells,), dtype)
    read = bytes_of(op.tensor(0), log_probs, targets, alpha) + beta
    return Work(counts, read, beta + dense_bytes(log_probs.shape, dtype), is_bound=True)
