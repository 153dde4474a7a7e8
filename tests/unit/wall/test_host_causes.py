"""Each thing that can hold up a launch, alone, two at once, and on the thread that handed over; in microseconds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from diagnose.items import collect
from diagnose.trace.extras import Extras, GcRun
from diagnose.wall.host_causes import CAUSES
from diagnose.wall.idle import explain
from diagnose.wall.waterfall import PARTS
from tests.builders import EPOCH_US, TraceBuilder

MAIN, AUTOGRAD, OTHER = 100, 200, 300


def explained(trace: TraceBuilder, start: float, end: float, extras: Extras | None = None) -> dict[str, float]:
    """The parts of one idle interval, in microseconds."""
    recording = collect(trace.reading().trace)
    edges = np.array([start * 1000], np.int64), np.array([end * 1000], np.int64)
    parts = explain(recording, 0, edges, None, extras).parts[0].tolist()
    return {part: ns / 1000 for part, ns in zip(PARTS, parts, strict=True) if ns}


def late_launch(*, first: int = MAIN, second: int = MAIN, device: str = "NVIDIA H100 80GB HBM3") -> TraceBuilder:
    """A kernel until 20 us, the next one launched from 90 to 100, when it starts: idle from 20 to 100."""
    trace = TraceBuilder(device)
    trace.kernel("a", 10, 10, correlation=trace.launch(0, 5, thread=first))
    trace.kernel("b", 100, 10, correlation=trace.launch(90, 10, thread=second))
    return trace


Adding = Callable[[TraceBuilder, float, float, int], "Extras | None"]


def call(name: str, cat: str = "cuda_runtime") -> Adding:
    def add(trace: TraceBuilder, at: float, dur: float, thread: int) -> None:
        trace.launch(at, dur, name=name, cat=cat, thread=thread)

    return add


def annotation(name: str) -> Adding:
    return lambda trace, at, dur, thread: trace.annotation(name, at, dur, thread=thread)


def op(name: str) -> Adding:
    def add(trace: TraceBuilder, at: float, dur: float, thread: int) -> None:
        trace.op(name, at, dur, thread=thread)

    return add


def overhead(name: str) -> Adding:
    def add(trace: TraceBuilder, at: float, dur: float, _thread: int) -> None:
        trace.event("overhead", name, at, dur, pid=-1, tid=0)

    return add


def collection(_trace: TraceBuilder, at: float, dur: float, _thread: int) -> Extras:
    return Extras(gc_runs=(GcRun(int((EPOCH_US + at) * 1000), int(dur * 1000)),))


def capture(trace: TraceBuilder, at: float, dur: float, thread: int) -> None:
    trace.launch(at, 1, name="cudaStreamBeginCapture_v10000", thread=thread)
    trace.launch(at + 5, 1, thread=thread)  # captured: it runs nothing
    trace.launch(at + dur - 1, 1, name="cudaStreamEndCapture_v10000", thread=thread)


SOURCES: list[tuple[str, Adding]] = [
    ("idle_gc", collection),
    ("idle_profiler", overhead("Activity Buffer Request")),
    ("idle_profiler", overhead("CUPTI resource")),
    ("idle_startup", call("cuDevicePrimaryCtxRetain", "cuda_driver")),
    ("idle_startup", call("cuCtxCreate_v2", "cuda_driver")),
    ("idle_startup", call("hipInitDevice")),
    ("idle_allocator", call("cudaMalloc")),
    ("idle_allocator", call("cudaFree")),
    ("idle_allocator", call("cudaHostAlloc")),
    ("idle_allocator", call("cudaFreeHost")),
    ("idle_allocator", call("hipMalloc")),
    ("idle_allocator", call("hipFree")),
    ("idle_allocator", call("hipExtMallocWithFlags")),
    ("idle_allocator", call("cuMemCreate", "cuda_driver")),
    ("idle_allocator", call("cuMemMap", "cuda_driver")),
    ("idle_allocator", call("cuMemAlloc_v2", "cuda_driver")),
    ("idle_compile", call("cuModuleLoadData", "cuda_driver")),
    ("idle_compile", call("cuLibraryLoadData", "cuda_driver")),
    ("idle_compile", call("hipModuleLoad")),
    ("idle_compile", call("cudaGraphInstantiate")),
    ("idle_compile", call("hipGraphInstantiate")),
    ("idle_compile", overhead("Lazy Function Loading")),
    ("idle_compile", annotation("_compile.compile_inner (dynamo_timed): _dynamo")),
    ("idle_compile", op("CachingAutotuner.benchmark_all_configs")),
    ("idle_compile", capture),
    ("idle_data", annotation("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__")),
    ("idle_data", annotation("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__")),
    ("idle_data", annotation("[pl][profile][_TrainingEpochLoop].train_dataloader_next")),
    ("idle_data", annotation("## data_load ##")),
]


@pytest.mark.parametrize(("part", "add"), SOURCES)
def test_each_cause_alone_takes_its_own_time(part: str, add: Adding) -> None:
    trace = late_launch()
    extras = add(trace, 30, 40, MAIN)
    assert explained(trace, 20, 100, extras) == {part: 40, "idle_launch": 40}


@pytest.mark.parametrize(("part", "add"), SOURCES)
def test_only_what_lies_between_the_gaps_start_and_the_launch_counts(part: str, add: Adding) -> None:
    trace = late_launch()
    extras = add(trace, 6, 24, MAIN)
    assert explained(trace, 20, 100, extras) == {part: 10, "idle_launch": 70}


FIRST_OF = dict(reversed(SOURCES))


@pytest.mark.parametrize(("inner", "outer"), list(combinations(CAUSES, 2)))
def test_of_two_at_once_the_inner_one_takes_what_both_hold(inner: str, outer: str) -> None:
    """Both from 30 to 70, and the outer one alone to 80."""
    trace = late_launch()
    found = [FIRST_OF[outer](trace, 30, 50, MAIN), FIRST_OF[inner](trace, 30, 40, MAIN)]
    extras = next((each for each in found if each is not None), None)
    assert explained(trace, 20, 100, extras) == {inner: 40, outer: 10, "idle_launch": 30}


@pytest.mark.parametrize(("part", "add"), SOURCES)
def test_a_cause_inside_a_synchronisations_shadow_is_told_apart(part: str, add: Adding) -> None:
    """The thread synchronised when the device ran dry, then did something else, then launched."""
    trace = late_launch()
    trace.launch(12, 10, name="cudaStreamSynchronize")
    extras = add(trace, 30, 40, MAIN)
    assert explained(trace, 20, 100, extras) == {part: 40, "idle_sync": 30, "idle_launch": 10}


@pytest.mark.parametrize("name", ["enumerated", "cudaLaunchKernel", "my_loader_free_op", "aten::empty"])
def test_what_is_none_of_them_is_launching(name: str) -> None:
    trace = late_launch()
    trace.op(name, 30, 40)
    assert explained(trace, 20, 100) == {"idle_launch": 80}


def test_a_long_runtime_call_is_start_up_unless_it_waits_or_allocates() -> None:
    for name, part in (
        ("cudaGetDeviceCount", "idle_startup"),
        ("cudaDeviceSynchronize", "idle_sync"),
        ("cudaMalloc", "idle_allocator"),
        ("cuModuleLoadData", "idle_compile"),
    ):
        trace = TraceBuilder()
        trace.kernel("a", 10, 10, correlation=trace.launch(0, 5))
        trace.launch(20, 60_000, name=name)
        trace.kernel("b", 60_100, 10, correlation=trace.launch(60_100, 0))
        assert explained(trace, 20, 60_100)[part] >= 60_000, name


def test_a_launching_thread_that_worked_all_along_answers_for_itself() -> None:
    """What another thread did meanwhile is none of its business."""
    trace = late_launch(first=MAIN, second=AUTOGRAD)
    trace.op("autograd::engine::evaluate_function: MmBackward0", 15, 90, thread=AUTOGRAD)
    trace.launch(30, 40, name="cudaMalloc", thread=MAIN)
    trace.launch(12, 10, name="cudaStreamSynchronize", thread=MAIN)
    assert explained(trace, 20, 100) == {"idle_launch": 80}


@pytest.mark.parametrize(("part", "add"), SOURCES)
def test_before_the_launching_thread_woke_the_one_before_it_answers(part: str, add: Adding) -> None:
    """The forward thread is held up from 30 to 70; autograd's thread begins at 80 and launches at 90."""
    trace = late_launch(first=MAIN, second=AUTOGRAD)
    extras = add(trace, 30, 40, MAIN)
    trace.op("autograd::engine::evaluate_function: MmBackward0", 80, 25, thread=AUTOGRAD)
    assert explained(trace, 20, 100, extras) == {part: 40, "idle_launch": 40}


