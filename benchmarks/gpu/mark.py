"""Runs one workload with one marked step, for Nsight Compute: ``count`` starts this under ``ncu``.

python -m benchmarks.gpu.mark NAME [--device cuda:0] [--small]
"""

from __future__ import annotations

import argparse
import sys

import torch

from benchmarks.gpu.steps import mark_for_counters
from benchmarks.gpu.workloads import WORKLOADS


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=sorted(WORKLOADS), metavar="NAME")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    torch.manual_seed(0)
    step = WORKLOADS[given.name].make(given.device, given.small)
    mark_for_counters(step.run, given.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
