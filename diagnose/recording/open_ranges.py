"""Ranges that are still open when a recording ends.

A range that a recording has seen begin holds a pointer into it, and writes its end there when it closes, if any
recording runs by then: another one, while the memory was freed with the first. Processes crash of that, some time later
(torch 2.13; valgrind shows the write in Kineto's ``onFunctionExit``). So the ranges of Python are closed before their
recording ends (closing one twice does nothing), and those of other threads, a collective of gloo for one, are given a
moment before the next recording begins.
"""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any, Final

_PAUSE_S: Final = 0.1
"""From the end of a recording on. Gloo's ranges close with the callback of work that is done already."""

_quiet_from = [0.0]


def python_ranges() -> weakref.WeakSet[Any]:
    """Every ``record_function`` there is: the open ones, and some that have closed."""
    from torch.autograd.profiler import record_function

    # An object refers to its class; this is several times faster than to look at every object from here.
    found = gc.get_referrers(record_function)
    return weakref.WeakSet(each for each in found if issubclass(type(each), record_function))


def close_ranges(older: weakref.WeakSet[Any]) -> None:
    """Closes the ranges that began after ``older`` was asked for, as far as they are Python's."""
    import torch

    for each in python_ranges() - older:
        if each.record is not None:
            torch.ops.profiler._record_function_exit._RecordFunction(each.record)  # noqa: SLF001 - as __exit__ does


def remember_unfinished() -> None:
    """A recording has ended with ranges open all the same."""
    _quiet_from[0] = time.monotonic() + _PAUSE_S


def wait_for_unfinished() -> None:
    """Gives them the rest of their moment."""
    time.sleep(max(0.0, _quiet_from[0] - time.monotonic()))
