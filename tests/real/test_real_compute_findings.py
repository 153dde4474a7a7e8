"""Rules about compute and communication on real recordings: what they find is worked out here from shapes and times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from diagnose.analysis import Options, analyse
from diagnose.findings import communication, compute
from diagnose.findings.case import Case
from diagnose.findings.engine import findings_of
from diagnose.trace.chrome import read_trace

RULES = (*compute.RULES, *communication.RULES)


@cache
def case_of(path: Path) -> Case:
    kept: list[Case] = []
    analyse(read_trace(path), Options(), keep=kept.append)
    return kept[0]


def rate(case: Case, device: int, resource: str) -> float:
    found = case.placed.hardware.ceilings[device].rate(resource)
    assert found is not None
    return found


def test_each_proposal_is_plain_numbers_and_claims_no_more_than_its_kernels_take(real_trace: Path) -> None:
    case = case_of(real_trace)
    for rule in RULES:
        for proposal in rule(case):
            assert all(type(value) in (int, float, str) for value in proposal.evidence.values()), proposal.evidence
            assert proposal.where
            assert proposal.advice
            if proposal.gap_ns is not None:
                assert 0 <= proposal.gap_ns.low <= proposal.gap_ns.mid <= proposal.gap_ns.high
                groups = {cell.row for cell in proposal.cells if cell.row is not None}
                assert proposal.gap_ns.high <= case.time_ns(groups) / len(case.steps) + 1


def test_what_a_recording_without_shapes_holds_is_not_priced_by_its_work(trace_path: Callable[[str], Path]) -> None:
    """a100_alexnet runs sgemm kernels on vector units, v100_resnet everything in float32: nobody knows how much."""
    for name in ("a100_alexnet_train_sync", "v100_resnet_ddp_rank0"):
        found = [each for rule in compute.RULES for each in rule(case_of(trace_path(name)))]
        assert [(each.rule, each.gap_ns.low) for each in found if each.gap_ns is not None] == [("float32-kernels", 0)]


def test_the_names_of_the_resnet_on_v100_tell_float32(trace_path: Callable[[str], Path]) -> None:
    """805 kernels named volta_sgemm, scudnn and engine<float> in five steps take 273,157 us; float16: 125 / 15.7."""
    (found,) = findings_of(case_of(trace_path("v100_resnet_ddp_rank0")), compute.RULES)
    assert (found.rule, found.evidence["kernels_per_step"]) == ("float32-kernels", 161)
    assert found.evidence["float32_ns_per_step"] == 54_631_304
    assert found.gap_ns is not None
    most = 54_631_304 * (1 - 15.7 / 125)
    assert [found.gap_ns.low, found.gap_ns.mid, found.gap_ns.high] == pytest.approx([0, most / 2, most], abs=2)


def test_float8_for_the_gate_and_up_projections_of_qwen(trace_path: Callable[[str], Path]) -> None:
    case = case_of(trace_path("h100_qwen_0.5b_prefill_b16"))
    found = {each.rule: each for each in findings_of(case, RULES)}
    assert set(found) == {"float8-products"}
    m, k, n, calls, us = 16 * 559, 1024, 2816, 48, 4015.501 / 48
    now, then = (1e6 * 2 * m * k * n / rate(case, 0, unit) for unit in ("tensor.bfloat16", "tensor.float8"))
    activations, weights = (1e6 * 5 * count / rate(case, 0, "dram") for count in (m * k, k * n))
    low, high = now - then - activations - weights, us * (1 - then / now)
    gap = found["float8-products"].gap_ns
    assert gap is not None
    expected = [1000 * calls * each for each in (low, high - activations, high)]
    assert [gap.low, gap.mid, gap.high] == pytest.approx(expected, rel=1e-3)
    # The device is nearly always busy: the step wins about what its kernels do.
    assert found["float8-products"].recoverable_ns.mid == pytest.approx(gap.mid, rel=0.1)


def test_the_reductions_of_the_resnet_on_mi300x(trace_path: Callable[[str], Path]) -> None:
    """17.6 MB over eight ranks take 8.66 ms at best, 3.6 GB/s of 448: the link or a late rank, never bandwidth."""
    case = case_of(trace_path("mi300x_resnet_train_checkpoint"))
    found = {each.rule: each for each in findings_of(case, RULES)}
    assert set(found) == {"slow-link"}  # hiding the collectives would give nothing beyond that
    slow = found["slow-link"]
    crossed = 2 * 8816192 * 2 * 7 / 8
    assert slow.evidence["best_bus_bytes_per_s"] == pytest.approx(crossed / 8656.708e-6, rel=1e-6)
    assert slow.recoverable_ns.low == 0


@pytest.mark.parametrize(
    "name", ["h100_bert_small_b1", "h100_vit_bf16_b4", "mi300x_bert_small_b1", "b200_vllm_moe_tp8_rank0"]
)
def test_a_step_that_waits_for_launches_gains_nothing_from_faster_kernels(
    trace_path: Callable[[str], Path], name: str
) -> None:
    found = findings_of(case_of(trace_path(name)), RULES)
    assert [each.rule for each in found if each.rule != "shared-input"] == []  # that one spares launches
