"""Does the roof of this very CPU hold? Products, copies and small ops, measured live and placed under it.

    python benchmarks/ceilings.py [--threads N]

A large matrix product and a large copy must reach 60 % of their own roof and get that bound, an empty op must be
overhead, and a product [M, K] x [K, N] with M = 1, 2, 4, ... must walk from memory to compute. Exits with 1 where one
does not: on a busy machine try again, and see what `diagnose calibrate` says of it. Nothing here is kept.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from diagnose.live.session import measure

ENOUGH = 0.60
"""Share of its own roof that a kernel made for it must reach."""

SIDE = 4096
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)

Row = tuple[str, str | None, float | None]
"""What ran, its bound, its efficiency."""


def complaint_of_large(row: Row, bound: str) -> str | None:
    """A large kernel of a kind, with what it must be bound by."""
    name, found, efficiency = row
    if found != bound:
        return f"{name}: {bound}-bound by construction, but called {found}"
    if efficiency is None or efficiency < ENOUGH:
        shown = "nothing known" if efficiency is None else f"{efficiency:.0%}"
        return f"{name}: reached {shown} of its roof, below {ENOUGH:.0%}"
    return None


def complaint_of_walk(rows: Sequence[Row]) -> str | None:
    """Products with more and more rows: memory first, compute last, and one change between."""
    bounds = [bound for _, bound, _ in rows]
    shown = " ".join(str(bound) for bound in bounds)
    if bounds[0] != "memory" or bounds[-1] != "compute":
        return f"the walk must begin memory-bound and end compute-bound: {shown}"
    changes = sum(before != after for before, after in pairwise(bounds))
    return None if changes == 1 else f"the walk changes its bound {changes} times: {shown}"


def placed(name: str, op: str, run: Callable[[], object]) -> Row:
    """Measures ``run``, and says where ``op`` inside it stands."""
    report = measure(run, warmup=2, repeat=5)
    row = max((row for row in report.kernels if row.op == op), key=lambda row: row.time_ns)
    return name, row.bound, row.efficiency


def large() -> list[tuple[Row, str]]:
    """Kernels made for one bound each."""
    n = 2048
    a, b, c = (torch.randn(n, n) for _ in range(3))
    x, y = torch.rand(1 << 26), torch.empty(1 << 26)
    return [
        (placed(f"matmul {n}", "aten::mm", lambda: torch.mm(a, b, out=c)), "compute"),
        (placed("copy of 256 MiB", "aten::copy_", lambda: y.copy_(x)), "memory"),
    ]


def walk() -> list[Row]:
    """[M, K] x [K, N]: the weights, far larger than a cache, are read for 2 M operations an element."""
    weights = torch.randn(SIDE, SIDE)
    rows = []
    for count in ROWS:
        a, out = torch.randn(count, SIDE), torch.empty(count, SIDE)

        def run(a: torch.Tensor = a, out: torch.Tensor = out) -> object:
            return torch.mm(a, weights, out=out)

        rows.append(placed(f"M={count}", "aten::mm", run))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    # Without a calibration of some other day.
    os.environ["TORCH_DIAGNOSE_CACHE"] = f"{tempfile.gettempdir()}/diagnose-bench-{os.getpid()}"
    tiny = torch.rand(1)
    kernels, rows = large(), walk()
    empty = placed("negation of one element", "aten::neg_", lambda: torch.neg_(tiny))
    complaints = [complaint_of_large(row, bound) for row, bound in kernels]
    complaints += [None if empty[1] == "overhead" else f"{empty[0]}: overhead by construction, but called {empty[1]}"]
    complaints += [complaint_of_walk(rows)]
    for name, bound, efficiency in [*(row for row, _ in kernels), empty, *rows]:
        print(f"{name:26} {bound or '?':10} {'?' if efficiency is None else f'{efficiency:.0%}':>5} of its roof")
    wrong = [each for each in complaints if each is not None]
    print("\n".join(wrong) or "the roof holds")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
