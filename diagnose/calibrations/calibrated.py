"""A calibration as a value: of which device, what each probe reached, and whether two of them agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from msgspec import Struct

from diagnose.schema import Ceiling

CALIBRATION_VERSION: Final = 1
"""Of the layout; a file of another version is not read."""

NOISY_SPREAD: Final = 0.10
"""Quartiles further apart than this share of the median: what was measured is the machine's day, not its roof."""

UNFIT_SPREAD: Final = 0.50
"""Quartiles further apart than this: the median may be anything."""

SECONDS: Final = frozenset(("kernel_floor", "kernel_gap", "kernel_slot", "launch_call"))
"""Resources that are times: less is better. All others are rates."""


class Identity(Struct, frozen=True, kw_only=True):
    """What a calibration holds for: two cards of one name differ, and one card differs by driver and power limit.

    Attributes:
        kind: ``gpu`` or ``cpu``.
        name: As the driver, or the processor itself, has it.
        uuid: Of the card; of a CPU a fingerprint of the machine.
        driver, torch: Versions.
        power_limit_w: In force, whole watts.
        threads: torch's intra-op threads, on a CPU.
        sms, memory_bytes: What the header of a trace can be compared with.
    """

    kind: Literal["gpu", "cpu"]
    name: str
    uuid: str | None = None
    driver: str | None = None
    torch: str | None = None
    power_limit_w: int | None = None
    threads: int | None = None
    sms: int | None = None
    memory_bytes: int | None = None

    def differs_by(self, other: Identity) -> list[str]:
        """What is known of both and not the same, in words."""
        words = {
            "kind": "kind of device", "name": "name", "uuid": "card", "driver": "driver", "torch": "torch",
            "power_limit_w": "power limit", "threads": "number of threads",
        }  # fmt: skip
        if self.kind == "cpu":
            words["uuid"] = "machine"
        pairs = {field: (getattr(self, field), getattr(other, field)) for field in words}
        return [words[field] for field, (mine, its) in pairs.items() if None not in (mine, its) and mine != its]


class Probe(Struct, frozen=True):
    """What one probe kernel reached.

    Attributes:
        resource: What it measures, named as ceilings are; ``kernel_slot`` is a floor and a gap together.
        name: What ran: ``matmul 4096x4096x4096 bfloat16``.
        value: Median over the runs (of the kernel floor: the shortest hundredth), per second, or seconds.
        low, high: Quartiles.
        runs: How many.
        is_ceiling: Whether it may be the ceiling; else it is only told beside it.
    """

    resource: str
    name: str
    value: float
    low: float
    high: float
    runs: int
    is_ceiling: bool = True

    @property
    def spread(self) -> float:
        """How far the quartiles are apart, as a share of the value."""
        return (self.high - self.low) / self.value


class Conditions(Struct, frozen=True, kw_only=True):
    """The state of the machine while it was measured. None is unknown.

    Attributes:
        clock_hz: Lowest and highest clock of the device's cores.
        power_w, temperature_c: Highest.
        throttle_reasons: Why clocks were held down, as NVML has it.
        other_processes: With a context on the device, before the measurement.
        utilization: Share of time in which the device was busy before the measurement began.
        load_average: Of one minute, before the measurement.
        processors: Logical ones that this process may run on.
        other_cores: Processors' worth of time that other processes took meanwhile.
        stolen: Share of processor time that a hypervisor gave to others.
    """

    clock_hz: tuple[float, float] | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: int | None = None
    utilization: float | None = None
    load_average: float | None = None
    processors: int | None = None
    other_cores: float | None = None
    stolen: float | None = None


class Calibrated(Struct, frozen=True, kw_only=True):
    """One calibration.

    Attributes:
        epoch_s: When it was made.
        seconds: How long it took.
        ceilings: The best probe of each resource, with the datasheet's figure beside it.
        warnings: Why it should not be trusted, each one sentence.
        notes: What could not be measured, and why.
        unfit: Why it is no roof at all and not in force, None where it is one.
    """

    identity: Identity
    epoch_s: int
    seconds: float
    is_quick: bool
    probes: tuple[Probe, ...]
    ceilings: tuple[Ceiling, ...]
    conditions: Conditions = Conditions()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unfit: str | None = None
    version: int = CALIBRATION_VERSION


def rate_probe(resource: str, name: str, amount: float, seconds: Sequence[float], *, is_ceiling: bool = True) -> Probe:
    """A probe that did ``amount`` of work in each run."""
    low, middle, high = (float(value) for value in np.percentile([amount / each for each in seconds], (25, 50, 75)))
    return Probe(resource, name, middle, low, high, len(seconds), is_ceiling)


