"""Items that are the same work on the same kernel become one row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.items import Items
from diagnose.pricing.pricing import Priced
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace


class Groups(Struct, frozen=True):
    """One entry a (device, kind, kernel, op, signature, work) of the window; a column an attribute [g].

    Attributes:
        device: As recorded.
        kind: Of its items.
        name: String id of the kernel.
        op_name: String id of the op, -1 if unlinked.
        signature: Index into the trace's signatures, -1 for none.
        work: Index into ``Priced.works``, -1 if unknown.
        first: The first item, for facts that all share.
        calls: How many items.
        time: Sum of their durations, ns.
        of_item: Group of each item [n], -1 for what is carried over.
    """

    device: Ints
    kind: Ints
    name: Ints
    op_name: Ints
    signature: Ints
    work: Ints
    first: Ints
    calls: Ints
    time: Ints
    of_item: Ints

    def __len__(self) -> int:
        return len(self.name)


def group_items(trace: Trace, items: Items, priced: Priced) -> Groups:
    """Groups the items that were launched in the window."""
    rows = np.flatnonzero(items.is_own)
    op_name = taken(trace.ops.name, items.op)
    signature = taken(trace.ops.signature, items.op)
    is_free = np.array([work.source == "free" for work in priced.works] + [False], np.bool_)
    signature = np.where(is_free[priced.work], -1, signature)  # views differ in arguments that change nothing
    columns = [items.device, items.kind, items.name, op_name, signature, priced.work]
    first, inverse = unique_rows([column[rows] for column in columns])
    of_item = np.full(len(items.name), -1, np.int64)
    of_item[rows] = inverse
    count = len(first)
    time = np.zeros(count, np.int64)
    np.add.at(time, inverse, items.duration[rows])
    head = rows[first]
    device, kind, name, op, number, work = (column[head] for column in columns)
    return Groups(device, kind, name, op, number, work, head, np.bincount(inverse, minlength=count), time, of_item)


def unique_rows(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """First occurrence of each distinct row, and each row's number among the distinct ones."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, index = np.unique(column, return_inverse=True)
        # Renumbered after each column, so that the product never leaves 64 bits.
        code = np.unique(code * (len(values) + 1) + index.reshape(-1), return_inverse=True)[1].reshape(-1)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return first, inverse.reshape(-1)


def sum_by(group: NDArray[np.int64], values: Ints, count: int) -> Ints:
    """Sums of ``values`` by group, rows of group -1 left out."""
    total = np.zeros(count, np.int64)
    is_in = group >= 0
    np.add.at(total, group[is_in], values[is_in])
    return total
