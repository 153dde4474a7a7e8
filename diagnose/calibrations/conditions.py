"""What else went on while a device was measured: clocks and power, other processes, a hypervisor."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from diagnose.calibrations.calibrated import Conditions, Identity
from diagnose.calibrations.nvml import Card, Sample, throttle_words

_STAT: Final = Path("/proc/stat")
_INTERVAL_S: Final = 0.2

OTHERS_CORES: Final = 0.15
"""Processors' worth of others' work beyond which a CPU counts as shared; a machine's own housekeeping is below it."""
CROWDED_CORES: Final = 0.3
"""Threads and others' work may exceed the processors by this: then a thread waits less than a third of the time."""
STOLEN_SHARE: Final = 0.02
BUSY_BEFORE: Final = 0.05
"""A device busier than this before it was measured is in use by somebody."""
_HARMLESS: Final = frozenset(("clocks set by an application", "power cap", "sync boost", "display clocks"))
"""Told, but no fault of the moment: at its power limit a card is as fast as it ever is under such a load."""


class CpuWatch:
    """Counts processor time, its own and everybody's, while the ``with`` block runs."""

    def __init__(self, stat: Path = _STAT) -> None:
        self._stat = stat
        self._load = _load_average()
        self.conditions = Conditions()

    def __enter__(self) -> Self:
        self._ticks = _ticks(self._stat)
        self._own = _own_seconds()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._start
        before, after = self._ticks, _ticks(self._stat)
        others = stolen = None
        if before is not None and after is not None and after.total > before.total:
            second = os.sysconf("SC_CLK_TCK")
            busy = (after.busy - before.busy) / second - (_own_seconds() - self._own)
            others = max(0.0, busy / wall)
            stolen = (after.stolen - before.stolen) / (after.total - before.total)
        self.conditions = Conditions(
            load_average=self._load,
            processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            other_cores=others,
            stolen=stolen,
        )


class _Ticks:
    """The first line of /proc/stat; guests' time is part of the users' and not added again."""

    def __init__(self, line: str) -> None:
        user, nice, system, idle, waiting, interrupts, soft, stolen = (int(word) for word in line.split()[1:9])
        self.busy = user + nice + system + interrupts + soft
        self.stolen = stolen
        self.total = self.busy + idle + waiting + stolen


def _ticks(stat: Path) -> _Ticks | None:
    try:
        with stat.open(encoding="ascii") as stream:
            return _Ticks(stream.readline())
    except (OSError, ValueError):  # not Linux, or an older one
        return None


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


class GpuWatch:
    """Looks at a card a few times a second while the ``with`` block runs; without a card nothing is known."""

    def __init__(self, card: Card | None, *, is_in_use: bool) -> None:
        """``is_in_use``: this process has a context on the device already, and is one of its processes."""
        self._card = card
        self._is_in_use = is_in_use
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.conditions = Conditions()

    def __enter__(self) -> Self:
        if self._card is not None:
            self._before = self._card.sample()
            self._thread = threading.Thread(target=self._look, args=(self._card,), daemon=True)
            self._thread.start()
        return self

    def _look(self, card: Card) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self._samples.append(card.sample())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self.conditions = gpu_conditions(self._before, self._samples, is_in_use=self._is_in_use)


def gpu_conditions(before: Sample, samples: Sequence[Sample], *, is_in_use: bool) -> Conditions:
    """What samples add up to.

    Args:
        before: Taken before the measurement.
        samples: Taken while it ran.
        is_in_use: This process was on the device before.
    """
    clocks = [each.clock_hz for each in samples if each.clock_hz is not None]
    bits = 0
    for each in samples:
        bits |= each.throttle_bits or 0
    others = None
    if before.process_ids is not None:
        # Inside a container the process ids are the host's: this process is then one of them under another number.
        others = len(before.process_ids) - (1 if is_in_use and before.process_ids else 0)
    return Conditions(
        clock_hz=(min(clocks), max(clocks)) if clocks else None,
        power_w=max((each.power_w for each in samples if each.power_w is not None), default=None),
        temperature_c=max((each.temperature_c for each in samples if each.temperature_c is not None), default=None),
        throttle_reasons=throttle_words(bits),
        other_processes=others,
        utilization=None if is_in_use else before.utilization,
    )


def warnings_of(conditions: Conditions, identity: Identity) -> list[str]:
    """Why what was measured under these conditions should not be trusted, each one sentence."""
    return _gpu_warnings(conditions) if identity.kind == "gpu" else _cpu_warnings(conditions, identity.threads or 1)


def crowded(conditions: Conditions, identity: Identity) -> str | None:
    """Why the threads in use had no processor each, None where they had, or where it is not known.

    Then every parallel region waits for a thread that waits for its turn: medians are a scheduler's time slices.
    """
    others, processors, threads = conditions.other_cores, conditions.processors, identity.threads
    if others is None or processors is None or threads is None or threads + others <= processors + CROWDED_CORES:
        return None
    return (
        f"{threads} threads beside {others:.1f} processors' worth of others' work on {processors} processors: "
        "calibrate when the machine is idle, or use fewer threads (OMP_NUM_THREADS)"
    )


def _gpu_warnings(conditions: Conditions) -> list[str]:
    found = []
    if conditions.other_processes:
        found.append(f"the device is shared: {conditions.other_processes} other processes had a context on it")
    elif conditions.utilization is not None and conditions.utilization > BUSY_BEFORE:
        found.append(f"the device is shared: it was busy {conditions.utilization:.0%} of the time before")
    serious = [reason for reason in conditions.throttle_reasons if reason not in _HARMLESS]
    if serious:
        found.append(f"the device was throttled: {', '.join(serious)}")
    return found


def _cpu_warnings(conditions: Conditions, threads: int) -> list[str]:
    found = []
    load, others, stolen = conditions.load_average, conditions.other_cores, conditions.stolen
    if load is not None and load > threads:
        found.append(f"the machine was busy before: load average {load:.1f} above the {threads} threads in use")
    if others is not None and others > OTHERS_CORES:
        of_all = "" if conditions.processors is None else f" of {conditions.processors}"
        found.append(f"the machine is shared: other processes took {others:.1f}{of_all} processors meanwhile")
    if stolen is not None and stolen > STOLEN_SHARE:
        found.append(f"the machine is virtual and shared: its hypervisor gave {stolen:.0%} of processor time to others")
    return found
