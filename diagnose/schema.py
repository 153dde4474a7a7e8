"""The report as rows: the one definition of the JSON document (DESIGN section 4).

Every renderer takes a ``Document``; ``report.schema.json`` beside this file is generated from it. All ``*_ns`` are
whole nanoseconds; starts are offsets from the window's start. None (``null``) is unknown.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from diagnose.schema_time import (
    BOUND_OF_PART,
    AnnotationRow,
    Bound,
    Count,
    IdleRow,
    Nanoseconds,
    Part,
    PhaseRow,
    Rate,
    Share,
    StepOutlier,
    StepSpread,
    SynchronizationRow,
    WaterfallRow,
)

__all__ = [  # what is defined elsewhere and taken from here
    "BOUND_OF_PART",
    "AnnotationRow",
    "Bound",
    "Count",
    "IdleRow",
    "Nanoseconds",
    "Part",
    "PhaseRow",
    "Rate",
    "Share",
    "StepOutlier",
    "StepSpread",
    "SynchronizationRow",
    "WaterfallRow",
]

SCHEMA_VERSION: Final = 1


class Tool(Struct, frozen=True):
    """Who wrote the report."""

    name: str
    version: str


class SourceOptions(Struct, frozen=True):
    """What the recording holds: shapes, stacks; ``torch``: whether torch answered for unpriced ops on reading."""

    shapes: bool
    stacks: bool
    torch: bool


class Source(Struct, frozen=True):
    """``kind``: ``live``, ``trace`` (recorded by anyone) or ``recording`` (a trace that this package saved).

    ``torch_version``: of who recorded, None where the recording does not say.
    """

    kind: Literal["live", "trace", "recording"]
    path: str | None
    events: Count
    options: SourceOptions
    torch_version: str | None = None


class RecordingCost(Struct, frozen=True):
    """A step without and with the profiler, medians; ``plain_steps_ns``: every step that was timed without it."""

    step_plain_ns: Nanoseconds | None
    step_recorded_ns: Nanoseconds | None
    plain_steps_ns: list[Nanoseconds] = []


class DeviceRow(Struct, frozen=True):
    """``device``: ``cuda:0``, ``cpu``...; ``identified_by``: ``name``, ``alias``, ``fingerprint``, ``user`` or None."""

    process_rank: int | None
    device: str
    name: str
    kind: Literal["gpu", "cpu", "other"]
    identified_by: Literal["name", "alias", "fingerprint", "user"] | None


class Ceiling(Struct, frozen=True):
    """One roof of one device. Rates are per second, ``kernel_floor``, ``kernel_gap`` and ``launch_call`` seconds.

    Attributes:
        resource: ``tensor.<dtype>``, ``vector.<dtype>``, ``special``, ``dram``, ``l2``, ``cache.L<n>``,
            ``link.<name>``, ``kernel_floor``, ``kernel_gap``, ``launch_call``.
        achievable: What is reached in practice; efficiency is relative to it.
        datasheet: The maker's figure, dense; None where there is none (a CPU, a floor).
        low, high: The interval where the value is not one number, else None.
        origin: How ``achievable`` was come by.
    """

    device: str
    resource: str
    achievable: Rate
    datasheet: Rate | None
    low: Rate | None
    high: Rate | None
    origin: Literal["measured", "published", "family", "datasheet", "recording", "user"]
    source: str


class Ridge(Struct, frozen=True):
    """Where a roof leaves the memory slope."""

    device: str
    resource: str
    flops_per_byte: Rate


class Step(Struct, frozen=True):
    """One step of the window; ``steady``: counted in medians."""

    name: str
    start_ns: int
    wall_ns: Nanoseconds
    steady: bool


class Window(Struct, frozen=True):
    """``epoch_ns``: the window's start on the recording's clock, as text (it exceeds a double's whole numbers)."""

    epoch_ns: str
    wall_ns: Nanoseconds
    steps: list[Step]


class Totals(Struct, frozen=True):
    """Sums over the window; ``mfu`` is the used share of the paid-for peak."""

    flops: Count | None
    bytes: Count | None
    flops_per_s: Rate | None
    mfu: Rate | None
    launches: Count
    kernels: Count
    host_lead_ns: int | None
    peak_memory_bytes: Count | None


class Verdict(Struct, frozen=True):
    """The three lines that open every rendering, and what they rest on."""

    bound: Bound | None
    share: Share | None
    runner_up: Bound | None
    undecided_ns: Nanoseconds
    verdict: str
    why: str
    next: str


class Uncosted(Struct, frozen=True):
    """Time without known work, and why."""

    op: str | None
    kernel: str
    calls: Count
    ns: Nanoseconds
    reason: str


class Coverage(Struct, frozen=True):
    """In nanoseconds of device activity launched in the window. ``costed`` and ``bounded`` do not overlap."""

    kernel_ns: Nanoseconds
    linked_ns: Nanoseconds
    costed_ns: Nanoseconds
    bounded_ns: Nanoseconds
    out_of_window_ns: Nanoseconds
    by_source: dict[str, Nanoseconds]
    uncosted: list[Uncosted]


class Signature(Struct, frozen=True):
    """An op's arguments as recorded: one entry an argument, None (``null``) where there is nothing to say."""

    shapes: list[list[int | list[int]] | None]
    dtypes: list[str | None]
    strides: list[list[int | list[int]] | None]
    args: list[str | None]


class Interval(Struct, frozen=True):
    """Low, middle and high of an estimate, in nanoseconds."""

    low: int
    mid: int
    high: int


class Place(Struct, frozen=True):
    """Where calls came from: module path, ``line`` innermost outside torch, ``caller`` outside site-packages."""

    module: str | None
    line: str | None
    caller: str | None
    phase: str | None
    calls: Count
    time_ns: Nanoseconds


class KernelRow(Struct, frozen=True, kw_only=True):
    """One row a (kernel, op, signature, work); ``flops``, bytes and roofs per call, times over all calls.

    Attributes:
        place: Its rank by time, from 1.
        kernel: The device activity's name; on a CPU the op's.
        op: The innermost op that launched it, None where unlinked.
        exposed_ns: What these activities own of the wall time.
        share: Of in-window kernel time.
        flops: Arithmetic of the tensor and vector units.
        special_ops: Exponentials and their kin, which a unit of their own computes: beside ``flops``, never in them.
        math: The resource whose roof was taken for the arithmetic, as in ``ceilings``.
        achieved_bytes_per_s: Of a collective its bus bandwidth, which compares with a link's ceiling.
        reasons: Why it stands where it stands; why its work is unknown, or what a bound leaves out.
        cost_source: As ``Work.source``; None where uncosted.
    """

    place: Annotated[int, Meta(ge=1)]
    process_rank: int | None
    device: str
    kernel: str
    op: str | None
    signature: Signature | None
    calls: Count
    time_ns: Nanoseconds
    exposed_ns: Nanoseconds
    share: Share
    flops: Count | None
    special_ops: Count | None
    bytes_read: Count | None
    bytes_written: Count | None
    extra_bytes: Count | None
    math: str | None
    arithmetic_intensity: Rate | None
    achieved_flops_per_s: Rate | None
    achieved_bytes_per_s: Rate | None
    roof_ns: Rate | None
    datasheet_roof_ns: Rate | None
    efficiency: Rate | None
    bound: Bound | None
    flags: list[str]
    reasons: list[str]
    cost_source: str | None
    places: list[Place]
    gap_ns: Interval | None


class Finding(Struct, frozen=True, kw_only=True):
    """One thing to change, what it rests on, and what it would give."""

    rule: str
    bound: Bound
    title: str
    evidence: dict[str, float | int | str]
    where: list[str]
    claims: list[str]
    recoverable_ns: Interval
    gap_ns: Interval | None
    advice: str
    assumes: str


class CommunicationRow(Struct, frozen=True, kw_only=True):
    """One kind of transfer over one process group: a collective, or copies of one direction.

    Attributes:
        collective: ``all_reduce``...; of copies ``host_to_device``, ``device_to_host``, ``peer``.
        memory: The host side of a copy, None where it has none or its name does not say.
        group, group_description, group_size: Of the process group, None where not recorded.
        bytes: Of the messages; None unless all are known.
        exposed_ns: Time in which no own kernel of the device ran; ``overlapped_ns`` is the rest of ``time_ns``.
        link, link_bytes_per_s: The roof's resource and rate.
        achieved_bytes_per_s: Bus bandwidth: what crossed the link over the time; a wait for other ranks is inside.
        efficiency: Roof time over time; None unless all calls have a roof.
        latency_share: Share of the time in messages too small for bandwidth to matter.
    """

    process_rank: int | None
    device: str
    collective: str
    memory: Literal["pageable", "pinned"] | None
    group: str | None
    group_description: str | None
    group_size: Count | None
    calls: Count
    bytes: Count | None
    time_ns: Nanoseconds
    exposed_ns: Nanoseconds
    overlapped_ns: Nanoseconds
    link: str | None
    link_bytes_per_s: Rate | None
    achieved_bytes_per_s: Rate | None
    efficiency: Rate | None
    latency_share: Share | None
    note: str | None


class Document(Struct, frozen=True, kw_only=True):
    """The whole report."""

    schema_version: int
    tool: Tool
    source: Source
    recording: RecordingCost
    devices: list[DeviceRow]
    ceilings: list[Ceiling]
    ridges: list[Ridge]
    window: Window
    totals: Totals
    verdict: Verdict
    waterfall: list[WaterfallRow]
    coverage: Coverage
    kernels: list[KernelRow]
    findings: list[Finding]
    notes: list[str]
    communication: list[CommunicationRow] = []
    idle: list[IdleRow] = []
    synchronizations: list[SynchronizationRow] = []
    phases: list[PhaseRow] = []
    annotations: list[AnnotationRow] = []
    step_spread: StepSpread | None = None
