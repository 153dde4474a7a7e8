"""calibrate(): measures what this very device reaches, keeps it, and says whether it can be trusted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from diagnose.calibrations.calibrated import (
    Calibrated,
    Conditions,
    Identity,
    Probe,
    ceilings_of,
    repeat_sentence,
    spread_warning,
    unfit_because,
)
from diagnose.calibrations.calibration import cpu_stages
from diagnose.calibrations.calibration_gpu import Gpu, gpu_stages
from diagnose.calibrations.conditions import CpuWatch, GpuWatch, crowded, warnings_of
from diagnose.calibrations.identity import cpu_identity, gpu_identity
from diagnose.calibrations.nvml import find_card
from diagnose.calibrations.stages import Progress, Stage, run_stages
from diagnose.calibrations.store import day, keep, previous
from diagnose.devices.datasheet import DeviceSpec
from diagnose.devices.detect import identify
from diagnose.devices.user_rows import user_rows
from diagnose.errors import DiagnoseError, UsageError
from diagnose.recording.recorder import quiet_kineto, require_torch
from diagnose.render.calibration import calibration_frame, calibration_json, calibration_text
from diagnose.roofs.ceilings import from_spec
from diagnose.schema import Ceiling

if TYPE_CHECKING:
    from pandas import DataFrame

_SECONDS: Final = {("cpu", True): 8.0, ("cpu", False): 45.0, ("gpu", True): 11.0, ("gpu", False): 70.0}
"""For the probes, quick and full. Starting the device and compiling come on top: 20 s and 2 minutes are promised."""


class Calibration:
    """What one device reached. Made by ``calibrate()``; ``str()`` is the table.

    Attributes:
        calibrated: All of it as a value.
        path: Where it is kept, None if it is not: it was not wanted, or it is unfit and a fit one is there.
        repeat: How it compares with the calibration before, None where there is none.
    """

    def __init__(self, calibrated: Calibrated, path: Path | None = None, repeat: str | None = None) -> None:
        self.calibrated = calibrated
        self.path = path
        self.repeat = repeat

    @property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """The roofs: achievable is the median of the best probe, low and high its quartiles."""
        return self.calibrated.ceilings

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Every probe that ran."""
        return self.calibrated.probes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why it should not be trusted; empty where nothing speaks against it."""
        return self.calibrated.warnings

    def to_frame(self) -> DataFrame:
        """The ceilings as a pandas DataFrame."""
        return calibration_frame(self.calibrated)

    def to_json(self) -> str:
        """All of it as JSON."""
        return calibration_json(self.calibrated, self.repeat)

    def __str__(self) -> str:
        return calibration_text(self.calibrated, self.repeat)


def calibrate(
    *, quick: bool = False, device: str | None = None, save: bool = True, progress: Progress | None = None
) -> Calibration:
    """Measures this device with the probe kernels; its roof from then on, for what is recorded or read here.

    Args:
        quick: At most 20 seconds instead of two minutes: fewer shapes, and on a CPU nothing that must be compiled.
        device: ``cpu``, ``cuda``, ``cuda:1``; by default the first CUDA device, else the CPU.
        save: Keep it in the user's cache.
        progress: Told what share is done, and what begins.

    Raises:
        DiagnoseError: torch is missing, or nothing could be measured, or the cache cannot be written.
        UsageError: There is no such device.
    """
    require_torch()
    index = _cuda_index(device)
    with quiet_kineto():
        found = _calibrated_cpu(quick, progress) if index is None else _calibrated_gpu(index, quick, progress)
    before = previous(found.identity)
    repeat = None if before is None else repeat_sentence(before, found)
    if before is not None and before.unfit is None:
        if found.unfit is not None:  # the good one stays
            note = f"the calibration of {day(before)} stays in force"
            return Calibration(msgspec.structs.replace(found, notes=(*found.notes, note)), None, repeat)
        found = _with_the_rest(found, before)
    return Calibration(found, keep(found) if save else None, repeat)


def _with_the_rest(found: Calibrated, before: Calibrated) -> Calibrated:
    """A quick calibration does not throw away what only a full one measures."""
    measured = {row.resource for row in found.ceilings}
    rest = tuple(row for row in before.ceilings if row.resource not in measured)
    if not rest:
        return found
    note = f"kept from the calibration of {day(before)}: {', '.join(row.resource for row in rest)}"
    return msgspec.structs.replace(found, ceilings=found.ceilings + rest, notes=(*found.notes, note))


def _cuda_index(device: str | None) -> int | None:
    """Index of the CUDA device that is meant, None for the CPU."""
    import torch

    has_cuda = torch.cuda.is_available()
    if device is None:
        return 0 if has_cuda else None
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (number and not number.isdecimal()):
        raise UsageError(f"cannot calibrate {device[:40]!r}: give cpu, cuda, or cuda: and a number")
    count = torch.cuda.device_count() if has_cuda else 0
    if int(number or 0) >= count:
        raise UsageError(f"there is no {device[:40]!r} to calibrate: torch sees {count} CUDA devices")
    return int(number or 0)


def _calibrated_cpu(quick: bool, progress: Progress | None) -> Calibrated:
    import torch

    identity = cpu_identity(torch.get_num_threads())
    watch = CpuWatch()
    start = time.monotonic()
    with watch:
        stages = cpu_stages(is_quick=quick)
        probes, notes = run_stages(stages, _SECONDS["cpu", quick], progress)
    return _put_together(identity, quick, start, (probes, notes), watch.conditions, ceilings_of(probes, "cpu", {}))


def _calibrated_gpu(index: int, quick: bool, progress: Progress | None) -> Calibrated:
    import torch

    is_in_use = torch.cuda.is_initialized() and torch.cuda.memory_reserved(index) > 0  # type: ignore[no-untyped-call]
    identity = gpu_identity(index)
    properties: Any = torch.cuda.get_device_properties(index)
    spec = _spec_of(identity, (properties.major, properties.minor))
    gpu = Gpu(
        index=index,
        memory_bytes=properties.total_memory,
        l2_bytes=getattr(properties, "L2_cache_size", None) or None,
        is_amd=torch.version.hip is not None,
        spec=spec,
    )
    watch = GpuWatch(None if identity.uuid is None else find_card(identity.uuid), is_in_use=is_in_use)
    start = time.monotonic()
    stages: list[Stage] = gpu_stages(gpu, torch.cuda.device_count(), is_quick=quick)
    with watch, torch.cuda.device(index):
        probes, notes = run_stages(stages, _SECONDS["gpu", quick], progress)
    torch.cuda.empty_cache()
    datasheet = {} if spec is None else {row.resource: row.datasheet for row in from_spec(gpu.key, spec).rows}
    ceilings = ceilings_of(probes, gpu.key, datasheet)
    return _put_together(identity, quick, start, (probes, notes), watch.conditions, ceilings)


def _spec_of(identity: Identity, capability: tuple[int, int]) -> DeviceSpec | None:
    return identify(identity.name, capability, identity.sms, identity.memory_bytes, user_rows()).spec


def _put_together(
    identity: Identity,
    quick: bool,
    start: float,
    found: tuple[list[Probe], list[str]],
    conditions: Conditions,
    ceilings: tuple[Ceiling, ...],
) -> Calibrated:
    probes, notes = found
    if not ceilings:
        raise DiagnoseError(f"nothing could be measured on {identity.name}: {'; '.join(notes) or 'no probe ran'}")
    warnings = [*warnings_of(conditions, identity), *_above_datasheet(ceilings)]
    spread = spread_warning(probes)
    return Calibrated(
        identity=identity,
        epoch_s=int(time.time()),
        seconds=time.monotonic() - start,
        is_quick=quick,
        probes=tuple(probes),
        ceilings=ceilings,
        conditions=conditions,
        warnings=tuple([*warnings, spread] if spread is not None else warnings),
        notes=tuple(notes),
        unfit=crowded(conditions, identity) or unfit_because(probes),
    )


def _above_datasheet(ceilings: tuple[Ceiling, ...]) -> list[str]:
    """The device is not what its row says, or a probe was measured wrongly: either way somebody should look."""
    above = [row.resource for row in ceilings if row.datasheet is not None and row.achievable > 1.05 * row.datasheet]
    return [f"measured above the datasheet, which is then wrong for this device: {', '.join(above)}"] if above else []
