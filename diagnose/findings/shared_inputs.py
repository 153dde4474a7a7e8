"""Products of one tensor with several weights, one after another: query, key and value, or a gate and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.ordering import in_launch_order, joined
from diagnose.findings.retiming import call_ns, gap_of, is_sure, ns_per_step, product_dtype
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.roofs.operands import Product, product
from diagnose.trace.tables import Ints
from diagnose.wall.phases import BACKWARD

MOST_LARGER: Final = 2.0
"""What a product takes is read off one with at least as many operations, and at most so many times as many."""

LONGEST_RUN: Final = 8
"""Longer runs are a loop over layers, each of which reads what the one before it wrote."""

_LAYERS: Final = frozenset(("aten::mm", "aten::addmm"))

Kind = tuple[int, ...]
"""The groups of a run, in launch order."""


class _Merged(Struct, frozen=True):
    """What one product in place of a run takes, ns: probably and at best; and whose time that is."""

    mid: float
    high: float
    like: int


def shared_inputs(case: Case) -> list[Proposal]:
    """Small products of tensors of one shape, nothing between them: one product with the weights side by side.

    Low: nothing. Mid: one product takes what a product with no fewer operations takes in this recording, and the other
    launches go, with half of what the host spends in their ops. High: as long as the longest of them, or the roof of
    all of them; the host's time goes too. Without such a product to compare with, nothing is said.
    """
    runs = {} if case.is_cpu else _runs(case)
    merged = {kind: found for kind in runs if (found := _merged(case, kind)) is not None}
    if not merged:
        return []
    kinds = sorted(merged, key=lambda kind: -_total(case, kind) * len(runs[kind]))
    groups, first = sorted({group for kind in kinds for group in kind}), kinds[0]
    one, like = _product(case, first[0]), _product(case, merged[first].like)
    gaps = [sum(len(runs[kind]) * (_total(case, kind) - getattr(merged[kind], part)) for kind in kinds)
            for part in ("mid", "high")]  # fmt: skip
    mid, high = _changes(case, {kind: runs[kind] for kind in kinds}, merged)
    return [
        Proposal(
            rule="shared-input",
            bound="compute",
            title="products of the same input run one after another",
            evidence={
                "products_per_step": case.per_step(sum(len(kind) * len(runs[kind]) for kind in kinds)),
                "products_per_step_merged": case.per_step(sum(len(runs[kind]) for kind in kinds)),
                "products_ns_per_step": ns_per_step(case, sum(_total(case, kind) * len(runs[kind]) for kind in kinds)),
                "largest": _spelled(one),
                "in_a_row": len(first),
                "as_long_as": _spelled(like),
                "as_long_as_ns": round(call_ns(case, merged[first].like)),
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch"), Cell(None, "idle_slot")],
            low=Change(),
            mid=mid,
            high=high,
            gap_ns=gap_of(case, 0, *gaps),
            advice="merged = torch.nn.Linear(width, sum(widths))  # once: torch.cat of the weights, and of the biases\n"
            "q, k, v = merged(x).split(widths, dim=-1)",
            assumes="they read the same tensor (their shapes say so, no recording has addresses); checkpoints name one "
            "weight where there were several",
        )
    ]


def _runs(case: Case) -> Mapping[Kind, list[Ints]]:
    """Items of each run, by kind."""
    keys: dict[tuple[object, ...], int] = {}
    count = len(case.placed.groups)
    key = np.array([_key(case, group, keys) for group in range(count)] or [-1], np.int64)
    if key.max() < 0:
        return {}
    ordered, items = in_launch_order(case), case.placed.recording.items
    mine = np.where(case.phases.phase[ordered.item] == BACKWARD, -1, key[ordered.group])
    columns = np.stack([mine, ordered.lane, items.step[ordered.item]])
    begins = np.ones(len(mine), np.bool_)
    begins[1:] = (np.diff(columns) != 0).any(axis=0) | (np.diff(items.op[ordered.item]) == 0) | (mine[1:] < 0)
    first = np.flatnonzero(begins)
    found: dict[Kind, list[Ints]] = {}
    lengths = np.diff(np.append(first, len(mine)))
    for start, length in zip(first.tolist(), lengths.tolist(), strict=True):
        if 2 <= length <= LONGEST_RUN:
            rows = slice(start, start + length)
            found.setdefault(tuple(ordered.group[rows].tolist()), []).append(ordered.item[rows])
    return found


def _key(case: Case, group: int, keys: dict[tuple[object, ...], int]) -> int:
    """A number for what a product reads; -1 for what is none."""
    found = _product(case, group)
    if found is None or not is_sure(case, group):
        return -1
    return keys.setdefault((case.op_name(group), found.a.shape, found.a.strides, found.a.dtype), len(keys))


def _product(case: Case, group: int) -> Product | None:
    op = case.op(group)
    found = product(op) if op is not None and op.name in _LAYERS else None
    return found if found is not None and found.batch == 1 else None


def _merged(case: Case, kind: Kind) -> _Merged | None:
    """None where no product of this recording says how long it takes, or where it is no faster."""
    flops = sum(_operations(case, group) for group in kind)
    times = {group: call_ns(case, group) for group in range(len(case.placed.groups)) if _is_like(case, group, kind)}
    alike = [group for group in times if flops <= _operations(case, group) <= MOST_LARGER * flops]
    if not alike:
        return None
    like = min(alike, key=lambda group: _operations(case, group))
    longest = max(call_ns(case, group) for group in kind)
    mid = max(times[like], longest)
    roofs = sum(case.placed.placements[group].compute_ns or 0.0 for group in kind)
    return _Merged(mid, min(mid, max(longest, roofs)), like) if mid < _total(case, kind) else None


def _is_like(case: Case, group: int, kind: Kind) -> bool:
    is_product = _product(case, group) is not None and is_sure(case, group)
    return is_product and product_dtype(case, group) == product_dtype(case, kind[0])


def _operations(case: Case, group: int) -> int:
    found = _product(case, group)
    return 0 if found is None else found.m * found.n * found.a.shape[-1]


def _total(case: Case, kind: Kind) -> float:
    return sum(call_ns(case, group) for group in kind)


def _changes(case: Case, runs: Mapping[Kind, list[Ints]], merged: Mapping[Kind, _Merged]) -> tuple[Change, Change]:
    """Each run's first product takes the time of the merged one, the others are not launched."""
    gone = np.zeros(len(case.group_of), np.bool_)
    columns = [case.replayer.duration.astype(np.float64) for _ in range(2)]
    for kind, found in runs.items():
        head, rest = np.array([rows[0] for rows in found]), np.concatenate([rows[1:] for rows in found])
        gone[rest] = True
        columns[0][head], columns[1][head] = merged[kind].mid, merged[kind].high
    mid, high = (joined(column, gone) for column in columns)
    ops = _ops(case, gone)
    without = case.replayer.host_without
    return replace(mid, host=without(ops=ops, keep=0.5)), replace(high, host=without(ops=ops))


def _ops(case: Case, chosen: NDArray[np.bool_]) -> Ints:
    op = case.placed.recording.items.op[chosen]
    return distinct(op[op >= 0])


def _spelled(found: Product | None) -> str:
    return "" if found is None else f"{found.m} x {found.n} x {found.a.shape[-1]}"


RULES: Final[tuple[Rule, ...]] = (shared_inputs,)
