"""The rank that the others wait for: what they would gain if it came in time, by running one of theirs again.

In one collective every other rank wins the same by it: the time from the arrival of the one before the last to that of
the last. What it is worth to a step depends on what runs beside the wait, so it is replayed, on the rank whose wait
lies in the middle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from diagnose.analysis import Options, analyse
from diagnose.findings.case import Case, Proposal
from diagnose.findings.communication import late_rank
from diagnose.findings.engine import SMALLEST_SHARE, findings_of
from diagnose.ranks.arrivals import Arrivals
from diagnose.ranks.clock_offsets import waits
from diagnose.ranks.joined_collectives import Joined, is_possible
from diagnose.schema import Finding
from diagnose.tables.rank_rows import cause_words, straggler_causes, straggler_of
from diagnose.tables.ranks import Instead, JoinedCollective, RankRow
from diagnose.trace.chrome import Reading
from diagnose.trace.tables import Ints

_MOST_PLACES: Final = 3
"""Things that the late rank did instead, as places to look at."""


@dataclass(frozen=True, slots=True)
class Straggler:
    """What is needed to price it where the other rank's recording is: small enough to travel.

    Attributes:
        rank: Who comes late.
        source: Its file.
        last_count, joined: How often it came last, of how many collectives.
        instead: What it did instead, most first.
        is_complete: Every rank of these collectives was recorded.
        seen_by: The other rank whose recording is run again.
        item: Its collectives, as rows of its recording's items [k].
        waited_ns: How long each of them waited [k].
        surely_ns: Of that, after all but the straggler had come [k].
    """

    rank: int
    source: str
    last_count: int
    joined: int
    instead: tuple[Instead, ...]
    is_complete: bool
    seen_by: int
    item: Ints
    waited_ns: Ints
    surely_ns: Ints


@dataclass(slots=True)
class _Waits:
    """Of one other rank: its rows in its ``Arrivals``, and its waits there."""

    rows: list[int]
    waited: list[int]
    surely: list[int]


def find_straggler(
    table: Sequence[RankRow],
    collectives: Sequence[JoinedCollective],
    joined: Sequence[Joined],
    arrivals: Mapping[int, Arrivals],
    correction: Mapping[int, int],
) -> Straggler | None:
    """The rank that most of the waiting is for, None where there is none or the wait is too short for a sentence.

    Args:
        table: A row a rank.
        collectives: The joined ones, as rows.
        joined: The same, as ``join`` gives them.
        arrivals: Of each rank.
        correction: ns to take off each rank's times.
    """
    late = straggler_of(table)
    if late is None:
        return None
    others = _waits_for(late.rank, joined, arrivals, correction)
    wall = {row.rank: row.wall_ns for row in table}
    most = max((len(found.rows) for found in others.values()), default=0)
    asked = sorted((sum(found.waited), rank) for rank, found in others.items() if len(found.rows) == most)
    if not asked:
        return None
    waited, seen_by = asked[(len(asked) - 1) // 2]
    if not waited or waited < SMALLEST_SHARE * wall.get(seen_by, 0):
        return None
    found = others[seen_by]
    return Straggler(
        rank=late.rank,
        source=Path(late.source or "").name,
        last_count=late.last_count,
        joined=late.joined,
        instead=tuple(straggler_causes(collectives, late.rank)[:_MOST_PLACES]),
        is_complete=all(row.is_complete for row in collectives if row.last_rank == late.rank),
        seen_by=seen_by,
        item=arrivals[seen_by].item[found.rows],
        waited_ns=np.array(found.waited, np.int64),
        surely_ns=np.array(found.surely, np.int64),
    )


def _waits_for(
    late: int, joined: Sequence[Joined], arrivals: Mapping[int, Arrivals], correction: Mapping[int, int]
) -> dict[int, _Waits]:
    """What each other rank waited in the collectives to which ``late`` came last."""
    found: defaultdict[int, _Waits] = defaultdict(lambda: _Waits([], [], []))
    for one in joined:
        if late not in one.rows or not is_possible(one, arrivals, correction):
            continue
        ranks = sorted(one.rows)
        start = np.array([arrivals[rank].start[one.rows[rank]] - correction[rank] for rank in ranks], np.int64)
        if ranks[int(np.argmax(start))] != late:
            continue
        end = np.array([arrivals[rank].end[one.rows[rank]] - correction[rank] for rank in ranks], np.int64)
        wait = waits(start, end)[0]
        next_to_last = int(np.sort(start)[-2])
        surely = np.maximum(0, wait - np.maximum(0, next_to_last - start))
        for rank, waited, sure in zip(ranks, wait.tolist(), surely.tolist(), strict=True):
            if rank != late:
                found[rank].rows.append(one.rows[rank])
                found[rank].waited.append(waited)
                found[rank].surely.append(sure)
    return dict(found)


def straggler_findings(reading: Reading, options: Options, straggler: Straggler) -> list[Finding]:
    """The straggler as a finding, priced on the recording of ``straggler.seen_by``; empty where it gives too little.

    Args:
        reading: That rank's recording.
        options: As it was read with before: the rows of its items must be the same.
        straggler: As ``find_straggler`` gives it.
    """
    kept: list[Case] = []
    analyse(reading, options, keep=kept.append)
    return findings_of(kept[0], [lambda case: _proposals(case, straggler)])


def _proposals(case: Case, straggler: Straggler) -> list[Proposal]:
    duration = case.replayer.duration
    waited, surely = np.zeros_like(duration), np.zeros_like(duration)
    waited[straggler.item] = straggler.waited_ns
    surely[straggler.item] = straggler.surely_ns
    found = late_rank(case, np.minimum(waited, duration), np.minimum(surely, duration))
    return [_told(case, each, straggler) for each in found]


def _told(case: Case, proposal: Proposal, straggler: Straggler) -> Proposal:
    """The proposal with what all ranks together know: who, and what it did instead."""
    causes = straggler.instead
    more = f": more time {cause_words(causes[0].part, causes[0].name)}" if causes else ""
    missing = "" if straggler.is_complete else "; a rank that is missing here may have come later still"
    surely = int(straggler.surely_ns.sum())
    return replace(
        proposal,
        title=f"the others wait for rank {straggler.rank}{more}",
        evidence={
            "late_rank": straggler.rank,
            "last_at": straggler.last_count,
            "joined_collectives": straggler.joined,
            "replayed_rank": straggler.seen_by,
            **proposal.evidence,
            "waited_for_it_alone_ns_per_step": round(surely / max(1, len(case.steps))),
            **({"instead_ns_per_step": round(causes[0].more_ns / max(1, len(case.steps)))} if causes else {}),
        },
        where=[cause_words(each.part, each.name) for each in causes] or proposal.where,
        advice=f"diagnose report {straggler.source}  # the late rank's own findings\n{_advice(causes)}",
        assumes=f"rank {straggler.seen_by}, whose wait lies in the middle, stands for the others; at least as early as "
        f"the next to last, at best all come together{missing}",
    )


def _advice(causes: Sequence[Instead]) -> str:
    """By what the late rank did most of."""
    part = causes[0].part if causes else None
    if causes and part is None:
        return _UNEVEN
    return _BY_PART.get(part or "", _ALONE)


_UNEVEN: Final = (
    "sampler = torch.utils.data.DistributedSampler(dataset, drop_last=True)  # as many samples for each rank\n"
    "# batches of equal length (sort or pack by it), layers and experts shared out evenly; if its work is the same,\n"
    "# its device is slower: nvidia-smi -q -d CLOCK,PERFORMANCE"
)
_ALONE: Final = (
    "# what rank 0 alone does (logging, validation, saving) goes to a thread, or to fewer steps;\n"
    "# if every rank does the same, its host is slower: numactl --cpunodebind=N, OMP_NUM_THREADS, other processes"
)
_BY_PART: Final = {
    "idle_data": "loader = DataLoader(dataset, num_workers=8, pin_memory=True, persistent_workers=True)\n"
    "# shards of equal size and format; a local copy where its file system is slower",
    "idle_sync": "if step % 100 == 0: log(loss.item())  # .item() and .cpu() wait for the device: seldom, on all ranks",
    "idle_gc": "gc.freeze(); gc.disable()  # and gc.collect() at the same step on every rank",
    "idle_allocator": "# keep shapes equal over steps and ranks; PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    "idle_compile": "torch.compile(model, dynamic=True)  # a new shape on one rank makes all wait for its compiler",
}
