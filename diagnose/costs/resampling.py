"""Resampling an image: to another size, and at places that a grid names."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from diagnose.costs.promotion import flags_argument, known_dtype, whole_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, dense_bytes, itemsize, operations
from diagnose.work import MissingFactError, Op, Scalar, TensorMeta, Work

# Operations an output element: taps weighted and added, weights from the fractions.
_UPSAMPLE_FLOPS: Final[Mapping[str, int]] = {
    "upsample_nearest1d": 0, "upsample_nearest2d": 0, "upsample_nearest3d": 0, "_upsample_nearest_exact1d": 0,
    "_upsample_nearest_exact2d": 0, "_upsample_nearest_exact3d": 0, "upsample_linear1d": 3,
    "upsample_bilinear2d": 9, "upsample_trilinear3d": 21, "upsample_bicubic2d": 35,
}  # fmt: skip

_ANTIALIASED_REACH: Final[Mapping[str, int]] = {
    "_upsample_bilinear2d_aa": 1, "_upsample_bicubic2d_aa": 2, "_upsample_lanczos2d_aa": 3,
}  # fmt: skip
"""Half the width of the filter in output elements; when the image shrinks it covers as many more input elements."""


def _upsampled(op: Op, x: TensorMeta) -> tuple[int, ...]:
    """The output's shape, from its size or (the ``vec`` overload, which passes lists of factors) from scales."""
    spatial = len(x.shape) - 2
    try:
        sizes = op.ints(1)
    except MissingFactError:
        factors = (op.inputs or ())[-1]
        if not isinstance(factors, tuple) or len(factors) != spatial:
            raise
        sizes = tuple(
            int(size * factor)
            for size, factor in zip(x.shape[2:], factors, strict=True)
            if isinstance(factor, (int, float))
        )
    if len(sizes) != spatial:
        raise MissingFactError("the size to resample to was not recorded")
    return (*x.shape[:2], *sizes)


def _register_upsample(mode: str, flops: int) -> None:
    name = f"aten::{mode}"

    def forward(op: Op) -> Work:
        x = op.tensor(0)
        shape = _upsampled(op, x)
        read = bytes_at_most(x, prod(shape)) if "nearest" in mode else bytes_of(x)
        return Work(operations(known_dtype(x), flops * prod(shape)), read, dense_bytes(shape, known_dtype(x)))

    def backward(op: Op) -> Work:
        gradient, shape = op.tensor(0), op.ints(2)
        # Every gradient is added to each tap; the weights are computed as forward.
        counts = operations(known_dtype(gradient), (flops + 1) * gradient.numel)
        return Work(counts, bytes_of(gradient), prod(shape) * itemsize(known_dtype(gradient)))

    # The overload that takes scales calls the one that takes sizes, under the same name.
    cost(name, unless_child=(name,))(forward)
    cost(f"{name}_backward", unless_child=(f"{name}_backward",))(backward)


for _mode, _flops in _UPSAMPLE_FLOPS.items():
    _register_upsample(_mode, _flops)


