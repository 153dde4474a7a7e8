"""Python frames of a recording with stacks: which of them say where an op came from.

Nine of ten frames are torch's, Python's own or built-in functions; they are dropped by name, before their times are
read, so that a recording of 120,000 frames costs a few milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.trace.extras import CodePlace
from diagnose.trace.host import nest, skip
from diagnose.trace.link import taken
from diagnose.trace.python_names import (
    MODULE_CALL,
    function_line,
    is_generated_module,
    owner_of,
    read_frame,
    shown_path,
)
from diagnose.trace.tables import Frames, Ints, Ops

_FIRST_OF_CLASS: Final = re.compile(r"(.*)_0")


def is_telling(name: str) -> bool:
    """Whether a frame says which module is called, or is of code that is neither torch's nor Python's own."""
    if name.startswith(MODULE_CALL):
        return True
    frame = read_frame(name)
    return frame is not None and owner_of(frame.file) != "runtime"


def places_of_ops(ops: Ops, count: int, frames: Frames) -> tuple[Ints, tuple[CodePlace, ...]]:
    """Where each op was called, as far as frames say: the module by its class, the line by the function's ``def``.

    Args:
        ops: Of the recording.
        count: How many of them have a time; copies for replayed graphs stand behind those.
        frames: Telling ones.

    Returns:
        Index of each op's place, -1 where no frame holds it [count], and the distinct places.
    """
    is_frame = np.arange(len(frames.start) + count) < len(frames.start)
    nesting = nest(
        np.concatenate([frames.thread, ops.thread[:count]]),
        np.concatenate([frames.start, ops.start[:count]]),
        np.concatenate([frames.end, ops.end[:count]]),
    )
    parent = skip(nesting.parent, is_frame)
    known = _Known(frames.names)
    of_frame = np.full(len(frames.start), -1, np.int64)
    holds = _holding(parent, len(frames.start))
    depth = np.where(holds, nesting.depth[is_frame], -1)
    for level in distinct(depth[holds]).tolist():
        rows = np.flatnonzero(depth == level)
        of_frame[rows] = known.inside(taken(of_frame, parent[rows]), frames.name[rows])
    return taken(of_frame, parent[len(frames.start) :]), tuple(known.places)


def _holding(parent: Ints, count: int) -> NDArray[np.bool_]:
    """The frames that an op was called in, or in a frame that they hold; the others need no place."""
    holds = np.zeros(count, np.bool_)
    found = distinct(parent[count:])
    while (found := found[found >= 0]).size:
        found = found[~holds[found]]
        holds[found] = True
        found = distinct(parent[found])
    return holds


class _Known:
    """Distinct places; a frame inside a place makes the next one."""

    def __init__(self, names: Sequence[str]) -> None:
        self.places: list[CodePlace] = []
        self._names = names
        self._short = _module_names(names)
        self._ids: dict[CodePlace, int] = {}

    def inside(self, outer: Ints, name: Ints) -> Ints:
        """The place of each frame from the one around it (-1: none) and its name."""
        pairs, inverse = np.unique(np.stack([outer, name]), axis=1, return_inverse=True)
        ids = [self._inside(place, frame) for place, frame in pairs.T.tolist()]
        return np.array(ids, np.int64)[inverse.reshape(-1)]

    def _inside(self, outer: int, name: int) -> int:
        before = self.places[outer] if outer >= 0 else CodePlace()
        text = self._names[name]
        frame = read_frame(text)
        if is_generated_module(text, is_inside=before.module is not None):
            found = before
        elif text.startswith(MODULE_CALL):
            own = self._short[text]
            found = CodePlace(own if before.module is None else f"{before.module}.{own}", before.line, before.caller)
        elif frame is None:
            found = before
        else:
            line = function_line(shown_path(frame.file), frame.line, frame.function)
            caller = line if owner_of(frame.file) == "user" else before.caller
            found = CodePlace(before.module, line, caller)
        index = self._ids.setdefault(found, len(self.places))
        if index == len(self.places):
            self.places.append(found)
        return index


def _module_names(names: Sequence[str]) -> Mapping[str, str]:
    """``nn.Module: Net_0`` -> ``Net``, with its number where several of the class were called."""
    called = {name: name.removeprefix(MODULE_CALL) for name in names if name.startswith(MODULE_CALL)}
    numbered = set(called.values())
    short = {}
    for name, own in called.items():
        first = _FIRST_OF_CLASS.fullmatch(own)
        short[name] = first[1] if first is not None and f"{first[1]}_1" not in numbered else own
    return short
