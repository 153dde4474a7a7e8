"""A recording as columns: what happened, without any trace format's spelling.

Times are whole nanoseconds (int64) as offsets from ``Trace.epoch_ns``. Strings are ids into ``Trace.strings``. A link
is a row number into another table, -1 where there is none. Rows are sorted by start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from diagnose.work import Op

Ints = NDArray[np.int64]

KERNEL: Final = 0
COPY: Final = 1
SET: Final = 2
"""Kinds of activity: device kernel, memory copy, memory set."""


class Ops(Struct, frozen=True):
    """Host ops (``cpu_op``).

    Attributes:
        name: String id.
        thread: Host thread id (index into ``Trace.threads``).
        start, end: ns; an end is cut to the enclosing op's.
        external_id: The profiler's id of the op, -1 where absent.
        signature: Index into ``Trace.signatures``.
        parent: Row of the enclosing op on the same thread, -1 at the top.
        depth: How many ops enclose it.
        sequence: autograd's sequence number, -1 where absent.
        forward_thread: The profiler's id of the thread of the forward op that a backward op belongs to, else -1.
        metadata: Index into ``Trace.metadata`` (collectives), -1 for none.
    """

    name: Ints
    thread: Ints
    start: Ints
    end: Ints
    external_id: Ints
    signature: Ints
    parent: Ints
    depth: Ints
    sequence: Ints
    forward_thread: Ints
    metadata: Ints


class Calls(Struct, frozen=True):
    """Runtime and driver calls of the host: launches, copies, synchronisations, allocations.

    Attributes:
        op: Row of the innermost op that holds the call, -1 where there is none.
        kernel: String id of what the call launches, -1 where not recorded (only ROCm's calls say).
        is_blocking: The call waits for the device by its name; ``Links.is_blocking`` adds pageable copies.
    """

    name: Ints
    thread: Ints
    start: Ints
    end: Ints
    correlation: Ints
    external_id: Ints
    op: Ints
    kernel: Ints
    is_blocking: NDArray[np.bool_]


class Activities(Struct, frozen=True):
    """What ran on devices.

    Attributes:
        name: String id.
        kind: KERNEL, COPY or SET.
        device: Device id as recorded; ``Trace.devices`` describes those in the header.
        stream: Stream id, -1 where not recorded.
        start, end: ns.
        correlation: The launch's correlation, -1 where absent.
        external_id: -1 where absent.
        grid, block: [n, 3], -1 where not recorded.
        shared_memory, registers: Bytes and count, -1 where not recorded.
        bytes: Of copies and sets, -1 where not recorded.
        metadata: Index into ``Trace.metadata`` (collectives), -1 for none.
        graph_node: Id of the node of the device graph that was replayed, -1 where not recorded.
    """

    name: Ints
    kind: Ints
    device: Ints
    stream: Ints
    start: Ints
    end: Ints
    correlation: Ints
    external_id: Ints
    grid: Ints
    block: Ints
    shared_memory: Ints
    registers: Ints
    bytes: Ints
    metadata: Ints
    graph_node: Ints


class Marks(Struct, frozen=True):
    """Named host intervals: annotations, and the profiler's own overhead events."""

    name: Ints
    thread: Ints
    start: Ints
    end: Ints


STREAM_WAIT, STREAM_SYNC, EVENT_SYNC, CONTEXT_SYNC, OTHER_SYNC = range(5)
"""Kinds of wait; in the first a stream waits for an event of another, in the others the host waits for the device."""


class Waits(Struct, frozen=True):
    """Recorded waits, one row each (``cuda_sync``, which most recordings do not have).

    Attributes:
        kind: STREAM_WAIT ... OTHER_SYNC.
        device: As recorded, -1 where absent.
        stream: The stream that waits, or that the host waits for; -1 where absent, or where it is every stream.
        wait_on_stream: The stream on which the awaited event was recorded, -1 where absent.
        record: Correlation of the call that recorded the awaited event, -1 where absent.
        correlation: Of the call that waits, -1 where absent.
        start, end: ns, of the call rather than of the stream's waiting.
    """

    kind: Ints
    device: Ints
    stream: Ints
    wait_on_stream: Ints
    record: Ints
    correlation: Ints
    start: Ints
    end: Ints


def no_waits() -> Waits:
    """A table without rows."""
    return Waits(*(np.zeros(0, np.int64) for _ in range(8)))


class Frames(Struct, frozen=True):
    """Python functions that ran, without torch's and Python's own.

    Attributes:
        name: Index into ``names``.
        thread: Host thread id.
        start, end: ns.
        names: Distinct names as recorded: ``model.py(12): forward``, ``nn.Module: Linear_3``.
    """

    name: Ints
    thread: Ints
    start: Ints
    end: Ints
    names: tuple[str, ...]


class DeviceFacts(Struct, frozen=True):
    """What the header says of a device; None where it does not."""

    index: int
    name: str
    kind: str
    compute_capability: tuple[int, int] | None = None
    sms: int | None = None
    memory_bytes: int | None = None
    threads_per_sm: int | None = None
    registers_per_sm: int | None = None
    shared_memory_per_sm: int | None = None


class Trace(Struct, frozen=True):
    """A whole recording.

    Attributes:
        epoch_ns: Where offset 0 lies on the recording's clock.
        end_ns: Offset of the latest end.
        threads: Names for people, ``process/thread``.
        devices: From the header.
        event_count: Of every category.
        borrowed_ops: How many of the last ops are copies, for kernels of replayed graphs (``graphs``).
        missing_devices: The header or runtime calls speak of a device, yet there is no device activity.
        notes: What was odd, a sentence each.
        categories: Events by category.
        waits: What waited for what, where that was recorded.
        metadata: What collectives say of themselves: ``collective`` (its name), ``dtype`` (torch's name),
            ``elements_in``, ``elements_out``, ``group_size``, ``group``, ``group_description``, ``ranks``; as many of
            them as were recorded.
        frames: Python frames, None where none says where an op came from, or our own recorder's key says it better.
        group_sizes: Of the job's process groups, distinct and sorted; () where the header does not list them.
    """

    epoch_ns: int
    end_ns: int
    strings: tuple[str, ...]
    threads: tuple[str, ...]
    ops: Ops
    calls: Calls
    activities: Activities
    annotations: Marks
    overheads: Marks
    signatures: Sequence[Op]
    metadata: tuple[Mapping[str, str | int], ...]
    devices: tuple[DeviceFacts, ...]
    event_count: int
    has_shapes: bool
    has_stacks: bool
    process_rank: int | None
    world_size: int | None
    group_sizes: tuple[int, ...] = ()
    missing_devices: bool = False
    borrowed_ops: int = 0
    notes: tuple[str, ...] = ()
    categories: Mapping[str, int] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    frames: Frames | None = None
    waits: Waits = field(default_factory=no_waits)
