"""What the callbacks of training loops share: a profile that begins and ends with the loop."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from diagnose.live.session import Profile, profile
from diagnose.report import Report


class LoopProfile:
    """Records a few steps of a loop that somebody else runs.

    Nothing that goes wrong here stops the training: it is a warning.

    Attributes:
        profile: The recording, None before the loop begins.
    """

    def __init__(
        self,
        *,
        wait: int = 1,
        warmup: int = 2,
        active: int = 3,
        out: str | os.PathLike[str] | None = None,
        then: Callable[[Report], Any] | None = print,
    ) -> None:
        """What is recorded, as in ``diagnose.profile``.

        Args:
            wait: Steps left alone, which are timed without the profiler.
            warmup: Steps with the profiler started and nothing kept.
            active: Steps recorded.
            out: A folder for the recordings, one file a rank.
            then: Called with the report when the loop has ended, in the process of rank 0; None for nobody.
        """
        self.profile: Profile | None = None
        self._options: dict[str, Any] = {"wait": wait, "warmup": warmup, "active": active, "out": out}
        self._then = then

    @property
    def report(self) -> Report | None:
        """The report, None where nothing was recorded."""
        return None if self.profile is None else self.profile.report

    def begin(self) -> None:
        """The loop begins."""
        try:
            self.profile = profile(**self._options)
            self.profile.start()
        except Exception as error:  # noqa: BLE001 - the training must go on
            self.profile = None
            warnings.warn(f"diagnose: nothing is recorded: {error}", RuntimeWarning, stacklevel=2)

    def step(self) -> None:
        """A step has ended."""
        if self.profile is not None:
            self.profile.step()

    def end(self, *, is_first_rank: bool = True) -> None:
        """The loop has ended, or failed."""
        if self.profile is None:
            return
        self.profile.stop()
        if is_first_rank and self._then is not None and (report := self.report) is not None:
            self._then(report)
