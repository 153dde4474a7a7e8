"""Sums, means and maxima of looked-up rows: what recommenders do. No table is charged as a whole."""

from __future__ import annotations

from diagnose.costs.promotion import known_dtype, whole_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, moved, operations
from diagnose.work import Op, TensorMeta, Work

_SUM, _MEAN, _MAX = range(3)


def _bags(op: Op, offsets: TensorMeta, include_last: int) -> int:
    return offsets.numel - (op.scalar(include_last, False) is True)


@cost("aten::_embedding_bag", "aten::_embedding_bag_forward_only", unless_child=("aten::_embedding_bag",))
def embedding_bag(op: Op) -> Work:
    """Shapes: table [V, D], indices [n], offsets [bags], .., mode, .., sample weights? -> [bags, D] and bookkeeping.

    FLOPs: 1 an element looked up; 1 more with sample weights; means divide 1 an output element.
    Bytes: min(n, V) rows, indices, offsets, sample weights; output, and which bag each index is in.
    """
    table, indices, offsets = op.tensor(0), op.tensor(1), op.tensor(2)
    mode, weights = op.scalar(4, _SUM), op.tensor_or_none(6)
    width, bags, dtype = table.shape[1], _bags(op, offsets, 7), known_dtype(table)
    looked_up = indices.numel * width
    flops = looked_up * (1 + (weights is not None)) + (bags * width if mode == _MEAN else 0)
    written = dense_bytes((bags, width), dtype) + dense_bytes((indices.numel,), known_dtype(indices))
    if mode == _MAX:
        written += dense_bytes((bags, width), known_dtype(indices))
    return Work(
        operations(dtype, flops), bytes_at_most(table, looked_up) + bytes_of(indices, offsets, weights), written
    )


@cost("aten::_embedding_bag_dense_backward")
@cost("aten::_embedding_bag_backward", unless_child=(
    "aten::_embedding_bag_dense_backward", "aten::_embedding_bag_sparse_backward"))  # fmt: skip
def embedding_bag_backward(op: Op) -> Work:
    """Shapes: gradient [bags, D], indices [n], [offsets,] bag of each, sizes, maxima, V, .., sample weights? -> [V, D].

    FLOPs: 1 an element of the n rows; 1 more with sample weights or means.
    Bytes: min(n, bags) rows of the gradient, indices, bags; min(n, V) rows, since an op of its own zeroes the rest.
    """
    is_dense = "dense" in op.name
    gradient, indices, rows = op.tensor(0), op.tensor(1), whole_argument(op, 5 if is_dense else 6)
    weights = op.tensor_or_none(8 if is_dense else 10)
    is_mean = op.scalar(7 if is_dense else 8) == _MEAN
    width, dtype = gradient.shape[-1], known_dtype(gradient)
    looked_up = indices.numel * width
    read = bytes_at_most(gradient, looked_up) + bytes_of(indices, op.tensor_or_none(2), weights)
    flops = operations(dtype, looked_up * (1 + (weights is not None or is_mean)))
    return Work(flops, read, dense_bytes((min(indices.numel, rows), width), dtype))


@cost("aten::_embedding_bag_per_sample_weights_backward")
def sample_weights_backward(op: Op) -> Work:
    """Shapes: gradient [bags, D], table [V, D], indices [n], offsets, bag of each, .. -> [n].

    FLOPs: 2 an element of the n rows.
    Bytes: min(n, bags) rows of the gradient, min(n, V) of the table, indices, bags; output.
    """
    gradient, table, indices = op.tensor(0), op.tensor(1), op.tensor(2)
    looked_up = indices.numel * table.shape[1]
    read = (
        bytes_at_most(gradient, looked_up) + bytes_at_most(table, looked_up) + bytes_of(indices, op.tensor_or_none(4))
    )
    flops = operations(known_dtype(table), 2 * looked_up)
    return Work(flops, read, dense_bytes((indices.numel,), known_dtype(table)))


@cost("aten::embedding_renorm_")
def embedding_renorm(op: Op) -> Work:
    """Shapes: table [V, D], indices [n], longest, p: rows that are too long are scaled, in place.

    FLOPs: 3 an element of the rows (2 for the norm, 1 to scale).
    Bytes: an upper bound, as if every row were too long and different: min(n, V) rows both ways, indices.
    """
    table, indices = op.tensor(0), op.tensor(1)
    elements = min(indices.numel * table.shape[1], table.numel)
    rows = bytes_at_most(table, elements)
    return Work(operations(known_dtype(table), 3 * elements), rows + bytes_of(indices), rows, is_bound=True)


@cost("aten::_pack_padded_sequence", unless_child=("aten::cat", "aten::index_select"))
def pack_sequence(op: Op) -> Work:
    """Shapes: x [T, B, ..], lengths [B] -> the steps that exist.

    FLOPs: none.
    Bytes: an upper bound, as if no sequence were padded: input; output. A cat below it has the work.
    """
    x = op.tensor(0)
    work = moved(bytes_of(x), dense_bytes(x.shape, known_dtype(x)))
    return Work((), work.bytes_read, work.bytes_written, is_bound=True)
