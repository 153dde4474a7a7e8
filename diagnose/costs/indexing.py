"""Gathers and scatters. Of what is looked up, no more is charged than was asked for, nor than there is.

Which rows the indices name is data: ``min(elements asked for, elements there)`` is the most that distinct ones can be,
and is taken as the value (docs/work.md says so).
"""

from __future__ import annotations

from math import prod

from msgspec.structs import replace

from diagnose.costs.promotion import broadcast, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, itemsize, moved, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


def _slices(table: TensorMeta, dim: int, count: int) -> TensorMeta:
    """``count`` different slices of the table along ``dim``, or all that it has."""
    place = dim % len(table.shape)
    sizes = tuple(min(count, size) if at == place else size for at, size in enumerate(table.shape))
    return replace(table, shape=sizes)


def _dim(op: Op, index: int) -> int:
    dim = op.scalar(index)
    if not isinstance(dim, int):
        raise MissingFactError("the dimension was not recorded")
    return dim


@cost("aten::embedding", unless_child=("aten::index_select",))
def embedding(op: Op) -> Work:
    """Shapes: table [V, D], indices [..] -> [.., D].

    FLOPs: none.
    Bytes: min(indices, V) rows, indices; output.
    """
    table, indices = op.tensor(0), op.tensor(1)
    written = dense_bytes((indices.numel, *table.shape[1:]), known_dtype(table))
    return moved(bytes_of(_slices(table, 0, indices.numel), indices), written)


@cost("aten::embedding_dense_backward")
def embedding_backward(op: Op) -> Work:
    """Shapes: gradient [.., D], indices [..], V -> [V, D].

    FLOPs: 1 a gradient element.
    Bytes: gradient, indices; min(indices, V) rows, since an op of its own zeroes the rest.
    """
    gradient, indices, rows = op.tensor(0), op.tensor(1), op.scalar(2)
    if not isinstance(rows, int):
        raise MissingFactError("the number of rows was not recorded")
    dtype = known_dtype(gradient)
    written = dense_bytes((min(indices.numel, rows), gradient.shape[-1]), dtype)
    return Work(operations(dtype, gradient.numel), bytes_of(gradient, indices), written)


@cost("aten::index_select")
def index_select(op: Op) -> Work:
    """Shapes: x, dim, indices [n] -> x with n slices along dim.

    FLOPs: none.
    Bytes: min(n, size) slices, indices; output.
    """
    x, indices = op.tensor(0), op.tensor(2)
    if not x.shape:
        return moved(bytes_of(x, indices), itemsize(known_dtype(x)))
    place = _dim(op, 1) % len(x.shape)
    shape = tuple(indices.numel if at == place else size for at, size in enumerate(x.shape))
    return moved(bytes_of(_slices(x, place, indices.numel), indices), dense_bytes(shape, known_dtype(x)))


@cost("aten::gather")
def gather(op: Op) -> Work:
    """Shapes: x, dim, indices -> as the indices.

    FLOPs: none.
    Bytes: min(indices, elements of x), indices; output.
    """
    x, indices = op.tensor(0), op.tensor(2)
    return moved(bytes_at_most(x, indices.numel) + bytes_of(indices), dense_bytes(indices.shape, known_dtype(x)))


@cost("aten::take")
def take(op: Op) -> Work:
    """Shapes: x, indices -> as the indices.

    FLOPs: none.
    Bytes: min(indices, elements of x), indices; output.
    """
    x, indices = op.tensor(0), op.tensor(1)
    return moved(bytes_at_most(x, indices.numel) + bytes_of(indices), dense_bytes(indices.shape, known_dtype(x)))


def _scattered(op: Op, *, is_sum: bool) -> Work:
    target, indices, source = op.tensor(0), op.tensor(2), op.tensor_or_none(3)
    touched = bytes_at_most(target, indices.numel)
    read = bytes_of(indices) + touched * is_sum
    if source is not None:
        read += itemsize(known_dtype(source)) * min(indices.numel, source.distinct_numel)
    return Work(operations(known_dtype(target), indices.numel if is_sum else 0), read, touched)


@cost("aten::scatter_", "aten::scatter")
def scatter(op: Op) -> Work:
    """Shapes: target, dim, indices, source or number[, reduce].

    FLOPs: none (1 an index where it reduces).
    Bytes: indices, as many source elements; the touched elements, both ways where it reduces. An op of its own
    copies the target where it is not in place.
    """
    return _scattered(op, is_sum=isinstance(op.scalar(4) if op.tensor_or_none(4) is None else None, str))


