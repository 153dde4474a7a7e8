"""Rules about launches that training makes and need not: small recordings with arithmetic by hand, and live ones."""

from __future__ import annotations

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.engine import Rule, findings_of
from diagnose.findings.training_overhead import ddp_copies, optimizer_loop, zero_gradients
from diagnose.schema import Finding
from tests.builders import TraceBuilder

SMALL = ((256,), "float32")


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def optimizing(tensors: int, *, op: str = "aten::add_", mark: str = "Optimizer.step#SGD.step") -> TraceBuilder:
    """A step that ends with an operation a tensor, launched every 10 us: kernels of 2 us that wait for the host."""
    built = TraceBuilder()
    end = 200 + 10 * tensors
    built.step(0, 0, end + 5)
    built.op("aten::mm", 0, 8)
    built.kernel("gemm", 10, 150, correlation=built.launch(2, 2))
    built.annotation(mark, 200, 10 * tensors)
    for number in range(tensors):
        at = 200 + 10 * number
        built.op(op, at, 8, inputs=[SMALL, SMALL, 1])
        built.kernel("vectorized_elementwise_kernel", at + 6, 2, correlation=built.launch(at + 2, 2))
    return built


def test_an_optimizer_in_a_loop_is_priced_by_one_launch_for_many_tensors() -> None:
    case = case_of(optimizing(60))
    finding = found(case, optimizer_loop)
    assert finding is not None
    assert finding.evidence["calls_per_step"] == 60
    assert finding.evidence["calls_left_per_step"] == 2  # 30 tensors a launch
    # Mid: the 58 ops of 8 us are gone, the 2 us of Python between them stay. The device is not in the way.
    assert finding.recoverable_ns.mid == pytest.approx(58 * 8_000, abs=2_000)
    assert finding.recoverable_ns.low == pytest.approx(58 * 4_000 + 58 * 1_000, abs=2_000)  # the launch calls whole
    assert "fused=True" in finding.advice


@pytest.mark.parametrize("op", ["aten::_foreach_add_", "aten::_fused_adamw_"])
def test_an_optimizer_that_takes_many_tensors_at_once_is_left_alone(op: str) -> None:
    assert found(case_of(optimizing(60, op=op)), optimizer_loop) is None


def test_a_few_parameters_are_no_loop_and_other_phases_are_no_optimizer() -> None:
    assert found(case_of(optimizing(10)), optimizer_loop) is None
    assert found(case_of(optimizing(60, mark="my_loop")), optimizer_loop) is None


def test_gradients_set_to_zero_are_priced_by_their_ops() -> None:
    case = case_of(optimizing(60, op="aten::zero_", mark="Optimizer.zero_grad#SGD.zero_grad"))
    finding = found(case, zero_gradients)
    assert finding is not None
    assert finding.evidence["calls_per_step"] == 60
    assert finding.recoverable_ns.mid == pytest.approx(60 * 8_000, abs=10_000)
    assert "set_to_none=True" in finding.advice
    assert found(case, optimizer_loop) is None  # it is told once


def test_zeroing_elsewhere_is_the_programs_own() -> None:
    assert found(case_of(optimizing(60, op="aten::zero_", mark="Optimizer.step#SGD.step")), zero_gradients) is None


def bucketed(copies: int, parent: str) -> TraceBuilder:
    """Copies of 2 us queued behind each other with 1 us between them."""
    built = TraceBuilder()
    built.step(0, 0, 5 + 4 * copies)
    built.op("aten::mm", 0, 2)
    built.kernel("gemm", 10, 400, correlation=built.launch(1, 1))
    for number in range(copies):
        at = 4 + 4 * number
        built.op(parent, at, 4)
        built.op("aten::copy_", at + 1, 2, inputs=[SMALL, SMALL])
        built.copy(
            "Memcpy DtoD (Device -> Device)", 411 + 3 * number, 2, size=1024, correlation=built.launch(at + 1, 1)
        )
    return built


def test_copies_out_of_buckets_are_priced_by_their_time_and_gap() -> None:
    case = case_of(bucketed(80, "torch.distributed.ddp.reducer::copy_bucket_to_grad"))
    finding = found(case, ddp_copies)
    assert finding is not None
    assert finding.recoverable_ns.mid == pytest.approx(80 * 3_000, abs=1_000)
    assert finding.evidence["copies_out_of_buckets_per_step"] == 80
    assert "gradient_as_bucket_view=True" in finding.advice
    assert "broadcast_buffers" not in finding.advice


def test_copies_of_anybody_else_are_left_alone() -> None:
    assert found(case_of(bucketed(80, "my::op")), ddp_copies) is None


@pytest.fixture(scope="module")
def trained() -> Case:
    """A live step on the CPU: an optimizer without foreach, gradients set to zero."""
    torch = pytest.importorskip("torch")
    import diagnose

    model = torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(40)))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, foreach=False)
    x = torch.randn(4, 8)

    def step() -> None:
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    step()
    with diagnose.profile() as p:
        step()
    assert p.report is not None
    assert p.report.case is not None
    return p.report.case


def test_live_zeroing_and_looping_are_found(trained: Case) -> None:
    (zeroing,), (looping,) = zero_gradients(trained), optimizer_loop(trained)
    assert zeroing.evidence["calls_per_step"] == 80  # 40 weights and 40 biases
    assert looping.evidence["calls_per_step"] >= 160  # type: ignore[operator]  # momentum and parameter of each
    assert (trained.replayer.saving(zeroing.mid) or 0) > 0
    assert (trained.replayer.saving(looping.mid) or 0) > 0


def test_a_live_step_that_drops_its_gradients_has_nothing_to_zero() -> None:
    torch = pytest.importorskip("torch")
    import diagnose

    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with diagnose.profile() as p:
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert p.report is not None
    assert p.report.case is not None
    assert zero_gradients(p.report.case) == []
