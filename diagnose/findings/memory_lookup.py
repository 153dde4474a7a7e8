"""Gradients of what was looked up: embedding tables written whole, indices sorted."""

from __future__ import annotations

from typing import Final

import numpy as np

from diagnose.distinct import distinct
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import joined, rates
from diagnose.schema import Interval
from diagnose.wall.phases import BACKWARD

TOUCHED: Final = 0.1
"""Rows of an embedding table that a step touches, at most: below this a dense gradient is mostly zeros."""

INDEX_REACH: Final = (0.1, 0.25, 0.5)
"""What adding rows with atomics reaches of the bandwidth: rows that repeat wait for each other; half is what torch's
gathers reach."""


_DENSE: Final = {"aten::embedding_dense_backward": 2, "aten::_embedding_bag_dense_backward": 5}
"""Which argument is the number of rows."""


def dense_embedding_gradient(case: Case) -> list[Proposal]:
    """The gradient of a large table of which a step looks up few rows: zeros are written for all of it.

    What fills the table with zeros goes, but for the share of the rows that were looked up; the optimizer's pass over
    the table, which a sparse gradient spares too, is not counted.
    """
    found = _tables(case)
    if not found:
        return []
    items = np.flatnonzero(case.items_under(lambda name: name in _DENSE) & (case.group_of >= 0))
    fills = [item for item in items.tolist() if _is_fill(case, int(case.group_of[item]))]
    if not fills:
        return []
    touched = max(rows / table for rows, table, _ in found)
    duration = case.replayer.duration.astype(np.float64)
    mid, low = duration.copy(), duration.copy()
    mid[fills] *= touched
    low[fills] *= 0.5
    gone = np.zeros(len(duration), np.bool_)
    groups = distinct(case.group_of[fills]).tolist()
    steps = max(1, len(case.steps))
    ns = duration[fills].sum() / steps
    rows, table, width = max(found, key=lambda each: each[1] * each[2])
    return [
        Proposal(
            rule="dense-embedding-gradient",
            bound="memory",
            title="an embedding's gradient written for the whole table",
            evidence={
                "table_rows": table,
                "looked_up_rows": rows,
                "table_bytes": table * width,
                "fill_ns_per_step": round(ns),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=joined(low, gone),
            mid=joined(mid, gone),
            high=joined(mid, gone),
            gap_ns=Interval(round(ns * 0.5), round(ns * (1 - touched)), round(ns * (1 - touched))),
            advice="embedding = torch.nn.Embedding(rows, width, sparse=True)  # EmbeddingBag has it too\n"
            "optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=lr)  # saves its pass over the table too",
            assumes="the optimizer takes sparse gradients (SGD, SparseAdam, Adagrad) and leaves other rows alone",
        )
    ]


def _tables(case: Case) -> list[tuple[int, int, int]]:
    """Rows looked up at most, rows, bytes a row of the tables whose gradient is mostly zeros."""
    found = []
    for op in case.placed.recording.trace.signatures:
        at = _DENSE.get(op.name)
        if at is None or op.inputs is None or len(op.inputs) <= at:
            continue
        gradient, indices, table = op.tensor_or_none(0), op.tensor_or_none(1), op.inputs[at]
        if gradient is None or indices is None or not isinstance(table, int) or not gradient.shape or table <= 0:
            continue
        if indices.numel < TOUCHED * table:
            found.append((indices.numel, table, gradient.shape[-1] * (gradient.itemsize or 0)))
    return found


def _is_fill(case: Case, group: int) -> bool:
    work = case.work(group)
    return work is not None and work.bytes_read == 0 and bool(work.bytes_written)


def indexing_backward(case: Case) -> list[Proposal]:
    """``x[rows]`` sorts its indices in the backward pass; ``index_select`` adds the rows where they belong.

    All kernels of the op become one that moves its values and the rows that they name, at ``INDEX_REACH`` of
    the bandwidth.
    """
    is_own = case.items_under(lambda name: name in ("aten::_index_put_impl_", "aten::index_put_"))
    items = np.flatnonzero(is_own & (case.group_of >= 0) & (case.phases.phase == BACKWARD))
    if case.is_cpu or not len(items):
        return []
    op = case.placed.recording.items.op
    groups = distinct(case.group_of[items]).tolist()
    by_group = {group: _moved_by_op(case, group) for group in groups}
    dram, floor_ns = rates(case, groups[0])
    if dram is None or not all(by_group.values()):
        return []
    calls, head, inverse = np.unique(op[items], return_index=True, return_inverse=True)
    duration = case.replayer.duration.astype(np.float64)
    now = np.bincount(inverse.reshape(-1), duration[items])
    gone = np.zeros(len(duration), np.bool_)
    gone[items] = True
    gone[items[head]] = False
    moved = np.array([by_group[group] or 0 for group in case.group_of[items[head]].tolist()])
    changes, saved = [], []
    for reach in INDEX_REACH:
        column = duration.copy()
        column[items[head]] = np.minimum(now, np.maximum(floor_ns, moved / dram / reach * 1e9))
        changes.append(joined(column, gone))
        saved.append(int(now.sum() - column[items[head]].sum()) // max(1, len(case.steps)))
    low, mid, high = changes
    return [
        Proposal(
            rule="indexing-backward",
            bound="memory",
            title="the backward pass of indexing sorts its indices",
            evidence={
                "indexings_per_step": case.per_step(len(calls)),
                "kernels_per_step": case.per_step(len(items)),
                "time_ns_per_step": int(now.sum()) // max(1, len(case.steps)),
                "bytes_per_step": int(moved.sum()) // max(1, len(case.steps)),
            },
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            gap_ns=Interval(*saved),
            advice="y = x.index_select(0, rows)  # instead of x[rows]: its gradient is index_add_",
            assumes="one index tensor along one dimension; sums of repeated rows come in any order (not deterministic)",
        )
    ]


def _moved_by_op(case: Case, group: int) -> int | None:
    """What one call must move but for its indices: values read, the rows that they name read and written."""
    op = case.op(group)
    target, values = (None, None) if op is None else (op.tensor_or_none(0), op.tensor_or_none(2))
    if target is None or values is None or not target.itemsize or not values.itemsize:
        return None
    touched = min(values.numel, target.distinct_numel) * target.itemsize
    return values.distinct_numel * values.itemsize + 2 * touched
