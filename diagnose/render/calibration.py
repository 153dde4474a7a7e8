"""A calibration as text, as JSON and as a DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diagnose.calibrations.calibrated import SECONDS, Calibrated, Conditions
from diagnose.calibrations.store import day
from diagnose.render.names import clean
from diagnose.schema import Ceiling
from diagnose.units import format_bytes_per_s, format_flops_per_s, format_share

if TYPE_CHECKING:
    from pandas import DataFrame

_TRAFFIC = ("dram", "l2", "cache.", "link.")


def amount(resource: str, value: float) -> str:
    """A ceiling's value with its unit."""
    if resource in SECONDS:
        return f"{value * 1e6:.2f} us"
    return format_bytes_per_s(value) if resource.startswith(_TRAFFIC) else format_flops_per_s(value)


def calibration_json(calibrated: Calibrated, repeat: str | None = None) -> str:
    """Everything, in base units; ``repeat`` says how it compares with the calibration before."""
    found: dict[str, Any] = {**msgspec.to_builtins(calibrated), "repeat": repeat}
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()


def calibration_frame(calibrated: Calibrated) -> DataFrame:
    """The ceilings, a row each."""
    from pandas import DataFrame

    return DataFrame([msgspec.structs.asdict(row) for row in calibrated.ceilings])


def calibration_text(calibrated: Calibrated, repeat: str | None = None, width: int = 110) -> str:
    """The table of ceilings with what speaks against it."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(Text(headline(calibrated)))
        console.print()
        console.print(_table(calibrated))
        console.print()
        for line in _remarks(calibrated, repeat):
            console.print(Text(line))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def headline(calibrated: Calibrated) -> str:
    """Which device, when, how long."""
    identity = calibrated.identity
    details = [
        None if identity.threads is None else f"{identity.threads} threads",
        None if identity.power_limit_w is None else f"{identity.power_limit_w} W",
        None if identity.driver is None else f"driver {clean(identity.driver)}",
        None if identity.torch is None else f"torch {clean(identity.torch)}",
    ]
    how = "quick" if calibrated.is_quick else "full"
    known = ", ".join(detail for detail in details if detail is not None)
    return f"{clean(identity.name)} ({known}): {how}, {day(calibrated)}, took {calibrated.seconds:.0f} s"


def _table(calibrated: Calibrated) -> Table:
    """Without the datasheet's columns where the maker has none, as for a CPU."""
    has_datasheet = any(row.datasheet is not None for row in calibrated.ceilings)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("resource", "measured", "quartiles", *(("datasheet", "share") if has_datasheet else ()), "by"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for row in calibrated.ceilings:
        cells = [row.resource, amount(row.resource, row.achievable), _quartiles(row)]
        if has_datasheet:
            datasheet = row.datasheet
            cells += ["-", "-"] if not datasheet else [amount(row.resource, datasheet), _share(row, datasheet)]
        table.add_row(*(Text(clean(cell)) for cell in (*cells, row.source)))
    return table


def _quartiles(row: Ceiling) -> str:
    if row.low is None or row.high is None:
        return "-"
    return f"{-1 + row.low / row.achievable:+.1%} {-1 + row.high / row.achievable:+.1%}"


def _share(row: Ceiling, datasheet: float) -> str:
    return format_share(row.achievable / datasheet)


def _remarks(calibrated: Calibrated, repeat: str | None) -> list[str]:
    told = [
        f"  {clean(probe.name)}: {amount(probe.resource, probe.value)}"
        for probe in calibrated.probes
        if not probe.is_ceiling
    ]
    conditions = _conditions(calibrated.conditions)
    return [
        *(["beside them:", *told] if told else []),
        *([f"conditions: {conditions}"] if conditions else []),
        *(f"warning: {clean(each)}" for each in calibrated.warnings),
        *([] if calibrated.unfit is None else [f"not in force: {clean(calibrated.unfit)}"]),
        *(f"note: {clean(each)}" for each in calibrated.notes),
        *([] if repeat is None else [clean(repeat)]),
    ]


def _conditions(conditions: Conditions) -> str:
    clocks = conditions.clock_hz
    parts = [
        None if clocks is None else f"clocks {clocks[0] / 1e6:.0f} to {clocks[1] / 1e6:.0f} MHz",
        None if conditions.power_w is None else f"up to {conditions.power_w:.0f} W",
        None if conditions.temperature_c is None else f"up to {conditions.temperature_c:.0f} degrees",
        f"held down by: {', '.join(conditions.throttle_reasons)}" if conditions.throttle_reasons else None,
        None if conditions.load_average is None else f"load average {conditions.load_average:.1f} before",
        None if conditions.other_cores is None else f"{conditions.other_cores:.1f} processors taken by others",
        None if not conditions.stolen else f"{conditions.stolen:.1%} of processor time stolen",
    ]
    return ", ".join(part for part in parts if part is not None)
