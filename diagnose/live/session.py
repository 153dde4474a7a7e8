"""The live entrance: ``profile()`` around a block, a loop or a function; ``measure()`` of a function.

A diagnosis must not break what it looks at: whatever goes wrong once the block runs is a warning, and stands in
``Profile.error``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction, isgeneratorfunction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from diagnose.errors import DiagnoseError, UsageError
from diagnose.live.decorated import Profiled
from diagnose.live.schedule import ACTIVE, LINES, WARMUP, Schedule, StepClock, timed_ns
from diagnose.reading import read
from diagnose.recording.line_recorder import LineRecorder
from diagnose.recording.recorder import (
    Options,
    Recorder,
    Recording,
    drain_devices,
    has_accelerator,
    require_no_profiler,
    require_torch,
    save_profiler,
)
from diagnose.report import Report
from diagnose.trace.embed import save_copy, save_new
from diagnose.trace.extras import MARK_PREFIX

_PROFILER_STEP: Final = "ProfilerStep#"
"""torch.profiler's own name of a scheduled step, which every tool knows."""

_session = threading.Lock()
"""Held by the profile that is open: torch has one profiler a process."""


def profile(  # noqa: PLR0913 - a public entrance
    *,
    wait: int = 0,
    warmup: int = 0,
    active: int | None = None,
    repeat: int = 1,
    out: str | os.PathLike[str] | None = None,
    stacks: bool = False,
    shapes: bool = True,
    memory: bool = False,
    lines: bool = True,
) -> Profile:
    """Records a block and says what limits it: a context manager, a decorator, or ``start()`` and ``stop()``.

    Without a schedule the whole block is recorded; ``p.step()``, if called, ends one step of it and begins the next.
    With one, each cycle of ``wait`` steps left alone, ``warmup`` steps under a profiler that keeps nothing and
    ``active`` recorded steps gives one report; ``p.step()`` belongs at the end of each step.

    Args:
        wait: Steps of a cycle before the profiler starts; they are timed, to say what recording costs.
        warmup: Steps of a cycle with the profiler started and nothing kept.
        active: Steps of a cycle that are recorded; None records the whole block (1 where ``wait`` or ``warmup`` is
            given).
        repeat: Cycles; 0 goes on until the block ends. A cycle that the end of the block cuts is kept.
        out: A folder that gets ``rank{r}.json.gz`` for each cycle; nothing there is overwritten.
        stacks: Keep Python stacks in the recording itself, at two to three times its cost: the way to modules and
            source lines where the block is a single step.
        shapes: Record shapes. Without them no work is known.
        memory: Record allocations.
        lines: With a schedule, take modules and source lines from one step more, after the first cycle, so that the
            recorded steps stay clean. A loop that ends before it goes without.

    Raises:
        UsageError: The schedule makes no sense.
    """
    if active is None and (wait or warmup):
        active = 1
    return Profile(Schedule(wait, warmup, active, repeat, lines and not stacks), Options(shapes, stacks, memory), out)


