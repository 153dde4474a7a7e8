"""The whole way from a trace to the report's tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from diagnose.attribution import row_places
from diagnose.devices.datasheet import DeviceSpec
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.rules import RULES
from diagnose.items import Recording, collect
from diagnose.limits import LIMITS, Limits
from diagnose.places.places import find_places
from diagnose.pricing.communication import describe_collectives
from diagnose.pricing.grouping import group_items, sum_by
from diagnose.pricing.host_collectives import with_host_collectives
from diagnose.pricing.pricing import Fallback, Priced, price_items
from diagnose.roofs.hardware import Hardware, find_hardware
from diagnose.roofs.placing import Placed, place_groups
from diagnose.rows import coverage_of, kernel_rows, left_out_of_totals, totals_of
from diagnose.schema import (
    SCHEMA_VERSION,
    Document,
    Finding,
    RecordingCost,
    Source,
    SourceOptions,
    Tool,
    Window,
)
from diagnose.trace.chrome import Reading
from diagnose.trace.graphs import capture_starts
from diagnose.trace.tables import Trace
from diagnose.transfers import communication_rows
from diagnose.verdict import decide, with_finding
from diagnose.wall.idle_table import idle_rows, synchronization_rows
from diagnose.wall.phase_table import annotation_rows, phase_rows
from diagnose.wall.step_spread import step_spread
from diagnose.wall.timeline import Timeline, device_timelines, exposed_ns, idle_causes, step_rows, waterfall_rows

if TYPE_CHECKING:
    from diagnose.counters.ncu import Counters

VERSION: Final = "0.1.0"

NO_FINDINGS: Final = "findings could not be made; please report it"


class Options(Struct, frozen=True):
    """What a user may say about how a recording is to be read.

    Attributes:
        kind: How it came: ``live`` or ``trace``; a trace with our key is a ``recording`` by itself.
        device: A name from the device table, for every accelerator in it.
        window: Names of the annotations that begin a step.
        step: Only this step, from 0.
        fallback: Asked for ops without a formula.
        capture: A recording of the capture of the device graphs that it replays.
        devices: Rows of the user's own for the device table; None takes those of the user's file, if there is one.
        limits: Constants of the classifier.
        counters: Hardware counters of the same step, which win over formulas.
    """

    kind: Literal["live", "trace"] = "trace"
    device: str | None = None
    window: re.Pattern[str] | None = None
    step: int | None = None
    fallback: Fallback | None = None
    capture: Trace | None = None
    devices: Sequence[DeviceSpec] | None = None
    limits: Limits = LIMITS
    counters: Counters | None = None


Observer = Callable[[Placed, Mapping[int, Timeline]], None]
"""Takes what is known of every group, and the timeline of each device."""


def analyse(
    reading: Reading,
    options: Options | None = None,
    observe: Observer | None = None,
    keep: Callable[[Case], None] | None = None,
) -> Document:
    """Link, price, place, split, count: a recording to its report.

    Args:
        reading: As ``read_trace`` gives it.
        options: What the user said.
        observe: Shown the groups and the timelines, for what the report has no table of.
        keep: Shown everything that rules see, for questions that are asked later (``what_if``).

    Raises:
        UnknownDeviceError: ``options.device`` has no row.
        UsageError: ``options.step`` is not there, or no annotation fits ``options.window``.
    """
    options = options or Options()
    trace, extras = reading.trace, reading.extras
    recording = describe_collectives(collect(trace, options.window, options.step, options.capture))
    recording, priced = with_host_collectives(recording, price_items(recording, options.fallback))
    trace = recording.trace
    counted = _counted(recording, priced, options.counters)
    groups = group_items(trace, recording.items, priced)
    hardware = find_hardware(recording, extras, options.device, options.devices)
    placed = place_groups(recording, groups, priced, hardware, options.limits)
    hardware = placed.hardware
    timelines = device_timelines(placed, extras)
    if observe is not None:
        observe(placed, timelines)
    steps = step_rows(recording)
    water = waterfall_rows(recording, timelines, hardware)
    exposed = sum_by(groups.of_item, exposed_ns(recording, timelines), len(groups))
    places = find_places(trace, extras)
    idle = idle_rows(recording, timelines, hardware, places)
    kernels = kernel_rows(placed, exposed, row_places(recording, groups, places))
    case = Case(
        placed=placed,
        timelines=timelines,
        steps=steps,
        places=places,
        exposed=exposed,
        rows=kernels,
        idle=idle,
        extras=extras,
    )
    if keep is not None:
        keep(case)
    findings, doubts = _findings(case)
    cost = RecordingCost(
        None if extras is None else extras.step_plain_ns,
        None if extras is None else extras.step_recorded_ns,
        [] if extras is None else list(extras.plain_step_ns),
    )
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("torch-diagnose", VERSION),
        source=Source(
            options.kind if extras is None or options.kind == "live" else "recording",
            reading.path,
            trace.event_count,
            SourceOptions(trace.has_shapes, trace.has_stacks, options.fallback is not None),
            None if extras is None else extras.torch_version,
        ),
        recording=cost,
        devices=list(hardware.rows.values()),
        ceilings=[row for ceilings in hardware.ceilings.values() for row in ceilings.rows],
        ridges=[ridge for ceilings in hardware.ceilings.values() for ridge in ceilings.ridge_points()],
        window=Window(str(trace.epoch_ns + _begin(recording)), _wall(recording), steps),
        totals=totals_of(placed, kernels),
        verdict=with_finding(
            decide(
                steps,
                water,
                kernels,
                cost,
                idle_causes(idle, is_cpu=recording.is_cpu),
                is_capture=_holds_capture(recording),
            ),
            findings,
        ),
        waterfall=water,
        coverage=coverage_of(placed),
        kernels=kernels,
        findings=findings,
        notes=[
            *_notes(recording, hardware, [] if extras is None else extras.notes),
            *left_out_of_totals(placed),
            *counted,
            *doubts,
        ],
        communication=communication_rows(placed),
        idle=idle,
        synchronizations=synchronization_rows(recording, timelines, places),
        phases=phase_rows(recording, timelines, hardware),
        annotations=annotation_rows(recording, timelines, hardware),
        step_spread=step_spread(steps, water),
    )


def _findings(case: Case) -> tuple[list[Finding], Sequence[str]]:
    """What to change, and what is doubtful about it; a rule that fails costs the findings, never the report."""
    try:
        return findings_of(case, RULES), case.replayer.notes
    except Exception as error:  # noqa: BLE001 - whatever is odd about the recording
        return [], [f"{NO_FINDINGS}: {type(error).__name__}: {error}"]


def _counted(recording: Recording, priced: Priced, counters: Counters | None) -> tuple[str, ...]:
    """Lets hardware counters win over formulas, where there are any; what there is to say of them."""
    if counters is None:
        return ()
    from diagnose.counters.counters import apply_counters

    return apply_counters(recording, priced, counters)


def _begin(recording: Recording) -> int:
    return int(recording.steps.boundaries[0])


def _holds_capture(recording: Recording) -> bool:
    boundaries = recording.steps.boundaries
    return any(boundaries[0] <= begin < boundaries[-1] for begin in capture_starts(recording.trace).tolist())


def _wall(recording: Recording) -> int:
    return int(recording.steps.boundaries[-1]) - _begin(recording)


def _notes(recording: Recording, hardware: Hardware, recorded: Sequence[str]) -> list[str]:
    """What is missing first, then what is odd."""
    trace = recording.trace
    return [*_missing(trace, recording), *recorded, *recording.notes, *hardware.notes, *trace.notes]


def _missing(trace: Trace, recording: Recording) -> list[str]:
    if trace.missing_devices:
        return ["the recording has no device activity, though a device was used: its kernels were not recorded"]
    if recording.is_cpu and not len(trace.ops.start):
        return ["the recording has neither device activity nor ops; threads started inside a block are not recorded"]
    if recording.is_cpu:
        return ["no device activity: a recording of the CPU; an op's time is its own, without the ops it calls"]
    if not trace.has_shapes:
        return ["shapes were not recorded (record_shapes=True), so the work of most kernels is unknown"]
    return []
