"""Convolutions: the FLOPs of the direct algorithm, whatever algorithm ran.

Every multiply-add of the window counts, those that meet padding included (as torch's counter and the makers' figures
have it). Winograd and FFT kernels do fewer, so that they may come out above a roof; their transform kernels move bytes
that depend on the library's tiles and have no work of their own. An input row that no window reaches (a 1x1 window of
stride 2 skips three quarters) is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Final

from diagnose.costs.convolution_geometry import Geometry, Signature, geometry, window_of
from diagnose.costs.matmul import product_resource, split_reduction
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, itemsize, operations, vector_resource
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_CUDNN_TO_NHWC: Final = re.compile(r"nchwToNhwc")
_MIOPEN_TO_NHWC: Final = re.compile(r"batched_transpose|NCHW_?2_?CNHW", re.IGNORECASE)
_TO_NCHW: Final = re.compile(r"nhwcToNchw|batched_transpose|CNHW_?2_?NCHW", re.IGNORECASE)
_CLEAR: Final = re.compile(r"^Memset\b")
_ZERO: Final = re.compile(r"SubTensorOpWithScalar")
_CAST: Final = re.compile(r"SubTensorOpWithCast")
_GRAD_INPUT: Final = re.compile(r"dgrad|bwd_?data|igemm_bwd|_bwd_gtc|backward_?data", re.IGNORECASE)
_GRAD_WEIGHT: Final = re.compile(
    r"(?<!winograd)(?<!reduce_)wgrad|wrw|bwd_?(weight|filter)|backward_?(weight|filter)", re.IGNORECASE
)
_GRAD_BIAS: Final = re.compile(r"ConvBwdB|bwd_?bias|backward_?bias|reduce_kernel", re.IGNORECASE)


def _flops(shape: Geometry, passes: int = 1, *, is_depthwise: bool = False) -> tuple[tuple[str, int], ...]:
    dtype = known_dtype(shape.x)
    resource, real = product_resource(dtype)
    if is_depthwise and not dtype.startswith("complex"):
        resource = vector_resource(dtype)  # torch's own depthwise kernels use no tensor core
    return flops_of({resource: 2 * shape.multiply_adds * passes * real})


def _layout(tensor: TensorMeta, pattern: re.Pattern[str]) -> list[Phase]:
    """A library's change of one tensor's layout; none where both layouts are the same, or the other is there."""
    shape, strides = tensor.shape, tensor.strides
    if prod(shape[2:]) == 1 or shape[1] == 1 or (strides is not None and len(strides) > 1 and strides[1] == 1):
        return []
    moved = dense_bytes(shape, known_dtype(tensor))
    return [Phase(Work((), moved, moved), pattern, is_extra=True)]


def _split_buffer(shape: tuple[int, ...], dtype: str, pattern: re.Pattern[str]) -> list[Phase]:
    """MIOpen's sums over a cut k in a float32 buffer: zeroed before, cast after. If zeroed only, it may be narrower."""
    wide, narrow = dense_bytes(shape, "float32"), dense_bytes(shape, dtype)
    work = Work((), 0, wide, is_bound=True) if pattern is _ZERO else Work((), wide, narrow)
    return [Phase(work, pattern, is_extra=True)]


def _around(
    main: Phase, cudnn: tuple[TensorMeta, ...], miopen: tuple[TensorMeta, ...], out: TensorMeta
) -> tuple[Phase, ...]:
    """The main phase between what the libraries launch before and after it, in launch order.

    ``cudnn`` and ``miopen`` are the inputs in the order in which each library converts them; one of MIOpen's solvers
    brings the (unused) output along.
    """
    dtype = known_dtype(out)
    before = [phase for t in cudnn for phase in _layout(t, _CUDNN_TO_NHWC)]
    before += [phase for t in (*miopen, out) for phase in _layout(t, _MIOPEN_TO_NHWC)]
    zero, cast = _split_buffer(out.shape, dtype, _ZERO), _split_buffer(out.shape, dtype, _CAST)
    reduced = split_reduction(prod(out.shape) * itemsize(dtype))
    # MIOpen's composable-kernel solvers clear the buffer that takes the result in their own layout.
    clear = Phase(Work((), 0, dense_bytes(out.shape, dtype)), _CLEAR, is_extra=True)
    return (*zero, *before, clear, main, *cast, reduced, *_layout(out, _TO_NCHW))


