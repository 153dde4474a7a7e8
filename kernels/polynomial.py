"""Probe: a dial. Each element is read, taken through ``steps`` multiply-adds in registers, and written.

FLOPs: 2 steps n, and (chains - 1) n that add the chains up.
Bytes: 8 n (float32 read once, written once), whatever the steps: intensity is steps / 4 FLOP/byte and a little.
So one kernel walks from memory-bound (few steps) through the ridge to compute-bound (many), on the vector units. With
fused multiply-add a step is one instruction; without, two, and the vector roof is half as high.

A GPU hides the latency of a step behind other threads: one chain. A CPU core cannot: chains of sixteen steps, which it
overlaps, added up at the end. Fused by Triton, on a CPU by torch.compile. Without them each step is a kernel of its
own, reading and writing memory: 12 n bytes a step, and memory-bound at any number of steps.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from typing import Any, Final, Literal

import torch

from diagnose.kernels.timing import row, time_runs

try:
    from diagnose.kernels import triton_kernels
except ImportError:  # no Triton
    triton_kernels = None  # type: ignore[assignment]

Fusion = Literal["triton", "compiled"]

MAX_STEPS: Final = 512
"""A compiler takes long over more."""

_CPU_CHAIN_STEPS: Final = 16
_COEFFICIENT: Final = 0.3
_BLOCK: Final = 1024
_WARPS: Final = 4


def chains(steps: int, device: str = "cpu") -> int:
    """Independent chains of multiply-adds within an element."""
    return -(-steps // _CPU_CHAIN_STEPS) if torch.device(device).type == "cpu" else 1


def flops(n: int, steps: int, device: str = "cpu") -> int:
    """Operations of one run."""
    return n * (2 * steps + chains(steps, device) - 1)


def bytes_accessed(n: int, steps: int = 1, *, is_fused: bool = True) -> int:
    """Traffic of one run; it depends on ``steps`` only where nothing fuses them."""
    return 8 * n if is_fused else 12 * n * steps


def fusion(device: str = "cpu") -> Fusion | None:
    """What can make one kernel of the steps on this machine; None: nothing, and there is no dial."""
    if torch.device(device).type == "cpu":
        compilers = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
        return "compiled" if any(shutil.which(name) for name in compilers if name) else None
    return None if triton_kernels is None else "triton"


def build(n: int, steps: int, device: str = "cpu", *, has_fma: bool = True) -> Callable[[], object]:
    """One run on random data between 1/4 and 3/4, where the polynomial stays of ordinary size."""
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps must be from 1 to {MAX_STEPS}, not {steps}")
    x = torch.rand(n, device=device) / 2 + 0.25
    y = torch.empty_like(x)
    found = fusion(device)
    if found == "triton":
        grid = (-(-n // _BLOCK),)
        return lambda: triton_kernels.dial[grid](
            x, y, n, steps=steps, c=_COEFFICIENT, block=_BLOCK, num_warps=_WARPS, enable_fp_fusion=has_fma
        )
    if found == "compiled":
        return _compiled(x, y, steps, has_fma=has_fma)
    return _one_kernel_a_step(x, y, steps)


def _compiled(x: torch.Tensor, y: torch.Tensor, steps: int, *, has_fma: bool) -> Callable[[], object]:
    """As a graph made by hand: a Python loop would be traced anew, and kept, for every number of steps."""
    graph = torch.fx.Graph()
    given, made = graph.placeholder("x"), graph.placeholder("y")
    count = chains(steps)
    ends = [given] * count
    for step in range(steps):
        product = graph.call_function(torch.mul, (ends[step % count], given))
        # Coefficients differ: the compiler would compute equal chains once.
        ends[step % count] = graph.call_function(torch.add, (product, _COEFFICIENT + 0.1 * step / MAX_STEPS))
    total = ends[0]
    for end in ends[1:]:
        total = graph.call_function(torch.add, (total, end))
    graph.output(graph.call_method("copy_", (made, total)))
    contraction: Any = {"cpp.enable_floating_point_contract_flag": "fast" if has_fma else "off"}
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    run: Any = torch.compile(module, dynamic=False, options=contraction)
    return lambda: run(x, y)


def _one_kernel_a_step(x: torch.Tensor, y: torch.Tensor, steps: int) -> Callable[[], object]:
    coefficient = torch.tensor(_COEFFICIENT, device=x.device)

    def run() -> None:
        torch.addcmul(coefficient, x, x, out=y)
        for _ in range(steps - 1):
            torch.addcmul(coefficient, y, x, out=y)

    return run


@torch.no_grad()
def measure(
    n: int,
    steps: int,
    device: str = "cpu",
    *,
    has_fma: bool = True,
    runs: int = 7,
    seconds: float | None = None,
) -> list[float]:
    """Seconds of each run, compiling not counted (nor limited by ``seconds``)."""
    run = build(n, steps, device, has_fma=has_fma)
    run()
    return time_runs(run, device, runs=runs, seconds=seconds)


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1 << 22)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--no-fma", action="store_true", help="multiply and add as two instructions")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    seconds = measure(given.n, given.steps, given.device, has_fma=not given.no_fma, runs=given.runs)
    found = fusion(given.device)
    moved = bytes_accessed(given.n, given.steps, is_fused=found is not None)
    name = f"polynomial n={given.n} steps={given.steps} fma={not given.no_fma} {found or 'eager'} {given.device}"
    print(row(name, seconds, flops(given.n, given.steps, given.device), moved))


if __name__ == "__main__":
    main()
