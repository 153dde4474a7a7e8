"""A kernel's phase is where on the host its launch was made; each case is a small literal recording."""

from __future__ import annotations

import re

import numpy as np
import pytest

from diagnose.items import collect
from diagnose.wall.phases import MOST_ANNOTATIONS, PHASES, find_phases, item_phases, phases_of
from tests.builders import TraceBuilder

AUTOGRAD = "autograd::engine::evaluate_function: MmBackward0"


def kernel_at(trace: TraceBuilder, at: float, *, thread: int = 100, name: str = "k") -> None:
    """A kernel that is named after its launch, which is made at ``at``."""
    trace.kernel(name, at + 1000, 1, correlation=trace.launch(at, 1, thread=thread))


def phases(trace: TraceBuilder) -> dict[str, str | None]:
    """Phase or annotation by kernel name."""
    recording = collect(trace.reading().trace)
    names, of_item = phases_of(recording)
    kernels = [recording.trace.strings[name] for name in recording.items.name.tolist()]
    return {
        kernel: names[index] if index >= 0 else None for kernel, index in zip(kernels, of_item.tolist(), strict=True)
    }


@pytest.mark.parametrize(
    ("annotation", "phase"),
    [
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("Optimizer.zero_grad#SGD.zero_grad", "optimizer"),
        ("## optimizer ##", "optimizer"),
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "data"),
        ("## data_load ##", "data"),
        ("[pl][profile][_TrainingEpochLoop].train_dataloader_next", "data"),
        ("## forward ##", "forward"),
        ("forward", "forward"),
        ("DistributedDataParallel.forward", "forward"),
        ("FullyShardedDataParallel.forward", "forward"),
        ("[pl][profile][Strategy]DDPStrategy.training_step", "forward"),
        ("## backward ##", "backward"),
        ("[pl][profile][Strategy]DDPStrategy.backward", "backward"),
        ("execute_context_3(57)_generation_0(0)", "prefill"),
        ("execute_context_1(888_788544)_generation_0(0)", "prefill"),
        ("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk55086sqsq32sqsk55086)", "decode"),
        ("execute_context_3(57)_generation_1(1)", "prefill and decode"),
        ("execute_new_2_cached_0", "prefill"),
        ("execute_new_0_cached_16", "decode"),
        ("step[EXTEND bs=2 toks=4096]", "prefill"),
        ("step[DECODE bs=16]", "decode"),
        ("decode[bs=8]", "decode"),
        ("## decoder fp8 None ##", "## decoder fp8 None ##"),
        ("forwarding table", "forwarding table"),
        ("my encoder", "my encoder"),
    ],
)
def test_an_annotation_says_which_phase_it_is(annotation: str, phase: str) -> None:
    trace = TraceBuilder()
    trace.annotation(annotation, 0, 100)
    kernel_at(trace, 10, name="inside")
    kernel_at(trace, 110, name="after")
    assert phases(trace) == {"inside": phase, "after": None}


@pytest.mark.parametrize(
    "annotation",
    ["ProfilerStep#3", "diagnose.profile#0", "nccl:all_reduce", "## Call CompiledFxGraph abc ##",
     "Torch-Compiled Region: 0/0"],
)  # fmt: skip
def test_what_the_profiler_and_torch_write_is_no_annotation_of_the_user(annotation: str) -> None:
    trace = TraceBuilder()
    trace.annotation(annotation, 0, 100)
    kernel_at(trace, 10)
    assert phases(trace) == {"k": None}


def test_the_mark_that_begins_a_step_is_no_phase() -> None:
    trace = TraceBuilder()
    trace.annotation("my step", 0, 100)
    kernel_at(trace, 10)
    recording = collect(trace.reading().trace, re.compile("my step"))
    assert phases_of(recording)[1].tolist() == [-1]


