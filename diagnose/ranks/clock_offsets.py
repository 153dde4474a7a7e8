"""How far ranks' clocks are apart, by collectives that nobody can leave before the last one came.

Their ends lie nearly together on all ranks: what is left of a common difference is the clocks'. Causality gives bounds
that need no such trust: no rank leaves before any other has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from diagnose.tables.ranks import ClockOffset
from diagnose.trace.tables import Ints

_SURE: Final = 2.0
"""An offset below this many times its uncertainty is not told from none."""
_FEW: Final = 8
"""Collectives below which the uncertainty is half of their whole range, not of the middle half."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """One collective: rank to (start, end) on that rank's own clock, ns."""

    times: Mapping[int, tuple[int, int]]


def estimate_offsets(ranks: Sequence[int], meetings: Sequence[Meeting]) -> list[ClockOffset]:
    """Each rank's clock against the first rank's, over chains of ranks that meet where not all meet it.

    Args:
        ranks: Those recorded, the reference first.
        meetings: Collectives that synchronise all who take part.
    """
    if not ranks:
        return []
    reference = ranks[0]
    found = {reference: ClockOffset(rank=reference, reference=reference, offset_ns=0, uncertainty_ns=0, low_ns=0,
                                    high_ns=0, samples=0, is_applied=False)}  # fmt: skip
    left = list(ranks[1:])
    while left:
        placed = {rank: _one(rank, reference, found, meetings) for rank in left}
        # Those who meet a placed rank most often first: each step of a chain adds to the uncertainty.
        best = max(left, key=lambda rank: placed[rank].samples)
        found[best] = placed[best]
        left.remove(best)
    return [found[rank] for rank in ranks]


def _one(rank: int, reference: int, found: Mapping[int, ClockOffset], meetings: Sequence[Meeting]) -> ClockOffset:
    known = {other: row.offset_ns for other, row in found.items() if row.offset_ns is not None}
    pairs = [
        (meeting.times[rank], meeting.times[other], known[other], found[other])
        for meeting in meetings
        if rank in meeting.times and (other := _host(meeting, known)) is not None
    ]
    if not pairs:
        return ClockOffset(rank=rank, reference=reference, offset_ns=None, uncertainty_ns=None, low_ns=None,
                           high_ns=None, samples=0, is_applied=False)  # fmt: skip
    mine = np.array([pair[0] for pair in pairs], np.int64)
    theirs = np.array([pair[1] for pair in pairs], np.int64) - np.array([pair[2] for pair in pairs], np.int64)[:, None]
    difference = mine[:, 1] - theirs[:, 1]
    offset = int(np.median(difference))
    # Quartiles of a few say little: a busy host delays single ranks by milliseconds.
    within = [75, 25] if len(difference) >= _FEW else [100, 0]
    spread = int(np.subtract(*np.percentile(difference, within)) // 2)
    uncertainty = spread + max(pair[3].uncertainty_ns or 0 for pair in pairs)
    low, high = int((mine[:, 0] - theirs[:, 1]).max()), int((mine[:, 1] - theirs[:, 0]).min())
    # What moved the data may as well have ended later here: below the shortest stay it is no matter of clocks.
    shortest = int(min((mine[:, 1] - mine[:, 0]).min(), (theirs[:, 1] - theirs[:, 0]).min()))
    return ClockOffset(
        rank=rank, reference=reference, offset_ns=offset, uncertainty_ns=uncertainty,
        low_ns=low if low <= high else None, high_ns=high if low <= high else None, samples=len(pairs),
        is_applied=abs(offset) > max(_SURE * uncertainty, shortest),
    )  # fmt: skip


def _host(meeting: Meeting, known: Mapping[int, int]) -> int | None:
    """A rank of the meeting whose clock is placed already: the reference where it is there."""
    return next((rank for rank in known if rank in meeting.times), None)


def corrections(offsets: Sequence[ClockOffset]) -> dict[int, int]:
    """What is taken off each rank's times."""
    return {row.rank: row.offset_ns if row.is_applied and row.offset_ns is not None else 0 for row in offsets}


def waits(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Waiting and moving of each rank in one collective: until the last arrival, and after it. They sum to its stay.

    A rank that left before the last one came (a broadcast's root) did not wait beyond its own end.
    """
    until = np.clip(start.max(), start, np.maximum(start, end))
    return until - start, np.maximum(start, end) - until
