"""Gradients of attention: the five products that a recomputing kernel needs, 6 Dqk + 4 Dv FLOPs a visible pair.

S again, dP, dV, dQ, dK, and the exponential again; see ``attention`` for what counts as visible.
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
from diagnose.costs.traffic import bytes_of, dense_bytes, itemsize
from diagnose.work import Op, TensorMeta, Work, flops_of

_DOT: Final = re.compile(r"dot_do_o|bwd_preprocess|OGradDotO", re.IGNORECASE)
_CONVERT: Final = re.compile(r"convert_dq|bwd_postprocess", re.IGNORECASE)


def _backward_work(
    heads: Heads, tensors: tuple[TensorMeta, ...], others: tuple[TensorMeta | None, ...]
) -> tuple[Phase, ...]:
    """``tensors``: dO, q, k, v, O, logsumexp."""
    grad, q, k, v, out, _ = tensors
    dtype = known_dtype(q)
    resource, real = product_resource(dtype)
    pairs = heads.heads * heads.pairs
    flops = flops_of({resource: 2 * real * pairs * (3 * heads.qk_size + 2 * heads.v_size), "special": pairs})
    written = sum(dense_bytes(t.shape, known_dtype(t)) for t in (q, k, v))
    main = Phase(Work(flops, bytes_of(*tensors, *others), written, is_bound=heads.is_bound))
    delta = heads.query_tokens * heads.heads * itemsize("float32")
    wide = dense_bytes(q.shape, "float32")
    dot = Phase(Work((), bytes_of(grad, out), delta), _DOT, is_extra=True)
    convert = Phase(Work((), wide, dense_bytes(q.shape, dtype)), _CONVERT, is_extra=True)
    return dot, main, convert


def _saved(op: Op, out: int) -> tuple[TensorMeta, ...]:
    """The gradient, q, k, v, and at ``out`` the result with its logsumexp."""
    return (op.tensor(0), *qkv(op, 1), op.tensor(out), op.tensor(out + 1))


@cost("aten::_scaled_dot_product_flash_attention_backward", unless_child=("aten::_flash_attention_backward",))
def sdpa_flash_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of flash attention on dense batches.

    Shapes: dO, q, k, v [B, H, S, D] as forward, O (4), logsumexp (5) -> dq, dk, dv
    FLOPs: 10 B H D visible pairs; special: B H visible pairs
    Bytes: dO, q, k, v, O, logsumexp read; dq, dk, dv written; a dot-product and a cast kernel have extra traffic
    Assumes: causal (argument 11) is aligned bottom right
    """
    heads = dense(*qkv(op, 1), causal(op, 11, BOTTOM_RIGHT))
    return _backward_work(heads, _saved(op, 4), ())


@cost("aten::_scaled_dot_product_flash_attention_for_cpu_backward")
def sdpa_flash_cpu_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of flash attention on a CPU: causal (7) top left, mask (8). See ``sdpa_flash_backward``."""
    heads = dense(*qkv(op, 1), causal(op, 7, TOP_LEFT))
    return _backward_work(heads, _saved(op, 4), (op.tensor_or_none(8),))


@cost("aten::_flash_attention_backward")
def flash_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of flash attention, [B, S, H, D] or packed: causal (11), windows (15, 16), bottom right.

    Shapes, FLOPs, Bytes: see ``sdpa_flash_backward``
    """
    heads = flash_heads(op, qkv(op, 1), flash_band(op, 11, 15), ends=6)
    return _backward_work(heads, _saved(op, 4), ())


@cost("aten::_scaled_dot_product_efficient_attention_backward", unless_child=("aten::_efficient_attention_backward",))
def sdpa_efficient_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of memory-efficient attention: bias (4), O (5), logsumexp (6), causal (11) top left.

    Shapes: as forward -> dq, dk, dv and, if asked for (10), dbias like the bias
    FLOPs: (6 D + 4 Dv) B H visible pairs; special: B H visible pairs
    Bytes: dO, q, k, v, bias, O, logsumexp read; dq, dk, dv, dbias written
    """
    heads = dense(*qkv(op, 1), causal(op, 11, TOP_LEFT))
    bias = op.tensor_or_none(4)
    phases = _backward_work(heads, _saved(op, 5), (bias,))
    mask = op.ints(10)
    if bias is None or len(mask) < 4 or not mask[3]:
        return phases
    return _also_writing(phases, bias)


def _also_writing(phases: tuple[Phase, ...], bias: TensorMeta) -> tuple[Phase, ...]:
    dot, main, convert = phases
    return dot, replace(main, work=main.work + Work((), 0, dense_bytes(bias.shape, known_dtype(bias)))), convert


@cost("aten::_efficient_attention_backward")
def efficient_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of memory-efficient attention, [B, S, H, D]: mask type (14), window (18), bias gradient or not (15).

    Shapes, FLOPs, Bytes: see ``sdpa_efficient_backward``
    """
    tensors, bias, cumulative = qkv(op, 1), op.tensor_or_none(4), op.tensor_or_none(6)
    band = efficient_band(op, 14, 18)
    if cumulative is None:
        heads = dense(*tensors, band, heads_second=False)
    else:
        heads = packed(tensors, cumulative.numel - 1, (whole(op, 8), whole(op, 9)), band)
    saved = (op.tensor(0), *tensors, op.tensor(5), op.tensor(10))
    phases = _backward_work(heads, saved, (bias,))
    return _also_writing(phases, bias) if bias is not None and op.scalar(15) is True else phases


@cost("aten::_scaled_dot_product_cudnn_attention_backward", unless_child=("aten::_cudnn_attention_backward",))
def sdpa_cudnn_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of cuDNN's attention: O (4), logsumexp (5), bias (8), causal (14) top left.

    Shapes, FLOPs, Bytes: see ``sdpa_efficient_backward``, without a bias gradient
    """
    heads = dense(*qkv(op, 1), causal(op, 14, TOP_LEFT))
    return _backward_work(heads, _saved(op, 4), (op.tensor_or_none(8),))


@cost("aten::_cudnn_attention_backward")
def cudnn_backward(op: Op) -> tuple[Phase, ...]:
    """Gradients of cuDNN's attention, dense or packed (9, 10, longest 11, 12): causal (14), bias (8).

    Shapes, FLOPs, Bytes: see ``sdpa_cudnn_backward``
    """
    tensors, cumulative = qkv(op, 1), op.tensor_or_none(9)
    band = causal(op, 14, TOP_LEFT)
    if cumulative is None or len(tensors[0].shape) == 4:
        heads = dense(*tensors, band)
    else:
        heads = packed(tensors, cumulative.numel - 1, (whole(op, 11), whole(op, 12)), band)
    return _backward_work(heads, _saved(op, 4), (op.tensor_or_none(8),))
