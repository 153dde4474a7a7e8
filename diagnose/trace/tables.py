"""A recording as columns: what happened, without any trace format's spelling.

Times are whole nanoseconds (int64) as offsets from ``Trace.epoch_ns``. Strings are ids into ``Trace.strings``. A link
is a row number into another table, -1 where there is none. Rows are sorted by start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.work import Op

Ints = NDArray[np.int64]

KERNEL: Final = 0
COPY: Final = 1
SET: Final = 2
"""Kinds of activity: device kernel, memory copy, memory set."""


@dataclass(frozen=True, slots=True)
class Ops:
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


@dataclass(frozen=True, slots=True)
class Calls:
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


@dataclass(frozen=True, slots=True)
class Activities:
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


@dataclass(frozen=True, slots=True)
class Marks:
    """Named host intervals: annotations, and the profiler's own overhead events."""

    name: Ints
    thread: Ints
    start: Ints
    end: Ints


@dataclass(frozen=True, slots=True)
class DeviceFacts:
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


@dataclass(frozen=True, slots=True)
class Trace:
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
        metadata: What collectives say of themselves: ``collective`` (its name), ``dtype`` (torch's name),
            ``elements_in``, ``elements_out``, ``group_size``, ``group``, ``group_description``, ``ranks``; as many of
            them as were recorded.
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
