"""When one rank arrived at each of its collectives, when it left, and what it did before: what is joined over ranks.

Small on purpose: it travels between processes and machines, the recording stays where it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from diagnose.costs.collective import message_bytes
from diagnose.items import KIND_COLLECTIVE, Recording
from diagnose.pricing.collective_kinds import POINT_TO_POINT
from diagnose.pricing.grouping import unique_rows
from diagnose.roofs.placing import Placed
from diagnose.trace.link import taken
from diagnose.trace.tables import Ints
from diagnose.transfers import collective_kinds, named_kind
from diagnose.wall.timeline import Timeline
from diagnose.wall.waterfall import PARTS

_MOST_CAUSES: Final = 12
"""Kept of what a rank did before a collective; the rest is small."""
_VARYING: Final = frozenset({"all_to_all", "gather", "scatter"})
"""The message may differ from rank to rank: bytes do not tell two of these apart."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What a rank did: kernels or ops of a name (``part`` None), or idle of a part to be blamed on an op."""

    part: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """What is equal on all ranks of a collective."""

    group: str | None
    members: str | None
    group_size: int | None
    collective: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The collectives of one rank, in order of arrival.

    Attributes:
        keys: Distinct ones.
        key: Index into ``keys`` [n].
        item: Row of the recording's items [n].
        start, end: ns on the recording's clock, not from its beginning [n].
        step: Index into ``step_names`` [n].
        step_names: Of the recording's marks; empty where it has none.
        before: What the rank did since it arrived at the one before, ns by cause, most first [n].
        point_to_point: Sends and receives, which are not joined.
    """

    keys: tuple[Key, ...]
    key: Ints
    item: Ints
    start: Ints
    end: Ints
    step: Ints
    step_names: tuple[str, ...]
    before: tuple[Mapping[Cause, int], ...]
    point_to_point: int


def arrivals_of(placed: Placed, timelines: Mapping[int, Timeline]) -> Arrivals:
    """The collectives that a rank launched in its window."""
    recording = placed.recording
    items, trace = recording.items, recording.trace
    names = collective_kinds(recording)
    rows, start, end = _in_order(recording)
    first, which = unique_rows([items.metadata[rows], names[rows]]) if rows.size else (rows, rows)
    pairs = zip(items.metadata[rows[first]].tolist(), names[rows[first]].tolist(), strict=True)
    described = [_key(recording, metadata, name) for metadata, name in pairs]
    keys = tuple(dict.fromkeys(described))
    key = np.array([keys.index(one) for one in described], np.int64)[which] if rows.size else rows
    is_joined = ~np.isin(key, [index for index, one in enumerate(keys) if one.collective in POINT_TO_POINT])
    rows, key = rows[is_joined], key[is_joined]
    start, end = start[is_joined], end[is_joined]
    steps = recording.steps
    return Arrivals(
        keys, key, rows, start + trace.epoch_ns, end + trace.epoch_ns, items.step[rows],
        steps.names if steps.has_marks else (), _before(placed, timelines, start), int((~is_joined).sum()),
    )  # fmt: skip


def _in_order(recording: Recording) -> tuple[Ints, Ints, Ints]:
    """Own collectives in order of arrival: their items, starts and ends."""
    items = recording.items
    rows = np.flatnonzero((items.kind == KIND_COLLECTIVE) & items.is_own)
    start, end = np.zeros(len(items.name), np.int64), np.zeros(len(items.name), np.int64)
    start[items.spans.row], end[items.spans.row] = items.spans.start, items.spans.end
    rows = rows[np.argsort(start[rows], kind="stable")]
    return rows, start[rows], end[rows]


def _key(recording: Recording, metadata: int, name: int) -> Key:
    about = recording.trace.metadata[metadata] if metadata >= 0 else {}
    kind = named_kind(recording, metadata, name)
    size = about.get("group_size")
    group, members = about.get("group"), about.get("ranks")
    return Key(
        None if group is None else str(group),
        None if members is None else str(members),
        size if isinstance(size, int) and size > 0 else None,
        kind,
        None if kind in _VARYING else message_bytes(about),
    )


def _before(placed: Placed, timelines: Mapping[int, Timeline], start: Ints) -> tuple[dict[Cause, int], ...]:
    """What the rank's main device did in each [start of the collective before, own start]."""
    items, trace = placed.recording.items, placed.recording.trace
    found: tuple[dict[Cause, int], ...] = tuple({} for _ in range(len(start)))
    if not len(start) or not timelines:
        return found
    device = max(timelines, key=lambda one: int((items.device == one).sum()))
    here = (items.device[items.spans.row] == device) & (items.kind[items.spans.row] != KIND_COLLECTIVE)
    row, begun, ended = items.spans.row[here], items.spans.start[here], items.spans.end[here]
    name = np.where(items.op[row] >= 0, taken(trace.ops.name, items.op[row]), items.name[row])
    where = [np.searchsorted(start, begun, side="right")]
    parts, names, ns = [np.full(len(row), -1)], [name], [ended - begun]
    gaps = timelines[device].gaps
    blamed = _blamed(placed.recording, device, timelines[device])
    interval = np.searchsorted(start, gaps.start, side="right")
    for index in np.flatnonzero(gaps.parts.any(axis=0)).tolist():
        mine = np.flatnonzero(gaps.parts[:, index])
        where.append(interval[mine])
        parts.append(np.full(len(mine), index))
        names.append(blamed[PARTS[index] == "idle_sync"][mine])
        ns.append(gaps.parts[mine, index])
    columns = [np.concatenate(column) for column in (where, parts, names)]
    first, which = unique_rows(columns)
    total = np.zeros(len(first), np.int64)
    np.add.at(total, which, np.concatenate(ns))
    order = np.lexsort((-total, columns[0][first]))
    interval = columns[0][first][order]
    rank = np.arange(len(order)) - np.searchsorted(interval, interval)
    order = order[(rank < _MOST_CAUSES) & (interval < len(start))]
    cells = [column[first[order]].tolist() for column in columns]
    for place, part, text, amount in zip(*cells, total[order].tolist(), strict=True):
        cause = Cause(PARTS[part] if part >= 0 else None, trace.strings[text] if text >= 0 else None)
        found[place][cause] = found[place].get(cause, 0) + amount
    return found


def _blamed(recording: Recording, device: int, timeline: Timeline) -> tuple[Ints, Ints]:
    """String ids of what each gap is to be blamed on: the op that ended it, and the op that synchronised."""
    trace, items, gaps = recording.trace, recording.items, timeline.gaps
    if recording.is_cpu:  # no launch call: the op that ran next, or the collective
        here = np.flatnonzero(items.device[items.spans.row] == device)
        order = here[np.argsort(items.spans.start[here], kind="stable")]
        place = np.searchsorted(items.spans.start[order], gaps.end, side="left")
        following = items.spans.row[order[np.minimum(place, len(order) - 1)]]
        name = np.where(place < len(order), items.name[following], -1)
        return name, name

    def named(calls: Ints) -> Ints:
        op = taken(trace.calls.op, calls)
        return np.where(op >= 0, taken(trace.ops.name, op), taken(trace.calls.name, calls))

    return named(gaps.call), named(gaps.blocking)
