"""What the recording ran on, and the roofs in force for it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct, field

from diagnose.calibrations.store import day, kept_like
from diagnose.devices.datasheet import DeviceSpec
from diagnose.devices.detect import identify, lookup
from diagnose.devices.user_rows import user_rows
from diagnose.distinct import distinct
from diagnose.items import CPU_DEVICE, KIND_KERNEL, Recording
from diagnose.roofs.ceilings import (
    Ceilings,
    from_spec,
    recorded_floor_ns,
    recorded_gap_ns,
    with_measured,
    with_recording,
    with_rows,
)
from diagnose.roofs.occupancy import Multiprocessor
from diagnose.schema import DeviceRow
from diagnose.trace.extras import Extras
from diagnose.trace.link import taken
from diagnose.trace.tables import DeviceFacts, Trace

_RUNTIME_OF: dict[str, str] = {"xpu": "xpu", "mtia": "mtia", "hpu": "hpu", "privateuse1": "privateuseone"}


class Hardware(Struct, frozen=True):
    """Devices of a recording; both mappings are by the device id as recorded.

    Attributes:
        rows: For the report.
        ceilings: Without an entry for a device that nobody knows.
        keys: How each device is called in the report: ``cuda:0``, ``cpu``.
        multiprocessors: What one SM of each device has, where the header says so.
        matmul_tf32, convolution_tf32: torch's switches while recording; None where they were not kept.
    """

    rows: dict[int, DeviceRow]
    ceilings: dict[int, Ceilings]
    keys: dict[int, str]
    notes: tuple[str, ...]
    multiprocessors: dict[int, Multiprocessor] = field(default_factory=dict)
    matmul_tf32: bool | None = None
    convolution_tf32: bool | None = None


def find_hardware(
    recording: Recording,
    extras: Extras | None,
    device_name: str | None = None,
    user: Sequence[DeviceSpec] | None = None,
) -> Hardware:
    """Identifies the devices that worked in the recording, and gathers their ceilings.

    Args:
        recording: What ran.
        extras: Our recorder's key; ceilings in it win over the table's.
        device_name: The user's word for what every accelerator in it is.
        user: The user's own rows of the device table; None reads them from their usual place.

    Raises:
        UnknownDeviceError: The user's name has no row.
        UsageError: The user's file of devices is wrong.
    """
    if recording.is_cpu:
        return _cpu(recording.trace, extras)
    user = user_rows() if user is None else user
    rows: dict[int, DeviceRow] = {}
    ceilings: dict[int, Ceilings] = {}
    keys: dict[int, str] = {}
    notes: list[str] = []
    multiprocessors: dict[int, Multiprocessor] = {}
    for device in distinct(recording.items.device).tolist():
        keys[device] = f"{_runtime(recording.trace)}:{device}"
        facts, note = _facts(recording.trace, device)
        notes += note
        rank = recording.trace.process_rank
        rows[device], found, note = _identified(facts, keys[device], rank, device_name, user)
        own = () if extras is None else [row for row in extras.ceilings if row.device == keys[device]]
        if not own and device_name is None:
            found, note = _calibrated(found, facts, keys[device], note)
        multiprocessors[device] = Multiprocessor(
            facts.compute_capability, facts.threads_per_sm, facts.registers_per_sm, facts.shared_memory_per_sm
        )
        notes += note
        if own:
            found = with_rows(found if found is not None else Ceilings(keys[device], ()), own)
            notes.append(f"{keys[device]}: the ceilings kept in the recording are used")
        if found is not None:
            ceilings[device] = _with_recorded_slots(found, recording, device)
    switches = None if extras is None else extras.arithmetic
    return Hardware(
        rows,
        ceilings,
        keys,
        tuple(dict.fromkeys(notes)),
        multiprocessors,
        None if switches is None else switches.matmul_allow_tf32,
        None if switches is None else switches.cudnn_allow_tf32,
    )


def _runtime(trace: Trace) -> str:
    return next((name for runtime, name in _RUNTIME_OF.items() if f"{runtime}_runtime" in trace.categories), "cuda")


def _facts(trace: Trace, device: int) -> tuple[DeviceFacts, list[str]]:
    """The header's description of a device; if it lists others only, and those are all alike, theirs."""
    for facts in trace.devices:
        if facts.index == device:
            return facts, []
    alike = {(facts.name, facts.compute_capability, facts.sms, facts.memory_bytes) for facts in trace.devices}
    if len(alike) == 1:
        note = f"device {device} is not in the header; it is taken to be what the header lists"
        return trace.devices[0], [note]
    return DeviceFacts(device, "", "gpu"), []


