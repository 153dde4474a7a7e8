"""The same collective on every rank found again, and in each of them waiting told from moving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from diagnose.pricing.collective_kinds import SYNCHRONISING
from diagnose.ranks.arrivals import Arrivals, Cause, Key
from diagnose.ranks.clock_offsets import Meeting, waits
from diagnose.tables.ranks import Instead, JoinedCollective
from diagnose.trace.tables import Ints

_MOST_SHIFT: Final = 64
"""Recordings of one job begin at most this many collectives of a group apart."""
_MOST_COMPARED: Final = 1 << 22
"""Pairs of collectives of one step and group that are compared by time."""
_NAMED: Final = 3
"""Causes named for a straggler."""
_WORTH_NAMING: Final = 0.02
"""A cause below this share of the delay explains nothing."""


@dataclass(frozen=True, slots=True)
class Joined:
    """One collective: where each rank has it.

    Attributes:
        key: What it is.
        step: The step's name, None without common marks.
        rows: Rank to the row in its ``Arrivals``.
    """

    key: Key
    step: str | None
    rows: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Run:
    """The collectives of one rank that may be joined with those of another: same group, same step."""

    rows: Ints
    codes: Ints
    end: Ints


def join(arrivals: Mapping[int, Arrivals], correction: Mapping[int, int] | None = None) -> list[Joined]:
    """Collectives that at least two of the ranks recorded, in order of the lowest rank's arrival.

    Within a process group and a step the k-th is the k-th, unless kinds and sizes fit better shifted: recordings
    need not begin at the same one. Where the group was not recorded, kind and size stand for it.

    Args:
        arrivals: Of each rank.
        correction: ns to take off each rank's times. With it, where counting joins what cannot be one collective
            (recordings that lost events), times join instead: those that lie over each other and end closest.
    """
    names = set.intersection(*(set(found.step_names) for found in arrivals.values())) if arrivals else set()
    runs: dict[tuple[object, ...], dict[int, _Run]] = {}
    codes: dict[tuple[str, int | None], int] = {}
    for rank, found in arrivals.items():
        for segment, run in _runs(found, names, codes).items():
            runs.setdefault(segment, {})[rank] = run
    joined: list[Joined] = []
    for segment, by_rank in runs.items():
        if len(by_rank) > 1:
            found_here = _aligned(by_rank, arrivals, segment[0])
            if correction is not None and not all(is_possible(one, arrivals, correction) for one in found_here):
                found_here = _aligned(by_rank, arrivals, segment[0], correction)
            joined += found_here
    return sorted(joined, key=lambda one: _first(one, arrivals))


def _first(one: Joined, arrivals: Mapping[int, Arrivals]) -> tuple[int, int]:
    rank = min(one.rows)
    return int(arrivals[rank].start[one.rows[rank]]), rank


def _runs(found: Arrivals, names: set[str], codes: dict[tuple[str, int | None], int]) -> dict[tuple[object, ...], _Run]:
    """Rows by (step, group)."""
    runs: dict[tuple[object, ...], _Run] = {}
    code_of_key = np.array(
        [codes.setdefault((key.collective, key.bytes), len(codes)) for key in found.keys] or [0], np.int64
    )
    groups = [
        (key.group, key.members) if key.group is not None else (None, key.collective, key.bytes) for key in found.keys
    ]
    steps: Sequence[tuple[int | None, str | None]] = [(None, None)]
    if names:
        steps = [(index, name) for index, name in enumerate(found.step_names) if name in names]
    for index, name in steps:
        in_step = np.ones(len(found.key), np.bool_) if index is None else found.step == index
        for group in dict.fromkeys(groups):
            of_group = [place for place, one in enumerate(groups) if one == group]
            rows = np.flatnonzero(in_step & np.isin(found.key, of_group))
            if rows.size:
                runs[name, *group] = _Run(rows, code_of_key[found.key[rows]], found.end[rows])
    return runs


def is_possible(one: Joined, arrivals: Mapping[int, Arrivals], correction: Mapping[int, int]) -> bool:
    """Whether no rank left before another came; a broadcast's root may."""
    if one.key.collective not in SYNCHRONISING:
        return True
    latest = max(int(arrivals[rank].start[row]) - correction[rank] for rank, row in one.rows.items())
    return latest <= min(int(arrivals[rank].end[row]) - correction[rank] for rank, row in one.rows.items())


def _aligned(
    by_rank: Mapping[int, _Run],
    arrivals: Mapping[int, Arrivals],
    step: object,
    correction: Mapping[int, int] | None = None,
) -> list[Joined]:
    """The collectives of one run on all of its ranks along the lowest rank's: by count, or by time."""
    reference = min(by_rank)
    base = by_rank[reference]
    rows: list[dict[int, int]] = [{reference: row} for row in base.rows.tolist()]
    for rank, run in by_rank.items():
        if rank == reference:
            continue
        if correction is None:
            mine, theirs = _counted(base, run)
        else:
            ahead = correction[rank] - correction[reference]
            mine, theirs = _timed(
                base, run, arrivals[reference].start[base.rows], arrivals[rank].start[run.rows] - ahead, ahead
            )
        for place, other in zip(mine.tolist(), theirs.tolist(), strict=True):
            rows[place][rank] = int(run.rows[other])
    keys = arrivals[reference].keys
    name = step if isinstance(step, str) else None
    return [
        Joined(keys[int(arrivals[reference].key[found[reference]])], name, found) for found in rows if len(found) > 1
    ]


