"""Matrix products of serving and training libraries: 2mnk FLOPs on the unit of what is multiplied.

Weights of 8 bits beside activations of 8 bits are multiplied as they are; packed weights of 4 bits beside wider
activations are widened on the way, so that the arithmetic is the activations'.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from diagnose.costs.matmul import linear, product_resource, split_reduction
from diagnose.costs.promotion import dtype_argument, known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_LINEARS: Final = ("aten::linear", "aten::mm", "aten::addmm", "aten::matmul", "_rocm_C::wvSplitK", "_rocm_C::LLMM1")
cost("vllm::rocm_unquantized_gemm", unless_child=_LINEARS)(linear)
cost("vllm::rocm_unquantized_gemm_impl", unless_child=_LINEARS)(linear)


def _product(
    sizes: tuple[int, int, int], dtype: str, reads: tuple[TensorMeta | None, ...], out_dtype: str
) -> tuple[Phase, ...]:
    """``sizes``: m, n, k. ``dtype``: of the arithmetic."""
    m, n, k = sizes
    resource, real = product_resource(dtype)
    written = dense_bytes((m, n), out_dtype)
    work = Work(flops_of({resource: 2 * m * n * k * real}), bytes_of(*reads), written)
    return Phase(work), split_reduction(written)


def _inner(a: TensorMeta, b: TensorMeta, *, rows_are_outputs: bool) -> tuple[int, int, int]:
    """m, n, k of a [.., k] and b [k, n], or [n, k] where its rows are the outputs; raises if they do not fit."""
    k, n = b.shape[::-1] if rows_are_outputs else b.shape
    if a.shape[-1] != k:
        raise ValueError("shapes do not multiply")
    return prod(a.shape[:-1]), n, k


@cost("_C::cutlass_scaled_mm", "_C::cutlass_scaled_mm_azp")
def cutlass_scaled_mm(op: Op) -> tuple[Phase, ...]:
    """Product of 8-bit matrices with scales, and corrections for zero points.

    Shapes: out [m, n], a [m, k], b [k, n], scales, (azp: corrections,) bias [n]
    FLOPs: 2 m n k
    Bytes: everything but ``out`` read; ``out`` written
    """
    out, a, b = op.tensor(0), op.tensor(1), op.tensor(2)
    rest = tuple(op.tensor_or_none(index) for index in range(3, len(op.inputs or ())))
    return _product(_inner(a, b, rows_are_outputs=False), known_dtype(a), (a, b, *rest), known_dtype(out))


@cost("_C::cutlass_scaled_fp4_mm", "sgl_kernel::cutlass_scaled_fp4_mm")
def cutlass_fp4_mm(op: Op) -> tuple[Phase, ...]:
    """Product of matrices of 4-bit floats, two in a byte, with a scale a block.

    Shapes: out [m, n], a [m, k / 2], b [n, k / 2], block scales, scale
    FLOPs: 2 m n k on float4
    Bytes: a, b, scales read; ``out`` written
    """
    out, a, b = op.tensor(0), op.tensor(1), op.tensor(2)
    m, n, pairs = _inner(a, b, rows_are_outputs=True)
    scales = tuple(op.tensor_or_none(index) for index in (3, 4, 5))
    return _product((m, n, 2 * pairs), "float4_e2m1fn_x2", (a, b, *scales), known_dtype(out))


@cost("sgl_kernel::fp8_scaled_mm", "sgl_kernel::int8_scaled_mm", "sgl_kernel::fp8_blockwise_scaled_mm")
def sglang_scaled_mm(op: Op) -> tuple[Phase, ...]:
    """Shapes: a [m, k], b [k, n], scales, scales, out dtype, bias [n]? -> [m, n].

    FLOPs: 2 m n k
    Bytes: a, b, scales, bias read; the result written
    """
    a, b = op.tensor(0), op.tensor(1)
    reads = (a, b, op.tensor(2), op.tensor(3), op.tensor_or_none(5))
    return _product(_inner(a, b, rows_are_outputs=False), known_dtype(a), reads, _asked(op, 4))


def _asked(op: Op, index: int) -> str:
    found = dtype_argument(op, index)
    if found is None:
        raise MissingFactError("the dtype of the result was not recorded")
    return found


@cost("sgl_kernel::dsv3_fused_a_gemm", "sgl_kernel::dsv3_router_gemm", "_C::dsv3_fused_a_gemm", "_C::fp32_router_gemm")
def sglang_small_gemm(op: Op) -> tuple[Phase, ...]:
    """Shapes: out [m, n], a [m, k], b [k, n] (router: [n, k]).

    FLOPs: 2 m n k
    Bytes: a, b read; ``out`` written
    """
    out, a, b = op.tensor(0), op.tensor(1), op.tensor(2)
    sizes = _inner(a, b, rows_are_outputs=op.name.endswith("router_gemm"))
    return _product(sizes, known_dtype(a), (a, b), known_dtype(out))


# Where the dtype of the result stands; between the scales and it may be a bias.
_AITER_LINEARS: Final[Mapping[str, int]] = {
    "vllm::rocm_aiter_gemm_w8a8": 5, "vllm::rocm_aiter_w8a8_gemm": 5,
    "vllm::rocm_aiter_preshuffled_per_token_w8a8_gemm": 5, "vllm::rocm_aiter_gemm_a8w8_blockscale": 4,
    "vllm::rocm_aiter_gemm_a8w8_blockscale_bpreshuffle": 4, "vllm::rocm_aiter_triton_gemm_a8w8_blockscale": 4,
}  # fmt: skip


@cost(*_AITER_LINEARS)
def aiter_linear(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [m, k], w [n, k], scales, scales, (bias [n]?,) out dtype -> [m, n].

    FLOPs: 2 m n k
    Bytes: x, w, scales, bias read; the result written
    """
    place = _AITER_LINEARS[op.name]
    x, w = op.tensor(0), op.tensor(1)
    rest = tuple(op.tensor_or_none(index) for index in range(2, place))
    return _product(_inner(x, w, rows_are_outputs=True), known_dtype(x), (x, w, *rest), _asked(op, place))


