"""Kernels of replayed device graphs get back the ops that a replay loses."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.analysis import Options, analyse
from diagnose.items import collect
from tests.builders import TraceBuilder

MM = [((64, 64), "bfloat16"), ((64, 64), "bfloat16")]
RELU = [((64, 64), "bfloat16")]
STEPS = (("aten::mm", MM, "gemm_kernel"), ("aten::relu", RELU, "relu_kernel"), ("aten::mm", MM, "gemm_kernel"))


def capture(trace: TraceBuilder, at: float = 0, *, names: bool = True, steps=STEPS) -> None:
    """A graph's capture: launches inside ops, without activity; ROCm's calls also name the kernel."""
    trace.launch(at, 1, name="hipStreamBeginCapture")
    for index, (op, inputs, kernel) in enumerate(steps):
        trace.op(op, at + 10 * index + 2, 8, inputs=inputs)
        correlation = trace.launch(at + 10 * index + 4, 2, name="hipModuleLaunchKernel")
        if names:
            trace.events[-1]["args"]["kernel"] = kernel
        assert correlation
    trace.launch(at + 10 * len(steps) + 2, 1, name="hipStreamEndCapture")


def replay(trace: TraceBuilder, at: float = 100, kernels=("gemm_kernel", "relu_kernel", "gemm_kernel")) -> None:
    correlation = trace.launch(at, 5, name="hipGraphLaunch")
    for index, kernel in enumerate(kernels):
        trace.kernel(kernel, at + 10 + 20 * index, 15, correlation=correlation, grid=None, block=None)


def ops_of(trace: TraceBuilder, given: TraceBuilder | None = None) -> list[str | None]:
    recording = collect(trace.reading().trace, capture=None if given is None else given.reading().trace)
    names = recording.trace.ops.name
    return [recording.trace.strings[names[row]] if row >= 0 else None for row in recording.items.op.tolist()]


@pytest.mark.parametrize("names", [True, False])
def test_a_capture_in_another_recording_links_the_replay(names):
    given, trace = TraceBuilder(), TraceBuilder()
    capture(given, names=names)
    replay(trace)
    assert ops_of(trace, given) == ["aten::mm", "aten::relu", "aten::mm"]


def test_a_capture_in_the_same_recording_links_every_replay():
    trace = TraceBuilder()
    capture(trace)
    replay(trace, 100)
    replay(trace, 300)
    assert ops_of(trace) == ["aten::mm", "aten::relu", "aten::mm"] * 2


def test_each_replay_does_the_work_once():
    trace = TraceBuilder()
    capture(trace)
    replay(trace, 100)
    replay(trace, 300)
    rows = {row.kernel: row for row in analyse(trace.reading()).kernels}
    assert rows["gemm_kernel"].calls == 4
    assert rows["gemm_kernel"].flops == 2 * 64**3
    assert rows["gemm_kernel"].cost_source == "capture"


def test_the_warm_up_before_the_capture_links_the_replay():
    trace = TraceBuilder()
    for index, (op, inputs, kernel) in enumerate(STEPS):
        trace.op(op, 10 * index, 8, inputs=inputs)
        trace.kernel(kernel, 40 + 5 * index, 4, correlation=trace.launch(10 * index + 1))
    replay(trace)
    assert ops_of(trace)[3:] == ["aten::mm", "aten::relu", "aten::mm"]


def test_a_capture_of_other_kernels_is_refused_and_said():
    given, trace = TraceBuilder(), TraceBuilder()
    capture(given, steps=STEPS[::-1][:2] + STEPS[1:2])
    replay(trace)
    assert ops_of(trace, given) == [None] * 3
    notes = analyse(trace.reading(), Options(capture=given.reading().trace)).notes
    assert any("does not fit" in note for note in notes)
    assert any("3 kernels of replayed graphs have no known capture" in note for note in notes)


def test_captures_of_equal_length_with_other_ops_leave_it_open():
    """Without kernel names captures of as many launches cannot be told apart: no link is better than a wrong one."""
    trace = TraceBuilder()
    capture(trace, 0, names=False)
    capture(trace, 50, names=False, steps=STEPS[:2] + STEPS[1:2])
    replay(trace, 200)
    assert ops_of(trace) == [None] * 3


def test_node_ids_win_over_start_times():
    trace = TraceBuilder()
    capture(trace)
    correlation = trace.launch(100, 5, name="cudaGraphLaunch")
    for node, kernel, at in ((2, "gemm_kernel", 110), (1, "relu_kernel", 112), (0, "gemm_kernel", 114)):
        trace.kernel(kernel, at, 1, correlation=correlation, **{"graph node id": node})
    recording = collect(trace.reading().trace)
    rows = recording.items.op[np.argsort(recording.trace.activities.graph_node)].tolist()
    assert [recording.trace.strings[recording.trace.ops.name[row]] for row in rows] == [
        "aten::mm",
        "aten::relu",
        "aten::mm",
    ]
    assert rows == sorted(rows)


def test_launches_outside_the_capture_do_not_count():
    trace = TraceBuilder()
    trace.kernel("fill_kernel", 1, 1, correlation=trace.launch(0, 1))
    capture(trace, 5)
    replay(trace)
    assert ops_of(trace)[1:] == ["aten::mm", "aten::relu", "aten::mm"]


def test_a_capture_in_the_first_step_serves_the_replays_of_later_ones():
    """What ``profile()`` records of a user's code that warms up, captures and then replays, all in one recording."""
    trace = TraceBuilder()
    trace.step(0, 0, 99)
    capture(trace, 5)
    trace.step(1, 100, 99)
    replay(trace, 110)
    trace.step(2, 200, 99)
    replay(trace, 210)
    document = analyse(trace.reading())
    assert document.coverage.linked_ns == document.coverage.costed_ns == document.coverage.kernel_ns == 6 * 15_000
    rows = {row.kernel: row for row in document.kernels}
    assert {name: (row.calls, row.flops) for name, row in rows.items()} == {
        "gemm_kernel": (4, 2 * 64**3),
        "relu_kernel": (2, 64 * 64),
    }
    assert [step.name for step in document.window.steps] == ["ProfilerStep#0", "ProfilerStep#1", "ProfilerStep#2"]
    assert "captur" in document.verdict.verdict


