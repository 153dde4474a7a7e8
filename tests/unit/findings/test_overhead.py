"""Rules about launching: small recordings whose changed course is worked out by hand; times in microseconds."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.overhead import kernel_slots, launch_bound, tiny_kernels
from diagnose.schema import Finding
from tests.builders import TraceBuilder

VECTOR = [((1024,), "float32"), ((1024,), "float32")]
ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, add>()"


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    """What the rule alone finds."""
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def late(count: int = 20) -> TraceBuilder:
    """Kernels of 5 us, launched every 50 us by ops of 40 us; the step's mark ends 5 us after the last op."""
    built = TraceBuilder()
    built.step(0, 0, 50 * count - 5)
    for number in range(count):
        built.op("aten::add", 50 * number, 40, inputs=VECTOR)
        built.kernel(ELEMENTWISE, 50 * number + 35, 5, correlation=built.launch(50 * number + 30, 3))
    return built


def queued(count: int = 100, kernel_us: int = 10) -> TraceBuilder:
    """Kernels launched every 2 us, 1 us between them: the device is behind."""
    built = TraceBuilder()
    period = kernel_us + 1
    built.step(0, 0, 2 * count)
    for number in range(count):
        built.op("aten::mm", 2 * number, 2)
        built.kernel("gemm", 1 + period * number, kernel_us, correlation=built.launch(2 * number, 1))
    return built


def test_a_step_that_waits_for_launches_is_priced_by_a_graph() -> None:
    case = case_of(late())
    finding = found(case, launch_bound)
    assert finding is not None
    # Low: ops of 20 us and 10 us between them. The last op ends at 19 x 30 + 20 = 590, the mark 5 later: 995 - 595.
    assert finding.recoverable_ns.low == 400_000
    # High: all 19 x 50 us between the ends of the first and the last launch go; kernels abut from 33 on: 33 + 20 x 5.
    assert finding.recoverable_ns.high == 995_000 - 133_000
    # Mid: of the 950 us 95 stay, so that the mark ends at 140; the kernels, a quarter of the gap apart, end before.
    gap_ns = 0.25 * (case.placed.hardware.ceilings[0].rate("kernel_gap") or 0) * 1e9
    assert 133_000 + 19 * gap_ns < 140_000
    assert finding.recoverable_ns.mid == 995_000 - 140_000
    assert finding.evidence["launches_per_step"] == 20
    assert "reduce-overhead" in finding.advice
    assert finding.evidence["waiting_ns_per_step"] == case.step_idle_ns("idle_launch")


def test_a_step_whose_device_is_behind_is_not_launch_bound() -> None:
    assert found(case_of(queued()), launch_bound) is None


def test_a_window_with_a_graph_capture_says_nothing_of_launches() -> None:
    built = late()
    built.launch(36, 1, name="cudaStreamBeginCapture")
    built.launch(45, 1, name="cudaStreamEndCapture")
    assert found(case_of(built), launch_bound) is None


def test_a_larger_batch_is_advised_with_what_fits_while_the_device_waits() -> None:
    finding = found(case_of(late()), launch_bound)
    assert finding is not None
    assert "x10 fits" in finding.advice  # 995 us a step, 100 us of kernels
    assert finding.evidence["busy_ns_per_step"] == 100_000


def test_gaps_between_queued_kernels_are_priced_by_the_gap_inside_a_graph() -> None:
    finding = found(case_of(queued()), kernel_slots)
    assert finding is not None
    # 99 gaps of 1 us between the kernels; a half, three quarters, all of them go.
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high) == (
        49_500, 74_250, 99_000,
    )  # fmt: skip
    assert finding.evidence["kernels_per_step"] == 100


def test_gaps_of_long_kernels_are_not_worth_a_graph() -> None:
    assert found(case_of(queued(count=60, kernel_us=400)), kernel_slots) is None


def test_gaps_are_not_told_twice_where_launches_are_late() -> None:
    assert found(case_of(late()), kernel_slots) is None


def blocks(kernel: str, count: int = 10) -> TraceBuilder:
    """A large matrix product, then three small kernels of 2 us on the same stream; 1 us between any two."""
    built = TraceBuilder()
    built.step(0, 0, 16 * count)
    at, host = 15, 0
    for _ in range(count):
        for op, name, us in [("aten::mm", "gemm", 60), *[("aten::add", kernel, 2)] * 3]:
            inputs = VECTOR if op == "aten::add" else [((2048, 2048), "bfloat16"), ((2048, 2048), "bfloat16")]
            built.op(op, host, 3, inputs=inputs)
            built.kernel(name, at, us, correlation=built.launch(host + 1, 1))
            at, host = at + us + 1, host + 4
    return built


