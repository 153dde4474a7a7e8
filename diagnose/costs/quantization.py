"""Quantised tensors: to and from them, pretended ones, and products with packed weights of four bits."""

from __future__ import annotations

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import dtype_argument, known_dtype, statistic_dtype, whole_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, moved, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of


def _parameters(op: Op) -> list[TensorMeta]:
    """Scales and zero points, where they are tensors."""
    return [tensor for index in (1, 2) if (tensor := op.tensor_or_none(index)) is not None]


@cost("aten::quantize_per_tensor", "aten::quantize_per_channel", "aten::quantize_per_tensor_dynamic")
def quantize(op: Op) -> Work:
    """Shapes: x, scale, zero point, .., dtype -> x of short integers.

    FLOPs: 5 an element (product, sum, rounding, two limits).
    Bytes: input, scales; output.
    """
    x = op.tensor(0)
    dtype = dtype_argument(
        op, {"aten::quantize_per_channel": 4, "aten::quantize_per_tensor_dynamic": 1}.get(op.name, 3)
    )
    if dtype is None:
        raise MissingFactError("the quantised dtype was not recorded")
    return Work(operations(known_dtype(x), 5 * x.numel), bytes_of(x, *_parameters(op)), dense_bytes(x.shape, dtype))


@cost("aten::dequantize")
def dequantize(op: Op) -> Work:
    """Shapes: x of short integers -> x of float32.

    FLOPs: 2 an element.
    Bytes: input; output.
    """
    x = op.tensor(0)
    return Work(operations("float32", 2 * x.numel), bytes_of(x), dense_bytes(x.shape, "float32"))


@cost("aten::int_repr")
def int_repr(op: Op) -> Work:
    """Shapes: x -> its integers.

    FLOPs: none.
    Bytes: input; output.
    """
    return moved(bytes_of(op.tensor(0)), bytes_of(op.tensor(0)))


@cost("aten::fake_quantize_per_tensor_affine_cachemask", "aten::fake_quantize_per_channel_affine_cachemask",
      "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams")  # fmt: skip
def fake_quantize(op: Op) -> Work:
    """Shapes: x, scale, zero point, .. -> x and a mask of bool.

    FLOPs: 7 an element (quantise 5, back 2).
    Bytes: input, scales; output, mask.
    """
    x = op.tensor(0)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(x.shape, "bool")
    return Work(operations(known_dtype(x), 7 * x.numel), bytes_of(x, *_parameters(op)), written)


@cost("aten::_fake_quantize_learnable_per_tensor_affine", "aten::_fake_quantize_learnable_per_channel_affine",
      unless_child=("aten::fake_quantize_per_tensor_affine", "aten::fake_quantize_per_channel_affine",
                    "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
                    "aten::fake_quantize_per_tensor_affine_cachemask",
                    "aten::fake_quantize_per_channel_affine_cachemask"))  # fmt: skip
def learnable_fake_quantize(op: Op) -> Work:
    """Shapes: x, scale, zero point, .. -> x.

    FLOPs: 7 an element.
    Bytes: input, scales; output.
    """
    x = op.tensor(0)
    flops = operations(known_dtype(x), 7 * x.numel)
    return Work(flops, bytes_of(x, *_parameters(op)), dense_bytes(x.shape, known_dtype(x)))


@cost("aten::_fused_moving_avg_obs_fq_helper")
def observe_and_fake_quantize(op: Op) -> Work:
    """Shapes: x, switches, running minimum and maximum, scale, zero point, .. -> x and a mask of bool.

    FLOPs: 9 an element (minimum, maximum, 7 to quantise and back).
    Bytes: input twice (its range first); output, mask. On a GPU each has its own kernel.
    """
    x = op.tensor(0)
    written = dense_bytes(x.shape, known_dtype(x)) + dense_bytes(x.shape, "bool")
    again = bytes_of(x)
    return Work(operations(known_dtype(x), 9 * x.numel), 2 * again, written, extra_bytes=again)


