"""Measured roofs: what this very machine reaches on the probe kernels.

``cpu_ceilings`` takes a second, for a recording of a CPU that was never calibrated; ``cpu_stages`` are the steps of a
calibration. Those of a GPU are in ``calibration_gpu``. Only these two import ``diagnose.kernels``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import numpy as np

from diagnose.calibrations.calibrated import Probe, rate_probe, time_probe
from diagnose.calibrations.stages import Stage
from diagnose.processor import cache_sizes, cpu_facts
from diagnose.schema import Ceiling
from diagnose.trace.extras import CpuFacts

CPU_DEVICE: Final = "cpu"

_SHARES: Final = {"tensor.float32": 0.3, "tensor.bfloat16": 0.12, "tensor.float64": 0.12, "dram": 0.28, "l2": 0.08}
"""How the second of ``cpu_ceilings`` is divided; the rest is for the floor, which takes a fixed number of ops."""

_SMALLEST_GEMM: Final = 256
_LARGEST_GEMM: Final = 8192
_TIMES_LONGER: Final = 8 * 4
"""A matmul of twice the size takes 8 times as long, and is run four times at least (two uncounted)."""
_FLOOR_RUNS: Final = 300
_MOST_RUNS: Final = 7
"""Of one size, in the second that there is."""

_DRAM_OVER_LLC: Final = 4
"""DRAM is measured over this many times the last-level cache, so that at most a quarter can be a cache hit."""
_DRAM_BYTES: Final = (128 << 20, 1 << 30)
"""Least and most bytes for it: enough where the cache is unknown, and no more than a laptop can spare."""
_L2_BYTES: Final = 4 << 20
"""Working set of the cache's measurement where the caches are unknown."""
_LOADED_BYTES: Final = 64 << 20
"""What one run loads from a cache: long enough to be timed."""

_SPECIAL_ELEMENTS: Final = 1 << 14
_DIAL_ELEMENTS: Final = 1 << 20
_DIAL_STEPS: Final = (64, 128)


@dataclass(frozen=True, slots=True)
class _Runs:
    """``amount`` of work in each of several runs."""

    resource: str
    name: str
    amount: int
    seconds: list[float]

    @property
    def probe(self) -> Probe:
        """As a calibration has it: the median."""
        return rate_probe(self.resource, self.name, self.amount, self.seconds)

    def row(self, threads: int) -> Ceiling:
        """As a recording has it: the best of few runs, since whatever else the machine does only ever slows one."""
        rates = [self.amount / one for one in self.seconds]
        low, high = (float(value) for value in np.percentile(rates, (25, 75)))
        source = f"{self.name}, {threads} threads, best of {len(rates)}"
        return Ceiling(CPU_DEVICE, self.resource, max(rates), None, low, high, "measured", source)


def cpu_ceilings(threads: int | None = None, seconds: float = 1.0) -> tuple[list[Ceiling], CpuFacts]:
    """The CPU's roofs for ``threads`` threads, measured in about ``seconds``, once a process.

    ``achievable`` is the best of several runs; ``low`` and ``high`` are the quartiles (of the floor: its shortest
    hundredth and its median). No roof of vector arithmetic is measured, so there is none.

    Args:
        threads: torch's intra-op threads; None for those in use.
        seconds: Rough limit of the whole.
    """
    import torch

    count = threads if threads is not None else torch.get_num_threads()
    rows, facts = _measured_cpu(count, seconds)
    return list(rows), facts


@lru_cache(maxsize=8)
def _measured_cpu(threads: int, seconds: float) -> tuple[tuple[Ceiling, ...], CpuFacts]:
    facts = cpu_facts(threads)
    with _torch_threads(threads):
        rows = []
        for dtype in ("float32", "bfloat16", "float64"):
            tried = _matmul(dtype, _SHARES[f"tensor.{dtype}"] * seconds, _MOST_RUNS)
            rows += [max((runs.row(threads) for runs in tried), key=lambda row: row.achievable)] if tried else []
        for resource, working_set in (("dram", _dram_bytes(facts)), ("l2", _cache_bytes(facts))):
            passes = _streams(resource, working_set, ("copy", "read"), _SHARES[resource] * seconds)
            rows.append(max((runs.row(threads) for runs in passes), key=lambda row: row.achievable))
        floor = _kernel_floor()
    rows.append(
        Ceiling(
            CPU_DEVICE, "kernel_floor", floor.value, None, floor.low, floor.high, "measured",
            f"{floor.name}, recorded, {threads} threads",
        )
    )  # fmt: skip
    return tuple(rows), facts


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_stages(*, is_quick: bool) -> list[Stage]:
    """A calibration of the CPU, from its cores to its memory, for the threads in use.

    The quick one leaves out what a compiler has to make first (the vector roof) and float16.
    """
    import torch

    facts = cpu_facts(torch.get_num_threads())
    stages = [
        Stage("kernel floor", 0.02, lambda _: [_kernel_floor()]),
        *(
            Stage(f"matmul {dtype}", share, partial(_matmul_probes, dtype))
            for dtype, share in (("float32", 0.2), ("bfloat16", 0.12), ("float64", 0.12), ("int8", 0.06))
        ),
        *(Stage(f"cache L{level}", 0.05, partial(_cache_probe, level)) for level in cache_sizes()),
        Stage("last-level cache", 0.06, partial(_stream_probes, "l2", _cache_bytes(facts))),
        Stage("memory", 0.22, partial(_stream_probes, "dram", _dram_bytes(facts))),
        Stage("exp and tanh", 0.04, _special_probes),
    ]
    if not is_quick:
        stages.append(Stage("matmul float16", 0.05, partial(_matmul_probes, "float16")))
        stages.append(Stage("vector arithmetic", 0.08, _dial_probes))
    return stages


