"""What an operation must do: tensors as metadata, and work as operations and bytes.

Values only; the formulas live in ``costs``, the roofs in ``ceilings``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

ITEMSIZE: Final[Mapping[str, int]] = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "float4_e2m1fn_x2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "complex128": 16, "complex64": 8, "complex32": 4,
    "qint8": 1, "quint8": 1, "qint32": 4,
}  # fmt: skip
"""Bytes of one element, by torch's own dtype name without ``torch.``."""

SPECIAL: Final = "special"
"""The unit that computes exponentials and their kin. Its operations bound a kernel's time, but are no FLOPs."""


class TensorMeta(Struct, frozen=True):
    """One tensor as an op sees it.

    Attributes:
        shape: Sizes, outermost first.
        dtype: torch's name (``"bfloat16"``), or None where the trace lost it (tensors inside lists).
        strides: In elements, or None where not recorded: then the tensor is taken as dense.
    """

    shape: tuple[int, ...]
    dtype: str | None
    strides: tuple[int, ...] | None = None

    @property
    def numel(self) -> int:
        """Elements as indexed, expanded dimensions included."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def distinct_numel(self) -> int:
        """Elements that exist in storage: a dimension of stride 0 counts once, overlapping windows their union.

        Exact for expanded and dense tensors. For other overlapping strides it is at most the storage span
        (``1 + sum((size - 1) * stride)``), which is exact whenever the windows leave no holes.
        """
        if self.numel == 0 or self.strides is None:
            return self.numel
        count, span = 1, 1
        for size, stride in zip(self.shape, self.strides, strict=True):
            if stride != 0:
                count *= size
                span += (size - 1) * abs(stride)
        return min(count, span)

    @property
    def itemsize(self) -> int | None:
        """Bytes an element, None where the dtype is unknown."""
        return None if self.dtype is None else ITEMSIZE.get(self.dtype)


class _Unknown:
    """An argument that the trace did not record (as opposed to None, which was passed)."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = _Unknown()

Scalar = bool | int | float | str | None
Value = TensorMeta | tuple[TensorMeta, ...] | tuple[Scalar, ...] | Scalar | _Unknown
"""One argument of an op. A tensor list is a tuple of TensorMeta; ``()`` may be either kind of list."""


class MissingFactError(Exception):
    """A formula asked for something that was not recorded; the registry turns it into the reason of an unknown."""


class Op(Struct, frozen=True):
    """A distinct call: the name and its arguments, as recorded. What a cost formula sees.

    Attributes:
        name: With its namespace: ``"aten::addmm"``.
        inputs: One value an argument of the op's schema (or fewer, when trailing ones were not recorded);
            None when the recording has no shapes at all.
        outputs: Recorded by our own recorder through torch's meta execution; None elsewhere.
        overload: ``"Tensor"``, ``"int"``, ``"dim"``...; None unless the recording names it (``capture_overload_names``
            of torch's profiler, which writes ``aten::add.Tensor``).
        attributes: What the op says of itself beside its inputs, as sorted pairs. Generated kernels have ``backend``,
            ``tiles`` (``"XBLOCK=16"``), and now and then ``bytes`` and ``flops`` as their generator estimated them.
    """

    name: str
    inputs: tuple[Value, ...] | None
    outputs: tuple[Value, ...] | None = None
    overload: str | None = None
    attributes: tuple[tuple[str, str | float], ...] = ()

    def attribute(self, name: str) -> str | float | None:
        """What the op says of itself by that name, None where it says nothing."""
        return next((value for key, value in self.attributes if key == name), None)

    def _input(self, index: int) -> Value:
        if self.inputs is None:
            raise MissingFactError("shapes were not recorded")
        if not -len(self.inputs) <= index < len(self.inputs):
            raise MissingFactError(f"argument {index} was not recorded")
        return self.inputs[index]

    def tensor(self, index: int) -> TensorMeta:
        """The tensor at ``index``; raises MissingFactError if there is none."""
        value = self._input(index)
        if not isinstance(value, TensorMeta):
            raise MissingFactError(f"argument {index} is not a recorded tensor")
        return value

    def tensor_or_none(self, index: int) -> TensorMeta | None:
        """The tensor at ``index``, or None where another kind of value, or nothing, was passed."""
        if self.inputs is None or not -len(self.inputs) <= index < len(self.inputs):
            return None
        value = self.inputs[index]
        return value if isinstance(value, TensorMeta) else None

    def tensors(self) -> tuple[TensorMeta, ...]:
        """Every tensor argument in order, those inside lists included; raises if a list was not recorded."""
        if self.inputs is None:
            raise MissingFactError("shapes were not recorded")
        found: list[TensorMeta] = []
        for index, value in enumerate(self.inputs):
            if isinstance(value, TensorMeta):
                found.append(value)
            elif isinstance(value, _Unknown):
                raise MissingFactError(f"argument {index} was not recorded")
            elif isinstance(value, tuple):
                found.extend(item for item in value if isinstance(item, TensorMeta))
        return tuple(found)

    def tensor_list(self, index: int) -> tuple[TensorMeta, ...]:
        """The tensor list at ``index``; raises MissingFactError if it was not recorded."""
        value = self._input(index)
        if not isinstance(value, tuple):
            raise MissingFactError(f"the list at argument {index} was not recorded")
        return tuple(item for item in value if isinstance(item, TensorMeta))

    def ints(self, index: int) -> tuple[int, ...]:
        """The list of integers at ``index`` (a lone integer is a list of one)."""
        value = self._input(index)
        if isinstance(value, int):
            return (int(value),)
        if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
            return tuple(int(item) for item in value if isinstance(item, int))
        raise MissingFactError(f"the integers at argument {index} were not recorded")

    def scalar(self, index: int, default: Scalar = None) -> Scalar:
        """The number, flag or text at ``index``; ``default`` past the end; raises if it was not recorded."""
        if self.inputs is not None and index >= len(self.inputs):
            return default
        value = self._input(index)
        if isinstance(value, (_Unknown, TensorMeta, tuple)):
            raise MissingFactError(f"the value at argument {index} was not recorded")
        return value


