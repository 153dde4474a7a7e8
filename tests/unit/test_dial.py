"""How the dial is judged, on turns of it that were recorded on the CPU this was written on: quiet, and disturbed."""

from __future__ import annotations

import pytest
from probes import DIAL_STEPS, Point, dial_probe, gemm_probe, judge_dial, resident_probe, stream_probe

from diagnose.kernels import polynomial
from diagnose.roofs.ceilings import Ceilings
from diagnose.schema import Ceiling

N = 1 << 24
QUIET_MS = (4.686, 4.610, 4.431, 4.287, 4.544, 5.678, 11.145, 24.833, 51.041, 103.006)
DISTURBED_MS = (4.224, 6.946, 6.521, 6.716, 6.691, 5.595, 11.451, 33.219, 55.876, 127.823)
DRAM, VECTOR = 30.0e9, 180e9
"""What calibrations of that day gave, one thread."""
CEILINGS = Ceilings(
    "cpu",
    tuple(
        Ceiling("cpu", resource, value, None, None, None, "measured", "recorded")
        for resource, value in {"dram": DRAM, "vector.float32": VECTOR, "tensor.float32": 94e9, "l2": 90e9,
                                "kernel_floor": 0.25e-6}.items()
    ),
    32 << 20,
)  # fmt: skip


def turn(times_ms: tuple[float, ...]) -> list[Point]:
    return [
        Point(polynomial.flops(N, steps), polynomial.bytes_accessed(N), ms * 1e-3)
        for steps, ms in zip(DIAL_STEPS, times_ms, strict=True)
    ]


def test_a_quiet_turn_is_flat_then_proportional_and_its_knee_is_the_ridge() -> None:
    assert judge_dial(turn(QUIET_MS), VECTOR / DRAM) == []


def test_a_disturbed_turn_is_refused() -> None:
    assert judge_dial(turn(DISTURBED_MS), VECTOR / DRAM) == ["not flat on the memory side: 36% from it"]


@pytest.mark.parametrize("factor", [1 / 2, 2])
def test_a_roof_that_is_wrong_by_two_is_refused(factor: float) -> None:
    assert any("knee" in each for each in judge_dial(turn(QUIET_MS), factor * VECTOR / DRAM))


def test_a_dial_that_never_leaves_memory_is_refused() -> None:
    assert "too few positions" in judge_dial(turn(QUIET_MS)[:5], VECTOR / DRAM)[0]


@pytest.mark.parametrize(("steps", "ms"), list(zip(DIAL_STEPS, QUIET_MS, strict=True)))
def test_every_position_gets_its_bound(steps: int, ms: float) -> None:
    bound = "memory" if steps / 4 < VECTOR / DRAM else "compute"
    assert dial_probe(steps, N, "cpu", bound).placed(ms * 1e-3, CEILINGS).bound == bound


@pytest.mark.parametrize(
    ("built", "seconds", "bound", "flag"),
    [
        # 2 x 2048^3 at 90 of 94 GFLOP/s
        (gemm_probe("float32", "tensor.float32", (2048, 2048, 2048), "cpu"), 0.191, "compute", None),
        # 2 x 4096^2 FLOP and 67 MB: weights read for one row
        (gemm_probe("float32", "tensor.float32", (1, 4096, 4096), "cpu"), 0.0024, "memory", None),
        # 2 x 8 MB x 16 at 27 GB/s
        (stream_probe("copy", N, "cpu"), 8 * N / 27e9, "memory", None),
        # 16 MB of 32 at 77 GB/s, faster than DRAM's 30
        (resident_probe(1 << 22, 64, "cpu"), 4 * (1 << 22) / 77e9, "memory", "cache-resident"),
        (stream_probe("write", 1, "cpu"), 0.3e-6, "overhead", "too-small"),
    ],
)  # fmt: skip
def test_recorded_probes_get_the_bound_they_were_built_to_have(built, seconds, bound, flag) -> None:
    placement = built.placed(seconds, CEILINGS)
    assert placement.bound == bound
    assert flag is None or flag in placement.flags
