"""Sparse tensors: a recording has their outer shape and not how many elements they hold.

So the work is a lower bound from what is dense, FLOPs unknown. Half-sparse (2:4) weights have known sizes.
"""

from __future__ import annotations

from math import prod

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import dtype_argument, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of


def _is_dense(tensor: TensorMeta) -> bool:
    """Strides are recorded for tensors that have them; without any at all nothing can be told."""
    return tensor.strides is not None and len(tensor.strides) == len(tensor.shape)


def _product(op: Op, first: int) -> Work:
    a, b = op.tensor(first), op.tensor(first + 1)
    addend = op.tensor(0) if first else None
    dense = [tensor for tensor in (addend, a, b) if tensor is not None and _is_dense(tensor)]
    shape = (*a.shape[:-1], *b.shape[1:])
    return Work(None, bytes_of(*dense), dense_bytes(shape, known_dtype(a)), is_bound=True)


@cost("aten::_sparse_addmm")
def sparse_addmm(op: Op) -> Work:
    """Shapes: addend [m, n], sparse [m, k], dense [k, n] -> [m, n].

    FLOPs: unknown (2 n for each element that the sparse side holds).
    Bytes: a lower bound: the dense inputs; output.
    """
    return _product(op, 1)


@cost("aten::_sparse_mm_reduce_impl", "aten::hspmm")
def sparse_mm(op: Op) -> Work:
    """Shapes: sparse [m, k], dense [k, n] -> [m, n].

    FLOPs: unknown.
    Bytes: a lower bound: the dense input; output.
    """
    return _product(op, 0)


@cost("aten::sparse_sampled_addmm")
def sampled_addmm(op: Op) -> Work:
    """Shapes: sparse [m, n], a [m, k], b [k, n] -> sparse [m, n].

    FLOPs: unknown (2 k for each element that the sparse side holds).
    Bytes: unknown too, but for nothing: no element need be looked at. A lower bound of zero says so.
    """
    op.tensor(0)
    return Work(None, 0, 0, is_bound=True)


@cost("aten::_to_dense")
def to_dense(op: Op) -> Work:
    """Shapes: sparse (or packed by a library) -> dense.

    FLOPs: unknown.
    Bytes: a lower bound: the output.
    """
    x = op.tensor(0)
    return Work(None, 0, dense_bytes(x.shape, dtype_argument(op, 1) or known_dtype(x)), is_bound=True)


@cost("aten::_to_sparse", "aten::_to_sparse_csr", "aten::_to_sparse_csc", "aten::_to_sparse_bsr",
      "aten::_to_sparse_bsc", "aten::sparse_mask",
      unless_child=("aten::nonzero", "aten::_to_sparse", "aten::sparse_mask"))  # fmt: skip
def to_sparse(op: Op) -> Work:
    """Shapes: dense -> sparse.

    FLOPs: unknown.
    Bytes: a lower bound: the input. What looks for elements is recorded below on most layouts.
    """
    x = op.tensor(0)
    return Work(None, bytes_of(x), 0, is_bound=True)


@cost("aten::to_mkldnn")
def to_packed(op: Op) -> Work:
    """Shapes: x -> x in a library's layout.

    FLOPs: none.
    Bytes: input; as much.
    """
    x = op.tensor(0)
    return Work((), bytes_of(x), dense_bytes(x.shape, dtype_argument(op, 1) or known_dtype(x)))


def _half_sparse(weight: TensorMeta, dense: TensorMeta, others: tuple[TensorMeta | None, ...], out: str | None) -> Work:
    """A weight [m, k / 2] that holds two of every four elements, times [k, n]: only what is held is multiplied."""
    rows, held = weight.shape[-2:]
    columns = dense.numel // (2 * held)
    resource, real = product_resource(known_dtype(dense))
    flops = flops_of({resource: 2 * rows * held * columns * real})
    return Work(flops, bytes_of(weight, dense, *others), dense_bytes((rows, columns), out or known_dtype(dense)))


@cost("aten::_sparse_semi_structured_linear")
def semi_structured_linear(op: Op) -> Work:
    """Shapes: x [.., k], w [n, k / 2], metadata, bias?, activation, dtype -> [.., n].

    FLOPs: m n k: half of the dense product.
    Bytes: inputs, metadata; output.
    """
    others = (op.tensor(2), op.tensor_or_none(3))
    return _half_sparse(op.tensor(1), op.tensor(0), others, dtype_argument(op, 5))


