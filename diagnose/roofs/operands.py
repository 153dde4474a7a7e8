"""What an op's recorded arguments say about its kernels: sizes that do not suit tensor cores, and strided access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

from msgspec import Struct

from diagnose.work import Op, TensorMeta

_FACTORS: Final = {
    "aten::mm": 0, "aten::bmm": 0, "aten::_int_mm": 0, "aten::_scaled_mm": 0, "aten::addmm": 1, "aten::addmm_": 1,
    "aten::_addmm_activation": 1, "aten::baddbmm": 1, "aten::baddbmm_": 1, "aten::addbmm": 1,
}  # fmt: skip
"""Products of two matrices, and which argument is the first of the two."""

_MINOR: Final = 4
"""A tensor of less than a quarter of the largest one's bytes does not decide how fast memory is read."""


class Product(Struct, frozen=True):
    """A (batch of) [m, k] x [k, n]; ``a`` and ``b`` as passed."""

    a: TensorMeta
    b: TensorMeta

    @property
    def m(self) -> int:
        """Rows of the result."""
        return self.a.shape[-2]

    @property
    def n(self) -> int:
        """Columns of the result."""
        return self.b.shape[-1]

    @property
    def batch(self) -> int:
        """How many products."""
        return prod(self.a.shape[:-2])

    def tiles(self, tile: tuple[int, int]) -> int:
        """Tiles of the result; names give a tile's sides in either order, so the order with fewer is taken."""
        return self.batch * min(_cover(self.m, p) * _cover(self.n, q) for p, q in (tile, tile[::-1]))


def _cover(size: int, by: int) -> int:
    return -(-size // max(1, by))


def product(op: Op) -> Product | None:
    """The matrices that ``op`` multiplies; None where it does not, or where they were not recorded."""
    first = _FACTORS.get(op.name)
    if first is None:
        return None
    a, b = op.tensor_or_none(first), op.tensor_or_none(first + 1)
    if a is None or b is None or len(a.shape) < 2 or len(b.shape) < 2 or a.shape[-1] != b.shape[-2]:
        return None
    return Product(a, b)


def odd_sizes(op: Op, alignment_bytes: int) -> tuple[str, ...]:
    """Sizes of a product, convolution or attention that are no multiple of what tensor cores load at once."""
    found = product(op)
    if found is not None:
        pairs = [*_row_lengths(found.a, "m", "k"), *_row_lengths(found.b, "k", "n"), ("n", found.n)]
        return _no_multiples(pairs, found.a, alignment_bytes)
    if "conv" in op.name:
        is_backward = "backward" in op.name  # whose first argument is the gradient
        weight = op.tensor_or_none(2 if is_backward else 1)
        if weight is None or len(weight.shape) < 3:
            return ()
        pairs = [("input channels", weight.shape[1]), ("output channels", weight.shape[0])]
        return _no_multiples(pairs, weight, alignment_bytes)
    query = op.tensor_or_none(0)
    if "attention" in op.name and query is not None and query.shape:
        return _no_multiples([("head size", query.shape[-1])], query, alignment_bytes)
    return ()


def _row_lengths(matrix: TensorMeta, rows: str, columns: str) -> Iterator[tuple[str, int]]:
    """How far the rows of a matrix lie apart, by the name of the size that this is if it is dense."""
    height, width = matrix.shape[-2:]
    if matrix.strides is None or (matrix.strides[-1] == 1 and (height == 1 or matrix.strides[-2] >= width)):
        pitch = width if matrix.strides is None or height == 1 else matrix.strides[-2]
        yield (columns, width) if pitch == width else (f"row pitch of {list(matrix.shape)}", pitch)
    elif matrix.strides[-2] == 1:
        pitch = height if width == 1 else matrix.strides[-1]
        yield (rows, height) if pitch == height else (f"row pitch of {list(matrix.shape)}", pitch)


def _no_multiples(pairs: Sequence[tuple[str, int]], tensor: TensorMeta, alignment_bytes: int) -> tuple[str, ...]:
    if not tensor.itemsize:
        return ()
    multiple = max(1, alignment_bytes // tensor.itemsize)
    odd = dict.fromkeys(f"{name} = {size} is no multiple of {multiple}" for name, size in pairs if size % multiple)
    return tuple(odd)


def strided(op: Op, sector_bytes: int) -> str | None:
    """Why neighbouring threads do not touch neighbouring elements, None where nothing recorded says so."""
    tensors = _large_tensors(op)
    for tensor in tensors:
        apart = min((stride for stride in _steps(tensor).values() if stride), default=1)
        if apart > 1:
            itemsize = tensor.itemsize or 1
            used = itemsize * max(1, sector_bytes // (apart * itemsize))
            where = f"neighbours of {list(tensor.shape)} lie {apart} elements apart"
            return f"{where}: {used} of every {sector_bytes} bytes fetched are used"
    return _crosswise(tensors)


def _large_tensors(op: Op) -> list[TensorMeta]:
    found = [value for value in (*(op.inputs or ()), *(op.outputs or ())) if isinstance(value, TensorMeta)]
    sized = [(tensor.distinct_numel * (tensor.itemsize or 1), tensor) for tensor in found]
    largest = max((size for size, _ in sized), default=0)
    return [tensor for size, tensor in sized if size * _MINOR >= largest and tensor.strides is not None]


def _steps(tensor: TensorMeta) -> dict[int, int]:
    """The stride of each dimension along which there is more than one element."""
    strides = tensor.strides or ()
    return {axis: step for axis, (size, step) in enumerate(zip(tensor.shape, strides, strict=True)) if size > 1}


def _crosswise(tensors: Sequence[TensorMeta]) -> str | None:
    """Two tensors of one shape whose neighbours lie along different dimensions: one of them is met crosswise."""
    along: dict[tuple[int, ...], int] = {}
    for tensor in tensors:
        steps = _steps(tensor)
        if len(steps) < 2:
            continue
        fastest = min((axis for axis in steps if steps[axis]), key=lambda axis: steps[axis], default=None)
        if fastest is None:
            continue
        other = along.setdefault(tensor.shape, fastest)
        if other != fastest:
            shape = list(tensor.shape)
            return f"neighbours of {shape} lie along dimension {other} in one tensor, along {fastest} in another"
    return None
