"""The recorded arguments of an op, from their text to values, once for each distinct call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice, zip_longest
from typing import Any, Final, NamedTuple, overload

import msgspec

from diagnose.trace.extras import Extras
from diagnose.work import UNKNOWN, Op, Scalar, TensorMeta, Value

_DTYPES: Final = {
    "float": "float32", "double": "float64", "int": "int32", "long int": "int64", "long": "int64",
    "long long": "int64", "short int": "int16", "short": "int16", "signed char": "int8", "char": "int8",
    "unsigned char": "uint8", "unsigned short": "uint16", "unsigned int": "uint32", "unsigned long": "uint64",
    "unsigned short int": "uint16", "unsigned long int": "uint64", "bool": "bool",
    "c10::Half": "float16", "c10::BFloat16": "bfloat16",
    "c10::Float8_e4m3fn": "float8_e4m3fn", "c10::Float8_e5m2": "float8_e5m2",
    "c10::Float8_e4m3fnuz": "float8_e4m3fnuz", "c10::Float8_e5m2fnuz": "float8_e5m2fnuz",
    "c10::Float8_e8m0fnu": "float8_e8m0fnu", "c10::Float4_e2m1fn_x2": "float4_e2m1fn_x2",
    "c10::complex<float>": "complex64", "c10::complex<double>": "complex128", "c10::complex<c10::Half>": "complex32",
    "c10::qint8": "qint8", "c10::quint8": "quint8", "c10::qint32": "qint32",
}  # fmt: skip
"""Kineto's C++ spellings to torch's names."""


class Arguments(NamedTuple):
    """One distinct call as recorded; equal texts are equal calls. Bytes are JSON, empty where not recorded."""

    name: str
    dims: bytes
    types: bytes
    strides: bytes
    concrete: bytes
    lists: tuple[tuple[int, int], ...] | None
    overload: str | None
    attributes: tuple[tuple[str, str | float], ...] = ()
    outputs: int | None = None


class OpSequence(Sequence[Op]):
    """Distinct calls by number; a subclass says how many there are and what one is."""

    @abstractmethod
    def one(self, index: int) -> Op:
        """The call with this number."""

    @overload
    def __getitem__(self, index: int) -> Op: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Op]: ...
    def __getitem__(self, index: int | slice) -> Op | Sequence[Op]:
        return [self.one(i) for i in range(*index.indices(len(self)))] if isinstance(index, slice) else self.one(index)


class ChainedOps(OpSequence):
    """Several sequences as one, behind each other; each call is still made only when asked for."""

    def __init__(self, *parts: Sequence[Op]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def one(self, index: int) -> Op:
        """The call with this number."""
        for part in self._parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


class LazyOps(OpSequence):
    """The distinct calls of a trace as values, each made when first asked for."""

    def __init__(self, arguments: tuple[Arguments, ...], extras: Extras | None) -> None:
        self._arguments = arguments
        self._extras = extras
        self._made: dict[int, Op] = {}

    @property
    def recorded(self) -> tuple[Arguments, ...]:
        """The distinct calls as recorded, by number."""
        return self._arguments

    @property
    def has_shapes(self) -> bool:
        """Whether any call's inputs were recorded."""
        return any(len(found.dims) > 2 for found in self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def one(self, index: int) -> Op:
        """The call with this number."""
        if index not in self._made:
            self._made[index] = self._make(self._arguments[index])
        return self._made[index]

    def _make(self, found: Arguments) -> Op:
        lists = {argument: self._list(many) for argument, many in found.lists or ()}
        return Op(found.name, _inputs(found, lists), self._outputs(found.outputs), found.overload, found.attributes)

    def _outputs(self, index: int | None) -> tuple[TensorMeta, ...] | None:
        if index is None or self._extras is None or index >= len(self._extras.output_lists):
            return None
        return tuple(item.meta() for item in self._extras.output_lists[index])

    def _list(self, index: int) -> tuple[TensorMeta, ...] | None:
        if self._extras is None or index >= len(self._extras.tensor_lists):
            return None
        return tuple(item.meta() for item in self._extras.tensor_lists[index])


def _inputs(found: Arguments, lists: dict[int, tuple[TensorMeta, ...] | None]) -> tuple[Value, ...] | None:
    dims, types = _array(found.dims), _array(found.types)
    if not types:
        return None
    columns = zip_longest(types, dims, _array(found.strides), _array(found.concrete))
    values: list[Value] = []
    for index, (dtype, *recorded) in enumerate(islice(columns, len(types))):
        given = lists.get(index)
        values.append(given if given is not None else _value(str(dtype), *recorded))
    return tuple(values)


def _array(text: bytes) -> list[Any]:
    try:
        value = msgspec.json.decode(text) if text else []
    except msgspec.DecodeError:
        return []
    return value if isinstance(value, list) else []


def _value(dtype: str, dims: Any, strides: Any, concrete: Any) -> Value:
    if dtype in _DTYPES:
        return _tensor(_DTYPES[dtype], dims, strides)
    if dtype == "TensorList":
        # Lists longer than 30 are written as [], as empty ones are: nobody can tell.
        return _tensor_list(dims, strides)
    if dtype in {"Scalar", "ScalarList"}:
        return _literal(concrete) if isinstance(concrete, str) and concrete else UNKNOWN
    if dtype == "":
        return _literal(concrete) if isinstance(concrete, str) else None
    return UNKNOWN


def _sizes(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, list) and all(isinstance(size, int) for size in value):
        return tuple(value)
    return None


def _tensor(dtype: str | None, dims: Any, strides: Any) -> Value:
    shape, steps = _sizes(dims), _sizes(strides)
    if shape is None or any(size < 0 for size in shape):
        return UNKNOWN
    return TensorMeta(shape, dtype, steps if steps is not None and len(steps) == len(shape) else None)


def _tensor_list(dims: Any, strides: Any) -> Value:
    if not isinstance(dims, list) or not dims:
        return UNKNOWN
    all_strides = strides if isinstance(strides, list) and len(strides) == len(dims) else [None] * len(dims)
    tensors = [_tensor(None, shape, steps) for shape, steps in zip(dims, all_strides, strict=True)]
    if not all(isinstance(tensor, TensorMeta) for tensor in tensors):
        return UNKNOWN
    return tuple(tensor for tensor in tensors if isinstance(tensor, TensorMeta))


def _literal(text: str) -> Value:
    """``"[16, 16]"``, ``"0.125"``, ``"False"``, ``"none"``; ``""`` is a None that was passed."""
    if text.startswith("["):
        inner = text.strip("[]").strip()
        return tuple(_scalar(part.strip()) for part in inner.split(",")) if inner else ()
    return _scalar(text)


def _scalar(text: str) -> Scalar:
    known: dict[str, Scalar] = {"": None, "True": True, "False": False, "None": None}
    if text in known:
        return known[text]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
