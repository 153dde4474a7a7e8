"""One recording with torch.profiler: opened after the device is drained, cut into marked steps, saved with our key."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from diagnose.calibrations.in_force import cpu_roofs, gpu_roofs
from diagnose.errors import DiagnoseError, UsageError
from diagnose.recording.answers import with_outputs
from diagnose.recording.gathering import GcClock, gather
from diagnose.recording.line_step import LineStep, with_places
from diagnose.recording.open_ranges import close_ranges, python_ranges, remember_unfinished, wait_for_unfinished
from diagnose.trace.embed import append_key, has_unfinished
from diagnose.trace.extras import Extras, encode_extras

_OLDEST_TORCH: Final = (2, 11)
_LOG_LEVEL: Final = "KINETO_LOG_LEVEL"

STACKS_NOTE: Final = (
    "Python stacks were recorded in the timed steps, which makes the host slower by an unknown amount; "
    "with profile(active=...) or measure() the source lines come from a step of their own"
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a recording holds: input shapes, Python stacks, memory events, what ran on a device."""

    shapes: bool = True
    stacks: bool = False
    memory: bool = False
    device: bool = True


def require_torch() -> None:
    """Raises DiagnoseError where torch is missing or too old to record with."""
    try:
        import torch
    except ImportError as error:
        raise DiagnoseError(
            "recording needs torch, which is not installed: pip install 'torch-diagnose[torch]'"
        ) from error
    found = re.match(r"(\d+)\.(\d+)", str(torch.__version__))
    if found and (int(found.group(1)), int(found.group(2))) < _OLDEST_TORCH:
        needed = ".".join(map(str, _OLDEST_TORCH))
        raise DiagnoseError(
            f"recording needs torch {needed} or newer, this is {torch.__version__}; "
            "a trace recorded with it by torch.profiler can be read with diagnose.read()"
        )


def require_no_profiler() -> None:
    """Raises UsageError where a torch.profiler is recording: a process has one."""
    from torch.autograd import profiler

    # Nothing public tells.
    if profiler._is_profiler_enabled:  # noqa: SLF001
        raise UsageError(
            "a torch.profiler is recording already; use on_trace_ready=diagnose.on_trace_ready(folder) with it"
        )


def drain_devices() -> None:
    """Waits until every device that this process uses is idle. Starts none."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        current = torch.cuda.current_device()
        for index in range(torch.cuda.device_count()):
            # A device without memory of this process has no work of it, and synchronising would start a context there.
            if index == current or torch.cuda.memory_reserved(index) > 0:
                torch.cuda.synchronize(index)
    if torch.xpu.is_initialized():  # type: ignore[no-untyped-call]
        torch.xpu.synchronize()


def has_accelerator() -> bool:
    """Whether device activity will be recorded."""
    import torch

    return torch.cuda.is_available() or torch.xpu.is_available()


@contextmanager
def quiet_kineto() -> Iterator[None]:
    """Keeps Kineto's log off stderr: it reads the variable when it starts."""
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "99"
    try:
        yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


@dataclass
class Recording:
    """A saved recording of one cycle. The key is added when the file is first wanted.

    Only then are a CPU's ceilings measured: that takes a second, which the caller's loop should not pay. ``lines`` is a
    step of the same loop that was recorded with stacks.
    """

    path: Path
    extras: Extras
    on_cpu: bool
    lines: LineStep | None = None
    plain_step_ns: list[int] = field(default_factory=list)
    recorded_step_ns: list[int] = field(default_factory=list)
    is_finished: bool = False

    def finished(self) -> Path:
        """The file, complete."""
        if not self.is_finished:
            extras = msgspec.structs.replace(
                self.extras,
                plain_step_ns=tuple(self.plain_step_ns),
                recorded_step_ns=tuple(self.recorded_step_ns),
            )
            if self.lines is not None:
                extras = with_places(extras, self.path, self.lines)
            if extras.has_shapes:
                extras = with_outputs(extras, self.path)
            extras = _with_ceilings(extras, on_cpu=self.on_cpu)
            append_key(self.path, encode_extras(extras))
            self.is_finished = True
        return self.path


def _with_ceilings(extras: Extras, *, on_cpu: bool) -> Extras:
    try:
        if on_cpu:
            rows, notes = cpu_roofs(extras.cpu.threads or 1 if extras.cpu else 1)
        else:
            rows, notes = gpu_roofs([each.index for each in extras.accelerators if each.kind == "cuda"])
    except (RuntimeError, MemoryError, ValueError) as error:
        rows, notes = [], [f"the ceilings of this machine could not be measured: {error}"]
    return msgspec.structs.replace(extras, ceilings=tuple(rows), notes=(*extras.notes, *notes))