def test_runs_of_small_pointwise_kernels_are_priced_by_those_that_one_kernel_replaces() -> None:
    finding = found(case_of(blocks(ELEMENTWISE)), tiny_kernels)
    assert finding is not None
    # Of each run of three one stays: 10 x 2 kernels of 2 us and the gap of 1 us before each. The host is ahead anyway.
    assert finding.recoverable_ns.low == finding.recoverable_ns.mid == finding.recoverable_ns.high == 60_000
    assert finding.evidence["kernels_to_fuse_per_step"] == 20
    assert finding.evidence["runs_per_step"] == 10
    assert finding.where == ["aten::add"]


def test_small_kernels_that_no_compiler_fuses_are_left_alone() -> None:
    assert found(case_of(blocks("void at::native::reduce_kernel<512, 1>()")), tiny_kernels) is None


def test_a_few_small_kernels_are_not_worth_a_sentence() -> None:
    assert found(case_of(blocks(ELEMENTWISE, count=4)), tiny_kernels) is None


def waiting(at_us: float) -> TraceBuilder:
    """``late`` with a value read back: its op waits for the device for 1 us."""
    built = late()
    built.op("aten::_local_scalar_dense", at_us, 2)
    built.launch(at_us + 0.5, 1, name="cudaStreamSynchronize")
    return built


def test_what_waits_inside_the_step_has_to_go_before_a_graph() -> None:
    finding = found(case_of(waiting(443)), launch_bound)
    assert finding is not None
    assert finding.evidence["blocking_calls_inside_per_step"] == 1
    assert "aten::_local_scalar_dense" in finding.assumes


def test_what_waits_after_the_last_launch_cuts_no_graph() -> None:
    finding = found(case_of(waiting(991)), launch_bound)
    assert finding is not None
    assert finding.evidence["blocking_calls_inside_per_step"] == 0
    assert "wait" not in finding.assumes


def test_places_are_those_with_the_most_idle_time_however_many_rows_it_has() -> None:
    built = TraceBuilder()
    built.step(0, 0, 200)
    for start, op, call in ((0, "aten::add", "cudaLaunchKernel"), (30, "aten::add", "cuLaunchKernel"),
                            (60, "aten::mul", "cudaLaunchKernel")):  # fmt: skip
        us = 40 if op == "aten::mul" else 25
        built.op(op, start, us, inputs=VECTOR)
        built.kernel(ELEMENTWISE, start + us, 5, correlation=built.launch(start + us - 3, 2, name=call))
    case = case_of(built)
    assert next(row.op for row in case.idle if row.part == "idle_launch" and row.op) == "aten::mul"
    assert case.idle_places("idle_launch")[0] == "aten::add"


def test_time_in_which_something_unrecorded_may_run_leaves_no_room_for_a_batch() -> None:
    built = TraceBuilder()
    built.step(0, 0, 995)
    for number in range(20):  # each kernel waits 13 us in its queue, for nothing that was recorded
        built.op("aten::add", 50 * number, 40, inputs=VECTOR)
        built.kernel(ELEMENTWISE, 50 * number + 46, 5, correlation=built.launch(50 * number + 30, 3))
    finding = found(case_of(built), launch_bound)
    assert finding is not None
    assert finding.evidence["busy_ns_per_step"] == 100_000
    assert "x3 fits" in finding.advice


def test_stacks_that_slow_the_host_are_said() -> None:
    built = late()
    assert "stacks" not in (found(case_of(built), launch_bound) or pytest.fail("nothing found")).assumes
    built.event("python_function", "train.py(3): step", 0, 900)
    assert "stacks" in (found(case_of(built), launch_bound) or pytest.fail("nothing found")).assumes


def test_graphs_of_vllm_cover_the_sizes_that_were_captured() -> None:
    built = late()
    built.op("vllm::moe_forward", 991, 3)
    built.kernel("moe", 994, 1, correlation=built.launch(992, 1))
    finding = found(case_of(built), launch_bound)
    assert finding is not None
    assert "enforce_eager=False" in finding.advice
    assert "cudagraph_capture_sizes" in finding.advice
