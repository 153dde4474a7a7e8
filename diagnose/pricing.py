"""The work of every item: each distinct op is priced once, each distinct set of kernels shared out once.

No loop runs over events: items are grouped by op call, calls by (signature, kernels), and only distinct groups meet
a formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose import costs
from diagnose.compiled import HIDDEN, UNSHAPED, hidden_regions, is_compiled_kernel
from diagnose.costs import collective
from diagnose.costs.composition import is_frame
from diagnose.costs.copy import with_list_dtype
from diagnose.costs.registry import KernelSignature, Price, bound_by_inputs, is_free, price, workers_of
from diagnose.costs.sharing import share
from diagnose.items import KIND_COLLECTIVE, KIND_COPY, KIND_KERNEL, KIND_SET, Items, Recording
from diagnose.kernel_names import element_size
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.work import Op, Work

_NOTHING = Work((), 0, 0, source="free")
_STAND_IN = {1: "int8", 2: "bfloat16", 4: "float32", 8: "float64"}
"""A dtype of each size, for what is only moved: the size is all that counts there."""


@dataclass
class Priced:
    """Work of items.

    Attributes:
        works: Distinct works.
        work: Index into ``works`` [n], -1 where unknown.
        reasons: Distinct reasons why work is unknown, or a bound.
        reason: Index into ``reasons`` [n], -1 where the work is known.
    """

    works: list[Work]
    work: Ints
    reasons: list[str]
    reason: Ints
    _work_ids: dict[Work, int] = field(default_factory=dict)
    _reason_ids: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, count: int) -> Priced:
        """Nothing known of ``count`` items yet."""
        return cls([], np.full(count, -1, np.int64), [], np.full(count, -1, np.int64))

    def work_id(self, work: Work) -> int:
        """The index of a work, added if new."""
        found = self._work_ids.setdefault(work, len(self.works))
        if found == len(self.works):
            self.works.append(work)
        return found

    def reason_id(self, reason: str) -> int:
        """The index of a reason, added if new."""
        found = self._reason_ids.setdefault(reason, len(self.reasons))
        if found == len(self.reasons):
            self.reasons.append(reason)
        return found

    def set_where(self, rows: NDArray[np.bool_] | Ints, work: Work | None, reason: str) -> None:
        """Gives all of ``rows`` one work, or one reason why there is none; a bound keeps the reason why it is one."""
        self.work[rows] = -1 if work is None else self.work_id(work)
        is_told = work is None or (work.is_bound and bool(reason))
        self.reason[rows] = self.reason_id(reason) if is_told else -1


Fallback = Callable[[Op], Price]


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
    prices = _Prices(recording.trace, fallback)
    if recording.is_cpu:
        _price_self_time(recording, prices, priced)
        return priced
    _price_transfers(recording, priced)
    _price_kernels(recording, prices, priced)
    _price_by_signature(recording, priced)
    return priced


class _Prices:
    """Prices of distinct ops, by signature index."""

    def __init__(self, trace: Trace, fallback: Fallback | None) -> None:
        self.trace = trace
        self.fallback = fallback
        self._found: dict[tuple[int, int | None], Price] = {}

    def of(self, signature: int, element_size: int | None = None) -> Price:
        """The price of a distinct op; ``element_size`` stands in for the dtype that lists of tensors lost."""
        key = (signature, element_size)
        if key not in self._found:
            self._found[key] = self._price(self.trace.signatures[signature], element_size)
        return self._found[key]

    def _price(self, op: Op, element_size: int | None) -> Price:
        if op.inputs is None:
            return Price(None, UNSHAPED if is_compiled_kernel(op.name) else "shapes were not recorded")
        if element_size in _STAND_IN:
            op = with_list_dtype(op, _STAND_IN[element_size])
        found = price(op)
        if found.phases is None and self.fallback is not None:
            found = self.fallback(op)
        return found


def _price_transfers(recording: Recording, priced: Priced) -> None:
    """Copies and sets say their bytes; collectives describe themselves."""
    items = recording.items
    for kind in (KIND_COPY, KIND_SET):
        rows = np.flatnonzero(items.kind == kind)
        for count in np.unique(items.bytes[rows]).tolist():
            work = None if count < 0 else _transfer(kind == KIND_COPY, count)
            priced.set_where(rows[items.bytes[rows] == count], work, "the recording does not say how many bytes")
    rows = np.flatnonzero(items.kind == KIND_COLLECTIVE)
    for index in np.unique(items.metadata[rows]).tolist():
        found = collective.collective_work(recording.trace.metadata[index]) if index >= 0 else None
        described = rows[items.metadata[rows] == index]
        priced.set_where(described, found, "a collective whose size was not recorded")


def _transfer(is_copy: bool, count: int) -> Work:
    """A copy reads and writes its bytes, wherever the two ends are; a set only writes."""
    return Work((), count if is_copy else 0, count, source="metadata")


def _price_kernels(recording: Recording, prices: _Prices, priced: Priced) -> None:
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
    typical = _typical_duration(items, rows, begins, trace.ops.signature[op])
    facts = np.stack([items.name[rows], items.blocks[rows], np.where(needs_duration, typical, 0)], axis=1)
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
    for (number, borrowed, packed), index in groups.items():
        launched = [kernels[i] for i in np.frombuffer(packed, np.int32).tolist()]
        found, works = _shared(prices, number, launched)
        if borrowed:
            works = tuple(None if work is None else replace(work, source="capture") for work in works)
        calls = begins[group == index]
        unknown = _HELPER if found.phases is not None else found.reason or "unknown"
        for position, work in enumerate(works):
            if work is not None or items.kind[rows[calls[0] + position]] == KIND_KERNEL:
                priced.set_where(rows[calls + position], work, unknown if work is None else found.reason or "")


def _typical_duration(items: Items, rows: Ints, begins: Ints, signature: Ints) -> Ints:
    """For each kernel the mean duration of those in its place in equal ops, so that jitter does not tear them apart."""
    place = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
    kinds = np.stack([items.name[rows], signature, place], axis=1)
    code = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
    total = np.zeros(len(rows), np.int64)
    np.add.at(total, code, items.duration[rows])
    return (total // np.maximum(1, np.bincount(code, minlength=len(rows))))[code]


_HELPER: Final = "a helper kernel whose traffic the op does not tell"


def _shared(prices: _Prices, signature: int, kernels: list[KernelSignature]) -> tuple[Price, tuple[Work | None, ...]]:
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
    known, inverse = np.unique(keys[linked], axis=0, return_inverse=True)
    work_of = {
        tuple(key): set(priced.work[linked[inverse.reshape(-1) == index]].tolist())
        for index, key in enumerate(known.tolist())
    }
    for key in np.unique(keys[unlinked], axis=0).tolist():
        candidates = work_of.get(tuple(key), set())
        if len(candidates) != 1 or -1 in candidates:
            continue
        work = priced.works[candidates.pop()]
        same = replace(work, source="signature")
        priced.set_where(unlinked[(keys[unlinked] == key).all(axis=1)], same, "")


def _price_self_time(recording: Recording, prices: _Prices, priced: Priced) -> None:
    items, trace = recording.items, recording.trace
    is_idle = _is_done_by_children(trace)
    is_leaf = ~np.isin(np.arange(len(trace.ops.parent)), trace.ops.parent)
    is_hidden = hidden_regions(trace)
    signature = trace.ops.signature[items.op]
    order = np.argsort(signature, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(signature[order])) + 1) if len(order) else []:
        number, name = int(signature[rows[0]]), trace.strings[items.name[rows[0]]]
        if is_free(name) or is_frame(name):  # told by the name: its arguments need not be read
            priced.set_where(rows, _NOTHING, "")
            if is_hidden.any():
                priced.set_where(rows[is_hidden[items.op[rows]]], None, HIDDEN)
            continue
        found = prices.of(number)
        priced.set_where(rows, _work_of(found), found.reason or "unknown")
        if found.phases is None:
            # An op that calls others is not bounded: they may be what reads its inputs.
            found = bound_by_inputs(trace.signatures[number], found.reason or "unknown")
            priced.set_where(rows[is_leaf[items.op[rows]]], _work_of(found), found.reason or "unknown")
        priced.set_where(rows[is_idle[items.op[rows]]], _NOTHING, "")


def _work_of(found: Price) -> Work | None:
    """All of an op's work, as a CPU does it in one go; None where it is unknown."""
    if found.phases is None:
        return None
    return _compulsory([phase.work for phase in found.phases if not phase.is_extra])


def _compulsory(parts: Sequence[Work]) -> Work:
    """An op's work without what only an algorithm of separate kernels moves."""
    if not parts:
        return _NOTHING
    whole = sum(parts[1:], parts[0])
    if not whole.extra_bytes:
        return whole
    read = None if whole.bytes_read is None else max(0, whole.bytes_read - whole.extra_bytes)
    return replace(whole, bytes_read=read, extra_bytes=0)


def _is_done_by_children(trace: Trace) -> NDArray[np.bool_]:
    """Ops whose work is done by ops below them (``aten::mean`` on a CPU is ``aten::sum`` and a division)."""
    ops = trace.ops
    done = np.zeros(len(ops.name), np.bool_)
    for name in np.unique(ops.name).tolist():
        workers = workers_of(trace.strings[name])
        if not workers:
            continue
        is_worker = np.isin(ops.name, [i for i, text in enumerate(trace.strings) if text in workers])
        above = taken(ops.parent, np.flatnonzero(is_worker))
        while (above >= 0).any():
            done[above[(above >= 0)]] |= ops.name[above[above >= 0]] == name
            above = taken(ops.parent, above)
    return done
