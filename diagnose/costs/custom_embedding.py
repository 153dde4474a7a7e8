"""Sparse features of recommenders (FBGEMM): look-ups of many tables in one, jagged tensors, row-wise quantisation."""

from __future__ import annotations

import re
from typing import Final

from diagnose.costs.custom import QUANTISE
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, itemsize, moved, operations
from diagnose.work import MissingFactError, Op, Work

_LENGTHS: Final = re.compile(r"permute_(?:2D_)?lengths", re.IGNORECASE)
_SCAN: Final = re.compile(r"Scan|cumsum", re.IGNORECASE)
_LARGEST: Final = re.compile(r"get_FP8_qparam", re.IGNORECASE)
_ROW_SCALE: Final = 8
"""Bytes that a row of 8-bit floats carries beside its elements: its scale, padded."""

_OPTIMIZERS: Final = (
    "sgd", "approx_sgd", "adagrad", "rowwise_adagrad", "approx_rowwise_adagrad", "rowwise_adagrad_with_counter",
    "rowwise_weighted_adagrad", "adam", "partial_rowwise_adam", "lamb", "partial_rowwise_lamb", "lars_sgd", "none",
)  # fmt: skip
_LOOKUPS: Final = tuple(
    f"fbgemm::split_embedding_codegen_lookup_{name}_function{suffix}" for name in _OPTIMIZERS for suffix in ("", "_pt2")
)


@cost(*_LOOKUPS, missing="a bound: the width of each table's rows, and how often a row repeats, is not recorded")
def lookup(op: Op) -> Work:
    """Rows of several tables summed into bags.

    Shapes: tables in one buffer (1), a place a table (5), sum of their widths (7), indices (11), offsets of the bags
        [bags of all tables + 1] (12), weights of the indices (14)? -> [batch, sum of widths] in float32
    FLOPs: one addition an element looked up (a product more with weights)
    Bytes: indices, offsets, weights; a row of the mean width an index; the result: an upper bound, rows repeat.
        Where the sum of widths was not recorded: indices and offsets alone, a lower bound, FLOPs unknown
    """
    tables, places, indices, offsets = op.tensor(1), op.tensor(5), op.tensor(11), op.tensor(12)
    weights = op.tensor_or_none(14)
    read = bytes_of(indices, offsets, weights)
    try:
        width = op.scalar(7)
    except MissingFactError:
        width = None
    if not isinstance(width, int) or not places.numel:
        return Work(None, read, 0, is_bound=True)
    elements = indices.numel * width // places.numel
    rows = min(elements, tables.numel) * itemsize(known_dtype(tables))
    bags = (offsets.numel - 1) // places.numel
    flops = operations("float32", elements * (1 + (weights is not None)))
    return Work(flops, read + rows, bags * width * itemsize("float32"), is_bound=True)


@cost("fbgemm::bounds_check_indices")
def check_indices(op: Op) -> Work:
    """Shapes: rows of each table, indices, offsets, mode, warnings.

    FLOPs: 2 comparisons an index.
    Bytes: all of them read. Only an index out of bounds is written: none is assumed.
    """
    tables, indices, offsets = op.tensor(0), op.tensor(1), op.tensor(2)
    return Work(operations(known_dtype(indices), 2 * indices.numel), bytes_of(tables, indices, offsets), 0)


