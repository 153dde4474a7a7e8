"""Probe: collectives and point-to-point sends of a process group, each rank a process. Communication-bound.

``n`` is the message in bytes, ``p`` the number of processes. Per rank, to whatever link is the narrowest:
``all_reduce``     n in, n out:    2 (p - 1) / p n cross its link each way
``all_gather``     n / p in, n out:  (p - 1) / p n
``reduce_scatter`` n in, n / p out:  (p - 1) / p n
``send``           n from rank 0 to rank 1: n
FLOPs: (p - 1) n / 4 float32 maxima over all ranks for the two that reduce, else 0.
Bytes over time is the bus bandwidth, which one link's rate compares with, however many ranks there are.
``--processes`` starts that many of itself, of which rank 0 tells its times. Gloo on a CPU, NCCL (RCCL) on a GPU each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist

from diagnose.kernels.timing import row, synchronize

OPERATIONS: Final = ("all_reduce", "all_gather", "reduce_scatter", "send")
_TIMEOUT_S: Final = 120


def flops(operation: str, n: int, processes: int) -> int:
    """Operations of one run, over all ranks."""
    return (processes - 1) * (n // 4) if operation in ("all_reduce", "reduce_scatter") else 0


def bytes_accessed(operation: str, n: int, processes: int) -> int:
    """Bytes that cross one rank's link, each way."""
    if operation == "send":
        return n
    return (2 if operation == "all_reduce" else 1) * (processes - 1) * n // processes


def build(operation: str, n: int, device: str = "cpu") -> Callable[[], object]:
    """One run of this rank on random data; the process group must be there."""
    processes, rank = dist.get_world_size(), dist.get_rank()
    whole = torch.rand(n // 4 // processes * processes, device=device)
    part = torch.rand(whole.numel() // processes, device=device)
    if operation == "all_reduce":
        return lambda: dist.all_reduce(whole, dist.ReduceOp.MAX)  # a sum, run again and again, would overflow
    if operation == "all_gather":
        return lambda: dist.all_gather_into_tensor(whole, part)
    if operation == "reduce_scatter":
        return lambda: dist.reduce_scatter_tensor(part, whole, dist.ReduceOp.MAX)
    return _build_send(whole, rank)


def _build_send(message: torch.Tensor, rank: int) -> Callable[[], object]:
    """Rank 1 answers with one element: a send returns before the message has arrived."""
    answer = message[:1].clone()

    def run() -> None:
        if rank == 0:
            dist.send(message, 1)
            dist.recv(answer, 1)
        elif rank == 1:
            dist.recv(message, 0)
            dist.send(answer, 0)

    return run


def measure(operation: str, n: int, device: str = "cpu", *, runs: int = 7) -> list[float]:
    """Seconds of each run, in every rank of the process group at once; two before the first are not counted.

    All begin together, by the host's clock: how often each rank runs must not depend on what it measures.
    """
    run = build(operation, n, device)
    seconds = []
    for _ in range(2 + runs):
        dist.barrier()
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def start(operation: str, n: int, processes: int, device_type: str = "cpu", runs: int = 7) -> list[float]:
    """Seconds of each run in rank 0, each rank a process of its own. RuntimeError where one fails."""
    with tempfile.TemporaryDirectory(prefix="diagnose-") as folder:
        store = Path(folder) / "store"
        started = [
            subprocess.Popen(  # noqa: S603 - this very file
                [
                    *(sys.executable, "-m", "diagnose.kernels.collective", "--operation", operation, "--n", str(n)),
                    *("--processes", str(processes), "--rank", str(rank), "--store", str(store)),
                    *("--device", device_type, "--runs", str(runs)),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        try:
            told = [process.communicate(timeout=_TIMEOUT_S) for process in started]
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{operation} of {processes} processes took more than {_TIMEOUT_S} s") from error
        finally:
            for process in started:
                process.kill()
                process.wait()
    for process, (_, complaint) in zip(started, told, strict=True):
        if process.returncode:
            raise RuntimeError(f"{operation} of {processes} processes failed: {complaint.strip()[-300:]}")
    return [float(word) for word in told[0][0].split()]


def _run_rank(given: argparse.Namespace) -> None:
    device = given.device
    if device != "cpu":
        device = f"{given.device}:{given.rank}"
        torch.accelerator.set_device_index(given.rank)
    backend = "gloo" if given.device == "cpu" else dist.get_default_backend_for_device(given.device)
    dist.init_process_group(backend, init_method=f"file://{given.store}", rank=given.rank, world_size=given.processes)
    try:
        seconds = measure(given.operation, given.n, device, runs=given.runs)
        dist.barrier()
    finally:
        dist.destroy_process_group()
    if given.rank == 0:
        print(*seconds)


def main() -> None:
    """Measures and prints one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operation", choices=OPERATIONS, default="all_reduce")
    parser.add_argument("--n", type=int, default=1 << 24, help="bytes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rank", type=int, help="of this process; left out, all are started")
    parser.add_argument("--store", help="the file that they meet by")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    if given.rank is None:
        seconds = start(given.operation, given.n, given.processes, given.device, given.runs)
        name = f"collective {given.operation} n={given.n} processes={given.processes} {given.device}"
        work = (given.operation, given.n, given.processes)
        print(row(name, seconds, flops(*work), bytes_accessed(*work)))
    else:
        _run_rank(given)


if __name__ == "__main__":
    main()
