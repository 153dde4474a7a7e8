"""What waited for what: streams for each other's events, the host for the device. Times in microseconds."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.items import Recording, collect
from diagnose.trace.tables import CONTEXT_SYNC, EVENT_SYNC, OTHER_SYNC, STREAM_SYNC, STREAM_WAIT
from diagnose.wall.idle import explain
from diagnose.wall.waits import awaited_by, awaited_ends
from diagnose.wall.waterfall import PARTS
from tests.builders import TraceBuilder

COMPUTE, SIDE = 7, 20


def wait(trace: TraceBuilder, at: float, *, stream: int = SIDE, on: int = COMPUTE, record: int | None) -> int:
    """``stream`` is told to wait for an event on stream ``on``."""
    correlation = trace.launch(at, 1, name="cudaStreamWaitEvent")
    trace.event(
        "cuda_sync", "Stream Wait Event", at, 1, pid=0, tid=stream, cuda_sync_kind="Stream Wait Event", device=0,
        stream=stream, wait_on_stream=on, wait_on_cuda_event_record_corr_id=-1 if record is None else record,
        wait_on_cuda_event_id=1, correlation=correlation,
    )  # fmt: skip
    return correlation


def two_streams() -> TraceBuilder:
    """A kernel on the compute stream until 50, an event after it, a kernel on the side stream launched long before."""
    trace = TraceBuilder()
    trace.kernel("compute", 10, 40, correlation=trace.launch(0, 1), stream=COMPUTE)
    record = trace.launch(2, 1, name="cudaEventRecord")
    wait(trace, 4, record=record)
    trace.kernel("side", 60, 10, correlation=trace.launch(6, 1), stream=SIDE)
    return trace


def parts_of(recording: Recording, start: float, end: float, gap_us: float | None = None) -> dict[str, float]:
    edges = np.array([start * 1000], np.int64), np.array([end * 1000], np.int64)
    found = explain(recording, 0, edges, None if gap_us is None else gap_us * 1000, None).parts[0].tolist()
    return {part: ns / 1000 for part, ns in zip(PARTS, found, strict=True) if ns}


def test_the_columns_are_what_the_recording_says() -> None:
    trace = two_streams()
    trace.event("cuda_sync", "Context Sync", 80, 5, pid=0, tid=-1, stream=4294967295, correlation=9, device=0)
    trace.event("cuda_sync", "Event Sync", 90, 5, pid=0, tid=7, wait_on_stream=7, stream=-1, correlation=10, device=0)
    trace.event("cuda_sync", "Stream Sync", 95, 5, pid=0, tid=7, stream=7, correlation="odd", device=0)
    trace.event("cuda_sync", "Something new", 99, 1, pid=0, tid=7)
    waits = trace.reading().trace.waits
    assert waits.kind.tolist() == [STREAM_WAIT, CONTEXT_SYNC, EVENT_SYNC, STREAM_SYNC, OTHER_SYNC]
    assert waits.stream.tolist() == [SIDE, -1, -1, 7, -1]
    assert waits.wait_on_stream.tolist() == [COMPUTE, -1, 7, -1, -1]
    assert waits.record.tolist() == [2, -1, -1, -1, -1]
    assert waits.correlation.tolist() == [3, 9, 10, -1, -1]
    assert waits.start.tolist() == [4000, 80_000, 90_000, 95_000, 99_000]
    assert waits.device.tolist() == [0, 0, 0, 0, -1]


def test_synchronisation_events_do_not_stretch_the_recording() -> None:
    trace = two_streams()
    before = trace.reading().trace
    trace.event("cuda_sync", "Context Sync", -50, 5000, pid=0, tid=-1, correlation=9)
    after = trace.reading().trace
    assert (after.epoch_ns, after.end_ns) == (before.epoch_ns, before.end_ns)


def test_a_stream_waits_for_what_was_launched_before_the_event_was_recorded() -> None:
    recording = collect(two_streams().reading().trace)
    assert awaited_ends(recording).tolist() == [-1, 50_000]


def test_work_launched_after_the_event_is_not_waited_for() -> None:
    trace = two_streams()
    trace.kernel("later", 70, 40, correlation=trace.launch(3, 1), stream=COMPUTE)
    recording = collect(trace.reading().trace)
    assert awaited_ends(recording).tolist() == [-1, 50_000, -1]


def test_idle_time_that_a_recorded_wait_explains_is_dependency() -> None:
    recording = collect(two_streams().reading().trace)
    assert parts_of(recording, 50, 60) == {"idle_dependency": 10}
    assert parts_of(recording, 50, 60, gap_us=2) == {"idle_slot": 4, "idle_dependency": 6}


def test_a_wait_that_was_over_before_explains_nothing() -> None:
    """The awaited kernel ended at 50, another one kept the device until 55."""
    trace = two_streams()
    trace.kernel("other", 50, 5, correlation=trace.launch(1, 0.5), stream=33)
    recording = collect(trace.reading().trace)
    assert parts_of(recording, 55, 60) == {"idle_queued": 5}


@pytest.mark.parametrize("change", ["another stream", "no wait", "before an earlier launch"])
def test_without_a_wait_of_its_own_a_kernel_is_queued(change: str) -> None:
    trace = TraceBuilder()
    trace.kernel("compute", 10, 40, correlation=trace.launch(0, 1), stream=COMPUTE)
    record = trace.launch(2, 1, name="cudaEventRecord")
    if change == "another stream":
        wait(trace, 4, stream=99, record=record)
    elif change == "before an earlier launch":
        wait(trace, 4, record=record)
        trace.kernel("first to wait", 50, 0, correlation=trace.launch(5, 0.5), stream=SIDE)
    trace.kernel("side", 60, 10, correlation=trace.launch(6, 1), stream=SIDE)
    assert parts_of(collect(trace.reading().trace), 50, 60) == {"idle_queued": 10}


def test_an_event_whose_record_is_not_known_counts_as_recorded_when_it_was_awaited() -> None:
    trace = TraceBuilder()
    trace.kernel("compute", 10, 40, correlation=trace.launch(0, 1), stream=COMPUTE)
    wait(trace, 4, record=None)
    trace.kernel("side", 60, 10, correlation=trace.launch(6, 1), stream=SIDE)
    assert awaited_ends(collect(trace.reading().trace)).tolist() == [-1, 50_000]


def awaited(trace: TraceBuilder) -> list[str | None]:
    """What each blocking call waited for."""
    recording = collect(trace.reading().trace)
    assert recording.links is not None
    found = awaited_by(recording, np.flatnonzero(recording.links.is_blocking))
    strings, items = recording.trace.strings, recording.items
    return [strings[items.name[item]] if item >= 0 else None for item in found.tolist()]


def test_the_host_waited_for_what_ended_last_before_the_call_returned() -> None:
    trace = TraceBuilder()
    trace.kernel("first", 10, 20, correlation=trace.launch(0, 1))
    trace.kernel("second", 30, 20, correlation=trace.launch(2, 1))
    trace.launch(5, 50, name="cudaDeviceSynchronize")
    trace.kernel("after", 60, 20, correlation=trace.launch(56, 1))
    assert awaited(trace) == ["second"]


def test_a_device_that_was_done_is_waited_for_in_vain() -> None:
    trace = TraceBuilder()
    trace.kernel("first", 10, 20, correlation=trace.launch(0, 1))
    trace.launch(40, 5, name="hipDeviceSynchronize")
    assert awaited(trace) == [None]


def test_a_stream_synchronisation_waits_for_its_stream_where_that_is_recorded() -> None:
    trace = TraceBuilder()
    trace.kernel("mine", 10, 20, correlation=trace.launch(0, 1), stream=COMPUTE)
    trace.kernel("other", 10, 30, correlation=trace.launch(2, 1), stream=SIDE)
    correlation = trace.launch(5, 45, name="cudaStreamSynchronize")
    assert awaited(trace) == ["other"]
    trace.event("cuda_sync", "Stream Sync", 5, 45, pid=0, tid=7, stream=COMPUTE, correlation=correlation, device=0)
    assert awaited(trace) == ["mine"]


def test_a_pageable_copy_waits_for_itself() -> None:
    trace = TraceBuilder()
    copy = "Memcpy DtoH (Device -> Pageable)"
    trace.copy(copy, 10, 5, size=4, correlation=trace.launch(0, 20, name="cudaMemcpyAsync"))
    trace.kernel("beside it", 10, 9, correlation=trace.launch(-3, 1), stream=SIDE)
    assert awaited(trace) == [copy]
