"""Busy, idle and overlapped time of random recordings against a count by brute force, nanosecond by nanosecond."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.analysis import analyse
from tests.builders import TraceBuilder

COMMUNICATION = "ncclDevKernel_AllReduce_Sum_f32_RING_LL"
AUTOGRAD = "autograd::engine::evaluate_function: MmBackward0"
ANNOTATIONS = ("## forward ##", "attention", "Optimizer.step#SGD.step", "enumerate(DataLoader)#x")
CALLS = ("cudaMalloc", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cuModuleLoadData")

ACTIVITIES = st.lists(
    st.tuples(
        st.sampled_from(["kernel", "collective", "copy", "orphan"]),
        st.integers(0, 300),  # launch
        st.integers(-20, 150),  # begin after it
        st.integers(0, 80),  # duration
        st.integers(0, 1),  # device
        st.integers(1, 4),  # stream
        st.sampled_from([100, 200]),  # thread
    ),
    min_size=1,
    max_size=14,
)
MARKS = st.lists(
    st.tuples(
        st.sampled_from((*ANNOTATIONS, *CALLS, AUTOGRAD)), st.integers(0, 400), st.integers(0, 90),
        st.sampled_from([100, 200]),
    ),
    max_size=8,
)  # fmt: skip
STEPS = st.lists(st.integers(0, 300), max_size=3, unique=True).map(sorted)
Activity = tuple[str, int, int, int, int, int, int]


def built(activities: list[Activity], marks: list[tuple[str, int, int, int]], steps: list[int]) -> TraceBuilder:
    trace = TraceBuilder()
    for number, at in enumerate(steps):
        trace.step(number, at, 40)
    for what, at, lead, length, device, stream, thread in activities:
        where = {"device": device, "stream": stream}
        correlation = None if what == "orphan" else trace.launch(at, 2, thread=thread)
        if what == "copy":
            name = "Memcpy HtoD (Pinned -> Device)"
            trace.copy(name, at + lead, length, size=8, correlation=correlation, **where)
        else:
            name = COMMUNICATION if what == "collective" else "gemm"
            trace.kernel(name, at + lead, length, correlation=correlation, **where)
    for name, at, length, thread in marks:
        if name == AUTOGRAD:
            trace.op(name, at, length, thread=thread)
        elif name in CALLS:
            trace.launch(at, length, name=name, thread=thread)
        else:
            trace.annotation(name, at, length, thread=thread)
    return trace


@settings(max_examples=60, deadline=None)
@given(ACTIVITIES, MARKS, STEPS)
def test_every_moment_is_counted_once_and_as_what_it_is(
    activities: list[Activity], marks: list[tuple[str, int, int, int]], steps: list[int]
) -> None:
    trace = built(activities, marks, steps)
    reading = trace.reading()
    document = analyse(reading)
    begin = int(document.window.epoch_ns) // 1000 - trace.epoch_us
    wall = document.window.wall_ns // 1000
    assert document.window.wall_ns == 1000 * wall  # every time above is in whole microseconds
    for device in {device for *_, device, _, _ in activities}:
        running = np.zeros((2, wall), np.int64)  # compute, communication
        for what, at, lead, length, where, _, _ in activities:
            low, high = (min(max(edge - begin, 0), wall) for edge in (at + lead, at + lead + length))
            if where == device:
                running[1 if what in ("collective", "copy") else 0, low:high] += 1
        owned: Counter[str] = Counter()
        for row in document.waterfall:
            if row.step is None and row.device == f"cuda:{device}":
                owned["idle" if row.part.startswith("idle") else "busy"] += row.ns
        assert owned["busy"] == 1000 * int((running.sum(axis=0) > 0).sum())
        assert owned["idle"] == 1000 * int((running.sum(axis=0) == 0).sum())
        # What ran at the same time as something else is owned once: kernels' time minus what they own is overlap.
        carried = sum(
            row.ns for row in document.waterfall
            if row.step is None and row.device == f"cuda:{device}" and row.part == "carried_over"
        )  # fmt: skip
        exposed = sum(row.exposed_ns for row in document.kernels if row.device == f"cuda:{device}")
        assert exposed + carried == owned["busy"]


@settings(max_examples=60, deadline=None)
@given(ACTIVITIES, MARKS, STEPS)
def test_idle_rows_phases_and_annotations_sum_to_the_waterfall(
    activities: list[Activity], marks: list[tuple[str, int, int, int]], steps: list[int]
) -> None:
    document = analyse(built(activities, marks, steps).reading())
    whole: Counter[tuple[object, ...]] = Counter()
    for row in document.waterfall:
        whole[row.device, row.step, row.part] += row.ns
    phases: Counter[tuple[object, ...]] = Counter()
    for row in document.phases:
        phases[row.device, row.step, row.part] += row.ns
        assert row.ns > 0
    annotations: Counter[tuple[object, ...]] = Counter()
    for row in document.annotations:
        annotations[row.device, None, row.part] += row.ns
    idle: Counter[tuple[object, ...]] = Counter()
    for row in document.idle:
        idle[row.device, None, row.part] += row.ns
        assert row.ns > 0
    devices = {device for device, *_ in phases}
    assert phases == Counter({key: ns for key, ns in whole.items() if key[0] in devices})
    devices = {device for device, *_ in annotations}
    assert annotations == Counter({key: ns for key, ns in whole.items() if key[0] in devices and key[1] is None})
    assert idle == Counter({key: ns for key, ns in whole.items() if key[1] is None and str(key[2]).startswith("idle")})
    assert sum(row.idle_ns for row in document.synchronizations) <= sum(
        ns for key, ns in idle.items() if key[2] == "idle_sync"
    )
