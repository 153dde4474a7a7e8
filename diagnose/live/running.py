"""A script run unchanged and diagnosed: its own loop's steps where it has a loop, else its first seconds of work."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from diagnose.errors import UsageError
from diagnose.live.loop_watch import OPTIMIZER, LoopWatch
from diagnose.live.session import Profile, profile
from diagnose.report import Report

_kept: Final[list[dict[str, Any]]] = []
"""Globals of what ran, alive until the interpreter ends, as those of any script are. Dropped at once, a process group
among them would be taken apart while its threads still want the interpreter, and the process hangs (seen with gloo)."""

INTERRUPTED: Final = 130
"""Exit status of a program that the keyboard stopped, as shells have it."""


@dataclass(frozen=True, slots=True)
class Script:
    """What to run.

    Attributes:
        target: A file, or with ``is_module`` a module's name.
        arguments: What it finds in ``sys.argv`` after its name.
        is_module: As ``python -m``.
    """

    target: str
    arguments: Sequence[str] = ()
    is_module: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record of it.

    Attributes:
        warmup: Steps of its loop left alone before those that are recorded.
        active: Steps recorded.
        seconds: Length of the window that is recorded where there is no loop.
        out: A folder for the recording, None to keep none.
        tell: Gets a line about what is going on.
    """

    warmup: int = 2
    active: int = 3
    seconds: float = 10.0
    out: str | None = None
    tell: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: the script's exit status, and the report if anything could be recorded."""

    status: int
    report: Report | None
    problem: str | None


def run_script(script: Script, plan: Plan) -> Outcome:
    """Runs the script in this process, watches for its loop, and reports, also when it fails or is interrupted.

    Raises:
        UsageError: There is no such file or module.
        DiagnoseError: torch is missing or too old.
    """
    _require(script)
    session = _Session(plan)
    session.start()
    try:
        status = _executed(script)
    finally:
        session.stop()
    report = session.report()
    return Outcome(status, report, None if report is not None else session.problem)


class _Session:
    """Two recordings that exclude each other: a window at the script's beginning, and steps of its loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._watch = LoopWatch(self._on_step, self._on_forward)
        self._window: Profile | None = None
        self._loop: Profile | None = None
        self._alarm = _Alarm(self._close_window)

    def start(self) -> None:
        self._open_window()
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()
        self._close_window()
        if self._loop is not None:
            with _quietly():
                self._loop.stop()

    @property
    def problem(self) -> str:
        errors = [each.error for each in (self._loop, self._window) if each is not None and each.error is not None]
        return errors[0] if errors else "nothing was recorded"

    def report(self) -> Report | None:
        """Of the loop if any of its steps was recorded, else of the window."""
        for each in (self._loop, self._window):
            if each is None or not each.is_recorded:
                continue
            if each is self._window and self._loop is not None:
                self._plan.tell("the loop ended before its recorded steps began: this is the script's beginning")
            self._save(each)
            return each.report
        return None

    def _save(self, recorded: Profile) -> None:
        if self._plan.out is not None:
            self._plan.tell(f"wrote {recorded.save_to(self._plan.out)}")

    def _open_window(self) -> None:
        self._window = profile()
        self._window.start()
        self._alarm.set(self._plan.seconds)

    def _close_window(self) -> None:
        self._alarm.cancel()
        if self._window is not None:
            with _quietly():
                self._window.stop()

    def _on_forward(self) -> None:
        """The first module is called: what came before was loading, and not what anybody wants to hear of."""
        if self._loop is None:
            self._close_window()
            self._open_window()

    def _on_step(self) -> None:
        if self._loop is not None:
            self._loop.step()
            return
        self._close_window()
        plan = self._plan
        what = "optimizer's steps" if self._watch.kind == OPTIMIZER else "loader's batches"
        plan.tell(f"found a loop by its {what}: {plan.warmup} steps more to warm up, then {plan.active} recorded")
        self._loop = profile(wait=max(0, plan.warmup - 1), warmup=min(1, plan.warmup), active=plan.active)
        self._loop.start()


class _Alarm:
    """Calls back after some seconds, in the main thread: a profiler is stopped by the thread that started it."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._is_set = False

    def set(self, seconds: float) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        # A script that uses the signal itself keeps it; its window then ends with it.
        if is_main and hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
            signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            self._is_set = True

    def cancel(self) -> None:
        if self._is_set and signal.getsignal(signal.SIGALRM) == self._ring:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._is_set = False

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        self._callback()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings: what a recording lacks is told at the end."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _require(script: Script) -> None:
    from importlib.util import find_spec

    if not script.is_module:
        if not Path(script.target).is_file():
            raise UsageError(f"{script.target}: no such file")
        return
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - what `python -m` puts there, as text
    try:
        found = find_spec(script.target)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UsageError(f"-m {script.target}: no such module")


def _executed(script: Script) -> int:
    """Runs it as Python would; its exit status."""
    argv, path = sys.argv, list(sys.path)
    sys.argv = [script.target, *script.arguments]
    try:
        if script.is_module:
            _kept.append(runpy.run_module(script.target, run_name="__main__", alter_sys=True))
        else:
            sys.path.insert(0, str(Path(script.target).resolve().parent))
            _kept.append(runpy.run_path(script.target, run_name="__main__"))
    except SystemExit as end:
        return _status(end.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - the script's own, printed as Python prints it
        _print_traceback(error)
        return 1
    finally:
        sys.argv, sys.path[:] = argv, path
        sys.stdout.flush()
    return 0


def _status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _print_traceback(error: BaseException) -> None:
    """From the script's first frame on: ours and runpy's above it are of no use to anybody."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_code.co_filename.startswith(("<frozen runpy", __file__)):
        where = where.tb_next
    traceback.print_exception(type(error), error, where or error.__traceback__)
