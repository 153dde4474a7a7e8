"""Which step of a loop is recorded, and the clock of those that are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from diagnose.errors import UsageError

WAIT: Final = "wait"
WARMUP: Final = "warmup"
ACTIVE: Final = "active"
LINES: Final = "lines"
DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Cycles of steps left alone, warmed up and recorded, as torch.profiler has them.

    Attributes:
        wait, warmup, active: Steps of a cycle; ``active`` None is one cycle that lasts as long as the block.
        repeat: Cycles, 0 without end.
        lines: One step outside the recorded ones is run with stacks, for its source lines.
    """

    wait: int = 0
    warmup: int = 0
    active: int | None = None
    repeat: int = 1
    lines: bool = False

    def __post_init__(self) -> None:
        if min(self.wait, self.warmup, self.repeat) < 0 or (self.active is not None and self.active < 1):
            raise UsageError(
                "profile() needs wait, warmup and repeat >= 0 and active >= 1, "
                f"got wait={self.wait}, warmup={self.warmup}, active={self.active}, repeat={self.repeat}"
            )

    def phase(self, step: int) -> str:
        """What happens to the step: WAIT, WARMUP, ACTIVE, LINES, or DONE after the last cycle."""
        if self.active is None:
            return ACTIVE
        return LINES if step == self.lines_step else self._timed_phase(step, self.active)

    def _timed_phase(self, step: int, active: int) -> str:
        cycle, position = divmod(step, self.wait + self.warmup + active)
        if self.repeat and cycle >= self.repeat:
            return DONE
        if position < self.wait:
            return WAIT
        return WARMUP if position < self.wait + self.warmup else ACTIVE

    @property
    def lines_step(self) -> int | None:
        """The step that is run with stacks, None for none: never one that a cycle records.

        It follows the first cycle, where the next one waits or warms up, or the last.
        """
        if not self.lines or self.active is None:
            return None
        length = self.wait + self.warmup + self.active
        if length > self.active or self.repeat == 1:
            return length
        return length * self.repeat if self.repeat else None

    def ends_cycle(self, step: int) -> bool:
        """Whether the step is the last recorded one of its cycle."""
        if self.active is None or self.phase(step) != ACTIVE:
            return False
        length = self.wait + self.warmup + self.active
        return step % length == length - 1


def timed_ns(run: Callable[[], object], drain: Callable[[], None]) -> int:
    """Nanoseconds of one run, from idle devices to idle devices."""
    drain()
    start = time.perf_counter_ns()
    run()
    drain()
    return time.perf_counter_ns() - start


class StepClock:
    """Times the steps that run without a profiler: those that wait, and as many after the last cycle.

    A run of such steps is timed as a whole, from idle devices to idle devices, since the host may run ahead of them;
    without devices each step is. Left out are the block's very first step (it compiles, allocates and tunes) and a run
    that the block's end cuts.

    Args:
        schedule: Of the block.
        drain: Waits for the devices; None where there are none.
        now_ns: The clock.
    """

    def __init__(
        self, schedule: Schedule, drain: Callable[[], None] | None, now_ns: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.plain_step_ns: list[int] = []
        self._schedule = schedule
        self._drain = drain
        self._now_ns = now_ns
        self._start_ns: int | None = None
        self._count = 0

    def begin(self, step: int) -> None:
        """The step begins; called last, when everything else at the boundary is done."""
        if self._start_ns is None and step > 0 and self._is_plain(step):
            if self._drain is not None:
                self._drain()
            self._start_ns = self._now_ns()
            self._count = 0

    def tick(self, step: int) -> None:
        """The step ends; called first."""
        if self._start_ns is None:
            return
        self._count += 1
        if self._drain is None or not self._is_plain(step + 1):
            self._close()

    def _close(self) -> None:
        assert self._start_ns is not None
        if self._drain is not None:
            self._drain()
        self.plain_step_ns.append((self._now_ns() - self._start_ns) // self._count)
        self._start_ns = None

    def _is_plain(self, step: int) -> bool:
        phase = self._schedule.phase(step)
        if phase != DONE:
            return phase == WAIT
        active = self._schedule.active or 0
        length = self._schedule.wait + self._schedule.warmup + active
        end = length * self._schedule.repeat
        lines = self._schedule.lines_step
        return step < end + active + (lines is not None and lines >= end)
