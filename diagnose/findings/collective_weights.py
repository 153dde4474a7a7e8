"""A rule about sharded weights that are gathered for few rows: the rows would cross the link more cheaply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.findings.retiming import gap_of, ns_per_step
from diagnose.findings.sending import ONE_NODE, Nanoseconds, Sent, sent, shorter
from diagnose.replays.replayer import Change
from diagnose.roofs.operands import product
from diagnose.trace.tables import Ints
from diagnose.transfers import exposed_of
from diagnose.wall.phases import BACKWARD, OPTIMIZER

OUTWEIGHED: Final = 0.5
"""Activations have to move at most this share of what the weights do."""

IN_PRODUCTS: Final = (0.5, 1.02)
"""Weights that the forward pass multiplies by, over the numbers that it gathers: less than half, and something else is
gathered (an embedding table is as large as an output layer); more, and not all that multiplies is sharded. Padding adds
a little to what is gathered, so that the two are equal at most but for a shard that was gathered before the step."""


class Moved(Struct, frozen=True):
    """What the forward pass multiplies by in a window, and what crosses a link of this rank for it.

    Attributes:
        weights: Numbers in the second matrices of plain products.
        activations: Bytes that all-reduces would move instead, over the ranks of the weights' group.
        rows: Of the product with the largest weight.
        largest: That weight's numbers.
    """

    weights: int
    activations: int
    rows: int
    largest: int


def heavy_weights(case: Case) -> list[Proposal]:
    """Sharded weights gathered for a few rows (FSDP, ZeRO-3), where splitting the products would move less.

    Each rank multiplies m rows by a gathered [k, n]. With tensor parallelism the R ranks multiply R m rows by their
    parts of it, and all-reduce m R min(k, n) numbers once, forward (row-wise parts) or backward (column-wise): 2 m
    min(k, n) (R - 1) numbers cross a link. Only within a node, and where the weights of the forward pass's products are
    what it gathers. Low: nothing. High: what is exposed, less the all-reduces, which nothing hides, at the rate of the
    gathers. Mid: half of that.
    """
    found = [each for each in sent(case) if each.kind in ("all_gather", "reduce_scatter")]
    gathers = [each for each in found if each.kind == "all_gather"]
    if not gathers or not case.is_training:
        return []
    ranks = gathers[0].ranks  # those of the gathers with the most time
    found = [each for each in found if each.ranks == ranks]
    forward = np.bincount(case.group_of[_is_forward(case)], minlength=len(case.placed.groups))
    moved, crossed = _moved(case, forward, ranks), sum(each.crossed * _calls(case, each) for each in found)
    gathered = sum(int(forward[each.group]) * each.gathered for each in found if each.kind == "all_gather")
    share = moved.activations / max(1, crossed)
    low, high = IN_PRODUCTS
    fits = low * gathered <= moved.weights <= high * gathered
    if not 1 < ranks <= ONE_NODE or not gathered or not fits or share > OUTWEIGHED:
        return []
    groups = [each.group for each in found]
    saved = _saved(case, found, share)
    return [
        Proposal(
            rule="heavy-weights",
            bound="communication",
            title="gathering sharded weights moves more than the activations of their layers would",
            evidence={
                "collectives_per_step": case.per_step(case.calls(groups)),
                "collectives_ns_per_step": ns_per_step(case, case.time_ns(groups)),
                "weights_crossing_bytes_per_step": round(case.per_step(crossed)),
                "activations_crossing_bytes_per_step": round(case.per_step(moved.activations)),
                "rows_a_rank": moved.rows,
                "largest_weight_numbers": moved.largest,
                "ranks": ranks,
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=Change(),
            mid=shorter(case, saved / 2),
            high=shorter(case, saved),
            gap_ns=gap_of(case, 0, float(saved.sum()) / 2, float(saved.sum())),
            advice="from torch.distributed.tensor import parallel\n"
            'cut = {"up": parallel.ColwiseParallel(), "down": parallel.RowwiseParallel()}\n'
            'parallel.parallelize_module(layer.mlp, mesh["tp"], cut)\n'
            "# or more rows a gather: a larger batch a rank, fully_shard(layer, reshard_after_forward=False)",
            assumes="the ranks of a group are on one node and take the same batch, R times as many rows; the layers "
            "come in pairs that can be cut by columns and by rows; the products stay as efficient on a part of the "
            "weight; what is exposed is the transfer, not a wait for a late rank",
        )
    ]


def _calls(case: Case, each: Sent) -> int:
    return int(case.placed.groups.calls[each.group])


def _is_forward(case: Case) -> NDArray[np.bool_]:
    """Items outside the backward pass and the optimizer: a gather may be launched between two layers' ops [n]."""
    is_forward: NDArray[np.bool_] = (case.group_of >= 0) & ~np.isin(case.phases.phase, (BACKWARD, OPTIMIZER))
    return is_forward


def _moved(case: Case, forward: Ints, ranks: int) -> Moved:
    """Plain products of the forward pass (its calls of each group), and what all-reduces in their place would move."""
    weights = activations = rows = largest = 0
    for group in np.flatnonzero(forward).tolist():
        op = case.op(group)
        one = None if op is None else product(op)
        if one is None or one.batch != 1 or not one.a.itemsize:
            continue
        inner, count = one.a.shape[-1], int(forward[group])
        weights += count * inner * one.n
        activations += count * 2 * one.m * min(inner, one.n) * (ranks - 1) * one.a.itemsize
        if inner * one.n > largest:
            rows, largest = one.m, inner * one.n
    return Moved(weights, activations, rows, largest)


def _saved(case: Case, found: Sequence[Sent], share: float) -> Nanoseconds:
    """Of each item's time what is exposed, less what the all-reduces would take in its place, ns [n]."""
    items = case.items_of([each.group for each in found])
    saved: Nanoseconds = np.maximum(0.0, exposed_of(case.placed) - share * case.replayer.duration) * items
    return saved


RULES: Final[tuple[Rule, ...]] = (heavy_weights,)
