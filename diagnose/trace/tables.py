"""A recording as columns: what happened, without any trace format's spelling.

Times are whole nanoseconds (int64) as offsets from ``Trace.epoch_ns``. Strings are ids into ``Trace.strings``. A link
is a row number into another table, -1 where there is none. Rows are sorted by start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.work import Op

Ints = NDArray[np.int64]

KERNEL: Final = 0
COPY: Final = 1
SET: Final = 2
SELF: Final = 3
"""Kinds of activity: device kernel, memory copy, memory set, an op's self time on a CPU."""


@dataclass(frozen=True, slots=True)
class Ops:
    """Host ops (``cpu_op``).

    Attributes:
        name: String id.
        thread: Host thread id (index into ``Trace.threads``).
        start, end: ns.
        external_id: The profiler's id of the op, -1 where absent.
        signature: Index into ``Trace.signatures``, -1 where there is none.
        parent: Row of the enclosing op on the same thread, -1 at the top.
        sequence: autograd's sequence number, -1 where absent.
    """

    name: Ints
    thread: Ints
    start: Ints
    end: Ints
    external_id: Ints
    signature: Ints
    parent: Ints
    sequence: Ints


@dataclass(frozen=True, slots=True)
class Calls:
    """Runtime and driver calls of the host: launches, copies, synchronisations, allocations.

    Attributes:
        is_blocking: The call waits for the device by its name (synchronise, synchronous or pageable copy).
    """

    name: Ints
    thread: Ints
    start: Ints
    end: Ints
    correlation: Ints
    external_id: Ints
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


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole recording."""

    epoch_ns: int
    end_ns: int
    strings: tuple[str, ...]
    threads: tuple[str, ...]
    ops: Ops
    calls: Calls
    activities: Activities
    annotations: Marks
    overheads: Marks
    signatures: tuple[Op, ...]
    metadata: tuple[Mapping[str, str | int], ...]
    devices: tuple[DeviceFacts, ...]
    event_count: int
    has_shapes: bool
    has_stacks: bool
    process_rank: int | None
    world_size: int | None
    notes: tuple[str, ...] = ()
    categories: Mapping[str, int] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
