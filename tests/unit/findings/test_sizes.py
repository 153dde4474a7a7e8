"""Rules about the sizes of products; prices worked out by hand, times in microseconds."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.findings.sizes import odd_sizes, partial_wave
from tests.builders import TraceBuilder, launched

SM80 = "cutlass_80_tensorop_bf16_s16816gemm_bf16_128x256_32x3_nn_align2"
SM90 = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_kernel"


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def multiplied(built: TraceBuilder, sizes: tuple[int, int, int], at: float, us: float, **kernel_args) -> None:
    """A product [m, k] x [k, n]."""
    m, k, n = sizes
    inputs = [((m, k), "bfloat16"), ((k, n), "bfloat16")]
    launched(built, "aten::mm", inputs, at, us, **{"kernel": SM80, **kernel_args})


def roof_us(case: Case, m: int, k: int, n: int) -> float:
    rate = case.placed.hardware.ceilings[0].rate("tensor.bfloat16")
    assert rate is not None
    return 1e6 * 2 * m * k * n / rate


def prices(found) -> list[int]:
    return [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]


def test_an_odd_vocabulary_is_padded_to_64_and_priced_by_what_aligned_products_reach_here():
    built = TraceBuilder()
    multiplied(built, (8192, 1024, 50257), 100, 2500)
    multiplied(built, (8192, 1024, 4096), 2600, 120, kernel=SM90, launch_at=20)  # queued behind the first
    case = case_of(built)
    (found,) = findings_of(case, [odd_sizes])
    padded = roof_us(case, 8192, 1024, 50304)
    reached = roof_us(case, 8192, 1024, 4096) / 120
    assert (found.evidence["n_now"], found.evidence["n_padded"]) == (50257, 50304)
    low, high = 2500 - padded / reached, 2500 - padded
    assert prices(found) == pytest.approx([1000 * us for us in (low, (low + high) / 2, high)], abs=1000)
    assert "50304" in found.advice


def test_without_an_aligned_product_to_compare_with_the_least_is_nothing():
    built = TraceBuilder()
    multiplied(built, (8192, 1024, 50257), 100, 2500)
    (found,) = odd_sizes(case_of(built))
    assert found.gap_ns is not None
    assert found.gap_ns.low == 0
    assert found.gap_ns.high > 0


@pytest.mark.parametrize(
    ("m", "k", "n", "us"),
    [(8192, 1024, 50304, 2500), (8192, 1024, 50257, 1150), (8192, 1024, 17, 60), (8192, 1024, 50257, 300)],
    ids=["aligned", "near its roof", "padding would treble it", "not believed"],
)
def test_sizes_that_are_left_alone(m, k, n, us):
    built = TraceBuilder()
    multiplied(built, (m, k, n), 100, us)
    assert odd_sizes(case_of(built)) == []


def test_one_tile_more_than_two_waves():
    """17 x 16 tiles of 128 x 128 on 132 blocks: 2.06 waves, so that a third one runs for 8 tiles."""
    built = TraceBuilder()
    multiplied(built, (17 * 128, 4096, 16 * 128), 100, 90, kernel=SM90, grid=(132, 1, 1))
    (found,) = findings_of(case_of(built), [partial_wave])
    assert (found.evidence["tiles"], found.evidence["tiles_at_once"], found.evidence["waves"]) == (272, 132, 2.06)
    lost = 90_000 * (1 - 272 / 132 / 3)
    assert prices(found) == pytest.approx([0, lost / 2, lost], abs=2)
    # Whole waves: 264 tiles are 16 rows of 16 tiles, 396 are 24 rows of them.
    assert (found.evidence["rows_in_whole_waves"], found.evidence["rows_in_one_wave_more"]) == (16 * 128, 24 * 128)


@pytest.mark.parametrize("rows", [16, 24], ids=["1.94 waves", "2.91 waves"])
def test_nearly_full_waves_are_left_alone(rows):
    built = TraceBuilder()
    multiplied(built, (rows * 128, 4096, 16 * 128), 100, 130, kernel=SM90, grid=(132, 1, 1))
    assert partial_wave(case_of(built)) == []


def test_a_split_product_has_no_waves_to_count():
    built = TraceBuilder()
    name = SM80.replace("nn_align2", "splitk_nn_align8")
    multiplied(built, (17 * 128, 4096, 16 * 128), 100, 90, kernel=name, grid=(132, 1, 1))
    assert partial_wave(case_of(built)) == []
