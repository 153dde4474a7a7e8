"""The report over ranks as cells of text, which every rendering shares: ranks, joined collectives, clocks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from diagnose.render.names import clean, fit, short_op
from diagnose.tables.rank_rows import cause_words
from diagnose.tables.ranks import ClockOffset, JoinedCollective, RankRow, RanksDocument
from diagnose.units import format_bytes, format_ns, format_share

RANK_HEADINGS: Final = (
    "rank", "device", "wall", "compute", "memory", "comm.", "overhead", "other", "idle", "work", "waiting", "moving",
    "last",
)  # fmt: skip
RANK_SIDES: Final = "rl" + "r" * 11

COLLECTIVE_HEADINGS: Final = (
    "collective",
    "group",
    "bytes",
    "calls",
    "waiting",
    "moving",
    "last",
    "late by",
    "instead",
)
COLLECTIVE_SIDES: Final = "llrrrrrrl"

_DEVICE: Final = 20
_GROUP: Final = 12


def rank_cells(rows: Sequence[RankRow], device_width: int = _DEVICE) -> list[tuple[str, ...]]:
    """One row a rank; shares are of its wall time, ``waiting`` an interval where ranks are missing."""
    return [
        (
            str(row.rank), fit(clean(" ".join(filter(None, (row.device, row.device_name)))), device_width),
            format_ns(row.wall_ns), format_share(row.compute), format_share(row.memory),
            format_share(row.communication), format_share(row.overhead), format_share(row.unowned),
            format_share(row.idle), format_ns(row.work_ns), waiting_words(row.waiting_ns, row.waiting_high_ns),
            format_ns(row.moving_ns), f"{row.last_count} of {row.joined}",
        )
        for row in rows
    ]  # fmt: skip


def waiting_words(low: int, high: int) -> str:
    """``12.0 ms``; with ranks missing ``12.0 ms..40.0 ms``."""
    return format_ns(low) if high <= low else f"{format_ns(low)}..{format_ns(high)}"


def collective_cells(rows: Sequence[JoinedCollective]) -> list[tuple[str, ...]]:
    """Equal collectives together, most waiting first. Times are means over ranks, summed over calls."""
    groups: defaultdict[tuple[str, str | None, int | None], list[JoinedCollective]] = defaultdict(list)
    for row in rows:
        groups[row.collective, row.group, row.bytes].append(row)
    ordered = sorted(groups.items(), key=lambda item: -_mean(item[1], "wait_ns"))
    return [
        (
            kind, fit(clean(group or "?"), _GROUP), format_bytes(size), str(len(members)),
            format_ns(_mean(members, "wait_ns")), format_ns(_mean(members, "move_ns")), *_straggler(members),
        )
        for (kind, group, size), members in ordered
    ]  # fmt: skip


def _mean(rows: Sequence[JoinedCollective], name: str) -> float:
    return float(sum(sum(getattr(row, name)) / len(row.ranks) for row in rows))


def _straggler(rows: Sequence[JoinedCollective]) -> tuple[str, str, str]:
    """Who costs the others most here, by how much, and what it did instead."""
    late: Counter[int] = Counter()
    for row in rows:
        late[row.last_rank] += row.late_ns
    rank, ns = late.most_common(1)[0]
    mine = [row for row in rows if row.last_rank == rank]
    more: Counter[tuple[str | None, str | None]] = Counter()
    for row in mine:
        for cause in row.instead:
            more[cause.part, cause.name] += cause.more_ns
    words = [cause_words(part, None if name is None else short_op(name)) for (part, name), _ in more.most_common(1)]
    return f"rank {rank}", format_ns(ns), clean(words[0]) if words else ""


def clock_words(offsets: Sequence[ClockOffset]) -> str | None:
    """How far apart the clocks are at most, and whether anything was corrected; None with nothing to compare."""
    compared = [row for row in offsets if row.samples and row.offset_ns is not None and row.uncertainty_ns is not None]
    if not compared:
        return None
    widest = max(compared, key=lambda row: abs(row.offset_ns or 0))
    moved = sum(row.is_applied for row in compared)
    what = f"{moved} corrected" if moved else "none corrected: moving data explains them as well"
    return (
        f"ends of collectives differ by at most {format_ns(abs(widest.offset_ns or 0))} +- "
        f"{format_ns(widest.uncertainty_ns)} (rank {widest.rank} against {widest.reference}, {widest.samples} "
        f"collectives); {what}"
    )


def balance_words(document: RanksDocument) -> str | None:
    """The busiest rank's work over the mean."""
    found = document.imbalance
    if found.max_over_mean is None:
        return None
    return f"the busiest rank, {found.rank}, works {found.max_over_mean:.2f} times the mean"


def finding_words(document: RanksDocument) -> list[str]:
    """One sentence a finding: what it gives a step of the others, what is wrong, and what to do first."""
    return [
        f"{format_ns(row.recoverable_ns.mid)} ({format_ns(row.recoverable_ns.low)}..."
        f"{format_ns(row.recoverable_ns.high)}) a step of the others: {clean(row.title)}"
        for row in document.findings
    ]


def count_words(document: RanksDocument) -> str:
    """How many ranks, of how many."""
    world = document.world_size
    of = "" if world is None or world == len(document.table) else f" of {world}"
    joined = len(document.collectives)
    return f"{len(document.table)}{of} ranks · {joined} joined collectives"
