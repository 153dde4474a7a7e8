"""A measured roof that the recording itself exceeds was too low, and is raised to what was seen.

A roof measured in a second beside other work was seen at a twentieth of its quiet value. Where there is a datasheet, it
says what is possible; where there is none (a CPU), nothing says that an op did less than it must, so its rate stands.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from diagnose.limits import Limits
from diagnose.pricing.grouping import Groups
from diagnose.roofs.ceilings import Ceilings, with_rows
from diagnose.roofs.hardware import Hardware
from diagnose.roofs.roofline import Placement
from diagnose.schema import Ceiling
from diagnose.units import format_bytes_per_s, format_flops_per_s


def with_raised_roofs(
    hardware: Hardware, groups: Groups, placements: Sequence[Placement], limits: Limits
) -> Hardware | None:
    """``hardware`` with the roofs that rows of this recording exceed raised to the fastest row; None if none is.

    Only rows that take long enough to be timed well count, and for DRAM those that no cache can hold.
    """
    factors: dict[tuple[int, str], float] = {}
    for index, placement in enumerate(placements):
        duration = float(groups.time[index]) / float(groups.calls[index])
        if "ceiling-too-low" not in placement.flags or duration < limits.timed_well_ns:
            continue
        for resource, needed in ((placement.math, placement.compute_ns), ("dram", placement.memory_ns)):
            device = int(groups.device[index])
            if resource == "dram" and not _leaves_cache(hardware.ceilings[device], needed, limits):
                continue
            if resource is not None and needed is not None and needed > limits.accepted * duration:
                key = (device, resource)
                factors[key] = max(factors.get(key, 1.0), needed / duration)
    ceilings, notes = dict(hardware.ceilings), []
    for (device, resource), factor in factors.items():
        row = ceilings[device].get(resource)
        if row is None or row.datasheet is not None:
            continue
        ceilings[device] = with_rows(ceilings[device], [_raised(row, factor)])
        reached = _text(row, row.achievable * factor)
        measured = f"{resource} was measured to reach {_text(row, row.achievable)}"
        notes.append(
            f"{hardware.keys[device]}: {measured}, an op of this recording reached {reached}: that is its roof"
        )
    return replace(hardware, ceilings=ceilings, notes=(*hardware.notes, *notes)) if notes else None


def _leaves_cache(ceilings: Ceilings, memory_ns: float | None, limits: Limits) -> bool:
    """Whether the bytes that DRAM would need so long for are more than the last cache holds."""
    size = limits.largest_cache_bytes if ceilings.l2_bytes is None else ceilings.l2_bytes
    return memory_ns is not None and memory_ns / 1e9 * (ceilings.rate("dram") or 0.0) > size


def _raised(row: Ceiling, factor: float) -> Ceiling:
    return msgspec.structs.replace(
        row,
        achievable=row.achievable * factor,
        low=None,
        high=None,
        origin="recording",
        source=f"the fastest op of this recording; measured before: {row.source}",
    )


def _text(row: Ceiling, rate: float) -> str:
    return format_bytes_per_s(rate) if row.resource == "dram" else format_flops_per_s(rate)
