from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.errors import UsageError
from diagnose.live.schedule import ACTIVE, DONE, LINES, WAIT, WARMUP, Schedule, StepClock


def test_a_cycle_waits_warms_up_and_records() -> None:
    schedule = Schedule(wait=1, warmup=2, active=2, repeat=2)
    cycle = [WAIT, WARMUP, WARMUP, ACTIVE, ACTIVE]
    assert [schedule.phase(step) for step in range(12)] == [*cycle, *cycle, DONE, DONE]
    assert [step for step in range(12) if schedule.ends_cycle(step)] == [4, 9]


def test_without_a_schedule_every_step_is_recorded() -> None:
    assert {Schedule().phase(step) for step in range(100)} == {ACTIVE}
    assert not any(Schedule().ends_cycle(step) for step in range(100))


@pytest.mark.parametrize(
    ("schedule", "step"),
    [
        (Schedule(1, 1, 2, lines=True), 4),
        (Schedule(1, 1, 2, 3, lines=True), 4),  # the second cycle's waiting step
        (Schedule(0, 1, 2, 0, lines=True), 3),
        (Schedule(0, 0, 2, 3, lines=True), 6),  # no step to spare before the end
        (Schedule(0, 0, 2, 0, lines=True), None),  # nor ever
        (Schedule(lines=True), None),
        (Schedule(1, 1, 2), None),
    ],
)
def test_the_step_for_the_lines_is_never_one_that_a_cycle_records(schedule: Schedule, step: int | None) -> None:
    assert schedule.lines_step == step
    without = Schedule(schedule.wait, schedule.warmup, schedule.active, schedule.repeat)
    for number in range(20):
        phase = schedule.phase(number)
        assert phase == (LINES if number == step else without.phase(number))
        assert (without.phase(number) == ACTIVE) == (phase == ACTIVE)
        assert schedule.ends_cycle(number) == without.ends_cycle(number)


def test_the_step_for_the_lines_is_not_timed() -> None:
    schedule = Schedule(active=1, lines=True)
    assert timed_steps(schedule, [100, 9_000, 8, 9]) == [8]
    assert timed_steps(Schedule(wait=2, active=1, repeat=2, lines=True), [1, 20, 300, 9_000, 40, 500]) == [20, 40]


def test_repeat_zero_goes_on() -> None:
    assert Schedule(1, 1, 1, 0).phase(3 * 10_000 + 2) == ACTIVE


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4))
def test_agrees_with_torchs_own_schedule(wait: int, warmup: int, active: int, repeat: int) -> None:
    from torch.profiler import schedule as torchs

    ours, theirs = (
        Schedule(wait, warmup, active, repeat),
        torchs(wait=wait, warmup=warmup, active=active, repeat=repeat),
    )
    names = {"NONE": {WAIT, DONE}, "WARMUP": {WARMUP}, "RECORD": {ACTIVE}, "RECORD_AND_SAVE": {ACTIVE}}
    for step in range(30):
        action = theirs(step).name
        assert ours.phase(step) in names[action]
        assert ours.ends_cycle(step) == (action == "RECORD_AND_SAVE")


@pytest.mark.parametrize("bad", [{"wait": -1}, {"warmup": -1}, {"active": 0}, {"repeat": -1}])
def test_a_schedule_that_makes_no_sense_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="needs wait, warmup and repeat >= 0 and active >= 1"):
        Schedule(**bad)


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0
        self.backlog = 0

    def drain(self) -> None:
        self.now, self.backlog = self.now + self.backlog, 0

    def read(self) -> int:
        return self.now


def timed_steps(schedule: Schedule, durations: list[int], device: int = 0, *, has_device: bool = True) -> list[int]:
    """Runs steps that take ``durations`` on the host and leave ``device`` more for the device."""
    clock = Clock()
    steps = StepClock(schedule, clock.drain if has_device else None, clock.read)
    for step, duration in enumerate(durations):
        steps.begin(step)
        clock.now += duration
        clock.backlog += device
        steps.tick(step)
        clock.now += 1_000_000  # what the profiler does at the boundary is nobody's step
    return steps.plain_step_ns


def test_waiting_steps_are_timed_without_the_first() -> None:
    plain = timed_steps(Schedule(wait=3, warmup=1, active=1), [900, 10, 20, 500, 600])
    # Two steps of 10 and 20, and one boundary between them.
    assert plain == [(10 + 20 + 1_000_000) // 2]


def test_without_a_device_each_step_is_timed_by_itself() -> None:
    schedule = Schedule(wait=3, warmup=0, active=2)
    assert timed_steps(schedule, [900, 10, 20, 500, 600, 30, 40], has_device=False) == [10, 20, 30, 40]


def test_what_the_device_still_owes_is_counted() -> None:
    assert timed_steps(Schedule(wait=2, warmup=0, active=1), [900, 10, 500], device=40) == [50]


def test_as_many_steps_after_the_last_cycle_as_it_recorded() -> None:
    assert timed_steps(Schedule(wait=0, warmup=0, active=1), [100, 7, 8, 9]) == [7]


def test_a_run_that_the_end_cuts_is_not_counted() -> None:
    assert timed_steps(Schedule(wait=0, warmup=0, active=3), [100, 100, 100, 7]) == []
