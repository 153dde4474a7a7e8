"""Arguments that Kineto does not write, read from the ops that the op itself called.

The index tensors of ``x[i, j]`` stand in a list of optional tensors, which is recorded as nothing. But the op looks at
them through views, and those are recorded: ``as_strided`` of x in the shape of the result, ``reshape`` of each index.
What ``nonzero``, ``masked_select`` and ``repeat_interleave`` return has a size that depends on the data: they allocate
it below themselves. A list of more than 30 tensors is written as an empty one; where it is being flattened
(``flatten_dense_tensors``, as DistributedDataParallel does), each of its tensors is seen flat first. So these are known
exactly, in every trace that has shapes and concrete arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace

from diagnose.distinct import is_any
from diagnose.trace.arguments import ChainedOps
from diagnose.trace.tables import Ints, Trace
from diagnose.work import MissingFactError, Op, TensorMeta

_CAT: Final = "aten::cat"
_WHOLE: Final = ("int64", "int32", "int16", "int8", "uint8")


def with_lost_arguments(trace: Trace) -> Trace:
    """The trace with one more signature for each distinct call whose arguments or results other ops tell."""
    ops = trace.ops
    rows, owners = _asking(trace)
    children = np.flatnonzero(is_any(ops.name, _ids(trace, *_VIEWS)) & np.isin(ops.parent, owners))
    if not children.size:
        return trace
    children = children[np.lexsort((ops.start[children], ops.parent[children]))]
    begins, ends = (np.searchsorted(ops.parent[children], owners, side) for side in ("left", "right"))
    below = ops.signature[children].tolist()
    columns = (ops.signature[rows].tolist(), begins.tolist(), ends.tolist())
    keys = [(number, tuple(below[begin:end])) for number, begin, end in zip(*columns, strict=True)]
    found: dict[tuple[int, tuple[int, ...]], int] = {}
    added: list[Op] = []
    for key in keys:
        if key not in found:
            told = _told(trace.signatures, *key)
            found[key] = key[0] if told is None else len(trace.signatures) + len(added)
            added += [] if told is None else [told]
    signature: Ints = ops.signature.copy()
    signature[rows] = [found[key] for key in keys]
    return replace(trace, ops=replace(ops, signature=signature), signatures=ChainedOps(trace.signatures, added))


def _ids(trace: Trace, *names: str) -> list[int]:
    return [number for number, text in enumerate(trace.strings) if text in names]


def _asking(trace: Trace) -> tuple[Ints, Ints]:
    """The ops to complete, and for each the one whose children tell: itself, but for a cat that flattens tensors."""
    ops = trace.ops
    rows = np.flatnonzero(is_any(ops.name, _ids(trace, *_FINDERS)))
    is_cat = is_any(ops.name[rows], _ids(trace, _CAT))
    owners = np.where(is_cat, ops.parent[rows], rows)
    tells = (owners >= 0) & (~is_cat | is_any(ops.name[owners], _ids(trace, "aten::flatten_dense_tensors")))
    return rows[tells], owners[tells]


def _told(signatures: Sequence[Op], number: int, below: tuple[int, ...]) -> Op | None:
    """The op with what its children tell; None where it is complete, or they do not tell."""
    op = signatures[number]
    try:
        return _FINDERS[op.name](op, [signatures[child] for child in below])
    except MissingFactError:
        return None


def _indexed(op: Op, below: Sequence[Op]) -> Op | None:
    """``x[indices]`` read or written: the indices, and the shape that they give."""
    x, inputs = op.tensor(0), op.inputs or ()
    if len(inputs) < 2 or isinstance(inputs[1], tuple):
        return None
    views = [child for child in below if child.name == "aten::reshape"]
    indices = tuple(view.tensor(0) for view in views if view.tensor(0).dtype in _WHOLE)
    shapes = [child.ints(1) for child in below if child.name == "aten::as_strided" and _is_of(child, x)]
    if not indices or not shapes:
        # Without the shape the indices' places are unknown, unless there is one for every dimension.
        return _with_indices(op, indices) if len(indices) == len(x.shape) else None
    return replace(_with_indices(op, indices), outputs=(TensorMeta(shapes[-1], x.dtype),))


def _with_indices(op: Op, indices: tuple[TensorMeta, ...]) -> Op:
    inputs = op.inputs or ()
    return replace(op, inputs=(inputs[0], indices, *inputs[2:]))


def _is_of(child: Op, x: TensorMeta) -> bool:
    """Whether a child looks at x itself (or at x with its dimensions in another order)."""
    seen = child.tensor_or_none(0)
    has_sizes = len(child.inputs or ()) > 1 and isinstance((child.inputs or ())[1], tuple)
    return has_sizes and seen is not None and seen.dtype == x.dtype and sorted(seen.shape) == sorted(x.shape)


def _allocated(rank: int) -> Callable[[Op, Sequence[Op]], Op | None]:
    """Results by the last allocation of that rank below the op."""

    def find(op: Op, below: Sequence[Op]) -> Op | None:
        sizes: tuple[int, ...] | None = None
        for child in below:
            index = {"aten::empty": 0, "aten::resize_": 1, "aten::as_strided_": 1}.get(child.name)
            if index is not None and len(child.ints(index)) == rank:
                sizes = child.ints(index)
        if sizes is None:
            return None
        x = op.tensor(0)
        dtype = "int64" if op.name == "aten::nonzero" else x.dtype
        return replace(op, outputs=(TensorMeta(sizes, dtype),))

    return find


def _selected(op: Op, below: Sequence[Op]) -> Op | None:
    """``masked_select`` goes through its result as if that had the mask's shape."""
    seen = [child.tensor(0) for child in below if child.name == "aten::as_strided"]
    return replace(op, outputs=(seen[-1],)) if seen and len(seen[-1].shape) == 1 else None


def _flattened(op: Op, below: Sequence[Op]) -> Op | None:
    """The tensors that are laid end to end: each is seen flat first."""
    inputs = op.inputs or ()
    if not inputs or isinstance(inputs[0], tuple):
        return None
    tensors = tuple(view.tensor(0) for view in below if view.name == "aten::view")
    return replace(op, inputs=(tensors, *inputs[1:])) if tensors else None


_FINDERS: Final[Mapping[str, Callable[[Op, Sequence[Op]], Op | None]]] = {
    "aten::index": _indexed, "aten::_index_put_impl_": _indexed, "aten::nonzero": _allocated(2),
    _CAT: _flattened, "aten::masked_select": _selected, "aten::repeat_interleave": _allocated(1),
}  # fmt: skip
_VIEWS: Final = ("aten::as_strided", "aten::as_strided_", "aten::reshape", "aten::view", "aten::empty", "aten::resize_")
