"""The roofs in force on this machine: its kept calibration, else what a second of measuring shows of a CPU."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from diagnose.calibrations.calibration import cpu_ceilings
from diagnose.calibrations.identity import cpu_identity, gpu_identity
from diagnose.calibrations.store import day, kept_for
from diagnose.schema import Ceiling

Found = tuple[list[Ceiling], list[str]]
"""Ceilings, and notes that say where they are from."""


def cpu_roofs(threads: int) -> Found:
    """Of this machine's CPU, for that many threads."""
    kept, note = kept_for(cpu_identity(threads))
    if kept is not None:
        return list(kept.ceilings), [f"cpu: the ceilings are those of `diagnose calibrate` on {day(kept)}"]
    rows, _ = cpu_ceilings(threads)
    return rows, [] if note is None else [f"cpu: {note}"]


def gpu_roofs(indices: Iterable[int]) -> Found:
    """Of this process's CUDA devices, as far as they were calibrated."""
    rows: list[Ceiling] = []
    notes: list[str] = []
    for index in indices:
        key = f"cuda:{index}"
        kept, note = kept_for(gpu_identity(index))
        if kept is not None:
            rows += [msgspec.structs.replace(row, device=key) for row in kept.ceilings]
            notes.append(f"{key}: the ceilings are those of `diagnose calibrate` on {day(kept)}, of this very card")
        elif note is not None:
            notes.append(f"{key}: {note}")
    return rows, notes