def _counted(base: _Run, run: _Run) -> tuple[Ints, Ints]:
    """Places in both runs that are the same collective, by order."""
    shift = _shift(base, run)
    mine = np.arange(max(0, shift), min(len(base.rows), len(run.rows) + shift))
    mine = mine[base.codes[mine] == run.codes[mine - shift]]
    return mine, mine - shift


def _timed(base: _Run, run: _Run, base_start: Ints, start: Ints, ahead: int) -> tuple[Ints, Ints]:
    """Places in both runs that are the same collective: over each other in time, and each the other's closest end."""
    end = run.end - ahead
    if len(base.rows) * len(run.rows) > _MOST_COMPARED:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    apart = np.abs(base.end[:, None] - end[None, :]).astype(np.float64)
    is_over = (base_start[:, None] <= end[None, :]) & (start[None, :] <= base.end[:, None])
    apart[~is_over | (base.codes[:, None] != run.codes[None, :])] = np.inf
    closest, back = apart.argmin(axis=1), apart.argmin(axis=0)
    mine = np.arange(len(base.rows))
    is_mutual = (back[closest] == mine) & np.isfinite(apart[mine, closest])
    return mine[is_mutual], closest[is_mutual]


def _shift(base: _Run, run: _Run) -> int:
    """How many collectives later the other recording begins: the fewest unequal ones, then the closest ends."""
    best: tuple[float, float, int] | None = None
    found = 0
    reach = min(_MOST_SHIFT, max(len(base.rows), len(run.rows)) - 1)
    for shift in sorted(range(-reach, reach + 1), key=abs):
        first, last = max(0, shift), min(len(base.rows), len(run.rows) + shift)
        if first >= last:
            continue
        mine, theirs = slice(first, last), slice(first - shift, last - shift)
        unequal = int((base.codes[mine] != run.codes[theirs]).sum())
        alone = len(base.rows) + len(run.rows) - 2 * (last - first)
        apart = float(np.median(np.abs(base.end[mine] - run.end[theirs])))
        cost = (2 * unequal + alone, apart, abs(shift))
        if best is None or cost < best:
            best, found = cost, shift
    return found


def meetings(joined: Sequence[Joined], arrivals: Mapping[int, Arrivals]) -> list[Meeting]:
    """The collectives that tell clocks apart, with each rank's own times."""
    return [
        Meeting(
            {rank: (int(arrivals[rank].start[row]), int(arrivals[rank].end[row])) for rank, row in one.rows.items()}
        )
        for one in joined
        if one.key.collective in SYNCHRONISING
    ]


def joined_rows(
    joined: Sequence[Joined],
    arrivals: Mapping[int, Arrivals],
    correction: Mapping[int, int],
    origin: int,
    world_size: int | None,
    tell: Callable[[str], None],
) -> list[JoinedCollective]:
    """One row a collective, times on one clock.

    Args:
        joined: As ``join`` gives them.
        arrivals: Of each rank.
        correction: ns to take off each rank's times.
        origin: Where starts are counted from, on the corrected clock.
        world_size: Stands for the group's where that was not recorded; None where unknown too.
        tell: Takes a note.
    """
    rows, impossible = [], 0
    for one in joined:
        ranks = sorted(one.rows)
        start = np.array([arrivals[rank].start[one.rows[rank]] - correction[rank] for rank in ranks], np.int64)
        end = np.array([arrivals[rank].end[one.rows[rank]] - correction[rank] for rank in ranks], np.int64)
        if not is_possible(one, arrivals, correction):
            impossible += 1
            continue
        size = world_size if one.key.group_size is None else one.key.group_size
        rows.append(_row(one, arrivals, size, start - origin, end - origin))
    if impossible:
        tell(
            f"{impossible} of {len(joined)} collectives could not be joined: by the clocks a rank had left before "
            "another came"
        )
    return rows


def _row(one: Joined, arrivals: Mapping[int, Arrivals], size: int | None, start: Ints, end: Ints) -> JoinedCollective:
    ranks = sorted(one.rows)
    wait, move = waits(start, end)
    is_complete = size == len(ranks)
    last = int(np.argmax(start))
    late = int(start[last] - np.median(np.delete(start, last)))
    return JoinedCollective(
        collective=one.key.collective,
        group=one.key.group,
        group_size=size,
        bytes=one.key.bytes,
        step=one.step,
        ranks=ranks,
        start_ns=start.tolist(),
        wait_ns=wait.tolist(),
        wait_high_ns=(wait if is_complete else wait + move).tolist(),
        move_ns=move.tolist(),
        last_rank=ranks[last],
        late_ns=late,
        instead=_instead([arrivals[rank].before[one.rows[rank]] for rank in ranks], last, late),
        is_complete=is_complete,
    )


def _instead(before: Sequence[Mapping[Cause, int]], last: int, late: int) -> list[Instead]:
    """What the last rank did more of than the others did on average."""
    others = [found for place, found in enumerate(before) if place != last]
    more = {
        cause: ns - sum(found.get(cause, 0) for found in others) // len(others) for cause, ns in before[last].items()
    }
    named = sorted((cause for cause in more if more[cause] > _WORTH_NAMING * late), key=lambda cause: -more[cause])
    return [Instead(cause.part, cause.name, more[cause]) for cause in named[:_NAMED]]  # type: ignore[arg-type]