def forward(op: Op, signature: Signature) -> tuple[Phase, ...]:
    """A convolution or transposed convolution.

    Shapes: x [N, C, ...], w [K, C / groups, ...] -> [N, K, ...]; transposed: w [C, K / groups, ...]
    FLOPs: 2 N K (C / groups) prod(kernel) prod(output places); transposed: prod(input places)
    Bytes: what the windows reach of x, w, bias and a fused addend read; the result written
    """
    x, weight = op.tensor(0), op.tensor(1)
    window = window_of(op, signature, weight.shape[2:], x.shape[1 - len(weight.shape)])
    shape = geometry(x, weight, window)
    others = (op.tensor_or_none(index) for index in (signature.bias, signature.addend) if index is not None)
    dtype = known_dtype(x)
    read = shape.bytes_touched + bytes_of(weight, *others)
    main = Phase(Work(_flops(shape, is_depthwise=signature.is_depthwise), read, dense_bytes(shape.out, dtype)))
    if len(x.shape) < len(weight.shape):
        return (main,)
    return _around(main, (x, weight), (x, weight), _result(shape.out, x))


def _result(shape: tuple[int, ...], like: TensorMeta) -> TensorMeta:
    """A new tensor in the layout of ``like``: only whether channels come last is told apart."""
    channels_last = like.strides is not None and len(like.strides) > 1 and like.strides[1] == 1 and like.shape[1] > 1
    return TensorMeta(shape, like.dtype, (0, 1, *(0,) * (len(shape) - 2)) if channels_last else None)


_CONVOLUTION: Final = Signature(stride=3, padding=4, dilation=5, transposed=6, output_padding=7, groups=8)
_PADDING_FIRST: Final = Signature(padding=3, stride=4, dilation=5, groups=6)
_STRIDE_FIRST: Final = Signature(stride=3, padding=4, dilation=5, groups=6)
_KERNEL_SIZE: Final = Signature(bias=3, stride=4, padding=5, dilation=None, groups=None)
_DILATED: Final = Signature(bias=3, stride=4, padding=5, dilation=6, groups=None)
_DEPTHWISE: Final = Signature(bias=3, stride=4, padding=5, dilation=6, groups=None, is_depthwise=True)

_LEAVES: Final[dict[str, Signature]] = {
    "aten::cudnn_convolution_transpose": Signature(
        bias=None, padding=2, output_padding=3, stride=4, dilation=5, groups=6, transposed=True
    ),
    "aten::cudnn_convolution_relu": _STRIDE_FIRST,
    "aten::miopen_convolution_relu": _STRIDE_FIRST,
    "aten::cudnn_convolution_add_relu": Signature(stride=5, padding=6, dilation=7, groups=8, bias=4, addend=2),
    "aten::miopen_convolution_add_relu": Signature(stride=5, padding=6, dilation=7, groups=8, bias=4, addend=2),
    "aten::miopen_convolution": _PADDING_FIRST,
    "aten::miopen_depthwise_convolution": _PADDING_FIRST,
    "aten::mkldnn_convolution": _PADDING_FIRST,
    "mkldnn::_convolution_pointwise": _PADDING_FIRST,
    "aten::miopen_convolution_transpose": Signature(
        padding=3, output_padding=4, stride=5, dilation=6, groups=7, transposed=True
    ),
    "mkldnn::_convolution_transpose_pointwise": Signature(
        padding=3, output_padding=4, stride=5, dilation=6, groups=7, transposed=True
    ),
    "aten::_nnpack_spatial_convolution": Signature(padding=3, stride=4, dilation=None, groups=None),
    "aten::convolution_overrideable": _CONVOLUTION,
    "aten::_slow_conv2d_forward": _KERNEL_SIZE,
    "aten::slow_conv3d_forward": _KERNEL_SIZE,
    "aten::slow_conv_dilated2d": _DILATED,
    "aten::slow_conv_dilated3d": _DILATED,
    "aten::_conv_depthwise2d": _DEPTHWISE,
    "aten::conv_depthwise3d": _DEPTHWISE,
    "aten::slow_conv_transpose2d": Signature(
        bias=3, stride=4, padding=5, output_padding=6, dilation=7, groups=None, transposed=True
    ),
    "aten::slow_conv_transpose3d": Signature(
        bias=3, stride=4, padding=5, output_padding=6, dilation=7, groups=None, transposed=True
    ),
}
_WORKERS: Final = (*_LEAVES, "aten::cudnn_convolution", "mkldnn::_convolution_pointwise_")

