"""Probe: the cheapest ops on one element, so that all that is timed is the cost of having an op at all.

FLOPs: at most 1. Bytes: at most 8 (4 read, 4 written). Overhead-bound on any device.
On a CPU the figure is the op's own time as torch.profiler records it: these ops call no others. On a GPU there are
four: the shortest time the device records for a kernel (the floor), the idle between two that were queued (the gap),
the host's time for a launch, and the period of the same kernels replayed as one graph.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from diagnose.kernels.timing import in_graph, time_runs

_BLOCKED_CYCLES: Final = 100_000_000
"""How long the device is kept busy (tens of milliseconds), so that every launch is queued before the first one runs."""


def flops() -> int:
    """Operations of one run, at most."""
    return 1


def bytes_accessed() -> int:
    """Compulsory traffic of one run, at most."""
    return 8


@torch.no_grad()
def measure_cpu(runs: int, *, record_shapes: bool = True, with_stack: bool = False) -> dict[str, list[int]]:
    """Recorded nanoseconds of each run of each op, by the op's name."""
    x = torch.rand(1) + 0.5
    ops: dict[str, Callable[[], object]] = {
        "aten::neg_": lambda: torch.neg_(x),
        "aten::fill_": lambda: x.fill_(1.0),
    }
    for op in ops.values():
        op()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=record_shapes, with_stack=with_stack) as recorded:
        for op in ops.values():
            for _ in range(runs):
                op()
    durations: dict[str, list[int]] = {name: [] for name in ops}
    for event in _events(recorded):
        if event.name() in durations:
            durations[event.name()].append(event.duration_ns())
    return durations


def _events(recorded: profile) -> Any:
    assert recorded.profiler is not None
    results: Any = recorded.profiler.kineto_results
    return results.events()


@dataclass(frozen=True, slots=True)
class GpuLaunch:
    """What launching costs on a GPU.

    Attributes:
        kernel_ns: Recorded durations of queued kernels.
        gap_ns: Recorded idle between them.
        call_s: Host seconds of a launch, by PyTorch, once a run.
        graph_slot_s: Seconds of a kernel inside a replayed graph, its gap included, once a run.
    """

    kernel_ns: list[int]
    gap_ns: list[int]
    call_s: list[float]
    graph_slot_s: list[float]


@torch.no_grad()
def measure_gpu(device: str, runs: int = 400) -> GpuLaunch:
    """The four figures of a CUDA (or ROCm) device. ``runs`` must fit the launch queue, about 1000."""
    x = torch.rand(1, device=device) + 0.5

    def run() -> object:
        return torch.neg_(x)

    run()
    graph_slot = [each / runs for each in time_runs(in_graph(run, device, runs), device)]
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        call = [_queued(run, device, runs) for _ in range(3)]
    return GpuLaunch(
        *slots([(e.start_ns(), e.start_ns() + e.duration_ns()) for e in _kernels(recorded)]), call, graph_slot
    )


def _queued(run: Callable[[], object], device: str, runs: int) -> float:
    """Host seconds of a launch while the device is busy with something else."""
    torch.cuda.synchronize(device)
    torch.cuda._sleep(_BLOCKED_CYCLES)  # type: ignore[no-untyped-call]  # noqa: SLF001 - nothing public keeps it busy
    start = time.perf_counter()
    for _ in range(runs):
        run()
    took = time.perf_counter() - start
    torch.cuda.synchronize(device)
    return took / runs


def _kernels(recorded: profile) -> list[Any]:
    """Recorded kernels, the one that kept the device busy left out by its length."""
    found = [event for event in _events(recorded) if event.device_type().name != "CPU"]
    middle = statistics.median(event.duration_ns() for event in found)
    return [event for event in found if 0 < event.duration_ns() < 100 * middle]


def slots(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Durations of kernels, and the idle between neighbours, of spans (start, end) on one stream.

    Pauses of more than twenty times the median are not between queued kernels, and left out.
    """
    ordered = sorted(spans)
    gaps = [max(0, later[0] - earlier[1]) for earlier, later in pairwise(ordered)]
    longest = 20 * max(1.0, statistics.median(gaps)) if gaps else 0
    return [end - start for start, end in ordered], [gap for gap in gaps if gap <= longest]


def main() -> None:
    """Measures and prints a row an op, or a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    if torch.device(given.device).type == "cpu":
        durations: dict[str, list[int]] = measure_cpu(given.runs)
    else:
        found = measure_gpu(given.device, given.runs)
        durations = {"kernel": found.kernel_ns, "gap": found.gap_ns}
        durations["call"] = [round(each * 1e9) for each in found.call_s]
        durations["graph_slot"] = [round(each * 1e9) for each in found.graph_slot_s]
    for name, each in durations.items():
        print(
            f"launch {name} {given.device}: <= {flops()} FLOP, <= {bytes_accessed()} bytes, "
            f"min {min(each)} ns, median {statistics.median(each):.0f} ns"
        )


if __name__ == "__main__":
    main()
