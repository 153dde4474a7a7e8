"""Kineto's events to columns."""

from __future__ import annotations

import gc
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import UNSET, Raw
from numpy.typing import NDArray

from diagnose.trace import kineto
from diagnose.trace.arguments import Arguments, LazyOps
from diagnose.trace.extras import Extras, decode_extras
from diagnose.trace.frames import is_telling
from diagnose.trace.host import nest, skip
from diagnose.trace.kineto import Event
from diagnose.trace.kineto_file import File, decode_file
from diagnose.trace.numbers import nanoseconds
from diagnose.trace.source import Source, name_of, read_bytes
from diagnose.trace.tables import OTHER_SYNC, Activities, Calls, DeviceFacts, Frames, Ints, Marks, Ops, Trace, Waits


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
        file, dropped = decode_file(content, path or "the file object")
        del content
        return Reading(*_Builder(file, dropped).build(), path)


def _column(values: Sequence[int]) -> Ints:
    try:
        return np.array(values, np.int64).reshape(-1)
    except OverflowError:
        return np.array([value if -(1 << 63) <= value < 1 << 63 else -1 for value in values], np.int64)


def _grid(values: Sequence[tuple[int, int, int]]) -> Ints:
    return _column([size for triple in values for size in triple]).reshape(-1, 3)


_UNKNOWN: Final = (1 << 32) - 1
"""What an unsigned 32-bit number says for none."""


def _known(values: Sequence[int]) -> Ints:
    found = _column(values)
    return np.where((found >= 0) & (found < _UNKNOWN), found, -1)


class _Interned:
    """Values to small ids, in order of first appearance."""

    def __init__(self) -> None:
        self.ids: defaultdict[Any, int] = defaultdict(itertools.count().__next__)

    def column(self, values: Sequence[Any]) -> Ints:
        return np.fromiter(map(self.ids.__getitem__, values), np.int64, len(values))


class _Rows(NamedTuple):
    """Events of one table in order of start, with their times on the recording's clock."""

    events: list[Event]
    start: Ints
    end: Ints


def _of(events: Sequence[Event], mask: NDArray[np.bool_]) -> list[Event]:
    return list(itertools.compress(events, mask.tobytes()))


def _rows_at(events: Sequence[Event], rows: Ints, start: Ints, end: Ints) -> _Rows:
    return _Rows(list(map(events.__getitem__, rows.tolist())), start[rows], end[rows])


def _distinct(*columns: Sequence[Any]) -> tuple[Ints, tuple[Arguments, ...]]:
    """Number of each row among the distinct ones, and those, from the columns of ``Arguments`` in their order."""
    varying = [column for column in columns if column and column.count(column[0]) < len(column)]
    met = _Interned()
    number = met.column(list(zip(*varying, strict=True)) if len(varying) != 1 else varying[0])
    number = number if varying else np.zeros(len(columns[0]), np.int64)
    _, first = np.unique(number, return_index=True)
    return number, tuple(Arguments(*(column[row] for column in columns)) for row in first.tolist())


_PART: Final = 1 << 16
_THREAD: Final = attrgetter("pid", "tid")
_TABLES: Final = (kineto.OP, kineto.CALL, kineto.ACTIVITY, kineto.ANNOTATION, kineto.OVERHEAD, kineto.WAIT)