@cost("aten::_sparse_semi_structured_mm", "aten::_sparse_semi_structured_addmm")
def semi_structured_mm(op: Op) -> Work:
    """Shapes: [addend,] w [m, k / 2], metadata, x [k, n] -> [m, n].

    FLOPs: m n k: half of the dense product.
    Bytes: inputs, metadata; output.
    """
    first = 1 if "addmm" in op.name else 0
    others = (op.tensor(first + 1), op.tensor(0) if first else None)
    return _half_sparse(op.tensor(first), op.tensor(first + 2), others, None)


@cost("aten::_cslt_sparse_mm")
def cslt_mm(op: Op) -> Work:
    """Shapes: w compressed into one buffer with its metadata, x [k, n], bias?, alpha?, dtype -> [m, n].

    FLOPs: m n k: half of the dense product.
    Bytes: inputs; output.
    Assumes: the buffer holds half of the elements and two bits for each (9 / 16 of the dense matrix at 16 bits,
    10 / 16 at 8).
    """
    weight, x = op.tensor(0), op.tensor(1)
    k, n = x.shape
    share = 9 if (weight.itemsize or 0) > 1 else 10
    dense = weight.numel * 16 // share
    if not k:
        raise MissingFactError("the shapes are empty")
    rows = dense // k
    resource, real = product_resource(known_dtype(x))
    flops = flops_of({resource: rows * n * k * real})
    out = dtype_argument(op, 4) or known_dtype(x)
    return Work(flops, bytes_of(weight, x, op.tensor_or_none(2), op.tensor_or_none(3)), dense_bytes((rows, n), out))


@cost("aten::_coalesce", "aten::_sparse_sum", "aten::_sparse_softmax", "aten::_sparse_log_softmax",
      "aten::_sparse_sparse_matmul", "aten::_sparse_softmax_backward_data", "aten::_sparse_log_softmax_backward_data",
      unless_child=("aten::_sparse_sum", "aten::index_add_", "aten::sum", "aten::_coalesce"))  # fmt: skip
def of_held_elements(op: Op) -> Work:
    """Shapes: sparse -> sparse.

    FLOPs: unknown.
    Bytes: unknown; the lower bound is zero, since nothing need be held.
    """
    op.tensor(0)
    return Work(None, 0, 0, is_bound=True)


@cost("aten::_jagged_to_padded_dense_forward")
def jagged_to_padded(op: Op) -> Work:
    """Shapes: values [total, ..], offsets, longest, fill -> [batch, longest, ..].

    FLOPs: none.
    Bytes: values, offsets; output.
    """
    values, offsets, longest = op.tensor(0), op.tensor_list(1), op.ints(2)
    if len(offsets) != 1:
        raise MissingFactError("the offsets were not recorded")
    shape = (offsets[0].numel - 1, *longest, *values.shape[1:])
    read = bytes_of(values) + dense_bytes(offsets[0].shape, offsets[0].dtype or "int64")
    return Work((), read, dense_bytes(shape, known_dtype(values)))


@cost("aten::_padded_dense_to_jagged_forward")
def padded_to_jagged(op: Op) -> Work:
    """Shapes: dense [batch, longest, ..], offsets, total -> [total, ..].

    FLOPs: none.
    Bytes: what is kept; output. Where the total was not given, an upper bound: all of it.
    """
    dense, total = op.tensor(0), op.scalar(2)
    rows = total if isinstance(total, int) else prod(dense.shape[:2])
    size = dense_bytes((rows, *dense.shape[2:]), known_dtype(dense))
    return Work((), size, size, is_bound=not isinstance(total, int))


@cost("aten::segment_reduce")
def segment_reduce(op: Op) -> Work:
    """Shapes: data [n, ..], reduce, lengths [s] (or offsets [s + 1]) -> [s, ..].

    FLOPs: 1 an element.
    Bytes: data, lengths; output.
    """
    data, lengths, offsets = op.tensor(0), op.tensor_or_none(2), op.tensor_or_none(4)
    segments = lengths.numel if lengths is not None else offsets.numel - 1 if offsets is not None else None
    if segments is None:
        raise MissingFactError("the segments were not recorded")
    resource = "vector.float64" if known_dtype(data) == "float64" else "vector.float32"
    written = dense_bytes((segments, *data.shape[1:]), known_dtype(data))
    return Work(flops_of({resource: data.numel}), bytes_of(data, lengths, offsets), written)