def _merged(a: tuple[tuple[str, int], ...], b: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    total = dict(a)
    for resource, count in b:
        total[resource] = total.get(resource, 0) + count
    return tuple(sorted(total.items()))


class Work(Struct, frozen=True):
    """Operations and compulsory bytes, as whole numbers.

    Attributes:
        flops: Pairs (resource, count), sorted, resources named as in ``ceilings``: ``"tensor.bfloat16"``,
            ``"vector.float32"``, ``"special"``. ``tensor.float32`` is matmul-family arithmetic on float32 inputs:
            which unit ran it (TF32 tensor cores or vector units) is settled when it is placed. ``()`` is a true
            zero (a copy); None is unknown.
        bytes_read: Each distinct input element once; None is unknown.
        bytes_written: Each output element once; None is unknown.
        extra_bytes: How many of those bytes are beyond what the op must move: the price of its algorithm.
        source: Where the numbers come from: ``formula``, ``meta``, ``triton``, ``collective``, ``capture``,
            ``signature``, ``kernel_name``, ``metadata``, ``inputs`` (recorded arguments alone), ``counter``.
        is_bound: The bytes or operations are a bound (say why in the formula), not the value.
    """

    flops: tuple[tuple[str, int], ...] | None
    bytes_read: int | None
    bytes_written: int | None
    extra_bytes: int = 0
    source: str = "formula"
    is_bound: bool = False

    @property
    def total_flops(self) -> int | None:
        """Arithmetic of the tensor and vector units, None when unknown. Special functions are counted apart."""
        return None if self.flops is None else sum(count for unit, count in self.flops if unit != SPECIAL)

    @property
    def special_ops(self) -> int | None:
        """Exponentials, logarithms, sines, error functions and their kin: no FLOPs; None when unknown."""
        return None if self.flops is None else sum(count for unit, count in self.flops if unit == SPECIAL)

    @property
    def bytes_accessed(self) -> int | None:
        """Read plus written, None when either is unknown."""
        if self.bytes_read is None or self.bytes_written is None:
            return None
        return self.bytes_read + self.bytes_written

    def __add__(self, other: Work) -> Work:
        """The work of both; unknown plus anything is unknown."""
        flops = None if self.flops is None or other.flops is None else _merged(self.flops, other.flops)
        read = None if self.bytes_read is None or other.bytes_read is None else self.bytes_read + other.bytes_read
        written = (
            None
            if self.bytes_written is None or other.bytes_written is None
            else self.bytes_written + other.bytes_written
        )
        source = self.source if self.source == other.source else f"{self.source}+{other.source}"
        return Work(flops, read, written, self.extra_bytes + other.extra_bytes, source, self.is_bound or other.is_bound)


def flops_of(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """``{"tensor.bfloat16": n, "special": m}`` as the sorted pairs of ``Work.flops``; zero counts vanish."""
    return tuple(sorted((resource, count) for resource, count in counts.items() if count))
