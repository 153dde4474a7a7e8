"""The launch queue over time, by hand and against a count by brute force; in microseconds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.items import collect
from diagnose.wall.launch_queue import launch_queue
from tests.builders import TraceBuilder


def test_depth_rises_when_a_launch_returns_and_falls_when_its_kernel_begins() -> None:
    trace = TraceBuilder()
    trace.kernel("a", 10, 10, correlation=trace.launch(0, 2))
    trace.kernel("b", 20, 10, correlation=trace.launch(3, 2))
    queue = launch_queue(collect(trace.reading().trace), 0)
    assert queue.time.tolist() == [2000, 5000, 10_000, 20_000]
    assert queue.depth.tolist() == [1, 2, 1, 0]
    assert (queue.launched.tolist(), queue.lead.tolist()) == ([2000, 5000], [8000, 15_000])


def test_a_kernel_that_begins_inside_its_launch_call_never_queued() -> None:
    trace = TraceBuilder()
    trace.kernel("a", 5, 10, correlation=trace.launch(0, 9))
    queue = launch_queue(collect(trace.reading().trace), 0)
    assert (queue.depth.max(), queue.lead.tolist()) == (0, [-4000])


def test_a_device_without_launches_has_an_empty_queue() -> None:
    trace = TraceBuilder()
    trace.kernel("orphan", 5, 10)
    assert len(launch_queue(collect(trace.reading().trace), 0).time) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 20), st.integers(-5, 90)), min_size=1, max_size=15))
def test_the_depth_is_the_number_of_launches_that_wait(launches: list[tuple[int, int, int]]) -> None:
    trace = TraceBuilder()
    for at, dur, lead in launches:
        trace.kernel("k", at + max(0, dur + lead), 3, correlation=trace.launch(at, dur))
    recording = collect(trace.reading().trace)
    queue = launch_queue(recording, 0)
    epoch = min(at for at, _, _ in launches)
    spans = [(at + dur - epoch, at + max(0, dur + lead) - epoch) for at, dur, lead in launches]
    for time, depth in zip(queue.time.tolist(), queue.depth.tolist(), strict=True):
        assert depth == sum(1000 * low <= time < 1000 * high for low, high in spans)
    assert queue.depth[-1] == 0
