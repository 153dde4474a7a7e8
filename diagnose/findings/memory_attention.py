"""Attention that is computed as matmul, softmax, matmul: the S x T scores go through memory several times."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import Ordered, in_launch_order, joined, moved_bytes, rates, tensors_of
from diagnose.findings.sdpa_fallback import ASSUMED, falls_back
from diagnose.schema import Interval
from diagnose.trace.tables import Ints
from diagnose.work import Op

EFFICIENCY: Final = (0.25, 0.45, 0.80)
"""What a fused kernel reaches of its roof, at worst, probably, at best.

FlashAttention-2 reaches up to 73 % of an A100's peak, where a plain matmul reaches 87 %: 0.84 (Dao 2023, arXiv
2307.08691); 35 % of an H100's, where a matmul reaches 80 %: 0.44 (Shah et al. 2024, arXiv 2407.08608). Short sequences
reach less: a quarter.
"""

RECOMPUTED: Final = 5 / 4
"""A fused backward pass multiplies five times where the plain one does four: it computes the scores again."""

WINDOW: Final = 24
"""Kernels from the first to the last matmul of one attention: scale, mask, casts, dropout, copies of key and value."""

_SOFTMAX: Final = frozenset(("aten::_softmax", "aten::_softmax_backward_data"))
_PRODUCTS: Final[dict[str, tuple[int, int]]] = {"aten::bmm": (0, 1), "aten::baddbmm": (1, 2)}
"""Which arguments are multiplied."""

Scores = tuple[int, int, int]
"""Batch x heads, queries, keys."""


class Product(Struct, frozen=True):
    """A batched matmul: its factors' shapes and its result's."""

    left: Scores
    right: Scores
    result: Scores

    def touches(self, scores: Scores) -> bool:
        """Whether it reads or writes the scores, or their transpose."""
        turned = (scores[0], scores[2], scores[1])
        return any(shape in (scores, turned) for shape in (self.left, self.right, self.result))


class Found(Struct, frozen=True):
    """Attentions with the same scores; a column has one entry an attention.

    Attributes:
        scores: Their shape.
        is_backward: Whether it is the backward pass.
        first, last: Where the first and the last kernel stand in launch order.
        softmax: Where the softmax stands.
    """

    scores: Scores
    is_backward: bool
    first: Ints
    last: Ints
    softmax: Ints


def unfused_attention(case: Case) -> list[Proposal]:
    """Fused attention keeps the scores on the chip.

    Each attention becomes one kernel: the matmuls' own roof times (5/4 of them in the backward pass) or its bytes
    without the scores, whichever is longer, at ``EFFICIENCY`` of the roof. The kernels between the matmuls that touch
    as many numbers as there are scores go. Nothing where torch would not fuse it either (``sdpa_fallback``).
    """
    softmaxes = {group: scores for group in _groups(case, _SOFTMAX) if (scores := _scores(case.op(group)))}
    if not softmaxes:
        return []
    products = {group: each for group in _groups(case, frozenset(_PRODUCTS)) if (each := _product(case.op(group)))}
    ordered = in_launch_order(case)
    found = [
        attentions
        for scores in dict.fromkeys(softmaxes.values())
        for is_backward in (False, True)
        if len((attentions := _attentions(case, ordered, softmaxes, products, (scores, is_backward))).first)
    ]
    slow = {each.scores for each in found if _stays_slow(case, ordered, each, products)}
    found = [each for each in found if each.scores not in slow]
    return _proposal(case, ordered, found, products) if found else []


def _stays_slow(case: Case, ordered: Ordered, each: Found, products: dict[int, Product]) -> bool:
    """Whether torch's own attention on this CPU would not fuse one of them; asked of the forward pass."""
    if not case.is_cpu or each.is_backward:
        return False
    pairs = set(zip(ordered.group[each.first].tolist(), ordered.group[each.last].tolist(), strict=True))
    has_other_values = any(products[first].left[2] != products[last].right[2] for first, last in pairs)
    return has_other_values or falls_back(case, ordered, each.scores, each.softmax, each.last)


def _groups(case: Case, names: frozenset[str]) -> list[int]:
    return case.groups_where(lambda group: case.op_name(group) in names and case.placed.is_exact(group))


