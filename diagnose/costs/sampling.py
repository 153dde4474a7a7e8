"""Random numbers that are not drawn in place, and tensors made from whole numbers."""

from __future__ import annotations

from math import prod

from diagnose.costs.attention_shapes import Band, visible_pairs
from diagnose.costs.promotion import (
    broadcast,
    dtype_argument,
    known_dtype,
    out_argument,
    whole_argument,
)
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, moved, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


@cost("aten::normal", unless_child=("aten::normal_", "aten::normal"))
def normal(op: Op) -> Work:
    """Shapes: mean, deviation (tensors or numbers) -> broadcast.

    FLOPs: 2 an element and two special.
    Bytes: inputs; output.
    """
    inputs = [tensor for index in (0, 1) if (tensor := op.tensor_or_none(index)) is not None]
    if not inputs:
        raise MissingFactError("only the normal_ below it draws")
    shape, dtype = broadcast(tensor.shape for tensor in inputs), known_dtype(inputs[0])
    count = prod(shape)
    return Work(operations(dtype, 2 * count, 2 * count), bytes_of(*inputs), dense_bytes(shape, dtype))


@cost("aten::poisson", "aten::binomial", "aten::_standard_gamma", "aten::_sample_dirichlet")
def rejection(op: Op) -> Work:
    """Shapes: parameters -> broadcast.

    FLOPs: unknown (drawn until accepted).
    Bytes: inputs; output.
    """
    inputs = [tensor for index in (0, 1) if (tensor := op.tensor_or_none(index)) is not None]
    shape = broadcast(tensor.shape for tensor in inputs)
    return Work(None, bytes_of(*inputs), dense_bytes(shape, known_dtype(inputs[0])))


@cost("aten::_standard_gamma_grad", "aten::_dirichlet_grad")
def rejection_backward(op: Op) -> Work:
    """Shapes: parameters and samples, alike -> as they are.

    FLOPs: unknown (series by case).
    Bytes: inputs; output.
    """
    inputs = op.tensors()
    return Work(None, bytes_of(*inputs), dense_bytes(inputs[0].shape, known_dtype(inputs[0])))


@cost("aten::multinomial", unless_child=("aten::topk", "aten::argmax", "aten::cumsum", "aten::cumsum_"))
def multinomial(op: Op) -> Work:
    """Shapes: weights [.., n], samples -> [.., samples] of int64.

    FLOPs: 2 an element (normalised and summed), log2(n) comparisons a sample left out.
    Bytes: a lower bound: weights once; output. Drawing without replacement is a topk, recorded below.
    """
    x, samples = op.tensor(0), whole_argument(op, 1)
    written = dense_bytes((*x.shape[:-1], samples), "int64")
    return Work(operations(known_dtype(x), 2 * x.numel), bytes_of(x), written, is_bound=True)


@cost("aten::randperm", unless_child=("aten::randperm", "aten::sort"))
def randperm(op: Op) -> Work:
    """Shapes: n -> [n].

    FLOPs: unknown (a shuffle, or random keys sorted).
    Bytes: a lower bound: output once.
    """
    count, out = whole_argument(op, 0), out_argument(op, 1)
    dtype = known_dtype(out) if out is not None else _asked(op, 1) or "int64"
    return Work(None, 0, dense_bytes((count,), dtype), is_bound=True)


def _asked(op: Op, index: int) -> str | None:
    """The dtype asked for; None where it was not recorded (it stands behind a generator, or was left out)."""
    try:
        return dtype_argument(op, index)
    except MissingFactError:
        return None


@cost("aten::_fused_dropout")
def fused_dropout(op: Op) -> Work:
    """Shapes: x -> x and a mask of uint8.

    FLOPs: 3 (compare, mask, scale); random numbers are not counted.
    Bytes: input; output, mask.
    """
    x = op.tensor(0)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(x.shape, "uint8")
    return Work(operations(known_dtype(x), 3 * x.numel), bytes_of(x), written)


@cost("aten::eye", unless_child=("aten::eye",))
def eye(op: Op) -> Work:
    """Shapes: n, m -> [n, m].

    FLOPs: none.
    Bytes: the diagonal: an op of its own zeroes the rest.
    """
    out = out_argument(op, 2)
    if out is None:
        raise MissingFactError("only the inner eye, which is given its output, writes")
    return moved(0, dense_bytes((min(whole_argument(op, 0), whole_argument(op, 1)),), known_dtype(out)))


@cost("aten::tril_indices", "aten::triu_indices")
def triangle_indices(op: Op) -> Work:
    """Shapes: rows, columns, offset -> [2, elements of the triangle] of int64.

    FLOPs: none counted (a square root an element on a GPU).
    Bytes: output.
    """
    rows, columns, offset = whole_argument(op, 0), whole_argument(op, 1), op.scalar(2, 0)
    if not isinstance(offset, int):
        raise MissingFactError("the diagonal was not recorded")
    if min(rows, columns) < 0:
        raise ValueError("a negative size")
    if "tril" in op.name:
        count = visible_pairs(rows, columns, Band(right=offset))
    else:
        count = visible_pairs(rows, columns, Band(left=-offset))
    return moved(0, dense_bytes((2, count), _asked(op, 3) or "int64"))


@cost("aten::logspace", "aten::range", unless_child=("aten::logspace", "aten::range"))
def spaced(op: Op) -> Work:
    """Shapes: start, end, steps -> [steps].

    FLOPs: 2 (logspace: and two special, its power).
    Bytes: output.
    """
    out = out_argument(op, 0)
    if out is None:
        raise MissingFactError("only the inner op, which is given its output, writes")
    if op.name == "aten::range":
        numbers = [float(v) for v in (op.inputs or ()) if isinstance(v, (int, float)) and not isinstance(v, bool)]
        start, end, step = (*numbers, 1.0)[:3]
        count = int((end - start) / step) + 1
    else:
        count = whole_argument(op, 2)
    special = 2 * count if op.name == "aten::logspace" else 0
    return Work(operations(known_dtype(out), 2 * count, special), 0, dense_bytes((count,), known_dtype(out)))


@cost("aten::trace", unless_child=("aten::sum",))
def trace(op: Op) -> Work:
    """Shapes: x [n, m] -> one element.

    FLOPs: 1 an element of the diagonal.
    Bytes: the diagonal; output.
    """
    x: TensorMeta = op.tensor(0)
    count, dtype = min(x.shape), known_dtype(x)
    return Work(operations(dtype, count), dense_bytes((count,), dtype), dense_bytes((), dtype))


@cost("aten::diag_embed", unless_child=("aten::copy_",))
def diag_embed(op: Op) -> Work:
    """Shapes: x [.., n], offset -> [.., n + |offset|, n + |offset|], zero elsewhere.

    FLOPs: none.
    Bytes: input; output.
    """
    x, offset = op.tensor(0), op.scalar(1, 0)
    side = x.shape[-1] + abs(offset if isinstance(offset, int) else 0)
    return moved(bytes_of(x), dense_bytes((*x.shape[:-1], side, side), known_dtype(x)))
