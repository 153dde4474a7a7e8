"""Kernels find their launch whatever the call is named, and their op by time; ids only count where they prove right."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.trace.link import link, match, taken
from tests.builders import TraceBuilder


def op_names(built: TraceBuilder) -> list[str | None]:
    """The linked op of each activity, in order of start."""
    trace = built.reading().trace
    found = link(trace)
    return [trace.strings[int(trace.ops.name[row])] if row >= 0 else None for row in found.op.tolist()]


@pytest.mark.parametrize(
    ("name", "cat"),
    [
        ("cudaLaunchKernel", "cuda_runtime"), ("cudaLaunchKernelExC", "cuda_runtime"),
        ("cuLaunchKernel", "cuda_driver"),
        ("cuLaunchKernelEx", "cuda_driver"), ("hipLaunchKernel", "cuda_runtime"),
        ("hipModuleLaunchKernel", "cuda_runtime"),
        ("hipExtLaunchKernel", "cuda_runtime"), ("urEnqueueKernelLaunch", "xpu_runtime"),
        ("aCallOfTheFuture", "cuda_runtime"),
    ],
)  # fmt: skip
def test_a_launch_of_any_name(name: str, cat: str) -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 10)
    built.kernel("k", 20, 5, correlation=built.launch(2, 3, name=name, cat=cat))
    assert op_names(built) == ["aten::mm"]


def test_the_op_is_the_innermost_one_of_the_launching_thread() -> None:
    built = TraceBuilder()
    built.op("outer", 0, 100)
    built.op("inner", 10, 50)
    built.op("innermost", 20, 5)  # over before the launch
    built.op("another thread", 10, 50, thread=2)
    built.kernel("k", 200, 5, correlation=built.launch(30, 3))
    assert op_names(built) == ["inner"]


def test_one_op_may_own_many_kernels_and_a_kernel_may_have_no_op() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 10)
    built.kernel("a", 20, 5, correlation=built.launch(2, 1))
    built.kernel("b", 25, 5, correlation=built.launch(4, 1))
    built.kernel("c", 30, 5, correlation=built.launch(14, 1))
    assert op_names(built) == ["aten::mm", "aten::mm", None]
    found = link(built.reading().trace)
    assert (found.launches, found.checked) == (3, 0)


def test_a_replayed_graph_shares_one_launch() -> None:
    built = TraceBuilder()
    replay = built.launch(2, 3, name="cudaGraphLaunch")
    for index in range(4):
        built.kernel(f"k{index}", 10 + index, 1, correlation=replay)
    found = link(built.reading().trace)
    assert found.call.tolist() == [0, 0, 0, 0]
    assert found.op.tolist() == [-1, -1, -1, -1]


def trusted(agreeing: int, wrong: int = 0) -> TraceBuilder:
    """Launched kernels whose External id agrees with the launch or not, then one kernel that lost its launch."""
    built = TraceBuilder()
    others = built.op("unrelated", 0, 1)
    for index in range(agreeing + wrong):
        at = 10 * index + 10
        external = built.op(f"op{index}", at, 8)
        said = external if index < agreeing else others
        built.kernel(f"k{index}", at + 5, 3, correlation=built.launch(at + 1, 2), external_id=said)
    built.kernel("lost", 10_000, 5, correlation=999, external_id=others)
    return built


def test_an_external_id_that_proves_right_stands_in_for_a_lost_launch() -> None:
    assert op_names(trusted(agreeing=20))[-1] == "unrelated"


def test_an_external_id_that_is_contradicted_is_not_followed() -> None:
    # Older recordings write the correlation there, which lands on ops seconds away and looks right.
    assert op_names(trusted(agreeing=10, wrong=10))[-1] is None
    found = link(trusted(agreeing=10, wrong=10).reading().trace)
    assert (found.agreeing, found.checked) == (10, 20)
    assert "contradicts" in found.notes[0]


def test_the_launch_wins_where_the_two_differ() -> None:
    assert op_names(trusted(agreeing=10, wrong=10))[:-1] == [f"op{index}" for index in range(20)]


def test_an_external_id_that_nothing_confirms_is_not_followed() -> None:
    built = TraceBuilder()
    external = built.op("aten::mm", 0, 10)
    built.kernel("k", 20, 5, correlation=77, external_id=external)
    assert op_names(built) == [None]


def test_calls_without_an_activity_are_no_matter() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 10)
    built.launch(1, 1, name="cudaMemsetAsync")
    built.kernel("k", 20, 5, correlation=built.launch(4, 2))
    assert op_names(built) == ["aten::mm"]


def test_a_correlation_that_was_not_recorded_links_to_nothing() -> None:
    built = TraceBuilder()
    built.event("cuda_runtime", "cudaLaunchKernel", 1, 1)
    built.kernel("k", 20, 5)
    assert link(built.reading().trace).call.tolist() == [-1]


def test_match_and_taken() -> None:
    keys = np.array([5, -1, 3, 5], np.int64)
    assert match(keys, np.array([5, 3, 4, -1, -5], np.int64)).tolist() == [0, 2, -1, -1, -1]
    assert match(np.zeros(0, np.int64), np.array([1], np.int64)).tolist() == [-1]
    assert taken(np.array([10, 20]), np.array([1, -1, 0])).tolist() == [20, -1, 10]
    assert taken(np.zeros(0, np.int64), np.array([-1])).tolist() == [-1]
