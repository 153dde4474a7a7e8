"""The work of every item: each distinct op is priced once, each distinct set of kernels shared out once.

No loop runs over events: items are grouped by op call, calls by (signature, kernels), and only distinct groups meet
a formula.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from diagnose import costs
from diagnose.costs import collective
from diagnose.costs.registry import KernelSignature, Price, bound_by_inputs
from diagnose.costs.sharing import share
from diagnose.distinct import distinct
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, KIND_KERNEL, KIND_SET, Items, Recording
from diagnose.kernel_names import element_size
from diagnose.pricing.own_time import price_own_time
from diagnose.pricing.priced import Fallback, Outcomes, Priced, Prices
from diagnose.trace.tables import Ints
from diagnose.work import Work

__all__ = ["Fallback", "Priced", "price_items"]


def price_items(recording: Recording, fallback: Fallback | None = None) -> Priced:
    """The work of every item of a recording.

    Args:
        recording: What ran.
        fallback: Asked for ops that no formula prices (torch's meta execution, when the user wants it).
    """
    if recording.is_cpu or recording.trace.has_shapes:
        costs.load()  # a tenth of the time of reading a small trace, and nothing can be priced without shapes
    items = recording.items
    priced = Priced.empty(len(items.name))
    prices = Prices(recording.trace, fallback)
    if recording.is_cpu:
        price_own_time(recording, prices, priced)
        return priced
    _price_transfers(recording, priced)
    _price_kernels(recording, prices, priced)
    _price_helping_transfers(recording, priced)
    _price_by_signature(recording, priced)
    return priced


def _price_transfers(recording: Recording, priced: Priced) -> None:
    """Copies and sets say their bytes; collectives describe themselves."""
    items = recording.items
    for kind in (KIND_COPY, KIND_SET):
        rows = np.flatnonzero(items.kind == kind)
        for count in distinct(items.bytes[rows]).tolist():
            work = None if count < 0 else _transfer(kind == KIND_COPY, count)
            priced.set_where(rows[items.bytes[rows] == count], work, "the recording does not say how many bytes")
    rows = np.flatnonzero(items.kind == KIND_COLLECTIVE)
    for index in distinct(items.metadata[rows]).tolist():
        found = collective.collective_work(recording.trace.metadata[index]) if index >= 0 else None
        described = rows[items.metadata[rows] == index]
        priced.set_where(described, found, "a collective whose size was not recorded")


def _transfer(is_copy: bool, count: int) -> Work:
    """A copy reads and writes its bytes, wherever the two ends are; a set only writes."""
    return Work((), count if is_copy else 0, count, source="metadata")


def _price_helping_transfers(recording: Recording, priced: Priced) -> None:
    """A set or copy beside a kernel that does its op's work is the price of the algorithm: all of its bytes are extra.

    Where sets and copies are all that an op launches they are its work, and nothing is extra. Where no formula says
    what the op must do, nobody can tell what is beyond that.
    """
    items = recording.items
    is_formula = np.array([work.source not in _UNTOLD for work in priced.works] + [False], np.bool_)
    working = np.zeros(len(recording.trace.ops.name) + 1, np.bool_)
    working[items.op[(items.kind == KIND_KERNEL) & is_formula[priced.work]]] = True
    working[-1] = False  # not linked
    is_transfer = ((items.kind == KIND_COPY) | (items.kind == KIND_SET)) & (items.bytes >= 0)
    rows = np.flatnonzero(is_transfer & working[items.op])
    for number in distinct(priced.work[rows]).tolist():
        work = priced.works[number]
        helping = replace(work, extra_bytes=work.bytes_accessed or 0)
        priced.set_where(rows[priced.work[rows] == number], helping, "")


_UNTOLD: Final = ("inputs", "metadata")
"""Sources of work that does not say what the op must do."""


def _price_kernels(recording: Recording, prices: Prices, priced: Priced) -> None:
    items, trace = recording.items, recording.trace
    # A set whose bytes were not recorded (ROCm) is one of its op's kernels: what it clears may follow from the op.
    is_unsized = (items.kind == KIND_SET) & (items.bytes < 0)
    rows = np.flatnonzero(((items.kind == KIND_KERNEL) | is_unsized) & (items.op >= 0))
    priced.set_where(np.flatnonzero((items.kind == KIND_KERNEL) & (items.op < 0)), None, "not linked to an op")
    if not rows.size:
        return
    rows = rows[np.lexsort((items.order[rows], items.op[rows]))]
    op = items.op[rows]
    begins = np.flatnonzero(np.concatenate([[True], op[1:] != op[:-1]]))
    ends = np.concatenate([begins[1:], [len(rows)]])
    # Without a grid the duration decides how kernels of one op share its work, so there it is part of the key.
    needs_duration = (items.blocks[rows] < 0) & (np.repeat(ends - begins, ends - begins) > 1)
    duration = np.zeros(len(rows), np.int64)
    if needs_duration.any():
        duration = np.where(needs_duration, _typical_duration(items, rows, begins, trace.ops.signature[op]), 0)
    facts = np.stack([items.name[rows], items.blocks[rows], duration], axis=1)
    distinct, code = np.unique(facts, axis=0, return_inverse=True)
    kernels = [
        KernelSignature(trace.strings[name], blocks if blocks >= 0 else None, duration)
        for name, blocks, duration in distinct.tolist()
    ]
    codes = code.astype(np.int32).reshape(-1)
    signature = trace.ops.signature[op[begins]]
    is_borrowed = op[begins] >= len(trace.ops.name) - trace.borrowed_ops
    width = codes.itemsize
    text = codes.tobytes()
    columns = (signature.tolist(), is_borrowed.tolist(), begins.tolist(), ends.tolist())
    keys = [
        (number, borrowed, text[begin * width : end * width])
        for number, borrowed, begin, end in zip(*columns, strict=True)
    ]
    groups: dict[tuple[int, bool, bytes], int] = {}
    group = np.array([groups.setdefault(key, len(groups)) for key in keys], np.int64)
    table = Outcomes(priced)
    for number, borrowed, packed in groups:
        launched = [kernels[i] for i in np.frombuffer(packed, np.int32).tolist()]
        found, works = _shared(prices, number, launched)
        for work in works:
            reason = found.reason or "" if work is not None else _unknown(found)
            table.add(replace(work, source="capture") if borrowed and work is not None else work, reason)
    # Each group's outcomes lie one behind the other, a kernel each; every call of it takes them in order.
    sizes = np.array([len(packed) // width for _, _, packed in groups], np.int64)
    place = np.arange(len(rows)) - np.repeat(begins, ends - begins)
    outcome = np.repeat((np.cumsum(sizes) - sizes)[group], ends - begins) + place
    table.give(rows, outcome, keeps=items.kind[rows] != KIND_KERNEL)


def _unknown(found: Price) -> str:
    """Why a kernel has no work: its op has none, or what it has goes to other kernels."""
    return _HELPER if found.phases is not None else found.reason or "unknown"


def _typical_duration(items: Items, rows: Ints, begins: Ints, signature: Ints) -> Ints:
    """For each kernel the mean duration of those in its place in equal ops, so that jitter does not tear them apart."""
    place = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
    kinds = np.stack([items.name[rows], signature, place], axis=1)
    code = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    total = np.zeros(len(rows), np.int64)
    np.add.at(total, code, items.duration[rows])
    return (total // np.maximum(1, np.bincount(code, minlength=len(rows))))[code]


_HELPER: Final = "a helper kernel whose traffic the op does not tell"


def _shared(prices: Prices, signature: int, kernels: list[KernelSignature]) -> tuple[Price, tuple[Work | None, ...]]:
    """An op's price and its share for each of its kernels; what no formula prices is bounded by its inputs."""
    found = prices.of(signature)
    if found.phases is None:
        sizes = {element_size(kernel.name) for kernel in kernels} - {None}
        if len(sizes) == 1:
            found = prices.of(signature, sizes.pop())
    if found.phases is None:
        found = bound_by_inputs(prices.trace.signatures[signature], found.reason or "unknown")
    return found, (None,) * len(kernels) if found.phases is None else share(found.phases, kernels)


def _price_by_signature(recording: Recording, priced: Priced) -> None:
    """Unlinked kernels take the work of linked ones of the same name, grid and block, if those all have the same."""
    items, activities = recording.items, recording.trace.activities
    unlinked = np.flatnonzero((items.kind == KIND_KERNEL) & (items.op < 0) & items.is_own & (items.blocks >= 0))
    if not unlinked.size:
        return
    linked = np.flatnonzero((items.kind == KIND_KERNEL) & (items.op >= 0) & (items.blocks >= 0))
    keys = np.column_stack([items.name, activities.grid, activities.block])
    _, number = np.unique(keys[np.concatenate([linked, unlinked])], axis=0, return_inverse=True)
    number = number.reshape(-1)
    ours, theirs = number[: len(linked)], number[len(linked) :]
    # The least and the largest index of a work among the linked ones of a signature: equal where all have the same.
    least = np.full(number.max() + 1, len(priced.works), np.int64)
    largest = np.full(len(least), -1, np.int64)
    np.minimum.at(least, ours, priced.work[linked])
    np.maximum.at(largest, ours, priced.work[linked])
    agreed = np.where((least == largest)[theirs], largest[theirs], -1)
    for work in distinct(agreed[agreed >= 0]).tolist():
        same = replace(priced.works[work], source="signature")
        priced.set_where(unlinked[agreed == work], same, "")