def time_probe(
    resource: str, name: str, seconds: Sequence[float], percentile: float = 50, *, is_ceiling: bool = True
) -> Probe:
    """A probe whose time is the result."""
    low, value, high = (float(each) for each in np.percentile(seconds, (25, percentile, 75)))
    return Probe(resource, name, value, min(low, value), high, len(seconds), is_ceiling)


def best_of(probes: Iterable[Probe]) -> list[Probe]:
    """The best probe of each resource, in the order in which resources appear."""
    best: dict[str, Probe] = {}
    for probe in probes:
        if not (probe.is_ceiling and math.isfinite(probe.value) and probe.value > 0):
            continue
        rival = best.get(probe.resource)
        is_better = rival is None or (probe.value > rival.value) != (probe.resource in SECONDS)
        if is_better:
            best[probe.resource] = probe
    return list(best.values())


def ceilings_of(probes: Iterable[Probe], device: str, datasheet: Mapping[str, float | None]) -> tuple[Ceiling, ...]:
    """The ceilings that probes show.

    Args:
        probes: All of one device.
        device: Its key: ``cpu``, ``cuda:0``.
        datasheet: The maker's figures by resource.
    """
    return tuple(
        Ceiling(
            device,
            probe.resource,
            probe.value,
            datasheet.get(probe.resource),
            probe.low,
            probe.high,
            "measured",
            f"{probe.name}, median of {probe.runs} runs",
        )
        for probe in best_of(probes)
    )


class Difference(Struct, frozen=True):
    """One resource in two calibrations; ``allowed`` is the larger interquartile range."""

    resource: str
    first: float
    second: float
    allowed: float

    @property
    def is_repeated(self) -> bool:
        """Whether the medians are no further apart than each calibration's own runs were."""
        return abs(self.second - self.first) < self.allowed

    @property
    def share(self) -> float:
        """How far they are apart, of the first."""
        return abs(self.second - self.first) / self.first


def differences(first: Calibrated, second: Calibrated) -> list[Difference]:
    """Every resource that both measured."""
    before = {row.resource: row for row in first.ceilings}
    pairs = [(before[row.resource], row) for row in second.ceilings if row.resource in before]
    return [
        Difference(new.resource, old.achievable, new.achievable, max(_quartile_range(old), _quartile_range(new)))
        for old, new in pairs
    ]


def _quartile_range(row: Ceiling) -> float:
    return 0.0 if row.low is None or row.high is None else row.high - row.low


def repeat_sentence(first: Calibrated, second: Calibrated) -> str | None:
    """Whether the second says what the first said; if not, that the machine is noisy, where, and why."""
    found = differences(first, second)
    if not found:
        return None
    # Runs that disagree wildly would allow any difference.
    moved = [each for each in found if not each.is_repeated or each.share > NOISY_SPREAD]
    moved.sort(key=lambda each: -each.share)
    if not moved:
        farthest = max(each.share for each in found)
        return (
            f"it repeats the calibration before: all {len(found)} medians differ by less than their quartiles do, "
            f"the farthest by {farthest:.1%}"
        )
    where = ", ".join(f"{each.resource} by {each.share:.1%}" for each in moved[:3])
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    reasons = dict.fromkeys((*first.warnings, *second.warnings))
    why = "; ".join(reasons) or "nothing that was watched says why (clocks, load of neighbours behind a hypervisor?)"
    return (
        f"this machine is noisy: {len(moved)} of {len(found)} medians differ from the calibration before by more than "
        f"their quartiles do, or by more than {NOISY_SPREAD:.0%} ({where}{more}). Why: {why}"
    )


def unfit_because(probes: Iterable[Probe]) -> str | None:
    """Why no roof can be taken from runs that disagree as these do, None where one can."""
    wild = [probe for probe in best_of(probes) if probe.resource not in SECONDS and probe.spread > UNFIT_SPREAD]
    if not wild:
        return None
    worst = max(wild, key=lambda probe: probe.spread)
    return f"half of the runs of {worst.resource} are {worst.spread:.0%} apart: that is no roof"


def spread_warning(probes: Iterable[Probe]) -> str | None:
    """A sentence if the runs of the best probes disagree among themselves."""
    noisy = [probe for probe in best_of(probes) if probe.resource not in SECONDS and probe.spread > NOISY_SPREAD]
    if not noisy:
        return None
    worst = max(noisy, key=lambda probe: probe.spread)
    return (
        f"the runs disagree: quartiles more than {NOISY_SPREAD:.0%} apart for {len(noisy)} resources "
        f"({worst.resource} {worst.spread:.0%})"
    )
