"""Orderings, counts and searches: how often the data is passed over depends on the algorithm and on the data."""

from __future__ import annotations

from math import ceil, log2, prod

from diagnose.costs.promotion import broadcast, dtype_argument, is_floating, known_dtype, whole_argument
from diagnose.costs.reduction import reduced_shape
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


@cost("aten::topk", "aten::sort", "aten::argsort", "aten::kthvalue", "aten::msort",
      unless_child=("aten::sort", "aten::kthvalue", "aten::topk"))  # fmt: skip
def order(op: Op) -> Work:
    """Shapes: x -> values and indices; topk keeps k of a dimension.

    FLOPs: unknown (they depend on the algorithm).
    Bytes: a lower bound: input once, values and indices once; sorting passes over them several times.
    """
    x = op.tensor(0)
    shape = x.shape
    if op.name in ("aten::topk", "aten::kthvalue"):
        k, dim = whole_argument(op, 1), op.scalar(2, -1)
        if not isinstance(dim, int):
            raise MissingFactError("the dimension was not recorded")
        kept = k if op.name == "aten::topk" else 1
        shape = tuple(kept if place == dim % len(shape) else size for place, size in enumerate(shape))
    values = 0 if op.name == "aten::argsort" else dense_bytes(shape, known_dtype(x))
    return Work(None, bytes_of(x), values + dense_bytes(shape, "int64"), is_bound=True)


@cost(
    "aten::mode", "aten::nanmedian", "aten::median", unless_child=("aten::median", "aten::nanmedian", "aten::kthvalue")
)
def middle(op: Op) -> Work:
    """Shapes: x[, dim, keepdim] -> values and indices, or one value.

    FLOPs: unknown.
    Bytes: a lower bound: input once, outputs once.
    """
    x = op.tensor(0)
    if op.name != "aten::mode" and len(op.inputs or ()) < 2:
        return Work(None, bytes_of(x), dense_bytes((), known_dtype(x)), is_bound=True)
    dim, keepdim = op.scalar(1, -1), bool(op.scalar(2, False))
    rank = max(1, len(x.shape))
    shape = reduced_shape(x, (int(dim) % rank if isinstance(dim, int) else rank - 1,), keepdim)
    return Work(None, bytes_of(x), dense_bytes(shape, known_dtype(x)) + dense_bytes(shape, "int64"), is_bound=True)


_UNIQUE_FLAGS = {"aten::_unique": (2, None), "aten::_unique2": (2, 3), "aten::unique_dim": (3, 4),
                 "aten::unique_dim_consecutive": (2, 3), "aten::unique_consecutive": (1, 2)}  # fmt: skip


@cost(*_UNIQUE_FLAGS, unless_child=("aten::sort", "aten::_unique2"))
def unique(op: Op) -> Work:
    """Shapes: x -> its different values, and where asked for the inverse and counts.

    FLOPs: unknown.
    Bytes: a lower bound: input once, the inverse (how many values there are is data).
    """
    x = op.tensor(0)
    inverse, _ = _UNIQUE_FLAGS[op.name]
    written = dense_bytes((x.numel,), "int64") if op.scalar(inverse, False) is True else 0
    return Work(None, bytes_of(x), written, is_bound=True)


def _search(values: TensorMeta | None, edges: TensorMeta, *, is_short: bool) -> Work:
    steps = ceil(log2(edges.shape[-1] + 1)) if edges.shape and edges.shape[-1] else 0
    count = 1 if values is None else values.numel
    written = dense_bytes((count,), "int32" if is_short else "int64")
    read = bytes_of(values) + bytes_at_most(edges, count * max(steps, 1))
    return Work(operations(known_dtype(edges), count * steps), read, written)


@cost("aten::bucketize", unless_child=("aten::searchsorted", "aten::bucketize"))
def bucketize(op: Op) -> Work:
    """Shapes: x [..], edges [n] -> [..] of int64 (or int32).

    FLOPs: ceil(log2(n + 1)) comparisons an element.
    Bytes: x; at most the edges compared with; output.
    """
    return _search(op.tensor_or_none(0), op.tensor(1), is_short=bool(op.scalar(2, False)))


@cost("aten::searchsorted", unless_child=("aten::searchsorted",))
def searchsorted(op: Op) -> Work:
    """Shapes: edges [.., n], x [.., m] -> [.., m] of int64 (or int32).

    FLOPs: ceil(log2(n + 1)) comparisons an element.
    Bytes: x; at most the edges compared with; output.
    """
    return _search(op.tensor_or_none(1), op.tensor(0), is_short=bool(op.scalar(2, False)))


