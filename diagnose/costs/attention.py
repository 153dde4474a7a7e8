"""Scaled dot-product attention: 4 D FLOPs and one exponential a visible pair of query and key, a query head.

FLOPs are the two products (Q K^T and P V: 2 Dqk + 2 Dv a pair, on the tensor unit of the query's dtype); the softmax's
exponential is one ``special`` operation a pair; its scaling, maximum and sum are not counted, nor is a dropout's mask.

Which pairs a causal mask leaves visible is the op's own choice: where queries S and keys T differ in number, flash
aligns its diagonal with the bottom right corner (the last query sees every key), the others with the top left one.
A mask tensor's values are not recorded: every pair counts. Lengths that lie in tensors (packed sequences, paged
caches) are not recorded either: then the work is an upper bound, unless the maxima alone account for every token.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec.structs import replace

from diagnose.costs.attention_shapes import (
    BOTTOM_RIGHT,
    TOP_LEFT,
    Heads,
    causal,
    dense,
    efficient_band,
    flash_band,
    flash_heads,
    packed,
    qkv,
    whole,
)
from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, itemsize
from diagnose.work import Op, Work, flops_of

_COMBINE: Final = re.compile(r"splitkv_combine|combine_kernel|fmha_fwd_splitkv_combine", re.IGNORECASE)


def _forward_work(heads: Heads, dtype: str, read: int, *, writes_lse: bool = True) -> tuple[Phase, ...]:
    resource, real = product_resource(dtype)
    pairs = heads.heads * heads.pairs
    flops = flops_of({resource: 2 * real * pairs * (heads.qk_size + heads.v_size), "special": pairs})
    out = heads.query_tokens * heads.heads * heads.v_size * itemsize(dtype)
    lse = heads.query_tokens * heads.heads * itemsize("float32") if writes_lse else 0
    main = Phase(Work(flops, read, out + lse, is_bound=heads.is_bound))
    return main, _combine(heads, out)


def _combine(heads: Heads, out: int) -> Phase:
    """Puts the parts of a cut key sequence together: at least two float32 parts are read. Their number is unknown."""
    parts = 2 * heads.query_tokens * heads.heads * (heads.v_size + 1) * itemsize("float32")
    return Phase(Work((), parts, out, is_bound=True), _COMBINE, is_extra=True)


def _top_left(op: Op, causal_at: int, *, writes_lse: bool) -> tuple[Phase, ...]:
    """Dense q, k, v, a bias or mask (3), aligned top left."""
    q, k, v = qkv(op)
    heads = dense(q, k, v, causal(op, causal_at, TOP_LEFT))
    read = bytes_of(q, k, v, op.tensor_or_none(3))
    return _forward_work(heads, known_dtype(q), read, writes_lse=writes_lse)


_FLASH: Final = ("aten::_flash_attention_forward",)
_EFFICIENT: Final = ("aten::_efficient_attention_forward",)
_CUDNN: Final = ("aten::_cudnn_attention_forward",)


@cost("aten::_scaled_dot_product_flash_attention", unless_child=_FLASH)
def sdpa_flash(op: Op) -> tuple[Phase, ...]:
    """Flash attention on dense batches.

    Shapes: q [B, H, S, D], k, v [B, Hkv, T, D] -> [B, H, S, D], logsumexp float32 [B, H, S]
    FLOPs: 4 B H D visible pairs (not causal: 4 B H S T D); special: B H visible pairs
    Bytes: q, k, v read; result and logsumexp written
    Assumes: causal (argument 4) is aligned bottom right
    """
    q, k, v = qkv(op)
    return _forward_work(dense(q, k, v, causal(op, 4, BOTTOM_RIGHT)), known_dtype(q), bytes_of(q, k, v))


@cost("aten::_scaled_dot_product_flash_attention_for_cpu")
def sdpa_flash_cpu(op: Op) -> tuple[Phase, ...]:
    """Flash attention on a CPU: top left aligned, with an optional mask tensor (argument 5).

    Shapes: q [B, H, S, D], k, v [B, Hkv, T, D] -> [B, H, S, D], logsumexp float32 (float64 for float64)
    FLOPs: 4 B H D visible pairs; special: B H visible pairs
    Bytes: q, k, v, mask read; result and logsumexp written
    """
    q, k, v = qkv(op)
    heads = dense(q, k, v, causal(op, 4, TOP_LEFT))
    phases = _forward_work(heads, known_dtype(q), bytes_of(q, k, v, op.tensor_or_none(5)))
    if known_dtype(q) != "float64":
        return phases
    lse = heads.query_tokens * heads.heads * itemsize("float32")
    return (replace(phases[0], work=phases[0].work + Work((), 0, lse)), *phases[1:])


@cost("aten::_flash_attention_forward")
def flash_forward(op: Op) -> tuple[Phase, ...]:
    """Flash attention as its library has it.

    Shapes: q [B, S, H, D], k, v [B, T, Hkv, D]; packed: [tokens, H, D] with cumulative lengths [sequences + 1]
    FLOPs: 4 H D visible pairs; special: H visible pairs
    Bytes: q, k, v read; result and logsumexp float32 written
    Assumes: causal (argument 8) and windows (11, 12) are aligned bottom right; a bound where lengths lie in tensors
    """
    q, k, v = qkv(op)
    heads = flash_heads(op, (q, k, v), flash_band(op, 8, 11))
    if op.tensor_or_none(13) is not None:  # seqused_k: how much of each key sequence counts
        heads = replace(heads, is_bound=True)
    return _forward_work(heads, known_dtype(q), bytes_of(q, k, v))


@cost("aten::_scaled_dot_product_efficient_attention", unless_child=_EFFICIENT)
def sdpa_efficient(op: Op) -> tuple[Phase, ...]:
    """Memory-efficient attention on dense batches.

    Shapes: q [B, H, S, D], k [B, H, T, D], v [B, H, T, Dv], bias (3) broadcast to [B, H, S, T] -> [B, H, S, Dv]
    FLOPs: 2 (D + Dv) B H visible pairs; special: B H visible pairs
    Bytes: q, k, v, bias read; result and, if asked for (4), logsumexp float32 written
    Assumes: causal (argument 6) is aligned top left
    """
    return _top_left(op, 6, writes_lse=op.scalar(4) is not False)


@cost("aten::_efficient_attention_forward")
def efficient_forward(op: Op) -> tuple[Phase, ...]:
    """Memory-efficient attention as its library has it.

    Shapes: q [B, S, H, D], k [B, T, H, D], v [B, T, H, Dv]; packed: B = 1 with cumulative lengths (4, 5)
    FLOPs: 2 (D + Dv) H visible pairs; special: H visible pairs
    Bytes: q, k, v, bias (3) read; result and, if asked for (10), logsumexp float32 written
    Assumes: mask type (9): 0 none, 1 causal top left, 2 causal bottom right; window (13) counts the keys a query sees
    """
    q, k, v = qkv(op)
    band = efficient_band(op, 9, 13)
    cumulative = op.tensor_or_none(4)
    if cumulative is None:
        heads = dense(q, k, v, band, heads_second=False)
    else:
        heads = packed((q, k, v), cumulative.numel - 1, (whole(op, 6), whole(op, 7)), band)
    if op.tensor_or_none(12) is not None:  # seqlen_k
        heads = replace(heads, is_bound=True)
    read = bytes_of(q, k, v, op.tensor_or_none(3))
    return _forward_work(heads, known_dtype(q), read, writes_lse=op.scalar(10) is not False)


@cost("aten::_scaled_dot_product_cudnn_attention", unless_child=_CUDNN)
def sdpa_cudnn(op: Op) -> tuple[Phase, ...]:
    """Attention by cuDNN on dense batches.

    Shapes: q [B, H, S, D], k, v [B, Hkv, T, D], bias (3) -> [B, H, S, Dv]
    FLOPs: 2 (D + Dv) B H visible pairs; special: B H visible pairs
    Bytes: q, k, v, bias read; result and, if asked for (4), logsumexp float32 written
    Assumes: causal (argument 6) is aligned top left
    """
    return _top_left(op, 6, writes_lse=op.scalar(4) is not False)


@cost("aten::_cudnn_attention_forward")
def cudnn_forward(op: Op) -> tuple[Phase, ...]:
    """Attention by cuDNN: dense [B, H, S, D], or packed [tokens, H, D] with cumulative lengths (4, 5).

    Shapes: q, k, v, bias (3), longest sequences (6, 7), logsumexp or not (8), causal (10)
    FLOPs: 2 (D + Dv) H visible pairs; special: H visible pairs
    Bytes: q, k, v, bias read; result and logsumexp float32 written
    """
    q, k, v = qkv(op)
    band, cumulative = causal(op, 10, TOP_LEFT), op.tensor_or_none(4)
    if cumulative is None or len(q.shape) == 4:
        heads = dense(q, k, v, band)
    else:
        heads = packed((q, k, v), cumulative.numel - 1, (whole(op, 6), whole(op, 7)), band)
    read = bytes_of(q, k, v, op.tensor_or_none(3))
    return _forward_work(heads, known_dtype(q), read, writes_lse=op.scalar(8) is not False)


_FUSED: Final = (
    "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable", "aten::_scaled_dot_product_attention_math",
    *_FLASH, *_EFFICIENT, *_CUDNN,
)  # fmt: skip


@cost("aten::_scaled_dot_product_attention_math", unless_child=("aten::matmul", "aten::bmm"))
def sdpa_math(op: Op) -> tuple[Phase, ...]:
    """Attention of separate ops, where they were not recorded: as if it were fused. See ``sdpa``."""
    return _top_left(op, 5, writes_lse=False)


@cost("aten::_scaled_dot_product_fused_attention_overrideable")
def sdpa_overrideable(op: Op) -> tuple[Phase, ...]:
    """Attention of another backend. See ``sdpa``."""
    return _top_left(op, 5, writes_lse=False)


@cost("aten::scaled_dot_product_attention", unless_child=_FUSED)
def sdpa(op: Op) -> tuple[Phase, ...]:
    """Attention by whatever means, where nothing below it was recorded.

    Shapes: q [B, H, S, D], k, v [B, Hkv, T, D], mask (3), causal (5) -> [B, H, S, Dv]
    FLOPs: 2 (D + Dv) B H visible pairs; special: B H visible pairs
    Bytes: q, k, v, mask read; the result written
    Assumes: causal is aligned top left, as torch documents
    """
    return _top_left(op, 5, writes_lse=False)
