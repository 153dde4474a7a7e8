"""Probe: exp or tanh of every element, ``rounds`` times over. Bound by the special-function unit.

FLOPs: rounds n, of the special unit (one exp or tanh is one operation).
Bytes: 8 n, whatever the rounds, where they are fused; else 8 n rounds.
A GPU's DRAM feeds exp too slowly to see the unit, so that Triton takes each element through many rounds in registers:
of y = exp(-y) and y = tanh(1.5 y), which stay of ordinary size. A CPU's arithmetic is slow enough: plain torch, one
round over an array that its caches hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

import torch

from diagnose.kernels.timing import row, time_runs

try:
    from diagnose.kernels import triton_kernels
except ImportError:  # no Triton
    triton_kernels = None  # type: ignore[assignment]

FUNCTIONS: Final = ("exp", "tanh")
_BLOCK: Final = 1024


def special_ops(n: int, rounds: int = 1) -> int:
    """Operations of one run, all of the special unit."""
    return n * rounds


def bytes_accessed(n: int, rounds: int = 1, *, is_fused: bool = True) -> int:
    """Traffic of one run."""
    return 8 * n * (1 if is_fused else rounds)


def is_fused(device: str = "cpu") -> bool:
    """Whether all rounds are one kernel."""
    return triton_kernels is not None and torch.device(device).type != "cpu"


def build(function: str, n: int, rounds: int = 1, device: str = "cpu") -> Callable[[], object]:
    """One run on random data."""
    x = torch.rand(n, device=device) + 0.1
    y = torch.empty_like(x)
    if is_fused(device):
        grid = (-(-n // _BLOCK),)
        return lambda: triton_kernels.special_rounds[grid](
            x, y, n, rounds=rounds, is_exp=function == "exp", block=_BLOCK
        )
    apply: Any = {"exp": torch.exp, "tanh": torch.tanh}[function]

    def run() -> None:
        for _ in range(rounds):
            apply(x, out=y)

    return run


@torch.no_grad()
def measure(
    function: str, n: int, rounds: int = 1, device: str = "cpu", *, runs: int = 7, seconds: float | None = None
) -> list[float]:
    """Seconds of each run."""
    run = build(function, n, rounds, device)
    run()
    return time_runs(run, device, runs=runs, seconds=seconds)


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--function", choices=FUNCTIONS, default="exp")
    parser.add_argument("--n", type=int, default=1 << 14)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    seconds = measure(given.function, given.n, given.rounds, given.device, runs=given.runs)
    moved = bytes_accessed(given.n, given.rounds, is_fused=is_fused(given.device))
    name = f"special {given.function} n={given.n} rounds={given.rounds} {given.device}"
    print(row(name, seconds, special_ops(given.n, given.rounds), moved))


if __name__ == "__main__":
    main()
