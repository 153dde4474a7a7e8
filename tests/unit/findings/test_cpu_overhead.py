"""Rules about CPU recordings: synthetic ones by hand, and a live one."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.analysis import analyse
from diagnose.findings.case import Case
from diagnose.findings.cpu_overhead import few_threads, python_bound
from diagnose.findings.engine import Rule, findings_of
from diagnose.schema import Finding
from tests.builders import TraceBuilder

MATRIX = ((512, 512), "float32")


def case_of(built: TraceBuilder) -> Case:
    kept: list[Case] = []
    analyse(built.reading(), keep=kept.append)
    return kept[0]


def found(case: Case, rule: Rule) -> Finding | None:
    rows = findings_of(case, [rule])
    assert len(rows) <= 1
    return rows[0] if rows else None


def dispatching(gap: int, *, view_us: int = 10) -> TraceBuilder:
    """Ten rounds of a product of 40 us and a view, with so much Python before each op."""
    built, at = TraceBuilder(None), 0
    for _ in range(10):
        built.op("aten::mm", at + gap, 40, inputs=[MATRIX, MATRIX])
        built.op("aten::t", at + 2 * gap + 40, view_us, inputs=[MATRIX])
        at += 2 * gap + 40 + view_us
    built.step(0, 0, at)
    return built


def test_python_between_ops_is_priced_with_the_ops_that_only_dispatch() -> None:
    finding = found(case_of(dispatching(30)), python_bound)
    assert finding is not None
    # 20 gaps of 30 us and 10 views of 10 us of 1,100 us.
    assert finding.evidence["between_ops_ns_per_step"] == 600_000
    assert finding.evidence["small_ops_ns_per_step"] == 100_000
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high) == (
        300_000, 650_000, 700_000,
    )  # fmt: skip
    assert "torch.compile" in finding.advice
    assert "inference_mode" in finding.advice


def test_python_never_takes_more_than_the_step_whatever_its_first_step_took() -> None:
    built, at = TraceBuilder(None), 0
    for number, us in enumerate((300, 10, 10)):
        built.step(number, at, 10 * (10 + us))
        for _ in range(10):
            built.op("aten::t", at + 10, us, inputs=[MATRIX])
            at += 10 + us
    finding = found(case_of(built), python_bound)
    assert finding is not None
    assert float(finding.evidence["share"]) <= 1


def test_ops_that_compute_leave_python_out_of_it() -> None:
    assert found(case_of(dispatching(2, view_us=1)), python_bound) is None


def test_a_device_recording_gets_no_advice_for_a_cpu() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 8)
    built.kernel("gemm", 10, 100, correlation=built.launch(2, 2))
    case = case_of(built)
    assert found(case, python_bound) is None
    assert found(case, few_threads) is None


def threaded(threads: int, cores: int) -> TraceBuilder:
    """One product of 1 ms on a machine of so many cores whose ceilings make it compute-bound."""
    built = TraceBuilder(None)
    built.op("aten::mm", 0, 1000, inputs=[MATRIX, MATRIX])
    rows: list[dict[str, Any]] = [
        {"device": "cpu", "resource": resource, "achievable": rate, "datasheet": None, "low": None, "high": None,
         "origin": "measured", "source": "test"}
        for resource, rate in (("tensor.float32", 3e11), ("dram", 1e11), ("kernel_floor", 1e-6))
    ]  # fmt: skip
    facts = {"model": "test", "physical_cores": cores, "threads": threads}
    built.top["diagnose"] = {"version": 1, "cpu": facts, "ceilings": rows}
    return built


def test_threads_that_leave_cores_idle_are_priced_by_what_scaling_reaches() -> None:
    finding = found(case_of(threaded(2, 8)), few_threads)
    assert finding is not None
    # 1 ms on 2 of 8 cores: ideally a quarter of it; half and four fifths of that gain.
    assert (finding.recoverable_ns.low, finding.recoverable_ns.mid, finding.recoverable_ns.high) == (
        375_000, 600_000, 750_000,
    )  # fmt: skip
    assert finding.bound == "compute"
    assert "torch.set_num_threads(8)" in finding.advice


@pytest.mark.parametrize("threads", [8, 16])
def test_a_machine_whose_cores_are_all_in_use_is_left_alone(threads: int) -> None:
    assert found(case_of(threaded(threads, 8)), few_threads) is None


def test_a_live_loop_of_small_ops_is_bound_by_python() -> None:
    torch = pytest.importorskip("torch")
    import diagnose

    x = torch.ones(8)
    with torch.no_grad(), diagnose.profile() as p:
        for _ in range(300):
            x.view(2, 4).t().reshape(8)
    assert p.report is not None
    assert p.report.case is not None
    finding = found(p.report.case, python_bound)
    assert finding is not None
    assert finding.evidence["ops_per_step"] >= 600  # type: ignore[operator]