_WRAPPERS: Final[dict[str, tuple[Signature, tuple[str, ...]]]] = {
    "aten::thnn_conv2d": (_KERNEL_SIZE, ("aten::_slow_conv2d_forward",)),
    "aten::slow_conv3d": (_KERNEL_SIZE, ("aten::slow_conv3d_forward",)),
    "aten::_convolution": (_CONVOLUTION, _WORKERS),
    "aten::convolution": (_CONVOLUTION, ("aten::_convolution", *_WORKERS)),
    "aten::_convolution_mode": (_STRIDE_FIRST, ("aten::convolution", *_WORKERS)),
}
for _dims in (1, 2, 3):
    _below = ("aten::convolution", "aten::_convolution", "aten::_convolution_mode", *_WORKERS)
    _WRAPPERS[f"aten::conv{_dims}d"] = (_STRIDE_FIRST, _below)
    _WRAPPERS[f"aten::conv_transpose{_dims}d"] = (
        Signature(stride=3, padding=4, output_padding=5, groups=6, dilation=7, transposed=True),
        _below,
    )


def _formula(signature: Signature) -> Callable[[Op], tuple[Phase, ...]]:
    return lambda op: forward(op, signature)


for _name, _signature in _LEAVES.items():
    cost(_name)(_formula(_signature))
for _name, (_signature, _below) in _WRAPPERS.items():
    cost(_name, unless_child=_below)(_formula(_signature))


@cost("aten::cudnn_convolution")
def cudnn_convolution(op: Op) -> tuple[Phase, ...]:
    """The convolution of cuDNN; old versions of torch pass a bias as the third argument. See ``forward``."""
    has_bias = op.inputs is not None and len(op.inputs) > 2 and not isinstance(op.inputs[2], tuple)
    first = 3 if has_bias else 2
    bias = 2 if has_bias else None
    return forward(op, Signature(bias=bias, padding=first, stride=first + 1, dilation=first + 2, groups=first + 3))


@cost("mkldnn::_convolution_pointwise_")
def mkldnn_convolution_add(op: Op) -> tuple[Phase, ...]:
    """The convolution of oneDNN added into another tensor: (other, x, w, bias, padding, ...). See ``forward``.

    Bytes: other is read and written
    """
    if op.inputs is None:
        raise MissingFactError("shapes were not recorded")
    turned = Op(op.name, (*op.inputs[1:3], op.inputs[0], *op.inputs[3:]), op.outputs, op.overload)
    return forward(turned, Signature(bias=3, padding=4, stride=5, dilation=6, groups=7, addend=2))