def _matmul_probes(dtype: str, seconds: float) -> list[Probe]:
    return [runs.probe for runs in _matmul(dtype, seconds)]


def _matmul(dtype: str, seconds: float, most_runs: int | None = None) -> list[_Runs]:
    """Square products of sizes that double while there is time for them; none where torch cannot multiply this type.

    The small sizes matter on a busy machine: their runs are shorter than a time slice, so that one of them runs alone.
    """
    from diagnose.kernels import gemm

    deadline = time.perf_counter() + seconds
    tried: list[_Runs] = []
    n = _SMALLEST_GEMM
    while n <= _LARGEST_GEMM:
        shape = (n, n, n)
        left = max(0.0, deadline - time.perf_counter())
        try:
            runs = gemm.measure(shape, dtype, runs=2) if most_runs else gemm.measure(shape, dtype, seconds=left / 3)
        except RuntimeError:
            break
        while most_runs and len(runs) < most_runs and time.perf_counter() < deadline:
            runs += gemm.measure(shape, dtype, runs=1)
        tried.append(_Runs(f"tensor.{dtype}", f"matmul n={n} {dtype}", gemm.flops(shape), runs))
        n *= 2
        if min(runs) * _TIMES_LONGER > deadline - time.perf_counter():
            break
    return tried


def _stream_probes(resource: str, working_set: int, seconds: float) -> list[Probe]:
    return [runs.probe for runs in _streams(resource, working_set, ("read", "write", "copy", "triad"), seconds)]


def _streams(resource: str, working_set: int, patterns: tuple[str, ...], seconds: float) -> list[_Runs]:
    """Several patterns, since a write may cost a fetch that no compulsory byte shows."""
    from diagnose.kernels import stream

    tried = []
    for pattern in patterns:
        n = working_set // (4 * stream.ARRAYS[pattern])
        runs = stream.measure(pattern, n, seconds=seconds / len(patterns))
        name = f"{pattern} over {working_set >> 20} MiB"
        tried.append(_Runs(resource, name, stream.bytes_accessed(pattern, n), runs))
    return tried


def _cache_probe(level: int, seconds: float) -> list[Probe]:
    """Half of one cache of that level, read again and again by every thread."""
    from diagnose.kernels import resident

    n = cache_sizes()[level] // 2 // 4
    rounds = max(1, _LOADED_BYTES // (4 * n))
    runs = resident.measure(n, rounds, seconds=seconds)
    name = f"read {4 * n >> 10} KiB again and again"
    return [rate_probe(f"cache.L{level}", name, resident.bytes_through_cache(n, rounds), runs)]


def _special_probes(seconds: float) -> list[Probe]:
    from diagnose.kernels import special

    n = _SPECIAL_ELEMENTS
    return [
        rate_probe("special", f"{name} of {n} elements", special.special_ops(n), special.measure(name, n, seconds=each))
        for name, each in ((name, seconds / len(special.FUNCTIONS)) for name in special.FUNCTIONS)
    ]


def _dial_probes(seconds: float) -> list[Probe]:
    """The vector roof needs fused arithmetic: without a compiler there is none. Without FMA it is only told."""
    from diagnose.kernels import polynomial

    if polynomial.fusion() is None:
        raise RuntimeError("no C++ compiler was found")
    n = _DIAL_ELEMENTS
    kinds = [(steps, True) for steps in _DIAL_STEPS] + [(_DIAL_STEPS[0], False)]
    probes = []
    for steps, has_fma in kinds:
        runs = polynomial.measure(n, steps, has_fma=has_fma, seconds=seconds / len(kinds))
        name = f"polynomial of {steps} steps{'' if has_fma else ', without FMA'}"
        probes.append(rate_probe("vector.float32", name, polynomial.flops(n, steps), runs, is_ceiling=has_fma))
    return probes


def _kernel_floor() -> Probe:
    """The own time of the cheapest op on one element, as recorded: its shortest hundredth, up to its median."""
    from diagnose.kernels import launch

    by_op: dict[str, list[int]] = launch.measure_cpu(_FLOOR_RUNS)
    probes = [
        time_probe("kernel_floor", f"{op} on one element", [each * 1e-9 for each in durations], 1)
        for op, durations in by_op.items()
    ]
    return min(probes, key=lambda probe: probe.high)


def _dram_bytes(facts: CpuFacts) -> int:
    least, most = _DRAM_BYTES
    return min(most, max(least, _DRAM_OVER_LLC * (facts.llc_bytes or 0)))


def _cache_bytes(facts: CpuFacts) -> int:
    """Twice what the private caches of the threads hold, at most half of the last-level cache."""
    if facts.l2_bytes is None or facts.llc_bytes is None:
        return _L2_BYTES
    private = facts.l2_bytes * (facts.threads or 1)
    return max(1 << 20, min(2 * private, facts.llc_bytes // 2))
