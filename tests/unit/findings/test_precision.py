"""Rules about the type of the arithmetic; prices worked out by hand from the device's roofs, times in microseconds."""

from __future__ import annotations

import pytest
import torch

import diagnose
from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.precision import float8_products, float32_products, tf32_off
from tests.builders import TraceBuilder, launched

H100, A100, V100, MI300X = (
    "NVIDIA H100 80GB HBM3",
    "NVIDIA A100-SXM4-80GB",
    "Tesla V100-SXM2-32GB",
    "AMD Instinct MI300X",
)
SIMT, TF32, HALF = (
    "ampere_sgemm_128x64_nn",
    "cutlass_80_tensorop_s1688gemm_128x128_16x4_nn_align4",
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1",
)
N = 4096
FLOPS = 2 * N**3


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def product(kernel: str, us: float, *, dtype: str = "float32", device: str = H100, op: str = "aten::mm", n: int = N):
    built = TraceBuilder(device)
    launched(built, op, [((n, n), dtype), ((n, n), dtype)], 100, us, kernel=kernel)
    return case_of(built)


def rate(case: Case, resource: str) -> float:
    found = case.placed.hardware.ceilings[0].rate(resource)
    assert found is not None
    return found


def test_tf32_is_priced_by_the_two_roofs_and_by_the_distance_from_them():
    case = product(SIMT, 2500)
    vector_us, tf32_us = (1e6 * FLOPS / rate(case, unit) for unit in ("vector.float32", "tensor.tfloat32"))
    assert (round(vector_us), round(tf32_us)) == (2051, 346)
    (found,) = findings_of(case, [tf32_off])
    # The least: what is above the roof (449 us) stays. The most: 82 % of the roof, as now.
    least, most = vector_us - tf32_us, 2500 * (1 - tf32_us / vector_us)
    expected = [1000 * us for us in (least, (least + most) / 2, most)]
    assert [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high] == pytest.approx(
        expected, abs=2
    )
    assert found.gap_ns is not None
    assert found.gap_ns.mid == found.recoverable_ns.mid  # one kernel, nothing hides it
    assert (found.evidence["kernels_per_step"], found.evidence["float32_ns_per_step"]) == (1, 2_500_000)
    assert "set_float32_matmul_precision('high')" in found.advice
    assert "allow_tf32" not in found.advice  # that switch is for convolutions, and there is none


@pytest.mark.parametrize(
    "case",
    [
        product(TF32, 600),  # already TF32
        product("some_gemm", 2500),  # the name does not say which unit
        product(SIMT, 12000, device=V100),  # no such units
        product("Cijk_Ailk_Bljk_SB_MT128x64x16_SN", 1500, device=MI300X),
        product(SIMT, 2500, dtype="bfloat16"),
        product(SIMT, 100),  # faster than the vector units can be: its work is not believed
        product("gemvx_kernel", 2500),
    ],
    ids=["tf32", "unknown unit", "V100", "MI300X", "bfloat16", "above the roof", "gemv"],
)
def test_tf32_is_not_advised(case):
    assert tf32_off(case) == []


def test_a_convolution_on_vector_units_says_nothing_about_the_switch():
    """cuDNN picks such kernels with TF32 on, too."""
    built = TraceBuilder(A100)
    inputs = [
        ((32, 256, 56, 56), "float32"),
        ((256, 256, 3, 3), "float32"),
        None,
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
    ]
    launched(built, "aten::cudnn_convolution", inputs, 100, 9000, kernel="ampere_scudnn_128x64_relu_xregs_large_nn_v1")
    assert tf32_off(case_of(built)) == []


def test_bfloat16_on_top_of_tf32_promises_only_what_it_adds():
    case = product(SIMT, 2500)
    tf32, half = findings_of(case, [tf32_off, float32_products])
    assert (tf32.rule, half.rule) == ("tf32-off", "float32-products")
    half_us, vector_us = (1e6 * FLOPS / rate(case, unit) for unit in ("tensor.bfloat16", "vector.float32"))
    casts_us = 1e6 * 6 * N * N / rate(case, "dram")  # the weight: 4 bytes read, 2 written
    together = 2500 * (1 - half_us / vector_us) - casts_us
    assert tf32.recoverable_ns.mid + half.recoverable_ns.mid == pytest.approx(1000 * together, abs=3)
    assert "beyond what TF32 gives" in half.assumes


def test_float32_on_an_amd_device_is_priced_against_its_matrix_units():
    case = product("Cijk_Ailk_Bljk_SB_MT128x128x16_MI32x32x2_SN", 1200, device=MI300X)
    (found,) = findings_of(case, [float32_products])
    single_us, half_us = (1e6 * FLOPS / rate(case, unit) for unit in ("tensor.float32", "tensor.bfloat16"))
    assert found.recoverable_ns.high == pytest.approx(1e3 * 1200 * (1 - half_us / single_us), abs=2)
    casts_us = 1e6 * 6 * N * N / rate(case, "dram")
    assert found.recoverable_ns.low == pytest.approx(1e3 * (single_us - half_us - casts_us), abs=2)
    assert "bfloat16" in found.advice
    assert "TF32" not in found.assumes