class Profile:
    """An open or ended recording. Made by ``profile()``.

    Attributes:
        error: What went wrong with recording or diagnosing, None if nothing did.
    """

    def __init__(self, schedule: Schedule, options: Options, out: str | os.PathLike[str] | None) -> None:
        self.error: str | None = None
        self._schedule = schedule
        self._options = options
        self._out = out
        self._folder: Path | None = None
        self._recorder: Recorder | None = None
        self._recordings: list[Recording] = []
        self._unsaved: list[Recording] = []
        self._lines = LineRecorder(shapes=options.shapes)
        self._reports: dict[int, Report | None] = {}
        self._clock = StepClock(schedule, None)
        self._step = 0
        self._steps_kept = 0
        self._is_open = False

    def start(self) -> None:
        """Begins the block; a second one adds its reports to the first one's.

        Raises:
            DiagnoseError: torch is missing or too old.
            UsageError: Another profiler is running.
        """
        require_torch()
        if not _session.acquire(blocking=False):
            raise UsageError("a diagnose.profile() is open already; they cannot be nested, stop the outer one first")
        try:
            require_no_profiler()
            self.error = None
            self._step = 0
            self._lines = LineRecorder(shapes=self._options.shapes)
            self._clock = StepClock(self._schedule, drain_devices if has_accelerator() else None)
            self._enter_step()
            self._is_open = True
        except BaseException:
            self._recorder = None
            _session.release()
            raise

    def stop(self) -> None:
        """Ends the block and saves what was recorded. Calling it again does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._end_lines()
            self._end_cycle(is_complete=False)
            self._save_waiting()
            if not self._recordings and self.error is None:
                first = self._schedule.wait + self._schedule.warmup
                self._warn(
                    f"nothing was recorded: p.step() was called {self._step} times, recording begins after {first}"
                )
        finally:
            _session.release()

    def step(self) -> None:
        """Ends one step and begins the next."""
        if not self._is_open:
            return
        self._clock.tick(self._step)
        if self._schedule.phase(self._step) == LINES:
            self._end_lines()
            self._save_waiting()
        if self._recorder is not None:
            self._recorder.close_mark()
        if self._schedule.phase(self._step) == ACTIVE:
            self._steps_kept += 1
        if self._schedule.ends_cycle(self._step):
            self._end_cycle(is_complete=True)
        self._step += 1
        try:
            self._enter_step()
        except Exception as error:  # noqa: BLE001 - the loop goes on without a recording
            self._recorder = None
            self._warn(f"recording could not begin: {error}")

    def _enter_step(self) -> None:
        """What the step that begins asks for: nothing, a profiler being prepared, or a mark in a recording."""
        phase = self._schedule.phase(self._step)
        if phase == LINES:
            self._lines.begin(self._recordings)
        if phase in (WARMUP, ACTIVE) and self._recorder is None:
            self._recorder = Recorder(self._options)
            self._recorder.prepare()
            self._steps_kept = 0
        if phase == ACTIVE and self._recorder is not None:
            if not self._recorder.is_recording:
                self._recorder.begin()
            prefix = MARK_PREFIX if self._schedule.active is None else _PROFILER_STEP
            self._recorder.open_mark(f"{prefix}{self._step}")
        self._clock.begin(self._step)

    def _end_cycle(self, *, is_complete: bool) -> None:
        """Stops the profiler and saves. Of a cycle cut before its first step's end, only a first one is kept."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        try:
            was_recording = recorder.is_recording
            recorder.end()
            if was_recording and (is_complete or self._steps_kept or not self._recordings):
                self._keep(recorder)
        except Exception as error:  # noqa: BLE001 - the user's loop must go on
            self._warn(f"the recording was lost: {error}")
        finally:
            recorder.discard()

    def _keep(self, recorder: Recorder) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="diagnose-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{len(self._recordings)}.json"
        recording = recorder.harvest(path, self._clock.plain_step_ns)
        recording.lines = self._lines.step
        self._recordings.append(recording)
        self._unsaved.append(recording)
        following = self._schedule.lines_step
        if following is None or following <= self._step:
            self._save_waiting()

    def _save_waiting(self) -> None:
        """Writes into ``out`` what is complete: a cycle waits for the step that gives it its lines."""
        waiting, self._unsaved = self._unsaved, []
        try:
            for recording in waiting if self._out is not None else ():
                save_new(recording.finished(), self._out or "", f"rank{_rank()}")
        except Exception as error:  # noqa: BLE001 - the user's loop must go on
            self._warn(f"the recording was lost: {error}")

    def _end_lines(self) -> None:
        """Ends the step with stacks, if it runs."""
        if self._folder is not None:
            self._lines.end(self._folder / f"lines{len(self._recordings)}.json", self._recordings)

    def add_lines(self, run: Callable[[], object]) -> None:
        """Runs one step more with stacks; the last recording's ops get their places from it."""
        self._lines.begin(self._recordings)
        try:
            run()
        finally:
            self._end_lines()

    def add_times(self, plain_step_ns: Sequence[int], recorded_step_ns: Sequence[int]) -> None:
        """Times of the last recording's steps that the caller took, without and with the profiler."""
        if self._recordings:
            self._recordings[-1].plain_step_ns.extend(plain_step_ns)
            self._recordings[-1].recorded_step_ns.extend(recorded_step_ns)

    def _warn(self, message: str) -> None:
        self.error = message
        warnings.warn(f"diagnose: {message}", RuntimeWarning, stacklevel=3)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __call__(self, function: Callable[..., Any]) -> Profiled:
        """As a decorator: every call of ``function`` is recorded, ``function.report`` is the last call's.

        Raises:
            UsageError: ``function`` is a coroutine or generator function, whose call only makes an object.
        """
        if iscoroutinefunction(function) or isgeneratorfunction(function):
            raise UsageError("diagnose.profile() decorates plain functions; inside this one use `with profile():`")
        return Profiled(function, lambda: Profile(self._schedule, self._options, self._out))

    @property
    def is_recorded(self) -> bool:
        """Whether any cycle was recorded."""
        return bool(self._recordings)

    @property
    def reports(self) -> list[Report]:
        """One report a cycle; made when first asked for. A cycle that could not be diagnosed is left out."""
        found = (self._report_of(index) for index in range(len(self._recordings)))
        return [report for report in found if report is not None]

    @property
    def report(self) -> Report | None:
        """The last cycle's report; None where there is none, and then ``error`` says why."""
        return self._report_of(len(self._recordings) - 1) if self._recordings else None

    def _report_of(self, index: int) -> Report | None:
        if index not in self._reports:
            try:
                self._reports[index] = read(self._recordings[index].finished(), kind="live")
            except Exception as error:  # noqa: BLE001 - asked for inside the user's loop, perhaps
                self._reports[index] = None
                self._warn(f"the recording could not be diagnosed: {type(error).__name__}: {error}")
        return self._reports[index]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the last cycle's recording, compressed where the name ends in ``.gz``.

        Raises:
            DiagnoseError: There is no recording, or the file cannot be written.
        """
        save_copy(self._last().finished(), path)

    export_chrome_trace = save

    def save_to(self, folder: str | os.PathLike[str]) -> Path:
        """As ``save``, to ``folder/rank{r}.json.gz``; nothing there is overwritten."""
        return save_new(self._last().finished(), folder, f"rank{_rank()}")

    def _last(self) -> Recording:
        if not self._recordings:
            raise DiagnoseError(f"there is no recording to save: {self.error or 'the block has not ended'}")
        return self._recordings[-1]


def measure(
    fn: Callable[..., object],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    warmup: int = 3,
    repeat: int = 5,
    lines: bool = True,
) -> Report:
    """Runs ``fn`` to warm up, then times it, then records it: the report states what recording cost.

    Args:
        fn: What to measure; run ``warmup + 2 * repeat`` times, and once more for the source lines.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        warmup: Runs that count for nothing.
        repeat: Runs timed without the profiler, and runs recorded.
        lines: Run it once more with stacks, which gives modules and source lines.

    Raises:
        DiagnoseError: torch is missing, or the recording could not be diagnosed.
        UsageError: ``repeat`` is below 1, or another profiler is running.
    """
    session = measured(fn, args, kwargs, warmup=warmup, repeat=repeat, lines=lines)
    report = session.report
    if report is None:
        raise DiagnoseError(session.error or "nothing was recorded")
    return report


def measured(
    fn: Callable[..., object],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    warmup: int = 3,
    repeat: int = 5,
    lines: bool = True,
) -> Profile:
    """As ``measure``, giving the profile, whose recording can be saved."""
    if warmup < 0 or repeat < 1:
        raise UsageError(f"measure() needs warmup >= 0 and repeat >= 1, got {warmup} and {repeat}")
    require_torch()
    run = partial(fn, *args, **(kwargs or {}))
    for _ in range(warmup):
        run()
    plain = [timed_ns(run, drain_devices) for _ in range(repeat)]
    recorded = []
    with profile() as session:
        for index in range(repeat):
            if index:
                session.step()
            recorded.append(timed_ns(run, drain_devices))
    session.add_times(plain, recorded)
    if lines:
        session.add_lines(run)
    return session


def on_trace_ready(folder: str | os.PathLike[str]) -> Callable[[Any], None]:
    """A handler for ``torch.profiler.profile(on_trace_ready=...)``: saves ``rank{r}.json.gz`` with what Kineto loses.

    The profiler's own ``export_chrome_trace`` cannot be used after it: Kineto saves a recording once.
    """

    def handle(profiler: Any) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="diagnose-") as temporary:
                path = Path(temporary) / "trace.json"
                extras = save_profiler(
                    profiler, path, has_shapes=bool(profiler.record_shapes), has_stacks=bool(profiler.with_stack)
                )
                recording = Recording(path, extras, on_cpu=not has_accelerator())
                save_new(recording.finished(), folder, f"rank{_rank()}")
        except Exception as error:  # noqa: BLE001 - called from the user's loop
            warnings.warn(f"diagnose: the recording was lost: {error}", RuntimeWarning, stacklevel=2)

    return handle


def _rank() -> int:
    """This process's rank, 0 outside distributed runs."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank())
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdigit() else 0
