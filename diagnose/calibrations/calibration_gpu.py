"""The steps of a GPU's calibration: launches, matrix products, memory, cache, vector and special units, links."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from diagnose.calibrations.calibrated import Probe, rate_probe, time_probe
from diagnose.calibrations.stages import Stage
from diagnose.devices.datasheet import DeviceSpec

_NS: Final = 1e-9
_FLOOR_PERCENTILE: Final = 1

_QUICK_SHAPES: Final = 3
"""Of the shapes that reach the top, the likeliest; the full calibration tries all."""
_PASSES_A_SHAPE: Final = 12
"""Warm-up and runs: a shape is begun only if there is time for so many."""

_DRAM_OVER_L2: Final = 16
"""Each array is this many times the L2, so that next to nothing of a pass is left there for the next."""
_ARRAY_BYTES: Final = (256 << 20, 2 << 30)
_MEMORY_SHARE: Final = 8
"""No array takes more than this part of the memory: others may be on the device."""
_L2_BYTES: Final = 4 << 20
"""Where the L2's size is not told."""
_ROUNDS: Final = 64
_GRAPH_PASSES: Final = 50
_BLOCK: Final = 4096

_DIAL_ELEMENTS: Final = 1 << 24
_DIAL_STEPS: Final = (256, 512)
_SPECIAL_ELEMENTS: Final = 1 << 22
_SPECIAL_ROUNDS: Final = 64
_LINK_BYTES: Final = 256 << 20
_COLLECTIVES: Final = ("all_reduce", "all_gather", "reduce_scatter", "send")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What the stages have to know of the device.

    Attributes:
        index: In this process.
        l2_bytes: None where not told.
        is_amd: Its float32 products run on matrix cores.
        spec: Its row in the table, None where there is none.
    """

    index: int
    memory_bytes: int
    l2_bytes: int | None
    is_amd: bool
    spec: DeviceSpec | None

    @property
    def key(self) -> str:
        """As torch calls it."""
        return f"cuda:{self.index}"


def gpu_stages(gpu: Gpu, count: int, *, is_quick: bool) -> list[Stage]:
    """A calibration of one GPU of ``count`` that this process sees."""
    shares = {
        "bfloat16": 0.12, "float16": 0.09, "tfloat32": 0.07, "float32": 0.08, "float8": 0.08, "int8": 0.06,
        "float64": 0.08,
    }  # fmt: skip
    if gpu.is_amd:
        del shares["tfloat32"]
    stages = [
        Stage("launches", 0.03, partial(_launch_probes, gpu)),
        *(
            Stage(f"matmul {dtype}", share, partial(_matmul_probes, gpu, dtype, is_quick))
            for dtype, share in shares.items()
        ),
        Stage("memory", 0.12, partial(_dram_probes, gpu)),
        Stage("L2 cache", 0.06, partial(_l2_probes, gpu)),
        Stage("vector arithmetic", 0.06, partial(_dial_probes, gpu)),
        Stage("exp and tanh", 0.03, partial(_special_probes, gpu)),
        Stage("link to the host", 0.08, partial(_host_link_probes, gpu)),
    ]
    if count > 1:
        stages.append(Stage("link to a peer", 0.04, partial(_peer_link_probes, gpu, count)))
    if count > 1 and not is_quick:
        stages.append(Stage("collectives", 0.15, partial(_collective_probes, count)))
    return stages


def _launch_probes(gpu: Gpu, _: float) -> list[Probe]:
    from diagnose.kernels import launch

    found = launch.measure_gpu(gpu.key)
    name = "negation of one element"
    kernel = [each * _NS for each in found.kernel_ns]
    probes = [
        time_probe("kernel_floor", name, kernel, _FLOOR_PERCENTILE),
        time_probe("launch_call", f"{name}, launched by PyTorch", found.call_s),
        time_probe("kernel_slot", f"{name} in a replayed graph, gap included", found.graph_slot_s, is_ceiling=False),
    ]
    gaps = [each * _NS for each in found.gap_ns]
    return probes + ([time_probe("kernel_gap", f"between queued: {name}", gaps)] if any(gaps) else [])


def resource_of(dtype: str, gpu: Gpu) -> str:
    """The unit that multiplies matrices of that type on this device."""
    has_tensor_float64 = gpu.spec is not None and "tensor.float64" in gpu.spec.flops_per_s
    if (dtype == "float32" and not gpu.is_amd) or (dtype == "float64" and not has_tensor_float64):
        return f"vector.{dtype}"
    return f"tensor.{dtype}"


def _matmul_probes(gpu: Gpu, dtype: str, is_quick: bool, seconds: float) -> list[Probe]:
    """Which shape reaches the top depends on the library's tiles: the best of several."""
    from diagnose.kernels import gemm

    deadline = time.monotonic() + seconds
    shapes = gemm.TOP_SHAPES[:_QUICK_SHAPES] if is_quick else gemm.TOP_SHAPES
    probes: list[Probe] = []
    for index, shape in enumerate(shapes):
        left = deadline - time.monotonic()
        rate = max((probe.value for probe in probes), default=None)
        if rate is not None and _PASSES_A_SHAPE * gemm.flops(shape) / rate > left:
            continue
        runs = gemm.measure(shape, dtype, gpu.key, seconds=max(0.0, left) / (len(shapes) - index))
        name = f"matmul {'x'.join(map(str, shape))} {dtype}"
        probes.append(rate_probe(resource_of(dtype, gpu), name, gemm.flops(shape), runs))
    return probes


