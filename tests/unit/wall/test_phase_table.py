"""The waterfall by phase and by annotation: who owns what in a small step, and that nothing is lost."""

from __future__ import annotations

from collections import Counter

from diagnose.analysis import analyse
from diagnose.schema import Document
from tests.builders import TraceBuilder, launched

AUTOGRAD = "autograd::engine::evaluate_function: MmBackward0"


def training_steps(count: int = 2) -> TraceBuilder:
    """Each step: data until 30, forward kernel 40 to 60, backward 70 to 110, update 120 to 130; 200 us apart."""
    trace = TraceBuilder()
    for number in range(count):
        at = 200 * number
        trace.step(number, at, 150)
        trace.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", at + 5, 25)
        trace.annotation("## forward ##", at + 35, 30)
        trace.annotation("attention", at + 36, 10)
        launched(trace, "aten::mm", None, at + 45, 20, launch_at=at + 40)
        trace.op(AUTOGRAD, at + 66, 10, thread=200)
        trace.kernel("backward", at + 75, 40, correlation=trace.launch(at + 70, 3, thread=200))
        trace.annotation("Optimizer.step#SGD.step", at + 118, 20)
        launched(trace, "aten::add_", None, at + 125, 10, launch_at=at + 120)
    return trace


def by_phase(document: Document, step: int | None) -> dict[tuple[str | None, str], int]:
    return {(row.phase, row.part): row.ns // 1000 for row in document.phases if row.step == step}


def test_a_phase_owns_its_kernels_and_the_idle_time_before_them() -> None:
    assert by_phase(analyse(training_steps(1).reading()), 0) == {
        ("data", "idle_data"): 25,
        ("forward", "idle_launch"): 18,  # 0 to 5 and 30 to 43: the launch call ends at 43
        ("forward", "idle_slot"): 2,
        ("forward", "uncosted"): 20,
        ("backward", "idle_launch"): 8,
        ("backward", "idle_slot"): 2,
        ("backward", "uncosted"): 40,
        ("optimizer", "idle_launch"): 8,
        ("optimizer", "idle_slot"): 2,
        ("optimizer", "uncosted"): 10,
        (None, "idle_launch"): 15,  # nothing follows
    }


def test_phases_sum_to_the_waterfall_in_each_step_and_over_the_window() -> None:
    document = analyse(training_steps(3).reading())
    whole, phases = Counter(), Counter()
    for row in document.waterfall:
        whole[row.device, row.step, row.part] += row.ns
    for row in document.phases:
        phases[row.device, row.step, row.part] += row.ns
    assert whole == phases
    for row in document.phases:
        wall = document.window.wall_ns if row.step is None else document.window.steps[row.step].wall_ns
        assert row.share == row.ns / wall


def test_an_annotation_has_a_waterfall_of_its_own() -> None:
    document = analyse(training_steps(2).reading())
    owned = Counter()
    for row in document.annotations:
        owned[row.annotation] += row.ns // 1000
    assert owned["attention"] >= 2 * 20
    assert sum(owned.values()) == document.window.wall_ns // 1000


def test_where_no_phase_is_known_the_table_is_empty() -> None:
    trace = TraceBuilder()
    launched(trace, "aten::mm", None, 45, 20, launch_at=40)
    document = analyse(trace.reading())
    assert (document.phases, document.annotations) == ([], [])


def test_each_device_has_its_own() -> None:
    trace = training_steps(1)
    trace.header("NVIDIA H100 80GB HBM3", 1)
    trace.annotation("## forward ##", 160, 20)
    launched(trace, "aten::mm", None, 170, 5, launch_at=165, device=1)
    document = analyse(trace.reading())
    by_device = Counter()
    for row in document.phases:
        if row.step is None:
            by_device[row.device] += row.ns
    assert set(by_device.values()) == {document.window.wall_ns}
    assert len(by_device) == 2
