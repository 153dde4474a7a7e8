"""Rules about collectives: small recordings whose prices are worked out by hand; times in microseconds."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.collective_bytes import float32_gradients, heavy_activations
from diagnose.findings.communication import exposed_collectives, late_rank, slow_link, small_collectives
from diagnose.findings.engine import findings_of
from tests.builders import TraceBuilder, launched

ENGINE = 200  # autograd's thread
LINK = 450e9  # NVLink 4, one way


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def prices(found) -> list[int]:
    return [found.recoverable_ns.low, found.recoverable_ns.mid, found.recoverable_ns.high]


def reduced(
    *, elements: int = 45_000_000, us: float = 700, calls: int = 1, dtype: str = "Float", kernel_us: float = 2000,
    ranks: int = 8, in_backward: bool = True,
) -> TraceBuilder:  # fmt: skip
    """A kernel, then all-reduces with nothing beside them, all launched at the beginning."""
    built = TraceBuilder()
    launched(built, "aten::mm", [((64, 64), "bfloat16")] * 2, 20, kernel_us, launch_at=5)
    if in_backward:
        name = "autograd::engine::evaluate_function: MmBackward0"
        built.op(name, 12, 8, thread=ENGINE, **{"Fwd thread id": 1, "Sequence number": 1})
    for call in range(calls):
        correlation = built.launch(13 + call, 0.5, thread=ENGINE if in_backward else 100)
        at = 20 + kernel_us + call * us
        built.collective(at, us, elements=elements, dtype=dtype, ranks=ranks, correlation=correlation, stream=7)
    return built


def test_exposed_gradients_could_run_beside_the_kernels_before_them():
    # 45 M float32 over 8 ranks: 180 MB x 2 x 7 / 8 = 315 MB cross the link, 700 us at its ceiling.
    (found,) = findings_of(case_of(reduced(us=1000)), [exposed_collectives])
    assert found.evidence["exposed_ns_per_step"] == 1_000_000
    assert found.evidence["link_needs_ns_per_step"] == 700_000
    assert found.evidence["kernels_without_communication_ns_per_step"] == 2_000_000
    # Low: no more than half, though the link needs 700 us; mid: half; high: all.
    assert prices(found) == pytest.approx([500_000, 500_000, 1_000_000], abs=2)
    assert "bucket_cap_mb=86" in found.advice  # half of the 180 MB (172 MiB) that go at once


def test_what_no_kernel_can_cover_is_not_promised():
    (found,) = findings_of(case_of(reduced(us=1000, kernel_us=250)), [exposed_collectives])
    # A quarter of it can be hidden: at best 250 us, half of that in the middle.
    assert prices(found) == pytest.approx([125_000, 125_000, 250_000], abs=2)


def test_a_collective_beside_a_longer_kernel_is_no_finding():
    built = TraceBuilder()
    launched(built, "aten::mm", [((64, 64), "bfloat16")] * 2, 20, 2000, launch_at=5)
    built.collective(100, 700, elements=45_000_000, correlation=built.launch(12, 0.5))
    assert exposed_collectives(case_of(built)) == []


def test_forward_collectives_are_told_to_pipeline():
    (found,) = exposed_collectives(case_of(reduced(us=1000, in_backward=False)))
    assert "in line" in found.title
    assert "_micro_pipeline_tp" in found.advice


def test_a_slow_link_is_priced_above_60_percent_of_its_rate():
    # 315 MB in 7 ms: 45 GB/s of 450. At 60 % it would be 1167 us.
    (found,) = findings_of(case_of(reduced(us=7000)), [slow_link])
    assert found.evidence["best_bus_bytes_per_s"] == 45_000_000_000
    above = 7_000_000 - 700_000 / 0.6
    assert prices(found) == pytest.approx([0, above / 2, above], abs=2)
    assert "nvidia-smi topo -m" in found.advice
    assert "late" in found.assumes


@pytest.mark.parametrize(
    "built",
    [
        reduced(us=1500),  # 210 GB/s: no more than a little slow
        reduced(us=7000, ranks=16),  # over more than one node, where nobody knows the network
        reduced(us=700, elements=1_000_000),  # 16 us at the link's rate: latency has its say
        reduced(us=300),  # faster than the link can be: not believed
    ],
    ids=["fast enough", "two nodes", "small", "not believed"],
)
def test_a_link_that_is_not_called_slow(built):
    assert slow_link(case_of(built)) == []


def test_one_fast_call_shows_that_the_link_is_not_slow():
    built = reduced(us=7000)
    built.collective(20_000, 900, elements=45_000_000, correlation=built.launch(17, 0.5, thread=ENGINE), stream=7)
    assert slow_link(case_of(built)) == []


def test_small_collectives_are_sent_together():
    # 1024 float32 need 16 ns of the link; ten of 20 us each, one stays.
    (found,) = findings_of(case_of(reduced(elements=1024, us=20, calls=10, kernel_us=100)), [small_collectives])
    assert found.evidence["small_collectives_per_step"] == 10
    needed = 9 * 4096 * 1.75 / LINK * 1e9
    assert prices(found)[:2] == pytest.approx([90_000, 180_000 - needed], abs=20)


@pytest.mark.parametrize("calls", [2, 7])
def test_few_small_collectives_are_left_alone(calls):
    assert small_collectives(case_of(reduced(elements=1024, us=20, calls=calls, kernel_us=100))) == []


def in_line(rows: int, *, layers: int = 10, elements: int | None = None) -> TraceBuilder:
    """Layers of a tensor-parallel product [rows, 512] x [512, 4096], each followed by the all-reduce of its output."""
    built, at = TraceBuilder(), 200.0
    for layer in range(layers):
        inputs = [((rows, 512), "bfloat16"), ((512, 4096), "bfloat16")]
        launched(built, "aten::mm", inputs, at, 50, launch_at=10 * layer, kernel="nvjet_tst_128x128")
        sent = rows * 4096 if elements is None else elements
        correlation = built.launch(10 * layer + 6, 1)
        built.collective(at + 50, 900, elements=sent, dtype="BFloat16", correlation=correlation, stream=7)
        at += 950
    return built


def test_reductions_that_kernels_wait_for_cannot_be_sent_together():
    assert small_collectives(case_of(in_line(1))) == []


def test_many_rows_move_more_than_their_weights():
    # k R = 512 x 8 = 4096 rows of weights against 2 x 16384 rows of activations: an eighth.
    (found,) = findings_of(case_of(in_line(16384)), [heavy_activations])
    saved = 10 * 900_000 * (1 - 1 / 8)
    assert prices(found) == pytest.approx([0, saved / 2, saved], abs=20)
    crossed = 16384 * 4096 * 2 * 2 * 7 // 8
    assert found.evidence["activations_crossing_bytes"] == crossed
    assert found.evidence["weights_crossing_bytes"] == 4096 * 4096 * 2 * 7 // 8 == crossed // 8


@pytest.mark.parametrize(
    "built", [in_line(2048), in_line(16384, elements=1000)], ids=["as many weights", "another tensor"]
)
def test_activations_that_are_fewer_or_unknown_are_left_alone(built):
    assert heavy_activations(case_of(built)) == []


def test_float32_gradients_are_priced_by_half_of_the_bytes_less_the_casts():
    case = case_of(reduced(us=1000))
    (found,) = findings_of(case, [float32_gradients])
    dram = case.placed.hardware.ceilings[0].rate("dram")
    assert dram is not None
    casts = 1e9 * 45_000_000 * 12 / dram
    # The only large message is the best one, so that mid and high are the same: half of the 1000 us.
    assert prices(found) == pytest.approx([350_000 - casts, 500_000 - casts, 500_000 - casts], abs=2)
    assert found.evidence["gradient_bytes_per_step"] == 180_000_000
    assert "bf16_compress_hook" in found.advice


@pytest.mark.parametrize(
    "built",
    [reduced(dtype="BFloat16"), reduced(in_backward=False), reduced(elements=1000, us=20)],
    ids=["already 16 bits", "no gradients", "a few numbers"],
)
def test_gradients_that_are_left_alone(built):
    assert float32_gradients(case_of(built)) == []


def test_a_late_rank_is_priced_by_what_all_ranks_together_show():
    case = case_of(reduced(us=1000))
    waited = np.where(case.replayer.duration == 1_000_000, 600_000, 0)
    (found,) = findings_of(case, [lambda seen: late_rank(seen, waited)])
    assert prices(found) == pytest.approx([0, 300_000, 600_000], abs=2)
    assert late_rank(case, np.zeros_like(waited)) == []
