"""Softmax and its logarithm. Work a row (a division, a logarithm) is left out beside work an element."""

from __future__ import annotations

from diagnose.costs.promotion import dtype_argument, known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import Op, Work


@cost("aten::_softmax", "aten::_log_softmax")
def softmax(op: Op) -> Work:
    """Shapes: x, dim, half_to_float -> x.

    FLOPs: 4 (maximum, difference, sum, division or second difference) and an exponential an element.
    Bytes: input, output (float32 where half_to_float).
    """
    x = op.tensor(0)
    dtype = "float32" if op.scalar(2) else known_dtype(x)
    return Work(operations(known_dtype(x), 4 * x.numel, x.numel), bytes_of(x), dense_bytes(x.shape, dtype))


@cost("aten::_safe_softmax", unless_child=("aten::softmax", "aten::_softmax"))
def safe_softmax(op: Op) -> Work:
    """Shapes: x, dim, dtype -> x; rows that are all -inf give zeros.

    FLOPs: 5 and an exponential an element.
    Bytes: input, output.
    """
    x = op.tensor(0)
    dtype = dtype_argument(op, 2) or known_dtype(x)
    return Work(operations(known_dtype(x), 5 * x.numel, x.numel), bytes_of(x), dense_bytes(x.shape, dtype))


@cost("aten::_masked_softmax", unless_child=("aten::softmax", "aten::_softmax"))
def masked_softmax(op: Op) -> Work:
    """Shapes: x, mask -> x.

    FLOPs: 4 and an exponential an element.
    Bytes: input, mask, output.
    """
    x, mask = op.tensor(0), op.tensor(1)
    return Work(
        operations(known_dtype(x), 4 * x.numel, x.numel), bytes_of(x, mask), dense_bytes(x.shape, known_dtype(x))
    )


@cost("aten::_softmax_backward_data", "aten::_log_softmax_backward_data")
def softmax_backward(op: Op) -> Work:
    """Shapes: gradient, y, dim, input dtype -> y.

    FLOPs: 4 (product, sum, difference, product); of a log softmax 3 (sum, product, difference) and an exponential.
    Bytes: gradient, y, output in the input's dtype.
    """
    gradient, y = op.tensor(0), op.tensor(1)
    is_log = "log" in op.name
    dtype = dtype_argument(op, 3) or known_dtype(gradient)
    flops = operations(known_dtype(gradient), (3 if is_log else 4) * y.numel, y.numel if is_log else 0)
    return Work(flops, bytes_of(gradient, y), dense_bytes(y.shape, dtype))


@cost("aten::_masked_softmax_backward", unless_child=("aten::_softmax_backward_data",))
def masked_softmax_backward(op: Op) -> Work:
    """Shapes: gradient, y, mask -> y.

    FLOPs: 4 an element.
    Bytes: gradient, y, mask; output.
    """
    gradient, y, mask = op.tensor(0), op.tensor(1), op.tensor(2)
    flops = operations(known_dtype(y), 4 * y.numel)
    return Work(flops, bytes_of(gradient, y, mask), dense_bytes(y.shape, known_dtype(gradient)))


@cost("aten::_transform_bias_rescale_qkv")
def bias_rescale_qkv(op: Op) -> Work:
    """Shapes: qkv [B, T, 3 H D], bias [3 H D], heads -> q, k, v [B, H, T, D] each.

    FLOPs: 1 an element to add the bias, 1 more to scale q.
    Bytes: qkv, bias; as much as qkv.
    """
    qkv, bias = op.tensor(0), op.tensor(1)
    flops = qkv.numel + qkv.numel // 3
    return Work(operations(known_dtype(qkv), flops), bytes_of(qkv, bias), dense_bytes(qkv.shape, known_dtype(qkv)))
