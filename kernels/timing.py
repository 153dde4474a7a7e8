"""How a probe is timed: warmed up, many times, by the device's own clock where it has one.

A run is ``repeats`` passes back to back, so many that the timer's step and the start of the first pass do not show; its
time is divided by them. What is reported is the median and the quartiles of the runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch

LEAST_RUN_S: Final = {"cpu": 0.2e-3, "gpu": 1e-3}
"""A run lasts at least this long: hundreds of timer steps, and launches of a device that queues them."""
WARM_UP_S: Final = {"cpu": 0.0, "gpu": 0.05}
"""Passes before the first run go on for this long, and are two at least: a GPU raises its clocks by then."""
MIN_RUNS: Final = 5
MAX_RUNS: Final = 200
_MAX_REPEATS: Final = 10_000


def kind_of(device: str) -> str:
    """``cpu`` or ``gpu``, which is all that timing depends on."""
    return "cpu" if torch.device(device).type == "cpu" else "gpu"


def synchronize(device: str) -> None:
    """Waits until the device has done everything that it was given."""
    if kind_of(device) != "cpu":
        torch.accelerator.synchronize(device)


def time_runs(
    run: Callable[[], object], device: str = "cpu", *, runs: int = 7, seconds: float | None = None
) -> list[float]:
    """Seconds of one pass, once a run.

    Args:
        run: One pass.
        device: What it runs on.
        runs: How many, where no time is given.
        seconds: How long to go on instead; five runs are made however long they take, unless one takes longer than
            all the time there is.
    """
    start = time.perf_counter()
    one = _warmed_up(run, device)
    repeats = max(1, min(_MAX_REPEATS, int(LEAST_RUN_S[kind_of(device)] / one) + 1))
    if seconds is not None:
        left = max(0.0, seconds - (time.perf_counter() - start))
        least = MIN_RUNS if one * repeats < seconds else 2
        runs = max(least, min(MAX_RUNS, int(left / (one * repeats))))
    timer = _time_by_clock if kind_of(device) == "cpu" else _time_by_events
    return timer(run, device, runs, repeats)


def _warmed_up(run: Callable[[], object], device: str) -> float:
    """Warms up; how long a pass takes, roughly."""
    run()
    synchronize(device)
    until = time.perf_counter() + WARM_UP_S[kind_of(device)]
    one = float("inf")
    while True:
        start = time.perf_counter()
        run()
        synchronize(device)
        one = min(one, max(1e-9, time.perf_counter() - start))
        if time.perf_counter() >= until:
            return one


def _time_by_clock(run: Callable[[], object], device: str, runs: int, repeats: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        synchronize(device)
        seconds.append((time.perf_counter() - start) / repeats)
    return seconds


def _time_by_events(run: Callable[[], object], device: str, runs: int, repeats: int) -> list[float]:
    """By events of the device: the host's launches are no part of it, as long as they keep ahead."""
    runtime: Any = getattr(torch, torch.device(device).type)
    with runtime.device(torch.device(device)):
        pairs = [(runtime.Event(enable_timing=True), runtime.Event(enable_timing=True)) for _ in range(runs)]
        for start, end in pairs:
            start.record()
            for _ in range(repeats):
                run()
            end.record()
        synchronize(device)
        return [start.elapsed_time(end) * 1e-3 / repeats for start, end in pairs]


def in_graph(run: Callable[[], object], device: str, passes: int) -> Callable[[], object]:
    """``passes`` passes as one device graph, where the device has graphs: then no host stands between them."""
    if torch.device(device).type != "cuda":
        return run_many(run, passes)
    with torch.cuda.device(torch.device(device)):
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(passes):
                run()
    return graph.replay


def run_many(run: Callable[[], object], passes: int) -> Callable[[], object]:
    """``passes`` passes, one after the other."""

    def repeated() -> None:
        for _ in range(passes):
            run()

    return repeated


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets torch's intra-op threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(seconds) < 2:
        return seconds[0], seconds[0], seconds[0]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def row(name: str, seconds: Sequence[float], flops: int, bytes_accessed: int) -> str:
    """What a probe prints: its work, its median time with the quartiles, and both rates."""
    low, middle, high = quartiles(seconds)
    return (
        f"{name}: {flops} FLOP, {bytes_accessed} bytes, {middle:.4e} s (quartiles {low:.4e} to {high:.4e}, "
        f"{len(seconds)} runs), {flops / middle:.3e} FLOP/s, {bytes_accessed / middle:.3e} B/s"
    )
