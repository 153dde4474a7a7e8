"""Attention of libraries outside torch: flash-attn, xFormers, AITER, and the paged attention of serving engines.

The flash ops are torch's own with their arguments in another order. Where keys and values lie in a paged cache, how
many of them each query sees lies in a tensor: then the work is a lower bound, the arguments alone, FLOPs unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from diagnose.costs.attention import efficient_forward, flash_forward
from diagnose.costs.attention_backward import efficient_backward, flash_backward
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import Phase, cost
from diagnose.costs.traffic import bytes_of, dense_bytes
from diagnose.work import MissingFactError, Op, Value, Work

_PAGED: Final = "a lower bound: the length of the cached sequences is not recorded"


def _at(op: Op, index: int | None) -> Value:
    """The argument as recorded; None stands for one that the op does not have."""
    if index is None:
        return None
    if op.inputs is None:
        raise MissingFactError("shapes were not recorded")
    return op.inputs[index] if index < len(op.inputs) else None


# Where torch's _flash_attention_forward finds its arguments: query, key, value; cumulative lengths, longest sequences;
# causal, window left, window right; used keys; table of pages.
_DENSE: Final = (0, 1, 2, None, None, None, None, 5, 6, 7, None, None)
_FLASH_3: Final = (0, 1, 2, 7, 8, 12, 13, 24, 25, 26, 11, 14)
_FORWARD: Final[Mapping[str, tuple[int | None, ...]]] = {
    "flash_attn::_flash_attn_forward": _DENSE,
    "aiter::_flash_attn_forward": _DENSE,
    "aiter::mha_fwd": _DENSE,
    "flash_attn::_flash_attn_varlen_forward": (0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 17, 15),
    "xformers_flash::flash_fwd": (0, 1, 2, 3, 4, 6, 7, 10, 11, 12, 5, 14),
    "_vllm_fa2_C::varlen_fwd": (0, 1, 2, 4, 5, 10, 11, 15, 16, 17, 6, 8),
    "_vllm_fa2_C::fwd": (0, 1, 2, None, None, None, None, 7, 8, 9, None, None),
    "_vllm_fa3_C::fwd": _FLASH_3,
    "flash_attn_3::fwd": _FLASH_3,
    "flash_attn_3::_flash_attn_forward": _FLASH_3,
    "sgl_kernel::fwd": _FLASH_3,
}


@cost(*_FORWARD, missing=_PAGED)
def flash_attention(op: Op) -> Work | tuple[Phase, ...]:
    """Flash attention under other names; see ``attention.flash_forward``.

    Shapes: q [B, S, H, D], k, v [B, T, Hkv, D]; packed: [tokens, H, D] with cumulative lengths; paged: k, v are caches
    FLOPs: 4 H D visible pairs; special: H visible pairs; paged: unknown
    Bytes: q, k, v read, result and logsumexp written; paged: q read and the result written, a lower bound
    Assumes: causal and windows are aligned bottom right
    """
    places = _FORWARD[op.name]
    q, k, v, *lengths, causal, left, right, used, pages = (_at(op, place) for place in places)
    if pages is not None or (used is not None and lengths[1] is None):
        query = op.tensor(0)
        return Work(None, bytes_of(query), dense_bytes(query.shape, known_dtype(query)), is_bound=True)
    arguments = (q, k, v, *lengths, None, causal, None, None, left, right, used)
    return flash_forward(Op("aten::_flash_attention_forward", arguments))


# dO, q, k, v, O, logsumexp; cumulative lengths, longest sequences; causal, window left, window right.
_DENSE_BACKWARD: Final = (0, 1, 2, 3, 4, 5, None, None, None, None, 11, 12, 13)
_BACKWARD: Final[Mapping[str, tuple[int | None, ...]]] = {
    "flash_attn::_flash_attn_backward": _DENSE_BACKWARD,
    "aiter::_flash_attn_backward": _DENSE_BACKWARD,
    "flash_attn::_flash_attn_varlen_backward": (0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 15, 16, 17),
    "xformers_flash::flash_bwd": (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15),
}


@cost(*_BACKWARD)
def flash_attention_backward(op: Op) -> Work | tuple[Phase, ...]:
    """Gradients of flash attention under other names; see ``attention_backward.flash_backward``.

    Shapes: dO, q, k, v, O as forward, logsumexp -> dq, dk, dv
    FLOPs: 10 H D visible pairs; special: H visible pairs
    Bytes: dO, q, k, v, O, logsumexp read; dq, dk, dv written
    """
    *saved, causal, left, right = (_at(op, place) for place in _BACKWARD[op.name])
    return flash_backward(Op("aten::_flash_attention_backward", (*saved, None, causal, None, None, None, left, right)))


@cost("FlashAttnFunc", unless_child=("flash_attn::_flash_attn_forward", "flash_attn_3::_flash_attn_forward"))
def flash_function(op: Op) -> Work | tuple[Phase, ...]:
    """flash-attn's autograd function, where the op below it was not recorded.

    Shapes: q, k, v [B, S, H, D], dropout, scale, causal, window (left, right)
    FLOPs, Bytes, Assumes: as ``flash_attention``
    """
    left, right = op.ints(6)
    arguments = (*(_at(op, index) for index in range(3)), *(None,) * 5, _at(op, 5), None, None, left, right)
    return flash_forward(Op("aten::_flash_attention_forward", arguments))


# (read, written, like which the result is made anew); which tokens' keys lie in the cache is not recorded.
_CACHED: Final[Mapping[str, tuple[tuple[int, ...], tuple[int, ...], int | None]]] = {
    "vllm::unified_attention_with_output": ((0, 1, 2), (3,), None),
    "sglang::unified_attention_with_output": ((0, 1, 2), (3,), None),
    "vllm::unified_attention": ((0, 1, 2), (), 0),
    "vllm::unified_mla_attention_with_output": ((0, 1, 2), (3,), None),
    "vllm::unified_mla_attention": ((0, 1, 2), (), None),
    "_C::paged_attention_v1": ((1,), (0,), None),
    "_C::paged_attention_v2": ((4,), (0,), None),
    "_rocm_C::paged_attention": ((4,), (0,), None),
    "vllm::rocm_aiter_mla_decode_fwd": ((0,), (2,), None),
    "_C::sm100_cutlass_mla_decode": ((2, 3), (0,), None),
    "sgl_kernel::cutlass_mla_decode": ((1, 2), (0,), None),
}  # fmt: skip


@cost(*_CACHED, missing=_PAGED)
def cached_attention(op: Op) -> Work:
    """Attention over a cache that only the engine knows.

    Shapes: q [tokens, H, D], k, v [tokens, Hkv, D] of the new tokens, the result; or q, result and the whole cache
    FLOPs: unknown: the cached keys a query sees are not recorded
    Bytes: q and the new tokens' k, v read, the result written: a lower bound
    """
    reads, writes, like = _CACHED[op.name]
    made = 0 if like is None else dense_bytes(op.tensor(like).shape, known_dtype(op.tensor(like)))
    written = made + bytes_of(*(op.tensor(index) for index in writes))
    return Work(None, bytes_of(*(op.tensor(index) for index in reads)), written, is_bound=True)


# Where torch's efficient attention finds its arguments: q, k, v, bias, cumulative lengths, longest sequences, dropout,
# mask type, logsumexp or not, scale, used keys, window.
_EFFICIENT: Final = (0, 1, 2, 3, 4, 5, 6, None, 7, 9, 8, 10, 11, 12)


@cost("xformers::efficient_attention_forward_cutlass", "xformers::efficient_attention_forward_ck")
def xformers_attention(op: Op) -> Work | tuple[Phase, ...]:
    """The memory-efficient attention of xFormers; see ``attention.efficient_forward``.

    Shapes: q [B, S, H, D], k, v [B, T, H, D], bias, packed: cumulative lengths, the longest queries' (the keys' are not
        recorded: then the work is unknown)
    FLOPs, Bytes, Assumes: as ``attention.efficient_forward``
    """
    arguments = tuple(_at(op, place) for place in _EFFICIENT)
    return efficient_forward(Op("aten::_efficient_attention_forward", arguments))


# dO, q, k, v, bias, O, cumulative lengths, longest sequences, logsumexp, dropout, seed, offset, mask type, gradient of
# the bias or not, scale, splits, window.
_EFFICIENT_BACKWARD: Final = (0, 1, 2, 3, 4, 10, 5, 6, 7, 8, 9, None, None, None, 14, None, None, None, 17)


@cost("xformers::efficient_attention_backward_cutlass")
def xformers_attention_backward(op: Op) -> Work | tuple[Phase, ...]:
    """Gradients of ``xformers_attention``; see ``attention_backward.efficient_backward``.

    Shapes: dO, q, k, v, bias, O as forward, logsumexp -> dq, dk, dv
    FLOPs, Bytes: as ``attention_backward.efficient_backward``, without a gradient of the bias
    """
    arguments = tuple(_at(op, place) for place in _EFFICIENT_BACKWARD)
    return efficient_backward(Op("aten::_efficient_attention_backward", arguments))
