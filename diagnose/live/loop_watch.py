"""Where the steps of somebody else's loop end: at its optimizer's step, else where its loader gives the next batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

Kind = Literal["optimizer", "loader"]

OPTIMIZER: Final = "optimizer"
LOADER: Final = "loader"


class LoopWatch:
    """Calls back when a step of the script's loop ends, and when a module is first called.

    The first sign of a loop decides what ends its steps: an optimizer that steps, or, in a loop without one, the
    loader's second batch. Further optimizers and loaders (a discriminator's, the validation's) are not counted.

    Attributes:
        kind: What ends the steps, None until a loop is found.
    """

    def __init__(self, on_step: Callable[[], None], on_forward: Callable[[], None]) -> None:
        self.kind: Kind | None = None
        self._on_step = on_step
        self._on_forward = on_forward
        self._owner: int | None = None
        self._batches: dict[int, int] = {}
        self._undo: list[Callable[[], None]] = []

    def start(self) -> None:
        """Watches from now on."""
        from torch.nn.modules.module import register_module_forward_pre_hook
        from torch.optim.optimizer import register_optimizer_step_post_hook
        from torch.utils.data import dataloader

        self._undo.append(register_optimizer_step_post_hook(lambda which, *_: self._optimizer_stepped(which)).remove)
        self._undo.append(register_module_forward_pre_hook(lambda *_: self._module_called()).remove)
        # No public hook tells of a batch; both kinds of iterator (with workers and without) have this method.
        iterator: Any = dataloader._BaseDataLoaderIter  # noqa: SLF001
        original = iterator.__next__

        def watched(this: Any) -> Any:
            self._batch_wanted(this)
            return original(this)

        iterator.__next__ = watched
        self._undo.append(lambda: setattr(iterator, "__next__", original))

    def stop(self) -> None:
        """Leaves torch as it was."""
        while self._undo:
            self._undo.pop()()

    def _module_called(self) -> None:
        self._undo.pop(1)()  # once is enough: a hook on every call of every module costs time
        self._undo.insert(1, lambda: None)
        self._on_forward()

    def _optimizer_stepped(self, optimizer: Any) -> None:
        if self.kind is None:
            self.kind, self._owner = OPTIMIZER, id(optimizer)
        if self.kind == OPTIMIZER and id(optimizer) == self._owner:
            self._on_step()

    def _batch_wanted(self, iterator: Any) -> None:
        loader = id(getattr(iterator, "_dataset", iterator))  # each epoch makes a new iterator of the same data
        count = self._batches[loader] = self._batches.get(loader, 0) + 1
        if self.kind is None and count > 1:
            self.kind, self._owner = LOADER, loader
        if self.kind == LOADER and loader == self._owner:
            self._on_step()
