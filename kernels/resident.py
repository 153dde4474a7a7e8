"""Probe: reads ``n`` float32 elements ``rounds`` times inside one kernel, so that a cache has them after the first.

FLOPs: rounds x n (each element is added once a round).
Bytes: 4 n compulsory; 4 n x rounds cross the cache, which is what its rate is taken from.
Memory-bound by the smallest cache that holds ``n`` elements. With Triton every program reads another block each round,
past the first-level caches, so that no round can be skipped; plain torch sums the rows of a matrix of ``rounds`` rows
that all lie on the same memory (stride 0).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

import torch

from diagnose.kernels.timing import row, time_runs

try:
    from diagnose.kernels import triton_kernels
except ImportError:  # no Triton
    triton_kernels = None  # type: ignore[assignment]

_BLOCK: Final = 4096
_WARPS: Final = 8


def flops(n: int, rounds: int) -> int:
    """Operations of one run."""
    return n * rounds


def bytes_accessed(n: int) -> int:
    """Compulsory traffic of one run."""
    return 4 * n


def bytes_through_cache(n: int, rounds: int) -> int:
    """What is loaded from the cache."""
    return 4 * n * rounds


def build(n: int, rounds: int, device: str = "cpu") -> Callable[[], object]:
    """One run on random data; ``n`` is a multiple of 4096 on a GPU."""
    data = torch.rand(n, device=device) + 0.5
    if triton_kernels is None or torch.device(device).type == "cpu":
        rows = data.expand(rounds, n)
        row_sums = torch.empty(rounds, device=device)
        return lambda: torch.sum(rows, 1, out=row_sums)
    blocks = n // _BLOCK
    sums = torch.empty(blocks, device=device)
    return lambda: triton_kernels.read_rounds[(blocks,)](data, sums, blocks, rounds, block=_BLOCK, num_warps=_WARPS)


@torch.no_grad()
def measure(n: int, rounds: int, device: str = "cpu", *, runs: int = 7, seconds: float | None = None) -> list[float]:
    """Seconds of each run."""
    return time_runs(build(n, rounds, device), device, runs=runs, seconds=seconds)


def main() -> None:
    """Measures and prints one row, and the rate of the cache."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1 << 17)
    parser.add_argument("--rounds", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    seconds = measure(given.n, given.rounds, given.device, runs=given.runs)
    name = f"resident n={given.n} rounds={given.rounds} {given.device}"
    print(row(name, seconds, flops(given.n, given.rounds), bytes_through_cache(given.n, given.rounds)))


if __name__ == "__main__":
    main()
