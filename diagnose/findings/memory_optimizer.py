"""An optimizer that passes over all parameters, gradients and states once an operation."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.distinct import all_but, distinct, is_any
from diagnose.findings.case import Case, Proposal
from diagnose.findings.ordering import does_move, is_moved, joined, moved_bytes
from diagnose.items import KIND_KERNEL, KIND_SELF
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change
from diagnose.schema import Interval
from diagnose.trace.host import skip
from diagnose.trace.tables import Ints
from diagnose.wall.phases import OPTIMIZER

PASSES: Final[dict[str, int]] = {
    "add": 3, "mul": 2, "div": 3, "sqrt": 2, "lerp": 3, "addcmul": 4, "addcdiv": 4, "neg": 2, "reciprocal": 2,
}  # fmt: skip
"""Numbers read and written for each parameter by one op of an optimizer: ``a += b`` reads two and writes one."""

FUSED_REACH: Final = 0.75
"""At worst a fused kernel reaches this share of the plain ones' bandwidth: it walks four or five lists at once."""

_NAME: Final = re.compile(r"^Optimizer\.step#(\w+)\.step$")


class Kind(Struct, frozen=True):
    """An optimizer: the op that each parameter meets exactly once, what one fused kernel reads and writes a parameter.

    Attributes:
        once: Name of that op, without prefix and underscore.
        passes: Parameter and states both ways, gradient read.
        by_number: Ops whose other operand is a number, which is no access.
    """

    once: str
    passes: int
    by_number: frozenset[str] = frozenset()


_KINDS: Final[dict[str, Kind]] = {
    "Adam": Kind("addcdiv", 7, frozenset(("add", "div"))), "AdamW": Kind("addcdiv", 7, frozenset(("add", "div"))),
    "SGD": Kind("mul", 5), "Adagrad": Kind("addcdiv", 5, frozenset(("add",))),
}  # fmt: skip
"""Those of torch that have ``fused=True``; SGD with momentum: without it there is one pass, and nothing to fuse."""


class Update(Struct, frozen=True):
    """The optimizer's own kernels.

    Attributes:
        items: Rows of the items [k].
        once: Which of them belong to the op that each parameter meets once [k].
        share: Of their time, what one fused kernel takes at the bandwidth that they reach.
        passes: Numbers read and written a parameter, as they are.
    """

    items: Ints
    once: NDArray[np.bool_]
    share: float
    passes: float


def unfused_optimizer(case: Case) -> list[Proposal]:
    """One kernel for the whole update: each parameter, gradient and state passes once.

    Time falls with the bytes, those of the recorded ops where all are known, else ``PASSES``; at worst at
    ``FUSED_REACH`` of the bandwidth. The host's time for the ops goes with them, but not at worst.
    """
    name = _optimizer(case)
    found = None if name is None else _update(case, _KINDS[name])
    if name is None or found is None or found.share >= 1:
        return []
    duration = case.replayer.duration.astype(np.float64)
    taken_ns = float(duration[found.items].sum())
    gone = np.zeros(len(duration), np.bool_)
    gone[found.items[~found.once]] = True
    low, mid = (_joined(case, found, gone, share) for share in (min(1.0, found.share / FUSED_REACH), found.share))
    mid = _without_ops(case, mid, found)
    groups = distinct(case.group_of[found.items]).tolist()
    steps = max(1, len(case.steps))
    saved = [round(taken_ns * (1 - share) / steps) for share in (min(1.0, found.share / FUSED_REACH), found.share)]
    return [
        Proposal(
            rule="unfused-optimizer",
            bound="memory",
            title=f"{name} updates the parameters in many kernels",
            evidence={
                "kernels_per_step": case.per_step(len(found.items)),
                "time_ns_per_step": round(taken_ns / steps),
                "accesses_per_parameter": round(found.passes, 1),
                "accesses_per_parameter_fused": _KINDS[name].passes,
            },
            where=case.where(groups),
            cells=[*case.cells(groups), Cell(None, "idle_launch")],
            low=low,
            mid=mid,
            high=mid,
            gap_ns=Interval(saved[0], saved[1], saved[1]),
            advice=f"optimizer = torch.optim.{name}(model.parameters(), lr=lr, fused=True)",
            assumes="parameters are floating point and on one kind of device; hooks between the update's ops are none",
        )
    ]