@cost("aten::scatter_add_", "aten::scatter_add", "aten::scatter_reduce_", "aten::scatter_reduce")
def scatter_add(op: Op) -> Work:
    """Shapes: target, dim, indices, source.

    FLOPs: 1 an index.
    Bytes: indices, as many source elements; the touched elements both ways.
    """
    return _scattered(op, is_sum=True)


def _indices(op: Op, index: int) -> tuple[TensorMeta, ...]:
    """The index tensors; a list that holds None is recorded by none of today's traces."""
    tensors = op.tensor_list(index)
    if not tensors:
        raise MissingFactError("the index tensors were not recorded")
    for tensor in tensors:
        known_dtype(tensor)
    return tensors


def _indexed_shape(op: Op, x: TensorMeta, indices: tuple[TensorMeta, ...]) -> tuple[int, ...]:
    """The shape of ``x[indices]``: as the op's views tell it, else what is passed as None comes through."""
    told = [item for item in op.outputs or () if isinstance(item, TensorMeta)]
    if told:
        return told[0].shape
    common = broadcast(index.shape for index in indices)
    # Indices recorded without their places lead; only the order of the output's dimensions depends on it.
    places: list[int] = []
    value = op.inputs[1] if op.inputs is not None else ()
    if isinstance(value, tuple):
        places = [place for place, item in enumerate(value) if isinstance(item, TensorMeta)]
    return (*common, *(size for place, size in enumerate(x.shape) if place not in places))


def _is_mask(index: TensorMeta) -> bool:
    return index.dtype in ("bool", "uint8")


@cost("aten::index")
def index(op: Op) -> Work:
    """Shapes: x, indices -> their broadcast shape and the dimensions of x that have none.

    FLOPs: none.
    Bytes: min(output, x) elements, indices; output. With a mask an upper bound: all of x both ways.
    """
    x, indices = op.tensor(0), _indices(op, 1)
    if any(map(_is_mask, indices)):
        return replace(moved(bytes_of(x, *indices), bytes_of(x)), is_bound=True)
    shape = _indexed_shape(op, x, indices)
    return moved(bytes_at_most(x, prod(shape)) + bytes_of(*indices), dense_bytes(shape, known_dtype(x)))


@cost("aten::_index_put_impl_")
@cost("aten::index_put_", "aten::index_put", unless_child=("aten::_index_put_impl_", "aten::index_put_"))
def index_put(op: Op) -> Work:
    """Shapes: target, indices, values, accumulate.

    FLOPs: 1 a touched element where it accumulates.
    Bytes: indices, values; the touched elements, both ways where it accumulates. With a mask an upper bound; where
    the indices were not recorded a lower one: as many places as values.
    """
    target, values = op.tensor(0), op.tensor(2)
    if not isinstance((op.inputs or ())[1], tuple):
        # As many places as values at least; where they are, and how they are named, was not recorded.
        least = min(values.distinct_numel, target.distinct_numel) * itemsize(known_dtype(target))
        return Work(None, bytes_of(values), least, is_bound=True)
    indices = _indices(op, 1)
    is_mask = any(map(_is_mask, indices))
    count = target.numel if is_mask else prod(_indexed_shape(op, target, indices))
    touched, adds = bytes_at_most(target, count), bool(op.scalar(3, False))
    flops = operations(known_dtype(target), count * adds)
    return Work(flops, bytes_of(values, *indices) + touched * adds, touched, is_bound=is_mask)


@cost("aten::index_add_", "aten::index_add", "aten::index_copy_", "aten::index_copy", "aten::index_fill_")
def index_add(op: Op) -> Work:
    """Shapes: target, dim, indices [n], source or number.

    FLOPs: 1 a source element where it adds.
    Bytes: indices, source; min(n, size) slices of the target, both ways where it adds.
    """
    target, indices, source = op.tensor(0), op.tensor(2), op.tensor_or_none(3)
    adds = "_add" in op.name
    touched = bytes_of(_slices(target, _dim(op, 1), indices.numel) if target.shape else target)
    source = source if source is not None and source.shape else None
    flops = operations(known_dtype(target), source.numel if adds and source is not None else 0)
    return Work(flops, bytes_of(indices, source) + touched * adds, touched)


