"""The report over many ranks as rows: the one definition of its JSON document.

``ranks.schema.json`` beside this file is generated from it. All ``*_ns`` are whole nanoseconds. None (``null``) is
unknown.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from diagnose.schema import Count, Document, Finding, Nanoseconds, Part, Rate, Share, Tool

RANKS_SCHEMA_VERSION: Final = 0


class RankRow(Struct, frozen=True, kw_only=True):
    """One rank: where its wall time went, and how it stood to the others.

    Attributes:
        source: The file.
        wall_ns: Of its window; the shares are of it, on the device with most kernel time.
        communication: Exposed only; the share that nothing else hides.
        overhead: Idle included, as in the waterfall's kinds.
        idle: Of ``overhead`` and ``unowned`` the part in which nothing ran.
        unowned: What belongs to no kind of limit.
        work_ns: Device time (of a CPU: ops' own time) outside communication.
        waiting_ns, waiting_high_ns: In joined collectives, for the last rank to arrive; higher where ranks are missing.
        moving_ns: In joined collectives, after that.
        last_count: How often it was the last to arrive.
        awaited_ns: What the others waited, on average each, at collectives where it was the last.
    """

    rank: int
    source: str | None
    device: str | None
    device_name: str | None
    wall_ns: Nanoseconds
    compute: Share
    memory: Share
    communication: Share
    overhead: Share
    unowned: Share
    idle: Share
    work_ns: Nanoseconds
    joined: Count
    waiting_ns: Nanoseconds
    waiting_high_ns: Nanoseconds
    moving_ns: Nanoseconds
    last_count: Count
    awaited_ns: Nanoseconds


class Instead(Struct, frozen=True):
    """What a straggler did before it arrived, and how much more of it than the others did on average.

    ``part`` None: kernels or ops called ``name``; else the idle part, and the op that it is to be blamed on.
    """

    part: Part | None
    name: str | None
    more_ns: Nanoseconds


class JoinedCollective(Struct, frozen=True, kw_only=True):
    """One collective as all recorded ranks of its group saw it. Lists are in the order of ``ranks``.

    Attributes:
        group: The process group's name, None where not recorded.
        group_size: Its ranks, recorded or not; None where not recorded.
        bytes: Of the message; None where unknown, or where ranks differ.
        step: Name of the step, None where the recordings have no marks in common.
        start_ns: Of each rank, clocks corrected, from the first recording's window's start.
        wait_ns: Until the last recorded rank arrived; at least this long where ``is_complete`` is false.
        wait_high_ns: At most this long: all of its time in it where a rank is missing that may have come later.
        move_ns: The rest of each rank's time in it.
        last_rank: Who arrived last.
        late_ns: How much later than the others' median.
        instead: Of the last rank, most first.
        is_complete: Every rank of the group was recorded.
    """

    collective: str
    group: str | None
    group_size: Count | None
    bytes: Count | None
    step: str | None
    ranks: list[int]
    start_ns: list[int]
    wait_ns: list[Nanoseconds]
    wait_high_ns: list[Nanoseconds]
    move_ns: list[Nanoseconds]
    last_rank: int
    late_ns: Nanoseconds
    instead: list[Instead]
    is_complete: bool


class ClockOffset(Struct, frozen=True, kw_only=True):
    """How far a rank's clock is ahead of the reference rank's, by the ends of collectives that all leave together.

    Attributes:
        offset_ns: Median; None where the rank shares no such collective with the others.
        uncertainty_ns: Half the spread of the middle half.
        low_ns, high_ns: No rank leaves before the last one came: the offset lies between these; None where unknown,
            or where the ends contradict each other.
        samples: Collectives that it rests on.
        is_applied: Whether starts and waits were corrected by it; not where moving data explains it as well.
    """

    rank: int
    reference: int
    offset_ns: int | None
    uncertainty_ns: Nanoseconds | None
    low_ns: int | None
    high_ns: int | None
    samples: Count
    is_applied: bool


class Imbalance(Struct, frozen=True):
    """Work of the busiest rank over the mean; None with one rank or no work."""

    max_over_mean: Rate | None
    rank: int | None


class RanksDocument(Struct, frozen=True, kw_only=True):
    """The whole report over many ranks.

    Attributes:
        findings: What to do about the rank that the others wait for, priced by running another rank's recording again;
            what one rank's recording shows by itself is in ``ranks``.
    """

    schema_version: int
    tool: Tool
    world_size: Count | None
    verdict: str
    table: list[RankRow]
    imbalance: Imbalance
    collectives: list[JoinedCollective]
    offsets: list[ClockOffset]
    notes: list[str]
    ranks: list[Document]
    findings: list[Finding] = []