def _optimizer(case: Case) -> str | None:
    """The optimizer by torch's annotation; None where it is none that can be fused, or several."""
    trace = case.placed.recording.trace
    names = [trace.strings[name] for name in distinct(trace.annotations.name).tolist()]
    kinds = {found[1] for name in names if (found := _NAME.search(name))}
    return kinds.pop() if len(kinds) == 1 and kinds <= set(_KINDS) else None


def _update(case: Case, kind: Kind) -> Update | None:
    """The kernels of the update; None where it is fused already, or does not look as expected."""
    recording = case.placed.recording
    trace, items = recording.trace, recording.items
    is_own = (case.phases.phase == OPTIMIZER) & (items.op >= 0) & does_move(case)
    rows = np.flatnonzero(is_own & np.isin(items.kind, (KIND_KERNEL, KIND_SELF)))
    top = _outermost(case, items.op[rows])
    plain = {name: _plain(trace.strings[name]) for name in distinct(trace.ops.name[top]).tolist()}
    if any(name.startswith(("_fused", "maximum")) for name in plain.values()):  # the latter: amsgrad's further state
        return None
    known = is_any(trace.ops.name[top], [name for name, short in plain.items() if short in PASSES])
    rows, top = rows[known], top[known]
    once = is_any(trace.ops.name[top], [name for name, short in plain.items() if short == kind.once])
    if not once.any():
        return None
    passes = _passes_by_bytes(case, rows, once) or _passes_by_name(trace.ops.name[top], top, once, (kind, plain))
    return None if passes is None else Update(rows, once, kind.passes / passes, passes)


def _passes_by_bytes(case: Case, rows: Ints, once: NDArray[np.bool_]) -> float | None:
    """Numbers read and written a parameter; None where the bytes of some are not known."""
    groups = case.group_of[rows]
    if not all(is_moved(case, group) for group in distinct(groups).tolist()):
        return None
    moved = sum(moved_bytes(case, group) for group in groups.tolist())
    works = [case.work(group) for group in groups[once].tolist()]
    update = sum(work.bytes_written or 0 for work in works if work is not None)
    return moved / update if update else None


def _passes_by_name(
    name: Ints, top: Ints, once: NDArray[np.bool_], spelled: tuple[Kind, dict[int, str]]
) -> float | None:
    """The same by ``PASSES``, where lists of tensors lost their types."""
    kind, plain = spelled
    _, first = np.unique(top, return_index=True)
    short = [plain[each] for each in name[first].tolist()]
    total = sum(2 if each in kind.by_number else PASSES[each] for each in short)
    return total / len(distinct(top[once]))


def _plain(name: str) -> str:
    """``aten::_foreach_add_`` -> ``add``."""
    return name.removeprefix("aten::").removeprefix("_foreach_").rstrip("_")


def _outermost(case: Case, op: Ints) -> Ints:
    """The outermost op around each op."""
    ops = case.placed.recording.trace.ops
    top = skip(ops.parent, ops.parent < 0)
    return np.where(top[op] >= 0, top[op], op)


def _joined(case: Case, found: Update, gone: NDArray[np.bool_], share: float) -> Change:
    """All of the update's time in the ops that each parameter meets once, scaled."""
    duration = case.replayer.duration.astype(np.float64)
    kept = found.items[found.once]
    total, held = float(duration[found.items].sum()), float(duration[kept].sum())
    duration[kept] *= total * share / held if held else 0.0
    return joined(duration, gone)


def _without_ops(case: Case, change: Change, found: Update) -> Change:
    """The host's time for the ops that go, gone too; a CPU's ops are its items, and have gone already."""
    if case.is_cpu:
        return change
    ops = all_but(
        _outermost(case, case.placed.recording.items.op[found.items[~found.once]]),
        _outermost(case, case.placed.recording.items.op[found.items[found.once]]),
    )
    return Change(duration=change.duration, removed=change.removed, host=case.replayer.host_without(ops=ops))