@cost("aten::masked_select", unless_child=("aten::index", "aten::nonzero"))
def masked_select(op: Op) -> Work:
    """Shapes: x, mask -> the elements where the mask holds.

    FLOPs: none.
    Bytes: mask, and the elements chosen both ways; how many they are the trace may tell, else all: an upper bound.
    """
    x, mask, known = op.tensor(0), op.tensor(1), _output_bytes(op)
    if known is not None:
        return moved(min(bytes_of(x), known) + bytes_of(mask), known)
    count = prod(broadcast((x.shape, mask.shape)))
    return replace(moved(bytes_of(x, mask), dense_bytes((count,), known_dtype(x))), is_bound=True)


@cost("aten::nonzero")
def nonzero(op: Op) -> Work:
    """Shapes: x -> [found, rank] of int64.

    FLOPs: 1 an element.
    Bytes: input; rank whole numbers for each that was found, which the trace may tell (``Op.outputs``), else for every
    element: an upper bound.
    """
    x, known = op.tensor(0), _output_bytes(op)
    written = dense_bytes((x.numel, len(x.shape)), "int64") if known is None else known
    return Work(operations(known_dtype(x), x.numel), bytes_of(x), written, is_bound=known is None)


@cost("aten::masked_scatter_")
def masked_scatter(op: Op) -> Work:
    """Shapes: target, mask, source.

    FLOPs: none.
    Bytes: an upper bound: mask, as many source elements; target.
    """
    target, mask, source = op.tensor(0), op.tensor(1), op.tensor(2)
    read = bytes_of(mask) + bytes_at_most(source, target.numel)
    return replace(moved(read, bytes_of(target)), is_bound=True)


@cost("aten::put_", "aten::put", unless_child=("aten::put_",))
def put(op: Op) -> Work:
    """Shapes: target, indices, source, accumulate.

    FLOPs: 1 an index where it accumulates.
    Bytes: indices, as many source elements; the touched elements, both ways where it accumulates.
    """
    target, indices, source = op.tensor(0), op.tensor(1), op.tensor(2)
    adds = op.scalar(3, False) is True
    touched = bytes_at_most(target, indices.numel)
    flops = operations(known_dtype(target), indices.numel * adds)
    return Work(flops, bytes_of(indices, source) + touched * adds, touched)


@cost("aten::index_reduce_", "aten::index_reduce", unless_child=("aten::index_reduce",))
def index_reduce(op: Op) -> Work:
    """Shapes: target, dim, indices [n], source, how.

    FLOPs: 1 a source element.
    Bytes: indices, source; min(n, size) slices of the target, both ways.
    """
    target, indices, source = op.tensor(0), op.tensor(2), op.tensor(3)
    touched = bytes_of(_slices(target, _dim(op, 1), indices.numel) if target.shape else target)
    return Work(operations(known_dtype(target), source.numel), bytes_of(indices, source) + touched, touched)


@cost("aten::nonzero_static")
def nonzero_static(op: Op) -> Work:
    """Shapes: x, size -> [size, rank] of int64.

    FLOPs: 1 an element.
    Bytes: input; output.
    """
    x, size = op.tensor(0), op.scalar(1)
    if not isinstance(size, int):
        raise MissingFactError("the size was not recorded")
    return Work(operations(known_dtype(x), x.numel), bytes_of(x), dense_bytes((size, len(x.shape)), "int64"))


@cost("aten::repeat_interleave", unless_child=("aten::index_select", "aten::clone", "aten::repeat_interleave"))
def repeat_interleave(op: Op) -> Work:
    """Shapes: repeats [n] -> [their sum] of indices.

    FLOPs: none.
    Bytes: repeats and where each begins (int64); output, as it was allocated below the op, else a lower bound: none.
    """
    repeats = op.tensor(0)
    if op.tensor_or_none(1) is not None:
        raise MissingFactError("the index_select below it has the work")
    read = bytes_of(repeats) + dense_bytes(repeats.shape, "int64")
    return replace(moved(read, _output_bytes(op) or 0), is_bound=_output_bytes(op) is None)


def _output_bytes(op: Op) -> int | None:
    """Of the output, where the trace tells its shape."""
    found = [item for item in op.outputs or () if isinstance(item, TensorMeta)]
    return sum(dense_bytes(item.shape, known_dtype(item)) for item in found) if found else None