def _identified(
    facts: DeviceFacts, key: str, rank: int | None, device_name: str | None, user: Sequence[DeviceSpec]
) -> tuple[DeviceRow, Ceilings | None, list[str]]:
    if device_name is not None:
        spec = lookup(device_name, user, facts.sms)
        return DeviceRow(rank, key, spec.name, "gpu", "user"), from_spec(key, spec), []
    found = identify(facts.name, facts.compute_capability, facts.sms, facts.memory_bytes, user)
    name = facts.name or (found.spec.name if found.spec is not None else "unknown")
    kind = "gpu" if facts.kind == "gpu" else "other"
    row = DeviceRow(rank, key, name, "gpu" if kind == "gpu" else "other", found.by)
    if found.spec is None:
        rivals = f" ({' or '.join(found.candidates)} would fit)" if found.candidates else ""
        advice = "`--device NAME` with a name from `diagnose devices`, a row of your own (docs/ceilings.md), or "
        advice += "`diagnose calibrate` on it"
        return row, None, [f"{key}: no ceilings are known for {name!r}{rivals}; give them with {advice}"]
    notes = []
    if found.by == "fingerprint":
        notes.append(f"{key}: taken for {' or '.join(found.candidates)} by its capability, SM count and memory")
    return row, from_spec(key, found.spec), notes


def _calibrated(
    ceilings: Ceilings | None, facts: DeviceFacts, key: str, notes: list[str]
) -> tuple[Ceilings | None, list[str]]:
    """With what a device of this name and size was measured to reach on this machine, if one was."""
    kept = kept_like(facts.name, facts.sms, facts.memory_bytes) if facts.name else None
    if kept is None:
        return ceilings, notes
    note = (
        f"{key}: the ceilings are those that `diagnose calibrate` measured on this machine's {facts.name} on "
        f"{day(kept)}; if the recording is of another card, `--device` with its name takes the table's"
    )
    rows = [msgspec.structs.replace(row, device=key) for row in kept.ceilings]
    if ceilings is None:  # the table has no row for it; what was said about that no longer holds
        return Ceilings(key, tuple(rows), None, facts.sms), [note]
    return with_measured(ceilings, rows), [*notes, note]


def _with_recorded_slots(ceilings: Ceilings, recording: Recording, device: int) -> Ceilings:
    items = recording.items
    rows = np.flatnonzero(items.device == device)
    is_kernel = items.kind[rows] == KIND_KERNEL
    activities = recording.trace.activities
    gap = recorded_gap_ns(
        activities.stream[rows],
        activities.start[rows],
        activities.end[rows],
        taken(recording.trace.calls.end, items.call[rows]),
        is_kernel,
    )
    return with_recording(ceilings, recorded_floor_ns(items.duration[rows[is_kernel]]), gap)


def _cpu(trace: Trace, extras: Extras | None) -> Hardware:
    facts = None if extras is None else extras.cpu
    name = "CPU" if facts is None or facts.model is None else facts.model
    row = DeviceRow(trace.process_rank, "cpu", name, "cpu", None)
    own = () if extras is None else tuple(row for row in extras.ceilings if row.device == "cpu")
    notes: tuple[str, ...] = ()
    if not own:
        notes = ("the machine that recorded this is not known, so its ops have no ceilings",)
    elif facts is not None and facts.threads is not None:
        notes = (f"the CPU's ceilings are of the machine that recorded, with {facts.threads} threads",)
    ceilings = {CPU_DEVICE: Ceilings("cpu", own, None if facts is None else facts.llc_bytes)} if own else {}
    return Hardware({CPU_DEVICE: row}, ceilings, {CPU_DEVICE: "cpu"}, notes)
