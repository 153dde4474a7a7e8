"""The table over ranks: a row each, who is busiest, and the sentence that opens the report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from diagnose.schema import Document, Part
from diagnose.tables.ranks import Imbalance, Instead, JoinedCollective, RankRow
from diagnose.units import format_ns, format_share

_LITTLE: Final = 0.02
"""Waiting below this share of the wall time is nothing to speak of."""
_BALANCED: Final = 1.05
"""The busiest rank may do this much more than the mean before it is called imbalance."""
_IDLE: Final = {
    "idle_launch": "idle, host in Python", "idle_sync": "idle after a synchronisation", "idle_data": "idle for data",
    "idle_allocator": "idle, host allocating", "idle_compile": "idle, host compiling",
    "idle_gc": "idle, collecting garbage", "idle_startup": "idle, device starting", "idle_slot": "between kernels",
    "idle_profiler": "idle, host in the profiler", "idle_dependency": "idle for another stream",
    "idle_queued": "launched, not started", "idle_unknown": "idle",
}  # fmt: skip
_MOSTLY: Final = 0.5
"""One rank that is last at more than this share of the waiting is the straggler."""


def rank_row(rank: int, path: str, document: Document, collectives: Sequence[JoinedCollective]) -> RankRow:
    """One rank's row.

    Args:
        rank: Which.
        path: Its file.
        document: Its own report.
        collectives: Joined, of all ranks.
    """
    device = _main_device(document)
    wall = sum(row.ns for row in document.waterfall if row.step is None and row.device == device)
    kinds: defaultdict[str | None, int] = defaultdict(int)
    idle = 0
    for row in document.waterfall:
        if row.step is None and row.device == device:
            kinds[row.bound] += row.ns
            idle += row.ns if row.part.startswith("idle") else 0
    mine = [(row, row.ranks.index(rank)) for row in collectives if rank in row.ranks]
    last = [row for row, _ in mine if row.last_rank == rank]
    share = {kind: ns / wall for kind, ns in kinds.items()} if wall else {}
    return RankRow(
        rank=rank,
        source=path,
        device=device,
        device_name=next((row.name for row in document.devices if row.device == device), None),
        wall_ns=document.window.wall_ns,
        compute=share.get("compute", 0.0),
        memory=share.get("memory", 0.0),
        communication=share.get("communication", 0.0),
        overhead=share.get("overhead", 0.0),
        unowned=share.get(None, 0.0),
        idle=idle / wall if wall else 0.0,
        work_ns=sum(row.time_ns for row in document.kernels if row.bound != "communication"),
        joined=len(mine),
        waiting_ns=sum(row.wait_ns[place] for row, place in mine),
        waiting_high_ns=sum(row.wait_high_ns[place] for row, place in mine),
        moving_ns=sum(row.move_ns[place] for row, place in mine),
        last_count=len(last),
        awaited_ns=sum(_awaited(row) for row in last),
    )


def _awaited(row: JoinedCollective) -> int:
    """What the others waited, on average each."""
    return sum(row.wait_ns) // max(1, len(row.ranks) - 1)


def _main_device(document: Document) -> str | None:
    time: defaultdict[str, int] = defaultdict(int)
    for row in document.kernels:
        time[row.device] += row.time_ns
    if time:
        return max(time, key=lambda device: time[device])
    return next((row.device for row in document.waterfall), None)


def imbalance_of(table: Sequence[RankRow]) -> Imbalance:
    """The busiest rank's work over the mean."""
    total = sum(row.work_ns for row in table)
    if len(table) < 2 or not total:
        return Imbalance(None, None)
    most = max(table, key=lambda row: row.work_ns)
    return Imbalance(most.work_ns * len(table) / total, most.rank)


def said(table: Sequence[RankRow], collectives: Sequence[JoinedCollective], balance: Imbalance) -> str:
    """The sentence that opens the report: how much waiting, for whom, and what that rank did instead."""
    if not collectives:
        return "no collective was recorded by two of these ranks: nothing says who waited for whom"
    wall = sum(row.wall_ns for row in table)
    waiting = sum(row.waiting_ns for row in table)
    share = waiting / wall if wall else 0.0
    work = "" if balance.max_over_mean is None or balance.max_over_mean < _BALANCED else (
        f"; rank {balance.rank} computes {format_share(balance.max_over_mean - 1)} more than the mean"
    )  # fmt: skip
    high = sum(row.waiting_high_ns for row in table)
    if high > waiting and wall:
        return _bounded(table, collectives, (share, min(1.0, high / wall)), work)
    if share < _LITTLE:
        return f"the ranks hardly wait for each other: {format_share(share)} of their wall time{work}"
    text = f"ranks wait {format_share(share)} of their wall time for the last to arrive"
    return f"{text}{_for_whom(table, collectives)}{work}"


def _bounded(
    table: Sequence[RankRow], collectives: Sequence[JoinedCollective], shares: tuple[float, float], work: str
) -> str:
    """The same where ranks are missing that may have come later."""
    low, high = (format_share(share) for share in shares)
    text = f"these ranks wait at least {low} and at most {high} of their wall time, since other ranks are missing"
    return f"{text}{'' if shares[0] < _LITTLE else _for_whom(table, collectives)}{work}"


def _for_whom(table: Sequence[RankRow], collectives: Sequence[JoinedCollective]) -> str:
    """Who the straggler is, what it costs, and what it did instead."""
    worst = straggler_of(table)
    if worst is None:
        return ", now for one, now for another"
    cause = straggler_words(collectives, worst.rank)
    return (
        f": rank {worst.rank} is last at {worst.last_count} of {worst.joined} collectives and costs the others "
        f"{format_ns(worst.awaited_ns)} each{f' ({cause})' if cause else ''}"
    )


def straggler_of(table: Sequence[RankRow]) -> RankRow | None:
    """The rank that most of the waiting is for; None where it is now for one, now for another."""
    awaited = sum(row.awaited_ns for row in table)
    worst = max(table, key=lambda row: row.awaited_ns, default=None)
    return None if worst is None or worst.awaited_ns <= _MOSTLY * awaited else worst


def straggler_causes(collectives: Sequence[JoinedCollective], rank: int) -> list[Instead]:
    """What a rank did instead of arriving, over all collectives where it was the last; the most first."""
    more: Counter[tuple[Part | None, str | None]] = Counter()
    for row in collectives:
        if row.last_rank == rank:
            for cause in row.instead:
                more[cause.part, cause.name] += cause.more_ns
    return [Instead(part, name, ns) for (part, name), ns in more.most_common()]


def straggler_words(collectives: Sequence[JoinedCollective], rank: int) -> str | None:
    """The two things that a straggler did most of instead of arriving."""
    causes = straggler_causes(collectives, rank)[:2]
    return ", ".join(f"{format_ns(one.more_ns)} more {cause_words(one.part, one.name)}" for one in causes) or None


def cause_words(part: str | None, name: str | None) -> str:
    """``in aten::mm``, ``idle, host in Python, before aten::copy_``."""
    if part is None:
        return f"in {name or 'unnamed kernels'}"
    words = _IDLE.get(part, "idle")
    return words if name is None else f"{words}, {'at' if part == 'idle_sync' else 'before'} {name}"
