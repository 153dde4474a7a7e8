"""Compiled regions of a CPU recording: what runs inside is only recorded when Inductor is told to."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diagnose.distinct import distinct
from diagnose.trace.host import skip
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints, Trace

_REGION: Final = re.compile(r"Torch-Compiled Region|CompiledFunction(?:Backward)?$|(?:## )?Call CompiledFxGraph")

COMPILER: Final = r"^dynamo$|\(dynamo_timed\)$"
"""Names of the ops that torch.compile writes around its own work."""
_COMPILER: Final = re.compile(COMPILER)
_KERNEL: Final = re.compile(r"(?:graph_\d+_)?cpp_\w+$")
_REMEDY: Final = (
    "C++ kernels are recorded only if torch._inductor.config.cpp.enable_kernel_profile = True was set before compiling"
)
HIDDEN: Final = f"a compiled region: {_REMEDY}"
"""Why the own time of such a region has no work."""

UNSHAPED: Final = "a compiled C++ kernel: Inductor records no shapes for it"
"""Why such a kernel has none."""


def is_compiled_kernel(name: str) -> bool:
    """Whether the op is a C++ kernel that Inductor wrote: ``graph_0_cpp_fused_gelu_0``."""
    return _KERNEL.match(name) is not None


def compiling(trace: Trace) -> NDArray[np.bool_]:
    """The ops that torch.compile itself is, and those it calls: nothing that they name is computed."""
    ops = trace.ops
    inside = np.array([_COMPILER.search(name) is not None for name in trace.strings], np.bool_)[ops.name]
    if not inside.any():
        return inside
    return inside | (skip(ops.parent, inside) >= 0)


def hidden_regions(trace: Trace) -> NDArray[np.bool_]:
    """The ops that are compiled regions whose own time may be that of kernels: no kernel was recorded inside.

    Of nested regions the innermost one; the others only call it.
    """
    names = trace.strings
    ops = trace.ops
    is_region = np.array([_REGION.match(name) is not None for name in names], np.bool_)[ops.name]
    if not is_region.any():
        return is_region
    is_kernel = np.array([is_compiled_kernel(name) for name in names], np.bool_)[ops.name]
    tells = np.zeros(len(ops.name), np.bool_)
    above: Ints = taken(ops.parent, np.flatnonzero(is_region | is_kernel))
    while (above >= 0).any():
        above = distinct(above[above >= 0])
        tells[above] = True
        above = taken(ops.parent, above)
    return is_region & ~tells


def hidden_note(trace: Trace, own_time: Ints) -> str | None:
    """What to say of a recording with such regions; None where there are none.

    Args:
        trace: Of a CPU.
        own_time: ns of each op without the ops it calls.
    """
    regions = hidden_regions(trace)
    if not regions.any():
        return None
    hidden_ms = int(own_time[regions].sum()) / 1e6
    return f"{hidden_ms:.1f} ms are the own time of compiled regions, inside which nothing is recorded: {_REMEDY}"
