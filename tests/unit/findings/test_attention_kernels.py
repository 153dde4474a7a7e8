"""A faster attention kernel on Hopper; times in microseconds, prices worked out by hand."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.attention_kernels import attention_kernel
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from tests.builders import TraceBuilder, launched

FLASH_2 = "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 64, 4>, false>()"
FLASH_2_BACK = (
    "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<pytorch_flash::Flash_bwd_kernel_traits<128>>()"
)
FLASH_3 = "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90>>>()"
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"


def case_of(
    *, tokens: int = 4096, us: float = 800, width: int = 128, dropout: float = 0.0, dtype: str = "bfloat16",
    kernel: str = FLASH_2, device: str = H100,
) -> Case:  # fmt: skip
    """Ten attentions of 4 x 16 heads, one behind the other: 4 x 4 x 16 x 4096 ^ 2 x 128 = 550 GFLOP each."""
    built, at = TraceBuilder(device), 40.0
    heads = ((4, tokens, 16, width), dtype)
    for number in range(10):
        inputs = [heads, heads, heads, None, None, tokens, tokens, dropout, False, False]
        launched(built, "aten::_flash_attention_forward", inputs, at, us, kernel=kernel, launch_at=1 + 3 * number)
        at += us
    built.step(0, 0, 40)
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def test_flash_attention_2_on_hopper_is_priced_by_what_was_published() -> None:
    # 550 GFLOP in 1600 us: 344 TFLOP/s of about 800, 43 %. 1.5 times as fast: 1067 us; twice: 800 us, above the roof.
    case = case_of(us=1600)
    roof_ns = 4 * 4 * 16 * 4096**2 * 128 / (case.placed.hardware.ceilings[0].rate("tensor.bfloat16") or 0) * 1e9
    assert roof_ns < 800_000
    (found,) = findings_of(case, [attention_kernel])
    assert found.recoverable_ns.low == 0
    assert found.recoverable_ns.mid == pytest.approx(10 * (1_600_000 - 1_600_000 / 1.5), abs=20)
    assert found.recoverable_ns.high == pytest.approx(10 * 800_000, abs=20)
    assert found.evidence["queries"] == 4096
    assert "CUDNN_ATTENTION" in found.advice


def test_no_promise_goes_beyond_the_roof() -> None:
    case = case_of(us=1200)  # 58 % of the roof: twice as fast would be 600 us, which no kernel reaches
    roof_ns = 4 * 4 * 16 * 4096**2 * 128 / (case.placed.hardware.ceilings[0].rate("tensor.bfloat16") or 0) * 1e9
    assert roof_ns > 600_000
    (found,) = findings_of(case, [attention_kernel])
    assert found.recoverable_ns.high == pytest.approx(10 * (1_200_000 - roof_ns), abs=20)


@pytest.mark.parametrize(
    "other",
    [
        {"us": 900},
        {"tokens": 256, "us": 20},
        {"dropout": 0.1},
        {"width": 132},
        {"kernel": FLASH_3},
        {"device": A100, "us": 5000},
    ],
    ids=["well used", "short", "dropout", "odd width", "newer kernel", "no Hopper"],
)
def test_what_is_left_alone(other: dict[str, object]) -> None:
    assert attention_kernel(case_of(**{"us": 1600, **other})) == []  # type: ignore[arg-type]


def test_the_backward_pass_is_recognised_by_its_kernel_and_arguments() -> None:
    built, heads, logsumexp = TraceBuilder(), ((4, 4096, 16, 128), "bfloat16"), ((4, 16, 4096), "float32")
    inputs = [heads] * 5 + [logsumexp, None, None, 4096, 4096, 0.0, False, None, None]
    launched(built, "aten::_flash_attention_backward", inputs, 40, 4000, kernel=FLASH_2_BACK, launch_at=1)
    built.step(0, 0, 30)
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    (found,) = findings_of(kept[0], [attention_kernel])
    # Five products in place of two: 1.37 TFLOP in 4 ms. 1.75 times as fast: 2286 us.
    assert found.recoverable_ns.high == pytest.approx(4_000_000 * (1 - 1 / 1.75), abs=20)