def _dram_probes(gpu: Gpu, seconds: float) -> list[Probe]:
    from diagnose.kernels import stream

    least, most = _ARRAY_BYTES
    wanted = max(least, _DRAM_OVER_L2 * (gpu.l2_bytes or 0))
    n = min(wanted, most, gpu.memory_bytes // _MEMORY_SHARE) // 4
    probes = []
    for pattern in stream.ARRAYS:
        runs = stream.measure(pattern, n, gpu.key, seconds=seconds / len(stream.ARRAYS))
        name = f"{pattern}, arrays of {4 * n >> 20} MiB"
        probes.append(rate_probe("dram", name, stream.bytes_accessed(pattern, n), runs))
    return probes


def _l2_probes(gpu: Gpu, seconds: float) -> list[Probe]:
    """Half of the L2: past that, lines of some devices live in the farther half as well."""
    from diagnose.kernels import resident, stream

    half = (gpu.l2_bytes or _L2_BYTES) // 2
    n = max(1, half // 4 // _BLOCK) * _BLOCK
    each = seconds / (1 + len(stream.ARRAYS))
    runs = resident.measure(n, _ROUNDS, gpu.key, seconds=each)
    name = f"read {4 * n >> 10} KiB again and again"
    probes = [rate_probe("l2", name, resident.bytes_through_cache(n, _ROUNDS), runs)]
    for pattern in stream.ARRAYS:
        n = half // (4 * stream.ARRAYS[pattern])
        runs = stream.measure(pattern, n, gpu.key, seconds=each, passes=_GRAPH_PASSES)
        name = f"{pattern} over {half >> 10} KiB in a graph"
        probes.append(rate_probe("l2", name, stream.bytes_accessed(pattern, n), runs))
    return probes


def _dial_probes(gpu: Gpu, seconds: float) -> list[Probe]:
    from diagnose.kernels import polynomial

    if polynomial.fusion(gpu.key) is None:
        raise RuntimeError("there is no Triton")
    kinds = [(steps, True) for steps in _DIAL_STEPS] + [(_DIAL_STEPS[0], False)]
    probes = []
    for steps, has_fma in kinds:
        n = _DIAL_ELEMENTS
        runs = polynomial.measure(n, steps, gpu.key, has_fma=has_fma, seconds=seconds / len(kinds))
        name = f"polynomial of {steps} steps{'' if has_fma else ', without FMA'}"
        amount = polynomial.flops(n, steps, gpu.key)
        probes.append(rate_probe("vector.float32", name, amount, runs, is_ceiling=has_fma))
    return probes


def _special_probes(gpu: Gpu, seconds: float) -> list[Probe]:
    from diagnose.kernels import special

    if not special.is_fused(gpu.key):
        raise RuntimeError("there is no Triton")
    n, rounds = _SPECIAL_ELEMENTS, _SPECIAL_ROUNDS
    probes = []
    for function in special.FUNCTIONS:
        runs = special.measure(function, n, rounds, gpu.key, seconds=seconds / len(special.FUNCTIONS))
        probes.append(rate_probe("special", f"{function}, {rounds} times", special.special_ops(n, rounds), runs))
    return probes


def _host_link_probes(gpu: Gpu, seconds: float) -> list[Probe]:
    """From pinned memory; pageable copies are told beside it: their roof is the host's own copying."""
    from diagnose.kernels import link

    probes = []
    for direction in link.DIRECTIONS:
        for is_pinned in (True, False):
            runs = link.measure(direction, _LINK_BYTES, gpu.key, is_pinned=is_pinned, seconds=seconds / 4)
            name = f"copy {direction.replace('_', ' ')}, {'pinned' if is_pinned else 'pageable'} memory"
            amount = link.bytes_accessed(_LINK_BYTES)
            probes.append(rate_probe("link.host", name, amount, runs, is_ceiling=is_pinned))
    return probes


def _peer_link_probes(gpu: Gpu, count: int, seconds: float) -> list[Probe]:
    from diagnose.kernels import link

    peer = (gpu.index + 1) % count
    runs = link.measure_peer(_LINK_BYTES, gpu.key, f"cuda:{peer}", seconds=seconds)
    return [rate_probe("link.peer", f"copy to cuda:{peer}", link.bytes_accessed(_LINK_BYTES), runs)]


def _collective_probes(count: int, _: float) -> list[Probe]:
    """Bus bandwidth: what one link carries, however many ranks there are."""
    from diagnose.kernels import collective

    probes = []
    for operation in _COLLECTIVES:
        runs = collective.start(operation, _LINK_BYTES, count, "cuda")
        name = f"{operation} over {count} devices, bus bandwidth"
        amount = collective.bytes_accessed(operation, _LINK_BYTES, count)
        probes.append(rate_probe("link.peer", name, amount, runs))
    return probes
