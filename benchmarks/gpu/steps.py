"""Running a step: warmed up, timed without a profiler, recorded bare or by the package, marked for Nsight Compute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.gpu.environment import Options

Run = Callable[[], object]

MARK = "diagnose.profile#0"
"""The annotation that the package's own recorder writes around a block."""


def sync(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def warm_up(run: Run, device: str, times: int = 3) -> None:
    for _ in range(times):
        run()
    sync(device)


def plain_ns(run: Run, device: str, times: int) -> list[int]:
    """Each from an idle device to an idle device."""
    found = []
    for _ in range(times):
        sync(device)
        begin = time.perf_counter_ns()
        run()
        sync(device)
        found.append(time.perf_counter_ns() - begin)
    return found


def repeats(options: Options) -> int:
    """How often a step is timed."""
    return 3 if options.is_small else 5 if options.is_quick else 15


def median(values: list[int]) -> float:
    return float(statistics.median(values))


@contextmanager
def bare_profiler(device: str) -> Iterator[torch.profiler.profile]:
    """The profiler of torch with what the package records by default, and nothing else."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.device(device).type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, record_shapes=True) as profiler:
        yield profiler


def record_bare(run: Run, device: str, path: Path) -> None:
    """Records one step without the package: a plain Kineto trace with our mark around the step."""
    with bare_profiler(device) as profiler, torch.profiler.record_function(MARK):
        run()
        sync(device)
    profiler.export_chrome_trace(str(path))


def record_ours(run: Run, path: Path, repeat: int) -> None:
    """Times the step, then records ``repeat`` of them, with all that the package keeps beside the trace."""
    from diagnose.live.session import measured

    measured(run, warmup=1, repeat=repeat).save(path)


def mark_for_counters(run: Run, device: str) -> None:
    """Runs one step between the marks that ``ncu --profile-from-start off`` waits for."""
    warm_up(run, device)
    if torch.device(device).type != "cuda":
        run()
        return
    torch.cuda.profiler.start()
    run()
    sync(device)
    torch.cuda.profiler.stop()
