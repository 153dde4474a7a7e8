"""Collectives that the host itself carries out (gloo, MPI) as items of a CPU recording.

Their op only puts them into a queue; threads of the backend run them, and mark that time with an annotation. Waiting
for other ranks lies inside it. Without these items that time would read as Python that launches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec.structs import replace

from diagnose.costs.collective import collective_work
from diagnose.costs.collective_ops import described
from diagnose.distinct import distinct, is_any
from diagnose.items import CPU_DEVICE, KIND_COLLECTIVE, Items, Recording
from diagnose.pricing.collective_kinds import kind_of
from diagnose.pricing.pricing import Priced
from diagnose.trace.host import Segments
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace
from diagnose.trace.windows import step_of

_ANNOTATION: Final = re.compile(r"^(?:gloo|mpi|ucc|xccl|nccl):\w+$")
_OP_PREFIXES: Final = ("c10d::", "_c10d_functional::")


def with_host_collectives(recording: Recording, priced: Priced) -> tuple[Recording, Priced]:
    """Adds an item for each annotation of a communication backend; a recording of a device stays as it is."""
    trace = recording.trace
    if not recording.is_cpu:
        return recording, priced
    kinds = {
        name: kind
        for name in distinct(trace.annotations.name).tolist()
        if _ANNOTATION.match(trace.strings[name]) and (kind := kind_of(trace.strings[name])) is not None
    }
    rows = np.flatnonzero(is_any(trace.annotations.name, list(kinds)))
    if not rows.size:
        return recording, priced
    op = np.full(len(rows), -1, np.int64)
    for kind in sorted(set(kinds.values())):
        mine = np.flatnonzero(is_any(trace.annotations.name[rows], [key for key in kinds if kinds[key] == kind]))
        ops = _ops_of_kind(trace, kind)
        pairs = queued(trace.ops.start[ops], trace.annotations.start[rows[mine]])
        op[mine] = np.where(pairs >= 0, ops[np.maximum(pairs, 0)], -1) if len(ops) else -1
    trace, metadata = _described(trace, rows, op, kinds)
    items = _joined(recording, rows, op, metadata)
    return replace(recording, trace=trace, items=items), _priced(priced, trace, metadata)


def queued(enqueued: Ints, began: Ints) -> Ints:
    """Index of the entry of a queue that each run belongs to: the oldest one waiting, -1 where there is none.

    Args:
        enqueued: When entries were put in, ascending.
        began: When runs began, ascending.
    """
    before = np.searchsorted(enqueued, began, side="right")
    place = np.arange(len(began))
    # After run i as many entries are taken as before it plus one, yet never more than there were by then.
    taken_after = place + 1 + np.minimum(0, np.minimum.accumulate(before - place - 1)) if len(began) else place
    taken_before = np.concatenate([[0], taken_after])[:-1] if len(began) else place
    return np.where(taken_after > taken_before, taken_before, -1)


def _ops_of_kind(trace: Trace, kind: str) -> Ints:
    names = [
        name
        for name in distinct(trace.ops.name).tolist()
        if trace.strings[name].startswith(_OP_PREFIXES) and kind_of(trace.strings[name]) == kind
    ]
    return np.flatnonzero(is_any(trace.ops.name, names))


def _described(trace: Trace, rows: Ints, op: Ints, kinds: Mapping[int, str]) -> tuple[Trace, Ints]:
    """What each collective moves, in the words of ``Trace.metadata``: by its op, each distinct one asked once."""
    signature = taken(trace.ops.signature, op)
    pairs, index = np.unique(np.stack([signature, trace.annotations.name[rows]], axis=1), axis=0, return_inverse=True)
    metadata = list(trace.metadata)
    for number, name in pairs.tolist():
        found = None if number < 0 else described(trace.signatures[number], trace.group_sizes)
        plain: Mapping[str, str | int] = {"collective": kinds[name]}
        if kinds[name] == "barrier":
            plain = {"collective": "barrier", "dtype": "uint8", "elements_in": 0, "elements_out": 0}
        metadata.append(plain if found is None else found)
    return replace(trace, metadata=tuple(metadata)), len(trace.metadata) + index.reshape(-1)


def _priced(priced: Priced, trace: Trace, metadata: Ints) -> Priced:
    """The works, those of the collectives behind them."""
    first, unknown = len(priced.work), np.full(len(metadata), -1, np.int64)
    found = replace(priced, work=_behind(priced.work, unknown), reason=_behind(priced.reason, unknown))
    for index in distinct(metadata).tolist():
        work = collective_work(trace.metadata[index])
        found.set_where(first + np.flatnonzero(metadata == index), work, "a collective whose size was not recorded")
    return found


def _joined(recording: Recording, rows: Ints, op: Ints, metadata: Ints) -> Items:
    """The items, the collectives behind them; an end after the window's is cut by whoever splits the window."""
    items, marks, steps = recording.items, recording.trace.annotations, recording.steps
    start, end = marks.start[rows], marks.end[rows]
    count, first = len(rows), len(items.name)
    unknown = np.full(count, -1, np.int64)
    is_before = start < int(steps.boundaries[0])
    is_after = start >= int(steps.boundaries[-1])
    # A queue may run its last entry when the next step has begun: it belongs to the step that put it in.
    called = np.where(op >= 0, taken(recording.trace.ops.start, op), start)
    step = np.where(is_before | is_after, -1, np.maximum(step_of(called, steps.starts), 0))
    spans = items.spans
    return Items(
        _behind(items.name, marks.name[rows]), _behind(items.kind, np.full(count, KIND_COLLECTIVE)),
        _behind(items.device, np.full(count, CPU_DEVICE)), _behind(items.duration, end - start),
        _behind(items.op, op), _behind(items.call, unknown), _behind(items.blocks, unknown),
        _behind(items.bytes, unknown), _behind(items.metadata, metadata), _behind(items.step, step),
        _behind(items.order, first + np.arange(count)),
        Segments(
            _behind(spans.row, first + np.arange(count)), _behind(spans.start, start), _behind(spans.end, end)
        ),
    )  # fmt: skip


def _behind(first: Ints, second: Ints) -> Ints:
    return np.concatenate([first, second.astype(np.int64)])
