"""Kineto's events to columns."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from diagnose.trace import kineto
from diagnose.trace.arguments import Arguments, LazyOps
from diagnose.trace.extras import Extras, decode_extras
from diagnose.trace.host import nest, skip
from diagnose.trace.kineto import Event
from diagnose.trace.numbers import nanoseconds
from diagnose.trace.source import Source, name_of, read_bytes
from diagnose.trace.tables import Activities, Calls, DeviceFacts, Ints, Marks, Ops, Trace


class Reading(NamedTuple):
    """What a file held: the columns, and our own recorder's key if there is one."""

    trace: Trace
    extras: Extras | None
    path: str | None


@contextmanager
def collector_off() -> Iterator[None]:
    """Python's cyclic garbage collector costs 3x to 12x while millions of objects are made (FACTS, section 2)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_trace(source: Source) -> Reading:
    """Reads a Kineto trace.

    Args:
        source: Path, URL or binary file object; plain or gzip.

    Raises:
        TraceError: It cannot be read, or is no trace.
    """
    return parse_trace(read_bytes(source), name_of(source))


def parse_trace(content: bytes, path: str | None) -> Reading:
    """The same from bytes that were read already.

    Args:
        content: The JSON text.
        path: How to call it in messages, and in the report.

    Raises:
        TraceError: It is no trace.
    """
    with collector_off():
        file, dropped = kineto.decode_file(content, path or "the file object")
        del content
        return Reading(*_Builder(file, dropped).build(), path)


def _column(values: Sequence[int]) -> Ints:
    try:
        return np.array(values, np.int64).reshape(-1)
    except OverflowError:
        return np.array([value if -(1 << 63) <= value < 1 << 63 else -1 for value in values], np.int64)


def _grid(values: Sequence[tuple[int, int, int]]) -> Ints:
    return _column([size for triple in values for size in triple]).reshape(-1, 3)


class _Interned:
    """Values to small ids, in order of first appearance."""

    def __init__(self) -> None:
        self.ids: dict[Any, int] = {}

    def column(self, values: Sequence[Any]) -> Ints:
        add = self.ids.setdefault
        ids = self.ids
        return np.array([add(value, len(ids)) for value in values], np.int64).reshape(-1)


class _Rows(NamedTuple):
    """Events of one table in order of start, with their times on the recording's clock."""

    events: list[Event]
    start: Ints
    end: Ints


