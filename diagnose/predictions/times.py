"""How long each group of kernels would take on another device, with another batch, dtype or link.

A kernel of time t under a roof r that becomes r' takes r' / (r / t) if its efficiency stays (proportional), or
t - r + r' if what it lost stays (additive: latency, a tail, too few blocks). Where the kernel is well used the former
is probable, where it is small or under-used the latter; the two, and the interval of the new ceilings, are the ends.

With another batch on a CPU, what an op lost is probably lost again for every number more: an op runs one loop over its
numbers on all threads, and a loop that is slow (it does not vectorise, or misses the caches) is as slow at any length.
What does not grow is what every call costs, ``FIXED_FLOORS`` at most. There are no blocks that wait for work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from diagnose.findings.case import Case
from diagnose.items import KIND_COPY
from diagnose.kernel_names import copy_direction
from diagnose.limits import LIMITS
from diagnose.predictions.work import of_parameters, with_batch, with_dtype
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.placing import Placed
from diagnose.roofs.question import Question
from diagnose.roofs.roofline import place
from diagnose.schema import Ceiling
from diagnose.wall.phases import OPTIMIZER
from diagnose.work import Work

Times = tuple[float, float, float]
"""Fastest, probable and slowest, in ns, or as factors."""

FIXED_FLOORS: Final = 32
"""What a CPU's op costs however few its numbers, in kernel floors, at most. Own time on 1 to 64 numbers, torch 2.13 on
an AMD EPYC whose floor is 0.26 us: softmax 0.43, copy 0.61, products 1.3 to 1.6, layer norm 1.9, max pooling 2.9, batch
norm 4.8, gelu through oneDNN 8.3 us."""

_DURATIONS: Final = frozenset(("kernel_floor", "kernel_gap", "launch_call"))
_FOREVER: Final = 1e18
"""A duration that contradicts no work."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is changed about the kernels.

    Attributes:
        ceilings: Of the new device, None where it stays.
        batch: Factor.
        dtype: Of floating-point tensors, None where it stays.
        link_bytes_per_s: Rate of the link between devices, None where it stays.
    """

    ceilings: Ceilings | None = None
    batch: float = 1.0
    dtype: str | None = None
    link_bytes_per_s: float | None = None


def factors_of(case: Case, setting: Setting) -> tuple[dict[int, Times], set[int]]:
    """By what each group's time is multiplied; and the groups without known work, for which it is guessed."""
    placed, fixed = case.placed, of_parameters(case)
    is_update = case.phases.phase[placed.groups.first] == OPTIMIZER  # weights are kept in full
    variants = {device: _variants(case, device, setting) for device in placed.hardware.keys}
    found: dict[int, Times] = {}
    guessed: set[int] = set()
    for group in range(len(placed.groups)):
        own = replace(setting, batch=1.0 if fixed[group] else setting.batch)
        own = replace(own, dtype=None) if is_update[group] else own
        device = int(placed.groups.device[group])
        if placed.placements[group].bound == "communication":
            found[group] = _communication(case, group, own)
            continue
        times = _costed(case, group, own, variants[device])
        if times is None:
            times = _uncosted(placed.hardware.ceilings.get(device), own)
            guessed |= {group} if times != (1.0, 1.0, 1.0) else set()
        found[group] = times
    return found, guessed


def _variants(case: Case, device: int, setting: Setting) -> tuple[Ceilings, Ceilings, Ceilings] | None:
    """The ceilings in force afterwards at their fast end, as they are, and at their slow end; None where unknown."""
    own = case.placed.hardware.ceilings.get(device)
    if own is None:
        return None
    if setting.ceilings is None:
        return own, own, own
    rows = setting.ceilings.rows
    fast = tuple(_at_end(row, row.low if row.resource in _DURATIONS else row.high) for row in rows)
    slow = tuple(_at_end(row, row.high if row.resource in _DURATIONS else row.low) for row in rows)
    new = setting.ceilings
    return Ceilings(new.device, fast, new.l2_bytes, new.sms), new, Ceilings(new.device, slow, new.l2_bytes, new.sms)


def _at_end(row: Ceiling, value: float | None) -> Ceiling:
    return row if value is None else msgspec.structs.replace(row, achievable=value)


