"""Kernels of a replayed device graph get back the ops that a replay loses.

One call replays a whole graph; its kernels share the call and name no op. The k-th launch of the capture is the k-th
kernel of the replay. The capture is looked for in a recording of it that the user names, then in this recording;
failing both, the same sequence of kernels launched one by one (the warm-up before the capture) serves. Names are
checked wherever the recording keeps the name of what a captured call launches; a graph that fits nothing stays
unlinked, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from diagnose.distinct import distinct, is_any
from diagnose.trace.arguments import ChainedOps
from diagnose.trace.link import Links, taken
from diagnose.trace.tables import Calls, Ints, Ops, Trace
from diagnose.work import Op

_GRAPH_LAUNCH: Final = re.compile(r"GraphLaunch")
_BEGIN, _END = re.compile(r"StreamBeginCapture"), re.compile(r"StreamEndCapture")
_NODE: Final = re.compile(r"Launch(Cooperative)?Kernel|ModuleLaunch|ExtLaunch|Memcpy\w*Async|Memset\w*Async")


class Captured(Struct, frozen=True):
    """One capture, or one plain run of the same kernels: in launch order, of some recording.

    Attributes:
        trace: Where it was recorded.
        op: Row of each launch's op, -1 where there is none.
        names: Names of what was launched, None where not recorded.
        is_capture: False for a plain run.
    """

    trace: Trace
    op: Ints
    names: tuple[str | None, ...]
    is_capture: bool


def link_graphs(trace: Trace, links: Links, capture: Trace | None = None) -> tuple[Trace, Links]:
    """Links the kernels of replayed graphs.

    Args:
        trace: The recording.
        links: Its links so far.
        capture: A recording of the graphs' capture.

    Returns:
        The recording with a copy of each op that launched a kernel of a replay appended to its ops (the last
        ``borrowed_ops`` ones; a copy for each replay, since each did the op's work once), and the links to them.
    """
    replays = _replays(trace, links)
    if not replays:
        note = () if capture is None else ("the recording replays no graph: the capture was not needed",)
        return trace, replace(links, notes=links.notes + note)
    known = [] if capture is None else captures(capture)
    known += captures(trace)
    found: list[tuple[Ints, Captured]] = []
    unfitting = 0
    for rows in replays:
        names = tuple(trace.strings[name] for name in trace.activities.name[rows].tolist())
        fitting = _fitting(names, known) or _plain_run(trace, links, rows)
        if fitting is None:
            unfitting += len(rows)
        else:
            found.append((rows, fitting))
    notes = [] if not unfitting else [f"{unfitting} kernels of replayed graphs have no known capture, and so no op"]
    if capture is not None and not any(each.trace is capture for _, each in found):
        notes.append("the capture given does not fit any replayed graph: its launches differ from the graph's kernels")
    borrowed = _Borrowed(trace, links.op)
    for rows, each in found:
        borrowed.add(rows, each)
    return borrowed.trace(), replace(links, op=borrowed.op, notes=links.notes + tuple(notes))


def _rows_named(calls: Calls, strings: Sequence[str], pattern: re.Pattern[str]) -> Ints:
    wanted = [index for index in distinct(calls.name).tolist() if pattern.search(strings[index])]
    return np.flatnonzero(is_any(calls.name, wanted))


def _replays(trace: Trace, links: Links) -> list[Ints]:
    """Activities of each graph launch, in the order of their nodes where recorded, else of their starts."""
    graphs = _rows_named(trace.calls, trace.strings, _GRAPH_LAUNCH)
    rows = np.flatnonzero(np.isin(links.call, graphs))
    order = rows[np.lexsort((trace.activities.start[rows], trace.activities.graph_node[rows], links.call[rows]))]
    cuts = np.flatnonzero(np.diff(links.call[order])) + 1
    return [part for part in np.split(order, cuts) if part.size]


def capture_starts(trace: Trace) -> Ints:
    """When captures of device graphs begin."""
    return trace.calls.start[_rows_named(trace.calls, trace.strings, _BEGIN)]


def captures(trace: Trace) -> list[Captured]:
    """Every graph capture in a recording: what was launched between its begin and its end, on any thread."""
    calls = trace.calls
    begins = _rows_named(calls, trace.strings, _BEGIN)
    ends = _rows_named(calls, trace.strings, _END)
    nodes = _rows_named(calls, trace.strings, _NODE)
    # A call that launched something at once was not captured.
    nodes = nodes[~np.isin(calls.correlation[nodes], trace.activities.correlation)]
    found = []
    for begin in begins.tolist():
        later = ends[calls.start[ends] >= calls.end[begin]]
        if not later.size:
            continue
        inside = nodes[(calls.start[nodes] >= calls.end[begin]) & (calls.end[nodes] <= calls.start[later[0]])]
        launched = calls.kernel[inside].tolist()
        names = tuple(trace.strings[name] if name >= 0 else None for name in launched)
        found.append(Captured(trace, calls.op[inside], names, is_capture=True))
    return found


def _fitting(names: tuple[str, ...], known: Sequence[Captured]) -> Captured | None:
    """The capture that a replay came from; None if none fits, or several with different ops do."""
    fits = [
        each
        for each in known
        if len(each.names) == len(names)
        and all(ours is None or ours == theirs for ours, theirs in zip(each.names, names, strict=True))
    ]
    if not fits:
        return None
    first = _signatures(fits[0])
    return fits[0] if all(_signatures(each) == first for each in fits[1:]) else None


def _signatures(captured: Captured) -> list[Op | None]:
    numbers = taken(captured.trace.ops.signature, captured.op).tolist()
    return [captured.trace.signatures[number] if number >= 0 else None for number in numbers]


def _plain_run(trace: Trace, links: Links, rows: Ints) -> Captured | None:
    """The same sequence of kernels, launched one by one in this recording."""
    activities = trace.activities
    linked = np.flatnonzero((links.op >= 0) & (links.call >= 0))
    linked = linked[np.argsort(trace.calls.start[links.call[linked]], kind="stable")]
    wanted, present = activities.name[rows], activities.name[linked]
    counts = [int((present == name).sum()) for name in distinct(wanted).tolist()]
    if not counts or min(counts) == 0:
        return None
    rarest = distinct(wanted)[int(np.argmin(counts))]
    offset = int(np.flatnonzero(wanted == rarest)[0])
    for place in np.flatnonzero(present == rarest).tolist():
        begin = place - offset
        part = linked[begin : begin + len(rows)] if begin >= 0 else linked[:0]
        if len(part) == len(rows) and (activities.name[part] == wanted).all():
            names = tuple(trace.strings[name] for name in wanted.tolist())
            return Captured(trace, links.op[part], names, is_capture=False)
    return None


class _Borrowed:
    """A recording that takes in ops of others."""

    def __init__(self, trace: Trace, op: Ints) -> None:
        self._trace = trace
        self._strings = {text: index for index, text in enumerate(trace.strings)}
        self._signatures: dict[int, tuple[int, Sequence[Op]]] = {id(trace): (0, trace.signatures)}
        self._count = len(trace.ops.name)
        self._columns: list[tuple[Ints, Ints]] = []
        self.op = op.copy()

    def add(self, rows: Ints, captured: Captured) -> None:
        """Links the activities ``rows`` to copies of the ops of a capture."""
        has_op = captured.op >= 0
        ops, copy = np.unique(captured.op[has_op], return_inverse=True)
        source = captured.trace
        if id(source) not in self._signatures:
            offset = sum(len(part) for _, part in self._signatures.values())
            self._signatures[id(source)] = (offset, source.signatures)
        add = self._strings.setdefault
        names = [add(source.strings[name], len(self._strings)) for name in source.ops.name[ops].tolist()]
        self.op[rows[has_op]] = self._count + copy.reshape(-1)
        self._columns.append((np.array(names, np.int64), source.ops.signature[ops] + self._signatures[id(source)][0]))
        self._count += len(ops)

    def trace(self) -> Trace:
        """The recording with the borrowed ops at the end of its table; they have no time and no parent."""
        if not self._columns:
            return self._trace
        names = np.concatenate([column for column, _ in self._columns])
        signatures = np.concatenate([column for _, column in self._columns])
        absent = np.full(len(names), -1, np.int64)
        nothing = np.zeros(len(names), np.int64)
        ops = self._trace.ops
        added = Ops(names, absent, absent, absent, absent, signatures, absent, nothing, absent, absent, absent)
        joined = Ops(*(np.concatenate([getattr(ops, name), getattr(added, name)]) for name in Ops.__struct_fields__))
        return replace(
            self._trace,
            strings=tuple(self._strings),
            ops=joined,
            signatures=ChainedOps(*(part for _, part in self._signatures.values())),
            borrowed_ops=len(names),
        )
