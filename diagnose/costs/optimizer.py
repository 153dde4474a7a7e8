"""Optimizer steps over lists of tensors: the ``_foreach_`` ops and the fused steps.

Foreign traces lose the dtypes of listed tensors and lists of more than 30: those ops stay unknown. Our own recordings
keep both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from diagnose.costs.promotion import as_floating, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


def _list(op: Op, index: int) -> tuple[TensorMeta, ...]:
    tensors = op.tensor_list(index)
    if not tensors:
        raise MissingFactError(f"the tensors listed at argument {index} were not recorded")
    for tensor in tensors:
        known_dtype(tensor)
    return tensors


def _is_list(op: Op, index: int) -> bool:
    inputs = op.inputs or ()
    value = inputs[index] if index < len(inputs) else None
    return isinstance(value, tuple) and bool(value) and all(isinstance(item, TensorMeta) for item in value)


def _counted(tensors: Sequence[TensorMeta], flops: int, special: int = 0) -> Work:
    """Operations an element, on each tensor's own unit; no bytes."""
    work = Work((), 0, 0)
    for tensor in tensors:
        counts = operations(as_floating(known_dtype(tensor)), flops * tensor.numel, special * tensor.numel)
        work += Work(counts, 0, 0)
    return work


class Row(Struct, frozen=True):
    """Operations an element of a ``_foreach_`` op, and how many of its leading arguments may be lists."""

    flops: int
    special: int = 0
    lists: int = 1


FOREACH: Final[Mapping[str, Row]] = {
    **{name: Row(1, lists=2) for name in ("add", "sub", "mul", "div", "maximum", "minimum", "clamp_min", "clamp_max")},
    **{name: Row(1) for name in (
        "sqrt", "rsqrt", "reciprocal", "neg", "abs", "sign", "round", "floor", "ceil", "trunc")},
    **{name: Row(0, 1) for name in (
        "exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "erf", "erfc", "sin", "cos", "tan", "sinh", "cosh",
        "asin", "acos", "atan", "lgamma")},
    "frac": Row(2),
    "addcmul": Row(3, lists=3), "addcdiv": Row(3, lists=3), "lerp": Row(3, lists=3), "pow": Row(1, 2, lists=2),
    "sigmoid": Row(3, 1),
}  # fmt: skip


# On a CPU a list is gone through one tensor at a time, by an op of the same name, or by this one.
_SINGLE: Final[Mapping[str, tuple[str, ...]]] = {
    "maximum": ("aten::clamp_min", "aten::clamp_min_"),
    "minimum": ("aten::clamp_max", "aten::clamp_max_"),
}


def _lists_from(op: Op) -> int:
    """Where the lists begin: a power with a number for its base has it first."""
    return 1 if op.name == "aten::_foreach_pow" and not _is_list(op, 0) and _is_list(op, 1) else 0


def _foreach(op: Op, row: Row) -> Work:
    """Shapes: lists of equal length, element by element.

    FLOPs: ``row.flops`` and ``row.special`` an element; add with alpha is 2.
    Bytes: every list; the first list again, or as much.
    """
    begin = _lists_from(op)
    first = _list(op, begin)
    rest = range(begin + 1, row.lists)
    others = [tensor for index in rest if _is_list(op, index) for tensor in _list(op, index)]
    scaled = "add_" in f"{op.name}_" and _is_list(op, 1) and _alpha(op) != 1
    if "addc" in op.name and not _is_list(op, 2):
        raise MissingFactError("the tensors listed at argument 2 were not recorded")
    written = sum(
        bytes_of(tensor) if op.name.endswith("_") else dense_bytes(tensor.shape, known_dtype(tensor))
        for tensor in first
    )
    return _counted(first, row.flops + scaled, row.special) + Work((), bytes_of(*first, *others), written)


def _alpha(op: Op) -> object:
    return op.scalar(2, 1) if op.name.removesuffix("_") == "aten::_foreach_add" else 1


