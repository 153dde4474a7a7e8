"""Small recordings whose changed course can be worked out by hand; times in microseconds, savings in nanoseconds."""

from __future__ import annotations

import numpy as np
import pytest

from diagnose.items import collect
from diagnose.replays.replayer import Change, Replayer
from tests.builders import TraceBuilder


def replayer_of(built: TraceBuilder, step: int | None = None) -> Replayer:
    return Replayer(collect(built.reading().trace, only_step=step))


def halved(replayer: Replayer) -> Change:
    return Change(duration=replayer.duration // 2)


def queued(count: int = 4) -> TraceBuilder:
    """Kernels of 100 us, launched every 5 us, 1 us between them; then a synchronisation that returns 3 us later."""
    built = TraceBuilder()
    for number in range(count):
        built.op("aten::mm", 5 * number, 4)
        built.kernel("mm", 8 + 101 * number, 100, correlation=built.launch(5 * number + 1, 2))
    end = 8 + 101 * count - 1
    built.launch(5 * count, end + 3 - 5 * count, name="cudaDeviceSynchronize")
    return built


def launch_bound() -> TraceBuilder:
    """Kernels of 10 us, launched every 50 us."""
    built = TraceBuilder()
    for number in range(4):
        built.op("aten::relu", 50 * number, 40)
        built.kernel("relu", 50 * number + 35, 10, correlation=built.launch(50 * number + 30, 3))
    return built


def test_faster_kernels_shorten_a_device_bound_step_by_all_that_they_save() -> None:
    replayer = replayer_of(queued())
    assert replayer.wall_ns == replayer.measured_ns == 8_000 + 403_000 + 3_000
    assert replayer.saving(halved(replayer)) == 4 * 50_000


def test_faster_kernels_do_not_shorten_a_launch_bound_step() -> None:
    replayer = replayer_of(launch_bound())
    # Only the last kernel is after the host's work; it ends 5 us after the last op.
    assert replayer.saving(halved(replayer)) == 5_000


def test_slower_kernels_cost_what_the_host_no_longer_hides() -> None:
    replayer = replayer_of(launch_bound())
    # 100 us each, one after the other and no gap known, from the first launch on: 35 + 4 x 100 instead of 195.
    assert replayer.saving(Change(duration=replayer.duration * 10)) == 195_000 - (35_000 + 400_000)


def test_a_faster_host_shortens_a_launch_bound_step_only() -> None:
    bound, device = replayer_of(launch_bound()), replayer_of(queued())
    assert bound.saving(Change(host=bound.host // 2)) == 91_500  # the last kernel starts 2 us after its call either way
    saved = device.saving(Change(host=device.host // 2))
    assert saved == 1_500  # the first launch returns after 1.5 us instead of 3


def test_the_limit_is_everything() -> None:
    for built in (queued(), launch_bound()):
        replayer = replayer_of(built)
        assert replayer.limit_ns == replayer.wall_ns


def test_an_activity_that_goes_takes_its_launch_along() -> None:
    replayer = replayer_of(launch_bound())
    second = np.arange(4) == 1
    assert replayer.saving(Change(removed=second)) == 3_000
    assert replayer.launches(second).tolist() == [1]


def test_an_activity_that_goes_closes_the_gap_on_its_stream() -> None:
    replayer = replayer_of(queued())
    assert replayer.saving(Change(removed=np.arange(4) == 1)) == 101_000


def test_time_of_ops_is_taken_from_the_host_once_though_ops_nest() -> None:
    built = launch_bound()
    built.op("aten::inner", 105, 10)
    replayer = replayer_of(built)
    trace = replayer.recording.trace
    names = [trace.strings[index] for index in trace.ops.name.tolist()]
    rows = np.array([row for row, name in enumerate(names) if name == "aten::inner" or trace.ops.start[row] == 100_000])
    assert replayer.saving(Change(host=replayer.host_without(ops=rows))) == 40_000
    assert replayer.saving(Change(host=replayer.host_without(ops=rows, keep=0.5))) == 20_000


def synchronising() -> TraceBuilder:
    """Kernel of 100 us, a call that waits for it (``.item()``), 30 us of host work, another kernel."""
    built = TraceBuilder()
    built.kernel("mm", 5, 100, correlation=built.launch(0, 3))
    built.launch(6, 105 + 4 - 6, name="cudaStreamSynchronize")
    built.kernel("mm", 144, 100, correlation=built.launch(139, 3))
    built.launch(145, 244 + 4 - 145, name="cudaStreamSynchronize")
    return built


def test_a_blocking_call_that_no_longer_waits_lets_the_host_run_ahead() -> None:
    replayer = replayer_of(synchronising())
    calls = np.array([False, True, False, False])
    # The call takes 5 us by itself: the second launch returns at 44, long before the first kernel's end at 105.
    assert replayer.saving(Change(unblocked=calls)) == 144_000 - 105_000


def test_a_shorter_kernel_releases_the_host_that_waits_for_it() -> None:
    replayer = replayer_of(synchronising())
    assert replayer.saving(halved(replayer)) == 100_000


def test_a_pageable_copy_holds_up_the_host_until_it_is_done() -> None:
    built = TraceBuilder()
    built.kernel("mm", 5, 100, correlation=built.launch(0, 3))
    copy = built.launch(6, 106, name="cudaMemcpyAsync")
    built.copy("Memcpy DtoH (Device -> Pageable)", 106, 2, size=4, correlation=copy)
    built.kernel("mm", 150, 10, correlation=built.launch(145, 3))
    replayer = replayer_of(built)
    shorter = replayer.duration.copy()
    shorter[0] //= 2
    assert replayer.saving(Change(duration=shorter)) == 50_000


def two_streams(*, recorded: bool) -> TraceBuilder:
    """A collective of 60 us waits for the first of two kernels, a third kernel waits for the collective."""
    built = TraceBuilder()
    built.kernel("mm", 5, 100, correlation=built.launch(0, 3))
    record = built.launch(4, 1, name="cudaEventRecord")
    wait = built.launch(6, 1, name="cudaStreamWaitEvent")
    built.collective(107, 60, elements=1000, correlation=built.launch(8, 3))
    built.kernel("mm", 106, 20, correlation=built.launch(12, 3))
    again = built.launch(16, 1, name="cudaEventRecord")
    join = built.launch(18, 1, name="cudaStreamWaitEvent")
    built.kernel("adam", 169, 10, correlation=built.launch(20, 3))
    if recorded:
        for waiting, awaited, event, call, at in [(20, 7, record, wait, 6), (7, 20, again, join, 18)]:
            built.event(
                "cuda_sync", "Stream Wait Event", at, 1, device=0, stream=waiting, wait_on_stream=awaited,
                correlation=call, wait_on_cuda_event_record_corr_id=event,
            )  # fmt: skip
    return built


@pytest.mark.parametrize("recorded", [True, False])
def test_streams_wait_for_each_other(recorded: bool) -> None:
    replayer = replayer_of(two_streams(recorded=recorded))
    durations = dict(zip(replayer.duration.tolist(), range(4), strict=True))
    for length, shorter, saved in [(60_000, 30_000, 30_000), (100_000, 90_000, 10_000), (20_000, 10_000, 0)]:
        changed = replayer.duration.copy()
        changed[durations[length]] = shorter
        assert replayer.saving(Change(duration=changed)) == saved
    # Without the collective the last kernel waits for the one before it, which ends at 126.
    assert replayer.saving(Change(removed=replayer.duration == 60_000)) == pytest.approx(179_000 - 137_000, abs=2_000)


def test_a_thread_that_waited_for_another_starts_earlier_when_that_is_done_earlier() -> None:
    built = TraceBuilder()
    for thread, begin in [(100, 0), (200, 400), (100, 800)]:  # forward, backward, optimizer
        for number in range(8):
            at = begin + 45 * number
            built.op("aten::op", at, 40, thread=thread)
            built.kernel("k", at + 32, 5, correlation=built.launch(at + 25, 5, thread=thread))
    replayer = replayer_of(built)
    trace = replayer.recording.trace
    for thread in (0, 1):
        rows = np.flatnonzero(trace.ops.thread == thread)
        count = len(rows)
        saved = replayer.saving(Change(host=replayer.host_without(ops=rows, keep=0.5)))
        assert saved == pytest.approx(count * 20_000, abs=4_000)


def test_kernels_that_overlap_on_a_stream_keep_overlapping() -> None:
    built = TraceBuilder()
    for number in range(5):
        built.kernel("pdl", 30 + 9 * number, 10, correlation=built.launch(5 * number, 3))
    replayer = replayer_of(built)
    assert replayer.error == 0
    # The first starts when it did; each later one 1 us before the one before it ends: 30 + 4 x 4 + 5 instead of 76.
    assert replayer.saving(halved(replayer)) == 76_000 - (30_000 + 4 * 4_000 + 5_000)


def test_what_was_launched_before_the_recording_only_follows_its_stream() -> None:
    built = TraceBuilder()
    for number in range(3):
        built.kernel("lost", 101 * number, 100)
    built.kernel("mm", 303, 100, correlation=built.launch(10, 3))
    replayer = replayer_of(built)
    assert replayer.saving(halved(replayer)) == 200_000


def test_a_graph_is_one_launch() -> None:
    replayer = replayer_of(launch_bound())
    graph = replayer.graphed(np.full(4, True), slot_ns=1_000)
    # The first launch returns at 33, its kernel starts 2 us later; then four kernels of 10 us with 1 us between them.
    saved = replayer.saving(graph)
    assert saved == 195_000 - (33_000 + 4 * 10_000 + 3 * 1_000)


def test_the_ops_of_a_cpu_are_its_work() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::addmm", 10, 100)
    built.op("aten::copy_", 20, 30)
    built.op("aten::relu", 120, 40)
    replayer = replayer_of(built)
    assert replayer.recording.is_cpu
    assert replayer.wall_ns == replayer.measured_ns == 150_000
    relu, copy = replayer.duration == 40_000, replayer.duration == 30_000
    assert replayer.saving(Change(removed=relu)) == 40_000
    assert replayer.saving(Change(duration=np.where(copy, 60_000, replayer.duration))) == -30_000
    assert replayer.saving(halved(replayer)) == 70_000
    assert replayer.limit_ns == 150_000


def stepped() -> TraceBuilder:
    built = TraceBuilder()
    for number in range(3):
        at = 200 * number
        built.step(number, at, 195)
        built.op("aten::mm", at + 1, 8)
        built.kernel("mm", at + 8, 150, correlation=built.launch(at + 2, 3))
        built.launch(at + 10, 150, name="cudaDeviceSynchronize")
    return built


def test_savings_of_the_median_step() -> None:
    replayer = replayer_of(stepped())
    assert replayer.recording.steps.has_marks
    assert replayer.boundaries(Change()).tolist() == replayer.recording.steps.boundaries.tolist()
    assert replayer.step_saving(halved(replayer), [False, True, True]) == 75_000
    # The second step's own completion comes earlier by its own saving and by that of the first.
    assert replayer.saving(halved(replayer)) == 3 * 75_000


def test_one_step_alone() -> None:
    whole, one = replayer_of(stepped()), replayer_of(stepped(), step=1)
    assert one.wall_ns == one.measured_ns == np.diff(whole.recording.steps.boundaries)[1]
    assert one.saving(halved(one)) == 75_000


def test_nothing_is_promised_where_the_replay_is_wrong() -> None:
    replayer = replayer_of(queued())
    replayer.error = 0.03
    assert not replayer.is_trusted
    assert replayer.saving(halved(replayer)) is None
    assert replayer.step_saving(halved(replayer), [True]) is None
    assert replayer.limit_ns is None


def test_a_recording_without_time_has_no_prices() -> None:
    built = TraceBuilder()
    built.op("aten::relu", 0, 0)
    replayer = replayer_of(built)
    assert (replayer.error, replayer.saving(Change()), replayer.limit_ns) == (None, None, None)


def test_what_nothing_explains_is_told_and_kept() -> None:
    built = TraceBuilder()
    for number in range(6):
        built.kernel("mm", 10 + 11 * number, 10, correlation=built.launch(4 * number, 3))
    built.kernel("late", 500, 10, correlation=built.launch(30, 3))
    replayer = replayer_of(built)
    assert replayer.unexplained_ns == pytest.approx(500_000 - 76_000, abs=8_000)
    assert replayer.saving(halved(replayer)) == pytest.approx(6 * 5_000 + 5_000, abs=1_000)
    # Nor would a graph start it sooner: it saves no more than the launches that it replaces.
    assert replayer.saving(replayer.graphed(np.full(7, True), slot_ns=1_000)) == pytest.approx(0, abs=8_000)
    assert "to explain it" in replayer.notes[0]


def test_a_call_that_ends_before_its_copy_by_the_clock_makes_no_circle() -> None:
    built = TraceBuilder()
    for number in range(3):
        call = built.launch(20 * number, 4, name="cudaMemcpyAsync")
        built.copy("Memcpy HtoD (Pageable -> Device)", 20 * number + 5, 3, size=8, correlation=call)
    replayer = replayer_of(built)
    assert replayer.error == 0
    assert replayer.limit_ns == replayer.wall_ns