def test_a_synchronisation_before_the_backward_pass_is_the_forward_threads() -> None:
    """``loss.item(); loss.backward()``: the first launch afterwards is made by autograd's thread."""
    trace = late_launch(first=MAIN, second=AUTOGRAD)
    trace.launch(8, 14, name="cudaStreamSynchronize", thread=MAIN)
    trace.op("autograd::engine::evaluate_function: MmBackward0", 80, 25, thread=AUTOGRAD)
    assert explained(trace, 20, 100) == {"idle_sync": 70, "idle_launch": 10}


def test_a_third_thread_answers_for_nothing() -> None:
    trace = late_launch(first=MAIN, second=AUTOGRAD)
    trace.launch(8, 14, name="cudaStreamSynchronize", thread=OTHER)
    trace.launch(30, 40, name="cudaMalloc", thread=OTHER)
    assert explained(trace, 20, 100) == {"idle_launch": 80}


def test_a_moment_in_which_both_threads_are_held_up_counts_once() -> None:
    """Autograd's thread wakes at 50, inside an allocation; the thread before it allocates from 30 to 70."""
    trace = late_launch(first=MAIN, second=AUTOGRAD)
    trace.launch(30, 40, name="cudaMalloc", thread=MAIN)
    trace.launch(50, 30, name="cudaMalloc", thread=AUTOGRAD)
    assert explained(trace, 20, 100) == {"idle_allocator": 50, "idle_launch": 30}


def test_three_launching_threads_are_each_seen() -> None:
    """A pipeline: each stage's thread is held up by its own allocation."""
    trace = TraceBuilder()
    gaps = []
    for stage, thread in enumerate((MAIN, AUTOGRAD, OTHER, MAIN)):
        at = 100 * stage
        trace.launch(at + 1, 10 * (stage + 1), name="cudaMalloc", thread=thread)
        trace.kernel("k", at + 90, 10, correlation=trace.launch(at + 80, 10, thread=thread))
        gaps.append((at, at + 90))
    recording = collect(trace.reading().trace)
    edges = tuple(np.array([gap[side] * 1000 for gap in gaps], np.int64) - 1000 for side in (0, 1))
    found = explain(recording, 0, (np.maximum(edges[0], 0), edges[1]), None, None)
    assert (found.parts[:, PARTS.index("idle_allocator")] // 1000).tolist() == [10, 20, 30, 40]
