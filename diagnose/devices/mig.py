"""Slices of NVIDIA devices (MIG): rows made from the whole device's row."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from diagnose.devices.datasheet import DeviceSpec

_NAME: Final = re.compile(
    r"(?P<whole>.+?)\s+MIG\s+(?:\d+c\.)?(?P<slices>\d)g\.(?P<memory>\d+)gb(?:\+[\w.+-]+)?", re.IGNORECASE
)

_MEMORY_SLICES: Final = 8
"""Memory, its bandwidth and the L2 are given out in eighths, SMs in sevenths (NVIDIA's MIG user guide)."""

_COMPUTE_SLICES: Final = {"NVIDIA A30": 4}
_MOST_COMPUTE_SLICES: Final = 7


class Slice(Struct, frozen=True):
    """What a slice's name says: ``NVIDIA A100-SXM4-40GB MIG 3g.20gb``."""

    whole: str
    compute_slices: int
    memory_gb: int


def read_slice(name: str) -> Slice | None:
    """The parts of a slice's name; None for a name of a whole device."""
    found = _NAME.fullmatch(name.strip()[:200])
    return None if found is None else Slice(found["whole"], int(found["slices"]), int(found["memory"]))


def sliced(whole: DeviceSpec, part: Slice, name: str, sms: int | None) -> DeviceSpec | None:
    """The row of a slice: arithmetic by its share of the SMs, memory and L2 by its eighths of the memory.

    Args:
        whole: The device that was cut.
        part: As ``read_slice`` gives it.
        name: Of the slice, as reported.
        sms: Of the slice, as reported; None takes what the profile grants, of 7 slices (A30: 4).

    Returns:
        None where there is no such slice of the device.
    """
    if whole.memory_bytes is None or whole.sms is None or not 0 < part.memory_gb * 1e9 <= whole.memory_bytes * 1.05:
        return None
    slices = _COMPUTE_SLICES.get(whole.name, _MOST_COMPUTE_SLICES)
    if not 0 < part.compute_slices <= slices or (sms is not None and not 0 < sms <= whole.sms):
        return None
    eighths = max(1, round(_MEMORY_SLICES * part.memory_gb * 1e9 / whole.memory_bytes))
    compute = part.compute_slices / slices if sms is None else sms / whole.sms
    by = f"{part.compute_slices} of {slices} slices" if sms is None else f"{sms} of {whole.sms} SMs"
    memory = eighths / _MEMORY_SLICES
    return replace(
        whole,
        name=name,
        aliases=(),
        sms=int(whole.sms * compute) if sms is None else sms,
        memory_bytes=round(whole.memory_bytes * memory),
        dram_bytes_per_s=None if whole.dram_bytes_per_s is None else whole.dram_bytes_per_s * memory,
        l2_bytes=None if whole.l2_bytes is None else round(whole.l2_bytes * memory),
        flops_per_s={resource: rate * compute for resource, rate in whole.flops_per_s.items()},
        link_bytes_per_s=None,  # slices have no peers
        intervals={
            resource: (low * share, high * share)
            for resource, (low, high) in whole.intervals.items()
            for share in (memory if resource == "dram" else compute,)
        },
        stated={},
        source=f"{whole.source}; a slice: {by}, {eighths}/{_MEMORY_SLICES} of memory and L2",
    )
