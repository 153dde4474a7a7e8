"""Mixtures of experts in serving engines: routing, the experts' products, and putting their results together.

How many experts a token meets and which ones lies in tensors, or, where the engine holds the weights, is not recorded
at all. A fused op that names its weights has known FLOPs; a fused op that does not is a lower bound.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_ROUTING: Final = re.compile(
    r"rout(?:e|ing)|top_?k|histogram|align_block|sort|(?<!un)permut|expert_?offset", re.IGNORECASE
)
_QUANTISATION: Final = re.compile(r"quant", re.IGNORECASE)
_FIRST: Final = re.compile(r"swi?glu|silu|gelu|gemm_?1|stage_?1", re.IGNORECASE)
_FINALISATION: Final = re.compile(r"finali[sz]e|moe_sum|unpermut|reduce_grouped|_combine\b", re.IGNORECASE)
_BITS: Final = re.compile(r"sum_bitmatrix_rows")
_FILLS: Final = re.compile(r"routing_memset")
_UNSEEN: Final = "a lower bound: the experts' weights, their width and the experts a token meets are not recorded"
_CHOSEN: Final = "a bound: which experts were chosen is not recorded; as if every chosen row met another expert"


def _bound(read: int, written: int) -> Work:
    return Work(None, read, written, is_bound=True)


@cost("vllm::moe_forward", "vllm::moe_forward_shared", missing=_UNSEEN)
def experts_unseen(op: Op) -> tuple[Phase, ...]:
    """All of a mixture's layer in one op; the engine holds the weights.

    Shapes: x [tokens, hidden], logits [tokens, experts] -> like x (shared experts: a second result like it)
    FLOPs: unknown
    Bytes: lower bounds, all of them. Routing reads the logits; the first product reads x, or half a byte an element of
        it, as the narrowest quantisation leaves it, where a kernel of its own quantises (that one is given the rest);
        the second writes a row a token. A kernel that puts the rows together reads one a token and writes the result
        (extra)
    """
    x, logits = op.tensor(0), op.tensor(1)
    whole = dense_bytes(x.shape, known_dtype(x))
    narrow = min(x.numel // 2, bytes_of(x))
    return (
        Phase(_bound(bytes_of(logits), 0), _ROUTING),
        Phase(_bound(bytes_of(x) - narrow, 0), _QUANTISATION),
        Phase(_bound(narrow, 0), _FIRST),
        Phase(_bound(0, whole)),
        Phase(_bound(whole, whole), _FINALISATION, is_extra=True),
    )


@cost(
    "vllm::inplace_fused_experts", "vllm::outplace_fused_experts", "vllm::fused_experts",
    "sglang::inplace_fused_experts", "sglang::outplace_fused_experts",
    "vllm::rocm_aiter_fused_moe", "vllm::rocm_aiter_asm_moe_tkw1", "vllm::rocm_aiter_ck_moe",
    missing=_CHOSEN,
)  # fmt: skip
def experts(op: Op) -> Work:
    """The experts' two products; w1 has the gate's and the other projection's rows.

    Shapes: x [tokens, hidden], w1 [experts, 2 width, hidden], w2 [experts, hidden, width], weights and ids
        [tokens, chosen] -> like x
    FLOPs: 2 tokens chosen hidden (2 width) + 2 tokens chosen hidden width; the activation is not counted
    Bytes: x, weights, ids, and the matrices of min(experts, tokens x chosen) experts: an upper bound; the result
    """
    x, w1, w2, ids = op.tensor(0), op.tensor(1), op.tensor(2), op.tensor(4)
    rows = ids.numel
    multiply_adds = rows * x.shape[-1] * (w1.shape[1] + w1.shape[1] // 2)
    resource, real = product_resource(_arithmetic(x, w1))
    read = bytes_of(x, op.tensor(3), ids, *(_of_experts(w, rows) for w in (w1, w2)))
    written = dense_bytes(x.shape, known_dtype(x))
    return Work(flops_of({resource: 2 * multiply_adds * real}), read, written, is_bound=True)


def _arithmetic(x: TensorMeta, weight: TensorMeta) -> str:
    """Weights of float8 are multiplied by activations quantised on the way; others are widened."""
    return known_dtype(weight) if known_dtype(weight).startswith("float8") else known_dtype(x)


def _of_experts(weights: TensorMeta, rows: int) -> TensorMeta:
    """The matrices of as many experts as rows can meet."""
    return replace(weights, shape=(min(weights.shape[0], rows), *weights.shape[1:]))


@cost("_C::cutlass_moe_mm", "_C::cutlass_fp4_group_mm", "sgl_kernel::cutlass_fp4_group_mm", missing=_CHOSEN)
@cost("sgl_kernel::fp8_blockwise_scaled_grouped_mm", missing=_CHOSEN)
def grouped_product(op: Op) -> Work:
    """One product an expert, over rows sorted by expert.

    Shapes: out [rows, n], a [rows, k], b with the experts first (SGLang's blockwise op: a, b at 6, 7), scales
    FLOPs: 2 rows n k, on float4 with k doubled where two values share a byte
    Bytes: a, the matrices of min(experts, rows) experts; ``out``: an upper bound
    """
    first = 6 if op.name == "sgl_kernel::fp8_blockwise_scaled_grouped_mm" else 1
    out, a, b = op.tensor(0), op.tensor(first), op.tensor(first + 1)
    is_fp4 = "fp4" in op.name
    resource, real = product_resource("float4_e2m1fn_x2" if is_fp4 else known_dtype(a))
    flops = 2 * a.shape[0] * out.shape[-1] * a.shape[-1] * (2 if is_fp4 else 1)
    read = bytes_of(a, _of_experts(b, a.shape[0]))
    return Work(flops_of({resource: flops * real}), read, bytes_of(out), is_bound=True)


@cost("_moe_C::moe_align_block_size", "_moe_C::sgl_moe_align_block_size", "sgl_kernel::moe_align_block_size",
      missing="a bound: how far the rows of each expert are padded is not recorded")  # fmt: skip
def align_rows(op: Op) -> Work:
    """Sorts rows by expert and pads each expert's to whole blocks.

    Shapes: ids [tokens, chosen], experts, block, sorted ids, experts of blocks, count
    FLOPs: none counted
    Bytes: ids; the outputs as large as they were made: an upper bound
    """
    outputs = (op.tensor(3), op.tensor(4), op.tensor(5))
    return Work((), bytes_of(op.tensor(0)), bytes_of(*outputs), is_bound=True)


@cost("TopK")
def triton_kernels_topk(op: Op) -> Work:
    """The chosen experts of each token (triton_kernels' autograd function).

    Shapes: logits [tokens, experts], chosen, softmax or not, dim -> weights [tokens, chosen] like the logits, ids
        [tokens, chosen] int16, a bit an expert [tokens, experts / 32] in words of 32
    FLOPs: a comparison a logit; a softmax over the chosen: 4 and an exponential each
    Bytes: logits; weights, ids, bits
    """
    logits, chosen = op.tensor(0), op.scalar(1)
    if len(logits.shape) != 2 or not isinstance(op.scalar(2), bool) or not isinstance(chosen, int):
        raise MissingFactError("another function of that name")
    tokens, count = logits.shape
    picked = tokens * chosen
    dtype, softmax = known_dtype(logits), picked * (op.scalar(2) is True)
    written = dense_bytes((picked,), dtype) + dense_bytes((picked,), "int16") + _bits(tokens, count)
    return Work(operations(dtype, logits.numel + 4 * softmax, softmax), bytes_of(logits), written)


@cost("SortTokens")
def triton_kernels_sort(op: Op) -> tuple[Phase, ...]:
    """Chosen rows sorted by expert (triton_kernels' autograd function).

    Shapes: weights [tokens, chosen], ids [tokens, chosen] int16, experts; the bits of ``TopK`` are not recorded
        -> sorted weights, the order there and back in int32, rows of each expert in int32
    FLOPs: an addition an id
    Bytes: bits; rows of each expert; weights, ids, rows; sorted weights and both orders. Filling the orders first is
        extra. The tables by which the products are scheduled are the library's bookkeeping: not counted
    """
    weights, ids, count = op.tensor(0), op.tensor(1), op.scalar(2)
    if len(weights.shape) != 2 or ids.shape != weights.shape or not isinstance(count, int) or ids.dtype != "int16":
        raise MissingFactError("another function of that name")
    rows, orders = dense_bytes((count,), "int32"), dense_bytes((2 * ids.numel,), "int32")
    counted = operations("int32", ids.numel)
    return (
        Phase(Work(counted, _bits(weights.shape[0], count), rows), _BITS),
        Phase(Work((), 0, orders), _FILLS, is_extra=True),
        Phase(Work((), bytes_of(weights, ids) + rows, bytes_of(weights) + orders)),
    )


def _bits(tokens: int, experts_in_all: int) -> int:
    """Bytes of a bit an expert a token, in words of 32."""
    return dense_bytes((tokens, -(-experts_in_all // 32)), "int32")
