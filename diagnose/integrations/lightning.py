"""A callback for Lightning: ``Trainer(callbacks=[DiagnoseCallback()])``."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from diagnose.integrations.loop import LoopProfile
from diagnose.report import Report


class DiagnoseCallback(Callback):
    """Records a few batches of ``trainer.fit()`` and prints the report at its end."""

    def __init__(self, **options: Any) -> None:
        """Takes ``wait``, ``warmup``, ``active``, ``out`` and ``then``, as ``LoopProfile`` does."""
        self._loop = LoopProfile(**options)

    @property
    def report(self) -> Report | None:
        """The report, None before the end of training."""
        return self._loop.report

    def on_train_start(self, *_: Any) -> None:
        """Begins."""
        self._loop.begin()

    def on_train_batch_end(self, *_: Any) -> None:
        """Counts a step."""
        self._loop.step()

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """Ends, and hands over the report."""
        self._loop.end(is_first_rank=bool(trainer.is_global_zero))

    def on_exception(self, trainer: Any, *_: Any) -> None:
        """Ends when the training fails: what was recorded so far is worth a look."""
        self.on_train_end(trainer)