@cost("aiter::gemm_a8w8_ck", "aiter::gemm_a8w8_CK", "aiter::gemm_a8w8_blockscale_ck", "aiter::gemm_a8w8_bpreshuffle_ck")
def aiter_gemm(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [m, k], w [n, k], scales, scales, out [m, n], bias [n]?.

    FLOPs: 2 m n k
    Bytes: x, w, scales, bias read; ``out`` written
    """
    x, w, out = op.tensor(0), op.tensor(1), op.tensor(4)
    reads = (x, w, op.tensor(2), op.tensor(3), op.tensor_or_none(5))
    return _product(_inner(x, w, rows_are_outputs=True), known_dtype(x), reads, known_dtype(out))


@cost("_rocm_C::wvSplitK", "_rocm_C::wvSplitKrc", "_rocm_C::LLMM1")
def skinny_gemm(op: Op) -> tuple[Phase, ...]:
    """Weights times a few tokens.

    Shapes: w [n, k], x [m, k], bias? -> [m, n]
    FLOPs: 2 m n k
    Bytes: w, x, bias read; the result written
    """
    w, x = op.tensor(0), op.tensor(1)
    reads = (w, x, op.tensor_or_none(2))
    return _product(_inner(x, w, rows_are_outputs=True), known_dtype(x), reads, known_dtype(x))


@cost("_C::awq_gemm", "_C::gptq_gemm", "sgl_kernel::gptq_gemm")
def packed_gemm(op: Op) -> tuple[Phase, ...]:
    """Product with a weight of packed short integers.

    Shapes: x [m, k], packed w, AWQ: scales [groups, n], zeros; GPTQ: zeros, scales [groups, n], order -> [m, n]
    FLOPs: 2 m n k on the activations' dtype
    Bytes: every recorded tensor read; the result written
    """
    x, scales = op.tensor(0), op.tensor(2 if op.name == "_C::awq_gemm" else 3)
    reads = tuple(op.tensor_or_none(index) for index in range(len(op.inputs or ())))
    sizes = (prod(x.shape[:-1]), scales.shape[-1], x.shape[-1])
    return _product(sizes, known_dtype(x), reads, known_dtype(x))


@cost("_C::gptq_marlin_gemm", "sgl_kernel::gptq_marlin_gemm", "_C::gptq_marlin_24_gemm", "_C::marlin_gemm")
def marlin_gemm(op: Op) -> tuple[Phase, ...]:
    """Product with a weight of packed short integers; its sizes are arguments, one after another.

    Shapes: x [m, k], packed w and its scales in an order that changed over versions, m, n, k -> [m, n]
    FLOPs: 2 m n k on the activations' dtype
    Bytes: every recorded tensor read (a workspace too); the result written
    """
    x = op.tensor(0)
    m, n, k = _sizes(op, (prod(x.shape[:-1]), x.shape[-1]))
    reads = tuple(op.tensor_or_none(index) for index in range(len(op.inputs or ())))
    return _product((m, n, k), known_dtype(x), reads, known_dtype(x))


def _sizes(op: Op, known: tuple[int, int]) -> tuple[int, int, int]:
    """m, n, k: three numbers in a row of which the first and the last are ``known``."""
    values = op.inputs or ()
    for m, n, k in zip(values, values[1:], values[2:], strict=False):
        if (m, k) == known and isinstance(n, int) and not isinstance(n, bool):
            return known[0], n, known[1]
    raise MissingFactError("the sizes of the product were not recorded")


@cost("tex_ts::te_gemm_ts")
def transformer_engine_gemm(op: Op) -> tuple[Phase, ...]:
    """Transformer Engine's product, in the column order of its library.

    Shapes: a (0) [n, k] where transposed (4), else [k, n]; b (5) [k, m] where transposed (9), else [m, k]; out (10)
    FLOPs: 2 m n k; on float8 where a is of single bytes
    Bytes: a, b read; ``out`` written. Epilogues (bias, GELU) are not counted
    """
    a, b, out = op.tensor(0), op.tensor(5), op.tensor(10)
    turned = [op.scalar(4), op.scalar(9)]
    if not all(isinstance(flag, (bool, int)) for flag in turned):
        raise MissingFactError("which sides are transposed was not recorded")
    n, k = a.shape if turned[0] else a.shape[::-1]
    m, k2 = b.shape[::-1] if turned[1] else b.shape
    if k != k2:
        raise ValueError("shapes do not multiply")
    dtype = "float8_e4m3fn" if known_dtype(a) == "uint8" else known_dtype(a)
    return _product((m, n, k), dtype, (a, b), known_dtype(out))


@cost("_C::machete_mm", "_C::cutlass_w4a8_mm")
def packed_columns_gemm(op: Op) -> tuple[Phase, ...]:
    """Product with a weight of packed short integers whose columns are the outputs.

    Shapes: x [m, k], packed w [k / packed, n], scales -> [m, n]
    FLOPs: 2 m n k on the activations' dtype
    Bytes: every recorded tensor read; the result written, in the dtype asked for, else that of x
    """
    x, w = op.tensor(0), op.tensor(1)
    reads = tuple(op.tensor_or_none(index) for index in range(len(op.inputs or ())))
    asked = dtype_argument(op, 3 if op.name == "_C::machete_mm" else 6)
    sizes = (prod(x.shape[:-1]), w.shape[-1], x.shape[-1])
    return _product(sizes, known_dtype(x), reads, asked or known_dtype(x))


@cost("_C::allspark_w8a16_gemm")
def allspark_gemm(op: Op) -> tuple[Phase, ...]:
    """Shapes: x [m, k], w of 8 bits, scales, zeros?, n -> [m, n].

    FLOPs: 2 m n k on the activations' dtype
    Bytes: x, w, scales, zeros read; the result written
    """
    x, n = op.tensor(0), op.scalar(4)
    if not isinstance(n, int):
        raise MissingFactError("the sizes of the product were not recorded")
    reads = tuple(op.tensor_or_none(index) for index in range(4))
    return _product((prod(x.shape[:-1]), n, x.shape[-1]), known_dtype(x), reads, known_dtype(x))


@cost("_C::awq_dequantize", "sgl_kernel::awq_dequantize")
def awq_dequantize(op: Op) -> Work:
    """Shapes: packed w [k, n / 8], scales [groups, n], zeros -> [k, n] like the scales.

    FLOPs: 2 an element (a difference and a product)
    Bytes: packed w, scales, zeros; the result
    """
    w, scales = op.tensor(0), op.tensor(1)
    count, dtype = w.shape[0] * scales.shape[-1], known_dtype(scales)
    return Work(operations(dtype, 2 * count), bytes_of(w, scales, op.tensor(2)), dense_bytes((count,), dtype))
