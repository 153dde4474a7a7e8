"""Rotary embeddings, and keys and values on their way into the caches of serving engines."""

from __future__ import annotations

from diagnose.costs.custom import QUANTISE
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_at_most, bytes_of, itemsize, operations
from diagnose.work import MissingFactError, Op, TensorMeta, Work


@cost("_C::rotary_embedding")
def rotary_embedding(op: Op) -> Work:
    """Shapes: positions, q, k? (in place), size of a head, table [positions, rotated of a head].

    FLOPs: 3 a rotated element (two products and a sum for each).
    Bytes: positions, a table row a token (at most the table), q and k where rotated: read and written.
    """
    positions, q, k, table = op.tensor(0), op.tensor(1), op.tensor_or_none(2), op.tensor(4)
    head = op.scalar(3)
    if not isinstance(head, int):
        raise MissingFactError("the size of a head was not recorded")
    return _rotated((q, k), None, (positions, table), head)


@cost("sgl_kernel::apply_rope_pos_ids_cos_sin_cache", "flashinfer::apply_rope_pos_ids_cos_sin_cache")
def rope_by_table(op: Op) -> Work:
    """Shapes: q, k [tokens, heads, head], rotated q, rotated k, table [positions, rotated of a head], positions.

    FLOPs: 3 a rotated element.
    Bytes: q, k, positions, a table row a token; rotated q and k.
    """
    q, k, table, positions = op.tensor(0), op.tensor(1), op.tensor(4), op.tensor(5)
    return _rotated((q, k), (op.tensor(2), op.tensor(3)), (positions, table), q.shape[-1])


def _rotated(
    tensors: tuple[TensorMeta | None, ...],
    out: tuple[TensorMeta, ...] | None,
    lookup: tuple[TensorMeta, TensorMeta],
    head: int,
) -> Work:
    """``out`` None: in place, and what is not rotated is not touched."""
    positions, table = lookup
    given = [tensor for tensor in tensors if tensor is not None]
    rotated = [tensor.numel * table.shape[-1] // head for tensor in given]
    rows = bytes_at_most(table, positions.numel * table.shape[-1])
    if out is not None:
        moved = bytes_of(*given), bytes_of(*out)
    else:
        touched = sum(count * itemsize(known_dtype(tensor)) for count, tensor in zip(rotated, given, strict=True))
        moved = touched, touched
    flops = operations(known_dtype(given[0]), 3 * sum(rotated))
    return Work(flops, bytes_of(positions) + rows + moved[0], moved[1])


@cost("_C_cache_ops::reshape_and_cache_flash", "_C_cache_ops::reshape_and_cache")
def cache_keys(op: Op) -> Work:
    """Shapes: k, v [tokens, heads, head], their caches, slots [tokens], kind of cache, scales?.

    FLOPs: 3 an element where the cache's elements are smaller (quantised), else none.
    Bytes: k, v, slots, scales; as many elements of the caches. The caches themselves are not read.
    Assumes: every slot is in use
    """
    k, v, cache = op.tensor(0), op.tensor(1), op.tensor(2)
    is_smaller = itemsize(known_dtype(cache)) < itemsize(known_dtype(k))
    count = k.numel + v.numel
    read = bytes_of(k, v, op.tensor(4), op.tensor_or_none(6), op.tensor_or_none(7))
    flops = operations(known_dtype(k), QUANTISE * count * is_smaller)
    return Work(flops, read, count * itemsize(known_dtype(cache)))


@cost("_C_cache_ops::concat_and_cache_mla")
def cache_latent(op: Op) -> Work:
    """Shapes: latent [tokens, rank], k [tokens, rotated], cache, slots [tokens], kind of cache, scale.

    FLOPs, Bytes, Assumes: as ``cache_keys``
    """
    latent, k, cache = op.tensor(0), op.tensor(1), op.tensor(2)
    is_smaller = itemsize(known_dtype(cache)) < itemsize(known_dtype(k))
    count = latent.numel + k.numel
    read = bytes_of(latent, k, op.tensor(3), op.tensor_or_none(5))
    flops = operations(known_dtype(k), QUANTISE * count * is_smaller)
    return Work(flops, read, count * itemsize(known_dtype(cache)))


@cost("vllm::unified_kv_cache_update", missing="a lower bound: the cache and the type of its elements are not recorded")
def cache_unseen(op: Op) -> Work:
    """Shapes: k, v [tokens, heads, head].

    FLOPs: unknown (none, or a quantisation).
    Bytes: k, v; one byte an element of the cache at least.
    """
    k, v = op.tensor(0), op.tensor(1)
    return Work(None, bytes_of(k, v), k.numel + v.numel, is_bound=True)
