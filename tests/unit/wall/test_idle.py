"""Idle time belongs to the launch of what ends it; each case is worked out by hand, in microseconds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.items import collect
from diagnose.trace.extras import Extras, GcRun
from diagnose.wall.idle import explain
from diagnose.wall.waterfall import PARTS
from tests.builders import EPOCH_US, TraceBuilder


def explained(trace: TraceBuilder, *gaps: tuple[float, float], gap_us: float | None = None, extras=None):
    """The parts of the given idle intervals, in microseconds from the recording's first event."""
    recording = collect(trace.reading().trace)
    start, end = (np.array([round(gap[side] * 1000) for gap in gaps], np.int64) for side in (0, 1))
    found = explain(recording, 0, (start, end), None if gap_us is None else gap_us * 1000, extras)
    return [{part: ns / 1000 for part, ns in zip(PARTS, row, strict=True) if ns} for row in found.parts.tolist()], found


def two_kernels(second_launch: float, second_start: float = 100, launch_dur: float = 5) -> TraceBuilder:
    """A kernel from 10 to 20 us, another one later; between them the device is idle."""
    trace = TraceBuilder()
    trace.op("aten::first", 0, 8)
    trace.kernel("a", 10, 10, correlation=trace.launch(1, 5))
    trace.op("aten::second", second_launch - 1, launch_dur + 2)
    trace.kernel("b", second_start, 10, correlation=trace.launch(second_launch, launch_dur))
    return trace


def test_a_launch_that_comes_after_the_device_ran_dry_is_late():
    """20 to 90 the host did something else, 90 to 95 it launched, 95 to 100 the kernel was queued."""
    (parts,), found = explained(two_kernels(90), (20, 100))
    assert parts == {"idle_launch": 75, "idle_queued": 5}
    assert found.call.tolist() == [1]


def test_up_to_two_usual_gaps_after_the_launch_are_the_price_of_a_kernel():
    (parts,), _ = explained(two_kernels(90), (20, 100), gap_us=2)
    assert parts == {"idle_launch": 75, "idle_slot": 4, "idle_queued": 1}


def test_a_queued_kernel_is_never_the_hosts_fault():
    """Launched at 5 us, long before the device ran dry."""
    (parts,), _ = explained(two_kernels(8, launch_dur=1), (20, 100), gap_us=1)
    assert parts == {"idle_slot": 2, "idle_queued": 78}


def test_a_synchronisation_the_thread_was_in_when_the_device_ran_dry_explains_the_late_launch():
    trace = two_kernels(90)
    trace.launch(12, 9, name="cudaStreamSynchronize")
    (parts,), found = explained(trace, (20, 100))
    assert parts == {"idle_sync": 70, "idle_launch": 5, "idle_queued": 5}
    assert found.blocking.tolist() != [-1]


def test_a_synchronisation_that_was_over_before_does_not():
    trace = two_kernels(90)
    trace.launch(12, 2, name="cudaStreamSynchronize")
    (parts,), _ = explained(trace, (20, 100))
    assert "idle_sync" not in parts


def test_a_synchronisation_of_another_thread_does_not():
    trace = two_kernels(90)
    trace.launch(12, 9, name="cudaStreamSynchronize", thread=200)
    (parts,), _ = explained(trace, (20, 100))
    assert "idle_sync" not in parts


@pytest.mark.parametrize(
    ("add", "part"),
    [
        (lambda trace: trace.launch(30, 40, name="cudaMalloc"), "idle_allocator"),
        (lambda trace: trace.launch(30, 40, name="cuModuleLoadData", cat="cuda_driver"), "idle_compile"),
        (
            lambda trace: trace.annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", 30, 40),
            "idle_data",
        ),
        (lambda trace: trace.event("overhead", "Activity Buffer Request", 30, 40, pid=-1, tid=0), "idle_profiler"),
        (lambda trace: trace.event("overhead", "Lazy Function Loading", 30, 40, pid=-1, tid=0), "idle_compile"),
    ],
)
def test_what_the_launching_thread_was_in_takes_its_share(add, part):
    trace = two_kernels(90)
    add(trace)
    (parts,), _ = explained(trace, (20, 100))
    assert parts == {part: 40, "idle_launch": 35, "idle_queued": 5}


def test_the_collector_wins_over_what_it_interrupted():
    trace = two_kernels(90)
    trace.annotation("enumerate(DataLoader)#x", 30, 40)
    run = GcRun(start_ns=(EPOCH_US + 40) * 1000, duration_ns=10_000)
    (parts,), _ = explained(trace, (20, 100), extras=Extras(gc_runs=(run,)))
    assert parts == {"idle_gc": 10, "idle_data": 30, "idle_launch": 35, "idle_queued": 5}


def test_a_runtime_call_of_a_second_is_start_up():
    trace = TraceBuilder()
    trace.launch(0, 1_000_000, name="cudaDeviceGetStreamPriorityRange")
    trace.kernel("a", 1_000_010, 10, correlation=trace.launch(1_000_001, 5))
    (parts,), _ = explained(trace, (0, 1_000_010))
    assert parts == {"idle_startup": 1_000_000, "idle_launch": 6, "idle_queued": 4}


def test_without_a_recorded_launch_nothing_is_claimed():
    trace = two_kernels(90)
    trace.kernel("orphan", 200, 10)
    (parts,), _ = explained(trace, (110, 200))
    assert parts == {"idle_unknown": 90}


def test_after_the_last_kernel_the_thread_that_launched_it_had_more_to_do():
    trace = two_kernels(90)
    trace.op("aten::view", 150, 5)
    (parts,), found = explained(trace, (110, 155))
    assert parts == {"idle_launch": 45}
    assert found.call.tolist() == [-1]


NAMES = ("cudaMalloc", "cudaDeviceSynchronize", "cuModuleLoad")


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 80), st.sampled_from(NAMES)), max_size=6),
    st.lists(st.tuples(st.integers(0, 600), st.integers(1, 60)), min_size=1, max_size=6),
)
def test_parts_add_up_whatever_happened(kernels, calls, gaps):
    trace = TraceBuilder()
    trace.op("aten::begin", 0, 1)
    for at, wait, duration in kernels:
        trace.kernel("k", at + wait + 1, duration, correlation=trace.launch(at, 1))
    for at, duration, name in calls:
        trace.launch(at, duration, name=name)
    parts, found = explained(trace, *[(at, at + length) for at, length in gaps], gap_us=3)
    assert [round(sum(row.values())) for row in parts] == [length for _, length in gaps]
    assert (found.parts >= 0).all()
