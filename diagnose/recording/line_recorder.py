"""One further step of the user's own, recorded with stacks for its source lines alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from diagnose.recording.line_step import LineStep
from diagnose.recording.recorder import Options, Recorder, Recording

LINES_MARK: Final = "diagnose.lines"


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


def _note(recordings: Sequence[Recording], error: Exception) -> None:
    note = f"the step for the source lines could not be recorded: {type(error).__name__}: {error}"
    for recording in recordings:
        recording.extras = msgspec.structs.replace(recording.extras, notes=(*recording.extras.notes, note))
