"""One further step of the user's own, recorded with stacks for its source lines alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from diagnose.recording.line_step import LineStep
from diagnose.recording.recorder import Options, Recorder, Recording

LINES_MARK: Final = "diagnose.lines"

NOT_IN_A_JOB: Final = (
    "no source lines: recording stacks may crash the process of a distributed job (torch 2.13); stacks=True takes them"
)
"""Of 20 jobs of two gloo ranks with such a step three died in the profiler, of 24 without one none did."""


class LineRecorder:
    """Records what runs between ``begin`` and ``end``. Nothing of it is timed, and no device activity is kept.

    What goes wrong costs the lines and is said in the recordings' notes, never the loop.

    Attributes:
        step: The last step that was recorded, None before the first.
    """

    def __init__(self, *, shapes: bool) -> None:
        self.step: LineStep | None = None
        self._options = Options(shapes=shapes, stacks=True, device=False)
        self._recorder: Recorder | None = None

    def begin(self, recordings: Sequence[Recording]) -> None:
        """Records from now on, for ``recordings``; does nothing where there are none."""
        if not recordings:
            return
        if _is_distributed():
            _say(recordings, NOT_IN_A_JOB)
            return
        recorder = Recorder(self._options)
        try:
            recorder.begin()
            recorder.open_mark(LINES_MARK)
            self._recorder = recorder
        except Exception as error:  # noqa: BLE001 - the user's loop must go on
            _note(recordings, error)

    def end(self, path: Path, recordings: Sequence[Recording]) -> None:
        """Stops, keeps what was recorded in ``path`` and gives it to the recordings that have no lines yet."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        try:
            recorder.end()
            self.step = LineStep(path, recorder.harvest(path, []).extras)
            for recording in recordings:
                recording.lines = recording.lines or self.step
        except Exception as error:  # noqa: BLE001 - the user's loop must go on
            _note(recordings, error)


def _is_distributed() -> bool:
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _note(recordings: Sequence[Recording], error: Exception) -> None:
    _say(recordings, f"the step for the source lines could not be recorded: {type(error).__name__}: {error}")


def _say(recordings: Sequence[Recording], note: str) -> None:
    for recording in recordings:
        recording.extras = msgspec.structs.replace(recording.extras, notes=(*recording.extras.notes, note))
