# ruff: noqa: INP001, T201
"""Makes the pictures of docs/roofline.md on this machine's CPU: ``python docs/pictures/make.py [FOLDER]``.

The steps are chosen to lie far apart on the roofline; nothing in the pictures is drawn by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import diagnose

LONG = 1 << 24  # 64 MiB of float32 a tensor: more than the caches of most machines, so that memory has to be read
WIDTH = 1024


@torch.no_grad()
def four_kinds() -> diagnose.Report:
    """One step with a copy, an addition, products with one row and with many, and small additions."""
    a, b = torch.rand(LONG), torch.rand(LONG)
    rows, weight = torch.rand(128, WIDTH), torch.rand(WIDTH, WIDTH)
    row, large_weight = torch.rand(1, WIDTH), torch.rand(WIDTH, 8 * WIDTH)
    small = torch.rand(16)

    def step() -> None:
        a.copy_(b)
        torch.add(a, b, out=a)
        torch.mm(row, large_weight)
        for _ in range(5):
            torch.mm(rows, weight)
        for _ in range(50):
            small.add_(1)

    return diagnose.measure(step, warmup=2, repeat=3)


@torch.no_grad()
def larger_batch(batches: Sequence[int] = (1, 4, 16, 64, 256, 1024)) -> diagnose.Report:
    """Products of batches of several sizes with the same weight."""
    weight = torch.rand(WIDTH, 4 * WIDTH)
    inputs = [torch.rand(batch, WIDTH) for batch in batches]

    def step() -> None:
        for x in inputs:
            torch.mm(x, weight)

    return diagnose.measure(step, warmup=2, repeat=3)


def save(axes: Any, path: Path) -> None:
    """Small enough for a repository."""
    axes.get_figure(root=True).savefig(path, dpi=80)
    print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    """Both pictures, and the reports that they show."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    for make in (four_kinds, larger_batch):
        report = make()
        print(report)
        save(report.plot(), folder / f"{make.__name__}.png")


if __name__ == "__main__":
    main()