def _scores(op: Op | None) -> Scores | None:
    """Shape of the scores that an op normalises over the keys."""
    tensor = None if op is None else op.tensor_or_none(0)
    if op is None or op.inputs is None or tensor is None or len(tensor.shape) < 3 or tensor.dtype == "float64":
        return None
    along = next(iter(op.inputs[2 if op.name.endswith("backward_data") else 1 :]), None)
    is_last = along in (-1, len(tensor.shape) - 1)
    return (prod(tensor.shape[:-2]), tensor.shape[-2], tensor.shape[-1]) if is_last else None


def _product(op: Op | None) -> Product | None:
    if op is None:
        return None
    left, right = (op.tensor_or_none(index) for index in _PRODUCTS[op.name])
    if left is None or right is None or len(left.shape) != 3 or len(right.shape) != 3:
        return None
    (batch, rows, _), columns = left.shape, right.shape[2]
    return Product((batch, rows, left.shape[2]), (right.shape[0], right.shape[1], columns), (batch, rows, columns))


def _attentions(
    case: Case,
    ordered: Ordered,
    softmaxes: dict[int, Scores],
    products: dict[int, Product],
    wanted: tuple[Scores, bool],
) -> Found:
    """Softmaxes of such scores with matmuls of such scores before and after them: one each, two each backward."""
    scores, is_backward = wanted
    mine = [
        group
        for group, shape in softmaxes.items()
        if shape == scores and (case.op_name(group) == "aten::_softmax_backward_data") == is_backward
    ]
    before = [group for group, each in products.items() if each.touches(scores)]
    after = before
    if not is_backward:
        after = [group for group in before if products[group].left == scores]
        before = [group for group in before if products[group].result == scores]
    place = np.flatnonzero(is_any(ordered.group, mine))
    first = _neighbour(ordered, before, place, -2 if is_backward else -1)
    last = _neighbour(ordered, after, place, 1 if is_backward else 0)
    is_whole = (first >= 0) & (last >= 0) & (last - first <= WINDOW)
    is_whole &= (ordered.lane[first] == ordered.lane[place]) & (ordered.lane[last] == ordered.lane[place])
    return Found(scores, is_backward, first[is_whole], last[is_whole], place[is_whole])


def _neighbour(ordered: Ordered, groups: Sequence[int], place: Ints, offset: int) -> Ints:
    """Where the n-th kernel of some groups stands before (negative) or after each place, -1 where there is none."""
    rows = np.flatnonzero(is_any(ordered.group, groups))
    index = np.searchsorted(rows, place) + offset
    is_there = (index >= 0) & (index < len(rows))
    return np.where(is_there, np.append(rows, -1)[np.where(is_there, index, -1)], -1)


