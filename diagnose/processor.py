"""Which processor this is, as far as the operating system says: model, cores and caches of this process's share."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from diagnose.trace.extras import CpuFacts

_SYSTEM: Final = Path("/sys/devices/system/cpu")
_CPUINFO: Final = Path("/proc/cpuinfo")
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def cpu_facts(threads: int | None, system: Path = _SYSTEM, cpuinfo: Path = _CPUINFO) -> CpuFacts:
    """What is known of the processor; every fact that the system does not tell is None.

    Args:
        threads: torch's intra-op threads.
        system: Where Linux describes processors.
        cpuinfo: Where Linux names them.
    """
    processors = _usable_processors()
    caches = _caches(processors, system)
    levels = {level for level, _ in caches}
    return CpuFacts(
        model=_model(cpuinfo),
        physical_cores=_physical_cores(processors, system),
        threads=threads,
        l2_bytes=max((size for (level, _), size in caches.items() if level == 2), default=None),
        llc_bytes=sum(size for (level, _), size in caches.items() if level == max(levels)) if levels else None,
    )


def cache_sizes(system: Path = _SYSTEM) -> dict[int, int]:
    """Bytes of one data cache of each level, as the first processor of this process reaches it; empty if not told."""
    return {level: size for (level, _), size in sorted(_caches(_usable_processors()[:1], system).items())}


def _usable_processors() -> list[int]:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _model(cpuinfo: Path) -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(cpuinfo) or "", re.MULTILINE)
    if found:
        return found.group(1).strip()
    return platform.processor() or platform.machine() or None


def _physical_cores(processors: Iterable[int], system: Path) -> int | None:
    """Cores as sets of sibling hyper-threads."""
    siblings = {_text(system / f"cpu{number}" / "topology" / "thread_siblings_list") for number in processors}
    return None if None in siblings or not siblings else len(siblings)


def _caches(processors: Iterable[int], system: Path) -> dict[tuple[int, str], int]:
    """Bytes of each distinct data cache that the processors reach, by level and by who shares it."""
    caches: dict[tuple[int, str], int] = {}
    for number in processors:
        for folder in (system / f"cpu{number}" / "cache").glob("index[0-9]*"):
            level, kind = _text(folder / "level"), _text(folder / "type")
            size, shared = _bytes(_text(folder / "size")), _text(folder / "shared_cpu_list")
            if level is None or not level.isdigit() or kind == "Instruction" or size is None or shared is None:
                continue
            caches[int(level), shared] = size
    return caches


def _bytes(text: str | None) -> int | None:
    """``"1024K"`` -> 1048576."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text or "")
    return int(found.group(1)) * _UNITS[found.group(2)] if found else None
