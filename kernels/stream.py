"""Probe: pass over long float32 arrays with next to no arithmetic. Memory-bound, in DRAM or in a cache by length.

``read``  sum of A:        bytes 4 n,  FLOPs n.
``write`` A = constant:    bytes 4 n,  FLOPs 0.
``copy``  C = A:           bytes 8 n,  FLOPs 0.
``triad`` C = A + 0.5 B:   bytes 12 n, FLOPs 2 n.
Bytes are compulsory ones: a write that first fetches its cache line moves more, and its rate reads lower for it.
Arrays far longer than the last cache measure DRAM; arrays of half a cache, passed over again and again, that cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

import torch

from diagnose.kernels.timing import in_graph, row, time_runs

ARRAYS: Final = {"read": 1, "write": 1, "copy": 2, "triad": 3}
"""Arrays that a pattern touches, each once."""

_TILE: Final = 1 << 16
"""Random numbers are drawn for this many elements and repeated: no memory knows, and drawing them all takes long."""


def flops(pattern: str, n: int) -> int:
    """Operations of one run over ``n`` elements."""
    return {"read": 1, "write": 0, "copy": 0, "triad": 2}[pattern] * n


def bytes_accessed(pattern: str, n: int) -> int:
    """Compulsory traffic of one run over ``n`` elements."""
    return 4 * n * ARRAYS[pattern]


def build(pattern: str, n: int, device: str = "cpu") -> Callable[[], object]:
    """One pass over random data."""
    arrays = [_random(n, device) for _ in range(ARRAYS[pattern])]
    if pattern == "write":
        return lambda: arrays[0].fill_(0.7)
    if pattern == "copy":
        return lambda: arrays[0].copy_(arrays[1])
    if pattern == "triad":
        return lambda: torch.add(arrays[1], arrays[2], alpha=0.5, out=arrays[0])
    total = torch.empty((), device=device)
    return lambda: torch.sum(arrays[0], 0, out=total)


def _random(n: int, device: str) -> torch.Tensor:
    tile = torch.rand(min(n, _TILE), device=device) + 0.5
    return tile if n <= _TILE else tile.repeat(-(-n // _TILE))[:n].contiguous()


@torch.no_grad()
def measure(
    pattern: str, n: int, device: str = "cpu", *, runs: int = 7, seconds: float | None = None, passes: int = 1
) -> list[float]:
    """Seconds of one pass, once a run.

    Args:
        pattern: A key of ``ARRAYS``.
        n: Elements of each array.
        device: Where they lie.
        runs: How many, where no time is given.
        seconds: How long to go on instead.
        passes: Passes that go into one device graph: those inside a cache are shorter than a launch.
    """
    run = build(pattern, n, device)
    together = in_graph(run, device, passes) if passes > 1 else run
    return [each / passes for each in time_runs(together, device, runs=runs, seconds=seconds)]


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pattern", choices=sorted(ARRAYS), default="triad")
    parser.add_argument("--n", type=int, default=1 << 24)
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    seconds = measure(given.pattern, given.n, given.device, runs=given.runs, passes=given.passes)
    name = f"stream {given.pattern} n={given.n} {given.device}"
    print(row(name, seconds, flops(given.pattern, given.n), bytes_accessed(given.pattern, given.n)))


if __name__ == "__main__":
    main()
