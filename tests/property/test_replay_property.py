"""Predicted by replay beside what a simulation of its own does: random streams, threads, waits and blocking calls."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.items import collect
from diagnose.replays.replayer import Change, Replayer
from tests.builders import EPOCH_US, TraceBuilder
from tests.simulated import Call, Ran, changed, program, recorded, simulate

SEEDS = range(120)


def replayer_of(ran: Ran, *, with_waits: bool) -> Replayer:
    return Replayer(collect(recorded(ran, with_waits=with_waits).reading().trace))


def durations(replayer: Replayer, before: Ran, after: Ran) -> np.ndarray:
    """The changed durations in the order of the replayer's items."""
    trace = replayer.recording.trace
    shift = trace.epoch_ns - EPOCH_US * 1000
    number = {activity: index for index, activity in enumerate(before.activities)}
    columns = zip(trace.activities.stream, trace.activities.start + shift, trace.activities.end + shift, strict=True)
    rows = [number[int(stream), int(start), int(end)] for stream, start, end in columns]
    return np.array([after.activities[row][2] - after.activities[row][1] for row in rows], np.int64)


def lasts(replayer: Replayer, ran: Ran) -> int:
    """The simulation's wall time, counted from where the recording begins."""
    return ran.wall_ns - (replayer.recording.trace.epoch_ns - EPOCH_US * 1000)


def predicted(replayer: Replayer, change: Change) -> int:
    saved = replayer.saving(change)
    assert saved is not None
    return replayer.wall_ns - saved


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=30, deadline=None)
def test_unchanged_it_gives_every_start_and_the_wall_time(seed: int, with_waits: bool) -> None:
    ran = simulate(program(seed), jitter=seed)
    replayer = replayer_of(ran, with_waits=with_waits)
    again = replayer.replayed(Change())
    activities = replayer.recording.trace.activities
    assert replayer.error == 0
    assert sorted(again.start.tolist()) == sorted(activities.start.tolist())
    assert replayer.wall_ns == lasts(replayer, ran)
    assert replayer.limit_ns == replayer.wall_ns


@pytest.mark.parametrize("with_waits", [True, False], ids=["waits say for what", "as most recordings are"])
def test_other_durations_are_predicted(with_waits: bool) -> None:
    errors, by_table = [], []
    for seed in SEEDS:
        threads = program(seed)
        before, after = simulate(threads, jitter=seed), simulate(changed(threads, seed + 1), jitter=seed)
        replayer = replayer_of(before, with_waits=with_waits)
        new, truth = durations(replayer, before, after), lasts(replayer, after)
        errors.append(abs(predicted(replayer, Change(duration=new)) - truth) / truth)
        by_table.append(abs(replayer.wall_ns + int((new - replayer.duration).sum()) - truth) / truth)
    assert statistics.median(errors) <= 0.002  # promised: 2 %
    assert statistics.quantiles(errors, n=10)[-1] <= 0.02
    # The kernel table alone is wrong on the same ones.
    assert statistics.median(by_table) > 20 * statistics.median(errors)


def test_a_faster_host_is_predicted() -> None:
    errors, changes = [], []
    for seed in SEEDS:
        threads = program(seed)
        before, after = simulate(threads, jitter=seed), simulate(changed(threads, seed, host=0.25), jitter=seed)
        replayer = replayer_of(before, with_waits=True)
        between = replayer.host_without(calls=np.arange(len(replayer.recording.trace.calls.start)))
        # What is between calls becomes a quarter; what the simulation calls a call (it has no more than posts) stays.
        change = Change(
            duration=durations(replayer, before, after), host=replayer.host - between + np.rint(between / 4).astype(int)
        )
        truth = lasts(replayer, after)
        errors.append(abs(predicted(replayer, change) - truth) / truth)
        changes.append(abs(replayer.wall_ns - truth) / truth)
    assert statistics.median(errors) <= 0.02
    assert statistics.median(changes) > 5 * statistics.median(errors)


def launches(count: int, host_ns: int, device_ns: int) -> list[Call]:
    return [Call("launch", host_ns, 3_000, duration_ns=device_ns) for _ in range(count)]


def test_a_full_launch_queue_holds_up_the_host_and_no_more_than_it_does() -> None:
    # 4,000 kernels of 30 us, launched every 8 us: the host is blocked after 1,400, and has 20 ms of work at the end.
    threads = [[*launches(4_000, 5_000, 30_000), Call("device", 20_000_000, 3_000), *launches(10, 5_000, 30_000)]]
    faster = [[Call(c.kind, c.work_ns, c.call_ns, duration_ns=c.duration_ns // 3) for c in threads[0]]]
    before, after = simulate(threads, 1_022), simulate(faster, 1_022)
    replayer = replayer_of(before, with_waits=False)
    truth = lasts(replayer, after)
    assert predicted(replayer, Change(duration=replayer.duration // 3)) == pytest.approx(truth, rel=0.02)


ODD = st.lists(
    st.tuples(
        st.sampled_from(["kernel", "copy", "lost", "sync", "wait", "op", "event"]),
        st.integers(0, 100),  # host time
        st.integers(-20, 100),  # device start after it
        st.integers(0, 40),  # length
        st.integers(0, 2),  # device, thread
        st.integers(-1, 3),  # stream
    ),
    min_size=1,
    max_size=25,
)


@given(ODD, st.lists(st.integers(0, 100), max_size=3, unique=True).map(sorted))
@settings(max_examples=30, deadline=None)
def test_odd_times_neither_stop_the_replay_nor_shift_it_much(
    events: list[tuple[str, int, int, int, int, int]], steps: list[int]
) -> None:
    built = TraceBuilder()
    for number, at in enumerate(steps):
        built.step(number, at, 30)
    for what, at, lead, length, where, stream in events:
        device = {"device": where, "stream": stream}
        if what == "kernel":
            built.kernel("k", at + lead, length, correlation=built.launch(at, thread=where), **device)
        elif what == "copy":
            call = built.launch(at, length, thread=where)
            built.copy("Memcpy HtoD (Pageable -> Device)", at + lead, length, size=8, correlation=call, **device)
        elif what == "lost":
            built.kernel("lost", at + lead, length, **device)
        elif what == "op":
            built.op("aten::op", at, length, thread=where)
        else:
            names = {"sync": "cudaDeviceSynchronize", "wait": "cudaStreamWaitEvent", "event": "cudaEventSynchronize"}
            built.launch(at, length, name=names[what], thread=where)
    replayer = Replayer(collect(built.reading().trace))
    if not replayer.is_trusted:
        return
    host = replayer.host_without(ops=np.arange(len(replayer.recording.trace.ops.start)))
    everything = np.ones(len(replayer.duration), np.bool_)
    changes = [Change(duration=replayer.duration * 2), Change(host=host), Change(removed=everything)]
    for change in [*changes, replayer.graphed(everything, 100)]:
        assert replayer.saving(change) is not None
    assert replayer.limit_ns is not None
    assert replayer.limit_ns <= replayer.wall_ns