def _register(name: str, row: Row) -> None:
    single = (f"aten::{name}", f"aten::{name}_", *_SINGLE.get(name, ()))
    cost(f"aten::_foreach_{name}", f"aten::_foreach_{name}_", unless_child=single)(lambda op: _foreach(op, row))


for _name, _row in FOREACH.items():
    _register(_name, _row)


@cost("aten::_foreach_zero_", unless_child=("aten::zero_", "aten::fill_"))
def foreach_zero(op: Op) -> Work:
    """Shapes: a list.

    FLOPs: none.
    Bytes: written once.
    """
    return Work((), 0, bytes_of(*_list(op, 0)))


@cost("aten::_foreach_copy_", unless_child=("aten::copy_",))
def foreach_copy(op: Op) -> Work:
    """Shapes: targets, sources.

    FLOPs: none.
    Bytes: sources; targets.
    """
    return Work((), bytes_of(*_list(op, 1)), bytes_of(*_list(op, 0)))


@cost("aten::_foreach_norm", unless_child=("aten::linalg_vector_norm", "aten::norm"))
def foreach_norm(op: Op) -> Work:
    """Shapes: a list -> one number a tensor.

    FLOPs: 2 an element.
    Bytes: the list; one element each.
    """
    tensors = _list(op, 0)
    written = sum(dense_bytes((), known_dtype(tensor)) for tensor in tensors)
    return _counted(tensors, 2) + Work((), bytes_of(*tensors), written)


@cost("aten::_foreach_max", unless_child=("aten::max",))
@cost("aten::_foreach_powsum", unless_child=("aten::linalg__powsum",))
def foreach_reduce(op: Op) -> Work:
    """Shapes: a list -> one number a tensor.

    FLOPs: 1 an element, powsum 2.
    Bytes: the list; one element each.
    """
    tensors = _list(op, 0)
    written = sum(dense_bytes((), known_dtype(tensor)) for tensor in tensors)
    return _counted(tensors, 2 if "powsum" in op.name else 1) + Work((), bytes_of(*tensors), written)


@cost("aten::_foreach_clone", unless_child=("aten::clone",))
def foreach_clone(op: Op) -> Work:
    """Shapes: a list -> as it is.

    FLOPs: none.
    Bytes: the list; as much.
    """
    tensors = _list(op, 0)
    return Work((), bytes_of(*tensors), sum(dense_bytes(tensor.shape, known_dtype(tensor)) for tensor in tensors))


@cost("aten::_amp_foreach_non_finite_check_and_unscale_", unless_child=("aten::mul_",))
def unscale(op: Op) -> Work:
    """Shapes: gradients, whether any is not finite, the inverse scale.

    FLOPs: 2 an element (a check, a product).
    Bytes: gradients both ways; the two numbers.
    """
    gradients = _list(op, 0)
    size, numbers = bytes_of(*gradients), bytes_of(op.tensor_or_none(1), op.tensor_or_none(2))
    return _counted(gradients, 2) + Work((), size + numbers, size)


@cost("aten::_amp_update_scale_")
def update_scale(op: Op) -> Work:
    """Shapes: scale, growth, whether any gradient was not finite: three numbers.

    FLOPs: 2.
    Bytes: three numbers; two of them again.
    """
    scale, growth = op.tensor(0), op.tensor(1)
    return Work(operations(known_dtype(scale), 2), bytes_of(scale, growth, op.tensor(2)), bytes_of(scale, growth))