def _costed(
    case: Case, group: int, setting: Setting, variants: tuple[Ceilings, Ceilings, Ceilings] | None
) -> Times | None:
    """Factors of a group whose work is known and believed, else None."""
    placed = case.placed
    work, own = placed.work(group), placed.hardware.ceilings.get(int(placed.groups.device[group]))
    if work is None or own is None or variants is None or not placed.is_exact(group) or not _is_whole(work):
        return None
    new = work if setting.dtype is None else with_dtype(case, group, work, setting.dtype)
    new = with_batch(case, group, new, setting.batch) if setting.batch != 1.0 else new
    if new is work and setting.ceilings is None:
        return 1.0, 1.0, 1.0
    before = _roof(placed, group, work, own)
    after = [_roof(placed, group, new, ceilings) for ceilings in variants]
    if not before or None in after:
        return None
    taken = float(placed.groups.time[group]) / float(placed.groups.calls[group])
    fast, usual, slow = (roof or 0.0 for roof in after)
    is_filled = taken < before or before / max(taken, 1.0) >= LIMITS.under_used
    has_idle_units = setting.ceilings is None and usual > before
    times = _times(taken, before, (fast, usual, slow), is_filled=is_filled)
    if case.is_cpu and setting.batch != 1.0:
        longer = _roof(placed, group, with_batch(case, group, work, setting.batch), own) or 0.0
        probable = (
            _longer_loop(taken, before, longer, own.rate("kernel_floor") or 0.0) - longer + usual
        )  # and the dtype
        times = times[0], max(usual, probable), times[2]
    # Work that is added to a kernel which leaves units idle may cost nothing until they are in use.
    lowest = min(times[0], max(taken, usual)) if has_idle_units else times[0]
    return lowest / max(taken, 1e-9), times[1] / max(taken, 1e-9), times[2] / max(taken, 1e-9)


def _times(taken: float, before: float, after: Times, *, is_filled: bool) -> Times:
    """New times of a kernel that took ``taken`` under the roof ``before``, for the ends of the new roof."""
    proportional = [taken * roof / before for roof in after]
    additive = [max(roof, taken - before + roof) if taken > before else taken * roof / before for roof in after]
    middle = proportional[1] if is_filled else additive[1]
    return min(*proportional, *additive), middle, max(*proportional, *additive)


def _longer_loop(taken: float, before: float, after: float, floor_s: float) -> float:
    """New time of a CPU's op whose loop is longer, or shorter: all but what a call costs follows the roof."""
    fixed = min(max(0.0, taken - before), FIXED_FLOORS * 1e9 * floor_s)
    return fixed + (taken - fixed) * after / before


def _is_whole(work: Work) -> bool:
    return work.flops is not None and work.bytes_accessed is not None


def _is_peer(placed: Placed, group: int) -> bool:
    return copy_direction(placed.kernel(group)) == "peer"


def _roof(placed: Placed, group: int, work: Work, ceilings: Ceilings) -> float | None:
    """Roof of one call, in ns."""
    hardware, op = placed.hardware, placed.op(group) or ""
    question = Question(
        kind="kernel",
        work=work,
        duration_ns=_FOREVER,
        kernel_name=placed.kernel(group),
        allow_tf32=hardware.convolution_tf32 if "conv" in op else hardware.matmul_tf32,
    )
    return place(question, ceilings).roof_ns


def _uncosted(own: Ceilings | None, setting: Setting) -> Times:
    """Nothing is known of the work: anything between the ratios of the resources, in the middle that of memory."""
    low = mid = high = 1.0
    if setting.ceilings is not None:
        resources = ("dram", "vector.float32", "tensor.bfloat16")
        rates = [(own.rate(name) if own else None, setting.ceilings.rate(name)) for name in resources]
        ratios = [old / new for old, new in rates if old and new] or [1.0]
        low, mid, high = min(*ratios, 1.0), ratios[0], max(*ratios, 1.0)
    if setting.dtype is not None:
        low *= 0.5
    return low * min(1.0, setting.batch), mid * setting.batch, high * max(1.0, setting.batch)


def _communication(case: Case, group: int, setting: Setting) -> Times:
    """Factors of a transfer: its bandwidth part follows bytes and link, its latency and its waits stay (or do not)."""
    placed, device = case.placed, int(case.placed.groups.device[group])
    resource = "link.host" if placed.groups.kind[group] == KIND_COPY and not _is_peer(placed, group) else "link.peer"
    own = placed.hardware.ceilings.get(device)
    old = own.rate(resource) if own is not None else None
    new = None if setting.ceilings is None else setting.ceilings.rate(resource)
    if resource == "link.peer" and setting.link_bytes_per_s is not None:
        new = setting.link_bytes_per_s
    ratio = setting.batch * (old / new if old and new else 1.0)
    roof = placed.placements[group].roof_ns
    taken = float(placed.groups.time[group]) / float(placed.groups.calls[group])
    if ratio == 1.0:
        return 1.0, 1.0, 1.0
    if not roof or not taken or not placed.placements[group].is_believed:
        return min(ratio, 1.0), (ratio + 1.0) / 2, max(ratio, 1.0)
    additive = max(roof * ratio, taken + roof * (ratio - 1.0)) / taken
    return min(ratio, additive), additive, max(ratio, additive)
