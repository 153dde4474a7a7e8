"""Float32 told by kernels' names, where no shapes were recorded; times in microseconds."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.precision_names import float32_kernels
from tests.builders import TraceBuilder, launched

V100, A100 = "Tesla V100-SXM2-32GB", "NVIDIA A100-SXM4-80GB"
SGEMM, TF32 = "volta_sgemm_64x64_nt", "cutlass_80_tensorop_s1688gemm_256x64_16x4_nn_align4"
HALF = "volta_fp16_s884gemm_fp16_128x128_ldg8_f2f_nn"


def case_of(*kernels: tuple[str, float], device: str = V100, shape: tuple[int, int] | None = None) -> Case:
    built, at = TraceBuilder(device), 40.0
    for number, (name, us) in enumerate(kernels):
        inputs = None if shape is None else [(shape, "float32")] * 2
        launched(built, "aten::mm", inputs, at, us, kernel=name, launch_at=1 + 3 * number)
        at += us
    built.step(0, 0, 35)
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def rates(case: Case, *resources: str) -> list[float]:
    found = [case.placed.hardware.ceilings[0].rate(resource) for resource in resources]
    return [rate for rate in found if rate is not None]


@pytest.mark.parametrize(
    ("kernel", "device", "unit", "half"),
    [
        (SGEMM, V100, "vector.float32", "tensor.float16"),  # no bfloat16 there
        (TF32, A100, "tensor.tfloat32", "tensor.bfloat16"),
    ],
)
def test_the_name_tells_the_unit_and_the_rates_the_most(kernel: str, device: str, unit: str, half: str) -> None:
    case = case_of((kernel, 500), (kernel, 300), device=device)
    now, then = rates(case, unit, half)
    (found,) = findings_of(case, [float32_kernels])
    # Nothing of the work is known: from nothing to the ratio of the rates, half of that in the middle.
    most = 800_000 * (1 - now / then)
    prices = [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]
    assert prices == pytest.approx([0, most / 2, most], abs=2)
    assert found.evidence["float32_ns_per_step"] == 800_000
    assert "record_shapes=True" in found.advice
    assert half.removeprefix("tensor.") in found.advice
    assert "wide interval" in found.assumes


@pytest.mark.parametrize(
    ("kernels", "others"),
    [
        ([(SGEMM, 100), (HALF, 500)], {}),
        ([(HALF, 500)], {}),
        ([("void at::native::elementwise_kernel<128, 2>()", 500)], {}),
        ([(SGEMM, 2), (SGEMM, 2)], {}),
        ([(SGEMM, 500)], {"device": "Some Accelerator"}),
        ([(SGEMM, 5000)], {"shape": (4096, 4096)}),
    ],
    ids=["16 bits on purpose", "16 bits", "no product", "as short as kernels are", "unknown device", "sizes known"],
)
def test_what_the_names_do_not_tell_is_left_alone(kernels: list[tuple[str, float]], others: dict[str, Any]) -> None:
    assert float32_kernels(case_of(*kernels, **others)) == []