class Recorder:
    """Drives torch.profiler through one recording.

    Attributes:
        is_recording: Between ``begin`` and ``end``.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._profiler: Any = None
        self._mark: Any = None
        self._gc = GcClock()
        self._older_ranges = weakref.WeakSet[Any]()
        self.is_recording = False

    def prepare(self) -> None:
        """Starts the profiler's machinery, so that its cost falls before the recording."""
        import torch
        from torch._C._profiler import _ExperimentalConfig
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU]
        on_cuda = self._options.device and torch.cuda.is_available()
        if self._options.device and has_accelerator():
            activities.append(ProfilerActivity.CUDA if on_cuda else ProfilerActivity.XPU)
        with quiet_kineto():
            self._profiler = profile(
                activities=activities,
                record_shapes=self._options.shapes,
                with_stack=self._options.stacks,
                profile_memory=self._options.memory,
                # What a stream waited for: without these events such idle time has no cause.
                experimental_config=_ExperimentalConfig(enable_cuda_sync_events=True) if on_cuda else None,
            )
            self._profiler.prepare_trace()

    def begin(self) -> None:
        """Records from now on. The devices are drained first, so that nothing older runs inside."""
        wait_for_unfinished()
        if self._profiler is None:
            self.prepare()
        drain_devices()
        self._older_ranges = python_ranges()
        with quiet_kineto():
            self._profiler.start_trace()
        self.is_recording = True
        self._gc.start()

    def open_mark(self, name: str) -> None:
        """Begins a step."""
        from torch.profiler import record_function

        self._mark = record_function(name)
        self._mark.__enter__()

    def close_mark(self) -> None:
        """Ends the step that is open, if one is."""
        mark, self._mark = self._mark, None
        if mark is not None:
            mark.__exit__(None, None, None)

    def end(self) -> None:
        """Stops recording; what was recorded stays in memory."""
        self.close_mark()
        self._gc.stop()
        if self.is_recording:
            self.is_recording = False
            from torch.autograd import profiler

            # Another torch.profiler inside ours takes torch's one recording with it when it ends, and what ours then
            # gets crashes the process when it is read.
            if not profiler._is_profiler_enabled:  # noqa: SLF001
                self._profiler = None
                raise DiagnoseError("another torch.profiler ran inside the block and ended its recording; run only one")
            close_ranges(self._older_ranges)
            self._profiler.stop_trace()

    def discard(self) -> None:
        """Forgets what was recorded."""
        profiler, self._profiler = self._profiler, None
        _free(profiler)

    def harvest(self, path: Path, plain_step_ns: list[int]) -> Recording:
        """Saves what was recorded to ``path``, with everything that is only known in this process."""
        profiler, self._profiler = self._profiler, None
        try:
            saved = save_profiler(profiler, path, has_shapes=self._options.shapes, has_stacks=self._options.stacks)
            notes = (*saved.notes, STACKS_NOTE) if self._options.stacks else saved.notes
        finally:
            _free(profiler)
        extras = msgspec.structs.replace(saved, gc_runs=self._gc.runs(path), notes=notes)
        return Recording(path, extras, on_cpu=not has_accelerator(), plain_step_ns=plain_step_ns)


def _free(profiler: Any) -> None:
    """Lets a stopped profiler's events go.

    They must be gone before the next recording: freed after it, the process crashes (torch 2.13, with stacks), and the
    profiler itself is part of a cycle that lives until some later garbage collection.
    """
    if profiler is not None and profiler.profiler is not None:
        profiler.profiler.kineto_results = None


def save_profiler(profiler: Any, path: Path, *, has_shapes: bool, has_stacks: bool) -> Extras:
    """Writes a stopped torch profiler's events to ``path`` as Kineto does, and gathers what goes beside them.

    Kineto saves once: a later ``export_chrome_trace`` of that profiler fails.
    """
    results = profiler.profiler.kineto_results if profiler.profiler is not None else None
    if results is None:
        raise DiagnoseError("nothing was recorded")
    results.save(str(path))
    if not path.is_file() or path.stat().st_size == 0:
        raise DiagnoseError(f"the recording could not be written to {path.parent} (disk full?)")
    if has_unfinished(path):
        remember_unfinished()
    return gather(results, path, has_shapes=has_shapes, has_stacks=has_stacks)
