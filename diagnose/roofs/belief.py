"""Rows that took less time than their roof allows: explained by a cache or a low ceiling, or not believed."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from diagnose.limits import Limits
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.question import Question, Reuse
from diagnose.roofs.times import RoofTime, Sides, roof_time
from diagnose.units import format_bytes
from diagnose.work import Work


class Contradiction(Struct, frozen=True):
    """Why a row seems faster than its roof; ``memory`` replaces the DRAM side where a cache explains it."""

    flag: str
    reason: str
    memory: RoofTime | None = None

    @property
    def is_believed(self) -> bool:
        """Whether the row's work stands."""
        return self.flag not in ("above-roof", "bound-not-tight")

    @property
    def is_cached(self) -> bool:
        """Whether a cache explains it."""
        return self.flag in ("cache-resident", "maybe-cached")


def contradiction(question: Question, sides: Sides, ceilings: Ceilings, limits: Limits) -> Contradiction | None:
    """What speaks against the row's work; None where it took at least as long as its roof."""
    duration, work = question.duration_ns, question.work
    if duration <= 0:
        return Contradiction("no-duration", "recorded with no duration")
    above = [time for time in (sides.compute, sides.memory) if time is not None]
    above = [time for time in above if time.roof > limits.accepted * duration]
    if not above or work is None:
        return None
    moved = work.bytes_accessed if above == [sides.memory] else None  # no cache explains arithmetic
    traffic = None if moved is None else _Traffic(duration, moved, work, question.reuse)
    found = None if traffic is None else _resident(traffic, ceilings, limits)
    if found is not None:
        return found
    if all(time.limit <= duration for time in above):
        names = " and ".join(time.resource for time in above)
        return Contradiction("ceiling-too-low", f"the achievable roof of {names} is too low; the datasheet's holds")
    if traffic is not None and _is_partly_cached(traffic, ceilings, limits):
        return Contradiction("maybe-cached", f"faster than DRAM allows: {_partly(question.reuse)}")
    return _disbelief(duration, work, max(above, key=lambda time: time.limit))


class _Traffic(Struct, frozen=True):
    """Bytes of a row, its time, and what was in the cache before it."""

    duration: float
    moved: int
    work: Work
    reuse: Reuse | None

    def kept(self, room: float) -> float:
        """Bytes that need not meet DRAM: inputs from a cache with ``room``, and output that stays in what is left."""
        inputs = min(self.work.bytes_read or 0, 0 if self.reuse is None else self.reuse.bytes, room)
        return inputs + min(self.work.bytes_written or 0, room - inputs)


def _disbelief(duration: float, work: Work, worst: RoofTime) -> Contradiction:
    if work.is_bound:
        return Contradiction("bound-not-tight", "the bound of its work is far above what it did")
    times = f"{worst.limit / 1e3:.3g} us, took {duration / 1e3:.3g} us"
    return Contradiction("above-roof", f"its work is not believed: at the highest {worst.resource} rate {times}")


def _partly(reuse: Reuse | None) -> str:
    if reuse is None or not reuse.bytes:
        return "part of its bytes may have been in the cache"
    return f"{_origin(reuse)} and may have been in the cache"


def _origin(reuse: Reuse) -> str:
    deed = "written" if reuse.is_written else "read"
    return f"{format_bytes(reuse.bytes)} of its inputs were {deed} just before by {(reuse.by or '')[:80]}"


def _resident(traffic: _Traffic, ceilings: Ceilings, limits: Limits) -> Contradiction | None:
    """All bytes fit the usable cache, or an earlier kernel left enough of them in it, and the cache is fast enough."""
    size, row, dram = ceilings.l2_bytes, ceilings.get("l2"), ceilings.get("dram")
    if size is None or dram is None:
        return None
    room = limits.usable_l2 * size
    reuse = traffic.reuse
    is_shown = reuse is not None and reuse.bytes > 0
    rest = 0.0 if traffic.moved <= room else traffic.moved - traffic.kept(room)
    from_dram = roof_time(rest, dram, limits)
    if (rest and not is_shown) or from_dram.roof > limits.accepted * traffic.duration:
        return None
    if row is None:
        if not _is_partly_cached(traffic, ceilings, limits):
            return None
        why = f"{_origin(reuse)}; the cache's speed is unknown" if reuse is not None and is_shown else ""
        return Contradiction(
            "maybe-cached", f"faster than DRAM allows; {why or 'its bytes fit the cache, of unknown speed'}"
        )
    time = roof_time(traffic.moved, row, limits)
    if time.roof > limits.accepted * traffic.duration:
        return None
    why = _origin(reuse) if reuse is not None and is_shown else "its bytes fit the cache"
    longer = max(time.roof, from_dram.roof)
    return Contradiction("cache-resident", f"{why}: efficiency is against the cache's roof", replace(time, roof=longer))


def _is_partly_cached(traffic: _Traffic, ceilings: Ceilings, limits: Limits) -> bool:
    """Whether the time is possible if as much as the cache may have held never met DRAM."""
    dram = ceilings.get("dram")
    if dram is None:
        return False
    size = limits.largest_cache_bytes if ceilings.l2_bytes is None else ceilings.l2_bytes
    # Where what ran before is known, and the row is too large to stay in the cache, only what was seen counts.
    is_known = traffic.reuse is not None and traffic.moved > limits.usable_l2 * size
    held = traffic.kept(limits.usable_l2 * size) if is_known else size
    from_dram = roof_time(max(0.0, traffic.moved - held), dram, limits).limit
    row = ceilings.get("l2")
    through = (
        roof_time(traffic.moved, dram, limits).limit / limits.cache_over_dram
        if row is None
        else roof_time(traffic.moved, row, limits).roof
    )
    return from_dram <= traffic.duration and through <= limits.accepted * traffic.duration
