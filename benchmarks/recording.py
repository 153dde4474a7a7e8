"""What recording costs, beside torch.profiler alone with the same options, and what `import diagnose` costs.

    python benchmarks/recording.py [--rounds N] [--ops N]

A step of many small ops, where a recorder weighs most, runs plain, under torch.profiler and under `diagnose.profile`
in turns, so that noise meets all alike. Printed are medians: of a step, and of leaving the block, for each 100 thousand
ops. On the CPU here; `make gpu` measures the same of real steps on a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.profiler import ProfilerActivity

import diagnose

STEPS = 8
"""Of each turn; the first is not counted."""
MARK_OF_STEP = 1.03
MARK_OF_EXIT = 0.3
MARK_OF_IMPORT = 0.1


def step_of(ops: int) -> Callable[[], object]:
    """A chain of about so many small ops."""
    a, b = torch.randn(16, 16), torch.randn(16, 16)

    def run() -> object:
        x = a
        for _ in range(ops // 4):
            x = torch.relu(x + b) * 0.5
            x = x.view(16, 16)
        return x

    return run


def turn(run: Callable[[], object], around: AbstractContextManager[Any] | None) -> tuple[list[int], int, int]:
    """Each step, leaving the block, and letting go of what torch's profiler then still holds, in ns."""
    if around is not None:
        around.__enter__()
    steps = []
    for _ in range(STEPS):
        began = time.perf_counter_ns()
        run()
        steps.append(time.perf_counter_ns() - began)
    began = time.perf_counter_ns()
    if around is not None:
        around.__exit__(None, None, None)
    left = time.perf_counter_ns()
    if isinstance(around, torch.profiler.profile):
        around.profiler = None
    return steps[1:], left - began, time.perf_counter_ns() - left


def bare(*, stacks: bool) -> torch.profiler.profile:
    """The profiler of torch with the options that ours has."""
    return torch.profiler.profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_stack=stacks)


def recorded_ops(run: Callable[[], object]) -> int:
    """How many ops the block of one turn holds."""
    with bare(stacks=False) as profiler:
        run()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    return STEPS * len(results.events())


def compare(run: Callable[[], object], rounds: int, *, stacks: bool) -> None:
    """One line: plain, under torch's profiler, under ours."""
    makers: dict[str, Callable[[], AbstractContextManager[Any] | None]] = {
        "plain": lambda: None,
        "torch": lambda: bare(stacks=stacks),
        "ours": lambda: diagnose.profile(stacks=stacks),
    }
    steps: dict[str, list[int]] = {name: [] for name in makers}
    leaving: dict[str, list[int]] = {name: [] for name in makers}
    freeing: list[int] = []
    for number in range(rounds + 1):
        names = list(makers)[number % len(makers) :] + list(makers)[: number % len(makers)]
        for name in names:  # each comes first once in a while
            times, left, freed = turn(run, makers[name]())
            if number:  # the first round warms up
                steps[name] += times
                leaving[name].append(left)
                freeing += [freed] if name == "torch" else []
    plain, torchs, ours = (statistics.median(steps[name]) / 1e6 for name in makers)
    thousands = recorded_ops(run) / 1e5
    exits = {name: statistics.median(leaving[name]) / 1e9 / thousands for name in makers}
    freed_later = statistics.median(freeing) / 1e9 / thousands
    more = exits["ours"] - exits["torch"]
    print(
        f"{'with stacks' if stacks else 'shapes only':12} step {plain:7.2f} ms plain, {torchs:7.2f} under torch, "
        f"{ours:7.2f} under diagnose: {ours / torchs - 1:+.1%} {said(ours / torchs <= MARK_OF_STEP)}\n"
        f"{'':12} leaving, per 100 k ops: torch {exits['torch']:.2f} s, and {freed_later:.2f} s when its events "
        f"are freed; diagnose {exits['ours']:.2f} s, file saved and events freed: {more:+.2f} s "
        f"{said(more <= MARK_OF_EXIT)}"
    )


def said(is_met: bool) -> str:
    """A mark as a word."""
    return "(met)" if is_met else "(missed)"


def import_seconds(repeat: int) -> float:
    """Of `import diagnose` in a new process, beyond the interpreter's own start."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {"pass": [], "import diagnose, sys; assert 'torch' not in sys.modules": []}
    for _ in range(repeat):
        for code, taken in times.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=environment)
            taken.append(time.perf_counter() - began)
    alone, ours = (statistics.median(taken) for taken in times.values())
    return ours - alone


def main() -> int:
    """Prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ops", type=int, default=2000)
    options = parser.parse_args()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    torch.set_num_threads(1)
    run = step_of(options.ops)
    for stacks in (False, True):
        compare(run, options.rounds, stacks=stacks)
    seconds = import_seconds(options.rounds)
    print(f"import diagnose: {seconds:.3f} s, without torch {said(seconds <= MARK_OF_IMPORT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