def _proposal(case: Case, ordered: Ordered, found: Sequence[Found], products: dict[int, Product]) -> list[Proposal]:
    duration = case.replayer.duration.astype(np.float64)
    changed = [duration.copy() for _ in EFFICIENCY]
    gone = np.zeros(len(duration), np.bool_)
    claimed: set[int] = set()
    traffic, taken_ns = 0.0, 0.0
    for each in found:
        inside = _inside(case, ordered, each, products)
        roof = _roof_ns(case, ordered, each, inside, products)
        if roof is None:
            continue
        at = np.searchsorted(each.first, np.flatnonzero(inside), side="right") - 1
        items = ordered.item[inside]
        before = np.bincount(at, duration[items], minlength=len(each.first))
        for column, efficiency in zip(changed, EFFICIENCY, strict=True):
            column[ordered.item[each.first]] = np.minimum(roof / efficiency, before)
        gone[items] = True
        gone[ordered.item[each.first]] = False
        claimed.update(ordered.group[inside].tolist())
        traffic += sum(_score_bytes(case, group, each.scores) for group in ordered.group[inside].tolist())
        taken_ns += float(before.sum())
    if not claimed:
        return []
    low, mid, high = (joined(column, gone) for column in changed)
    gaps = [int((duration - np.where(gone, 0, column)).sum()) // max(1, len(case.steps)) for column in changed]
    largest = max(found, key=lambda each: prod(each.scores) * len(each.first))
    return [
        Proposal(
            rule="unfused-attention",
            bound="memory",
            title="attention computed as matmul, softmax, matmul",
            evidence={
                "attentions_per_step": case.per_step(sum(len(each.first) for each in found)),
                "of_them_backward": case.per_step(sum(len(each.first) for each in found if each.is_backward)),
                "kernels_per_step": case.per_step(int(gone.sum()) + sum(len(each.first) for each in found)),
                "batch_x_heads": largest.scores[0],
                "queries": largest.scores[1],
                "keys": largest.scores[2],
                "time_ns_per_step": round(taken_ns / max(1, len(case.steps))),
                "score_bytes_per_step": round(traffic / max(1, len(case.steps))),
            },
            where=case.where(claimed),
            cells=case.cells(claimed),
            low=low,
            mid=mid,
            high=high,
            gap_ns=Interval(*gaps),
            advice=_advice(case, ordered, found),
            assumes="no caller needs the attention weights; results differ by rounding; head width at most 256; "
            "the scores are divided by its square root, else pass scale=" + (ASSUMED if case.is_cpu else ""),
        )
    ]


def _inside(case: Case, ordered: Ordered, each: Found, products: dict[int, Product]) -> NDArray[np.bool_]:
    """Kernels between first and last that touch as many numbers as there are scores, the matmuls among them [k]."""
    count = len(ordered.item)
    depth = np.zeros(count + 1, np.int64)
    np.add.at(depth, each.first, 1)
    np.add.at(depth, each.last + 1, -1)
    groups = distinct(ordered.group[np.flatnonzero(np.cumsum(depth[:-1]) > 0)]).tolist()
    size = prod(each.scores)
    mine = [
        group
        for group in groups
        if (products[group].touches(each.scores) if group in products else _numel(case, group) == size)
    ]
    return (np.cumsum(depth[:-1]) > 0) & is_any(ordered.group, mine)


def _numel(case: Case, group: int) -> int:
    return max((tensor.numel for tensor in tensors_of(case.op(group))), default=0)


def _roof_ns(
    case: Case, ordered: Ordered, each: Found, inside: NDArray[np.bool_], products: dict[int, Product]
) -> float | None:
    """The fused kernel's roof, ns; None where a roof is not known."""
    low, high = int(each.first[0]), int(each.last[0])
    groups = [group for group in ordered.group[low : high + 1][inside[low : high + 1]].tolist() if group in products]
    times = [case.placed.placements[group].compute_ns for group in groups]
    dram, floor_ns = rates(case, int(ordered.group[low]))
    if dram is None or any(time is None for time in times):
        return None
    moved = sum(moved_bytes(case, group) - _score_bytes(case, group, each.scores) for group in groups)
    compute_ns = sum(time or 0.0 for time in times) * (RECOMPUTED if each.is_backward else 1.0)
    return max(compute_ns, moved / dram * 1e9, floor_ns)


def _score_bytes(case: Case, group: int, scores: Scores) -> int:
    """What a call moves of the scores: all of it, but for a matmul, whose other tensors stay."""
    op = case.op(group)
    if op is None or op.name not in _PRODUCTS:
        return moved_bytes(case, group)
    itemsize = next((tensor.itemsize for tensor in tensors_of(op) if tensor.itemsize), 0)
    return min(prod(scores) * itemsize, moved_bytes(case, group))


def _advice(case: Case, ordered: Ordered, found: Sequence[Found]) -> str:
    is_math = case.items_under(lambda name: name == "aten::_scaled_dot_product_attention_math")
    if is_math[ordered.item[found[0].softmax]].any():
        return (
            "# scaled_dot_product_attention fell back to its math backend; this says why:\n"
            "with torch.nn.attention.sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):\n"
            "    model(x)"
        )
    inner = {
        name
        for each in found
        if not each.is_backward
        for low, high in zip(each.first[:1].tolist(), each.last[:1].tolist(), strict=True)
        for name in (case.op_name(group) for group in ordered.group[low:high].tolist())
    }
    has_dropout = any("dropout" in name or "bernoulli" in name for name in inner)
    has_mask = any(name.startswith(("aten::masked_fill", "aten::where", "aten::add")) for name in inner)
    mask = ", attn_mask=mask" if has_mask else ""
    dropout = ", dropout_p=dropout" if has_dropout else ""
    note = "  # a causal mask as is_causal=True skips half" if has_mask else ""
    return (
        f"out = torch.nn.functional.scaled_dot_product_attention(q, k, v{mask}{dropout}){note}\n"
        "# transformers: AutoModel.from_pretrained(name, attn_implementation='sdpa')"
    )