@cost("aten::_convert_weight_to_int4pack", "aten::_convert_weight_to_int4pack_for_cpu")
def pack_int4(op: Op) -> Work:
    """Shapes: w [n, k] (int32 a weight, or uint8 a pair of weights on a GPU), tiles -> n k / 2 bytes.

    FLOPs: none.
    Bytes: input; half a byte a weight.
    """
    weight = op.tensor(0)
    weights = weight.numel * (2 if known_dtype(weight) == "uint8" and "cpu" not in op.name else 1)
    return moved(bytes_of(weight), weights // 2)


@cost("aten::_dyn_quant_pack_4bit_weight")
def pack_dynamic(op: Op) -> Work:
    """Shapes: pairs of weights uint8, scales, bias?, .. -> one packed buffer of all of it.

    FLOPs: none.
    Bytes: inputs; as much.
    """
    size = bytes_of(op.tensor(0), op.tensor(1), op.tensor_or_none(2))
    return moved(size, size)


@cost("aten::_dyn_quant_matmul_4bit")
def dynamic_matmul(op: Op) -> Work:
    """Activations quantised on the way to 8 bits, times packed weights of 4 bits.

    Shapes: x [m, k], packed, block, k, n -> [m, n]
    FLOPs: 2 m n k on int8; quantising x 5 an element
    Bytes: x, packed weights; output
    """
    x, packed, k, n = op.tensor(0), op.tensor(1), whole_argument(op, 3), whole_argument(op, 4)
    rows = x.numel // k
    counts = Work(
        flops_of({"tensor.int8": 2 * rows * n * k}), bytes_of(x, packed), dense_bytes((rows, n), known_dtype(x))
    )
    return counts + Work(operations(known_dtype(x), 5 * x.numel), 0, 0)


@cost("aten::_weight_int4pack_mm_for_cpu", "aten::_weight_int4pack_mm_with_scales_and_zeros")
def int4_matmul(op: Op) -> Work:
    """Products with packed weights of 4 bits, widened on the way: the arithmetic is that of the activations.

    Shapes: x [m, k], packed (n k / 2 bytes), group, scales and zeros -> [m, n]
    FLOPs: 2 m n k
    Bytes: x, packed, scales; output
    """
    x, packed = op.tensor(0), op.tensor(1)
    m, k = x.shape
    n = 2 * bytes_of(packed) // k
    resource, real = product_resource(known_dtype(x))
    read = bytes_of(x, packed, op.tensor(3), op.tensor_or_none(4))
    return Work(flops_of({resource: 2 * m * n * k * real}), read, dense_bytes((m, n), known_dtype(x)))


@cost("aten::_mixed_dtypes_linear")
def mixed_linear(op: Op) -> Work:
    """Shapes: x [.., k], w [k, n] of int8 (or pairs of 4 bits: [k, n / 2]), scale [n], bias? -> [.., n].

    FLOPs: 2 m n k on the activations' dtype
    Bytes: inputs; output
    """
    x, weight, scale = op.tensor(0), op.tensor(1), op.tensor(2)
    n, rows = scale.numel, x.numel // x.shape[-1]
    resource, real = product_resource(known_dtype(x))
    flops = flops_of({resource: 2 * rows * n * x.shape[-1] * real})
    read = bytes_of(x, weight, scale, op.tensor_or_none(3))
    return Work(flops, read, dense_bytes((rows, n), known_dtype(x)))


@cost("aten::_weight_norm_interface")
def weight_norm(op: Op) -> Work:
    """Shapes: v, g, dim -> g v / |v|, and the norms, one for each of g.

    FLOPs: 3 an element (square, sum, product).
    Bytes: v twice (the norm first), g; the weight, the norms. One kernel does both on a GPU.
    """
    v, g = op.tensor(0), op.tensor(1)
    again = bytes_of(v)
    written = dense_bytes(v.shape, known_dtype(v)) + dense_bytes((g.numel,), statistic_dtype(g))
    return Work(operations(known_dtype(v), 3 * v.numel), 2 * again + bytes_of(g), written, extra_bytes=again)


@cost("aten::_weight_norm_interface_backward")
def weight_norm_backward(op: Op) -> Work:
    """Shapes: gradient, v, g, norms, dim -> v, g.

    FLOPs: 5 an element (product and sum; two products and a difference).
    Bytes: gradient and v twice, g, norms; both gradients.
    """
    gradient, v, g, norms = (op.tensor(index) for index in range(4))
    again = bytes_of(gradient, v)
    written = dense_bytes(v.shape, known_dtype(v)) + dense_bytes(g.shape, known_dtype(g))
    return Work(operations(known_dtype(v), 5 * v.numel), 2 * again + bytes_of(g, norms), written, extra_bytes=again)
