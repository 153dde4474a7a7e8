"""Where a convolution's window goes: the output's shape, the multiply-adds, and what of the input is reached."""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct

from diagnose.costs.traffic import bytes_of
from diagnose.work import MissingFactError, Op, TensorMeta

_LONGEST: Final = 1 << 24
"""No place is counted beyond (a hostile or broken recording): then every place is taken as reached."""


class Signature(Struct, frozen=True):
    """Where an op's schema keeps what a convolution needs; None: it has no such argument."""

    stride: int | None
    padding: int | None
    dilation: int | None
    groups: int | None
    bias: int | None = 2
    output_padding: int | None = None
    transposed: int | bool = False
    is_depthwise: bool = False
    addend: int | None = None


class Window(Struct, frozen=True):
    """How the kernel slides: one number a spatial dimension."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    output_padding: tuple[int, ...]
    transposed: bool
    groups: int


class Geometry(Struct, frozen=True):
    """A convolution with everything derived.

    Attributes:
        x, weight: The tensors as passed.
        out: Shape of the result.
        positions: Window positions in all: each costs one multiply-add an element of the weight it meets.
        touched: Shape of what the windows reach of ``x``.
    """

    x: TensorMeta
    weight: TensorMeta
    out: tuple[int, ...]
    positions: int
    touched: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Of one pass: forward, or either gradient."""
        return self.positions * self.weight.numel

    @property
    def bytes_touched(self) -> int:
        """Distinct bytes of ``x`` that some window reaches."""
        reached = TensorMeta(self.touched, self.x.dtype, self.x.strides)
        return min(bytes_of(reached), bytes_of(self.x))


def _per_dimension(op: Op, index: int | None, dims: int, default: int) -> tuple[int, ...]:
    if index is None or (op.inputs is not None and index >= len(op.inputs)):
        return (default,) * dims
    values = op.ints(index)
    return values * dims if len(values) == 1 else values or (default,) * dims


def _padding(op: Op, index: int | None, dims: int) -> tuple[int, ...] | None:
    """Padding of each side; None: ``"same"``, the output is as large as the input."""
    if index is not None and op.inputs is not None and index < len(op.inputs) and isinstance(op.inputs[index], str):
        return None if op.inputs[index] == "same" else (0,) * dims
    return _per_dimension(op, index, dims, 0)


def window_of(op: Op, signature: Signature, kernel: tuple[int, ...], channels: int) -> Window:
    """The window as the op's arguments have it; a list of one number holds for every dimension."""
    dims = len(kernel)
    dilation = _per_dimension(op, signature.dilation, dims, 1)
    padding = _padding(op, signature.padding, dims)
    if padding is None:  # the two sides may differ by one; where it matters is the window's reach, half of it a side
        padding = tuple(step * (size - 1) // 2 for step, size in zip(dilation, kernel, strict=True))
        extra = tuple(step * (size - 1) % 2 for step, size in zip(dilation, kernel, strict=True))
    else:
        extra = _per_dimension(op, signature.output_padding, dims, 0)
    transposed = (
        signature.transposed if isinstance(signature.transposed, bool) else bool(op.scalar(signature.transposed))
    )
    groups = 1 if signature.groups is None else op.scalar(signature.groups, 1)
    if not isinstance(groups, int) or groups < 1:
        raise MissingFactError("the groups were not recorded")
    groups = channels if signature.is_depthwise else groups
    return Window(_per_dimension(op, signature.stride, dims, 1), padding, dilation, extra, transposed, groups)


def _reached(length: int, positions: int, window: tuple[int, int, int, int]) -> int:
    """How many of ``length`` places some window covers."""
    size, stride, padding, dilation = window
    if positions < 1:
        return 0
    if (dilation == 1 and size >= stride) or (stride == 1 and positions >= dilation):  # no holes
        end = (positions - 1) * stride + (size - 1) * dilation - padding + 1
        return max(0, min(length, end) - max(0, -padding))
    if length * size > _LONGEST:
        return length
    covered = bytearray(length)
    for tap in range(size):
        start = tap * dilation - padding
        first = -(-max(0, -start) // stride) if start < 0 else 0
        last = min(positions - 1, (length - 1 - start) // stride)
        if last >= first:
            covered[start + first * stride : start + last * stride + 1 : stride] = b"\x01" * (last - first + 1)
    return covered.count(1)


def geometry(x: TensorMeta, weight: TensorMeta, window: Window) -> Geometry:
    """Output, positions and reach; unbatched inputs are a batch of one."""
    dims = len(weight.shape) - 2
    if dims < 1 or len(x.shape) not in (dims + 1, dims + 2):
        raise ValueError("not the shapes of a convolution")
    lead, spatial = x.shape[:-dims], x.shape[-dims:]
    sizes = list(zip(weight.shape[2:], window.stride, window.padding, window.dilation, strict=True))
    _check_channels(lead[-1], weight, window)
    if window.transposed:
        channels = weight.shape[1] * window.groups
        places = tuple(
            (length - 1) * stride - 2 * padding + dilation * (size - 1) + extra + 1
            for length, (size, stride, padding, dilation), extra in zip(
                spatial, sizes, window.output_padding, strict=True
            )
        )
        _check_places(places)
        return Geometry(x, weight, (*lead[:-1], channels, *places), prod(lead[:-1]) * prod(spatial), x.shape)
    places = tuple(
        (length + 2 * padding + extra - dilation * (size - 1) - 1) // stride + 1
        for length, (size, stride, padding, dilation), extra in zip(spatial, sizes, window.output_padding, strict=True)
    )
    _check_places(places)
    reached = tuple(_reached(*facts) for facts in zip(spatial, places, sizes, strict=True))
    return Geometry(
        x, weight, (*lead[:-1], weight.shape[0], *places), prod(lead[:-1]) * prod(places), (*lead, *reached)
    )


def _check_channels(channels: int, weight: TensorMeta, window: Window) -> None:
    expected = weight.shape[0] if window.transposed else weight.shape[1] * window.groups
    if channels != expected:
        raise ValueError("the channels of input and weight differ")


def _check_places(places: tuple[int, ...]) -> None:
    if min(places) < 1:
        raise ValueError("the window is larger than the input")
