"""The figures of two reports side by side, each a step, with what is known of their noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from diagnose.comparisons.match import match_rows
from diagnose.schema import BOUND_OF_PART, Document, KernelRow
from diagnose.steady import Spread, is_of_no_kernel, part_times, spread_of, step_times
from diagnose.tables.comparison import Quantity, Unit

QUEUED: Final = "idle_queued"
"""Launched and not started: the device may have been busy with what was not recorded, so it is not called idle."""
_IDLE: Final = frozenset(part for part in BOUND_OF_PART if part.startswith("idle_") and part != QUEUED)
_BUSY: Final = frozenset(part for part in BOUND_OF_PART if not is_of_no_kernel(part))
_GROUPS: Final[dict[str, frozenset[str]]] = {
    "idle": _IDLE,
    **{
        kind: frozenset(part for part, bound in BOUND_OF_PART.items() if bound == kind)
        for kind in ("compute", "memory", "communication", "overhead")
    },
}
SHOWN: Final = (
    "step_time", "kernel_time", "idle", "compute", "memory", "communication", "overhead", "launches", "kernels",
    "flops", "bytes", "peak_memory", "mfu",
)  # fmt: skip
"""The figures that a comparison lists. Every part of the waterfall is one too, for those who ask."""


def is_quantity(name: str) -> bool:
    """Whether there is a figure of that name."""
    return name in SHOWN or name in BOUND_OF_PART


def quantity_of(before: Document, after: Document, name: str) -> Quantity:
    """One figure of both; ``name`` is one of ``SHOWN`` or a part of the waterfall."""
    if name == "step_time":
        return _of_spreads(name, *_step_spreads(before, after))
    if name == "kernel_time":
        sides = (_kernel_ns(before, before.kernels), _kernel_ns(after, after.kernels))
        return _of_spreads(name, *_with_noise_of((before, after), sides, _BUSY))
    if name in _COUNTS:
        unit, figure = _COUNTS[name]
        return _counted(name, unit, figure(before), figure(after))
    parts = _GROUPS.get(name, frozenset({name}))
    return _of_spreads(name, spread_of(part_times(before, parts)), spread_of(part_times(after, parts)))


def kernel_quantity(before: Document, after: Document, finds: Callable[[str], object]) -> Quantity | None:
    """Kernel time a step of the work that a pattern finds by op or kernel name, in either of the two.

    A row counts where its counterpart is found, too: its kernel may have another name on another device. The noise is
    that of all kernels. None where nothing is found.
    """

    def found(row: KernelRow) -> bool:
        return bool(finds(row.kernel)) or (row.op is not None and bool(finds(row.op)))

    kept: tuple[list[KernelRow], list[KernelRow]] = ([], [])
    for match in match_rows(before.kernels, after.kernels):
        old, new = [before.kernels[index] for index in match.before], [after.kernels[index] for index in match.after]
        if any(map(found, [*old, *new])):
            kept[0].extend(old)
            kept[1].extend(new)
    if not any(kept):
        return None
    sides = (_kernel_ns(before, kept[0]), _kernel_ns(after, kept[1]))
    return _of_spreads("kernel", *_with_noise_of((before, after), sides, _BUSY))


def is_plain(before: Document, after: Document) -> bool:
    """Whether both have steps that were timed without the profiler, which are then the ones to compare."""
    return before.recording.step_plain_ns is not None and after.recording.step_plain_ns is not None


def _step_spreads(before: Document, after: Document) -> tuple[Spread | None, Spread | None]:
    if is_plain(before, after):
        return _plain(before), _plain(after)
    return spread_of(step_times(before)), spread_of(step_times(after))


def _plain(document: Document) -> Spread | None:
    """The unrecorded steps; where only their median was kept, with the relative noise of the recorded ones."""
    cost = document.recording
    if cost.plain_steps_ns or cost.step_plain_ns is None:
        return spread_of(cost.plain_steps_ns)
    return _scaled(cost.step_plain_ns, spread_of(step_times(document)))


def _scaled(value: float | None, like: Spread | None) -> Spread | None:
    """``value`` with the relative noise of another quantity."""
    if value is None or like is None:
        return None
    if like.low is None or like.high is None or not like.middle:
        return Spread(value, None, None, like.count)
    return Spread(value, value * like.low / like.middle, value * like.high / like.middle, like.count)


def _of_spreads(name: str, before: Spread | None, after: Spread | None, unit: Unit = "ns") -> Quantity:
    sides = (before, after)
    low_before, low_after = (None if side is None else side.low for side in sides)
    high_before, high_after = (None if side is None else side.high for side in sides)
    old, new = (None if side is None else side.middle for side in sides)
    within = None
    if old is not None and old == new:
        within = True
    elif low_before is not None and high_before is not None and low_after is not None and high_after is not None:
        within = low_before <= high_after and low_after <= high_before
    return Quantity(
        name=name, unit=unit, before=old, after=new, low_before=low_before, high_before=high_before,
        low_after=low_after, high_after=high_after, within_noise=within,
    )  # fmt: skip


def _counted(name: str, unit: Unit, before: float | None, after: float | None) -> Quantity:
    """A count has no noise: any difference is one."""
    known = before is not None and after is not None
    return Quantity(name=name, unit=unit, before=before, after=after, within_noise=before == after if known else None)


def _kernel_ns(document: Document, rows: Sequence[KernelRow]) -> float | None:
    """Summed kernel time a step, the mean over devices; None where the recording has no kernels."""
    if not document.kernels:
        return None
    devices = len({(row.process_rank, row.device) for row in document.kernels})
    return sum(row.time_ns for row in rows) / step_count(document) / devices


def _with_noise_of(
    documents: Sequence[Document], values: Sequence[float | None], parts: frozenset[str]
) -> tuple[Spread | None, Spread | None]:
    """``values`` with the relative noise that parts of the waterfall have."""
    found = [
        _scaled(value, spread_of(part_times(document, parts)))
        for document, value in zip(documents, values, strict=True)
    ]
    return found[0], found[1]


def step_count(document: Document) -> int:
    """Recorded steps, at least 1."""
    return max(1, len(document.window.steps))


def _per_step(value: float | None, document: Document) -> float | None:
    return None if value is None else value / step_count(document)


_COUNTS: Final[dict[str, tuple[Unit, Callable[[Document], float | None]]]] = {
    "launches": ("count", lambda document: _per_step(document.totals.launches, document)),
    "kernels": ("count", lambda document: _per_step(document.totals.kernels, document)),
    "flops": ("flops", lambda document: _per_step(document.totals.flops, document)),
    "bytes": ("bytes", lambda document: _per_step(document.totals.bytes, document)),
    "peak_memory": ("bytes", lambda document: document.totals.peak_memory_bytes),
    "mfu": ("share", lambda document: document.totals.mfu),
}
