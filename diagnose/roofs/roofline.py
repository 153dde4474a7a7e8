"""Where one kernel stands under the roof of its device: its bound, how far below, and whether its work is believed.

t_c = the longest of flops / rate over the units in use (they run side by side), t_m = bytes / DRAM bandwidth, t_0 =
the kernel floor. roof = max(t_c, t_m, t_0), which assumes that arithmetic and traffic overlap fully; t_c + t_m, the
textbook's other end, stands beside it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from diagnose.kernel_names import read_name
from diagnose.limits import LIMITS, Limits
from diagnose.roofs.belief import contradiction
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.question import Evidence, Kind, Question, Reuse
from diagnose.roofs.times import RoofTime, Sides, candidate_rows, roof_time
from diagnose.roofs.under_use import reasons as reasons_of_under_use
from diagnose.schema import Bound
from diagnose.work import Work

__all__ = ["LIMITS", "Evidence", "Kind", "Limits", "Placement", "Question", "Reuse", "place"]

_COMMUNICATION: Final = frozenset(("collective", "peer_copy", "host_copy"))
_DEFAULT_LINK: Final = {"collective": "link.peer", "peer_copy": "link.peer", "host_copy": "link.host"}


class Placement(Struct, frozen=True):
    """Where it stands. None is unknown; times are per call.

    Attributes:
        bound: None for what is uncosted, not believed, or without ceilings.
        roof_ns: By what is achievable.
        datasheet_roof_ns: Arithmetic and traffic by the maker's figures.
        sequential_ns: t_c + t_m, were nothing to overlap.
        efficiency: roof / duration; above 1 where the flags say why.
        math: Resource whose roof was taken for the arithmetic.
        flags: Those that hold of ``uncosted no-ceilings arithmetic-unknown flops-unknown no-compute-ceiling
            bytes-unknown no-memory-ceiling bounded no-duration above-roof bound-not-tight cache-resident maybe-cached
            ceiling-too-low too-small balanced under-used``, in this order.
        reasons: Sentences for people: why it is under-used or not believed.
        is_believed: Its work is known and possible on this device.
    """

    bound: Bound | None
    roof_ns: float | None = None
    datasheet_roof_ns: float | None = None
    sequential_ns: float | None = None
    compute_ns: float | None = None
    memory_ns: float | None = None
    floor_ns: float | None = None
    efficiency: float | None = None
    math: str | None = None
    flags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    is_believed: bool = False


def place(question: Question, ceilings: Ceilings | None, limits: Limits = LIMITS) -> Placement:
    """Places one row under the roof."""
    if question.kind in _COMMUNICATION:
        return _communication(question, ceilings, limits)
    work = question.work
    if work is None or (not work.flops and work.bytes_accessed is None):
        return Placement(None, flags=("uncosted",))
    if work.flops == () and work.bytes_accessed == 0:
        return _empty(question, ceilings)
    if ceilings is None:
        return Placement(None, flags=("no-ceilings",), is_believed=True)
    sides = _sides(question, work, ceilings, limits)
    if sides.compute is None and sides.memory is None:
        return Placement(None, floor_ns=sides.floor_ns, flags=("no-ceilings",), reasons=sides.reasons, is_believed=True)
    return _placed(question, work, ceilings, sides, limits)


def _communication(question: Question, ceilings: Ceilings | None, limits: Limits) -> Placement:
    resource = question.link or _DEFAULT_LINK[question.kind]
    link = None if ceilings is None else ceilings.get(resource)
    moved = question.link_bytes
    if moved is None and question.kind != "collective" and question.work is not None:
        moved = question.work.bytes_written  # what arrives is what crossed the link
    if link is None or moved is None:
        return Placement("communication", is_believed=moved is not None)
    time = roof_time(moved, link, limits)
    roof = question.link_latency_ns + time.roof
    floor = _floor_ns(ceilings) or 0.0
    if roof < floor <= question.duration_ns:
        roof = floor  # a link's latency is not known here; few activities are shorter than the shortest kernel
    is_believed = question.duration_ns <= 0 or time.limit <= question.duration_ns
    flags = () if is_believed else ("above-roof",)
    reasons = () if is_believed else (f"faster than the datasheet's {resource}",)
    return Placement(
        "communication",
        roof_ns=roof,
        datasheet_roof_ns=question.link_latency_ns + time.limit,
        efficiency=_ratio(roof, question.duration_ns),
        flags=flags,
        reasons=reasons,
        is_believed=is_believed,
    )


def _empty(question: Question, ceilings: Ceilings | None) -> Placement:
    """Nothing computed, nothing moved: all of its time is overhead, whatever the device."""
    floor = _floor_ns(ceilings)
    return Placement(
        "overhead",
        roof_ns=floor,
        floor_ns=floor,
        efficiency=None if floor is None else _ratio(floor, question.duration_ns),
        flags=("too-small",),
        is_believed=True,
    )


def _sides(question: Question, work: Work, ceilings: Ceilings, limits: Limits) -> Sides:
    times, is_ambiguous, missing = _unit_times(question, work, ceilings, limits)
    moved, dram = work.bytes_accessed, ceilings.get("dram")
    held = {
        "arithmetic-unknown": is_ambiguous,
        "flops-unknown": work.flops is None,
        "no-compute-ceiling": not times and bool(work.flops),
        "bytes-unknown": moved is None,
        "no-memory-ceiling": dram is None,
        "bounded": work.is_bound,
    }
    compute = max(times, key=lambda time: time.roof, default=None)
    if compute is not None:  # every unit has to have had the time
        limits_ns = [time.limit for time in times if time.resource != "special"]
        compute = replace(compute, limit=max(limits_ns, default=compute.limit))
    return Sides(
        compute=compute,
        memory=None if moved is None or dram is None else roof_time(moved, dram, limits),
        floor_ns=_floor_ns(ceilings),
        flags=tuple(flag for flag, holds in held.items() if holds),
        reasons=missing,
    )


def _unit_times(
    question: Question, work: Work, ceilings: Ceilings, limits: Limits
) -> tuple[list[RoofTime], bool, tuple[str, ...]]:
    """The time of each unit in use, whether one is ambiguous, and which have no ceiling."""
    facts = read_name(question.kernel_name)
    acceptable_ns = limits.accepted * question.duration_ns
    times: list[RoofTime] = []
    missing: list[str] = []
    is_ambiguous = False
    for resource, count in work.flops or ():
        candidates = candidate_rows(resource, facts, ceilings, question.allow_tf32)
        fitting = [roof_time(count, row, limits) for row in candidates]
        if not fitting and resource != "special":  # few devices have a roof for these: not worth a sentence
            missing.append(f"no ceiling for {resource}")
        if not fitting:
            continue
        # Of several units that may have done it, one that would have taken longer than the kernel did not.
        is_ambiguous |= len({time.roof for time in fitting if time.roof <= acceptable_ns}) > 1
        fastest = min(fitting, key=lambda time: time.roof)
        # Special functions also exist as polynomials on the vector units: their roof never disproves anything.
        if resource != "special" or fastest.roof <= acceptable_ns:
            times.append(fastest)
    return times, is_ambiguous, tuple(missing)


def _floor_ns(ceilings: Ceilings | None) -> float | None:
    floor = None if ceilings is None else ceilings.rate("kernel_floor")
    return None if floor is None else floor * 1e9


def _ratio(roof_ns: float, duration_ns: float) -> float | None:
    return roof_ns / duration_ns if duration_ns > 0 else None


def _placed(question: Question, work: Work, ceilings: Ceilings, sides: Sides, limits: Limits) -> Placement:
    flags, reasons = list(sides.flags), list(sides.reasons)
    memory, duration = sides.memory, question.duration_ns
    verdict = contradiction(question, sides, ceilings, limits)
    if verdict is not None:
        flags.append(verdict.flag)
        reasons.append(verdict.reason)
        memory = verdict.memory or memory
    is_believed = verdict is None or verdict.is_believed
    roofs = [time.roof for time in (sides.compute, memory) if time is not None]
    roof = max([*roofs, sides.floor_ns or 0.0])
    # Of a lower bound of the work nobody knows how much more it was.
    efficiency = None if work.is_bound and work.flops is None else _ratio(roof, duration)
    is_cached = verdict is not None and verdict.is_cached
    bound = None if not is_believed else "memory" if is_cached else _bound(duration, work, sides, limits)
    if bound == "overhead":
        flags.append("too-small")
    if bound in ("compute", "memory") and not is_cached and _is_balanced(sides, limits):
        flags.append("balanced")
    if is_believed and not work.is_bound and efficiency is not None and efficiency < limits.under_used:
        flags.append("under-used")
        reasons += reasons_of_under_use(question, replace(sides, memory=memory), ceilings, limits)
    known = [time.limit for time in (sides.compute, memory) if time is not None and time.has_datasheet]
    return Placement(
        bound=bound,
        roof_ns=roof,
        datasheet_roof_ns=max(known, default=None),
        sequential_ns=sum(roofs) if len(roofs) == 2 else None,
        compute_ns=None if sides.compute is None else sides.compute.roof,
        memory_ns=None if memory is None else memory.roof,
        floor_ns=sides.floor_ns,
        efficiency=efficiency,
        math=None if sides.compute is None else sides.compute.resource,
        flags=tuple(flags),
        reasons=tuple(reasons),
        is_believed=is_believed,
    )


def _bound(duration: float, work: Work, sides: Sides, limits: Limits) -> Bound | None:
    """The largest of t_c, t_m and t_0; with half of the work unknown, small only if it also took little.

    Bytes that are a bound, with unknown FLOPs, tell of no limit.
    """
    if work.is_bound and work.flops is None:
        return None
    compute = -1.0 if sides.compute is None else sides.compute.roof
    memory = -1.0 if sides.memory is None else sides.memory.roof
    floor = -1.0 if sides.floor_ns is None else sides.floor_ns
    if floor < max(compute, memory):
        return "compute" if compute > memory else "memory"
    is_whole = work.flops is not None and work.bytes_accessed is not None
    if is_whole or duration <= limits.near_floor * floor:
        return "overhead"
    return "memory" if work.flops is None else None


def _is_balanced(sides: Sides, limits: Limits) -> bool:
    compute, memory = sides.compute, sides.memory
    if compute is None or memory is None or memory.roof <= 0:
        return False
    overlap = compute.shortest <= memory.longest and memory.shortest <= compute.longest
    return overlap or limits.balanced_low <= compute.roof / memory.roof <= limits.balanced_high
