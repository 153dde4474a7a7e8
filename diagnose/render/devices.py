"""The device table as text and as JSON, and what this machine is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from diagnose.calibrations.store import cache_folder, day, kept, kept_like
from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.devices.detect import lookup
from diagnose.processor import cpu_facts
from diagnose.render.calibration import amount, calibration_text
from diagnose.render.names import clean
from diagnose.roofs.ceilings import Ceilings, from_spec, with_measured
from diagnose.units import format_bytes, format_bytes_per_s, format_flops_per_s

_COLUMNS: Final = ("tensor.float16", "tensor.tfloat32", "tensor.float8", "vector.float32")


def device_record(spec: DeviceSpec) -> dict[str, Any]:
    """One row of the table with plain names and base units."""
    return {
        "name": spec.name,
        "aliases": list(spec.aliases),
        "vendor": spec.vendor,
        "architecture": spec.architecture,
        "compute_capability": None if spec.compute_capability is None else list(spec.compute_capability),
        "sms": spec.sms,
        "memory_bytes": spec.memory_bytes,
        "l2_bytes": spec.l2_bytes,
        "flops_per_s": dict(spec.flops_per_s),
        "dram_bytes_per_s": spec.dram_bytes_per_s,
        "link_bytes_per_s": spec.link_bytes_per_s,
        "intervals": {resource: list(interval) for resource, interval in spec.intervals.items()},
        "source": spec.source,
    }


def devices_json(name: str | None, user: Sequence[DeviceSpec] = ()) -> str:
    """The whole table, or one device with its ceilings; UnknownDeviceError for a name without a row."""
    if name is None:
        found: Any = {
            "machine": machine(),
            "devices": [device_record(spec) for spec in _table(user)],
            "calibrations": msgspec.to_builtins(kept()[0]),
        }
    else:
        spec = lookup(name, user)
        ceilings, _ = _ceilings(spec)
        found = device_record(spec) | {"ceilings": msgspec.to_builtins(list(ceilings.rows))}
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def devices_text(name: str | None, user: Sequence[DeviceSpec] = (), width: int = 120) -> str:
    """The same for people."""
    from rich.console import Console

    table, legend = _all_devices(_table(user)) if name is None else _one_device(lookup(name, user))
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
        console.print()
        for line in legend:
            console.print(Text(line))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _table(user: Sequence[DeviceSpec]) -> list[DeviceSpec]:
    """The user's rows, then those of the table that they do not replace."""
    own = {spec.name for spec in user}
    return [*user, *(spec for spec in DEVICES if spec.name not in own)]


def machine() -> str:
    """What this machine is: its accelerators as NVIDIA's driver names them (with nvidia-ml-py), and its processor."""
    facts = cpu_facts(None)
    cores = "" if facts.physical_cores is None else f", {facts.physical_cores} cores"
    return "; ".join([*_nvidia_names(), f"{facts.model or 'unknown processor'}{cores}"])


def _nvidia_names() -> list[str]:
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:  # no driver, or no permission: then there is nothing to tell
        return []


def _plain_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _all_devices(rows: Sequence[DeviceSpec]) -> tuple[Table, list[str]]:
    table = _plain_table("device", "memory", "DRAM", *(column.partition(".")[2] for column in _COLUMNS))
    for spec in rows:
        cells = [
            "-" if spec.memory_bytes is None else format_bytes(spec.memory_bytes),
            _interval(spec, "dram") if spec.dram_bytes_per_s is None else format_bytes_per_s(spec.dram_bytes_per_s),
            *(
                format_flops_per_s(spec.flops_per_s[column]) if column in spec.flops_per_s else _interval(spec, column)
                for column in _COLUMNS
            ),
        ]
        table.add_row(Text(spec.name), *cells)
    halves = "dense; bfloat16 is as fast as float16 (V100 and T4 have none); >= where sources differ"
    return table, [halves, f"this machine: {machine()}", *_calibrations()]


def _calibrations() -> list[str]:
    """What was calibrated here, the newest first."""
    found, damaged = kept()
    lines = []
    for each in found:
        lines += ["", *calibration_text(each).splitlines()]
    lines += [f"{clean(name)} in {cache_folder()} is damaged or of another version, and ignored" for name in damaged]
    advice = "no calibration is kept: `diagnose calibrate` measures what this machine reaches"
    return ["", "calibrated here:", *lines] if lines else [advice]


def _ceilings(spec: DeviceSpec) -> tuple[Ceilings, list[str]]:
    """The roofs in force on this machine: measured, where a device of this name was calibrated."""
    found = from_spec(spec.name, spec)
    measured = kept_like(spec.name, spec.sms, spec.memory_bytes)
    if measured is None:
        return found, []
    rows = [msgspec.structs.replace(row, device=spec.name) for row in measured.ceilings]
    note = f"measured: by `diagnose calibrate` on this machine's card, {day(measured)}"
    return with_measured(found, rows), [note]


def _one_device(spec: DeviceSpec) -> tuple[Table, list[str]]:
    table = _plain_table("resource", "achievable", "datasheet", "how", "source")
    ceilings, notes = _ceilings(spec)
    rows = ceilings.rows
    sources = list(dict.fromkeys(row.source for row in rows))
    for row in rows:
        datasheet = "-" if row.datasheet is None else amount(row.resource, row.datasheet)
        number = f"({sources.index(row.source) + 1})"
        table.add_row(row.resource, amount(row.resource, row.achievable), datasheet, row.origin, number)
    return table, [f"({number}) {source}" for number, source in enumerate(sources, 1)] + notes


def _interval(spec: DeviceSpec, resource: str) -> str:
    """The lowest of several published rates, marked as such."""
    if resource not in spec.intervals:
        return "-"
    low = spec.intervals[resource][0]
    return f">={format_bytes_per_s(low) if resource == 'dram' else format_flops_per_s(low)}"