@cost("aten::_chunk_cat")
def chunk_cat(op: Op) -> Work:
    """Shapes: a list, dim, chunks -> [chunks, ..], each tensor padded to a multiple of chunks along dim.

    FLOPs: none.
    Bytes: the list; output with its padding.
    """
    tensors, dim, chunks, out = _list(op, 0), op.scalar(1), op.scalar(2), op.tensor_or_none(3)
    if not isinstance(dim, int) or not isinstance(chunks, int):
        raise MissingFactError("the number of chunks was not recorded")
    dtype = known_dtype(tensors[0] if out is None else out)
    written = 0
    for tensor in tensors:
        sizes = list(tensor.shape)
        sizes[dim] = -(-sizes[dim] // chunks) * chunks
        written += dense_bytes(tuple(sizes), dtype)
    return Work((), bytes_of(*tensors), written)


def _state_bytes(lists: Sequence[tuple[TensorMeta, ...]]) -> int:
    return sum(bytes_of(*tensors) for tensors in lists)


def _is_on(op: Op, index: int) -> bool:
    return bool(op.scalar(index, False))


@cost("aten::_fused_adamw_", "aten::_fused_adam_")
def fused_adam(op: Op) -> Work:
    """Shapes: parameters, gradients, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, lr, betas, weight decay, ...

    FLOPs: 13 an element (two moments 3 and 4, denominator 3, update 3); weight decay 1 for adamw, 2 for adam;
    amsgrad 1; maximize 1; a gradient scale 1.
    Bytes: parameters, gradients, moments, steps; parameters and moments again (and gradients, if unscaled).
    """
    parameters, gradients = _list(op, 0), _list(op, 1)
    moments = [_list(op, 2), _list(op, 3)]
    decay, has_maximum = op.scalar(9), _is_on(op, 11)
    if has_maximum:
        moments.append(_list(op, 4))
    scale = op.tensor_or_none(13)
    per_element = 13 + has_maximum + _is_on(op, 12) + (scale is not None)
    if decay:
        per_element += 1 if "adamw" in op.name else 2
    written = _state_bytes([parameters, *moments, *([gradients] if scale is not None else [])])
    read = _state_bytes([parameters, gradients, *moments, _list(op, 5)]) + bytes_of(scale)
    return _counted(parameters, per_element) + Work((), read, written)


@cost("aten::_fused_sgd_")
def fused_sgd(op: Op) -> Work:
    """Shapes: parameters, gradients, momenta, weight decay, momentum, lr, dampening, nesterov, maximize, first, ...

    FLOPs: 2 an element; weight decay 2, momentum 3 (none on the first step), nesterov 2, maximize 1, scale 1.
    Bytes: parameters, gradients, momenta (not read on the first step); parameters and momenta again.
    """
    parameters, gradients = _list(op, 0), _list(op, 1)
    decay, momentum, is_first = op.scalar(3), op.scalar(4), _is_on(op, 9)
    momenta = _list(op, 2) if momentum else ()
    scale = op.tensor_or_none(10)
    per_element = 2 + 2 * bool(decay) + 2 * _is_on(op, 7) + _is_on(op, 8) + (scale is not None)
    per_element += 3 * (bool(momentum) and not is_first)
    read = _state_bytes([parameters, gradients, () if is_first else momenta]) + bytes_of(scale)
    written = _state_bytes([parameters, momenta, gradients if scale is not None else ()])
    return _counted(parameters, per_element) + Work((), read, written)


@cost("aten::_fused_adagrad_")
def fused_adagrad(op: Op) -> Work:
    """Shapes: parameters, gradients, sums of squares, steps, lr, decay of lr, weight decay, eps, maximize, scale?, ...

    FLOPs: 7 an element (square and sum, root, eps, division, product, difference); weight decay 2, maximize 1,
    scale 1.
    Bytes: parameters, gradients, sums, steps; parameters and sums again (and gradients, if unscaled).
    """
    parameters, gradients, sums = _list(op, 0), _list(op, 1), _list(op, 2)
    scale = op.tensor_or_none(9)
    per_element = 7 + 2 * bool(op.scalar(6)) + _is_on(op, 8) + (scale is not None)
    read = _state_bytes([parameters, gradients, sums, _list(op, 3)]) + bytes_of(scale)
    written = _state_bytes([parameters, sums, gradients if scale is not None else ()])
    return _counted(parameters, per_element) + Work((), read, written)
