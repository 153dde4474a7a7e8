"""Ops that move elements: copies, casts, concatenations, rearrangements."""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec.structs import replace

from diagnose.costs.promotion import dtype_argument, known_dtype, promote
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, moved, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Value, Work


@cost("aten::copy_", "aten::_copy_from")
def copy(op: Op) -> Work:
    """Shapes: target, source (broadcast to it).

    FLOPs: none (a conversion is none).
    Bytes: source's distinct elements; target once.
    """
    return moved(bytes_of(op.tensor(1)), bytes_of(op.tensor(0)))


@cost("aten::clone", "aten::_to_copy", unless_child=("aten::copy_", "aten::clone"))
def clone(op: Op) -> Work:
    """Shapes: x[, dtype] -> x.

    FLOPs: none.
    Bytes: input; output.
    """
    x = op.tensor(0)
    dtype = dtype_argument(op, 1) if op.name == "aten::_to_copy" else None
    return moved(bytes_of(x), dense_bytes(x.shape, dtype or known_dtype(x)))


@cost("aten::cat", "aten::concat", "aten::concatenate", unless_child=("aten::cat", "aten::copy_"))
@cost("aten::stack", "aten::_stack", unless_child=("aten::cat", "aten::stack", "aten::_stack"))
def cat(op: Op) -> Work:
    """Shapes: tensors, dim -> all of their elements.

    FLOPs: none.
    Bytes: every input; as many elements in the promoted dtype.
    Assumes: dtypes of listed tensors are known (``with_list_dtype`` fills them in where a kernel's name tells).
    """
    tensors = _listed(op, 0)
    dtype = known_dtype(tensors[0])
    for tensor in tensors[1:]:
        dtype = promote(dtype, known_dtype(tensor))
    return moved(bytes_of(*tensors), dense_bytes((sum(tensor.numel for tensor in tensors),), dtype))


def _listed(op: Op, index: int) -> tuple[TensorMeta, ...]:
    tensors = op.tensor_list(index)
    if not tensors:
        # Kineto writes lists of more than 30 tensors as empty ones.
        raise MissingFactError(f"the tensors listed at argument {index} were not recorded")
    return tensors


def with_list_dtype(op: Op, dtype: str) -> Op:
    """The op with the unknown dtypes of its listed tensors filled in, for when their element size is learnt elsewhere.

    A kernel's name tells the size alone: any dtype of that size will do, since lists are only moved by such ops.
    """

    def filled(value: Value) -> Value:
        if not isinstance(value, tuple) or not all(isinstance(item, TensorMeta) for item in value):
            return value
        tensors = (item for item in value if isinstance(item, TensorMeta))
        return tuple(replace(item, dtype=dtype) if item.dtype is None else item for item in tensors)

    return op if op.inputs is None else replace(op, inputs=tuple(filled(value) for value in op.inputs))


# The ``_copy`` twins of views, and the same elements put together differently.
_VIEW_COPIES: Final = (
    "alias", "as_strided", "detach", "diagonal", "expand", "indices", "narrow", "permute", "select", "slice", "squeeze",
    "t", "transpose", "unfold", "unsqueeze", "values", "view", "view_as_complex", "view_as_real", "_neg_view",
    "_reshape_alias",
)  # fmt: skip


@cost(*(f"aten::{name}_copy" for name in _VIEW_COPIES), unless_child=("aten::clone", "aten::copy_"))
def view_copy(op: Op) -> Work:
    """Shapes: x, how to look at it -> a new tensor. On every device a clone below does it.

    FLOPs: none.
    Bytes: unknown here: the view's shape is the clone's input.
    """
    raise MissingFactError(f"what {op.name} copies is recorded by the clone below it")


@cost("aten::split_with_sizes_copy", "aten::split_copy", "aten::unbind_copy", unless_child=("aten::copy_",))
@cost("aten::flip")
@cost("aten::roll", "aten::rot90", unless_child=("aten::cat", "aten::flip"))
@cost("aten::pixel_shuffle", "aten::pixel_unshuffle", "aten::channel_shuffle", "aten::native_channel_shuffle",
      unless_child=("aten::clone", "aten::copy_", "aten::native_channel_shuffle"))  # fmt: skip
@cost("aten::_conj_physical", "aten::mkldnn_reorder_conv2d_weight", "aten::mkldnn_reorder_conv3d_weight",
      "aten::_mkldnn_transpose")  # fmt: skip
def rearrange(op: Op) -> Work:
    """Shapes: x -> as many elements in another order.

    FLOPs: none.
    Bytes: input; output.
    """
    x = op.tensor(0)
    return moved(bytes_of(x), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::repeat", unless_child=("aten::copy_", "aten::clone"))
def repeat(op: Op) -> Work:
    """Shapes: x, repeats -> x repeated.

    FLOPs: none.
    Bytes: input once; output.
    """
    x = op.tensor(0)
    return moved(bytes_of(x), dense_bytes((x.numel, *op.ints(1)), known_dtype(x)))


@cost("aten::im2col")
def im2col(op: Op) -> Work:
    """Shapes: x [.., C, H, W], kernel, dilation, padding, stride -> [.., C kh kw, positions].

    FLOPs: none.
    Bytes: input; output.
    """
    x = op.tensor(0)
    *batch, channels, height, width = x.shape
    kernel, dilation, padding, stride = (op.ints(index) for index in range(1, 5))
    positions = prod(
        (size + 2 * padding[place] - dilation[place] * (kernel[place] - 1) - 1) // stride[place] + 1
        for place, size in enumerate((height, width))
    )
    shape = (*batch, channels * prod(kernel), positions)
    return moved(bytes_of(x), dense_bytes(shape, known_dtype(x)))


@cost("aten::col2im")
def col2im(op: Op) -> Work:
    """Shapes: x [.., C kh kw, positions], (H, W), kernel, ... -> [.., C, H, W].

    FLOPs: 1 an input element.
    Bytes: input; output.
    """
    x, size, kernel = op.tensor(0), op.ints(1), op.ints(2)
    shape = (*x.shape[:-2], x.shape[-2] // prod(kernel), *size)
    return Work(operations(known_dtype(x), x.numel), bytes_of(x), dense_bytes(shape, known_dtype(x)))