def test_a_volta_gets_float16():
    (found,) = float32_products(product(SIMT, 12000, device=V100))
    assert "torch.float16" in found.advice
    assert "float16_flops_per_s" in found.evidence


def test_a_model_in_sixteen_bits_keeps_its_few_float32_products():
    built = TraceBuilder()
    launched(built, "aten::mm", [((N, N), "bfloat16")] * 2, 100, 220, kernel=HALF)
    launched(built, "aten::mm", [((512, 512), "float32")] * 2, 400, 30, kernel=SIMT)
    assert float32_products(case_of(built)) == []


def test_float8_pays_for_casting_the_activations():
    case = product(HALF, 220, dtype="bfloat16")
    (found,) = findings_of(case, [float8_products])
    half_us, eight_us = (1e6 * FLOPS / rate(case, unit) for unit in ("tensor.bfloat16", "tensor.float8"))
    cast_us = 1e6 * 5 * N * N / rate(case, "dram")  # read for the largest, read again, written as a byte
    high = 220 * (1 - eight_us / half_us)
    expected = [half_us - eight_us - 2 * cast_us, high - cast_us, high]
    prices = [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]
    assert prices == pytest.approx([1000 * us for us in expected], abs=2)
    assert "quantize_" in found.advice


@pytest.mark.parametrize(
    "case",
    [
        product(HALF, 660, dtype="bfloat16", device=A100),  # no float8 units
        product(HALF, 4, dtype="bfloat16", n=512),  # too small
        product(HALF, 40, dtype="bfloat16", n=2056 + 4),  # not a multiple of 16
        product(HALF, 60, dtype="bfloat16"),  # above the roof
    ],
    ids=["A100", "small", "alignment", "above the roof"],
)
def test_float8_is_not_advised(case):
    assert float8_products(case) == []


def test_a_cpu_without_a_faster_type_gets_no_advice_and_one_with_it_autocast_for_the_cpu():
    """Live: whether this processor multiplies bfloat16 faster is what its own ceilings say."""
    model, x = torch.nn.Linear(1024, 1024), torch.randn(256, 1024)
    with torch.no_grad():
        model(x)
        with diagnose.profile() as p:
            model(x)
    rates = {row.resource: row.achievable for row in p.report.document.ceilings}
    found = [each for each in p.report.findings if each.rule in ("float32-products", "tf32-off", "float8-products")]
    is_faster = rates.get("tensor.bfloat16", 0.0) >= 1.3 * rates.get("tensor.float32", float("inf"))
    assert [each.rule for each in found] == (["float32-products"] if is_faster else [])
    assert all("autocast('cpu'" in each.advice for each in found)


def test_of_three_steps_the_numbers_are_those_of_one():
    built = TraceBuilder()
    for step in range(3):
        built.step(step, 3000 * step, 3000)
        launched(built, "aten::mm", [((N, N), "float32")] * 2, 3000 * step + 400, 2500, kernel=SIMT)
    case = case_of(built)
    (proposal,) = tf32_off(case)
    assert (proposal.evidence["kernels_per_step"], proposal.evidence["float32_ns_per_step"]) == (1, 2_500_000)
    alone = tf32_off(product(SIMT, 2500))[0]
    assert proposal.gap_ns == alone.gap_ns


def test_a_recurrent_layer_multiplies_few_rows_at_a_time():
    """Measured on a CPU (LSTM of 256, batch of 16): bfloat16 saves two thirds of what its units promise."""
    built = TraceBuilder(None)
    inputs = [((64, 16, 256), "float32"), ((1024, 256), "float32"), ((1024, 256), "float32"), ((1024,), "float32"),
              ((1024,), "float32"), ((16, 256), "float32"), ((16, 256), "float32")]  # fmt: skip
    built.op("aten::mkldnn_rnn_layer", 0, 20_000, inputs=[*inputs, False, [], 2, 256, 1, True, False, True, True])
    rows = [
        {"device": "cpu", "resource": resource, "achievable": rate, "datasheet": None, "low": None, "high": None,
         "origin": "measured", "source": "test"}
        for resource, rate in (("dram", 2e10), ("tensor.float32", 1e11), ("tensor.bfloat16", 4e11))
    ]  # fmt: skip
    built.top["diagnose"] = {"version": 1, "cpu": {"model": "", "physical_cores": 1, "threads": 1}, "ceilings": rows}
    case = case_of(built)
    assert case.placed.placements[0].bound == "compute"
    (found,) = findings_of(case, [float32_products])
    assert found.recoverable_ns.low == 0
    assert 0.2 * 20e6 < found.recoverable_ns.mid < 0.5 * found.recoverable_ns.high + 1
