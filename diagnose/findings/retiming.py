"""How long kernels would last under another roof, as the three changes of a proposal.

A kernel of duration d and roof r gets the roof r'. Two assumptions bracket what that gives, and need no other device:

- the least: what it loses above its roof stays as it is, so that it becomes shorter by r - r' and no more;
- the most: it stays as far from its roof as it is, so that it lasts d r' / r.

Since d is at least r, the second gives at least what the first gives. In the middle is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from diagnose.findings.case import Case
from diagnose.replays.replayer import Change
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.placing import UNDER_USED
from diagnose.roofs.roofline import Placement
from diagnose.schema import Interval
from diagnose.trace.tables import Ints

PRODUCTS: Final = "tensor."
"""Unit of the matmul family in ``Work.flops``."""


class Saved(Struct, frozen=True):
    """What one call of a group would be shorter by, ns; negative where it would be longer."""

    low: float
    mid: float
    high: float


class Retimed(Struct, frozen=True):
    """The three changes, and what the kernels of a step would be shorter by together."""

    low: Change
    mid: Change
    high: Change
    gap_ns: Interval


def call_ns(case: Case, group: int) -> float:
    """Mean duration of a group's calls."""
    return float(case.placed.groups.time[group]) / max(1, int(case.placed.groups.calls[group]))


def ns_per_step(case: Case, ns: float) -> int:
    """A time of the window, a step."""
    return round(ns / max(1, len(case.steps)))


def gap_of(case: Case, low: float, mid: float, high: float) -> Interval:
    """From what the kernels of the window could be shorter by, ns: a step, never below nothing, in order."""
    return Interval(*sorted(max(0, ns_per_step(case, ns)) for ns in (low, mid, high)))


def ceilings_of(case: Case, group: int) -> Ceilings | None:
    """The roofs of the device that a group ran on."""
    return case.placed.hardware.ceilings.get(int(case.placed.groups.device[group]))


def rate_of(case: Case, group: int, resource: str) -> float | None:
    """What is achievable of a resource on the device of a group, None if unknown."""
    ceilings = ceilings_of(case, group)
    return (ceilings.rate(resource) or None) if ceilings is not None else None


def is_sure(case: Case, group: int) -> bool:
    """Whether a group's roof may be argued with: exact work, possible on its device, and a roof that is known."""
    placement = case.placed.placements[group]
    is_known = placement.roof_ns is not None and placement.is_believed and case.placed.is_exact(group)
    return is_known and bool(case.is_kernel[group]) and call_ns(case, group) > 0


def is_under_used(case: Case, group: int) -> bool:
    """Whether a group runs at less than 60 % of its roof."""
    return UNDER_USED in case.placed.placements[group].flags


def product_dtype(case: Case, group: int) -> str | None:
    """Type in which a group multiplies matrices; None for what is no product."""
    work = case.work(group)
    units = [unit for unit, _ in (work.flops or () if work is not None else ()) if unit.startswith(PRODUCTS)]
    return units[0].removeprefix(PRODUCTS) if len(units) == 1 else None


def roof_with(placement: Placement, compute_ns: float, memory_ns: float) -> float:
    """The roof with another time for arithmetic or traffic; never below the shortest kernel."""
    return max(compute_ns, memory_ns, placement.floor_ns or 0.0)


def bracketed(case: Case, group: int, new_roof_ns: float) -> Saved:
    """What one call is shorter by under the new roof: least, mean, most (the module says why)."""
    duration, roof = call_ns(case, group), case.placed.placements[group].roof_ns or 0.0
    least = min(roof, duration) - new_roof_ns
    most = duration * (1 - new_roof_ns / roof) if roof > 0 else 0.0
    least, most = min(least, most), max(least, most)
    return Saved(least, (least + most) / 2, most)


def retimed(case: Case, saved: Mapping[int, Saved]) -> Retimed:
    """The recording with the calls of some groups shorter by what is given for each."""
    calls = case.placed.groups.calls
    sums = [
        sum(getattr(each, part) * int(calls[group]) for group, each in saved.items()) for part in ("low", "mid", "high")
    ]
    low, mid, high = (
        Change(duration=case.scaled({group: _kept(case, group, getattr(each, part)) for group, each in saved.items()}))
        for part in ("low", "mid", "high")
    )
    return Retimed(low, mid, high, gap_of(case, *sums))


def all_but_first(case: Case, chosen: NDArray[np.bool_], kind: Ints) -> NDArray[np.bool_]:
    """Of the chosen items all but the first launched of each kind in each step [n].

    Args:
        case: The recording.
        chosen: Items [n].
        kind: A number from 0 for what counts as the same [n].
    """
    items = case.placed.recording.items
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(items.order[rows], kind="stable")]
    _, first = np.unique(kind[rows] * (len(case.steps) + 1) + items.step[rows], return_index=True)
    again = chosen.copy()
    again[rows[first]] = False
    return again


def _kept(case: Case, group: int, saved_ns: float) -> float:
    duration = call_ns(case, group)
    return max(0.0, 1 - saved_ns / duration) if duration > 0 else 1.0
