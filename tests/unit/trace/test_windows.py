"""Steps cut at completion, by hand. Times in microseconds; boundaries relative to the first mark."""

from __future__ import annotations

import re

import pytest

from diagnose.errors import UsageError
from diagnose.items import Recording, collect
from tests.builders import TraceBuilder


def boundaries_us(recording: Recording) -> list[float]:
    low = recording.steps.boundaries[0]
    return [float(edge - low) / 1000 for edge in recording.steps.boundaries.tolist()]


def host_ahead() -> TraceBuilder:
    """Three steps of 100 on the host; the device takes 150 each and runs a step behind at the end.

    D(0) = 0, the first mark; D(1) = 160, when step 0's kernel ends; D(2) = 310; D(3) = 460, though the last mark ends
    at 300. By annotation alone step 1 would hold 60 of step 0's work and 40 of its own.
    """
    built = TraceBuilder()
    for number in range(3):
        built.step(number, 100 * number, 100)
        built.kernel(f"k{number}", 10 + 150 * number, 150, correlation=built.launch(100 * number + 5, 2))
    return built


def test_steps_end_when_their_work_is_complete() -> None:
    recording = collect(host_ahead().reading().trace)
    assert recording.steps.names == ("ProfilerStep#0", "ProfilerStep#1", "ProfilerStep#2")
    assert boundaries_us(recording) == [0, 160, 310, 460]
    assert recording.items.step.tolist() == [0, 1, 2]


def test_the_last_step_lasts_at_least_as_long_as_its_mark() -> None:
    built = TraceBuilder()
    built.step(0, 0, 100)
    built.kernel("k", 10, 5, correlation=built.launch(5, 2))
    assert boundaries_us(collect(built.reading().trace)) == [0, 100]


def test_a_step_without_work_has_no_length_and_the_windows_still_tile() -> None:
    built = host_ahead()
    built.step(3, 300, 20)
    built.kernel("late", 500, 10, correlation=built.launch(305, 2))
    built.events = [event for event in built.events if event["name"] != "k1"]
    assert boundaries_us(collect(built.reading().trace)) == [0, 160, 160, 460, 510]


def test_a_launch_of_another_thread_counts_by_its_time() -> None:
    built = host_ahead()
    built.kernel("backward", 455, 100, correlation=built.launch(150, 2, thread=9))
    recording = collect(built.reading().trace)
    # Work of step 1 that ran after step 2's: step 1 is complete at 555, step 2 not before.
    assert boundaries_us(recording) == [0, 160, 555, 555]
    assert recording.items.step.tolist() == [0, 1, 2, 1]


def test_work_launched_between_two_marks_belongs_to_the_earlier_step() -> None:
    built = TraceBuilder()
    built.step(0, 0, 50)
    built.step(1, 100, 50)
    built.kernel("between", 80, 5, correlation=built.launch(70, 2))
    assert collect(built.reading().trace).items.step.tolist() == [0]


def test_what_was_launched_before_the_first_mark_is_carried_over() -> None:
    built = host_ahead()
    built.kernel("before", -20, 25, correlation=built.launch(-30, 2))
    recording = collect(built.reading().trace)
    assert recording.items.step.tolist() == [-1, 0, 1, 2]
    assert boundaries_us(recording) == [0, 160, 310, 460]


def test_what_has_no_launch_is_carried_over_until_the_first_recorded_launch_completes() -> None:
    built = host_ahead()
    built.kernel("queued ahead", 2, 3, correlation=901)
    built.kernel("beside the first", 100, 3, correlation=902)
    built.kernel("later", 200, 3, correlation=903)
    items = collect(built.reading().trace).items
    assert items.step.tolist() == [-1, 0, -1, 1, 2, 2]


def test_each_device_has_its_own_first_launch() -> None:
    built = host_ahead()
    built.kernel("early", 2, 3, correlation=901, device=1)
    built.kernel("first", 50, 10, correlation=built.launch(40, 2), device=1)
    built.kernel("after it", 70, 5, correlation=902, device=1)
    trace = built.reading().trace
    step = {
        trace.strings[int(name)]: int(of)
        for name, of in zip(trace.activities.name, collect(trace).items.step, strict=True)
    }
    assert step["early"] == -1
    assert step["after it"] == 0


def test_without_marks_the_whole_recording_is_one_step() -> None:
    built = TraceBuilder()
    built.op("aten::mm", 0, 20)
    built.kernel("k", 50, 25, correlation=built.launch(5, 2))
    recording = collect(built.reading().trace)
    assert recording.steps.names == ("recording",)
    assert not recording.steps.has_marks
    assert boundaries_us(recording) == [0, 75]


# ---- Which annotation begins a step


def marked(*names: str) -> TraceBuilder:
    built = TraceBuilder()
    for index, name in enumerate(names):
        built.annotation(name, 100 * index, 90)
        built.kernel("k", 100 * index + 10, 50, correlation=built.launch(100 * index + 1, 2))
    return built


SERVING = "execute_context_1(888_788544)_generation_0(0)"


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["ProfilerStep#7", "mine"], ("ProfilerStep#7",)),
        (["ProfilerStep#7", SERVING, "diagnose.profile#0"], ("ProfilerStep#7",)),
        ([SERVING, "diagnose.profile#0"], (SERVING,)),
        (["diagnose.profile#0", "mine"], ("diagnose.profile#0",)),
        (["mine", "not ProfilerStep#7", "ProfilerStep#x"], ("recording",)),
        ([SERVING, SERVING], (SERVING, SERVING)),
    ],
)
def test_known_marks_in_their_order(names: list[str], steps: tuple[str, ...]) -> None:
    assert collect(marked(*names).reading().trace).steps.names == steps


def test_the_users_marks_override_the_known_ones() -> None:
    trace = marked("ProfilerStep#7", "forward pass", "forward pass").reading().trace
    assert collect(trace, re.compile("^forward")).steps.names == ("forward pass",) * 2


def test_a_window_that_nothing_fits() -> None:
    with pytest.raises(UsageError, match="--window 'nothing'"):
        collect(marked("mine").reading().trace, re.compile("nothing"))


def test_one_step_alone() -> None:
    recording = collect(host_ahead().reading().trace, only_step=1)
    assert recording.steps.names == ("ProfilerStep#1",)
    assert boundaries_us(recording) == [0, 150]
    assert recording.items.step.tolist() == [-1, 0, -1]


@pytest.mark.parametrize("step", [3, 99])
def test_a_step_that_is_not_there(step: int) -> None:
    with pytest.raises(UsageError, match=f"--step {step}: the recording has 3 steps, counted from 0"):
        collect(host_ahead().reading().trace, only_step=step)