@cost("aten::conv_tbc", unless_child=("aten::addmm_",))
def conv_tbc(op: Op) -> Work:
    """Convolution over time with channels last.

    Shapes: x [T, B, C], w [k, C, K], bias [K], pad -> [T + 2 pad - k + 1, B, K]
    FLOPs: 2 T' B k C K
    Bytes: x, w, bias read; the result written
    """
    x, weight, pad = op.tensor(0), op.tensor(1), op.scalar(3, 0)
    (time, batch, channels), (size, channels2, filters) = x.shape, weight.shape
    if channels != channels2 or not isinstance(pad, int):
        raise ValueError("not the shapes of a convolution")
    places = time + 2 * pad - size + 1
    resource, real = product_resource(known_dtype(x))
    flops = flops_of({resource: 2 * places * batch * weight.numel * real})
    return Work(flops, bytes_of(x, weight, op.tensor_or_none(2)), dense_bytes((places, batch, filters), known_dtype(x)))


def _mask(op: Op, index: int) -> tuple[bool, bool, bool]:
    wants_input, wants_weight, wants_bias = op.ints(index)
    return bool(wants_input), bool(wants_weight), bool(wants_bias)


@cost("aten::convolution_backward", unless_child=("aten::_slow_conv2d_backward",))
def convolution_backward(op: Op) -> tuple[Phase, ...]:
    """The gradients of a convolution that ``output_mask`` asks for, each a convolution of the same FLOPs.

    Shapes: dy like the result, x, w as forward -> dx like x, dw like w, db [K]
    FLOPs: 2 N K (C / groups) prod(kernel) prod(output places) for dx, the same for dw
    Bytes: dx: dy and w read, dx written; dw: dy again (counted as extra) and the reach of x read, dw written; db: one
        element a channel written (its sum over dy is another op's on a GPU, and free beside dw on a CPU)
    """
    x, weight = op.tensor(1), op.tensor(2)
    signature = Signature(stride=4, padding=5, dilation=6, transposed=7, output_padding=8, groups=9, bias=None)
    window = window_of(op, signature, weight.shape[2:], x.shape[1 - len(weight.shape)])
    return _gradients(op.tensor(0), geometry(x, weight, window), _mask(op, 10))


@cost("aten::_slow_conv2d_backward")
def slow_conv2d_backward(op: Op) -> tuple[Phase, ...]:
    """The 2-D gradients of torch's own kernels (dy, x, w, kernel size, stride, padding, output_mask).

    Shapes, FLOPs, Bytes: see ``convolution_backward``
    """
    x, weight = op.tensor(1), op.tensor(2)
    signature = Signature(stride=4, padding=5, dilation=None, groups=None, bias=None)
    window = window_of(op, signature, weight.shape[2:], x.shape[1])
    return _gradients(op.tensor(0), geometry(x, weight, window), _mask(op, 6))


def _gradients(dy: TensorMeta, shape: Geometry, mask: tuple[bool, bool, bool]) -> tuple[Phase, ...]:
    if dy.shape != shape.out:
        raise ValueError("the gradient has another shape than the result")
    wants_input, wants_weight, wants_bias = mask
    dtype = known_dtype(shape.x)
    bias = dense_bytes((dy.shape[1],), dtype) if wants_bias else 0
    phases: tuple[Phase, ...] = ()
    if wants_input:
        written = dense_bytes(shape.x.shape, dtype) + (0 if wants_weight else bias)
        work = Work(_flops(shape), bytes_of(dy, shape.weight), written)
        dx = _result(shape.x.shape, shape.x)
        phases += _around(Phase(work, _GRAD_INPUT), (shape.weight, dy), (dy, shape.weight), dx)
    if wants_weight:
        again = bytes_of(dy) if wants_input else 0
        written = dense_bytes(shape.weight.shape, dtype) + bias
        work = Work(_flops(shape), bytes_of(dy) + shape.bytes_touched, written, extra_bytes=again)
        dw = _result(shape.weight.shape, shape.weight)
        phases += _around(Phase(work, _GRAD_WEIGHT), (shape.x, dy), (shape.x, dy), dw)
    if wants_bias:
        summed = Work(operations(dtype, dy.numel), bytes_of(dy), bias, extra_bytes=0)
        phases += (Phase(summed, _GRAD_BIAS, is_extra=bool(phases)),)
    return phases
