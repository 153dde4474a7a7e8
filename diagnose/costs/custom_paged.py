"""Attention over pages of a cache where the pages are listed (FlashInfer), and partial results of attention merged."""

from __future__ import annotations

import re
from typing import Final

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost, cost_where
from diagnose.costs.traffic import bytes_of, dense_bytes, itemsize, operations
from diagnose.work import Op, TensorMeta, Work, flops_of

_NAME: Final = re.compile(r"^flashinfer::batch_(decode|prefill)\w*?_(paged_run|ragged_run|run)$")
_QUERY: Final = 3
"""Two workspaces and a plan stand before the query, after it keys and values, or their cache."""


def _kind(op: Op) -> str | None:
    """Which of FlashInfer's batched attentions the op is, from a name that has every option of it."""
    met = _NAME.match(op.name)
    return None if met is None else f"{met[1]} {met[2]}"


def _page_bytes(cache: TensorMeta) -> int:
    """Bytes of one page: a cache [pages, ...]."""
    pages = max(1, cache.shape[0])
    return cache.numel // pages * itemsize(known_dtype(cache))


@cost_where(lambda op: _kind(op) is not None, rank=-1)
def flashinfer_attention(op: Op) -> Work:
    """Attention of FlashInfer's batches; how long each sequence is lies in tensors.

    Shapes: q [tokens, H, D] (3), caches [pages, page, Hkv, D] or [pages, Hkv, page, D] (4, 5); decode: lists of pages
        (6 to 8), result (9); prefill: ends of queries (6), lists of pages (7 to 9), result (10); ragged: k, v [tokens,
        Hkv, D], ends (6, 7), result (8)
    FLOPs: decode: 4 D a query head and listed place of the cache, an upper bound; else unknown
    Bytes: q and the pages listed (ragged: k, v) read, the result written: an upper bound, last pages may not be full
    """
    kind, q, k, v = _kind(op) or "", op.tensor(_QUERY), op.tensor(_QUERY + 1), op.tensor(_QUERY + 2)
    written = dense_bytes(q.shape, known_dtype(q))
    if kind.endswith("ragged_run"):
        return Work(None, bytes_of(q, k, v, op.tensor(6), op.tensor(7)), written, is_bound=True)
    first = 7 if kind.endswith("paged_run") else 6
    pages = op.tensor(first + 1)
    tables = bytes_of(op.tensor(first), pages, op.tensor(first + 2))
    read = bytes_of(q) + tables + pages.numel * (_page_bytes(k) + _page_bytes(v))
    if not kind.startswith("decode"):
        return Work(None, read, written, is_bound=True)
    heads, width = q.shape[-2:]
    key_heads = k.shape[2] if k.shape[2] != k.shape[1] and heads % max(1, k.shape[2]) == 0 else k.shape[1]
    places = pages.numel * (k.numel // max(1, k.shape[0] * key_heads * width))
    resource, real = product_resource(known_dtype(q))
    pairs = places * heads
    return Work(flops_of({resource: 4 * real * pairs * width, "special": pairs}), read, written, is_bound=True)


# Partial results, their logsumexps, the merged result, its logsumexp.
_MERGES: Final = {
    "sgl_kernel::merge_state": (0, 1, 2, 3, 4, 5), "sgl_kernel::merge_state_v2": (0, 1, 2, 3, 4, 5),
    "_C::merge_attn_states": (2, 3, 4, 5, 0, 1),
}  # fmt: skip


@cost(*_MERGES)
def merge_states(op: Op) -> Work:
    """Two partial attentions put together by their logsumexps.

    Shapes: a, b [tokens, H, D], their logsumexps [tokens, H] -> like a, its logsumexp
    FLOPs: 3 an element (two products and a sum); a row and head is left out, but for its two exponentials and logarithm
    Bytes: all of the inputs; the results
    """
    a, lse_a, b, lse_b, out, lse = _MERGES[op.name]
    x = op.tensor(a)
    read = bytes_of(x, op.tensor(lse_a), op.tensor(b), op.tensor(lse_b))
    written = bytes_of(op.tensor(out), op.tensor_or_none(lse))
    return Work(operations(known_dtype(x), 3 * x.numel, 3 * op.tensor(lse_a).numel), read, written)
