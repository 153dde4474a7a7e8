"""A callback for the Hugging Face Trainer: ``Trainer(..., callbacks=[DiagnoseCallback()])``."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from diagnose.integrations.loop import LoopProfile
from diagnose.report import Report


class DiagnoseCallback(TrainerCallback):
    """Records a few steps of ``trainer.train()`` and prints the report at its end.

    A step is one of the optimizer, with all of its accumulated batches.
    """

    def __init__(self, **options: Any) -> None:
        """Takes ``wait``, ``warmup``, ``active``, ``out`` and ``then``, as ``LoopProfile`` does."""
        self._loop = LoopProfile(**options)

    @property
    def report(self) -> Report | None:
        """The report, None before the end of training."""
        return self._loop.report

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begins."""
        self._loop.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Counts a step."""
        self._loop.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - the base class names them
        """Ends, and hands over the report."""
        self._loop.end(is_first_rank=bool(state.is_world_process_zero))
