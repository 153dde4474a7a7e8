"""Flex attention as Inductor generates it: template kernels over queries, keys, values and block masks.

Buffers lie in the order of the template. The logsumexp [B, H, S] tells the sizes, whatever shape a buffer of queries
has. Which blocks a mask leaves lies in tensors: then every pair is counted, an upper bound. Without a block mask
(tables of one entry) every pair is visible, and the count is exact.
"""

from __future__ import annotations

import re
from typing import Final

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype
from diagnose.costs.registry import cost_where
from diagnose.costs.traffic import bytes_of
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_NAME: Final = re.compile(r"^triton_tem_fused\w*?_flex_attention(_backward)?(?:_|$)")
_FORWARD_READS: Final = 3
_BACKWARD_READS: Final = 6
"""Queries, keys, values, logsumexp, the row sums of gradient and result, and the gradient."""


def is_flex_attention(op: Op) -> bool:
    """Whether the op is a template kernel of flex attention whose pointers are in the template's order."""
    return _NAME.match(op.name) is not None and _logsumexp(op) is not None


def _logsumexp(op: Op) -> TensorMeta | None:
    found = op.tensor_or_none(3)
    return found if found is not None and found.dtype == "float32" and len(found.shape) == 3 else None


@cost_where(is_flex_attention, rank=-1)
def flex_attention(op: Op) -> Work:
    """Flex attention or its gradients; the score function's own arithmetic is not counted.

    Shapes: q [B, H, S, D], k [B, Hkv, T, D], v [B, Hkv, T, Dv], logsumexp [B, H, S]; backward also row sums, dO, dq, dv
        and last dk; forward: last the result
    FLOPs: 2 (D + Dv) B H S T, backward (6 D + 4 Dv) B H S T; special: B H S T; with a block mask an upper bound
    Bytes: q, k, v and the block tables read, result and logsumexp written; backward: dO and row sums too; dq, dk, dv
    Assumes: keys and values are recorded with their heads apart from their sequence (four dimensions)
    """
    is_backward = "_flex_attention_backward" in op.name
    pointers = op.tensors()
    lse = _logsumexp(op)
    if lse is None or len(pointers) < (9 if is_backward else 5):
        raise MissingFactError("the template's buffers were not recorded")
    q, k, v = pointers[:3]
    batch, heads, _ = lse.shape
    if len(k.shape) != 4 or len(v.shape) != 4:
        raise MissingFactError("how many keys a head has was not recorded")
    keys, width, v_width = k.shape[2], k.shape[3], v.shape[3]
    if q.numel != lse.numel * width or not batch or k.shape[0] not in (1, batch) or heads % max(1, k.shape[1]):
        raise ValueError("the shapes of query, key and value do not fit")
    tables = [pointer for pointer in pointers if pointer.dtype == "int32"]
    resource, real = product_resource(known_dtype(q))
    pairs = lse.numel * keys
    products = 3 * width + 2 * v_width if is_backward else width + v_width
    flops = flops_of({resource: 2 * real * pairs * products, "special": pairs})
    is_bound = any(table.numel > 1 for table in tables)
    if is_backward:
        read = bytes_of(*pointers[:_BACKWARD_READS], *tables)
        return Work(flops, read, bytes_of(q, k, v), source="triton", is_bound=is_bound)
    read = bytes_of(*pointers[:_FORWARD_READS], *tables)
    return Work(flops, read, bytes_of(lse, pointers[-1]), source="triton", is_bound=is_bound)
