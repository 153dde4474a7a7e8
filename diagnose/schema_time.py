"""Rows of the report about where wall time goes, and the types that all of its rows share.

``schema`` is the report; everything here is part of it, and is taken from there.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Bound = Literal["compute", "memory", "communication", "overhead"]
Part = Literal[
    "compute_roof", "compute_above_roof", "memory_roof", "memory_above_roof",
    "exposed_communication", "exposed_copy",
    "small_kernels", "idle_launch", "idle_sync", "idle_data", "idle_allocator", "idle_compile", "idle_gc",
    "idle_startup", "idle_slot",
    "uncosted", "carried_over", "idle_profiler", "idle_dependency", "idle_queued", "idle_unknown",
]  # fmt: skip

BOUND_OF_PART: Final[dict[str, Bound | None]] = {
    "compute_roof": "compute", "compute_above_roof": "compute",
    "memory_roof": "memory", "memory_above_roof": "memory",
    "exposed_communication": "communication", "exposed_copy": "communication",
    "small_kernels": "overhead", "idle_launch": "overhead", "idle_sync": "overhead", "idle_data": "overhead",
    "idle_allocator": "overhead", "idle_compile": "overhead", "idle_gc": "overhead", "idle_startup": "overhead",
    "idle_slot": "overhead",
    "uncosted": None, "carried_over": None, "idle_profiler": None, "idle_dependency": None, "idle_queued": None,
    "idle_unknown": None,
}  # fmt: skip
"""The kind of limit that each part of the waterfall belongs to; None: to no kind."""

Nanoseconds = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Rate = Annotated[float, Meta(ge=0)]


class WaterfallRow(Struct, frozen=True):
    """``step`` None is the whole window; ``share`` is of its wall time."""

    process_rank: int | None
    device: str
    step: int | None
    part: Part
    bound: Bound | None
    ns: Nanoseconds
    share: Share


class IdleRow(Struct, frozen=True, kw_only=True):
    """Idle time of one device, of one part, from one place; the rows of a part sum to it over the whole window.

    Attributes:
        op, call: Of the launch that ended the interval; of ``idle_sync`` of the call that the host waited in. On a CPU
            the op that ran next. None where not recorded, or where nothing followed.
        module, line: Where ``op`` was called.
        count: Idle intervals.
    """

    process_rank: int | None
    device: str
    part: Part
    bound: Bound | None
    op: str | None
    call: str | None
    module: str | None
    line: str | None
    count: Count
    ns: Nanoseconds


class SynchronizationRow(Struct, frozen=True, kw_only=True):
    """Calls in which the host waited for the device, from one place and for one thing.

    Attributes:
        call: The runtime call.
        op, module, line: What made it, and where that was called.
        awaited, awaited_op: What ended last before the call returned, and its op; None where nothing was running.
        ns: Time inside the calls. A host that waits because the device is the bottleneck loses nothing by it.
        idle_ns: Device time that the late launches after it cost (``idle_sync``), over all devices.
    """

    process_rank: int | None
    call: str
    op: str | None
    module: str | None
    line: str | None
    awaited: str | None
    awaited_op: str | None
    count: Count
    ns: Nanoseconds
    idle_ns: Nanoseconds


class PhaseRow(Struct, frozen=True, kw_only=True):
    """A part of the waterfall in one phase; the phases of a part sum to it, in each step and over the window.

    ``phase``: ``forward``, ``backward``, ``optimizer``, ``data``, ``prefill``, ``decode``, ``prefill and decode``, None
    for the rest. Idle time is in the phase of the launch that ends it, waiting for data in ``data``. ``share`` is of
    the step's wall time (``step`` None: of the window's).
    """

    process_rank: int | None
    device: str
    step: int | None
    phase: str | None
    part: Part
    bound: Bound | None
    ns: Nanoseconds
    share: Share


class AnnotationRow(Struct, frozen=True, kw_only=True):
    """A part of the waterfall under one of the user's annotations (the innermost), None for the rest; of the window."""

    process_rank: int | None
    device: str
    annotation: str | None
    part: Part
    bound: Bound | None
    ns: Nanoseconds
    share: Share


class StepOutlier(Struct, frozen=True, kw_only=True):
    """A steady step that is longer or shorter than the others.

    Attributes:
        step: Its index.
        off_ns: Its length minus the median.
        part, part_ns: The part of the waterfall that differs most from its own median, over all devices.
    """

    step: Count
    name: str
    wall_ns: Nanoseconds
    off_ns: int
    part: Part | None
    part_ns: int


class StepSpread(Struct, frozen=True, kw_only=True):
    """How long the steady steps last. Of fewer than eight there are no quartiles: one step's accident would be one."""

    count: Count
    median_ns: Nanoseconds
    low_quartile_ns: Nanoseconds | None
    high_quartile_ns: Nanoseconds | None
    outliers: list[StepOutlier]