def test_what_autograds_engine_runs_is_the_backward_pass_on_any_thread() -> None:
    trace = TraceBuilder()
    trace.op(AUTOGRAD, 10, 20, thread=200)
    kernel_at(trace, 15, thread=200, name="inside")
    kernel_at(trace, 40, thread=200, name="hook")  # DDP's hooks run on autograd's thread, outside any op
    trace.op(AUTOGRAD, 50, 10, thread=200)
    kernel_at(trace, 15, thread=100, name="other thread")
    assert phases(trace) == {"inside": "backward", "hook": "backward", "other thread": None}


def test_a_backward_op_is_known_by_the_thread_of_its_forward_op() -> None:
    """Where the frames of autograd's engine were not recorded."""
    trace = TraceBuilder()
    trace.op("aten::mm", 0, 10, **{"Sequence number": 7, "Fwd thread id": 0})
    kernel_at(trace, 1, name="forward mm")
    trace.op("MmBackward0", 20, 10, **{"Sequence number": 7, "Fwd thread id": 1})
    kernel_at(trace, 21, name="backward mm")
    assert phases(trace) == {"forward mm": "forward", "backward mm": "backward"}


def training_step(at: float, sequence: int, trace: TraceBuilder) -> None:
    """Forward pass of two ops with one between them that autograd does not see, backward pass, optimizer."""
    trace.op("aten::mm", at, 5, **{"Sequence number": sequence, "Fwd thread id": 0})
    kernel_at(trace, at + 1, name=f"mm {sequence}")
    trace.op("aten::arange", at + 6, 3)
    kernel_at(trace, at + 7, name=f"arange {sequence}")
    trace.op("aten::sum", at + 10, 5, **{"Sequence number": sequence + 1, "Fwd thread id": 0})
    kernel_at(trace, at + 11, name=f"sum {sequence}")
    for number in (1, 0):
        begin = at + 30 - 10 * number
        trace.op(AUTOGRAD, begin, 8, thread=200, **{"Sequence number": sequence + number, "Fwd thread id": 1})
        kernel_at(trace, begin + 2, thread=200, name=f"backward {sequence + number}")
    # What is computed with gradients on after the step carries the next forward op's number.
    trace.op("aten::eq", at + 42, 2, **{"Sequence number": sequence + 2, "Fwd thread id": 0})
    kernel_at(trace, at + 43, name=f"accuracy {sequence}")
    trace.annotation("Optimizer.step#SGD.step", at + 50, 10)
    kernel_at(trace, at + 51, name=f"update {sequence}")


def test_forward_ops_are_those_whose_sequence_number_a_backward_op_carries() -> None:
    trace = TraceBuilder()
    training_step(0, 10, trace)
    training_step(100, 12, trace)
    assert phases(trace) == {
        "mm 10": "forward", "arange 10": "forward", "sum 10": "forward", "backward 11": "backward",
        "backward 10": "backward", "accuracy 10": None, "update 10": "optimizer",
        "mm 12": "forward", "arange 12": "forward", "sum 12": "forward", "backward 13": "backward",
        "backward 12": "backward", "accuracy 12": None, "update 12": "optimizer",
    }  # fmt: skip


def test_without_a_backward_pass_nothing_is_called_forward() -> None:
    trace = TraceBuilder()
    trace.op("aten::mm", 0, 5, **{"Sequence number": 3, "Fwd thread id": 0})
    kernel_at(trace, 1)
    assert phases(trace) == {"k": None}


def test_recomputing_the_forward_pass_inside_the_backward_pass_is_backward() -> None:
    """Activation checkpointing runs the module, and the user's annotation in it, once more."""
    trace = TraceBuilder()
    trace.op(AUTOGRAD, 0, 100, thread=200)
    trace.annotation("## forward ##", 10, 50, thread=200)
    trace.annotation("attention", 20, 20, thread=200)
    kernel_at(trace, 25, thread=200)
    recording = collect(trace.reading().trace)
    found = item_phases(recording)
    assert (PHASES[found.phase[0]], found.annotations[found.annotation[0]]) == ("backward", "attention")


