"""Distances between rows."""

from __future__ import annotations

from math import prod

from diagnose.costs.promotion import broadcast, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, Scalar, Work


def _per_pair(p: Scalar) -> tuple[int, int]:
    """FLOPs and special ones an element of a pair: difference, absolute value or square, sum; else a power."""
    if p in (0, 1, 2, float("inf")):
        return 3, 0
    return 3, 2


@cost("aten::_cdist_forward", unless_child=("aten::_euclidean_dist",))
def cdist(op: Op) -> Work:
    """Shapes: a [.., r, d], b [.., s, d], p -> [.., r, s].

    FLOPs: 3 an element of a pair (and two special where p is not 0, 1, 2 or infinite).
    Bytes: both; output. Large Euclidean ones are a matrix product, recorded below.
    """
    a, b = op.tensor(0), op.tensor(1)
    shape = (*broadcast((a.shape[:-2], b.shape[:-2])), a.shape[-2], b.shape[-2])
    count, (flops, special) = prod(shape) * a.shape[-1], _per_pair(op.scalar(2, 2.0))
    dtype = known_dtype(a)
    return Work(operations(dtype, flops * count, special * count), bytes_of(a, b), dense_bytes(shape, dtype))


@cost("aten::_cdist_backward")
def cdist_backward(op: Op) -> Work:
    """Shapes: gradient [.., r, s], a [.., r, d], b [.., s, d], p, distances -> a.

    FLOPs: 5 an element of a pair (and two special by a general p).
    Bytes: all inputs; output.
    """
    gradient, a, b, distances = op.tensor(0), op.tensor(1), op.tensor(2), op.tensor(4)
    count, (flops, special) = gradient.numel * a.shape[-1], _per_pair(op.scalar(3))
    counts = operations(known_dtype(a), (flops + 2) * count, special * count)
    return Work(counts, bytes_of(gradient, a, b, distances), dense_bytes(a.shape, known_dtype(a)))


@cost("aten::_pdist_forward")
def pdist(op: Op) -> Work:
    """Shapes: x [n, d], p -> [n (n - 1) / 2].

    FLOPs: 3 an element of a pair (and two special by a general p).
    Bytes: input; output.
    """
    x = op.tensor(0)
    rows, width = x.shape
    pairs, (flops, special) = rows * (rows - 1) // 2, _per_pair(op.scalar(1, 2.0))
    counts = operations(known_dtype(x), flops * pairs * width, special * pairs * width)
    return Work(counts, bytes_of(x), dense_bytes((pairs,), known_dtype(x)))


@cost("aten::_pdist_backward")
def pdist_backward(op: Op) -> Work:
    """Shapes: gradient [pairs], x [n, d], p, distances [pairs] -> x.

    FLOPs: 6 an element of a pair: each goes to both of its rows.
    Bytes: all inputs; output.
    """
    gradient, x = op.tensor(0), op.tensor(1)
    flops, special = _per_pair(op.scalar(2))
    count = gradient.numel * x.shape[1]
    counts = operations(known_dtype(x), (flops + 3) * count, special * count)
    return Work(counts, bytes_of(gradient, x, op.tensor(3)), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::dist", unless_child=("aten::norm", "aten::linalg_vector_norm"))
def dist(op: Op) -> Work:
    """Shapes: a, b, p -> one element.

    FLOPs: 3 an element.
    Bytes: both; one element.
    """
    a, b = op.tensor(0), op.tensor(1)
    count, (flops, special) = prod(broadcast((a.shape, b.shape))), _per_pair(op.scalar(2, 2.0))
    return Work(
        operations(known_dtype(a), flops * count, special * count), bytes_of(a, b), dense_bytes((), known_dtype(a))
    )


@cost("aten::renorm", unless_child=("aten::linalg_vector_norm", "aten::norm", "aten::renorm_"))
@cost("aten::renorm_", unless_child=("aten::linalg_vector_norm", "aten::norm"))
def renorm(op: Op) -> Work:
    """Shapes: x, p, dim, longest -> x, its slices scaled where they are too long.

    FLOPs: 3 an element.
    Bytes: input twice (the norms first); output.
    """
    x = op.tensor(0)
    again = bytes_of(x)
    return Work(operations(known_dtype(x), 3 * x.numel), 2 * again, dense_bytes(x.shape, known_dtype(x)), again)