def _taps(reach: int, size: int, output: int) -> int:
    """Input elements under the filter of one output element, along one dimension."""
    return min(2 * reach * max(1, -(-size // output)), size)


def _antialiased_flops(reach: int, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> int:
    """A product and a sum a tap: the width first, for every input row, then the height."""
    (height, width), (out_height, out_width) = inputs, outputs
    horizontal = height * out_width * _taps(reach, width, out_width)
    vertical = out_height * out_width * _taps(reach, height, out_height)
    return 2 * (horizontal + vertical)


@cost(*(f"aten::{name}" for name in _ANTIALIASED_REACH), unless_child=tuple(f"aten::{n}" for n in _ANTIALIASED_REACH))
def antialiased(op: Op) -> Work:
    """Shapes: x [N, C, H, W], (H', W'), ... -> [N, C, H', W'].

    FLOPs: 2 a tap, the width first, then the height; the taps are 2, 4 or 6 (lanczos), times the shrinking.
    Bytes: input; output.
    """
    x = op.tensor(0)
    shape = _upsampled(op, x)
    reach = _ANTIALIASED_REACH[op.name.removeprefix("aten::")]
    flops = prod(x.shape[:2]) * _antialiased_flops(reach, x.shape[2:], shape[2:])
    return Work(operations(known_dtype(x), flops), bytes_of(x), dense_bytes(shape, known_dtype(x)))


@cost(*(f"aten::{name}_backward" for name in _ANTIALIASED_REACH))
def antialiased_backward(op: Op) -> Work:
    """Shapes: gradient [N, C, H', W'], (H', W'), (N, C, H, W) -> [N, C, H, W].

    FLOPs: as forward.
    Bytes: gradient; output.
    """
    gradient, shape = op.tensor(0), op.ints(2)
    reach = _ANTIALIASED_REACH[op.name.removeprefix("aten::").removesuffix("_backward")]
    flops = prod(shape[:2]) * _antialiased_flops(reach, shape[2:], gradient.shape[2:])
    dtype = known_dtype(gradient)
    return Work(operations(dtype, flops), bytes_of(gradient), dense_bytes(shape, dtype))


_NEAREST: Final = 1
_BICUBIC: Final = 2


def _sample_flops(mode: object, rank: int) -> tuple[int, int]:
    """Operations to place a sample, and those an output element: 2 a tap."""
    if rank not in (2, 3):
        raise ValueError("a grid of places in neither pictures nor volumes")
    taps = {_NEAREST: 0, _BICUBIC: 4**rank}.get(mode if isinstance(mode, int) else 0, 2**rank)
    return 3 * rank + taps, 2 * taps


@cost(
    "aten::grid_sampler_2d", "aten::grid_sampler_3d", "aten::cudnn_grid_sampler", "aten::_grid_sampler_2d_cpu_fallback"
)
def grid_sampler(op: Op) -> Work:
    """Shapes: x [N, C, H, W], grid [N, H', W', 2], mode -> [N, C, H', W'].

    FLOPs: a sample: 3 a dimension to place it, 1 a tap for its weight; an output element: 2 a tap (4 or 8 by
    interpolation, 16 bicubic, none nearest).
    Bytes: an upper bound for the input: taps times samples, or all of it; grid; output.
    """
    x, grid = op.tensor(0), op.tensor(1)
    rank = grid.shape[-1]
    sample, element = _sample_flops(op.scalar(2, 0), rank)
    shape = (*x.shape[:2], *grid.shape[1:-1])
    samples = prod(grid.shape[:-1])
    flops = operations(known_dtype(x), sample * samples + element * prod(shape))
    read = bytes_at_most(x, prod(shape) * max(1, element // 2)) + bytes_of(grid)
    return Work(flops, read, dense_bytes(shape, known_dtype(x)))


@cost("aten::grid_sampler_2d_backward", "aten::grid_sampler_3d_backward")
def grid_sampler_backward(op: Op) -> Work:
    """Shapes: gradient [N, C, H', W'], x, grid, mode, padding, corners, mask -> x, grid.

    FLOPs: a gradient element: 2 a tap for x, 3 a tap for the grid; a sample is placed as forward.
    Bytes: gradient, x (for the grid's gradient), grid; the gradients asked for, of x both ways where added to.
    Assumes: the gradient of x is zeroed by an op of its own.
    """
    wants_x, wants_grid = flags_argument(op, 6, 2)
    return _sampler_gradients((op.tensor(0), op.tensor(1), op.tensor(2)), op.scalar(3), (wants_x, wants_grid))


def _sampler_gradients(
    tensors: tuple[TensorMeta, TensorMeta, TensorMeta], mode: Scalar, wants: tuple[bool, bool]
) -> Work:
    (gradient, x, grid), (wants_x, wants_grid) = tensors, wants
    sample, element = _sample_flops(mode, grid.shape[-1])
    flops = sample * prod(grid.shape[:-1]) + gradient.numel * (element * wants_x + element * 3 // 2 * wants_grid)
    touched = bytes_at_most(x, gradient.numel * max(1, element // 2))
    read = bytes_of(gradient, grid) + touched * (wants_x + wants_grid)
    written = touched * wants_x + dense_bytes(grid.shape, known_dtype(grid)) * wants_grid
    return Work(operations(known_dtype(x), flops), read, written)


@cost("aten::cudnn_grid_sampler_backward")
def cudnn_grid_sampler_backward(op: Op) -> Work:
    """Shapes: x, grid, gradient -> x, grid; bilinear.

    FLOPs, Bytes: as ``grid_sampler_backward`` with both gradients.
    """
    x, grid, gradient = op.tensor(0), op.tensor(1), op.tensor(2)
    return _sampler_gradients((gradient, x, grid), 0, (True, True))


@cost("aten::cudnn_affine_grid_generator")
def cudnn_affine_grid(op: Op) -> Work:
    """Shapes: theta [N, 2, 3], N, C, H, W -> [N, H, W, 2].

    FLOPs: 4 an output element.
    Bytes: theta; output.
    """
    theta, (batch, height, width) = op.tensor(0), (whole_argument(op, index) for index in (1, 3, 4))
    shape = (batch, height, width, 2)
    return Work(
        operations(known_dtype(theta), 4 * prod(shape)), bytes_of(theta), dense_bytes(shape, known_dtype(theta))
    )