class _Builder:
    """One file on its way to a Trace; holds what the tables share while they are built."""

    def __init__(self, file: File, dropped: int) -> None:
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
        named = [event.cat for event in events]
        categories = dict(Counter(named))
        code_of = {name: kineto.CATEGORY.get(name, 0) for name in categories}
        codes = np.fromiter(map(code_of.__getitem__, named), np.int8, len(named))
        rows = self._tables(events, codes)
        peak = self._peak_memory(_of(events, codes == kineto.MEMORY))
        has_places = self.extras is not None and bool(self.extras.op_places)
        stacks = [] if has_places else _of(events, codes == kineto.STACK)
        count = len(events)
        self.file.trace_events = UNSET
        del events, named
        filled = [part for code, part in rows.items() if part.events and code != kineto.WAIT]
        epoch = min((int(part.start[0]) for part in filled), default=0)
        latest = max((int(part.end.max()) for part in filled), default=epoch)
        rows = {code: part._replace(start=part.start - epoch, end=part.end - epoch) for code, part in rows.items()}
        del filled  # each table's events go when its columns are made
        ops, signatures = self._ops(rows.pop(kineto.OP))
        calls, ops = self._calls(rows.pop(kineto.CALL), ops)
        activities = self._activities(rows.pop(kineto.ACTIVITY))
        annotations, overheads = self._marks(rows[kineto.ANNOTATION]), self._marks(rows[kineto.OVERHEAD])
        frames = self._frames(stacks, epoch)
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
            frames=frames,
            waits=self._waits(rows[kineto.WAIT]),
        )  # fmt: skip
        return trace, self.extras

    def _tables(self, events: Sequence[Event], codes: NDArray[np.int8]) -> dict[int, _Rows]:
        """The rows of each table; times are read and put in order for all of them at once."""
        is_row = np.isin(codes, _TABLES)
        chosen, kinds = _of(events, is_row), codes[is_row]
        phases = [event.ph for event in chosen]
        if phases.count("X") < len(phases):
            is_row = np.array([phase == "X" for phase in phases], np.bool_)
            chosen, kinds = _of(chosen, is_row), kinds[is_row]
        order, start, end = self._times(chosen)
        ordered = kinds[order]
        return {code: _rows_at(chosen, order[ordered == code], start, end) for code in _TABLES}

    def _times(self, events: Sequence[Event]) -> tuple[Ints, Ints, Ints]:
        """The usable rows by start, and where each begins and ends."""
        start, has_start = nanoseconds([event.ts for event in events])
        length, has_length = nanoseconds([event.dur for event in events])
        length = np.maximum(length, 0)
        # An end beyond 64 bits is as unusable as a missing one.
        is_usable = has_start & has_length & (np.abs(start) < 1 << 61) & (length < 1 << 61)
        order = np.argsort(start, kind="stable")
        if not is_usable.all():
            order = order[is_usable[order]]
            self.dropped += len(events) - len(order)
        return order, start, start + length

    def _thread_column(self, events: Sequence[Event]) -> Ints:
        return self.threads.column(list(map(_THREAD, events)))

    def _marks(self, rows: _Rows) -> Marks:
        names = self.names.column([event.name for event in rows.events])
        return Marks(names, self._thread_column(rows.events), rows.start, rows.end)

    def _ops(self, rows: _Rows) -> tuple[Ops, LazyOps]:
        events = rows.events
        names, overloads = kineto.without_overloads([event.name for event in events])
        distinct_calls = _Interned()
        # Part by part: the arguments of all ops at once would take as much memory as the file.
        parts = [
            self._arguments(events[part], names[part], overloads[part], distinct_calls)
            for first in range(0, max(1, len(events)), _PART)
            for part in [slice(first, first + _PART)]
        ]
        external, signature, sequence, forward_thread = np.concatenate(parts, axis=1)
        collective = [row for row, name in enumerate(names) if name == "record_param_comms"]
        metadata = np.full(len(events), -1, np.int64)
        metadata[collective] = [self._collective(events[row].args) for row in collective]
        nothing = np.zeros(0, np.int64)
        ops = Ops(
            self.names.column(names), self._thread_column(events), rows.start, rows.end,
            external, signature, nothing, nothing, sequence, forward_thread, metadata,
        )  # fmt: skip
        return ops, LazyOps(tuple(distinct_calls.ids), self.extras)

    def _arguments(
        self, events: Sequence[Event], names: list[str], overloads: list[str | None], distinct_calls: _Interned
    ) -> Ints:
        """External id, number among the distinct calls, sequence number and forward thread of some ops [4, n]."""
        args = kineto.decode_args(events, kineto.OpArgs)
        external = _column([arg.external_id for arg in args])
        known = {} if self.extras is None else self.extras.outputs
        number, calls = _distinct(
            names,
            kineto.texts([arg.dims for arg in args]),
            kineto.texts([arg.types for arg in args]),
            kineto.texts([arg.strides for arg in args]),
            kineto.texts([arg.concrete for arg in args]),
            self._recorded_lists(external),
            overloads,
            [kineto.attributes(arg) if arg.backend else () for arg in args],  # generated kernels: few or none
            [known.get(id_) for id_ in external.tolist()] if known else [None] * len(args),
        )
        signature = distinct_calls.column(calls)[number] if calls else number
        sequence, forward_thread = (
            _column([arg.sequence for arg in args]),
            _column([arg.forward_thread for arg in args]),
        )
        return np.stack([external, signature, sequence, forward_thread])

    def _recorded_lists(self, external: Ints) -> Sequence[Any]:
        """The tensor lists (by index) that our own recorder kept of each op."""
        lists = {} if self.extras is None else self.extras.list_arguments
        if not lists:
            return [None] * len(external)
        return [tuple(sorted(lists[id_].items())) if id_ in lists else None for id_ in external.tolist()]

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
        named = kineto.texts([arg.collective for arg in args])
        collective = [row for row, name in enumerate(named) if name]
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

    def _waits(self, rows: _Rows) -> Waits:
        args = kineto.decode_args(rows.events, kineto.WaitArgs)
        kinds = [kineto.WAIT_KIND.get(event.name, OTHER_SYNC) for event in rows.events]
        return Waits(
            _column(kinds), _column([arg.device for arg in args]), _known([arg.stream for arg in args]),
            _known([arg.wait_on_stream for arg in args]), _known([arg.record for arg in args]),
            _known([arg.correlation for arg in args]), rows.start, rows.end,
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

    def _frames(self, events: Sequence[Event], epoch: int) -> Frames | None:
        """Python frames that say where an op came from, of the threads that ran ops."""
        names = [event.name for event in events]
        telling = {name: is_telling(name) for name in set(names)}
        lanes = self.threads.ids
        kept = [
            event for event in itertools.compress(events, map(telling.__getitem__, names)) if _THREAD(event) in lanes
        ]
        if not kept:
            return None
        rows = _rows_at(kept, *self._times(kept))
        short = _Interned()
        column = short.column([event.name for event in rows.events])
        thread = self._thread_column(rows.events)
        return Frames(column, thread, rows.start - epoch, rows.end - epoch, tuple(short.ids))

    def _peak_memory(self, instants: Sequence[Event]) -> int | None:
        events = [event for event in instants if event.name == "[memory]"]
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
