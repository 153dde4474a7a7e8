"""An attention's sizes and visible pairs, read from an op's arguments."""

from __future__ import annotations

from math import prod
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from diagnose.work import MissingFactError, Op, TensorMeta

TOP_LEFT: Final = "top left"
BOTTOM_RIGHT: Final = "bottom right"


class Band(Struct, frozen=True):
    """Which keys a query sees: those from ``left`` before its diagonal to ``right`` after it; None: no limit."""

    left: int | None = None
    right: int | None = None
    corner: str = TOP_LEFT


def _up_to(queries: int, keys: int, last: int) -> int:
    """Pairs (i, j) with j <= i + last: the sum over i of ``clamp(i + last + 1, 0, keys)``, in closed form."""
    first_some = min(max(-last, 0), queries)  # the first query that sees a key
    first_all = min(max(keys - last - 1, first_some), queries)  # the first that sees them all
    rising = first_all - first_some
    return rising * (first_some + first_all - 1 + 2 * (last + 1)) // 2 + (queries - first_all) * keys


def visible_pairs(queries: int, keys: int, band: Band) -> int:
    """Pairs that the mask leaves visible; a query may see none."""
    shift = keys - queries if band.corner == BOTTOM_RIGHT else 0
    everything = queries * keys
    upper = everything if band.right is None else _up_to(queries, keys, shift + band.right)
    lower = 0 if band.left is None else _up_to(queries, keys, shift - band.left - 1)
    return max(upper - lower, 0)


class Heads(Struct, frozen=True):
    """An attention's sizes, whatever the order of its dimensions.

    Attributes:
        batch, heads, key_heads: Query heads share key heads (GQA) where those are fewer.
        queries, keys: A sequence; of a packed batch: the longest.
        query_tokens, key_tokens: In all.
        qk_size, v_size: A head's width.
        pairs: Visible pairs over the batch, a head.
        is_bound: The sequences' lengths are not known.
    """

    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    query_tokens: int
    key_tokens: int
    qk_size: int
    v_size: int
    pairs: int = 0
    is_bound: bool = False


def heads_of(q: TensorMeta, k: TensorMeta, v: TensorMeta, *, heads_second: bool) -> Heads:
    """Sizes of [B, H, S, D] or [B, S, H, D]."""
    order = (0, 1, 2, 3) if heads_second else (0, 2, 1, 3)
    batch, heads, queries, width = (q.shape[i] for i in order)
    k_batch, key_heads, keys, k_width = (k.shape[i] for i in order)
    v_batch, _, v_keys, v_width = (v.shape[i] for i in order)
    if (k_batch, v_batch, v_keys, k_width) != (batch, batch, keys, width) or (key_heads and heads % key_heads):
        raise ValueError("the shapes of query, key and value do not fit")
    return Heads(batch, heads, key_heads, queries, keys, batch * queries, batch * keys, width, v_width)


def dense(q: TensorMeta, k: TensorMeta, v: TensorMeta, band: Band, *, heads_second: bool = True) -> Heads:
    """Sequences of one length each."""
    found = heads_of(q, k, v, heads_second=heads_second)
    return replace(found, pairs=found.batch * visible_pairs(found.queries, found.keys, band))


def packed(
    tensors: tuple[TensorMeta, TensorMeta, TensorMeta], sequences: int, longest: tuple[int, int], band: Band
) -> Heads:
    """Tokens [total, H, D] of several sequences. Exact if all are of the longest length, else a bound."""
    q, k, v = tensors
    (total, heads, width), (key_total, key_heads, _) = q.shape[-3:], k.shape[-3:]
    queries, keys = longest
    sequences = max(sequences, 1)
    full = sequences * queries == total and sequences * keys == key_total
    most = min(sequences * visible_pairs(queries, keys, band), total * keys, key_total * queries)
    return Heads(
        sequences, heads, key_heads, queries, keys, total, key_total, width, v.shape[-1], most, is_bound=not full
    )


def is_causal(op: Op, index: int) -> bool:
    """The flag at ``index``, False where it was left out."""
    value = op.scalar(index, False)
    if not isinstance(value, (bool, int)):
        raise MissingFactError("whether the mask is causal was not recorded")
    return bool(value)


def causal(op: Op, index: int, corner: str) -> Band:
    """A causal mask, or none, by the flag at ``index``."""
    return Band(right=0 if is_causal(op, index) else None, corner=corner)


def qkv(op: Op, first: int = 0) -> tuple[TensorMeta, TensorMeta, TensorMeta]:
    """Query, key and value, from ``first`` on."""
    return op.tensor(first), op.tensor(first + 1), op.tensor(first + 2)


def flash_band(op: Op, flag: int, window: int) -> Band:
    """Causal or not at ``flag``; windows at ``window`` and after it, a negative one is none."""
    left, right = op.scalar(window), op.scalar(window + 1)
    limits = [int(side) if isinstance(side, int) and side >= 0 else None for side in (left, right)]
    return Band(limits[0], 0 if is_causal(op, flag) else limits[1], BOTTOM_RIGHT)


def flash_heads(op: Op, tensors: tuple[TensorMeta, TensorMeta, TensorMeta], band: Band, ends: int = 3) -> Heads:
    """Cumulative lengths at ``ends`` (queries, keys), the longest sequences after them."""
    cumulative = op.tensor_or_none(ends)
    if cumulative is None or len(tensors[0].shape) == 4:
        return dense(*tensors, band, heads_second=False)
    longest = (whole(op, ends + 2), whole(op, ends + 3))
    if len(tensors[1].shape) == 4:  # a paged cache [pages, page, Hkv, D]: which pages are read is not recorded
        q, k, v = (replace(t, shape=(prod(t.shape[:-2]), *t.shape[-2:]), strides=None) for t in tensors)
        return replace(packed((q, k, v), cumulative.numel - 1, longest, band), is_bound=True)
    return packed(tensors, cumulative.numel - 1, longest, band)


def whole(op: Op, index: int) -> int:
    """The length at ``index``."""
    value = op.scalar(index)
    if not isinstance(value, int) or isinstance(value, bool):
        raise MissingFactError("the longest sequence was not recorded")
    return value


def efficient_band(op: Op, mask_type: int, window: int) -> Band:
    """Mask type 0 none, 1 causal top left, 2 causal bottom right; a window counts the keys that a query sees."""
    kind, width = op.scalar(mask_type), op.scalar(window)
    left = width - 1 if isinstance(width, int) and width > 0 else None
    return Band(left, None if kind == 0 else 0, BOTTOM_RIGHT if kind == 2 else TOP_LEFT)
