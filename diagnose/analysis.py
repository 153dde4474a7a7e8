"""The whole way from a trace to the report's tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from diagnose.communication import describe_collectives
from diagnose.devices.datasheet import DeviceSpec
from diagnose.grouping import group_items, sum_by
from diagnose.hardware import Hardware, find_hardware
from diagnose.items import Recording, collect
from diagnose.limits import LIMITS, Limits
from diagnose.placing import place_groups
from diagnose.pricing import Fallback, price_items
from diagnose.rows import coverage_of, kernel_rows, left_out_of_totals, totals_of
from diagnose.schema import (
    SCHEMA_VERSION,
    Document,
    RecordingCost,
    Source,
    SourceOptions,
    Tool,
    Window,
)
from diagnose.timeline import device_timelines, exposed_ns, idle_causes, step_rows, waterfall_rows
from diagnose.trace.chrome import Reading
from diagnose.trace.graphs import capture_starts
from diagnose.trace.tables import Trace
from diagnose.verdict import decide

VERSION: Final = "0.1.0"


@dataclass(frozen=True, slots=True)
class Options:
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
    """

    kind: Literal["live", "trace"] = "trace"
    device: str | None = None
    window: re.Pattern[str] | None = None
    step: int | None = None
    fallback: Fallback | None = None
    capture: Trace | None = None
    devices: Sequence[DeviceSpec] | None = None
    limits: Limits = LIMITS


def analyse(reading: Reading, options: Options | None = None) -> Document:
    """Link, price, place, split, count: a recording to its report.

    Args:
        reading: As ``read_trace`` gives it.
        options: What the user said.

    Raises:
        UnknownDeviceError: ``options.device`` has no row.
        UsageError: ``options.step`` is not there, or no annotation fits ``options.window``.
    """
    options = options or Options()
    trace, extras = reading.trace, reading.extras
    recording = describe_collectives(collect(trace, options.window, options.step, options.capture))
    trace = recording.trace
    priced = price_items(recording, options.fallback)
    groups = group_items(trace, recording.items, priced)
    hardware = find_hardware(recording, extras, options.device, options.devices)
    placed = place_groups(recording, groups, priced, hardware, options.limits)
    hardware = placed.hardware
    timelines = device_timelines(placed, extras)
    steps = step_rows(recording)
    water = waterfall_rows(recording, timelines, hardware)
    exposed = sum_by(groups.of_item, exposed_ns(recording, timelines), len(groups))
    kernels = kernel_rows(placed, exposed)
    cost = RecordingCost(
        None if extras is None else extras.step_plain_ns, None if extras is None else extras.step_recorded_ns
    )
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("torch-diagnose", VERSION),
        source=Source(
            options.kind if extras is None or options.kind == "live" else "recording",
            reading.path,
            trace.event_count,
            SourceOptions(trace.has_shapes, trace.has_stacks, options.fallback is not None),
        ),
        recording=cost,
        devices=list(hardware.rows.values()),
        ceilings=[row for ceilings in hardware.ceilings.values() for row in ceilings.rows],
        ridges=[ridge for ceilings in hardware.ceilings.values() for ridge in ceilings.ridge_points()],
        window=Window(str(trace.epoch_ns + _begin(recording)), _wall(recording), steps),
        totals=totals_of(placed, kernels),
        verdict=decide(
            steps, water, kernels, cost, idle_causes(recording, timelines), is_capture=_holds_capture(recording)
        ),
        waterfall=water,
        coverage=coverage_of(placed),
        kernels=kernels,
        findings=[],
        notes=[
            *_notes(recording, hardware, [] if extras is None else extras.notes),
            *left_out_of_totals(placed),
        ],
    )


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