@cost(
    "fbgemm::permute_2D_sparse_data", "fbgemm::permute_sparse_features", "fbgemm::permute_1D_sparse_data",
    missing="a bound: how many indices the permuted features have is not recorded; as if each were taken once",
)  # fmt: skip
def permute_features(op: Op) -> tuple[Phase, ...]:
    """Features of a jagged tensor in another order.

    Shapes: order [P], lengths [T, batch], indices [N], weights [N]? -> lengths [P, batch], indices, weights
    FLOPs: one addition a length in the sums that give the offsets
    Bytes: lengths picked and written; the same summed up; indices and weights read and written once each: exact where
        the order takes every feature once
    """
    order, lengths, indices, weights = op.tensor(0), op.tensor(1), op.tensor(2), op.tensor_or_none(3)
    batch = lengths.shape[-1] if len(lengths.shape) == 2 else 1
    picked = dense_bytes((order.numel, batch), known_dtype(lengths))
    sums = bytes_of(lengths) + picked
    data = bytes_of(indices, weights)
    is_bound = order.numel * batch != lengths.numel
    counted = operations(known_dtype(lengths), lengths.numel + order.numel * batch)
    return (
        Phase(Work((), bytes_of(order) + picked, picked), _LENGTHS),
        Phase(Work(counted, sums, sums), _SCAN),
        Phase(Work((), data + bytes_of(order), data, is_bound=is_bound)),
    )


@cost("fbgemm::asynchronous_complete_cumsum", "fbgemm::asynchronous_exclusive_cumsum",
      "fbgemm::asynchronous_inclusive_cumsum")  # fmt: skip
def cumsum(op: Op) -> Work:
    """Shapes: lengths [N] -> [N], or [N + 1] of the complete form.

    FLOPs: one addition an element.
    Bytes: input, output.
    """
    lengths = op.tensor(0)
    count = lengths.numel + op.name.endswith("complete_cumsum")
    dtype = known_dtype(lengths)
    return Work(operations(dtype, lengths.numel), bytes_of(lengths), dense_bytes((count,), dtype))


@cost(
    "fbgemm::permute_pooled_embs", "fbgemm::permute_pooled_embs_auto_grad",
    "torch::autograd::CppNode<fbgemm_gpu::PermutePooledEmbsFunction<&fbgemm_gpu::permute_pooled_embs_gpu> >",
)  # fmt: skip
def permute_pooled(op: Op) -> Work:
    """Shapes: x [batch, width], lists of offsets and orders -> like x; its gradient the other way.

    FLOPs: none.
    Bytes: x and the lists; the result.
    """
    x = op.tensor(0)
    return moved(bytes_of(*op.tensors()), dense_bytes(x.shape, known_dtype(x)))


@cost("fbgemm::FloatToFP8RowwiseQuantized")
def quantise_rows(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [rows, n] -> bytes [rows, n + 8], a scale a row.

    FLOPs: 2 an element for each row's largest value, 3 for the quantisation.
    Bytes: x; the result. The kernel that quantises reads x again: extra bytes.
    """
    x = op.tensor(0)
    rows = x.numel // max(1, x.shape[-1])
    dtype, size = known_dtype(x), bytes_of(x)
    scales = rows * _ROW_SCALE
    return (
        Phase(Work(operations(dtype, 2 * x.numel), size, scales), _LARGEST),
        Phase(Work(operations(dtype, QUANTISE * x.numel), size + scales, x.numel, extra_bytes=size + scales)),
    )


@cost("fbgemm::FP8RowwiseQuantizedToFloat")
def widen_rows(op: Op) -> Work:
    """Shapes: bytes [rows, n + 8] -> float32 [rows, n].

    FLOPs: one product an element.
    Bytes: input, output.
    """
    x = op.tensor(0)
    count = x.numel - x.numel // max(1, x.shape[-1]) * _ROW_SCALE
    return Work(operations("float32", count), bytes_of(x), count * itemsize("float32"))


@cost("fbgemm::FloatToHFP8Quantized", "fbgemm::HFP8QuantizedToFloat")
def convert_8_bits(op: Op) -> Work:
    """Shapes: x float32 -> bytes, and back.

    FLOPs: 3 an element to quantise, 1 to widen.
    Bytes: input, output.
    """
    x = op.tensor(0)
    narrows = op.name == "fbgemm::FloatToHFP8Quantized"
    flops = operations("float32", (QUANTISE if narrows else 1) * x.numel)
    return Work(flops, bytes_of(x), dense_bytes(x.shape, "uint8" if narrows else "float32"))