def test_a_closure_of_the_optimizer_is_forward_and_backward_not_optimizer() -> None:
    trace = TraceBuilder()
    trace.annotation("Optimizer.step#LBFGS.step", 0, 100)
    trace.annotation("## forward ##", 10, 20)
    kernel_at(trace, 15, name="forward")
    trace.op(AUTOGRAD, 40, 20)
    kernel_at(trace, 45, name="backward")
    kernel_at(trace, 80, name="update")
    assert phases(trace) == {"forward": "forward", "backward": "backward", "update": "optimizer"}


def test_an_annotation_inside_a_phase_and_one_around_it_leave_the_phase_alone() -> None:
    trace = TraceBuilder()
    trace.annotation("epoch", 0, 300)
    trace.annotation("## forward ##", 10, 100)
    trace.annotation("attention", 20, 30)
    kernel_at(trace, 25, name="attention")
    kernel_at(trace, 60, name="rest of forward")
    kernel_at(trace, 200, name="rest of epoch")
    recording = collect(trace.reading().trace)
    found = item_phases(recording)
    named = [found.annotations[index] for index in found.annotation.tolist()]
    assert named == ["attention", "epoch", "epoch"]
    assert phases(trace) == {"attention": "forward", "rest of forward": "forward", "rest of epoch": "epoch"}


def test_a_kernel_without_a_launch_has_no_phase() -> None:
    trace = TraceBuilder()
    trace.annotation("## forward ##", 0, 100)
    trace.kernel("orphan", 10, 5)
    kernel_at(trace, 20)
    assert phases(trace) == {"orphan": None, "k": "forward"}


def test_ops_of_a_cpu_recording_have_phases_too() -> None:
    trace = TraceBuilder(device=None)
    trace.annotation("## forward ##", 0, 100)
    trace.op("aten::mm", 10, 20)
    trace.op(AUTOGRAD, 200, 50)
    trace.op("aten::mul", 210, 20)
    assert phases(trace) == {"aten::mm": "forward", AUTOGRAD: "backward", "aten::mul": "backward"}


def test_annotations_without_end_are_kept_by_time() -> None:
    """A program that numbers its requests must not fill the report."""
    trace = TraceBuilder()
    for number in range(2 * MOST_ANNOTATIONS):
        trace.annotation(f"request {number}", 10 * number, 1 + number / 100)
        kernel_at(trace, 10 * number + 0.5, name=f"k{number}")
    found = item_phases(collect(trace.reading().trace))
    assert found.annotations == tuple(f"request {number}" for number in range(MOST_ANNOTATIONS, 2 * MOST_ANNOTATIONS))
    assert found.annotation.tolist() == [-1] * MOST_ANNOTATIONS + list(range(MOST_ANNOTATIONS))


def test_the_hosts_time_can_be_asked_for_any_thread_and_time() -> None:
    trace = TraceBuilder()
    trace.annotation("## forward ##", 10, 20)
    trace.annotation("note", 15, 5, thread=200)
    kernel_at(trace, 0)
    recording = collect(trace.reading().trace)
    found = find_phases(recording)
    names = recording.trace.threads
    main, other = names.index("100/100"), names.index("100/200")
    threads = np.array([main, main, main, other, other, -1])
    phase, annotation = found.at(threads, np.array([9_999, 10_000, 29_999, 14_999, 19_999, 15_000]))
    assert phase.tolist() == [-1, 0, 0, -1, -1, -1]
    assert annotation.tolist() == [-1, -1, -1, -1, 0, -1]


def test_a_recording_without_anything_has_no_phases() -> None:
    trace = TraceBuilder()
    kernel_at(trace, 0)
    assert phases_of(collect(trace.reading().trace))[0] == ()


def test_asked_again_the_same_recording_has_the_same_answer_and_another_its_own() -> None:
    recordings = []
    for annotation in ("forward", "backward"):
        trace = TraceBuilder()
        trace.annotation(annotation, 0, 100)
        kernel_at(trace, 10)
        recordings.append(collect(trace.reading().trace))
    first, second = recordings
    assert item_phases(first) is item_phases(first)
    assert PHASES[item_phases(first).phase[0]] == "forward"
    assert PHASES[item_phases(second).phase[0]] == "backward"
    assert PHASES[item_phases(first).phase[0]] == "forward"