class _Builder:
    """One file on its way to a Trace; holds what the tables share while they are built."""

    def __init__(self, file: kineto.File, dropped: int) -> None:
        self.file = file
        self.names = _Interned()
        self.threads = _Interned()
        self.notes: list[str] = []
        self.dropped = dropped
        self.extras: Extras | None = None
        self.metadata: list[Mapping[str, str | int]] = []
        self.metadata_ids: dict[tuple[tuple[str, str | int], ...], int] = {}
        if file.diagnose is not UNSET:
            self.extras, note = decode_extras(file.diagnose)
            self.notes += [note] if note else []

    def build(self) -> tuple[Trace, Extras | None]:
        events: list[Event] = [] if self.file.trace_events is UNSET else self.file.trace_events
        seen = _Interned()
        category = seen.column([event.cat for event in events])
        counts = np.bincount(category, minlength=len(seen.ids)).tolist()
        categories = dict(zip(seen.ids, counts, strict=True))
        codes = np.array([kineto.CATEGORY.get(name, 0) for name in seen.ids], np.int8)[category]
        table = np.empty(len(events), object)
        table[:] = events
        rows = {
            code: self._rows(table[codes == code])
            for code in (kineto.OP, kineto.CALL, kineto.ACTIVITY, kineto.ANNOTATION, kineto.OVERHEAD)
        }
        peak = self._peak_memory(table[codes == kineto.MEMORY])
        count = len(events)
        self.file.trace_events = UNSET
        del events, table
        filled = [part for part in rows.values() if part.events]
        epoch = min((int(part.start[0]) for part in filled), default=0)
        latest = max((int(part.end.max()) for part in filled), default=epoch)
        rows = {code: part._replace(start=part.start - epoch, end=part.end - epoch) for code, part in rows.items()}
        ops, signatures = self._ops(rows[kineto.OP])
        calls, ops = self._calls(rows[kineto.CALL], ops)
        activities = self._activities(rows[kineto.ACTIVITY])
        annotations, overheads = self._marks(rows[kineto.ANNOTATION]), self._marks(rows[kineto.OVERHEAD])
        devices = self._devices()
        threads = tuple(f"{pid}/{tid}" for pid, tid in self.threads.ids)
        strange = sorted(set(categories) - set(kineto.CATEGORY) - kineto.HOST_SIDE)
        has_device_calls = len(calls.start) > 0
        is_missing = not len(activities.start) and (has_device_calls or bool(devices))
        if strange and not len(activities.start):
            self.notes.append(f"event categories that this program does not understand: {', '.join(strange)}")
        if self.dropped:
            self.notes.append(f"{self.dropped} events without a usable name or time were left out")
        info = kineto.header(self.file.distributed_info, kineto.DistributedInfo, kineto.DistributedInfo())
        trace = Trace(
            epoch_ns=epoch, end_ns=latest - epoch, strings=tuple(self.names.ids), threads=threads,
            ops=ops, calls=calls, activities=activities,
            annotations=annotations, overheads=overheads,
            signatures=signatures, metadata=tuple(self.metadata), devices=devices, event_count=count,
            has_shapes=signatures.has_shapes, has_stacks=categories.get("python_function", 0) > 0,
            process_rank=info.rank, world_size=info.world_size, group_sizes=kineto.group_sizes(info),
            missing_devices=is_missing,
            notes=tuple(self.notes), categories=categories, peak_memory_bytes=peak,
        )  # fmt: skip
        return trace, self.extras

    def _rows(self, table: NDArray[Any]) -> _Rows:
        events = [event for event in table.tolist() if event.ph == "X"]
        start, has_start = nanoseconds([event.ts for event in events])
        length, has_length = nanoseconds([event.dur for event in events])
        length = np.maximum(length, 0)
        # An end beyond 64 bits is as unusable as a missing one.
        is_usable = has_start & has_length & (np.abs(start) < 1 << 61) & (length < 1 << 61)
        order = np.argsort(start, kind="stable")
        order = order[is_usable[order]]
        self.dropped += len(events) - len(order)
        objects = np.empty(len(events), object)
        objects[:] = events
        return _Rows(objects[order].tolist(), start[order], (start + length)[order])

    def _thread_column(self, events: Sequence[Event]) -> Ints:
        return self.threads.column([(event.pid, event.tid) for event in events])

    def _marks(self, rows: _Rows) -> Marks:
        names = self.names.column([event.name for event in rows.events])
        return Marks(names, self._thread_column(rows.events), rows.start, rows.end)

    def _ops(self, rows: _Rows) -> tuple[Ops, LazyOps]:
        events = rows.events
        args = kineto.decode_args(events, kineto.OpArgs)
        external = _column([arg.external_id for arg in args])
        lists, overloads = self._recorded_extras(external)
        keys: list[tuple[Any, ...]] = [  # plain tuples: only the distinct ones become Arguments
            (event.name, bytes(arg.dims), bytes(arg.types), bytes(arg.strides), bytes(arg.concrete), many, over)
            for event, arg, many, over in zip(events, args, lists, overloads, strict=True)
        ]
        for row in [row for row, arg in enumerate(args) if arg.backend]:  # generated kernels: few or none
            keys[row] = (*keys[row], kineto.attributes(args[row]))
        outputs = {} if self.extras is None else self.extras.outputs
        for row in [row for row, id_ in enumerate(external.tolist()) if id_ in outputs] if outputs else ():
            keys[row] = (*keys[row][:7], (), outputs[int(external[row])])
        signatures = _Interned()
        signature = signatures.column(keys)
        collective = [row for row, event in enumerate(events) if event.name == "record_param_comms"]
        metadata = np.full(len(events), -1, np.int64)
        metadata[collective] = [self._collective(events[row].args) for row in collective]
        nothing = np.zeros(0, np.int64)
        ops = Ops(
            self.names.column([event.name for event in events]), self._thread_column(events), rows.start, rows.end,
            external, signature, nothing, nothing,
            _column([arg.sequence for arg in args]), _column([arg.forward_thread for arg in args]), metadata,
        )  # fmt: skip
        return ops, LazyOps(tuple(Arguments(*key) for key in signatures.ids), self.extras)

    def _recorded_extras(self, external: Ints) -> tuple[Sequence[Any], Sequence[Any]]:
        """What our own recorder kept of each op: its tensor lists (by index) and its overload name."""
        nothing: Sequence[None] = [None] * len(external)
        if self.extras is None:
            return nothing, nothing
        lists, overloads = self.extras.list_arguments, self.extras.overloads
        ids = external.tolist()
        many = [tuple(sorted(lists[id_].items())) if id_ in lists else None for id_ in ids] if lists else nothing
        names = self.extras.overload_names
        over = [names[overloads[id_]] if overloads.get(id_, len(names)) < len(names) else None for id_ in ids]
        return many, over if overloads else nothing

    def _calls(self, rows: _Rows, ops: Ops) -> tuple[Calls, Ops]:
        """Calls with the op that each was made in; ops nested."""
        args = kineto.decode_args(rows.events, kineto.CallArgs)
        names = [event.name for event in rows.events]
        blocking = {name: kineto.BLOCKING.search(name) is not None for name in set(names)}
        thread = self._thread_column(rows.events)
        is_op = np.arange(len(ops.start) + len(names)) < len(ops.start)
        nesting = nest(
            np.concatenate([ops.thread, thread]),
            np.concatenate([ops.start, rows.start]),
            np.concatenate([ops.end, rows.end]),
        )
        parent = skip(nesting.parent, is_op)
        count = len(ops.start)
        own = parent[:count]
        depth = nesting.depth[:count]  # calls hold no ops in practice; if they do, depth counts them too
        calls = Calls(
            self.names.column(names), thread, rows.start, rows.end,
            _column([arg.correlation for arg in args]), _column([arg.external_id for arg in args]), parent[count:],
            self._optional_names([arg.kernel for arg in args]), np.array([blocking[name] for name in names], np.bool_),
        )  # fmt: skip
        nested = Ops(
            ops.name, ops.thread, ops.start, nesting.end[:count], ops.external_id, ops.signature, own, depth,
            ops.sequence, ops.forward_thread, ops.metadata,
        )  # fmt: skip
        return calls, nested

    def _activities(self, rows: _Rows) -> Activities:
        events = rows.events
        args = kineto.decode_args(events, kineto.ActivityArgs)
        metadata = np.full(len(events), -1, np.int64)
        collective = [row for row, arg in enumerate(args) if bytes(arg.collective)]
        metadata[collective] = [self._collective(events[row].args) for row in collective]
        return Activities(
            self.names.column([event.name for event in events]),
            np.array([kineto.KIND[event.cat] for event in events], np.int64),
            _column([arg.device for arg in args]), _column([arg.stream for arg in args]), rows.start, rows.end,
            _column([arg.correlation for arg in args]), _column([arg.external_id for arg in args]),
            _grid([arg.grid for arg in args]), _grid([arg.block for arg in args]),
            _column([arg.shared_memory for arg in args]), _column([arg.registers for arg in args]),
            _column([arg.bytes for arg in args]), metadata, _column([arg.graph_node for arg in args]),
        )  # fmt: skip

    def _optional_names(self, names: Sequence[str]) -> Ints:
        """String ids, -1 for an empty name."""
        ids = np.full(len(names), -1, np.int64)
        rows = [row for row, name in enumerate(names) if name]
        ids[rows] = self.names.column([names[row] for row in rows])
        return ids

    def _collective(self, raw: Raw) -> int:
        """Keeps what a collective says of itself, in our words; keys outside the list are dropped."""
        fields = kineto.header(raw, dict[str, Any], {})
        kept = {
            ours: value
            for theirs, ours in kineto.COLLECTIVE_KEYS.items()
            if isinstance(value := fields.get(theirs), (str, int)) and value != ""
        }
        dtype = str(kept.get("dtype", "")).lower()
        if dtype:
            kept["dtype"] = kineto.SCALAR_TYPES.get(dtype, dtype)
        found = self.metadata_ids.setdefault(tuple(kept.items()), len(self.metadata))
        if found == len(self.metadata):
            self.metadata.append(kept)
        return found

    def _peak_memory(self, table: NDArray[Any]) -> int | None:
        events = [event for event in table.tolist() if event.name == "[memory]"]
        on_device = [arg.allocated for arg in kineto.decode_args(events, kineto.MemoryArgs) if arg.device_type > 0]
        return max((value for value in on_device if value >= 0), default=None)

    def _devices(self) -> tuple[DeviceFacts, ...]:
        listed: list[Raw] = kineto.header(self.file.device_properties, list[Raw], [])
        found = [kineto.loose_args(raw, kineto.DeviceProperties) for raw in listed]
        return tuple(
            DeviceFacts(
                device.id, device.name, "gpu" if device.major is not None else "other",
                None if device.major is None or device.minor is None else (device.major, device.minor),
                device.sms, device.memory, device.threads_per_sm, device.registers_per_sm, device.shared_memory_per_sm,
            )
            for device in found
        )  # fmt: skip
