"""Probe: copies between the host and a device, or between two devices. Communication-bound.

FLOPs: 0.
Bytes: n cross the link (n read at one end, n written at the other).
From pinned memory the device's copy engine works alone; pageable memory goes through a pinned buffer of the driver's,
by the host's own copying, and is slower. Collectives are in ``collective.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

import torch

from diagnose.kernels.timing import row, time_runs

DIRECTIONS: Final = ("to_device", "to_host")


def flops(n: int) -> int:
    """Operations of one run: none, however long."""
    return 0 * n


def bytes_accessed(n: int) -> int:
    """Bytes that cross the link in one run."""
    return n


def build(direction: str, n: int, device: str, *, is_pinned: bool) -> Callable[[], object]:
    """One copy of ``n`` random bytes; ``device`` must not be the CPU."""
    host = torch.randint(0, 256, (n,), dtype=torch.uint8)
    host = host.pin_memory() if is_pinned else host
    there = torch.empty(n, dtype=torch.uint8, device=device).copy_(host)
    if direction == "to_device":
        return lambda: there.copy_(host, non_blocking=is_pinned)
    return lambda: host.copy_(there, non_blocking=is_pinned)


def measure(
    direction: str, n: int, device: str, *, is_pinned: bool, runs: int = 7, seconds: float | None = None
) -> list[float]:
    """Seconds of each copy."""
    return time_runs(build(direction, n, device, is_pinned=is_pinned), device, runs=runs, seconds=seconds)


def measure_peer(n: int, source: str, target: str, *, runs: int = 7, seconds: float | None = None) -> list[float]:
    """Seconds of each copy of ``n`` bytes from one device to another."""
    given = torch.randint(0, 256, (n,), dtype=torch.uint8, device=source)
    there = torch.empty(n, dtype=torch.uint8, device=target)
    return time_runs(lambda: there.copy_(given, non_blocking=True), source, runs=runs, seconds=seconds)


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direction", choices=DIRECTIONS, default="to_device")
    parser.add_argument("--pageable", action="store_true")
    parser.add_argument("--n", type=int, default=1 << 28, help="bytes")
    parser.add_argument("--device", default=None, help="default: the accelerator")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    device = given.device or (
        str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else None
    )
    if device is None or torch.device(device).type == "cpu":
        parser.error("there is no link to measure: torch sees no accelerator")
    seconds = measure(given.direction, given.n, device, is_pinned=not given.pageable, runs=given.runs)
    name = f"link {given.direction} n={given.n} {'pageable' if given.pageable else 'pinned'} {device}"
    print(row(name, seconds, flops(given.n), bytes_accessed(given.n)))


if __name__ == "__main__":
    main()