def test_a_warm_up_before_the_window_serves_its_replays():
    """The warm-up's kernels are not of the window, its ops tell the replay's all the same."""
    trace = TraceBuilder()
    for index, (op, inputs, kernel) in enumerate(STEPS):
        trace.op(op, 10 * index, 8, inputs=inputs)
        trace.kernel(kernel, 40 + 5 * index, 4, correlation=trace.launch(10 * index + 1))
    trace.step(0, 100, 99)
    replay(trace, 110)
    document = analyse(trace.reading())
    assert {row.kernel: row.op for row in document.kernels} == {"gemm_kernel": "aten::mm", "relu_kernel": "aten::relu"}
    assert document.coverage.costed_ns == document.coverage.kernel_ns == 3 * 15_000


def test_of_several_captures_each_replay_finds_its_own():
    """Graphs for several batch sizes are captured one after another; the kernels' names tell them apart."""
    other = (("aten::relu", RELU, "relu_kernel"), ("aten::mm", MM, "gemm_kernel"), ("aten::relu", RELU, "relu_kernel"))
    trace = TraceBuilder()
    capture(trace, 0)
    capture(trace, 50, steps=other)
    replay(trace, 200, kernels=("relu_kernel", "gemm_kernel", "relu_kernel"))
    replay(trace, 400)
    assert ops_of(trace) == ["aten::relu", "aten::mm", "aten::relu", "aten::mm", "aten::relu", "aten::mm"]