@cost("aten::isin", unless_child=("aten::sort", "aten::eq", "aten::any", "aten::ne", "aten::isin"))
def isin(op: Op) -> Work:
    """Shapes: x, wanted -> x of bool.

    FLOPs: unknown (compared one by one, or sorted).
    Bytes: a lower bound: both once; output.
    """
    x = op.tensor(0)
    return Work(None, bytes_of(x, op.tensor_or_none(1)), dense_bytes(x.shape, "bool"), is_bound=True)


@cost("aten::histc")
def histc(op: Op) -> Work:
    """Shapes: x, bins, low, high -> [bins].

    FLOPs: 4 an element (difference, product, division to find the bin; 1 to count).
    Bytes: input; output. Limits that are looked for (low equal to high) are an op of their own.
    """
    x, bins = op.tensor(0), op.scalar(1, 100)
    if not isinstance(bins, int):
        raise MissingFactError("the number of bins was not recorded")
    return Work(operations(known_dtype(x), 4 * x.numel), bytes_of(x), dense_bytes((bins,), known_dtype(x)))


@cost("aten::bincount", unless_child=("aten::bincount",))
def bincount(op: Op) -> Work:
    """Shapes: x [n], weights [n] -> [at least the least length].

    FLOPs: 1 an element.
    Bytes: a lower bound: inputs; the least length asked for (how many bins there are is data).
    """
    x, weights, least = op.tensor(0), op.tensor_or_none(1), op.scalar(2, 0)
    dtype = "int64" if weights is None else ("float32" if known_dtype(weights) == "float32" else "float64")
    written = dense_bytes((least if isinstance(least, int) else 0,), dtype)
    return Work(operations(dtype, x.numel), bytes_of(x, weights), written, is_bound=True)


@cost("aten::histogram")
def histogram(op: Op) -> Work:
    """Shapes: x, bins (or their edges) -> [bins], [bins + 1].

    FLOPs: 4 an element.
    Bytes: input, edges, weights; both outputs.
    """
    x, edges = op.tensor(0), op.tensor_or_none(1)
    bins = edges.numel - 1 if edges is not None else op.scalar(1, 100)
    if not isinstance(bins, int):
        raise MissingFactError("the number of bins was not recorded")
    read = bytes_of(x, edges, op.tensor_or_none(2), op.tensor_or_none(3))
    return Work(operations(known_dtype(x), 4 * x.numel), read, dense_bytes((2 * bins + 1,), known_dtype(x)))


@cost("aten::cummax", "aten::cummin", unless_child=("aten::_cummax_helper", "aten::_cummin_helper"))
@cost("aten::_cummax_helper", "aten::_cummin_helper")
def cumulative_extreme(op: Op) -> Work:
    """Shapes: x, dim -> values and indices like x.

    FLOPs: 1 an element.
    Bytes: input; values and int64 indices.
    """
    x = op.tensor(0)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(x.shape, "int64")
    return Work(operations(known_dtype(x), x.numel), bytes_of(x), written)


@cost("aten::cumsum", "aten::cumprod", "aten::cumsum_", "aten::cumprod_",
      unless_child=("aten::cumsum", "aten::cumprod"))  # fmt: skip
@cost("aten::_logcumsumexp")
@cost("aten::logcumsumexp", unless_child=("aten::_logcumsumexp",))
def scan(op: Op) -> Work:
    """Shapes: x, dim, dtype -> x.

    FLOPs: 1 an element (logcumsumexp 3 and two special).
    Bytes: input, output.
    """
    x = op.tensor(0)
    dtype = known_dtype(x)
    is_log = "log" in op.name
    asked = dtype_argument(op, 2) if not is_log and op.tensor_or_none(2) is None else None
    keeps = is_floating(dtype) or dtype.startswith("complex") or op.name.endswith("_")
    stored = asked or (dtype if keeps else "int64")
    flops = operations(stored, (3 if is_log else 1) * x.numel, 2 * x.numel if is_log else 0)
    return Work(flops, bytes_of(x), dense_bytes(x.shape, stored))


@cost("aten::equal", "aten::_is_all_true", "aten::_is_any_true", unless_child=("aten::all", "aten::any", "aten::eq"))
def compare(op: Op) -> Work:
    """Shapes: tensors -> one truth, on the host.

    FLOPs: 1 an element.
    Bytes: an upper bound: it may stop at the first difference.
    """
    tensors = [tensor for index in (0, 1) if (tensor := op.tensor_or_none(index)) is not None]
    count = prod(broadcast(tensor.shape for tensor in tensors))
    return Work(operations(known_dtype(tensors[0]), count), bytes_of(*tensors), 1, is_bound=True)
