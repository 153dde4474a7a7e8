"""The work of ops on a CPU, where an op's own time is what ran: its share without the ops that it called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from diagnose.compiled import HIDDEN, hidden_regions
from diagnose.costs.composition import is_frame
from diagnose.costs.registry import Price, bound_by_inputs, is_free, workers_of
from diagnose.distinct import distinct, is_any
from diagnose.items import Recording
from diagnose.pricing.priced import Outcomes, Priced, Prices
from diagnose.trace.link import taken
from diagnose.trace.tables import Trace
from diagnose.work import Work

_NOTHING: Final = Work((), 0, 0, source="free")


def price_own_time(recording: Recording, prices: Prices, priced: Priced) -> None:
    """Prices each op of a CPU recording by itself; what the ops below it did is theirs."""
    items, trace = recording.items, recording.trace
    if not len(items.op):
        return
    if not len(items.op):
        return
    signatures, of_item = np.unique(trace.ops.signature[items.op], return_inverse=True)
    of_item = of_item.reshape(-1)
    is_frame_name = {name: is_free(name) or is_frame(name) for name in {trace.strings[i] for i in distinct(items.name)}}
    table = Outcomes(priced)
    nothing, hidden = table.add(_NOTHING, ""), table.add(None, HIDDEN)
    name_of = np.zeros(len(signatures), np.int64)
    name_of[of_item] = items.name
    names = [trace.strings[name] for name in name_of.tolist()]
    frames = np.array([is_frame_name[name] for name in names], np.bool_)
    # Told by the name: a frame's arguments need not be read.
    told = [
        (nothing, nothing) if is_frame_name[name] else _self_outcome(prices, number, table)
        for number, name in zip(signatures.tolist(), names, strict=True)
    ]
    calling, leaf = (np.array(column, np.int64)[of_item] for column in zip(*told, strict=True))
    is_leaf = ~np.isin(items.op, trace.ops.parent)
    outcome = np.where(is_leaf, leaf, calling)
    outcome[_is_done_by_children(trace)[items.op]] = nothing
    outcome[frames[of_item] & hidden_regions(trace)[items.op]] = hidden
    table.give(np.arange(len(items.op)), outcome)


def _self_outcome(prices: Prices, number: int, table: Outcomes) -> tuple[int, int]:
    """What an op's own time did, where it called other ops and where it did not."""
    found = prices.of(number)
    calling = table.add(_work_of(found), found.reason or "unknown")
    if found.phases is not None:
        return calling, calling
    # An op that calls others is not bounded: they may be what reads its inputs.
    bound = bound_by_inputs(prices.trace.signatures[number], found.reason or "unknown")
    return calling, table.add(_work_of(bound), bound.reason or "unknown")


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
    """Ops whose work is done by ops below them (``aten::mean`` on a CPU is ``aten::sum`` and a division).

    An op that calls another of its own name has handed over too (``div_`` by a number is ``div_`` by a tensor).
    """
    ops = trace.ops
    done = np.zeros(len(ops.name), np.bool_)
    again = np.flatnonzero((ops.parent >= 0) & (taken(ops.name, ops.parent) == ops.name))
    done[ops.parent[again]] = True
    for name in distinct(ops.name).tolist():
        workers = workers_of(trace.strings[name])
        if not workers:
            continue
        is_worker = is_any(ops.name, [i for i, text in enumerate(trace.strings) if text in workers])
        above = taken(ops.parent, np.flatnonzero(is_worker))
        while (above >= 0).any():
            done[above[(above >= 0)]] |= ops.name[above[above >= 0]] == name
            above = taken(ops.parent, above)
    return done
