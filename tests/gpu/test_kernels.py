"""Ground truth on a GPU: every probe gets the bound it was built to have, under the roof that was measured here."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest
import torch
from probes import (
    Built,
    dial_points,
    dial_probe,
    gemm_probe,
    host_copy_probe,
    judge_dial,
    resident_probe,
    special_probe,
    stream_probe,
)

import diagnose
from diagnose.calibrations.calibration_gpu import Gpu, resource_of
from diagnose.devices.detect import identify
from diagnose.kernels import gemm, polynomial
from diagnose.roofs.ceilings import Ceilings, from_spec, with_measured

pytestmark = pytest.mark.gpu

DEVICE = "cuda:0"
DIAL_ELEMENTS = 1 << 26
LARGE = (8192, 8192, 8192)


@pytest.fixture(scope="session")
def gpu() -> Gpu:
    found = torch.cuda.get_device_properties(0)
    spec = identify(found.name, (found.major, found.minor), found.multi_processor_count, found.total_memory).spec
    return Gpu(0, found.total_memory, found.L2_cache_size or None, torch.version.hip is not None, spec)


@pytest.fixture(scope="session")
def ceilings(gpu: Gpu) -> Ceilings:
    table = Ceilings(DEVICE, ()) if gpu.spec is None else from_spec(DEVICE, gpu.spec)
    measured = with_measured(table, diagnose.calibrate(quick=True, save=False).ceilings)
    return Ceilings(DEVICE, measured.rows, gpu.l2_bytes, measured.sms)


def check(built: Built, ceilings: Ceilings) -> None:
    placement = built.placed(statistics.median(built.seconds()), ceilings)
    assert placement.bound == built.bound, (built.name, placement)
    if built.flag is not None:
        assert built.flag in placement.flags, (built.name, placement)


@pytest.mark.parametrize("dtype", sorted(gemm.DTYPES))
def test_a_large_product_is_compute_bound(dtype: str, gpu: Gpu, ceilings: Ceilings) -> None:
    built = gemm_probe(dtype, resource_of(dtype, gpu), LARGE if dtype != "float64" else (4096, 4096, 4096), DEVICE)
    try:
        seconds = built.seconds()
    except RuntimeError as error:
        pytest.skip(f"no {dtype} product on this device: {error}")
    placement = built.placed(statistics.median(seconds), ceilings)
    assert placement.bound == "compute"
    assert (placement.efficiency or 0) >= 0.6


@pytest.mark.parametrize("pattern", ["read", "write", "copy", "triad"])
def test_a_stream_far_beyond_the_cache_is_memory_bound(pattern: str, ceilings: Ceilings) -> None:
    check(stream_probe(pattern, 1 << 27, DEVICE), ceilings)


def test_half_the_cache_read_again_and_again_is_memory_bound_by_the_cache(gpu: Gpu, ceilings: Ceilings) -> None:
    assert gpu.l2_bytes is not None
    check(resident_probe(gpu.l2_bytes // 2 // 4 // 4096 * 4096, 64, DEVICE), ceilings)


@pytest.mark.parametrize("function", ["exp", "tanh"])
def test_special_functions_in_registers_are_compute_bound(function: str, ceilings: Ceilings) -> None:
    check(special_probe(function, 1 << 22, 64, DEVICE), ceilings)


@pytest.mark.parametrize("direction", ["to_device", "to_host"])
def test_a_copy_over_the_link_is_communication(direction: str, ceilings: Ceilings) -> None:
    check(host_copy_probe(direction, 1 << 28, DEVICE), ceilings)


def test_an_op_on_one_element_is_overhead() -> None:
    x = torch.rand(1, device=DEVICE)
    report = diagnose.measure(lambda: torch.neg_(x))
    assert {row.bound for row in report.kernels} == {"overhead"}


@pytest.mark.skipif(polynomial.fusion(DEVICE) is None, reason="the dial needs Triton")
@pytest.mark.parametrize("has_fma", [True, False])
def test_the_dial_by_measured_time(has_fma: bool, ceilings: Ceilings) -> None:
    vector, dram = ceilings.rate("vector.float32"), ceilings.rate("dram")
    assert vector is not None
    assert dram is not None
    ridge = vector / dram / (1 if has_fma else 2)
    assert judge_dial(dial_points(DIAL_ELEMENTS, DEVICE, has_fma=has_fma), ridge) == []


@pytest.mark.skipif(polynomial.fusion(DEVICE) is None, reason="the dial needs Triton")
@pytest.mark.parametrize(("steps", "bound"), [(1, "memory"), (4, "memory"), (512, "compute")])
def test_the_dial_gets_its_bound(steps: int, bound: str, ceilings: Ceilings) -> None:
    check(dial_probe(steps, DIAL_ELEMENTS, DEVICE, bound), ceilings)


def test_two_calibrations_agree_or_say_why() -> None:
    make: Callable[[], diagnose.Calibration] = lambda: diagnose.calibrate(quick=True, save=False)  # noqa: E731
    from diagnose.calibrations.calibrated import differences, repeat_sentence

    first, second = make().calibrated, make().calibrated
    said = repeat_sentence(first, second)
    assert said is not None
    assert all(each.is_repeated for each in differences(first, second)) != ("noisy" in said)
