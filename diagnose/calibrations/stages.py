"""A calibration's steps, one after the other within a time, with progress told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from diagnose.calibrations.calibrated import Probe

Progress = Callable[[float, str], None]
"""Told what share is done, and what begins."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step.

    Attributes:
        name: For people.
        share: Of the whole time.
        run: Measures within so many seconds. RuntimeError where this device cannot do it.
    """

    name: str
    share: float
    run: Callable[[float], list[Probe]]


def run_stages(
    stages: Sequence[Stage], seconds: float, progress: Progress | None = None
) -> tuple[list[Probe], list[str]]:
    """Runs every stage.

    What one leaves over, the later ones share; what one overruns, they lack.

    Args:
        stages: In their order.
        seconds: For all of them.
        progress: Told before each, and at the end.

    Returns:
        The probes, and a note for each stage that could not be run.
    """
    deadline = time.monotonic() + seconds
    probes: list[Probe] = []
    notes: list[str] = []
    ahead = sum(stage.share for stage in stages)
    whole = ahead
    for stage in stages:
        if progress is not None:
            progress(1 - ahead / whole, stage.name)
        left = max(0.0, deadline - time.monotonic())
        try:
            found = stage.run(left * stage.share / ahead)
        except RuntimeError as error:  # torch's word for all that it cannot do, a full memory included
            found = []
            notes.append(f"{stage.name}: not measured: {_first_line(error)}")
        if not found and not (notes and notes[-1].startswith(f"{stage.name}:")):
            notes.append(f"{stage.name}: not measured: torch cannot do it on this device")
        probes += found
        ahead -= stage.share
    if progress is not None:
        progress(1.0, "done")
    return probes, notes


def _first_line(error: RuntimeError) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
